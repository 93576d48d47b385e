"""The life of a run: what is logged, what is left out, and how it ends."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import warm

from glidexp.config import Config, PathsConfig, TrackingConfig, flat
from glidexp.errors import TrackingError
from glidexp.tracking.run import Run
from glidexp.tracking.status import true_status
from glidexp.tracking.store import Store, open_store, tracking_uri


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    mlruns = tmp_path_factory.mktemp("tracking") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)


def begin(store: Store, **settings: object) -> Run:
    return Run.start(store, **({"experiment": "e", "run_name": "r", "config_flat": {}} | settings))  # type: ignore[arg-type]


def names(store: Store, run: Run, folder: str | None = None) -> list[str]:
    return sorted(file.path for file in store.client.list_artifacts(run.run_id, folder))


def test_params_are_the_whole_config_and_the_choices(store: Store) -> None:
    config = flat(Config())
    config |= {f"many.key{number}": number for number in range(150)} | {"long": "x" * 7000, "empty": ""}
    with begin(
        store, config_flat=config, choices={"backbone": "resnet18", "hydra/launcher": "basic", "init": None}
    ) as run:
        pass
    params = store.client.get_run(run.run_id).data.params
    assert params["backbone"] == "resnet18" and params["backbone.name"] == "resnet18"
    assert params["many.key149"] == "149"
    assert params["long"] == "x" * 5997 + "..."
    assert set(params) == set(config) | {"backbone"}


def test_metrics_keep_names_and_steps_and_leave_nan_out(store: Store) -> None:
    with begin(store) as run:
        for step in range(3):
            run.metrics({"val/lake_iou_pooled": step / 10, "val/assd_m": float("nan"), "val/x": float("inf")}, step)
        run.metrics(
            {"test/sensor/sentinel2/lake_iou_pooled": 0.5, "test/at_0.5/lake_iou_pooled": np.float32(0.25)}
            | {f"test/size/{number}/f1": 0.1 for number in range(1200)},
            2,
        )
    data = store.client.get_run(run.run_id).data
    assert data.metrics["test/sensor/sentinel2/lake_iou_pooled"] == 0.5
    assert data.metrics["test/at_0.5/lake_iou_pooled"] == 0.25
    assert len(data.metrics) == 1 + 2 + 1200, "and neither NaN nor infinity"
    history = store.client.get_metric_history(run.run_id, "val/lake_iou_pooled")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.0), (1, 0.1), (2, 0.2)]


def test_a_history_goes_by_step_whenever_a_step_was_logged(store: Store) -> None:
    """A curve is drawn in this order; what waited for the store comes after what did not."""
    with begin(store) as run:
        for step in (3, 0, 2, 1):
            run.metrics({"val/late": step / 10}, step)
            time.sleep(0.01)  # a database gives them by the time of logging
    found = store.history(run.run_id, "val/late")
    assert [*found.items()] == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert store.history(run.run_id, "val/never") == {}


def test_files_pictures_tables_and_inputs(store: Store, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.tif").write_bytes(b"1")
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    with begin(store) as run:
        run.artifact(tmp_path / "config.yaml")
        (tmp_path / "config.yaml").unlink()  # the caller may: it was copied
        run.artifact(tmp_path / "masks")
        run.text("hello", "environment/note.txt")
        run.table(pd.DataFrame({"tile": ["a"], "iou": [0.5]}), "scores.parquet")
        run.image("probe/0+1", picture, 3)
        run.dataset_input("synthetic", digest="f" * 64, context="train", source="/data/s", facts={"tiles": 3})
        run.dataset_input("synthetic", digest="f" * 64, context="test", source="/data/s", facts={"tiles": 1})
        assert run._spool.folder.is_dir()
    assert not store.spool_folder(run.run_id).exists()
    assert names(store, run) == ["config.yaml", "environment", "images", "masks", "scores.parquet"]
    assert names(store, run, "masks") == ["masks/a.tif"]
    images = [name for name in names(store, run, "images") if name.endswith(".png")]
    assert len(images) == 1 and "probe~0_1+step+3+" in images[0]
    from PIL import Image

    with Image.open(store.client.download_artifacts(run.run_id, images[0])) as shown:
        np.testing.assert_array_equal(np.asarray(shown), picture)
    inputs = store.client.get_run(run.run_id).inputs.dataset_inputs
    assert {(item.dataset.name, item.tags[0].value) for item in inputs} == {
        ("synthetic/train", "train"),
        ("synthetic/test", "test"),
    }
    assert {item.dataset.digest for item in inputs} == {"f" * 36}


def test_picture_must_be_uint8(store: Store) -> None:
    with begin(store) as run, pytest.raises(ValueError, match="uint8"):
        run.image("probe/0", np.zeros((8, 8, 3), np.float32), 0)


def test_environment_is_told(store: Store) -> None:
    with begin(store) as run:
        run.environment({"glidexp.torch": "2.15"})
    tags = store.client.get_run(run.run_id).data.tags
    assert tags["glidexp.torch"] == "2.15"
    assert {"glidexp.host", "glidexp.cpu", "glidexp.python", "mlflow.user", "mlflow.source.name"} <= set(tags)
    assert "environment/requirements.txt" in names(store, run, "environment")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (RuntimeError("first\nsecond"), "FAILED"),
        (SystemExit(0), "FAILED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(143), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
    ],
)
def test_status_is_true(store: Store, error: BaseException | None, status: str) -> None:
    run = begin(store)
    if error is None:
        with run:
            pass
    else:
        with pytest.raises(type(error)), run:
            raise error
    found = store.client.get_run(run.run_id)
    assert found.info.status == status
    told = found.data.tags.get("glidexp.error", "")
    assert "\n" not in told and bool(told) == (error is not None)
    if isinstance(error, RuntimeError):
        assert told == "RuntimeError: first second"
    assert found.info.end_time is not None


def test_signals_of_the_doors_kill() -> None:
    from glidexp.signals import Interrupted

    assert true_status(Interrupted(signal.SIGTERM))[0] == "KILLED"


INTERRUPTED = """
import sys, time
from pathlib import Path
from glidexp.signals import Signals
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
with Signals().installed(), Run.start(store, experiment="e", run_name="r", config_flat={}, system_metrics=True) as run:
    run.metrics({"loss": 1.0}, 0)
    print(run.run_id, flush=True)
    for _ in range(600):  # one long sleep would begin after a signal that came just before it, and wait it out
        time.sleep(0.1)
