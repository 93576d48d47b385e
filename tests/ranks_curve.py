"""What torchrun starts in `test_ranks.py`: small trainings without batch statistics, whose losses it writes as JSON.

And then `train.py` with the words that follow, as `ranks_train.py` does, since starting the processes takes longest.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks_train
import torch
import torch.distributed as dist
from runs import small_config
from test_loop import CPU, Blobs, Training, config, network
from torch.optim.swa_utils import AveragedModel

from glidexp import cli
from glidexp.config import AugmentationConfig, LossConfig, OptimizerConfig
from glidexp.data.loader import Loader
from glidexp.training.augmentation.augment import Augment
from glidexp.training.averages import renew_batch_statistics, shown_images, statistics_loader
from glidexp.training.beginning import batch_size
from glidexp.training.beginning.batch_size import Choice
from glidexp.training.device import resolve
from glidexp.training.evaluate import Evaluator
from glidexp.training.freezing import build_freezing
from glidexp.training.optim import build_optimizer
from glidexp.training.processes.ranks import Ranks


def staged() -> torch.nn.Module:
    """Three convolutions, of which the first two are an encoder of two stages."""
    torch.manual_seed(0)
    shapes = [(3, 8), (8, 8), (8, 1)]
    layers = [part for a, b in shapes for part in (torch.nn.Conv2d(a, b, 3, padding=1), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers[:-1])


STAGES = [["0.weight", "0.bias"], ["2.weight", "2.bias"]]


def curve(ranks: Ranks, loss: LossConfig, accumulate: int, **unfreezing: int) -> list[float]:
    """Losses by epoch, and last the sum of all weights and of their sizes."""
    cfg = config(epochs=6, batch_size=4, accumulate=accumulate, **unfreezing)
    training = Training(cfg, n=12, norm=False)
    training.loss = loss
    training.tiles.labels[::3, :5] = 255  # parts of a batch with different numbers of valid pixels
    training.tiles.labels[1] = 0
    part = (ranks.rank, ranks.size)
    training.loader = Loader(training.tiles, training.loader.rows, 4, seed=1, drop_last=True, part=part)
    first = training.model[0]
    if unfreezing:
        training.model = staged()
        training.optimizer = build_optimizer(OptimizerConfig(lr=0.01), training.model, device=CPU)
        training.freeze_at = build_freezing(cfg, training.model, STAGES)
    else:
        training.freeze_at = lambda epoch: [w.requires_grad_(epoch != 2) for w in first.parameters()]
    training.run()
    weights = torch.cat([weight.detach().flatten() for weight in training.model.parameters()])
    return [m["train/loss"] for m in training.epochs] + [weights.sum().item(), weights.norm().item()]


NONE = {"bce": 0.0, "dice": 0.0}
CASES: list[tuple[dict[str, float], int, dict[str, int]]] = [
    ({"bce": 0.5, "dice": 0.5}, 1, {}),
    (NONE | {"focal": 1.0}, 2, {}),
    (NONE | {"lovasz": 1.0}, 1, {}),
    ({"bce": 0.5, "dice": 0.0, "lovasz": 0.5}, 1, {"freeze_encoder_epochs": 1, "unfreeze_every": 2}),
]


def curves(ranks: Ranks) -> list[list[float]]:
    """One curve a case."""
    return [curve(ranks, LossConfig(**weights), steps, **unfreezing) for weights, steps, unfreezing in CASES]


def statistics(ranks: Ranks) -> list[float]:
    """Batch statistics that averaged weights get: running mean and variance."""
    training = Training(config(batch_size=4), n=12)
    training.loader = Loader(training.tiles, np.arange(12), 4, seed=1, drop_last=True, part=(ranks.rank, ranks.size))
    average = AveragedModel(training.model)
    batches = statistics_loader(training.loader, training.runtime)
    images = shown_images(batches, training.augment, 6, training.runtime)
    renew_batch_statistics(average, images, training.runtime, frozen=set())
    norm = average.module[1]
    return [*norm.running_mean.tolist(), *norm.running_var.tolist()]


def found_batch(ranks: Ranks, folder: Path) -> int:
    """What `train.batch_size=auto` becomes where rank 0's memory takes 6 tiles and each further rank's one less."""
    settings = small_config(folder, folder, "train.batch_size=auto")
    store: Any = Blobs(1)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(batch_size, "training_rows", lambda *_: (np.arange(1000), None))
        patches.setattr(batch_size, "estimated", lambda *_: Choice(6 - ranks.rank, "so it is"))
        found = batch_size.settle(settings, resolve(settings.train), store, lambda _: pytest.fail("built"))
    return found.train.batch_tiles


def of_each(ranks: Ranks, value: Any) -> list[Any]:
    """What every rank has, in their order."""
    all_of_them: list[Any] = [None] * ranks.size
    dist.all_gather_object(all_of_them, value, group=ranks.hosts)
    return all_of_them


def answers(ranks: Ranks, tiles: int) -> tuple[list[list[int]], str]:
    """Histograms by tile and a hash of every pixel's bin, with tiles that ranks and batches do not share equally."""
    runtime = resolve(config())
    store: Any = Blobs(tiles)
    normalise = Augment(AugmentationConfig(), mean=[60.0] * 3, std=[50.0] * 3, seed=0)
    bins: list[torch.Tensor] = []
    rows: list[int] = []

    def sink(own: Any, batch: torch.Tensor) -> None:
        rows.extend(own.tolist())
        bins.append(batch.clone())

    evaluator = Evaluator(store, np.arange(tiles), normalise, runtime, 2, ranks=ranks)
    hist = evaluator.histograms(network(), sink=sink)
    if ranks.first:
        assert rows == list(range(tiles))
    digest = hashlib.sha256(torch.cat(bins).numpy().tobytes()).hexdigest() if bins else ""
    return hist.reshape(len(hist), 512).tolist(), digest


def stopped(ranks: Ranks) -> list[list[int]]:
    """Steps at which each rank saves when the last one alone gets a signal in its third step."""
    training = Training(config(epochs=6, batch_size=4), n=12, norm=False)
    training.run(stop_after=3 if ranks.rank == ranks.size - 1 else None)
    step = training.saves[0]
    return [[step, ranks.largest(step)]]


if __name__ == "__main__":
    shared = resolve(config()).ranks
    found: dict[str, Any] = {"curves": curves(shared), "answers": [answers(shared, tiles) for tiles in (7, 1)]}
    found["stopped"] = stopped(shared)
    found["statistics"] = of_each(shared, statistics(shared))
    found["batch"] = of_each(shared, found_batch(shared, Path(sys.argv[1]).parent))
    if shared.first:
        Path(sys.argv[1]).write_text(json.dumps(found))
    with pytest.MonkeyPatch.context() as patched:
        ranks_train.patch(patched)
        cli.main(["train", *sys.argv[2:]])
