"""What a build is told, what it notes on the way, and the report that goes into the manifest."""

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import shapely

from glidexp.config import DatasetConfig, SplitBy
from glidexp.data.scenes.inventory import SEARCH_M
from glidexp.data.scenes.polygons import Inventory, bounds_text, swapped
from glidexp.data.scenes.reading import Scene
from glidexp.data.splits import Split
from glidexp.data.store import SPLITS
from glidexp.errors import DataError
from glidexp.wording import does, many

if TYPE_CHECKING:
    from glidexp.data.builder.scene_part import SceneTiles

log = logging.getLogger("glidexp")
SHOWN = 5
"""scenes that are named"""
WIDE = 4
"""tiles across a block, below which most tiles lie on the ground of several"""


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
    data_dir: Path = Path("data")
    """`paths.data`, where archives are unpacked that cannot be read as they lie"""


@dataclass(slots=True)
class Ledger:
    """What was met, kept and dropped: the report in the manifest."""

    lakes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    """labels by their kind, of ready tiles"""
    pairs: Counter[str] = field(default_factory=Counter)
    """pairs read by the folder that held them, of ready tiles"""
    stretch: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    """how large scenes were cut, `crop.told`"""
    inventories: dict[str, Any] = field(default_factory=dict)
    """what was read of lakes and glaciers, `polygons.told`"""
    changes: dict[str, Any] = field(default_factory=dict)
    """what the lakes have changed since `dataset.previous`"""
    seams: dict[str, Any] = field(default_factory=dict)
    """tiles on ground of another side, `seams.across_sides`"""


def check_sides(
    records: Sequence[dict[str, Any]],
    job: Job,
    gsd_m: float = 0.0,
    *,
    dropped: Mapping[str, int] = MappingProxyType({}),
    better: Callable[[], str] = str,
) -> None:
    """Refuses a store that lacks tiles of a side that has a share.

    Args:
        records: of the tiles
        job: recipe
        gsd_m: the coarsest of the scenes, metres
        dropped: tiles that were left out, by reason, as the ledger has them
        better: asked for settings that would do; "" where none are known

    Raises:
        DataError: with the tiles of each side, what was left out, and what to change
    """
    split, found = job.dataset.split, Counter(record["split"] for record in records)
    shares = {"train": 1.0, "val": split.val, "test": float(split.has_test)}
    lacking = [side for side in SPLITS if shares[side] > 0 and not found[side]]
    if not lacking:
        return
    reasons = {
        "tiles_on_divided_ground": "{} with lake on ground of two sides",
        "tiles_without_lake": f"{{}} without lake (dataset.empty_share={job.dataset.empty_share:g})",
    }
    left = [text.format(dropped[key]) for key, text in reasons.items() if dropped.get(key)]
    told = f"; left out: {', '.join(left)}" if left else ""
    way = better() if split.by == SplitBy.block else ""
    if not way:
        blocks = _other_blocks(split.block_m, gsd_m * job.tile_px) if split.by == SplitBy.block else ""
        way = f"try {blocks}another dataset.split.seed"
    raise DataError(
        f"no tile for {' and '.join(lacking)} ({', '.join(f'{side} {found[side]}' for side in SPLITS)}{told}): {way}."
    )


def _other_blocks(block_m: float, tile_m: float) -> str:
    """What to change of blocks so that every side gets a tile: enough of them, and wide enough for whole tiles."""
    enough_m = WIDE * tile_m
    if block_m < enough_m:
        way = f"a smaller tile_size (a tile has {tile_m:g} m), blocks wider than dataset.split.block_m={block_m:g}"
    elif block_m >= 2 * enough_m:
        way = f"smaller blocks, of which there are more (dataset.split.block_m={enough_m:g}, not {block_m:g})"
    else:
        way = "a smaller tile_size with smaller blocks"
    return f"{way}, or "


