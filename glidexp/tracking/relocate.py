"""`glidexp store relocate`: a moved store finds its files again.

MLflow keeps absolute places of artifacts in its database. After `mlruns` was moved or copied, every place that begins
with the old folder is written anew, in one transaction, after a copy of the database was made.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from glidexp.errors import TrackingError
from glidexp.tracking.database import check_revision

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""table and column of every absolute place in MLflow's schema"""
BACKUP = "mlflow.db.before-relocate"


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done."""

    old: str
    """folder under which the files lay, empty where all places were right"""
    changed: int
    missing: tuple[str, ...]
    """places of finished runs that do not exist all the same"""
    backup: Path | None


def relocate(mlruns: Path, old: str | None = None) -> Moved:
    """Writes the places in `mlruns/mlflow.db` anew.

    Args:
        mlruns: folder of the store, where it lies now
        old: folder where it lay; found from the database when not given

    Raises:
        TrackingError: no database of this MLflow there, one that another process writes to, or the old folder cannot
            be told
    """
    mlruns = mlruns.resolve()
    database = mlruns / "mlflow.db"
    if not database.is_file():
        raise TrackingError(f"{database} does not exist: give the folder of a store with --mlruns.")
    check_revision(database)
    here = (mlruns / "artifacts").as_uri()
    with closing(sqlite3.connect(database, timeout=5)) as connection:
        before = _uri(old) if old else _found(connection, here)
        if before == here or not before:
            return Moved("", 0, _missing(connection), None)
        backup = database.with_name(BACKUP)
        changed = 0
        try:
            with closing(sqlite3.connect(backup)) as copy:
                connection.backup(copy)
            with connection:  # one transaction
                connection.execute("BEGIN IMMEDIATE")
                for table, column in PLACES:
                    changed += connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                        f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (here, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    ).rowcount
        except sqlite3.Error as error:
            raise TrackingError(f"{database} cannot be changed ({error}): end what is at work on it first.") from None
        return Moved(before, changed, _missing(connection), backup)


def _found(connection: sqlite3.Connection, here: str) -> str:
    """The one artifact folder that experiments name beside the present one."""
    rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    roots = {place.rsplit("/", 1)[0] for (place,) in rows if place and place.startswith("file:")} - {here}
    if len(roots) > 1:
        names = ", ".join(sorted(_path(root) for root in roots))
        raise TrackingError(f"experiments lie in several folders ({names}): give the one that moved with --from.")
    return roots.pop() if roots else ""


def _uri(old: str) -> str:
    """The artifact folder of a store that lay there. A store's folder or its artifacts are taken."""
    path = Path(_path(old)).absolute()
    return (path if path.name == "artifacts" else path / "artifacts").as_uri()


def _path(place: str) -> str:
    return unquote(urlparse(place).path) if place.startswith("file:") else place


def _missing(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(
        "SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active' AND status = 'FINISHED'"
    ).fetchall()
    local = [_path(place) for (place,) in rows if place and place.startswith("file:")]
    return tuple(place for place in local if not Path(place).exists())
