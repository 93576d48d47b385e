"""One run from scenes to tracking: what it leaves behind, that it repeats, resumes, fails and stops truthfully."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from runs import small_config, undrawn, words
from skimage import measure

from glidexp import cli
from glidexp.data.builder.making import Making
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.store import TileStore
from glidexp.errors import GlidexpError, RunFailed, TrackingError
from glidexp.identity import config_id
from glidexp.scoring.lakes import read_lakes
from glidexp.scoring.scores import read_scores, score_split
from glidexp.tracking.resume import starting
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training import loop
from glidexp.training.device import resolve
from glidexp.training.record import Outcome
from glidexp.training.run import run

ROOT = Path(__file__).resolve().parent.parent
CHOICES = {"dataset": "smoke", "backbone": "mobilenetv3"}
LOADING = {"glidexp.data.loader", "glidexp.data.resident"}
"""modules of `data` that a training looks at pixels with"""


@pytest.fixture(autouse=True)
def plain_figures() -> Iterator[None]:
    with undrawn():
        yield


def client(mlruns: Path, config: Any) -> Any:
    return open_store(tracking_uri(config.tracking, config.paths), mlruns).client


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlruns")


class Looked:
    """Which modules that prepare data look at the pixels of stores, of all that are opened inside `on()`."""

    def __init__(self) -> None:
        self.preparing: set[str] = set()

    @contextmanager
    def on(self) -> Iterator[None]:
        real, preparing = TileStore.open, self.preparing

        class Pixels(np.memmap):  # type: ignore[type-arg]
            def __getitem__(self, key: Any) -> Any:
                module = sys._getframe(1).f_globals["__name__"]
                if module.startswith("glidexp.data.") and module not in LOADING:
                    preparing.add(module)
                return np.asarray(super().__getitem__(key))

        def opened(*args: Any, **kwargs: Any) -> TileStore:
            store = real(*args, **kwargs)
            store.images, store.labels = store.images.view(Pixels), store.labels.view(Pixels)
            return store

        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(TileStore, "open", opened)
            yield


@pytest.fixture(scope="module")
def small_data(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, which no run of this process knows yet."""
    return Path(shutil.copytree(small_data, tmp_path_factory.mktemp("own") / "data"))


@pytest.fixture(scope="module")
def looked() -> Looked:
    return Looked()


@pytest.fixture(scope="module")
def finished(small_data: Path, mlruns: Path, looked: Looked) -> Outcome:
    with looked.on():
        return run(small_config(small_data, mlruns), choices=CHOICES)


@pytest.fixture(scope="module")
def artifacts(finished: Outcome, small_data: Path, mlruns: Path) -> Path:
    import mlflow

    client(mlruns, small_config(small_data, mlruns))
    return Path(
        mlflow.artifacts.download_artifacts(run_id=finished.run_id, tracking_uri=f"sqlite:///{mlruns}/mlflow.db")
    )


@pytest.mark.slow
def test_what_a_finished_run_holds(finished: Outcome, artifacts: Path, small_data: Path, mlruns: Path) -> None:
    config = small_config(small_data, mlruns)
    held = client(mlruns, config).get_run(finished.run_id)
    assert held.info.status == "FINISHED"
    assert {"glidexp.config_id", "glidexp.split_hash", "glidexp.data_hash", "glidexp.torch"} <= set(held.data.tags)
    assert held.data.params["backbone"] == "mobilenetv3"
    assert held.data.params["backbone.name"] == "test_resnet"
    assert held.data.params["train.epochs"] == "2"
    scores = ["lake_iou_pooled", "f1_pooled", "precision_pooled", "recall_pooled", "miou_two_class_pooled"]
    scores += [
        "lake_iou_per_image",
        "lake_iou_per_scene",
        "sensor/landsat8/lake_iou_pooled",
        "average_precision",
        "ece",
    ]
    scores += ["at_0.5/lake_iou_pooled", "threshold", "naive/index_threshold/lake_iou_pooled"]
    missing = {f"{split}/{score}" for split in ("val", "test") for score in scores} - set(held.data.metrics)
    assert not missing
    assert {item.dataset.name for item in held.inputs.dataset_inputs} == {
        f"smoke/{split}" for split in ("train", "val", "test")
    }
    names = {str(path.relative_to(artifacts)) for path in artifacts.rglob("*") if path.is_file()}
    for name in (
        "config.yaml",
        "scores.parquet",
        "scene_scores.csv",
        "scene_validity.csv",
        "lakes.parquet",
        "lake_scores.csv",
        "confusion.json",
        "plots/augmented.png",
        "plots/pr_test.png",
        "plots/pr_test.pdf",
        "plots/reliability_test.pdf",
    ):
        assert name in names
    assert {"errors.parquet", "errors.csv", "plots/worst_tiles.png"} <= names
    assert sum(value for name, value in held.data.metrics.items() if "/fp_share/" in name) == pytest.approx(1)
    assert {"test/temperature", "test/ece_calibrated", "test/nll", "test/nll_calibrated"} <= set(held.data.metrics)
    assert {"plots/reliability_val.png", "environment/requirements.txt", "data/manifest.json"} <= names
    assert all(Path(name).suffix in (".png", ".webp") for name in names if name.startswith("images/"))
    assert not [name for name in names if name.endswith((".pkl", ".pickle"))]


