"""The cells that a map's ground is divided into, of what kind each is, and which of them are drawn to be looked at.

Squares of one size in a plane that keeps areas; those at the edge of the ground are cut there. A cell with a mapped
lake tells of lakes that are none, one where the model half believed in a lake of those that it missed, and all others
of what nobody expects: each kind is drawn from by itself, or few cells of the first two would be met.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.data.scenes.polygons import Geometries
from glidexp.errors import ConfigError, DataError
from glidexp.mapping.doubt import Doubt
from glidexp.mapping.joined import Joined

Ints = npt.NDArray[np.int64]
LAKE, DOUBT, OTHER = "lake", "doubt", "other"
KINDS = (LAKE, DOUBT, OTHER)
"""with a mapped lake; without, but with pixels that are lake perhaps; without either"""
SHARES = (0.4, 0.25, 0.35)
"""of the cells that are drawn, a kind each"""
MOST = 4_000_000
"""cells of a grid; its squares take a gigabyte"""


@dataclass(frozen=True, slots=True)
class Cells:
    """Where the ground is divided: (N,) squares that share ground with it."""

    boxes: Geometries
    """whole squares in the plane"""
    kind: Ints
    """place in `KINDS`"""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Cells of each kind."""
        return tuple(np.bincount(self.kind, minlength=len(KINDS)).tolist())


def divided(maps: Joined, side_km: float, doubt: Doubt) -> Cells:
    """Divides the ground.

    Args:
        maps: lakes and ground
        side_km: of a cell
        doubt: where lakes may have been missed, by cell

    Raises:
        ConfigError: there would be too many cells
    """
    side = side_km * 1e3
    ends = shapely.bounds(shapely.get_parts(maps.ground)) / side
    ends = np.concatenate([np.floor(ends[:, :2]), np.ceil(ends[:, 2:])], axis=1).astype(np.int64)
    count = int(((ends[:, 2] - ends[:, 0]) * (ends[:, 3] - ends[:, 1])).sum())
    if count > MOST:
        raise ConfigError(
            f"--cell-km={side_km:g} makes {count:,} cells, {MOST:,} are the most: give a larger side or fewer maps."
        )
    grids = [np.mgrid[left:right, bottom:top].reshape(2, -1) for left, bottom, right, top in ends.tolist()]
    x, y = np.unique(np.concatenate(grids, axis=1), axis=1)
    boxes = shapely.box(x * side, y * side, (x + 1) * side, (y + 1) * side)
    there = shapely.intersects(maps.ground, boxes)
    edge = there & ~shapely.covers(maps.ground, boxes)
    there[edge] = shapely.area(shapely.intersection(maps.ground, boxes[edge])) > 0
    x, y, boxes = x[there], y[there], boxes[there]
    kind = np.full(len(boxes), KINDS.index(OTHER))
    kind[doubt.in_cells(x, y)] = KINDS.index(DOUBT)
    kind[np.unique(shapely.STRtree(boxes).query(maps.shapes, predicate="intersects")[1])] = KINDS.index(LAKE)
    return Cells(boxes, kind)


def drawn(cells: Cells, count: int, seed: int) -> Ints:
    """Numbers of the cells to look at, in random order, so that the first of them are a sample too.

    Args:
        cells: of the ground
        count: of all kinds together; all cells where there are no more
        seed: of the draw

    Raises:
        DataError: not two cells of each kind can be drawn
    """
    rng = np.random.default_rng(seed)
    numbers = np.array(cells.numbers)
    kinds = np.flatnonzero(numbers)
    if count < 2 * len(kinds):
        raise DataError(
            f"--cells={count} is too few: two of each of {len(kinds)} kinds of cells are the least, "
            f"{2 * len(kinds)} in all."
        )
    take = np.minimum(numbers, 2)
    wanted = np.array(SHARES) * count
    while take.sum() < min(count, numbers.sum()):  # one after the other to the kind that lacks most of its share
        take[np.argmax(np.where(take < numbers, wanted - take, -np.inf))] += 1
    found = [rng.choice(np.flatnonzero(cells.kind == k), take[k], replace=False) for k in kinds]
    return np.asarray(rng.permutation(np.concatenate(found)), dtype=np.int64)
