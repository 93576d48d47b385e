"""Going on with a run that was interrupted: its params stay, and nothing is logged twice."""

from dataclasses import dataclass
from pathlib import Path

from glidexp.tracking.sink import TAG_LIMIT
from glidexp.tracking.store import Store

ERROR_TAG = "glidexp.error"


@dataclass(frozen=True, slots=True)
class Reopened:
    """What a run held when it was taken up again."""

    experiment_id: str
    last_step: dict[str, int]
    """latest logged step of each metric"""
    drawn: set[tuple[str, int]]
    """name and step of each picture"""
    new_params: dict[str, str]
    """params it did not hold yet"""
    tags: dict[str, str]
    """to be set: how often it was resumed, and what differs"""


def reopen(store: Store, run_id: str, params: dict[str, str]) -> Reopened:
    """Sets an interrupted run back to RUNNING and tells what it holds.

    Args:
        store: from `open_store`
        run_id: of the run
        params: of the part to come. MLflow's params cannot be changed, so a different one is told by the tag
            `glidexp.resumed_with`
    """
    before = store.client.get_run(run_id)
    old = before.data.params
    tags = {"glidexp.resumes": str(int(before.data.tags.get("glidexp.resumes", "0")) + 1)}
    changed = [f"{key}: {old[key]} -> {value}" for key, value in params.items() if old.get(key, value) != value]
    if changed:
        tags["glidexp.resumed_with"] = "; ".join(changed)[:TAG_LIMIT]
    store.client.update_run(run_id, status="RUNNING")
    if ERROR_TAG in before.data.tags:
        store.client.delete_tag(run_id, ERROR_TAG)
    return Reopened(
        experiment_id=before.info.experiment_id,
        # The latest step of each metric stands beside its value; only this list shows it without a call a key.
        last_step={metric.key: metric.step for metric in before.data._metric_objs},
        drawn=_drawn(store, run_id),
        new_params={key: value for key, value in params.items() if key not in old},
        tags=tags,
    )


def _drawn(store: Store, run_id: str) -> set[tuple[str, int]]:
    """From MLflow's file names, `name+step+3+timestamp+...`."""
    found = set()
    for file in store.client.list_artifacts(run_id, "images"):
        parts = Path(file.path).name.split("+")
        if len(parts) > 2 and parts[1] == "step" and parts[2].isdigit():
            found.add((parts[0].replace("~", "/"), int(parts[2])))
    return found
