"""The network as an MLflow model without pickle: a bundle (safetensors and card) and a script that reads it."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.tracking.models import outputs_of
from glidexp.tracking.store import Store, import_pyfunc

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

MODEL_NAME = "model"
ENTRY_TAG = "glidexp.entry"
"""which entry of the spool made a model: the same one makes no second"""
BUNDLE_KEY = "bundle"
"""name under which the script finds the bundle's folder"""
EXAMPLE_PX = 64
"""side of the example; MLflow writes it as JSON, where 256 px would take 39 MB"""
SCRIPT = Path(__file__).with_name("pyfunc_model.py")


def signature(in_channels: int) -> "ModelSignature":
    """Any batch and any tile size: float32 (-1, C, -1, -1) in 0-255 in, lake probability (-1, 1, -1, -1) out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    float32 = np.dtype("float32")
    return ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, in_channels, -1, -1))]),
        outputs=Schema([TensorSpec(float32, (-1, 1, -1, -1))]),
    )


def input_example(in_channels: int) -> Any:
    """Seeded noise, float32 (2, C, 64, 64) of whole numbers in 0-255."""
    import numpy as np

    values = np.random.default_rng(0).integers(0, 256, size=(2, in_channels, EXAMPLE_PX, EXAMPLE_PX))
    return values.astype(np.float32)


def write_model(
    folder: Path, bundle: Path, *, in_channels: int, pip_requirements: list[str], entity: Any = None
) -> None:
    """Writes an MLflow model into a folder that does not exist yet.

    Args:
        folder: where
        bundle: folder of weights.safetensors and card.json; copied to artifacts/bundle
        in_channels: bands of the input
        pip_requirements: what loading needs, as `name==version`
        entity: `mlflow.models.Model` to fill in, with the run and model id it belongs to
    """
    import_pyfunc().save_model(
        folder,
        python_model=str(SCRIPT),
        artifacts={BUNDLE_KEY: str(bundle)},
        signature=signature(in_channels),
        input_example=input_example(in_channels),
        pip_requirements=pip_requirements,
        mlflow_model=entity,
    )
    for cache in folder.rglob("__pycache__"):
        shutil.rmtree(cache)


def made_of(
    store: Store,
    run_id: str,
    experiment_id: str,
    name: str,
    *,
    tags: Mapping[str, str],
    write: Callable[..., None],
) -> "LoggedModel":
    """A logged model of a run, whole.

    Args:
        store: from `open_store`
        run_id: that it comes from
        experiment_id: of the run
        name: that it is shown by
        tags: of the model
        write: writes the MLflow model into a folder that does not exist yet, with `entity` filled in
    """
    from mlflow.models import Model

    made = store.client.create_logged_model(
        experiment_id, name=name, source_run_id=run_id, tags=dict(tags), model_type="segmentation"
    )
    made_id, where = made.model_id, made.artifact_location
    entity = Model(artifact_path=where, model_uuid=made_id, run_id=run_id, model_id=made_id)
    with tempfile.TemporaryDirectory(prefix="glidexp-model-") as aside:
        folder = Path(aside, "model")
        write(folder, entity=entity)
        store.client.log_model_artifacts(made.model_id, str(folder))
    store.client.finalize_logged_model(made.model_id, "READY")
    return made


def log_model(
    store: Store,
    run_id: str,
    experiment_id: str,
    *,
    bundle: Path,
    entry: str,
    in_channels: int,
    pip_requirements: list[str],
    tags: dict[str, str],
) -> None:
    """Logs a bundle as the run's only model, which `name_output` makes known as what the run left. Through the client
    alone: MLflow's own `log_model` sets a global address and asks for the history of every metric.

    Args:
        store: from `open_store`
        run_id: of the run
        experiment_id: of its experiment
        bundle: folder of weights.safetensors and card.json
        entry: names this bundle; a model that it made before is kept, any other of the run is removed
        in_channels: bands of the input
        pip_requirements: what loading needs, as `name==version`
        tags: of the logged model
    """
    earlier = _models_of(store, run_id, experiment_id)
    whole = [model for model in earlier if model.tags.get(ENTRY_TAG) == entry and model.status.value == "READY"]
    write = partial(write_model, bundle=bundle, in_channels=in_channels, pip_requirements=pip_requirements)
    of_entry = tags | {ENTRY_TAG: entry}
    made = whole[0] if whole else made_of(store, run_id, experiment_id, MODEL_NAME, tags=of_entry, write=write)
    for model in earlier:  # begun by a try that failed, or of an earlier part of the run
        if model.model_id != made.model_id:
            store.client.delete_logged_model(model.model_id)


def name_output(store: Store, run_id: str, experiment_id: str) -> None:
    """Names the model of a finished run as its output. Not before its end: MLflow takes no output back, and a run that
    is killed after its model makes another when it goes on.

    Args:
        store: from `open_store`
        run_id: of the run; one without model is left as it is
        experiment_id: of its experiment
    """
    from mlflow.entities import LoggedModelOutput

    named = {output.model_id for output in outputs_of(store.client.get_run(run_id))}
    for model in _models_of(store, run_id, experiment_id):
        if model.status.value == "READY" and model.model_id not in named:
            store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def _models_of(store: Store, run_id: str, experiment_id: str) -> "list[LoggedModel]":
    """What `log_model` made for a run: a release of the run has another name."""
    found = store.client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    return [model for model in found if model.name == MODEL_NAME]
