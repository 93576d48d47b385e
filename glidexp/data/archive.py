"""Ready tiles in the published layout, images/N.png beside labels/N.png, to a tile store.

Such tiles carry no position. A CSV may say where each comes from (tile, scene, sensor, region, gsd_m, row, col); tiles
it does not name are shared out in groups: runs of neighbouring numbers, joined where two tiles show the same ground.
Of the published set, val/ is the test side, and train and val are shared out among the 16,000.
"""

import csv
import dataclasses
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from glidexp.config import DatasetConfig, DatasetKind, SplitBy
from glidexp.data import duplicates, sensors, splits
from glidexp.data.pairs import Pair, find_pairs, read_image, read_pair
from glidexp.data.report import Job, Ledger, check_sides, manifest_of
from glidexp.data.scenes import RGB
from glidexp.data.tiling import Survey, choose_tiles, count_by_tile, padded
from glidexp.data.writer import StoreWriter
from glidexp.errors import ConfigError, DataError

log = logging.getLogger("glidexp")

PUBLISHED_PAIRS = 16000 + 2367
PUBLISHED_SPLIT_HASH: str | None = None
"""sha256 of the split of the whole published set at val=0.1, seed=0. None: nobody has built it from the published files
yet, so a build tells its hash for others to compare, and can refuse nothing."""
RUN = 100
"""most neighbouring numbers in one group"""
RUNS = 40
"""groups that a small folder is cut into at least, as far as it has tiles"""
COLUMNS = ("tile", "scene", "sensor", "region", "gsd_m", "row", "col")
Steps = Callable[[int], AbstractContextManager[Callable[[str], None]]]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tile comes from, as far as somebody says."""

    scene: str = "unknown"
    sensor: str = sensors.UNKNOWN
    region: str = "unknown"
    gsd_m: float = math.nan
    row: int = -1
    col: int = -1


def build_pairs(job: Job, steps: Steps) -> None:
    """Builds a store from ready tiles and writes it to `job.path`.

    Args:
        job: recipe and places; kind folder or glid
        steps: gives, for a number of steps, a context with the function to call after each

    Raises:
        DataError: a pair incomplete, a picture damaged or of the wrong kind, too few tiles
        ConfigError: by=block, which needs positions
    """
    if job.dataset.split.by == SplitBy.block:
        raise ConfigError("dataset.split.by=block needs positions, which ready tiles lack: use scene.")
    pairs = _find(job.dataset)
    origins = _origins(job.dataset, pairs)
    ledger = Ledger()
    with steps(2 * len(pairs)) as step:
        looks = list(_in_threads(_look, pairs, step))
        sides, units = _share_out(job, pairs, origins, looks, ledger)
        split = splits.freeze(job.split_path, splits.Split(rule=splits.rule_of(job.dataset.split), sides=sides))
        if job.dataset.kind == DatasetKind.glid and len(pairs) == PUBLISHED_PAIRS:
            check_published(split)
        with StoreWriter(job.path, tile_px=job.tile_px, bands=RGB) as writer:
            for i, (image, valid, lake, grey) in enumerate(_in_threads(read_pair, pairs, step)):
                place = units[i]
                if place is None:
                    continue
                ledger.lakes["grey_label_px"] += grey
                side = split.sides[place[1]]
                _add(writer, pairs[i], origins[i], (place[0], side), (image, valid, lake), job, ledger)
            check_sides(writer.records, job)
            writer.close(manifest_of(job, split, writer.records, ledger))


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


def _look(pair: Pair) -> duplicates.Look:
    return duplicates.look(read_image(pair.image)[0])


def _find(dataset: DatasetConfig) -> list[Pair]:
    root = Path(dataset.root or "")
    if dataset.kind == DatasetKind.folder:
        return find_pairs(root)
    return [
        *find_pairs(root / "GLID"),
        *(dataclasses.replace(p, name=f"val/{p.name}") for p in find_pairs(root / "val")),
    ]


def _origins(dataset: DatasetConfig, pairs: Sequence[Pair]) -> list[Origin]:
    """What is known of each tile."""
    said: dict[str, Origin] = {}
    if dataset.manifest:
        path = Path(dataset.manifest)
        try:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                rows = list(csv.DictReader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"dataset.manifest={path} cannot be read as a table in UTF-8: {error}.") from None
        if rows and "tile" not in rows[0]:
            raise DataError(f"{path} has no column 'tile': its first line must be like {','.join(COLUMNS)}.")
        said = {row["tile"].strip().removesuffix(".png"): _origin(path, row, dataset.sensor) for row in rows}
        lost = sorted(said.keys() - {pair.name for pair in pairs})
        if lost:
            raise DataError(f"{path} names {len(lost)} tiles that are not there, first '{lost[0]}': correct it.")
    return [said.get(pair.name) or _origin(Path(), {}, dataset.sensor) for pair in pairs]


def _origin(path: Path, row: Mapping[str, str | None], sensor: str) -> Origin:
    text = {key: (value or "").strip() for key, value in row.items() if key is not None}
    name = text.get("sensor") or sensor
    nominal = sensors.get(name, f"sensor in {path}" if row else "dataset.sensor").gsd_m
    try:
        return Origin(
            scene=text.get("scene") or "unknown",
            sensor=name,
            region=text.get("region") or "unknown",
            gsd_m=float(text.get("gsd_m") or nominal),
            row=int(text.get("row") or -1),
            col=int(text.get("col") or -1),
        )
    except ValueError as error:
        raise DataError(
            f"{path}, tile {text.get('tile')}: {error}; gsd_m is a number, row and col are whole."
        ) from None


def _share_out(
    job: Job,
    pairs: Sequence[Pair],
    origins: Sequence[Origin],
    looks: Sequence[duplicates.Look],
    ledger: Ledger,
) -> tuple[dict[str, str], list[tuple[str, str] | None]]:
    """The side of each ground, and each tile's (unit, ground).

    None stands for a training tile that shows ground of the test side. A group's ground is named by its numbers and by
    what its tiles show.
    """
    fixed = [pair.name.startswith("val/") and job.dataset.kind == DatasetKind.glid for pair in pairs]
    links = duplicates.same_ground(list(looks))
    copies = splits.connected(len(pairs), links)
    leaking = {i for group in copies if any(fixed[i] for i in group) for i in group if not fixed[i]}
    ledger.dropped["tiles_like_a_test_tile"] += len(leaking)
    free = [i for i in range(len(pairs)) if not fixed[i] and i not in leaking]
    groups = _groups(free, pairs, origins, links)
    units, sides = [], {}
    place: list[tuple[str, str] | None] = [None] * len(pairs)
    for members in groups:
        key = _group_name([pairs[i].name for i in members], {origins[i].scene for i in members})
        ground = f"{key} {duplicates.digest([looks[i] for i in members])}"
        names, regions = ("+".join(sorted({getattr(origins[i], a) for i in members})) for a in ("sensor", "region"))
        units.append(splits.Unit(ground, names, regions))
        for i in members:
            place[i] = (key, ground)
    config = job.dataset.split
    if any(fixed):
        held = [i for i in range(len(pairs)) if fixed[i]]
        ground = f"published val {duplicates.digest([looks[i] for i in held])}"
        sides[ground] = "test"
        for i in held:
            place[i] = ("published val" if origins[i].scene == "unknown" else origins[i].scene, ground)
        config = dataclasses.replace(config, test=0.0)
    return sides | splits.choose(units, config), place


def _groups(
    free: Sequence[int], pairs: Sequence[Pair], origins: Sequence[Origin], links: Iterable[tuple[int, int]]
) -> list[list[int]]:
    """Tiles that must stay together: of one scene, else of one run of numbers, and all that show the same ground."""
    position = {i: n for n, i in enumerate(free)}
    joined = [(position[a], position[b]) for a, b in links if a in position and b in position]
    length = max(1, min(RUN, len(free) // RUNS))
    first: dict[Any, int] = {}
    run, previous = 0, -1
    for n, i in enumerate(free):
        # a gap in the numbers starts a run, and so does a full one
        number = pairs[i].number
        if n and ((number >= 0 and number != previous + 1) or n - first[run] >= length):
            run = n
        previous = number
        first.setdefault(run, n)
        key: Any = run if origins[i].scene == "unknown" else origins[i].scene
        joined.append((first.setdefault(key, n), n))
    return [[free[n] for n in group] for group in splits.connected(len(free), joined)]


def _group_name(names: Sequence[str], scenes: set[str]) -> str:
    if "unknown" not in scenes:
        return "+".join(sorted(scenes))
    return f"tiles {names[0]} to {names[-1]} ({len(names)})"


def _add(
    writer: StoreWriter,
    pair: Pair,
    origin: Origin,
    place: splits.Place,
    arrays: tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    job: Job,
    ledger: Ledger,
) -> None:
    """Adds a picture as one tile, or cut along a grid from its upper left corner where it is larger than a tile."""
    image, valid, lake = arrays
    px, (height, width) = job.tile_px, valid.shape
    if min(height, width) < px:
        raise DataError(
            f"{pair.image} is {width} x {height} px, smaller than tile_size.px={px}: "
            f"choose {min(height, width)} or less."
        )
    whole = (height, width) == (px, px)
    survey = Survey(np.zeros((0, 0), np.int64), count_by_tile(valid, px), count_by_tile(valid & lake, px))
    cells = [(r, c) for r in range(survey.valid_px.shape[0]) for c in range(survey.valid_px.shape[1])]
    # a whole tile is kept as published, with or without lake
    chosen = (
        {(0, 0)}
        if whole
        else choose_tiles(pair.name, survey, dict.fromkeys(cells, place), job.dataset.empty_share, ledger.dropped)
    )
    for r, c in sorted(chosen):
        part = (slice(r * px, (r + 1) * px), slice(c * px, (c + 1) * px))
        record = {
            "tile": pair.name if whole else f"{pair.name}_{r * px}_{c * px}",
            "scene": origin.scene,
            "sensor": origin.sensor,
            "region": origin.region,
            "gsd_m": origin.gsd_m,
            "row": origin.row + r * px if origin.row >= 0 else -1,
            "col": origin.col + c * px if origin.col >= 0 else -1,
            "block": place[0],
            "split": place[1],
            "transform": None,
            "crs": "",
        }
        writer.add(*padded(image[part], lake[part], valid[part], px), record)


def _in_threads(work: Callable[[Pair], Result], pairs: Sequence[Pair], step: Callable[[str], None]) -> Iterator[Result]:
    """Results in the order of the pairs; decoding runs without Python's lock, so threads use all cores."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = iter(pairs)
        # a bounded number ahead, since a decoded picture is large
        ahead = [(pair, pool.submit(work, pair)) for pair in islice(waiting, 2 * workers)]
        while ahead:
            pair, future = ahead.pop(0)
            result = future.result()
            ahead += [(new, pool.submit(work, new)) for new in islice(waiting, 1)]
            step(pair.name)
            yield result