@pytest.mark.slow
def test_scores_can_be_made_again_from_the_file(finished: Outcome, artifacts: Path) -> None:
    table, hist = read_scores(artifacts / "scores.parquet")
    for split in ("val", "test"):
        rows = (table["split"] == split).to_numpy()
        again = score_split(table[rows], hist[rows], finished.metrics[f"{split}/threshold"], split)
        assert again == {name: finished.metrics[name] for name in again}


@pytest.mark.slow
def test_lakes_are_those_of_labels_and_masks(
    finished: Outcome, artifacts: Path, small_data: Path, mlruns: Path
) -> None:
    """Counted again on the scene put together from the files a run leaves."""
    import rasterio

    config = small_config(small_data, mlruns)
    tiles = prepare(config.dataset, 64, small_data, progress=False)
    lakes = read_lakes(artifacts / "lakes.parquet").query("split == 'test'")
    true, predicted = np.zeros((2, 320, 320), dtype=bool)  # one scene of 256 px
    for row in tiles.rows("test"):
        tile = tiles.index.iloc[row]
        with rasterio.open(artifacts / "masks" / f"{tile['tile']}.tif") as file:
            mask = file.read(1) == 255
        window = (slice(tile["row"], tile["row"] + 64), slice(tile["col"], tile["col"] + 64))
        true[window], predicted[window] = tiles.labels[row] == 1, mask & (tiles.labels[row] <= 1)
    for kind, mask in (("true", true), ("predicted", predicted)):
        areas = [int(area.area) for area in measure.regionprops(measure.label(mask, connectivity=2))]
        assert sorted(lakes.loc[lakes["kind"] == kind, "area_px"]) == sorted(areas)
    known = lakes[(lakes["kind"] == "true")]
    assert (known["lake_type"] != "").all() and known["glacier_distance_m"].notna().all()
    kind = known["lake_type"].mode()[0]
    assert finished.metrics[f"test/lake_type/{kind}/lakes"] == (known["lake_type"] == kind).sum()
    assert finished.metrics["test/lakes"] == len(lakes[lakes["kind"] == "true"]) > 5
    assert finished.metrics["test/area_true_km2"] == pytest.approx(true.sum() * 30**2 / 1e6)


@pytest.mark.slow
def test_masks_are_the_scored_ones_and_lie_in_place(
    finished: Outcome, artifacts: Path, small_data: Path, mlruns: Path
) -> None:
    import rasterio

    config = small_config(small_data, mlruns)
    tiles = prepare(config.dataset, 64, small_data, progress=False)
    table = pd.read_parquet(artifacts / "scores.parquet").query("split == 'test'").set_index("tile")
    assert len(table) == len(tiles.rows("test"))
    for row in tiles.rows("test"):
        tile = tiles.index.iloc[row]
        with rasterio.open(artifacts / "masks" / f"{tile['tile']}.tif") as file:
            lake = file.read(1) == 255
            assert list(file.transform)[:6] == pytest.approx(list(tile["transform"])[:6])
            assert file.crs.to_string() == tile["crs"]
        truth = tiles.labels[row]
        assert int((lake & (truth == 1)).sum()) == table.loc[tile["tile"], "tp"]
        assert int((lake & (truth == 0)).sum()) == table.loc[tile["tile"], "fp"]


