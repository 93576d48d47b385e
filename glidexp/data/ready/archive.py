"""Ready tiles to a tile store: folders and archives of pictures with labels, the published layout among them.

Such tiles carry no position, unless a table or the file says one (origins.py). What nobody names is shared out in
groups: runs of neighbouring numbers, joined where two tiles show the same ground. Of the published set, val/ is the
test side, and train and val are shared out among the 16,000. Every picture is decoded once: tiles are written as they
come, and get their side when all were seen.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glidexp.config import DatasetConfig, DatasetKind, SplitBy
from glidexp.data import splits
from glidexp.data.builder.parts import writing
from glidexp.data.builder.report import Job, Ledger, check_sides, manifest_of
from glidexp.data.builder.tiling import Survey, choose_tiles, count_by_tile, padded
from glidexp.data.check import duplicates
from glidexp.data.ready.class_maps import ClassTable, cut_pair, read_table
from glidexp.data.ready.groups import group_name, grouped, warn_of_loose
from glidexp.data.ready.layout import GLID_COUNTS, Place, Source, folder_place, glid_places
from glidexp.data.ready.origins import Origin, read_origins, shared_ground
from glidexp.data.ready.pairs import Drawn, Pair, find_pairs
from glidexp.data.ready.pictures import EMPTY, allow_no_position, check_holds_a_tile, read_pair
from glidexp.data.ready.regions import pairs_by_region
from glidexp.data.sensors import RGB
from glidexp.data.workers import in_threads
from glidexp.data.writer import StoreWriter, Tile, measured
from glidexp.errors import ConfigError, DataError

log = logging.getLogger("glidexp")

PUBLISHED_SPLIT_HASH: str | None = None
"""sha256 of the split of the whole published set at val=0.1, seed=0. None: nobody has built it from the published files
yet, so a build tells its hash for others to compare, and can refuse nothing."""
Steps = Callable[..., AbstractContextManager[Callable[[str], None]]]
"""as `shown_steps` of data.steps, which knows whether to show anything"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a thread makes of a pair."""

    look: duplicates.Look
    tiles: list[tuple[int, int, Tile]]
    """row and column in the picture, pixels, and the tile"""
    whole: bool
    """the picture is one tile"""
    size: tuple[int, int]
    """height and width of the picture"""
    label_kind: str
    grey_px: int
    dropped: Counter[str]
    transform: tuple[float, ...] | None
    crs: str


def build_pairs(job: Job, steps: Steps) -> None:
    """Builds a store from ready tiles and writes it to `job.path`.

    Args:
        job: recipe and places; kind folder or glid
        steps: gives, for a number of steps and their unit, a context with the function to call after each

    Raises:
        DataError: a pair incomplete, a picture damaged or of the wrong kind, too few tiles
        ConfigError: a split that needs positions, or another test set than the published one
    """
    split = job.dataset.split
    if split.by != SplitBy.scene:
        raise ConfigError(f"dataset.split.by={split.by.value} needs positions, which ready tiles lack: use scene.")
    if job.dataset.kind == DatasetKind.glid and (split.folds or split.leave_out):
        raise ConfigError(
            f"dataset.split.folds={split.folds}, dataset.split.leave_out={split.leave_out}: the published val is the "
            "test set of dataset=glid; leave both out, or give the tiles as dataset=folder."
        )
    pairs, origins = read_origins(job.dataset.manifest, job.dataset.sensor, find(job.dataset, job.data_dir))
    published = job.dataset.kind == DatasetKind.glid
    ledger = Ledger()
    ledger.pairs.update(_part_of_glid(pair) if published else "pairs" for pair in pairs)
    seen: list[Seen] = []
    table = read_table(job.dataset.classes) if job.dataset.classes else None
    allow_no_position()  # before threads start
    with (
        steps(len(pairs), "tiles") as step,
        writing(job.path, "the same command begins anew"),
        StoreWriter(job.path, tile_px=job.tile_px, bands=RGB) as writer,
    ):
        see = partial(_see_classes, job=job, table=table) if table else partial(_see, job=job)
        for i, (pair, one) in enumerate(in_threads(see, pairs)):
            step(pair.name)
            if origins[i].transform is None and one.transform is not None:
                origins[i] = dataclasses.replace(origins[i], transform=one.transform, crs=one.crs)
            for row, col, tile in one.tiles:
                writer.append(tile, _record(pair.name, origins[i], row, col, one.whole), group=i)
            seen.append(dataclasses.replace(one, tiles=[]))
        sides, units = _share_out(job, pairs, origins, seen, ledger)
        frozen = splits.freeze(job.split_path, splits.Split(rule=splits.rule_of(job.dataset.split), sides=sides))
        if published and ledger.pairs == GLID_COUNTS:
            check_published(frozen)
        places = {i: (place[0], frozen.sides[place[1]]) if place else None for i, place in enumerate(units)}
        writer.settle(places, lambda moves: steps(moves, "moves", what="closing the gaps", late=True))
        for i, one in enumerate(seen):
            if places[i]:
                ledger.lakes["grey_label_px"] += one.grey_px
                ledger.labels[one.label_kind] += 1
                ledger.dropped.update(one.dropped)
        if set(ledger.labels) == {EMPTY} and isinstance(pairs[0].label, Drawn):
            raise DataError(
                f"no outline of dataset.labels={job.dataset.labels} covers a pixel of an image: look at its CRS, and "
                "whether its x are longitudes."
            )
        if not all(origin.split for origin in origins):  # a table that shares out all tiles says what it wants
            check_sides(writer.records, job)
        classes = {"classes": list(table.names)} if table else {}
        writer.close(manifest_of(job, frozen, writer.records, ledger) | classes)


