"""The sides of `train_step.py` but for the peer: our whole training, and the bare loop."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import nn

from glidexp import door
from glidexp.composing import register
from glidexp.config import Config, flat, load
from glidexp.data.store import TileStore
from glidexp.signals import Signals
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training.checkpoint import Series
from glidexp.training.device import Runtime
from glidexp.training.freezing import build_freezing
from glidexp.training.loop import fit
from glidexp.training.losses import build_loss
from glidexp.training.optim import build_optimizer, lr_schedule
from glidexp.training.parts import Parts, build_parts
from glidexp.training.progress import Meter
from glidexp.training.record import Recorder
from glidexp.training.run import training_tiles
from glidexp.training.watch import Watch


class Tiny(nn.Module):
    """Two convolutions, so that the network costs next to nothing. (B, 3, H, W) to logits (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=4)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.head(torch.relu(self.down(image)))
        return nn.functional.interpolate(logits, scale_factor=4, mode="nearest")


def settings(root: Path, args: argparse.Namespace, px: int, epochs: int, network: str = "resnet18") -> Config:
    """The default run at this tile size, with a store of its own."""
    register()
    words = [
        f"tile_size.px={px}",
        f"backbone={'resnet18' if network == 'tiny' else network}",
        "decoder=unet",
        "augmentation=standard",
        f"train.epochs={epochs}",
        f"train.batch_size={args.batch}",
        f"train.device={args.device}",
        f"train.precision={args.precision}",
        f"train.threads={args.threads}",
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


class Turns(Series):
    """The checkpoints of a run. With one saved and all of tracking written an epoch is over, and so is the turn."""

    def __init__(self, path: Path, tracked: Run, boundary: Callable[[], None]) -> None:
        super().__init__(path, config_id="bench")
        self._tracked, self._boundary = tracked, boundary

    def save(self, state: dict[str, Any]) -> bool:
        saved = super().save(state)
        self._tracked.flush()
        self._boundary()
        return saved


def ours(network: str, config: Config, runtime: Runtime, tiles: TileStore, root: Path) -> Callable[..., None]:
    """The real thing: what `training.run.run` fits with, checkpoints and pictures included."""

    def work(boundary: Callable[[], None]) -> None:
        parts = parts_of(network, config, runtime, tiles)
        store = open_store(tracking_uri(config.tracking, config.paths), Path(config.paths.mlruns))
        with Run.start(
            store, experiment="bench", run_name="bench", config_flat=flat(config), system_metrics=True
        ) as tracked:
            recorder = Recorder(tracked, config, tiles, runtime, "bench")
            checkpoints = Turns(Path(config.paths.mlruns) / "checkpoints" / "last.pt", tracked, boundary)
            loader, augment = training_tiles(recorder)
            meter = Meter(config.train.epochs, len(loader))

            def on_epoch(epoch: int, metrics: dict[str, float], better: bool) -> None:
                meter.epoch_line(epoch, metrics, config.train.select, better)
                recorder.epoch(epoch, metrics, parts.judged, last=epoch + 1 == config.train.epochs)

            boundary()
            with meter, meter.scoring(recorder.val):
                fit(
                    parts,
                    loader,
                    augment,
                    build_loss(config.loss),
                    runtime,
                    config.train,
                    lr_at=lr_schedule(config.optimizer, config.train.epochs * len(loader)),
                    freeze_at=build_freezing(config.train, parts.model, parts.stages),
                    evaluate=lambda epoch: recorder.val_scores(parts.judged).items(),
                    on_epoch=on_epoch,
                    save=lambda: checkpoints.save(parts.state()),
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
