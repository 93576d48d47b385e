"""Which training of a study is released, what the gate says beside a champion, and who is champion. No network here."""

import json
import platform
import re
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import studies
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from omegaconf import OmegaConf

from glidexp import cli
from glidexp.config.evaluation import EvalConfig, EvalSplit, EvaluateConfig
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError
from glidexp.release import card_page, checks_champion
from glidexp.release.again import ground_of
from glidexp.release.card_scores import rows_of, wilson
from glidexp.release.checks_scores import beats_naive
from glidexp.study.comparison.arms import Arm, common_ground
from glidexp.study.comparison.material import Material, gather
from glidexp.study.comparison.pick import Field, Limits, best_tags, deciding, field_of, pick
from glidexp.study.comparison.studies import load_study
from glidexp.study.execution.ledger import CELLS, FOLDER, Entry, Status, study_id
from glidexp.tracking import registry
from glidexp.tracking.carry_versions import FROM_TAG
from glidexp.tracking.found import tracked_run
from glidexp.tracking.gathered import energy
from glidexp.tracking.liveness import PROCESS_TAG
from glidexp.tracking.models import MODEL_ID, fetch, find_model
from glidexp.tracking.store import Store, open_store

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of mlflow's own import
IOU = "test/lake_iou_pooled"
ARMS = {"large": (("net=large",), 1.0), "small": (("net=small",), 1.0), "broken": (("net=broken",), 0.45)}
FACTS = {"large": (5.0, 5_000_000), "small": (9.0, 1_000_000), "broken": (30.0, 500_000)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    mlruns = tmp_path_factory.mktemp("pick") / "mlruns"
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    return studies.ground(tmp_path_factory.mktemp("tiles") / "store", tiles=1)


@pytest.fixture(scope="module")
def parent(store: Store, tiles: TileStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study in which seed 1 of the arm `small` was scored by an evaluation."""
    folder = tmp_path_factory.mktemp("runs")
    run, plan = studies.make_study(
        store, folder, tiles, ARMS, seeds=(0, 1), facts=FACTS, failed={"broken|1": "no memory"}
    )
    path = store.mlruns / FOLDER / study_id(plan) / CELLS
    cells = json.loads(path.read_text())
    trained = cells["small|1"]["train"]
    about = {"glidexp.kind": "evaluation", "glidexp.model_run_id": trained, "glidexp.config_id": "e" * 16}
    scored, _ = studies.leave(store, folder / "again", tiles, 1.0, 2001, {"net": "small"}, about)
    config = EvaluateConfig(model=trained, eval=EvalConfig(split=EvalSplit.test))
    config.tile_size.px = 48
    store.client.log_text(scored, OmegaConf.to_yaml(OmegaConf.structured(config)), "config.yaml")
    cells["small|1"]["scored"] = scored
    path.write_text(json.dumps(cells))
    return run


@pytest.fixture(scope="module")
def field(store: Store, parent: str) -> Field:
    return field_of(store, [parent[:12]])


def by_seed(field: Field, arm: str, seed: int) -> Any:
    (found,) = (one for one in field.arms if one.name == arm)
    return found.runs[found.seeds.index(seed)]


def test_the_simpler_of_two_that_cannot_be_told_apart_is_taken_and_val_chooses_the_seed(
    store: Store, field: Field
) -> None:
    assert [arm.name for arm in field.arms] == list(ARMS) and field.primary == IOU and field.level == 0.95
    assert field.left == ("broken|1 is failed: no memory",)
    choice = pick(store, field, deciding(field.primary), Limits())
    assert choice.arm == "small"
    assert "small has 1.00 M parameters" in choice.sentence and "large has 5.00 M" in choice.sentence
    assert "not distinguishable at 95%, so the simpler one is taken" in choice.sentence
    number, over = r"(\d+\.\d\d)", "over 2 trainings"
    rests_on = rf"{number} {over}; large .* {number} {over} by .*, a difference of (\S+) \[.*\] on 8 scenes,"
    numbers = re.search(rests_on, choice.sentence)
    assert numbers is not None, choice.sentence
    small, large, apart = map(float, numbers.groups())
    assert apart == pytest.approx(small - large, abs=0.011)
    val = {run.run_id: field.trained[run.run_id].metrics["val/lake_iou_pooled"] for run in field.arms[1].runs}
    assert choice.scored.run_id == max(val, key=lambda run_id: val[run_id])
    assert choice.run == field.trained[choice.scored.run_id]
    assert f"seed {choice.run.params['seed']} was best on val" in choice.sentence


def test_a_study_at_its_end_names_its_best_training_for_runs_that_start_from_it(store: Store, parent: str) -> None:
    study = load_study(store, parent)
    assert study is not None
    tags = best_tags(store, study)
    choice = pick(store, field_of(store, [parent]), deciding(IOU), Limits())
    assert tags["glidexp.best"] == choice.run.tags["glidexp.config_id"] and tags["glidexp.best_arm"] == "small"
    assert tags["glidexp.best_why"] == f"{choice.sentence} Failed, and without a say: broken|1."
    cells = study.entries | {"broken|1": Entry(status=Status.killed)}
    unfinished = best_tags(store, replace(study, entries=cells))
    assert (
        unfinished["glidexp.best"] == "" and "1 of its 6 runs has not come to an end" in unfinished["glidexp.best_why"]
    )
    silent = best_tags(store, replace(study, plan=replace(study.plan, primary="test/assd_m")))
    assert silent["glidexp.best"] == "" and "test/assd_m cannot decide" in silent["glidexp.best_why"]
    twice = replace(
        study, arms=(*study.arms, Arm("fitted", study.arms[0].runs))
    )  # as rungs of a ladder that learn nothing
    assert best_tags(store, twice) == tags


def test_of_networks_of_one_size_the_best_is_taken_however_fast_another_is(store: Store, field: Field) -> None:
    same = {run_id: replace(run, tags=run.tags | {"glidexp.parameters": "5"}) for run_id, run in field.trained.items()}
    choice = pick(store, replace(field, arms=field.arms[:2], trained=same), deciding(IOU), Limits())
    means = {arm.name: sum(run.metrics[IOU] for run in arm.runs) for arm in field.arms[:2]}
    best, other = sorted(means, key=lambda name: -means[name])
    assert choice.arm == best and f"not distinguishable but no simpler: {other}" in choice.sentence


def test_limits_leave_settings_out_and_are_named(store: Store, field: Field) -> None:
    measure = deciding(IOU)
    slow = pick(store, field, measure, Limits(least_images_per_s=10))
    assert slow.arm == "broken" and "small (9.0 images/s, at least 10)" in slow.sentence
    assert "the only setting within the limits" in slow.sentence
    with pytest.raises(ConfigError, match=r"within the limits: large .5\.00 M parameters, at most 0\.1 M"):
        pick(store, field, measure, Limits(most_parameters=100_000))


def test_a_cell_that_was_scored_elsewhere_is_released_by_its_training_and_checked_on_that_ground(
    store: Store, field: Field, tmp_path: Path
) -> None:
    alone = replace(field, arms=(Arm("small", (by_seed(field, "small", 1),)),))
    choice = pick(store, alone, deciding(IOU), Limits())
    assert choice.run.tags["glidexp.parameters"] == "1000000" and choice.run.run_id != choice.scored.run_id
    assert choice.scored.tags["glidexp.model_run_id"] == choice.run.run_id
    ground = ground_of(store, choice.scored, tmp_path)
    assert ground is not None and ground.tile_size.px == 48 and ground.eval.split is EvalSplit.test
    assert ground_of(store, choice.run, tmp_path) is None
    same = field_of(store, [choice.scored.run_id])  # the evaluation itself, without its study
    assert same.trained[choice.scored.run_id].run_id == choice.run.run_id


def test_runs_without_a_study_are_taken_by_what_differs(store: Store, field: Field) -> None:
    runs = [by_seed(field, arm, 0).run_id for arm in ("broken", "large")]
    choice = pick(store, field_of(store, runs), deciding(IOU), Limits())
    assert choice.run.run_id in runs and "net=" in choice.arm


@pytest.mark.parametrize("score", ["val/lake_iou_pooled", "test/assd_m", "test/area_bias_percent"])
def test_a_score_that_cannot_decide_is_refused(score: str) -> None:
    with pytest.raises(ConfigError, match=f"--score {score} cannot decide a release"):
        deciding(score)


def test_an_evaluation_of_an_unknown_training_is_refused(store: Store, tiles: TileStore, tmp_path: Path) -> None:
    tags = {"glidexp.kind": "evaluation", "glidexp.config_id": "a" * 16}
    run, _ = studies.leave(store, tmp_path / "foreign", tiles, 1.0, 5, {}, tags)
    with pytest.raises(DataError, match="whose training is not in this store"):
        field_of(store, [run])


def test_a_fitted_model_is_not_released_as_the_one_it_was_fitted_from(
    store: Store, field: Field, tiles: TileStore, tmp_path: Path
) -> None:
    source = by_seed(field, "large", 0).run_id
    tags = {"glidexp.kind": "evaluation", "glidexp.model_run_id": source, "glidexp.config_id": "f" * 16}
    kept, _ = studies.leave(store, tmp_path / "kept", tiles, 1.0, 6, {"eval.log_fitted": "True"}, tags)
    tags |= {"glidexp.model_run_id": kept, "glidexp.config_id": "0" * 16}
    scored, _ = studies.leave(store, tmp_path / "scored", tiles, 1.0, 6, {"eval.log_fitted": "False"}, tags)
    for named in (kept, scored):  # it itself, and what scored it once more
        with pytest.raises(ConfigError, match=rf"run {kept[:12]} .*fitted to other ground.* \({source[:12]}\)"):
            field_of(store, [named])


def test_a_mean_of_networks_is_not_released(store: Store, tiles: TileStore, tmp_path: Path) -> None:
    tags = {"glidexp.kind": "evaluation", "glidexp.members": "run aa, run bb", "glidexp.config_id": "d" * 16}
    run, _ = studies.leave(store, tmp_path / "mean", tiles, 1.0, 7, {}, tags)
    with pytest.raises(ConfigError, match=rf"run {run[:12]} .*give one of them \(run aa, run bb\)"):
        field_of(store, [run])


def beside(store: Store, candidate: Any, champion: Any, *, lakes: bool = False) -> checks_champion.Pair:
    material = gather(store, [candidate, champion], "test", lakes=lakes)
    return checks_champion.Pair(Arm("candidate", (candidate,)), Arm("champion", (champion,)), material, 0, "")


def test_the_paired_test_against_the_champion(store: Store, field: Field) -> None:
    good, bad, twin = by_seed(field, "large", 0), by_seed(field, "broken", 0), by_seed(field, "small", 0)
    check = checks_champion.beats(beside(store, good, bad), deciding(IOU), "models:/lakes/1")
    assert check.state == "passed" and ", better" in check.sentence and "of models:/lakes/1" in check.sentence
    for score, interval in ((IOU, " ["), ("test/lake_recall", ", the same on all of it")):  # which both have in full
        check = checks_champion.beats(beside(store, good, bad, lakes=True), deciding(score), "models:/lakes/1")
        value = 100 * (good.metrics[score] - bad.metrics[score])
        assert f"difference {value:+.2f}{interval}" in check.sentence and "8 scenes" in check.sentence
    assert check.state == "failed" and "not distinguishable" in check.sentence and "nan" not in check.sentence
    check = checks_champion.beats(beside(store, bad, good), deciding(IOU), "models:/lakes/1")
    assert check.state == "failed" and ", worse" in check.sentence
    check = checks_champion.beats(beside(store, twin, twin), deciding(IOU), "models:/lakes/1")
    assert check.state == "failed" and "not distinguishable" in check.sentence


def test_one_sensor_that_got_worse_stops_a_release(store: Store, field: Field) -> None:
    good, bad = by_seed(field, "large", 0), by_seed(field, "broken", 0)
    measure = deciding(IOU)
    pair = beside(store, good, bad)
    assert checks_champion.no_stratum_worse(pair, measure, 0.02).state == "passed"
    assert pair.material is not None
    tables = dict(pair.material.tables)
    mine, theirs = tables[good.run_id], tables[bad.run_id]
    landsat = (mine["sensor"] == "landsat8").to_numpy()
    # the candidate is the bad network on Landsat and the good one elsewhere, the champion the other way round
    tables[good.run_id] = pd.concat([theirs[landsat], mine[~landsat]])
    tables[bad.run_id] = pd.concat([mine[landsat], theirs[~landsat]])
    mixed = replace(pair, material=Material(tables, {}, pair.material.ground))
    check = checks_champion.no_stratum_worse(mixed, measure, 0.02)
    loss = 100 * (bad.metrics["test/sensor/landsat8/lake_iou_pooled"] - good.metrics[
        "test/sensor/landsat8/lake_iou_pooled"
    ])  # fmt: skip
    assert check.state == "failed" and f"sensor landsat8 changed by {loss:+.2f} points" in check.sentence
    assert checks_champion.no_stratum_worse(mixed, measure, 1.0).state == "passed"


def test_tiles_that_the_champion_has_met_are_left_out_of_both(store: Store, field: Field) -> None:
    good, bad = by_seed(field, "large", 0), by_seed(field, "broken", 0)
    whole = gather(store, [good, bad], "test", lakes=True)
    clean = {"s0_0", "s1_0", "s2_0"}
    kept = checks_champion._only(whole, clean)
    assert kept.ground.clusters == ("s0", "s1", "s2")
    assert all(set(table["tile"]) == clean for table in kept.tables.values())
    assert all(set(table["tile"]) <= clean and len(table) for table in kept.lakes.values())
    (counts,) = kept.sums([Arm("one", (good,))], deciding(IOU))
    table = kept.tables[good.run_id]
    assert counts.sum(axis=(0, 1)).tolist() == [table[name].sum() for name in ("tp", "fp", "fn", "tn")]
    one = replace(beside(store, good, bad), material=checks_champion._only(whole, {"s0_0"}), left_out=7)
    check = checks_champion.beats(one, deciding(IOU), "models:/lakes/1")
    assert check.state == "failed" and "7 tiles that the champion has met were left out" in check.sentence
    none = replace(one, material=None)
    assert checks_champion.beats(none, deciding(IOU), "models:/lakes/1").state == "skipped"
    assert checks_champion.no_stratum_worse(none, deciding(IOU), 0.02).state == "skipped"


def test_tiles_of_one_scene_say_nothing_of_other_ground(store: Store, tmp_path: Path) -> None:
    """However many there are; where their scene is not known they are compared, and the sentence says as what."""
    tags = {"glidexp.config_id": "e" * 16}
    tiles = studies.ground(tmp_path / "one", scenes=1, tiles=12)
    runs = [studies.leave(store, tmp_path / str(skill), tiles, skill, 3, {}, tags)[0] for skill in (1.0, 0.2)]
    pair = beside(store, *(tracked_run(store, run) for run in runs))
    check = checks_champion.beats(pair, deciding(IOU), "models:/lakes/1")
    assert check.state == "failed" and "12 test tiles of scene s0 alone: on one piece of ground" in check.sentence
    assert pair.material is not None and "all of them are of scene s0" in pair.material.ground.caveat
    tables = {name: table.assign(scene="", block="") for name, table in pair.material.tables.items()}
    unknown = replace(pair, material=Material(tables, {}, common_ground(tables)))
    check = checks_champion.beats(unknown, deciding(IOU), "models:/lakes/1")
    assert check.state == "passed" and "better; tiles treated as independent: no scene or block" in check.sentence


def test_naive_rows_are_those_of_the_score_that_decides_or_of_lake_iou() -> None:
    rows = {IOU: 0.5, "test/naive/index_threshold/lake_iou_pooled": 0.31, "test/naive/background/lake_iou_pooled": 0.0}
    assert beats_naive(rows, deciding(IOU)).state == "passed"
    assert beats_naive(rows | {IOU: 0.3}, deciding(IOU)).state == "failed"
    check = beats_naive(rows | {"test/lake_recall": 0.9}, deciding("test/lake_recall"))
    assert (
        check.state == "passed" and "test/lake_iou_pooled is 50.00, naive rows: index threshold 31.00" in check.sentence
    )
    assert beats_naive({IOU: 0.5}, deciding(IOU)).state == "skipped"


def test_the_scores_of_a_card_have_intervals_by_stratum_and_size(store: Store, field: Field) -> None:
    run = by_seed(field, "large", 0)
    rows = rows_of(run, gather(store, [run], "test"), deciding(IOU))
    found = {(row.ground, row.score): row for row in rows}
    for name, score in (("all", "lake IoU"), ("sensor landsat8", "lake IoU"), ("region andes", "lake IoU")):
        value = found[name, score].interval
        key = "" if name == "all" else name.replace(" ", "/") + "/"
        assert value.value == pytest.approx(run.metrics[f"test/{key}lake_iou_pooled"])
        assert value.low < value.value < value.high and found[name, score].basis.endswith("scenes")
    assert ("all", "precision") in found and any(row.score == "found" for row in rows)
    of_lakes = {row.ground: row for row in rows_of(run, gather(store, [run], "test", lakes=True), deciding(IOU))}
    for (ground, score), row in found.items():
        if score == "found":  # as many lakes that are found and missed by scenes say less than one by one
            wide, own = of_lakes[ground].interval, row.interval
            assert wide.value == own.value and wide.low <= own.low and wide.high >= own.high
            assert re.fullmatch(r"\d+ lakes? in \d scenes?", of_lakes[ground].basis)
    half = wilson(0.5, 10)  # Wilson's own form, worked by hand
    assert (half.low, half.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_energy_is_power_over_time_without_breaks(store: Store) -> None:
    run = store.client.create_run(store.experiment_id("glidexp")).info.run_id
    times = [0, 10, 20, 3620, 3630]  # an hour's break
    for gpu, watts in ((0, 100.0), (1, 50.0)):
        for step, at in enumerate(times):
            store.client.log_metric(run, f"system/gpu_{gpu}_power_usage_watts", watts, timestamp=at * 1000, step=step)
    assert energy(store, tracked_run(store, run)) == pytest.approx(150 * 50 / 3.6e6)
    other = store.client.create_run(store.experiment_id("glidexp")).info.run_id
    assert energy(store, tracked_run(store, other)) is None


def test_what_is_not_known_of_hours_energy_and_stretch_is_said() -> None:
    cost = card_page.Cost(hours=1.5, breaks=0, kwh=None, device="cpu")
    assert card_page._spent(cost).startswith("Training and scoring took 1.500 h on cpu. Its energy was not measured")
    assert "interrupted twice" not in card_page._spent(replace(cost, breaks=2))
    assert "interrupted 2 times in between, so how long it computed is not known" in card_page._spent(
        replace(cost, breaks=2)
    )
    assert "drew 2.000 kWh" in card_page._spent(replace(cost, kwh=2.0)) and "0.946 kg CO2" in card_page._spent(
        replace(cost, kwh=2.0)
    )
    assert card_page._stretch({}).startswith("not recorded")
    told = {"method": "percentile", "low": 2.0, "high": 98.0, "scope": "scene", "limits": {"a": {}, "b": {}}}
    assert card_page._stretch({"stretch": told}) == (
        "percentile 2 to 98 of each scene's own values; `card.json` holds the limits of the 2 scenes of the data set"
    )


def told(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main([*argv])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture
def upload(store: Store, field: Field, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a release is given. The first goes up as it is, MLflow's files and all; the others without files."""
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "card.json").write_text("{}")
    run = field.arms[0].runs[0].run_id

    def light(store: Store, run_id: str, *_: Any) -> tuple[str, str]:
        made = store.client.create_logged_model(store.experiment_id("glidexp"), name="release", source_run_id=run_id)
        return str(made.model_id), str(made.artifact_location)

    monkeypatch.setattr(registry, "_upload", light)
    return {"bundle": tmp_path / "bundle", "run_id": run, "pip_requirements": ["torch"], "tags": {"glidexp.gate": "x"}}


def test_a_second_release_makes_the_first_previous_and_rollback_brings_it_back(
    store: Store, upload: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    name, mlruns = "other-lakes", str(store.mlruns)
    code, _, err = told(["release", "--rollback", "--name", name, "--mlruns", mlruns], capsys)
    assert code == 2 and "has no champion" in err
    first = registry.release(store, name, **upload, against=None)
    code, _, err = told(["release", "--rollback", "--name", name, "--mlruns", mlruns], capsys)
    assert code == 2 and "is its first release" in err
    second = registry.release(store, name, **upload, against=first)
    assert (first.number, second.number) == ("1", "2")
    for champion, previous in (("1", "2"), ("2", "1")):
        code, out, _ = told(["release", "--rollback", "--name", name, "--mlruns", mlruns], capsys)
        assert code == 0 and f"champion is version {champion} again; version {previous} is @previous" in out
        held = registry.holder(store, name), registry.holder(store, name, registry.PREVIOUS)
        assert [version.number for version in held if version] == [champion, previous]

    def models() -> int:
        return len(store.client.search_logged_models([store.experiment_id("glidexp")]))

    # killed between its two aliases, a release or rollback leaves both on one version
    store.client.set_registered_model_alias(name, registry.PREVIOUS, "2")
    with pytest.raises(registry.TrackingError, match=r"@previous is version 2, the champion itself"):
        registry.rollback(store, name)
    store.client.set_registered_model_alias(name, registry.PREVIOUS, "1")
    store.client.delete_registered_model_alias(name, registry.CHAMPION)  # as deleting its version does
    code, out, _ = told(["release", "--rollback", "--name", name, "--mlruns", mlruns], capsys)
    assert code == 0 and "champion is version 1 again; the one after it was deleted" in out
    store.client.set_registered_model_alias(name, registry.CHAMPION, "2")

    before = models()
    # another release ended after this one's gate had looked at version 1
    with pytest.raises(registry.Overtaken, match="is version 2 by now, the gate compared with version 1"):
        registry.release(store, name, **upload, against=first)
    # and one is under way at this moment
    pending = {registry.STATE: "pending", registry.AGAINST: "2"}
    store.client.create_model_version(name, source=str(upload["bundle"]), tags=pending)
    with pytest.raises(registry.Overtaken, match=r"version \d of other-lakes is being released at this moment"):
        registry.release(store, name, **upload, against=second)
    now = registry.holder(store, name)
    assert now is not None and now.number == "2"
    assert models() == before, "a loser leaves nothing"
    with pytest.MonkeyPatch.context() as patch:  # its process died long ago
        late = time.time() + 2 * registry.DEAD_S
        patch.setattr(registry.time, "time", lambda: late)
        assert registry.release(store, name, **upload, against=second).number not in ("1", "2")


def test_what_a_killed_release_left_is_taken_away_at_once(store: Store, upload: dict[str, Any]) -> None:
    name, dead = "killed-lakes", f"{platform.node()}:1:0"
    first = registry.release(store, name, **upload, against=None)
    lone = store.client.create_logged_model(
        store.experiment_id("glidexp"),
        name="release",
        source_run_id=upload["run_id"],
        tags={PROCESS_TAG: dead},
    )
    state = {registry.STATE: f"{registry.PENDING} {dead}", registry.AGAINST: "1"}
    named, _ = registry._upload(store, upload["run_id"], upload["bundle"], [], {})
    left = store.client.create_model_version(name, source="x", tags=state | {MODEL_ID: named})
    second = registry.release(store, name, **upload, against=first)
    numbers = {version.version for version in store.client.search_model_versions(f"name='{name}'")}
    assert numbers == {int(first.number), int(second.number)} and int(left.version) not in numbers
    there = {model.model_id for model in store.client.search_logged_models([store.experiment_id("glidexp")])}
    assert not there & {lone.model_id, named}
    # killed between its alias and the note that it has it
    store.client.set_model_version_tag(name, second.number, registry.STATE, state[registry.STATE])
    assert registry.finished_after_kill(store, name, "another") is None
    done = registry.finished_after_kill(store, name, upload["run_id"])
    assert done is not None and done.number == second.number
    assert registry.finished_after_kill(store, name, upload["run_id"]) is None, "it is noted"
    store.client.set_model_version_tag(name, second.number, registry.STATE, state[registry.STATE])
    third = registry.release(store, name, **upload, against=second)
    held = registry.holder(store, name), registry.holder(store, name, registry.PREVIOUS)
    assert [version.number for version in held if version] == [third.number, second.number]
    assert held[1] is not None and held[1].tags[registry.STATE] == registry.RELEASED
    # of another machine nothing is known
    elsewhere = {registry.STATE: f"{registry.PENDING} elsewhere:1:0", registry.AGAINST: third.number}
    store.client.create_model_version(name, source="x", tags=elsewhere)
    with pytest.raises(registry.Overtaken, match="is being released at this moment"):
        registry.release(store, name, **upload, against=third)


def test_of_two_releases_at_once_one_wins_and_the_other_says_so(
    store: Store, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=60)
    look = registry._overtaken
    said: list[str] = []

    def at_once(*given: Any) -> str:
        both.wait()  # each has made its version before either looks
        return look(*given)

    monkeypatch.setattr(registry, "_overtaken", at_once)

    def one() -> None:
        try:
            said.append(registry.release(store, "at-once", **upload, against=None).number)
        except registry.Overtaken as error:
            said.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [word for word in said if word.isdigit()]
    lost = [word for word in said if "nothing was released" in word]
    champion = registry.holder(store, "at-once")
    assert len(won) == len(lost) == 1 and champion is not None and champion.number == won[0], said
    assert len(store.client.search_model_versions("name='at-once'")) == 1


def test_a_release_that_the_registry_breaks_off_leaves_no_version(
    store: Store, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(registry, "_overtaken", broken)
    with pytest.raises(registry.TrackingError, match="the registry does not take the release broken-off: the disk"):
        registry.release(store, "broken-off", **upload, against=None)
    assert not store.client.search_model_versions("name='broken-off'")


def test_a_moved_store_finds_files_models_and_versions_again(
    store: Store, upload: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = registry.release(store, "moved", **upload, against=None)
    before = find_model(store, "models:/moved@champion")
    assert before.model_id is not None and before.run_id == upload["run_id"]
    store.client.log_model_artifact(before.model_id, str(upload["bundle"] / "card.json"))
    there = Path(shutil.copytree(store.mlruns, tmp_path / "new place" / "mlruns"))
    code, out, _ = told(["store", "relocate", "--mlruns", str(there)], capsys)
    assert code == 0 and "places that began with" in out and (there / "mlflow.db.before-relocate").is_file()
    copy = open_store(f"sqlite:///{there}/mlflow.db", there)
    uri = copy.client.get_run(upload["run_id"]).info.artifact_uri
    assert uri.startswith((there / "artifacts").as_uri())
    (there / "artifacts" / "glidexp" / upload["run_id"] / "artifacts" / "note.txt").write_text("here")
    assert Path(copy.client.download_artifacts(upload["run_id"], "note.txt", str(tmp_path))).read_text() == "here"
    place = copy.client.get_model_version_download_uri("moved", made.number)
    assert place.startswith((there / "artifacts").as_uri())
    after = find_model(copy, "models:/moved@champion")
    assert after.model_id == before.model_id and after.location == place
    assert (fetch(copy, after, tmp_path / "unused") / "card.json").is_relative_to(there)
    code, out, _ = told(["store", "relocate", "--mlruns", str(there)], capsys)
    assert code == 0 and "nothing was changed" in out
    shutil.rmtree(there / "artifacts" / "glidexp" / upload["run_id"])
    code, out, _ = told(["store", "relocate", "--mlruns", str(there)], capsys)
    assert code == 1 and f"missing: {there}" in out
    code, _, err = told(["store", "relocate", "--mlruns", str(tmp_path / "none")], capsys)
    assert code == 2 and "give the folder of a store" in err


def test_a_study_is_carried_to_another_store_and_gives_the_same_choice(
    store: Store,
    field: Field,
    parent: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for old in store.client.search_registered_models():  # of other tests, without files
        store.client.delete_registered_model(old.name)
    first = field.arms[0].runs[0].run_id
    bundle = tmp_path / "model"
    bundle.mkdir()
    (bundle / "card.json").write_text('{"a": 1}')
    made = store.client.create_logged_model(store.experiment_id("glidexp"), name="model", source_run_id=first)
    store.client.log_model_artifacts(made.model_id, str(bundle))
    store.client.finalize_logged_model(made.model_id, "READY")
    store.client.log_outputs(first, [LoggedModelOutput(made.model_id, step=0)])
    held = store.client.create_logged_model(store.experiment_id("glidexp"), name="release", source_run_id=first)
    store.client.log_model_artifacts(held.model_id, str(bundle))
    store.client.finalize_logged_model(held.model_id, "READY")
    monkeypatch.setattr(registry, "_upload", lambda *_: (str(held.model_id), str(held.artifact_location)))
    more = {"bundle": bundle, "pip_requirements": [], "tags": {"glidexp.gate": "passed"}, "description": "the best"}
    registry.release(store, "carried-lakes", run_id=first, against=None, **more)
    folder, mlruns = tmp_path / "export", tmp_path / "mlruns"
    code, out, _ = told(["store", "export", parent, "--out", str(folder), "--mlruns", str(store.mlruns)], capsys)
    assert code == 0 and "7 runs are in" in out  # the parent, five trainings, an evaluation

    def killed_before_the_end_of(run_id: str) -> None:
        ends = MlflowClient.set_terminated

        def end(self: MlflowClient, *given: Any, **more: Any) -> None:
            if self.get_run(given[0]).data.tags[FROM_TAG] == run_id:
                raise KeyboardInterrupt
            ends(self, *given, **more)

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_terminated", end)
            assert told(["store", "import", str(folder), "--mlruns", str(mlruns)], capsys)[0] == 130

    killed_before_the_end_of(first)
    code, out, _ = told(["store", "import", str(folder), "--mlruns", str(mlruns)], capsys)
    assert code == 0 and re.search(r"7 runs and 2 models are in this store(, \d of them before)?:", out)
    assert "version 1 of carried-lakes is version 1" in out
    there = open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)
    new = dict(line.split(" is ") for line in out.splitlines() if " is " in line)
    new = {old.strip(): run_id for old, run_id in new.items()}
    own, copied = store.client.get_run(first), there.client.get_run(new[first[:12]])
    assert (copied.data.metrics, copied.data.params) == (own.data.metrics, own.data.params)
    assert (copied.info.status, copied.info.start_time) == (own.info.status, own.info.start_time)
    assert copied.data.tags["mlflow.parentRunId"] == new[parent[:12]] != parent
    name = "val/lake_iou_pooled"
    histories = [one.client.get_metric_history(run, name) for one, run in ((store, first), (there, copied.info.run_id))]
    values = [[(point.step, point.value, point.timestamp) for point in history] for history in histories]
    assert values[0] == values[1] and len(values[0]) > 1
    (used,) = copied.inputs.dataset_inputs
    assert used.dataset.source == own.inputs.dataset_inputs[0].dataset.source and used.tags[0].value == "test"
    model = find_model(there, copied.info.run_id)
    assert json.loads((fetch(there, model, tmp_path / "unused") / "card.json").read_text()) == {"a": 1}
    champion = registry.holder(there, "carried-lakes")
    assert champion is not None and champion.run_id == copied.info.run_id != first
    assert champion.tags["glidexp.gate"] == "passed" and champion.tags[registry.STATE] == "released"
    released = find_model(there, "models:/carried-lakes@champion")
    assert released.model_id != model.model_id and model.model_id == copied.outputs.model_outputs[0].model_id
    assert (fetch(there, released, tmp_path / "unused") / "card.json").is_file()
    # the study is one there, too, with the same runs under their new ids and the same verdict
    again = field_of(there, [new[parent[:12]]])
    assert [(arm.name, arm.seeds) for arm in again.arms] == [(arm.name, arm.seeds) for arm in field.arms]
    mine, theirs = (pick(one, runs, deciding(IOU), Limits()) for one, runs in ((store, field), (there, again)))
    assert theirs.run.run_id == new[mine.run.run_id[:12]] and theirs.sentence.count("not distinguishable") == 1
    code, out, _ = told(["store", "import", str(folder), "--mlruns", str(mlruns)], capsys)
    assert code == 0 and "7 runs and 2 models are in this store, 7 of them before:" in out
    assert len(there.client.search_model_versions("name='carried-lakes'")) == 1
    assert len(there.client.search_logged_models([there.experiment_id("glidexp")])) == 2
    assert len(there.client.search_runs([there.experiment_id("glidexp")])) == 7
    code, _, err = told(["store", "import", str(tmp_path), "--mlruns", str(mlruns)], capsys)
    assert code == 2 and "holds no exported run" in err
