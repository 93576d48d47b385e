"""`glidexp compare`: arms from runs, differences with their intervals, and what it refuses."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from announced import Announced

from glidexp.cli import guarded
from glidexp.config import Config, PathsConfig, TrackingConfig, flat
from glidexp.config.evaluation import EvaluateConfig
from glidexp.errors import DataError
from glidexp.scoring.counts import BINS
from glidexp.scoring.lakes import PREDICTED, TRUE
from glidexp.scoring.scores import score_split, scores_table, write_scores
from glidexp.study.comparison import arms as arms_module
from glidexp.study.comparison.arms import Arm, arms_of, common_ground
from glidexp.study.comparison.clusters import Ground, scenes_of_one_lake
from glidexp.study.comparison.compare import (
    Comparison,
    compare,
    compare_arms,
    measure_of,
    row_of,
    sentence,
    verdict,
)
from glidexp.study.comparison.factors import Factor
from glidexp.study.comparison.material import Material
from glidexp.study.comparison.measures import lake_sums
from glidexp.study.comparison.pairing import pairs_of
from glidexp.study.comparison.pick import Field, Limits, pick
from glidexp.study.comparison.references import runs_of
from glidexp.study.comparison.transfer import turned
from glidexp.study.report.factors import _by_levels
from glidexp.study.report.tables import interval, main_table
from glidexp.study.verb_compare import run as verb
from glidexp.tracking.found import TrackedRun, finished_runs
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store, open_store, tracking_uri

pytestmark = pytest.mark.usefixtures("plain_figures")

SCENES, TILES = 8, 4


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "mlruns"


@pytest.fixture(scope="module")
def store(mlruns: Path) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)


def scored(seed: int, skill: float, *, lakes: int = 0, scenes: int = SCENES) -> tuple[pd.DataFrame, np.ndarray]:
    """Tiles whose lakes are found with a share that grows with skill; the ground is the same for every seed."""
    ground, luck = np.random.default_rng(99), np.random.default_rng(1000 + seed)
    tiles = scenes * TILES
    scene = np.repeat(np.arange(scenes), TILES)
    lake = ground.integers(50, 200, tiles) + lakes
    share = skill + 0.1 * ground.normal(size=scenes)[scene] + 0.01 * luck.normal() + 0.01 * luck.normal(size=tiles)
    found = np.round(np.clip(share, 0, 1) * lake).astype(int)
    hist = np.zeros((tiles, 2, BINS), dtype=np.int32)
    hist[:, 1, 200], hist[:, 1, 20] = found, lake - found
    hist[:, 0, 200], hist[:, 0, 20] = (lake - found) // 2, 4096 - lake - (lake - found) // 2
    index = pd.DataFrame(
        {
            "tile": [f"t{number}" for number in range(tiles)],
            "scene": [f"s{number}" for number in scene],
            "sensor": np.where(scene % 2 == 0, "landsat8", "sentinel2"),
            "region": "andes",
            "split": "test",
            "gsd_m": 10.0,
            "block": "",
        }
    )
    return index, hist


def log(store: Store, seed: int, skill: float, folder: Path, tags: dict[str, str] | None = None, **params: Any) -> str:
    """A finished run as training leaves it, without training."""
    lakes, scenes = params.pop("lakes", 0), params.pop("scenes", SCENES)
    index, hist = scored(seed, skill, lakes=lakes, scenes=scenes)
    values = flat(Config(seed=seed)) | {"backbone": "resnet18"} | params
    run = Run.start(store, experiment="c", run_name=f"seed{seed}", config_flat=values, config_id="x", tags=tags or {})
    with run:
        write_scores(scores_table(index, hist, 0.5), folder / "scores.parquet")
        run.artifact(folder / "scores.parquet")
        naive = {"test/naive/index_threshold/lake_iou_pooled": 0.21}
        if values["backbone.name"] == "resnet34":  # as an arm with near infrared has it
            naive["test/naive/ndwi_threshold/lake_iou_pooled"] = 0.52
        run.metrics(score_split(index, hist, 0.5, "test") | naive, 1)
    return run.run_id


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("scores")
    name = "backbone.name"
    return {
        "base": [log(store, seed, 0.70, folder, **{name: "resnet18"}) for seed in (0, 1, 2)],
        "better": [log(store, seed, 0.78, folder, **{name: "resnet34", "backbone": "resnet34"}) for seed in (0, 1, 2)],
        "twin": [log(store, seed, 0.70, folder, **{name: "twin", "backbone": "twin"}) for seed in (10, 11, 12)],
        "relabelled": [log(store, 0, 0.7, folder, lakes=5, **{name: "resnet50"})],
        "elsewhere": [log(store, 0, 0.7, folder, scenes=5, **{name: "resnet50"})],
        "lucky": [log(store, 0, 0.9, folder, **{name: "resnet18", "train.device": "cuda"})],
    }


def compared(store: Store, ids: list[str], score: str = "test/lake_iou_pooled") -> Comparison:
    found, left = finished_runs(store, ids)
    assert not left
    return compare(store, found, measure_of(score))


def test_a_planted_difference_is_found_and_none_is_not(store: Store, runs: dict[str, list[str]]) -> None:
    comparison = compared(store, runs["base"] + runs["better"] + runs["twin"])
    base, better, twin = comparison.rows
    assert [row.arm.name for row in comparison.rows] == ["backbone=resnet18", "backbone=resnet34", "backbone=twin"]
    assert [verdict(row, comparison) for row in (base, better)] == ["baseline", "better"]
    assert verdict(twin, comparison).startswith("not distinguishable")
    assert better.effect is not None and twin.effect is not None
    for row in comparison.rows:  # the scores are those that each run logged
        logged = [run.metrics["test/lake_iou_pooled"] for run in row.arm.runs]
        assert row.values == pytest.approx(logged)
    assert better.effect.value == pytest.approx(np.mean(better.values) - np.mean(base.values))
    assert better.effect.low < better.effect.value < better.effect.high
    assert better.pairs.shared == (0, 1, 2) and twin.pairs.shared == ()
    assert any("backbone=twin: no seed in common" in note for note in comparison.notes)
    assert better.p_holm == pytest.approx(min(1, 2 * better.effect.p))
    assert better.p_flips == 2 / 2**SCENES
    assert comparison.ranks[1, 0] == 1
    assert comparison.naive == {"index_threshold": 0.21, "ndwi_threshold": 0.52}  # one is of an arm that has the bands


def test_the_runs_of_a_large_study_are_read_with_a_bar(
    store: Store, runs: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms_module, "shown_steps", announced := Announced())
    compared(store, runs["base"] + runs["better"])
    assert announced.works == {"reading scores": [6, 6]}


def test_one_sensor_and_the_mean_over_scenes(store: Store, runs: dict[str, list[str]]) -> None:
    ids = runs["base"] + runs["better"]
    stratum = compared(store, ids, "test/sensor/landsat8/lake_iou_pooled")
    assert stratum.clusters == SCENES // 2
    name = "test/sensor/landsat8/lake_iou_pooled"
    assert stratum.rows[0].values == pytest.approx([run.metrics[name] for run in stratum.rows[0].arm.runs])
    scenes = compared(store, ids, "test/f1_per_scene")
    assert scenes.rows[1].values == pytest.approx([run.metrics["test/f1_per_scene"] for run in scenes.rows[1].arm.runs])
    half = compared(store, ids, "test/at_0.5/lake_iou_pooled")
    assert half.rows[1].values == pytest.approx(
        [run.metrics["test/at_0.5/lake_iou_pooled"] for run in half.rows[1].arm.runs]
    )


def test_one_training_an_arm_is_said_to_be_one(store: Store, runs: dict[str, list[str]]) -> None:
    comparison = compared(store, [runs["base"][0], runs["better"][0]])
    assert verdict(comparison.rows[1], comparison) == "better, on the trainings at hand"
    assert any("one training an arm" in note for note in comparison.notes)


def refused(capsys: pytest.CaptureFixture[str], mlruns: Path, *words: str) -> str:
    assert guarded(verb, [*words, "--mlruns", str(mlruns)]) == 2
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1
    return told


def test_what_cannot_be_compared_is_refused_in_one_line(
    store: Store, runs: dict[str, list[str]], mlruns: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    base = runs["base"]
    assert "differ in nothing but their seed" in refused(capsys, mlruns, *base)
    assert "other pixels or labels (scene s0 has" in refused(capsys, mlruns, base[0], runs["relabelled"][0])
    told = refused(capsys, mlruns, base[0], runs["elsewhere"][0])
    assert "different ground (scene s5 and 2 more" in told
    assert "seed 0 comes 2 times in arm" in refused(capsys, mlruns, *base, runs["lucky"][0], runs["better"][0])
    assert "--score test/speed cannot be compared" in refused(capsys, mlruns, *base, "--score", "test/speed")
    assert "There is: landsat8, sentinel2" in refused(
        capsys, mlruns, base[0], runs["better"][0], "--score", "test/sensor/gaofen2/lake_iou_pooled"
    )
    assert "is no run: give run ids" in refused(capsys, mlruns, "resnet18")
    assert "there is no run ffffffff" in refused(capsys, mlruns, "ffffffff")
    assert "--level 95.0 is outside" in refused(capsys, mlruns, base[0], "--level", "95")
    fixed = log(store, 0, 0.7, tmp_path, **{"backbone.name": "resnet50", "eval.threshold": "0.4"})
    told = refused(capsys, mlruns, base[0], fixed)
    assert "different rules for the threshold" in told and "test/at_0.5/lake_iou_pooled" in told


@pytest.mark.usefixtures("real_figures")
def test_a_parent_stands_for_its_children_and_files_are_written(
    store: Store, mlruns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parent = store.client.create_run(store.experiment_id("c"), run_name="sweep").info.run_id
    tags = {"mlflow.parentRunId": parent}
    children = [
        log(store, seed, skill, tmp_path, tags, loss=name)
        for name, skill in (("dice", 0.6), ("bce", 0.5))
        for seed in (0, 1)
    ]
    killed = store.client.create_run(store.experiment_id("c"), tags=tags, run_name="killed").info.run_id
    store.client.set_terminated(killed, "KILLED")
    assert guarded(verb, [parent[:16], "--mlruns", str(mlruns), "--out", str(tmp_path / "out")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "loss=dice" in told and "baseline" in told and "naive: index" in told and "…" not in told
    assert f"{killed[:12]} (killed) is KILLED and left out" in told
    table = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert table["arm"].tolist() == ["loss=dice", "loss=bce"]
    assert table["n_seeds"].tolist() == [2, 2] and table["n_scenes"].tolist() == [SCENES, SCENES]
    assert table.loc[1, "low"] < table.loc[1, "difference"] < table.loc[1, "high"] < 0
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    pdf = (tmp_path / "out" / "comparison.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf, "text of a paper's figures is text"
    assert len(children) == 4
    (tmp_path / "taken").write_text("no folder")
    told = refused(capsys, mlruns, parent[:16], "--out", str(tmp_path / "taken"))
    assert "taken cannot be written to" in told and "give another folder" in told


def test_the_bootstrap_is_a_check_beside_the_interval(
    store: Store, runs: dict[str, list[str]], mlruns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = runs["base"] + runs["better"]
    assert guarded(verb, [*ids, "--bootstrap", "--mlruns", str(mlruns), "--out", str(tmp_path)]) == 0
    assert "backbone=resnet34: bootstrap [+" in " ".join(capsys.readouterr().out.split())
    row = pd.read_csv(tmp_path / "comparison.csv").loc[1]
    assert row["low"] < row["bootstrap_low"] < row["difference"] < row["bootstrap_high"] < row["high"]
    assert all(one.bootstrap is None for one in compared(store, ids).rows)


def test_arms_are_named_by_what_differs() -> None:
    def tracked(**params: str) -> TrackedRun:
        return TrackedRun("0" * 32, "r", {key.replace("__", "."): value for key, value in params.items()}, {}, {})

    one = tracked(seed="0", backbone="a", backbone__name="resnet18", train__epochs="3", paths__data="x")
    two = tracked(seed="0", backbone="b", backbone__name="resnet34", train__epochs="3", paths__data="y")
    three = tracked(seed="0", backbone="b", backbone__name="resnet34", train__epochs="5")
    four = tracked(seed="1", backbone="b", backbone__name="resnet34", train__epochs="5", train__device="cuda")
    names = [arm.name for arm in arms_of([one, two, three, four])]
    assert names == ["backbone=a train.epochs=3", "backbone=b train.epochs=3", "backbone=b train.epochs=5"]
    plain = [tracked(seed="0", backbone="timm", backbone__name=name) for name in ("x", "y")]
    assert [arm.name for arm in arms_of(plain)] == ["backbone.name=x", "backbone.name=y"]


def test_one_scene_in_tiles_of_two_sizes_is_one_ground() -> None:
    def table(tiles: list[str], valid: list[int], scene: str = "s0") -> pd.DataFrame:
        about = {"tile": tiles, "scene": scene, "block": "b", "valid_px": valid, "lake_px": [v // 10 for v in valid]}
        return pd.DataFrame(about)

    small, large = table(["a", "b"], [100, 300]), table(["c"], [400])
    ground = common_ground({"1" * 32: small, "2" * 32: large})
    assert ground.kind == "scene" and ground.clusters == ("s0",) and not ground.caveat
    assert common_ground({"1" * 32: small, "2" * 32: small}).kind == "tile"
    with pytest.raises(DataError, match="other pixels or labels"):
        common_ground({"1" * 32: small, "2" * 32: table(["c"], [410])})
    with pytest.raises(DataError, match="different ground"):  # nobody knows that it is one scene
        common_ground({"1" * 32: table(["a", "b"], [100, 300], ""), "2" * 32: table(["c"], [400], "")})


def evaluated(
    store: Store,
    luck: int,
    skill: float,
    folder: Path,
    networks: list[str],
    *,
    split: str = "s1",
    tiles: str = "t1",
    tags: dict[str, str] | None = None,
    **params: Any,
) -> str:
    """A finished evaluation of a network, or of the mean of several, by the runs that trained them."""
    index, hist = scored(luck, skill)
    card = {
        "split_hash": "s1",
        "data_hash": "t1",
        "architecture": {"backbone": "b", "decoder": "d"},
        "weights": {"sha256": "ab" * 32},
    }
    if len(networks) > 1:
        card["members"] = [{"run_id": run_id, "weights": f"{n:064}"} for n, run_id in enumerate(networks)]
        params = {"eval.threshold": "val"} | params
    about = {"glidexp.kind": "evaluation", "glidexp.split_hash": split, "glidexp.data_hash": tiles}
    about["glidexp.leak"] = "false"
    about["glidexp.model_run_id"] = networks[0] if len(networks) == 1 else ""
    values = flat(EvaluateConfig()) | {"backbone": "b"} | params
    run = Run.start(store, experiment="c", run_name="e", config_flat=values, config_id="x", tags=about | (tags or {}))
    with run:
        write_scores(scores_table(index, hist, 0.5), folder / "scores.parquet")
        run.artifact(folder / "scores.parquet")
        run.text(json.dumps(card), "model/card.json")
        run.metrics(score_split(index, hist, 0.5, "test"), 1)
    return run.run_id


def of_typed(store: Store, *ids: str, score: str = "test/lake_iou_pooled") -> Comparison:
    found, _, arms = runs_of(store, ids)
    return compare(store, found, measure_of(score), arms=arms)


@pytest.fixture(scope="module")
def means(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Six trainings of a setting, three of another, and means of two of the first."""
    folder = tmp_path_factory.mktemp("means")
    one = [log(store, seed, 0.70, folder, loss="dice") for seed in range(6)]
    other = [log(store, seed, 0.60, folder, loss="focal") for seed in range(3)]
    two = [evaluated(store, 50 + at, 0.75, folder, one[at : at + 2]) for at in (0, 2, 4)]
    return {"one": one, "other": other, "two": two, "crosswise": [evaluated(store, 60, 0.75, folder, one[1:3])]}


