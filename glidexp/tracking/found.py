"""Runs of a store that are to be compared: found by id or by their parent, with what they were given and gave."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from glidexp.errors import TrackingError
from glidexp.tracking.models import RUN_ID, children_of, files_at, one_run, search
from glidexp.tracking.store import Store, first_line

if TYPE_CHECKING:
    from mlflow.entities import Run

Read = TypeVar("Read")
A_SEARCH = 100
"""runs that are asked for at once"""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A finished run."""

    run_id: str
    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    files: str = ""
    """address of what it left behind"""
    hours: float | None = None
    """from its beginning to its end; None while it is under way"""
    experiment_id: str = ""
    folds: "tuple[TrackedRun, ...]" = ()
    """of a run that stands for one on each fold of the ground: these"""

    @property
    def parts(self) -> "tuple[TrackedRun, ...]":
        """The runs that it stands for: those of its folds, else itself."""
        return self.folds or (self,)


def all_parts(runs: Iterable[TrackedRun]) -> list[TrackedRun]:
    """The runs that these stand for, see `TrackedRun.parts`."""
    return [part for run in runs for part in run.parts]


def finished_runs(store: Store, references: Sequence[str]) -> tuple[list[TrackedRun], list[str]]:
    """Runs by id, first characters of one, or id of a parent, which stands for all its children.

    Args:
        store: from `open_store`
        references: as typed

    Returns:
        the finished ones, each once, in the order given; and a sentence for each that is not finished

    Raises:
        TrackingError: no such run, several, or a parent without children
    """
    found: dict[str, TrackedRun] = {}
    left: list[str] = []
    for reference in references:
        if not RUN_ID.fullmatch(reference):
            raise TrackingError(f"'{reference}' is no run: give run ids, 4 to 32 of 0-9a-f, or the id of a parent run.")
        run = one_run(store, reference)
        children = children_of(store, run.info.experiment_id, run.info.run_id)
        if not children and "glidexp.config_id" not in run.data.tags:
            raise TrackingError(f"run {run.info.run_id} ({run.info.run_name}) trained nothing and has no children.")
        for one in children or [run]:
            if one.info.status == "FINISHED":
                found.setdefault(one.info.run_id, tracked(one))
            else:
                left.append(f"{one.info.run_id[:12]} ({one.info.run_name}) is {one.info.status} and left out")
    return list(found.values()), left


def tracked_run(store: Store, reference: str) -> TrackedRun:
    """One run of any status, by its id or its first characters.

    Raises:
        TrackingError: none, or several
    """
    return tracked(one_run(store, reference))


def finished_of(store: Store, ids: Sequence[str]) -> dict[str, TrackedRun]:
    """Those of these runs, by their whole ids, that are finished and not in the store's bin. Asks for many at once."""
    found: dict[str, TrackedRun] = {}
    for start in range(0, len(ids), A_SEARCH):
        listed = ", ".join(f"'{run_id}'" for run_id in ids[start : start + A_SEARCH])
        wanted = f"attributes.run_id IN ({listed}) and attributes.status = 'FINISHED'"
        for run in search(store, wanted, most=A_SEARCH):
            found[run.info.run_id] = tracked(run)
    return found


def fetch_file(store: Store, run: TrackedRun, name: str, folder: Path) -> Path:
    """A copy of a file that a run left behind.

    Args:
        store: from `open_store`
        run: whose
        name: e.g. scores.parquet
        folder: for the copy, one for each run

    Raises:
        TrackingError: it has none of that name
    """
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(files_at(store, run.files).download_artifacts(name, str(folder)))
    except (MlflowException, OSError) as error:
        raise TrackingError(f"run {run.run_id[:12]} ({run.name}) has no {name}: {first_line(error)}") from error


def read_file(store: Store, run: TrackedRun, name: str, read: Callable[[Path], Read]) -> Read:
    """What `read` makes of a file that a run left behind.

    Raises:
        TrackingError: it has none of that name
    """
    with tempfile.TemporaryDirectory() as folder:
        return read(fetch_file(store, run, name, Path(folder)))


def experiment_of(store: Store, run: TrackedRun) -> str:
    """Name of the experiment a run is in."""
    return str(store.client.get_experiment(run.experiment_id).name)


def tracked(run: "Run") -> TrackedRun:
    """What is kept of a run of MLflow's."""
    info, data = run.info, run.data
    return TrackedRun(
        info.run_id,
        info.run_name,
        dict(data.params),
        dict(data.metrics),
        dict(data.tags),
        files=info.artifact_uri,
        hours=None if info.end_time is None else (info.end_time - info.start_time) / 3.6e6,
        experiment_id=str(info.experiment_id),
    )
