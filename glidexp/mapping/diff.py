"""Two inventories compared by ground: lakes that appeared, vanished, grew, shrank, and how sure each change is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely

from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import LONLAT, cut_at_180, whole_in_degrees
from glidexp.data.scenes.features import GROUND, PARQUET, columns_of, layer_of, read_features
from glidexp.data.scenes.versions import LINK
from glidexp.data.splits import connected
from glidexp.mapping.areas import on_ellipsoid

CHANGES = ("appeared", "vanished", "grown", "shrunk", "unchanged", "not_seen")
"""not_seen: it lies, in part at least, where the other map looked at nothing"""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Map:
    """The lakes of one inventory, in degrees from -180 to 180."""

    shapes: npt.NDArray[np.object_]
    ids: npt.NDArray[np.object_]
    area_km2: Floats
    bound_km2: Floats
    """by how much the area may be off; 0 where nothing is known"""
    ground: Any
    """what was looked at; None where the file does not say"""
    notes: tuple[str, ...]


def read(path: Path, setting: str, gsd_m: float | None, layer: str | None = None) -> Map:
    """Reads outlines with the uncertainty of their areas.

    Args:
        path: any vector file; of one that `glidexp predict` wrote, the columns of the area interval and the ground
        setting: names it in messages
        gsd_m: for half a pixel along the perimeter, where the file has no interval
        layer: of the outlines, where several may hold polygons

    Raises:
        DataError: it cannot be read as outlines
    """
    own = polygons.read(path, setting, layer=layer, none=True)  # all lakes of a map may have vanished
    whole = whole_in_degrees(own.geometries, own.crs)
    area, perimeter = (values / 1e6 for values in on_ellipsoid(whole))
    notes: tuple[str, ...] = ()
    pixel = 0.5 * gsd_m * perimeter if gsd_m else np.zeros(len(area))
    interval = ["lake_id", "area_low_km2", "area_high_km2"]
    taken = layer_of(path, setting, layer)
    if {*interval} <= {*columns_of(path, setting, taken)}:
        known = read_features(path, setting, interval, taken).values
        low, high = (known[name].astype(np.float64) for name in interval[1:])  # nothing becomes NaN
        of = dict(zip(map(str, known["lake_id"].tolist()), ((high - low) / 2).tolist(), strict=True))
        half = np.array([of.get(name, np.nan) for name in own.ids.tolist()], np.float64)
        bound = np.where(np.isnan(half), pixel, half)
        lacking = int(np.isnan(half).sum())
    else:
        bound, lacking = pixel, len(area)
    if lacking and not gsd_m:
        notes += (f"{path.name} gives {lacking} lakes no interval of areas, so each is taken as exact: give --gsd.",)
    ground = None
    if path.suffix.lower() not in PARQUET and any(name == GROUND for name, _ in pyogrio.list_layers(path)):
        frame = geopandas.read_file(path, layer=GROUND)
        ground = shapely.union_all(cut_at_180(whole_in_degrees(frame.geometry.to_numpy(), pyproj.CRS(frame.crs))))
    return Map(cut_at_180(whole), own.ids, area, bound, ground, notes)


def compared(old: Map, new: Map) -> geopandas.GeoDataFrame:
    """A row a lake, or a group of lakes that split or merged: change (one of `CHANGES`), ids, areas, change_km2 and
    uncertainty_km2, in degrees; the geometry is as it is now, of a vanished lake as it was."""
    first, second = shapely.STRtree(new.shapes).query(old.shapes, predicate="intersects")
    common = shapely.area(shapely.intersection(old.shapes[first], new.shapes[second]))
    linked = common > LINK * np.minimum(shapely.area(old.shapes[first]), shapely.area(new.shapes[second]))
    n = len(old.shapes)
    links = [(a, n + b) for a, b in zip(first[linked].tolist(), second[linked].tolist(), strict=True)]
    rows = []
    for group in connected(n + len(new.shapes), links):
        was, now = [i for i in group if i < n], [i - n for i in group if i >= n]
        before, after = float(old.area_km2[was].sum()), float(new.area_km2[now].sum())
        spread = float(np.sqrt((old.bound_km2[was] ** 2).sum() + (new.bound_km2[now] ** 2).sum()))
        shape = shapely.union_all(new.shapes[now] if now else old.shapes[was])
        rows.append(
            {
                "change": _change(old, new, was, now, after - before, spread, shape),
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
    seen = table[table["change"] != "not_seen"]
    spread = float(np.sqrt((seen["uncertainty_km2"] ** 2).sum()))
    old, new = seen["old_km2"].sum(), seen["new_km2"].sum()
    return f"{counts}; {old:.4f} km2 to {new:.4f} km2, {new - old:+.4f} +- {spread:.4f} km2"


def _change(old: Map, new: Map, was: list[int], now: list[int], grown: float, spread: float, shape: Any) -> str:
    other = new.ground if was and not now else old.ground if now and not was else None
    if not (was and now):
        if other is not None and not shapely.covers(other, shape):
            return "not_seen"
        return "vanished" if was else "appeared"
    if abs(grown) <= spread:
        return "unchanged"
    return "grown" if grown > 0 else "shrunk"
