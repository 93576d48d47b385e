"""Pairs of tiles that show the same picture: copies, flipped, turned, moved by some pixels, brightened or stored anew.

First a small picture of every tile is compared with all others in the 8 positions, as products of matrices. What is
alike is then laid over each other pixel by pixel: the shift comes from a cross-correlation, and the tile is cut into
blocks, most of which have to agree in their fine structure. Two fields of snow have the same colour, but not the same
grain; and one rock on a white field is too little to go by.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import convolve1d, uniform_filter

from glidexp.data.check.overlay import SHIFT_PX, Fine, Flags, Floats, grey_of, lay_over
from glidexp.data.steps import untold
from glidexp.data.store import TileStore

SIDE = 32
"""places along a side of the small picture; it is compared in cells of 2 x 2 of them"""
ALIKE = 0.75
"""correlation of small pictures, without what is broad, from which a pair is looked at pixel by pixel: 0.9 and more for
copies, 0.65 for one in 10,000 of unlike pairs"""
RIVALS = 0.1
"""positions that are so much worse than the best of a pair are not looked at"""
SIEVED = 0.85
"""share of what small pictures hold that the sieve knows: a quarter of the numbers do, and one unlike pair in 100,000
passes"""
SLACK = 1e-3
"""rounding of what lies beside the axes, a square root of a difference"""
COLUMNS = ("a", "b", "position", "down", "right", "agree", "difference", "label_iou")
_PART = 1024

Rows = npt.NDArray[np.int64]
Step = Callable[[str], None]


@dataclass(frozen=True)
class Looks:
    """Small pictures of some tiles of a store."""

    tiles: TileStore
    rows: Rows
    """(n,) rows of the store"""
    small: Floats
    """(n, 32, 32) mean of all bands; places without valid pixel hold the tile's mean"""

    @cached_property
    def flat(self) -> Flags:
        """(n,) of one value all over, or without valid pixel: such tiles take no part."""
        spread: Floats = self.small.reshape(len(self.small), -1).std(axis=1)
        return spread < 1e-3


def look_at(tiles: TileStore, rows: Rows, step: Step = untold) -> Looks:
    """Makes the small pictures, reading each tile once.

    Args:
        tiles: an opened store
        rows: which of its tiles
        step: told the name of each tile
    """
    small = []
    for name, row in zip(tiles.index["tile"].iloc[rows], rows.tolist(), strict=True):
        small.append(small_picture(*grey_of(tiles, row)))
        step(name)
    stack = np.stack(small) if small else np.zeros((0, SIDE, SIDE), np.float32)
    return Looks(tiles, rows, stack)


def small_picture(grey: Floats, valid: Flags | None) -> Floats:
    """(32, 32) means of squares of an (H, H) picture; `valid` None: all of it is."""
    cells = _sums(SIDE, grey.shape[0])
    if valid is None:
        small = cells @ grey @ cells.T
        return small.astype(np.float32)
    held = np.where(valid, grey, np.float32(0))
    weight = cells @ valid.astype(np.float32) @ cells.T
    mean = float(held.sum()) / max(int(valid.sum()), 1)
    total = cells @ held @ cells.T
    # a cell of few valid pixels leans to the mean, so that padding makes no pattern of its own
    return (total + (1 - weight) * mean).astype(np.float32)


def near_pairs(one: Looks, other: Looks | None = None, step: Step = untold) -> pd.DataFrame:
    """Every pair that shows the same picture.

    Tiles of another size are not compared. Time grows with the square of the number of tiles (18,000: 2 x 10^11
    products in each of the 8 positions), and with the number of pairs that look alike.

    Args:
        one: tiles
        other: tiles of another store; None: those of `one` among each other
        step: told after each part of the comparison, when its pairs were laid over each other

    Returns:
        columns of `COLUMNS`, sorted by a and b: places in `one.rows` and `other.rows` (a < b within one store);
        position 0-7, how a has to be turned (`duplicates.turns`); rows and columns by which b lies lower and farther
        right in it; share of the blocks that agree; median difference of grey after that of the mean is taken away;
        IoU of the two labels there, NaN without lake
    """
    second = one if other is None else other
    px = one.tiles.tile_px
    if not len(one.rows) or not len(second.rows) or px != second.tiles.tile_px:
        return pd.DataFrame(columns=list(COLUMNS))
    fine_a, fine_b = Fine(one.tiles), Fine(second.tiles)
    found = []
    for name, part in _alike(one, second):
        for (a, b), positions in part.items():
            row_a, row_b = int(one.rows[a]), int(second.rows[b])
            for position in positions:
                laid = lay_over(fine_a, row_a, fine_b, row_b, position)
                if laid is not None:
                    found.append((a, b, position, *laid))
                    break
        step(name)
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.sort_values(["a", "b"], ignore_index=True)


