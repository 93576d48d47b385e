"""Scenes and inventories to tiles, the way the published data set was made.

For each scene: values are counted and stretched to 8 bit, lakes far from ice or too small are dropped, the rest is
rasterised once (a pixel is lake where its centre is), and image and label are cut along one grid from the scene's
upper left corner, without resampling. Tiles that reach over the edge are padded with invalid pixels, so that every
lake pixel of a scene is in a tile at any tile size. Kept are tiles with lake, and of the others in the order of a hash
as many as `empty_share` says, scene by scene and side by side.

What concerns one scene is done in `scene_part`, by one process or many; here the parts are put together in the order
of the scenes, so that the store is the same whoever made them.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.config import DatasetConfig, DatasetKind, SplitBy
from glidexp.data import splits
from glidexp.data.blocks import BlockPlaces
from glidexp.data.builder import seams
from glidexp.data.builder.other_blocks import other_blocks
from glidexp.data.builder.parts import drop_parts, mark_whole, writing
from glidexp.data.builder.report import Job, Ledger, check_lakes, check_sides, manifest_of, warn_of_lost, warn_of_no_ice
from glidexp.data.builder.scene_part import Failed, Made, Places, SceneTask, SceneTiles, cut_scene, survey_task
from glidexp.data.builder.tasks import share_out, tasks_of
from glidexp.data.check import divided
from glidexp.data.scenes import crop, inventory, numbers, polygons, products, stretch, versions
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.copies import tell_copies
from glidexp.data.scenes.labelled_ground import lakes_on, read_ground, scenes_on
from glidexp.data.scenes.reading import Scene, read_header
from glidexp.data.sharing import RandomPlaces
from glidexp.data.steps import untold
from glidexp.data.workers import Crew, cores, mapped
from glidexp.data.writer import StoreWriter
from glidexp.errors import DataError, RunFailed
from glidexp.wording import many

log = logging.getLogger("glidexp")


@dataclass(frozen=True, slots=True)
class Sources:
    """What a store of scenes is built from."""

    files: Sequence[SceneFile]
    """sorted by name"""
    lakes: Path
    glaciers: Path | None
    """may be None when buffer_m is 0"""


def build_scenes(
    job: Job,
    sources: Sources,
    steps: Callable[[int], AbstractContextManager[Callable[[str], None]]],
    *,
    parts: Path,
    crew: Crew | None = None,
    skipped: dict[str, str] | None = None,
) -> None:
    """Builds a store from scenes and writes it to `job.path`.

    Args:
        job: recipe and places
        sources: scenes and outlines
        steps: number of scenes to a context that gives a function to call with a scene's name when it is done
        parts: folder for what is finished of single scenes; kept when the build fails, removed when the store is whole
        crew: who works; by default this process alone
        skipped: scenes to leave out, and why; the manifest names them

    Raises:
        DataError: an input that cannot be used, or no tile for a side that has a share
        ScenesFailed: some of several scenes cannot be used; the others are done and kept
    """
    crew, skipped = crew or Crew(workers=1), skipped or {}
    files = [file for file in sources.files if file.scene not in skipped]
    failed = Failures(alone=len(files) == 1)
    scenes = [scene for scene in _headers(files, job.dataset, failed) if scene.name not in skipped]
    water, ice = polygons.read_both(sources.lakes, sources.glaciers, job.dataset)
    if job.dataset.kind == DatasetKind.scenes:
        tell_copies(water)
    ground, changes = read_ground(job.dataset), versions.since(job.dataset, water)
    beyond = Counter[str]()
    if ground is not None:
        all_scenes, all_lakes = len(scenes), len(water.geometries)
        scenes, water = scenes_on(ground, scenes), lakes_on(ground, water)
        beyond.update(scenes_beyond=all_scenes - len(scenes), lakes_beyond=all_lakes - len(water.geometries))
    inventories = polygons.told_of(water, ice, scenes, ground=ground, aloud=job.dataset.kind == DatasetKind.scenes)
    places = _places(scenes, water, job)
    split = splits.Split(rule=splits.rule_of(job.dataset.split), sides=places.sides)
    if not failed:  # what is frozen is the ground of all scenes
        split = splits.freeze(job.split_path, split)
    workers, most_px = share_out(scenes, job, crew)
    crew = replace(crew, workers=workers)
    threads = 1 if crew.cluster else max(cores() // workers, 1)
    tasks = tasks_of(job, scenes, (water, ice, ground), (places, split.sides), parts, most_px=most_px, threads=threads)
    if job.dataset.stretch.scope != "scene":
        tasks = _with_shared_limits(tasks, job.dataset, crew, failed)
    with steps(len(tasks)) as step:
        done = {tiles.scene: tiles for tiles in _usable(cut_scene, tasks, crew, failed, step)}
    _note_empty(scenes, done, failed)
    failed.check([scene.name for scene in scenes], parts, "done")
    ledger = Ledger(parts=crop.told(scenes, job.dataset.part_km), inventories=inventories, changes=changes)
    ledger.dropped.update(beyond)
    ledger.lakes.update({"read": water.read, "repaired": water.repaired, "unusable": water.unusable})
    _assemble(job, scenes, [done[scene.name] for scene in scenes], split, ledger, (water, skipped))
    drop_parts(parts)


class ScenesFailed(RunFailed):
    """Some of several scenes could not be used; `reasons` says why, by scene."""

    def __init__(self, message: str, reasons: dict[str, str]) -> None:
        super().__init__(message)
        self.reasons = reasons


class Failures(dict[str, str]):
    """By scene, why nothing can be made of it. The only scene of a build ends it at once."""

    def __init__(self, *, alone: bool) -> None:
        super().__init__()
        self._alone = alone

    def note(self, scene: str, reason: str) -> None:
        """Adds one.

        Raises:
            DataError: there is no other scene
        """
        if self._alone:
            raise DataError(reason)
        log.error("scene %s: %s", scene, reason)
        self[scene] = reason

    def check(self, scenes: Sequence[str], parts: Path, state: str) -> None:
        """Refuses a store without scenes that were asked for.

        Args:
            scenes: names of those that were opened
            parts: where what is finished of them lies
            state: how far the others are

        Raises:
            ScenesFailed: there are any
        """
        if not self:
            return
        total = len(self.keys() | set(scenes))
        first = sorted(self.items())[:5]
        more = "" if len(self) == len(first) else f" (and {len(self) - len(first)} more)"
        raise ScenesFailed(
            f"{len(self)} of {many(total, 'scene')} failed, so no store was made: "
            f"{'; '.join(reason.rstrip('.') for _, reason in first)}{more}. The other "
            f"{total - len(self)} are {state} and kept in {parts}. Repair or take out what failed and give the same "
            "command again, or build without it: glidexp data build ... --skip-failed.",
            dict(self),
        )


def _usable(
    work: Callable[[SceneTask], Made | Failed],
    tasks: Sequence[SceneTask],
    crew: Crew,
    failed: Failures,
    step: Callable[[str], None] = untold,
) -> Iterator[Made]:
    """What comes of each scene that can be used; of the others `failed` says why."""
    for made in mapped(work, tasks, workers=crew.workers, cluster=crew.cluster):
        if isinstance(made, Failed):
            failed.note(made.scene, made.reason)
        else:
            yield made
        step(made.scene)


def _headers(files: Sequence[SceneFile], dataset: DatasetConfig, failed: Failures) -> list[Scene]:
    """Headers of the scenes that can be opened; of the others `failed` says why."""
    scenes = []
    # generated scenes are as large as they were asked for, and their recipes know no parts
    part_km = dataset.part_km if dataset.kind == DatasetKind.scenes else 0.0
    for file in files:
        try:
            scenes += crop.parts_of(read_header(file, dataset.bands), part_km)
        except DataError as error:
            failed.note(file.scene, str(error))
    shared = dataset.stretch.scope != "scene" or dataset.stretch.method == "fixed"
    mixed = products.mixed_baselines(f"{file.path} {file.scene}" for file in files) if shared else ""
    for note in [*(note for scene in scenes for note in scene.warnings), *filter(None, [mixed])]:
        log.warning(note)
    if not scenes:
        raise DataError(
            f"none of the {many(len(files), 'scene')} can be used; the first: {next(iter(failed.values()))}"
        )
    return scenes


def _note_empty(scenes: Sequence[Scene], done: dict[str, SceneTiles], failed: Failures) -> None:
    """Scenes of which each part is without a valid pixel fail, as whole ones do."""
    filled = {scene.file.scene for scene in scenes if scene.name not in done or not done[scene.name].empty}
    for scene in scenes:
        if scene.file.scene not in filled | failed.keys():
            why = "nodata, masked or without height in metres" if scene.dem else "nodata or masked"
            reason = f"{scene.file.path} has no valid pixel (all is {why}): take it out."
            if len({other.file.scene for other in scenes}) == 1:
                raise DataError(reason)
            failed.note(scene.file.scene, reason)


def _places(scenes: Sequence[Scene], water: inventory.Inventory, job: Job) -> Places:
    split = job.dataset.split
    if split.by == SplitBy.block:
        return BlockPlaces(scenes, inventory.lonlat_points(water), split)
    if split.by == SplitBy.random:
        return RandomPlaces(scenes, split, job.tile_px)
    return splits.ScenePlaces(scenes, split)


def _with_shared_limits(
    tasks: Sequence[SceneTask], dataset: DatasetConfig, crew: Crew, failed: Failures
) -> list[SceneTask]:
    """The tasks with limits of all scenes of a sensor, or of all scenes; their surveys are kept for the cut.

    Raises:
        ScenesFailed, DataError: a scene failed, without which the limits are not known
    """
    group = {t.scene.name: t.scene.file.sensor if dataset.stretch.scope == "sensor" else "all" for t in tasks}
    sums: dict[str, dict[str, npt.NDArray[np.int64]]] = {}
    for found in _usable(survey_task, tasks, crew, failed):
        of_kind = sums.setdefault(group[found.scene], {})
        of_kind[found.kind] = of_kind.get(found.kind, 0) + found.histogram
    state = "surveyed (dataset.stretch.scope needs all of them before the cut)"
    failed.check([task.scene.name for task in tasks], tasks[0].folder, state)
    limits = {}
    for key, histograms in sums.items():
        kind, total = numbers.together(histograms)
        limits[key] = stretch.fit(total, dataset.stretch, len(dataset.terrain), kind)
    return [replace(task, limits=limits[group[task.scene.name]]) for task in tasks]


def _assemble(
    job: Job,
    scenes: Sequence[Scene],
    done: Sequence[SceneTiles],
    split: splits.Split,
    ledger: Ledger,
    read: tuple[inventory.Inventory, dict[str, str]],
) -> None:
    """Puts the parts of all scenes into one store, in the order of the scenes."""
    water, skipped = read
    for tiles in done:
        ledger.lakes.update(tiles.lakes)
        ledger.dropped.update(tiles.dropped)
        if tiles.empty:
            ledger.dropped["parts_without_valid_pixel"] += 1
        else:
            ledger.stretch[tiles.scene] = tiles.limits.to_json()
        if tiles.flat:
            log.warning(
                "%s: no contrast between the limits of %s, which turns black.", tiles.scene, ", ".join(tiles.flat)
            )
    anew = sum(tiles.anew for tiles in done)
    if anew < len(done):
        log.info("%d of %s done before, taken as they are", len(done) - anew, many(len(done), "scene"))
    check_lakes(scenes, done, water, ledger, job.dataset)
    warn_of_no_ice(done, job.dataset)
    with writing(job.path), StoreWriter(job.path, tile_px=job.tile_px, bands=job.dataset.bands) as writer:
        for tiles in done:
            part = tiles.part
            writer.adopt(part.folder, part.tiles, part.histograms, tiles.records, alone=len(done) == 1)
        better = partial(other_blocks, scenes, water, done, job)
        check_sides(writer.records, job, max(scene.gsd_m for scene in scenes), dropped=ledger.dropped, better=better)
        warn_of_lost({scene.file.sensor for scene in scenes}, writer.records)
        warn_of_lost({scene.file.region for scene in scenes}, writer.records, "region")
        if job.dataset.split.by in (SplitBy.scene, SplitBy.region):
            ledger.seams = seams.across_sides(scenes, writer.records, split.sides, job.tile_px)
            if ledger.seams:
                log.warning("%s.", seams.told(ledger.seams))
        known = [row for tiles in done for row in tiles.known]
        _warn_of_divided(known, writer.records, job)
        manifest = manifest_of(job, split, writer.records, ledger)
        mark_whole(done[0].part.folder.parent, job.path)
        writer.close(
            manifest | ({"skipped": skipped} if skipped else {}),
            inventory=known,
            ice=[row for tiles in done for row in tiles.ice] or None,
        )


def _warn_of_divided(known: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]], job: Job) -> None:
    """Says which lakes tiles of two sides show a part of."""
    if job.dataset.split.by == SplitBy.random or not known:
        return
    found = divided.divided_lakes(pd.DataFrame(known), {record["tile"]: record["split"] for record in records})
    if len(found):
        log.warning("%s.", divided.told(found, splits.rule_of(job.dataset.split)))
