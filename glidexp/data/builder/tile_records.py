"""What is written of a tile, of a lake and of a scene's ice: rows of the index and of the tables that a store keeps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from glidexp.data.scenes import inventory
from glidexp.data.scenes.lake_mask import Share
from glidexp.data.scenes.reading import Scene
from glidexp.data.splits import Place

ROUNDING_PX = 1e-6
"""what a coordinate may lose on its way to pixels"""
STEPS = 20
"""distances to ice that are kept along the length of a buffer: that far from ice they hardly bend in between"""
MOST_STEPS = 256
"""along a side of a scene, so that they cost no more than its pixels do"""


@dataclass(frozen=True, slots=True)
class Shown:
    """A lake's pixels in a tile."""

    tile: str
    top: int
    """first row of the tile in its scene"""
    left: int
    share: Share


def record_of(scene: Scene, tile: dict[str, Any], place: Place) -> dict[str, Any]:
    """The columns of the index that pixels do not give."""
    row, col = tile["row"], tile["col"]
    block, side = place
    corner = scene.transform @ Affine.translation(col, row)
    return {
        "tile": f"{scene.name}_{row}_{col}",
        "scene": scene.name,
        "sensor": scene.file.sensor,
        "region": scene.file.region,
        "gsd_m": scene.gsd_m,
        "row": row,
        "col": col,
        "block": block,
        "split": side,
        "transform": [float(v) for v in corner[:6]],
        "crs": scene.crs_text,
    }


def known_lakes(
    scene: Scene,
    judged: inventory.SceneLakes,
    bounds: npt.NDArray[np.float64],
    shown: Sequence[Shown],
    tile_px: int,
) -> list[dict[str, Any]]:
    """Rows of `store.INVENTORY_SCHEMA`: a row a lake and tile, and one for each lake that is in no tile.

    Args:
        scene: header of the scene
        judged: its lakes
        bounds: (labelled lakes, 4) as `LakeMask.bounds`
        shown: which lakes have pixels in which tiles
        tile_px: side of a tile
    """
    area_km2 = judged.area_px * scene.gsd_m**2 / 1e6
    fate = np.where(judged.far, "far_from_ice", np.where(judged.small, "too_small", "labelled"))
    numbers = judged.labelled

    def row_of(k: int, tile: str, row: int, col: int, px: int, cut: bool) -> dict[str, Any]:
        return {
            "scene": scene.name,
            "lake": judged.ids[k],
            "tile": tile,
            "row": row,
            "col": col,
            "px": px,
            "cut": cut,
            "area_km2": float(area_km2[k]),
            "glacier_distance_m": float(judged.distance_m[k]),
            "lake_type": judged.types[k],
            "fate": str(fate[k]),
        }

    rows = []
    for one in shown:
        lake, row, col, px = one.share
        left, top, right, bottom = bounds[lake].tolist()
        last_row, last_col = min(one.top + tile_px, scene.height), min(one.left + tile_px, scene.width)
        cut = max(one.left - left, one.top - top, right - last_col, bottom - last_row) > ROUNDING_PX
        rows.append(row_of(int(numbers[lake]), one.tile, row, col, px, cut))
    drawn = {int(numbers[one.share[0]]) for one in shown}
    to_pixels = ~scene.transform
    inside = shapely.get_coordinates(shapely.point_on_surface(judged.geometries))
    for k in range(len(judged.geometries)):
        if k not in drawn:
            col, row = to_pixels @ inside[k].tolist()
            rows.append(row_of(k, "", math.floor(row), math.floor(col), 0, False))
    return rows


def known_ice(scene: Scene, ice: inventory.Inventory | None, buffer_m: float) -> list[dict[str, Any]]:
    """The row of `store.ICE_SCHEMA` of a scene; none where no glaciers were given, or no lake is left out for them.

    Args:
        scene: header of the scene
        ice: glacier outlines near it
        buffer_m: lakes farther from ice are left out, metres; 0 keeps all
    """
    if ice is None or buffer_m <= 0:
        return []
    pixel_m = max(scene.pixel_m)
    step = max(int(buffer_m / STEPS / pixel_m), math.ceil(max(scene.height, scene.width) / MOST_STEPS), 1)
    down, across = (math.ceil(side / step) + 1 for side in (scene.height, scene.width))
    row, col = (np.ravel(at * step).astype(np.float64) for at in np.indices((down, across)))
    found = inventory.to_ice(scene, ice, col, row, buffer_m=buffer_m)
    # beyond its reach a distance is only known to be larger; none is infinite, so that any two have a middle
    reach = max(buffer_m, inventory.SEARCH_M) + step * pixel_m
    distance_m = np.minimum(found, reach).astype(np.float32)
    return [{"scene": scene.name, "buffer_m": buffer_m, "step_px": step, "across": across, "distance_m": distance_m}]
