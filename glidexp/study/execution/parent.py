"""The parent run of a study: one for each study id, taken up again by every sweep of it, with a status that is true."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from glidexp.beside import lock
from glidexp.study.execution.ledger import CELLS, PLAN, Ledger, Status
from glidexp.tracking import environment
from glidexp.tracking.left import AT_WORK, TURN, close_left
from glidexp.tracking.liveness import beat, marks
from glidexp.tracking.multirun import NAME_LIMIT, close_parent, comparison_link, ui_hint
from glidexp.tracking.resume import clear_cut_uploads
from glidexp.tracking.sink import ERROR_TAG, TAG_LIMIT
from glidexp.tracking.status import true_status
from glidexp.tracking.store import KIND_TAG, STUDY, Store
from glidexp.tracking.study_runs import STUDY_ID_TAG, STUDY_TAG
from glidexp.wording import many

log = logging.getLogger("glidexp")

NOTE_TAG = "mlflow.note.content"
"""shown as the run's description"""


@contextmanager
def parent_run(ledger: Ledger) -> Iterator[str]:
    """Begins or takes up the parent run, and ends it, where no other sweep of the study is at work.

    Its id is in `ledger.parent_run_id`. Ends as FINISHED when every cell is, as FAILED where some failed, else KILLED.
    """
    error: BaseException | None = None
    with (ledger.folder / AT_WORK).open("a") as stream:
        with _turn(ledger):  # of two that begin, one makes the run
            ledger.parent_run_id = _open(ledger, alone=lock(stream, ledger.folder / AT_WORK, wait=False))
            lock(stream, ledger.folder / AT_WORK, shared=True)
        try:
            yield ledger.parent_run_id
        except BaseException as reason:
            error = reason
            raise
        finally:
            put_cells(ledger)
            with _turn(ledger):
                if lock(stream, ledger.folder / AT_WORK, wait=False):  # else another sweep goes on with it
                    _close(ledger, error)


def close_others(store: Store) -> None:
    """Marks parent runs of studies KILLED whose sweep was killed; tells each. A store that is away does not matter."""
    with suppress(Exception):
        for one in close_left(store):
            log.info("study %s (%s) was left by a sweep that was killed: it is KILLED now", one.title, one.study_id)


@contextmanager
def _turn(ledger: Ledger) -> Iterator[None]:
    """One sweep of a study at a time begins or ends."""
    with (ledger.folder / TURN).open("a") as stream:
        lock(stream, ledger.folder / TURN)
        yield


def _open(ledger: Ledger, *, alone: bool) -> str:
    store, plan = ledger.store, ledger.plan
    found = store.find_run(ledger.study_id, ledger.experiment, tag=STUDY_ID_TAG)
    tags = {STUDY_TAG: plan.title, STUDY_ID_TAG: ledger.study_id, KIND_TAG: STUDY, NOTE_TAG: plan.question}
    if found is None:
        made = store.client.create_run(
            store.experiment_id(ledger.experiment),
            tags=environment.process_tags() | tags | marks(),
            run_name=f"study {plan.label}"[:NAME_LIMIT],
        )
        run_id = str(made.info.run_id)
    else:
        run_id = found.run_id
        if alone:
            clear_cut_uploads(store.client.get_run(run_id).info.artifact_uri)
        for key, value in marks().items():
            store.client.set_tag(run_id, key, value)
        store.client.update_run(run_id, status="RUNNING")
        if ERROR_TAG in found.tags:
            store.client.delete_tag(run_id, ERROR_TAG)
    store.client.log_text(run_id, plan.public().to_json(), PLAN)
    return run_id


def keep_alive(ledger: Ledger) -> None:
    """Says that somebody is at work on the study; about once a minute."""
    if ledger.parent_run_id is not None:
        with suppress(Exception):  # a store that is away: the runs are what counts
            for key, value in beat().items():
                ledger.store.client.set_tag(ledger.parent_run_id, key, value)


def put_cells(ledger: Ledger) -> None:
    """Leaves `cells.json` with the parent run, as it is now, and the plan, which may have grown."""
    if ledger.parent_run_id is not None:
        with suppress(Exception):
            ledger.store.client.log_artifact(ledger.parent_run_id, str(ledger.folder / CELLS))
            if ledger.plan.identity:
                ledger.store.client.log_text(ledger.parent_run_id, ledger.plan.public().to_json(), PLAN)


def put_link(ledger: Ledger) -> None:
    """Prints a link that opens the study's finished runs side by side, and leaves it in the parent's description."""
    store, plan = ledger.store, ledger.plan
    done = [entry for entry in ledger.entries().values() if entry.status in (Status.finished, Status.stopped)]
    # two arms may share a training
    ids = list(dict.fromkeys(found for entry in done if (found := entry.scored or entry.train) is not None))
    if len(ids) < 2 or ledger.parent_run_id is None:
        return
    link = comparison_link(store.uri, store.experiment_id(ledger.experiment), ids)
    print(f"Compare the {many(len(ids), 'run')}: {link}")
    if hint := ui_hint(store.uri):
        print(f"To open it: {hint}")
    with suppress(Exception):
        note = f"{plan.question}\n\n[The {many(len(ids), 'run')} side by side]({link})"
        if len(note) <= TAG_LIMIT:  # half a link leads nowhere
            store.client.set_tag(ledger.parent_run_id, NOTE_TAG, note)


def _close(ledger: Ledger, error: BaseException | None) -> None:
    assert ledger.parent_run_id is not None
    status, reason = true_status(error)
    failed = ledger.failed
    if failed and status == "FINISHED":
        names = ", ".join(sorted(failed))
        status, reason = "FAILED", f"{len(failed)} of {many(len(ledger.plan.cells), 'run')} failed: {names}"
    elif status == "FINISHED" and not ledger.complete:
        status, reason = (
            "KILLED",
            f"{len(ledger.of(Status.finished))} of {many(len(ledger.plan.cells), 'run')} finished",
        )
    close_parent(ledger.store, ledger.parent_run_id, status, reason)


def put_files(store: Store, run_id: str, paths: Sequence[Path]) -> None:
    """Leaves files with a parent run; a store that is away does not matter, they stay in the study's folder."""
    for path in paths:
        with suppress(Exception):
            store.client.log_artifact(run_id, str(path))
