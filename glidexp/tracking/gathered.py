"""What a report takes from runs beside their scores, and what it leaves with their parent."""

import json
import math
import re
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

from glidexp.tracking.found import TrackedRun
from glidexp.tracking.models import files_at
from glidexp.tracking.names import metric_name
from glidexp.tracking.sink import TAG_LIMIT
from glidexp.tracking.store import Store

A_CALL = 900
"""metrics in one call; MLflow takes 1,000"""
BREAK = 5
"""so many times the usual time between two samples is a break: the run was interrupted, or its machine slept"""
POWER = re.compile(r"system/gpu_\d+_power_usage_watts")


def energy(store: Store, run: TrackedRun) -> float | None:
    """kWh that the GPUs of the run's machine drew while it was at work; None where their load was not logged.

    A sample is the mean power since the one before, so it counts for that time. After a break it counts for the usual
    time between two samples, since nobody knows what was drawn in between.
    """
    total, known = 0.0, False
    for name in (name for name in run.metrics if POWER.fullmatch(name)):
        samples = sorted((one.timestamp, one.value) for one in store.client.get_metric_history(run.run_id, name))
        steps = [after - before for (before, _), (after, _) in pairwise(samples)]
        if not steps:
            continue
        known, usual = True, median(steps)
        spans = [usual, *(step if step <= BREAK * usual else usual for step in steps)]
        total += sum(span * value for span, (_, value) in zip(spans, samples, strict=True))
    return total / 3.6e9 if known else None


def files_in(store: Store, run: TrackedRun, folder: str) -> list[str]:
    """Names of the files in a folder of a run's artifacts; empty where it has none."""
    return [str(file.path).rsplit("/", 1)[-1] for file in files_at(store, run.files).list_artifacts(folder)]


def tile_source(store: Store, run: TrackedRun, split: str) -> str | None:
    """Folder of the tile store that a run used for a split, as it stood then."""
    inputs = store.client.get_run(run.run_id).inputs
    for one in inputs.dataset_inputs if inputs else ():
        if any(tag.key == "mlflow.data.context" and tag.value == split for tag in one.tags):
            return json.loads(one.dataset.source).get("uri") or None
    return None


def leave_with_parent(
    store: Store, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path
) -> None:
    """Gives a parent run what is known of all its children.

    Args:
        store: from `open_store`
        run_id: of the parent
        metrics: by name, see `metric_name`; what is not finite is left out
        tags: set, and replaced where they are there
        folder: logged as artifact under its own name
    """
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    entries = [Metric(metric_name(name), v, now, 0) for name, v in metrics.items() if math.isfinite(v)]
    marks = [RunTag(key, value[:TAG_LIMIT]) for key, value in tags.items()]
    for start in range(0, max(len(entries), 1), A_CALL):
        store.client.log_batch(run_id, metrics=entries[start : start + A_CALL], tags=[] if start else marks)
    store.client.log_artifacts(run_id, str(folder), folder.name)
