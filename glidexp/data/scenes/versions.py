"""What changed between two versions of an inventory: lakes added, removed, reshaped, split, merged.

Lakes are known again by their ground, not by their id: an editor gives new ids, and a redrawn outline is the same lake.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyproj
import shapely

from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.scenes.degrees import LONLAT, cut_at_180, whole_in_degrees
from glidexp.data.scenes.geopackage import check_out, write_layers
from glidexp.data.scenes.polygons import Inventory, read
from glidexp.data.splits import connected
from glidexp.data.steps import shown_steps
from glidexp.data.store import TileStore
from glidexp.errors import DataError

LINK = 0.1
"""share of the smaller of two outlines that has to be common, for both to be of one lake: neighbours may touch"""
SAME = 0.999
"""IoU from which an outline counts as unchanged: files round coordinates"""
SHOWN = 20
"""lakes that are listed"""
CHANGES = ("added", "removed", "reshaped", "split", "merged")


def changes(old: Inventory, new: Inventory, *, progress: bool = False) -> geopandas.GeoDataFrame:
    """A row a lake that is not as it was.

    Args:
        old: outlines as they were
        new: as they are
        progress: show how far it is, for inventories of tens of thousands of lakes

    Returns:
        in degrees: change (one of `CHANGES`), old_ids, new_ids (several of a split or merged lake, with commas), iou,
        old_km2, new_km2, geometry: as it is now, of a removed lake as it was
    """
    before, after = (cut_at_180(whole_in_degrees(one.geometries, one.crs)) for one in (old, new))
    first, second = shapely.STRtree(after).query(before, predicate="intersects")
    # a degree is not as long east as north, but a share of an area is the same share
    common = shapely.area(shapely.intersection(before[first], after[second]))
    linked = common > LINK * np.minimum(shapely.area(before[first]), shapely.area(after[second]))
    links = [(a, len(before) + b) for a, b in zip(first[linked].tolist(), second[linked].tolist(), strict=True)]
    rows = []
    for group in shown(connected(len(before) + len(after), links), progress):
        was = [n for n in group if n < len(before)]
        now = [n - len(before) for n in group if n >= len(before)]
        one, other = shapely.union_all(before[was]), shapely.union_all(after[now])
        either = shapely.area(shapely.union(one, other))
        iou = float(shapely.area(shapely.intersection(one, other)) / either) if either else 1.0
        if len(was) == 1 and len(now) == 1 and iou >= SAME:
            continue
        rows.append(
            {
                "change": _change(len(was), len(now)),
                "old_ids": ",".join(old.ids[was].tolist()),
                "new_ids": ",".join(new.ids[now].tolist()),
                "iou": iou,
                "old_km2": _km2(one),
                "new_km2": _km2(other),
                "geometry": other if now else one,
            }
        )
    columns = ["change", "old_ids", "new_ids", "iou", "old_km2", "new_km2", "geometry"]
    return geopandas.GeoDataFrame(rows, columns=columns, geometry="geometry", crs=LONLAT)


def shown(groups: list[list[int]], progress: bool) -> Iterator[list[int]]:
    """The same lakes, of two versions, with a bar."""
    with shown_steps(len(groups), "lakes", progress, what="changes", late=True) as step:
        for group in groups:
            yield group
            step("")


def versions_diff(old: Inventory, new: Inventory, *, progress: bool = False) -> dict[str, Any]:
    """The changes in a few numbers, as they go into a manifest: lakes before and after, lakes by change, km2."""
    return summed(changes(old, new, progress=progress)) | {
        "old_lakes": len(old.geometries),
        "new_lakes": len(new.geometries),
    }


def since(dataset: DatasetConfig, new: Inventory) -> dict[str, Any]:
    """What lakes have changed since `dataset.previous`, with the name of that file; empty where none is given.

    Raises:
        DataError: it cannot be read as outlines
    """
    if dataset.kind != DatasetKind.scenes or not dataset.previous:
        return {}
    old = read(dataset.previous, "dataset.previous", layer=dataset.previous_layer)
    return {"file": old.path.name} | versions_diff(old, new, progress=True)


def summed(table: pd.DataFrame) -> dict[str, Any]:
    """Lakes by change, and km2 that came and went."""
    found: dict[str, Any] = {change: int((table["change"] == change).sum()) for change in CHANGES}
    grown = (table["new_km2"] - table["old_km2"]).to_numpy(dtype=np.float64)
    gained, lost = grown[grown > 0].sum(), np.abs(grown[grown < 0]).sum()
    return found | {"gained_km2": round(float(gained), 6), "lost_km2": round(float(lost), 6)}


def store_changes(old: TileStore, new: TileStore) -> pd.DataFrame:
    """A row a lake of two stores that is not as it was, by scene and id: change, scene, old_ids, new_ids, old_km2,
    new_km2, and fate where that changed.

    Raises:
        DataError: one of them comes from no inventory
    """
    before, after = _by_lake(old), _by_lake(new)
    both = before.add_suffix("_old").join(after.add_suffix("_new"), how="outer")
    gone, come = both["fate_new"].isna(), both["fate_old"].isna()
    area = (both["area_km2_new"] - both["area_km2_old"]).abs() > (1 - SAME) * both["area_km2_old"]
    fate = both["fate_new"] != both["fate_old"]
    change = np.select([gone, come, area, fate], ["removed", "added", "reshaped", "fate"], "")
    lakes = both.index.get_level_values("lake").to_numpy(dtype=object)
    table = pd.DataFrame(
        {
            "change": change,
            "scene": both.index.get_level_values("scene").to_numpy(dtype=object),
            "old_ids": np.where(come, "", lakes),
            "new_ids": np.where(gone, "", lakes),
            "old_km2": both["area_km2_old"].fillna(0.0).to_numpy(),
            "new_km2": both["area_km2_new"].fillna(0.0).to_numpy(),
            "fate": [
                f"{a} -> {b}" if f else "" for a, b, f in zip(both["fate_old"], both["fate_new"], fate, strict=True)
            ],
        }
    )
    return table[table["change"] != ""].reset_index(drop=True)


def largest(table: pd.DataFrame, columns: list[str], *, every: str) -> str:
    """The lakes whose area changed most as text, and how many more there are.

    Args:
        table: a row a lake, with old_km2 and new_km2
        columns: that are shown
        every: where all of them are
    """
    order = np.argsort(-(table["new_km2"] - table["old_km2"]).abs().to_numpy(dtype=np.float64), kind="stable")
    shown = table.iloc[order[:SHOWN]][columns]
    more = f"... and {len(table) - SHOWN} that changed less; {every}\n" if len(table) > SHOWN else ""
    return f"{shown.to_string(index=False, float_format='%.4f', na_rep='-')}\n{more}"


def write_changes(table: geopandas.GeoDataFrame, path: Path) -> None:
    """Writes a GeoPackage with a layer a change, aside and renamed."""
    check_out(path)
    met = [name for name in CHANGES if (table["change"] == name).any()]
    layers = {name: table[table["change"] == name] for name in met} or {"changes": table}
    write_layers(path, layers, after="nothing is lost, and the same command compares anew")


def _change(was: int, now: int) -> str:
    if not was or not now:
        return "removed" if was else "added"
    if was == now:
        return "reshaped"
    return "split" if was < now else "merged"


def _km2(geometry: Any) -> float:
    if shapely.is_empty(geometry):
        return 0.0
    area: float = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(geometry))[0]
    return abs(area) / 1e6


def _by_lake(store: TileStore) -> pd.DataFrame:
    known = store.inventory
    if known is None:
        raise DataError(f"{store.path} comes from no inventory: compare the files of outlines instead.")
    return known.groupby(["scene", "lake"])[["area_km2", "fate"]].first()
