"""From a source to a target with tiny networks: what a run starts from, what it remembers, and what it is refused."""

import logging
from pathlib import Path

import pytest
import torch
from runs import small_config
from safetensors.torch import load_file

from glidexp.config import Config
from glidexp.config.evaluation import Adapt, EvalConfig
from glidexp.data.leakage import from_bytes
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, LeakError, TrackingError
from glidexp.models.card import GROUND, WEIGHTS, read_card
from glidexp.models.load import find
from glidexp.tracking.store import Store, open_store
from glidexp.training.beginning.start import settled, start_of
from glidexp.training.checkpoint import Series
from glidexp.training.device import resolve
from glidexp.training.parts import build_parts
from glidexp.training.record import Outcome
from glidexp.training.run import run

TWO_REGIONS = [
    "dataset.synthetic.regions=[andes,greenland]",
    "dataset.synthetic.scenes_per_sensor=8",
    "dataset.split.val=0.25",
    "dataset.split.test=0.25",
    "tracking.log_masks=false",
    "tracking.probe_tiles=0",
]
"""8 scenes of one sensor: of each region two to train, one to judge, one to report on"""

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("plain_figures")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transfer")


def config_of(place: Path, *words: str) -> Config:
    return small_config(place / "data", place / "mlruns", *TWO_REGIONS, *words)


@pytest.fixture(scope="module")
def source(place: Path) -> Outcome:
    """Two epochs on the Andes."""
    return run(config_of(place, "subset.regions=[andes]"), choices={})


@pytest.fixture(scope="module")
def store(source: Outcome, place: Path) -> Store:
    return open_store(f"sqlite:///{place}/mlruns/mlflow.db", place / "mlruns")


@pytest.fixture(scope="module")
def tiles(place: Path) -> TileStore:
    config = config_of(place)
    return prepare(config.dataset, 64, place / "data", progress=False)


def scenes(tiles: TileStore, region: str, *sides: str) -> set[str]:
    index = tiles.index[(tiles.index["region"] == region) & tiles.index["split"].isin(sides)]
    return set(index["scene"])


def test_a_source_scores_every_region_and_remembers_its_own(source: Outcome, store: Store, tiles: TileStore) -> None:
    assert {f"test/region/{name}/lake_iou_pooled" for name in ("andes", "greenland")} <= source.metrics.keys()
    bundle = find(source.run_id, store, Path("unused")).bundle
    card = read_card(bundle)
    assert card["regions"] == ["andes"]
    ground = from_bytes((bundle / GROUND).read_bytes(), "")
    assert set(ground["scene"]) == scenes(tiles, "andes", "train", "val")
    trained = ((tiles.index["region"] == "andes") & (tiles.index["split"] == "train")).sum()
    assert source.metrics["tiles/train"] == trained < len(tiles.rows("train"))


def test_a_run_is_found_by_its_id_and_by_its_config(source: Outcome, store: Store, place: Path) -> None:
    """However it is named, the start is the same: the id of what follows is known before the source is trained."""
    identity = store.client.get_run(source.run_id).data.tags["glidexp.config_id"]
    digests = []
    for name in (source.run_id, source.run_id[:8], f"config:{identity}"):
        with start_of(config_of(place, "init=run", f"init.run='{name}'")) as (init, digest):
            assert init.checkpoint is not None and (Path(init.checkpoint) / "weights.safetensors").is_file()
            digests.append(digest)
    assert digests == [{"init.run": f"config:{identity}"}] * 3
    store.client.create_registered_model("andes")
    bundle = find(source.run_id, store, Path("unused")).bundle
    version = store.client.create_model_version("andes", str(bundle), run_id=source.run_id)
    store.client.set_registered_model_alias("andes", "champion", version.version)
    with start_of(config_of(place, "init=run", "init.run='models:/andes@champion'")) as (_, digest):
        assert digest == digests[0]


