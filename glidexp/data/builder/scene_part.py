"""What is done for one scene alone: its survey and its tiles, by a function that any process or machine may run."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from glidexp.config import DatasetConfig, StretchMethod
from glidexp.data.blocks import BlockPlaces
from glidexp.data.builder.cutting import Window, cut, drawn_windows, new_survey, surveying
from glidexp.data.builder.parts import PartWriter, TilePart, part_name, read_survey, write_survey, writing
from glidexp.data.builder.tile_records import Shown, known_ice, known_lakes, record_of
from glidexp.data.builder.tiling import Cell, Survey, choose_tiles
from glidexp.data.scenes import inventory, stretch
from glidexp.data.scenes.lake_mask import LakeMask
from glidexp.data.scenes.reading import STRIP_PX, Scene
from glidexp.data.scenes.stand import Row
from glidexp.data.scenes.stretch import Stretch
from glidexp.data.scenes.strips import Strip, Strips, read_blocks
from glidexp.data.sharing import RandomPlaces
from glidexp.data.splits import Place, ScenePlaces
from glidexp.data.writer import measured
from glidexp.errors import GlidexpError, RunFailed

Places = ScenePlaces | BlockPlaces | RandomPlaces


@dataclass(frozen=True, slots=True)
class SceneTask:
    """A scene and all that is needed for its tiles."""

    scene: Scene
    stand: tuple[Row, ...]
    """name, size and time of last change of the scene's files"""
    water: inventory.Inventory
    """lakes near the scene"""
    ice: inventory.Inventory | None
    ground: inventory.Inventory | None
    """polygons near the scene beyond which no pixel is labelled; None: there are labels everywhere"""
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
    ice: list[dict[str, Any]]
    """rows of `store.ICE_SCHEMA`"""
    drawn_px: int
    """lake pixels, also where the scene is not valid"""
    anew: bool
    """cut now, not found"""
    empty: bool
    """no pixel is valid: a corner of a large scene"""
    lakes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class SceneValues:
    """How often each value comes in a scene."""

    scene: str
    histogram: npt.NDArray[np.int64]
    """(bands, codes) valid pixels"""
    kind: str
    """of the numbers that the codes stand for"""


@dataclass(slots=True)
class Failed:
    """A scene of which nothing can be made, and why."""

    scene: str
    reason: str


Made = TypeVar("Made", SceneTiles, SceneValues)


def told(work: Callable[[SceneTask], Made]) -> Callable[[SceneTask], Made | Failed]:
    """Gives `Failed` for a scene that cannot be used, so that others go on.

    Raises:
        RunFailed: the disk refuses it, which no other scene would escape
    """

    @wraps(work)
    def tried(task: SceneTask) -> Made | Failed:
        try:
            return work(task)
        except RunFailed:
            raise
        except GlidexpError as error:
            return Failed(task.scene.name, str(error))

    return tried


@told
def survey_task(task: SceneTask) -> SceneValues:
    """Counts a scene's values, for limits that several scenes share, and keeps the survey for `cut_scene`."""
    if task.dataset.stretch.sample_blocks:
        return SceneValues(task.scene.name, _sampled(task), task.scene.numbers)
    with _strips(task) as strips:
        survey = _surveyed(task, _mask(task, _judged(task)), strips.once)
    return SceneValues(task.scene.name, survey.histogram, task.scene.numbers)


@told
def cut_scene(task: SceneTask) -> SceneTiles:
    """Cuts a scene into tiles that lie in a part of their own; what a run before this one left is taken again."""
    scene, px = task.scene, task.tile_px
    judged = _judged(task)
    mask = _mask(task, judged)
    known = _known_limits(task)
    anew = False
    with _strips(task) as strips:
        if known and not (task.dataset.empty_share or task.dataset.overlap_px or _survey_file(task).exists()):
            _in_one_pass(task, mask, known, strips)
            anew = True
        survey = _surveyed(task, mask, strips.kept, values=known is None)
        empty = not survey.valid_px.any()
        limits = known or _fit(task, survey.histogram)
        dropped = Counter(lakes_far_from_ice=int(judged.far.sum()), lakes_too_small=int(judged.small.sum()))
        chosen = _chosen(task, survey, dropped)
        folder = _part_folder(task, limits, chosen)
        part = TilePart.read(folder, px, scene.channels)
        if part is None:
            anew = True
            with PartWriter(folder) as writer, writing(folder):
                for row, col, image, label, shares in cut(
                    scene, mask, _tables(task, limits), chosen, px, strips.once()
                ):
                    writer.add(row, col, measured(image, label), shares)
                part = writer.close(scene.channels)
    records = [record_of(scene, tile, chosen[tile["row"], tile["col"]]) for tile in part.tiles]
    shown = [
        Shown(record["tile"], record["row"], record["col"], share)
        for record, tile in zip(records, part.tiles, strict=True)
        for share in tile["shares"]
    ]
    without_contrast = [high <= low and not empty for low, high in zip(limits.low, limits.high, strict=True)]
    return SceneTiles(
        scene=scene.name,
        part=part,
        limits=limits,
        flat=tuple(compress(task.dataset.bands, without_contrast)),
        records=records,
        known=known_lakes(scene, judged, mask.bounds, shown, px),
        ice=known_ice(scene, task.ice, task.dataset.buffer_m),
        drawn_px=survey.drawn_px,
        anew=anew,
        empty=empty,
        lakes=Counter(in_scenes=len(judged.geometries), labelled=len(judged.kept)),
        dropped=dropped,
    )


