"""A study as it lies in the store: its plan, how far it came, and the runs of each arm."""

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from glidexp.errors import TrackingError
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.folds import joined
from glidexp.study.execution.cells import Plan
from glidexp.study.execution.ledger import CELLS, FOLDER, PLAN, Entry, Status, read_cells
from glidexp.tracking.found import TrackedRun, finished_of, tracked, tracked_run
from glidexp.tracking.models import A_PAGE, RUN_ID, search
from glidexp.tracking.store import KIND_TAG, STUDY, Store
from glidexp.tracking.study_runs import STUDY_ID_TAG, STUDY_TAG


@dataclass(frozen=True, slots=True)
class Study:
    """A study, finished or not."""

    study_id: str
    parent: TrackedRun
    plan: Plan
    entries: dict[str, Entry]
    """by cell name, in the plan's order"""
    arms: tuple[Arm, ...]
    """baseline first, with the finished runs; of a run that was scored elsewhere, that scoring; of a seed on several
    folds one run, where all are finished. Arms without any are left out"""
    trained: dict[str, TrackedRun]
    """the training by id of the run that holds its scores; mostly the same"""
    folder: Path
    """with its plan and its cells"""

    @property
    def missing(self) -> list[str]:
        """A sentence for each cell without scores."""
        return [sentence for arm in self.plan.arms for sentence in self.missing_of(arm)]

    def missing_of(self, arm: str) -> list[str]:
        """The same for the cells of one arm."""
        said = []
        for cell in self.plan.cells:
            entry = self.entries[cell.name]
            if cell.arm == arm and entry.status is not Status.finished:
                left = ", so that its seed is left out" * bool(self.plan.folds)
                said.append(f"{cell.name} is {entry.status.value}{left}" + (f": {entry.error}" if entry.error else ""))
        return said

    @property
    def trainings(self) -> dict[str, TrackedRun]:
        """Each training once, by its id: several arms may be scorings of the same one."""
        return {run.run_id: run for run in self.trained.values()}

    def said_of(self, tag: str) -> dict[str, int]:
        """Values of a tag among the trainings, with how many have it; "" where it is not set."""
        return dict(Counter(run.tags.get(tag, "") for run in self.trainings.values()))

    def renamed(self, names: Mapping[str, str]) -> "Study":
        """The same study with other names for its arms, by the present one. Names must stay apart."""
        plan = self.plan
        cells = tuple(replace(cell, arm=names[cell.arm]) for cell in plan.cells)
        spent = {names[arm]: cost for arm, cost in plan.spent.items()}
        return replace(
            self,
            plan=replace(plan, arms=tuple(names[arm] for arm in plan.arms), cells=cells, spent=spent),
            entries={cell.name: self.entries[old.name] for old, cell in zip(plan.cells, cells, strict=True)},
            arms=tuple(replace(arm, name=names[arm.name]) for arm in self.arms),
        )


def load_study(store: Store, reference: str) -> Study | None:
    """The study of a parent run, of a name, or of a folder below `<mlruns>/studies`.

    Args:
        store: from `open_store`
        reference: id of the parent run, its first characters, the study's id as its folder is called, the folder, or
            the study's name where the store has one study of that name

    Returns:
        None where the reference is a run that is no study

    Raises:
        TrackingError: no such run, or a study whose plan is not there, or whose files are damaged
    """
    named = [place for place in (store.mlruns / FOLDER / reference, Path(reference)) if (place / PLAN).is_file()]
    if named:
        parent = _parent_of(store, named[0].resolve().name)
    elif RUN_ID.fullmatch(reference):
        parent = tracked_run(store, reference)
        if parent.tags.get(KIND_TAG) != STUDY:
            return None
    else:
        parent = _parent_named(store, reference)
    folder = named[0] if named else store.mlruns / FOLDER / parent.tags[STUDY_ID_TAG]
    if not (folder / PLAN).is_file():
        folder = _fetched(store, parent)
    try:
        plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            f"{folder / PLAN} is damaged ({error}): the command of its sweep, once more, writes it anew."
        ) from None
    known = read_cells(folder / CELLS)
    entries = {cell.name: known.get(cell.name, Entry()) for cell in plan.cells}
    runs = finished_of(store, _ids(entries))
    entries = {name: _as_it_stands(entry, runs) for name, entry in entries.items()}
    arms, trained = _arms(plan, entries, runs)
    return Study(parent.tags[STUDY_ID_TAG], parent, plan, entries, tuple(arms), trained, folder)


