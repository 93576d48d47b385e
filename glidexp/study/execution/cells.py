"""What a study consists of: arms, seeds, folds, and a cell for each: one training, and where it is scored."""

import fnmatch
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from glidexp.config.stored import without_secrets
from glidexp.config.study import GRID
from glidexp.errors import ConfigError
from glidexp.wording import many

LABEL = 120
"""characters of a plan's label, at most"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of a study: an arm with a seed, on a fold of the ground where the study has folds."""

    arm: str
    seed: int
    words: tuple[str, ...]
    """what `python train.py` is given; the run is exactly that command's"""
    key: str
    """config id of the run: by it a finished one is found and an interrupted one goes on"""
    scored_on: tuple[str, ...] | None = None
    """what `glidexp evaluate RUN` is given to score it on the study's ground; None: its own test set is that ground"""
    needs: str | None = None
    """config id of the run that this one starts from, which comes first"""
    fold: int | None = None
    """that is test; None in a study without folds"""

    @property
    def name(self) -> str:
        """`arm|seed`, or `arm|seed|fold`: the cell's name in `cells.json`."""
        return "|".join(map(str, (self.arm, self.seed, *self._fold)))

    @property
    def training(self) -> str:
        """`seed 0`, or `seed 0 fold 2`."""
        return " fold ".join(map(str, (f"seed {self.seed}", *self._fold)))

    @property
    def _fold(self) -> tuple[int, ...]:
        return () if self.fold is None else (self.fold,)


