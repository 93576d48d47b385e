"""Lakes known again by their ground, in two maps or in many."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.data.scenes.polygons import Geometries
from glidexp.data.scenes.versions import LINK
from glidexp.data.steps import Step

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def shared(one: Geometries, other: Geometries) -> Flags:
    """Which pairs of outlines are of one lake: a tenth of the smaller is common to both. Broadcasts."""
    common = shapely.area(shapely.intersection(one, other))
    found: Flags = common > LINK * np.minimum(shapely.area(one), shapely.area(other))
    return found


def met(old: Geometries, new: Geometries) -> tuple[Ints, Ints]:
    """Numbers of the outlines of two maps that are of one lake, a pair each."""
    first, second = shapely.STRtree(new).query(old, predicate="intersects")
    linked = shared(old[first], new[second])
    return first[linked], second[linked]


def looked_at(shapes: Geometries, ground: Any) -> Flags:
    """Whether all of the ground of each was looked at; True where that is not known (None)."""
    if ground is None:
        return np.ones(len(shapes), dtype=bool)
    found: Flags = shapely.covers(ground, shapes)
    return found


def accounted(of_lake: Geometries, own: Geometries, ground: Any) -> bool:
    """Whether a map or a date whose outlines are whole says all of a lake: each outline of any is one of these again,
    or lies on ground that was looked at. The outline of the ground is coarse, so that it lacks a strip at the scene's
    edge in which lakes are whole."""
    rest = of_lake[~looked_at(of_lake, ground)]
    return bool(shared(rest[:, None], own[None, :]).any(axis=1).all())


def one_lake(maps: Sequence[Geometries], step: Step) -> Ints:
    """The lake of each outline of all maps, counted from 0, one map after the other.

    Outlines of two maps are of one lake where they share ground, and so are all that hang together by such pairs,
    whatever lies in between: what split or merged is one lake, and so is one that a map in between lacks. Outlines that
    hang together already are not laid over each other again: of lakes that stay, only maps that follow each other are.

    Args:
        maps: outlines, in the order of their dates
        step: told of each round; there is one fewer than maps
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0, *map(len, maps)])
    n = int(starts[-1])
    lake = np.arange(n)
    links: list[tuple[Ints, Ints]] = []
    trees = [shapely.STRtree(shapes) for shapes in maps]
    boxes = [shapely.box(*shapely.total_bounds(shapes)) if len(shapes) else shapely.Polygon() for shapes in maps]
    for apart in range(1, len(maps)):
        for i, j in zip(range(len(maps) - apart), range(apart, len(maps)), strict=True):
            if not shapely.intersects(boxes[i], boxes[j]):
                continue
            first, second = trees[j].query(maps[i])
            new = lake[starts[i] + first] != lake[starts[j] + second]
            first, second = first[new], second[new]
            linked = shared(maps[i][first], maps[j][second])
            links.append((starts[i] + first[linked], starts[j] + second[linked]))
        if links:
            a, b = (np.concatenate(side) for side in zip(*links, strict=True))
            lake = connected_components(coo_array((np.ones(len(a), np.int8), (a, b)), (n, n)), directed=False)[1]
        step("")
    return lake.astype(np.int64)
