"""What is done for one scene alone: its survey and its tiles, by a function that any process or machine may run."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from glidexp.config import DatasetConfig
from glidexp.data import inventory, stretch
from glidexp.data.blocks import BlockPlaces
from glidexp.data.cutting import Window, cut, survey_scene
from glidexp.data.lake_mask import LakeMask
from glidexp.data.parts import PartWriter, TilePart, part_name, read_survey, write_survey, writing
from glidexp.data.scenes import STRIP_PX, Scene
from glidexp.data.sharing import RandomPlaces
from glidexp.data.splits import Place, ScenePlaces
from glidexp.data.stretch import Stretch
from glidexp.data.strips import Strips
from glidexp.data.tiling import Cell, Survey, choose_tiles
from glidexp.data.writer import measured
from glidexp.errors import GlidexpError, RunFailed

Places = ScenePlaces | BlockPlaces | RandomPlaces


@dataclass(frozen=True, slots=True)
class SceneTask:
    """A scene and all that is needed for its tiles."""

    scene: Scene
    stand: tuple[tuple[str, int, int], ...]
    """name, size and time of last change of the scene's files"""
    water: inventory.Inventory
    """lakes near the scene"""
    ice: inventory.Inventory | None
    places: Places
    sides: dict[str, str]
    dataset: DatasetConfig
    tile_px: int
    folder: Path
    """where parts are kept, the same for all scenes"""
    limits: Stretch | None = None
    """None: the scene's own"""
    most_px: int = STRIP_PX
    """most rows in a strip, where a tile has fewer"""
    threads: int = 1
    """of a process, to decode"""


@dataclass(slots=True)
class SceneTiles:
    """What a scene adds to the store, but for the pixels, which lie in its part."""

    scene: str
    part: TilePart
    limits: Stretch
    flat: tuple[str, ...]
    """bands without contrast between the limits"""
    records: list[dict[str, Any]]
    known: list[dict[str, Any]]
    """rows of `store.INVENTORY_SCHEMA`"""
    drawn_px: int
    """lake pixels, also where the scene is not valid"""
    anew: bool
    """cut now, not found"""
    empty: bool
    """no pixel is valid: a corner of a large scene"""
    lakes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Failed:
    """A scene of which nothing can be made, and why."""

    scene: str
    reason: str


def cut_scene(task: SceneTask) -> SceneTiles | Failed:
    """Cuts a scene into tiles that lie in a part of their own; what a run before this one left is taken again.

    Raises:
        RunFailed: the disk refuses it, which no other scene would escape
    """
    try:
        return _cut(task)
    except RunFailed:
        raise
    except GlidexpError as error:
        return Failed(task.scene.name, str(error))


def survey_task(task: SceneTask) -> tuple[str, npt.NDArray[np.int64]] | Failed:
    """Counts a scene's values, for limits that several scenes share, and keeps the survey for `cut_scene`.

    Returns:
        name of the scene, (bands, 65536) counts
    """
    try:
        with _strips(task) as strips:
            return task.scene.name, _surveyed(task, _mask(task, _judged(task)), strips.once).histogram
    except RunFailed:
        raise
    except GlidexpError as error:
        return Failed(task.scene.name, str(error))


def _judged(task: SceneTask) -> inventory.SceneLakes:
    dataset = task.dataset
    return inventory.lakes_of(
        task.scene, task.water, task.ice, buffer_m=dataset.buffer_m, min_lake_px=dataset.min_lake_px
    )


def _mask(task: SceneTask, judged: inventory.SceneLakes) -> LakeMask:
    return LakeMask(task.scene, judged.kept, all_touched=task.dataset.all_touched)


def _strips(task: SceneTask) -> Strips:
    return Strips(task.scene, task.tile_px, task.folder, task.most_px, task.threads)


def _identity(task: SceneTask) -> list[Any]:
    """What decides a scene's survey, beside the settings that name the folder."""
    scene = task.scene
    read = [scene.bands, [path.name for path in scene.paths], scene.file.fill, scene.top, scene.left]
    return [scene.ground, read, task.stand, task.tile_px, task.dataset.overlap_px]