def check_published(split: splits.Split) -> None:
    """Compares the split of the whole published set with the one that is known.

    Raises:
        DataError: another split at the same rule: other files than the published ones, or a change of the rule
    """
    if split.rule["val"] != 0.1 or split.rule["seed"] != 0:
        return
    if PUBLISHED_SPLIT_HASH is None:
        log.info("split of the published GLID: %s (no known one to compare with; quote it beside a score)", split.hash)
    elif split.hash != PUBLISHED_SPLIT_HASH:
        raise DataError(
            f"the split of the published GLID is {split.hash}, but {PUBLISHED_SPLIT_HASH} is known: the files are not "
            "the published ones, or were changed. Compare them with Zenodo record 14838695."
        )


def find(dataset: DatasetConfig, data_dir: Path) -> list[Pair]:
    """The pairs of a data set of ready tiles; RAR archives are unpacked below `data_dir` first.

    Raises:
        DataError: a place missing, an archive refused, files without a partner
    """
    if dataset.kind == DatasetKind.glid:
        places = glid_places(dataset.root)
        return [
            dataclasses.replace(pair, name=pair.name if name == "GLID" else f"{name}/{pair.name}")
            for name in GLID_COUNTS
            for pair in find_pairs(places[name].open(data_dir))
        ]
    if dataset.kind == DatasetKind.glid_transfer:
        return pairs_by_region(dataset, data_dir)
    root = str(dataset.root)
    folder: Source = Path(root)
    if dataset.images == DatasetConfig().images and dataset.labels == DatasetConfig().labels:
        folder = folder_place(root).open(data_dir)
    elif folder.is_file():
        folder = Place(Path(root).stem, Path(root)).open(data_dir)
    return find_pairs(folder, dataset.images, dataset.labels)


def _part_of_glid(pair: Pair) -> str:
    """Folder of the published set that a pair is of; val is its test side."""
    return "val" if pair.name.startswith("val/") else "GLID"


def _see(pair: Pair, job: Job) -> Seen:
    """Decodes a pair and cuts it: one tile, or a grid from the upper left corner where it is larger than a tile."""
    picture, label = read_pair(pair)
    px, (height, width) = job.tile_px, label.lake.shape
    check_holds_a_tile(pair, (height, width), px)
    whole, dropped = (height, width) == (px, px), Counter[str]()
    tiles = []
    if whole and picture.valid is None:  # kept as published, with or without lake
        tiles = [(0, 0, measured(picture.image, label.lake.view(np.uint8)))]
    else:
        valid = np.ones((height, width), dtype=bool) if picture.valid is None else picture.valid
        survey = Survey(np.zeros((0, 0), np.int64), count_by_tile(valid, px), count_by_tile(valid & label.lake, px))
        cells = [(r, c) for r in range(survey.valid_px.shape[0]) for c in range(survey.valid_px.shape[1])]
        one_side: dict[tuple[int, int], splits.Place] = dict.fromkeys(cells, ("", "train"))
        chosen = {(0, 0)} if whole else choose_tiles(pair.name, survey, one_side, job.dataset.empty_share, dropped)
        for r, c in sorted(chosen):
            part = (slice(r * px, (r + 1) * px), slice(c * px, (c + 1) * px))
            tile = measured(*padded(picture.image[part], label.lake[part], valid[part], px))
            tiles.append((r * px, c * px, tile))
    # the published set keeps the split that it was given when small pictures alone decided
    look = duplicates.look(picture.image, grain=job.dataset.kind != DatasetKind.glid)
    place = (picture.transform, picture.crs)
    return Seen(look, tiles, whole, (height, width), label.kind, label.grey_px, dropped, *place)


