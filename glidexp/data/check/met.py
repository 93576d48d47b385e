"""Test tiles that show ground of the other sides of their own store: by place, by equal pixels, by look.

A split keeps its sides apart by what it was told of the ground. That a scene lies in the data a second time, under
another name and in another region, it cannot know: only the pictures tell.
"""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from glidexp.beside import write_text
from glidexp.data import leakage
from glidexp.data.check.near import look_at, near_pairs, parts
from glidexp.data.steps import shown_steps
from glidexp.data.store import TileStore


def met(tiles: TileStore, memory: Path) -> pd.DataFrame:
    """Pairs of a tile that trains or chooses and a test tile that shows the same ground.

    Generated scenes are compared by place alone: they are named by what made them, and no picture is there twice.

    Args:
        tiles: an opened store
        memory: folder in which what was found is kept, by the store's index, so that its pictures are looked at once

    Returns:
        columns a (row of train or val) and b (row of test), sorted
    """
    file = memory / f"{tiles.manifest['index_sha256'][:16]}.json"
    with suppress(OSError, ValueError):
        return _table(json.loads(file.read_text(encoding="utf-8")))
    found = _pairs(tiles)
    with suppress(OSError):  # it is only found again
        memory.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(found.to_numpy().tolist()) + "\n")
    return found


def _pairs(tiles: TileStore) -> pd.DataFrame:
    sides = tiles.index["split"].to_numpy(dtype=object)
    own, test = np.flatnonzero(sides != "test"), np.flatnonzero(sides == "test")
    with shown_steps(len(own) + len(test), "tiles", True, what="ground", late=True) as step:
        ground, here = leakage.ground_of(tiles, own, "train", step), leakage.ground_of(tiles, test, "test", step)
    pairs = {*leakage.same_place(ground, here), *leakage.same_pixels(ground, here)}
    if tiles.manifest.get("recipe", {}).get("kind") != "synthetic":
        with shown_steps(len(own) + len(test), "tiles", True, what="looks", late=True) as step:
            looks, asked = look_at(tiles, own, step), look_at(tiles, test, step)
        with shown_steps(parts(len(own), len(test)), "comparisons", True, what="copies", late=True) as step:
            near = near_pairs(looks, asked, step)
        pairs |= set(zip(near["a"].tolist(), near["b"].tolist(), strict=True))
    return _table(sorted((int(own[a]), int(test[b])) for a, b in pairs))


def _table(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["a", "b"]).astype(np.int64)
