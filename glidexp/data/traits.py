"""What a tile looks like in a few numbers: brightness and contrast of each band, texture, greenness."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glidexp.config.data import TERRAIN

Floats = npt.NDArray[np.float64]
OF_BAND = ("mean", "spread", "dark end", "bright end")
"""mean, standard deviation, and the values below which 5 and 95 % of the pixels lie, 0-255"""
ENDS = (0.05, 0.95)
TEXTURE, GREENNESS = "texture", "greenness"
BINS = 16
LEAST_VALID = 0.25
"""share of valid pixels from which a tile is looked at"""


def names(bands: Sequence[str]) -> tuple[str, ...]:
    """What each number of `traits` is, in its order.

    Args:
        bands: names of the bands of a tile
    """
    found = [f"{band} {what}" for band in bands for what in OF_BAND]
    return (*found, TEXTURE, GREENNESS) if _colours(bands) else (*found, TEXTURE)


def traits(image_HWC: npt.NDArray[np.uint8], valid_HW: npt.NDArray[np.bool_], bands: Sequence[str]) -> Floats:
    """The numbers of a tile, (T,).

    Texture is the logarithm of 1 + the mean step of brightness between neighbours; greenness the mean of
    (green - red) / (green + red + 1), -1 to 1.

    Args:
        image_HWC: 0-255
        valid_HW: pixels that count; at least one
        bands: their names, lower case
    """
    values = np.arange(256.0)
    pixels = image_HWC[valid_HW]
    found: list[float] = []
    for band in range(len(bands)):
        counts = np.bincount(pixels[:, band], minlength=256)
        mean = float(counts @ values) / len(pixels)
        spread = float(np.sqrt(max(float(counts @ values**2) / len(pixels) - mean**2, 0.0)))
        ends = np.searchsorted(np.cumsum(counts), np.array(ENDS) * len(pixels))
        found += [mean, spread, *ends.astype(float).tolist()]
    grey = image_HWC.mean(axis=2, dtype=np.float32)
    steps = [
        np.abs(np.diff(grey, axis=axis))[np.logical_and(*_neighbours(valid_HW, axis))] for axis in (0, 1)
    ]  # fmt: skip
    step = np.concatenate(steps)
    found.append(float(np.log1p(step.mean())) if len(step) else 0.0)
    if _colours(bands):
        found.append(float(greenness(pixels, bands).mean()))
    return np.array(found)


def histograms(
    image_HWC: npt.NDArray[np.uint8], valid_HW: npt.NDArray[np.bool_], bands: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Pixels of a tile by brightness (0-255) and by greenness (-1 to 1), (2, 16); without colours no greenness."""
    pixels = image_HWC[valid_HW]
    found = np.zeros((2, BINS), np.int64)
    found[0] = np.bincount(pixels.sum(axis=1, dtype=np.int32) * BINS // (256 * len(bands)), minlength=BINS)
    if _colours(bands):
        places = ((greenness(pixels, bands) + 1) * (BINS / 2)).astype(np.int32)
        found[1] = np.bincount(places, minlength=BINS)
    return found


def greenness(pixels: npt.NDArray[np.uint8], bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, C) -> (n,): how much more green than red, -1 to 1."""
    green, red = (pixels[:, bands.index(name)].astype(np.float32) for name in ("green", "red"))
    ratio: npt.NDArray[np.float32] = (green - red) / (green + red + 1)
    return ratio


def said(name: str, *, more: bool) -> str:
    """How a tile is called that has more, or less, of a trait than others: `darker in red`."""
    if name == TEXTURE:
        return "rougher" if more else "smoother"
    if name == GREENNESS:
        return "greener" if more else "less green"
    band = next(name.removesuffix(f" {what}") for what in OF_BAND if name.endswith(f" {what}"))
    if name.endswith("spread"):
        return f"{'richer' if more else 'poorer'} in contrast in {band}"
    end = {"dark end": " at its dark end", "bright end": " at its bright end"}
    where = next((words for what, words in end.items() if name.endswith(what)), "")
    if band in TERRAIN:
        return f"{'higher' if more else 'lower'} in {band}{where}"
    return f"{'brighter' if more else 'darker'} in {band}{where}"


def _colours(bands: Sequence[str]) -> bool:
    return {"red", "green"} <= set(bands)


def _neighbours(valid: npt.NDArray[np.bool_], axis: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    first: npt.NDArray[np.bool_] = valid[1:] if axis == 0 else valid[:, 1:]
    other: npt.NDArray[np.bool_] = valid[:-1] if axis == 0 else valid[:, :-1]
    return first, other
