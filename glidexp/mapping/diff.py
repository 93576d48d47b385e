"""Two inventories compared by ground: lakes that appeared, vanished, grew, shrank, and how sure each change is."""

from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import shapely

from glidexp.data.scenes.degrees import LONLAT
from glidexp.data.scenes.polygons import Geometries
from glidexp.data.scenes.versions import shown
from glidexp.data.splits import connected
from glidexp.mapping.doubt import half_seen
from glidexp.mapping.known_again import accounted, met
from glidexp.mapping.lake_map import Map, least_km2

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
CHANGES = ("appeared", "vanished", "grown", "shrunk", "unchanged", "not_seen", "too_small", "half_seen")
"""not_seen: one map looked at none of it or at a part; too_small: it is less than the other map's pixels can show;
half_seen: the other map's network half saw it. None says anything of a change"""
NO_CHANGE_KNOWN = CHANGES[5:]


def compared(old: Map, new: Map, *, progress: bool = False) -> geopandas.GeoDataFrame:
    """A row a lake, or a group of lakes that split or merged: change (one of `CHANGES`), ids, areas, change_km2 and
    uncertainty_km2, in degrees; the geometry is as it is now, of a vanished lake as it was. `progress` shows how far it
    is.

    Raises:
        DataError: a map's probabilities cannot be read
    """
    n, (first, second) = len(old.shapes), met(old.shapes, new.shapes)
    links = [(a, n + b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    shapely.prepare([one.ground for one in (old, new) if one.ground is not None])
    half = _half_seen(new, old.shapes, first), _half_seen(old, new.shapes, second)
    rows = []
    for group in shown(connected(n + len(new.shapes), links), progress):
        was, now = [i for i in group if i < n], [i - n for i in group if i >= n]
        before, after = float(old.area_km2[was].sum()), float(new.area_km2[now].sum())
        spread = float(np.sqrt((old.bound_km2[was] ** 2).sum() + (new.bound_km2[now] ** 2).sum()))
        shape = shapely.union_all(new.shapes[now] if now else old.shapes[was])
        change = _change(old, new, was, now, after - before, spread, shape)
        if change in ("appeared", "vanished") and (half[0][was].any() or half[1][now].any()):
            change = "half_seen"
        rows.append(
            {
                "change": change,
                "old_ids": ",".join(map(str, old.ids[was])),
                "new_ids": ",".join(map(str, new.ids[now])),
                "old_km2": before,
                "new_km2": after,
                "change_km2": after - before,
                "uncertainty_km2": spread,
                "geometry": shape,
            }
        )
    columns = ["change", "old_ids", "new_ids", "old_km2", "new_km2", "change_km2", "uncertainty_km2", "geometry"]
    return geopandas.GeoDataFrame(rows, columns=columns, geometry="geometry", crs=LONLAT)


def totals(table: geopandas.GeoDataFrame) -> str:
    """The changes in a sentence: lakes by change, and the change of the area of all ground that both looked at."""
    counts = ", ".join(f"{int((table['change'] == name).sum())} {name.replace('_', ' ')}" for name in CHANGES)
    seen = table[~table["change"].isin(NO_CHANGE_KNOWN)]
    spread = float(np.sqrt((seen["uncertainty_km2"] ** 2).sum()))
    old, new = seen["old_km2"].sum(), seen["new_km2"].sum()
    return f"{counts}; {old:.4f} km2 to {new:.4f} km2, {new - old:+.4f} +- {spread:.4f} km2"


def _half_seen(other: Map, shapes: Geometries, known: Ints) -> Flags:
    """(n,) which the other map half saw, of all but those that it has, by their rows."""
    found = np.zeros(len(shapes), dtype=bool)
    alone = np.setdiff1d(np.arange(len(shapes)), known)
    found[alone] = half_seen(other, shapes[alone])
    return found


def _change(old: Map, new: Map, was: list[int], now: list[int], grown: float, spread: float, shape: Any) -> str:
    if not (was and now):
        other, size = (new, old.area_km2[was].sum()) if was else (old, new.area_km2[now].sum())
        if other.ground is not None and not shapely.covers(other.ground, shape):
            return "not_seen"
        if other.gsd_m and size < least_km2(np.array(other.gsd_m)):
            return "too_small"
        return "vanished" if was else "appeared"
    shapes = np.concatenate([old.shapes[was], new.shapes[now]])
    if not (_whole(old, was, shapes) and _whole(new, now, shapes)):
        return "not_seen"
    if abs(grown) <= spread:
        return "unchanged"
    return "grown" if grown > 0 else "shrunk"


def _whole(one: Map, own: list[int], of_lake: Geometries) -> bool:
    """Whether a map shows all of a lake that it has: what its edge cuts has not grown where the other shows the rest.

    Args:
        one: the map
        own: rows of its outlines of the lake
        of_lake: outlines of both maps
    """
    return not one.cut[own].any() and accounted(of_lake, one.shapes[own], one.ground)
