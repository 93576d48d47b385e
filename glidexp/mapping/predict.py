"""One scene, from its file to a map of its lakes; called by any process, for as many scenes as there are."""

import hashlib
import logging
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from glidexp.data import sensors
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.dem import read_of
from glidexp.data.scenes.polygons import Inventory
from glidexp.data.scenes.reading import STRIP_PX, Scene
from glidexp.data.scenes.stand import stand
from glidexp.data.scenes.stretch import Stretch
from glidexp.data.scenes.strips import Strips, ahead
from glidexp.data.store import canonical
from glidexp.errors import ConfigError, DataError, GlidexpError, RunFailed
from glidexp.mapping import areas, domain, heights, layers, levels, raster
from glidexp.mapping.network import network, precision_on, predicting
from glidexp.mapping.outputs import by_size
from glidexp.mapping.settings import MapSettings, StretchFrom
from glidexp.mapping.stac import done_before, write_item
from glidexp.mapping.validity import Sample, judge, looked_over, told_of
from glidexp.mapping.windows import Axis, axis, usual_overlap
from glidexp.mapping.workfiles import LAKE, LIKELY, MARKS, SURE, WorkFiles, drop_left
from glidexp.models import catalog, validity
from glidexp.models.card import read_card
from glidexp.models.hardware import failures_told
from glidexp.models.predictor import Predictor
from glidexp.wording import many

log = logging.getLogger("glidexp")
FORMAT = 2
"""raised when the same scene and settings give other files"""
SPREAD_FORMAT = 1
"""likewise, of what a mean of networks leaves besides"""
SURE_FROM = 0.95
MOST_LOGIT = 700.0
"""its exponential is still a number; no probability of a network lies beyond"""
WINDOW_PX = 512
LONGEST_NAME = 215
"""bytes: file systems take 255, and what is written aside (`beside`) and SQLite's journal are named by it"""


@dataclass(frozen=True, slots=True)
class SceneTask:
    """A scene, and all that is needed to map it."""

    file: SceneFile
    bundle: Path
    out: Path
    settings: MapSettings
    model: str
    """what names it in tables"""
    heights: tuple[Path, ...] = ()
    """rasters of a DEM, for the height of lakes; the model's bands come of `file.dem`"""
    glaciers: Inventory | None = None
    ice: tuple[str, int, int] | None = None
    """name, size and time of last change of the glaciers' file"""
    threads: int = 1
    again: bool = False
    """also where it is finished"""
    image: bool = False
    """write the small picture also without outlines"""
    own_sensors: tuple[sensors.Sensor, ...] = ()
    """that the registry lacks in another process"""

    @property
    def base(self) -> Path:
        """Of the map's files, without what their names end with."""
        return self.out / areas.plain(self.file.scene)

    @property
    def aside(self) -> Path:
        """Folder of what is finished of it."""
        return self.base.with_name(f".{self.base.name}.partial")


@dataclass(slots=True)
class SceneMap:
    """What was made of a scene, or why nothing was."""

    scene: str
    lakes: int = 0
    area_km2: float = 0.0
    sizes: list[dict[str, Any]] = field(default_factory=list)
    """rows of `outputs.by_size`"""
    said: list[str] = field(default_factory=list)
    failed: str = ""
    found: bool = False
    """it was finished before"""


class RowStep(Protocol):
    """Told after each row of windows how many there are, of which scene, and whether an earlier process did it."""

    def __call__(self, total: int, name: str, *, before: bool = False) -> None: ...


def untold(total: int, name: str, *, before: bool = False) -> None:
    """A row that nobody is told of."""


def map_scene(task: SceneTask, step: RowStep = untold) -> SceneMap:
    """Maps a scene; a scene that cannot be used is told in the result, so that others go on.

    Args:
        task: the scene
        step: told after each row of windows

    Raises:
        ConfigError: settings that no scene could be mapped with
        RunFailed: the disk refuses it or memory is full, which no other scene would escape
    """
    sensors.add(task.own_sensors)
    try:
        return _mapped(task, step)
    except (ConfigError, RunFailed):
        raise
    except GlidexpError as error:
        return SceneMap(task.file.scene, failed=str(error))


def sides(task_settings: MapSettings, card: dict[str, Any], scene: Scene, stride: int) -> tuple[Axis, Axis]:
    """Windows down and across a scene; `stride` is the network's.

    Raises:
        ConfigError: an overlap of more than half a window
    """
    window = task_settings.window_px or usual_window(card)
    overlap = task_settings.overlap_px or usual_overlap(window)
    if 2 * overlap > window:
        raise ConfigError(f"--overlap={overlap} must be at most half of a window of {window} pixels.")
    return axis(scene.height, window, overlap, stride), axis(scene.width, window, overlap, stride)


