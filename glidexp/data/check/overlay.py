"""Two tiles laid over each other pixel by pixel: do they show the same, and where?

The shift comes from a cross-correlation. Then both are cut into blocks, most of which have to agree in their fine
structure: two fields of snow have the same colour, but not the same grain.
"""

import math
from collections import OrderedDict

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import uniform_filter

from glidexp.data.check.duplicates import turns
from glidexp.data.store import INVALID, LAKE, TileStore

SHIFT_PX = 8
"""shifts up to here are found, of small tiles up to a 16th of their side"""
BLOCKS = 8
"""blocks along a side of a tile"""
AGREE = 0.5
"""correlation of fine structure from which two blocks agree, and share of the blocks that have to"""
TOGETHER = 0.4
"""correlation of fine structure over the whole tile that is asked for"""
FEW = 16
STRICT = 0.98
"""where fewer blocks than that have any structure, all of them have to agree, and so much: edges of two lakes in snow
are alike"""
FEWEST = 4
"""blocks that have to agree at least"""
GRAIN = 0.3
"""standard deviation of fine structure (0-255) under which a block has nothing to be recognised by"""
FINE_PX = 9
"""what is wider than this is no fine structure"""
COARSER = (1, 2, 4)
"""a tile is also compared with its pixels put together, down to `SMALLEST_PX`, where its grey varies by no more than
`PALE`: of snow and water, storing as JPEG takes the finest away"""
PALE = 10.0
"""standard deviation, 0-255"""
SMALLEST_PX = 32
WHOLE = 0.95
"""correlation of grey over the whole tile that is asked for as well where pixels were put together"""
_KEPT = 64

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class Fine:
    """Tiles as they are compared pixel by pixel, some of them kept."""

    def __init__(self, tiles: TileStore) -> None:
        self.tiles = tiles
        self._kept: OrderedDict[tuple[int, int], tuple[Floats, Floats, Flags]] = OrderedDict()

    def of(self, row: int, coarser: int) -> tuple[Floats, Floats, Flags]:
        """Of a tile with `coarser` x `coarser` pixels put together: (h, w) grey, (h, w) grey without what is broad,
        (h, w) where it is valid."""
        key = row, coarser
        if key not in self._kept:
            grey, valid = grey_of(self.tiles, row)
            self._kept[key] = _fine(*_binned(grey, valid, coarser))
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _binned(grey: Floats, valid: Flags | None, by: int) -> tuple[Floats, Flags]:
    valid = np.ones(grey.shape, dtype=bool) if valid is None else valid
    if by == 1:
        return grey, valid
    side = len(grey) // by
    shape, inner = (side, by, side, by), slice(0, side * by)
    means: Floats = grey[inner, inner].reshape(shape).mean(axis=(1, 3), dtype=np.float32)
    return means, np.logical_and.reduce(valid[inner, inner].reshape(shape), axis=(1, 3))


def _fine(grey: Floats, valid: Flags) -> tuple[Floats, Floats, Flags]:
    if valid.all():
        return grey, grey - uniform_filter(grey, FINE_PX, mode="reflect"), valid
    held = np.where(valid, grey, np.float32(0))
    weight = uniform_filter(valid.astype(np.float32), FINE_PX, mode="reflect")
    broad = uniform_filter(held, FINE_PX, mode="reflect") / np.maximum(weight, np.float32(1e-6))
    return grey, np.where(valid, grey - broad, np.float32(0)), valid


