"""What is there from before an update: taken where it means the same, and never mixed in without a word."""

import importlib
import logging
from pathlib import Path
from typing import Any

import pytest
from test_archive import write_pairs
from tiny_scenes import world

from glidexp import identity
from glidexp.config import Config, DatasetConfig, DatasetKind, PathsConfig, TrackingConfig, flat
from glidexp.data import prepare as prepare_module
from glidexp.data.prepare import prepare
from glidexp.errors import DataError
from glidexp.identity import FIRST_VERSION, MODEL_VERSION_TAG, VERSION_TAG, config_id, earlier_ids, trained_by
from glidexp.study.comparison.arms import arms_of, told_versions
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import PLAN, Ledger
from glidexp.tracking import resume
from glidexp.tracking.environment import GitState
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store, open_store, tracking_uri
from glidexp.training.beginning.earlier import told_older


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlruns = tmp_path / "mlruns"
    return open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)


def tracked(seed: int, *, without: str = "", run_id: str = "", **tags: str) -> TrackedRun:
    """A training with the params that it has today, but for those that begin with a word."""
    params = {key: str(value) for key, value in flat(Config(seed=seed)).items() if not without or without not in key}
    return TrackedRun(run_id or f"{seed:x}" * 32, "r", params | {"backbone": "resnet18"}, {}, tags)


@pytest.mark.parametrize("later", ["_layer", "subset.", "train.lora", "dataset.split.fold"])
def test_a_setting_that_came_later_parts_no_seeds_of_one_arm(later: str) -> None:
    old, new = tracked(0, without=later), tracked(1)
    assert len(old.params) < len(new.params)
    assert [arm.seeds for arm in arms_of([old, new])] == [[0, 1]]
    changed = TrackedRun("f" * 32, "r", new.params | {"train.lora_rank": "4", "seed": "2"}, {}, {})
    assert [arm.name for arm in arms_of([old, changed])] == ["train.lora_rank=0", "train.lora_rank=4"]


def test_results_of_two_versions_are_not_compared_without_a_word() -> None:
    unsaid, first = tracked(0), tracked(1, **{VERSION_TAG: "1"})
    second = tracked(2, **{VERSION_TAG: "2"})
    assert told_versions([unsaid, first]) == [] == told_versions([second, second])
    (note,) = told_versions([unsaid, first, second])
    assert note.startswith("MIXED VERSIONS") and f"1: {unsaid.run_id[:12]}, {first.run_id[:12]}; 2: " in note
    scored = tracked(3, **{VERSION_TAG: "2", MODEL_VERSION_TAG: "1"})
    assert "2 of networks of 1: 333333333333" in told_versions([second, scored])[0]
    assert trained_by([{}, {"results_version": 1}]) == "1" and trained_by([{}, {"results_version": 2}]) == "1+2"


def test_an_older_run_of_the_same_settings_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config()
    before = config_id(config, recipe="r")
    assert earlier_ids(config, recipe="r") == {} and identity.RESULTS_VERSION == FIRST_VERSION
    assert told_older(store, config, "r", {}) == []
    with Run.start(store, experiment="glidexp", run_name="old", config_flat=flat(config), config_id=before) as run:
        pass
    assert store.client.get_run(run.run_id).data.tags[VERSION_TAG] == "1"
    assert told_older(store, config, "r", {}) == []
    monkeypatch.setattr(identity, "RESULTS_VERSION", 2)
    assert earlier_ids(config, recipe="r") == {1: before} and config_id(config, recipe="r") != before
    (said,) = told_older(store, config, "r", {})
    assert run.run_id in said and "results version 1" in said and "FINISHED" in said
    assert told_older(store, config, "another", {}) == []


