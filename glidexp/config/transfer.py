"""Settings of studies about transfer: what is a source, what a target, and on how little of it a network is adapted."""

from dataclasses import dataclass, field
from enum import StrEnum

from glidexp.config.ranges import each_once
from glidexp.errors import ConfigError


class By(StrEnum):
    region = "region"
    sensor = "sensor"


class Rung(StrEnum):
    threshold = "threshold"
    normalise = "normalise"
    histogram = "histogram"
    batch_norm = "batch_norm"
    longer = "longer"
    style = "style"
    self_training = "self_training"
    head = "head"
    staged = "staged"
    full = "full"
    lora = "lora"
    scratch = "scratch"


class Unit(StrEnum):
    scenes = "scenes"
    lakes = "lakes"


TRAINED_ON = {By.region: "subset.regions", By.sensor: "sensor_mix.sensors"}
"""setting that says what a run is trained on"""
TRAINED = (Rung.head, Rung.staged, Rung.full, Rung.lora, Rung.scratch)
"""rungs that learn from labels of the target, as many as a budget allows; those of `GOING_ON` learn too, but from
labels of the sources"""
GOING_ON = (Rung.longer, Rung.style, Rung.self_training)
"""rungs in which the source's network goes on learning from the sources; the others are held against `longer`"""


@dataclass(kw_only=True, slots=True)
class TransferConfig:
    """Of study.design=matrix and study.design=ladder."""

    by: By = By.region
    """what sources and targets are"""
    sources: list[str] = field(default_factory=list)
    """matrix: what is trained on, an arm each. ladder: what the network is trained on first. All of the data when
    empty, for a ladder all but the target"""
    together: bool = True
    """matrix: arms also for all sources together, and for all but one"""
    target: str | None = None
    """region or sensor that the network is adapted to (ladder)"""
    rungs: list[Rung] = field(default_factory=lambda: [rung for rung in Rung if rung is not Rung.style])
    """ways to adapt it, beside zero-shot (ladder); all but `style`, which lost on generated scenes"""
    unit: Unit = Unit.scenes
    """what budgets count: training scenes of the target, or shares of its lakes"""
    budgets: list[float] = field(default_factory=lambda: [1, 2, 5, 10])
    """of rungs that learn (ladder): scenes, those beyond what there is are replaced by all there are; or shares, 0-1"""
    tune: list[str] = field(default_factory=lambda: ["optimizer=adamw_finetune"])
    """words of rungs that go on from the source's weights"""
    lora: list[str] = field(default_factory=lambda: ["train.lora_rank=8"])
    """further words of the rung `lora`"""

    def __post_init__(self) -> None:
        for name in ("sources", "rungs", "budgets"):
            each_once(f"study.transfer.{name}", [str(value) for value in getattr(self, name)])
        whole = self.unit is Unit.scenes
        for budget in self.budgets:
            if not (budget >= 1 and budget == int(budget) if whole else 0 < budget <= 1):
                allowed = "whole scenes, 1 or more" if whole else "shares of the lakes, above 0 and at most 1"
                raise ConfigError(f"study.transfer.budgets: {budget:g} is not possible: {allowed}.")
        if self.target is not None and self.target in self.sources:
            raise ConfigError(f"study.transfer.sources: {self.target} is the target: name other sources.")
        if {*self.rungs} & {*TRAINED} and not self.budgets:
            raise ConfigError("study.transfer.budgets is empty, and rungs that learn need one: [1,2,5].")
