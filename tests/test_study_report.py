"""A study's report: verdicts are right, the page stands alone, the parent run carries the aggregates."""

import csv
import errno
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import studies
from runs import drawn
from scipy import stats

from glidexp.cli import guarded
from glidexp.config import PathsConfig, TrackingConfig
from glidexp.config.study import StudyConfig
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError, TrackingError
from glidexp.scoring.figures import png_bytes
from glidexp.scoring.statistics import effect_of
from glidexp.scoring.study_plots import Point, curves_figure, effects_figure, interaction_figure, pareto_figure
from glidexp.study import carry
from glidexp.study.comparison import trainings
from glidexp.study.comparison.compare import compare, compare_arms, measure_of, sentence, verdict
from glidexp.study.comparison.factors import (
    Factor,
    Layout,
    around,
    factor_shares,
    factors_of,
    interactions,
    layout_of,
    main_effects,
    values_by_cell,
    variance_parts,
)
from glidexp.study.comparison.material import Material, gather
from glidexp.study.comparison.pick import best_tags
from glidexp.study.comparison.references import _name, runs_of
from glidexp.study.comparison.studies import Study, load_study
from glidexp.study.comparison.trainings import Curves, axis_of, unlike_tiles
from glidexp.study.execution.ledger import study_id
from glidexp.study.report import factors as report_factors
from glidexp.study.report import making
from glidexp.study.report import tiles as report_tiles
from glidexp.study.report.blocks import (
    Block,
    Fold,
    Heading,
    Picture,
    Table,
    Text,
    Tiles,
    markdown,
    unfolded,
)
from glidexp.study.report.cautions import cautions, naive, power, undecided
from glidexp.study.report.data import Findings, _compared, _strata, facts, find
from glidexp.study.report.factors import _interactions, factor_blocks
from glidexp.study.report.making import PAGE, _written, report
from glidexp.study.report.page import _curves, _design, _result
from glidexp.study.report.tables import detectable, forests, interval, sample
from glidexp.study.report.tiles import probe_tiles
from glidexp.study.tune.show import last_word
from glidexp.study.tune.trials import Trial
from glidexp.study.verb_compare import run as verb
from glidexp.tracking.names import metric_name, part_names
from glidexp.tracking.store import Store, open_store, tracking_uri
from glidexp.tracking.study_runs import BEST_WHY_TAG

pytestmark = pytest.mark.usefixtures("plain_figures")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    mlruns = tmp_path_factory.mktemp("report") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    return studies.ground(tmp_path_factory.mktemp("tiles") / "store")


