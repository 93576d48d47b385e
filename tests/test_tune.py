"""A search: what it may choose, which trials are ended early, and that it goes on after a kill."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from announced import Announced
from search_stub import RATES, SEED, carried_out, search
from search_train import EPOCHS, VAL, quality
from study_stub import key_of, opened, status

from glidexp import door
from glidexp.config.study import Design, StudyConfig
from glidexp.config.tune import SpaceConfig, TuneConfig
from glidexp.errors import ConfigError
from glidexp.study import carry, verb_tune
from glidexp.study.execution.launchers import local as launchers_local
from glidexp.study.execution.ledger import FOLDER, Ledger, Status, study_id
from glidexp.study.plan.space import Choice, edges, space_of
from glidexp.study.plan.words import Words, split
from glidexp.study.tune import search as tune_search
from glidexp.study.tune import show as tune_show
from glidexp.study.tune.journal import JOURNAL, lock_of, written
from glidexp.study.tune.rungs import goes_on, rungs_of
from glidexp.study.tune.search import repeated, tuning
from glidexp.study.tune.trials import Trial, Trials

SPACE = {
    "optimizer.lr": Choice("optimizer.lr", (), 1e-4, 1e-2, log=True),
    "loss": Choice("loss", ("dice", "bce")),
    "train.accumulate": Choice("train.accumulate", (), 1, 4, whole=True),
}


@pytest.fixture(autouse=True)
def light_forkserver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers_local, "PRELOADED", "search_train")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    opened(folder)
    return folder / "mlflow.db"


@pytest.fixture
def mlruns(database: Path, tmp_path: Path) -> Path:
    shutil.copy(database, tmp_path / "mlflow.db")
    return tmp_path


def asked(folder: Path, **options: Any) -> Trials:
    return Trials(folder, SPACE, **({"objectives": 2, "seed": 3, "startup": 3} | options))


# ---- early ends


def test_rungs_grow_by_the_factor_and_leave_out_the_end() -> None:
    assert rungs_of(1, 3, 27) == [1, 3, 9]
    assert rungs_of(2, 2, 9) == [2, 4, 8]
    assert rungs_of(5, 3, 5) == [] and rungs_of(1, 1, 100) == []


def test_the_best_share_goes_on() -> None:
    assert goes_on(0.1, [], 3) and goes_on(0.5, [0.4], 3), "the best of fewer than the factor goes on"
    assert not goes_on(0.3, [0.4], 3)
    six = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert goes_on(0.45, six, 3) and not goes_on(0.35, six, 3)  # two of six
    assert not goes_on(0.5, [0.5], 3), "as good as the best that was there is not better"
    assert not goes_on(float("nan"), [], 3)
    # of draws without order, the share that goes on tends to one in three
    values = [(n * 0.6180339887) % 1 for n in range(3000)]
    on = sum(goes_on(value, values[max(n - 300, 0) : n], 3) for n, value in enumerate(values))
    assert on / len(values) == pytest.approx(1 / 3, abs=0.03)


def test_hours_count_what_early_ends_save() -> None:
    assert tune_show.expected_epochs([], 3, 10) == 10
    assert tune_show.expected_epochs([1, 3], 3, 9) == pytest.approx(1 + 2 / 3 + 6 / 9)


# ---- the space


def test_what_is_typed_changes_the_space() -> None:
    cfg = TuneConfig(
        space={
            "lr": SpaceConfig(key="optimizer.lr", low=0.0001, high=0.01, log=True),
            "loss": SpaceConfig(values=["dice", "bce"]),
            "ema": SpaceConfig(key="train.ema_decay", values=[None, 0.9]),
        }
    )
    found = space_of(cfg, Words((), ()))
    assert edges(found) == [
        "optimizer.lr=0.0001", "optimizer.lr=0.01", "loss=dice", "loss=bce", "train.ema_decay=null",
        "train.ema_decay=0.9",
    ]  # fmt: skip
    typed = split(["loss=focal", "optimizer.lr=0.1,0.2", "augmentation=none,flips", "seed=0,1"])
    assert edges(space_of(cfg, typed)) == [
        "train.ema_decay=null", "train.ema_decay=0.9", "optimizer.lr=0.1", "optimizer.lr=0.2", "augmentation=none",
        "augmentation=flips",
    ]  # fmt: skip
    assert found["optimizer.lr"].word(0.000123456) == "optimizer.lr=0.0001235"
    assert SPACE["train.accumulate"].word(3.0) == "train.accumulate=3"


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"space": {"tile_size": SpaceConfig(values=[128, 256])}}, r"tile_size is not for a search.*same val ground"),
        ({"space": {"e": SpaceConfig(key="train.epochs", low=1, high=9, whole=True)}}, "train.epochs is not for a sea"),
        ({"space": {}}, "study.tune.space is empty"),
        ({"space": RATES, "objectives": ["test/f1_pooled"]}, "judged on val, since test only reports"),
        (
            {"space": RATES, "objectives": [VAL, "train/loss"]},
            "train/loss is not possible. Allowed: train/i",
        ),
    ],
)
def test_a_space_that_cannot_be_searched(cfg: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        space_of(TuneConfig(**cfg), Words((), ()))


@pytest.mark.parametrize(
    "given",
    [{}, {"low": 1.0}, {"values": [1, 2], "low": 1.0, "high": 2.0}, {"low": 2.0, "high": 1.0}, {"values": [1]},
     {"low": 0.0, "high": 1.0, "log": True}, {"low": 0.5, "high": 3.0, "whole": True}, {"values": [1, 2], "log": True}],
)  # fmt: skip
def test_an_entry_that_is_no_choice(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^study\.tune\.space: "):
        SpaceConfig(**given)


def test_the_seed_of_the_search_is_not_met_again() -> None:
    study = StudyConfig(design=Design.tune, seeds=[0, 1], tune=TuneConfig(seed=1, space=RATES))
    with pytest.raises(ConfigError, match=r"^study\.tune\.seed=1 is one of study\.seeds=\[0, 1\]"):
        tuning(study, Words((), ()), door.compose)


# ---- the journal


def test_what_is_drawn_follows_from_the_number_alone(tmp_path: Path) -> None:
    def drawn(folder: Path, *, reopen: bool) -> list[tuple[str, ...]]:
        trials, found = asked(folder), []
        for number in range(6):
            trials = asked(folder) if reopen else trials
            one = trials.ask(6)
            assert one is not None and one.number == number
            trials.complete(number, [0.1 * number, 1.0 - number])
            found.append(one.words)
        assert trials.ask(6) is None
        return found

    first = drawn(tmp_path / "a", reopen=False)
    assert first == drawn(tmp_path / "b", reopen=True)
    assert len(set(first)) == 6, "a search that was begun again drew the same once more"
    for words in first:
        rate, loss, steps = (word.split("=")[1] for word in words)
        assert 1e-4 <= float(rate) <= 1e-2 and loss in ("dice", "bce") and steps in "1234"


def test_a_journal_that_may_only_be_read_is_read_without_a_lock(tmp_path: Path) -> None:
    """Its folder is another user's, or a mounted archive."""
    path = tmp_path / JOURNAL
    path.write_bytes(b'{"whole": 1}\n{"torn')
    lock_of(path).mkdir()  # so that no lock can be had, whoever asks
    assert written(path) == b'{"whole": 1}\n'


