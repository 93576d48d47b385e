"""A trained model on other ground: the same numbers as its run, a run of its own, and no score on ground it has met."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import SMALL, small_config

from glidexp import cli
from glidexp.data.leakage import from_bytes, ground_of
from glidexp.data.prepare import prepare
from glidexp.models.card import CARD, GROUND, WEIGHTS, read_card
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.load import find, load_model
from glidexp.scoring.scores import read_scores
from glidexp.tracking.store import Store, open_store
from glidexp.training.record import Outcome
from glidexp.training.run import run

DATA = [word for word in SMALL if word.startswith("dataset")]
HOW = ["train.precision=fp32", "train.threads=1", "tracking.system_metrics=false", "tracking.probe_tiles=1"]
pytestmark = pytest.mark.usefixtures("plain_figures")


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlruns")


@pytest.fixture(scope="module")
def trained(small_data: Path, mlruns: Path) -> Outcome:
    return run(small_config(small_data, mlruns, "train.epochs=1"), choices={"dataset": "smoke"})


@pytest.fixture(scope="module")
def store(trained: Outcome, mlruns: Path) -> Store:
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


@pytest.fixture(scope="module")
def bundle(trained: Outcome, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, out of the store."""
    found = find(trained.run_id, store, Path("unused"))
    return Path(shutil.copytree(found.bundle, tmp_path_factory.mktemp("model") / "lakes"))


