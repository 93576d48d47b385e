"""A study that searches: trials that Optuna proposes, ended early where others are better, and the best repeated.

Each trial is one ordinary run, `python train.py WORDS`, which the same executor and launchers carry out as any other
cell. So a search that was killed goes on by the same command: finished runs are taken, killed ones go on from their
checkpoint, and the journal of trials says what was decided. Nothing is claimed from the search itself, whose best score
is the luckiest of many: the best configuration is trained anew with seeds that the search has not met, beside the
settings that it began from, in a study of its own.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from glidexp.config.study import BudgetConfig, BudgetKind, Design, StudyConfig
from glidexp.errors import ConfigError, GlidexpError
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.feed import Feed
from glidexp.study.execution.ledger import Entry, Status
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.check import Compose, checked, keys
from glidexp.study.plan.making import Planned, base_of, make_plan, seeds_of
from glidexp.study.plan.space import Choice, space_of
from glidexp.study.plan.words import Words, key_of
from glidexp.study.tune.rungs import goes_on, rungs_of
from glidexp.study.tune.trials import Trial, Trials
from glidexp.tracking.resume import checkpoint_folder
from glidexp.tracking.store import Store
from glidexp.wording import many

log = logging.getLogger("glidexp")

BEST = "best"
BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search as it is to be carried out."""

    study: StudyConfig
    space: dict[str, Choice]
    base: tuple[str, ...]
    """words of every trial"""
    edges: Planned
    """the settings it begins from, and each end of the space by itself: checked, and with the data made"""
    seeds: tuple[int, ...]
    """of the repeated runs"""
    compose: Compose
    elsewhere: bool

    @property
    def epochs(self) -> int:
        """Of a trial that is not ended early, and of the repeated runs."""
        return self.edges.baseline.train.epochs

    @property
    def rungs(self) -> list[int]:
        """Epochs after which trials are held against each other."""
        return rungs_of(self.study.tune.first_rung, self.study.tune.factor, self.epochs)

    @property
    def plan(self) -> Plan:
        """The search without its trials. What decides a trial names it; how many there are to be does not."""
        cfg, first = self.study.tune, self.edges.plan.cells[0]
        rule = [cfg.objectives, cfg.first_rung, cfg.factor, cfg.seed, cfg.startup]
        decided = json.dumps([first.key, [choice.told for choice in self.space.values()], rule])
        return Plan(
            name=self.study.name,
            question=self.study.question,
            primary=cfg.objectives[0],
            arms=(),
            seeds=(cfg.seed,),
            cells=(),
            alpha=self.study.alpha,
            budget=f"Budget: {many(self.epochs, 'epoch')} a trial at most.",
            identity=hashlib.sha256(decided.encode()).hexdigest(),
        )


def tuning(study: StudyConfig, typed: Words, compose: Compose, *, elsewhere: bool = False) -> Tuning:
    """Checks a search before its first trial, and makes the data.

    Raises:
        GlidexpError: settings that cannot run, or a space that cannot be searched
    """
    space = space_of(study.tune, typed)
    seeds = tuple(seeds_of(study, typed))
    if study.tune.seed in seeds:
        raise ConfigError(
            f"study.tune.seed={study.tune.seed} is one of study.seeds={list(seeds)}: the best is repeated with seeds "
            "that the search has not met, else its luck counts again."
        )
    own = replace(study, seeds=[study.tune.seed], budget=BudgetConfig(kind=BudgetKind.epochs))
    edges = make_plan(own, typed.seedless, compose, elsewhere=elsewhere)
    start = f"init.run={edges.baseline.init.run}"  # of a study the run that is its best now, for every trial
    base = tuple(start if key_of(word) == "init.run" else word for word in base_of(study, typed))
    return Tuning(study, space, base, edges, seeds, compose, elsewhere)