def test_the_journal_keeps_all_and_mends_a_torn_line(tmp_path: Path) -> None:
    trials = asked(tmp_path)
    for _ in range(4):
        trials.ask(4)
    trials.complete(0, [0.5, 1.0])
    trials.at_rung(1, 1, 0.1, on=False)
    trials.pruned(1)
    trials.failed(2, "no memory")
    trials.complete(3, [0.4, 2.0])
    trials.complete(0, [0.9, 9.0])  # told twice, by two sweeps: the first word counts
    with (tmp_path / JOURNAL).open("a") as stream:
        stream.write('{"op_code":4,"worker_id"')  # the machine went down here
    again = asked(tmp_path)
    found = again.all()
    assert [one.state for one in found] == ["complete", "pruned", "fail", "complete"]
    assert found[0].values == (0.5, 1.0) and found[1].rungs == {1: (0.1, False)} and found[2].error == "no memory"
    assert [one.number for one in again.front()] == [0, 3], "neither beats the other in both"
    assert again.ask(4) is None
    again.again(2)
    again.again(2)  # a second time changes nothing
    one = again.ask(4)
    assert one is not None and one.words == found[2].words and one.second
    assert again.ask(4) is None and again.all()[2].again


# ---- the search, with runs that stand in for training


def diary(mlruns: Path) -> Counter[str]:
    path = mlruns / "diary"
    return Counter(path.read_text().splitlines() if path.exists() else [])


