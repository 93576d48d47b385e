"""What each date says of each lake: its area and how sure that is, that it is not there, or nothing.

Where several maps of one date show a lake, the one that shows it whole and is surest of its shore counts, so that
ground that two scenes share is not counted twice. Where none shows it whole, what all of them show is put together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.data.scenes.polygons import Geometries, multi
from glidexp.data.steps import Step
from glidexp.mapping.areas import on_ellipsoid
from glidexp.mapping.dated_maps import Dated
from glidexp.mapping.doubt import half_seen
from glidexp.mapping.known_again import accounted, looked_at
from glidexp.mapping.lake_map import least_km2

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
SEEN, ABSENT, CUT, NOT_LOOKED = "seen", "absent", "cut", "not_looked_at"
TOO_SMALL, HALF_SEEN = "too_small", "half_seen"
"""of a lake on a date: it is there; its ground was looked at and holds none; seen, but not to its end; its ground, or
a part of it, was not looked at; none is there, and it was never large enough to be mapped with that date's pixels; none
is there, but the network half saw one. The latter four say nothing of its area"""
LEAST_KM2 = 1e-12
"""an outline may be a line, but for rounding"""
EDGE_DEG = 5e-6
"""half a metre: an outline that lies nearer to the edge of what was looked at is cut by it. Edges are straight in the
map's CRS and bend in degrees, and an outline along them would lie a hair's breadth within"""


@dataclass(frozen=True, slots=True)
class Observed:
    """Tables of (G, D): G lakes, D dates."""

    area_km2: Floats
    """as mapped, cut or not; 0 where no outline is"""
    bound_km2: Floats
    parts: Ints
    """outlines"""
    state: npt.NDArray[np.object_]
    known: Flags
    """whether the date says how large the lake is; an absent one has no area"""
    outlines: Geometries
    """(G, D), None where there are none"""
    unions: Geometries
    """(G,) of all dates"""
    grounds: tuple[Any, ...]
    """(D,) what was looked at; None where that is not known"""


@dataclass(slots=True)
class _All:
    """All outlines, one map after the other, and the cells, a lake and a date each, that they are in."""

    shapes: Geometries
    area: Floats
    bound: Floats
    cut: Flags
    map: Ints
    cell: Ints
    of_lake: list[Ints]
    """rows of each lake"""
    of_cell: list[Ints]
    keep: Flags
    """False of those that another map of the date shows better"""


def observed(dated: Dated, lake: Ints, step: Step) -> Observed:
    """What each date says of each lake.

    Args:
        dated: maps
        lake: of each outline, from `known_again.one_lake`
        step: told of each date, then of each map

    Raises:
        DataError: a map's probabilities cannot be read
    """
    shape = (int(lake.max()) + 1 if len(lake) else 0, len(dated.texts))
    every = _all(dated, lake, shape)
    unions = np.empty(shape[0], dtype=object)
    unions[:] = [multi(shapely.union_all(every.shapes[own])) for own in every.of_lake]
    grounds = tuple(
        _together([one.ground for one, at in zip(dated.maps, dated.of, strict=True) if at == d])
        for d in range(shape[1])
    )
    joint = _side_by_side(every, [one.ground for one in dated.maps], grounds)
    cell, keep, cells = every.cell, every.keep, len(every.of_cell)
    area, bound, cuts = (
        np.bincount(cell[keep], some[keep].astype(np.float64), minlength=cells)
        for some in (every.area, every.bound**2, every.cut)
    )
    outlines, parts = np.full(cells, None, dtype=object), np.zeros(cells, np.int64)
    for number in np.unique(cell).tolist():
        own = every.of_cell[number][keep[every.of_cell[number]]]
        outlines[number], parts[number] = _as_one(every.shapes[own], union=bool(joint[number]))
    if joint.any():  # both maps have the ground that they share
        area[joint] = on_ellipsoid(outlines[joint])[0] / 1e6
    state = _states(every, unions, grounds, cuts.reshape(shape) > 0, step)
    size_km2, bound_km2 = (table.astype(np.float64).reshape(shape) for table in (area, np.sqrt(bound)))
    state[(state == ABSENT) & _too_small(size_km2, dated.gsd_m)] = TOO_SMALL
    outlines, parts = outlines.reshape(shape), parts.reshape(shape)
    state[_half_seen(dated, state == ABSENT, outlines, parts > 0, step)] = HALF_SEEN
    known = np.isin(state, (SEEN, ABSENT))
    return Observed(size_km2, bound_km2, parts, state, known, outlines, unions, grounds)


def _all(dated: Dated, lake: Ints, shape: tuple[int, int]) -> _All:
    """The outlines of all maps."""
    maps, sizes = dated.maps, [len(one.shapes) for one in dated.maps]
    cell = lake * shape[1] + np.repeat(dated.of, sizes)
    return _All(
        np.concatenate([one.shapes for one in maps]),
        np.concatenate([one.area_km2 for one in maps]),
        np.concatenate([one.bound_km2 for one in maps]),
        np.concatenate([one.cut for one in maps]),
        np.repeat(np.arange(len(maps)), sizes),
        cell,
        _rows_of(lake, shape[0]),
        _rows_of(cell, shape[0] * shape[1]),
        np.ones(len(lake), dtype=bool),
    )


def _side_by_side(every: _All, of_maps: Sequence[Any], of_dates: Sequence[Any]) -> Flags:
    """Chooses where several maps of a date show a lake; gives the cells in which all of them are put together."""
    joint = np.zeros(len(every.of_cell), dtype=bool)
    for number in _several_maps(every.cell, every.map).tolist():
        (lake, date), rows = divmod(number, len(of_dates)), every.of_cell[number]
        chosen = _whole(every, rows, every.of_lake[lake], of_maps)
        if chosen is None:
            joint[number] = True
            every.cut[rows] &= not _seen_together(every.shapes[rows], of_dates[date])
        else:
            every.keep[rows] = every.map[rows] == chosen
    return joint


def _states(every: _All, unions: Geometries, grounds: Sequence[Any], cut: Flags, step: Step) -> Any:
    """What each date says of each lake: (G, D) of `SEEN` and the others."""
    looked = np.empty(cut.shape, dtype=bool)
    for d, ground in enumerate(grounds):
        looked[:, d] = looked_at(unions, ground)
        step("")
    there = np.array([len(rows) > 0 for rows in every.of_cell], dtype=bool).reshape(cut.shape)
    for g, d in np.argwhere(there & ~cut & ~looked).tolist():
        rows = every.of_cell[g * len(grounds) + d]
        own = rows[every.keep[rows]]
        looked[g, d] = accounted(every.shapes[every.of_lake[g]], every.shapes[own], grounds[d])
    state = np.where(there, SEEN, ABSENT).astype(object)
    state[~looked] = NOT_LOOKED
    state[cut] = CUT
    return state


def _too_small(size_km2: Floats, gsd_m: Floats) -> Flags:
    """(G, D) whether a lake, at its largest, is less than what the pixels of a date can show."""
    found: Flags = size_km2.max(axis=1, initial=0.0)[:, None] < least_km2(np.nan_to_num(gsd_m))
    return found


def _half_seen(dated: Dated, absent: Flags, outlines: Geometries, mapped: Flags, step: Step) -> Flags:
    """(G, D) whether a map of a date that lacks a lake half saw it, as the nearest date that maps it has it."""
    found = np.zeros(absent.shape, dtype=bool)
    for one, d in zip(dated.maps, dated.of.tolist(), strict=True):
        rows = np.flatnonzero(absent[:, d])
        away = np.where(mapped[rows], np.abs(dated.years - dated.years[d]), np.inf)
        found[rows, d] |= half_seen(one, outlines[rows, away.argmin(axis=1)])
        step(one.name)
    return found


def _rows_of(group: Ints, count: int) -> list[Ints]:
    """Rows of each of the groups 0 to count - 1, ascending."""
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=count))[:-1]
    return np.split(order, ends) if count else []


def _several_maps(cell: Ints, of_map: Ints) -> Ints:
    """Cells with outlines of more than one map."""
    pairs = np.unique(np.column_stack([cell, of_map]), axis=0)[:, 0] if len(cell) else cell
    found, count = np.unique(pairs, return_counts=True)
    several: Ints = found[count > 1]
    return several


def _as_one(shapes: Geometries, *, union: bool) -> tuple[Any, int]:
    """Outlines of a lake on a date, and how many they are; those of one map share no ground."""
    if union:
        found = multi(shapely.union_all(shapes))
        return found, len(found.geoms)
    if len(shapes) == 1:
        return multi(shapes[0]), 1
    # those of an inventory of others may share some
    return multi(shapely.union_all(shapes)), len(shapes)


def _together(grounds: Sequence[Any]) -> Any:
    """What maps of a date looked at; None where one of them does not say."""
    if any(ground is None for ground in grounds):
        return None
    ground = shapely.union_all(np.array(grounds, dtype=object)) if len(grounds) > 1 else grounds[0]
    shapely.prepare([ground, *grounds])
    return ground


def _whole(every: _All, rows: Ints, of_lake: Ints, grounds: Sequence[Any]) -> int | None:
    """The map that shows a lake whole, of several that do the one with the least bound for a lake of its size; None
    where none does. By the bound alone the smaller outline would win, whose shore is shorter: areas on ground that
    scenes share would be too small, and those of dates with a single map not.

    A map that does not say what it looked at shows a lake whole where every outline of it is met again.
    """
    found = []
    for number in np.unique(every.map[rows]).tolist():
        own = rows[every.map[rows] == number]
        if every.cut[own].any():
            continue
        ground = grounds[number]
        nowhere = shapely.Polygon() if ground is None else ground
        if accounted(every.shapes[of_lake], every.shapes[own], nowhere):
            size = max(float(every.area[own].sum()), LEAST_KM2)
            found.append((float((every.bound[own] ** 2).sum()) / size, number))
    return min(found)[1] if found else None


def _seen_together(shapes: Geometries, ground: Any) -> bool:
    """Whether a lake that an edge of each map cuts lies within what they looked at together."""
    if ground is None:
        return False
    around = shapely.buffer(shapely.union_all(shapes), EDGE_DEG, quad_segs=1)
    return bool(shapely.contains_properly(ground, around))
