"""What is written of a scene once each of its pixels has a probability: mask, outlines with areas, GeoTIFFs, picture.

GDAL writes the GeoTIFFs in threads of their own, meanwhile outlines are made and the picture is drawn.
"""

import math
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from PIL import Image

from glidexp.beside import sweep
from glidexp.data.builder.parts import writing
from glidexp.data.scenes.dem import Dem
from glidexp.data.scenes.polygons import Inventory, polygons_of
from glidexp.data.scenes.reading import Scene
from glidexp.mapping import areas, cog, heights, polygons, raster
from glidexp.mapping.outputs import SUMMARY, lakes_table, write_lakes
from glidexp.mapping.quicklook import draw, write_picture
from glidexp.mapping.settings import MapSettings
from glidexp.mapping.spread import Votes
from glidexp.mapping.workfiles import INVALID, LAKE, LOOK, MARKS, NODATA, PROBABILITY, SPREAD, STEPS, WorkFiles
from glidexp.scoring.labels import threshold_text
from glidexp.wording import many

MASK = "mask.u8"
MASK_OF = np.array([NODATA if mark == INVALID else mark & LAKE for mark in range(256)], np.uint8)
"""value of the mask for each mark"""
LAYERS = ("probability.tif", "spread.tif", "mask.tif", "lakes.gpkg", "lakes.parquet", "quicklook.png", "image.png")
"""endings of the names of what is written"""
MADE = "made"
"""folder of them below that of a scene at work"""
COARSE = 16
"""pixels of a scene to one of the outline of what was looked at"""


def written(
    scene: Scene,
    files: WorkFiles,
    base: Path,
    settings: MapSettings,
    *,
    calibrated: bool,
    model: str,
    glaciers: Inventory | None = None,
    under: Dem | None = None,
    image: bool = False,
) -> tuple[dict[str, Path], geopandas.GeoDataFrame]:
    """Writes all layers of a map beside each other, each aside and renamed.

    Args:
        scene: its header
        files: probability and marks of all rows
        base: path of the layers without what follows the scene's name
        settings: rules for lakes
        calibrated: whether the marks hold a calibrated interval
        model: what names it in the table
        glaciers: for distances
        under: DEM, for heights and slopes of lakes
        image: also the small picture without outlines

    Returns:
        paths by layer, and the lakes

    Raises:
        RunFailed: the disk refuses it
    """
    assets = {name: base.with_name(f"{base.name}_{name}.tif") for name in ("probability", "mask")}
    with writing(base), ThreadPoolExecutor(2) as threads:
        likely = cog.describe(files.folder / PROBABILITY, scene, name="lake probability", scale=1 / STEPS)
        jobs = [threads.submit(cog.write_cog, likely, files.folder / PROBABILITY, assets["probability"], scene)]
        if files.networks:
            assets["spread"] = base.with_name(f"{base.name}_spread.tif")
            apart = cog.describe(files.folder / SPREAD, scene, name="standard deviation of networks", scale=1 / STEPS)
            jobs.append(threads.submit(cog.write_cog, apart, files.folder / SPREAD, assets["spread"], scene))
        outlines, frame, ground = _lakes(scene, files, settings, calibrated, model, glaciers, under)
        lake = cog.describe(files.folder / MASK, scene, name="lake")
        jobs.append(threads.submit(cog.write_cog, lake, files.folder / MASK, assets["mask"], scene))
        assets["lakes"], assets["lakes_parquet"] = write_lakes(frame, ground, base)
        assets["quicklook"] = base.with_name(f"{base.name}_quicklook.png")
        title = f"{scene.name}: {many(len(frame), 'lake')}, {frame['area_km2'].sum():.3f} km\u00b2"
        look, step = files.read(LOOK), raster.look_step(scene)
        foot = _made_of(scene, settings, model)
        draw(
            assets["quicklook"], look, outlines, step=step, gsd_m=scene.gsd_m, title=title, foot=foot,
            north=_north(scene),
        )  # fmt: skip
        if image:
            assets["image"] = write_picture(base.with_name(f"{base.name}_image.png"), Image.fromarray(look))
        for job in jobs:
            job.result()
    return assets, frame


def new_folder(work: Path) -> Path:
    """An empty folder below that of a scene at work, for its layers until all of them are written.

    Raises:
        RunFailed: the disk refuses it
    """
    made = work / MADE
    with writing(made):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
    return made