@pytest.mark.slow
def test_bad_trials_are_ended_and_good_ones_end(mlruns: Path) -> None:
    """Of trials after the third, those of the worse half hang: where they are not ended, this comes to no end."""
    found = search(mlruns, 9)
    ledger = carried_out(found)
    trials = {one.number: one for one in found.trials.all()}
    assert len(trials) == 9 and ledger.complete
    done = {number: one for number, one in trials.items() if one.state == "complete"}
    early = {number: one for number, one in trials.items() if one.state == "pruned"}
    assert len(done) + len(early) == 9 and early
    assert not list((mlruns / "checkpoints").iterdir()), "what was ended early keeps no checkpoints"
    entries = ledger.entries()
    for number, one in trials.items():
        best = quality(float(one.words[0].split("=")[1]))
        assert one.rungs[1][0] == pytest.approx(best / 2)
        if number in early:
            assert not list(one.rungs.values())[-1][1] and all(on for _, on in list(one.rungs.values())[:-1])
            assert entries[one.name + f"|{SEED}"].status is Status.stopped
            assert "is not among the best 1/2" in entries[one.name + f"|{SEED}"].error
        else:
            assert list(one.rungs) == [1, 2] and one.values[0] == pytest.approx(best * EPOCHS / (EPOCHS + 1))
    assert found.trials.front()[0].values[0] == max(one.values[0] for one in done.values())
    parent = found.store.client.get_run(ledger.parent_run_id)
    assert parent.info.status == "FINISHED"
    before = diary(mlruns)
    again = carried_out(search(mlruns, 9))
    assert diary(mlruns) == before and again.parent_run_id == ledger.parent_run_id
    assert study_id(search(mlruns, 10).plan) == ledger.study_id, "more trials are another search"