@pytest.mark.slow
def test_the_logged_model_is_the_scored_network(
    finished: Outcome, artifacts: Path, small_data: Path, mlruns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import rasterio

    config = small_config(small_data, mlruns)
    client(mlruns, config)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlruns}/mlflow.db")
    model = mlflow.pyfunc.load_model(f"runs:/{finished.run_id}/model")
    tiles = prepare(config.dataset, 64, small_data, progress=False)
    for row in tiles.rows("test")[:3]:
        image = tiles.images[row].transpose(2, 0, 1)[None].astype(np.float32)
        lake = model.predict(image)[0, 0] >= finished.metrics["test/threshold"]
        with rasterio.open(artifacts / "masks" / f"{tiles.index.iloc[row]['tile']}.tif") as file:
            assert ((file.read(1) == 255) == lake).mean() > 0.999
    assert model.predict(np.zeros((1, 3, 100, 70), np.float32)).shape == (1, 1, 100, 70)


@pytest.mark.slow
def test_a_finished_run_is_shown_not_repeated(
    finished: Outcome,
    small_data: Path,
    mlruns: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("glidexp.training.run.fit", lambda *_, **__: pytest.fail("trained again"))
    again = run(small_config(small_data, mlruns, "train.device=cpu", "tracking.probe_tiles=1"), choices=CHOICES)
    assert again.run_id == finished.run_id
    assert f"{finished.metrics['test/lake_iou_pooled']:.4f}" in capsys.readouterr().out


@pytest.mark.slow
def test_never_trains_anew_and_repeats_every_number(
    finished: Outcome, looked: Looked, small_data: Path, mlruns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run of a process prepares no data: no module of `data` but the loader looks at a pixel again."""
    assert looked.preparing >= {"glidexp.data.store", "glidexp.data.band_statistics"}, "hashes and histograms"
    looked.preparing.clear()
    monkeypatch.setattr(Making, "write", lambda *_: pytest.fail("built again"))
    with looked.on():
        again = run(small_config(small_data, mlruns, "resume=never"), choices=CHOICES)
    assert not looked.preparing
    assert again.run_id != finished.run_id
    assert again.metrics == finished.metrics


@pytest.mark.slow
def test_an_interrupted_run_is_killed_and_goes_on_to_the_same_end(
    finished: Outcome, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(small_data, tmp_path)
    steps = iter(range(1, 1000))
    real = loop.Meter.step

    def interrupt(self: Any, images: int, loss: torch.Tensor) -> None:
        real(self, images, loss)
        if next(steps) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.Meter, "step", interrupt)
    with pytest.raises(BaseException, match="15"):
        run(config, choices=CHOICES)
    store = client(tmp_path, config)
    experiment = store.get_experiment_by_name("glidexp").experiment_id
    (cut,) = store.search_runs([experiment])
    assert cut.info.status == "KILLED"
    outcome = run(config, choices=CHOICES)
    (whole,) = store.search_runs([experiment])
    assert outcome.run_id == whole.info.run_id == cut.info.run_id
    assert whole.info.status == "FINISHED"
    assert "glidexp.error" not in whole.data.tags
    assert outcome.metrics == finished.metrics
    logged = [point.step for point in store.get_metric_history(outcome.run_id, "train/loss")]
    assert logged == [1, 2]
    assert not list((tmp_path / "checkpoints").rglob("*.pt"))


@pytest.mark.slow
def test_an_error_is_told_in_the_run(small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the disk is on fire\nsecond line")

    monkeypatch.setattr("glidexp.training.run.fit", broken)
    config = small_config(small_data, tmp_path)
    with pytest.raises(RuntimeError, match="on fire"):
        run(config, choices=CHOICES)
    store = client(tmp_path, config)
    (failed,) = store.search_runs([store.get_experiment_by_name("glidexp").experiment_id])
    assert failed.info.status == "FAILED"
    assert "the disk is on fire" in failed.data.tags["glidexp.error"]


@pytest.mark.slow
def test_a_run_whose_model_was_lost_is_not_finished(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glidexp.tracking import sink

    real = sink.Sink.__call__

    def full(self: Any, entry: Any) -> None:
        if entry.kind == "model":
            raise OSError(28, "No space left on device")
        real(self, entry)

    config = small_config(small_data, tmp_path, "train.epochs=1")
    monkeypatch.setattr(sink.Sink, "__call__", full)
    with pytest.raises(RunFailed, match="did not reach the tracking store"):
        run(config, choices=CHOICES)
    store = client(tmp_path, config)
    experiment = store.get_experiment_by_name("glidexp").experiment_id
    (cut,) = store.search_runs([experiment])
    assert cut.info.status == "FAILED"
    assert "did not reach" in cut.data.tags["glidexp.error"]
    assert list((tmp_path / "checkpoints").rglob("last.*.pt"))
    monkeypatch.setattr(sink.Sink, "__call__", real)
    monkeypatch.setattr("torch.optim.AdamW.step", lambda *_, **__: pytest.fail("trained again"))
    again = run(config, choices=CHOICES)
    assert again.run_id == cut.info.run_id
    whole = store.get_run(again.run_id)
    assert whole.info.status == "FINISHED"
    assert whole.outputs.model_outputs
    assert not list((tmp_path / "checkpoints").rglob("*.pt"))


@pytest.mark.slow
def test_a_full_disk_ends_no_run_and_changes_no_score(
    finished: Outcome,
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.save", full)
    with caplog.at_level("WARNING", logger="glidexp.training"):
        outcome = run(small_config(small_data, tmp_path), choices=CHOICES)
    assert outcome.metrics == finished.metrics
    told = [record.message for record in caplog.records if "no checkpoint could be saved" in record.message]
    assert len(told) == 1
    assert "No space left on device" in told[0]


@pytest.mark.slow
def test_three_calls_from_the_door_to_the_gradient(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where the gradient is made: `train_one` of the door, `run`, `fit`. Nothing else is behind the door."""

    def stopped(*_: object, **__: object) -> None:
        raise RuntimeError("far enough")

    monkeypatch.setattr("torch.Tensor.backward", stopped)
    with pytest.raises(RuntimeError, match="far enough") as told:
        cli.main(["train", *words(small_data, tmp_path)])
    frames = [(Path(str(entry.path)), entry.name) for entry in told.traceback]
    package = Path(cli.__file__).parent
    ours = [f"{path.relative_to(package).with_suffix('')}:{name}" for path, name in frames if package in path.parents]
    assert ours[-3:] == ["cli:train_one", "training/run:run", "training/loop:fit"]
    assert {place.split(":")[0] for place in ours[:-3]} == {"cli", "door"}
    assert frames[-2][1] == "fit", "and nothing of others stands between"


@pytest.mark.slow
def test_a_loss_that_is_no_number_fails_the_run_and_keeps_what_was_before(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(small_data, tmp_path, "train.ema_decay=0.9")
    tiles = prepare(config.dataset, 64, small_data, progress=False)
    steps = len(tiles.rows("train")) // 4
    real, calls = torch.nn.functional.binary_cross_entropy_with_logits, iter(range(1, 1000))

    def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
        return real(*args, **kwargs) * (float("nan") if next(calls) == steps + 2 else 1)

    monkeypatch.setattr("torch.nn.functional.binary_cross_entropy_with_logits", broken)
    with pytest.raises(
        RunFailed, match=rf"the loss is nan at step {steps + 2}, learning rate 0\.\d+, tiles \w+"
    ) as told:
        run(config, choices=CHOICES)
    store = client(tmp_path, config)
    (failed,) = store.search_runs([store.get_experiment_by_name("glidexp").experiment_id])
    assert failed.info.status == "FAILED"
    assert "the loss is nan" in failed.data.tags["glidexp.error"]
    named = str(told.value).split("tiles ")[1].split(":")[0].split(", ")
    assert len(named) == 4
    assert set(named) <= set(tiles.index.loc[tiles.rows("train"), "tile"])
    (kept,) = (tmp_path / "checkpoints").rglob("last.*.pt")
    state = torch.load(kept, weights_only=True)["state"]
    assert state["position"]["step"] == steps
    for weights in (state["model"], state["best"], state["ema"]["model"]):
        assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def test_a_batch_larger_than_the_training_set_is_refused(small_data: Path, tmp_path: Path) -> None:
    with pytest.raises(GlidexpError, match=r"train\.batch_size=5000 is more than"):
        run(small_config(small_data, tmp_path, "train.batch_size=5000"), choices=CHOICES)


def test_while_another_process_begins_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before any data are made, by the lock of its config id; resume=never asks for no lock."""
    monkeypatch.setattr("glidexp.tracking.resume.STARTING_S", 0.0)
    config = small_config(tmp_path, tmp_path)
    store = open_store(tracking_uri(config.tracking, config.paths), tmp_path)
    recipe = recipe_id(config.dataset, config.tile_size.px)
    identity = config_id(config, recipe=recipe, resolved=resolve(config.train).resolved())
    monkeypatch.setattr("glidexp.training.processes.tiles.prepare", lambda *_, **__: pytest.fail("data were made"))
    with starting(store, identity):
        with pytest.raises(TrackingError, match=rf"about to begin a run .*\(config id {identity}\): .* resume=never"):
            run(config, choices=CHOICES)
        with pytest.raises(pytest.fail.Exception, match="data were made"):
            run(small_config(tmp_path, tmp_path, "resume=never"), choices=CHOICES)
