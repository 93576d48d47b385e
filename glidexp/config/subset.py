"""Settings of a part of the data: which training tiles are used, and which val tiles choose epoch and threshold."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from glidexp.config.ranges import at_least
from glidexp.errors import ConfigError


class ValFrom(StrEnum):
    regions = "regions"
    source = "source"
    all = "all"


@dataclass(kw_only=True, slots=True)
class SubsetConfig:
    """Which of the training tiles are used. Of the same seed a smaller part is always contained in a larger one."""

    regions: list[str] = field(default_factory=lambda: ["all"])
    """regions that are trained on, or ["all"] for every one present"""
    scenes: int | None = None
    """number of scenes that are trained on, those with lake first; all when not given"""
    lakes: float = 1.0
    """share of the lakes, above 0 to 1: scenes and tiles without lake are drawn by the same share"""
    fraction: float = 1.0
    """share of the tiles, above 0 to 1"""
    seed: int | None = None
    """decides what is drawn; the run's seed when not given"""
    val_from: ValFrom = ValFrom.regions
    """val tiles that are used: of the regions trained on, of the regions and sensors trained on (source), or all"""
    val_scenes: int | None = None
    """number of val scenes that are used, those with lake first; all when not given"""

    def __post_init__(self) -> None:
        for name in ("scenes", "val_scenes"):
            if (value := getattr(self, name)) is not None:
                at_least(f"subset.{name}", value, 1)
        for name in ("lakes", "fraction"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= 1):
                raise ConfigError(f"subset.{name}={value} is not possible: give a share above 0 and at most 1.")
        if self.seed is not None:
            at_least("subset.seed", self.seed, 0)
        if not self.regions or len(set(self.regions)) < len(self.regions):
            raise ConfigError(
                f"subset.regions=[{','.join(self.regions)}] must name at least one and none twice, or all."
            )
