"""How far a study is: a line a cell in `cells.json`, checked against the store, which knows what was really finished.

    <mlruns>/studies/<study id>/
      study.json    the plan
      cells.json    by `arm|seed`, or `arm|seed|fold`: run ids, status, score, error
      logs/         what each run printed
      cancel        asks those at work on the study to stop
    <mlruns>/studies/at_work/<config id>/lock      held by the process that carries out a cell

Several sweeps, and every run itself, write `cells.json`: each change is made under a lock, in a file aside that is then
renamed. It may be behind after a kill. What counts is the tracking store, where a run is found by its config id.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from glidexp.beside import lock, sweep, write_text
from glidexp.data.scenes.stand import row_of
from glidexp.errors import TrackingError
from glidexp.study.execution.cells import Cell, Plan
from glidexp.tracking import left
from glidexp.tracking.sink import ERROR_TAG
from glidexp.tracking.spool import Busy, hold, is_held
from glidexp.tracking.store import MODEL_RUN_TAG, FoundRun, Store

log = logging.getLogger("glidexp")
FOLDER, CELLS, PLAN, CANCEL = left.STUDIES, left.CELLS, left.PLAN, "cancel"
SCORED_ON_TAG = "glidexp.scored_on"
"""words of a study's ground on an evaluation, by which it is found again"""
AS_EVER = ("paths.", "tracking.", "train.device=", "train.threads=")
"""beginnings of words of a ground that change no score: where things lie, and how many cores there are"""
MIXED = "eval.adapt=batch_norm"
"""word of evaluations whose tag differs from those of before, which took batch statistics in the order of the store"""


class Status(StrEnum):
    """Of a cell."""

    planned = "planned"
    running = "running"
    finished = "finished"
    failed = "failed"
    killed = "killed"
    """by a signal: goes on"""
    stopped = "stopped"
    """early, by the search that it belongs to: does not go on"""


DONE = tuple(map(Status, left.OVER))
"""of a cell with which nothing is to be done"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a cell."""

    train: str | None = None
    """run id of the training"""
    scored: str | None = None
    """run id of the evaluation on the study's ground, where the training's own test set is another"""
    ground: str = ""
    """what that was scored on (`scored_on`); "" of lines of before"""
    status: Status = Status.planned
    score: float | None = None
    """the study's primary score"""
    seconds: float = 0.0
    """that it was at work, all attempts together"""
    error: str = ""
    """why it failed, in a line"""
    job: str = ""
    """of a scheduler that has it"""


def study_id(plan: Plan) -> str:
    """Names a study by what is run: the same cells are the same study, whatever is written about them. 12 digits."""
    if plan.identity:
        return hashlib.sha256(json.dumps([plan.name, plan.identity]).encode()).hexdigest()[:12]
    cells = [[cell.arm, cell.seed, cell.key, cell.scored_on] for cell in plan.cells]
    return hashlib.sha256(json.dumps([plan.name, cells]).encode()).hexdigest()[:12]


