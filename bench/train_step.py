"""Whole training against the bare loop (the limit) and against Lightning with TorchGeo's task (the peer).

    python bench/train_step.py [--device cpu|cuda] [--sizes 256 512] [--networks resnet18 tiny] [--repeats 5]
                               [--batch 8] [--threads 1] [--images N] [--peer-data memory|png]
                               [--peer-layout contiguous|channels_last] [--precision auto|fp32|bf16|fp16]

`--device cuda` alone measures resnet34 and resnet50 at 512 px in batches of 32: bf16, compiled, tiles resident.

A measurement is an epoch: N training tiles and N/4 val tiles (the shares of the default split, 0.65 and 0.15), counted
as N images. Every side does the same forward and backward passes on batches of one size, and the same forward passes
of val.

ours   Training as `train.py` runs it, at the defaults: `Loader` over a tile store on disk, `standard` augmentation,
       BCE + Dice, clipping, scores of val from histograms, a checkpoint an epoch, pictures of 8 val tiles every fifth
       epoch and after the last one, all written to disk and to a new sqlite store before the clock stops.
limit  Best settings and nothing else: one random batch that lies on the device already, channels_last, the same
       precision, fused AdamW, BCE. No loader, augmentation, score, clipping or tracking.
peer   Lightning and TorchGeo as their users have them, with the same network, precision and Kornia operators;
       `train_peer.py` says exactly what and why. `--peer-layout channels_last` gives it the memory format that none of
       its defaults does.

What our side pays by epoch (scores, checkpoint, pictures, tracking) weighs much more here than in a real epoch of
thousands of tiles. The limit and the peer save nothing and draw nothing.

The networks: smp's U-Net with the named encoder, the same on every side; `tiny`, two convolutions at a quarter of the
resolution, so that all else shows.

Each repeat runs the sides one after the other, so that a busy machine slows all of them; the first is not counted.
Medians, ratios within each repeat, and as spread half the interquartile range over the median of ours against the
limit. `ratio_limit_sum` is of all counted epochs together: of five of them one has pictures, as in a real run, and a
median passes that one by. Lines ending in `_cpu` count the CPU time of the process, background threads included: other
processes disturb it less, and what runs beside the step is not free in it. On a GPU only `_wall` means something.

After these comes a line for each side, by the same clock (see `effort.py`):

images_per_s      training images, val's time included
peak_memory_mb    what training took at its peak; on a CPU measured over one more epoch in a process of its own, null
                  where that cannot be counted (not on Linux)
utilisation       CPU: CPU seconds of the process over wall seconds times threads, so a busy machine lowers it, and
                  threads in the background can take it over 1. GPU: share of an epoch in which a kernel ran, from one
                  profiled epoch more; null where the profiler sees none
flops_per_image   of a forward and a backward pass
flop_limit_ratio  FLOPs a second, val's forward passes included, over those of a large matrix product at the same
                  precision on the same device, taken in the same repeat; null in fp32 on a GPU
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import torch
from effort import GpuMemory, Work, effort_line, flops, grown_mb, kernel_seconds, matmul_rate
from lane import Lane, Taken
from loader import make_tiles
from train_sides import Tiny, limit, ours, parts_of, settings

from glidexp.config import Config, Precision, TrainConfig
from glidexp.data.store import TileStore
from glidexp.errors import GlidexpError
from glidexp.training.device import Runtime, resolve

VAL_SHARE = 0.25
PIXELS = 32 * 512 * 512
"""of the training tiles of an epoch when --images is not given"""
GPU_PIXELS = 64 * PIXELS
"""likewise on a GPU, which would be done in the blink of an eye"""
NETWORKS = ("resnet18", "resnet34", "resnet50", "tiny")
USUAL: dict[str, dict[str, Any]] = {
    "cpu": {"sizes": [256, 512], "networks": ["resnet18", "tiny"], "batch": 8},
    "cuda": {"sizes": [512], "networks": ["resnet34", "resnet50"], "batch": 32},
}
"""options that are not given, by kind of device"""
OUT = sys.stdout
"""takes the measurements alone: what else prints, Lightning's bar among it, is sent to stderr"""


def epoch_of(args: argparse.Namespace, px: int) -> tuple[int, int]:
    """Training and val tiles of an epoch: whole batches."""
    pixels = GPU_PIXELS if args.device.startswith("cuda") else PIXELS
    images = max(round((args.images or pixels / px**2) / args.batch), 1) * args.batch
    return images, max(round(images * VAL_SHARE / args.batch), 1) * args.batch


def contenders(
    network: str, config: Config, runtime: Runtime, tiles: TileStore, args: argparse.Namespace, root: Path
) -> dict[str, Lane]:
    """The sides by name; none has made anything yet."""
    images, val = epoch_of(args, tiles.tile_px)
    steps, looks = images // args.batch, val // args.batch
    works = {
        "ours": ours(network, config, runtime, tiles, root),
        "limit": limit(network, config, runtime, tiles, steps, looks),
    }
    if args.peer:
        from train_peer import train_peer

        pngs = root if args.peer_data == "png" else None
        model = Tiny() if network == "tiny" else None
        works["peer"] = train_peer(config, runtime, tiles, model, pngs, args.peer_layout)
    return {name: Lane(work, runtime.device) for name, work in works.items()}


def alone(side: str, network: str, px: int, args: argparse.Namespace, root: Path) -> float | None:
    """Peak of a side's memory over one epoch in this process, MB; None where it cannot be counted."""
    sys.stdout = sys.stderr
    importlib.import_module("segmentation_models_pytorch")  # which building the network would load, on either side
    torch.set_num_threads(args.threads)
    tiles = TileStore.open(root / "store")
    tiles.index.loc[epoch_of(args, px)[0] :, "split"] = "val"
    config = settings(root / f"{network}_{side}", args, px, 1, network)
    lane = contenders(network, config, resolve(config.train), tiles, args, root)[side]
    grown = grown_mb(lane.epoch)
    lane.end()
    return grown


