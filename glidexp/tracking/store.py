"""Where runs are kept: the address, the database made safely, experiments by name, finished runs by config id.

A local store is one folder: `mlflow.db` (sqlite), `artifacts/`, and a lock file. A server is any http(s) address.
"""

import logging
import os
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from glidexp.beside import lock
from glidexp.config import PathsConfig, TrackingConfig
from glidexp.config.stored import without_secrets
from glidexp.errors import TrackingError
from glidexp.tracking.database import (
    check_revision,
    database_path,
    first_line,
    import_databases,
    is_server,
    make_database,
    revisions,
    sqlite_uri,
)
from glidexp.tracking.liveness import at_work
from glidexp.tracking.spool import FOLDER as SPOOL
from glidexp.tracking.writer import is_refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT_KIND = ("mlflow.experimentKind", "custom_model_development")
"""Says to MLflow 3 that networks are trained here. Its pages follow a link's `workflowType` first: see `multirun`."""
ID_TAG = "glidexp.config_id"
KIND_TAG, STUDY, EVALUATION = "glidexp.kind", "study", "evaluation"
"""what a run is that is no training"""
MODEL_RUN_TAG = "glidexp.model_run_id"
"""of an evaluation: the run whose network it scored"""
LOCK = ".store.lock"
ANSWER_S = 5
"""seconds a server may take to say that it is there"""
CLIENT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # With MLflow's own limits a dead server blocks every call for 4 minutes and a hung one for 20. Here the writer
    # tries again, so one call takes 1 s and 21 s at most.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # it would draw across the progress of training
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it announces every migration and every thread
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # nor links into its own view, from a thread
    "GIT_PYTHON_REFRESH": "quiet",
}


def import_mlflow() -> ModuleType:
    """MLflow, imported late (1-3 s), without telemetry, with short waits for a server that is gone."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def warm_up() -> None:
    """Does once what every process does on its first look into a store, for one off which others are forked."""
    import_mlflow()
    import_databases()
    from sqlalchemy.orm import configure_mappers

    revisions()
    configure_mappers()


def import_pyfunc() -> ModuleType:
    """`mlflow.pyfunc`, without the warning about MLflow's own type hints that its import gives."""
    import_mlflow()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*Any type hint is inferred as AnyType", category=UserWarning)
        import mlflow.pyfunc
    return mlflow.pyfunc


def tracking_uri(tracking: TrackingConfig, paths: PathsConfig) -> str:
    """Address of the store: `tracking.uri`, else MLFLOW_TRACKING_URI, else the sqlite database under `paths.mlruns`.

    Raises:
        TrackingError: the address is a plain folder, which MLflow 3.17 no longer writes to
    """
    given = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return sqlite_uri(Path(paths.mlruns).resolve() / "mlflow.db")
    if given.startswith("sqlite:///"):
        # Made absolute: the jobs of a sweep and the pages may start from another folder.
        return sqlite_uri(Path(given.removeprefix("sqlite:///")).resolve())
    if ("://" not in given and ":" not in given) or given.startswith("file:"):
        raise TrackingError(
            f"tracking.uri={given} is a plain folder, which MLflow no longer writes to: leave it out for the store"
            " under paths.mlruns, or give sqlite:////folder/mlflow.db or http://server:5000."
        )
    return given


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run of a config id that is already in the store."""

    run_id: str
    status: str
    """FINISHED, RUNNING, KILLED or FAILED"""
    metrics: dict[str, float]
    """latest value of each metric"""
    alive: bool
    """its process is at work, here or elsewhere: leave it alone"""
    tags: dict[str, str]


class Store:
    """An opened tracking store. Made by `open_store`."""

    def __init__(self, uri: str, mlruns: Path, client: "MlflowClient") -> None:
        self.uri = uri
        self.mlruns = mlruns
        self.client = client
        self._experiments: dict[str, str] = {}

    @property
    def local(self) -> bool:
        """Whether artifacts are written straight into the `mlruns` folder rather than sent to a server."""
        return not is_server(self.uri)

    def spool_folder(self, run_id: str) -> Path:
        """Where what a run logs waits on its way to the store."""
        return self.mlruns / SPOOL / run_id

    def experiment_id(self, name: str) -> str:
        """Id of the experiment, made where it is missing. Several processes may ask for a new one at once.

        Asked once: at the end of a run the store may be gone.

        Raises:
            TrackingError: an experiment of that name lies in MLflow's bin
        """
        if name not in self._experiments:
            self._experiments[name] = self._experiment_id(name)
        return self._experiments[name]

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            folder = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:100].strip(".") or "_"  # not "..", and not too long
            location = (self.mlruns / "artifacts" / folder).as_uri() if self.local else None
            try:
                return str(self.client.create_experiment(name, location, dict([EXPERIMENT_KIND])))
            except MlflowException as error:
                found = self.client.get_experiment_by_name(name)  # another process was faster
                if found is None:
                    raise TrackingError(f"tracking.experiment={name} cannot be made: {first_line(error)}") from error
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment={name} was deleted: restore it with `mlflow experiments restore -x"
                f" {found.experiment_id}`, or give another name."
            )
        if EXPERIMENT_KIND[0] not in found.tags:
            self.client.set_experiment_tag(found.experiment_id, *EXPERIMENT_KIND)
        return str(found.experiment_id)

    def find_run(
        self, config_id: str, experiment: str, *, tag: str = ID_TAG, also: Mapping[str, str] | None = None
    ) -> FoundRun | None:
        """The run of a config id to show or to go on with: the latest finished one, else the latest of the others.

        Args:
            config_id: as in the tag `glidexp.config_id`
            experiment: name; nothing is found, and nothing made, where it does not exist
            tag: another one that names runs in the same way
            also: further tags that it must have
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return None
        wanted = {tag: config_id} | dict(also or {})
        runs = self.client.search_runs(
            [found.experiment_id],
            filter_string=" and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items()),
            order_by=["attributes.start_time DESC"],
            max_results=50,
        )
        finished = [run for run in runs if run.info.status == "FINISHED"]
        return self._found((finished or runs)[0]) if runs else None

    def found(self, run_id: str) -> FoundRun | None:
        """A run by its id; None where it is not in the store, or in its bin. A store that is away raises its error."""
        try:
            run = self.client.get_run(run_id)
        except Exception as error:
            if is_refusal(error):  # there is none
                return None
            raise
        return self._found(run) if run.info.lifecycle_stage == "active" else None

    def share_of_epochs(self, run_id: str) -> float | None:
        """How many of a training's epochs are in the store, 0-1; None before the first."""
        run = self.client.get_run(run_id)
        done = [metric.step for metric in run.data._metric_objs if metric.key == "train/loss"]
        epochs = run.data.params.get("train.epochs", "")
        return min(done[0] / int(epochs), 1.0) if done and epochs.isdigit() and int(epochs) else None

    def history(self, run_id: str, metric: str) -> dict[int, float]:
        """A metric of a run by step, ascending, as stores give it in an order of their own; empty where it has none."""
        found = {one.step: one.value for one in self.client.get_metric_history(run_id, metric)}
        return dict(sorted(found.items()))

    def _found(self, run: "Run") -> FoundRun:
        alive = run.info.status == "RUNNING" and at_work(run.data.tags, self.spool_folder(run.info.run_id))
        return FoundRun(run.info.run_id, run.info.status, dict(run.data.metrics), alive, dict(run.data.tags))


