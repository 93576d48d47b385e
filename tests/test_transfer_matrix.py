"""Transfer matrices from score tables: hand-worked values, gaps with their sign, what is refused; and the crossing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from glidexp.errors import ConfigError, DataError
from glidexp.scoring.counts import BINS
from glidexp.scoring.heatmap import heatmap_figure
from glidexp.scoring.scores import scores_table
from glidexp.study.comparison.arms import arms_of, common_ground
from glidexp.study.comparison.compare import measure_of
from glidexp.study.comparison.ladder import Ladder, Step, crossing, said_crossings
from glidexp.study.comparison.material import Material
from glidexp.study.comparison.transfer import Matrix, as_table, lay_out, matrix, source_name
from glidexp.study.report.transfer import _read
from glidexp.study.verb_transfer import gaps_of, table_of, write
from glidexp.tracking.found import TrackedRun

REGIONS = ("alaska", "andes", "greenland")
SCENES, LAKE_PX = 4, 100
SCORE = measure_of("test/lake_iou_pooled")
SKILL = {
    "alaska": {"alaska": 0.9, "andes": 0.5, "greenland": 0.4},
    "andes": {"alaska": 0.7, "andes": 0.8, "greenland": 0.6},
    "greenland": {"alaska": 0.3, "andes": 0.2, "greenland": 0.7},
}
"""share of each target's lakes that a source finds; no false alarms, so it is the lake IoU"""


def table(skill: dict[str, float], seed: int) -> pd.DataFrame:
    """A tile a scene, 4 scenes a region; luck of the ground is the same for every source, that of a seed for a seed."""
    region = np.repeat(REGIONS, SCENES)
    luck = np.tile([2, -2, 1, -1], len(REGIONS)) + (1 if seed else 0)
    found = np.array([round(skill[name] * LAKE_PX) for name in region]) + luck
    hist = np.zeros((len(region), 2, BINS), dtype=np.int32)
    hist[:, 1, 200], hist[:, 1, 20], hist[:, 0, 20] = found, LAKE_PX - found, 900
    index = pd.DataFrame({"tile": range(len(region)), "region": region, "sensor": "landsat8", "split": "test"})
    index["scene"] = [f"s{place}" for place in range(len(region))]
    return scores_table(index.astype({"tile": str}).assign(gsd_m=10.0, block=""), hist, 0.5)


def laid_out(
    skills: dict[str, dict[str, float]],
    seeds: Sequence[int] = (0, 1),
    leak: str = "false",
    missing: Sequence[tuple[str, int]] = (),
    **params: str,
) -> Matrix:
    """The matrix of made-up runs: a key of `skills` is what `subset.regions` held."""
    tables, runs = {}, []
    for source, skill in skills.items():
        for seed in seeds:
            if (source, seed) in missing:
                continue
            trained = {"subset.regions": source, "seed": str(seed), "subset.val_from": "source"} | params
            runs.append(TrackedRun(f"{len(runs):032x}", source, trained, {}, {"glidexp.leak": leak}))
            tables[runs[-1].run_id] = table(skill, seed)
    return lay_out(arms_of(runs), Material(tables, {}, common_ground(tables)), SCORE, by="region")


@pytest.fixture
def found() -> Matrix:
    singles = {f"['{name}']": skill for name, skill in SKILL.items()}
    everything = {"['all']": dict.fromkeys(REGIONS, 0.75), "['alaska', 'andes']": dict.fromkeys(REGIONS, 0.65)}
    return laid_out(everything | singles)


def test_the_matrix_is_that_of_the_scores(found: Matrix) -> None:
    assert found.sources == (*REGIONS, "all", "all but greenland") and found.targets == REGIONS
    wanted = np.array([[SKILL[source][target] for target in REGIONS] for source in REGIONS])
    assert found.means[:3] == pytest.approx(wanted + 0.005)  # the second seed finds one pixel of 100 more
    assert found.pairs["andes", "greenland"].values == pytest.approx((0.60, 0.61))