def _judged(task: SceneTask) -> inventory.SceneLakes:
    dataset = task.dataset
    return inventory.lakes_of(
        task.scene, task.water, task.ice, buffer_m=dataset.buffer_m, min_lake_px=dataset.min_lake_px
    )


def _mask(task: SceneTask, judged: inventory.SceneLakes) -> LakeMask:
    ground = None if task.ground is None else inventory.ground_of(task.scene, task.ground)
    return LakeMask(task.scene, judged.kept, all_touched=task.dataset.all_touched, ground=ground)


def _strips(task: SceneTask) -> Strips:
    return Strips(task.scene, task.tile_px, task.folder, task.most_px, task.threads)


def _identity(task: SceneTask) -> list[Any]:
    """What decides a scene's survey, beside the settings that name the folder."""
    scene = task.scene
    read = [scene.bands, [path.name for path in scene.paths], scene.file.fill, scene.top, scene.left]
    return [scene.ground, read, task.stand, task.tile_px, task.dataset.overlap_px]


def _sampled(task: SceneTask) -> npt.NDArray[np.int64]:
    """(bands, codes) counts of the blocks that are drawn."""
    counts = stretch.no_counts(task.scene)
    for pixels, valid in read_blocks(task.scene, task.dataset.stretch.sample_blocks):
        stretch.count_values(pixels, valid, counts)
    return counts


def _known_limits(task: SceneTask) -> Stretch | None:
    """Limits that are known before the scene is read as a whole."""
    config = task.dataset.stretch
    if task.limits or not (config.sample_blocks or config.method == StretchMethod.fixed):
        return task.limits
    fixed = config.method == StretchMethod.fixed
    counts = np.ones((task.scene.channels, 1), np.int64) if fixed else _sampled(task)
    return _fit(task, counts) if counts.any() else None


def _fit(task: SceneTask, counts: npt.NDArray[np.int64]) -> Stretch:
    return stretch.fit(counts, task.dataset.stretch, task.scene.terrain, task.scene.numbers)


def _tables(task: SceneTask, limits: Stretch) -> npt.NDArray[np.uint8]:
    return limits.tables(task.scene.numbers, task.scene.terrain)


def _survey_file(task: SceneTask) -> Path:
    return task.folder / f"{part_name(task.scene.name, *_identity(task))}.npz"


def _surveyed(task: SceneTask, mask: LakeMask, source: Callable[[], Iterator[Strip]], values: bool = True) -> Survey:
    """The survey as it was kept, else made from the strips that `source` gives, and kept."""
    survey = read_survey(_survey_file(task))
    if survey is None:
        survey = new_survey(task.scene, task.tile_px)
        overlap = task.dataset.overlap_px
        for _ in surveying(task.scene, mask, task.tile_px, source(), survey, overlap_px=overlap, values=values):
            pass
        write_survey(_survey_file(task), survey)
    return survey


def _in_one_pass(task: SceneTask, mask: LakeMask, limits: Stretch, strips: Strips) -> None:
    """Surveys and cuts at once, and leaves both for `cut_scene`: limits are known, and so is what may be chosen.

    Without tiles that lack lake, outlines say which tiles these are, but for pixels that turn out not to be valid.
    """
    scene, px = task.scene, task.tile_px
    survey = new_survey(scene, px)
    where = _where(task, survey.valid_px.shape, px)
    windows = {w for w in drawn_windows(scene, mask, px) if where[w[0] // px, w[1] // px][1] is not None}
    source = surveying(scene, mask, px, strips.once(), survey, values=False)
    first = task.folder / part_name(scene.name, *_identity(task), limits.to_json(), "in one pass")
    with PartWriter(first) as writer, writing(first):
        for row, col, image, label, shares in cut(scene, mask, _tables(task, limits), windows, px, source):
            tile = measured(image, label)
            if tile.lake_px:
                writer.add(row, col, tile, shares)
        for _ in source:  # what lies below the last tile
            pass
        part = writer.close(scene.channels)
        final = _part_folder(task, limits, {(tile["row"], tile["col"]) for tile in part.tiles})
        shutil.rmtree(final, ignore_errors=True)
        os.replace(first, final)
    write_survey(_survey_file(task), survey)


def _part_folder(task: SceneTask, limits: Stretch, chosen: Iterable[Window]) -> Path:
    return task.folder / part_name(task.scene.name, *_identity(task), limits.to_json(), sorted(chosen))


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
