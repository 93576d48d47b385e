"""Scenes and inventories to tiles, the way the published data set was made.

For each scene: values are counted and stretched to 8 bit, lakes far from ice or too small are dropped, the rest is
rasterised once (a pixel is lake where its centre is), and image and label are cut along one grid from the scene's
upper left corner, without overlap and without resampling. Tiles that reach over the edge are padded with invalid
pixels, so that every lake pixel of a scene is in a tile at any tile size. Kept are tiles with lake, and of the others
in the order of a hash as many as `empty_share` says, scene by scene and side by side.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

from glidexp.config import DatasetConfig, SplitBy
from glidexp.data import crop, inventory, splits, stretch
from glidexp.data.blocks import BlockPlaces
from glidexp.data.catalogue import SceneFile
from glidexp.data.report import Job, Ledger, check_sides, manifest_of, warn_of_lost
from glidexp.data.scenes import RGB, Scene, read_header, read_strips
from glidexp.data.sharing import RandomPlaces
from glidexp.data.store import LAKE
from glidexp.data.tiling import Cell, Survey, choose_tiles, count_by_tile, padded
from glidexp.data.writer import StoreWriter
from glidexp.errors import DataError

log = logging.getLogger("glidexp")


class LakeMask:
    """Rasterises a scene's lakes strip by strip, on one grid: a pixel is lake where its centre lies in a polygon."""

    def __init__(self, scene: Scene, lakes: npt.NDArray[np.object_]) -> None:
        self._width = scene.width
        to_pixels = ~scene.transform
        a, b, c, d, e, f = to_pixels[:6]
        # in pixel coordinates strips differ by a whole number, so that they agree along their seams
        self._shapes = shapely.transform(
            lakes, lambda p: np.column_stack([a * p[:, 0] + b * p[:, 1] + c, d * p[:, 0] + e * p[:, 1] + f])
        )
        self._tree = shapely.STRtree(self._shapes)

    def strip(self, top: int, height: int) -> npt.NDArray[np.bool_]:
        """(height, width) of the rows from `top` on."""
        found = np.sort(self._tree.query(shapely.box(0, top, self._width, top + height)))
        if len(found) == 0:
            return np.zeros((height, self._width), dtype=bool)
        mask = rasterize(
            self._shapes[found].tolist(),
            out_shape=(height, self._width),
            transform=Affine.translation(0, top),
            dtype="uint8",
        )
        return mask.astype(bool)

    def shares(self, top: int, left: int, label: npt.NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
        """Which lakes have pixels in a tile.

        Args:
            top: first row of the tile
            left: its first column
            label: (H, W) of 0, 1, 255

        Returns:
            number of the lake, one of its labelled pixels (row, col in the scene), how many it has in the tile. A
            pixel of two polygons counts for the later one.
        """
        height, width = label.shape
        found = np.sort(self._tree.query(shapely.box(left, top, left + width, top + height)))
        if len(found) == 0:
            return []
        owner = rasterize(
            zip(self._shapes[found].tolist(), range(1, len(found) + 1), strict=True),
            out_shape=(height, width),
            transform=Affine.translation(left, top),
            dtype="int32",
        )
        owner[label != LAKE] = 0
        flat = np.flatnonzero(owner)
        lakes, first, px = np.unique(owner.ravel()[flat], return_index=True, return_counts=True)
        return [
            (int(found[lake - 1]), top + int(flat[at]) // width, left + int(flat[at]) % width, int(n))
            for lake, at, n in zip(lakes, first, px, strict=True)
        ]


def build_scenes(
    job: Job, files: Sequence[SceneFile], lakes: Path, glaciers: Path | None, step: Callable[[str], None]
) -> None:
    """Builds a store from scenes and writes it to `job.path`.

    Args:
        job: recipe and places
        files: scenes, sorted by name
        lakes: lake outlines
        glaciers: glacier outlines; may be None when buffer_m is 0
        step: called with a scene's name when it is done

    Raises:
        DataError: an input that cannot be used, or no tile for a side that has a share
    """
    scenes = [part for file in files for part in crop.parts_of(read_header(file), job.dataset.part_km)]
    for scene in scenes:
        for note in scene.warnings:
            log.warning(note)
    water = inventory.read(lakes, "dataset.lakes", type_column=job.dataset.lake_type_column)
    ice = inventory.read(glaciers, "dataset.glaciers") if glaciers else None
    known: list[dict[str, Any]] = []
    ledger = Ledger(parts=crop.told(scenes, job.dataset.part_km))
    ledger.lakes.update({"read": water.read, "repaired": water.repaired, "unusable": water.unusable})
    places = _places(scenes, water, job)
    split = splits.freeze(job.split_path, splits.Split(rule=splits.rule_of(job.dataset.split), sides=places.sides))
    with StoreWriter(job.path, tile_px=job.tile_px, bands=RGB) as writer:
        for scene in scenes:
            judged = inventory.lakes_of(
                scene, water, ice, buffer_m=job.dataset.buffer_m, min_lake_px=job.dataset.min_lake_px
            )
            ledger.lakes.update({"in_scenes": len(judged.geometries), "labelled": len(judged.kept)})
            ledger.dropped.update(
                {"lakes_far_from_ice": int(judged.far.sum()), "lakes_too_small": int(judged.small.sum())}
            )
            known += _add_scene(writer, scene, judged, places, split.sides, job, ledger)
            step(scene.name)
        _check_lakes(scenes, water, ledger, job.dataset)
        check_sides(writer.records, job, max(scene.gsd_m for scene in scenes))
        warn_of_lost({file.sensor for file in files}, writer.records)
        writer.close(manifest_of(job, split, writer.records, ledger), inventory=known)


def _places(
    scenes: Sequence[Scene], water: inventory.Inventory, job: Job
) -> splits.ScenePlaces | BlockPlaces | RandomPlaces:
    split = job.dataset.split
    if split.by == SplitBy.block:
        return BlockPlaces(scenes, inventory.lonlat_points(water), split)
    if split.by == SplitBy.random:
        return RandomPlaces(scenes, split, job.tile_px)
    return splits.ScenePlaces(scenes, split)


def _add_scene(
    writer: StoreWriter,
    scene: Scene,
    judged: inventory.SceneLakes,
    places: splits.ScenePlaces | BlockPlaces | RandomPlaces,
    sides: dict[str, str],
    job: Job,
    ledger: Ledger,
) -> list[dict[str, Any]]:
    """Cuts one scene into the store and gives its lakes as the store's inventory has them."""
    mask = LakeMask(scene, judged.kept)
    shares: list[tuple[str, tuple[int, int, int, int]]] = []
    survey = survey_scene(scene, mask, job.tile_px)
    limits = stretch.fit(survey.histogram, job.dataset.stretch)
    flat = [band for band, low, high in zip(RGB, limits.low, limits.high, strict=True) if high <= low]
    if flat:
        log.warning("%s: no contrast between the limits of %s, which turns black.", scene.file.path, ", ".join(flat))
    ledger.stretch[scene.name] = limits.to_json()
    cells = [(r, c) for r in range(survey.valid_px.shape[0]) for c in range(survey.valid_px.shape[1])]
    px = job.tile_px
    windows = np.array(
        [(r * px, c * px, min(px, scene.height - r * px), min(px, scene.width - c * px)) for r, c in cells]
    )
    where = dict(zip(cells, places.of(scene, windows, sides), strict=True))
    chosen = choose_tiles(scene.name, survey, where, job.dataset.empty_share, ledger.dropped)
    for cell, image, label in cut(scene, mask, limits.tables(), chosen, px):
        row, col = cell[0] * px, cell[1] * px
        block, side = where[cell]
        corner = scene.transform @ Affine.translation(col, row)
        record = {
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
        writer.add(image, label, record)
        shares += [(str(record["tile"]), share) for share in mask.shares(row, col, label)]
    return _known_lakes(scene, judged, shares)


def _known_lakes(
    scene: Scene, judged: inventory.SceneLakes, shares: Sequence[tuple[str, tuple[int, int, int, int]]]
) -> list[dict[str, Any]]:
    """Rows of `store.INVENTORY_SCHEMA`: a row a lake and tile, and one for each lake that is in no tile."""
    area_km2 = judged.area_px * scene.gsd_m**2 / 1e6
    fate = np.where(judged.far, "far_from_ice", np.where(judged.small, "too_small", "labelled"))
    numbers = judged.labelled

    def row_of(k: int, tile: str, row: int, col: int, px: int) -> dict[str, Any]:
        return {
            "scene": scene.name,
            "lake": judged.ids[k],
            "tile": tile,
            "row": row,
            "col": col,
            "px": px,
            "area_km2": float(area_km2[k]),
            "glacier_distance_m": float(judged.distance_m[k]),
            "lake_type": judged.types[k],
            "fate": str(fate[k]),
        }

    rows = [row_of(int(numbers[lake]), tile, row, col, px) for tile, (lake, row, col, px) in shares]
    drawn = {int(numbers[lake]) for _, (lake, *_) in shares}
    a, b, c, d, e, f = (~scene.transform)[:6]
    inside = shapely.get_coordinates(shapely.point_on_surface(judged.geometries))
    for k in range(len(judged.geometries)):
        if k not in drawn:
            x, y = inside[k].tolist()
            rows.append(row_of(k, "", math.floor(d * x + e * y + f), math.floor(a * x + b * y + c), 0))
    return rows


def survey_scene(scene: Scene, mask: LakeMask, tile_px: int) -> Survey:
    """Counts a scene's values, and each tile's valid and lake pixels.

    Raises:
        DataError: no valid pixel, or unreadable
    """
    shape = (math.ceil(scene.height / tile_px), math.ceil(scene.width / tile_px))
    survey = Survey(np.zeros((3, stretch.LEVELS), np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    for top, pixels, valid in read_strips(scene, tile_px):
        stretch.count_values(pixels, valid, survey.histogram)
        first = top // tile_px
        for grid, pixels_of in ((survey.valid_px, valid), (survey.lake_px, valid & mask.strip(top, len(valid)))):
            counts = count_by_tile(pixels_of, tile_px)
            grid[first : first + len(counts)] += counts
    if not survey.valid_px.any():
        raise DataError(f"{scene.file.path} has no valid pixel (all is nodata or masked): take it out.")
    return survey


def cut(
    scene: Scene, mask: LakeMask, tables: npt.NDArray[np.uint8], chosen: set[Cell], tile_px: int
) -> Iterator[tuple[Cell, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Chosen tiles of a scene, row by row.

    Yields:
        cell of the grid, image (tile_px, tile_px, 3), label (tile_px, tile_px) of 0, 1, 255
    """
    for top, pixels, valid in read_strips(scene, tile_px):
        cells = sorted(cell for cell in chosen if 0 <= cell[0] * tile_px - top < len(valid))
        if not cells:
            continue
        lake = mask.strip(top, len(valid))
        for r, c in cells:
            rows = slice(r * tile_px - top, min((r + 1) * tile_px - top, len(valid)))
            cols = slice(c * tile_px, min((c + 1) * tile_px, scene.width))
            colours = stretch.apply(pixels[:, rows, cols], tables)
            yield (r, c), *padded(colours, lake[rows, cols], valid[rows, cols], tile_px)


def _check_lakes(scenes: Sequence[Scene], water: inventory.Inventory, ledger: Ledger, dataset: DatasetConfig) -> None:
    """Refuses a build without a labelled lake, which mostly is a wrong CRS."""
    if ledger.lakes["in_scenes"] == 0:
        left, bottom, right, top = shapely.total_bounds([scene.outline_lonlat for scene in scenes])
        raise DataError(
            f"no lake of {water.path} lies in a scene: lakes at {inventory.bounds_text(water)}, scenes at "
            f"longitude {left:.4g} to {right:.4g}, latitude {bottom:.4g} to {top:.4g}; check the CRS of both."
        )
    if ledger.lakes["labelled"] == 0:
        raise DataError(
            f"all {ledger.lakes['in_scenes']} lakes in the scenes were dropped (far from ice "
            f"{ledger.dropped['lakes_far_from_ice']}, too small {ledger.dropped['lakes_too_small']}): raise "
            f"dataset.buffer_m={dataset.buffer_m:g} or lower dataset.min_lake_px={dataset.min_lake_px:g}."
        )