def test_gaps_regrets_and_asymmetries(found: Matrix) -> None:
    """All differences are equal on every scene and seed, so that there is no spread to make an interval of."""
    pair = found.pairs["alaska", "andes"]
    assert pair.gap is not None
    assert pair.gap.value == pytest.approx(0.3)  # 0.8 - 0.5: what is lost by coming from alaska
    assert not pair.gap.known and np.isnan([pair.gap.low, pair.gap.high, pair.gap.p, pair.p_holm]).all()
    assert pair.regret == pytest.approx(0.3) and pair.asymmetry == pytest.approx(0.5 - 0.7)
    assert found.pairs["andes", "alaska"].asymmetry == pytest.approx(0.2)
    assert all(found.pairs[name, name].gap is None for name in REGIONS)
    assert found.pairs["all", "greenland"].regret == 0
    assert found.pairs["greenland", "greenland"].regret == pytest.approx(
        0.05
    )  # where all regions do better than itself
    assert found.regret("andes") == pytest.approx((0.2 + 0.0 + 0.15) / 3)
    assert np.isnan(found.pairs["all", "andes"].asymmetry)
    assert found.notes == ()


def test_sources_that_saw_images_of_other_places_are_told(found: Matrix) -> None:
    singles = {f"['{name}']": skill for name, skill in SKILL.items()}
    (note,) = laid_out(singles, **{"self_training.regions": "['andes']", "self_training.sensors": "[]"}).notes
    assert note.startswith("alaska, andes, greenland: learnt also from images without labels (self_training.regions")
    assert laid_out(singles, **{"self_training.regions": "[]"}).notes == found.notes == ()


