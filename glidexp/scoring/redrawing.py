"""Worlds redrawn from what was measured: other clusters of ground and other trainings, drawn with replacement.

They show how stable an order of arms is, and check the intervals of `scoring/statistics`. So do worlds in which the
arms have exchanged what they made of some clusters.
"""

from collections.abc import Sequence

import numpy as np

from glidexp.scoring.confusion import Counts
from glidexp.scoring.statistics import SEED, Floats, Score, by_row, portions, sign_flips

Places = Sequence[int]


def rank_shares(tables: Sequence[Counts], score: Score, *, draws: int = 2000) -> Floats:
    """How stable a ranking is: share of redrawn worlds in which each arm takes each rank.

    Clusters are drawn with replacement, the same for every arm; seeds within each arm (a hierarchical bootstrap).

    Args:
        tables: counts (S, C, 4) of each arm, on the same C clusters
        score: of (..., C, 4), higher is better
        draws: redrawn worlds

    Returns:
        (arms, arms): row a, column r is the share of worlds in which arm a has rank r, 0 the best. Rows sum to 1. Arms
        with equal scores are ranked by lot, an arm without a score comes last, and a world in which no arm has one (no
        lake was drawn) does not count; NaN where there is no other.
    """
    random = np.random.default_rng(SEED)
    arms, clusters = len(tables), tables[0].shape[1]
    ground = np.empty((draws, clusters), dtype=np.intp)
    rows = [np.empty((draws, len(table)), dtype=np.intp) for table in tables]
    for draw in range(draws):
        ground[draw] = random.integers(0, clusters, clusters)
        for own in rows:
            own[draw] = random.integers(0, own.shape[1], own.shape[1])
    values = np.empty((draws, arms))
    for arm, (table, own) in enumerate(zip(tables, rows, strict=True)):
        for some in portions(draws, own.shape[1] * clusters):
            found = score(table[own[some, :, None], ground[some, None, :]])
            known = np.isfinite(found)
            sums, count = np.where(known, found, 0.0).sum(axis=1), known.sum(axis=1)
            values[some, arm] = np.divide(sums, count, out=np.full(len(count), -np.inf), where=count > 0)
    values = values[np.isfinite(values).any(axis=1)]
    if not len(values):
        return np.full((arms, arms), np.nan)
    order = np.lexsort((random.random(values.shape), -values), axis=1)
    return np.stack([np.bincount(ranked, minlength=arms) for ranked in order.T], axis=1) / len(values)


def redrawn(
    base: Counts,
    arm: Counts,
    score: Score,
    *,
    rows: Sequence[tuple[Places, Places]] | None = None,
    level: float = 0.95,
    draws: int = 2000,
) -> tuple[float, float]:
    """Percentile interval of a paired difference by a hierarchical bootstrap: clusters and seeds are drawn anew, both
    with replacement, and the same ones for both arms.

    A check beside `effect_of` and no replacement: it takes few clusters for all there are, and covers too little then
    (docs/statistics.md).

    Args:
        base: (S, C, 4) of the baseline
        arm: (S, C, 4), the same clusters
        score: of (..., C, 4)
        rows: what is drawn as one: places of runs of the arm, and of those of the baseline that they are compared with;
            each run with the one at its place when not given
        level: 0-1
        draws: redrawn worlds

    Returns:
        low and high; NaN where no world has a score

    Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, 3.8.
    """
    random = np.random.default_rng(SEED)
    rows = [((place,), (place,)) for place in range(len(base))] if rows is None else rows
    seeds, clusters = len(rows), base.shape[1]
    which, columns = np.empty((draws, seeds), dtype=np.intp), np.empty((draws, 1, clusters), dtype=np.intp)
    for draw in range(draws):
        which[draw], columns[draw] = random.integers(0, seeds, seeds), random.integers(0, clusters, clusters)
    found = np.empty(draws)
    for some in portions(draws, max(len(base), len(arm)) * clusters):
        each = [
            by_row(score(table[np.arange(len(table))[:, None], columns[some]]).T, places).T
            for table, places in ((arm, [row[0] for row in rows]), (base, [row[1] for row in rows]))
        ]
        difference = np.take_along_axis(each[0], which[some], 1) - np.take_along_axis(each[1], which[some], 1)
        found[some] = difference.mean(axis=1)
    known = found[np.isfinite(found)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def exchanged(
    base: Counts, arm: Counts, score: Score, *, rows: Sequence[tuple[Places, Places]], weights: Floats
) -> float:
    """p of no difference of a pooled score by exchanging what the arms have on single clusters, in all ways: exact if
    either arm could have had what the other has.

    Signs of pseudo-values are not to be flipped in its place: those of clusters that weigh little are all near the
    difference of all ground, so that flips of them call too much real (25 % at 5 %, of ten scenes whose sizes are
    log-normal with 1.5). Other than that as `statistics.sign_flips`, which it is of counts.

    Args:
        base: (S, C, k) of the baseline
        arm: (S', C, k), the same clusters
        score: of (..., C, k), the same of counts that are all so many times as large
        rows: as for `redrawn`
        weights: (C,) of the clusters; those of 0, of which the score is not, stay as they are
    """
    mine = np.stack([arm[list(of_arm)].sum(axis=0) * len(of_base) for of_arm, of_base in rows])
    theirs = np.stack([base[list(of_base)].sum(axis=0) * len(of_arm) for of_arm, of_base in rows])
    both, apart = (mine + theirs).sum(axis=1), np.moveaxis((mine - theirs)[:, weights > 0], 1, 0)

    def told(sums: Floats) -> Floats:
        found = score((both + sums)[..., None, :]) - score((both - sums)[..., None, :])
        return np.asarray(found.mean(axis=1), np.float64)

    return sign_flips(apart, told)
