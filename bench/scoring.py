"""What scoring a val set costs beside the network's forward passes alone (the limit).

    python bench/scoring.py [--device cpu|cuda] [--sizes 256 512] [--tiles N] [--batch 8] [--threads 1] [--repeats 5]

ours   `Recorder.val_scores` as every epoch calls it: tiles from the store, normalised, the network, histograms of the
       logit by tile, every val score.
limit  As many forward passes of the same network at the same precision on one random batch that lies on the device.

A U-Net with resnet18. Each repeat runs both, one after the other; the first is not counted. Medians, ratios (limit over
ours: 1 is no cost at all, 0.91 is a tenth more) within each repeat, and half the interquartile range over the median as
spread. `_cpu` lines count the CPU time of the process, background threads included; on a GPU only `_wall` counts.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import torch
from loader import make_tiles
from train_sides import settings
from train_step import PIXELS

from glidexp.training.device import resolve
from glidexp.training.parts import build_parts
from glidexp.training.record import Recorder


def taken(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall and CPU seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, time.process_time() - cpu


def measure(px: int, args: argparse.Namespace) -> None:
    """One tile size: prints its lines."""
    tiles_wanted = max(round((args.tiles or PIXELS / px**2) / args.batch), 1) * args.batch
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        args.precision = "auto"
        config = settings(root, args, px, 1)
        runtime = resolve(config.train)
        tiles = make_tiles(root, tiles_wanted + 1, px, 0)
        tiles.index["split"] = ["val"] * tiles_wanted + ["train"]  # without one to train on nothing is built
        model = build_parts(config, runtime, tiles).model
        recorder = Recorder(MagicMock(), config, tiles, runtime, "bench")  # tracking takes no part in scoring
        shape = (args.batch, tiles.channels, px, px)
        image = torch.randn(shape, device=runtime.device, dtype=runtime.dtype).to(memory_format=torch.channels_last)

        def bare() -> None:
            model.eval()
            with torch.no_grad(), runtime.autocast():
                for _ in range(tiles_wanted // args.batch):
                    model(image)

        pairs = [
            (taken(lambda: recorder.val_scores(model), runtime.device), taken(bare, runtime.device))
            for _ in range(args.repeats + 1)
        ][1:]
    for which, clock in enumerate(("wall", "cpu")):
        ours, limit = [tiles_wanted / a[which] for a, _ in pairs], [tiles_wanted / b[which] for _, b in pairs]
        ratios = [a / b for a, b in zip(ours, limit, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        line = {
            "name": f"scoring/resnet18_{px}px_batch{args.batch}_{runtime.precision}_{args.device}_{clock}",
            "unit": "tiles/s",
            "n": args.repeats,
            "ours": round(statistics.median(ours), 2),
            "peer": None,
            "limit": round(statistics.median(limit), 2),
            "ratio_peer": None,
            "ratio_limit": round(middle, 3),
            "spread": round((high - low) / 2 / middle, 3),
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--tiles", type=int, help="default: 32 at 512 px, 128 at 256 px")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for px in args.sizes:
        measure(px, args)


if __name__ == "__main__":
    main()
