"""Linear stretch of scene values to 8 bit: limits from a histogram of their codes, applied through a lookup table."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from glidexp.config import StretchConfig, StretchMethod
from glidexp.data.scenes.numbers import levels_of, values_of

if TYPE_CHECKING:
    from glidexp.data.scenes.reading import Scene

PIECE = 1 << 18
"""values counted at once"""
LOOKED_UP = 1 << 16
"""values stretched at once"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Scene values `low` and `high` of each band become 0 and 255, what lies between is linear and rounded."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def tables(self, kind: str = "uint16", terrain: int = 0) -> npt.NDArray[np.uint8]:
        """(bands, codes) uint8 lookup tables.

        Args:
            kind: of the scene's numbers, whose codes are looked up (`scenes.numbers`)
            terrain: how many of the last bands are of a DEM, whose codes are their levels
        """
        values_of_scene = values_of(kind)
        tables = np.empty((len(self.low), len(values_of_scene)), dtype=np.uint8)
        for band, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            own = band < len(self.low) - terrain
            values = values_of_scene if own else np.arange(len(values_of_scene), dtype=np.float64)
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


def no_counts(scene: "Scene") -> npt.NDArray[np.int64]:
    """(bands, codes) histograms of a scene that hold nothing yet."""
    return np.zeros((scene.channels, levels_of(scene.numbers)), np.int64)


def count_values(pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], into: npt.NDArray[np.int64]) -> None:
    """Adds the values of valid pixels to histograms.

    Args:
        pixels: (bands, H, W) codes
        valid: (H, W)
        into: (bands, codes), changed in place
    """
    everywhere = bool(valid.all())
    for band, values in enumerate(pixels):
        chosen = values.reshape(-1) if everywhere else values[valid]
        # NumPy widens to 8 bytes and counts: pieces that stay in the cache meanwhile take two thirds of the time
        for start in range(0, len(chosen), PIECE):
            into[band] += np.bincount(chosen[start : start + PIECE], minlength=into.shape[1])


def fit(histogram: npt.NDArray[np.int64], config: StretchConfig, levels: int = 0, kind: str = "uint16") -> Stretch:
    """Limits of each band.

    A percentile p is the smallest value with at least p % of the valid pixels at or below it (NumPy's `inverted_cdf`).

    Args:
        histogram: (bands, codes) counts over valid pixels, each band with at least one
        config: method and its two numbers
        levels: how many of the last bands are in levels of 8 bit already, and stay as they are: those of a DEM
        kind: of the numbers that the codes stand for
    """
    fitted = histogram[: len(histogram) - levels]
    if config.method == StretchMethod.fixed:
        low, high = ([value] * len(fitted) for value in (config.low, config.high))
    else:
        percents = (0.0, 100.0) if config.method == StretchMethod.minmax else (config.low, config.high)
        values = values_of(kind)
        low, high = ([values[_percentile(counts, p)] for counts in fitted] for p in percents)
    return Stretch(low=(*map(float, low), *[0.0] * levels), high=(*map(float, high), *[255.0] * levels))


def apply(pixels: npt.NDArray[Any], tables: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Stretches codes (bands, H, W) to (H, W, bands) uint8 through `Stretch.tables`."""
    bands, height, width = pixels.shape
    out = np.empty((height, width, bands), dtype=np.uint8)
    rows = max(LOOKED_UP // max(width, 1), 1)
    one = np.empty((rows, width), dtype=np.uint8)
    for top in range(0, height, rows):  # NumPy widens places to 8 bytes: pieces that stay in the cache meanwhile
        for band in range(bands):
            values = pixels[band, top : top + rows]
            # every code is a place of the table, so nothing is clipped: it only spares NumPy the check
            out[top : top + rows, :, band] = np.take(tables[band], values, out=one[: len(values)], mode="clip")
    return out


def _percentile(counts: npt.NDArray[np.int64], percent: float) -> int:
    """The code of a percentile; of no pixel at all, as in an empty part of a scene, the last code."""
    cumulative = np.cumsum(counts)
    # the small slack keeps p % of n from rounding up past an exact count
    needed = max(1.0, percent / 100.0 * float(cumulative[-1]) - 1e-6)
    return min(int(np.searchsorted(cumulative, needed, side="left")), len(counts) - 1)
