"""A DEM of a generated scene, as coarse, noisy and old as those that there are of mountains."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glidexp.data.synthetic.regions import REGIONS

if TYPE_CHECKING:
    from glidexp.data.synthetic.world import Plan

CELL_M = 30.0
"""as of the Copernicus DEM and of SRTM"""
LEAST_M, NOISE_M = 2500.0, 1.0
"""height of the lowest ground, and the standard deviation of the error, which neighbours share"""
RIM = 4
"""cells around the scene, so that its edge has slopes, too"""
FLAT_SHARE = 2 / 3
"""of the lakes that were there when the DEM was made, and are flat in it; the others show the ground before"""
Field = NDArray[np.float32]


def write_dem(plan: "Plan", ground: Field, with_lakes: Field, water: NDArray[np.bool_], path: Path) -> None:
    """Writes a GeoTIFF of heights in metres that covers the scene and a rim around it.

    Args:
        plan: the scene
        ground: (side, side) metres, without lakes
        with_lakes: likewise, with lakes that are flat
        water: (side, side) where the lakes are
        path: of the file
    """
    import rasterio
    from affine import Affine
    from rasterio.warp import Resampling, reproject

    rng = np.random.default_rng((*plan.seed, 1))  # of its own: no other file changes
    lakes, count = ndimage.label(water)
    there = np.append(False, rng.random(count) < FLAT_SHARE)[lakes]
    heights = np.where(there, with_lakes, ground).astype(np.float32)
    side = int(np.ceil(plan.side_px * plan.gsd_m / CELL_M))
    crs = f"EPSG:{REGIONS[plan.region].epsg}"
    place = Affine(CELL_M, 0, plan.west_m, 0, -CELL_M, plan.north_m)
    cells = np.full((side, side), np.nan, np.float32)
    reproject(
        heights, cells, src_crs=crs, dst_crs=crs, dst_transform=place, resampling=Resampling.average,
        src_transform=Affine(plan.gsd_m, 0, plan.west_m, 0, -plan.gsd_m, plan.north_m), dst_nodata=np.nan,
    )  # fmt: skip
    error = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1.5)
    cells += (LEAST_M - heights.min() + NOISE_M * error / error.std()).astype(np.float32)
    cells = np.pad(cells, RIM, mode="reflect", reflect_type="odd")  # heights go on beyond the scene
    place, side = place @ Affine.translation(-RIM, -RIM), side + 2 * RIM
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "float32", "nodata": -9999.0,
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "crs": crs, "transform": place,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as sink:
        sink.write(cells, 1)