def test_a_study_of_the_same_commands_with_other_runs_is_named(store: Store) -> None:
    def planned(key: str, name: str = "mini", epochs: int = 2) -> Plan:
        cells = tuple(Cell("a", seed, (f"train.epochs={epochs}", f"seed={seed}"), f"{key}{seed}") for seed in (0, 1))
        return Plan(name, "", "test/lake_iou_pooled", ("a",), (0, 1), cells)

    before = Ledger(planned("old"), store, "glidexp")
    assert before.of_the_same_words() == []
    before.begin()
    after = Ledger(planned("new"), store, "glidexp")
    assert after.of_the_same_words() == [before.study_id] and before.of_the_same_words() == []
    for other in (planned("new", name="another"), planned("new", epochs=3)):
        assert Ledger(other, store, "glidexp").of_the_same_words() == []
    (before.folder / PLAN).write_text("{")
    assert after.of_the_same_words() == []
    before.begin()
    after.begin()
    assert after.of_the_same_words() == [], "it was told as it began"


def test_a_run_that_goes_on_with_another_commit_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "own_code", lambda: GitState("b" * 40, "main", False, ""))
    given = {"experiment": "e", "run_name": "r", "config_flat": {"seed": 0}, "config_id": "abc"}
    for commit, said in (("a" * 40, f"commit: {'a' * 12} -> {'b' * 12}"), ("b" * 40, None)):
        first = Run.start(store, **given)
        first.tags({"mlflow.source.git.commit": commit})
        first.finish("KILLED")
        Run.start(store, **given, resume_run_id=first.run_id).finish()
        assert store.client.get_run(first.run_id).data.tags.get("glidexp.resumed_with") == said


def test_tiles_that_an_earlier_version_made_otherwise_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, data, own = world(tmp_path), tmp_path / "data", tmp_path / "own"
    caplog.set_level(logging.WARNING, logger="glidexp")
    with monkeypatch.context() as patch:
        patch.setattr("glidexp.data.prepare.READ_VERSION", 1)
        old = prepare(dataset, 32, data, progress=False)
        prepare(dataset, 32, data, progress=False, path=own)
    assert not [record for record in caplog.records if "earlier version" in record.message]
    new = prepare(dataset, 32, data, progress=False)
    (said,) = [record.message for record in caplog.records if "earlier version" in record.message]
    assert str(old.path) in said and "read 1 -> 2" in said
    assert old.path.is_dir() and new.path != old.path
    caplog.clear()
    prepare(dataset, 32, data, progress=False)
    prepare(dataset, 64, data, progress=False)  # of other tiles nothing was there
    assert not [record for record in caplog.records if "earlier version" in record.message]
    with pytest.raises(DataError, match=r"own is of the same settings .* \(read 1 -> 2\): give another folder, del"):
        prepare(dataset, 32, data, progress=False, path=own)


def test_ready_tiles_whose_split_another_version_made_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stores of before say no version of how copies are known; they keep their split."""
    root = tmp_path / "tiles"
    write_pairs(root, range(1, 41))
    dataset, data = DatasetConfig(kind=DatasetKind.folder, root=str(root)), tmp_path / "data"
    caplog.set_level(logging.WARNING, logger="glidexp")
    recipe_of_files = prepare_module._recipe_of_files

    def before(dataset: DatasetConfig) -> dict[str, Any]:
        return {key: value for key, value in recipe_of_files(dataset).items() if key != "copies"}

    with monkeypatch.context() as patch:
        patch.setattr(prepare_module, "_recipe_of_files", before)
        old = prepare(dataset, 64, data, progress=False)
    held = (old.path / "manifest.json").read_bytes()
    new = prepare(dataset, 64, data, progress=False)
    (said,) = [record.message for record in caplog.records if "earlier version" in record.message]
    assert str(old.path) in said and "copies 1 -> 2" in said and new.path != old.path
    assert (old.path / "manifest.json").read_bytes() == held


@pytest.mark.parametrize("name", ["glidexp.models.export:load_bundle", "glidexp.mapping.arrays:probabilities_of"])
def test_what_models_in_stores_import_stays_where_it_is(name: str) -> None:
    """MLflow keeps the script that loads a model beside it, with these names in it, as it was when that was logged."""
    module, function = name.split(":")
    assert callable(getattr(importlib.import_module(module), function))
