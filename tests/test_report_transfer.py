"""Reports of transfer studies: the matrix and the ladder say what was planted, in words, tables and pictures."""

import csv
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import studies

from glidexp.config import PathsConfig, TrackingConfig
from glidexp.errors import ConfigError, DataError
from glidexp.study import verb_transfer
from glidexp.study.comparison.ladder import Ladder, climb, crossing, crossings, said_crossings
from glidexp.study.comparison.measures import measure_of
from glidexp.study.comparison.studies import load_study
from glidexp.study.execution.ledger import FOLDER
from glidexp.study.report.blocks import Picture
from glidexp.study.report.data import Findings, find
from glidexp.study.report.making import report
from glidexp.study.report.transfer import _ladder as ladder_blocks
from glidexp.tracking.store import Store, open_store, tracking_uri

pytestmark = pytest.mark.usefixtures("plain_figures")
SOURCE = ("subset.regions=[andes]", "subset.val_from=source")
TARGET = ("subset.regions=[alaska]", "subset.val_from=source")


def skill(andes: float, alaska: float) -> dict[str, float]:
    return {"andes": andes, "alaska": alaska}


MATRIX = {
    "all": (("subset.regions=[andes,alaska]", "subset.val_from=source"), skill(0.95, 0.95)),
    "andes": (SOURCE, skill(1.0, 0.45)),
    "alaska": (TARGET, skill(0.7, 1.0)),
}
LADDER = {
    "zero-shot": (SOURCE, skill(1.0, 0.5)),
    "histogram": ((*SOURCE, "eval.adapt=histogram"), skill(0.8, 0.6)),
    "full 1 scene": ((*TARGET, "subset.scenes=1"), skill(0.6, 0.8)),
    "scratch 1 scene": ((*TARGET, "subset.scenes=1", "x=1"), skill(0.4, 0.4)),
    "full 4 scenes": ((*TARGET, "subset.scenes=4"), skill(0.55, 0.9)),
    "scratch 4 scenes": ((*TARGET, "subset.scenes=4", "x=1"), skill(0.4, 1.1)),
    "longer": ((*SOURCE, "x=2"), skill(1.0, 0.6)),
    "style": ((*SOURCE, "x=4"), skill(0.95, 0.65)),
    "self_training": ((*SOURCE, "x=3"), skill(0.9, 0.75)),
}
RUNGS = {name: [name.split()[0], float(([*name.split(), "0"])[1])] for name in LADDER}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    mlruns = tmp_path_factory.mktemp("transfer") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)