def _alike(one: Looks, other: Looks) -> Iterator[tuple[str, dict[tuple[int, int], list[int]]]]:
    """Parts of the comparison: a name, and by pair (a, b) the positions to be looked at, the best first; pairs by a."""
    px = one.tiles.tile_px
    # steps of half a cell, so that no shift is farther than a quarter of one from a step
    margin = math.ceil(min(SHIFT_PX, px // 16) * SIDE / px - 0.5)
    moves = [(y, x) for y in range(2 * margin + 1) for x in range(2 * margin + 1)]
    views = [_normal(_turned(one.small, position), one.flat, margin, margin, margin) for position in range(8)]
    sieve = Sieve(views)
    coarse = [sieve.of(view) for view in views]
    for j in range(0, len(other.rows), _PART):
        part = slice(j, j + _PART)
        bank = [_normal(other.small[part], other.flat[part], y, x, margin) for y, x in moves]
        sifted = [sieve.of(fixed) for fixed in bank]
        for i in range(0, len(one.rows) if one is not other else j + 1, _PART):
            scores: dict[tuple[int, int], dict[int, float]] = {}
            for position in range(8):
                mine, seen = coarse[position][i : i + _PART], views[position][i : i + _PART]
                for its, fixed in zip(sifted, bank, strict=True):
                    a, b = sieve.passing(mine, its)
                    alike = np.einsum("nd,nd->n", seen[a], fixed[b], dtype=np.float64)
                    for k in np.flatnonzero(alike >= ALIKE).tolist():
                        pair = i + int(a[k]), j + int(b[k])
                        if one is not other or pair[0] < pair[1]:
                            held = scores.setdefault(pair, {})
                            held[position] = max(held.get(position, 0.0), float(alike[k]))
            yield (
                f"{min(i + _PART, len(one.rows))} x {min(j + _PART, len(other.rows))}",
                {
                    pair: [p for p in sorted(held, key=lambda p: -held[p]) if held[p] >= max(held.values()) - RIVALS]
                    for pair, held in sorted(scores.items())
                },
            )


class Sieve:
    """Lets through all pairs of rows whose product may reach `ALIKE`, and few others, in a fraction of the numbers.

    Along the principal axes of the rows a product is known; what lies beside them adds at most the product of both
    lengths there (Cauchy and Schwarz), which stand as one more number a row. So no pair is lost.

    Args:
        views: (n, d) rows of length 1 or 0
    """

    def __init__(self, views: Sequence[Floats]) -> None:
        scatter = sum(view.T.astype(np.float64) @ view for view in views)
        spread, axes = np.linalg.eigh(scatter)
        held = np.cumsum(spread[::-1]) / max(float(spread.sum()), 1e-12)
        self.axes: Floats = axes[:, ::-1][:, : int(np.searchsorted(held, SIEVED)) + 1].astype(np.float32)

    def of(self, rows: Floats) -> Floats:
        """(n, d) -> (n, k + 1) numbers along the axes, and the length of what lies beside them."""
        along = rows @ self.axes
        beside = np.sqrt(np.maximum(np.square(rows).sum(axis=1) - np.square(along).sum(axis=1), 0))
        return np.column_stack([along, beside])

    def passing(self, one: Floats, other: Floats) -> tuple[Rows, Rows]:
        """Places in both of the pairs that are let through, from what `of` gives."""
        a, b = np.divmod(np.flatnonzero(one @ other.T >= ALIKE - SLACK), len(other))
        return a, b


def _turned(small: Floats, position: int) -> Floats:
    """(n, 32, 32) in one of the 8 positions, as `duplicates.turns` counts them."""
    flipped = small.swapaxes(1, 2) if position >= 4 else small
    return np.ascontiguousarray(np.rot90(flipped, position % 4, axes=(1, 2)))


def parts(one: int, other: int | None = None) -> int:
    """How often `near_pairs` calls `step` for so many tiles."""
    a = -(-one // _PART)
    return a * (a + 1) // 2 if other is None else a * -(-other // _PART)


def _normal(small: Floats, flat: Flags, top: int, left: int, margin: int) -> Floats:
    """(n, d) rows of length 1 of what is seen in cells from (top, left) on; flat ones are 0.

    What is broader than 5 cells is taken away, since unlike pictures have it in common.
    """
    side = (SIDE - 2 * margin) // 2
    seen = small[:, top : top + 2 * side, left : left + 2 * side]
    cells = seen.reshape(len(seen), side, 2, side, 2).mean(axis=(2, 4))
    cells = cells - uniform_filter(cells, (0, 5, 5), mode="reflect")
    for axis in (1, 2):
        cells = convolve1d(cells, [0.25, 0.5, 0.25], axis=axis, mode="reflect")
    values = cells.reshape(len(cells), -1)
    values = values - values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    normal: Floats = np.divide(
        values, length, out=np.zeros_like(values), where=(length > 1e-4) & ~flat[:, None], dtype=np.float32
    )
    return normal


def _sums(cells: int, px: int) -> Floats:
    """(cells, px) that takes means along a side; the last pixels of a side that is no multiple are shared out."""
    edges = np.linspace(0, px, cells + 1)
    at = np.arange(px)
    share = np.clip(np.minimum(at + 1, edges[1:, None]) - np.maximum(at, edges[:-1, None]), 0, None)
    return (share / (px / cells)).astype(np.float32)