def test_what_cannot_be_started_from_is_told(source: Outcome, store: Store, place: Path) -> None:
    def refused(kind: type[Exception], says: str, *words: str) -> None:
        config = config_of(place, "init=run", *words)
        with pytest.raises(kind, match=says), start_of(config, store):
            pass

    refused(ConfigError, r"no finished run of this config id .*there is none", f"init.run='config:{'0' * 16}'")
    refused(TrackingError, "there is no run ffffff", "init.run=ffffff")
    refused(TrackingError, "init.run=regioms is neither a model nor a study .* a study's name", "init.run=regioms")
    mine = f"init.run={source.run_id}"
    refused(ConfigError, r"backbone\.name=resnet18, the model has test_resnet", mine, "backbone=resnet18")
    refused(ConfigError, r"decoder\.name=unet, the model has fcn: .* init\.scope=encoder", mine, "decoder=unet")


def test_what_a_target_adds_to_its_source(source: Outcome, store: Store, place: Path, tiles: TileStore) -> None:
    """One scene of the target: the source's ground stays an ancestor's, and its region is scored."""
    words = ("init=run", f"init.run={source.run_id}", "subset.regions=[greenland]", "subset.scenes=1", "train.epochs=1")
    tuned = run(config_of(place, *words), choices={})
    card = read_card(bundle := find(tuned.run_id, store, Path("unused")).bundle)
    assert card["regions"] == ["greenland"]
    assert [member["run_id"] for member in card["ancestors"]] == [source.run_id]
    ground = from_bytes((bundle / GROUND).read_bytes(), "")
    own, before = ground[ground["model"] == 0], ground[ground["model"] == 1]
    assert set(before["scene"]) == scenes(tiles, "andes", "train", "val")
    assert len(set(own[own["side"] == "train"]["scene"])) == 1
    assert set(own["scene"]) <= scenes(tiles, "greenland", "train", "val")
    assert "test/region/andes/lake_iou_pooled" in tuned.metrics  # what is left of the source
    again = run(config_of(place, *words), choices={})
    assert again.run_id == tuned.run_id


