"""Scenes and inventories to tiles, the way the published data set was made.

For each scene: values are counted and stretched to 8 bit, lakes far from ice or too small are dropped, the rest is
rasterised once (a pixel is lake where its centre is), and image and label are cut along one grid from the scene's
upper left corner, without overlap and without resampling. Tiles that reach over the edge are padded with invalid
pixels, so that every lake pixel of a scene is in a tile at any tile size. Kept are tiles with lake, and of the others
in the order of a hash as many as `empty_share` says, scene by scene and side by side.
"""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

from glidexp.config import DatasetConfig, SplitBy
from glidexp.data import inventory, splits, stretch
from glidexp.data.blocks import BlockPlaces
from glidexp.data.scenes import RGB, Scene, SceneFile, read_header, read_strips
from glidexp.data.store import INVALID, SPLITS, StoreWriter
from glidexp.errors import DataError

log = logging.getLogger("glidexp")
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Job:
    """What a build needs to know."""

    path: Path
    """final folder of the store"""
    split_path: Path
    """where the split of this ground is frozen"""
    tile_px: int
    dataset: DatasetConfig
    recipe: dict[str, Any]
    recipe_id: str


@dataclass(slots=True)
class Ledger:
    """What was met, kept and dropped: the report in the manifest."""

    lakes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    stretch: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Survey:
    """First look at a scene: everything that must be known before a tile is cut.

    The grids have a cell a tile.
    """

    histogram: Counts
    """(3, 65536) values of valid pixels"""
    valid_px: Counts
    """(rows, cols)"""
    lake_px: Counts
    """(rows, cols) of valid lake pixels"""


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
    scenes = [read_header(file) for file in files]
    for scene in scenes:
        for note in scene.warnings:
            log.warning(note)
    water = inventory.read(lakes, "dataset.lakes")
    ice = inventory.read(glaciers, "dataset.glaciers") if glaciers and job.dataset.buffer_m > 0 else None
    ledger = Ledger()
    ledger.lakes.update({"read": water.read, "repaired": water.repaired, "unusable": water.unusable})
    places = _places(scenes, water, job.dataset)
    split = splits.freeze(job.split_path, splits.Split(rule=_rule(job.dataset), sides=places.sides))
    with StoreWriter(job.path, tile_px=job.tile_px, bands=RGB) as writer:
        for scene in scenes:
            judged = inventory.lakes_of(
                scene, water, ice, buffer_m=job.dataset.buffer_m, min_lake_px=job.dataset.min_lake_px
            )
            ledger.lakes.update({"in_scenes": len(judged.geometries), "labelled": len(judged.kept)})
            ledger.dropped.update(
                {"lakes_far_from_ice": int(judged.far.sum()), "lakes_too_small": int(judged.small.sum())}
            )
            _add_scene(writer, scene, judged.kept, places, split.sides, job, ledger)
            step(scene.name)
        _check_lakes(scenes, water, ledger, job.dataset)
        check_sides(writer.records, job)
        writer.close(manifest_of(job, split, writer.records, ledger))


def _places(
    scenes: Sequence[Scene], water: inventory.Inventory, dataset: DatasetConfig
) -> splits.ScenePlaces | BlockPlaces:
    if dataset.split.by == SplitBy.block:
        return BlockPlaces(scenes, inventory.lonlat_points(water), dataset.split)
    return splits.ScenePlaces(scenes, dataset.split)


def _rule(dataset: DatasetConfig) -> dict[str, Any]:
    split = dataset.split
    rule: dict[str, Any] = {"by": split.by.value, "val": split.val, "test": split.test, "seed": split.seed}
    if split.by == SplitBy.block:
        rule |= {"block_m": split.block_m, "buffer_m": split.buffer_m}
    return rule


def _add_scene(
    writer: StoreWriter,
    scene: Scene,
    lakes: npt.NDArray[np.object_],
    places: splits.ScenePlaces | BlockPlaces,
    sides: dict[str, str],
    job: Job,
    ledger: Ledger,
) -> None:
    """Cuts one scene into the store."""
    mask = LakeMask(scene, lakes)
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
            counts = _count_by_tile(pixels_of, tile_px)
            grid[first : first + len(counts)] += counts
    if not survey.valid_px.any():
        raise DataError(f"{scene.file.path} has no valid pixel (all is nodata or masked): take it out.")
    return survey