def test_means_are_compared_with_the_trainings_that_they_are_made_of(
    store: Store, means: dict[str, list[str]], mlruns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = of_typed(store, *means["one"], *means["two"])
    base, row = comparison.rows
    assert [one.arm.name for one in comparison.rows] == ["networks=1", "networks=2"]
    assert row.pairs.mine == ((0,), (1,), (2,)) and row.pairs.theirs == ((0, 1), (2, 3), (4, 5))
    assert row.effect is not None and row.effect.parts.seeds == 3, "a mean is one run, whatever it is made of"
    by_hand = [row.values[n] - (base.values[2 * n] + base.values[2 * n + 1]) / 2 for n in range(3)]
    assert row.effect.value == pytest.approx(np.mean(by_hand)) and verdict(row, comparison) == "better"
    assert any("count as one: 0+1, 2+3, 4+5" in note for note in comparison.notes)
    ids = [*means["one"], *means["two"]]
    assert guarded(verb, [*ids, "--mlruns", str(mlruns), "--bootstrap"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "networks runs mean" in told and "bootstrap [+" in told
    assert "the mean of the probabilities of N networks, and counts as one" in told
    lone = of_typed(store, *means["other"], means["two"][0])
    assert [one.arm.name for one in lone.rows] == ["loss=focal networks=1", "loss=dice networks=2"]
    assert lone.rows[1].pairs.theirs == ((0, 1),) and any("seed 2 is in one arm only" in note for note in lone.notes)
    assert verdict(lone.rows[1], lone) == "better, on the trainings at hand"


def test_means_with_a_network_in_common_are_no_two_runs(
    store: Store, means: dict[str, list[str]], mlruns: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, mlruns, *means["one"], means["two"][0], means["two"][1], means["crosswise"][0])
    assert "seed 1, 2 is in several means of arm 'networks=2'" in told and means["crosswise"][0][:12] in told


def test_the_threshold_of_a_mean_must_be_of_the_networks_own_val_tiles_too(
    store: Store, means: dict[str, list[str]], mlruns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = means["one"]
    for changes in (
        {"split": "s2"},
        {"tiles": "t2"},
        {"eval.fit_regions": ["andes"]},
        {"sensor_mix.sensors": ["landsat8"]},
    ):
        strange = evaluated(store, 70, 0.75, tmp_path, one[:2], **changes)  # type: ignore[arg-type]
        told = refused(capsys, mlruns, *one, strange)
        assert "eval.threshold card and val" in told and "on val tiles of the data set that is scored" in told
        assert of_typed(store, *one, strange, score="test/at_0.5/lake_iou_pooled").rows[1].arm.of_means
        both = of_typed(store, strange, evaluated(store, 70, 0.6, tmp_path, means["other"][:2], **changes))  # type: ignore[arg-type]
        assert [row.arm.name for row in both.rows] == ["loss=dice networks=2", "loss=focal networks=2"]
    fixed = evaluated(store, 71, 0.75, tmp_path, one[:2], **{"eval.threshold": "0.4"})
    assert "eval.threshold card and 0.4" in refused(capsys, mlruns, *one, fixed)
    kept = evaluated(store, 72, 0.75, tmp_path, [means["two"][0]], split="s2")  # the kept mean, on other ground
    assert of_typed(store, *one, kept).rows[1].arm.drawn == [frozenset({"0", "1"})]


def test_evaluations_on_other_ground_are_the_arms_of_their_trainings(
    store: Store, means: dict[str, list[str]], tmp_path: Path
) -> None:
    ids = [evaluated(store, n, 0.7, tmp_path, [run], split="s2") for n, run in enumerate(means["one"][:3])]
    ids += [evaluated(store, n, 0.6, tmp_path, [run], split="s2") for n, run in enumerate(means["other"])]
    comparison = of_typed(store, *ids)
    assert [row.arm.name for row in comparison.rows] == ["loss=dice", "loss=focal"]
    assert comparison.rows[1].pairs.shared == (0, 1, 2) and verdict(comparison.rows[1], comparison) == "worse"
    fitted = {"eval.adapt": "batch_norm"}
    adapted = [evaluated(store, n, 0.72, tmp_path, [run], **fitted) for n, run in enumerate(means["one"][:2])]
    comparison = of_typed(store, *ids[:2], *adapted)
    assert [row.arm.name for row in comparison.rows] == ["adapt=none", "adapt=batch_norm"]
    assert comparison.rows[1].pairs.shared == (0, 1)


def test_networks_whose_training_is_not_in_the_store_are_no_seeds_of_one_arm(
    store: Store, means: dict[str, list[str]], tmp_path: Path
) -> None:
    foreign = evaluated(store, 80, 0.6, tmp_path, ["f" * 32], tags={"glidexp.leak": "unknown"})
    comparison = of_typed(store, *means["one"], foreign)
    row = comparison.rows[1]
    assert row.arm.drawn == [frozenset({"ab" * 6})] and row.pairs.shared == ()
    assert row.effect and row.effect.parts.seeds == 1
    assert any("what " + foreign[:12] + " were trained on is not known" in note for note in comparison.notes)


def arm_of(*seeds: str) -> Arm:
    return Arm("a", tuple(TrackedRun(str(n), "r", {"seed": seed}, {}, {}) for n, seed in enumerate(seeds)))


@pytest.mark.parametrize(
    ("mine", "theirs", "rows", "extra"),
    [
        (("1", "2", "10"), ("2", "3", "10"), [((1,), (0,)), ((2,), (2,))], ("1", "3")),  # trainings: the common seeds
        (("0", "1", "2"), ("5", "6"), [((0,), (0,)), ((1,), (1,))], ()),  # none: the first ones, in order
        (("0+1", "2+3"), ("0", "1", "2", "3"), [((0,), (0, 1)), ((1,), (2, 3))], ()),
        (("0+1", "2+3"), ("4", "5", "6", "7", "8"), [((0,), (0, 1, 2)), ((1,), (3, 4))], ()),  # shared out
        (("0+1", "2+3"), ("1+2", "4+5"), [((0, 1), (0,))], ("4+5",)),  # all hang together by way of 1+2
        (("0+1", "8+9"), ("1", "9"), [((0,), (0,)), ((1,), (1,))], ()),
        (("0",), ("0+1", "2+3"), [((0,), (0,))], ("2+3",)),
    ],
)
def test_rows_of_a_difference_share_no_seed(
    mine: tuple[str, ...], theirs: tuple[str, ...], rows: list[Any], extra: tuple[str, ...]
) -> None:
    found = pairs_of(arm_of(*mine), arm_of(*theirs))
    assert list(zip(found.mine, found.theirs, strict=True)) == rows and found.extra == extra


@pytest.mark.parametrize(
    ("mine", "theirs", "shared", "together"),
    [
        (
            ("10", "9", "2"),
            ("2", "10", "9"),
            (2, 9, 10),
            (),
        ),  # by number, not by letter; a pair of trainings is one row
        (("0+1", "2"), ("0", "1", "2"), (0, 1, 2), ("0+1",)),  # a row of two runs of the baseline
        (("0", "1", "2"), ("0+1", "2"), (0, 1, 2), ("0+1",)),  # and of the arm
    ],
)
def test_seeds_that_both_have_and_rows_of_several_runs_are_named(
    mine: tuple[str, ...], theirs: tuple[str, ...], shared: tuple[int, ...], together: tuple[str, ...]
) -> None:
    found = pairs_of(arm_of(*mine), arm_of(*theirs))
    assert found.shared == shared and found.together == together


@pytest.mark.parametrize(
    ("score", "sums", "value"),
    [
        ("assd_px", [[6, 4], [4, 2]], 10 / 6),
        ("assd_m", [[60, 4], [120, 2]], 30),
        ("area_error_percent", [[10, 1], [40, 1]], 25),
        ("area_bias_percent", [[-10, 1], [40, 1]], 15),
    ],
)
def test_scores_of_lakes_by_hand(score: str, sums: list[list[float]], value: float) -> None:
    """Shores of 4 and 2 points; the third lake and the fourth are not compared, so their ground counts for nothing."""
    about = {
        "kind": [TRUE] * 4 + [PREDICTED], "compared": [True, True, False, False, True],
        "shore_distances": [4.0, 2.0, 5.0, np.nan, 8.0], "assd_px": [1.5, 2.0, 9.0, np.nan, 7.0],
        "gsd_m": [10.0, 30.0, 10.0, 10.0, 10.0], "area_px": [100, 50, 10, 10, 10],
        "area_error_px": [-10, 20, 5, 5, 5],
    }  # fmt: skip
    clusters = pd.Series(["a", "b", "a", "c", "a"])
    found = lake_sums({"r": pd.DataFrame(about)}, {"r": clusters}, measure_of(f"test/{score}"))["r"]
    assert found.tolist() == sums and measure_of(f"test/{score}").of(found) == pytest.approx(value)


def test_ground_without_a_lake_that_counts_is_refused() -> None:
    lakes = pd.DataFrame({"kind": [TRUE], "matched_any": [True]})
    with pytest.raises(DataError, match=r"^test/lake_precision: no lake counts there\.$"):
        lake_sums({"r": lakes}, {"r": pd.Series(["a"])}, measure_of("test/lake_precision"))


def test_a_mean_over_scenes_leaves_out_what_has_no_score() -> None:
    """Of IoU 3/4, none and 1/2."""
    counts = np.array([[3, 1, 0, 6], [0, 0, 0, 10], [1, 0, 1, 8]])
    measure = measure_of("test/lake_iou_per_scene")
    assert measure.of(counts) == pytest.approx((0.75 + 0.5) / 2) and np.isnan(measure.of(counts[1:2]))


def test_which_way_is_better() -> None:
    higher = ("f1_pooled", "lake_recall", "lake_recall_iou50", "lake_precision", "lake_precision_iou50")
    assert {measure_of(f"test/{score}").better for score in higher} == {1}
    assert {measure_of(f"test/{score}").better for score in ("area_error_percent", "assd_px", "assd_m")} == {-1}
    assert measure_of("test/area_bias_percent").better == 0


@pytest.mark.parametrize("score", ["recall_pooled", "recall_per_scene", "lake_iou_pooled", "miou_two_class_pooled"])
@pytest.mark.parametrize("scenes", [2, 5])
def test_scenes_without_a_lake_are_no_further_evidence(score: str, scenes: int) -> None:
    """Whatever the score is not made of adds neither degrees of freedom nor signs that may be flipped."""
    random, measure = np.random.default_rng(scenes), measure_of(f"test/{score}")
    counts = random.integers(200, 900, (2, 3, scenes, 4))
    bare = np.zeros((2, 3, 30, 4), dtype=np.int64)
    bare[..., 3] = 5000
    if score.startswith("recall"):
        bare[..., 1] = random.integers(0, 9, bare.shape[:3])  # false alarms are no matter of recall
    every = np.concatenate([counts, bare], axis=2)
    arms = arm_of("0", "1", "2"), arm_of("0", "1", "2")
    few, many = (row_of(arms[1], two[1], measure, 0.95, base=(arms[0], two[0]), flips=True) for two in (counts, every))
    assert few.effect is not None and many.effect is not None
    assert many.effect.parts.clusters == scenes and np.count_nonzero(measure.weights(*every)) == scenes
    if score != "miou_two_class_pooled":  # of which the background of such scenes is a part
        assert many.effect.p == pytest.approx(few.effect.p) and many.effect.error == pytest.approx(few.effect.error)
        assert many.p_flips == few.p_flips
    assert many.p_flips >= 2 / 2**scenes


@pytest.mark.parametrize(
    ("score", "weights"), [("precision", [7, 0, 1]), ("recall", [5, 2, 0]), ("f1", [8, 2, 1]), ("lake_iou", [8, 2, 1])]
)
def test_scenes_weigh_as_many_pixels_as_the_score_is_of(score: str, weights: list[float]) -> None:
    counts = np.array([[[4, 3, 1, 9], [0, 0, 2, 9], [0, 1, 0, 9]]])
    assert measure_of(f"test/{score}_pooled").weights(counts, counts).tolist() == weights
    assert measure_of("test/recall_per_scene").weights(counts, counts).tolist() == [1, 1, 0]


def ground_of(skills: dict[tuple[str, int], float]) -> tuple[list[Arm], Material]:
    """Arms by name and seed on six scenes, of networks that find this share of the lakes, a little more on each scene
    than on the one before."""
    arms: dict[str, list[TrackedRun]] = {}
    tables = {}
    for (name, seed), skill in skills.items():
        tp = np.round(10_000 * skill + 10 * np.arange(6)).astype(int)
        counts = {"tp": tp, "fp": 0, "fn": 10_000 - tp, "tn": 0}
        scenes = {"tile": list("abcdef"), "scene": list("abcdef"), "valid_px": 10_000, "lake_px": 10_000, "block": "b"}
        run = TrackedRun(f"{name}{seed}", "r", {"seed": str(seed)}, {"test/recall_pooled": tp.mean() / 10_000}, {})
        arms.setdefault(name, []).append(run)
        tables[run.run_id] = pd.DataFrame(scenes | counts)
    made = [Arm(name, tuple(runs)) for name, runs in arms.items()]
    return made, Material(tables, {}, common_ground(tables))


def test_scenes_that_share_ground_are_told() -> None:
    """A split by scene keeps a and b together, as they overlap; one by block has tiles of both on a block; one by
    region says nothing of it."""

    def ground(*blocks: str, scenes: str = "a b c c") -> Ground:
        tiles = {"tile": list("wxyz"), "scene": scenes.split(), "block": blocks, "valid_px": 9, "lake_px": 3}
        return common_ground({"r": pd.DataFrame(tiles)})

    assert ground("a+b", "a+b", "c", "c").caveat.startswith("2 of 3 scenes share ground with others, and are treated")
    squares = [f"utm45/10000m/{i}/0" for i in (1, 2, 1, 3)]
    assert ground(*squares).caveat.startswith("2 of 3 scenes share blocks of ground with others, and are treated as")
    for blocks in (("a+q", "b", "c", "c"), ("andes",) * 4, ("", "", "", ""), [f"utm45/1m/{i}/0" for i in range(4)]):
        assert not ground(*blocks).caveat
    parts = "a_p0_0 a_p0_1 b_p0_0 c"
    assert ground("a+b", "a+b", "a+b", "c", scenes=parts).sharing == 3, "parts of two scenes that overlap"
    assert ground("a", "a", "b", "c", scenes=parts).sharing == 0, "parts of one scene share no ground"


def test_scenes_of_one_lake_are_counted_where_the_split_does_not_tell() -> None:
    rows = [("s", "1", 2.0), ("t", "1", 2.01), ("u", "2", 1.0), ("v", "2", 3.0), ("w", "", 1.0), ("x", "", 1.0)]
    rows += [("y_p0_0", "3", 1.0), ("y_p0_1", "3", 1.0), ("s", "4", 1.0), ("z", "4", 1.0)]
    lakes = pd.DataFrame(rows, columns=["scene", "inventory_id", "inventory_area_km2"]).assign(kind="true")
    assert scenes_of_one_lake(lakes) == 3, "s and t, s and z; u and v share an id alone, y is one scene in two parts"
    assert scenes_of_one_lake(lakes.assign(kind="predicted")) == 0


def test_an_arm_is_not_best_by_a_seed_that_another_lacks(store: Store) -> None:
    """Of three seeds of b one failed; a has the higher mean by that seed alone, and is worse on both others."""
    arms, material = ground_of({("a", 0): 0.5, ("a", 1): 0.501, ("a", 2): 0.8, ("b", 0): 0.55, ("b", 1): 0.5512})
    field = Field(tuple(arms), {run.run_id: run for arm in arms for run in arm.runs}, ())
    assert pick(store, field, measure_of("test/recall_pooled"), Limits(), material).arm == "b"


def test_lines_of_an_interaction_are_over_the_seeds_that_all_arms_have() -> None:
    """Of four arms at two levels one lost a seed: means at both levels are of the same seeds."""
    skills = {(arm, seed): 0.5 + 0.1 * seed for arm in ("pu", "pv", "qu", "qv") for seed in (0, 1)}
    arms, material = ground_of({key: skill for key, skill in skills.items() if key != ("qv", 1)})
    comparison = compare_arms(arms, material, measure_of("test/recall_pooled"), ranks=False)
    names = [arm.name for arm in arms]
    one, other = (Factor(name, {arm: arm[at] for arm in names}) for at, name in enumerate("ab"))
    levels = _by_levels(comparison, one, replace(other, level=dict.fromkeys(names, "all")))
    assert levels == {("p", "all"): pytest.approx([0.5025]), ("q", "all"): pytest.approx([0.5025])}


def test_what_is_written_of_a_difference_agrees_with_its_verdict() -> None:
    arms, material = ground_of({("a", 0): 0.5, ("a", 1): 0.51, ("b", 0): 0.502, ("b", 1): 0.513})
    comparison = compare_arms(arms, material, measure_of("test/recall_pooled"), level=0.995)
    row = comparison.rows[1]
    assert row.effect is not None
    near = replace(row, p_holm=0.001, effect=replace(row.effect, value=0.006, low=0.0003, high=0.0117))
    assert sentence(near, comparison) == "+0.60 recall points [0.03, 1.17], better", "and not [0.0, 1.2]"
    table = main_table(comparison)
    assert table.headings[4] == "difference [99.5%]" and "with 99.5% interval" in table.caption
    assert interval(turned(replace(row.effect, value=0.0, low=-0.00003, high=0.1)), 100.0) == "+0.000 [-10.000, 0.003]"
