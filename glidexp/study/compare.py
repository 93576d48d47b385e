"""`glidexp compare`: is one arm better than another, by how much, and how sure is that? From `scores.parquet` alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.errors import ConfigError, DataError
from glidexp.scoring.confusion import SCORES, STRATA, Counts
from glidexp.scoring.statistics import (
    Effect,
    Score,
    detectable,
    effect_of,
    holm,
    pseudo_values,
    rank_shares,
    sign_flips,
)
from glidexp.study.arms import Arm, Ground, arms_of, common_ground, counts_of, read_tables
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import Store

AGGREGATIONS = ("pooled", "per_scene")
FEW = 6
"""below so many clusters the ground is said to be the bottleneck, whatever the parts say"""


@dataclass(frozen=True, slots=True)
class Measure:
    """A score as its name says it."""

    name: str
    """as in tracking: test/sensor/landsat8/lake_iou_pooled"""
    split: str
    score: str
    aggregation: str
    at_half: bool
    stratum: tuple[str, str] | None

    def of(self, counts: Counts) -> NDArray[np.float64]:
        """(..., C, 4) -> (...), 0-1."""
        if self.aggregation == "pooled":
            return SCORES[self.score](counts.sum(axis=-2))
        of_clusters = SCORES[self.score](counts)
        known = ~np.isnan(of_clusters)
        total = np.where(known, of_clusters, 0.0).sum(axis=-1)
        return np.divide(total, known.sum(axis=-1), out=np.full(total.shape, np.nan), where=known.any(axis=-1))


@dataclass(frozen=True, slots=True)
class Row:
    """An arm beside the baseline."""

    arm: Arm
    values: tuple[float, ...]
    """score of each seed"""
    effect: Effect | None
    """difference to the baseline; None for the baseline itself"""
    p_holm: float
    p_flips: float
    paired: tuple[int, ...]
    """seeds that both arms have; empty: trainings were matched in order"""
    detectable: float
    """smallest true difference found with 80 % power, 0-1"""

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
    """the naive rows' score by name, the same for every arm"""
    notes: tuple[str, ...]


def measure_of(name: str) -> Measure:
    """Reads the name of a score.

    Raises:
        ConfigError: no score of that name can be compared
    """
    strata = "|".join(STRATA)
    found = re.fullmatch(
        rf"(?P<split>test|val)/(?:(?P<half>at_0\.5)/)?(?:(?P<kind>{strata})/(?P<value>[^/]+)/)?"
        rf"(?P<score>{'|'.join(SCORES)})_(?P<how>{'|'.join(AGGREGATIONS)})",
        name,
    )
    if found is None:
        raise ConfigError(
            f"--score {name} cannot be compared: it must be test/SCORE_HOW with SCORE one of {', '.join(SCORES)} and "
            f"HOW {' or '.join(AGGREGATIONS)}, with at_0.5/, sensor/NAME/ or region/NAME/ between if wanted."
        )
    stratum = (found["kind"], found["value"]) if found["kind"] else None
    return Measure(name, found["split"], found["score"], found["how"], found["half"] is not None, stratum)


def compare(store: Store, runs: Sequence[TrackedRun], measure: Measure, *, level: float = 0.95) -> Comparison:
    """Compares every arm with the first one.

    Args:
        store: holds the runs
        runs: finished; those of the first arm are the baseline
        measure: from `measure_of`
        level: of the intervals, 0-1; 1 - level is the family's error rate after Holm

    Raises:
        DataError: fewer than two arms, other ground, other labels, another rule for the threshold
        TrackingError: a run without scores
    """
    arms = arms_of(runs)
    if len(arms) < 2:
        raise DataError(f"these {len(runs)} runs differ in nothing but their seed: give runs of two settings, or more.")
    _same_rule(runs, measure)
    tables = read_tables(store, runs, measure.split)
    ground = common_ground(tables)
    if measure.aggregation == "per_scene" and ground.kind != "scene":
        raise DataError(f"{measure.name}: the tiles name no scenes; compare a pooled score.")
    counts = [counts_of(arm, tables, ground, at_half=measure.at_half, stratum=measure.stratum)[0] for arm in arms]
    rows = [_row(arms[0], counts[0], None, None, measure, level)]
    rows += [
        _row(arm, table, arms[0], counts[0], measure, level) for arm, table in zip(arms[1:], counts[1:], strict=True)
    ]
    adjusted = holm([row.effect.p for row in rows if row.effect])
    rows[1:] = [_with_holm(row, p) for row, p in zip(rows[1:], adjusted, strict=True)]
    return Comparison(
        measure=measure,
        ground=ground,
        clusters=counts[0].shape[1],
        rows=tuple(rows),
        ranks=rank_shares(counts, measure.of),
        level=level,
        naive=_naive(runs[0], measure),
        notes=_notes(arms, rows, ground),
    )


def verdict(row: Row, comparison: Comparison) -> str:
    """What can be said, in words."""
    effect = row.effect
    if effect is None:
        return "baseline"
    if effect.low != effect.low:
        return "one training on one piece of ground: nothing can be said"
    if row.sure(comparison.level):
        only = [what for what, n in (("trainings", effect.parts.seeds), ("ground", effect.parts.clusters)) if n == 1]
        return ("better" if effect.value > 0 else "worse") + (f", on the {only[0]} at hand" if only else "")
    if effect.distinguishable:
        return f"not distinguishable among {len(comparison.rows) - 1} comparisons (alone it would be)"
    shares = effect.parts.shares
    wanting = "trainings" if shares["seed"] > shares["cluster"] else f"{comparison.ground.kind}s"
    if effect.parts.clusters < FEW:
        wanting = f"{comparison.ground.kind}s"
    if effect.parts.seeds == 1:
        wanting = "trainings (one seed)"
    return f"not distinguishable: {wanting} are the bottleneck"