class Search(Feed):
    """Proposes trials to a sweep, ends the worse ones early, and takes note of all.

    Args:
        tuning: what is searched
        trials: the journal
        store: where the runs are
        experiment: of the runs, by name
    """

    def __init__(self, tuning: Tuning, trials: Trials, store: Store, experiment: str) -> None:
        self.tuning, self.trials, self.store, self.experiment = tuning, trials, store, experiment
        self._cells: dict[int, Cell] = {}
        self._unfit: set[int] = set()

    @property
    def most(self) -> int:
        """As `Feed.most`: trials whose settings cannot run together count among those asked for, and are no cells."""
        unfit = sum(one.number in self._unfit and not one.again for one in self.trials.all())
        return self.tuning.study.tune.trials - unfit

    @property
    def plan(self) -> Plan:
        """The study with the trials that there are."""
        cells = self.known()
        return replace(self.tuning.plan, arms=tuple(cell.arm for cell in cells), cells=tuple(cells))

    def best(self) -> list[Trial]:
        """The configurations that are to be repeated, the best first, each once as a small space repeats itself.

        None that the search began from, and of one objective none that is worse than that.
        """
        cfg, begun = self.tuning.study.tune, self.tuning.edges.plan.cells[0].key
        found: dict[str, Trial] = {}
        for trial in self.trials.front():
            cell = self._cell(trial)
            if cell is not None and cell.key == begun and len(cfg.objectives) == 1:
                break
            if cell is not None and cell.key != begun:
                found.setdefault(cell.key, trial)
        return list(found.values())[: cfg.repeat]

    def known(self) -> list[Cell]:
        """Cells of all trials that were proposed so far."""
        return [cell for trial in self.trials.all() if (cell := self._cell(trial)) is not None]

    def more(self, free: int) -> list[Cell]:
        """As `Feed.more`: first what another sweep of this search was given, then new ones."""
        before = set(self._cells)
        found = [cell for cell in self.known() if self._number(cell) not in before]
        while len(found) < free:
            trial = self.trials.ask(self.tuning.study.tune.trials)
            if trial is None:
                break
            cell = self._cell(trial)
            if cell is not None:
                log.info("%s: %s", cell.arm, " ".join(trial.words))
                found.append(cell)
        return found

    def again(self, cell: Cell) -> bool:
        """As `Feed.again`."""
        return self.trials.of(self._number(cell)).second

    def early(self, cell: Cell) -> str:
        """As `Feed.early`: at each rung that a trial has reached, once, it is held against those that were there."""
        number, tune = self._number(cell), self.tuning.study.tune
        trial = self.trials.of(number)
        if trial.state != "running":
            return ""
        for epochs, (value, on) in trial.rungs.items():
            if not on:
                return self._why(epochs, value)
        for epochs, value in self._reached(trial, cell):
            others = [one.rungs[epochs][0] for one in self.trials.all() if epochs in one.rungs]
            on = goes_on(value, others, tune.factor)
            self.trials.at_rung(number, epochs, value, on=on)
            if not on:
                return self._why(epochs, value)
        return ""

    def _reached(self, trial: Trial, cell: Cell) -> list[tuple[int, float]]:
        """Rungs that a trial has reached since it was last looked at, with its best score on val until then."""
        scores = self._scores(cell)
        return [
            (epochs, max(score for epoch, score in scores.items() if epoch <= epochs))
            for epochs in self.tuning.rungs
            if epochs not in trial.rungs and min(scores, default=epochs + 1) <= epochs <= max(scores)
        ]

    def ended(self, cell: Cell, entry: Entry) -> None:
        """As `Feed.ended`."""
        number = self._number(cell)
        if entry.status is Status.stopped:
            self.trials.pruned(number)
            self._drop_checkpoints(cell)
        elif entry.status is Status.failed:
            self.trials.failed(number, entry.error)
        elif entry.status is Status.finished and entry.train is not None:
            trial = self.trials.of(number)
            for epochs, value in self._reached(trial, cell):  # it was faster than looks at it
                self.trials.at_rung(number, epochs, value, on=True)
            found = self.store.found(entry.train)
            metrics = found.metrics if found is not None else {}
            missing = [name for name in self.tuning.study.tune.objectives if metrics.get(name) is None]
            if missing:
                self.trials.failed(number, f"its run has no {missing[0]}")
            else:
                self.trials.complete(number, [metrics[name] for name in self.tuning.study.tune.objectives])

    def _drop_checkpoints(self, cell: Cell) -> None:
        """Of a trial that was ended early: it is never gone on with, and a search has many of them."""
        found = self.store.find_run(cell.key, self.experiment)
        if found is not None:
            shutil.rmtree(checkpoint_folder(self.store.mlruns, cell.key, found.run_id), ignore_errors=True)

    def _cell(self, trial: Trial) -> Cell | None:
        """The run of a trial; None where its settings cannot run together, which the journal then says."""
        if trial.number in self._unfit:  # it was composed once, and costs as much each time
            return None
        if trial.number not in self._cells:
            tuning = self.tuning
            seed = tuning.study.tune.seed
            try:
                compose = lambda words: tuning.compose([*words, f"seed={seed}"])  # noqa: E731
                (one,) = checked([Arm(trial.name, trial.words)], tuning.base, compose)
                (key,) = keys(one, [seed], elsewhere=tuning.elsewhere)
            except GlidexpError as error:
                self.trials.failed(trial.number, " ".join(str(error).split()))
                self._unfit.add(trial.number)
                return None
            self._cells[trial.number] = Cell(trial.name, seed, (*one.words, f"seed={seed}"), key)
        return self._cells[trial.number]

    @staticmethod
    def _number(cell: Cell) -> int:
        return int(cell.arm.rpartition(" ")[2])

    def _why(self, epochs: int, value: float) -> str:
        cfg = self.tuning.study.tune
        after = f"{value:.4f} after {many(epochs, 'epoch')}"
        return f"ended early: {cfg.objectives[0]} {after} is not among the best 1/{cfg.factor}"

    def _scores(self, cell: Cell) -> Mapping[int, float]:
        """The score on val by epoch, as far as a run has come."""
        found = self.store.find_run(cell.key, self.experiment)
        return {} if found is None else self.store.history(found.run_id, self.tuning.study.tune.objectives[0])


def repeated(tuning: Tuning, best: Sequence[Trial]) -> Planned:
    """The study in which the best configurations are trained with new seeds, beside the settings they began from.

    Args:
        tuning: the search
        best: trials, the best first

    Raises:
        GlidexpError: an arm cannot run
    """
    own = tuning.study
    arms: dict[str, list[str]] = {BASELINE: []}
    for place, trial in enumerate(best, 1):
        arms[BEST if len(best) == 1 else f"{BEST} {place}"] = list(trial.words)
    study = replace(
        own,
        name=f"{own.name} repeated",
        question=f"Is what {own.name} found better than the settings it began from?",
        design=Design.list,
        arms=arms,
        seeds=list(tuning.seeds),
        budget=BudgetConfig(kind=BudgetKind.epochs),
        base=list(tuning.base),
    )
    return make_plan(study, Words((), ()), tuning.compose, elsewhere=tuning.elsewhere)
