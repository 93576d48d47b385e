"""The trials of a search, in Optuna's journal on disk: what was tried, how far it came, what to try next.

Every change is a line that is flushed to the disk, so that a search may be killed at any moment and begun again, and
two of them may share one journal. What is drawn for a trial follows from its number and from what is known by then, not
from how often the search was begun anew.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from glidexp.beside import lock
from glidexp.study.plan.space import Choice
from glidexp.study.tune.journal import JOURNAL, held, lock_of, mend

NAME = "search"
WORDS, RUNGS, ERROR, AGAIN = "words", "rungs", "error", "again"
"""attributes of a trial: its settings, its values at rungs, why it failed, the failed one whose settings it has"""


@dataclass(frozen=True, slots=True)
class Trial:
    """One of a search's trials."""

    number: int
    words: tuple[str, ...]
    """what was chosen"""
    state: str
    """running, complete, pruned or fail"""
    values: tuple[float, ...]
    """of the objectives, of one that is complete"""
    rungs: dict[int, tuple[float, bool]]
    """value by epochs, and whether it went on"""
    error: str
    again: bool
    """it failed, and its settings were given to a later one"""
    second: bool
    """it has the settings of one that failed"""

    @property
    def name(self) -> str:
        """As its run is named in a study."""
        return f"trial {self.number:02}"


class Trials:
    """A search on disk.

    Args:
        folder: of the study; made where it is missing
        space: what may be chosen
        objectives: how many there are, of all of which more is better
        seed: of what is drawn
        startup: trials that are drawn at random
    """

    def __init__(self, folder: Path, space: Mapping[str, Choice], *, objectives: int, seed: int, startup: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        self._lock = path.with_name(f".{JOURNAL}.turn")
        self._space, self._seed, self._startup = space, seed, startup
        optuna.logging.set_verbosity(logging.WARNING)
        lock = _Flock(path)
        with self.turn():
            with held(path):
                mend(path)
            self._storage = JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                directions=["maximize"] * objectives,
                load_if_exists=True,
            )

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One process at a time asks for a trial."""
        with self._lock.open("a") as stream:
            lock(stream, self._lock)
            yield

    def all(self) -> list[Trial]:
        """All trials that have settings, in order."""
        every = self._study.get_trials(deepcopy=False)
        tried = {one.user_attrs[AGAIN] for one in every if AGAIN in one.user_attrs}
        return [_trial(one, again=one.number in tried) for one in every if WORDS in one.user_attrs]

    def ask(self, most: int) -> Trial | None:
        """One more trial; None where there are `most`, not counting those that were tried again."""
        with self.turn():
            for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if WORDS not in one.user_attrs:  # killed before it had its settings
                    self._study.tell(one.number, state=TrialState.FAIL)
            if sum(not one.again for one in self.all()) >= most:
                return None
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = TPESampler(seed=self._seed + 7919 * number, n_startup_trials=self._startup)
            asked = self._study.ask({key: _distribution(choice) for key, choice in self._space.items()})
            words = [choice.word(asked.params[key]) for key, choice in self._space.items()]
            asked.set_user_attr(WORDS, words)
        return self.of(asked.number)

    def of(self, number: int) -> Trial:
        """A trial as it is now."""
        return _trial(self._study.get_trials(deepcopy=False)[number])

    def at_rung(self, number: int, epochs: int, value: float, *, on: bool) -> None:
        """Notes what a trial had at a rung, and whether it goes on."""
        found = self._study.get_trials(deepcopy=False)[number]
        if found.state.is_finished():
            return
        rungs = {**found.user_attrs.get(RUNGS, {}), str(epochs): [value, on]}
        self._storage.set_trial_user_attr(found._trial_id, RUNGS, rungs)

    def complete(self, number: int, values: Sequence[float]) -> None:
        """Notes the end of a trial."""
        self._study.tell(number, list(values), skip_if_finished=True)

    def pruned(self, number: int) -> None:
        """Notes that a trial was ended early."""
        self._study.tell(number, state=TrialState.PRUNED, skip_if_finished=True)

    def failed(self, number: int, error: str) -> None:
        """Notes that a trial failed, and why."""
        found = self._study.get_trials(deepcopy=False)[number]
        if not found.state.is_finished():
            self._storage.set_trial_user_attr(found._trial_id, ERROR, error)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def again(self, number: int) -> None:
        """Gives the settings of a failed trial to the next one that is asked for."""
        with self.turn():
            (found,) = [one for one in self.all() if one.number == number]
            if found.state == "fail" and not found.again:
                params = self._study.get_trials(deepcopy=False)[number].params
                self._study.enqueue_trial(params, user_attrs={AGAIN: number})

    def front(self) -> list[Trial]:
        """Complete trials that no other one beats in all objectives, the best by the first one first; all complete ones
        where there is one objective, of which there would be the best alone."""
        done = [one for one in self.all() if one.state == "complete"]
        if done and len(self._study.directions) > 1:
            done = [_trial(one) for one in self._study.best_trials]
        return sorted(done, key=lambda one: (-one.values[0], one.number))


def _trial(found: FrozenTrial, *, again: bool = False) -> Trial:
    about = found.user_attrs
    rungs = {int(epochs): (float(value), bool(on)) for epochs, (value, on) in about.get(RUNGS, {}).items()}
    state, values = found.state.name.lower(), tuple(found.values or ()) if found.state is TrialState.COMPLETE else ()
    words, error = tuple(about.get(WORDS, ())), about.get(ERROR, "")
    return Trial(found.number, words, state, values, rungs, error, again, AGAIN in about)


def _distribution(choice: Choice) -> BaseDistribution:
    if choice.values:
        return CategoricalDistribution(choice.values)
    if choice.whole:
        return IntDistribution(int(choice.low), int(choice.high), log=choice.log)
    return FloatDistribution(choice.low, choice.high, log=choice.log)


class _Flock(JournalFileOpenLock):
    """A lock that goes with the process that has it: Optuna's own stay behind after a kill, for 30 s."""

    def __init__(self, path: Path) -> None:
        self._path, self._stream = lock_of(path), -1

    def acquire(self) -> bool:
        """As Optuna asks it."""
        self._stream = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
        lock(self._stream, self._path)
        return True

    def release(self) -> None:
        """As Optuna asks it."""
        os.close(self._stream)