class Ledger:
    """The cells of one study. Made from the plan; a second one of the same study sees what the first wrote.

    Args:
        plan: of the study
        store: where the runs are kept
        experiment: of the runs, by name
    """

    def __init__(self, plan: Plan, store: Store, experiment: str) -> None:
        self.plan, self.store, self.experiment = plan, store, experiment
        self.study_id = study_id(plan)
        self.folder = store.mlruns / FOLDER / self.study_id
        self.parent_run_id: str | None = None

    @property
    def path(self) -> Path:
        """Of `cells.json`."""
        return self.folder / CELLS

    def log_path(self, cell: Cell) -> Path:
        """Where what a cell's run prints is kept."""
        plain = re.sub(r"[^A-Za-z0-9._=+-]+", "_", cell.arm)[:80]
        training = cell.training.replace(" fold ", "-fold").replace(" ", "")
        mark = hashlib.sha256(cell.name.encode()).hexdigest()[:6]  # two arms may become the same name
        return self.folder / "logs" / f"{plain}-{training}-{mark}.log"

    def entries(self) -> dict[str, Entry]:
        """What `cells.json` says, by cell name, in the plan's order."""
        found = known_cells(self.path)
        return {cell.name: found.get(cell.name, Entry()) for cell in self.plan.cells}

    def update(self, cell: Cell, **changes: Any) -> Entry:
        """Changes some fields of a cell's line."""
        return update_cell(self.path, cell.name, **changes)

    def of_the_same_words(self) -> list[str]:
        """Ids of other studies whose runs had the very same commands: files or a version of glidexp changed since.

        None where this one was begun before, or is of no cells yet.
        """
        found = list[str]()
        if self.folder.exists() or not self.plan.cells:
            return found
        for path in sorted(self.folder.parent.glob(f"*/{PLAN}")):
            try:
                other = Plan.from_json(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, KeyError, TypeError):  # damaged; who asks for it is told
                continue
            if other.name == self.plan.name and _words(other) == _words(self.plan):
                found.append(path.parent.name)
        return found

    def begin(self) -> None:
        """Makes the folder, with the plan and an empty line for each cell.

        Lines of cells that the plan lacks stay: another sweep of the same search may have found them meanwhile.
        """
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        with _alone(self.path):
            for file in (self.folder / PLAN, self.path):
                sweep(file)
            write_text(self.folder / PLAN, self.plan.to_json())
            write_text(self.path, _as_text(self.entries() | known_cells(self.path)))

    def grow(self, cells: Sequence[Cell], *, again: Sequence[Cell] = ()) -> None:
        """Takes cells into the plan that were found while the study goes on. Its id stays.

        Args:
            cells: that the plan does not hold
            again: those of them whose run, if it failed before, is begun again
        """
        plan = self.plan
        arms = dict.fromkeys([*plan.arms, *(cell.arm for cell in cells)])
        self.plan = replace(plan, arms=tuple(arms), cells=(*plan.cells, *cells))
        with _alone(self.path):
            write_text(self.folder / PLAN, self.plan.to_json())
        for cell in cells:
            if cell.name not in known_cells(self.path):
                self.update(cell, status=Status.killed if cell in again else Status.planned)

    def of(self, *statuses: Status) -> list[Cell]:
        """Cells of these statuses, as far as `cells.json` knows."""
        entries = self.entries()
        return [cell for cell in self.plan.cells if entries[cell.name].status in statuses]

    @property
    def failed(self) -> dict[str, str]:
        """Error by name of each failed cell."""
        return {name: entry.error for name, entry in self.entries().items() if entry.status is Status.failed}

    @property
    def complete(self) -> bool:
        """Whether every cell is finished, or was stopped for good."""
        return len(self.of(Status.finished, Status.stopped)) == len(self.plan.cells)

    def look(self, cell: Cell) -> Entry:
        """The truth about a cell: the store's word before that of `cells.json`, which is set right.

        Status `running` means that some process is at work on it, or begins with it, here or elsewhere.
        """
        entry = self.entries()[cell.name]
        found = self._training(cell, entry)
        seen = entry
        if found is not None:
            seen = replace(seen, train=found.run_id)
        if found is not None and found.status == "FINISHED":
            scored = found if cell.scored_on is None else self._scored(found.run_id, cell.scored_on, entry)
            if scored is not None and scored.status == "FINISHED":
                own = None if cell.scored_on is None else scored.run_id
                score = scored.metrics.get(self.plan.primary)
                seen = replace(seen, scored=own, status=Status.finished, score=score, error="")
                return self._kept(cell, entry, seen)
            found = scored
        if self.at_work(cell) or (found is not None and found.alive):
            return self._kept(cell, entry, replace(seen, status=Status.running))
        if entry.status in (Status.running, Status.finished):  # it says so, and it is not
            seen = replace(seen, status=Status.killed)
        elif found is not None and found.status == "FAILED" and entry.status is Status.planned:
            error = found.tags.get(ERROR_TAG, "its run is marked FAILED")
            seen = replace(seen, status=Status.failed, error=error)
        return self._kept(cell, entry, seen)

    def progress(self, cell: Cell) -> float | None:
        """Share of a run's epochs that are in the store, 0-1; None before the first."""
        found = self.store.find_run(cell.key, self.experiment)
        return None if found is None else self.store.share_of_epochs(found.run_id)

    def at_work(self, cell: Cell) -> bool:
        """Whether a process of some sweep on this store has the cell."""
        return bool(is_held(left.work_folder(self.store.mlruns, cell.key)))

    def _kept(self, cell: Cell, before: Entry, after: Entry) -> Entry:
        return after if after == before else self.update(cell, **asdict(after))

    def _training(self, cell: Cell, entry: Entry) -> FoundRun | None:
        """By config id; a run that was given another (a measured batch size) by the id that its line holds."""
        found = self.store.find_run(cell.key, self.experiment)
        if found is None and entry.train is not None:
            return self.store.found(entry.train)
        return found

    def _scored(self, train: str, words: tuple[str, ...], entry: Entry) -> FoundRun | None:
        own = scored_on(words)
        known = self.store.found(entry.scored) if entry.scored is not None else None
        # a line's word counts before the tag: an evaluation that was finished before has that of whoever made it
        said = entry.ground or (known and known.tags.get(SCORED_ON_TAG)) or own
        if known is not None and said in ((own,) if entry.ground else (own, _typed(words))):
            return known
        return self.store.find_run(own, self.experiment, tag=SCORED_ON_TAG, also={MODEL_RUN_TAG: train})


