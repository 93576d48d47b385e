"""A search over stand-ins for training. Not a test."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from search_train import EPOCHS, SPEED, VAL
from study_stub import key_of, opened

from glidexp.config import Config, TrainConfig
from glidexp.config.launcher import LauncherConfig
from glidexp.config.study import Design, StudyConfig
from glidexp.config.tune import SpaceConfig, TuneConfig
from glidexp.study.execution import sweep
from glidexp.study.execution.cells import Cell
from glidexp.study.execution.execute import execute
from glidexp.study.execution.ledger import FOLDER, Ledger, study_id
from glidexp.study.plan.space import space_of
from glidexp.study.plan.words import Words
from glidexp.study.tune.search import Search, Tuning
from glidexp.study.tune.trials import Trial, Trials

SEED = 7
RATES = {"lr": SpaceConfig(low=1e-5, high=1e-1, log=True)}


class StubSearch(Search):
    """Its runs are named as `train` here names them, and nothing is composed."""

    def _cell(self, trial: Trial) -> Cell | None:
        words = (*self.tuning.base, *trial.words, f"seed={SEED}")
        return self._cells.setdefault(trial.number, Cell(trial.name, SEED, words, key_of(words)))


def search(
    mlruns: Path,
    trials: int,
    space: dict[str, SpaceConfig] | None = None,
    *,
    factor: int = 2,
    objectives: tuple[str, ...] = (VAL, SPEED),
    repeat: int = 1,
    baseline: str = "0" * 16,
) -> StubSearch:
    """A search as it lies on disk; `baseline`: key of the settings that it begins from."""
    names = {"seed": SEED, "startup": 4, "first_rung": 1, "factor": factor}
    names |= {"repeat": repeat}
    cfg = TuneConfig(space=space or RATES, trials=trials, objectives=[*objectives], **names)  # type: ignore[arg-type]
    edges: Any = SimpleNamespace(
        baseline=Config(train=TrainConfig(epochs=EPOCHS)),
        plan=SimpleNamespace(cells=[Cell("baseline", SEED, (), baseline)]),
    )
    study = StudyConfig(name="search", design=Design.tune, tune=cfg)
    chosen = space_of(cfg, Words((), ()))
    found = Tuning(study, chosen, (f"mlruns={mlruns}",), edges, (0, 1), lambda words: edges.baseline, False)
    folder = mlruns / FOLDER / study_id(found.plan)
    return StubSearch(
        found, Trials(folder, chosen, objectives=len(objectives), seed=SEED, startup=4), opened(mlruns), "glidexp"
    )


def carried_out(found: Search, slots: int = 1) -> Ledger:
    """Carries a search out, or on."""
    sweep.ELSEWHERE_S = 0.05  # between looks at how trials do
    return execute(
        found.plan,
        found.store,
        LauncherConfig(slots=slots),
        experiment="glidexp",
        prepare=len,
        order=lambda order: dataclasses.replace(order, train="search_train:train"),
        feed=found,
    )
