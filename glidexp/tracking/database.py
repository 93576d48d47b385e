"""The sqlite file behind a local store: its address, made safely, and checked before MLflow touches it."""

import functools
import logging
import os
import sqlite3
import urllib.parse
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from glidexp.errors import TrackingError


def sqlite_uri(database: Path) -> str:
    """Address of a database file."""
    return f"sqlite:///{database}"


NO_LOCKS = (
    "another process has it for long, or its file system keeps no locks, as many network drives: give a folder on a "
    "local disk as paths.mlruns, or a server as tracking.uri"
)


def database_path(uri: str) -> Path | None:
    """The sqlite file behind an address; None for a server or another database."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def is_server(uri: str) -> bool:
    """Whether an address is that of a tracking server, which has pages of its own."""
    return uri.startswith(("http://", "https://"))


def make_database(database: Path, mlruns: Path) -> None:
    """Builds the schema in a file aside and renames it into place, so that nobody sees half of it.

    Args:
        database: the file, which does not exist
        mlruns: folder of the artifacts

    Raises:
        TrackingError: its folder or the file cannot be made
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(
            f"{database.parent} cannot be made ({error.strerror}): give another tracking.uri, or leave it out."
        ) from None
    aside = database.with_name(f"{database.name}.{os.getpid()}.new")
    if database.parent == mlruns:  # whose lock is held: what lies there is of a process that was killed at it
        for left in mlruns.glob(f"{escape(database.name)}.*.new*"):
            left.unlink()
    try:
        store = SqlAlchemyStore(sqlite_uri(aside), (mlruns / "artifacts").as_uri())
        store.engine.dispose()
        SqlAlchemyStore._engine_map.pop(sqlite_uri(aside), None)
        os.replace(aside, database)
    except Exception as error:  # SQLAlchemy's and MLflow's, of a full disk among others; a page each
        SqlAlchemyStore._engine_map.pop(sqlite_uri(aside), None)
        reason = first_line(getattr(error.__context__, "orig", None) or getattr(error, "orig", None) or error)
        way_out = NO_LOCKS if "lock" in reason else "make room, or give another folder as paths.mlruns"
        raise TrackingError(f"{database} cannot be made ({reason}): {way_out}.") from error
    finally:
        aside.unlink(missing_ok=True)


def check_revision(database: Path) -> None:
    """Refuses a database of another schema before MLflow migrates it in silence or prints a page of SQL.

    Raises:
        TrackingError: it is of another MLflow, or none of MLflow's
    """
    import mlflow

    head, known = revisions()
    try:
        # Not mode=ro where it may be written: after a kill within a write sqlite first rolls that write back.
        mode = "rw" if os.access(database, os.W_OK) else "ro"
        with closing(sqlite3.connect(f"file:{urllib.parse.quote(str(database))}?mode={mode}", uri=True)) as connection:
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        what, way_out = "is not a database of MLflow", "move it away, or give another paths.mlruns"
        if "lock" in str(error):
            what, way_out = "cannot be read", NO_LOCKS
        raise TrackingError(f"{database} {what} ({first_line(error)}): {way_out}.") from error
    revision = rows[0][0] if rows else "none"
    if revision == head:
        return
    if revision in known:
        way_out = f"keep a copy of it, then run `mlflow db upgrade sqlite:///{database}`"
    else:
        way_out = "use the newer MLflow that wrote it, or give another paths.mlruns"
    raise TrackingError(f"{database} has schema {revision}, MLflow {mlflow.__version__} needs {head}: {way_out}.")


@functools.cache
def revisions() -> tuple[str, frozenset[str]]:
    """The schema of the installed MLflow, and all that it can migrate from. Reads 67 files, so it is asked once."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    script = ScriptDirectory.from_config(_get_alembic_config(db_url=""))
    return str(script.get_current_head()), frozenset(entry.revision for entry in script.walk_revisions())


def import_databases() -> None:
    """What MLflow opens a database with, imported where one is opened: a third of all its imports."""
    with warnings.catch_warnings():
        # MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 is about to drop; nothing a user could do about it.
        warnings.filterwarnings("ignore", message=r".*``noload`` loader strategy", category=DeprecationWarning)
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - MLflow would, and warn
    from mlflow.store.db import utils

    # it prints a page for every error that it then raises
    logging.getLogger(utils.__name__).setLevel(logging.CRITICAL)
    if hasattr(utils, "_get_latest_schema_revision"):
        # asked for at every store that is opened, and read from those files each time
        utils._get_latest_schema_revision = lambda: revisions()[0]


@contextmanager
def told_as(what: str) -> Iterator[None]:
    """Whatever MLflow, its database or its server raise in here is told in one line.

    Raises:
        TrackingError: `what`, and what the error says; one from inside stays as it is
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"{what}: {first_line(error)}") from error


def is_absent(error: BaseException) -> bool:
    """Whether the store answered that it has no such run, model or version, or no more."""
    return getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST"


def first_line(error: Any) -> str:
    """What an error says, on one line of at most 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