def _see_classes(pair: Pair, job: Job, table: ClassTable) -> Seen:
    """As `_see`, of an image with a class map."""
    cut, px = cut_pair(pair, table, job.tile_px), job.tile_px
    size = cut.image.shape[:2]
    dropped = Counter(tiles_without_class=cut.left_out)
    look = duplicates.look(cut.image, grain=True)
    return Seen(look, cut.tiles, size == (px, px), size, "classes", 0, dropped, cut.transform, cut.crs)


def _record(name: str, origin: Origin, row: int, col: int, whole: bool) -> dict[str, Any]:
    """The index of a tile, as far as it is known before the ground is shared out."""
    transform = None
    if origin.transform is not None:
        a, b, c, d, e, f = origin.transform
        transform = [a, b, c + a * col + b * row, d, e, f + d * col + e * row]
    return {
        "tile": name if whole else f"{name}_{row}_{col}",
        "scene": origin.scene,
        "sensor": origin.sensor,
        "region": origin.region,
        "gsd_m": origin.gsd_m,
        "row": origin.row + row if origin.row >= 0 else -1,
        "col": origin.col + col if origin.col >= 0 else -1,
        "block": "",
        "split": "",
        "transform": transform,
        "crs": origin.crs if transform else "",
    }


def _share_out(
    job: Job,
    pairs: Sequence[Pair],
    origins: Sequence[Origin],
    seen: Sequence[Seen],
    ledger: Ledger,
) -> tuple[dict[str, str], list[tuple[str, str] | None]]:
    """The side of each ground, and each tile's (unit, ground).

    None stands for a training tile that shows ground of the test side. A group's ground is named by its numbers and by
    what its tiles show.
    """
    if origins and all(origin.split for origin in origins):
        return _as_the_table_says(origins)
    looks = [one.look for one in seen]
    published = job.dataset.kind == DatasetKind.glid
    held = [i for i, pair in enumerate(pairs) if published and _part_of_glid(pair) == "val"]
    links = [*duplicates.same_ground(looks), *shared_ground(origins, [one.size for one in seen])]
    copies = splits.connected(len(pairs), links)
    test = set(held)
    shown_in_test = {i for group in copies if not test.isdisjoint(group) for i in group}
    ledger.dropped["tiles_like_a_test_tile"] += len(shown_in_test) - len(held)
    free = [i for i in range(len(pairs)) if i not in shown_in_test]
    groups = grouped(free, pairs, origins, links)
    warn_of_loose(groups, pairs, origins)
    units, sides = [], {}
    place: list[tuple[str, str] | None] = [None] * len(pairs)
    for members in groups:
        key = group_name([pairs[i].name for i in members], {origins[i].scene for i in members})
        ground = f"{key} {duplicates.digest([looks[i] for i in members])}"
        own = [origins[i] for i in members]
        units.append(splits.Unit.of(ground, splits.joined(one.sensor for one in own), own))
        for i in members:
            place[i] = (key, ground)
    config = job.dataset.split
    if held:
        ground = f"published val {duplicates.digest([looks[i] for i in held])}"
        sides[ground] = "test"
        for i in held:
            place[i] = ("published val" if origins[i].scene == "unknown" else origins[i].scene, ground)
        config = dataclasses.replace(config, test=0.0)
    sides |= splits.choose(units, config)
    for i, at in enumerate(place):
        shown = (origins[i].sensor, origins[i].region)
        if at and config.leave_out and sides[at[1]] == "test" and config.leave_out not in shown:
            ledger.dropped["tiles_on_divided_ground"] += 1
            place[i] = None
    return sides, place


def _as_the_table_says(origins: Sequence[Origin]) -> tuple[dict[str, str], list[tuple[str, str] | None]]:
    """Sides as a table gives them, unit by unit."""
    sides: dict[str, str] = {}
    place: list[tuple[str, str] | None] = []
    for origin in origins:
        unit = origin.block or origin.scene
        key = unit if unit != "unknown" else f"{unit} {origin.split}"
        if sides.setdefault(key, origin.split) != origin.split:
            raise DataError(
                f"dataset.manifest puts tiles of '{key}' on two sides, {sides[key]} and {origin.split}: "
                "one block or scene belongs to one side."
            )
        place.append((unit, key))
    return sides, place
