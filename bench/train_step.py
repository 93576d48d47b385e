"""Whole training against the bare loop (the limit) and against Lightning with TorchGeo's task (the peer).

    python bench/train_step.py [--device cpu|cuda] [--sizes 256 512] [--networks resnet18 tiny] [--repeats 5]
                               [--batch 8] [--threads 1] [--images N] [--peer-data memory|png]
                               [--peer-layout contiguous|channels_last] [--precision auto|fp32|bf16|fp16]

A measurement is an epoch: N training tiles and N/4 val tiles (the shares of the default split, 0.65 and 0.15), counted
as N images. Every side does the same forward and backward passes on batches of one size, and the same forward passes
of val.

ours   `fit` as `train.py` runs it: `Loader` over a tile store on disk, `standard` augmentation, BCE + Dice, clipping,
       scores of val from histograms, metrics written to a new sqlite store before the clock stops.
limit  Best settings and nothing else: one random batch that lies on the device already, channels_last, the same
       precision, fused AdamW, BCE. No loader, augmentation, score, clipping or tracking.
peer   Lightning and TorchGeo as their users have them, with the same network, precision and Kornia operators;
       `train_peer.py` says exactly what and why. `--peer-layout channels_last` gives it the memory format that none of
       its defaults does.

Left out on both sides: checkpoints and pictures, whose cost is by epoch or rarer and would weigh too much in epochs
as short as these. What our side pays by epoch (scores, tracking) is in, and weighs more here than in a real epoch.

The networks: smp's U-Net with resnet18, the same on every side; `tiny`, two convolutions at a quarter of the
resolution, so that all else shows.

Each repeat runs the sides one after the other, so that a busy machine slows all of them; the first is not counted.
Medians, ratios within each repeat, and as spread half the interquartile range over the median of ours against the
limit. Lines ending in `_cpu` count the CPU time of the process, background threads included: other processes disturb
it less, and what runs beside the step is not free in it. On a GPU only `_wall` means something.
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import torch
from hydra import compose, initialize_config_dir
from lane import Lane, Taken
from loader import make_tiles
from torch import nn

from glidexp import door
from glidexp.config import Config, flat, load, register
from glidexp.data.loader import Loader
from glidexp.data.store import TileStore
from glidexp.signals import Signals
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training.augment import build_augment
from glidexp.training.device import Runtime, resolve
from glidexp.training.loop import Position, fit
from glidexp.training.losses import build_loss
from glidexp.training.optim import build_optimizer, lr_schedule
from glidexp.training.parts import Parts
from glidexp.training.progress import Meter
from glidexp.training.record import Recorder
from glidexp.training.run import build_parts
from glidexp.training.watch import Watch

VAL_SHARE = 0.25
PIXELS = 32 * 512 * 512
"""of the training tiles of an epoch when --images is not given"""
OUT = sys.stdout
"""takes the measurements alone: what else prints, Lightning's bar among it, is sent to stderr"""


