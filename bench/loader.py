"""Loader against a plain copy of the same bytes (the limit) and against the published PNG layout (the peer).

    python bench/loader.py [--tiles 400] [--tile-px 512] [--repeats 7] [--device cpu]

The plain copy moves the same bytes, in order, from memory to a ring of as many batch buffers as the loader needs: two
that may be looked at and one that is being filled. Into one buffer, which caches hold better, a copy is a quarter
faster, but no batch could be looked at while the next is made.

One thread. Everything lies in the page cache and has been read once before the clock starts: what is measured is the
work of a warm epoch, not the disk. Each repeat runs the three one after the other, so that a busy machine slows all of
them; medians of the repeats and, as spread, half the interquartile range over the median are printed, one JSON line a
measurement. A second line compares CPU time, which other processes on the machine disturb less.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image

from glidexp.data.loader import AHEAD, HELD, Loader
from glidexp.data.store import TileStore
from glidexp.data.writer import StoreWriter

BATCH = 8
Arrays = tuple[np.ndarray, np.ndarray]


def make_tiles(root: Path, tiles: int, px: int, pngs: int) -> TileStore:
    """A store of generated pictures with the smoothness of land, and the first `pngs` of them as PNG pairs."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    with StoreWriter(root / "store", tile_px=px, bands=("red", "green", "blue")) as writer:
        for i in range(tiles):
            coarse = Image.fromarray(rng.integers(0, 256, (px // 16, px // 16, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((px, px), Image.Resampling.BICUBIC))
            image = np.clip(smooth.astype(np.int16) + rng.integers(-6, 7, (px, px, 3)), 0, 255).astype(np.uint8)
            label = (smooth[:, :, 2] > 200).astype(np.uint8)
            record = {"tile": str(i), "scene": "bench", "sensor": "unknown", "region": "unknown", "gsd_m": 2.0}
            place = {"row": 0, "col": 0, "block": "bench", "split": "train", "transform": None, "crs": ""}
            writer.add(image, label, record | place)
            if i < pngs:
                Image.fromarray(image).save(root / "images" / f"{i}.png")
                Image.fromarray(label * 255).save(root / "labels" / f"{i}.png")
        writer.close({"recipe": {}, "recipe_id": "bench", "split_hash": "", "sensors": {}, "counts": {}, "dropped": {}})
    return TileStore.open(root / "store")


def read_loader(loader: Loader, epoch: int) -> None:
    for batch in loader.epoch(epoch):
        last = batch
    if last.image.is_cuda:
        torch.cuda.synchronize(last.image.device)


def plain_copy(sources: list[Arrays], ring: list[Arrays]) -> None:
    """The same bytes from one place in memory to another, a batch at a time, in order."""
    for position, (image, label) in enumerate(sources):
        images, labels = ring[position % len(ring)]
        np.copyto(images, image)
        np.copyto(labels, label)


def read_pngs(root: Path, order: list[int], ring: list[Arrays]) -> None:
    for slot, i in enumerate(order):
        images, labels = ring[slot // BATCH % len(ring)]
        images[slot % BATCH] = np.asarray(Image.open(root / "images" / f"{i}.png"))
        labels[slot % BATCH] = np.asarray(Image.open(root / "labels" / f"{i}.png")) > 127


def measure(work: Callable[[], None], clock: Callable[[], float], tiles: int) -> float:
    """Tiles a second."""
    start = clock()
    work()
    return tiles / max(clock() - start, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--tile-px", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tiles, px = max(args.tiles // BATCH, 1) * BATCH, args.tile_px
    pngs = min(tiles, 4 * BATCH)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = make_tiles(root, tiles, px, pngs)
        loader = Loader(store, store.rows("train"), BATCH, seed=0, device=args.device)
        resident = [
            (store.images[i : i + BATCH].copy(), store.labels[i : i + BATCH].copy()) for i in range(0, tiles, BATCH)
        ]
        buffers = HELD + AHEAD["cuda" if args.device.startswith("cuda") else "cpu"]
        ring = [(np.zeros((BATCH, px, px, 3), np.uint8), np.zeros((BATCH, px, px), np.uint8)) for _ in range(buffers)]
        order = np.random.default_rng(1).permutation(pngs).tolist()
        clocks = {"wall": time.perf_counter, "cpu": time.process_time}
        rates: dict[str, dict[str, list[float]]] = {name: {"ours": [], "limit": [], "peer": []} for name in clocks}
        for repeat in range(args.repeats + 1):
            for name, clock in clocks.items():
                found = {
                    "ours": measure(lambda n=repeat: read_loader(loader, n), clock, tiles),
                    "limit": measure(lambda: plain_copy(resident, ring), clock, tiles),
                    "peer": measure(lambda: read_pngs(root, order, ring), clock, pngs),
                }
                if repeat > 0:  # the first round warms page cache, maps and buffers
                    for who, rate in found.items():
                        rates[name][who].append(rate)
        for name, by in rates.items():
            report(f"loader_{px}px_{args.device}_{name}", args.repeats, by)


def report(name: str, n: int, rates: dict[str, list[float]]) -> None:
    """One JSON line: medians, ratios within each repeat, and the spread of ours against the limit."""
    medians = {who: statistics.median(values) for who, values in rates.items()}
    to_limit = [a / b for a, b in zip(rates["ours"], rates["limit"], strict=True)]
    to_peer = [a / b for a, b in zip(rates["ours"], rates["peer"], strict=True)]
    low, high = np.percentile(to_limit, [25, 75])
    line = {"name": name, "unit": "tiles/s", "n": n, **{who: round(rate, 1) for who, rate in medians.items()}}
    line["ratio_peer"] = round(statistics.median(to_peer), 3)
    line["ratio_limit"] = round(statistics.median(to_limit), 3)
    line["spread"] = round(float(high - low) / 2 / statistics.median(to_limit), 3)
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
