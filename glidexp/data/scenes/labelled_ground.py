"""Ground over which a lake inventory is complete. Beyond it nobody looked for lakes, so no pixel there is a label.

A regional inventory ends at a border, and of a sample of cells only those that were looked at are known. Images stay
as they are, beyond that ground too: a network sees what lies around what it learns.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from glidexp.config import DatasetConfig
from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import cut_at_180, whole_in_degrees
from glidexp.data.scenes.features import columns_of, layer_of, marked, read_features
from glidexp.data.scenes.polygons import Inventory
from glidexp.data.scenes.reading import Scene
from glidexp.errors import DataError

SETTING = "dataset.within"
CHECKED = "checked"
"""column of cells of which only some were looked at, as `glidexp inventory sample` makes them"""


def read_ground(dataset: DatasetConfig) -> Inventory | None:
    """The polygons of `dataset.within`; of those with a column `checked` the ones where it is set. None: not given.

    Raises:
        DataError: as `polygons.read`, or none is checked
    """
    if not dataset.within:
        return None
    path, layer = Path(dataset.within), dataset.within_layer
    found = polygons.read(path, SETTING, layer=layer)
    number = layer_of(path, SETTING, layer)
    if CHECKED not in columns_of(path, SETTING, number):
        return found
    done = marked(read_features(path, SETTING, [CHECKED], number).values[CHECKED], f"{SETTING}={path}: {CHECKED}")
    assert found.rows is not None  # it comes from a file
    if not done[found.rows].any():
        raise DataError(
            f"{SETTING}={path}: no polygon is checked: set the column {CHECKED} to 1 where the lakes were drawn, or "
            "take it out to count all of them."
        )
    return _some(found, done[found.rows])


def lakes_on(ground: Inventory, lakes: Inventory) -> Inventory:
    """The lakes that share ground with it.

    Raises:
        DataError: none does
    """
    met = _tree(ground).query(_degrees(lakes), predicate="intersects")[0]
    kept = np.zeros(len(lakes.geometries), bool)
    kept[met] = True
    if not kept.any() and len(kept):
        raise DataError(
            f"no lake of {lakes.path} lies on {SETTING}={ground.path}: lakes at {polygons.bounds_text(lakes)}, that "
            f"ground at {polygons.bounds_text(ground)}; check the CRS of both."
        )
    return _some(lakes, kept)


def scenes_on(ground: Inventory, scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes that share ground with it.

    Raises:
        DataError: none does
    """
    tree, outlines = _tree(ground), cut_at_180(np.array([scene.outline_lonlat for scene in scenes], object))
    met = {*tree.query(outlines, predicate="intersects")[0].tolist()}
    if not met:
        left, bottom, right, top = shapely.total_bounds(outlines)
        raise DataError(
            f"no scene lies on {SETTING}={ground.path}: that ground is at {polygons.bounds_text(ground)}, scenes at "
            f"longitude {left:.4g} to {right:.4g}, latitude {bottom:.4g} to {top:.4g}; check the CRS of both."
        )
    return [scene for place, scene in enumerate(scenes) if place in met]


def _some(inventory: Inventory, kept: npt.NDArray[np.bool_]) -> Inventory:
    rows = None if inventory.rows is None else inventory.rows[kept]
    parts = {name: getattr(inventory, name)[kept] for name in ("geometries", "ids", "types")}
    return replace(inventory, **parts, rows=rows)


def _degrees(inventory: Inventory) -> npt.NDArray[np.object_]:
    return cut_at_180(whole_in_degrees(inventory.geometries, inventory.crs))


def _tree(ground: Inventory) -> shapely.STRtree:
    return shapely.STRtree(_degrees(ground))