"""


@pytest.mark.slow
def test_sigterm_in_a_process_of_its_own(store: Store) -> None:
    command = [warm.python(), "-c", INTERRUPTED, store.uri, str(store.mlruns)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stdout is not None
        run_id = job.stdout.readline().decode().strip()
        job.send_signal(signal.SIGTERM)
        try:
            job.communicate(timeout=60)
        finally:
            job.kill()
    found = store.client.get_run(run_id)
    assert found.info.status == "KILLED"
    assert found.data.tags["glidexp.error"].startswith("Interrupted")
    assert found.data.metrics == {"loss": 1.0}, "what was logged before is there"


def test_resume_keeps_params_and_doubles_nothing(store: Store) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    config = {"seed": 0, "train.device": "cuda", "tracking.uri": None}
    first = begin(store, config_flat=config, config_id="abc")
    for step in range(4):
        first.metrics({"val/f1_pooled": step / 10}, step)
    first.image("probe/0", picture, 0)
    first.finish("FAILED", "OutOfMemory")

    changed = config | {"train.device": "cpu", "train.threads": 2}
    second = begin(store, config_flat=changed, config_id="abc", resume_run_id=first.run_id, run_name="other")
    assert store.client.get_run(first.run_id).info.status == "RUNNING"
    for step in range(2, 6):  # the checkpoint was two epochs behind what had been logged
        second.metrics({"val/f1_pooled": step / 10, "test/new": 1.0}, step)
    second.image("probe/0", picture, 0)
    second.image("probe/0", picture, 5)
    second.finish()

    assert second.run_id == first.run_id
    found = store.client.get_run(first.run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "r")
    assert found.data.params["train.device"] == "cuda" and found.data.params["train.threads"] == "2"
    assert found.data.tags["glidexp.resumed_with"] == "train.device: cuda -> cpu"
    assert found.data.tags["glidexp.resumes"] == "1"
    assert "glidexp.error" not in found.data.tags
    history = store.client.get_metric_history(first.run_id, "val/f1_pooled")
    assert sorted(metric.step for metric in history) == [0, 1, 2, 3, 4, 5]
    assert len([name for name in names(store, second, "images") if name.endswith(".png")]) == 2


def test_resume_of_an_unknown_run_is_said(store: Store) -> None:
    with pytest.raises(TrackingError, match="does not take the run"):
        begin(store, resume_run_id="0" * 32)


def test_system_metrics_go_on_and_leave_no_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    before = set(threading.enumerate())
    run = begin(store, system_metrics=True)
    wait_for(lambda: load_of(store, run.run_id))
    run.finish("KILLED")
    seen = len(load_of(store, run.run_id))
    again = begin(store, system_metrics=True, resume_run_id=run.run_id)
    wait_for(lambda: len(load_of(store, run.run_id)) > seen)
    again.finish("KILLED")
    steps = load_of(store, run.run_id)
    assert steps == list(range(len(steps))), "the second part goes on where the first ended"
    assert set(threading.enumerate()) <= before
    assert store.client.get_run(run.run_id).info.status == "KILLED"


def load_of(store: Store, run_id: str) -> list[int]:
    history = store.client.get_metric_history(run_id, "system/cpu_utilization_percentage")
    return sorted(metric.step for metric in history)


def wait_for(condition: object, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_deleted_database_does_not_stop_the_run(store: Store, tmp_path: Path) -> None:
    mlruns = tmp_path / "mlruns"
    mlruns.mkdir()
    shutil.copyfile(store.mlruns / "mlflow.db", mlruns / "mlflow.db")
    other = open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)
    run = begin(other, experiment="other")
    assert run.flush()
    (mlruns / "mlflow.db").rename(mlruns / "away.db")
    os.mkdir(mlruns / "mlflow.db")  # not even a new one can be made
    other.client._tracking_client.store.engine.dispose()
    with run:
        run.metrics({"loss": 1.0}, 0)


@pytest.mark.slow
def test_model_is_loaded_from_the_run_and_has_no_pickle(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch

    from glidexp.config import BackboneConfig, DecoderConfig, InitConfig
    from glidexp.models.build import build_model
    from glidexp.models.export import load_bundle, save_bundle

    torch.manual_seed(0)
    card = {
        "architecture": {"backbone": "mobilenetv3", "decoder": "fcn", "in_channels": 3},
        "mean": [120.0, 121.0, 122.0],
        "std": [50.0, 51.0, 52.0],
    }
    network = build_model(BackboneConfig(name="mobilenetv3"), DecoderConfig(name="fcn"), InitConfig(), in_channels=3)
    bundle = save_bundle(tmp_path / "bundle", network, card=card)
    with begin(store) as run:
        run.model(bundle, in_channels=3, pip_requirements=["torch==2.15.0"], tags={"glidexp.split_hash": "s"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)  # set_tracking_uri would hold for every test after this one
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.run_id}/model")
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/model"))
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 96, 160)).astype(np.float32)
    with torch.inference_mode():
        direct = load_bundle(bundle)(torch.from_numpy(image)).numpy()
    np.testing.assert_array_equal(loaded.predict(image), direct)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pth", ".pt", ".bin")]
    assert {"weights.safetensors", "card.json"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files if path.suffix == ".json") < 2_000_000
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 3, -1, -1)
    [logged] = store.client.search_logged_models([run.experiment_id])
    assert (logged.name, logged.status.value, logged.source_run_id) == ("model", "READY", run.run_id)
