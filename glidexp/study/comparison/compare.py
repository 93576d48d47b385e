"""`glidexp compare`: is one arm better than another, by how much, and how sure is that? From `scores.parquet` alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glidexp.config.evaluation import CARD, VAL
from glidexp.errors import DataError
from glidexp.scoring.confusion import Counts
from glidexp.scoring.redrawing import exchanged, rank_shares, redrawn
from glidexp.scoring.statistics import (
    Effect,
    by_row,
    detectable,
    deviation,
    effect_of,
    holm,
    sign_flips,
)
from glidexp.study.comparison.arms import Arm, arms_of, told_leaks, told_versions
from glidexp.study.comparison.clusters import Ground
from glidexp.study.comparison.folds import over_folds, told
from glidexp.study.comparison.material import Material, gather
from glidexp.study.comparison.measures import Measure, measure_of
from glidexp.study.comparison.naive_rows import naive_of_all
from glidexp.study.comparison.pairing import NO_PAIRS, Pairs, differences, pairs_of
from glidexp.study.names import those
from glidexp.tracking.found import TrackedRun, all_parts
from glidexp.tracking.store import Store
from glidexp.wording import decimals, many

__all__ = ["Comparison", "Measure", "Row", "compare", "measure_of", "verdict"]

FOUND = {CARD: "on the networks' own val tiles", VAL: "on val tiles of the data set that is scored"}
"""where a threshold was found, by its rule"""
FEW = 6
"""below so many clusters the ground is said to be the bottleneck, whatever the parts say"""


@dataclass(frozen=True, slots=True)
class Row:
    """An arm beside the baseline."""

    arm: Arm
    values: tuple[float, ...]
    """score of each seed"""
    effect: Effect | None = None
    """difference to the baseline; None for the baseline itself, which has nothing of what follows either"""
    p_holm: float = float("nan")
    p_flips: float = float("nan")
    pairs: Pairs = NO_PAIRS
    """which runs were compared with which"""
    detectable: float = float("nan")
    """smallest true difference found with 80 % power, 0-1"""
    bootstrap: tuple[float, float] | None = None
    """interval of the difference by redrawing scenes and seeds, where it was asked for"""

    @property
    def mean(self) -> float:
        """Of the seeds' scores."""
        return float(np.mean(self.values))

    @property
    def sd(self) -> float:
        """Standard deviation between seeds; NaN of a single one."""
        return deviation(self.values)

    @property
    def shares(self) -> dict[str, float]:
        """Of the difference's variance that of `seed`, `cluster` and `rest`; none where one of them came once."""
        parts = self.effect.parts if self.effect else None
        return parts.shares if parts is not None and min(parts.seeds, parts.clusters) > 1 else {}

    def sure(self, level: float) -> bool:
        """Whether the difference holds up, after Holm."""
        return self.p_holm <= 1 - level


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found, baseline first."""

    measure: Measure
    ground: Ground
    clusters: int
    """that hold what is scored"""
    rows: tuple[Row, ...]
    ranks: NDArray[np.float64]
    """(arms, arms) share of redrawn worlds in which an arm takes a rank"""
    level: float
    naive: dict[str, float]
    """the naive rows' score by name: the baseline's, and where it lacks the bands that of another arm"""
    notes: tuple[str, ...]

    @property
    def folds(self) -> int:
        """That each seed was trained on; 0 where it is a single training."""
        return over_folds(row.arm for row in self.rows)


def compare(
    store: Store,
    runs: Sequence[TrackedRun],
    measure: Measure,
    *,
    level: float = 0.95,
    arms: Sequence[Arm] | None = None,
    bootstrap: bool = False,
) -> Comparison:
    """Compares every arm with the first one.

    Args:
        store: holds the runs
        runs: finished; those of the first arm are the baseline
        measure: from `measure_of`
        level: of the intervals, 0-1; 1 - level is the family's error rate after Holm
        arms: of these runs, baseline first, where they are known; else found by what differs
        bootstrap: make that interval too, as a check

    Raises:
        DataError: fewer than two arms, other ground, other labels, another rule for the threshold
        TrackingError: a run without scores
    """
    arms = list(arms) if arms is not None else arms_of(runs)
    if len(arms) < 2:
        what = f"these {len(runs)} runs differ in nothing but their seed" if len(runs) > 1 else "this is a single run"
        what = what if runs else "none of these runs is finished"
        raise DataError(f"{what}: give runs of two settings, or more.")
    same_rule(runs, measure)
    material = gather(store, runs, measure.split, lakes=measure.of_lakes)
    return compare_arms(arms, material, measure, level=level, bootstrap=bootstrap)


def compare_arms(
    arms: Sequence[Arm],
    material: Material,
    measure: Measure,
    *,
    level: float = 0.95,
    ranks: bool = True,
    bootstrap: bool = False,
) -> Comparison:
    """As `compare`, of arms whose scores were read before.

    Args:
        arms: baseline first, two or more
        material: from `gather`
        measure: of the same split
        level: of the intervals
        ranks: how stable the order is, and sign flips, take most of the time; NaN where they are not wanted
        bootstrap: make that interval too
    """
    ground = material.ground
    if measure.aggregation == "per_scene" and ground.kind != "scene":
        raise DataError(f"{measure.name}: the tiles name no scenes; compare a pooled score.")
    counts = material.sums(arms, measure)
    base, family = (arms[0], counts[0]), len(arms) - 1
    rows = [row_of(*base, measure, level)]
    rows += [
        row_of(arm, table, measure, level, base=base, bootstrap=bootstrap, flips=ranks, family=family)
        for arm, table in zip(arms[1:], counts[1:], strict=True)
    ]
    adjusted = holm([row.effect.p for row in rows if row.effect])
    rows[1:] = [replace(row, p_holm=p) for row, p in zip(rows[1:], adjusted, strict=True)]
    sign = measure.better or 1
    shares = rank_shares(counts, lambda c: sign * measure.of(c)) if ranks else np.full((len(arms),) * 2, np.nan)
    return Comparison(
        measure=measure,
        ground=ground,
        clusters=int(np.count_nonzero(measure.weights(*counts))),
        rows=tuple(rows),
        ranks=shares,
        level=level,
        naive=naive_of_all(arms, material.tables, measure),
        notes=_notes(arms, rows, ground),
    )


def verdict(row: Row, comparison: Comparison) -> str:
    """What can be said, in words."""
    effect = row.effect
    if effect is None:
        return "baseline"
    if not effect.known:
        if effect.parts.seeds == effect.parts.clusters == 1:
            return "one training on one piece of ground: nothing can be said"
        if effect.value == 0:
            return "not distinguishable: every pair gives the same score"
        return "every pair gives the same difference: without spread nothing can be said"
    if row.sure(comparison.level):
        only = [what for what, n in (("trainings", effect.parts.seeds), ("ground", effect.parts.clusters)) if n == 1]
        better = comparison.measure.better
        said = ("higher", "lower") if not better else ("better", "worse")
        return said[0 if effect.value * (better or 1) > 0 else 1] + (f", on the {only[0]} at hand" if only else "")
    if effect.distinguishable:
        tests = sum(row.effect is not None and row.effect.known for row in comparison.rows)  # that Holm counts
        return f"not distinguishable among {many(tests, 'comparison')} (alone it would be)"
    kind, shares = f"{comparison.ground.kind}s", effect.parts.shares
    if effect.parts.seeds == 1:
        means = row.arm.of_means or comparison.rows[0].arm.of_means
        return f"not distinguishable: {'means (one pair)' if means else 'trainings (one seed)'} are the bottleneck"
    if not shares["cluster"] and not shares["seed"]:
        return f"not distinguishable: more {kind} or more seeds would tell, either of them"
    if shares["cluster"] >= shares["seed"]:
        return f"not distinguishable: {kind}, not seeds, are the bottleneck"
    return f"not distinguishable: seeds, not {kind}, are the bottleneck"


def sentence(row: Row, comparison: Comparison) -> str:
    """The difference, its interval, what can be said: `+1.8 lake IoU points (region andes) [0.6, 3.1], better`."""
    effect, measure = row.effect, comparison.measure
    if effect is None:
        return verdict(row, comparison)
    value, low, high = (measure.scale * number for number in (effect.value, effect.low, effect.high))
    least = 1 if max(abs(value), abs(high - low) if effect.known else 0.0) >= 1 else 2
    digits = decimals(value, low, high, least=least)
    what = f"{measure.plain} {measure.unit}" if measure.unit == "points" else f"{measure.unit} of {measure.plain}"
    what += f" ({measure.place})" if measure.place else ""
    between = f"[{low:.{digits}f}, {high:.{digits}f}]" if effect.known else "[no interval]"
    return f"{value:+.{digits}f} {what} {between}, {verdict(row, comparison)}"


def row_of(
    arm: Arm,
    counts: Counts,
    measure: Measure,
    level: float,
    *,
    base: tuple[Arm, Counts] | None = None,
    bootstrap: bool = False,
    flips: bool = False,
    family: int = 1,
) -> Row:
    """An arm beside another one, `base`, or alone; seeds that both have are paired, and clusters of ground.

    Counts are (S, C, k), on the same C clusters; `bootstrap` is that of `compare_arms`, `flips` whether p of sign flips
    is wanted; of `family` comparisons this is one, so that its detectable difference is that of Holm's first step.
    """
    values = tuple(float(value) for value in np.atleast_1d(measure.of(counts)))
    if base is None:
        return Row(arm, values)
    other, base_counts = base
    pairs = pairs_of(arm, other)
    of_arm, of_base = by_row(measure.of(counts), pairs.mine), by_row(measure.of(base_counts), pairs.theirs)
    value = float(np.mean(of_arm - of_base))
    if not np.isfinite(value):
        raise DataError(f"{measure.name} has no value for '{arm.name}' or '{other.name}' (0/0): compare another score.")
    mine, theirs = ([place for row in places for place in row] for places in (pairs.mine, pairs.theirs))
    weights = measure.weights(counts[mine], base_counts[theirs])
    table = differences(counts, base_counts, pairs, measure, weights)
    effect = effect_of(table, value=value, level=level, weights=weights)
    p, rows = float("nan"), list(zip(pairs.mine, pairs.theirs, strict=True))
    if flips and table.shape[1] > 1:
        if measure.aggregation == "per_scene":
            p = sign_flips(table.mean(axis=0))
        else:
            p = exchanged(base_counts, counts, measure.of, rows=rows, weights=weights)
    drawn = redrawn(base_counts, counts, measure.of, rows=rows, level=level) if bootstrap and effect.known else None
    least = detectable(effect.parts, alpha=(1 - level) / family) if effect.known else float("nan")
    return Row(arm, values, effect, p_flips=p, pairs=pairs, detectable=least, bootstrap=drawn)


def same_rule(runs: Sequence[TrackedRun], measure: Measure) -> None:
    """Refuses runs whose threshold was chosen in different ways.

    Raises:
        DataError: naming two of them
    """
    if measure.at_half:
        return
    rules = {run.params.get("eval.threshold", CARD): run for run in all_parts(runs)}
    if len(rules) > 1:
        (one, first), (other, second) = list(rules.items())[:2]
        said = "; ".join(f"{rule}: {FOUND[rule]}" for rule in (one, other) if rule in FOUND)
        raise DataError(
            f"runs {first.run_id[:12]} and {second.run_id[:12]} have different rules for the threshold (eval.threshold "
            f"{one} and {other}{'; ' * bool(said)}{said}): {_instead(measure)}."
        )


def _instead(measure: Measure) -> str:
    if measure.of_lakes:
        return "lakes were made at that threshold; score the runs with one rule (glidexp evaluate)"
    half = f"{measure.split}/at_0.5/{measure.score}_{measure.aggregation}"
    return f"score the runs with one rule (glidexp evaluate), or compare {half}"


def _notes(arms: Sequence[Arm], rows: Sequence[Row], ground: Ground) -> tuple[str, ...]:
    held: dict[str, list[str]] = {}
    for row in rows[1:]:
        for note in _notes_of(row, arms[0], ground):
            held.setdefault(note, []).append(row.arm.name)
    every = [row.arm.name for row in rows[1:]]
    notes = [ground.caveat] if ground.caveat else []
    notes += [f"{those(names, every)}: {note}" for note, names in held.items()]
    runs = [run for arm in arms for run in arm.runs]
    return (*notes, *told(arms), *told_versions(runs), *told_leaks(runs))


def _notes_of(row: Row, base: Arm, ground: Ground) -> Iterable[str]:
    one = "seed" if row.arm.runs[0].folds else "run" if row.arm.of_means or base.of_means else "training"
    pairs = row.pairs
    if not pairs.shared:
        yield f"no seed in common with the baseline; {one}s were matched in order"
    elif pairs.extra:
        yield f"seed {', '.join(pairs.extra)} is in one arm only and took no part"
    if pairs.together:
        rows = ", ".join(pairs.together)
        yield f"runs that share a seed are not independent, so they are averaged and count as one: {rows}"
    if row.effect and row.effect.parts.seeds == 1:
        yield f"one {one} an arm, so that the luck of a seed is in no interval"
    if row.effect and row.effect.parts.clusters == 1:
        yield f"all lakes lie in one {ground.kind}: the luck of the ground is in no interval"
