"""What is shown while a run works: never silent for long, and with a time that takes all that is left into account."""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from announced import Announced
from rich.console import Console
from test_check import scenery, write
from test_loop import config

from glidexp.data import leakage, steps
from glidexp.data.check import met as met_module
from glidexp.data.check.met import met
from glidexp.data.steps import Pace, shown_stage, shown_steps, span
from glidexp.data.store import TileStore
from glidexp.data.writer import StoreWriter, measured
from glidexp.scoring.naive import naive_scores
from glidexp.scoring.predictions import Predictions
from glidexp.training import final, progress
from glidexp.training.beginning.earlier import restore
from glidexp.training.device import resolve
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import plain
from glidexp.training.progress import Meter, scoring

LOSS = torch.tensor(0.5)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for module in (steps, progress):
        monkeypatch.setattr(module, "time", found)
    return found


class Lines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    logger, handler = logging.getLogger("glidexp"), Lines()
    caplog.set_level(logging.INFO, logger="glidexp")
    logger.addHandler(handler)
    yield handler.said
    logger.removeHandler(handler)


def evaluator(tmp_path: Path, tiles: int = 12) -> Evaluator:
    store = write(tmp_path / "store", scenery(tiles, seed=3))
    runtime = resolve(config())
    return Evaluator(store, np.arange(tiles), plain([0.0] * 3, [1.0] * 3, runtime), runtime, 4)


