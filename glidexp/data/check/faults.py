"""What may be wrong with a tile store: damage, odd tiles, masks that contradict the picture, ground on two sides.

Each finding has a severity. A leak is test ground that was trained on; wrong is what would spoil a run; doubtful wants
a look; a note is told. Pictures of the findings are written beside the table.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from glidexp.data.band_statistics import mean_and_spread
from glidexp.data.check import divided
from glidexp.data.check.likeness import Colours, Counted, cells_of, counted, ranked
from glidexp.data.check.near import Looks, small_picture
from glidexp.data.check.overlay import grey_of
from glidexp.data.sensors import rgb_of
from glidexp.data.steps import untold
from glidexp.data.store import INVALID, LAKE, SPLITS, TileStore
from glidexp.data.workers import cores
from glidexp.data.writer import measured
from glidexp.errors import DataError
from glidexp.wording import does, many

CLIPPED = 0.5
"""share of the valid pixels of a tile at 0 or at 255 from which it is told"""
DOUBTFUL = 0.8
"""doubt (`likeness`) from which a mask is told"""
FRACTION_ERROR = 1e-6


class Severity(StrEnum):
    """How bad a finding is, the worst first."""

    leak = "leak"
    wrong = "wrong"
    doubtful = "doubtful"
    note = "note"


@dataclass(slots=True)
class Finding:
    """Something that was found, and where."""

    severity: Severity
    kind: str
    """damaged, values, fractions, constant, clipped, mask, copy, overlap, scene, lake, balance"""
    what: str
    """a sentence"""
    tiles: list[str] = field(default_factory=list)
    """names; of pairs those of the first store"""
    pairs: pd.DataFrame | None = None
    """columns a, b (rows of the store, and of the other one), side_a, side_b, and what is known of the pair"""
    pictures: list[str] = field(default_factory=list)
    """files below the report's folder"""


@dataclass(slots=True)
class Survey:
    """What one reading of a store gave."""

    looks: Looks
    colours: Colours
    table: pd.DataFrame
    """a row a tile: whole (its hash holds), values (labels are 0, 1, 255), fractions (as in the index), constant,
    clipped (share of valid pixels at 0 or 255)"""
    channels: dict[str, dict[str, list[float]]]
    """by sensor: mean and std a band over valid pixels, share at 0 and at 255"""


def survey(tiles: TileStore, step: Callable[[str], None]) -> Survey:
    """Reads every tile once.

    Args:
        tiles: an opened store
        step: told the name of each tile
    """
    colours, sums = Colours(), dict[str, npt.NDArray[np.int64]]()
    small: list[npt.NDArray[np.float32]] = []
    records: list[dict[str, Any]] = []
    sensors = tiles.index["sensor"].tolist()
    with ThreadPoolExecutor(cores()) as pool:
        met = pool.map(lambda row: _look_at(tiles, row), range(len(tiles)))
        for name, sensor, (record, counts, found, picture) in zip(tiles.index["tile"], sensors, met, strict=True):
            records.append(record)
            total = sums.setdefault(sensor, np.zeros((tiles.channels, 256), dtype=np.int64))
            total += counts
            colours.add(sensor, *found)
            small.append(picture)
            step(name)
    looks = Looks(tiles, tiles.every, np.stack(small))
    return Survey(looks, colours, pd.DataFrame(records), {name: _channels(sums[name]) for name in sorted(sums)})


def _look_at(tiles: TileStore, row: int) -> tuple[dict[str, Any], Any, tuple[Counted, Counted], Any]:
    """Columns of a survey's table, (C, 256) values of valid pixels, colours of lake and of all, small picture."""
    tile = tiles.index.iloc[row]
    image, label = np.ascontiguousarray(tiles.images[row]), np.ascontiguousarray(tiles.labels[row])
    stored = measured(image, label)
    values = np.asarray(Image.fromarray(label).histogram())
    of_valid = max(stored.valid_px, 1)
    right = abs(stored.lake_px / of_valid - tile["lake_fraction"]) < FRACTION_ERROR
    right &= abs(stored.valid_px / label.size - tile["valid_fraction"]) < FRACTION_ERROR
    record = {
        "whole": stored.xxh3 == tile["xxh3"],
        "values": not values[LAKE + 1 : INVALID].any(),
        "fractions": bool(right),
        "constant": bool((np.count_nonzero(stored.histogram, axis=1) <= 1).all()),
        "clipped": float(stored.histogram[:, [0, 255]].sum(axis=0).max()) / of_valid / tiles.channels,
    }
    cells = cells_of(image[..., rgb_of(tiles.bands)])
    return record, stored.histogram, counted(cells, label), small_picture(*grey_of(tiles, row))


def _channels(counts: npt.NDArray[np.int64]) -> dict[str, list[float]]:
    mean, std = mean_and_spread(counts)
    total = np.maximum(counts.sum(axis=1), 1)
    named = {"mean": mean, "std": std, "at_0": counts[:, 0] / total, "at_255": counts[:, 255] / total}
    return {name: [round(float(v), 4) for v in column] for name, column in named.items()}


