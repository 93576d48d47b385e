"""Parent runs of studies: how they are known, and the training that a study's report names as its best."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glidexp.errors import TrackingError
from glidexp.tracking.models import RUN_ID, search
from glidexp.tracking.store import ID_TAG, KIND_TAG, STUDY, Store

if TYPE_CHECKING:
    from mlflow.entities import Run

STUDY_TAG, STUDY_ID_TAG = "glidexp.study", "glidexp.study_id"
BEST_TAG, BEST_ARM_TAG, BEST_WHY_TAG = "glidexp.best", "glidexp.best_arm", "glidexp.best_why"
"""of a parent run: config id of the best training, which an import into another store leaves true; its arm; the reason,
or why there is none"""


@dataclass(frozen=True, slots=True)
class Best:
    """The training that a study found best."""

    run_id: str
    seed: str
    arm: str
    study: str
    """name and id of the study"""
    why: str


def best_of(store: Store, reference: str) -> Best | None:
    """The best training of the study that is meant; None where it is no study.

    Args:
        store: from `open_store`
        reference: id of a study's parent run, or its first characters; the study's own id; or its name

    Raises:
        TrackingError: several studies of that name, one that is not at its end, or one that names no best training
    """
    parent = _parent(store, reference)
    if parent is None:
        return None
    tags, status = parent.data.tags, parent.info.status
    study = f"{tags.get(STUDY_TAG)} ({tags.get(STUDY_ID_TAG)})"
    if status in ("RUNNING", "KILLED"):
        what = "is under way" if status == "RUNNING" else "was broken off"
        raise TrackingError(
            f"study {study} {what}: its best arm is not known before its end. The same sweep command goes on with it; "
            "or give the id of a run."
        )
    if not tags.get(BEST_TAG):
        why = tags.get(BEST_WHY_TAG) or "its report is from before this was noted: the same sweep command writes it"
        raise TrackingError(f"study {study} names no best arm: {why.rstrip('.')}. Or give the id of a run.")
    wanted = f"tags.`{ID_TAG}` = '{tags[BEST_TAG]}' and attributes.status = 'FINISHED'"
    order = ["attributes.start_time DESC"]
    runs = store.client.search_runs([parent.info.experiment_id], wanted, max_results=1, order_by=order)
    if not runs:
        raise TrackingError(
            f"the best training of study {study}, of config id {tags[BEST_TAG]}, is no longer in this store: give the "
            "id of another run."
        )
    run, arm = runs[0], tags.get(BEST_ARM_TAG, "")
    return Best(run.info.run_id, run.data.params.get("seed", "0"), arm, study, tags.get(BEST_WHY_TAG, ""))


def _parent(store: Store, reference: str) -> "Run | None":
    if RUN_ID.fullmatch(reference):
        runs = search(store, f"attributes.run_id LIKE '{reference}%'")
        if runs:  # of several none: whoever looks for the model says so
            return runs[0] if len(runs) == 1 and runs[0].data.tags.get(KIND_TAG) == STUDY else None
    if any(sign in reference for sign in "'/:"):
        return None
    for tag in (STUDY_ID_TAG, STUDY_TAG):
        runs = search(store, f"tags.`{KIND_TAG}` = '{STUDY}' and tags.`{tag}` = '{reference}'")
        if len(runs) > 1:
            listed = ", ".join(f"{run.data.tags.get(STUDY_ID_TAG)} ({run.info.status})" for run in runs)
            raise TrackingError(f"several studies are called {reference}: give the id of one, the latest are {listed}.")
        if runs:
            return runs[0]
    return None