def check_lakes(
    scenes: Sequence[Scene],
    done: "Sequence[SceneTiles]",
    water: Inventory,
    ledger: Ledger,
    dataset: DatasetConfig,
) -> None:
    """Refuses a build without a labelled lake, which mostly is a wrong CRS.

    Raises:
        DataError: no lake lies in a scene, all of them were dropped, or none has a pixel
    """
    if ledger.lakes["in_scenes"] == 0:
        left, bottom, right, top = shapely.total_bounds([scene.outline_lonlat for scene in scenes])
        turned = swapped(water, (left, bottom, right, top))
        way = "longitude and latitude of the lakes are swapped" if turned else "check the CRS of both"
        raise DataError(
            f"no lake of {water.path} lies in a scene: lakes at {bounds_text(water)}, scenes at "
            f"longitude {left:.4g} to {right:.4g}, latitude {bottom:.4g} to {top:.4g}; {way}."
        )
    if ledger.lakes["labelled"] == 0:
        raise DataError(
            f"no lake in the scenes is left of {ledger.lakes['in_scenes']} (far from ice "
            f"{ledger.dropped['lakes_far_from_ice']}, too small {ledger.dropped['lakes_too_small']}): raise "
            f"dataset.buffer_m={dataset.buffer_m:g} or lower dataset.min_lake_px={dataset.min_lake_px:g}."
        )
    without = [tiles.scene for tiles in done if tiles.lakes["labelled"] and not tiles.drawn_px]
    if len(without) == sum(tiles.lakes["labelled"] > 0 for tiles in done):
        raise DataError(
            f"{many(ledger.lakes['labelled'], 'lake')} {does(ledger.lakes['labelled'], 'lie')} in the scenes, "
            "but none covers the centre of a pixel: look at the "
            f"CRS and the unit of {water.path} and at the pixel size, or set dataset.all_touched=true."
        )
    for name in without:
        log.warning("%s: lakes lie in it, but none covers the centre of a pixel.", name)


def warn_of_lost(names: Collection[str], records: Sequence[dict[str, Any]], what: str = "sensor") -> None:
    """Says when a sensor has scenes but no tile: without that, it is missing from every table in silence.

    Args:
        names: of those that have scenes
        records: of the tiles
        what: sensor or region
    """
    for name in sorted(set(names) - {record[what] for record in records}):
        log.warning(
            "no tile of %s %s was kept: its scenes hold no labelled lake, or every tile lies on divided ground "
            "(dataset.split.block_m, tile_size, dataset.empty_share)",
            what,
            name,
        )


def warn_of_no_ice(done: "Sequence[SceneTiles]", dataset: DatasetConfig) -> None:
    """Says which scenes lose all their lakes because no glacier is near: mostly the inventory ends before them."""
    bare = [
        tiles
        for tiles in done
        if tiles.known and all(math.isinf(row["glacier_distance_m"]) for row in tiles.known) and dataset.buffer_m > 0
    ]
    if not bare:
        return
    lakes, scenes = sum(tiles.lakes["in_scenes"] for tiles in bare), [tiles.scene for tiles in bare]
    shown = ", ".join(scenes[:SHOWN]) + f" and {len(scenes) - SHOWN} more" * (len(scenes) > SHOWN)
    log.warning(
        "no glacier lies within %g km of %s: all lakes there (%d) are left out as far from ice. Does "
        "dataset.glaciers reach there?",
        max(dataset.buffer_m, SEARCH_M) / 1000,
        shown,
        lakes,
    )


def manifest_of(job: Job, split: Split, records: Sequence[dict[str, Any]], ledger: Ledger) -> dict[str, Any]:
    """What the builder knows of a store."""
    by_sensor: dict[str, dict[str, Any]] = {}
    for record in records:
        entry = by_sensor.setdefault(record["sensor"], {"tiles": 0, "train": 0, "val": 0, "test": 0})
        entry["tiles"] += 1
        entry[record["split"]] += 1
    told = {
        "parts": ledger.parts,
        "inventories": ledger.inventories,
        "changes": ledger.changes,
        "seams": ledger.seams,
        "labels": dict(sorted(ledger.labels.items())),
        "pairs": dict(sorted(ledger.pairs.items())),
    }
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
        **{name: value for name, value in told.items() if value},
    }


def log_summary(path: Path, seconds: float) -> None:
    """Says what was built, in a few lines of the log."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    counts, lakes = manifest["counts"], manifest["lakes"]
    log.info(
        "built %s of %d px in %.1f s: train %d, val %d, test %d; %s",
        *(many(counts["tiles"], "tile"), manifest["tile_px"], seconds, counts["train"], counts["val"], counts["test"]),
        ", ".join(f"{name} {entry['tiles']}" for name, entry in manifest["sensors"].items()),
    )
    if lakes:
        log.info("lakes: %s", ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in lakes.items()))
    if manifest["dropped"]:
        log.info("left out: %s", ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in manifest["dropped"].items()))
