"""Settings of a study: what varies, in which design, on which budget, and what the door `sweep.py` takes besides."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import DictConfig

from glidexp.config import typed
from glidexp.config.launcher import LauncherConfig
from glidexp.config.ranges import at_least, within
from glidexp.config.transfer import TransferConfig
from glidexp.config.tune import TuneConfig
from glidexp.errors import ConfigError


class Design(StrEnum):
    ofat = "ofat"
    full = "full"
    fraction = "fraction"
    list = "list"
    tune = "tune"
    matrix = "matrix"
    ladder = "ladder"


class BudgetKind(StrEnum):
    epochs = "epochs"
    steps = "steps"
    pixels = "pixels"


class BudgetBatch(StrEnum):
    keep = "keep"
    pixels = "pixels"


@dataclass(kw_only=True, slots=True)
class AxisConfig:
    """One factor. Its first value, or level, is the baseline's."""

    key: str | None = None
    """config key or group; the axis's own name when not given"""
    values: list[Any] = field(default_factory=list)
    """of that key"""
    levels: dict[str, list[str]] = field(default_factory=dict)
    """instead of values, where a level is several settings: its name, and words as train.py takes them"""
    when: str | None = None
    """AXIS=VALUE of another axis without which this one is not varied"""

    def check(self, name: str) -> None:
        """Raises ConfigError where the axis of this name has no values, or contradicts itself."""
        if bool(self.values) == bool(self.levels):
            raise ConfigError(
                f"study.axes.{name} has values {self.values} and levels {list(self.levels)}: give one of the two."
            )
        if self.key and self.levels:
            raise ConfigError(
                f"study.axes.{name}: key={self.key} does not go with levels, whose words name their own keys."
            )


@dataclass(kw_only=True, slots=True)
class BudgetConfig:
    """What is equal in every arm. The baseline's train.epochs says how much it is."""

    kind: BudgetKind = BudgetKind.steps
    """steps: optimizer steps; pixels: pixels seen in training; both set each arm's train.epochs. epochs: as the arms
    say"""
    batch: BudgetBatch = BudgetBatch.keep
    """keep: tiles a batch as the arms say; pixels: as many pixels a batch as the baseline, so fewer of larger tiles"""


@dataclass(kw_only=True, slots=True)
class AssumeConfig:
    """Spread of a paired difference, where no finished runs tell it: standard deviations on the scale of the score."""

    seed_sd: float = 0.01
    """between seeds"""
    cluster_sd: float = 0.03
    """between scenes"""
    rest_sd: float = 0.02
    """of one seed on one scene, beyond both"""

    def __post_init__(self) -> None:
        for name in ("seed_sd", "cluster_sd", "rest_sd"):
            within(f"study.assume.{name}", getattr(self, name), 0, 1, "a standard deviation of a score of 0 to 1")


MOST_FOLDS = 100
GRID = "grid"
"""name of a study that is only typed"""


@dataclass(kw_only=True, slots=True)
class StudyConfig:
    name: str = GRID
    question: str = ""
    """what the study is to answer, in words"""
    primary: str = "test/lake_iou_pooled"
    """score that decides, as `glidexp compare --score` takes it"""
    design: Design = Design.full
    """ofat: one factor at a time around the baseline; full: every combination; fraction: a balanced share of them;
    list: study.arms; tune: a search of study.tune, whose best is repeated; matrix, ladder: study.transfer"""
    fraction: float = 0.5
    """share of the combinations (design=fraction)"""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """trainings of every arm: the same seeds in all of them"""
    folds: int = 0
    """cross-validation: every arm is trained with every seed on each of so many folds of the ground, so that all of it
    is test once; 0: the split of the data set"""
    base: list[str] = field(default_factory=list)
    """words of every arm, as train.py takes them; the command line's come after them"""
    axes: dict[str, AxisConfig] = field(default_factory=dict)
    """factors by name"""
    arms: dict[str, list[str]] = field(default_factory=dict)
    """words by name, the baseline first (design=list)"""
    exclude: list[str] = field(default_factory=list)
    """combinations that are left out, each as "AXIS=VALUE AXIS=VALUE" """
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    """sources and targets (design=matrix, design=ladder)"""
    alpha: float = 0.05
    """rate of false alarms over all comparisons with the baseline"""
    power: float = 0.8
    """with which the smallest detectable effect is found"""
    assume: AssumeConfig = field(default_factory=AssumeConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        within("study.alpha", self.alpha, 0.0001, 0.5, "a rate such as 0.05")
        within("study.power", self.power, 0.5, 0.999, "a probability such as 0.8")
        within("study.fraction", self.fraction, 0.01, 1, "a share of the combinations")
        for name, axis in self.axes.items():
            axis.check(name)
        if not self.name.strip() or "/" in self.name or not self.name.isprintable():
            raise ConfigError(f"study.name={self.name!r} is not possible: give a word such as backbones.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"study.seeds={self.seeds} must be one seed or more, each once: such as [0,1,2].")
        for seed in self.seeds:
            at_least("study.seeds", seed, 0)
        if self.folds and not 3 <= self.folds <= MOST_FOLDS:
            raise ConfigError(
                f"study.folds={self.folds} must be 0, or 3 to {MOST_FOLDS}: one fold is test, one val, the rest trains."
            )
        if self.folds and self.design in (Design.tune, Design.matrix, Design.ladder):
            raise ConfigError(
                f"study.folds does not go with study.design={self.design}: give study.folds=0, and dataset.split.folds "
                "with a dataset.split.fold for one fold of the ground."
            )
        if self.design is Design.list and self.axes:
            raise ConfigError("study.design=list takes its arms from study.arms: study.axes does not go with it.")
        if self.axes and self.design in (Design.matrix, Design.ladder):
            raise ConfigError(f"study.design={self.design} takes its arms from study.transfer: study.axes does not go.")
        if self.arms and self.design is not Design.list:
            raise ConfigError(f"study.arms needs study.design=list, not {self.design}.")
        if self.design is Design.tune and self.axes:
            raise ConfigError("study.design=tune takes what it may choose from study.tune.space, not from study.axes.")


@dataclass(kw_only=True, slots=True)
class SweepConfig:
    """What `sweep.py` takes besides the settings of the runs."""

    study: StudyConfig = field(default_factory=StudyConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    plan: bool | str = False
    """print the plan, check it, and start nothing. dry: make no data either, so that hours and power are left out where
    it is missing"""
    status: bool = False
    """print how far the study is, and start nothing"""
    retry: str | None = None
    """failed: begin the runs again that failed"""
    only: str | None = None
    """runs that are carried out: a pattern of arms (resnet*), of ARM|SEED, or over folds of ARM|SEED|FOLD; all when not
    given"""
    cancel: bool = False
    """end the study's runs that are at work"""

    def __post_init__(self) -> None:
        if self.plan not in (True, False, DRY):
            raise ConfigError(f"plan={self.plan} is not possible. Allowed: true, false, {DRY}.")
        if self.retry not in (None, "failed"):
            raise ConfigError(f"retry={self.retry} is not possible. Allowed: failed.")


DRY = "dry"
"""a plan that makes no data"""
OWN_KEYS = ("study", "launcher", "plan", "status", "retry", "only", "cancel")
"""first parts of keys that are the sweep's own; all others are settings of the runs"""


def load(composed: DictConfig) -> SweepConfig:
    """Turns what Hydra composed from conf/sweep.yaml into the typed config.

    Raises:
        ConfigError: a value is missing or outside its range
    """
    return typed(composed, SweepConfig)
