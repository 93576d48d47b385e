"""How a model meets new scenes: windows, stretch, rules for lakes. Nothing heavy is imported here."""

import math
from dataclasses import dataclass
from enum import StrEnum

from glidexp.config import Precision, Tta
from glidexp.errors import ConfigError

MOST_ROUNDS = 6


class StretchFrom(StrEnum):
    """Where the limits of the stretch come from."""

    auto = "auto"
    refit = "refit"
    none = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class MapSettings:
    """Settings of `glidexp predict` that decide what is written."""

    window_px: int = 0
    """side of a window; 0: by the tile size that the model was trained on, see `predict.usual_window`"""
    overlap_px: int = 0
    """pixels that neighbouring windows share at least; 0: a quarter of a window, 96 at least, half a window at most"""
    batch: int = 4
    """windows a forward pass"""
    tta: Tta | None = None
    """views of every window whose mean is taken; None: as the model's card says"""
    threshold: float | None = None
    """probability from which a pixel is lake; None: the model's own"""
    precision: Precision = Precision.auto
    device: str = "auto"
    stretch: StretchFrom = StretchFrom.auto
    """auto: limits of the model's card where it has some for the scene or its sensor, else refitted on the scene"""
    min_px: int = 6
    """lakes of fewer pixels are dropped"""
    min_km2: float = 0.0
    """lakes of less area are dropped"""
    fill_px: int = 6
    """holes of fewer pixels are filled"""
    smooth: int = 0
    """rounds of corner cutting on the outlines; 0: outlines run along pixel edges"""

    def __post_init__(self) -> None:
        least = {"--window": (self.window_px, 0), "--overlap": (self.overlap_px, 0), "--batch": (self.batch, 1)}
        least |= {"--min-px": (self.min_px, 0), "--fill-px": (self.fill_px, 0), "--smooth": (self.smooth, 0)}
        for name, (value, low) in least.items():
            if value < low:
                raise ConfigError(f"{name}={value} must be {low} or more.")
        if self.window_px and self.window_px < 32:
            raise ConfigError(f"--window={self.window_px} must be 32 pixels or more, or 0 for the model's own.")
        if self.window_px and 2 * self.overlap_px > self.window_px:
            raise ConfigError(f"--overlap={self.overlap_px} must be at most half of --window={self.window_px}.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError(f"--threshold={self.threshold} must be a probability above 0 and below 1.")
        if not 0 <= self.min_km2 < math.inf:
            raise ConfigError(f"--min-km2={self.min_km2} must be 0 or more km2.")
        if self.smooth > MOST_ROUNDS:
            raise ConfigError(f"--smooth={self.smooth} must be {MOST_ROUNDS} or less: each round doubles the points.")
