"""Scores with intervals for the model card: whole, by sensor, by region, and lakes found by size class."""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from glidexp.errors import DataError
from glidexp.scoring.statistics import effect_of, pseudo_values
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.compare import Measure, measure_of
from glidexp.study.comparison.material import Material
from glidexp.tracking.found import TrackedRun
from glidexp.wording import many

NAN = float("nan")
Z = 1.959964
"""of the normal law, for 95 %"""
ALSO = ("test/lake_iou_pooled", "test/f1_pooled", "test/precision_pooled", "test/recall_pooled")
"""stand in every card, on all ground, beside the score that decided"""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % bounds, 0-1; NaN where nothing can be said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A line of the table."""

    ground: str
    score: str
    interval: Interval
    basis: str
    """what it rests on: 12 scenes, 40 lakes in 12 scenes"""
    stratum: bool = False


def rows_of(run: TrackedRun, material: Material, measure: Measure) -> list[ScoreRow]:
    """The table of the card.

    Args:
        run: a scored one
        material: what it left behind; with its lakes where the measure is one of lakes, and where there are any
        measure: the score that decided
    """
    table = material.tables[run.run_id]
    names = dict.fromkeys([measure.name, *ALSO])
    rows = [_row(run, material, measure_of(name)) for name in names]
    for kind in ("sensor", "region"):
        for value in sorted(set(table[kind].astype(str))):
            rows.append(_row(run, material, replace(measure, stratum=(kind, value)), stratum=True))
    return [row for row in rows if row is not None] + lakes_by_size(run, material)


def _row(run: TrackedRun, material: Material, measure: Measure, *, stratum: bool = False) -> ScoreRow | None:
    """None where the score has no value there."""
    try:
        (counts,) = material.sums([Arm("candidate", (run,))], measure)
    except DataError:
        return None
    value = float(measure.of(counts)[0])
    if not np.isfinite(value):
        return None
    low, high = NAN, NAN
    weights = measure.weights(counts)
    if (clusters := int(np.count_nonzero(weights))) > 1:
        pseudo = pseudo_values(counts, measure.of, weights)
        if np.isfinite(pseudo).all():
            effect = effect_of(pseudo, value=value, weights=weights)
            if effect.known:
                low, high = max(effect.low, 0.0), min(effect.high, 1.0)
    short = replace(measure, stratum=None).words
    on = f"{measure.stratum[0]} {measure.stratum[1]}" if measure.stratum else "all"
    return ScoreRow(on, short, Interval(value, low, high), many(clusters, material.ground.kind), stratum)


def lakes_by_size(run: TrackedRun, material: Material) -> list[ScoreRow]:
    """Share of the lakes of each size class that were found, with Wilson's interval."""
    rows, metrics = [], run.metrics
    for key in sorted(key for key in metrics if key.startswith("test/size/") and key.endswith("/lake_recall")):
        prefix = key.removesuffix("/lake_recall")
        count = int(metrics.get(f"{prefix}/lakes", 0))
        if count:
            alike, where = _alike(run, material, measure_of(key), count)
            interval, basis = wilson(metrics[key], alike), many(count, "lake") + where
            rows.append(ScoreRow(f"lakes of {prefix.split('/')[-1]}", "found", interval, basis))
    return rows


def _alike(run: TrackedRun, material: Material, measure: Measure, count: int) -> tuple[float, str]:
    """As many lakes as would say as much if they were drawn one by one, at most their number, and where these lie:
    lakes of one scene are found or missed together, under one light, so that all of them say less.

    Where the clusters have no spread, or are not known, it is their number.

    Source: Korn & Graubard (1998), Surv. Methodol. 24, for the effective number and the quantiles.
    """
    if run.run_id not in material.lakes:
        return count, ""
    (sums,) = material.sums([Arm("candidate", (run,))], measure)
    where = f" in {many(sums.shape[1], material.ground.kind)}"
    share, weights = float(measure.of(sums)[0]), measure.weights(sums)
    if sums.shape[1] < 2 or not 0 < share < 1:
        return count, where
    effect = effect_of(pseudo_values(sums, measure.of, weights), value=share, weights=weights)
    if not effect.known:
        return count, where
    alike = share * (1 - share) / effect.error**2 * (Z / effect.parts.quantile(0.05)) ** 2
    return min(alike, count), where


def wilson(share: float, count: float) -> Interval:
    """95 % interval of a share of a count. Source: Wilson (1927), J. Am. Stat. Assoc. 22."""
    z = Z
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))
