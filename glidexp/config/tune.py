"""Settings of a search for good settings: what it may choose, how many trials, and when one is ended early."""

from dataclasses import dataclass, field
from typing import Any

from glidexp.config.ranges import at_least
from glidexp.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class SpaceConfig:
    """What a search may choose for one setting: one of some values, or a number of a range."""

    key: str | None = None
    """config key or group; the entry's own name when not given"""
    values: list[Any] = field(default_factory=list)
    """of that key"""
    low: float | None = None
    """smallest number, instead of values"""
    high: float | None = None
    """largest number"""
    log: bool = False
    """drawn evenly in the logarithm"""
    whole: bool = False
    """whole numbers alone"""

    def __post_init__(self) -> None:
        given = [self.low, self.high].count(None) == 0
        if bool(self.values) == given or [self.low, self.high].count(None) == 1:
            raise ConfigError(
                f"study.tune.space: an entry has values {self.values}, low={self.low} and high={self.high}: give "
                "values, or both low and high."
            )
        if self.low is None or self.high is None:
            if self.log or self.whole:
                raise ConfigError("study.tune.space: log and whole go with low and high, not with values.")
            if len(set(map(str, self.values))) < max(len(self.values), 2):
                raise ConfigError(f"study.tune.space: values {self.values} must be two or more, each once.")
            return
        if self.low >= self.high:
            raise ConfigError(f"study.tune.space: low={self.low:g} must be less than high={self.high:g}.")
        if self.log and self.low <= 0:
            raise ConfigError(f"study.tune.space: low={self.low:g} with log=true must be above 0.")
        if self.whole and (self.low % 1 or self.high % 1):
            raise ConfigError(f"study.tune.space: whole=true needs whole low={self.low:g} and high={self.high:g}.")


@dataclass(kw_only=True, slots=True)
class TuneConfig:
    space: dict[str, SpaceConfig] = field(default_factory=dict)
    """settings by name"""
    trials: int = 30
    """trainings of the search, those that are ended early among them; more of them later go on with the same search"""
    startup: int = 10
    """first trials, drawn at random before the search learns from them"""
    objectives: list[str] = field(default_factory=lambda: ["val/lake_iou_pooled", "train/images_per_s"])
    """metrics of a run, of which more is better; the first, a score on val, decides what is ended early and is best"""
    first_rung: int = 1
    """epochs after which a trial is first held against the others"""
    factor: int = 3
    """one in so many goes on at a rung, and the next rung is at so many times the epochs; 1: no trial is ended early"""
    seed: int = 1000
    """of the trials, and of what is drawn; it must be none of study.seeds, with which the best are repeated"""
    repeat: int = 1
    """best configurations that are trained with study.seeds; 0: none, and nothing is claimed"""

    def __post_init__(self) -> None:
        for name in ("trials", "startup", "first_rung", "factor"):
            at_least(f"study.tune.{name}", getattr(self, name), 1)
        for name in ("seed", "repeat"):
            at_least(f"study.tune.{name}", getattr(self, name), 0)
        if not 1 <= len(self.objectives) <= 3 or len(set(self.objectives)) < len(self.objectives):
            raise ConfigError(f"study.tune.objectives={self.objectives} must be one to three metrics, each once.")