def _words(plan: Plan) -> list[tuple[object, ...]]:
    """All that is typed for the runs of a plan."""
    return sorted((cell.name, cell.words, cell.scored_on or ()) for cell in plan.cells)


def scored_on(words: tuple[str, ...]) -> str:
    """A ground as a tag holds it: the words that decide scores, and how the files that they name stand on disk.

    Folders do not count: who looks into one leaves things there, as GDAL does beside scenes.
    """
    said = [word for word in words if not word.startswith(AS_EVER)]
    named = [Path(value.strip("'\"")) for _, equals, value in (word.partition("=") for word in said) if equals]
    with suppress(OSError):  # one is not there now: who opens it says so
        said += [str(row_of(path)) for path in named if path.is_file()]
    return _typed(tuple(said))


def _typed(words: tuple[str, ...]) -> str:
    """Words as tags of before held them, all of them and nothing else."""
    said = [*words, *["mixed"] * (MIXED in words)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


@contextmanager
def held(mlruns: Path, key: str) -> Iterator[bool]:
    """Takes a cell for this process. Gives False, at once, where another has it."""
    folder = left.work_folder(mlruns, key)
    try:
        handle = hold(folder)
    except Busy:
        yield False
        return
    try:
        yield True
    finally:
        (folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # somebody else is about to take it
            folder.rmdir()
        os.close(handle)


def read_cells(path: Path) -> dict[str, Entry]:
    """Lines of a `cells.json`, by cell name; none where there is no such file.

    Raises:
        TrackingError: it is damaged
    """
    try:
        lines: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Entry(**{**line, "status": Status(line["status"])}) for name, line in lines.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrackingError(
            f"{path} is damaged ({error}): the command of its sweep, with status=true, makes it anew from the store."
        ) from None


def known_cells(path: Path) -> dict[str, Entry]:
    """The same for those who write it anew: what a damaged one said is found in the store."""
    try:
        return read_cells(path)
    except TrackingError as error:
        log.warning("%s", error)
        return {}


def update_cell(path: Path, name: str, **changes: Any) -> Entry:
    """Changes some fields of one line of a `cells.json`."""
    with _alone(path):
        entries = known_cells(path)
        entries[name] = replace(entries.get(name, Entry()), **changes)
        write_text(path, _as_text(entries))
        return entries[name]


def _as_text(entries: Mapping[str, Entry]) -> str:
    return json.dumps({name: asdict(entry) for name, entry in entries.items()}, indent=1)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("a") as stream:
        lock(stream, path)
        yield