@pytest.fixture
def evaluate(small_data: Path, mlruns: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Gives the command, and tells its exit code, what it printed, and what it said beside it."""

    def command(*words: str, data: Path = small_data, at: Path = mlruns) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["evaluate", *words, f"paths.data={data}", "--mlruns", str(at), *HOW])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def latest(store: Store) -> Any:
    """The newest run."""
    experiment = store.client.get_experiment_by_name("glidexp").experiment_id
    return store.client.get_run(store.client.search_runs([experiment])[0].info.run_id)


def split_scenes(data: Path, seed: int) -> list[str]:
    """Scenes of the test split that a seed draws."""
    config = small_config(data, data, f"dataset.split.seed={seed}")
    tiles = prepare(config.dataset, 64, data, progress=False)
    return list(tiles.index["scene"].iloc[tiles.rows("test")].unique())


def refused(told: tuple[int, str, str], *parts: str) -> None:
    """Exit code 2 and one line that says all of it."""
    code, _, err = told
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("glidexp: "), told
    assert all(part in last for part in parts), last
    assert "Traceback" not in err


@pytest.mark.slow
def test_on_its_own_test_split_it_repeats_the_numbers_of_its_run(
    trained: Outcome, store: Store, evaluate: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = evaluate(trained.run_id[:10])
    assert code == 0 and f"Scores of run {trained.run_id[:8]} on smoke, test tiles" in out
    made = latest(store)
    own = {name: value for name, value in trained.metrics.items() if name.startswith("test/")}
    assert len(own) > 100
    assert {name: made.data.metrics[name] for name in own} == own
    assert made.data.metrics["test/leak/tiles"] == 0
    (of_run,) = store.client.get_run(trained.run_id).outputs.model_outputs
    assert made.info.run_id != trained.run_id and made.info.status == "FINISHED"
    assert [model.model_id for model in made.inputs.model_inputs] == [of_run.model_id]
    (given,) = [item.dataset for item in made.inputs.dataset_inputs]
    tags = made.data.tags
    assert tags["glidexp.model"] == f"models:/{of_run.model_id}" and tags["glidexp.kind"] == "evaluation"
    assert tags["glidexp.model_run_id"] == trained.run_id and tags["glidexp.leak"] == "false"
    assert made.data.params["backbone"] == "test_resnet" and made.data.params["eval.split"] == "auto"
    # MLflow's page of the model shows what was logged as its metrics
    shown = {metric.key: metric for metric in store.client.get_logged_model(of_run.model_id).metrics}
    assert shown["test/f1_pooled"].value == own["test/f1_pooled"]
    assert (shown["test/f1_pooled"].dataset_name, shown["test/f1_pooled"].dataset_digest) == (given.name, given.digest)
    names = {file.path for file in store.client.list_artifacts(made.info.run_id)}
    assert {"config.yaml", "scores.parquet", "lakes.parquet", "confusion.json", "plots", "masks", "images"} <= names
    held = [Path(store.client.download_artifacts(r, "scores.parquet")) for r in (trained.run_id, made.info.run_id)]
    (all_tiles, all_hist), (tiles, hist) = (read_scores(path) for path in held)
    test = (all_tiles["split"] == "test").to_numpy()
    assert tiles["tile"].tolist() == all_tiles["tile"][test].tolist() and np.array_equal(hist, all_hist[test])

    monkeypatch.setattr("glidexp.training.rescoring.rescore.predict", lambda *_, **__: pytest.fail("scored again"))
    code, out, err = evaluate(trained.run_id)
    assert code == 0 and "finished already" in err and f"{own['test/lake_iou_pooled']:.4f}" in out
    assert latest(store).info.run_id == made.info.run_id


@pytest.mark.slow
def test_another_region_is_scored_whole_and_one_sensor_alone_on_request(
    trained: Outcome, store: Store, evaluate: Any, bundle: Path
) -> None:
    other = [*DATA, "dataset.synthetic.regions=[alaska]", "dataset.synthetic.sensors=[landsat8,sentinel2]"]
    code, out, _ = evaluate(str(bundle), *other, "dataset.synthetic.scenes_per_sensor=3", "eval.threshold=0.5")
    assert code == 0 and "on smoke, all tiles" in out
    made = latest(store)
    scored = made.data.metrics["test/tiles"]
    assert made.data.metrics["test/threshold"] == 0.5 and made.data.tags["glidexp.model"] == str(bundle.resolve())
    assert made.data.metrics["test/sensor/landsat8/tiles"] + made.data.metrics["test/sensor/sentinel2/tiles"] == scored
    assert {row.key for row in store.client.get_metric_history(made.info.run_id, "test/tiles")} == {"test/tiles"}
    code, _, _ = evaluate(str(bundle), *other, "sensor_mix=sentinel2", "eval.split=test")
    made = latest(store)
    assert (
        code == 0
        and 0 < made.data.metrics["test/tiles"] < scored
        and "test/sensor/landsat8/tiles" not in made.data.metrics
    )


@pytest.mark.slow
def test_a_store_brings_its_tile_size_along(
    trained: Outcome, store: Store, evaluate: Any, bundle: Path, small_data: Path
) -> None:
    """Whether the model is a run, whose own data set is another, or a bundle; a wrong one that is typed is refused."""
    folder = prepare(small_config(small_data, small_data).dataset, 64, small_data, progress=False).path
    words = ["dataset=store", f"dataset.root={folder}", "eval.split=test"]
    for model in (trained.run_id, str(bundle)):
        code, out, err = evaluate(model, *words)
        assert code == 0, err
        # not the newest run: the same tiles may have been scored before, and that run is shown then
        made = store.client.get_run(re.findall(r"/runs/(\w+)", out)[-1])
        assert made.data.params["tile_size.px"] == "64"
        for score in ("test/lake_iou_pooled", "test/tiles"):
            assert made.data.metrics[score] == trained.metrics[score]
    refused(evaluate(trained.run_id, *words, "tile_size=512"), "holds tiles of 64 px", "give tile_size")
    refused(evaluate(trained.run_id, "dataset=store"), "dataset.root is not given")


@pytest.mark.slow
def test_ground_that_was_trained_on_is_refused_and_marked_when_allowed(
    trained: Outcome, store: Store, evaluate: Any, small_data: Path
) -> None:
    tiles = prepare(small_config(small_data, small_data).dataset, 64, small_data, progress=False)
    met = len(tiles.rows("train")) + len(tiles.rows("val"))
    before = latest(store).info.run_id
    told = evaluate(trained.run_id, "eval.split=all")
    counts = f"({len(tiles.rows('train'))} trained on, {len(tiles.rows('val'))} used as val"
    refused(
        told, f"{met} of {len(tiles)} tiles to be scored lie on ground", counts, trained.run_id[:12], "allow_leak=true"
    )
    refused(evaluate(trained.run_id, "tile_size=128", "eval.split=all"), "tiles to be scored lie on ground")
    refused(evaluate(trained.run_id, "dataset.split.seed=3", "eval.split=all"), "tiles to be scored lie on ground")
    assert latest(store).info.run_id == before, "a refusal must leave no run behind"
    code, out, err = evaluate(trained.run_id, "eval.split=all", "allow_leak=true")
    made = latest(store)
    assert code == 0 and f"LEAKING: {met} of its tiles" in " ".join(out.split()) and "marked as leaking" in err
    assert made.data.tags["glidexp.leak"] == "true" and made.data.params["allow_leak"] == "True"
    assert made.data.metrics["test/leak/tiles"] == met and made.data.metrics["test/leak/share"] == met / len(tiles)


@pytest.mark.slow
def test_ground_of_an_ancestor_is_refused_before_training_and_in_what_descends_from_it(
    trained: Outcome,
    store: Store,
    bundle: Path,
    evaluate: Any,
    small_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = ["init=checkpoint", f"init.checkpoint={bundle}", "train.epochs=1"]
    tested = set(split_scenes(small_data, 0))
    seed = next(seed for seed in range(1, 20) if not tested & set(split_scenes(small_data, seed)))
    words = [*SMALL, *start, f"dataset.split.seed={seed}", f"paths.data={small_data}", f"paths.mlruns={tmp_path}"]
    monkeypatch.setattr("glidexp.training.run.fit", lambda *_, **__: pytest.fail("trained before it was refused"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *words])
    monkeypatch.undo()
    refused((int(ended.value.code or 0), "", capsys.readouterr().err), "tiles to be scored", trained.run_id[:12])
    # other scenes are no reason to refuse, and the card of what comes of it remembers both
    away = ["dataset.synthetic.seed=7", *start]
    child = run(small_config(small_data, store.mlruns, *away), choices={"dataset": "smoke"})
    assert store.client.get_run(child.run_id).data.tags["glidexp.leak"] == "false"
    found = find(child.run_id, store, tmp_path)
    ground = from_bytes((found.bundle / GROUND).read_bytes(), GROUND)
    assert [entry["run_id"] for entry in found.card["ancestors"]] == [trained.run_id]
    assert ground.groupby("model")["side"].agg(lambda sides: sorted(set(sides))).tolist() == [["train", "val"]] * 2
    told = evaluate(child.run_id, *DATA, "eval.split=all")
    refused(told, "tiles to be scored lie on ground", f"by run {trained.run_id[:12]}")
    code, _, _ = evaluate(child.run_id, *DATA, "eval.split=test")
    assert code == 0, "the ancestor's own test split was met by neither"


@pytest.mark.slow
def test_weights_of_unknown_origin_are_scored_with_a_warning(
    trained: Outcome, store: Store, bundle: Path, evaluate: Any, tmp_path: Path
) -> None:
    card = {key: value for key, value in read_card(bundle).items() if key not in ("ground", "run_id", "config_id")}
    bare = save_bundle(tmp_path / "bare", load_bundle(bundle).net, card=card)
    code, _, err = evaluate(str(bare), *DATA)
    assert code == 0 and "was trained on is not known" in err
    assert latest(store).data.tags["glidexp.leak"] == "unknown"
    refused(evaluate(str(bare)), "the data set that", "is not known here", "dataset=OPTION")


@pytest.mark.slow
def test_a_registered_model_is_found_by_alias_and_version(
    trained: Outcome, store: Store, evaluate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    (of_run,) = store.client.get_run(trained.run_id).outputs.model_outputs
    store.client.create_registered_model("lakes")
    version = store.client.create_model_version(
        "lakes", f"models:/{of_run.model_id}", trained.run_id, model_id=of_run.model_id
    )
    store.client.set_registered_model_alias("lakes", "champion", version.version)
    code, out, _ = evaluate("models:/lakes@champion", "resume=never")
    assert code == 0 and "Scores of lakes/1 on smoke" in out
    made = latest(store)
    assert made.data.tags["glidexp.model"] == "models:/lakes/1"
    assert [model.model_id for model in made.inputs.model_inputs] == [of_run.model_id]
    for name in ("models:/lakes/1", f"models:/{of_run.model_id}", f"runs:/{trained.run_id}/model"):
        again = load_model(name, store=store)
        assert torch.equal(next(again.net.parameters()), next(load_model(trained.run_id, store=store).net.parameters()))
    refused(evaluate("models:/lakes@best"), "models:/lakes@best does not exist", "Versions of lakes: 1", "@champion")
    refused(evaluate("models:/lakes/7"), "does not exist", "aliases: @champion")
    refused(evaluate("models:/ponds@best"), "no registered model 'ponds'", "Registered: lakes")


@pytest.mark.slow
def test_a_checkpoint_scores_as_the_run_that_it_becomes(
    small_data: Path, store: Store, mlruns: Path, evaluate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as kept:
        kept.setattr("glidexp.training.checkpoint.Series.clear", lambda _: None)  # as if it had not ended yet
        config = small_config(small_data, mlruns, "train.epochs=2", "seed=5", "train.ema_decay=0.5", "train.tta=flips")
        ended = run(config, choices={"dataset": "smoke"})
    folder = next((mlruns / "checkpoints").glob(f"*-{ended.run_id[:8]}"))
    newest = sorted(folder.glob("last.*.pt"))[-1]
    code, out, _ = evaluate(str(newest), "resume=never")
    assert code == 0 and "Scores of" in out
    scored = latest(store).data
    assert scored.tags["glidexp.model"] == str(newest) and scored.tags["glidexp.model_run_id"] == ended.run_id
    for name in ("test/at_0.5/lake_iou_pooled", "test/average_precision"):
        assert scored.metrics[name] == pytest.approx(ended.metrics[name], abs=1e-9)
    epochs = {one.step: one.value for one in store.client.get_metric_history(ended.run_id, "val/threshold")}
    assert scored.metrics["test/threshold"] == pytest.approx(epochs[int(ended.metrics["best_epoch"])])
    overlapping = evaluate(str(newest), *DATA, "dataset.split.seed=3", "resume=never")
    if split_scenes(small_data, 3) != split_scenes(small_data, 0):
        refused(overlapping, "allow_leak=true")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "checkpoint.json").unlink()
    refused(evaluate(str(other / newest.name)), "no readable checkpoint.json", "let the run end")
    beside = other / f"{newest.name}.sha256"
    told = beside.read_text()
    beside.unlink()
    refused(evaluate(str(other / newest.name)), f"{newest.name} has no {beside.name} beside it")
    beside.write_text(told)
    with (other / newest.name).open("ab") as file:
        file.write(b"0")
    refused(evaluate(str(other / newest.name)), f"{newest.name} is damaged")


@pytest.mark.slow
def test_what_is_no_model_is_told_in_one_line(
    trained: Outcome, store: Store, bundle: Path, evaluate: Any, tmp_path: Path
) -> None:
    refused(
        evaluate("ffffffff"),
        f"there is no run ffffffff in {store.mlruns}/mlflow.db. The latest runs with a model are",
        trained.run_id[:12],
    )
    gone = store.client.create_run(store.experiment_id("gone"), run_name="tried").info.run_id
    store.client.delete_run(gone)
    refused(evaluate(gone[:8]), f"run {gone[:8]} was deleted, {gone[:12]} (tried, ", "under State: Deleted")
    store.client.delete_experiment(store.experiment_id("gone"))
    back = (
        f"so was its experiment gone, whose runs all come back with MLFLOW_TRACKING_URI={store.uri} mlflow experiments"
    )
    refused(evaluate(gone[:8]), f"run {gone[:8]} was deleted, {gone[:12]} (tried, ", back)
    refused(evaluate("ffffffff", at=tmp_path / "elsewhere"), f"no tracking store {tmp_path}/elsewhere/mlflow.db")
    assert not (tmp_path / "elsewhere").exists()
    refused(evaluate("nothing/like/it"), "is no model", "run id", "bundle", "models:/NAME@ALIAS")
    refused(evaluate("resume=never"), "no model: give a run id")
    refused(evaluate("RUN", "--tta=d4"), "there is no option --tta=d4. Settings are written KEY=VALUE; Hydra's options")
    refused(evaluate(trained.run_id, "smoke"), "'smoke' is no model", "run id", "bundle", "models:/NAME@ALIAS")
    refused(evaluate(trained.run_id, "-m"), "once for each")
    experiment = store.client.get_experiment_by_name("glidexp").experiment_id
    empty = store.client.create_run(experiment, run_name="no-model").info.run_id
    store.client.set_terminated(empty, "FINISHED")
    refused(evaluate(empty[:12]), f"run {empty} (no-model) is FINISHED and has no model", "log_model=false")
    store.client.set_tag(empty, "glidexp.kind", "study")
    refused(evaluate(empty[:12]), "has no model: it is a study, whose trainings have one each")
    store.client.delete_run(empty)

    damaged = Path(shutil.copytree(bundle, tmp_path / "damaged"))
    content = bytearray((damaged / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / WEIGHTS).write_bytes(content)
    refused(evaluate(str(damaged), *DATA, "resume=never"), "weights.safetensors is damaged")
    (damaged / GROUND).write_bytes(b"")
    refused(evaluate(str(damaged), *DATA, "resume=never"), "ground.parquet is damaged")
    (damaged / CARD).unlink()
    refused(evaluate(str(damaged / WEIGHTS), *DATA), "is weights alone", "card.json")
    refused(evaluate(str(tmp_path / "last.pt"), *DATA), "last.pt cannot be read as a checkpoint: No such file")

    card = json.loads((bundle / CARD).read_text())
    card["bands"] = ["red", "green", "nir"]
    Path(shutil.copytree(bundle, tmp_path / "nir") / CARD).write_text(json.dumps(card))
    refused(evaluate(str(tmp_path / "nir"), *DATA), "the bands red, green, nir", "nir is missing")
    refused(evaluate(trained.run_id, "tile_size.px=100"), "tile_size.px=100", "96 or 128")
    refused(evaluate(trained.run_id, "sensor_mix=gaofen2"), "gaofen2", "Present: landsat8")
    refused(evaluate(trained.run_id, "eval.threshold=2"), "eval.threshold=2", "card", "0 to 1")
    refused(evaluate(trained.run_id, "eval.split=val"), "eval.split=val", "auto, test, all")
    refused(evaluate(trained.run_id, "train.epochs=3"), "there is no setting 'train.epochs'", "train.batch_size")
    refused(evaluate(trained.run_id, "backbone=resnet18"), "there is no setting 'backbone'", "dataset, eval")
    refused(evaluate(trained.run_id, "dataset=smok"), "dataset='smok'", "smoke")


def test_bands_are_found_by_name_in_any_order(small_data: Path) -> None:
    """A network of swapped bands on swapped tiles gives what it gave."""
    from glidexp.training.bands import Bands, for_bands, places_of_bands

    tiles = prepare(small_config(small_data, small_data).dataset, 64, small_data, progress=False)
    tiles.manifest["bands"] = ["Blue", "nir", "red"]
    card = {"bands": ["red", "blue"], "architecture": {"in_channels": 2}}
    order = places_of_bands(card, tiles)
    assert order == [2, 0] and for_bands([10.0, 20.0], order, 3, 0) == [20.0, 0.0, 10.0]
    net = torch.nn.Conv2d(2, 1, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([1.0, 100.0]).view(1, 2, 1, 1))
        image = torch.tensor([3.0, 7.0, 5.0]).view(1, 3, 1, 1)
        assert Bands(net, order)(image).item() == pytest.approx(5.0 + 300.0)
    assert len(ground_of(tiles, tiles.rows("test"), "train")) == len(tiles.rows("test"))


def test_wrong_settings_of_evaluate_are_told_without_torch_or_mlflow() -> None:
    code = (
        "import sys\nfrom glidexp import cli\n"
        "def attempt(*words):\n"
        "    try:\n        cli.main(['evaluate', *words])\n    except SystemExit as stop:\n        return stop.code\n"
        "assert attempt('--help') == 0 and attempt() == 2\n"
        "assert attempt('abcdef', 'sensor_mix=x') == 2\n"
        "assert attempt('abcdef', 'dataset=smoke', 'sensor_mix=landsat8') == 2\n"
        "assert attempt('abcdef', 'dataset=scenes') == 2\n"
        "heavy = {'torch', 'mlflow', 'timm', 'kornia', 'pandas', 'rasterio', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
