"""What a study varies, and how much of the spread between its runs each source makes.

Factors are read from the words of the cells: keys whose value differs between arms. Keys that always change together
are one factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts
from glidexp.scoring.statistics import Effect, effect_of, pseudo_values
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.measures import Measure
from glidexp.study.execution.cells import Plan

Floats = NDArray[np.float64]
EPOCHS, BATCH = "train.epochs", "train.batch_size"


@dataclass(frozen=True, slots=True)
class Factor:
    """Something that is varied."""

    name: str
    level: dict[str, str]
    """by arm"""

    @property
    def levels(self) -> list[str]:
        """In the order of the arms, the baseline's first."""
        return list(dict.fromkeys(self.level.values()))


@dataclass(frozen=True, slots=True)
class LevelEffect:
    """A level of a factor, averaged over all else, beside the factor's first one."""

    factor: str
    level: str
    mean: float
    effect: Effect | None
    """difference to the first level; None for that itself"""


@dataclass(frozen=True, slots=True)
class Interaction:
    """By how much the effect of one factor's level differs at another factor's level."""

    levels: tuple[tuple[str, str], tuple[str, str]]
    """(factor, level) of both, each against its first level"""
    effect: Effect


def factors_of(plan: Plan, arms: Sequence[str]) -> list[Factor]:
    """What differs between these arms of a plan; an arm without a word of that key has the level "-".

    Epochs that a budget of steps or pixels sets are none, and a batch that goes with another factor does not name it.
    """
    words: dict[str, dict[str, str]] = {}
    for cell in plan.cells:
        pairs = [word.split("=", 1) for word in cell.words if "=" in word]
        words.setdefault(cell.arm, {key.lstrip("+~"): value for key, value in pairs if key != "seed"})
    keys = list(dict.fromkeys(key for arm in arms for key in words.get(arm, {})))
    if plan.equal != "epochs":
        keys = sorted((key for key in keys if key != EPOCHS), key=lambda key: key == BATCH)
    found: dict[tuple[int, ...], Factor] = {}
    for key in keys:
        level = {arm: words.get(arm, {}).get(key, "-") for arm in arms}
        order = list(dict.fromkeys(level.values()))
        if len(order) > 1:
            found.setdefault(tuple(order.index(value) for value in level.values()), Factor(key, level))
    return list(found.values())


class Layout(StrEnum):
    """How the arms lie among the combinations of levels, which decides what can be told of a factor."""

    grid = "grid"
    """every combination, once"""
    balanced = "balanced"
    """some of them, each pair of levels of two factors as often as any other"""
    around = "around"
    """some differ from the first arm in one factor alone"""
    other = "other"


def layout_of(factors: Sequence[Factor], arms: Sequence[str]) -> Layout:
    """The first of the layouts that fits.

    Args:
        factors: from `factors_of`
        arms: of these, baseline first
    """
    cells = [tuple(factor.level[arm] for factor in factors) for arm in arms]
    if factors and sorted(cells) == sorted(product(*(factor.levels for factor in factors))):
        return Layout.grid
    pairs = list(combinations(range(len(factors)), 2))
    if pairs and all(_even(factors[a], factors[b], [(cell[a], cell[b]) for cell in cells]) for a, b in pairs):
        return Layout.balanced
    return Layout.around if around(factors, arms) else Layout.other


def _even(one: Factor, other: Factor, found: Sequence[tuple[str, str]]) -> bool:
    """Whether each pair of levels comes as often as any other."""
    return len({found.count(pair) for pair in product(one.levels, other.levels)}) == 1


def around(factors: Sequence[Factor], arms: Sequence[str]) -> list[Factor]:
    """Each factor in those arms alone that differ from the first one in nothing else; factors without such left out."""
    found = []
    for factor in factors:
        rest = [one for one in factors if one is not factor]
        kept = [arm for arm in arms if all(one.level[arm] == one.level[arms[0]] for one in rest)]
        only = Factor(factor.name, {arm: factor.level[arm] for arm in kept})
        if len(only.levels) > 1:
            found.append(only)
    return found


def shared_seeds(arms: Sequence[Arm]) -> list[int]:
    """Those that all arms have, ascending."""
    return sorted(set.intersection(*(set(arm.seeds) for arm in arms)))


def values_by_cell(
    arms: Sequence[Arm], sums: Sequence[Counts], measure: Measure
) -> tuple[dict[str, Floats], dict[str, float]] | None:
    """Of each arm the pseudo-values (S, C) over the seeds that all have, and the mean score of these; None without such
    a seed, or where the score has no value.

    Clusters are those that weigh anything in some arm. Columns are one where the score has no value without one.
    """
    seeds = shared_seeds(arms)
    if not seeds:
        return None
    kept = {arm.name: table[[arm.seeds.index(s) for s in seeds]] for arm, table in zip(arms, sums, strict=True)}
    values = {name: measure.of(table) for name, table in kept.items()}
    if not all(np.isfinite(of).all() for of in values.values()):
        return None
    scores = {name: float(np.mean(of)) for name, of in values.items()}
    if np.count_nonzero(weights := measure.weights(*sums)) > 1:
        found = {name: pseudo_values(table, measure.of, weights) for name, table in kept.items()}
        if all(np.isfinite(table).all() for table in found.values()):
            return found, scores
    return {name: of[:, None] for name, of in values.items()}, scores


