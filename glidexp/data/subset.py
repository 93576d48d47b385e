"""A part of the training tiles: some regions, some scenes, a share of the lakes, a share of the tiles.

What is drawn is the beginning of an order that a hash of (seed, name) gives, so a smaller part of a seed lies within a
larger one, and neither the order of the store nor the size of its tiles decides which scenes are drawn. One after the
other: regions, scenes, lakes, tiles; each draws from what the one before left.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glidexp.config import SelfTrainingConfig, StyleConfig, SubsetConfig, ValFrom
from glidexp.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from glidexp.data.store import TileStore

Rows = npt.NDArray[np.int64]
ALL = "all"


def chosen_regions(wanted: Sequence[str], present: Iterable[str], setting: str = "subset.regions") -> list[str]:
    """The regions (or sensors) that are named, or all for ["all"], checked against those that the data has.

    Raises:
        ConfigError: a region that the data does not have
    """
    here = sorted(set(present))
    if ALL in wanted:
        return here
    for name in wanted:
        if name not in here:
            raise unknown_name(setting, name, here)
    return sorted(wanted)


def part_of(store: "TileStore", rows: Rows, subset: SubsetConfig, seed: int) -> Rows:
    """The training rows that a subset takes.

    Args:
        store: opened store
        rows: (n,) training rows to draw from, ascending
        subset: settings
        seed: of the run; `subset.seed` goes before it

    Returns:
        (m,) of them, ascending; none where none is of the regions

    Raises:
        ConfigError: a region that the data does not have, more scenes than there are
    """
    seed = seed if subset.seed is None else subset.seed
    rows = _of_regions(store, rows, subset)
    if subset.scenes is not None:
        rows = _of_scenes(store, rows, subset.scenes, seed, "subset.scenes", "training")
    if subset.lakes < 1:
        rows = _of_lakes(store, rows, subset.lakes, seed)
    if subset.fraction < 1:
        names = store.index["tile"].to_numpy(dtype=object)
        drawn = sorted(rows.tolist(), key=lambda row: _place(seed, "tile", names[row]))
        rows = _rows(drawn[: math.ceil(subset.fraction * len(drawn))])
    return rows


def val_rows(store: "TileStore", subset: SubsetConfig, sensors: Iterable[str], seed: int) -> Rows:
    """The val rows that choose epoch and threshold: what a network is not trained for has no say in them.

    Args:
        store: opened store
        subset: settings
        sensors: that are trained on; they count with val_from=source
        seed: of the run

    Raises:
        ConfigError: a region that the data does not have, more scenes than there are, no tile left
    """
    rows = every = store.rows("val")
    if subset.val_from is not ValFrom.all:
        rows = _of_regions(store, rows, subset)
    if subset.val_from is ValFrom.source:
        rows = rows[np.isin(store.index["sensor"].to_numpy(dtype=object)[rows].astype(str), list(sensors))]
    if len(every) and not len(rows):
        raise ConfigError(
            f"subset.val_from={subset.val_from.value}: no val tile of what is trained on: choose other regions, "
            "sensors or dataset.split, or subset.val_from=all, by which epoch and threshold are chosen on other ground."
        )
    if subset.val_scenes is not None:
        own = seed if subset.seed is None else subset.seed
        rows = _of_scenes(store, rows, subset.val_scenes, own, "subset.val_scenes", "val")
    return rows


def unlabelled_of(store: "TileStore", labelled: Rows, wanted: SelfTrainingConfig) -> Rows:
    """Training rows that self-training takes without their labels, ascending: none that is trained on with them.

    Raises:
        ConfigError: a region or sensor that the data does not have, or no row left
    """
    rows = _of_places(store, np.setdiff1d(store.rows("train"), labelled), wanted, "self_training")
    if not len(rows):
        raise ConfigError(
            f"{_named(wanted, 'self_training')}: no training tile there whose label is not trained on: leave them out "
            "of subset.regions or sensor_mix.sensors, or take a part of them (subset.scenes)."
        )
    return rows


def lenders_of(store: "TileStore", wanted: StyleConfig) -> Rows:
    """Training rows whose look others take on, ascending, whether they are trained on or not.

    Raises:
        ConfigError: a region or sensor that the data does not have, or no row left
    """
    rows = _of_places(store, store.rows("train"), wanted, "style")
    if not len(rows):
        raise ConfigError(f"{_named(wanted, 'style')}: no training tile is there: name other regions or sensors.")
    return rows


def _of_places(store: "TileStore", rows: Rows, wanted: SelfTrainingConfig | StyleConfig, section: str) -> Rows:
    """Those of the rows that lie in the named regions and are of the named sensors."""
    for column, names in (("region", wanted.regions), ("sensor", wanted.sensors)):
        if names:
            here = store.index[column].to_numpy(dtype=object).astype(str)
            rows = rows[np.isin(here[rows], chosen_regions(names, here.tolist(), f"{section}.{column}s"))]
    return rows


def _named(wanted: SelfTrainingConfig | StyleConfig, section: str) -> str:
    return ", ".join(f"{section}.{key}=[{','.join(getattr(wanted, key))}]" for key in ("regions", "sensors"))


def _of_regions(store: "TileStore", rows: Rows, subset: SubsetConfig) -> Rows:
    if ALL in subset.regions:
        return rows
    regions = store.index["region"].to_numpy(dtype=object).astype(str)
    return rows[np.isin(regions[rows], chosen_regions(subset.regions, regions.tolist()))]


def _of_scenes(store: "TileStore", rows: Rows, count: int, seed: int, setting: str, side: str) -> Rows:
    """Rows of the first `count` scenes, those that have a lake before those that have none."""
    scenes = store.index["scene"].to_numpy(dtype=object)[rows].astype(str)
    lake = store.index["lake_fraction"].to_numpy()[rows] > 0
    with_lake = set(scenes[lake].tolist())
    order = sorted(set(scenes.tolist()), key=lambda name: (name not in with_lake, _place(seed, "scene", name)))
    if count > len(order):
        raise ConfigError(
            f"{setting}={count} is more than the {len(order)} {side} scenes that there are to draw from: lower it."
        )
    return rows[np.isin(scenes, order[:count])]


def _of_lakes(store: "TileStore", rows: Rows, share: float, seed: int) -> Rows:
    """Rows of a share of the lakes, and that share of the rows without any.

    Lakes are drawn one after the other with every tile that shows them, until the tiles show the share: a lake that
    shares a tile with a drawn one counts as drawn, since its label is used.
    """
    lakes = _lakes_by_row(store, rows)
    tiles: dict[str, list[int]] = defaultdict(list)
    for row, shown in lakes.items():
        for lake in shown:
            tiles[lake].append(row)
    taken: set[int] = set()
    seen: set[str] = set()
    wanted = math.ceil(share * len(tiles))
    for lake in sorted(tiles, key=lambda name: _place(seed, "lake", name)):
        if len(seen) >= wanted:
            break
        taken.update(tiles[lake])
        seen.update(other for row in tiles[lake] for other in lakes[row])
    names = store.index["tile"].to_numpy(dtype=object)
    empty = sorted((row for row in rows.tolist() if row not in lakes), key=lambda row: _place(seed, "tile", names[row]))
    return _rows([*taken, *empty[: math.ceil(share * len(empty))]])


def _lakes_by_row(store: "TileStore", rows: Rows) -> dict[int, list[str]]:
    """Lakes that each row shows, by the inventory; without one, and for a tile that it leaves out, a tile is a lake."""
    names = store.index["tile"].to_numpy(dtype=object)
    shows: dict[str, set[str]] = defaultdict(set)
    if (inventory := store.inventory) is not None:
        known = inventory[(inventory["fate"] == "labelled") & (inventory["tile"] != "") & (inventory["px"] > 0)]
        for tile, lake in zip(known["tile"], known["lake"], strict=True):
            shows[str(tile)].add(f"lake {lake}")
    filled = rows[store.index["lake_fraction"].to_numpy()[rows] > 0]
    return {row: sorted(shows.get(str(names[row]), {f"tile {names[row]}"})) for row in filled.tolist()}


def _place(seed: int, what: str, name: object) -> bytes:
    """Where a name stands in the order of a seed."""
    return hashlib.sha256(f"{seed}/{what}/{name}".encode()).digest()


def _rows(rows: Iterable[int]) -> Rows:
    return np.array(sorted(rows), dtype=np.int64)