def usual_window(card: Mapping[str, Any]) -> int:
    """Side of a window where none is asked for: twice the model's tile, but no more than `WINDOW_PX` through that.

    Of a larger window less is near an edge, where a network knows least. Networks that hold to the size they were made
    for, by attention in windows or places that were learnt, get their tile, and so do those that the catalogue has not.
    """
    tile = int(card.get("tile_px") or WINDOW_PX)
    known = catalog.BACKBONES.get(str(card["architecture"]["backbone"]))
    sized = known is None or bool(known.options)
    return tile if sized else max(tile, min(2 * tile, WINDOW_PX))


def _mapped(task: SceneTask, step: RowStep) -> SceneMap:
    card = read_card(task.bundle)
    scene = domain.header(card, task.file)
    if (long := len(task.base.name.encode())) > LONGEST_NAME:
        raise DataError(
            f"{task.file.path}: the scene's name has {long} bytes, and with more than {LONGEST_NAME} the files of its "
            "map cannot be named by it: rename it, or name it in the column scene of a catalogue."
        )
    said = [*scene.warnings, *domain.outside(card, scene)]
    said += domain.of_another_baseline(card, scene) if task.settings.stretch is StretchFrom.auto else []
    under, words = heights.below(scene, task.heights)
    said += words
    base, aside = task.base, task.aside
    keys = _keys(task, card, scene)
    item = base.with_name(f"{base.name}.json")
    window = task.settings.window_px or usual_window(card)
    known = None if task.again else done_before(item, keys[1])
    if known is not None and known.get("glidexp:window_px") != min(window, scene.height):
        known = None  # mapped when the card told of another tile
    networks = len(card.get("members", ()))
    if known is not None:
        drop_left(aside)
        before = known["glidexp:sizes"]
        said += (known.get("glidexp:validity") or {}).get("said", [])
        return SceneMap(scene.name, before[-1]["lakes"], before[-1]["area_km2"], before, said, found=True)
    torch.set_num_threads(task.threads)
    look = raster.look_shape(scene)
    with WorkFiles(aside, f"{keys[0]} {window}", scene.height, scene.width, look, networks) as files:
        told = rasters(task, card, scene, files, step)
        said += told.pop("said")
        made = layers.new_folder(aside)
        assets, table = layers.written(
            scene, files, made / base.name, task.settings, calibrated=bool(card.get("temperature")), model=task.model,
            glaciers=task.glaciers, under=under, image=task.image,
        )  # fmt: skip
        sizes: list[dict[str, Any]] = [{str(k): v for k, v in row.items()} for row in by_size(table).to_dict("records")]
        clouds = task.file.clouds.name if task.file.clouds else None
        told |= {"sizes": sizes, "warnings": said, "clouds": clouds, "model": task.model, "key": keys[1]}
        told |= {"dem": [path.name for grid in under.grids for path in grid]} if under else {}
        layers.put(base, assets, write_item(made / item.name, scene, assets, told))
        files.drop()
    return SceneMap(scene.name, len(table), float(table["area_km2"].sum()), sizes, said)


def _keys(task: SceneTask, card: dict[str, Any], scene: Scene) -> tuple[str, str]:
    """What names the pixels of a map, and what names all of its files."""
    all_settings = {key: str(value) for key, value in asdict(task.settings).items()}
    later = {key: all_settings.pop(key) for key in ("min_px", "min_km2", "fill_px", "smooth")}
    told = {key: card.get(key) for key in ("threshold", "temperature", "stretch", "tta", "bands", "mean", "std")}
    pixels = [FORMAT, card["weights"]["sha256"], told, scene.ground, scene.bands, task.file.stand, all_settings]
    if card.get("told"):  # then the sensor's name changes what the network answers
        pixels += [card["told"], scene.file.sensor, scene.gsd_m]
    elif card.get("stretch"):  # then it says which of the card's limits are the scene's
        pixels.append(scene.file.sensor)
    if card.get("members"):
        pixels.append({"spread": SPREAD_FORMAT})
    first = hashlib.sha256(canonical(pixels)).hexdigest()
    files: list[Any] = [first, later, task.ice, scene.file.sensor, scene.file.date]
    if task.heights:
        files.append([row for path in read_of(task.heights) for row in stand(path)])
    if card.get("validity"):
        files.append(card["validity"]["sha256"])
    return first, hashlib.sha256(canonical(files)).hexdigest()