class Network(torch.nn.Module):
    """Takes a minute for a batch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.clock.now += 60
        return image[:, :1]


def test_a_pace_is_quick_at_first_and_never_silent_for_long(clock: Clock) -> None:
    pace, due = Pace(), []
    for second in range(2 * 3600):
        clock.now = 1000.0 + second
        if pace.due():
            due.append(second)
    assert due[:6] == [30, 60, 120, 240, 480, 960]
    assert set(np.diff(due[6:])) == {600}


@pytest.mark.parametrize(
    ("seconds", "said"), [(7, "7 s"), (99, "99 s"), (119, "2 min"), (12000, "3 h 20 min"), (450000, "5 d 5 h")]
)
def test_a_span_is_told_in_units_of_its_size(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_late_steps_say_nothing_of_short_work(clock: Clock, lines: list[str]) -> None:
    with shown_steps(100, "tiles", True, what="checking", late=True) as step:
        for _ in range(100):
            clock.now += 0.2
            step("")
    assert not lines
    with shown_steps(100, "tiles", True, what="checking", late=True) as step:
        for _ in range(100):
            clock.now += 2
            step("")
    assert lines == [
        "checking: 15 of 100 tiles done, about 3 min left",
        "checking: 30 of 100 tiles done, about 3 min left",
        "checking: 60 of 100 tiles done, about 80 s left",
    ]


def test_a_stage_is_told_as_it_begins_and_with_its_time_where_it_took_some(clock: Clock, lines: list[str]) -> None:
    for what, seconds in (("model.onnx", 45.0), ("card", 0.4)):
        with shown_stage(what):
            assert lines[-1] == what
            clock.now += seconds
    for seconds in (0.4, 45.0):
        with shown_stage("writing", late=True):
            assert lines[-1] == "card"
            clock.now += seconds
    assert lines == ["model.onnx", "model.onnx: 45 s", "card", "writing: 45 s"]


def test_the_seconds_of_a_stage_run_on_a_terminal(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console", lambda stderr: Console(file=seen, force_terminal=True, width=60, legacy_windows=False)
    )
    monkeypatch.setattr(steps, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    with shown_stage("model [onnx]"):
        assert not lines
    assert "model [onnx]" in seen.getvalue() and "0:00:00" in seen.getvalue()
    assert lines == ["model [onnx]: 0 s"]


def test_the_search_for_ground_on_two_sides_tells_of_all_that_it_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = Announced()
    for module in (met_module, leakage):
        monkeypatch.setattr(module, "shown_steps", announced)
    store = write(tmp_path / "store", scenery(24, seed=3))
    assert len(met(store, tmp_path / "memory")) == 0
    assert announced.works == {"ground": [24, 24], "looks": [24, 24], "copies": [1, 1]}
    met(store, tmp_path / "memory")
    assert announced.works["looks"] == [24, 24], "it is remembered"
    leakage.known_ground(store, store.rows("train"), "train")
    assert announced.works["ground"] == [24 + len(store.rows("train"))] * 2


def test_masks_and_naive_rows_are_told_of_tile_by_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(tmp_path / "store", scenery(12, seed=3))
    rows = store.rows("test")
    seen = Predictions("test", store, rows, np.zeros((len(rows), 2, 256), np.int64), store.labels[rows], 0.5)
    monkeypatch.setattr(final, "shown_steps", announced := Announced())
    masks = final._masks(tmp_path / "masks", seen)
    assert len(rows) == len(list(masks.iterdir())) > 1
    assert announced.works == {"masks of test": [len(rows)] * 2}
    told: list[int] = []
    assert naive_scores(store, "test", told=told.append) == naive_scores(store, "test")
    assert sum(told) == len(rows)


def test_steps_may_be_told_several_at_once(clock: Clock, lines: list[str]) -> None:
    with shown_steps(40, "tiles", True) as step:
        for name in "abcde":
            clock.now += 1
            step(name, 8)
    assert [line.split(",")[0] for line in lines] == [
        f"tiles: {8 * n} of 40 tiles done ({'abcde'[n - 1]})" for n in range(1, 6)
    ]


def test_parts_of_a_step_are_told_of_as_whole_ones(clock: Clock, lines: list[str]) -> None:
    with shown_steps(3, "scenes", True, what="map") as step:
        for name in "abc":
            for _ in range(7):
                clock.now += 10
                step(name, Fraction(1, 7))
    assert lines[1:4] == [
        "map: 0 of 3 scenes done (a), about 3 min left",  # 5 of 21 rows in 50 s
        "map: 1 of 3 scenes done (a), about 3 min left",  # 7 in 70 s
        "map: 1 of 3 scenes done (b), about 2 min left",  # 9 in 90 s
    ]
    assert len(lines) == 10 and lines[-1] == "map: 3 of 3 scenes done (c)"


def test_a_bar_knows_an_eta_where_a_step_takes_minutes(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """From the first on; rich has no speed before the second, and forgets what is older than 30 s."""
    import rich.progress

    seen: list[Any] = []
    left: list[str] = []

    def shown_left(bar: int) -> str:
        return str(seen[bar].columns[-1].render(seen[bar].tasks[0]).plain)

    init = rich.progress.Progress.__init__

    def kept(self: Any, *args: Any, **words: Any) -> None:
        init(self, *args, **words, get_time=clock.monotonic, auto_refresh=False)
        seen.append(self)

    monkeypatch.setattr(rich.progress.Progress, "__init__", kept)
    monkeypatch.setattr(steps, "sys", SimpleNamespace(stderr=SimpleNamespace(isatty=lambda: True)))
    with shown_steps(10, "scenes", True) as step:
        for name in "abc":
            clock.now += 120
            step(name)
            left.append(shown_left(0))
        clock.now += 30
        left.append(shown_left(0))
    assert left == [f"about {span(120 * n)} left" for n in (9, 8, 7)] + ["about 14 min left"]
    left.clear()
    with shown_steps(10, "scenes", True) as step:
        for name in "abcd":
            step(name, before=True)
        for name in "efg":
            clock.now += 120
            step(name)
            left.append(shown_left(1))
        step("h", before=True)
        left.append(shown_left(1))
    assert left == [f"about {span(120 * n)} left" for n in (5, 4, 3, 2)], "one of before takes no speed away"


def test_what_was_done_before_took_no_time(clock: Clock, lines: list[str]) -> None:
    """Of a work that goes on, what is left is judged by what this process did."""
    with shown_steps(10, "scenes", True, what="map") as step:
        for name in "abcdef":
            step(name, before=True)
        for name in "ghij":
            clock.now += 120
            step(name)
    assert lines == [
        "map: 7 of 10 scenes done (g), about 6 min left",
        "map: 8 of 10 scenes done (h), about 4 min left",
        "map: 9 of 10 scenes done (i), about 2 min left",
        "map: 10 of 10 scenes done (j)",
    ]


def test_a_long_epoch_is_told_of_with_the_time_that_is_left(clock: Clock, lines: list[str], tmp_path: Path) -> None:
    meter, judged = Meter(3, 100), evaluator(tmp_path)
    with meter, meter.scoring(judged):
        meter.start_epoch(0, done=0)
        for _ in range(100):
            clock.now += 10
            meter.step(4, LOSS)
        assert lines[0] == "epoch 1/3: 3 of 100 batches, loss 0.5000  0.4 images/s  about 50 min left"
        assert len(lines) == 6
        assert meter.left_s() == 200 * 10 + 3 * 12 * (10 / 4) / 3  # scoring a tile as a third of training on it
        judged.histograms(Network(clock))  # three batches of a minute
        meter.start_epoch(1, done=0)
        clock.now += 10
        meter.step(4, LOSS)
        assert meter.left_s() == 199 * 10 + 2 * 180


def test_what_an_earlier_process_did_was_not_done_in_no_time(clock: Clock) -> None:
    meter = Meter(4, 100)
    meter.start_epoch(2, done=50)
    assert np.isnan(meter.left_s())
    clock.now += 10
    meter.step(4, LOSS)
    assert meter.left_s() == 149 * 10


def test_scoring_is_told_of_between_epochs_and_at_the_end(clock: Clock, lines: list[str], tmp_path: Path) -> None:
    judged, network = evaluator(tmp_path), Network(clock)
    meter = Meter(1, 10)
    with meter, meter.scoring(judged):
        meter.start_epoch(0, done=0)
        judged.histograms(network)
    assert lines == [f"epoch 1/1: {n} of 12 val tiles scored" for n in (4, 8)]  # and after four minutes
    with scoring(judged, "test"):
        judged.histograms(network)
    assert lines[2:] == [
        "scoring test: 4 of 12 tiles done, about 2 min left",
        "scoring test: 8 of 12 tiles done, about 60 s left",
    ]
    judged.histograms(network)
    assert len(lines) == 4, "nobody is told when nobody asked"


def test_a_terminal_has_the_same_in_its_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(force_terminal=True, file=io.StringIO()))
    meter, judged = Meter(1, 10), evaluator(tmp_path)
    meter.start_epoch(0, done=4)
    for _ in range(3):
        clock.now += 100
        meter.step(4, LOSS)
    assert meter._bar is not None
    task = meter._bar.tasks[0]
    assert task.completed == 7 and task.fields["note"] == "loss 0.5000  0.0 images/s  about 5 min left"
    with meter.scoring(judged):
        judged.histograms(Network(clock))
    assert re.fullmatch("val tiles scored: 12/12", task.fields["note"])


def test_tiles_that_move_up_are_told_of(tmp_path: Path) -> None:
    """One tile taken out of the front of GLID lets 19 GB move: half a minute of silence at the end of an import."""
    told: list[Any] = []

    @contextmanager
    def steps(total: int) -> Iterator[Any]:
        told.append(total)
        yield told.append

    rows = [np.full((16, 16, 3), i, np.uint8) for i in range(5)]
    record = {"scene": "", "sensor": "", "region": "", "gsd_m": 1.0, "row": -1, "col": -1, "block": "", "split": ""}
    for gone in (None, 1):
        folder = tmp_path / f"{gone}"
        with StoreWriter(folder, tile_px=16, bands=["red", "green", "blue"]) as sink:
            for i, image in enumerate(rows):
                label = np.zeros((16, 16), np.uint8)
                about = record | {"tile": f"t{i}", "transform": None, "crs": ""}
                sink.append(measured(image, label), about, group=i)
            sink.settle({i: None if i == gone else ("g", "train") for i in range(5)}, steps)
            sink.close({"recipe": {}, "recipe_id": "0", "split_hash": "0"})
        kept = [i for i in range(5) if i != gone]
        assert TileStore.open(folder).images[:, 0, 0, 0].tolist() == kept
        assert told == ([] if gone is None else [8, *[""] * 8])


def test_a_run_that_was_killed_in_its_final_scoring_goes_on_in_no_epoch(lines: list[str]) -> None:
    """It said that it went on in epoch 4 of 3."""
    for epoch, said in (
        (2, "goes on in epoch 3 after batch 0"),
        (3, "its training is over: the final scoring is done anew"),
    ):
        parts = SimpleNamespace(restore=lambda _: None, history=[], position=SimpleNamespace(epoch=epoch, batch=0))
        checkpoints = SimpleNamespace(sweep=lambda: None, load=dict)
        recorder = SimpleNamespace(again=lambda _: None, config=SimpleNamespace(train=config(epochs=3)))
        restore(parts, checkpoints, recorder)  # type: ignore[arg-type]
        assert lines.pop() == said
