"""What it costs to remember the ground of a training set of GLID's size, and to look for test tiles on it.

    python bench/leakage.py [--tiles 16000] [--asked 2367] [--unplaced 1000] [--repeats 3]

CPU seconds of one thread, medians. `ground_placed` and `find_placed` are for tiles of 512 px with transform and CRS,
`file_mb` is what they add to a model; `ground_unplaced` is for ready tiles of unknown place, in ms a tile, whose limit
is reading their bytes once. There is no peer.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from glidexp.data.leakage import find_leak, ground_of, to_bytes

PX, GSD_M = 512, 10.0
DRAWN = 64
"""different pictures of unplaced tiles"""


def tiles(count: int, *, placed: bool, shift_m: float = 0.0, split: str = "train") -> Any:
    """What leakage needs of a store: tiles side by side on one grid, or without any place."""
    rng = np.random.default_rng(len(split))
    side = math.ceil(math.sqrt(count))
    step = PX * GSD_M
    west, north = 300_000 + shift_m, 3_200_000
    places = [[GSD_M, 0, west + (k % side) * step, 0, -GSD_M, north - (k // side) * step] for k in range(count)]
    index = pd.DataFrame(
        {
            "tile": [str(k) for k in range(count)],
            "scene": [f"s{k // 450}" for k in range(count)] if placed else "unknown",
            "sensor": "sentinel2",
            "gsd_m": GSD_M,
            "row": -1,
            "col": -1,
            "valid_fraction": 1.0,
            "split": split,
            "transform": places if placed else [None] * count,
            "crs": "EPSG:32645" if placed else "",
            "xxh3": [f"{value:016x}" for value in rng.integers(0, 2**62, count)],
        }
    )
    drawn = rng.integers(0, 256, (0 if placed else DRAWN, PX, PX, 3), dtype=np.uint8)
    images = [drawn[k % DRAWN] for k in range(0 if placed else count)]  # views: memory for a few of them is enough
    return SimpleNamespace(index=index, images=images, manifest={"recipe": {}}, split_hash=split, tile_px=PX)


def seconds(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median CPU seconds, and half the distance of the quartiles as a share of it."""
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    median = statistics.median(taken)
    low, _, high = statistics.quantiles(taken, n=4) if repeats > 1 else [median] * 3
    return median, (high - low) / 2 / median


def line(name: str, unit: str, repeats: int, ours: float, spread: float, limit: float | None = None) -> None:
    """Prints a figure."""
    ratio = None if limit is None else round(limit / ours, 3)
    found = {"name": f"leakage/{name}", "unit": unit, "n": repeats, "ours": round(ours, 3), "peer": None}
    found |= {"limit": None if limit is None else round(limit, 3), "ratio_peer": None, "ratio_limit": ratio}
    print(json.dumps(found | {"spread": round(spread, 3)}), flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=16_000)
    parser.add_argument("--asked", type=int, default=2_367)
    parser.add_argument("--unplaced", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    trained = tiles(options.tiles, placed=True)
    asked = tiles(options.asked, placed=True, shift_m=70.0, split="other")
    every, some = np.arange(options.tiles), np.arange(options.asked)
    line("ground_placed", "s", options.repeats, *seconds(lambda: ground_of(trained, every, "train"), options.repeats))
    ground = ground_of(trained, every, "train")
    line("file_mb", "MB", 1, len(to_bytes(ground)) / 1e6, 0.0)
    assert find_leak(ground, asked, some).tiles.all()
    line("find_placed", "s", options.repeats, *seconds(lambda: find_leak(ground, asked, some), options.repeats))
    loose = tiles(options.unplaced, placed=False)
    rows = np.arange(options.unplaced)
    taken, spread = seconds(lambda: ground_of(loose, rows, "train"), options.repeats)
    read, _ = seconds(lambda: [int(loose.images[row].sum()) for row in rows], options.repeats)
    scale = 1000 / options.unplaced
    line("ground_unplaced", "ms a tile", options.repeats, taken * scale, spread, read * scale)


if __name__ == "__main__":
    main()