def rasters(task: SceneTask, card: dict[str, Any], scene: Scene, files: WorkFiles, step: RowStep) -> dict[str, Any]:
    """Fills the work files with probability and marks, from the first unfinished row of windows on.

    Args:
        task: the scene
        card: of the model
        scene: its header
        files: open
        step: as in `map_scene`

    Returns:
        what is said of the map: stretch, threshold, windows ...

    Raises:
        GlidexpError: settings that are not possible, a scene without data or a damaged one
    """
    settings = task.settings
    predictor = network(task.bundle, card, settings.tta, settings.device)
    answer = predictor.with_each if files.networks else predictor
    predictor.tell(sensor=scene.file.sensor, gsd_m=scene.gsd_m)
    rows, cols = sides(settings, card, scene, predictor.stride)
    device = predictor.mean.device
    precision = precision_on(settings.precision, device)
    threshold = predictor.threshold if settings.threshold is None else settings.threshold
    unit = raster.unit_px(scene)
    limits, words = _limits(task, card, scene, files)
    offset = rows.starts[files.rows] // unit * unit if files.rows < len(rows) else 0
    _go_on(files.rows, len(rows), scene.name, step)
    known = validity.of_bundle(task.bundle, card)
    sample = Sample(scene.height, scene.width, known.tile_px) if known and not files.rows else None
    strips = Strips(raster.below(scene, offset), unit, files.folder, min(unit, STRIP_PX), 2, raster.KEPT_BYTES)
    before, seen = files.rows, 0
    with strips:
        if limits is None and settings.stretch is not StretchFrom.none:
            limits = levels.fitted(strips, card, scene)
        if limits is not None:
            files.limits = np.array([limits.low, limits.high])
        if files.rows < len(rows):
            source = raster.stretched(strips, limits, offset, files, raster.look_step(scene))
            source = ahead(sample.passing(source) if sample else source)
            failures = failures_told("a smaller --batch or --window takes less")
            with closing(source), predicting(device, precision), failures:
                seen = raster.run_windows(
                    source, rows, cols, answer, files, cuts=_cuts(threshold, card), device=device,
                    batch=settings.batch, step=lambda name: step(len(rows), name), name=scene.name,
                )  # fmt: skip
    log.info("%s: stretch %s", scene.name, words)
    verdict = _judged(known, sample, scene, limits, predictor) if known is not None else {}
    seen += raster.windows_with_data(files.read(MARKS), rows, cols, before)
    if not seen:
        raise levels.void(scene)
    where = {"window_px": rows.window, "windows": [len(rows), len(cols)], "windows_seen": seen}
    return {
        "said": verdict.get("said", []),
        "validity": verdict or None,
        "stretch": {"from": words, **(limits.to_json() if limits else {})},
        "threshold": threshold,
        "precision": str(precision),
        **where,
        "tta": str(settings.tta or card.get("tta", "none")),
    }


def _judged(
    known: validity.Validity, sample: Sample | None, scene: Scene, limits: Stretch | None, predictor: Predictor
) -> dict[str, Any]:
    """What the scene's tiles are against those of training, as the item of the map tells it."""
    sample = sample or looked_over(scene, known.tile_px, limits)  # rows of a killed run did not come by
    return told_of(judge(known, sample, scene.file.sensor, predictor), scene.name)


def _go_on(done: int, rows: int, name: str, step: RowStep) -> None:
    """Says with which row of windows a map goes on, and counts those that were finished before."""
    if done == rows:
        log.info("%s: %s of windows, all finished before", name, many(rows, "row"))
    elif done:
        log.info("%s: goes on with row %d of %d of windows", name, done + 1, rows)
    for _ in range(done):
        step(rows, name, before=True)


def _limits(task: SceneTask, card: dict[str, Any], scene: Scene, files: WorkFiles) -> tuple[Stretch | None, str]:
    """Limits of the stretch, None where they are still to be fitted or none are wanted, and whose they are."""
    limits, words = levels.limits_asked(task.settings.stretch, card, scene)
    if files.limits is not None:  # a run that was killed has fitted them
        limits = Stretch(low=tuple(files.limits[0].tolist()), high=tuple(files.limits[1].tolist()))
    return limits, words


def _cuts(threshold: float, card: dict[str, Any]) -> dict[int, float]:
    """Probabilities of the network at the threshold, and where a calibrated one, if there is one, is 0.05 and 0.95."""
    if not card.get("temperature"):
        return {LAKE: threshold}
    logit = min(math.log(SURE_FROM / (1 - SURE_FROM)) * float(card["temperature"]), MOST_LOGIT)
    return {LAKE: threshold, LIKELY: 1 / (1 + math.exp(logit)), SURE: 1 / (1 + math.exp(-logit))}


def total_by_size(maps: list[SceneMap]) -> pd.DataFrame:
    """Lakes and km2 of all scenes by size class."""
    rows = pd.DataFrame([row for one in maps for row in one.sizes])
    return rows.groupby("size_class", sort=False).sum().reset_index() if len(rows) else rows
