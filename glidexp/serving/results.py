"""The files of a request, made from those that `glidexp predict` writes: outlines as GeoJSON, a drawing, pictures."""

import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import rasterio.errors
import shapely
from affine import Affine
from PIL import Image

from glidexp.mapping.areas import plain
from glidexp.mapping.polygons import Geometries
from glidexp.mapping.quicklook import draw
from glidexp.serving.refusal import plain as one_line
from glidexp.wording import many

GEOJSON, DRAWING, GPKG, IMAGE, OVERLAY = "lakes.geojson", "drawing.json", "lakes.gpkg", "image.png", "overlay.png"
MASK, PROBABILITY = "mask.tif", "probability.tif"
PICTURES = {"mask.png": MASK, "probability.png": PROBABILITY}
"""made when they are asked for"""
TYPES = {
    ".geojson": "application/geo+json", ".json": "application/json", ".gpkg": "application/geopackage+sqlite3",
    ".png": "image/png", ".tif": "image/tiff",
}  # fmt: skip
NODATA, STEPS = 255, 254
DIGITS = 7
"""of a degree: a centimetre"""
OF_GROUND = ("lon", "lat", "glacier_distance_m", "within_10km")
"""columns that only a scene with a position has"""


@dataclass(frozen=True, slots=True)
class Result:
    """A mapped scene, as a request is told of it."""

    files: dict[str, Path]
    """by the names above"""
    summary: dict[str, Any] = field(default_factory=dict)


def collect(made: Path, name: str, *, placed: bool, sized: bool, said: list[str], model: str) -> Result:
    """Gathers what was mapped, and writes what the mapping itself does not.

    Args:
        made: folder of the map
        name: of the scene
        placed: whether the scene has a position; else lakes are told in pixels
        sized: whether metres to a pixel are known; else there are no areas
        said: warnings
        model: what names it
    """
    from glidexp.mapping.raster import LOOK_PX  # brings torch, which is not where pictures are served

    base = made / plain(name)
    item = json.loads(base.with_name(f"{base.name}.json").read_text(encoding="utf-8"))["properties"]
    told = {key.removeprefix("glidexp:"): value for key, value in item.items()}
    frame = geopandas.read_parquet(base.with_name(f"{base.name}_lakes.parquet"))
    drawn = in_pixels(frame.geometry.to_numpy(), ~Affine(*told["proj:transform"]))
    height, width = told["proj:shape"]
    summary = {
        "scene": name, "model": model, "width": width, "height": height, "placed": placed,
        "gsd_m": told["gsd"] if sized else None, "lakes": len(frame), "area_px": int(frame["area_px"].sum()),
        "area_km2": float(frame["area_km2"].sum()) if sized else None, "sizes": told["sizes"] if sized else None,
        "threshold": told["threshold"], "stretch": told["stretch"]["from"], "warnings": [one_line(w) for w in said],
    }  # fmt: skip
    table = columns_of(frame, placed=placed, sized=sized)
    files = {
        GEOJSON: _written(made / GEOJSON, features(frame, table, drawn, summary)),
        DRAWING: _written(made / DRAWING, {"width": width, "height": height, "lakes": drawing(table, drawn)}),
        IMAGE: base.with_name(f"{base.name}_image.png"),
        OVERLAY: base.with_name(f"{base.name}_quicklook.png"),
    }
    for target, kind in ((MASK, "mask"), (PROBABILITY, "probability")):
        path = base.with_name(f"{base.name}_{kind}.tif")
        files[target] = path if placed else without_position(path, made / target)
    if not placed or not sized:  # the other has a scale bar, the grid on which the picture was laid, and its north
        title, step = f"{name}: {many(len(frame), 'lake')}", math.ceil(max(height, width) / LOOK_PX)
        title += f", {summary['area_km2']:.3f} km\u00b2" if sized else ""
        look, foot = np.asarray(Image.open(files[IMAGE])), f"position not known, model {model}"
        draw(files[OVERLAY], look, drawn, step=step, gsd_m=summary["gsd_m"], title=title, foot=foot)
    if placed:
        files[GPKG] = base.with_name(f"{base.name}_lakes.gpkg")
    return Result(files, summary)


