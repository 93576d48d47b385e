"""Cross-validation: a study over folds of the ground, its plan, its cells, and what is compared over all of them."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import studies
from rich.console import Console
from runs import SMALL

from glidexp import door
from glidexp.config import PathsConfig, TrackingConfig
from glidexp.config.launcher import LauncherConfig
from glidexp.config.study import AxisConfig, Design, StudyConfig
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError
from glidexp.scoring.confusion import SCORES
from glidexp.scoring.naive import naive_scores
from glidexp.study.comparison.arms import arms_of
from glidexp.study.comparison.compare import Comparison, compare, measure_of
from glidexp.study.comparison.folds import joined, over_folds, together
from glidexp.study.comparison.material import gather
from glidexp.study.comparison.naive_rows import naive_of_all
from glidexp.study.comparison.pick import best_tags, field_of
from glidexp.study.comparison.references import runs_of
from glidexp.study.comparison.studies import Study, load_study
from glidexp.study.comparison.trainings import costs_of
from glidexp.study.execution.cells import Cell, Plan, chosen
from glidexp.study.plan import show as plan_show
from glidexp.study.plan.making import Planned, make_plan, outline
from glidexp.study.plan.words import split
from glidexp.study.report.making import report
from glidexp.study.verb_compare import run as verb
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import EVALUATION, KIND_TAG, Store, open_store, tracking_uri
from glidexp.tracking.study_runs import BEST_TAG, BEST_WHY_TAG
from glidexp.training.run import _name

pytestmark = pytest.mark.usefixtures("plain_figures")

FOLDS = 3

# ---- the plan


def planning(place: Path, *words: str, plan: Any = make_plan) -> Any:
    own = [*SMALL, f"paths.data={place}", f"paths.mlruns={place}", "dataset.synthetic.scenes_per_sensor=6"]
    typed = split([*own, "loss=bce,dice", *words])
    return plan(door.compose_sweep(list(typed.own)).study, typed, door.compose)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folds")


@pytest.fixture(scope="module")
def planned(place: Path) -> Planned:
    """A real plan, on generated scenes."""
    found: Planned = planning(place, "seed=3,1", f"study.folds={FOLDS}")
    return found


def test_every_arm_is_trained_with_every_seed_on_every_fold(planned: Planned) -> None:
    plan = planned.plan
    expected = {f"loss={loss}|{seed}|{fold}" for loss in ("bce", "dice") for seed in (3, 1) for fold in range(FOLDS)}
    assert {cell.name for cell in plan.cells} == expected and len(plan.cells) == len(expected)
    assert len({cell.key for cell in plan.cells}) == len(plan.cells), "two folds would be one run"
    for cell in plan.cells:
        config = door.compose(list(cell.words))
        assert (config.dataset.split.folds, config.dataset.split.fold) == (FOLDS, cell.fold)
        assert _name(config).endswith(f"-seed{cell.seed}-fold{cell.fold}")
    assert plan.size == "2 arms x 2 seeds x 3 folds"
    assert Plan.from_json(plan.to_json()) == plan


def test_a_cell_is_the_run_that_is_typed_for_its_fold(planned: Planned, place: Path) -> None:
    """So that runs from before a study, of one fold alone, are taken into it."""
    alone: Planned = planning(place, "seed=1", f"dataset.split.folds={FOLDS}", "dataset.split.fold=2")
    keys = {(cell.arm, cell.seed, cell.fold): cell.key for cell in planned.plan.cells}
    assert [keys[cell.arm, cell.seed, 2] for cell in alone.plan.cells] == [cell.key for cell in alone.plan.cells]


def test_each_tile_is_test_once(planned: Planned) -> None:
    indices = [planned.data.store(arms[0].config).index for arms in planned.every]
    tested = Counter(tile for index in indices for tile in index["tile"][index["split"] == "test"])
    every = planned.data.store(planned.baseline).index["tile"]
    assert set(tested) == set(every) and set(tested.values()) == {1}
    assert planned.data.ground([arms[0].config for arms in planned.every], None) == ("scene", 6)
    assert planned.data.ground([planned.baseline], None) == ("scene", 2)


def test_a_plan_over_folds_says_so(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    plan_show.show(planned, LauncherConfig(slots=1, gpus=0), calibrate=False, console=console)
    text = console.export_text()
    assert "2 arms x 2 seeds x 3 folds = 12 runs" in text and "0/6" in text
    assert "Folds: each of 3 parts of the ground is test once" in text and "6 scenes" in text
    monkeypatch.setattr(plan_show.History, "past", lambda *_: [past(cell.key) for cell in planned.plan.cells[:5]])
    assert plan_show.History(planned).finished() == {cell.name for cell in planned.plan.cells[:5]}


def past(key: str) -> Any:
    return SimpleNamespace(run=SimpleNamespace(tags={"glidexp.config_id": key}))


def test_steps_that_differ_by_fold_are_told(planned: Planned, place: Path) -> None:
    assert planned.plan.budget.endswith("in every arm exactly.")
    unlike: Planned = planning(place, "seed=1", "study.folds=4", "train.batch_size=2")
    steps = [planned_steps(unlike, fold) for fold in range(4)]
    assert len(set(steps)) > 1
    assert f"{min(steps)} to {max(steps)} optimizer steps, by fold, in every arm exactly" in unlike.plan.budget


def test_a_fold_with_too_few_tiles_is_named(place: Path) -> None:
    said = r"loss=bce: train.batch_size=27 is more than its 2\d training tiles on fold [0-2]: lower it"
    with pytest.raises(ConfigError, match=said):
        planning(place, "seed=1", f"study.folds={FOLDS}", "train.batch_size=27")


def planned_steps(found: Planned, fold: int) -> int:
    config = found.every[fold][0].config
    return int(config.train.epochs * (found.data.sizes(config).train // config.train.batch_tiles))


def test_an_outline_counts_folds_and_names_the_data_of_each(tmp_path: Path) -> None:
    found = planning(tmp_path, "seed=0,1", f"study.folds={FOLDS}", plan=outline)
    assert len(found.missing) == FOLDS
    console = Console(width=200, file=io.StringIO(), record=True)
    plan_show.show_outline(found, console, only="loss=dice|1|2")
    text = console.export_text()
    assert "2 arms x 2 seeds x 3 folds = 12 runs" in text and "Folds: each of 3 parts" in text
    with pytest.raises(ConfigError, match=r"only=loss=dice\|1\|3 names no run.*ARM\|SEED\|FOLD"):
        plan_show.show_outline(found, console, only="loss=dice|1|3")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study.folds=2"], "study.folds=2 must be 0, or 3 to 100: one fold is test, one val, the rest trains"),
        (["study.folds=-3"], "study.folds=-3 must be 0, or 3 to 100"),
        (["study.folds=3", "dataset.split.fold=1"], r"dataset\.split\.fold does not go with study\.folds=3"),
        (["study.folds=3", "dataset.split.folds=5"], r"dataset\.split\.folds does not go with study\.folds=3"),
        (["study.folds=3", "dataset.split.fold=0,1"], r"dataset\.split\.fold does not go with study\.folds=3"),
        (["study.folds=3", "dataset.split.leave_out=landsat8"], "only one can be had"),
        (["study.folds=3", "study=transfer_region"], r"study\.folds does not go with study\.design=matrix"),
        (["study.folds=3", "study=tune"], r"study\.folds does not go with study\.design=tune"),
        (["dataset.split.folds=3", "dataset.split.fold=0,1"], r"Make one study for each split, or give study\.folds=N"),
        (["dataset.split.val=0.1,0.2"], r"Make one study for each split\.$"),
    ],
)
def test_folds_that_cannot_be(words: Sequence[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        planning(tmp_path, *words, plan=outline)


@pytest.mark.parametrize(
    "study",
    [
        StudyConfig(design=Design.list, arms={"a": ["dataset.split.fold=0"], "b": []}, folds=3),
        StudyConfig(axes={"f": AxisConfig(key="dataset.split.fold", values=[0, 1])}, folds=3),
        StudyConfig(axes={"dataset.split.fold": AxisConfig(values=[0, 1])}, folds=3),
        StudyConfig(axes={"f": AxisConfig(levels={"a": ["dataset.split.fold=1"], "b": []})}, folds=3),
        StudyConfig(base=["dataset.split.fold=1"], axes={"loss": AxisConfig(values=["bce", "dice"])}, folds=3),
    ],
)
def test_folds_among_the_words_of_a_study_are_refused(study: StudyConfig) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.split\.fold does not go with study\.folds=3"):
        outline(study, split(SMALL), door.compose)


# ---- cells


def cells(folds: int) -> Plan:
    each = range(folds) if folds else (None,)
    made = [Cell(arm, seed, (), "", fold=fold) for arm in ("b", "a") for seed in (5, 0) for fold in each]
    return Plan("", "", "", ("b", "a"), (5, 0), tuple(made), folds=folds)


def test_cells_are_named_chosen_and_ordered_by_fold() -> None:
    """Seed by seed, and within it fold by fold: a seed can be compared as soon as it has all."""
    plan = cells(2)
    order = [cell.name for cell in chosen(plan, None)]
    assert order == ["b|5|0", "a|5|0", "b|5|1", "a|5|1", "b|0|0", "a|0|0", "b|0|1", "a|0|1"]
    assert [cell.name for cell in chosen(plan, "a|0")] == ["a|0|0", "a|0|1"]
    assert [cell.name for cell in chosen(plan, "*|1")] == ["b|5|1", "a|5|1", "b|0|1", "a|0|1"]
    assert [cell.name for cell in chosen(plan, "a|5|1")] == ["a|5|1"]
    assert {cell.training for cell in plan.cells} == {f"seed {seed} fold {fold}" for seed in (0, 5) for fold in (0, 1)}
    assert [cell.training for cell in cells(0).cells[:2]] == ["seed 5", "seed 0"]
    with pytest.raises(ConfigError, match=r"ARM\|SEED\.$"):
        chosen(cells(0), "a|0|0")


# ---- what is compared


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    mlruns = tmp_path_factory.mktemp("over_folds") / "mlruns"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> list[TileStore]:
    folder = tmp_path_factory.mktemp("grounds")
    return [studies.ground(folder / str(n), scenes=3, seed=n, first=3 * n) for n in range(FOLDS)]


ARMS = {"plain": (("stretch=plain",), 1.0), "broken": (("stretch=broken",), 0.45)}


@pytest.fixture(scope="module")
def parent(store: Store, grounds: list[TileStore], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, failed = tmp_path_factory.mktemp("made"), {"broken|2|1": "the loss became NaN"}
    return studies.make_study(store, folder, grounds[0], ARMS, seeds=(0, 1, 2), folds=grounds, failed=failed)[0]


@pytest.fixture(scope="module")
def study(store: Store, parent: str) -> Study:
    found = load_study(store, parent)
    assert found is not None
    return found


def compared(store: Store, study: Study, score: str = "test/lake_iou_pooled") -> Comparison:
    runs = [run for arm in study.arms for run in arm.runs]
    return compare(store, runs, measure_of(score), arms=study.arms)


def test_a_seed_counts_with_all_its_folds_pooled_and_not_without_one(store: Store, study: Study) -> None:
    assert [arm.seeds for arm in study.arms] == [[0, 1, 2], [0, 1]]
    assert study.missing == ["broken|2|1 is failed, so that its seed is left out: the loss became NaN"]
    assert over_folds(study.arms) == FOLDS and len(study.trainings) == 17
    found = compared(store, study)
    for row in found.rows:
        for run, value in zip(row.arm.runs, row.values, strict=True):
            assert [part.params["dataset.split.fold"] for part in run.parts] == ["0", "1", "2"]
            tables = [gather(store, [part], "test").tables[part.run_id] for part in run.parts]
            tp, fp, fn = (sum(table[name].sum() for table in tables) for name in ("tp", "fp", "fn"))
            assert value == pytest.approx(tp / (tp + fp + fn))
    assert (found.clusters, found.ground.kind, found.ground.tiles, found.folds) == (9, "scene", 18, FOLDS)
    assert found.rows[1].pairs.shared == (0, 1)
    assert any(note.startswith("cross-validation over 3 folds") for note in found.notes)
    assert found.rows[1].effect is not None and found.rows[1].effect.high < 0


def test_scores_of_lakes_are_of_the_lakes_of_all_folds(store: Store, study: Study) -> None:
    found = compared(store, study, "test/lake_recall")
    run = found.rows[0].arm.runs[0]
    lakes = [gather(store, [part], "test", lakes=True).lakes[part.run_id] for part in run.parts]
    true = pd.concat([table[table["kind"] == "true"] for table in lakes])
    assert found.rows[0].values[0] == pytest.approx(true["matched_any"].mean())


def test_the_report_says_that_seeds_are_over_folds(store: Store, study: Study, tmp_path: Path) -> None:
    page = report(store, study.parent.run_id, folder=tmp_path / "report")
    text = (page.parent / "report.md").read_text()
    assert "3 folds of the ground, each of them test once" in text
    assert "over n seeds, each trained on 3 folds of the ground" in text
    assert "Seed 0 on fold 0 of each arm" in text
    costs, total = costs_of(store, study)
    assert [cost.trainings for cost in costs] == [9, 6] and total.trainings == 17
    rows = (page.parent / "tables" / "runs.csv").read_text().splitlines()
    assert len(rows) == 1 + 9 + 6


def test_no_network_of_a_fold_is_released_or_started_from(store: Store, study: Study) -> None:
    with pytest.raises(ConfigError, match="cross-validation over 3 folds says which setting is best"):
        field_of(store, [study.parent.run_id])
    whole = replace(study, entries={name: entry for name, entry in study.entries.items() if entry.train})
    tags = best_tags(store, whole)
    assert not tags[BEST_TAG] and "train that setting on one split" in tags[BEST_WHY_TAG]
    (run, *_), _, _ = runs_of(store, [part.run_id for part in study.arms[0].runs[0].parts])
    assert over_folds(arms_of([run])) == FOLDS
    with pytest.raises(ConfigError, match="cross-validation"):
        field_of(store, [part.run_id for part in study.arms[0].runs[0].parts])


# ---- runs one by one


def ids(study: Study, arm: int, *seeds: int, folds: Sequence[int] = range(FOLDS)) -> list[str]:
    return [study.arms[arm].runs[seed].parts[fold].run_id for seed in seeds for fold in folds]


def test_runs_on_all_folds_are_compared_as_in_their_study(
    store: Store, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, left, arms = runs_of(store, [*ids(study, 0, 0, 1, 2), *ids(study, 1, 1, 0, folds=(2, 0, 1))])
    assert arms is None and not left
    loose = compare(store, runs, measure_of("test/lake_iou_pooled"))
    of_study = compared(store, study)
    assert [row.arm.seeds for row in loose.rows] == [[0, 1, 2], [0, 1]]
    assert loose.rows[1].effect == of_study.rows[1].effect
    assert verb([*ids(study, 0, 0, 1), *ids(study, 1, 0, 1), "--mlruns", str(store.mlruns)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "18 tiles, 9 scenes; 3 folds" in said and "note: cross-validation over 3 folds" in said


def test_a_seed_that_lacks_a_fold_is_left_out_and_told(store: Store, study: Study) -> None:
    runs, left, _ = runs_of(store, [*ids(study, 0, 0, 1), *ids(study, 0, 2, folds=(0, 2)), *ids(study, 1, 0, 1)])
    a, b = ids(study, 0, 2, folds=(0, 2))
    assert left == [f"seed 2 has folds 0, 2 of 0 to 2 (runs {a[:12]}, {b[:12]}), and is left out"]
    assert [len(run.parts) for run in runs] == [FOLDS] * 4
    each, left, _ = runs_of(store, [*ids(study, 0, 2, folds=(0, 2)), *ids(study, 1, 0, folds=[1])], whole=False)
    assert [len(run.parts) for run in each] == [1, 1, 1] and not left
    with pytest.raises(DataError, match=r"seed 0 has fold 1 of 0 to 2 \(run \w{12}\), and no seed of this setting"):
        runs_of(store, [*ids(study, 0, 0, 1), *ids(study, 1, 0, folds=[1])])


def test_runs_of_one_fold_are_compared_on_it(store: Store, study: Study) -> None:
    runs, left, _ = runs_of(store, [*ids(study, 0, 0, 1, folds=[1]), *ids(study, 1, 0, 1, folds=[1])])
    assert not left and all(len(run.parts) == 1 for run in runs)
    found = compare(store, runs, measure_of("test/lake_iou_pooled"))
    assert (found.clusters, found.folds) == (3, 0)


def test_a_study_and_a_run_of_it_is_the_study(store: Store, study: Study) -> None:
    for references in ([study.parent.run_id, *ids(study, 0, 0)], [*ids(study, 0, 0), study.parent.run_id]):
        runs, _, _ = runs_of(store, references)
        assert sorted(len(run.parts) for run in runs) == [FOLDS] * 5
        assert len({run.run_id for run in runs}) == 5


def loose(run_id: str, seed: int, fold: int, **more: str) -> TrackedRun:
    params = {"seed": str(seed), "dataset.split.folds": "2", "dataset.split.fold": str(fold), "train.epochs": "1"}
    return TrackedRun(run_id * 32, "", params | more, {}, {})


def test_what_is_together_and_what_is_not() -> None:
    a, b, c, d = loose("a", 0, 0), loose("b", 0, 1), loose("c", 1, 0), loose("d", 1, 1)
    other, fixed = loose("e", 0, 0, loss="dice"), TrackedRun("f" * 32, "", {"seed": "0"}, {}, {})
    found, left = together([b, fixed, d, a, c])
    assert [(run.run_id[0], [part.run_id[0] for part in run.parts]) for run in found] == [
        ("a", ["a", "b"]), ("f", ["f"]), ("c", ["c", "d"]),
    ]  # fmt: skip
    assert not left and "dataset.split.fold" not in found[0].params and not found[0].metrics
    assert together([a, c, other]) == ([a, c, other], []), "one fold is as it is"
    with pytest.raises(DataError, match="fold 0 comes twice with seed 0"):
        together([a, replace(a, run_id="9" * 32), b])
    with pytest.raises(DataError, match="no seed of this setting has all"):
        together([a, b, other])
    scored = [replace(run, tags={KIND_TAG: EVALUATION}) for run in (a, b)]
    assert together(scored) == (scored, []), "of evaluations the ground is what they were given"


def test_folds_that_share_a_tile_are_refused(store: Store, study: Study) -> None:
    """Of a study whose data changed between its folds."""
    first, second, _ = study.arms[0].runs[0].parts
    twice = joined([first, replace(second, run_id=first.run_id, files=first.files)])
    with pytest.raises(DataError, match=r"6 tiles \(s0_0\) are test in two of them"):
        gather(store, [twice], "test")


# ---- naive rows


def test_naive_rows_of_all_folds_are_those_of_their_pixels(grounds: list[TileStore]) -> None:
    """From each fold's scores; also where a fold has no lake, where no lake is predicted, and where none is right."""
    labels = [np.array(tiles.labels) for tiles in grounds]
    images = [np.array(tiles.images) for tiles in grounds]
    labels[1][:] = 0
    images[2] = images[2][..., ::-1]  # red and blue exchanged: the index is another one
    made = [
        SimpleNamespace(
            images=image, labels=label, index=tiles.index, manifest={"bands": ["red", "green", "blue"]},
            rows=lambda _: np.arange(len(labels[0])),
        )
        for tiles, image, label in zip(grounds, images, labels, strict=True)
    ]  # fmt: skip
    metrics = [naive_scores(one, "test", fit_rows=np.arange(len(one.labels))) for one in made]  # type: ignore[arg-type]
    tables = [
        pd.DataFrame({"lake_px": [int((label == 1).sum())], "valid_px": [label.size], "fold": fold})
        for fold, label in enumerate(labels)
    ]
    parts = [replace(loose(str(n), 0, n), metrics=one) for n, one in enumerate(metrics)]
    run, table = joined(parts), pd.concat(tables)
    for score in SCORES:
        measure = measure_of(f"test/{score}_pooled")
        found = naive_of_all(arms_of([run]), {run.run_id: table}, measure)
        for name in ("index_threshold", "background"):
            counts = sum(by_hand(one, name, known) for one, known in zip(made, metrics, strict=True))
            expected = float(SCORES[score](counts))
            assert found.get(name, float("nan")) == pytest.approx(expected, nan_ok=True), (score, name)
    for score in ("test/lake_iou_per_scene", "test/lake_recall", "test/region/andes/lake_iou_pooled"):
        assert not naive_of_all(arms_of([run]), {run.run_id: table}, measure_of(score))


def by_hand(tiles: Any, name: str, metrics: dict[str, float]) -> np.ndarray:
    red, green = (tiles.images[..., band].astype(float) for band in (0, 1))
    index = np.divide(green - red, green + red, out=np.zeros_like(red), where=green + red > 0)
    lake = tiles.labels == 1
    predicted = np.zeros_like(lake) if name == "background" else index >= metrics[f"test/naive/{name}/threshold"]
    return np.array(
        [(lake & predicted).sum(), (~lake & predicted).sum(), (lake & ~predicted).sum(), (~lake & ~predicted).sum()]
    )