def store_at(mlruns: str, uri: str | None, *, make: bool = False, read: bool = False) -> Store:
    """The store that a verb's --mlruns and --uri name, opened as by `open_store`; a missing one is refused or made."""
    address = tracking_uri(TrackingConfig(uri=uri), PathsConfig(mlruns=mlruns))
    database = database_path(address)
    if not make and database is not None and not database.exists():
        told = f"there is no tracking store {database}: correct --mlruns={mlruns}, --uri or MLFLOW_TRACKING_URI."
        raise TrackingError(told)
    return open_store(address, Path(mlruns), read=read)


def open_store(uri: str, mlruns: Path, *, read: bool = False) -> Store:
    """Opens the store, making it first where it is missing; safe when several processes start on a fresh one.

    Args:
        uri: from `tracking_uri`
        mlruns: folder for artifacts, locks and (by default) the database; made where it is missing
        read: nothing will be written, so a folder that may only be read will do

    Raises:
        TrackingError: the server does not answer, the database is of another MLflow or none at all, or the folder
            holds runs of the old file format
    """
    mlruns = mlruns.resolve()
    _refuse_file_store(mlruns)
    database = database_path(uri)
    lock: AbstractContextManager[None] = _locked(mlruns / LOCK)
    try:
        mlruns.mkdir(parents=True, exist_ok=True)
        (mlruns / LOCK).touch()
    except OSError as error:
        if not read or (database is not None and not database.is_file()):
            told = f"nothing can be written to paths.mlruns={mlruns} ({error.strerror}): give another folder."
            raise TrackingError(told) from None
        lock = nullcontext()  # which keeps those apart who make or migrate a database
    if is_server(uri):
        _ask_server(uri)
    mlflow = import_mlflow()
    if not is_server(uri):
        import_databases()
    with lock, _quiet():
        if database is not None:
            if not database.exists():
                make_database(database, mlruns)
            check_revision(database)
        try:
            client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)  # connects; other databases are migrated here, under the lock
        except Exception as error:
            raise TrackingError(
                f"{without_secrets(uri)} cannot be used as tracking store: {first_line(error)}"
            ) from error
    return Store(uri, mlruns, client)


def _refuse_file_store(mlruns: Path) -> None:
    stray = next((path for path in mlruns.glob("*/meta.yaml") if path.parent.name.isdigit()), None)
    if stray is not None:
        raise TrackingError(
            f"{stray.parent} holds runs in MLflow's old file format, which hides the database beside it: move it away,"
            " or give another folder as paths.mlruns."
        )


def _ask_server(uri: str) -> None:
    """Asks before MLflow does: its client would try for minutes."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_S) as answer:
            answer.read(64)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return  # there, and asks for the credentials that MLflow's client will send
        raise TrackingError(
            f"tracking.uri={without_secrets(uri)} answers, but not as MLflow (HTTP {error.code})."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TrackingError(
            f"tracking.uri={without_secrets(uri)} does not answer ({first_line(reason)}): start the server, or leave"
            " tracking.uri out for a store in paths.mlruns."
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        lock(handle, path)  # released by the system when the process dies
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps MLflow and Alembic from announcing each migration on the terminal, and from a trace of what is raised."""
    before = {name: logging.getLogger(name).level for name in ("mlflow", "alembic", "sqlalchemy")}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