def choose_tiles(
    name: str,
    survey: Survey,
    where: dict[tuple[int, int], splits.Place],
    empty_share: float,
    dropped: Counter[str],
) -> set[tuple[int, int]]:
    """Tiles of a scene that go into the store, as (row, col) of the grid.

    Args:
        name: of the scene, part of the hash that orders tiles without lake
        survey: its counts
        where: unit and side of each tile
        empty_share: tiles without lake kept, as a share of those with lake, on each side
        dropped: what is left out is added here, by reason
    """
    chosen: set[tuple[int, int]] = set()
    empty: dict[str, list[tuple[int, int]]] = {side: [] for side in SPLITS}
    with_lake: Counter[str] = Counter()
    for cell, (_, side) in where.items():
        if survey.valid_px[cell] == 0:
            dropped["tiles_without_valid_pixel"] += 1
        elif side is None:
            dropped["tiles_on_divided_ground" + ("" if survey.lake_px[cell] else "_without_lake")] += 1
        elif survey.lake_px[cell]:
            chosen.add(cell)
            with_lake[side] += 1
        else:
            empty[side].append(cell)
    for side, cells in empty.items():
        cells.sort(key=lambda cell: hashlib.sha256(f"{name}/{cell[0]}/{cell[1]}".encode()).digest())
        kept = cells[: math.floor(empty_share * with_lake[side] + 0.5)]
        chosen.update(kept)
        dropped["tiles_without_lake"] += len(cells) - len(kept)
    return chosen


def cut(
    scene: Scene, mask: LakeMask, tables: npt.NDArray[np.uint8], chosen: set[tuple[int, int]], tile_px: int
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
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
            inside = valid[rows, cols]
            height, width = inside.shape
            image = np.zeros((tile_px, tile_px, 3), dtype=np.uint8)
            label = np.full((tile_px, tile_px), INVALID, dtype=np.uint8)
            image[:height, :width] = stretch.apply(pixels[:, rows, cols], tables)
            image[:height, :width][~inside] = 0
            label[:height, :width] = np.where(inside, lake[rows, cols], INVALID)
            yield (r, c), image, label


def _count_by_tile(pixels: npt.NDArray[np.bool_], tile_px: int) -> Counts:
    """True pixels in each square of tile_px of an (H, W) array; the last squares may be incomplete."""
    rows = np.add.reduceat(pixels, np.arange(0, pixels.shape[0], tile_px), axis=0, dtype=np.int64)
    return np.add.reduceat(rows, np.arange(0, pixels.shape[1], tile_px), axis=1)


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


def check_sides(records: Sequence[dict[str, Any]], job: Job) -> None:
    """Refuses a store that lacks tiles of a side that has a share.

    Raises:
        DataError: with the tiles of each side and what to change
    """
    split, found = job.dataset.split, Counter(record["split"] for record in records)
    shares = {"train": 1.0, "val": split.val, "test": split.test}
    lacking = [side for side in SPLITS if shares[side] > 0 and not found[side]]
    if lacking:
        way = "dataset.split.seed"
        if split.by == SplitBy.block:
            way = f"a larger dataset.split.block_m (now {split.block_m:g} m), a smaller tile_size, or another {way}"
        raise DataError(
            f"no tile for {' and '.join(lacking)} ({', '.join(f'{side} {found[side]}' for side in SPLITS)}): try {way}."
        )


def manifest_of(job: Job, split: splits.Split, records: Sequence[dict[str, Any]], ledger: Ledger) -> dict[str, Any]:
    """What the builder knows of a store."""
    by_sensor: dict[str, dict[str, Any]] = {}
    for record in records:
        entry = by_sensor.setdefault(record["sensor"], {"tiles": 0, "train": 0, "val": 0, "test": 0})
        entry["tiles"] += 1
        entry[record["split"]] += 1
    return {
        "recipe": job.recipe,
        "recipe_id": job.recipe_id,
        "split_hash": split.hash,
        "split_rule": split.rule,
        "stretch": ledger.stretch,
        "sensors": dict(sorted(by_sensor.items())),
        "counts": {"tiles": len(records), **{side: sum(r["split"] == side for r in records) for side in SPLITS}},
        "lakes": dict(sorted(ledger.lakes.items())),
        "dropped": {reason: n for reason, n in sorted(ledger.dropped.items()) if n},
    }
