"""A search over stand-ins for training, whose score is known beforehand. Not a test.

As a script it is a search of such runs: `search_stub.py MLRUNS TRIALS`.
"""

import dataclasses
import logging
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlflow.entities import Metric
from study_stub import key_of, noted, opened, settings

from glidexp.config import Config, TrainConfig
from glidexp.config.launcher import LauncherConfig
from glidexp.config.study import Design, StudyConfig
from glidexp.config.tune import SpaceConfig, TuneConfig
from glidexp.study import execute as executing
from glidexp.study import launchers_local
from glidexp.study.cells import Cell
from glidexp.study.ledger import FOLDER, Ledger, study_id
from glidexp.study.plan_words import Words
from glidexp.study.trials import Trial, Trials
from glidexp.study.tune import Search, Tuning
from glidexp.study.tune_space import SPEED, space_of
from glidexp.study.work import Done
from glidexp.tracking.environment import process_tags
from glidexp.tracking.liveness import marks
from glidexp.tracking.store import ID_TAG

VAL = "val/lake_iou_pooled"
EPOCHS = 4
SEED = 7
RATES = {"lr": SpaceConfig(low=1e-5, high=1e-1, log=True)}


def quality(rate: float) -> float:
    """What the score tends to: 1 at a learning rate of 0.001."""
    return 1 - abs(math.log10(rate) + 3) / 2


def train(words: tuple[str, ...]) -> Done:
    """A training whose score on val is there after the first epoch, and grows to the fourth.

    After the first three, one that is not in the better half of all before it never ends by itself: it has to be ended.
    None goes on while there is a file `halt`, and one with loss=broken fails until there is a file `mended`.
    """
    given, key = settings(words), key_of(words)
    mlruns, at_best = Path(given["mlruns"]), quality(float(given.get("lr", 0.001)))
    store = opened(mlruns)
    found = store.find_run(key, "glidexp")
    if found is not None and found.status == "FINISHED":
        return Done(found.run_id, found.metrics)
    noted(mlruns, "begun", key)
    client, tags = store.client, process_tags() | marks() | {ID_TAG: key}
    run_id = found.run_id if found else client.create_run(store.experiment_id("glidexp"), tags=tags).info.run_id
    if given.get("loss") == "broken" and not (mlruns / "mended").exists():
        client.set_terminated(run_id, status="FAILED")
        raise ValueError("the network gives NaN")
    client.log_metric(run_id, VAL, at_best / 2, step=1)
    with (mlruns / "met").open("a+") as met:
        met.seek(0)
        before = [float(line) for line in met]
        met.write(f"{at_best}\n")
    bad = len(before) > 2 and sum(other >= at_best for other in before) >= (len(before) + 1) // 2
    while bad or (mlruns / "halt").exists():
        time.sleep(0.02)
    scores = {epoch: at_best * epoch / (epoch + 1) for epoch in range(1, EPOCHS + 1)}
    last = {VAL: scores[EPOCHS], SPEED: 100 * float(given.get("lr", 0.001))}
    logged = [Metric(VAL, score, 0, epoch) for epoch, score in scores.items() if epoch > 1]
    client.log_batch(run_id, [*logged, *(Metric(name, value, 1, EPOCHS + 1) for name, value in last.items())])
    client.set_terminated(run_id)
    noted(mlruns, "finished", key)
    return Done(run_id, last)


class StubSearch(Search):
    """Its runs are named as `train` here names them, and nothing is composed."""

    def _cell(self, trial: Trial) -> Cell | None:
        words = (*self.tuning.base, *trial.words, f"seed={SEED}")
        return self._cells.setdefault(trial.number, Cell(trial.name, SEED, words, key_of(words)))


def search(mlruns: Path, trials: int, space: dict[str, SpaceConfig] | None = None) -> StubSearch:
    """A search as it lies on disk."""
    names = {"seed": SEED, "startup": 4, "first_rung": 1, "factor": 2}
    cfg = TuneConfig(space=space or RATES, trials=trials, objectives=[VAL, SPEED], **names)  # type: ignore[arg-type]
    edges: Any = SimpleNamespace(
        baseline=Config(train=TrainConfig(epochs=EPOCHS)),
        plan=SimpleNamespace(cells=[Cell("baseline", SEED, (), "0" * 16)]),
    )
    study = StudyConfig(name="search", design=Design.tune, tune=cfg)
    chosen = space_of(cfg, Words((), ()))
    found = Tuning(study, chosen, (f"mlruns={mlruns}",), edges, (0, 1), lambda words: edges.baseline, False)
    folder = mlruns / FOLDER / study_id(found.plan)
    return StubSearch(found, Trials(folder, chosen, objectives=2, seed=SEED, startup=4), opened(mlruns), "glidexp")


def carried_out(found: Search, slots: int = 1) -> Ledger:
    """Carries a search out, or on."""
    executing.ELSEWHERE_S = 0.05  # between looks at how trials do
    return executing.execute(
        found.plan,
        found.store,
        LauncherConfig(slots=slots),
        prepare=len,
        order=lambda order: dataclasses.replace(order, train="search_stub:train"),
        feed=found,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    launchers_local.PRELOADED = "search_stub"
    carried_out(search(Path(sys.argv[1]), int(sys.argv[2])), slots=2)
