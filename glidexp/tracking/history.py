"""Finished trainings of a store on given tiles, with the time that each took."""

from dataclasses import dataclass

from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import Store

MOST = 500
"""runs that are looked at, the latest first"""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A finished training and its duration."""

    run: TrackedRun
    seconds: float
    """from its begin to its end, by the clock"""


def trainings(store: Store, experiment: str, data_hash: str) -> list[PastRun]:
    """Finished trainings on a tile store, the latest first.

    Args:
        store: from `open_store`
        experiment: name; nothing is found, and nothing made, where it does not exist
        data_hash: of the tiles
    """
    found = store.client.get_experiment_by_name(experiment)
    if found is None:
        return []
    runs = store.client.search_runs(
        [found.experiment_id],
        filter_string=f"tags.`glidexp.data_hash` = '{data_hash}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=MOST,
    )
    return [
        PastRun(
            TrackedRun(
                run.info.run_id, run.info.run_name, dict(run.data.params), dict(run.data.metrics), dict(run.data.tags)
            ),
            (run.info.end_time - run.info.start_time) / 1000,
        )
        for run in runs
        if "train.epochs" in run.data.params and "glidexp.kind" not in run.data.tags and run.info.end_time
    ]