def test_what_is_printed_and_written(found: Matrix, tmp_path: Path) -> None:
    console = Console(record=True, width=120)
    console.print(table_of(found))
    console.print(gaps_of(found))
    text = console.export_text()
    assert "all but greenland" in text and "90.50" in text and "alaska -> andes" in text and "+30.00" in text
    assert "4 scenes 4 scenes 4 scenes" in " ".join(text.split()) and "alaska 2 90.50" in " ".join(text.split())
    assert "alaska -> andes 2 4 +30.00" in " ".join(text.split()), "a gap without what it rests on"
    write(found, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "transfer.csv")
    assert len(rows) == 15 and as_table(found)["mean"].tolist() == pytest.approx(rows["mean"].tolist())
    assert (tmp_path / "out" / "transfer.png").stat().st_size > 5000
    assert (tmp_path / "out" / "transfer.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "out" / "transfer_column.pdf").read_bytes().startswith(b"%PDF")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        write(found, tmp_path / "file" / "under")


def test_the_picture_says_what_each_number_is_a_mean_of(found: Matrix) -> None:
    figure = heatmap_figure(
        found.means, found.sources, found.targets, score="lake IoU", across="region", rest_on=found.rest_on
    )
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [f"{name}\n(4\u00a0scenes)" for name in REGIONS]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [f"{name} (2\u00a0seeds)" for name in found.sources]
    fewer = laid_out({"['andes']": SKILL["andes"], "['alaska']": SKILL["alaska"]}, seeds=[0])
    assert fewer.rest_on[0] == ["1 seed", "1 seed"]


def test_a_field_without_a_score_is_told_and_readable() -> None:
    for values in ([[0.5, np.nan], [0.9, 0.1]], [[np.nan, np.nan], [np.nan, np.nan]]):
        figure = heatmap_figure(
            np.array(values), ["a", "b"], ["a", "b"], score="lake IoU", across="region", rest_on=(["1 seed"] * 2,) * 2
        )
        told = [text for text in figure.axes[0].texts if text.get_text() == "no value"]
        assert len(told) == int(np.isnan(values).sum()) and {text.get_color() for text in told} == {"black"}
        figure.canvas.draw()


def test_what_a_matrix_cannot_say_is_noted() -> None:
    two = {"['andes']": SKILL["andes"], "['alaska']": SKILL["alaska"]}
    notes = " | ".join(laid_out(two, seeds=[0], **{"subset.val_from": "regions"}).notes)
    assert "no run was trained on greenland alone" in notes
    assert "one training of some sources" in notes and "val was not narrowed" in notes
    assert "met in training" not in notes
    for leak, said in (("true", "LEAKING: "), ("unknown", "what ")):
        told = laid_out(two, seeds=[0], leak=leak).notes[-1]
        assert told.startswith(f"{said}{0:012}, {0:012}") and "met in training" in told


def test_means_over_other_seeds_are_told() -> None:
    """Seed 0 finds a pixel less: a source without it is better by nothing else."""
    alike = {f"['{name}']": dict.fromkeys(REGIONS, 0.6) for name in REGIONS}
    assert laid_out(alike).uneven == ""
    found = laid_out(alike, missing=[("['andes']", 0), ("['greenland']", 1)])
    pair = found.pairs["alaska", "andes"]
    assert pair.regret == pytest.approx(0.005) and pair.gap is not None and pair.gap.value == pytest.approx(0)
    assert found.uneven.startswith("seeds that sources lack: andes 0; greenland 1. Means, regret and asymmetry are of")
    assert found.notes[-1] == found.uneven and f"Seeds{found.uneven[5:]}." in _read(found)


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(DataError, match="two sources or more"):
        laid_out({"['andes']": SKILL["andes"]})
    with pytest.raises(DataError, match="two arms were trained on all"):
        laid_out({"['all']": SKILL["andes"], "['alaska', 'andes', 'greenland']": SKILL["andes"]})
    with pytest.raises(ConfigError, match=r"--score test/region/andes/f1_pooled is of one region"):
        matrix(None, [], measure_of("test/region/andes/f1_pooled"), by="region")
    with pytest.raises(ConfigError, match="more of it is not better"):
        matrix(None, [], measure_of("test/assd_m"), by="region")


def test_names_of_sources() -> None:
    assert source_name("['all']", REGIONS) == "all" == source_name("[greenland, andes, alaska]", REGIONS)
    assert source_name("['andes']", REGIONS) == "andes"
    assert source_name("['andes', 'alaska']", REGIONS) == "all but greenland"
    assert source_name("['andes']", ("andes", "alaska")) == "andes"
    assert source_name("['b', 'a']", ("a", "b", "c", "d")) == "a+b"


def test_where_scratch_catches_up() -> None:
    """Behind by 10 at 5 scenes, ahead by 5 at 10: two thirds of the way between."""
    budgets, tuned = [1, 2, 5, 10], [0.6, 0.6, 0.6, 0.6]
    assert crossing(budgets, [0.2, 0.3, 0.5, 0.65], tuned) == pytest.approx(5 + 5 * 2 / 3)
    assert crossing(budgets, [0.2, 0.3, 0.4, 0.5], tuned) is None
    assert crossing(budgets, [0.6, 0.7, 0.7, 0.7], tuned) == 1
    assert crossing(budgets, [0.7, 0.5, 0.7, 0.7], tuned) == pytest.approx(2 + 3 * 0.5)  # the last time counts


@pytest.mark.parametrize(
    ("scratch", "said"),
    [
        ([0.6, 0.7, 0.8], "is as good as full from 5 % of lakes on."),
        ([0.4, 0.8, 0.8], "catches up with full at about 7.5 % of lakes."),
        ([0.4, 0.5, 0.5], "has not caught up with full at 50 % of lakes."),
    ],
)
def test_where_scratch_catches_up_is_said_in_shares_of_lakes(scratch: list[float], said: str) -> None:
    steps = [Step("zero", "zero_shot", None, (0.5,), None, 1.0, (), None)]
    for rung, scores in (("full", [0.6, 0.6, 0.6]), ("scratch", scratch)):
        steps += [
            Step(f"{rung} {budget}", rung, budget, (score,), None, 1.0, (), None)
            for budget, score in zip((0.05, 0.1, 0.5), scores, strict=True)
        ]
    ladder = Ladder("region", "andes", ("alaska",), "lakes", SCORE, tuple(steps), 0.95, "scene", 4)
    assert said_crossings(ladder) == [f"Training from scratch {said}"]


def test_where_scratch_catches_up_is_said_of_budgets_that_both_have() -> None:
    """Full's run on all lakes failed, and that from scratch on the fewest."""
    scores = {"full": {0.05: 0.6, 0.1: 0.6, 0.5: 0.6}, "scratch": {0.1: 0.4, 0.5: 0.5, 1.0: 0.9}}
    steps = [Step("zero", "zero_shot", None, (0.5,), None, 1.0, (), None)]
    for rung, of in scores.items():
        steps += [Step(f"{rung} {b}", rung, b, (score,), None, 1.0, (), None) for b, score in of.items()]
    ladder = Ladder("region", "andes", ("alaska",), "lakes", SCORE, tuple(steps), 0.95, "scene", 4)
    assert said_crossings(ladder) == ["Training from scratch has not caught up with full at 50 % of lakes."]
