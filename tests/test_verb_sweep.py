"""`sweep.py` from words to report, with a trainer that stands in for the network and runs in this process."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import studies
from runs import words

from glidexp import cli, door
from glidexp.config import flat
from glidexp.data.store import TileStore
from glidexp.study import verb_tune
from glidexp.study.comparison.studies import load_study
from glidexp.study.execution import sweep, work
from glidexp.study.execution.launchers.choice import Job, Launcher
from glidexp.study.execution.work import Done, Order, carry_out
from glidexp.study.report import making as report
from glidexp.tracking.multirun import PARENT_VARIABLE
from glidexp.tracking.store import ID_TAG, Store, store_at

pytestmark = pytest.mark.usefixtures("plain_figures")


class Ended(Job):
    """A job that was over when it began."""

    def __init__(self, code: int) -> None:
        self._code = code

    def poll(self) -> int | None:
        return self._code

    def stop(self, number: int) -> None:
        """Nothing is left to stop."""

    kill = close = stop  # type: ignore[assignment]


@dataclass
class Trainer(Launcher):
    """Carries out every order at once, by runs of networks that find lakes as well as their words say."""

    tiles: TileStore
    folder: Path
    broken: bool = True
    """networks of seed 1 that learn by dice fail"""
    dies_at: int = -1
    """after so many runs the sweep is gone"""
    trained: list[str] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def start(self, orders: list[Order]) -> list[Job]:
        jobs: list[Job] = []
        for order in orders:
            if len(self.trained) == self.dies_at:
                raise MemoryError
            self.order = order
            with pytest.MonkeyPatch.context() as patch:
                for name in (*order.environment, PARENT_VARIABLE):
                    patch.setenv(name, os.environ.get(name, ""))
                jobs.append(Ended(carry_out(order)))
        return jobs

    def close(self) -> None:
        """Nothing was started."""

    def train(self, given: tuple[str, ...]) -> Done:
        config = door.compose(list(given))
        store = store_at(config.paths.mlruns, None)
        self.trained.append(self.order.name)
        if self.broken and self.order.name == "loss=dice|1":
            raise ValueError("the network gives NaN")
        tags = {ID_TAG: self.order.key, "mlflow.parentRunId": os.environ[PARENT_VARIABLE]}
        skill = 0.5 + 0.5 * config.loss.bce
        done = studies.leave(store, self.folder / self.order.key, self.tiles, skill, config.seed, flat(config), tags)
        return Done(*done)


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = Trainer(studies.ground(tmp_path / "ground", scenes=6), tmp_path / "left")
    monkeypatch.setattr(sweep, "build_launcher", lambda *_, **__: found)
    monkeypatch.setattr(work, "train", found.train)
    return found


def test_a_study_at_the_door(
    trainer: Trainer,
    small_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mlruns = tmp_path / "mlruns"
    typed = words(small_data, mlruns, "train.compile=off", "train.device=cpu", "loss=bce,dice", "seed=0,1")

    def swept(*more: str) -> tuple[int, str, str]:
        code = cli.guarded(cli.sweep, [*typed, *more])
        told = capsys.readouterr()
        return code, " ".join(told.out.split()), told.err

    code, out, _ = swept("status=true")
    assert (code, trainer.trained) == (0, []) and "study grid loss has not begun with these settings." in out

    code, out, err = swept()
    assert code == 1 and trainer.trained == ["loss=bce|0", "loss=dice|0", "loss=bce|1", "loss=dice|1"]
    assert "2 arms x 2 seeds = 4 runs" in out and "Compare the 3 runs: http" in out
    assert "glidexp: failed: loss=dice|1: ValueError: the network gives NaN" in err
    assert err.strip().splitlines()[-1] == "glidexp: 1 of 4 runs failed: add retry=failed to try them again."
    (page,) = mlruns.glob("studies/*/report/report.html")
    assert f"Report: {page}" in out and "the network gives NaN" in page.read_text()
    store = store_at(str(mlruns), None)
    assert parent(store)["status"] == "FAILED" and parent(store)["name"] == "study grid loss: bce, dice"
    assert f"<h1>Study grid loss: bce, dice ({page.parent.parent.name})</h1>" in page.read_text()
    assert (named := load_study(store, "grid loss")) is not None and named.parent.run_id == parent(store)["id"]

    def noted(store: Store, run_id: str) -> Path:  # a report takes seconds, and what it says was seen above
        trainer.reports.append(run_id)
        return page

    monkeypatch.setattr(report, "report", noted)
    assert swept()[0] == 1 and len(trainer.trained) == 4, "what failed is only named"
    code, out, _ = swept("status=true")
    assert code == 0 and "1/2" in out and "failed: loss=dice|1: ValueError" in out
    code, out, _ = swept("cancel=true")
    assert (
        code == 0 and out.startswith("0 runs of study grid loss were at work or queued") and len(trainer.trained) == 4
    )

    trainer.broken = False
    assert swept("retry=failed", "only='*bce*'")[0] == 1 and len(trainer.trained) == 4, "the failed one is no bce"
    assert swept("retry=failed")[0] == 0 and trainer.trained[4:] == ["loss=dice|1"]
    assert swept()[0] == 0 and len(trainer.trained) == 5, "nothing is run twice"
    found = parent(store)
    assert found["status"] == "FINISHED" and set(trainer.reports) == {found["id"]}
    (again,) = mlruns.glob("studies/*/cells.json")
    assert again.parent == page.parent.parent, "one study, one parent"
    code, _, err = swept("only=focal")
    assert code == 2 and "only=focal names no run" in err


def test_the_best_of_a_search_is_repeated_before_anything_is_claimed(
    trainer: Trainer,
    small_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mlruns = tmp_path / "mlruns"
    fixed = ("augmentation=standard", "optimizer.lr=0.001", "optimizer.weight_decay=0", "train.device=cpu")
    typed = words(small_data, mlruns, "backbone=mobilenetv3", *fixed, "train.compile=off", "loss=bce,dice", "seed=0,1")
    typed = ["study=tune", "study.tune.trials=4", *typed]
    monkeypatch.setattr(verb_tune, "report", lambda store, run_id: trainer.reports.append(run_id))
    trainer.dies_at, trainer.broken = 1, False
    with pytest.raises(MemoryError):
        cli.sweep(typed)
    assert len(trainer.trained) == 1 and not trainer.reports, "nothing is claimed of a search that is not done"
    trainer.dies_at = -1
    capsys.readouterr()
    assert cli.guarded(cli.sweep, typed) == 0
    searched = [name for name in trainer.trained if name.endswith("|1000")]
    assert searched == trainer.trained[:2], "two settings are to be chosen from, each is trained once"
    assert trainer.trained[2:] == ["baseline|0", "best|0", "baseline|1", "best|1"]
    out = capsys.readouterr().out
    (word,) = mlruns.glob("studies/*/search.md")
    said = word.read_text()
    assert said in out and "4 trials, 4 to their end" in said and "no estimate of what the settings give" in said
    best, against = next(line for line in said.splitlines() if line.startswith("| best")), said.splitlines()[-1]
    assert best.endswith("| 2 | loss=bce |")
    assert against.startswith("Best, against the settings it began from: +") and " lake IoU points [" in against
    (repeated,) = trainer.reports
    assert store_at(str(mlruns), None).client.get_run(repeated).info.run_name == "study tune repeated"
    assert cli.guarded(cli.sweep, typed) == 0 and len(trainer.trained) == 6, "the same command trains nothing again"


def parent(store: Store) -> dict[str, Any]:
    """Of the one study there is."""
    wanted = "tags.`glidexp.kind` = 'study'"
    (found,) = store.client.search_runs([store.experiment_id("glidexp")], filter_string=wanted)
    return {"id": found.info.run_id, "status": found.info.status, "name": found.info.run_name}
