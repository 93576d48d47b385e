"""A study as it is to be carried out: which arms, which runs, on what budget, scored on what ground."""

from collections.abc import Sequence
from dataclasses import dataclass

from glidexp.config import Config
from glidexp.config.study import StudyConfig
from glidexp.errors import ConfigError
from glidexp.study.cells import Cell, Plan
from glidexp.study.plan_arms import Arm, arms_of
from glidexp.study.plan_check import Checked, Compose, checked, keys
from glidexp.study.plan_words import Words, key_of, merged


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with the configs it was made from."""

    plan: Plan
    arms: tuple[Checked, ...]
    """baseline first, as in the plan"""

    @property
    def baseline(self) -> Config:
        return self.arms[0].config


def make_plan(study: StudyConfig, typed: Words, compose: Compose) -> Planned:
    """Makes the plan, with every arm checked.

    Args:
        study: from conf/study/ and the command line
        typed: what the command line says of the runs
        compose: from the door

    Raises:
        GlidexpError: an arm cannot run, or nothing varies
    """
    seeds = _seeds(study, typed)
    base = tuple(word for word in merged(study.base, typed.base) if key_of(word) != "seed")
    swept = Words(typed.own, typed.base, {key: values for key, values in typed.swept.items() if key != "seed"})
    if not study.axes and not study.arms and not swept.swept and "seed" in typed.swept:  # one setting, several seeds
        arms = checked([_alone()], base, compose)
    else:
        arms = checked(arms_of(study, swept), base, compose)
    cells: list[Cell] = []
    for one in arms:
        for seed, key in zip(seeds, keys(one, seeds), strict=True):
            cells.append(Cell(arm=one.name, seed=seed, words=(*one.words, f"seed={seed}"), key=key))
    plan = Plan(
        name=study.name,
        question=study.question,
        primary=study.primary,
        arms=tuple(one.name for one in arms),
        seeds=tuple(seeds),
        cells=tuple(cells),
        alpha=study.alpha,
    )
    return Planned(plan, tuple(arms))


def _alone() -> Arm:
    return Arm("baseline", ())


def _seeds(study: StudyConfig, typed: Words) -> Sequence[int]:
    """The seeds of every arm: as typed, else the study's."""
    given = [word.partition("=")[2] for word in typed.base if key_of(word) == "seed"]
    listed = typed.swept.get("seed", tuple(given[-1:]))
    try:
        return [int(seed) for seed in listed] if listed else list(study.seeds)
    except ValueError:
        raise ConfigError(f"seed={','.join(listed)} is not possible: seeds are whole numbers.") from None