def main_effects(
    factors: Sequence[Factor],
    cells: Mapping[str, Floats],
    *,
    level: float,
    weights: Mapping[str, Floats] | None = None,
    scores: Mapping[str, float] | None = None,
) -> list[LevelEffect]:
    """Every level of every factor, averaged over the arms that have it.

    Args:
        factors: of a grid or of a balanced share of one, or from `around`, which averages nothing
        cells: from `values_by_cell`; they make the intervals
        level: of the intervals
        weights: of the clusters in each arm, as for `effect_of`: those of the arms that are compared count
        scores: mean score of each arm, which pseudo-values only come near to; the cells' means when not given
    """
    scores = scores or {arm: float(table.mean()) for arm, table in cells.items()}
    found = []
    for factor in factors:
        tables = [
            np.mean([cells[arm] for arm, at in factor.level.items() if at == name], axis=0) for name in factor.levels
        ]
        for name, table in zip(factor.levels, tables, strict=True):
            mean = float(np.mean([scores[arm] for arm, at in factor.level.items() if at == name]))
            if name == factor.levels[0]:
                first, effect = mean, None
            else:
                both = [arm for arm, at in factor.level.items() if at in (name, factor.levels[0])]
                own = _weights(weights, both)
                effect = effect_of(table - tables[0], value=mean - first, level=level, weights=own)
            found.append(LevelEffect(factor.name, name, mean, effect))
    return found


def interactions(
    factors: Sequence[Factor],
    cells: Mapping[str, Floats],
    *,
    level: float,
    weights: Mapping[str, Floats] | None = None,
    scores: Mapping[str, float] | None = None,
) -> list[Interaction]:
    """Of every pair of factors and of levels other than the first; of a grid. Arguments as for `main_effects`."""
    scores = scores or {arm: float(table.mean()) for arm, table in cells.items()}
    found = []
    for one, other in combinations(factors, 2):
        for a, b in product(one.levels[1:], other.levels[1:]):
            table, value = _crossed(one, other, (a, b), cells), float(_crossed(one, other, (a, b), scores))
            four = [
                arm
                for arm in cells
                if one.level[arm] in (one.levels[0], a) and other.level[arm] in (other.levels[0], b)
            ]
            effect = effect_of(table, value=value, level=level, weights=_weights(weights, four))
            found.append(Interaction(((one.name, a), (other.name, b)), effect))
    return found


def _weights(of_arm: Mapping[str, Floats] | None, arms: Sequence[str]) -> Floats | None:
    """Of the clusters in some arms together."""
    return None if of_arm is None else np.asarray(np.mean([of_arm[arm] for arm in arms], axis=0), np.float64)


def _crossed(one: Factor, other: Factor, levels: tuple[str, str], of_arm: Mapping[str, Any]) -> Any:
    """The effect of one factor's level at the other's level less that at its first one: a number, or a table (S, C)."""

    def mean(*wanted: str) -> Any:
        return np.mean([of for arm, of in of_arm.items() if (one.level[arm], other.level[arm]) == wanted], axis=0)

    (a, b), first_a, first_b = levels, one.levels[0], other.levels[0]
    return (mean(a, b) - mean(first_a, b)) - (mean(a, first_b) - mean(first_a, first_b))


def variance_parts(cells: Mapping[str, Floats], ground: str) -> dict[str, float] | None:
    """Where the spread of one training's score on one cluster comes from: shares that sum to 1.

    Arms x clusters with seeds within arms: components from the mean squares of a balanced layout, negative ones as 0
    (Searle, Casella & McCulloch (1992), Variance Components, ch. 4).

    Args:
        cells: (S, C) of each arm, all of one shape
        ground: what the clusters are called

    Returns:
        arm, the clusters, how differently arms suit them, seed, and the rest; None without two arms, seeds and clusters
    """
    table = np.stack(list(cells.values()))
    arms, seeds, clusters = table.shape
    if min(arms, seeds, clusters) < 2:
        return None
    mean = table.mean()
    of_arm, of_cluster = table.mean((1, 2)), table.mean((0, 1))
    of_seed, of_pair = table.mean(2), table.mean(1)
    ms_arm = seeds * clusters * ((of_arm - mean) ** 2).sum() / (arms - 1)
    ms_cluster = seeds * arms * ((of_cluster - mean) ** 2).sum() / (clusters - 1)
    both = of_pair - of_arm[:, None] - of_cluster + mean
    ms_both = seeds * (both**2).sum() / ((arms - 1) * (clusters - 1))
    ms_seed = clusters * ((of_seed - of_arm[:, None]) ** 2).sum() / (arms * (seeds - 1))
    rest = table - of_seed[:, :, None] - of_pair[:, None] + of_arm[:, None, None]
    ms_rest = (rest**2).sum() / (arms * (seeds - 1) * (clusters - 1))
    parts = {
        "arm": (ms_arm - ms_both - ms_seed + ms_rest) / (seeds * clusters),
        ground: (ms_cluster - ms_both) / (seeds * arms),
        f"arm x {ground}": (ms_both - ms_rest) / seeds,
        "seed": (ms_seed - ms_rest) / clusters,
        "rest": ms_rest,
    }
    kept = {name: max(float(value), 0.0) for name, value in parts.items()}
    total = sum(kept.values())
    return {name: value / total for name, value in kept.items()} if total > 0 else None


def factor_shares(factors: Sequence[Factor], cells: Mapping[str, Floats]) -> dict[str, float] | None:
    """Of the sum of squares between the arms of a grid, each factor's share, and what is left to their interplay."""
    means = {arm: float(table.mean()) for arm, table in cells.items()}
    whole = np.mean(list(means.values()))
    total = sum((value - whole) ** 2 for value in means.values())
    if total <= 0:
        return None
    shares = {}
    for factor in factors:
        of_level = {name: np.mean([means[arm] for arm in means if factor.level[arm] == name]) for name in factor.levels}
        shares[factor.name] = float(sum((of_level[factor.level[arm]] - whole) ** 2 for arm in means) / total)
    return shares | {"interplay": max(0.0, 1.0 - sum(shares.values()))}
