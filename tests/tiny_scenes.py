"""Tiny georeferenced scenes and inventories, written where a test wants them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from glidexp.config import DatasetConfig, DatasetKind, SplitBy, SplitConfig

WEST, NORTH = 478_000.0, 3_108_000.0


def write_scene(
    path: Path,
    *,
    width: int = 96,
    height: int = 64,
    gsd_m: float = 10.0,
    west: float = WEST,
    north: float = NORTH,
    crs: str | None = "EPSG:32645",
    dtype: str = "uint16",
    bands: int = 3,
    descriptions: Sequence[str] | None = None,
    pixels: np.ndarray | None = None,
    seed: int = 0,
    **options: Any,
) -> Path:
    """Writes a scene of random values (bands, height, width)."""
    if pixels is None:
        high = 255 if dtype == "uint8" else 4000
        pixels = np.random.default_rng(seed).integers(1, high, (bands, height, width)).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(gsd_m, 0.0, west, 0.0, -gsd_m, north)
    with rasterio.open(
        path, "w", driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=pixels.shape[0],
        dtype=pixels.dtype, crs=crs, transform=transform, **options,
    ) as sink:  # fmt: skip
        sink.write(pixels)
        for number, text in enumerate(descriptions or (), start=1):
            sink.set_band_description(number, text)
    return path


def placed_by_points(path: Path) -> Path:
    """A scene that lies by control points at its corners, and on no grid."""
    corners = [(0, 0), (0, 96), (64, 0), (64, 96)]
    points = [GroundControlPoint(row, col, WEST + 10 * col, NORTH - 10 * row) for row, col in corners]
    with rasterio.open(
        path, "w", driver="GTiff", width=96, height=64, count=3, dtype="uint16", gcps=points, crs="EPSG:32645"
    ) as sink:
        sink.write(np.full((3, 64, 96), 7, np.uint16))
    return path


def two_pages(path: Path, *, thumbnail: bool = False) -> Path:
    """A TIFF of two pictures, or of one and its thumbnail."""
    write_scene(path)
    small = {"width": 12, "height": 8} if thumbnail else {}
    return write_scene(path, seed=1, **small, APPEND_SUBDATASET="YES")


def write_polygons(path: Path, polygons: Sequence[Any], crs: str | None = "EPSG:32645", to: str | None = None) -> Path:
    frame = geopandas.GeoDataFrame({"n": range(len(polygons))}, geometry=list(polygons), crs=crs)
    frame = frame.to_crs(to) if to else frame
    frame.to_file(path, engine="pyogrio")
    return path


def lake(x: float, y: float, radius: float) -> shapely.Polygon:
    """A round lake, metres east and south of the scenes' corner."""
    return shapely.Point(WEST + x, NORTH - y).buffer(radius)


def world(root: Path, *, scenes: int = 4, apart_m: float = 20_000.0, sensor: str = "sentinel2") -> DatasetConfig:
    """Scenes side by side along a row, each with lakes and a glacier; the settings that read them."""
    lakes, ice = [], []
    lines = ["path,scene,sensor,region"]
    for i in range(scenes):
        write_scene(root / f"s{i}.tif", west=WEST + i * apart_m, seed=i)
        lines.append(f"s{i}.tif,s{i},{sensor},{'north' if i % 2 else 'south'}")
        lakes += [lake(i * apart_m + x, y, 60.0) for x, y in ((150, 150), (420, 330), (800, 500))]
        ice.append(lake(i * apart_m + 480, 100, 50.0))
    (root / "scenes.csv").write_text("\n".join(lines) + "\n")
    write_polygons(root / "lakes.gpkg", lakes)
    write_polygons(root / "glaciers.gpkg", ice)
    return DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(root / "scenes.csv"),
        lakes=str(root / "lakes.gpkg"),
        glaciers=str(root / "glaciers.gpkg"),
        split=SplitConfig(by=SplitBy.scene, val=0.25, test=0.25),
    )
