"""The pixels of many outlines at once, as runs along rows.

Outlines of a mask follow pixel edges, so what lies in them follows from their vertical edges alone: each row of an
outline is the stretch from an edge that goes up to the next one that goes down. Nothing is drawn, and thousands of
lakes cost a few passes over their edges.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

Ints = npt.NDArray[np.int64]
Geometries = npt.NDArray[np.object_]
PIECE_PX = 1 << 21
"""pixels that are looked at together"""


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of pixels, sorted by outline, row and column; those of one outline do not overlap."""

    number: Ints
    """of the outline"""
    row: Ints
    first: Ints
    """column"""
    last: Ints
    """first column after it"""

    def __len__(self) -> int:
        return len(self.row)

    def of(self, number: int) -> slice:
        """Where the runs of an outline stand."""
        first, last = np.searchsorted(self.number, [number, number + 1])
        return slice(int(first), int(last))

    def drawn(self, number: int, window: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
        """Which pixels of a window (top, bottom, left, right; half open) lie in an outline."""
        top, bottom, left, right = window
        out = np.zeros((bottom - top, right - left), bool)
        some = self.of(number)
        rows, firsts, lasts = (part[some] for part in (self.row, self.first, self.last))
        here = (rows >= top) & (rows < bottom)
        for row, first, last in zip(rows[here].tolist(), firsts[here].tolist(), lasts[here].tolist(), strict=True):
            out[row - top, max(first - left, 0) : max(last - left, 0)] = True
        return out

    def grown(self, height: int, width: int) -> "Runs":
        """With one pixel more on all sides, within a scene: runs of an outline overlap then."""
        number, row = np.tile(self.number, 3), np.concatenate([self.row - 1, self.row, self.row + 1])
        first, last = np.tile(np.maximum(self.first - 1, 0), 3), np.tile(np.minimum(self.last + 1, width), 3)
        here = (row >= 0) & (row < height)
        return Runs(number[here], row[here], first[here], last[here])

    def pixels(self, width: int) -> Iterator[tuple[Ints, Ints]]:
        """Outline and place of pixels in the flat scene, some at a time.

        Args:
            width: of the scene, pixels
        """
        ends = np.cumsum(self.last - self.first)
        at, before = 0, 0
        while at < len(ends):
            stop = max(int(np.searchsorted(ends, before + PIECE_PX, side="right")), at + 1)
            lengths = self.last[at:stop] - self.first[at:stop]
            within = np.arange(int(ends[stop - 1]) - before) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            start = self.row[at:stop] * width + self.first[at:stop]
            yield np.repeat(self.number[at:stop], lengths), np.repeat(start, lengths) + within
            at, before = stop, int(ends[stop - 1])


def runs_of(outlines: Geometries) -> Runs:
    """The pixels within outlines in pixels (x to the right, y down) whose edges lie along pixel edges.

    Args:
        outlines: polygons or multipolygons; holes are left out
    """
    parts, of_part = shapely.get_parts(shapely.orient_polygons(outlines), return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    xy, of_point = shapely.get_coordinates(rings, return_index=True)
    places = np.rint(xy).astype(np.int64)
    step = np.diff(places[:, 1]) * (np.diff(of_point) == 0)
    first = _along(places, step, step < 0)
    last = _along(places, step, step > 0)
    numbers: Ints = of_part[of_ring[of_point[first[0]]]].astype(np.int64)
    # both are sorted by outline, row and column, and runs do not overlap: the nth start belongs to the nth end
    starts = np.lexsort((first[2], first[1], numbers))
    ends = np.lexsort((last[2], last[1], of_part[of_ring[of_point[last[0]]]]))
    return Runs(numbers[starts], first[1][starts], first[2][starts], last[2][ends])


def _along(places: Ints, step: Ints, wanted: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Point, row and column of every pixel edge of the edges between points that are wanted."""
    edge = np.flatnonzero(wanted)
    length = np.abs(step[edge])
    top = np.minimum(places[edge, 1], places[edge + 1, 1])
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    point: Ints = np.repeat(edge, length)
    return point, np.repeat(top, length) + within, places[point, 0]
