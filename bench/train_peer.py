"""The peer of `train_step.py`: TorchGeo's `SemanticSegmentationTask` in Lightning's `Trainer`.

What a user of both has when following their documentation:

- the task is binary with its own BCE, accuracy and Jaccard index in every training and val step, AdamW and plateau
  schedule; its U-Net is smp's, the very network that ours trains;
- the trainer runs at our precision, with its own logger, progress bar, val loop and sanity check;
- a `NonGeoDataModule` batches tiles and calls one Kornia `AugmentationSequential` on the batch, with the operators,
  ranges and probabilities of our preset, as TorchGeo's own data modules do it.

Where there was a choice, it favours the peer. Its tiles lie in memory and no worker processes are used: decoding files
(`--peer-data png`) and moving batches between processes cost more CPU time. Checkpoints are off. Its bar goes to a
stream that is no terminal, so it is hardly drawn.

Its images reach the network contiguous, since that is what its datasets, its collation and Kornia leave. On a CPU this
costs most of its distance from the bare loop. The layout `channels_last` is what a user can do about it by hand.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kornia.augmentation as ka
import lightning.pytorch as pl
import numpy as np
import torch
from augment import preset, sequential
from PIL import Image
from torch import nn
from torchgeo.datamodules import NonGeoDataModule
from torchgeo.datasets import NonGeoDataset
from torchgeo.trainers import SemanticSegmentationTask

from glidexp.config import Config
from glidexp.data.store import TileStore
from glidexp.training.device import Runtime


class Tiles(NonGeoDataset):
    """A split in memory as uint8, or its PNG files in the published layout where `pngs` is their folder."""

    def __init__(self, tiles: TileStore, pngs: Path | None, split: str = "train") -> None:
        self.pngs = pngs
        self.rows = tiles.rows(split)
        self.images, self.labels = (torch.from_numpy(kept[self.rows]) for kept in (tiles.images, tiles.labels))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Image (C, H, W) float32 of 0-255 and mask (H, W) int64, as TorchGeo's own datasets give them."""
        if self.pngs is None:
            image, mask = self.images[index], self.labels[index]
        else:
            name = f"{self.rows[index]}.png"
            image = torch.from_numpy(np.array(Image.open(self.pngs / "images" / name)))
            mask = torch.from_numpy(np.array(Image.open(self.pngs / "labels" / name)) > 127)
        return {"image": image.float().permute(2, 0, 1), "mask": mask.long()}


class Module(NonGeoDataModule):
    """Batches, and the augmentation of training batches; val batches are normalised only."""

    def __init__(self, tiles: TileStore, batch_size: int, pngs: Path | None) -> None:
        self.mean = torch.tensor(tiles.manifest["channel_mean"])
        self.std = torch.tensor(tiles.manifest["channel_std"])
        super().__init__(Tiles, batch_size=batch_size, num_workers=0, tiles=tiles, pngs=pngs)
        to_unit = ka.Normalize(torch.tensor(0.0), torch.tensor(255.0))
        operators = sequential(preset("standard")).children()
        self.train_aug = ka.AugmentationSequential(to_unit, *operators, data_keys=None, keepdim=True)


class Epochs(pl.Callback):
    """Stops the clock between epochs."""

    def __init__(self, boundary: Callable[[], None]) -> None:
        self.boundary = boundary

    def on_train_epoch_start(self, *_: Any) -> None:
        self.boundary()

    def on_train_end(self, *_: Any) -> None:
        self.boundary()


class ChannelsLast(SemanticSegmentationTask):
    """The task with its batches in channels_last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.contiguous(memory_format=torch.channels_last))


def train_peer(
    config: Config, runtime: Runtime, tiles: TileStore, model: nn.Module | None, pngs: Path | None, layout: str
) -> Callable[[Callable[[], None]], None]:
    """The training, for a `Lane`.

    Args:
        config: epochs and batch size
        runtime: device and precision
        tiles: with rows of train and val
        model: instead of the task's U-Net
        pngs: folder of the tiles as files; in memory when None
        layout: contiguous (its own) or channels_last
    """

    def work(boundary: Callable[[], None]) -> None:
        kind = ChannelsLast if layout == "channels_last" else SemanticSegmentationTask
        encoder = config.backbone.name  # smp calls these as we do
        task = kind(model="unet", backbone=encoder, weights=None, in_channels=tiles.channels, task="binary", loss="bce")
        if model is not None:
            task.model = model
        if layout == "channels_last":
            task = task.to(memory_format=torch.channels_last)
        precision = {"bf16": "bf16-mixed", "fp16": "16-mixed"}.get(str(runtime.precision), "32-true")
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                accelerator="gpu" if runtime.device.type == "cuda" else "cpu",
                devices=1,
                precision=precision,
                max_epochs=config.train.epochs,
                enable_checkpointing=False,
                callbacks=[Epochs(boundary)],
                default_root_dir=folder,
            )
            trainer.fit(task, datamodule=Module(tiles, config.train.batch_size, pngs))

    return work
