"""Settings of `glidexp evaluate`: a trained model, the ground it is scored on, and how."""

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import DictConfig

from glidexp.config import PathsConfig, Resume, TrackingConfig, typed
from glidexp.config.data import DatasetConfig, SensorMixConfig, TileSizeConfig
from glidexp.config.ranges import at_least, within
from glidexp.config.training import MOST_THREADS, Precision
from glidexp.errors import ConfigError

CARD = "card"
"""value of eval.threshold that stands for the model's own"""
VAL = "val"
"""value of eval.threshold that stands for the one that is best on the data set's own val tiles"""


class Adapt(StrEnum):
    none = "none"
    normalise = "normalise"
    histogram = "histogram"
    batch_norm = "batch_norm"


class EvalSplit(StrEnum):
    auto = "auto"
    test = "test"
    all = "all"


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    split: EvalSplit = EvalSplit.auto
    """test: the data set's test split. all: every tile. auto: test where the model was trained on this split, else
    all"""
    threshold: str = CARD
    """card: the one fixed on the model's val ground; val: the one that is best on val tiles of the data set; or a
    probability, 0-1"""
    regions: list[str] = field(default_factory=lambda: ["all"])
    """regions whose tiles are scored"""
    adapt: Adapt = Adapt.none
    """what is taken from training tiles, without their labels: mean and deviation (normalise), distribution of values
    (histogram), batch statistics of the network (batch_norm)"""
    fit_regions: list[str] = field(default_factory=list)
    """regions whose tiles eval.adapt and eval.threshold=val look at; those that are scored when empty"""
    fit_sensors: list[str] = field(default_factory=list)
    """sensors likewise"""
    log_fitted: bool = False
    """the model as eval.adapt and eval.threshold=val fitted it is logged, so that scenes can be mapped with it"""

    def __post_init__(self) -> None:
        try:
            fits = self.threshold in (CARD, VAL) or 0 <= float(self.threshold) <= 1
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(f"eval.threshold={self.threshold} is neither card, val nor a probability from 0 to 1.")
        if not self.regions:
            raise ConfigError("eval.regions=[] scores nothing: name regions, or leave it out for all.")
        fits_to = self.threshold == VAL or self.adapt is not Adapt.none
        for name in ("fit_regions", "fit_sensors"):
            if getattr(self, name) and not fits_to:
                raise ConfigError(
                    f"eval.{name} would not be used: it goes with eval.threshold=val or eval.adapt={Adapt.batch_norm}."
                )
        if self.log_fitted and not fits_to:
            raise ConfigError(
                "eval.log_fitted=true has nothing to log: it goes with eval.threshold=val, "
                f"eval.adapt={Adapt.normalise} or eval.adapt={Adapt.batch_norm}."
            )
        if self.log_fitted and self.adapt is Adapt.histogram:
            raise ConfigError(
                f"eval.log_fitted=true is not possible with eval.adapt={Adapt.histogram}: a model keeps no table of "
                f"new values. Allowed: {Adapt.normalise}, {Adapt.batch_norm}."
            )
        if fits_to and self.split is EvalSplit.all:
            raise ConfigError("eval.split=all leaves no tiles to fit eval.threshold or eval.adapt on: eval.split=test.")


@dataclass(kw_only=True, slots=True)
class ScoringConfig:
    """What the network is run on, under the names that training uses."""

    batch_size: int = 8
    """tiles a forward pass; no score depends on it but with eval.adapt=batch_norm"""
    precision: Precision = Precision.auto
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    threads: int | None = None
    """CPU threads of torch; OMP_NUM_THREADS, else all cores, when not given"""

    def __post_init__(self) -> None:
        at_least("train.batch_size", self.batch_size, 1)
        if self.threads is not None:
            within("train.threads", self.threads, 1, MOST_THREADS, "threads, as many as cores at most")


@dataclass(kw_only=True, slots=True)
class EvaluateConfig:
    model: str | None = None
    """what is scored: the first word of the command"""
    others: list[str] = field(default_factory=list)
    """further models, whose mean with it is scored: the words after the first"""
    resume: Resume = Resume.auto
    allow_leak: bool = False
    """score ground that the model was trained on, and mark the scores as leaking"""
    paths: PathsConfig = field(default_factory=PathsConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """the model's own when no option is chosen"""
    sensor_mix: SensorMixConfig = field(default_factory=SensorMixConfig)
    """sensors whose tiles are scored; their weights play no part"""
    tile_size: TileSizeConfig = field(default_factory=TileSizeConfig)
    """the model's own when not given"""
    eval: EvalConfig = field(default_factory=EvalConfig)
    train: ScoringConfig = field(default_factory=ScoringConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def load(composed: DictConfig) -> EvaluateConfig:
    """Turns what Hydra composed from conf/evaluate.yaml into the typed config.

    Raises:
        ConfigError: a value is missing or outside its range
    """
    return typed(composed, EvaluateConfig)