def _row(arm: Arm, counts: Counts, base: Arm | None, base_counts: Counts | None, measure: Measure, level: float) -> Row:
    values = tuple(float(value) for value in np.atleast_1d(measure.of(counts)))
    nothing = float("nan")
    if base is None or base_counts is None:
        return Row(arm, values, None, nothing, nothing, (), nothing)
    shared = tuple(sorted(set(arm.seeds) & set(base.seeds)))
    if shared:
        mine = [arm.seeds.index(seed) for seed in shared]
        theirs = [base.seeds.index(seed) for seed in shared]
    else:  # trainings are exchangeable: any pairing made without looking at scores is as good
        mine = theirs = list(range(min(len(counts), len(base_counts))))
    of_arm, of_base = counts[mine], base_counts[theirs]
    value = float(np.mean(measure.of(of_arm) - measure.of(of_base)))
    if not np.isfinite(value):
        raise DataError(f"{measure.name} has no value for '{arm.name}' or '{base.name}' (0/0): compare another score.")
    table = _differences(of_arm, of_base, measure)
    effect = effect_of(table, value=value, level=level)
    flips = sign_flips(table.mean(axis=0)) if table.shape[1] > 1 else nothing
    return Row(arm, values, effect, nothing, flips, shared, detectable(effect.parts, alpha=1 - level))


def _differences(of_arm: Counts, of_base: Counts, measure: Measure) -> NDArray[np.float64]:
    """(S, C) differences by cluster; (S, 1) where there is one cluster, or one without which the score has no value."""
    if of_arm.shape[1] > 1:
        score: Score = measure.of
        table = pseudo_values(of_arm, score) - pseudo_values(of_base, score)
        if np.isfinite(table).all():
            return table
    difference: NDArray[np.float64] = measure.of(of_arm) - measure.of(of_base)
    return difference[:, None]


def _with_holm(row: Row, p: float) -> Row:
    return Row(row.arm, row.values, row.effect, p, row.p_flips, row.paired, row.detectable)


def _same_rule(runs: Sequence[TrackedRun], measure: Measure) -> None:
    """Refuses runs whose threshold was chosen in different ways."""
    if measure.at_half:
        return
    rules = {run.params.get("eval.threshold", "card"): run for run in runs}
    if len(rules) > 1:
        (one, first), (other, second) = list(rules.items())[:2]
        raise DataError(
            f"runs {first.run_id[:12]} and {second.run_id[:12]} have different rules for the threshold (eval.threshold "
            f"{one} and {other}): compare {measure.split}/at_0.5/{measure.score}_{measure.aggregation}."
        )


def _naive(run: TrackedRun, measure: Measure) -> dict[str, float]:
    """Naive rows of the same score. They have no threshold of a network and no strata."""
    if measure.stratum is not None:
        return {}
    name = f"{measure.split}/naive/{{}}/{measure.score}_{measure.aggregation}"
    return {
        kind: run.metrics[name.format(kind)]
        for kind in ("index_threshold", "background")
        if name.format(kind) in run.metrics
    }


def _notes(arms: Sequence[Arm], rows: Sequence[Row], ground: Ground) -> tuple[str, ...]:
    notes = [ground.caveat] if ground.caveat else []
    for row in rows[1:]:
        extra = sorted(set(row.arm.seeds) ^ set(arms[0].seeds))
        if not row.paired:
            notes.append(f"{row.arm.name}: no seed in common with the baseline; trainings were matched in order")
        elif extra:
            notes.append(f"{row.arm.name}: seed {', '.join(map(str, extra))} is in one arm only and took no part")
        if row.effect and row.effect.parts.seeds == 1:
            notes.append(f"{row.arm.name}: one training an arm, so that the luck of a seed is in no interval")
        if row.effect and row.effect.parts.clusters == 1:
            notes.append(
                f"{row.arm.name}: all lakes lie in one {ground.kind}: the luck of the ground is in no interval"
            )
    leaking = [run.run_id[:12] for arm in arms for run in arm.runs if run.tags.get("glidexp.leak") == "true"]
    if leaking:
        notes.append(f"LEAKING: {', '.join(leaking)} were scored on ground that was met in training")
    return tuple(notes)


def as_table(comparison: Comparison) -> pd.DataFrame:
    """A row an arm, for CSV: name, seeds, mean, sd, difference with bounds, p values, verdict. Scores as 0-1."""
    found = []
    for place, row in enumerate(comparison.rows):
        effect = row.effect
        found.append(
            {
                "arm": row.arm.name,
                "n_seeds": len(row.values),
                f"n_{comparison.ground.kind}s": comparison.clusters,
                "mean": float(np.mean(row.values)),
                "sd_seeds": float(np.std(row.values, ddof=1)) if len(row.values) > 1 else float("nan"),
                "difference": effect.value if effect else float("nan"),
                "low": effect.low if effect else float("nan"),
                "high": effect.high if effect else float("nan"),
                "level": comparison.level,
                "p": effect.p if effect else float("nan"),
                "p_holm": row.p_holm,
                "p_sign_flips": row.p_flips,
                "share_best": float(comparison.ranks[place, 0]),
                "detectable": row.detectable,
                "verdict": verdict(row, comparison),
            }
        )
    return pd.DataFrame(found)
