"""Going on with a run that was interrupted: one process takes it, its params stay, and nothing is logged twice."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from glidexp.config.stored import without_secrets
from glidexp.errors import TrackingError
from glidexp.tracking.environment import COMMIT_TAG, own_code
from glidexp.tracking.liveness import marks
from glidexp.tracking.sink import ERROR_TAG, TAG_LIMIT, Sink
from glidexp.tracking.spool import LOCK, LOCK_WAIT_S, Busy, Entry, Spool, hold
from glidexp.tracking.store import FoundRun, Store
from glidexp.tracking.writer import Writer
from glidexp.wording import does, many

STARTING = "starting"
"""folder of the store with a lock for each config id of which a run is being begun"""
STARTING_S = 10.0
"""seconds that a second process waits for the first to have begun, which is mostly sooner"""

CUT_UPLOAD = ".artifact.uploading."
"""how the name begins under which MLflow writes a file of a run before it gives it its own"""


def checkpoint_folder(mlruns: Path, config_id: str, run_id: str) -> Path:
    """Where a run keeps what it goes on from: by run, as resume=never may train the same settings at the same time."""
    return mlruns / "checkpoints" / f"{config_id}-{run_id[:8]}"


@contextmanager
def starting(store: Store, config_id: str) -> Iterator[None]:
    """Holds the begin of a run of these settings: from before it is looked for until it is in the store.

    The spool's lock cannot do that, as a run that does not exist yet has no spool: two processes that begin at the
    same moment would both find nothing. It holds for all processes that share the store's folder.

    Raises:
        TrackingError: another process begins one, and has not come to an end of that
    """
    folder = store.mlruns / STARTING / config_id
    try:
        lock = hold(folder, tries_more=round(STARTING_S / LOCK_WAIT_S))
    except Busy:
        raise TrackingError(
            f"another process is about to begin a run of the same settings (config id {config_id}): wait for it, or "
            "start another with resume=never."
        ) from None
    except OSError as error:
        raise TrackingError(
            f"nothing can be written to {folder} ({error.strerror}): give another folder as paths.mlruns."
        ) from None
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        for place in (folder, folder.parent):
            with suppress(OSError):  # somebody else is at it
                place.rmdir()
        os.close(lock)


@dataclass(frozen=True, slots=True)
class Reopened:
    """What a run held when it was taken up again, in the store or in its spool."""

    experiment_id: str
    last_step: dict[str, int]
    """latest logged step of each metric"""
    drawn: set[tuple[str, int]]
    """name and step of each picture"""
    new_params: dict[str, str]
    """params it did not hold yet"""
    tags: dict[str, str]
    """to be set: how often it was resumed, and what differs"""


def take_over(store: Store, config_id: str, experiment: str) -> FoundRun | None:
    """The run of a config id to show or to go on with. One to go on with is locked for this process.

    Args:
        store: from `open_store`
        config_id: as in the tag `glidexp.config_id`
        experiment: name

    Returns:
        a finished run, one that was interrupted, or None

    Raises:
        TrackingError: it is at work, or it is finished and the store does not take the end of it
    """
    found = store.find_run(config_id, experiment)
    if found is None:
        return None
    if found.status == "FINISHED":
        close_spool(store, found.run_id)  # left where it was killed after its end
        return found
    at_work = TrackingError(
        f"run {found.run_id} has the same settings (config id {config_id}) and is at work: wait for it, or start "
        "another with resume=never. One that died on another machine can be taken up three minutes after."
    )
    if found.alive:
        raise at_work
    try:
        spool = Spool.claim(store.spool_folder(found.run_id), head(store))
    except Busy:
        raise at_work from None
    if spool.waiting and spool.waiting[-1].kind == "end" and spool.waiting[-1].values["status"] == "FINISHED":
        left = replay(store, found.run_id, Spool.open(spool.folder))
        if left:
            raise TrackingError(
                f"run {found.run_id} is finished, and {many(left, 'entry')} of it {does(left, 'wait')} in "
                f"{spool.folder}: "
                "`glidexp sync` sends them and says what hinders it."
            )
        return take_over(store, config_id, experiment)
    again = store.find_run(config_id, experiment)
    if again is None or (again.run_id, again.status) != (found.run_id, found.status):  # another process was faster
        spool.close()
        return take_over(store, config_id, experiment)
    return again


def close_spool(store: Store, run_id: str) -> None:
    """Sends what waits of a run that nobody goes on with, and takes its spool away."""
    folder = store.spool_folder(run_id)
    if not folder.is_dir():
        return
    with suppress(Busy, OSError):  # somebody else is at it, or only reads this store
        spool = Spool.open(folder, head(store))
        if spool.waiting:
            replay(store, run_id, spool)
        else:
            spool.close()


def head(store: Store) -> dict[str, str]:
    """What a spool notes of its store."""
    return {"uri": without_secrets(store.uri)}


def replay(store: Store, run_id: str, spool: Spool) -> int:
    """Sends what waits in a spool and closes it.

    Args:
        store: from `open_store`
        run_id: of the run
        spool: opened

    Returns:
        number of entries that are left
    """
    try:
        info = store.client.get_run(run_id).info
        clear_cut_uploads(info.artifact_uri)
    except BaseException:
        spool.close()
        raise
    return Writer(Sink(store, run_id, info.experiment_id, spool), spool).close()


def reopen(store: Store, run_id: str, params: dict[str, str]) -> tuple[Spool, Reopened]:
    """Takes an interrupted run for this process, sets it back to RUNNING and tells what it holds.

    Args:
        store: from `open_store`
        run_id: of the run
        params: of the part to come. MLflow's params cannot be changed, so a different one is told by the tag
            `glidexp.resumed_with`

    Returns:
        its spool, with what the part before left in it, and what was held

    Raises:
        TrackingError: another process has it
    """
    try:
        spool = Spool.open(store.spool_folder(run_id), head(store))
    except Busy:
        raise TrackingError(f"run {run_id} is at work in another process: wait for it.") from None
    try:
        for entry in [entry for entry in spool.waiting if entry.kind == "end"]:  # it goes on instead
            spool.waiting.remove(entry)
            spool.done(entry)
        return spool, _held(store, run_id, params, spool.waiting)
    except BaseException:
        spool.close()
        raise


def _held(store: Store, run_id: str, params: dict[str, str], waiting: Iterable[Entry]) -> Reopened:
    """What a run holds in the store and among what waits; from here on it is RUNNING."""
    before = store.client.get_run(run_id)
    clear_cut_uploads(before.info.artifact_uri)
    # The latest step of each metric stands beside its value; only this list shows it without a call a key.
    last_step = {metric.key: metric.step for metric in before.data._metric_objs}
    drawn = _drawn(store, run_id)
    old = dict(before.data.params)
    for entry in waiting:
        if entry.kind == "metrics":
            step = entry.values["step"]
            last_step |= {key: max(step, last_step.get(key, step)) for key in entry.values["values"]}
        elif entry.kind == "image":
            drawn.add((entry.values["name"], entry.values["step"]))
        elif entry.kind == "params":
            old |= entry.values["params"]
    tags = {"glidexp.resumes": str(int(before.data.tags.get("glidexp.resumes", "0")) + 1)}
    changed = [f"{key}: {old[key]} -> {value}" for key, value in params.items() if old.get(key, value) != value]
    commit, now = before.data.tags.get(COMMIT_TAG), own_code()
    if commit and now and commit != now.commit:  # the tag will name the later one alone
        changed.append(f"commit: {commit[:12]} -> {now.commit[:12]}")
    if changed:
        tags["glidexp.resumed_with"] = "; ".join(changed)[:TAG_LIMIT]
    for key, value in marks().items():  # at once, and before it is RUNNING: others look here
        store.client.set_tag(run_id, key, value)
    store.client.update_run(run_id, status="RUNNING")
    if ERROR_TAG in before.data.tags:
        store.client.delete_tag(run_id, ERROR_TAG)
    return Reopened(
        experiment_id=before.info.experiment_id,
        last_step=last_step,
        drawn=drawn,
        new_params={key: value for key, value in params.items() if key not in old},
        tags=tags,
    )


def clear_cut_uploads(artifact_uri: str) -> None:
    """Removes what a kill left of files that MLflow was writing: its pages leave them out, the disk keeps them.

    Args:
        artifact_uri: of a run whose spool this process holds, so that nobody else writes there. Those of a server
            are the server's to clear
    """
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(artifact_uri):
        for left in Path(local_file_uri_to_path(artifact_uri)).rglob(f"{CUT_UPLOAD}*"):
            left.unlink(missing_ok=True)


def _drawn(store: Store, run_id: str) -> set[tuple[str, int]]:
    """From MLflow's file names, `name+step+3+timestamp+...`."""
    found = set()
    for file in store.client.list_artifacts(run_id, "images"):
        parts = Path(file.path).name.split("+")
        if len(parts) > 2 and parts[1] == "step" and parts[2].isdigit():
            found.add((parts[0].replace("~", "/"), int(parts[2])))
    return found
