"""Settings of style: training tiles take on the look of tiles of other places, of which no label is read."""

from dataclasses import dataclass, field

from glidexp.config.ranges import each_once, within
from glidexp.errors import ConfigError


@dataclass(kw_only=True, slots=True)
class StyleConfig:
    """Whose look training tiles take on, how often, and how much of it."""

    regions: list[str] = field(default_factory=list)
    """regions whose training tiles lend their look, or ["all"]; with `sensors` both must fit"""
    sensors: list[str] = field(default_factory=list)
    """sensors likewise"""
    p: float = 0.5
    """probability per tile, above 0 to 1"""
    beta: float = 0.01
    """frequencies that are exchanged: up to this share of the tile's side as waves along it, either way; 0: the mean
    brightness of each band alone"""

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return bool(self.regions or self.sensors)

    def __post_init__(self) -> None:
        for name in ("regions", "sensors"):
            each_once(f"style.{name}", getattr(self, name))
        if not 0 < self.p <= 1:
            raise ConfigError(f"style.p={self.p} is not possible: give a probability above 0 and at most 1.")
        within("style.beta", self.beta, 0, 0.25, "a share of the tile's side, such as 0.01")
