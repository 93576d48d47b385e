"""Where runs are kept: the address, the database made safely, experiments by name, finished runs by config id.

A local store is one folder: `mlflow.db` (sqlite), `artifacts/`, and a lock file. A server is any http(s) address.
"""

import fcntl
import logging
import os
import re
import sqlite3
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from glidexp.config import PathsConfig, TrackingConfig
from glidexp.errors import TrackingError
from glidexp.tracking.environment import PROCESS_TAG, is_alive

if TYPE_CHECKING:
    from mlflow import MlflowClient

KIND_TAG = "mlflow.experimentKind"
KIND = "custom_model_development"
"""Says to MLflow 3 that networks are trained here. Its pages follow a link's `workflowType` first: see `multirun`."""
ID_TAG = "glidexp.config_id"
LOCK = ".store.lock"
ANSWER_S = 5
"""seconds a server may take to say that it is there"""
CLIENT_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with MLflow's own 7 a dead server blocks every call for four minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # it would draw across the progress of training
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it announces every migration and every thread
    "GIT_PYTHON_REFRESH": "quiet",
}


def import_mlflow() -> ModuleType:
    """MLflow, imported late (1-4 s), without telemetry, with short waits for a server that is gone."""
    for name, value in CLIENT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 is about to drop; nothing a user could do about it.
        warnings.filterwarnings("ignore", message=r".*``noload`` loader strategy", category=DeprecationWarning)
        import mlflow
        import mlflow.store.tracking.sqlalchemy_store
    return mlflow


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
        return _sqlite_uri(Path(paths.mlruns).resolve() / "mlflow.db")
    if given.startswith("sqlite:///"):
        # Made absolute: the jobs of a sweep and the pages may start from another folder.
        return _sqlite_uri(Path(given.removeprefix("sqlite:///")).resolve())
    if ("://" not in given and ":" not in given) or given.startswith("file:"):
        raise TrackingError(
            f"tracking.uri={given} is a plain folder, which MLflow no longer writes to: leave it out for the store"
            " under paths.mlruns, or give sqlite:////folder/mlflow.db or http://server:5000."
        )
    return given


def _sqlite_uri(database: Path) -> str:
    return f"sqlite:///{database}"


def database_path(uri: str) -> Path | None:
    """The sqlite file behind an address; None for a server or another database."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run of a config id that is already in the store."""

    run_id: str
    status: str
    """FINISHED, RUNNING, KILLED or FAILED"""
    metrics: dict[str, float]
    """latest value of each metric"""
    alive: bool
    """its process still works on this machine: leave it alone"""


class Store:
    """An opened tracking store. Made by `open_store`."""

    def __init__(self, uri: str, mlruns: Path, client: "MlflowClient") -> None:
        self.uri = uri
        self.mlruns = mlruns
        self.client = client

    @property
    def local(self) -> bool:
        """Whether artifacts are written straight into the `mlruns` folder rather than sent to a server."""
        return not self.uri.startswith(("http://", "https://"))

    def experiment_id(self, name: str) -> str:
        """Id of the experiment, made where it is missing. Several processes may ask for a new one at once.

        Raises:
            TrackingError: an experiment of that name lies in MLflow's bin
        """
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            folder = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
            location = (self.mlruns / "artifacts" / folder).as_uri() if self.local else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location, tags={KIND_TAG: KIND}))
            except MlflowException as error:
                found = self.client.get_experiment_by_name(name)  # another process was faster
                if found is None:
                    raise TrackingError(f"tracking.experiment={name} cannot be made: {first_line(error)}") from error
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment={name} was deleted: restore it with `mlflow experiments restore -x"
                f" {found.experiment_id}`, or give another name."
            )
        if KIND_TAG not in found.tags:
            self.client.set_experiment_tag(found.experiment_id, KIND_TAG, KIND)
        return str(found.experiment_id)

    def find_run(self, config_id: str, experiment: str) -> FoundRun | None:
        """The run of a config id to show or to go on with: the latest finished one, else the latest of the others.

        Args:
            config_id: as in the tag `glidexp.config_id`
            experiment: name; nothing is found, and nothing made, where it does not exist
        """
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return None
        runs = self.client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{ID_TAG}` = '{config_id}'",
            order_by=["attributes.start_time DESC"],
            max_results=50,
        )
        finished = [run for run in runs if run.info.status == "FINISHED"]
        if not runs:
            return None
        run = (finished or runs)[0]
        alive = run.info.status == "RUNNING" and is_alive(run.data.tags.get(PROCESS_TAG, ""))
        return FoundRun(run.info.run_id, run.info.status, dict(run.data.metrics), alive)


def open_store(uri: str, mlruns: Path) -> Store:
    """Opens the store, making it first where it is missing; safe when several processes start on a fresh one.

    Args:
        uri: from `tracking_uri`
        mlruns: folder for artifacts, locks and (by default) the database; made where it is missing

    Raises:
        TrackingError: the server does not answer, the database is of another MLflow or none at all, or the folder
            holds runs of the old file format
    """
    mlruns = mlruns.resolve()
    _refuse_file_store(mlruns)
    try:
        mlruns.mkdir(parents=True, exist_ok=True)
        (mlruns / LOCK).touch()
    except OSError as error:
        raise TrackingError(
            f"nothing can be written to paths.mlruns={mlruns} ({error.strerror}): give another folder."
        ) from None
    if uri.startswith(("http://", "https://")):
        _ask_server(uri)
    mlflow = import_mlflow()
    database = database_path(uri)
    with _locked(mlruns / LOCK), _quiet():
        if database is not None:
            if not database.exists():
                _make_database(database, mlruns)
            _check_revision(database)
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


def _make_database(database: Path, mlruns: Path) -> None:
    """Builds the schema in a file aside and renames it into place, so that nobody sees half of it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{database.parent} cannot be made ({error.strerror}): give another tracking.uri, or leave it out."
        ) from None
    aside = database.with_name(f"{database.name}.{os.getpid()}.new")
    aside.unlink(missing_ok=True)
    try:
        store = SqlAlchemyStore(_sqlite_uri(aside), (mlruns / "artifacts").as_uri())
        store.engine.dispose()
        SqlAlchemyStore._engine_map.pop(_sqlite_uri(aside), None)
        os.replace(aside, database)
    finally:
        aside.unlink(missing_ok=True)


def _check_revision(database: Path) -> None:
    """Refuses a database of another schema before MLflow migrates it in silence or prints a page of SQL."""
    import mlflow
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    try:
        with closing(sqlite3.connect(f"file:{urllib.parse.quote(str(database))}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise TrackingError(
            f"{database} is not a database of MLflow ({first_line(error)}): move it away, or give another paths.mlruns."
        ) from error
    revision = rows[0][0] if rows else "none"
    if revision == script.get_current_head():
        return
    if revision in {entry.revision for entry in script.walk_revisions()}:
        way_out = f"keep a copy of it, then run `mlflow db upgrade sqlite:///{database}`"
    else:
        way_out = "use the newer MLflow that wrote it, or give another paths.mlruns"
    raise TrackingError(
        f"{database} has schema {revision}, MLflow {mlflow.__version__} needs {script.get_current_head()}: {way_out}."
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released by the system when the process dies
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps MLflow and Alembic from announcing each migration on the terminal."""
    before = {name: logging.getLogger(name).level for name in ("mlflow", "alembic")}
    for name in before:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def without_secrets(uri: str) -> str:
    """The address without a user name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)


def first_line(error: Any) -> str:
    """What an error says, on one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
