"""Adaptation ladders: what each way to adapt a network to a target gains there, and what it costs at home.

Every rung is scored on the whole test ground, so that what is left of the source is known for each of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glidexp.config.transfer import GOING_ON, Rung
from glidexp.errors import DataError
from glidexp.scoring.statistics import Effect, holm
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.compare import Row, row_of
from glidexp.study.comparison.material import Material
from glidexp.study.comparison.measures import Measure
from glidexp.study.comparison.transfer import refuse_unfit


@dataclass(frozen=True, slots=True)
class Step:
    """A rung with a budget."""

    arm: str
    rung: str
    budget: float | None
    """of the target's labels that it learns from; None for those that need none"""
    values: tuple[float, ...]
    """score on the target of each seed, 0-1"""
    gain: Effect | None
    """over zero-shot, on the target; None for zero-shot itself"""
    p_holm: float
    at_home: tuple[float, ...]
    """score on the sources' test ground of each seed, 0-1"""
    kept: Effect | None
    """difference to zero-shot there: below 0 something was forgotten; None for zero-shot, and for what never was there
    """

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


@dataclass(frozen=True, slots=True)
class Ladder:
    """All rungs of a target, zero-shot first."""

    by: str
    target: str
    sources: tuple[str, ...]
    unit: str
    """scenes or lakes: what budgets count"""
    measure: Measure
    steps: tuple[Step, ...]
    level: float
    ground: str
    """what counts as independent ground: scene, block or tile"""
    clusters: int
    """of it, of the target"""
    of_images: Mapping[str, Effect] = field(default_factory=dict)
    """what rungs that see the target's images without labels have more than `longer`, which goes on as long without
    them, by rung; nothing where one of both is missing"""

    @property
    def zero(self) -> Step:
        return self.steps[0]

    def curve(self, rung: str) -> list[Step]:
        """The steps of a rung that learns, by budget."""
        of_rung = [step for step in self.steps if step.rung == rung and step.budget is not None]
        return sorted(of_rung, key=lambda step: step.budget or 0.0)

    @property
    def learning(self) -> list[str]:
        """Rungs that learn, in the plan's order."""
        return list(dict.fromkeys(step.rung for step in self.steps if step.budget is not None))


def climb(
    arms: Sequence[Arm], material: Material, measure: Measure, plan: Mapping[str, Any], *, level: float
) -> Ladder:
    """Scores of every rung on target and sources.

    Args:
        arms: of the study, zero-shot first
        material: from `gather`
        measure: without a stratum
        plan: `Plan.laid_out`
        level: of the intervals, 0-1

    Raises:
        ConfigError: a score of which more is not better
        DataError: zero-shot is missing, no test ground of target or sources, or a score without value
    """
    refuse_unfit(measure)
    rungs: Mapping[str, tuple[str, float]] = plan["rungs"]
    if not arms or rungs[arms[0].name][1] or arms[0].name != next(iter(rungs)):
        raise DataError("a ladder needs the source's own network, zero-shot, which has no finished run.")
    by, target, sources = plan["by"], plan["target"], tuple(plan["sources"])
    there = measure.within(by, target)
    on_target = material.sums(arms, there)
    homes = [material.sums(arms, measure.within(by, source)) for source in sources]
    at_home = [np.concatenate(parts, axis=1) for parts in zip(*homes, strict=True)]
    rows, homely = [], []
    for place, arm in enumerate(arms):
        zero, zero_at_home = ((arms[0], sums[0]) if place else None for sums in (on_target, at_home))
        rows.append(_known(row_of(arm, on_target[place], there, level, base=zero), there))
        homely.append(_known(row_of(arm, at_home[place], measure, level, base=zero_at_home), measure))
    adjusted = iter(holm([row.effect.p for row in rows if row.effect is not None]))
    steps = []
    for row, home in zip(rows, homely, strict=True):
        rung, budget = rungs[row.arm.name]
        p = next(adjusted) if row.effect is not None else float("nan")
        kept = None if rung == Rung.scratch else home.effect
        steps.append(Step(row.arm.name, rung, budget or None, row.values, row.effect, p, home.values, kept))
    places = {rungs[arm.name][0]: at for at, arm in enumerate(arms)}
    of_images: dict[str, Effect] = {}
    if (longer := places.get(Rung.longer)) is not None:
        base = arms[longer], on_target[longer]
        for rung in (rung for rung in GOING_ON if rung in places and rung is not Rung.longer):
            effect = row_of(arms[places[rung]], on_target[places[rung]], there, level, base=base).effect
            of_images |= {} if effect is None else {rung.value: effect}
    kind, clusters = material.ground.kind, int(np.count_nonzero(there.weights(*on_target)))
    return Ladder(by, target, sources, plan["unit"], measure, tuple(steps), level, kind, clusters, of_images)


def _known(row: Row, measure: Measure) -> Row:
    if not np.isfinite(row.values).all():
        raise DataError(f"{measure.name} of {row.arm.name} has no value (0/0): take another score.")
    return row


def crossing(budgets: Sequence[float], scratch: Sequence[float], tuned: Sequence[float]) -> float | None:
    """The budget from which training from scratch is as good as fine-tuning.

    Args:
        budgets: ascending, such as scenes
        scratch: score at each, target only
        tuned: score at each, from a source

    Returns:
        where the two lines meet for the last time, straight between budgets; the first budget where scratch is never
        behind, None where it is still behind at the last
    """
    ahead = np.asarray(scratch, dtype=float) - np.asarray(tuned, dtype=float)
    behind = np.flatnonzero(ahead < 0)
    if not len(behind):
        return float(budgets[0])
    last = int(behind[-1])
    if last == len(budgets) - 1:
        return None
    share = ahead[last] / (ahead[last] - ahead[last + 1])
    return float(budgets[last] + share * (budgets[last + 1] - budgets[last]))


def crossings(ladder: Ladder) -> dict[str, float | None]:
    """Where scratch catches up with each rung that starts from the source, by rung; see `crossing`."""
    found = {}
    for rung in ladder.learning:
        both = _both(ladder, rung)
        if rung != Rung.scratch and both:
            scratch, tuned = zip(*both.values(), strict=True)
            found[rung] = crossing(list(both), scratch, tuned)
    return found


def _both(ladder: Ladder, rung: str) -> dict[float, tuple[float, float]]:
    """Mean score from scratch and of a rung by budget, ascending, where there are both."""
    scratch = {step.budget: step.mean for step in ladder.curve(Rung.scratch)}
    tuned = {step.budget: step.mean for step in ladder.curve(rung) if step.budget in scratch}
    return {budget: (scratch[budget], mean) for budget, mean in tuned.items() if budget is not None}


def said_crossings(ladder: Ladder) -> list[str]:
    """The same in sentences."""
    found = []
    for rung, at in crossings(ladder).items():
        budgets = list(_both(ladder, rung))
        if at is None:
            last = said_budget(ladder.unit, budgets[-1])
            found.append(f"Training from scratch has not caught up with {rung} at {last}.")
        elif at <= budgets[0]:
            found.append(f"Training from scratch is as good as {rung} from {said_budget(ladder.unit, at)} on.")
        else:
            about = f"{at:.1f} scenes" if ladder.unit == "scenes" else f"{100 * at:.1f} % of lakes"
            found.append(f"Training from scratch catches up with {rung} at about {about}.")
    return found


def said_budget(unit: str, budget: float) -> str:
    """`2 scenes`, `5 % of lakes`."""
    if unit == "lakes":
        return f"{100 * budget:g} % of lakes"
    return f"{budget:g} scene{'' if budget == 1 else 's'}"
