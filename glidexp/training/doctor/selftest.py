"""The self test of `glidexp doctor`: loader, augmentation, network, loop, scores and checkpoint on generated tiles."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import (
    AugmentationConfig,
    BackboneConfig,
    Compile,
    DecoderConfig,
    InitConfig,
    LossConfig,
    OptimizerConfig,
    TrainConfig,
)
from glidexp.data.loader import Loader
from glidexp.data.store import TileStore
from glidexp.errors import RunFailed
from glidexp.models.build import build_model
from glidexp.signals import Signals
from glidexp.training.augmentation.augment import Augment
from glidexp.training.checkpoint import Series
from glidexp.training.device import Runtime, resolve
from glidexp.training.evaluate import Evaluator
from glidexp.training.loop import fit
from glidexp.training.losses import build_loss
from glidexp.training.optim import build_optimizer, lr_schedule
from glidexp.training.parts import Parts, Position
from glidexp.training.progress import Meter
from glidexp.training.watch import Watch

TILES, TILE_PX, BATCH, EPOCHS = 24, 64, 8, 5
MEAN, STD = [150.0] * 3, [50.0] * 3
"""by which its tiles are normalised"""
LEARNT = 0.8
"""the loss must fall to this share of its first value"""
BUDGET_S = 20.0
"""seconds after which no further step begins"""


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the self test."""

    told: str
    """what was seen, in words"""
    whole: bool
    """whether all of its steps were done: else nothing is said of what the network learns"""


class Budget(Signals):
    """Asks the loop to end when the time is over.

    Args:
        seconds: from now
        clock: seconds since whenever
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock, self._began, self._seconds = clock, clock(), seconds

    def spent(self) -> float:
        """Seconds since it began."""
        return self._clock() - self._began

    def asked(self, step: int = 0) -> bool:
        """Whether the time is over."""
        return self.spent() >= self._seconds


class Ponds:
    """Tiles with a dark disc that is the lake."""

    def __init__(self, n: int, px: int) -> None:
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:px, :px]
        centre, radius = rng.integers(px // 4, 3 * px // 4, (n, 2, 1, 1)), rng.integers(px // 8, px // 4, (n, 1, 1))
        inside = (y - centre[:, 0]) ** 2 + (x - centre[:, 1]) ** 2 < radius**2
        self.labels: npt.NDArray[np.uint8] = inside.astype(np.uint8)
        ground = rng.integers(120, 220, (n, px, px, 3))
        self.images: npt.NDArray[np.uint8] = (ground - 90 * inside[..., None]).astype(np.uint8)


def self_test(device: str, clock: Callable[[], float] = time.monotonic) -> Trial:
    """Trains MobileNetV3 with an FCN for 15 steps of 8 tiles and reads its checkpoint back.

    Where steps are slow, the one in which the budget runs out is the last, and nothing is scored.

    Args:
        device: as `train.device`; one thread and no compilation: threads that wait for each other on a busy machine,
            and the compiler, take longer than all the rest
        clock: counts the seconds of the budget

    Raises:
        RunFailed: the loss does not fall, or a checkpoint does not come back as it was
    """
    budget = Budget(BUDGET_S, clock)
    cfg = TrainConfig(epochs=EPOCHS, batch_size=BATCH, device=device, compile=Compile.off, threads=1)
    threads = torch.get_num_threads()
    runtime = resolve(cfg)
    tiles = Ponds(TILES, TILE_PX)
    try:
        model, steps, losses = _trained(tiles, cfg, runtime, budget)
        wanted, where = EPOCHS * (TILES // BATCH), f"in {runtime.precision} on {runtime.device}"
        seen = _pixels_scored(model, tiles, runtime) if steps >= wanted else None
    finally:
        torch.set_num_threads(threads)
    if seen is None:
        _comes_back(model)
        return Trial(
            f"{steps} of {wanted} steps {where} took all of {BUDGET_S:.0f} s, the checkpoint came back; "
            "whether the network learns was not seen",
            whole=False,
        )
    if seen != TILES * TILE_PX**2:
        raise RunFailed(f"the histograms hold {seen} of {TILES * TILE_PX**2} pixels: this is a bug.")
    if not losses[-1] < LEARNT * losses[0]:
        raise RunFailed(
            f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f} in {wanted} steps {where}: try "
            "train.precision=fp32 or train.device=cpu, and compare."
        )
    _comes_back(model)
    return Trial(
        f"{wanted} steps {where} took the loss from {losses[0]:.3f} to {losses[-1]:.3f}, the checkpoint came back, "
        f"{budget.spent():.0f} s",
        whole=True,
    )


def _trained(
    tiles: Ponds, cfg: TrainConfig, runtime: Runtime, budget: Budget
) -> tuple[torch.nn.Module, int, list[float]]:
    """The network, the steps that it took within the budget, and its loss by epoch; torch's draws go on as before."""
    position = Position()
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(BackboneConfig(name="mobilenetv3"), DecoderConfig(name="fcn"), InitConfig(), in_channels=3)
        model = runtime.place(model)
        loader = Loader(tiles, np.arange(TILES), BATCH, device=runtime.device, drop_last=True)
        augment = Augment(
            AugmentationConfig(flip=True, rot90=True, affine_p=0.5, rotate_deg=15.0, color_p=0.5, brightness=0.2,
                               blur_p=0.2, blur_sigma_px=[0.3, 1.2], noise_p=0.2, noise_std=5.0),
            mean=MEAN, std=STD, seed=0, dtype=runtime.dtype,
        )  # fmt: skip
        optimizer = build_optimizer(OptimizerConfig(lr=2e-3), model, device=runtime.device)
        fit(
            Parts(model, optimizer, runtime.scaler(), runtime.device, position),
            loader,
            augment,
            build_loss(LossConfig()),
            runtime,
            cfg,
            lr_at=lr_schedule(OptimizerConfig(lr=2e-3), EPOCHS * len(loader)),
            freeze_at=lambda _: None,
            evaluate=lambda _: [],
            on_epoch=lambda _, metrics, __: losses.append(metrics["train/loss"]),
            save=lambda: None,
            stop=budget,
            meter=Meter(EPOCHS, len(loader)),
            watch=Watch(model, runtime, lambda rows: map(str, rows)),
        )
    return model, position.step, losses


def _pixels_scored(model: torch.nn.Module, tiles: Ponds, runtime: Runtime) -> int:
    """Pixels in the histograms of all tiles."""
    normalise = Augment(AugmentationConfig(), mean=MEAN, std=STD, seed=0, dtype=runtime.dtype)
    store = cast(TileStore, tiles)  # only its arrays are looked at
    return int(Evaluator(store, np.arange(TILES), normalise, runtime, BATCH).histograms(model).sum())


def _comes_back(model: torch.nn.Module) -> None:
    with tempfile.TemporaryDirectory() as folder:
        series = Series(Path(folder) / "last.pt", config_id="self test")
        series.save({"model": model.state_dict()})
        found = series.load()
    same = found is not None and all(torch.equal(v.cpu(), found["model"][k]) for k, v in model.state_dict().items())
    if not same:
        raise RunFailed("a checkpoint does not come back as it was saved: look at the disk of TMPDIR.")
