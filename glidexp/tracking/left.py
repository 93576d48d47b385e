"""Runs that say RUNNING and that nobody works at any more: parents of studies whose sweep was killed, and no later one
went on with it; others that no command takes up again."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from glidexp.beside import lock
from glidexp.tracking.liveness import PROCESS_TAG, ended_here
from glidexp.tracking.models import A_PAGE, search
from glidexp.tracking.multirun import close_parent
from glidexp.tracking.resume import close_spool
from glidexp.tracking.spool import FOLDER as SPOOL
from glidexp.tracking.spool import is_held
from glidexp.tracking.store import KIND_TAG, STUDY, Store
from glidexp.tracking.study_runs import STUDY_ID_TAG, STUDY_TAG

STUDIES = "studies"
"""folder of all studies beside the runs; the file names below are of one study's folder in it"""
CELLS, PLAN = "cells.json", "study.json"
AT_WORK = "sweeps.lock"
"""shared by the sweeps of a study: who gets it alone is the last"""
TURN = "turn.lock"
"""held by a sweep that begins or ends"""
OVER = ("finished", "failed", "stopped")
"""status of a cell of which a scheduler has nothing left to do"""


@dataclass(frozen=True, slots=True)
class Left:
    """A study that was left."""

    run_id: str
    """of its parent run"""
    study_id: str
    title: str


def work_folder(mlruns: Path, key: str) -> Path:
    """Folder whose lock is held by whoever carries out the run of a config id, for whichever study."""
    return mlruns / STUDIES / "at_work" / key


def left_studies(store: Store) -> list[Left]:
    """Studies whose parent run says RUNNING although no process and no scheduler's job is at work on them.

    A study counts as at work where a sweep holds its lock, the process that its parent run names is alive (of another
    host: gave a sign of life within three minutes), one of its runs is at work, or `cells.json` notes a job that is
    not over. A study that has no folder here, or one that cannot be read, is left alone: nothing is known of it.
    """
    found = []
    wanted = f"tags.`{KIND_TAG}` = '{STUDY}' and attributes.status = 'RUNNING'"
    for run in search(store, wanted, most=A_PAGE):
        tags = run.data.tags
        one = Left(run.info.run_id, tags.get(STUDY_ID_TAG, ""), tags.get(STUDY_TAG, ""))
        folder = _folder(store, one)
        if (folder / AT_WORK).is_file():
            with _alone(folder / AT_WORK) as alone:
                if alone and not _at_work(store, one):
                    found.append(one)
    return found


def close_left(store: Store) -> list[Left]:
    """Marks them KILLED, and gives those of which this was done. The same sweep command still goes on with each."""
    closed = []
    for one in left_studies(store):
        folder = _folder(store, one)
        with _alone(folder / TURN) as turn, _alone(folder / AT_WORK) as alone:  # a sweep of it may have begun meanwhile
            if turn and alone and not _at_work(store, one):
                close_parent(store, one.run_id, "KILLED", "its sweep was killed; the same command goes on with it")
                closed.append(one)
    return closed


def close_ended(store: Store, wanted: str) -> None:
    """Marks runs KILLED that say RUNNING though their process, which was of this machine, is there no more.

    What waits of them is sent first. Spools of runs that are finished go: their processes were killed after the end. A
    store that does not answer does not matter.

    Args:
        store: from `open_store`
        wanted: which runs, as MLflow's search has it
    """
    with suppress(Exception):
        for run in search(store, f"{wanted} and attributes.status = 'RUNNING'", most=A_PAGE):
            run_id = run.info.run_id
            if not ended_here(run.data.tags.get(PROCESS_TAG, "")):
                continue
            close_spool(store, run_id)
            found = store.found(run_id)  # what waited may have been its end, or somebody goes on with it
            if found is not None and found.status == "RUNNING" and not found.alive:
                close_parent(store, run_id, "KILLED", "its process was killed")
        for folder in [*store.mlruns.glob(f"{SPOOL}/*")]:
            found = store.found(folder.name)
            if found is not None and found.status == "FINISHED":
                close_spool(store, found.run_id)


def _folder(store: Store, one: Left) -> Path:
    return store.mlruns / STUDIES / one.study_id


def _at_work(store: Store, one: Left) -> bool:
    """Whether anybody but the holder of its locks is at work on a study, or nothing can be known of that."""
    parent = store.found(one.run_id)
    if parent is None or parent.status != "RUNNING" or parent.alive:
        return True
    try:
        plan = json.loads((_folder(store, one) / PLAN).read_text(encoding="utf-8"))
        lines = json.loads((_folder(store, one) / CELLS).read_text(encoding="utf-8"))
        keys = [str(cell["key"]) for cell in plan["cells"]]
        jobs = [line["job"] for line in lines.values() if line.get("job") and line["status"] not in OVER]
        runs = {line["train"] for line in lines.values()} | {line["scored"] for line in lines.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
    if jobs or any(is_held(work_folder(store.mlruns, key)) for key in keys):
        return True
    return any((found := store.found(run_id)) is not None and found.alive for run_id in runs if run_id)


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Takes a lock, where nobody has it; gives whether it was taken."""
    with path.open("a") as stream:
        yield lock(stream, path, wait=False)
