"""Several networks as one model: the mean of their probabilities, scored, kept, and refused where it makes no sense."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from runs import small_config

from glidexp import cli
from glidexp.config import InitConfig, InitKind
from glidexp.data.prepare import prepare
from glidexp.errors import ConfigError
from glidexp.models.card import CARD, read_card
from glidexp.models.ensemble import ensemble_of
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.init import load_checkpoint
from glidexp.models.lineage import of_bundle
from glidexp.models.load import FoundModel, find
from glidexp.models.mean import MeanOfNetworks
from glidexp.models.tta import MeanOfViews
from glidexp.tracking.store import Store, open_store
from glidexp.training.record import Outcome
from glidexp.training.run import run

HOW = ["train.precision=fp32", "train.threads=1", "tracking.system_metrics=false", "tracking.probe_tiles=1"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_figures")]


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlruns")


@pytest.fixture(scope="module")
def trained(small_data: Path, mlruns: Path) -> list[Outcome]:
    """Two seeds of one arm, and another arm."""
    changes = (["seed=0"], ["seed=1"], ["seed=2", "train.tta=flips"])
    return [run(small_config(small_data, mlruns, "train.epochs=1", *words), choices={}) for words in changes]


@pytest.fixture(scope="module")
def store(trained: list[Outcome], mlruns: Path) -> Store:
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


@pytest.fixture(scope="module")
def found(trained: list[Outcome], store: Store) -> list[FoundModel]:
    return [find(one.run_id, store, Path("unused")) for one in trained]


@pytest.fixture
def evaluate(small_data: Path, mlruns: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Gives the command, and tells its exit code and what it said last beside the table."""

    def command(*words: str, verb: str = "evaluate") -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([verb, *words, f"paths.data={small_data}", "--mlruns", str(mlruns), *HOW])
        return int(ended.value.code or 0), (capsys.readouterr().err.strip().splitlines() or [""])[-1]

    return command


def runs_of(store: Store, name: str) -> list[Any]:
    experiment = store.client.get_experiment_by_name("glidexp").experiment_id
    found = store.client.search_runs([experiment], f"attributes.run_name = '{name}'")
    return [store.client.get_run(one.info.run_id) for one in found]  # with what it was given and gave


def test_it_answers_with_the_mean_of_the_probabilities(found: list[FoundModel], tmp_path: Path) -> None:
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    both = ensemble_of(found[:2], tmp_path / "both")
    with torch.inference_mode():
        each = torch.stack([load_bundle(one.bundle)(image) for one in found[:2]])
        whole = load_bundle(both.bundle)(image)
    assert (each[0] - each[1]).abs().max() > 0.01, "two networks that differ"
    torch.testing.assert_close(whole, each.mean(dim=0), rtol=0, atol=1e-6)
    turned = ensemble_of([found[1], found[0]], tmp_path / "turned")
    assert turned.card["weights"] == both.card["weights"], "the order of the names plays no part"


def test_views_and_members_go_together(found: list[FoundModel], tmp_path: Path) -> None:
    """Of two networks that are asked about four views each, the mean over all eight answers."""
    again = tmp_path / "again"
    net = load_bundle(found[2].bundle).net
    assert isinstance(net, MeanOfViews)
    with torch.no_grad():
        next(net.parameters()).mul_(1.5)
    save_bundle(
        again, net, card={key: value for key, value in found[2].card.items() if key not in ("validity", "ground")}
    )
    other = FoundModel(again, read_card(again), "other", None)
    both = ensemble_of([found[2], other], tmp_path / "both")
    loaded = load_bundle(both.bundle)
    assert isinstance(loaded.net, MeanOfViews) and isinstance(loaded.net.module, MeanOfNetworks)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        each = torch.stack([load_bundle(one.bundle)(image) for one in (found[2], other)])
        torch.testing.assert_close(loaded(image), each.mean(dim=0), rtol=0, atol=1e-6)
    line = of_bundle(both.bundle)
    assert [one["ground"] for one in line.members].count(False) == 1 and len(line.unknown) == 1


