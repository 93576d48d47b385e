"""`glidexp sync`: sends what ended or killed runs left in their spools."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glidexp.config import PathsConfig, TrackingConfig
from glidexp.config.stored import without_secrets
from glidexp.errors import GlidexpError, TrackingError
from glidexp.tracking.database import first_line, is_absent
from glidexp.tracking.resume import replay
from glidexp.tracking.spool import FOLDER, Busy, Spool, is_held, waiting_in
from glidexp.tracking.store import Store, open_store, tracking_uri

AT_WORK = "at work: left alone"


@dataclass(slots=True)
class Sent:
    """What became of one run's spool."""

    run_id: str
    sent: int = 0
    left: int = 0
    refused: int = 0
    """scores, files and models that the store will not take"""
    note: str = ""


def sync(uri: str | None = None, mlruns: str | Path = "mlruns", *, say: Callable[[str], None] = print) -> int:
    """Sends every spool in `mlruns` that no run at work holds, and prints a row for each.

    Args:
        uri: tracking address; where each run was begun when not given
        mlruns: folder of the store, with the folder `spool` in it
        say: told the rows

    Returns:
        exit code: 0, or 1 when something is left or was refused

    Raises:
        TrackingError: the folder does not exist, or the address is none
    """
    folder = Path(mlruns).resolve()
    if not folder.is_dir():
        raise TrackingError(f"--mlruns={mlruns} does not exist: give the folder in which the runs keep their spool.")
    given = tracking_uri(TrackingConfig(uri=uri), PathsConfig(mlruns=str(folder))) if uri else None
    stores: dict[str, Store | str] = {}
    spools = sorted(path for path in folder.glob(f"{FOLDER}/*") if path.is_dir())
    rows = [_send(path, given, folder, stores) for path in spools]
    if not rows:
        say(f"Nothing waits in {folder / FOLDER}.")
        return 0
    say(f"{'run':<32}  {'sent':>6}  {'left':>6}")
    for row in rows:
        say(f"{row.run_id:<32}  {row.sent:>6}  {row.left:>6}  {row.note}".rstrip())
    return int(any(row.left or row.refused for row in rows if row.note != AT_WORK))


def waiting(mlruns: Path) -> dict[str, int]:
    """Entries that wait to be sent, by run, of runs that nobody works on. Only looks."""
    folders = sorted(path for path in mlruns.glob(f"{FOLDER}/*") if path.is_dir() and not is_held(path))
    found = {path.name: waiting_in(path) for path in folders}
    return {run_id: count for run_id, count in found.items() if count}


def _send(path: Path, given: str | None, mlruns: Path, stores: dict[str, Store | str]) -> Sent:
    row = Sent(path.name)
    try:
        spool = Spool.open(path)
    except Busy:
        row.note = AT_WORK
        return row
    except OSError as error:
        row.left, row.note = 1, f"{path} cannot be read: {first_line(error)}"
        return row
    row.left = len(spool.waiting)
    if not spool.waiting:
        spool.close()
        row.note = "nothing waited"
        return row
    uri = given or spool.head.get("uri") or tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns)))
    store = _store(uri, mlruns, stores)
    reason = store if isinstance(store, str) else _missing(store, row.run_id)
    if reason or isinstance(store, str):
        spool.close()
        row.note = reason or ""
        return row
    before = spool.refused
    row.left = replay(store, row.run_id, spool)
    row.refused = spool.refused - before
    row.sent = len(spool.waiting) - row.left - row.refused
    row.note = f"{row.refused} refused, the run is FAILED" if row.refused else ""
    if row.left:
        row.note = f"{store.uri if store.local else without_secrets(store.uri)} does not take them; see above"
    return row


def _store(uri: str, mlruns: Path, stores: dict[str, Store | str]) -> Store | str:
    """The store, opened once, or why it cannot be."""
    if uri not in stores:
        try:
            stores[uri] = open_store(uri, mlruns)
        except GlidexpError as error:
            stores[uri] = first_line(error)
    return stores[uri]


def _missing(store: Store, run_id: str) -> str:
    """Why a store cannot take a run's entries: sent to one that has no such run, they would be refused and lost."""
    try:
        run = store.client.get_run(run_id)
    except Exception as error:  # noqa: BLE001 - told in the row
        if is_absent(error):
            return f"no such run in {without_secrets(store.uri)}: give its store with --uri, or remove its folder"
        return first_line(error)
    deleted = run.info.lifecycle_stage == "deleted"
    return f"the run was deleted: `mlflow runs restore --run-id {run_id}`, or remove its folder" if deleted else ""
