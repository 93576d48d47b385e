"""Linear stretch of scene values to 8 bit: limits from an exact histogram, applied through a lookup table."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from glidexp.config import StretchConfig, StretchMethod

LEVELS = 65536
"""values a uint16 can take: a histogram this long is exact for 8- and 16-bit scenes"""
PIECE = 1 << 18
"""values counted at once"""
LOOKED_UP = 1 << 16
"""values stretched at once"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Scene values `low` and `high` of each band become 0 and 255, what lies between is linear and rounded."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def tables(self) -> npt.NDArray[np.uint8]:
        """(bands, 65536) uint8 lookup tables."""
        values = np.arange(LEVELS, dtype=np.float64)
        tables = np.empty((len(self.low), LEVELS), dtype=np.uint8)
        for band, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            # a band of one value has no contrast to stretch: it becomes 0, what lies above it 255
            scaled = (values - low) / (high - low) * 255.0 if high > low else np.where(values > low, 255.0, 0.0)
            tables[band] = np.clip(np.floor(scaled + 0.5), 0, 255).astype(np.uint8)
        return tables

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it, so that prediction replays it."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(low=tuple(value["low"]), high=tuple(value["high"]))


def count_values(pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], into: npt.NDArray[np.int64]) -> None:
    """Adds the values of valid pixels to histograms.

    Args:
        pixels: (bands, H, W) uint8 or uint16
        valid: (H, W)
        into: (bands, 65536), changed in place
    """
    everywhere = bool(valid.all())
    for band, values in enumerate(pixels):
        chosen = values.reshape(-1) if everywhere else values[valid]
        # NumPy widens to 8 bytes and counts: pieces that stay in the cache meanwhile take two thirds of the time
        for start in range(0, len(chosen), PIECE):
            into[band] += np.bincount(chosen[start : start + PIECE], minlength=LEVELS)


def fit(histogram: npt.NDArray[np.int64], config: StretchConfig, levels: int = 0) -> Stretch:
    """Limits of each band.

    A percentile p is the smallest value with at least p % of the valid pixels at or below it (NumPy's `inverted_cdf`).

    Args:
        histogram: (bands, 65536) counts over valid pixels, each band with at least one
        config: method and its two numbers
        levels: how many of the last bands are in levels of 8 bit already, and stay as they are: those of a DEM
    """
    fitted = histogram[: len(histogram) - levels]
    if config.method == StretchMethod.fixed:
        low, high = ([value] * len(fitted) for value in (config.low, config.high))
    else:
        percents = (0.0, 100.0) if config.method == StretchMethod.minmax else (config.low, config.high)
        low, high = ([_percentile(counts, p) for counts in fitted] for p in percents)
    return Stretch(low=(*map(float, low), *[0.0] * levels), high=(*map(float, high), *[255.0] * levels))


def apply(pixels: npt.NDArray[Any], tables: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Stretches (bands, H, W) uint8 or uint16 to (H, W, bands) uint8 through `Stretch.tables`."""
    bands, height, width = pixels.shape
    out = np.empty((height, width, bands), dtype=np.uint8)
    rows = max(LOOKED_UP // max(width, 1), 1)
    one = np.empty((rows, width), dtype=np.uint8)
    for top in range(0, height, rows):  # NumPy widens places to 8 bytes: pieces that stay in the cache meanwhile
        for band in range(bands):
            values = pixels[band, top : top + rows]
            # every uint16 is a place of the table, so nothing is clipped: it only spares NumPy the check
            out[top : top + rows, :, band] = np.take(tables[band], values, out=one[: len(values)], mode="clip")
    return out


def _percentile(counts: npt.NDArray[np.int64], percent: float) -> float:
    cumulative = np.cumsum(counts)
    # the small slack keeps p % of n from rounding up past an exact count
    needed = max(1.0, percent / 100.0 * float(cumulative[-1]) - 1e-6)
    return float(np.searchsorted(cumulative, needed, side="left"))