def test_scores_are_of_the_mean_at_the_threshold_that_is_best_on_val_and_the_model_is_kept(
    trained: list[Outcome],
    found: list[FoundModel],
    store: Store,
    evaluate: Any,
    small_data: Path,
    mlruns: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = [one.run_id for one in trained[:2]]
    assert evaluate(ids[0], ids[1][:12])[0] == 0
    (made,) = runs_of(store, "evaluate-smoke-the-mean-of-2-models")
    assert {*made.data.tags["glidexp.members"].split(", ")} == {f"run {one[:12]}" for one in ids}
    assert made.data.tags["glidexp.leak"] == "false" and made.data.tags["glidexp.scored_split"] == "test"
    assert {one.model_id for one in made.inputs.model_inputs} == {
        one.tracked.model_id for one in found[:2] if one.tracked
    }

    tiles = prepare(small_config(small_data, mlruns).dataset, 64, small_data, progress=False)

    def lake_iou(split: str, threshold: float) -> float:
        """Independent of histograms: pixels of the mean probability at or above the threshold."""
        both = total = 0
        for row in tiles.rows(split):
            image = torch.from_numpy(np.array(tiles.images[row])).permute(2, 0, 1)[None]
            truth = np.asarray(tiles.labels[row])
            with torch.inference_mode():
                mean = torch.stack([load(image) for load in networks]).mean(dim=0)[0, 0].numpy()
            seen, lake = (mean >= threshold) & (truth != 255), truth == 1
            both, total = both + int((seen & lake).sum()), total + int((seen | lake).sum())
        return both / total

    networks = [load_bundle(one.bundle) for one in found[:2]]
    threshold = made.data.metrics["test/threshold"]
    assert made.data.metrics["test/lake_iou_pooled"] == pytest.approx(lake_iou("test", threshold), abs=1e-4)
    best = lake_iou("val", threshold)
    assert all(best >= lake_iou("val", other) - 1e-4 for other in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9))

    kept = find(made.info.run_id, store, Path("unused"))
    assert kept.card["threshold"] == threshold and kept.card["temperature"] > 0
    assert sorted(one["run_id"] for one in kept.card["members"]) == sorted(ids)
    assert {one["run_id"] for one in of_bundle(kept.bundle).members if "run_id" in one} >= {*ids}
    assert evaluate(made.info.run_id)[0] == 0, "which is a model as any other"
    (again,) = runs_of(store, f"evaluate-smoke-run-{made.info.run_id[:8]}")
    same = {key: value for key, value in made.data.metrics.items() if key.startswith("test/")}
    assert len(same) > 100 and {key: again.data.metrics[key] for key in same} == pytest.approx(same)
    assert evaluate(ids[1], ids[0])[0] == 0
    assert len(runs_of(store, "evaluate-smoke-the-mean-of-2-models")) == 1, "shown, not scored again"

    def test_scenes(seed: int) -> set[str]:
        config = small_config(small_data, mlruns, f"dataset.split.seed={seed}")
        other = prepare(config.dataset, 64, small_data, progress=False)
        return set(other.index["scene"].iloc[other.rows("test")])

    met = next(seed for seed in range(1, 9) if test_scenes(seed) != test_scenes(0))
    code, said = evaluate(*ids, f"dataset.split.seed={met}")
    assert code == 2 and "met in training" in said and ids[0][:12] in said and ids[1][:12] in said
    code, said = evaluate(made.info.run_id, ids[0])
    assert code == 2 and "a mean of networks is no part of another" in said
    init = InitConfig(kind=InitKind.checkpoint, checkpoint=str(kept.bundle))
    with pytest.raises(ConfigError, match=r"is the mean of 2 networks: start from one of them, run [0-9a-f]{12}, run "):
        load_checkpoint(networks[0].net, init, ["red", "green", "blue"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["validity", made.info.run_id, "--mlruns", str(mlruns)])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "it is the mean of 2 networks, each of which has features of its own" in said
    assert f"run {ids[0][:12]}" in said and "Traceback" not in said


def test_it_is_compared_with_the_networks_that_it_is_made_of(
    trained: list[Outcome],
    store: Store,
    evaluate: Any,
    mlruns: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [one.run_id for one in trained[:2]]
    assert evaluate(*ids)[0] == 0
    (made,) = (one for one in runs_of(store, "evaluate-smoke-the-mean-of-2-models") if one.outputs.model_outputs)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["compare", *ids, made.info.run_id, "--mlruns", str(mlruns)])
    told = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "each run at the threshold chosen on its val" in told
    assert "they are averaged and count as one: 0+1" in told
    assert not list(tmp_path.iterdir()), "MLflow left a database of its own where the command was typed"
    alone = np.mean([one.metrics["test/lake_iou_pooled"] for one in trained[:2]])
    assert f"{100 * (made.data.metrics['test/lake_iou_pooled'] - alone):+.2f}" in told


def test_a_map_with_it_tells_where_the_networks_disagree(
    trained: list[Outcome], store: Store, evaluate: Any, small_data: Path, mlruns: Path, tmp_path: Path
) -> None:
    assert evaluate(trained[0].run_id, trained[1].run_id)[0] == 0
    (made,) = (one for one in runs_of(store, "evaluate-smoke-the-mean-of-2-models") if one.outputs.model_outputs)
    scene = min((small_data / "scenes").glob("*/scenes/*.tif"))
    kept = {}
    for name, run_id in (("mean", made.info.run_id), ("alone", trained[0].run_id), ("other", trained[1].run_id)):
        words = ["predict", run_id, str(scene), "--out", str(tmp_path / name), "--mlruns", str(mlruns)]
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--sensor", "landsat8", "--precision", "fp32", "--device", "cpu", "--workers", "1"])
        assert ended.value.code == 0
        with rasterio.open(tmp_path / name / f"{scene.stem}_probability.tif") as file:
            kept[name] = file.read(1).astype(float)
    with rasterio.open(tmp_path / "mean" / f"{scene.stem}_spread.tif") as file:
        spread = file.read(1)
    assert {path.name for path in (tmp_path / "alone").glob("*spread*")} == set()
    seen = spread < 255
    apart = np.abs(kept["alone"] - kept["other"])[seen] / np.sqrt(2)  # of two the standard deviation is that
    assert seen.any() and np.abs(spread[seen] - apart).max() <= 2, "up to rounding"
    assert np.abs(kept["mean"] - (kept["alone"] + kept["other"]) / 2)[seen].max() <= 1


def test_what_cannot_be_put_together_is_told_in_one_line(trained: list[Outcome], evaluate: Any) -> None:
    first, second, views = (one.run_id for one in trained)
    for words, told in (
        ((first, first), "have the same weights: name each model once"),
        ((first, views), f"run {first[:12]} and run {views[:12]} differ by train.tta (None, flips)"),
        ((first, second, "eval.split=all"), "found on val tiles that are not scored"),
        ((first, second, "eval.threshold=card"), "or give a number"),
        ((first, "ffffffff"), "there is no run ffffffff"),
    ):
        code, said = evaluate(*words)
        assert code == 2 and said.startswith("glidexp: ") and told in said, said


def test_a_number_as_threshold_keeps_no_model(trained: list[Outcome], store: Store, evaluate: Any) -> None:
    before = {one.info.run_id for one in runs_of(store, "evaluate-smoke-the-mean-of-2-models")}
    assert evaluate(trained[0].run_id, trained[1].run_id, "eval.threshold=0.4")[0] == 0
    (made,) = (one for one in runs_of(store, "evaluate-smoke-the-mean-of-2-models") if one.info.run_id not in before)
    assert made.data.metrics["test/threshold"] == pytest.approx(0.4, abs=0.02) and not made.outputs.model_outputs


def test_networks_that_saw_other_pixels_are_not_averaged(found: list[FoundModel], tmp_path: Path) -> None:
    def changed(**card: Any) -> FoundModel:
        return FoundModel(found[1].bundle, found[1].card | card, "other", None)

    shape = found[1].card["architecture"] | {"backbone": "resnet50"}
    for card, told in (
        ({"architecture": shape}, r"differ by backbone or decoder \(.*resnet50\)"),
        ({"mean": [1.0, 2.0, 3.0]}, "differ by training tiles"),
        ({"split_hash": "0"}, "differ by split"),
        ({"tile_px": 128}, "differ by tile size"),
    ):
        with pytest.raises(ConfigError, match=told):
            ensemble_of([found[0], changed(**card)], tmp_path / "both")
    assert not (tmp_path / "both" / CARD).exists()
