"""What a person sees of a study at work: a table on a terminal, a line for each end elsewhere."""

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from glidexp.study.execution import live
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import Ledger, Status
from glidexp.study.execution.live import Live, clock, table
from glidexp.study.execution.pace import seconds_to_go

ARMS = ("backbone=resnet18 loss=dice", "backbone=mit_b0 loss=dice", "backbone=mobilenetv3 loss=dice")


class Clock:
    """Stands in for the time."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(live, "time", found)
    return found


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Three arms of two seeds: one done, one with a failure, one of which nothing is known yet."""
    cells = tuple(Cell(arm, seed, (), f"{arm}{seed}") for seed in (0, 1) for arm in ARMS)
    plan = Plan("depth", "Which?", "test/lake_iou_pooled", ARMS, (0, 1), cells)
    store: Any = SimpleNamespace(mlruns=tmp_path)
    found = Ledger(plan, store, "glidexp")
    found.begin()
    for cell, score in zip((cells[0], cells[3]), (0.5, 0.7), strict=True):
        found.update(cell, status=Status.finished, score=score, seconds=61.0)
    found.update(cells[1], status=Status.finished, score=0.25)
    found.update(cells[4], status=Status.failed, error="no memory [here]")
    return found


def cell_of(ledger: Ledger, arm: int, seed: int) -> Cell:
    return next(cell for cell in ledger.plan.cells if (cell.arm, cell.seed) == (ARMS[arm], seed))


