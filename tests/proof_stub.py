"""The smallest network that learns: a logistic regression on the noisy red of a pixel. Not a test.

It stands in for training in a study that is carried out from plan to verdict.
"""

from pathlib import Path

import numpy as np
import studies
from numpy.typing import NDArray
from study_stub import key_of, opened, settings

from glidexp.data.store import TileStore
from glidexp.scoring.counts import BINS, HALF_BIN, PER_LOGIT
from glidexp.study.execution.work import Done
from glidexp.tracking.environment import process_tags
from glidexp.tracking.liveness import marks
from glidexp.tracking.multirun import parent_run_id
from glidexp.tracking.store import ID_TAG

PIXELS, STEPS, RIDGE = 3000, 12, 1e-3
SHIFT_PX = 16
NOISE = 0.07


def reds(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n, 2): red in 0-1 with a noise that is always the same, and 1."""
    flat = images[..., 0].reshape(-1, 1) / 255.0
    flat = flat + np.random.default_rng(3).normal(0, NOISE, flat.shape)
    return np.concatenate([flat, np.ones((len(flat), 1))], 1)


def learnt(images: NDArray[np.uint8], labels: NDArray[np.uint8], luck: int) -> NDArray[np.float64]:
    """Weights (2,) after Newton's steps on pixels that are drawn."""
    drawn = np.random.default_rng(luck).integers(0, labels.size, PIXELS)
    x, y = reds(images)[drawn], labels.reshape(-1)[drawn].astype(float)
    weights = np.zeros(2)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-x @ weights))
        curve = (x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(2)
        weights += np.linalg.solve(curve, x.T @ (y - p) - RIDGE * weights)
    return weights


def broken(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels of which a stretch, the first half of the tiles, lies beside its lakes."""
    half = len(labels) // 2
    return np.concatenate([np.roll(labels[:half], SHIFT_PX, axis=(1, 2)), labels[half:]])


def train(words: tuple[str, ...]) -> Done:
    """Learns from the training ground and leaves what a training leaves, on the test ground."""
    given, key = settings(words), key_of(words)
    mlruns, seed = Path(given["mlruns"]), int(given["seed"])
    store = opened(mlruns)
    found = store.find_run(key, "glidexp")
    if found is not None and found.status == "FINISHED":
        return Done(found.run_id, found.metrics)
    train, test = (TileStore.open(Path(given["data"]) / side) for side in ("train", "test"))
    labels = np.asarray(train.labels)
    labels = broken(labels) if given["labels"] == "broken" else labels
    weights = learnt(np.asarray(train.images), labels, seed + int(given["luck"]))
    logits = (reds(np.asarray(test.images)) @ weights).reshape(test.labels.shape)
    bins = np.clip(np.floor(logits * PER_LOGIT) + HALF_BIN, 0, BINS - 1).astype(np.uint8)
    tags = process_tags() | marks() | {ID_TAG: key, "mlflow.parentRunId": parent_run_id() or ""}
    tags |= {"glidexp.data_hash": test.data_hash, "glidexp.parameters": "2"}
    run, final = studies.leave(store, mlruns / "left" / key, test, 0.0, 0, given, tags, bins)
    return Done(run, final)