def odd_tiles(tiles: TileStore, seen: Survey) -> list[Finding]:
    """Damage and odd values, from the survey."""
    table, names = seen.table, tiles.index["tile"].to_numpy(dtype=object)

    def told(chosen: Any, severity: Severity, kind: str, what: str) -> list[Finding]:
        where = names[np.asarray(chosen, dtype=bool)].tolist()
        return [Finding(severity, kind, f"{len(where)} of {many(len(names), 'tile')} {what}", where)] if where else []

    return [
        *told(~table["whole"], Severity.wrong, "damaged", "changed since the store was built: build it again"),
        *told(~table["values"], Severity.wrong, "values", "have labels other than 0, 1 and 255"),
        *told(
            ~table["fractions"] & table["whole"],
            Severity.wrong,
            "fractions",
            "have another share of lake than the index",
        ),
        *told(table["constant"], Severity.doubtful, "constant", "hold one value all over, or nothing valid"),
        *told(
            (table["clipped"] >= CLIPPED) & ~table["constant"],
            Severity.doubtful,
            "clipped",
            f"have {CLIPPED:.0%} or more of their values at 0 or 255: see dataset.stretch",
        ),
    ]


def inventory(tiles: TileStore) -> list[Finding]:
    """Whether what is said of the lakes and of their distance to ice is what the store was written with."""
    found = []
    for table in ("inventory", "ice"):
        try:
            getattr(tiles, table)
        except DataError as error:
            found.append(Finding(Severity.wrong, "damaged", str(error)))
    return found


def balance(tiles: TileStore) -> tuple[pd.DataFrame, list[Finding]]:
    """Tiles, tiles with lake and share of lake by side and sensor, and what is odd about it."""
    rows, found = [], []
    for (side, sensor), part in tiles.index.groupby(["split", "sensor"], sort=True):
        valid = part["valid_fraction"] * tiles.tile_px**2
        share = float((part["lake_fraction"] * valid).sum() / max(valid.sum(), 1))
        rows.append((side, sensor, len(part), int((part["lake_fraction"] > 0).sum()), share))
    table = pd.DataFrame(rows, columns=["side", "sensor", "tiles", "with_lake", "lake_share"])
    sides = table.groupby("side")[["tiles", "with_lake"]].sum()
    for side in SPLITS:
        if side not in sides.index:
            found.append(Finding(Severity.note, "balance", f"no tile on the side {side}"))
        elif not sides.loc[side, "with_lake"]:
            found.append(Finding(Severity.wrong, "balance", f"no tile with lake on the side {side}"))
    missing = [
        f"{sensor} on {side}"
        for sensor in sorted(set(table["sensor"]))
        for side in sides.index
        if not ((table["sensor"] == sensor) & (table["side"] == side)).any()
    ]
    if missing:
        found.append(Finding(Severity.note, "balance", f"no tile of {', '.join(missing)}"))
    return table, found


def masks(tiles: TileStore, seen: Survey, step: Callable[[str], None] = untold) -> tuple[pd.DataFrame, list[Finding]]:
    """Every tile by how much its mask contradicts its picture (`likeness.COLUMNS`), and those that want a look.

    `step` is told the name of each tile.
    """
    table = ranked(tiles, seen.colours, tiles.every, step)
    table.insert(0, "tile", tiles.index["tile"].to_numpy(dtype=object)[table["row"]])
    doubted = table[table["doubt"] >= DOUBTFUL]
    if not len(doubted):
        return table, []
    what = (
        f"{len(doubted)} of {many(len(table), 'mask')} {does(len(doubted), 'contradict')} the picture; the "
        "worst first in masks.csv"
    )
    return table, [Finding(Severity.doubtful, "mask", what, doubted["tile"].tolist())]


def scenes_on_two_sides(tiles: TileStore) -> list[Finding]:
    """Scenes with tiles on more than one side: a mistake where the split is by scene, to be known where it is not."""
    index = tiles.index
    known = index[~index["scene"].isin(["", "unknown"])]
    sides = {str(scene): set(part) for scene, part in known.groupby("scene")["split"]}
    mixed = [scene for scene, its in sides.items() if len(its) > 1]
    if not mixed:
        return []
    by = str(tiles.manifest.get("split_rule", {}).get("by", ""))
    apart = by in ("scene", "region")
    what = f"{len(mixed)} of {many(len(sides), 'scene')} {does(len(mixed), 'lie')} on several sides ({_few(mixed)})"
    if apart:
        severity, what = Severity.wrong, f"{what}, though the split is by {by}"
    else:
        trained = any({"train", "test"} <= sides[scene] for scene in mixed)
        severity = Severity.doubtful if by == "random" and trained else Severity.note
        what = f"{what}: the split is by {by or 'an unknown rule'}"
    return [Finding(severity, "scene", what, known["tile"][known["scene"].isin(mixed)].tolist())]


def lakes_on_two_sides(tiles: TileStore) -> list[Finding]:
    """Lakes of val and test of which a tile of another side shows a part."""
    try:
        found = divided.of_store(tiles)
    except DataError:  # told by `inventory`
        return []
    if not len(found):
        return []
    what = divided.told(found, tiles.manifest.get("split_rule", {}))
    return [Finding(Severity.doubtful, "lake", what, sorted(set(found["tile"])))]


def _few(names: Sequence[str]) -> str:
    shown = [str(name) for name in names[:3]]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