def in_pixels(shapes: Geometries, to_pixels: Affine) -> Geometries:
    """Outlines in pixels, x to the right and y down."""
    pixels: Geometries = shapely.transform(shapes, lambda x, y: to_pixels @ (x, y), interleaved=False)
    return pixels


def columns_of(frame: pd.DataFrame, *, placed: bool, sized: bool) -> pd.DataFrame:
    """What is said of each lake. Of a picture without position, lakes have numbers for names, and no ground."""
    table = pd.DataFrame(frame.drop(columns="geometry"))
    if not placed:
        table = table.drop(columns=list(OF_GROUND))
        table["lake_id"] = [str(number) for number in range(1, len(table) + 1)]
    if not sized:
        metric = [name for name in table.columns if name.endswith(("_km2", "_km")) or name == "size_class"]
        table = table.drop(columns=metric)
    return table


def features(
    frame: geopandas.GeoDataFrame, table: pd.DataFrame, drawn: Geometries, summary: Mapping[str, Any]
) -> dict[str, Any]:
    """GeoJSON of the lakes: longitude and latitude of WGS 84; without position, pixels to the right and down."""
    shapes = frame.geometry.to_crs(4326).to_numpy() if summary["placed"] else drawn
    shapes = shapely.transform(shapes, lambda xy: xy.round(DIGITS)) if len(shapes) else shapes
    lakes = [
        {"type": "Feature", "properties": row, "geometry": shapely.geometry.mapping(_wound(shape))}
        for row, shape in zip(_rows(table), shapes, strict=True)
    ]
    return {
        "type": "FeatureCollection", "coordinates": "WGS 84" if summary["placed"] else "pixels, right and down",
        "summary": dict(summary), "features": lakes,
    }  # fmt: skip


def drawing(table: pd.DataFrame, drawn: Geometries) -> list[dict[str, Any]]:
    """Lakes as a page draws them: rings in pixels of the scene, and what is said of each."""
    lakes = []
    for row, shape in zip(_rows(table), drawn, strict=True):
        rings = [ring for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]
        told = {
            key: row.get(key) for key in ("lake_id", "area_km2", "area_px", "size_class", "mean_probability", "cut")
        }
        lakes.append(told | {"rings": [shapely.get_coordinates(ring).round(2).tolist() for ring in rings]})
    return lakes


def without_position(source: Path, target: Path) -> Path:
    """A copy of a raster of bytes that says nothing of where it lies."""
    with rasterio.open(source) as seen, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        kind = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NODATA, "compress": "deflate"}
        tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
        with rasterio.open(target, "w", width=seen.width, height=seen.height, **kind, **tiles) as sink:
            for _, window in sink.block_windows(1):
                sink.write(seen.read(1, window=window), 1, window=window)
            sink.set_band_description(1, seen.descriptions[0])
            sink.scales = seen.scales
    return target


def picture(raster: Path, target: Path) -> Path:
    """A PNG of a mask or of probabilities: white is lake, transparent is without data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(raster) as source:
            values = source.read(1)
    steps = 1 if raster.stem.endswith("mask") else STEPS
    # looked up: as numbers with a point a whole scene would take six times its size
    grey = np.minimum(np.rint(np.arange(256, dtype=np.float32) * (255 / steps)), 255).astype(np.uint8)[values]
    alpha = np.where(values == NODATA, np.uint8(0), np.uint8(255))
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(target, format="PNG", compress_level=3)
    return target


def _wound(shape: Any) -> Any:
    """Outer rings against the clock, holes with it, as GeoJSON wants it."""
    parts = shapely.get_parts(shapely.orient_polygons(shape))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON can hold them: what is not known is null."""
    return [{str(key): _json(value) for key, value in row.items()} for row in table.to_dict("records")]


def _json(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
    return path
