"""A study is carried out: nothing twice, nothing lost, whoever is killed; and what failed is named."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import pytest
import study_stub

from glidexp.config.launcher import LauncherConfig
from glidexp.errors import ConfigError
from glidexp.study import launchers_local
from glidexp.study.cells import Cell, Plan
from glidexp.study.execute import chosen, execute
from glidexp.study.ledger import Ledger, Status
from glidexp.study.work import Order
from glidexp.tracking.store import Store, open_store


@pytest.fixture(autouse=True)
def light_forkserver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in needs no torch."""
    monkeypatch.setattr(launchers_local, "PRELOADED", "study_stub")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)


def plan(mlruns: Path, ends: dict[str, str], seeds: int = 2) -> Plan:
    """Arms by name, each with how its runs end."""
    cells = []
    for arm, end in ends.items():
        for seed in range(seeds):
            words = (f"mlruns={mlruns}", f"arm={arm}", f"end={end}", f"seed={seed}")
            cells.append(Cell(arm, seed, words, study_stub.key_of(words)))
    return Plan("stub", "Does it go on?", study_stub.SCORE, tuple(ends), tuple(range(seeds)), tuple(cells))


def stubbed(order: Order) -> Order:
    return dataclasses.replace(order, train="study_stub:train", score="study_stub:score")


def carried_out(plan: Plan, store: Store, cfg: LauncherConfig | None = None, **options: object) -> Ledger:
    return execute(plan, store, cfg or LauncherConfig(), prepare=len, order=stubbed, **options)  # type: ignore[arg-type]


def diary(mlruns: Path) -> Counter[str]:
    return Counter((mlruns / "diary").read_text().splitlines())


def test_finished_ones_are_skipped_killed_ones_go_on_and_failed_ones_are_named(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"good": "well", "dies": "killed", "bad": "error", "wrong": "refused"})
    ledger = carried_out(study, store)
    status = {name: entry.status for name, entry in ledger.entries().items()}
    assert status == {
        "good|0": "finished", "good|1": "finished", "dies|0": "finished", "dies|1": "finished",
        "bad|0": "failed", "bad|1": "failed", "wrong|0": "failed", "wrong|1": "failed",
    }  # fmt: skip
    assert ledger.failed["bad|0"] == "ValueError: the network gives NaN"
    assert ledger.failed["wrong|1"].startswith("train.batch_size=5000 is more than")
    assert not ledger.complete
    parent = store.client.get_run(ledger.parent_run_id)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["glidexp.error"] == "4 of 8 runs failed: bad|0, bad|1, wrong|0, wrong|1"
    before = diary(tmp_path)
    dies = {study_stub.key_of(cell.words) for cell in study.cells if cell.arm == "dies"}
    assert {key: before[f"begun {key}"] for key in dies} == dict.fromkeys(dies, 2)
    runs = store.client.search_runs([store.experiment_id("glidexp")])
    assert len(runs) == 7, "a run that went on was begun a second time"

    again = carried_out(study, store)
    assert diary(tmp_path) == before, "a finished or failed run was begun once more"
    assert again.parent_run_id == ledger.parent_run_id
    assert again.failed == ledger.failed

    (tmp_path / "mended").touch()
    only = carried_out(study, store, retry_failed=True, only="bad*")
    assert set(only.failed) == {"wrong|0", "wrong|1"}
    assert only.entries()["bad|1"].status is Status.finished
    assert only.entries()["bad|1"].score == random.Random(study.cells[5].key).random()


def test_the_log_of_a_run_is_kept(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"bad/worse": "error"}, seeds=1)
    ledger = carried_out(study, store)
    assert "ValueError: the network gives NaN" in ledger.log_path(study.cells[0]).read_text()


def test_only_takes_arms_and_cells(tmp_path: Path) -> None:
    study = plan(tmp_path, {"resnet18": "well", "resnet34": "well", "mit_b0": "well"})
    assert [cell.name for cell in chosen(study, "resnet*")] == ["resnet18|0", "resnet34|0", "resnet18|1", "resnet34|1"]
    assert [cell.name for cell in chosen(study, "mit_b0|1")] == ["mit_b0|1"]
    with pytest.raises(ConfigError, match=r"only=vgg names no run: .*resnet18, resnet34, mit_b0"):
        chosen(study, "vgg")
