"""Which runs of two arms are compared with each other, so that the rows of a difference are independent.

A training is known by its seed, a mean of networks by all of theirs. Runs of two arms that have a seed in common are
not independent: they began alike, or the mean is made of that very training. So they are one row: a mean of seeds 0, 1
and 2 against the average score of the trainings 0, 1 and 2. Runs that hang together by way of others are one row too.
Of the rows differences are made, a column a cluster of ground.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts
from glidexp.scoring.statistics import by_row, pseudo_values
from glidexp.study.comparison.arms import Arm, joined, seed_order
from glidexp.study.comparison.measures import Measure

Places = tuple[tuple[int, ...], ...]
"""of runs within their arm, by row"""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of a difference between an arm and the baseline."""

    mine: Places
    theirs: Places
    shared: tuple[int | str, ...]
    """seeds that both arms have, ascending; none: runs were matched in order"""
    extra: tuple[str, ...]
    """seeds of the runs that are in no row, where seeds decide"""
    together: tuple[str, ...]
    """seeds of each row that holds several runs of an arm"""


NO_PAIRS = Pairs((), (), (), (), ())


def pairs_of(arm: Arm, base: Arm) -> Pairs:
    """Runs with seeds in common, row by row; without any, runs in order.

    Without a seed in common any matching that does not look at scores is as good. Of trainings the first ones are
    taken, as many as both arms have; where means of networks are among them, the larger arm is shared out evenly.
    """
    groups: list[tuple[set[str], list[int], list[int]]] = []
    for side, one in enumerate((arm, base), start=1):
        for place, seeds in enumerate(one.drawn):
            met = [group for group in groups if group[0] & seeds]
            whole: tuple[set[str], list[int], list[int]] = (set(seeds), [], [])
            for group in met:
                groups.remove(group)
                whole[0].update(group[0])
                whole[1].extend(group[1])
                whole[2].extend(group[2])
            (whole[1] if side == 1 else whole[2]).append(place)
            groups.append(whole)
    rows = sorted(
        (group for group in groups if group[1] and group[2]), key=lambda group: min(map(seed_order, group[0]))
    )
    if not rows:
        return _in_order(arm, base)
    lone = [arm.drawn[place] for group in groups if not group[2] for place in group[1]]
    lone += [base.drawn[place] for group in groups if not group[1] for place in group[2]]
    both = set().union(*arm.drawn) & set().union(*base.drawn)
    return Pairs(
        mine=tuple(tuple(sorted(group[1])) for group in rows),
        theirs=tuple(tuple(sorted(group[2])) for group in rows),
        shared=tuple(int(seed) if seed.isdigit() else seed for seed in sorted(both, key=seed_order)),
        extra=tuple(joined(seeds) for seeds in sorted(lone, key=lambda seeds: min(map(seed_order, seeds)))),
        together=tuple(joined(group[0]) for group in rows if len(group[1]) > 1 or len(group[2]) > 1),
    )


def _in_order(arm: Arm, base: Arm) -> Pairs:
    counts = len(arm.runs), len(base.runs)
    rows = min(counts)
    if any(len(seeds) > 1 for seeds in (*arm.drawn, *base.drawn)):
        mine, theirs = (tuple(tuple(part.tolist()) for part in np.array_split(np.arange(n), rows)) for n in counts)
    else:
        mine = theirs = tuple((place,) for place in range(rows))
    return Pairs(mine, theirs, (), (), ())


def differences(
    counts: Counts, base: Counts, pairs: Pairs, measure: Measure, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(rows, C) differences by cluster that weighs anything; (rows, 1) where one does, or where the score has no value
    without one."""
    if np.count_nonzero(weights) > 1:
        of_arm, of_base = (pseudo_values(table, measure.of, weights) for table in (counts, base))
        table = by_row(of_arm, pairs.mine) - by_row(of_base, pairs.theirs)
        if np.isfinite(table).all():
            return table
    difference = by_row(measure.of(counts), pairs.mine) - by_row(measure.of(base), pairs.theirs)
    return difference[:, None]