def alone_in_process(side: str, network: str, px: int, args: argparse.Namespace, root: Path) -> float | None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(alone, side, network, px, args, root).result()


def measure(network: str, tiles: TileStore, args: argparse.Namespace, root: Path) -> None:
    """One network at one tile size: prints its lines."""
    px, gpu = tiles.tile_px, args.device.startswith("cuda")
    if gpu:
        torch.compiler.reset()  # else the graphs of the network before count towards the few that one function may have
    images, val = epoch_of(args, px)
    config = settings(root / network, args, px, args.repeats + 1 + gpu, network)  # on a GPU the last one is profiled
    runtime = resolve(config.train)
    parts = parts_of(network, config, runtime, tiles)
    work = Work(images, val, *flops(parts.model, (args.batch, tiles.channels, px, px)))
    del parts
    lanes = contenders(network, config, runtime, tiles, args, root)
    memory = {name: GpuMemory(runtime.device) for name in lanes}
    taken: dict[str, list[Taken]] = {name: [] for name in lanes}
    matmul: list[Taken | None] = []
    for repeat in range(args.repeats + 1):
        for name, lane in lanes.items():
            wall, cpu = memory[name].turn(lane.epoch) if gpu else lane.epoch()
            print(f"{name} {repeat}: {wall:.2f} s, {cpu:.2f} s CPU", file=sys.stderr, flush=True)
            if repeat > 0:  # the first warms page cache, allocator and kernels
                taken[name].append((wall, cpu))
        if repeat > 0:
            matmul.append(matmul_rate(runtime.device, runtime.dtype))
    kernels = {name: kernel_seconds(lane.epoch) if gpu else None for name, lane in lanes.items()}
    for lane in lanes.values():
        lane.end()
    which = f"{network}_{px}px_batch{args.batch}_{runtime.precision}_{args.device}_threads{args.threads}"
    which += "_peer_channels_last" if args.peer_layout == "channels_last" else ""
    which += "_peer_png" if args.peer_data == "png" else ""
    for clock, what in enumerate(("wall", "cpu")):
        rates = {name: [images / pair[clock] for pair in kept] for name, kept in taken.items()}
        report(f"train/{which}_{what}", rates)
    for name, pairs in taken.items():
        if gpu:
            peak, seconds = memory[name].peak_mb, statistics.median(wall for wall, _ in pairs)
            busy = None if kernels[name] is None else kernels[name] / seconds
        else:
            peak = alone_in_process(name, network, px, args, root)
            busy = statistics.median(cpu / (wall * args.threads) for wall, cpu in pairs)
        for clock, what in enumerate(("wall",) if gpu else ("wall", "cpu")):
            limits = [rate and rate[clock] for rate in matmul]
            seconds_of = [pair[clock] for pair in pairs]
            line = effort_line(f"train/{which}_{what}/{name}", work, seconds_of, limits, peak, busy)
            print(json.dumps(line), file=OUT, flush=True)


def report(name: str, rates: dict[str, list[float]]) -> None:
    """One JSON line."""
    line: dict[str, Any] = {"name": name, "unit": "images/s", "n": len(rates["ours"])}
    for side in ("ours", "peer", "limit"):
        line[side] = round(statistics.median(rates[side]), 3) if side in rates else None
    ratios = {}
    for side in ("peer", "limit"):
        if side in rates:
            ratios[side] = [a / b for a, b in zip(rates["ours"], rates[side], strict=True)]
        line[f"ratio_{side}"] = round(statistics.median(ratios[side]), 3) if side in ratios else None
    whole = [sum(1 / rate for rate in rates[side]) for side in ("limit", "ours")]
    line["ratio_limit_sum"] = round(whole[0] / whole[1], 3)
    quartiles = statistics.quantiles(ratios["limit"], n=4) if len(ratios["limit"]) > 1 else ratios["limit"] * 3
    line["spread"] = round((quartiles[2] - quartiles[0]) / 2 / statistics.median(ratios["limit"]), 3)
    print(json.dumps(line), file=OUT, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", help="default: 256 512; on a GPU 512")
    parser.add_argument(
        "--networks", nargs="+", choices=NETWORKS, help="default: resnet18 tiny; on a GPU resnet34 resnet50"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, help="default: 8; on a GPU 32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--images",
        type=int,
        help="training tiles an epoch; default: 32 at 512 px, 128 at 256 px; 64 times as many on a GPU",
    )
    parser.add_argument("--peer-data", default="memory", choices=["memory", "png"])
    parser.add_argument("--peer-layout", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    args = parser.parse_args()
    usual = USUAL["cuda" if args.device.startswith("cuda") else "cpu"]
    vars(args).update({key: value for key, value in usual.items() if getattr(args, key) is None})
    try:  # before tiles are made
        resolve(TrainConfig(device=args.device, precision=Precision(args.precision), threads=args.threads))
    except GlidexpError as error:
        parser.error(str(error))
    args.peer = all(importlib.util.find_spec(name) for name in ("lightning", "torchgeo"))
    if not args.peer:
        print("no peer: lightning and torchgeo are not installed (pip install '.[bench]')", file=sys.stderr)
    sys.stdout = sys.stderr
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="(lightning|torchgeo|torchmetrics).*")
    for px in args.sizes:
        images, val = epoch_of(args, px)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            tiles = make_tiles(root, images + val, px, images + val if args.peer_data == "png" else 0)
            tiles.index.loc[images:, "split"] = "val"
            for network in args.networks:
                measure(network, tiles, args, root)


if __name__ == "__main__":
    main()
