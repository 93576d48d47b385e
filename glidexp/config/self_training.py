"""Settings of self-training: tiles that are trained on without their labels, with labels that a trained model gives."""

import math
from dataclasses import dataclass, field

from glidexp.config.ranges import each_once
from glidexp.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class SelfTrainingConfig:
    """Of which places tiles are taken without labels, and how they are labelled and mixed with the labelled ones."""

    regions: list[str] = field(default_factory=list)
    """regions whose training tiles are taken without their labels, or ["all"]; with `sensors` both must fit"""
    sensors: list[str] = field(default_factory=list)
    """sensors likewise"""
    keep: float = 0.8
    """share of the pixels that the model takes for lake, and of those that it does not, that get a label: the surest;
    above 0 to 1"""
    draw: float | None = None
    """share of the tiles of an epoch that are of these, above 0 and below 1; each as often as a labelled one when not
    given"""

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return bool(self.regions or self.sensors)

    def __post_init__(self) -> None:
        for name in ("regions", "sensors"):
            each_once(f"self_training.{name}", getattr(self, name))
        if not (math.isfinite(self.keep) and 0 < self.keep <= 1):
            raise ConfigError(f"self_training.keep={self.keep} is not possible: give a share above 0 and at most 1.")
        if self.draw is not None and not 0 < self.draw < 1:
            raise ConfigError(f"self_training.draw={self.draw} is not possible: give a share above 0 and below 1.")