def printed(console: Console) -> list[list[str]]:
    """Cells of the lines that were printed."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]


def test_the_table_has_seeds_done_score_failures_and_what_runs(ledger: Ledger) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    ledger.update(cell_of(ledger, 2, 0), status=Status.running)
    ledger.update(cell_of(ledger, 2, 1), status=Status.stopped)
    console.print(table(ledger))
    rows = printed(console)
    assert ["resnet18", "2/2", "", "0.6000 (0.1414)", ""] in rows
    assert ["mit_b0", "1/2", "1", "0.2500", ""] in rows
    assert ["mobilenetv3", "0/2", "", "", "seed 0 at work; stopped early"] in rows
    console.print(table(ledger, {}, "mine [again]"))
    assert "mine [again]" in console.export_text(clear=False)
    rows = printed(console)
    assert ["mobilenetv3", "0/2", "", "", "seed 0 elsewhere; stopped early"] in rows, "in a sweep of its own"


def test_an_arm_in_brackets_keeps_its_name(tmp_path: Path) -> None:
    """`[andes]` is a list of regions, and no style of the console."""
    arms = ("subset.regions=[andes]", "subset.regions=[alaska]")
    cells = tuple(Cell(arm, 0, (), arm) for arm in arms)
    store: Any = SimpleNamespace(mlruns=tmp_path)
    console = Console(width=100, record=True, file=io.StringIO())
    plan = Plan("regions", "Which?", "test/lake_iou_pooled", arms, (0,), cells)
    console.print(table(Ledger(plan, store, "glidexp"), {cells[0].name: "seed 0 [half]"}))
    assert ["[andes]", "0/1", "", "", "seed 0 [half]"] in printed(console)


def test_a_terminal_is_shown_a_table_that_goes_and_lines_that_stay(
    ledger: Ledger, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {cell_of(ledger, 2, 0).name: 0.5}
    monkeypatch.setattr(Ledger, "progress", lambda self, cell: shares.get(cell.name))
    console = Console(width=100, record=True, force_terminal=True, file=io.StringIO())
    shown: list[Any] = []
    with Live(ledger, console) as found:
        assert found._live is not None
        monkeypatch.setattr(found._live, "update", lambda what, refresh: shown.append(what))
        half, new = cell_of(ledger, 2, 0), cell_of(ledger, 2, 1)
        found.begin([half, new], [])
        found.show([half], 1, 2)  # the share of it is asked for the first time
        time.now += live.REFRESH_S / 2
        found.show([half, new], 0, 2)
        assert len(shown) == 1, "not so soon again"
        time.now += live.PROGRESS_S + 110
        found.show([half, new], 0, 2)
        ledger.update(half, status=Status.finished, score=0.9, seconds=180.0)
        found.ended(half, ledger.entries()[half.name])
        time.now += 2 * live.REFRESH_S
        found.show([new], 1, 2)
        ledger.update(new, status=Status.failed, error="no memory [here]")
        found.ended(new, ledger.entries()[new.name])
    told = console.export_text()
    assert f"[5/6] {half.name} finished in 3:00, test/lake_iou_pooled 0.9000" in told
    assert f"[6/6] {new.name} failed: no memory [here] (log: " in " ".join(told.split())
    assert told.rstrip().endswith("┘"), "the last table stays"
    texts = []
    for one in shown:
        page = Console(width=100, record=True, file=io.StringIO())
        page.print(one)
        texts.append((str(one.title), page.export_text()))
    assert "seed 0 50%, 2:00 to go; seed 1 since 2:00" in texts[1][1], "half of it took as long"
    # a run took 2:00.5; the second one has been at work for 2:02, and one waits, for which the other place is free
    assert texts[2][0] == "study depth: about 2:00 to go" and "seed 1 0:00 to go" in texts[2][1]


def test_without_a_terminal_there_are_lines(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    with caplog.at_level(logging.INFO, "glidexp"), Live(ledger, console) as found:
        found.begin([cell_of(ledger, 2, 0), cell_of(ledger, 2, 1)], [cell_of(ledger, 0, 0)])
        found.show([cell_of(ledger, 2, 0)], 1, 2)
        done = cell_of(ledger, 0, 0)
        found.ended(done, ledger.entries()[done.name])
    begun, ended = (record.getMessage() for record in caplog.records)
    assert begun.startswith(f"study depth ({ledger.study_id}): 3 arms x 2 seeds, 6 runs; 2 to run, 1 at work in other")
    assert begun.endswith("; 3 finished, 1 failed")
    assert ended == f"[4/6] {done.name} finished in 1:01, test/lake_iou_pooled 0.5000"
    assert not console.export_text()


def test_every_end_has_a_number_of_its_own(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """Runs write their ends into `cells.json` themselves, before the sweep looks at the first of them."""
    again, first, second = cell_of(ledger, 1, 1), cell_of(ledger, 2, 0), cell_of(ledger, 2, 1)
    page = Console(file=io.StringIO())
    with caplog.at_level(logging.INFO, "glidexp"), Live(ledger, page, most=9) as found:  # as of a search of nine trials
        found.begin([again, first, second], [])  # one failed before, and is tried once more
        found.ended(again, ledger.update(again, status=Status.killed, error=""))  # which is no end
        ends = [ledger.update(cell, status=Status.finished, score=0.5) for cell in (first, second)]
        for cell, entry in zip((first, second), ends, strict=True):
            found.ended(cell, entry)
        found.ended(again, ledger.update(again, status=Status.failed, error="no memory"))
    told = [record.getMessage().split(" (log")[0] for record in caplog.records[1:]]
    assert told == [
        f"{again.name} killed",
        f"[4/9] {first.name} finished, test/lake_iou_pooled 0.5000",
        f"[5/9] {second.name} finished, test/lake_iou_pooled 0.5000",
        f"[6/9] {again.name} failed: no memory",
    ]


def test_a_search_tells_its_budget_and_the_time_of_trials_that_nobody_has_asked_for(
    ledger: Ledger, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(width=100, record=True, force_terminal=True, file=io.StringIO())
    first, second = cell_of(ledger, 2, 0), cell_of(ledger, 2, 1)
    titles: list[str] = []
    monkeypatch.setattr(Ledger, "progress", lambda self, cell: None)
    with Live(ledger, console, most=9) as found:
        assert found._live is not None
        monkeypatch.setattr(found._live, "update", lambda what, refresh: titles.append(str(what.title)))
        found.begin([first, second], [])
        found.show([first], 1, 1)
        time.now += 60
        found.ended(first, ledger.update(first, status=Status.stopped, error="ended early", seconds=60.0))
        found.show([second], 0, 1)
    # four were done before; of nine one is at work and three are to be proposed, each a minute
    assert titles == ["study depth: 4 of 9 trials ended", "study depth: 5 of 9 trials ended, about 4:00 to go"]


def test_the_last_run_is_not_shared_out_among_places() -> None:
    assert seconds_to_go([100.0], [], 32) == 100
    assert seconds_to_go([], [60.0] * 9, 8) == 120, "the ninth run waits for a place"
    assert seconds_to_go([30.0, 10.0], [60.0, 60.0], 2) == 90
    assert seconds_to_go([5.0, 5.0, 5.0], [1.0], 2) == 6, "three are at work where two may be"


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.6, 125, 3 * 3600 + 125)] == ["0:00", "1:00", "2:05", "3:02:05"]