@pytest.mark.slow
def test_a_search_goes_on_where_it_died(mlruns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies when a trial has its settings and nobody else knows of it, while another one is at work."""
    (mlruns / "halt").touch()
    grow, calls = Ledger.grow, []

    def dies(self: Ledger, cells: Any, **options: Any) -> None:
        calls.append(len(cells))
        if len(calls) == 2:
            raise MemoryError
        grow(self, cells, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "grow", dies)
        with pytest.raises(MemoryError):
            carried_out(search(mlruns, 5), slots=2)
    before = [one.words for one in search(mlruns, 5).trials.all()]
    assert len(before) == 2
    (mlruns / "halt").unlink()
    found = search(mlruns, 5)
    ledger = carried_out(found)
    trials = found.trials.all()
    assert ledger.complete and [one.words for one in trials][:2] == before
    assert len(trials) == 5 and {one.state for one in trials} <= {"complete", "pruned"}
    runs = found.store.client.search_runs([found.store.experiment_id("glidexp")])
    assert len(runs) == 6, "a trial's run was begun a second time, beside the parent"
    assert set(status(found.plan, found.store)) == {cell.name for cell in found.plan.cells}


def test_a_search_goes_on_in_another_store(
    mlruns: Path, database: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warned() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    there = mlruns / "there"
    there.mkdir()
    shutil.copy(database, there / "mlflow.db")
    found = search(mlruns, 3)
    parent = carried_out(found).parent_run_id
    assert parent is not None
    with (mlruns / FOLDER / study_id(found.plan) / JOURNAL).open("ab") as journal:
        journal.write(b'{"torn')
    monkeypatch.setattr(carry, "shown_steps", announced := Announced())
    runs = len(carry.export(found.store, [parent], mlruns / "out"))
    before = [(one.words, one.state, one.values) for one in found.trials.all()]
    carry.bring(opened(there), mlruns / "out")
    assert announced.works == {"export": [runs, runs], "import": [runs, runs]} and runs > 3
    brought = search(there, 3)
    assert [(one.words, one.state, one.values) for one in brought.trials.all()] == before
    assert carried_out(brought).complete and not diary(there), "a trial was trained again"
    more = search(there, 5)
    assert carried_out(more).complete
    assert len([line for line in diary(there) if line.startswith("begun")]) == 2, "it did not go on"
    carry.bring(opened(there), mlruns / "out")
    assert len(search(there, 5).trials.all()) == 5 and not warned(), "an older journal is no news"
    (own,) = (mlruns / "out").rglob(JOURNAL)
    own.write_bytes(own.read_bytes() + b'{"op_code": 0}\n')
    carry.bring(opened(there), mlruns / "out")
    assert len(search(there, 5).trials.all()) == 5
    (said,) = warned()
    assert said.startswith(f"The search {study_id(found.plan)} has gone on in this store otherwise")


def test_failed_trials_are_tried_again_on_request(mlruns: Path) -> None:
    space = {"loss": SpaceConfig(values=["broken", "well"])}
    found = search(mlruns, 3, space, factor=1)
    ledger = carried_out(found)
    failed = [one for one in found.trials.all() if one.state == "fail"]
    assert failed and failed[0].error == "ValueError: the network gives NaN"
    others = {one.error for one in failed[1:]}  # of the same settings, whose run is there already
    assert others <= {"its run is marked FAILED"}
    assert set(ledger.failed) == {f"{one.name}|{SEED}" for one in failed}
    (mlruns / "mended").touch()
    again = search(mlruns, 3, space, factor=1)
    for one in failed:
        again.trials.again(one.number)
    carried_out(again)
    second = [one for one in again.trials.all() if one.second]
    assert [one.words for one in second] == [one.words for one in failed]
    assert {one.state for one in second} == {"complete"}
    path = tune_show.write_trials(again.tuning, again.trials.all(), mlruns)
    lines = path.read_text().splitlines()
    assert lines[0] == "trial,state,val/lake_iou_pooled,train/images_per_s,loss,error"
    assert len(lines) == 1 + 3 + len(failed)


def test_settings_that_cannot_run_are_composed_once_and_are_no_run_to_come(
    mlruns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[tuple[str, ...]] = []

    def refused(arms: Any, base: Any, compose: Any) -> Any:
        composed.append(arms[0].words)
        raise ConfigError("tiles of 32 px are too small")

    stub = search(mlruns, 3, {"loss": SpaceConfig(values=["dice", "bce"])}, factor=1)
    found = tune_search.Search(stub.tuning, stub.trials, stub.store, "glidexp")
    assert found.most == 3
    monkeypatch.setattr(tune_search, "checked", refused)
    for _ in range(5):  # looks of a sweep with free places
        assert found.more(2) == []
    assert len(composed) == 3 == len(found.trials.all()) and found.most == 0
    assert {one.error for one in found.trials.all()} == {"tiles of 32 px are too small"}


def test_the_best_are_several_settings_each_once(mlruns: Path) -> None:
    """A small space has the same drawn again, and of one objective only the best is beaten by none."""
    values = {"resnet18": 0.5, "resnet34": 0.6, "fcn": 0.4}
    space = {"backbone": SpaceConfig(values=[*values])}

    def tried(found: Any, objectives: int) -> list[str]:
        while (one := found.trials.ask(12)) is not None:
            score = values[one.words[0].removeprefix("backbone=")]
            found.trials.complete(one.number, [score, 1 - score][:objectives])
        return [one.words[0].removeprefix("backbone=") for one in found.best()]

    def key(name: str) -> str:
        return key_of((f"mlruns={mlruns / name}", "backbone=resnet18", f"seed={SEED}"))

    assert tried(search(mlruns / "a", 12, space, objectives=(VAL,), repeat=2), 1) == ["resnet34", "resnet18"]
    assert tried(search(mlruns / "b", 12, space, repeat=3), 2) == ["resnet34", "resnet18", "fcn"]
    began = {"baseline": key("c"), "repeat": 3}
    assert tried(search(mlruns / "c", 12, space, objectives=(VAL,), **began), 1) == ["resnet34"], "worse than it began"
    assert tried(search(mlruns / "d", 12, space, **{**began, "baseline": key("d")}), 2) == ["resnet34", "fcn"]


def test_settings_in_brackets_are_shown(
    mlruns: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`[sentinel2]` is a list of sensors, and no style of the console."""
    monkeypatch.setenv("COLUMNS", "160")
    found = search(mlruns, 3, {"loss": SpaceConfig(values=["dice", "bce"])})
    trials = [Trial(n, ("x.sensors=[sentinel2]",), "fail", (), {}, "[rank0] no memory", n == 0, n == 1) for n in (0, 1)]
    tune_show.show_trials(found.tuning, trials)
    shown = capsys.readouterr().out
    assert "x.sensors=[sentinel2]" in shown and "[rank0]" in shown
    assert "1 of 3 trials" in shown, "a trial that was tried again counts once"


# ---- at the door


def test_a_search_is_checked_and_its_best_repeated_as_an_ordinary_study(small_data: Path, tmp_path: Path) -> None:
    from runs import words

    sweep = door.compose_sweep(["study=tune", "study.tune.trials=4", "study.tune.space.lr.low=0.001"])
    typed = split(
        [
            *words(small_data, tmp_path / "mlruns", "backbone=mobilenetv3"),
            "loss=bce,dice",
            "optimizer.weight_decay=0",
            "seed=4,5",
        ]
    )
    found = tuning(sweep.study, typed, door.compose)
    assert [one.name for one in found.edges.arms] == [
        "baseline", "augmentation=standard", "augmentation=flips", "augmentation=strong", "optimizer.lr=0.001",
        "optimizer.lr=0.01", "loss=bce", "loss=dice",
    ]  # fmt: skip
    assert found.seeds == (4, 5) and found.rungs == [1] and "seed" not in " ".join(found.base)
    assert {cell.seed for cell in found.edges.plan.cells} == {1000}
    trials = asked(tmp_path / "journal")
    one = trials.ask(1)
    assert one is not None
    planned = repeated(found, [one])
    assert planned.plan.arms == ("baseline", "best") and planned.plan.seeds == (4, 5)
    best = [cell for cell in planned.plan.cells if cell.arm == "best"]
    assert set(one.words) <= set(best[0].words) and best[1].words[-1] == "seed=5"
    assert planned.plan.primary == "test/lake_iou_pooled" and len({cell.key for cell in planned.plan.cells}) == 4


def test_a_search_takes_no_pattern_of_arms() -> None:
    sweep = door.compose_sweep(["study=tune", "only=best"])
    with pytest.raises(ConfigError, match=r"only does not go with study\.design=tune"):
        verb_tune.run(sweep, Words((), ()), door.compose)
