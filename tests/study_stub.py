"""A trainer that stands in for the network: writes a run as training does, and dies where it is told. Not a test."""

import hashlib
import os
import random
import signal
import time
from pathlib import Path

from glidexp.errors import GlidexpError
from glidexp.study.work import Done
from glidexp.tracking.environment import process_tags
from glidexp.tracking.liveness import marks
from glidexp.tracking.multirun import parent_run_id
from glidexp.tracking.store import ID_TAG, import_mlflow, open_store

import_mlflow()  # once, in the process that the runs are forked off
SCORE = "test/lake_iou_pooled"


def settings(words: tuple[str, ...]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def key_of(words: tuple[str, ...]) -> str:
    """What stands for the config id."""
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def noted(folder: Path, what: str, key: str) -> None:
    """A line of the diary, appended in one write."""
    line = os.open(folder / "diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(line, f"{what} {key}\n".encode())
    os.close(line)


def train(words: tuple[str, ...]) -> Done:
    """Takes up a run of these words or begins one, and ends as `end=` says: well, by an error, or killed the first
    times."""
    given, key = settings(words), key_of(words)
    mlruns = Path(given["mlruns"])
    store = open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)
    found = store.find_run(key, "glidexp")
    if found is not None and found.status == "FINISHED":
        return Done(found.run_id, found.metrics)
    noted(mlruns, "begun", key)
    if given["end"] == "refused":
        raise GlidexpError("train.batch_size=5000 is more than the 12 training tiles: lower it.")
    client = store.client
    if found is None:
        tags = process_tags() | marks() | {ID_TAG: key, "mlflow.parentRunId": parent_run_id() or ""}
        run_id = client.create_run(store.experiment_id("glidexp"), tags=tags).info.run_id
    else:
        run_id = found.run_id
    if given["end"] == "killed" and found is None:
        os.kill(os.getpid(), signal.SIGKILL)
    if given["end"] == "error" and not (mlruns / "mended").exists():
        client.set_terminated(run_id, status="FAILED")
        raise ValueError("the network gives NaN")
    if given["end"] == "hangs":
        while not (mlruns / "go").exists():
            time.sleep(0.02)
    if given["end"] == "greedy":
        kept = bytearray(os.urandom(1)) * 400_000_000
        while kept:
            time.sleep(0.02)
    score = random.Random(key).random()
    client.log_metric(run_id, SCORE, score)
    client.set_terminated(run_id)
    noted(mlruns, "finished", key)
    return Done(run_id, {SCORE: score})


def score(run_id: str, words: tuple[str, ...]) -> Done:
    raise AssertionError("no cell here is scored elsewhere")