def test_adapters_are_merged_into_weights_that_never_moved(
    source: Outcome, store: Store, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = (
        "init=run",
        f"init.run={source.run_id}",
        "subset.regions=[greenland]",
        "train.epochs=1",
        "optimizer.lr=0.01",
    )
    caplog.set_level(logging.INFO)
    tuned = run(config_of(place, *words, "train.lora_rank=4"), choices={})
    tags, before = (store.client.get_run(one.run_id).data.tags for one in (tuned, source))
    learning = int(tags["glidexp.parameters_trained"])
    assert 0 < learning < int(tags["glidexp.parameters"]) == int(before["glidexp.parameters"])
    assert f"{learning} parameters learn, the network has {tags['glidexp.parameters']}" in caplog.text
    bundles = [find(one.run_id, store, Path("unused")).bundle for one in (source, tuned)]
    theirs, ours = (load_file(bundle / WEIGHTS) for bundle in bundles)
    assert theirs.keys() == ours.keys()
    moved = {name for name, weight in ours.items() if name.startswith("encoder.") and not weight.equal(theirs[name])}
    assert moved and all(ours[name].ndim == 4 and ours[name].shape[1] > 1 for name in moved), "no norm, no depth-wise"
    parts = [weight.flatten(1).double() for weight in ((ours[name] - theirs[name]) for name in moved)]
    ranks = [int(torch.linalg.matrix_rank(part, rtol=1e-3)) for part in parts]
    assert max(ranks) == 4


def test_a_checkpoint_holds_adapters_and_the_merged_best(place: Path, tiles: TileStore, tmp_path: Path) -> None:
    network, more = "backbone=mobilenetv3", ("optimizer.layer_decay=0.5", "train.gradient_checkpointing=true")
    config = config_of(place, network, "train.lora_rank=4", *more)
    runtime = resolve(config.train)
    first, second = (build_parts(config, runtime, tiles) for _ in range(2))
    with torch.no_grad():
        for weight in first.optimizer.param_groups[0]["params"]:
            weight += 0.1
    first.keep_best()
    plain = build_parts(config_of(place, network), runtime, tiles).model
    plain.load_state_dict(first.best)
    series = Series(tmp_path / "last.pt", config_id="c")
    assert series.save(first.state())
    second.restore(series.load() or {})
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        apart, merged = first.model.eval()(image), plain.eval()(image)
    torch.testing.assert_close(merged, apart, rtol=0, atol=1e-5)


def test_a_rank_beyond_every_layer_is_refused_before_data_is_made(place: Path) -> None:
    config = config_of(place, f"paths.data={place / 'none'}", "train.lora_rank=4096")
    with pytest.raises(ConfigError, match=r"train\.lora_rank=4096.*backbone\.name=test_resnet"):
        run(config, choices={})
    assert not (place / "none").exists()


def test_a_study_stands_for_its_best_training(
    source: Outcome, store: Store, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def study(identity: str, status: str, **more: str) -> str:
        tags = {"glidexp.kind": "study", "glidexp.study": "regions", "glidexp.study_id": identity}
        tags |= {f"glidexp.{name}": value for name, value in more.items()}
        made = store.client.create_run(store.experiment_id("glidexp"), tags=tags)
        store.client.set_terminated(made.info.run_id, status)
        return str(made.info.run_id)

    def digest(reference: str) -> dict[str, str]:
        with start_of(config_of(place, "init=run", f"init.run='{reference}'"), store) as (_, found):
            return found

    best = store.client.get_run(source.run_id).data.tags["glidexp.config_id"]
    caplog.set_level(logging.INFO)
    parent = study("5a" * 6, "FINISHED", best=best, best_arm="andes", best_why="it is best.")
    for reference in ("regions", "5a" * 6, parent, parent[:10]):
        assert digest(reference) == digest(source.run_id), reference
    said = [record.message for record in caplog.records]
    why = f"of study regions ({'5a' * 6}) the arm andes, seed 0, run {source.run_id}: it is best."
    assert said == [f"init.run={reference}: {why}" for reference in ("regions", "5a" * 6, parent, parent[:10])]
    assert settled(config_of(place, "init=run", "init.run=regions"), store).init.run == source.run_id
    study("5b" * 6, "KILLED")
    with pytest.raises(TrackingError, match=r"several studies are called regions: .* 5b5b5b5b5b5b \(KILLED\)"):
        digest("regions")
    for identity, says in (
        ("5b" * 6, "was broken off: its best arm is not known"),
        (study("5c" * 6, "FINISHED"), "from before this was noted: the same sweep command"),
        (study("5d" * 6, "FAILED", best="", best_why="All failed."), "names no best arm: All failed. Or give"),
        (study("5e" * 6, "FINISHED", best="0" * 16), "is no longer in this store"),
    ):
        with pytest.raises(TrackingError, match=says):
            digest(identity)


def test_a_planted_leak_is_caught_before_training(
    source: Outcome, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another split of the same ground: the source has met what the target would be tested on."""
    monkeypatch.setattr("glidexp.training.run.fit", lambda *_, **__: pytest.fail("trained"))
    config = config_of(place, "init=run", f"init.run={source.run_id}", "dataset.split.seed=1")
    with pytest.raises(LeakError, match=f"met in training.*by run {source.run_id[:12]}"):
        run(config, choices={})


def scored(place: Path, model: str, *words: str) -> Outcome:
    """A model on Greenland's tiles, as `glidexp evaluate` scores it."""
    from hydra import compose, initialize_config_dir

    from glidexp import door
    from glidexp.composing import register
    from glidexp.config import evaluation
    from glidexp.training.rescoring.evaluation import evaluate

    given = ["eval.regions=[greenland]", f"paths.data={place / 'data'}", f"paths.mlruns={place / 'mlruns'}"]
    given += ["train.precision=fp32", "train.threads=1", "tracking.system_metrics=false", "tracking.probe_tiles=0"]
    register()
    with initialize_config_dir(str(door.conf_dir()), version_base="1.3"):
        config = evaluation.load(compose("evaluate", overrides=[*given, *words]))
    config.model = model
    return evaluate(config, given=[], choices={})


def test_a_model_is_fitted_to_a_target_without_learning(source: Outcome, place: Path) -> None:
    """Each rung changes what it says it changes, on the target's test tiles alone, and under an id of its own."""

    def metrics_of(*words: str) -> dict[str, float]:
        return scored(place, source.run_id, *words).metrics

    zero = metrics_of()
    key = "test/lake_iou_pooled"
    assert zero[key] == pytest.approx(source.metrics["test/region/greenland/lake_iou_pooled"])
    assert {name.split("/")[2] for name in zero if name.startswith("test/region/")} == {"greenland"}
    both = metrics_of("eval.regions=[all]", "eval.adapt=normalise", "eval.fit_regions=[greenland]")
    only = metrics_of("eval.adapt=normalise")
    assert both["test/region/greenland/f1_pooled"] == pytest.approx(only["test/f1_pooled"])
    assert "test/region/andes/f1_pooled" in both  # what the adaptation costs at home
    again = metrics_of("eval.threshold=val", "eval.fit_regions=[andes]")
    assert again["test/threshold"] == zero["test/threshold"], "it was chosen on these very tiles in training"
    moved = metrics_of("eval.threshold=val", "eval.adapt=batch_norm")
    assert moved["test/threshold"] != zero["test/threshold"]
    fitted = {"normalise": only, "histogram": metrics_of("eval.adapt=histogram"), "batch_norm": moved}
    for rung, metrics in fitted.items():
        assert metrics["test/average_precision"] != zero["test/average_precision"], rung
    assert only["test/threshold"] == zero["test/threshold"]


def test_a_fitted_model_is_kept_and_scores_as_it_did(source: Outcome, store: Store, place: Path) -> None:
    """What was fitted is a model of its own, and what it was fitted to is ground that it has met."""
    first = scored(place, source.run_id, "eval.threshold=val", "eval.adapt=batch_norm", "eval.log_fitted=true")
    again = scored(place, first.run_id)
    for name in ("lake_iou_pooled", "average_precision", "threshold"):
        assert again.metrics[f"test/{name}"] == first.metrics[f"test/{name}"], name
    found = find(first.run_id, store, place / "found")
    card = found.card
    origin = find(source.run_id, store, place / "found").card
    assert card["fitted"]["adapt"] == "batch_norm" and card["fitted"]["regions"] == ["greenland"]
    assert card["fitted"]["weights"] == origin["weights"]["sha256"] != card["weights"]["sha256"]
    assert card["mean"] == pytest.approx(origin["mean"]) and card["histogram"] != origin["histogram"]
    assert card["ancestors"][0]["run_id"] == source.run_id
    assert card["regions"] == ["andes", "greenland"]
    with pytest.raises(LeakError, match="met in training"):
        scored(place, first.run_id, "eval.split=all")
    kept = scored(place, source.run_id, "eval.threshold=val", "eval.log_fitted=true")
    held = find(kept.run_id, store, place / "found").card
    assert held["weights"]["sha256"] == origin["weights"]["sha256"] and held.get("validity") == origin.get("validity")
    assert held["threshold"] == kept.metrics["test/threshold"]


def test_what_cannot_be_kept_is_told_before_anything_is_scored() -> None:
    for values, says in (({}, "nothing to log"), ({"adapt": Adapt.histogram}, "no table of new values")):
        with pytest.raises(ConfigError, match=says):
            EvalConfig(log_fitted=True, **values)