@pytest.fixture(scope="module")
def parent(store: Store, tiles: TileStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The baseline, the same network under another name, and one that learnt a broken label stretch."""
    arms = {
        "plain": (("stretch=plain",), 1.0),
        "twin": (("stretch=twin",), 1.0),
        "broken <b>": (("stretch=broken",), 0.45),
    }
    failed = {"broken <b>|3": "the loss became NaN & stopped <here>"}
    run, _ = studies.make_study(store, tmp_path_factory.mktemp("runs"), tiles, arms, seeds=(0, 1, 2, 3), failed=failed)
    return run


@pytest.fixture(scope="module")
def study(store: Store, parent: str) -> Study:
    found = load_study(store, parent)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def material(store: Store, study: Study) -> Material:
    return gather(store, [run for arm in study.arms for run in arm.runs], "test", lakes=True)


def test_a_planted_effect_is_found_and_none_where_there_is_none(study: Study, material: Material) -> None:
    for score in ("test/f1_pooled", "test/lake_iou_pooled"):
        comparison = compare_arms(study.arms, material, measure_of(score))
        base, twin, broken = comparison.rows
        assert verdict(base, comparison) == "baseline"
        assert verdict(twin, comparison).startswith("not distinguishable")
        assert verdict(broken, comparison) == "worse"
        assert broken.effect is not None and broken.effect.high < 0
    assert re.fullmatch(r"-\d+\.\d lake IoU points \[-\d+\.\d, -\d+\.\d\], worse", sentence(broken, comparison))
    kind = "not distinguishable: (scenes, not seeds|seeds, not scenes), are the bottleneck"
    assert re.search(kind, sentence(twin, comparison))
    assert comparison.ranks[2].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "score", ["lake_recall", "lake_precision_iou50", "area_error_percent", "area_bias_percent", "assd_px", "assd_m"]
)
def test_scores_of_lakes_are_those_that_the_runs_logged(study: Study, material: Material, score: str) -> None:
    runs = study.arms[2].runs
    sizes = [name for name in runs[0].metrics if re.fullmatch(rf"test/size/[^/]+/{score}", name)]
    for name in (f"test/{score}", f"test/sensor/landsat8/{score}", *sizes[1:2]):
        comparison = compare_arms(study.arms, material, measure_of(name), ranks=False)
        assert comparison.rows[2].values == pytest.approx([run.metrics[name] for run in runs])


def test_a_region_of_any_name_has_its_scores(study: Study, material: Material) -> None:
    """Tracking takes `_` for the letters that it refuses; tables of tiles and lakes have them."""
    named = {"andes": "Perú (sur)", "alaska": "alaska"}

    def renamed(tables: Any) -> Any:
        return {run: one.assign(region=one["region"].astype(str).map(named)) for run, one in tables.items()}

    other = Material(renamed(material.tables), renamed(material.lakes), material.ground)
    measure = measure_of("test/lake_iou_pooled")
    found = Findings(study, material=other)
    places = [one.measure.place for one in _compared(found, _strata(other, measure))]
    assert places == ["sensor landsat8", "sensor sentinel2", "region Per_ _sur_", "region alaska"]
    for score in ("lake_iou_pooled", "lake_recall"):
        before = compare_arms(study.arms, material, measure_of(f"test/region/andes/{score}"), ranks=False)
        as_it_is = measure_of(f"test/{score}").within("region", "Perú (sur)")
        for one in (as_it_is, measure_of(f"test/region/Per_ _sur_/{score}")):
            after = compare_arms(study.arms, other, one, ranks=False)
            assert [row.values for row in after.rows] == [row.values for row in before.rows]


def test_regions_that_tracking_would_call_alike_have_rows_of_their_own(study: Study, material: Material) -> None:
    named = {"andes": "Perú/sur", "alaska": "Per__sur"}

    def renamed(tables: Any) -> Any:
        return {run: one.assign(region=one["region"].astype(str).map(named)) for run, one in tables.items()}

    other = Material(renamed(material.tables), renamed(material.lakes), material.ground)
    for score in ("lake_iou_pooled", "lake_recall"):
        whole = measure_of(f"test/{score}")
        found = [whole.within("region", name, named.values()) for name in named.values()]
        assert len({one.name for one in found}) == 2 and found[1].name == f"test/region/Per__sur/{score}"
        for region, one in zip(named, found, strict=True):
            before = compare_arms(study.arms, material, measure_of(f"test/region/{region}/{score}"), ranks=False)
            for asked in (one, measure_of(one.name)):
                after = compare_arms(study.arms, other, asked, ranks=False)
                assert [row.values for row in after.rows] == [row.values for row in before.rows]
    rows = {one.measure.name: [row.values for row in one.rows]
            for one in _compared(Findings(study, material=other), _strata(other, measure_of("test/lake_iou_pooled")))
            if one.measure.stratum and one.measure.stratum[0] == "region"}  # fmt: skip
    assert len(rows) == 2 and len({str(values) for values in rows.values()}) == 2, "one region told twice"


def test_where_less_is_better_more_is_worse(study: Study, material: Material) -> None:
    three = compare_arms(study.arms, material, measure_of("test/assd_px"))
    assert three.ranks[2].tolist() == [0, 0, 1]
    comparison = compare_arms([study.arms[0], study.arms[2]], material, measure_of("test/assd_px"))
    broken = comparison.rows[1]
    assert broken.effect is not None and broken.effect.low > 0
    assert verdict(broken, comparison) == "worse" and comparison.ranks[1].tolist() == [0, 1]
    assert "alone it would be" in verdict(three.rows[2], three), "one of two comparisons needs more, of eight scenes"
    assert sentence(broken, comparison).startswith("+") and "px of ASSD [" in sentence(broken, comparison)


@pytest.fixture(scope="module")
def page(store: Store, parent: str) -> Path:
    with drawn():
        return report(store, parent[:12])


def test_the_page_stands_alone_and_says_what_counts(page: Path, store: Store, study: Study) -> None:
    text = page.read_text()
    assert page == store.mlruns / "studies" / study.study_id / "report" / "report.html"
    assert "<script" not in text and "default-src 'none'" in text
    assert not re.search(r"""(src|href)=["'](?!data:|http://127\.0\.0\.1:5000/)""", text)
    assert "<b>" not in text and "broken &lt;b&gt;" in text
    assert "the loss became NaN &amp; stopped &lt;here&gt;" in text
    for said in (
        "Which is best?",
        "naive: index threshold",
        "What cannot be concluded",
        "the same 400 steps",
        "c" * 12,
    ):
        assert said in text
    assert text.index("naive: index threshold") < text.index('<td class="t">plain')
    assert "best in" in text or "is the best" in text
    for name in ("forest", "variance", "curves", "pareto"):
        assert (page.parent / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        pdf = (page.parent / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CreationDate" not in pdf
    assert len(list((page.parent / "tiles").glob("*.png"))) == 4 * (2 + 3 + 2)
    assert "The one factor, over the 3 seeds that all arms have." in text
    assert '<td class="t">broken &lt;b&gt;</td><td class="t">stretch=broken</td>' in text
    lines = (page.parent / "report.md").read_text()
    assert all((page.parent / link).is_file() for link in re.findall(r"\]\(((?:figures|tiles)/[^)]+)\)", lines))


def test_tables_hold_the_numbers_of_the_comparison(page: Path, store: Store, study: Study) -> None:
    with (page.parent / "tables" / "result.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["arm"] for row in rows] == ["naive: index threshold", "plain", "twin", "broken <b>"]
    assert [row["n"] for row in rows[1:]] == ["4", "4", "3"]
    scores = [run.metrics["test/lake_iou_pooled"] for run in study.arms[1].runs]
    assert float(rows[2]["mean"]) == pytest.approx(100 * np.mean(scores), abs=0.006)
    assert float(rows[2]["SD"]) == pytest.approx(100 * np.std(scores, ddof=1), abs=0.006)
    with (page.parent / "tables" / "checks.csv").open() as stream:
        checks = list(csv.DictReader(stream))
    assert [row["difference of"] for row in checks] == ["twin", "broken <b>"]
    assert checks[1]["sign flips (Holm)"] == f"{2 * 2 / 2**8:.4f}", (
        "all eight scenes one way, the smaller of two p doubled"
    )
    low, high = map(float, checks[1]["bootstrap"].strip("[]").split(","))
    assert low < float(rows[3]["difference [95%]"].split(" ")[0]) < high < 0
    latex = (page.parent / "tables" / "result.tex").read_text()
    assert (
        sum(line.endswith(r"\\") for line in latex.splitlines()) == 5
        and "broken $<$b$>$" in latex
        and r"\midrule" in latex
    )


def test_the_page_folds_what_is_looked_up_and_paper_and_text_have_it_all(page: Path) -> None:
    """The story stays open: verdicts, main table, pictures, what cannot be concluded."""
    html = page.read_text()
    open_, folded = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL), re.findall("<summary>(.*?)<", html)
    assert {"By sensor and region", "Lake recall by size class", "Other scores", "The runs"} <= {*folded}
    assert re.findall(r'<table aria-labelledby="(\w+)"', open_) == ["result"]
    seen = ["Against the baseline", 'id="result"', "<img", "What cannot be concluded", "In detail"]
    assert [open_.index(one) for one in seen] == sorted(open_.index(one) for one in seen)
    assert "@media print" in html and "details::details-content{content-visibility:visible" in html
    text = (page.parent / "report.md").read_text()
    tables = re.findall(r'<table aria-labelledby="(\w+)"', html)
    assert {f"{name}.csv" for name in tables} == {path.name for path in (page.parent / "tables").glob("*.csv")}
    assert "### By sensor and region" in text and "<details" not in text
    within = markdown("t", [Fold("more", [Table("t", "c", ["x"], [["1"]])])])
    assert within == "# t\n\n### more\n\nc\n\n| x |\n| :-- |\n| 1 |\n"


@pytest.mark.parametrize(
    ("score", "colour", "said"),
    [
        ("assd_px", "#de5400", ("blue for better and orange for worse", "the best in", "the best being")),
        ("area_bias_percent", None, ("blue for higher and orange for lower", "the highest in", "the highest being")),
    ],
)
def test_colours_and_words_follow_the_sense_of_the_score(
    study: Study, material: Material, score: str, colour: str | None, said: tuple[str, ...]
) -> None:
    """Where less is better, more is worse; a bias is neither."""
    comparison = compare_arms([study.arms[0], study.arms[2]], material, measure_of(f"test/{score}"))
    text = " ".join(block.caption if isinstance(block, Picture | Table) else block.text
                    for block in unfolded(list(_result(Findings(study, comparison=comparison))))
                    if isinstance(block, Picture | Table | Text))  # fmt: skip
    assert all(one in text for one in said)
    marks = [line for line in forests("f", comparison)["f"]().axes[1].lines if line.get_marker() == "s"]
    assert verdict(comparison.rows[1], comparison) == "worse" or colour is None
    assert colour is None or [mark.get_color() for mark in marks] == [colour]


@pytest.mark.usefixtures("real_figures")
def test_pictures_of_a_comparison_say_what_they_rest_on(study: Study, material: Material) -> None:
    comparison = compare_arms(study.arms, material, measure_of("test/lake_iou_pooled"), ranks=False)
    n = sample([4, 4, 3], comparison)
    assert n == "3 or 4 seeds, 8 scenes" and sample([1], comparison) == "1 seed, 8 scenes"
    pictures = (
        pareto_figure([("a", 50.0, 1.0, 1e6)], score="IoU", n=n),
        interaction_figure({("a", "b"): [50.0]}, names=("loss", "size"), score="IoU", n=n),
    )
    assert {figure.get_supxlabel() for figure in pictures} == {"means over 3 or 4 seeds, 8 scenes"}
    effects = effects_figure({"loss": [Point("bce", 50.0, 40.0, 60.0)]}, score="IoU", level=0.95, n=n)
    assert "means over 3 or 4 seeds, 8 scenes" in effects.axes[-1].get_xlabel()


@pytest.mark.usefixtures("real_figures")
def test_pictures_of_a_hundred_arms_leave_room_for_their_panels() -> None:
    names = [f"backbone{place}, loss" for place in range(100)]
    pictures = [
        curves_figure({name: [{1: 0.1, 2: 0.3}] for name in names}, score="IoU", scale=100),
        pareto_figure([(name, 50.0, 10.0, 1e6) for name in names], score="IoU", n="1 seed"),
        interaction_figure({(a, name): [0.1] for name in names for a in "xy"}, names=("a", "b"), score="IoU", n="1"),
    ]
    for picture in pictures:
        assert png_bytes(picture), "a warning says that there is no room"
        assert picture.axes[-1].get_position().height > 0.5


def test_a_difference_that_there_cannot_be_is_no_number() -> None:
    points, metres = measure_of("test/lake_iou_pooled"), measure_of("test/assd_m")
    assert [detectable(value, points) for value in (0.238, 1.593, float("nan"))] == ["23.80", ">100", "–"]
    assert detectable(159.3, metres) == "159.30", "metres may be as many as they are"


def test_a_small_difference_is_not_called_none() -> None:
    assert "finds differences of 0.04 px, or" not in power([0.04, 0.3], "px")
    assert "finds differences of 0.04 to 0.30 px, by arm, or more" in power([0.04, 0.3], "px")
    assert "finds differences of 0.04 px or more" in power([0.04], "px")


def test_a_name_with_a_bar_is_one_cell() -> None:
    text = markdown("t", [Tiles("tile0", "tile", [("a|b", b""), ("image", b"")])])
    assert "| a\\|b | image |" in text


def test_the_parent_carries_aggregates_and_a_link(page: Path, store: Store, parent: str, study: Study) -> None:
    run = store.client.get_run(parent)
    scores = [one.metrics["test/lake_iou_pooled"] for one in study.arms[0].runs]
    assert run.data.metrics["study/plain/test/lake_iou_pooled/mean"] == pytest.approx(np.mean(scores))
    assert run.data.metrics["study/broken _b_/test/lake_iou_pooled/high"] < 0
    link = run.data.tags["glidexp.comparison"]
    assert link.startswith("http://127.0.0.1:5000/#/compare-runs?")
    assert all(one.run_id in link for arm in study.arms for one in arm.runs)
    assert link in run.data.tags["mlflow.note.content"]
    assert {file.path for file in store.client.list_artifacts(parent, "report")} >= {"report/report.html"}
    report(store, parent)  # a second time replaces it
    assert [
        path.name for path in page.parent.parent.iterdir() if "partial" in path.name or "earlier" in path.name
    ] == []


def test_two_sweeps_that_end_together_both_put_their_report_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = tmp_path / "report", Path.rename
    folder.mkdir()
    others = [1]

    def interrupted(self: Path, target: Path) -> Path:
        found = rename(self, target)
        if self == folder and others:  # it is out of the way, and the other one is faster
            others.pop()
            folder.mkdir()
            (folder / PAGE).write_text("of the other")
        return found

    monkeypatch.setattr(Path, "rename", interrupted)
    assert "Mine" in _written(folder, "Mine", [], "s").read_text() and not others
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_report_that_was_on_its_way_out_is_put_back_until_there_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process that was killed between its two renames."""
    folder, earlier = tmp_path / "report", tmp_path / ".report.earlier.99999999.partial"
    earlier.mkdir()
    (earlier / PAGE).write_text("of before")

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(making, "_fill", refused)
        with pytest.raises(OSError, match="No space"):
            _written(folder, "Mine", [], "s")
    assert (folder / PAGE).read_text() == "of before"
    assert "Mine" in _written(folder, "Mine", [], "s").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_name_that_is_too_long_for_a_metric_keeps_its_score() -> None:
    arm = " ".join(f"dataset.setting{place}=value" for place in range(12))
    one, other = (metric_name(f"study/{arm}{more}/test/lake_iou_pooled/mean") for more in ("", " x=1"))
    assert len(one) <= 250 and one.startswith("study/dataset.setting0_value") and one.endswith("/lake_iou_pooled/mean")
    assert one != other and metric_name("study/a=b/mean") == "study/a_b/mean"


def test_arms_that_differ_in_refused_characters_alone_have_metrics_of_their_own(
    store: Store, tiles: TileStore, tmp_path: Path
) -> None:
    arms = {"lr=1": (["loss=bce"], 0.9), "lr+1": (["loss=dice"], 0.5), "lr_1": (["loss=focal"], 0.7)}
    parent, _ = studies.make_study(store, tmp_path, tiles, arms, seeds=(0, 1), name="alike")
    report(store, parent)
    run = store.client.get_run(parent)
    end = "/test/lake_iou_pooled/mean"
    found = {name.removesuffix(end): value for name, value in run.data.metrics.items() if name.endswith(end)}
    assert len(found) == len(set(found.values())) == 3 and "study/lr_1" in found
    assert all(re.fullmatch(r"study/lr_1(_[0-9a-f]{8})?", name) for name in found)
    assert part_names(["a+b", "c/d"]) == {"a+b": "a_b", "c/d": "c_d"}, "no mark where nothing is alike"


def test_a_study_is_compared_by_its_parent_its_id_or_its_folder(
    store: Store, parent: str, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store.mlruns / "studies" / study.study_id
    for reference in (parent, study.study_id, "made", str(folder)):
        _, left, arms = runs_of(store, [reference])
        assert arms is not None and [arm.name for arm in arms] == ["plain", "twin", "broken <b>"]
        assert left == ["broken <b>|3 is failed: the loss became NaN & stopped <here>"]
    capsys.readouterr()
    assert guarded(verb, [str(folder), "--mlruns", str(store.mlruns), "--score", "test/lake_recall"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "plain" in told and "baseline" in told and "note: broken <b>|3 is failed" in told
    assert guarded(verb, [str(folder / "no"), "--mlruns", str(store.mlruns)]) == 2
    assert "or a study's folder, with study.json in it" in capsys.readouterr().err


def test_runs_that_were_deleted_or_called_failed_since_are_told_and_take_no_part(
    store: Store, tiles: TileStore, tmp_path: Path
) -> None:
    arms = {"loss=bce": (["loss=bce"], 0.9), "loss=dice": (["loss=dice"], 0.5)}
    parent, _ = studies.make_study(store, tmp_path, tiles, arms, seeds=(0, 1, 2), name="changed")
    before = load_study(store, parent)
    assert before is not None and not before.missing
    (first, deleted, _), (called, *_) = (arm.runs for arm in before.arms)
    store.client.delete_run(deleted.run_id)
    store.client.set_terminated(called.run_id, "FAILED")
    found = load_study(store, parent)
    assert found is not None
    assert [arm.seeds for arm in found.arms] == [[0, 2], [1, 2]]
    assert [sentence.split(":")[0] for sentence in found.missing] == ["loss=bce|1 is killed", "loss=dice|0 is killed"]
    assert f"run {called.run_id[:12]} was deleted, or is FINISHED no more; the command of the" in found.missing[1]
    assert "2 of its 6 runs have not come to an end" in best_tags(store, found)[BEST_WHY_TAG]
    store.client.restore_run(deleted.run_id)
    store.client.set_terminated(called.run_id, "FINISHED")
    again = load_study(store, parent)
    assert again is not None and again.arms[0].runs[0].run_id == first.run_id and not again.missing
    with pytest.raises(DataError, match="none of these runs is finished: give runs of two settings"):
        compare(store, [], measure_of("test/lake_iou_pooled"))


def test_a_study_is_exported_by_a_folder_that_lies_elsewhere(
    store: Store, parent: str, study: Study, tmp_path: Path
) -> None:
    """As a copy of it is: what is written is what was read, not what may lie in the store's own folder."""
    own = store.mlruns / "studies" / study.study_id
    aside = own.rename(tmp_path / study.study_id)
    try:
        with pytest.raises(TrackingError, match="'nothing' is no run"):
            carry.export(store, [str(aside), "nothing"], tmp_path / "out")
        assert parent in carry.export(store, [str(aside)], tmp_path / "out"), "nothing stands in the way"
    finally:
        aside.rename(own)
    there = tmp_path / "out" / "studies" / study.study_id
    assert {name.name: name.read_bytes() for name in there.iterdir()} == {
        name: (own / name).read_bytes() for name in ("study.json", "cells.json")
    }


def test_arms_are_named_by_their_study(
    store: Store, parent: str, study: Study, tiles: TileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, twin, broken = study.arms
    _, left, arms = runs_of(store, ["made:tw", f"{parent[:8]}:broken"])
    assert arms is not None and [arm.name for arm in arms] == ["twin", "broken <b>"]
    assert [arm.runs for arm in arms] == [twin.runs, broken.runs]
    assert left == ["broken <b>|3 is failed: the loss became NaN & stopped <here>"], "those of other arms are not said"
    _, _, arms = runs_of(store, ["made:twin", "made", *(run.run_id for run in plain.runs)])
    assert arms is not None and [arm.name for arm in arms] == ["twin", "plain", "broken <b>"], "each arm once"
    other, _ = studies.make_study(store, tmp_path, tiles, {"plain": (("stretch=plain",), 0.9)}, seeds=(0, 1), name="o")
    _, _, arms = runs_of(store, ["made:plain", f"{other}:plain", plain.runs[0].run_id])
    assert arms is not None and [arm.name for arm in arms] == ["made:plain", "o:plain"]
    words = ["--mlruns", str(store.mlruns), "--score", "test/lake_iou_pooled"]
    assert guarded(verb, ["made:plain", "made:broken <b>", *words]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "broken <b> 3 " in told and "worse" in told and "twin" not in told
    for typed, said in (
        ("made:nothing", "arm of study made='nothing' is not known. Allowed: broken <b>, plain, twin."),
        (f"{plain.runs[0].run_id}:plain", "is no study, so it has no arms"),
        ("maid:plain", "'maid' is no run: give run ids"),
    ):
        assert guarded(verb, [typed, "made:plain", *words]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and said in lines[0]


def test_a_mean_of_networks_stands_beside_the_arm_that_it_is_made_of(
    store: Store, study: Study, tiles: TileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = study.arms[0]
    card = {"members": [{"run_id": run.run_id, "weights": run.run_id} for run in plain.runs[:2]]}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "card.json").write_text(json.dumps(card | {"split_hash": "s", "data_hash": "d"}))
    tags = {"glidexp.kind": "evaluation", "glidexp.config_id": "e" * 16}
    tags |= {"glidexp.split_hash": "s", "glidexp.data_hash": "d"}
    how = {"eval.threshold": "val", "eval.regions": "['all']", "sensor_mix.sensors": "['all']"}
    mean, _ = studies.leave(store, tmp_path, tiles, 1.6, 40, how, tags)
    arms = runs_of(store, ["made:plain", mean])[2]
    assert arms is not None and [arm.name for arm in arms] == ["plain", "networks=2"]
    assert arms[1].drawn == [frozenset(map(str, plain.seeds[:2]))]
    assert guarded(verb, ["made:plain", mean, "--mlruns", str(store.mlruns)]) == 0
    assert f"count as one: {'+'.join(map(str, plain.seeds[:2]))}" in " ".join(capsys.readouterr().out.split())


def test_a_training_that_several_arms_score_is_counted_once(store: Store, study: Study) -> None:
    """As the rungs of a ladder that learn nothing."""
    plain, twin, _ = study.arms
    pairs = zip(twin.runs, plain.runs, strict=True)
    shared = replace(study, trained=study.trained | {other.run_id: study.trained[run.run_id] for other, run in pairs})
    costs, total = trainings.costs_of(store, shared)
    assert [one.trainings for one in costs] == [4, 4, 3] and total.trainings == 4 + 3
    assert total.hours == pytest.approx(sum(run.hours or 0.0 for arm in (plain, study.arms[2]) for run in arm.runs))
    assert shared.said_of("mlflow.source.git.commit") == {"c" * 40: 7}
    (hours,) = [name for name, _ in facts(Findings(shared, costs=costs, total=total)) if name.startswith("hours")]
    assert hours == "hours of 7 finished trainings"


def test_arms_that_are_the_same_runs_are_told(store: Store, study: Study) -> None:
    plain, twin, broken = study.arms
    (said,) = [one for one in cautions(replace(study, arms=(plain, replace(twin, runs=plain.runs), broken)), None)
               if "several names" in one]  # fmt: skip
    assert said == "plain and twin have the same settings: they are the same runs under several names."
    assert not any("several names" in one for one in cautions(study, None))


def test_the_last_word_of_a_search_needs_the_settings_that_it_began_from(store: Store, study: Study) -> None:
    """Where all of their runs failed, the second best was held against the best, as though that were them."""
    found: Any = SimpleNamespace(study=StudyConfig(primary="test/lake_iou_pooled"))
    best = [Trial(place, (f"loss={place}",), "complete", (0.5, 9.0), {}, "", False, False) for place in (0, 1)]
    said = last_word(found, best, best, study, store).splitlines()
    assert said[-2].startswith("Twin, against the settings it began from: ") and said[-1].startswith("Broken <b>, ")
    wide = last_word(found, best, best, replace(study, plan=replace(study.plan, alpha=0.4)), store).splitlines()
    assert wide[-1] != said[-1], "the level of the interval is the study's"
    said = last_word(found, best, best, replace(study, arms=study.arms[1:]), store).splitlines()
    assert said[-1] == "The settings it began from have no finished run, so that nothing can be claimed."
    assert not any("against" in line for line in said)


def test_studies_of_one_name_are_listed_with_what_tells_them_apart(
    store: Store, tiles: TileStore, tmp_path: Path
) -> None:
    twice = [
        studies.make_study(store, tmp_path / loss, tiles, {loss: ((f"loss={loss}",), 0.9)}, seeds=(0,), name="twice")
        for loss in ("dice", "bce")
    ]
    with pytest.raises(
        TrackingError, match=r"^2 studies are called twice: .* a parent run, .*; of one arm ID:ARM"
    ) as said:
        load_study(store, "twice")
    for run_id, plan in twice:
        assert f"{run_id[:12]} (study twice, {study_id(plan)})" in str(said.value)


def test_names_of_arms_may_be_cut_short() -> None:
    arms = ["backbone=resnet18 loss=dice", "backbone=resnet18 loss=bce", "backbone=mit_b0 loss=dice"]
    assert _name(arms, arms[0], "s") == _name(arms, "resnet18, dice", "s") == arms[0]
    assert _name(arms, "mit", "s") == _name(arms, "backbone=mit", "s") == arms[2]
    with pytest.raises(TrackingError, match=r"^2 arms of study s begin with 'resnet18': backbone=resnet18 loss=dice, "):
        _name(arms, "resnet18", "s")
    with pytest.raises(ConfigError, match="Did you mean"):
        _name(arms, "mti_b0, dice", "s")
    with pytest.raises(ConfigError, match="is not known"):
        _name(arms, "", "s")


def test_a_study_with_nothing_finished_has_a_report_that_says_so(
    store: Store, tiles: TileStore, tmp_path: Path
) -> None:
    arms = {"a": (("x=1",), 1.0), "b": (("x=2",), 1.0)}
    failed = {f"{arm}|0": "no memory" for arm in arms}
    parent, _ = studies.make_study(store, tmp_path, tiles, arms, seeds=(0,), failed=failed, name="none")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("of an earlier report")
    text = report(store, parent, folder=tmp_path / "out").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert not (tmp_path / "out" / "old.txt").exists()
    assert "No verdict" in text and text.count("no memory") >= 2


def test_effects_of_a_grid_by_hand(study: Study) -> None:
    arms = ["a1 b1", "a2 b1", "a1 b2", "a2 b2"]
    level = {arm: arm.split() for arm in arms}
    cells = [
        {"arm": arm, "seed": 0, "words": [f"x={level[arm][0]}", f"y={level[arm][1]}", f"z={level[arm][1]}", "seed=0"]}
        for arm in arms
    ]
    plan = type(study.plan).from_json(json.dumps(
        {"name": "g", "question": "", "primary": "test/lake_iou_pooled", "arms": arms, "seeds": [0],
         "cells": [{**cell, "key": "k", "scored_on": None} for cell in cells]}))  # fmt: skip
    factors = factors_of(plan, arms)
    assert [factor.name for factor in factors] == ["x", "y"] and layout_of(factors, arms) is Layout.grid
    assert layout_of(factors_of(plan, arms[:3]), arms[:3]) is Layout.around
    # epochs and a batch that a budget of pixels made differ are no factors of their own
    sized = tuple(
        replace(cell, words=(f"train.epochs={n + 1}", f"train.batch_size={4 * int(cell.arm[1])}", *cell.words))
        for n, cell in enumerate(plan.cells)
    )
    assert [factor.name for factor in factors_of(replace(plan, cells=sized, equal="pixels"), arms)] == ["x", "y"]
    varied = factors_of(replace(plan, cells=sized), arms)
    assert [factor.name for factor in varied] == ["train.epochs", "train.batch_size", "y"]
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 3, 8))
    values = [0.5, 0.7, 0.6, 0.9]
    table = {arm: value + one for arm, value, one in zip(arms, values, noise, strict=True)}
    found = {(one.factor, one.level): one for one in main_effects(factors, table, level=0.95)}
    across = found["x", "a2"].effect
    assert across is not None and across.value == pytest.approx(0.25, abs=0.01)
    by_hand = effect_of((table["a2 b1"] + table["a2 b2"]) / 2 - (table["a1 b1"] + table["a1 b2"]) / 2)
    assert (across.low, across.high) == pytest.approx((by_hand.low, by_hand.high))
    (both,) = interactions(factors, table, level=0.95)
    assert both.effect.value == pytest.approx(0.1, abs=0.02)
    plain = dict(zip(arms, [0.50, 0.72, 0.61, 0.90], strict=True))  # what pseudo-values only come near to
    told = {(one.factor, one.level): one for one in main_effects(factors, table, level=0.95, scores=plain)}
    first, second = told["x", "a1"].mean, told["x", "a2"]
    assert second.effect is not None and second.effect.value == pytest.approx(second.mean - first)
    assert first == pytest.approx(np.mean([plain[arm] for arm in arms if arm.startswith("a1")]))
    (pure,) = interactions(factors, table, level=0.95, scores=plain)
    assert pure.effect.value == pytest.approx(0.90 - 0.61 - (0.72 - 0.50))
    assert "no interval" in interval(effect_of(np.zeros((3, 3))), 100.0), "without spread there is none to make"
    # a difference of two arms has the interval that the first table gives it, whatever a third arm's scenes weigh
    three = Factor("z", {arms[0]: "p", arms[1]: "q", arms[2]: "r"})
    weights = {arm: np.arange(8.0) ** (3 * n) + 1 for n, arm in enumerate(arms)}
    second = main_effects([three], table, level=0.95, weights=weights)[1].effect
    pair = effect_of(table[arms[1]] - table[arms[0]], weights=(weights[arms[0]] + weights[arms[1]]) / 2)
    assert second is not None and (second.low, second.high) == pytest.approx((pair.low, pair.high), rel=1e-12)
    shares = factor_shares(factors, {arm: np.full((1, 1), value) for arm, value in zip(arms, values, strict=True)})
    # means 0.675; x: 4 * 0.125^2, y: 4 * 0.075^2, all: 0.0875
    assert shares == pytest.approx({"x": 0.0625 / 0.0875, "y": 0.0225 / 0.0875, "interplay": 0.0025 / 0.0875})


def test_pairs_of_factors_that_are_not_drawn_are_told(
    study: Study, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = compare_arms(study.arms, material, measure_of("test/lake_iou_pooled"), ranks=False)
    names = [arm.name for arm in study.arms]
    factors = [Factor(name, dict(zip(names, name * 2 + "-", strict=True))) for name in "abcd"]
    found = Findings(study, comparison=comparison, factors=factors)
    assert [type(block) for block in _interactions(found, comparison)] == [Picture] * 6 + [Fold], "all six are drawn"
    monkeypatch.setattr(report_factors, "MOST_PAIRS", 1)
    picture, told, _ = _interactions(found, comparison)
    assert isinstance(picture, Picture) and isinstance(told, Text)
    assert told.text == "Drawn are the first 1 of 6 pairs of factors; the table has all."


def test_what_a_design_tells_of_a_factor() -> None:
    def laid_out(*cells: str) -> tuple[Layout, list[Factor]]:
        names = [f"arm{place}" for place in range(len(cells))]
        letters = range(len(cells[0]))
        factors = [
            Factor("abc"[at], {name: cell[at] for name, cell in zip(names, cells, strict=True)}) for at in letters
        ]
        return layout_of(factors, names), around(factors, names)

    assert laid_out("0", "1", "2")[0] is Layout.grid, "one factor is a grid of one"
    assert laid_out("000", "011", "101", "110")[0] is Layout.balanced, "half of 2 x 2 x 2"
    layout, alone = laid_out("00", "10", "20", "01", "11")
    assert layout is Layout.around
    assert [(one.name, one.levels) for one in alone] == [("a", ["0", "1", "2"]), ("b", ["0", "1"])]
    assert list(alone[0].level) == ["arm0", "arm1", "arm2"], "the arm that differs in both is in neither"
    layout, alone = laid_out("000", "100", "010", "001", "110", "011")
    assert layout is Layout.around
    assert [list(one.level) for one in alone] == [["arm0", "arm1"], ["arm0", "arm2"], ["arm0", "arm3"]]
    assert laid_out("00", "11", "22")[0] is Layout.other


def test_effects_around_a_baseline_are_the_differences_to_it(study: Study, material: Material) -> None:
    measure = measure_of("test/lake_iou_pooled")
    comparison = compare_arms(study.arms, material, measure, ranks=False)
    plain, twin, broken = names = [arm.name for arm in study.arms]
    factors = [
        Factor("size", {plain: "small", twin: "large", broken: "large"}),
        Factor("loss", {plain: "bce", twin: "bce", broken: "dice"}),
    ]
    known = values_by_cell(study.arms, material.sums(study.arms, measure), measure)
    assert known is not None
    cells, _ = known
    found = Findings(study, comparison=comparison, factors=factors, layout=layout_of(factors, names))
    found.effects = main_effects(around(factors, names), cells, level=0.95)
    heading, picture, fold, said = factor_blocks(found)
    assert isinstance(heading, Heading) and heading.text == "Main effects"
    assert isinstance(picture, Picture) and picture.caption.startswith("Each factor, all others as in the baseline, ov")
    assert isinstance(fold, Fold)
    (table,) = fold.blocks
    assert isinstance(table, Table) and [row[:2] for row in table.rows] == [["size", "small"], ["size", "large"]]
    by_hand = effect_of((cells[twin] - cells[plain]), level=0.95)
    assert table.rows[1][3] == interval(by_hand, 100.0)
    assert isinstance(said, Text) and said.text.endswith("from the baseline in several factors: broken <b>.")
    assert "combinations were not all tried" in said.text
    factors = [replace(factors[0], level=dict(zip(names, "abc", strict=True))) for _ in range(2)]
    found = Findings(study, comparison=comparison, factors=factors, layout=layout_of(factors, names))
    heading, said = factor_blocks(found)
    assert isinstance(said, Text) and said.text.startswith("No main effects: every other arm differs from the baseline")
    assert not list(factor_blocks(Findings(study, comparison=comparison))), "a transfer study has no factors"


def test_without_its_baseline_a_report_says_what_arms_are_held_against(store: Store, study: Study) -> None:
    """And what was to be compared, whatever came to its end."""
    rest = replace(study, arms=study.arms[1:])
    (first, *_), about = probe_tiles(store, rest, "test")
    assert [label for label, _ in first.panels][-1].endswith(": where it differs from twin")
    assert "right and twin wrong" in about and "the baseline" not in about
    (first, *_), about = probe_tiles(store, study, "test")
    assert [label for label, _ in first.panels][-1].endswith(": where it differs from the baseline")
    said = [block.text for block in _design(find(store, rest)) if isinstance(block, Text)]
    assert "3 arms x 4 seeds (0, 1, 2, 3), the same in every arm" in said[0]
    assert "Varied: stretch: plain, twin, broken." in said[0]


def test_arms_of_several_tile_sizes_are_seen_on_the_same_ground(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three sizes of tiles of one ground, on which all networks are perfect: they show the same, at half the speed."""
    whole = studies.ground(tmp_path / "whole", scenes=3, placed=True)
    sizes = {studies.PX: whole, **{px: studies.cut(tmp_path / f"{px}", whole, px) for px in (24, 96)}}
    arms = {f"px={px}": ((f"tile_size.px={px}",), 1.0) for px in sizes}
    cost = {f"px={px}": {"epochs": 8, "steps": 80, "pixels": 8_000_000 * (1 + (px == 24))} for px in sizes}
    parent, _ = studies.make_study(
        store, tmp_path / "runs", whole, arms, seeds=(0, 1), name="sizes", spent=cost, equal="pixels",
        grounds={f"px={px}": tiles for px, tiles in sizes.items()}, perfect=True,
    )  # fmt: skip
    study = load_study(store, parent)
    assert study is not None
    blocks, said = probe_tiles(store, study, "test")
    assert len(blocks) == 4 and "their own size: px=24 (24 px), px=96 (96 px)" in said
    for block in blocks:
        shown = {label: png for label, png in block.panels if label.startswith("px=") and "differs" not in label}
        assert len(set(shown.values())) == 1 and [label[-4:] for label in shown] == ["1.00"] * 3
    monkeypatch.setattr(report_tiles, "MOST_ANSWERS", 6)
    fewer, _ = probe_tiles(store, study, "test")
    assert fewer == blocks[:2], "of many arms all are shown, on fewer tiles"
    found = find(store, study)
    assert found.curves is not None and found.curves.along == "pixels seen [million]"
    assert [max(found.curves.by_arm[arm][0]) for arm in ("48", "24", "96")] == [8.0, 16.0, 8.0]
    assert unlike_tiles(found.costs)
    assert [one.megapixels_per_s for one in found.costs] == pytest.approx([10 * px**2 / 1e6 for px in sizes])


def test_curves_are_along_what_the_budget_makes_equal(study: Study) -> None:
    arms = ["plain", "twin"]
    alike = {"epochs": 4, "steps": 40, "pixels": 400}
    for equal, other, along, an_epoch in (
        ("steps", alike, "epoch", 1.0),
        ("steps", {"epochs": 8, "steps": 40, "pixels": 800}, "optimizer steps", 5.0),
        ("pixels", {"epochs": 4, "steps": 80, "pixels": 400}, "epoch", 1.0),
        ("pixels", {"epochs": 8, "steps": 80, "pixels": 4_000_000}, "pixels seen [million]", 0.5),
        ("epochs", {"epochs": 8, "steps": 160, "pixels": 400}, "optimizer steps", 20.0),
    ):
        plan = replace(study.plan, equal=equal, spent={"plain": alike, "twin": other})
        assert (axis_of(plan, arms)[0], axis_of(plan, arms)[1]["twin"]) == (along, an_epoch)
    assert axis_of(replace(study.plan, spent={}), arms) == ("epoch", {"plain": 1.0, "twin": 1.0}), "of an older study"


def test_a_seed_with_epochs_of_its_own_has_a_curve_of_the_same_length(study: Study) -> None:
    """The budget is the same; from fewer tiles it takes more epochs."""
    spent = {"epochs": 4, "steps": 40, "pixels": 400}
    plan = replace(study.plan, equal="steps", spent={one.name: spent for one in study.arms})
    plan.spent["twin"] = {**spent, "epochs": 8}
    first = next(one for one in study.arms if one.name == "twin").runs[0]
    trained = study.trained | {first.run_id: replace(first, params=first.params | {"train.epochs": "16"})}
    store: Any = SimpleNamespace(history=lambda run_id, name: {16 if run_id == first.run_id else 8: 0.5, 1: 0.2})
    found = trainings.curves_of(store, replace(study, plan=plan, trained=trained), measure_of("test/lake_iou_pooled"))
    assert max(found.by_arm["twin"][0]) == 40


def test_an_arm_without_a_curve_has_a_word_why(study: Study) -> None:
    logged = {"plain": [(1, 0.5), (2, 0.6)], "twin": [(1, 0.4)], "broken <b>": []}
    by_run = {run.run_id: logged[arm.name] for arm in study.arms for run in arm.runs}
    store: Any = SimpleNamespace(history=lambda run_id, name: dict(by_run[run_id]))

    def curves() -> tuple[Curves, list[Block]]:
        found = trainings.curves_of(store, study, measure_of("test/lake_iou_pooled"))
        return found, list(_curves(found))

    found, blocks = curves()
    assert list(found.drawn) == ["plain", "twin"]
    axes = curves_figure(found.drawn, score="x", scale=100).axes[0]
    dots = [line for line in axes.lines if line.get_marker() != "None"]
    assert [[list(line.get_xdata()), list(line.get_ydata())] for line in dots] == [[[1], [40]]], "a point is drawn"
    assert [one.text for one in blocks if isinstance(one, Text)] == [
        "No curve of twin: one epoch a training, which is a point.",
        "No curve of broken <b>: val/lake_iou_pooled was logged after no epoch.",
    ]
    logged["plain"].pop()
    logged["broken <b>"].append((1, 0.3))
    found, blocks = curves()
    assert [type(one) for one in blocks] == [Heading, Text], "points alone are no picture"
    assert "No curve of all arms" in blocks[1].text  # type: ignore[union-attr]


def test_a_line_that_ends_early_is_told() -> None:
    """As of trainings with `train.patience`: the mean of all is known as far as the shortest went."""
    score = {float(epoch): 0.1 * epoch for epoch in range(1, 6)}
    short = {epoch: value for epoch, value in score.items() if epoch < 4}
    said = " Where trainings of an arm are of unlike length, its line ends with the shortest."
    for trainings_of, told in (([score, score], False), ([score, short], True)):
        _, picture = _curves(Curves("val/lake_iou_pooled", by_arm={"a": trainings_of}))
        assert isinstance(picture, Picture) and picture.caption.endswith(said) == told
    (line,) = curves_figure({"a": [score, short]}, score="x", scale=100).axes[0].lines
    assert max(np.asarray(line.get_xdata(), float)) == 3


def test_a_caution_that_several_arms_have_is_said_once(study: Study, material: Material) -> None:
    arms = [replace(arm, runs=arm.runs[:1]) for arm in study.arms]
    found = compare_arms(arms, material, measure_of("test/lake_iou_pooled"), ranks=False)
    luck = "one training an arm, so that the luck of a seed is in no interval"
    assert found.notes == (f"all arms: {luck}",)
    said = undecided(found.rows[1:], found)
    assert said.startswith("All arms: cannot be told from the baseline, which is no proof that they are equal.")
    row = found.rows[1]
    assert row.effect is not None
    assert f"seen: twin {100 * row.effect.low:+.1f} to {100 * row.effect.high:+.1f}; broken <b> " in said
    least = sorted(100 * row.detectable for row in found.rows[1:])
    assert said.endswith(f"finds differences of {least[0]:.1f} to {least[1]:.1f} points, by arm, or more.")
    said = undecided((*found.rows[1:], *found.rows[1:]), found)
    assert "in the first table" in said and "+" not in said, "more than a few are not listed"
    arms = [study.arms[0], arms[1], study.arms[2]]
    found = compare_arms(arms, material, measure_of("test/lake_iou_pooled"), ranks=False)
    assert found.notes == ("twin: seed 1, 2, 3 is in one arm only and took no part", f"twin: {luck}",
                           "broken <b>: seed 3 is in one arm only and took no part")  # fmt: skip
    assert undecided(found.rows[1:2], found).startswith("twin: cannot be told from the baseline")
    value = float(np.mean(found.rows[2].values))
    beside = replace(found, naive={"index_threshold": value, "background": 0.0})
    assert list(naive(beside)) == [
        f"broken <b>: on average no better than the naive row index threshold ({100 * value:.1f} points)."
    ]
    some = "differences of 20.0 points or more, and for some arms none that there can be."
    assert power([20.0, 101.0], "points").endswith(some)
    assert power([101.0], "points").endswith("finds no difference that there can be.")
    assert power([101.0], "m").endswith("differences of 101.0 m or more.")


def test_variance_goes_to_its_source() -> None:
    random = np.random.default_rng(1)
    scene = 3 * stats.zscore(random.normal(size=400), ddof=1)[None, None]
    seed = 2 * stats.zscore(random.normal(size=(40, 40)), axis=1, ddof=1)[:, :, None]
    rest = random.normal(0, 1, (40, 40, 400))
    parts = variance_parts({f"a{n}": one for n, one in enumerate(seed + scene + rest)}, "scene")
    assert parts is not None
    assert [parts[name] for name in ("scene", "seed", "rest")] == pytest.approx([9 / 14, 4 / 14, 1 / 14], abs=0.01)
    assert parts["arm"] < 0.02 and parts["arm x scene"] < 0.02
    assert variance_parts({"a": np.zeros((1, 5)), "b": np.ones((1, 5))}, "scene") is None
    assert variance_parts({"a": np.ones((2, 5)), "b": np.ones((2, 5))}, "scene") is None, "nothing to be shared out"