def lay_over(fine_a: Fine, a: int, fine_b: Fine, b: int, position: int) -> tuple[int, int, float, float, float] | None:
    """Turns tile a, moves it over tile b and compares.

    Returns:
        down, right, agree, difference, label_iou of `COLUMNS`; None where they do not show the same
    """
    for coarser in COARSER:
        px = fine_a.tiles.tile_px // coarser
        if coarser > 1 and px < SMALLEST_PX:
            break
        grey_a, own, valid_a = fine_a.of(a, coarser)
        grey_a, own, valid_a = turns(grey_a)[position], turns(own)[position], turns(valid_a)[position]
        grey_b, its, valid_b = fine_b.of(b, coarser)
        if coarser > 1 and max(grey_a.std(), grey_b.std()) > PALE:
            break
        down, right = _shift(own, its, math.ceil(min(SHIFT_PX, fine_a.tiles.tile_px // 16) / coarser))
        there, here = _overlap(px, down, right)
        both = valid_a[here] & valid_b[there]
        if not both.any() or _correlation(own[here][both], its[there][both]) < TOGETHER:
            continue
        agree = _agreement(own[here], its[there], both, alone=coarser == 1)
        if agree is not None and (coarser == 1 or _correlation(grey_a[here][both], grey_b[there][both]) >= WHOLE):
            apart = grey_b[there][both] - grey_a[here][both]
            difference = float(np.median(np.abs(apart - np.median(apart))))
            down, right = down * coarser, right * coarser
            return down, right, agree, difference, _label_iou(fine_a, a, fine_b, b, position, down, right)
    return None


def _correlation(own: Floats, its: Floats) -> float:
    own, its = own - own.mean(), its - its.mean()
    return float(own @ its) / max(float(np.sqrt((own @ own) * (its @ its))), 1e-6)


def _shift(own: Floats, its: Floats, most: int) -> tuple[int, int]:
    """Rows and columns, up to `most`, by which `own` has to be moved to lie best on `its`."""
    peak = scipy.fft.irfft2(np.conj(scipy.fft.rfft2(own)) * scipy.fft.rfft2(its), s=own.shape)
    moves = np.arange(-most, most + 1)
    near = peak[np.ix_(moves % len(own), moves % len(own))]
    down, right = np.unravel_index(int(near.argmax()), near.shape)
    return int(moves[down]), int(moves[right])


def _label_iou(fine_a: Fine, a: int, fine_b: Fine, b: int, position: int, down: int, right: int) -> float:
    there, here = _overlap(fine_a.tiles.tile_px, down, right)
    own = turns(np.asarray(fine_a.tiles.labels[a]))[position][here]
    its = np.asarray(fine_b.tiles.labels[b])[there]
    valid = (own != INVALID) & (its != INVALID)
    either = np.count_nonzero(valid & ((own == LAKE) | (its == LAKE)))
    return np.count_nonzero(valid & (own == LAKE) & (its == LAKE)) / either if either else float("nan")


def _overlap(px: int, down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where b and a show the same, if what is at (0, 0) of a is at (down, right) of b."""
    there = slice(max(down, 0), px + min(down, 0)), slice(max(right, 0), px + min(right, 0))
    here = slice(max(-down, 0), px + min(-down, 0)), slice(max(-right, 0), px + min(-right, 0))
    return there, here


def _agreement(own: Floats, its: Floats, valid: Flags, *, alone: bool) -> float | None:
    """Share of the blocks with any structure that agree; None if they are too few. `alone`: a few may be enough."""
    weight = _blocks(valid.astype(np.float32))
    enough = weight > weight.max() / 2
    safe = np.maximum(weight, 1)
    own, its = np.where(valid, own, np.float32(0)), np.where(valid, its, np.float32(0))
    mean_a, mean_b = _blocks(own) / safe, _blocks(its) / safe
    var_a = np.maximum(_blocks(own * own) / safe - mean_a**2, 0)
    var_b = np.maximum(_blocks(its * its) / safe - mean_b**2, 0)
    common = _blocks(own * its) / safe - mean_a * mean_b
    told = enough & (np.maximum(var_a, var_b) >= GRAIN**2)
    few = int(told.sum()) < FEW
    asked, share = (STRICT, 1.0) if few else (AGREE, AGREE)
    agree = told & (common >= asked * np.sqrt(np.maximum(var_a * var_b, GRAIN**4)))
    count = int(agree.sum())
    if (few and not alone) or count < FEWEST or count < share * int(told.sum()):
        return None
    return count / int(told.sum())


def _blocks(values: Floats) -> npt.NDArray[np.float64]:
    """(8, 8) sums over blocks."""
    rows, cols = (np.linspace(0, n, BLOCKS, endpoint=False).astype(np.int64) for n in values.shape)
    sums: npt.NDArray[np.float64] = np.add.reduceat(np.add.reduceat(values, rows, axis=0), cols, axis=1)
    return sums.astype(np.float64)


def grey_of(tiles: TileStore, row: int) -> tuple[Floats, Flags | None]:
    """Mean of the bands, 0-255, and where a tile is valid, None for all of it."""
    image = np.asarray(tiles.images[row])
    bands = image.shape[-1]
    grey = np.einsum("hwc->hw", image, dtype=np.float32) / np.float32(bands)
    if tiles.index["valid_fraction"].to_numpy()[row] >= 1:
        return grey, None
    return grey, np.asarray(tiles.labels[row]) != INVALID