@pytest.fixture(scope="module")
def parents(store: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    tiles = studies.ground(tmp_path_factory.mktemp("tiles") / "store")
    plans = {
        "matrix": (MATRIX, {"kind": "matrix", "by": "region"}, "test/lake_iou_pooled"),
        "ladder": (
            LADDER,
            {"kind": "ladder", "by": "region", "target": "alaska", "sources": ["andes"], "unit": "scenes",
             "rungs": RUNGS},
            "test/region/alaska/lake_iou_pooled",
        ),
    }  # fmt: skip
    return {
        name: studies.make_study(
            store, tmp_path_factory.mktemp(name), tiles, arms, seeds=(0, 1), name=name, primary=primary,
            laid_out=laid_out,
        )[0]
        for name, (arms, laid_out, primary) in plans.items()
    }  # fmt: skip


def findings(store: Store, parent: str) -> Findings:
    study = load_study(store, parent)
    assert study is not None
    return find(store, study)


@pytest.fixture(scope="module")
def ladder(store: Store, parents: dict[str, str]) -> Ladder:
    found = findings(store, parents["ladder"]).ladder
    assert found is not None
    return found


@pytest.mark.usefixtures("real_figures")
def test_the_matrix_of_a_study_is_in_its_report(store: Store, parents: dict[str, str]) -> None:
    found = findings(store, parents["matrix"])
    assert found.matrix is not None and found.factors == []
    pairs = found.matrix.pairs
    gap = pairs["andes", "alaska"].gap
    assert gap is not None and gap.low > 0, "what was planted is not found"
    assert pairs["andes", "andes"].mean > pairs["alaska", "andes"].mean
    page = report(store, parents["matrix"])
    text = page.read_text()
    assert "Transfer matrix" in text and "the regions that are trained on" in text
    assert "andes → alaska" in text and "Least regret over all targets: all" in text
    with (page.parent / "tables" / "transfer_matrix.csv").open() as stream:
        rows = {row["trained on (region)"]: row for row in csv.DictReader(stream)}
    assert rows["andes"]["n"] == "2" and "test ground: alaska 4 scenes, andes 4 scenes" in text
    with (page.parent / "tables" / "transfer_pairs.csv").open() as stream:
        assert {(row["seeds"], row["scenes"]) for row in csv.DictReader(stream) if row["gap"] != "–"} == {("2", "4")}
    assert float(rows["andes"]["alaska"]) == pytest.approx(100 * pairs["andes", "alaska"].mean, abs=0.005)
    assert (page.parent / "figures" / "transfer_matrix.png").stat().st_size > 5000


def test_a_study_is_laid_out_by_its_folder(
    store: Store, parents: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As `glidexp compare` takes it: its arms, whichever study their runs were made for."""
    study = load_study(store, parents["matrix"])
    assert study is not None
    assert verb_transfer.run([str(store.mlruns / FOLDER / study.study_id), "--mlruns", str(store.mlruns)]) == 0
    assert "alaska -> andes" in capsys.readouterr().out


def test_a_leak_that_was_allowed_is_told(store: Store, parents: dict[str, str]) -> None:
    study = load_study(store, parents["matrix"])
    assert study is not None
    plan = replace(study.plan, leaks=("andes: 1 of 7 tiles to be scored",))
    assert "LEAKING: andes: 1 of 7 tiles to be scored" in find(store, replace(study, plan=plan)).cautions


def test_a_ladder_tells_gain_and_what_is_forgotten(ladder: Ladder, store: Store, parents: dict[str, str]) -> None:
    steps = {step.arm: step for step in ladder.steps}
    assert ladder.zero.gain is None and ladder.zero.kept is None and ladder.sources == ("andes",)
    tuned = steps["full 4 scenes"]
    assert tuned.gain is not None and tuned.gain.low > 0 and tuned.kept is not None and tuned.kept.high < 0
    assert tuned.gain.value == pytest.approx(tuned.mean - ladder.zero.mean)
    assert steps["scratch 1 scene"].kept is None, "what was never at home forgets nothing"
    study = load_study(store, parents["ladder"])
    assert study is not None
    run = study.arms[2].runs[0]
    assert steps["full 1 scene"].values[0] == pytest.approx(run.metrics["test/region/alaska/lake_iou_pooled"])
    assert steps["full 1 scene"].at_home[0] == pytest.approx(run.metrics["test/region/andes/lake_iou_pooled"])


def test_what_images_add_is_held_against_going_on_without_them(
    ladder: Ladder, store: Store, parents: dict[str, str]
) -> None:
    steps = {step.arm: step for step in ladder.steps}
    assert list(ladder.of_images) == ["style", "self_training"]
    assert ladder.of_images["style"].value == pytest.approx(steps["style"].mean - steps["longer"].mean)
    value = ladder.of_images["self_training"].value
    assert value == pytest.approx(steps["self_training"].mean - steps["longer"].mean)
    assert 0.1 < value < 0.2
    found = findings(store, parents["ladder"])
    assert found.material is not None
    arms = [arm for arm in found.study.arms if arm.name != "longer"]
    assert climb(arms, found.material, ladder.measure, found.study.plan.laid_out, level=0.95).of_images == {}
    said = report(store, parents["ladder"]).read_text()
    assert "What the target&#x27;s images add without labels: style against longer" in said
    assert "What the target&#x27;s images add without labels: self_training against longer" in said


@pytest.mark.usefixtures("real_figures")
def test_where_scratch_catches_up_is_said_and_drawn(ladder: Ladder, store: Store, parents: dict[str, str]) -> None:
    full, scratch = ([step.mean for step in ladder.curve(rung)] for rung in ("full", "scratch"))
    at = crossings(ladder)["full"]
    assert at is not None and 1 < at < 4 and at == crossing([1, 4], scratch, full)
    (said,) = said_crossings(ladder)
    assert said == f"Training from scratch catches up with full at about {at:.1f} scenes."
    page = report(store, parents["ladder"])
    text = page.read_text()
    assert "lake IoU points (region alaska) [" in text, "the verdict says where"
    assert said in text and "Adaptation to alaska" in text and "the way from andes to alaska" in text
    assert (page.parent / "figures" / "few_shot.png").stat().st_size > 5000
    with (page.parent / "tables" / "ladder.csv").open() as stream:
        rows = {row["rung"]: row for row in csv.DictReader(stream)}
    assert {row["n"] for row in rows.values()} == {"2"} and "Gain over zero-shot on 4 scenes of alaska" in text
    assert list(rows) == list(LADDER) and rows["histogram"]["what it does"].startswith("the target's values")


def test_a_ring_is_explained_where_one_is_drawn(ladder: Ladder) -> None:
    def caption(of: Ladder) -> str:
        (picture,) = (block for block in ladder_blocks(of) if isinstance(block, Picture))
        return picture.caption

    assert caption(ladder).endswith("Ringed: where training from scratch catches up.")
    ahead = [replace(step, values=(1.0,)) if step.rung == "scratch" else step for step in ladder.steps]
    assert caption(replace(ladder, steps=tuple(ahead))).endswith("Level lines: without labels of it.")


def test_a_ladder_without_its_source_is_none(store: Store, parents: dict[str, str]) -> None:
    found = findings(store, parents["ladder"])
    assert found.material is not None and found.ladder is not None
    plan = found.study.plan.laid_out
    with pytest.raises(DataError, match="zero-shot, which has no finished run"):
        climb(found.study.arms[1:], found.material, found.ladder.measure, plan, level=0.95)
    with pytest.raises(ConfigError, match="test/assd_m: more of it is not better"):
        climb(found.study.arms, found.material, measure_of("test/assd_m"), plan, level=0.95)
    assert np.isfinite(climb(found.study.arms[:1], found.material, found.ladder.measure, plan, level=0.95).zero.mean)