def put(base: Path, assets: Mapping[str, Path], item: Path) -> None:
    """Renames all files of a map into their places; what an earlier map of the scene has more of goes.

    The earlier item goes first and the new one comes last: it vouches for the layers beside it. With it goes the
    summary of the command that made it, which speaks of maps that are there no more.

    Args:
        base: path of the layers without what follows the scene's name
        assets: layers where they were written
        item: likewise

    Raises:
        RunFailed: the disk refuses it
    """
    place = base.with_name(item.name)
    new = [base.with_name(path.name) for path in assets.values()]
    with writing(place):
        if place.exists():
            place.with_name(SUMMARY).unlink(missing_ok=True)
            place.unlink()
        for kind in LAYERS:
            earlier = base.with_name(f"{base.name}_{kind}")
            sweep(earlier)
            if earlier not in new:
                earlier.unlink(missing_ok=True)
        for path, to in zip(assets.values(), new, strict=True):
            os.replace(path, to)
        os.replace(item, place)


def _made_of(scene: Scene, settings: MapSettings, model: str) -> str:
    """Sensor and date of a scene, what a lake is there, by which model, on which grid: what a caption has to say."""
    code = scene.crs.to_epsg()
    parts = [scene.file.sensor, str(scene.file.date or "date not known")]
    parts += [] if settings.threshold is None else [f"lake from probability {threshold_text(settings.threshold)}"]
    parts += [f"EPSG:{code}"] if code else []
    return ", ".join([*parts, f"model {model}"])


def _north(scene: Scene) -> tuple[float, float]:
    """Pixels to the right and down that lead to grid north."""
    a, b, _, d, e, _ = scene.transform[:6]
    turned = a * e - b * d
    return -b / turned, a / turned


def _lakes(
    scene: Scene,
    files: WorkFiles,
    settings: MapSettings,
    calibrated: bool,
    model: str,
    glaciers: Inventory | None,
    under: Dem | None,
) -> tuple[polygons.Geometries, geopandas.GeoDataFrame, Any]:
    """Outlines in pixels, the table of lakes, the ground that was looked at; the mask's file agrees with them.

    The file is written through memory, which GDAL sees when it opens it: nothing here waits for the disk.
    """
    levels, marks = files.read(PROBABILITY), files.read(MARKS)
    mask = files.drawn(MASK)
    for top in range(0, scene.height, raster.UNIT_PX):
        rows = slice(top, top + raster.UNIT_PX)
        np.take(MASK_OF, marks[rows], out=mask[rows], mode="clip")  # nothing to clip: it spares NumPy a copy
    flat = cog.describe(files.folder / MASK, scene, name="lake", placed=False)
    outlines = polygons.outlines(flat, mask, fill_px=settings.fill_px, min_px=settings.min_px)
    votes = Votes(tuple(map(files.read, files.votes)), files.networks) if files.networks else None
    shapes, table = areas.measured(
        scene, outlines, levels, marks, mask, smooth=settings.smooth, calibrated=calibrated, votes=votes
    )  # fmt: skip
    if settings.min_km2 and len(table):
        small = table["area_km2"].to_numpy() < settings.min_km2
        polygons.burn(outlines[small], mask, 0)
        outlines, shapes, table = outlines[~small], shapes[~small], table[~small].reset_index(drop=True)
    distance = areas.to_ice(scene, shapes, glaciers)
    if under is not None:
        table = table.assign(**heights.of_lakes(scene, outlines, under))
    return outlines, lakes_table(scene, shapes, table, distance, model=model), looked_at(scene, marks)


def looked_at(scene: Scene, marks_HW: Any) -> Any:
    """Outline of the ground with data, in the scene's CRS, from squares of 16 pixels that have data throughout."""
    height, width = marks_HW.shape
    rows, cols = math.ceil(height / COARSE), math.ceil(width / COARSE)
    good = np.ones((rows, cols), np.uint8)
    for row in range(rows):
        invalid = (np.asarray(marks_HW[row * COARSE : (row + 1) * COARSE]) & INVALID).any(axis=0)
        good[row] = ~np.logical_or.reduceat(invalid, np.arange(0, width, COARSE))
    transform = scene.transform @ Affine.scale(COARSE)
    shapes = rasterio.features.shapes(good, mask=good > 0, transform=transform)
    ground = shapely.union_all([shapely.geometry.shape(one) for one, _ in shapes])
    return polygons_of(shapely.intersection(ground, scene.outline))
