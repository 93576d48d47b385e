"""What torchrun starts in `test_ranks.py`: a small training without batch statistics; prints its losses as JSON."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from test_loop import Blobs, Training, config, network

from glidexp.config import AugmentationConfig, LossConfig
from glidexp.data.loader import Loader
from glidexp.training.augment import build_augment
from glidexp.training.device import resolve
from glidexp.training.evaluate import Evaluator
from glidexp.training.ranks import Ranks


def curve(ranks: Ranks, loss: LossConfig, accumulate: int) -> list[float]:
    """Losses by epoch, and last the sum of all weights and of their sizes."""
    training = Training(config(epochs=6, batch_size=4, accumulate=accumulate), n=12, norm=False)
    training.loss = loss
    training.tiles.labels[::3, :5] = 255  # parts of a batch with different numbers of valid pixels
    training.tiles.labels[1] = 0
    part = (ranks.rank, ranks.size)
    training.loader = Loader(training.tiles, training.loader.rows, 4, seed=1, drop_last=True, part=part)
    first = training.model[0]
    training.freeze_at = lambda epoch: [w.requires_grad_(epoch != 2) for w in first.parameters()]
    training.run()
    weights = torch.cat([weight.detach().flatten() for weight in training.model.parameters()])
    return [m["train/loss"] for m in training.epochs] + [weights.sum().item(), weights.norm().item()]


CASES = [({"bce": 0.5, "dice": 0.5}, 1), ({"bce": 0.0, "dice": 0.0, "focal": 1.0}, 2)]


def curves(ranks: Ranks) -> list[list[float]]:
    """One curve a case."""
    return [curve(ranks, LossConfig(**weights), steps) for weights, steps in CASES]


def answers(ranks: Ranks, tiles: int) -> tuple[list[list[int]], str]:
    """Histograms by tile and a hash of every pixel's bin, with tiles that ranks and batches do not share equally."""
    runtime = resolve(config())
    store: Any = Blobs(tiles)
    normalise = build_augment(AugmentationConfig(), mean=[60.0] * 3, std=[50.0] * 3, seed=0)
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
    if shared.first:
        Path(sys.argv[1]).write_text(json.dumps(found))