def _surveyed(task: SceneTask, mask: LakeMask, source: Any) -> Survey:
    """The survey as it was kept, else made from the strips that `source` gives, and kept."""
    file = task.folder / f"{part_name(task.scene.name, *_identity(task))}.npz"
    survey = read_survey(file)
    if survey is None:
        survey = survey_scene(task.scene, mask, task.tile_px, source(), task.dataset.overlap_px)
        write_survey(file, survey)
    return survey


def _cut(task: SceneTask) -> SceneTiles:
    scene, px = task.scene, task.tile_px
    judged = _judged(task)
    mask = _mask(task, judged)
    with _strips(task) as strips:
        survey = _surveyed(task, mask, strips.kept)
        empty = not survey.valid_px.any()
        limits = task.limits or stretch.fit(survey.histogram, task.dataset.stretch)
        dropped = Counter(lakes_far_from_ice=int(judged.far.sum()), lakes_too_small=int(judged.small.sum()))
        chosen = _chosen(task, survey, dropped)
        decides = [*_identity(task), limits.to_json(), sorted(chosen)]
        folder = task.folder / part_name(scene.name, *decides)
        bands = len(scene.bands)
        part = TilePart.read(folder, px, bands)
        anew = part is None
        if part is None:
            with PartWriter(folder) as writer, writing(folder):
                for row, col, image, label, shares in cut(scene, mask, limits.tables(), chosen, px, strips.once()):
                    writer.add(row, col, measured(image, label), shares)
                part = writer.close(bands)
    records = [_record(scene, tile, chosen[tile["row"], tile["col"]]) for tile in part.tiles]
    lakes_of_tiles = [
        (record["tile"], tuple(share))
        for record, tile in zip(records, part.tiles, strict=True)
        for share in tile["shares"]
    ]
    return SceneTiles(
        scene=scene.name,
        part=part,
        limits=limits,
        flat=tuple(
            band
            for band, low, high in zip(task.dataset.bands, limits.low, limits.high, strict=True)
            if high <= low and not empty
        ),
        records=records,
        known=_known_lakes(scene, judged, lakes_of_tiles),
        drawn_px=survey.drawn_px,
        anew=anew,
        empty=empty,
        lakes=Counter(in_scenes=len(judged.geometries), labelled=len(judged.kept)),
        dropped=dropped,
    )


def _chosen(task: SceneTask, survey: Survey, dropped: Counter[str]) -> dict[Window, Place]:
    """First pixel of every tile that is kept, with its unit and side.

    Tiles that overlap are for training: on any other side a pixel would be scored as often as it is in a tile.
    """
    scene, px, overlap = task.scene, task.tile_px, task.dataset.overlap_px
    share = task.dataset.empty_share
    where = _where(task, survey.valid_px.shape, px)
    if not overlap:
        chosen = choose_tiles(scene.name, survey, where, share, dropped)
        return {(r * px, c * px): where[r, c] for r, c in chosen}
    others = {cell: place for cell, place in where.items() if place[1] != "train"}
    chosen = choose_tiles(scene.name, survey, others, share, dropped)
    windows = {(r * px, c * px): others[r, c] for r, c in chosen}
    stride = px - overlap
    denser = Survey(survey.histogram, survey.overlapped_valid_px, survey.overlapped_lake_px)
    where = _where(task, denser.valid_px.shape, stride)
    training = {cell: place for cell, place in where.items() if place[1] == "train"}
    chosen = choose_tiles(scene.name, denser, training, share, dropped)
    return windows | {(r * stride, c * stride): training[r, c] for r, c in chosen}


def _where(task: SceneTask, shape: tuple[int, ...], stride: int) -> dict[Cell, Place]:
    """Unit and side of each cell of a grid with a tile every `stride` pixels."""
    scene, px = task.scene, task.tile_px
    cells = [(r, c) for r in range(shape[0]) for c in range(shape[1])]
    corners = [(r * stride, c * stride) for r, c in cells]
    windows = np.array([(r, c, min(px, scene.height - r), min(px, scene.width - c)) for r, c in corners])
    return dict(zip(cells, task.places.of(scene, windows, task.sides), strict=True))


def _record(scene: Scene, tile: dict[str, Any], place: Place) -> dict[str, Any]:
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
