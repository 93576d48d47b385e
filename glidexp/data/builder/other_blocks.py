"""Which blocks would do, where those that were asked for leave a side of the split without a tile."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from glidexp.config import SplitConfig
from glidexp.data.blocks import BlockPlaces
from glidexp.data.builder.report import Job
from glidexp.data.builder.scene_part import SceneTiles
from glidexp.data.scenes.inventory import lonlat_points
from glidexp.data.scenes.polygons import Inventory
from glidexp.data.scenes.reading import Scene
from glidexp.data.store import SPLITS
from glidexp.errors import DataError

WIDTHS = (1, 1.5, 2, 3, 4, 6)
"""of a block that is tried, in tiles"""
SEEDS = 8
MOST_TILES = 300
"""tiles with lake up to which settings are tried: with more of them a side is hardly ever without one"""


def other_blocks(
    scenes: Sequence[Scene],
    lakes: Inventory,
    done: Sequence[SceneTiles],
    job: Job,
) -> str:
    """Tries widths and seeds on the tiles that hold lakes.

    Args:
        scenes: headers of all scenes
        lakes: all of them
        done: what was cut of the scenes
        job: tile size, and the split by block as it was asked for

    Returns:
        the settings that keep most tiles with lake, with the tiles of each side; "" where none gives each side one
    """
    with_lake: dict[str, set[tuple[int, int]]] = {}
    split, tile_px, points = job.dataset.split, job.tile_px, lonlat_points(lakes)
    for row in (row for tiles in done for row in tiles.known):
        if row["fate"] == "labelled":
            with_lake.setdefault(row["scene"], set()).add((row["row"] // tile_px, row["col"] // tile_px))
    if split.folds or split.leave_out or sum(map(len, with_lake.values())) > MOST_TILES:
        return ""
    tile_m = tile_px * max(scene.gsd_m for scene in scenes)
    sides = [side for side, share in zip(SPLITS, (1.0, split.val, split.test), strict=True) if share > 0]
    best: tuple[tuple[bool, int], str] | None = None
    for width, seed in itertools.product([split.block_m, *(_round(n * tile_m) for n in WIDTHS)], range(SEEDS)):
        tried = replace(split, block_m=width, seed=seed)
        try:
            found = _tiles(scenes, points, with_lake, tried, tile_px)
        except DataError:  # too few blocks
            continue
        if all(found[side] for side in sides):
            rank = found["train"] == max(found.values()), sum(found.values())
            if best is None or rank > best[0]:
                told = ", ".join(f"{side} {found[side]}" for side in SPLITS)
                best = rank, f"dataset.split.block_m={width:g} dataset.split.seed={seed} would give {told} with lake"
    return best[1] if best else ""


def _tiles(
    scenes: Sequence[Scene],
    lakes_lonlat: npt.NDArray[np.float64],
    with_lake: Mapping[str, set[tuple[int, int]]],
    split: SplitConfig,
    tile_px: int,
) -> Counter[str]:
    """Tiles with lake on each side, without those on ground of two."""
    places = BlockPlaces(scenes, lakes_lonlat, split)
    found: Counter[str] = Counter()
    for scene in scenes:
        corners = [(row * tile_px, col * tile_px) for row, col in sorted(with_lake.get(scene.name, ()))]
        windows = [(r, c, min(tile_px, scene.height - r), min(tile_px, scene.width - c)) for r, c in corners]
        if windows:
            found.update(side for _, side in places.of(scene, np.array(windows), places.sides) if side)
    return found


def _round(metres: float) -> float:
    """Up to two digits, so that it can be typed, and no tile is wider than the block that was meant for it."""
    step = 10.0 ** (math.floor(math.log10(metres)) - 1)
    return math.ceil(metres / step) * step
