"""Turns entries of the writer's queue into calls of MLflow's client."""

import json
import math
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glidexp.tracking.liveness import beat
from glidexp.tracking.spool import FILES, Entry, Spool
from glidexp.tracking.store import Store

ERROR_TAG = "glidexp.error"

METRICS_A_CALL = 1000
PARAMS_A_CALL = 100
PARAM_LIMIT = 6000
TAG_LIMIT = 8000
KEY_LIMIT = 250
"""what MLflow takes: entries in one call, characters of a param, a tag, a key"""


class Sink:
    """Writes the entries of one run. Called in the writer's thread, one entry at a time.

    An entry may come twice, when a kill or a lost answer hid that it had been written. The second time changes nothing:
    a metric with the same time, step and value is one row in MLflow's database, files have their name from the entry,
    and a model is looked for before it is made.
    """

    def __init__(self, store: Store, run_id: str, experiment_id: str, spool: Spool) -> None:
        self._store = store
        self._client = store.client
        self._run_id = run_id
        self._experiment_id = experiment_id
        self._files = spool.folder / FILES

    def __call__(self, entry: Entry) -> None:
        getattr(self, f"_{entry.kind}")(entry.timestamp_ms, **entry.values)

    def _params(self, timestamp_ms: int, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(self._run_id, params=[Param(key, value) for key, value in params.items()])

    def _tags(self, timestamp_ms: int, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(self._run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _metrics(self, timestamp_ms: int, values: dict[str, float], step: int, **of: str) -> None:
        from mlflow.entities import Metric

        for part in batches(values, METRICS_A_CALL):
            metrics = [Metric(key, value, timestamp_ms, step, **of) for key, value in part.items()]
            self._client.log_batch(self._run_id, metrics=metrics)

    def beat(self) -> None:
        """Shows that the run is at work."""
        for key, value in beat().items():
            self._client.set_tag(self._run_id, key, value)

    def _image(self, timestamp_ms: int, staged: str, name: str, step: int) -> None:
        """As MLflow's `log_image`, which would draw a random name for the file each time."""
        import numpy as np
        from mlflow.tracking.multimedia import compress_image_size, convert_to_pil_image
        from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES

        picture = convert_to_pil_image(np.load(self._files / staged, allow_pickle=False))
        name = name.replace("/", "~")
        own = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._run_id}/{name}/{step}")
        stem = f"{name}+step+{step}+timestamp+{timestamp_ms}+{own}"
        with tempfile.TemporaryDirectory() as aside:
            picture.save(Path(aside, f"{stem}.png"))
            compress_image_size(picture).save(Path(aside, f"{stem}+compressed.webp"))
            for path in sorted(Path(aside).iterdir()):
                self._client.log_artifact(self._run_id, str(path), "images")
        self._client.set_tag(self._run_id, MLFLOW_LOGGED_IMAGES, "True")

    def _artifact(self, timestamp_ms: int, staged: str, folder: str) -> None:
        self._client.log_artifact(self._run_id, str(self._files / staged), folder or None)

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
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        try:
            self._client.log_inputs(self._run_id, inputs)
        except Exception as error:
            if not collided(error):
                raise
            self._client.log_inputs(self._run_id, inputs)  # another run made the data set known at this very moment

    def _model_input(self, timestamp_ms: int, model_id: str) -> None:
        from mlflow.entities import LoggedModelInput

        self._client.log_inputs(self._run_id, models=[LoggedModelInput(model_id)])

    def _model(self, timestamp_ms: int, staged: str, **values: Any) -> None:
        from glidexp.tracking.model import log_model

        bundle = self._files / staged
        log_model(self._store, self._run_id, self._experiment_id, bundle=bundle, entry=bundle.parent.name, **values)

    def _end(self, timestamp_ms: int, status: str, error: str = "") -> None:
        from glidexp.tracking.model import name_output

        if status == "FINISHED":
            name_output(self._store, self._run_id, self._experiment_id)
        if error:
            self._client.set_tag(self._run_id, ERROR_TAG, cut({ERROR_TAG: error}, TAG_LIMIT)[ERROR_TAG])
        elif ERROR_TAG in self._client.get_run(self._run_id).data.tags:
            self._client.delete_tag(self._run_id, ERROR_TAG)  # of an end that came before everything was there
        self._client.set_terminated(self._run_id, status=status, end_time=timestamp_ms)


def collided(error: Exception) -> bool:
    """Whether a row that two processes make at once was made by the other: MLflow gives such an error as it comes."""
    return "unique constraint" in str(error).lower()


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
