"""The part of a study's report that is about factors: main effects, interactions, or why there are none."""

from collections.abc import Iterable
from functools import partial
from itertools import combinations

import numpy as np

from glidexp.scoring.study_plots import Point, effects_figure, interaction_figure
from glidexp.study.comparison.compare import Comparison
from glidexp.study.comparison.factors import Factor, Layout, around, shared_seeds
from glidexp.study.report.blocks import Block, Fold, Heading, Picture, Table, Text
from glidexp.study.report.data import Findings
from glidexp.study.report.tables import axis, interval, number, sample
from glidexp.wording import many, percent

MOST_PAIRS = 6
"""of factors, that are drawn"""


def factor_blocks(found: Findings) -> Iterable[Block]:
    """Main effects and interactions as far as the design gives them, and a sentence about what it does not give."""
    if found.comparison is None or not found.factors:
        return
    yield Heading("Main effects and interactions" if found.interactions else "Main effects")
    if found.effects:
        yield from _effects(found, found.comparison)
    if said := _not_given(found):
        yield Text(said)
    if found.interactions:
        yield from _interactions(found, found.comparison)


def _effects(found: Findings, comparison: Comparison) -> Iterable[Block]:
    measure, scale = comparison.measure, comparison.measure.scale
    points: dict[str, list[Point]] = {}
    rows = []
    first: dict[str, float] = {}
    for one in found.effects:
        start = first.setdefault(one.factor, one.mean)
        low, high = (start + one.effect.low, start + one.effect.high) if one.effect else (float("nan"),) * 2
        points.setdefault(one.factor, []).append(Point(one.level, scale * one.mean, scale * low, scale * high))
        rows.append([one.factor, one.level, number(one.mean, scale), interval(one.effect, scale)])
    seeds = len(shared_seeds(found.study.arms))
    n = sample([seeds], comparison)
    picture = partial(effects_figure, points, score=axis(measure), level=comparison.level, n=n)
    shared = f"the {seeds} seeds that all arms have" if seeds > 1 else "the one seed that all arms have"
    yield Picture.of("main_effects", picture, f"{_how(found)}, over {shared}.")
    caption = f"Main effects on {axis(measure)}, difference to the factor's first level; not adjusted for being many."
    table = Table("main_effects", caption, ["factor", "level", "mean", "difference"], rows)
    yield Fold("Main effects in numbers", [table])


def _how(found: Findings) -> str:
    if len(found.factors) == 1:
        return "The one factor"
    if found.layout is Layout.around:
        return "Each factor, all others as in the baseline"
    return "Each factor, averaged over all others"


def _not_given(found: Findings) -> str:
    """Why there are no effects, or no interactions, in sentences; empty where nothing is missing."""
    names = [arm.name for arm in found.study.arms]
    if found.layout is Layout.other:
        return (
            "No main effects: every other arm differs from the baseline in several settings at once, so that no "
            "setting's part can be told."
        )
    if not found.effects:
        return "No main effects: no seed is finished in every arm, or the score has no value somewhere."
    if found.layout is Layout.balanced:
        return (
            "Interactions are not given: of a share of the combinations they cannot be told from the effects of "
            "other factors, which hold only as far as there are none."
        )
    if found.layout is Layout.around:
        shown = {arm for factor in around(found.factors, names) for arm in factor.level}
        left = [name for name in names if name not in shown]
        also = f" Not among the effects, as they differ from the baseline in several factors: {'; '.join(left)}."
        return "Interactions are not given: combinations were not all tried." + also * bool(left)
    return ""


def _interactions(found: Findings, comparison: Comparison) -> Iterable[Block]:
    measure, scale = comparison.measure, comparison.measure.scale
    every = list(combinations(found.factors, 2))
    pairs = every[:MOST_PAIRS]
    for place, (along, lines) in enumerate(pairs):
        values = _by_levels(comparison, along, lines)
        drawn = partial(
            interaction_figure, {levels: [scale * value for value in of] for levels, of in values.items()},
            names=(along.name, lines.name), score=axis(measure), n=sample(map(len, values.values()), comparison),
        )  # fmt: skip
        more = ", averaged over all other factors" if len(found.factors) > 2 else ""
        caption = f"{along.name} and {lines.name}{more}. Parallel lines: neither depends on the other."
        yield Picture.of("interaction" if len(pairs) == 1 else f"interaction{place + 1}", drawn, caption)
    if len(pairs) < len(every):
        yield Text(f"Drawn are the first {len(pairs)} of {many(len(every), 'pair')} of factors; the table has all.")
    rows = [
        [" with ".join(f"{factor}={level}" for factor, level in one.levels), interval(one.effect, scale)]
        for one in found.interactions
    ]
    caption = f"Interactions on {axis(measure)}: by how much one factor's effect is larger at the other's level; "
    caption += "not adjusted for being many."
    table = Table("interactions", caption, ["levels", f"difference of differences [{percent(comparison.level)}]"], rows)
    yield Fold("Interactions in numbers", [table])


def _by_levels(comparison: Comparison, along: Factor, lines: Factor) -> dict[tuple[str, str], list[float]]:
    """Score of each seed that all arms have by both levels; of several arms with the same two, their mean."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    seeds = shared_seeds([row.arm for row in comparison.rows])
    for row in comparison.rows:
        at = found.setdefault((along.level[row.arm.name], lines.level[row.arm.name]), [])
        at.append([row.values[row.arm.seeds.index(seed)] for seed in seeds])
    return {levels: np.mean(values, axis=0).tolist() for levels, values in found.items()}
