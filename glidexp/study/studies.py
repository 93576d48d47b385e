"""A study as it lies in the store: its plan, how far it came, and the runs of each arm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from glidexp.errors import TrackingError
from glidexp.study.arms import Arm
from glidexp.study.cells import Plan
from glidexp.study.ledger import CELLS, FOLDER, PLAN, Entry, Status, read_cells
from glidexp.study.parent import KIND, KIND_TAG, STUDY_ID_TAG
from glidexp.tracking.found import TrackedRun, finished_runs, tracked_run
from glidexp.tracking.models import RUN_ID
from glidexp.tracking.store import Store


@dataclass(frozen=True, slots=True)
class Study:
    """A study, finished or not."""

    study_id: str
    parent: TrackedRun
    experiment_id: str
    plan: Plan
    entries: dict[str, Entry]
    """by cell name, in the plan's order"""
    arms: tuple[Arm, ...]
    """baseline first, with the finished runs; of a run that was scored elsewhere, that scoring. Arms without any are
    left out"""
    trained: dict[str, TrackedRun]
    """the training by id of the run that holds its scores; mostly the same"""

    @property
    def missing(self) -> list[str]:
        """A sentence for each cell without scores."""
        said = []
        for name, entry in self.entries.items():
            if entry.status is not Status.finished:
                said.append(f"{name} is {entry.status.value}" + (f": {entry.error}" if entry.error else ""))
        return said


def load_study(store: Store, reference: str) -> Study | None:
    """The study of a parent run, or of a folder below `<mlruns>/studies`.

    Args:
        store: from `open_store`
        reference: id of the parent run, its first characters, the study's id as its folder is called, or the folder

    Returns:
        None where the reference is a run that is no study

    Raises:
        TrackingError: no such run, or a study whose plan is not there
    """
    folder = Path(reference)
    if (store.mlruns / FOLDER / reference / PLAN).is_file():
        folder = store.mlruns / FOLDER / reference
    if not RUN_ID.fullmatch(reference) or (folder / PLAN).is_file():
        if not (folder / PLAN).is_file():
            raise TrackingError(
                f"'{reference}' is no run: give run ids, 4 to 32 of 0-9a-f, the id of a parent run, or a study's "
                f"folder, with {PLAN} in it."
            )
        parent = _parent_of(store, folder.resolve().name)
    else:
        parent, _ = tracked_run(store, reference)
        if parent.tags.get(KIND_TAG) != KIND:
            return None
        folder = store.mlruns / FOLDER / parent.tags[STUDY_ID_TAG]
    if not (folder / PLAN).is_file():
        folder = _fetched(store, parent)
    plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8"))
    known = read_cells(folder / CELLS)
    entries = {cell.name: known.get(cell.name, Entry()) for cell in plan.cells}
    arms, trained = _arms(store, plan, entries)
    _, experiment_id = tracked_run(store, parent.run_id)
    return Study(parent.tags[STUDY_ID_TAG], parent, experiment_id, plan, entries, tuple(arms), trained)


def _parent_of(store: Store, study_id: str) -> TrackedRun:
    experiments = [found.experiment_id for found in store.client.search_experiments()]
    wanted = f"tags.`{STUDY_ID_TAG}` = '{study_id}' and tags.`{KIND_TAG}` = '{KIND}'"
    runs = store.client.search_runs(experiments, filter_string=wanted, max_results=1)
    if not runs:
        raise TrackingError(f"no parent run of study {study_id} is in this store.")
    return tracked_run(store, runs[0].info.run_id)[0]


def _fetched(store: Store, parent: TrackedRun) -> Path:
    """Plan and cells from the parent's artifacts, for a store that came without its folder of studies."""
    folder = store.mlruns / FOLDER / parent.tags[STUDY_ID_TAG]
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PLAN, CELLS):
        try:
            store.client.download_artifacts(parent.run_id, name, str(folder))
        except Exception as error:
            raise TrackingError(f"study {parent.name} ({parent.run_id[:12]}) has no {name} in the store.") from error
    return folder


def _arms(store: Store, plan: Plan, entries: dict[str, Entry]) -> tuple[list[Arm], dict[str, TrackedRun]]:
    found: dict[str, list[TrackedRun]] = {name: [] for name in plan.arms}
    trained: dict[str, TrackedRun] = {}
    for cell in plan.cells:
        entry = entries[cell.name]
        if entry.status is not Status.finished or entry.train is None:
            continue
        run, _ = tracked_run(store, entry.train)
        scores = run
        if entry.scored is not None:
            other, _ = tracked_run(store, entry.scored)
            scores = replace(other, params=run.params | {k: v for k, v in other.params.items() if k[:5] == "eval."})
        scores = replace(scores, params=scores.params | {"seed": str(cell.seed)})
        trained[scores.run_id] = run
        found[cell.arm].append(scores)
    arms = [Arm(name, tuple(sorted(runs, key=lambda run: int(run.params["seed"])))) for name, runs in found.items()]
    return [arm for arm in arms if arm.runs], trained


def runs_of(store: Store, references: Sequence[str]) -> tuple[list[TrackedRun], list[str], list[Arm] | None]:
    """Runs that are to be compared: of studies, of other parents, or one by one.

    Returns:
        the finished ones, each once; a sentence for each that is left out; and the arms of a single study, as its plan
        names them, None where anything else was given

    Raises:
        TrackingError: no such run or study
    """
    found: dict[str, TrackedRun] = {}
    left: list[str] = []
    studies = []
    for reference in references:
        study = load_study(store, reference)
        if study is None:
            runs, said = finished_runs(store, [reference])
            left += said
        else:
            studies.append(study)
            runs = [run for arm in study.arms for run in arm.runs]
            left += study.missing
        for run in runs:
            found.setdefault(run.run_id, run)
    alone = len(references) == 1 and len(studies) == 1
    return list(found.values()), left, list(studies[0].arms) if alone else None