@dataclass(frozen=True, slots=True)
class Plan:
    """A study as it is to be carried out."""

    name: str
    question: str
    primary: str
    """score that decides, as tracking names it"""
    arms: tuple[str, ...]
    """baseline first"""
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    alpha: float = 0.05
    budget: str = ""
    """what is equal in every arm, in words"""
    equal: str = "epochs"
    """which of `spent` the budget makes equal: steps or pixels; epochs: as the arms say"""
    spent: dict[str, dict[str, int]] = field(default_factory=dict)
    """epochs, steps of the optimizer and pixels seen by a training of each arm, where that was known beforehand"""
    identity: str = ""
    """what names a study whose cells are found only while it goes on; empty: its cells name it"""
    laid_out: dict[str, Any] = field(default_factory=dict)
    """how the arms belong together, for the report: a matrix or a ladder of transfer; else empty"""
    leaks: tuple[str, ...] = ()
    """a sentence for each leak that was found beforehand and allowed"""
    folds: int = 0
    """of the ground, on each of which every arm is trained with every seed; 0: the data set's own split"""

    @property
    def size(self) -> str:
        """`2 arms x 3 seeds`, or `2 arms x 3 seeds x 5 folds`."""
        return sized(len(self.arms), len(self.seeds), self.folds)

    @property
    def title(self) -> str:
        """The name as people read and type it; of a grid that is only typed with what varies: `grid backbone x loss`.

        It is not what names the study's folder, so that those from before it was given go on.
        """
        if not self.typed:
            return self.name
        return f"{self.name} {' x '.join(self._varied) or 'seed'}"

    @property
    def label(self) -> str:
        """The title, of a typed grid with the values, as another one may vary the same: `grid loss: dice, tversky`."""
        if not self.typed:
            return self.title
        values = " x ".join(", ".join(of) for of in self._varied.values()) or ", ".join(map(str, self.seeds))
        return textwrap.shorten(f"{self.title}: {values}", LABEL, placeholder=" ...")

    @property
    def typed(self) -> bool:
        """Whether it is a grid of values that were only typed, which have no name but what varies."""
        return self.name == GRID and not self.identity

    @property
    def _varied(self) -> dict[str, dict[str, None]]:
        """Values by key, as the names of the arms have them, in their order."""
        found: dict[str, dict[str, None]] = {}
        for arm in self.arms:
            for word in arm.split():
                key, equals, value = word.partition("=")
                if equals:
                    found.setdefault(key, {})[value] = None
        return found

    def to_json(self) -> str:
        """The plan as text, from which `from_json` makes it again."""
        return json.dumps(asdict(self), indent=1)

    def public(self) -> "Plan":
        """The plan as others may read it: its address of the tracking store has no password."""
        cells = (replace(cell, words=tuple(map(without_secrets, cell.words))) for cell in self.cells)
        return replace(self, cells=tuple(cells))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Reads what `to_json` wrote."""
        found: dict[str, Any] = json.loads(text)
        cells = tuple(
            Cell(**{**cell, "words": tuple(cell["words"]), "scored_on": cell["scored_on"] and tuple(cell["scored_on"])})
            for cell in found.pop("cells")
        )
        found |= {name: tuple(found[name]) for name in ("arms", "seeds", "leaks") if name in found}
        return cls(**{**found, "cells": cells})


def told_equal(cells: Iterable[Cell]) -> list[str]:
    """A warning, in a line, for each set of arms that are the same runs: the same trainings, scored on the same ground.

    It is no refusal: their names may be wanted side by side. The noise between trainings is seen over seeds alone.
    """
    runs: dict[str, set[tuple[str, tuple[str, ...] | None]]] = {}
    for cell in cells:
        runs.setdefault(cell.arm, set()).add((cell.key, cell.scored_on))
    arms: dict[frozenset[tuple[str, tuple[str, ...] | None]], list[str]] = {}
    for arm, found in runs.items():
        arms.setdefault(frozenset(found), []).append(arm)
    return [
        f"Warning: arms {', '.join(names[:-1])} and {names[-1]} have equal settings, so they are the same runs and "
        "their difference is 0 by itself: change or take out all but one. Noise shows in more seeds of one arm."
        for names in arms.values()
        if len(names) > 1
    ]


def chosen(plan: Plan, only: str | None) -> list[Cell]:
    """Cells that a pattern names, in the order in which they are run: seed by seed, so that arms can soon be compared.

    Raises:
        ConfigError: none
    """
    refuse_none(only, plan.arms, plan.seeds, plan.folds)
    cells = [cell for cell in plan.cells if _is_named(only, cell.arm, cell.seed, cell.fold)]
    places = {arm: place for place, arm in enumerate(plan.arms)}
    seeds = {seed: place for place, seed in enumerate(plan.seeds)}
    return sorted(cells, key=lambda cell: (seeds.get(cell.seed, cell.seed), cell.fold or 0, places.get(cell.arm, 0)))


def refuse_none(only: str | None, arms: Sequence[str], seeds: Sequence[int], folds: int = 0) -> None:
    """Raises ConfigError where a pattern names no run of these arms, seeds and folds."""
    each = [(arm, seed, fold) for arm in arms for seed in seeds for fold in (range(folds) if folds else (None,))]
    if not any(_is_named(only, *of) for of in each):
        names = "ARM|SEED or ARM|SEED|FOLD" if folds else "ARM|SEED"
        raise ConfigError(f"only={only} names no run: give a pattern of arms, {', '.join(arms)}, or of {names}.")


def _is_named(only: str | None, arm: str, seed: int, fold: int | None) -> bool:
    names = (arm, f"{arm}|{seed}", *([] if fold is None else [f"{arm}|{seed}|{fold}"]))
    return only is None or any(fnmatch.fnmatchcase(name, only) for name in names)


def sized(arms: int, seeds: int, folds: int) -> str:
    """`2 arms x 3 seeds`, with `x 5 folds` where there are some."""
    return f"{many(arms, 'arm')} x {many(seeds, 'seed')}" + f" x {many(folds, 'fold')}" * bool(folds)


def take_ready(waiting: list[Cell], at_work: Iterable[Cell]) -> Cell | None:
    """Takes the first cell that can be begun: no other one trains the same run now, and what it starts from is over.

    Where that failed, or is not of this sweep, it is begun all the same, and its run says what is not there.

    Args:
        waiting: in the order in which they are wanted; it is taken out
        at_work: here or elsewhere
    """
    busy = {cell.key for cell in at_work}
    to_come = busy | {cell.key for cell in waiting}
    for place, cell in enumerate(waiting):
        if cell.key not in busy and cell.needs not in to_come:
            return waiting.pop(place)
    return None
