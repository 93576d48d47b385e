"""Mapped lakes laid over reference lakes: what each cell holds of both, and which lakes were found."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.data.scenes.polygons import Geometries
from glidexp.data.splits import connected

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
COMMON_M2 = 0.1
"""lakes that lie side by side have as much in common by rounding alone, the smallest pixels more"""
HALF = 0.5
"""IoU from which a lake is drawn well enough to be called the same"""


@dataclass(frozen=True, slots=True)
class Met:
    """Lakes of one side, and what the other side has of each."""

    cell: Ints
    """in which a point of it lies, always the same one; -1: in none"""
    area_km2: Floats
    touched: Flags
    """shares ground with a lake of the other side"""
    best_iou: Floats
    """the largest with one lake of the other side, of what of both lies on the ground"""
    shown_km2: Floats
    """what of it lies on the ground"""

    @property
    def alike(self) -> Flags:
        """Whether a lake of the other side is nearly the same."""
        return self.best_iou >= HALF


@dataclass(frozen=True, slots=True)
class Against:
    """Both sides on the cells that are looked at, in a plane that keeps areas."""

    mapped: Met
    true: Met
    mapped_km2: Floats
    """(n,) of each cell"""
    true_km2: Floats
    both_km2: Floats
    partner: Ints
    """of each true lake, the mapped one with the best IoU; -1 where none shares ground with it"""
    large_km2: tuple[Floats, Floats] | None = None
    """(n,) of the mapped, and of the true lakes of the least size alone; None where each lake counts"""


def against(
    mapped: Geometries, true: Geometries, cells: Geometries, least_km2: float = 0.0, ground: Any = None
) -> Against:
    """Lays both sides over each other.

    Ground of smaller lakes than the least counts only where it lies on one of the other side that counts: a part of a
    large lake is none too much, and two small lakes are none.

    Args:
        mapped: lakes of the map, all that touch the cells or a lake that does
        true: lakes of the reference, all that touch the cells
        cells: without common ground
        least_km2: of the lakes whose areas count
        ground: prepared; of a lake that goes on beyond it, only what lies on it is held against the other side, as no
            map can show more. None: no lake does
    """
    first, second = shapely.STRtree(true).query(mapped, predicate="intersects")
    met = shapely.area(shapely.intersection(mapped[first], true[second])) > COMMON_M2
    first, second = first[met], second[met]
    areas = [np.asarray(shapely.area(side), dtype=np.float64) for side in (mapped, true)]
    here = [_on(ground, side) for side in (mapped, true)]
    shown = [np.asarray(shapely.area(side), dtype=np.float64) for side in here]
    common = shapely.area(shapely.intersection(here[0][first], here[1][second]))
    either = shown[0][first] + shown[1][second] - common
    iou = np.divide(common, either, out=np.zeros(len(first)), where=either > 0)
    sides = []
    for shapes, area, part, own in zip((mapped, true), areas, shown, (first, second), strict=True):
        best = np.zeros(len(shapes))
        np.maximum.at(best, own, iou)
        touched = np.bincount(own, minlength=len(shapes)) > 0
        sides.append(Met(_cell_of(shapes, cells), area / 1e6, touched, best, part / 1e6))
    partner = np.full(len(true), -1)
    order = np.argsort(iou, kind="stable")
    partner[second[order]] = first[order]
    if not least_km2:
        return Against(sides[0], sides[1], *ground_of(mapped, true, cells), partner)
    large = [area >= least_km2 * 1e6 for area in areas]
    found = [shapes[some] for shapes, some in zip((mapped, true), large, strict=True)]
    kept, held, both = ground_of(found[0], found[1], cells)
    # with small ones of the other side: A and B or b, and B and A or a, of which A and B is in both
    beside = [ground_of(found[0], true, cells)[2], ground_of(mapped, found[1], cells)[2]]
    right = beside[0] + beside[1] - both
    return Against(sides[0], sides[1], right + kept - beside[0], right + held - beside[1], right, partner, (kept, held))


def _on(ground: Any, shapes: Geometries) -> Geometries:
    """What of each outline lies on the ground."""
    if ground is None:
        return shapes
    beyond, cut = ~shapely.covers(ground, shapes), shapes.copy()
    cut[beyond] = shapely.intersection(shapes[beyond], ground)
    return cut


def _cell_of(shapes: Geometries, cells: Geometries) -> Ints:
    """The cell in which a point within each outline lies."""
    lake, cell = shapely.STRtree(cells).query(shapely.point_on_surface(shapes), predicate="intersects")
    found = np.full(len(shapes), -1)
    found[lake[::-1]] = cell[::-1]  # of a point between two cells the first
    return found


def ground_of(mapped: Geometries, true: Geometries, cells: Geometries) -> tuple[Floats, Floats, Floats]:
    """(n,) km2 of each cell that are lake on the map, in the reference, and in both; ground counts once.

    Outlines are put together where they meet and nowhere else: all of a cell together take minutes where the cell is
    the whole ground of many maps.
    """
    shapely.prepare(cells)
    found = [_pieces(shapes, cells) for shapes in (mapped, true)]
    (at, every), split = (np.concatenate(both) for both in zip(*found, strict=True)), len(found[0][0])
    first, second = shapely.STRtree(every).query(every, predicate="intersects")
    meet = (first < second) & (at[first] == at[second])
    km2 = np.zeros((3, len(cells)))
    for group in connected(len(every), zip(first[meet].tolist(), second[meet].tolist(), strict=True)):
        sides = [[i for i in group if (i < split) is on_map] for on_map in (True, False)]
        ground = [
            shapely.union_all(every[side]) if len(side) > 1 else every[side[0]] if side else None for side in sides
        ]
        held = [*ground, shapely.intersection(*ground) if all(sides) else None]
        km2[:, at[group[0]]] += [shapely.area(one) / 1e6 if one is not None else 0.0 for one in held]
    return km2[0], km2[1], km2[2]


def _pieces(shapes: Geometries, cells: Geometries) -> tuple[Ints, Geometries]:
    """What of each outline lies in each cell, and in which."""
    cell, lake = shapely.STRtree(shapes).query(cells, predicate="intersects")
    pieces = shapes[lake]
    cut = ~shapely.covers(cells[cell], pieces)
    pieces[cut] = shapely.intersection(cells[cell[cut]], pieces[cut])
    return cell, pieces