class Tiny(nn.Module):
    """Two convolutions, so that the network costs next to nothing. (B, 3, H, W) to logits (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=4)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.head(torch.relu(self.down(image)))
        return nn.functional.interpolate(logits, scale_factor=4, mode="nearest")


def settings(root: Path, args: argparse.Namespace, px: int, epochs: int) -> Config:
    """The default run at this tile size, with a store of its own and no pictures after the first epoch."""
    register()
    words = [
        f"tile_size.px={px}",
        "backbone=resnet18",
        "decoder=unet",
        "augmentation=standard",
        f"train.epochs={epochs}",
        f"train.batch_size={args.batch}",
        f"train.device={args.device}",
        f"train.precision={args.precision}",
        f"train.threads={args.threads}",
        f"tracking.images_every={epochs + 1}",
        f"paths.mlruns={root / 'mlruns'}",
    ]
    with initialize_config_dir(str(door.conf_dir()), version_base="1.3"):
        return load(compose("train", overrides=words))


def parts_of(network: str, config: Config, runtime: Runtime, tiles: TileStore) -> Parts:
    """Network and optimizer as a run makes them."""
    parts = build_parts(config, runtime, tiles)
    if network == "tiny":
        parts.model = runtime.place(Tiny())
        parts.optimizer = build_optimizer(config.optimizer, parts.model, device=runtime.device)
    return parts


def ours(network: str, config: Config, runtime: Runtime, tiles: TileStore, root: Path) -> Callable[..., None]:
    """The real thing, but for its checkpoints."""

    def work(boundary: Callable[[], None]) -> None:
        parts = parts_of(network, config, runtime, tiles)
        mean, std = tiles.manifest["channel_mean"], tiles.manifest["channel_std"]
        augment = build_augment(config.augmentation, mean=mean, std=std, seed=config.seed, dtype=runtime.dtype)
        rows, batch = tiles.rows("train"), config.train.batch_size
        loader = Loader(tiles, rows, batch, seed=0, device=runtime.device, shuffle=True, drop_last=True)
        meter = Meter(config.train.epochs, len(loader))
        store = open_store(tracking_uri(config.tracking, config.paths), Path(config.paths.mlruns))
        with Run.start(
            store, experiment="bench", run_name="bench", config_flat=flat(config), system_metrics=True
        ) as tracked:
            recorder = Recorder(tracked, config, tiles, runtime, "bench")

            def on_epoch(epoch: int, metrics: dict[str, float], better: bool) -> None:
                meter.epoch_line(epoch, metrics, config.train.select, better)
                recorder.epoch(epoch, metrics, parts.model, last=False)
                tracked.flush()
                boundary()

            boundary()
            fit(
                parts.model,
                loader,
                augment,
                build_loss(config.loss),
                parts.optimizer,
                parts.scaler,
                lr_schedule(config.optimizer, config.train.epochs * len(loader)),
                lambda _: None,
                runtime,
                Position(),
                config.train,
                evaluate=lambda epoch: recorder.val_scores(parts.model).items(),
                on_epoch=on_epoch,
                save=lambda: None,
                stop=Signals(),
                meter=meter,
                watch=Watch(parts.model, runtime, recorder.tile_names),
            )

    return work


def limit(
    network: str, config: Config, runtime: Runtime, tiles: TileStore, steps: int, val: int
) -> Callable[..., None]:
    """The bare loop."""

    def work(boundary: Callable[[], None]) -> None:
        parts = parts_of(network, config, runtime, tiles)
        shape = (config.train.batch_size, tiles.channels, tiles.tile_px, tiles.tile_px)
        image = torch.randn(shape, device=runtime.device, dtype=runtime.dtype)
        image = image.to(memory_format=torch.channels_last)
        mask = (torch.rand(shape[0], 1, *shape[2:], device=runtime.device) < 0.1).float()
        model = parts.model
        forward = torch.compile(model) if runtime.compile else model
        for _ in range(config.train.epochs):
            boundary()
            model.train()
            for _ in range(steps):
                with runtime.autocast():
                    logits = forward(image)
                loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), mask)
                parts.scaler.scale(loss).backward()
                parts.scaler.step(parts.optimizer)
                parts.scaler.update()
                parts.optimizer.zero_grad(set_to_none=True)
            model.eval()
            with torch.no_grad(), runtime.autocast():
                for _ in range(val):
                    forward(image)
        boundary()

    return work


def measure(network: str, px: int, args: argparse.Namespace) -> None:
    """One network at one tile size: prints its lines."""
    images = max(round((args.images or PIXELS / px**2) / args.batch), 1) * args.batch
    val = max(round(images * VAL_SHARE / args.batch), 1) * args.batch
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = settings(root, args, px, args.repeats + 1)
        runtime = resolve(config.train)
        tiles = make_tiles(root, images + val, px, images + val if args.peer_data == "png" else 0)
        tiles.index.loc[images:, "split"] = "val"
        lanes = {
            "ours": Lane(ours(network, config, runtime, tiles, root), runtime.device),
            "limit": Lane(
                limit(network, config, runtime, tiles, images // args.batch, val // args.batch), runtime.device
            ),
        }
        if args.peer:
            from train_peer import train_peer

            pngs = root if args.peer_data == "png" else None
            model = Tiny() if network == "tiny" else None
            lanes["peer"] = Lane(train_peer(config, runtime, tiles, model, pngs, args.peer_layout), runtime.device)
        rates: dict[str, list[Taken]] = {name: [] for name in lanes}
        for repeat in range(args.repeats + 1):
            for name, lane in lanes.items():
                wall, cpu = lane.epoch()
                print(f"{name} {repeat}: {wall:.2f} s, {cpu:.2f} s CPU", file=sys.stderr, flush=True)
                if repeat > 0:  # the first warms page cache, allocator and kernels
                    rates[name].append((images / wall, images / cpu))
        for lane in lanes.values():
            lane.end()
    which = f"{network}_{px}px_batch{args.batch}_{runtime.precision}_{args.device}_threads{args.threads}"
    which += "_peer_channels_last" if args.peer_layout == "channels_last" else ""
    which += "_peer_png" if args.peer_data == "png" else ""
    for position, clock in enumerate(("wall", "cpu")):
        report(f"train/{which}_{clock}", {name: [pair[position] for pair in kept] for name, kept in rates.items()})


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
    quartiles = statistics.quantiles(ratios["limit"], n=4) if len(ratios["limit"]) > 1 else ratios["limit"] * 3
    line["spread"] = round((quartiles[2] - quartiles[0]) / 2 / statistics.median(ratios["limit"]), 3)
    print(json.dumps(line), file=OUT, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--networks", nargs="+", default=["resnet18", "tiny"], choices=["resnet18", "tiny"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, help="training tiles an epoch; default: 32 at 512 px, 128 at 256 px")
    parser.add_argument("--peer-data", default="memory", choices=["memory", "png"])
    parser.add_argument("--peer-layout", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16", "fp16"])
    args = parser.parse_args()
    args.peer = all(importlib.util.find_spec(name) for name in ("lightning", "torchgeo"))
    if not args.peer:
        print("no peer: lightning and torchgeo are not installed (pip install '.[bench]')", file=sys.stderr)
    sys.stdout = sys.stderr
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="(lightning|torchgeo|torchmetrics).*")
    for network in args.networks:
        for px in args.sizes:
            measure(network, px, args)


if __name__ == "__main__":
    main()