def _parent_of(store: Store, study_id: str) -> TrackedRun:
    runs = _parents(store, STUDY_ID_TAG, study_id)
    if not runs:
        raise TrackingError(f"no parent run of study {study_id} is in this store.")
    return runs[0]


def _parent_named(store: Store, name: str) -> TrackedRun:
    runs = _parents(store, STUDY_TAG, name) if "'" not in name else []
    if not runs:
        raise TrackingError(
            f"'{name}' is no run: give run ids, 4 to 32 of 0-9a-f, the id of a parent run, a study's name, or a "
            f"study's folder, with {PLAN} in it."
        )
    if len(runs) > 1:
        said = ", ".join(f"{run.run_id[:12]} ({run.name}, {run.tags[STUDY_ID_TAG]})" for run in runs)
        raise TrackingError(
            f"{len(runs)} studies are called {name}: give the id of a parent run, {said}; of one arm ID:ARM."
        )
    return runs[0]


def _parents(store: Store, tag: str, value: str) -> list[TrackedRun]:
    """The parent runs of studies with this tag, the newest first."""
    wanted = f"tags.`{tag}` = '{value}' and tags.`{KIND_TAG}` = '{STUDY}'"
    return [tracked(run) for run in search(store, wanted, most=A_PAGE)]


def _fetched(store: Store, parent: TrackedRun) -> Path:
    """Plan and cells from the parent's artifacts, for a store that came without its folder of studies."""
    folder = store.mlruns / FOLDER / parent.tags[STUDY_ID_TAG]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # a store that may only be read
        folder = Path(tempfile.mkdtemp(prefix="glidexp-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in (PLAN, CELLS):
        try:
            store.client.download_artifacts(parent.run_id, name, str(folder))
        except Exception as error:
            raise TrackingError(f"study {parent.name} ({parent.run_id[:12]}) has no {name} in the store.") from error
    return folder


def _ids(entries: Mapping[str, Entry]) -> list[str]:
    """Of the runs of cells that are said to be finished."""
    done = [entry for entry in entries.values() if entry.status is Status.finished]
    return list(dict.fromkeys(one for entry in done for one in (entry.train, entry.scored) if one is not None))


def _as_it_stands(entry: Entry, runs: Mapping[str, TrackedRun]) -> Entry:
    """A line after a look at the store, where somebody may have deleted a run since, or called it FAILED."""
    gone = [one for one in (entry.train, entry.scored) if one is not None and one not in runs]
    if entry.status is not Status.finished or not gone:
        return entry
    why = f"run {gone[0][:12]} was deleted, or is FINISHED no more; the command of the sweep makes it anew"
    return replace(entry, status=Status.killed, error=why)


def _arms(
    plan: Plan, entries: Mapping[str, Entry], runs: Mapping[str, TrackedRun]
) -> tuple[list[Arm], dict[str, TrackedRun]]:
    found: dict[str, dict[int, list[TrackedRun]]] = {name: {} for name in plan.arms}
    trained: dict[str, TrackedRun] = {}
    for cell in plan.cells:
        entry = entries[cell.name]
        if entry.status is not Status.finished or entry.train is None:
            continue
        run = scores = runs[entry.train]
        if entry.scored is not None:
            other = runs[entry.scored]
            scores = replace(other, params=run.params | {k: v for k, v in other.params.items() if k[:5] == "eval."})
        scores = replace(scores, params=scores.params | {"seed": str(cell.seed)})
        trained[scores.run_id] = run
        found[cell.arm].setdefault(cell.seed, []).append(scores)
    arms = [Arm(name, tuple(_of_seeds(plan, by_seed))) for name, by_seed in found.items()]
    return [arm for arm in arms if arm.runs], trained


def _of_seeds(plan: Plan, by_seed: Mapping[int, list[TrackedRun]]) -> Iterable[TrackedRun]:
    """A run for each seed, in their order; of a study over folds, for each seed that is finished on all of them."""
    for _, runs in sorted(by_seed.items()):
        if not plan.folds:
            yield from runs
        elif len(runs) == plan.folds:
            yield joined(runs)
