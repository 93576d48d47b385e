"""A trainer that stands in for the network: writes a run as training does, and dies where it is told. Not a test.

As a script it is a sweep of such runs: `study_stub.py MLRUNS SLOTS ATTEMPTS` carries out the plan in MLRUNS/plan.json.
"""

import dataclasses
import hashlib
import logging
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from glidexp.config.launcher import LauncherConfig
from glidexp.errors import GlidexpError, TrackingError
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.execute import execute
from glidexp.study.execution.launchers import local as launchers_local
from glidexp.study.execution.ledger import Entry, Ledger
from glidexp.study.execution.work import Done, Order
from glidexp.tracking.environment import process_tags
from glidexp.tracking.liveness import marks
from glidexp.tracking.multirun import parent_run_id
from glidexp.tracking.spool import Spool
from glidexp.tracking.store import ID_TAG, MODEL_RUN_TAG, Store, open_store, warm_up

warm_up()  # once, in the process that the runs are forked off
SLOW = "STUB_SLOW_BEGIN"
"""variable that makes the processes of runs slow to begin, in the folder that it names"""


def slow_begin(log_path: str) -> None:
    """In place of what a process of a run does before it handles signals."""
    noted(Path(os.environ[SLOW]), "beginning", log_path)
    time.sleep(60)


if SLOW in os.environ:
    launchers_local.begin_process = slow_begin
SCORE = "test/lake_iou_pooled"


def settings(words: tuple[str, ...]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def key_of(words: tuple[str, ...]) -> str:
    """What stands for the config id, of which the store's place is no part either."""
    return hashlib.sha256(" ".join(word for word in words if not word.startswith("mlruns=")).encode()).hexdigest()[:16]


def plan(mlruns: Path, ends: dict[str, str], seeds: int = 2) -> Plan:
    """Arms by name, each with how its runs end; several, by commas, one for each seed."""
    cells = []
    for arm, end in ends.items():
        for seed in range(seeds):
            how = (end.split(",") * seeds)[seed]
            words = (f"mlruns={mlruns}", f"arm={arm}", f"end={how}", f"seed={seed}")
            cells.append(Cell(arm, seed, words, key_of(words)))
    return Plan("stub", "Does it go on?", SCORE, tuple(ends), tuple(range(seeds)), tuple(cells))


def stubbed(order: Order) -> Order:
    return dataclasses.replace(order, train="study_stub:train", score="study_stub:score")


def carried_out(plan: Plan, store: Store, cfg: LauncherConfig | None = None, **options: object) -> Ledger:
    cfg = cfg or LauncherConfig()
    return execute(plan, store, cfg, experiment="glidexp", prepare=len, order=stubbed, **options)  # type: ignore[arg-type]


def opened(mlruns: Path) -> Store:
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


def status(plan: Plan, store: Store) -> dict[str, Entry]:
    """What the store knows of each cell now, by name."""
    ledger = Ledger(plan, store, "glidexp")
    return {cell.name: ledger.look(cell) for cell in plan.cells}


def noted(folder: Path, what: str, key: str) -> None:
    """A line of the diary, appended in one write."""
    line = os.open(folder / "diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(line, f"{what} {key}\n".encode())
    os.close(line)


def is_at_work(number: str) -> bool:
    """Whether a process runs: one that was killed stays in the list until its parent has looked at it."""
    try:
        about = Path(f"/proc/{number}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return about.rpartition(")")[2].split()[0] not in ("Z", "X")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train(words: tuple[str, ...]) -> Done:
    """Takes up a run of these words or begins one, and ends as `end=` says: well, by an error, or killed."""
    given, key = settings(words), key_of(words)
    mlruns, end = Path(given["mlruns"]), given["end"]
    store = opened(mlruns)
    found = store.find_run(key, "glidexp")
    if found is not None and found.status == "FINISHED":
        return Done(found.run_id, found.metrics)
    mine = mlruns / f"at-work-{key}"
    if mine.exists() and is_at_work(mine.read_text()):
        noted(mlruns, "twice", key)
    mine.write_text(str(os.getpid()))
    noted(mlruns, "begun", key)
    source = store.find_run(given["start"], "glidexp") if "start" in given else None
    if "start" in given and (source is None or source.status != "FINISHED"):
        raise GlidexpError("no finished run of this config id")
    if end == "refused":
        raise GlidexpError("train.batch_size=5000 is more than the 12 training tiles: lower it.")
    if end == "away" or (end == "away at first" and not (mlruns / f"away-{key}").exists()):
        (mlruns / f"away-{key}").touch()
        raise TrackingError("http://host does not answer: start it.") from ConnectionRefusedError(111, "refused")
    if end == "killed at first" and not (mlruns / f"died-{key}").exists():
        (mlruns / f"died-{key}").touch()
        die()
    if found is None:
        tags = process_tags() | marks() | {ID_TAG: key, "mlflow.parentRunId": parent_run_id() or ""}
        run_id = store.client.create_run(store.experiment_id("glidexp"), tags=tags).info.run_id
    else:
        run_id = found.run_id
    if end == "always killed" or (end == "killed" and found is None):
        die()
    if end == "unsent" and found is None:  # a server that is away at the end of a run
        spool = Spool.open(store.spool_folder(run_id))
        spool.append("end", {"status": "FINISHED", "error": ""})
        spool.close()
        return Done(run_id, {SCORE: 0.5})
    shutil.rmtree(store.spool_folder(run_id), ignore_errors=True)
    if end == "error" and not (mlruns / "mended").exists():
        store.client.set_terminated(run_id, status="FAILED")
        raise ValueError("the network gives NaN")
    while end == "hangs" and not (mlruns / "go").exists():
        time.sleep(0.02)
    if end == "greedy":
        kept = b"x" * 400_000_000
        while kept:
            time.sleep(0.02)
    score = random.Random(key).random()
    store.client.log_metric(run_id, SCORE, score)
    store.client.set_terminated(run_id)
    mine.unlink()
    if end == "killed at last":
        die()
    noted(mlruns, "finished", key)
    return Done(run_id, {SCORE: score})


def score(run_id: str, words: tuple[str, ...]) -> Done:
    """A run of its own, linked to the model, as `glidexp evaluate` leaves it."""
    store = opened(Path(settings(words)["mlruns"]))
    tags = process_tags() | marks() | {MODEL_RUN_TAG: run_id}
    scored = store.client.create_run(store.experiment_id("glidexp"), tags=tags).info.run_id
    value = random.Random(" ".join(words)).random()
    store.client.log_metric(scored, SCORE, value)
    store.client.set_terminated(scored)
    noted(store.mlruns, "scored", run_id)
    return Done(scored, {SCORE: value})


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    mlruns, slots, attempts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    launchers_local.PRELOADED = "study_stub"
    cfg = LauncherConfig(slots=slots, attempts=attempts)
    ledger = carried_out(Plan.from_json((mlruns / "plan.json").read_text()), opened(mlruns), cfg)
    sys.exit(0 if ledger.complete else 1)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
