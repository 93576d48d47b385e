"""Finished trainings of a store on given tiles, with the time that each took, in all and by epoch."""

import statistics
from dataclasses import dataclass
from itertools import pairwise

from glidexp.tracking.found import TrackedRun, tracked
from glidexp.tracking.store import KIND_TAG, Store

MOST = 500
"""runs that are looked at, the latest first"""
EVERY_EPOCH = "train/images_per_s"
"""a metric that a training logs at the end of each epoch"""


@dataclass(frozen=True, slots=True)
class PastRun:
    """A finished training and its duration."""

    run: TrackedRun
    seconds: float
    """from its begin to its end, by the clock"""
    began_s: float = 0.0
    """since the epoch of the clock"""


@dataclass(frozen=True, slots=True)
class Course:
    """Where the time of a finished training went."""

    epoch_s: float
    """of an epoch with its scoring on val: the median, so that a pause between kill and resumption is not in it"""
    ends_s: float
    """all before the first epoch and after the last"""


def course(store: Store, past: PastRun) -> Course | None:
    """Where the time of a training went, by when its epochs were logged; None where it has fewer than two."""
    logged = store.client.get_metric_history(past.run.run_id, EVERY_EPOCH)
    last: dict[int, int] = {}
    for metric in logged:  # an epoch that was trained again after a kill is logged twice
        last[metric.step] = max(metric.timestamp, last.get(metric.step, 0))
    times = [last[step] / 1000 for step in sorted(last)]
    if len(times) < 2:
        return None
    epoch_s = statistics.median(after - before for before, after in pairwise(times))
    before = max(times[0] - past.began_s - epoch_s, 0.0)
    return Course(epoch_s, before + max(past.began_s + past.seconds - times[-1], 0.0))


def trainings(store: Store, experiment: str, data_hash: str | None) -> list[PastRun]:
    """Finished trainings on a tile store, the latest first.

    Args:
        store: from `open_store`
        experiment: name; nothing is found, and nothing made, where it does not exist
        data_hash: of the tiles; None: on whatever tiles
    """
    found = store.client.get_experiment_by_name(experiment)
    if found is None:
        return []
    on = "" if data_hash is None else f"tags.`glidexp.data_hash` = '{data_hash}' and "
    runs = store.client.search_runs(
        [found.experiment_id],
        filter_string=f"{on}attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=MOST,
    )
    return [
        PastRun(
            tracked(run),
            (run.info.end_time - run.info.start_time) / 1000,
            run.info.start_time / 1000,
        )
        for run in runs
        if "train.epochs" in run.data.params and KIND_TAG not in run.data.tags and run.info.end_time
    ]
