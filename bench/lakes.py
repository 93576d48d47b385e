"""What per-lake scores cost at the end of a run, beside telling the lakes apart and beside the same from library calls.

    python bench/lakes.py [--px 512] [--tiles 32] [--repeats 5] [--memory]

ours   `score_lakes` and `lake_scores`: tiles put together, matching, areas, shores, the table of lakes, every stratum.
limit  scipy.ndimage.label on labels and prediction, tile by tile: without it there are no lakes.
peer   scikit-image and scipy, as one would write it: label, regionprops, overlaps by lake, two Euclidean distance
       transforms a tile; no table, no strata. Needs the extra `dev`.

Tiles of one scene side by side, 3 % lake in round shapes of all sizes, and a prediction that is a little off. Each
repeat runs all sides, one after the other; the first is not counted. CPU time, one thread, medians of ratios. --memory
prints instead the peak of a single canvas in bytes a pixel.
"""

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pandas as pd
from scipy import ndimage

from glidexp.scoring.lake_scores import lake_scores
from glidexp.scoring.lakes import score_lakes

SQUARE = np.ones((3, 3))
COLUMNS = 4
"""tiles side by side"""


def make_tiles(tiles: int, px: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Index, labels (n, px, px) and bins of a scene."""
    rng = np.random.default_rng(0)
    shape = (tiles // COLUMNS * px, COLUMNS * px)
    true, noise = (ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), 6) for _ in range(2))
    true, noise = true / true.std(), noise / noise.std()
    canvases = (true > 1.9).astype(np.uint8), np.clip(128 + 60 * (true + 0.15 * noise - 1.9), 0, 255).astype(np.uint8)
    cells = [(row * px, col * px) for row in range(tiles // COLUMNS) for col in range(COLUMNS)]
    parts = [np.stack([canvas[r : r + px, c : c + px] for r, c in cells]) for canvas in canvases]
    index = pd.DataFrame(cells, columns=["row", "col"])
    index["tile"] = [f"t{i}" for i in range(len(cells))]
    index = index.assign(scene="s", sensor="sentinel2", region="himalaya", split="test", gsd_m=10.0)
    return index, parts[0], parts[1]


def by_library(labels: np.ndarray, bins: np.ndarray) -> None:
    """The peer."""
    from skimage import measure

    for label, bin_HW in zip(labels, bins, strict=True):
        masks = label == 1, bin_HW >= 128
        numbered = [measure.label(mask, connectivity=2) for mask in masks]
        for own, other in (numbered, numbered[::-1]):
            for lake in measure.regionprops(own):
                _ = lake.area, lake.perimeter, lake.centroid, np.unique(other[lake.slice][lake.image])
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
        for own, other in (edges, edges[::-1]):
            _ = ndimage.distance_transform_edt(~other)[own].mean()


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", type=int, default=512)
    parser.add_argument("--tiles", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    index, labels, bins = make_tiles(args.tiles, args.px)

    def ours() -> None:
        lake_scores(score_lakes(index, labels, bins, 128))

    def limit() -> None:
        for label, bin_HW in zip(labels, bins, strict=True):
            for mask in (label == 1, bin_HW >= 128):
                ndimage.label(mask, SQUARE)

    if args.memory:
        ours()
        tracemalloc.start()
        ours()
        peak = tracemalloc.get_traced_memory()[1] / labels.size
        print(json.dumps({"name": f"lakes/peak_{args.px}px", "unit": "bytes/px", "n": 1, "ours": round(peak, 1)}))
        return
    runs = [tuple(map(seconds, (ours, limit, lambda: by_library(labels, bins)))) for _ in range(args.repeats + 1)][1:]
    to_peer, to_limit = ([run[k] / run[0] for run in runs] for k in (2, 1))
    middle = statistics.median(to_limit)
    low, _, high = statistics.quantiles(to_peer, n=4) if len(to_peer) > 1 else to_peer * 3
    rates = [round(len(index) / statistics.median(run[k] for run in runs), 1) for k in range(3)]
    line = {
        "name": f"lakes/{args.px}px_cpu",
        "unit": "tiles/s",
        "n": args.repeats,
        "ours": rates[0],
        "peer": rates[2],
        "limit": rates[1],
        "ratio_peer": round(statistics.median(to_peer), 3),
        "ratio_limit": round(middle, 3),
        "spread": round((high - low) / 2 / statistics.median(to_peer), 3),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
