"""Turns entries of the writer's queue into calls of MLflow's client."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from glidexp.tracking.store import Store
from glidexp.tracking.writer import Entry

METRICS_A_CALL = 1000
PARAMS_A_CALL = 100
PARAM_LIMIT = 6000
TAG_LIMIT = 8000
KEY_LIMIT = 250
"""what MLflow takes: entries in one call, characters of a param, a tag, a key"""


class Sink:
    """Writes the entries of one run. Called in the writer's thread, one entry at a time."""

    def __init__(self, store: Store, run_id: str, experiment_id: str) -> None:
        self._store = store
        self._client = store.client
        self._run_id = run_id
        self._experiment_id = experiment_id

    def __call__(self, entry: Entry) -> None:
        getattr(self, f"_{entry.kind}")(entry.timestamp_ms, **entry.values)

    def _params(self, timestamp_ms: int, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(self._run_id, params=[Param(key, value) for key, value in params.items()])

    def _tags(self, timestamp_ms: int, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _metrics(self, timestamp_ms: int, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        for part in batches(values, METRICS_A_CALL):
            metrics = [Metric(key, value, timestamp_ms, step) for key, value in part.items()]
            self._client.log_batch(self._run_id, metrics=metrics)

    def _image(self, timestamp_ms: int, image: Any, name: str, step: int) -> None:
        self._client.log_image(self._run_id, image, key=name, step=step, timestamp=timestamp_ms, synchronous=True)

    def _artifact(self, timestamp_ms: int, path: Any, folder: str) -> None:
        self._client.log_artifact(self._run_id, str(path), folder or None)
        shutil.rmtree(path.parent)

    def _dataset(
        self, timestamp_ms: int, name: str, digest: str, context: str, source: str, facts: dict[str, Any]
    ) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=f"{name}/{context}",  # one input is kept for a name and digest, so the splits need their own names
            digest=digest,
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(facts, default=str),
        )
        self._client.log_inputs(self._run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])])

    def _model(self, timestamp_ms: int, **values: Any) -> None:
        from glidexp.tracking.model import log_model

        log_model(self._store, self._run_id, self._experiment_id, **values)

    def _end(self, timestamp_ms: int, status: str) -> None:
        self._client.set_terminated(self._run_id, status=status, end_time=timestamp_ms)


def batches(values: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Parts of at most `size` items, in order."""
    items = list(values.items())
    for begin in range(0, len(items), size):
        yield dict(items[begin : begin + size])


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The values that are numbers and finite, as floats: a chart has no place for NaN."""
    plain = {key: float(value) for key, value in values.items()}
    return {key: value for key, value in plain.items() if math.isfinite(value)}


def cut(values: Mapping[str, Any], limit: int) -> dict[str, str]:
    """Keys and values as text; a value longer than `limit` ends in three dots."""
    texts = {str(key)[:KEY_LIMIT]: str(value) for key, value in values.items()}
    return {key: value if len(value) <= limit else f"{value[: limit - 3]}..." for key, value in texts.items()}
