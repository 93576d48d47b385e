"""The naive rows beside a comparison: what all background, and a threshold of each water index, score on its ground."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from glidexp.scoring.confusion import SCORES
from glidexp.scoring.naive import ROWS
from glidexp.study.comparison.arms import Arm
from glidexp.study.comparison.folds import of_parts
from glidexp.study.comparison.measures import Measure
from glidexp.tracking.found import TrackedRun

POOLED = "pooled"


def naive_of(metrics: Mapping[str, float], measure: Measure) -> dict[str, float]:
    """Naive rows of the same score, among a run's metrics. They have no threshold of a network and no strata."""
    if measure.stratum is not None:
        return {}
    score = measure.name.removeprefix(f"{measure.split}/").removeprefix("at_0.5/")
    names = {kind: f"{measure.split}/naive/{kind}/{score}" for kind in ROWS}
    return {kind: metrics[name] for kind, name in names.items() if name in metrics}


def naive_of_all(arms: Sequence[Arm], tables: Mapping[str, pd.DataFrame], measure: Measure) -> dict[str, float]:
    """Naive rows are of the same ground in every arm, but an arm has those alone whose bands it has.

    Args:
        arms: baseline first
        tables: rows of scores.parquet of the split, by run id
        measure: the score
    """
    found: dict[str, float] = {}
    for arm in arms:
        run = arm.runs[0]
        of = _over_folds(run, tables[run.run_id], measure) if run.folds else naive_of(run.metrics, measure)
        found = of | found
    return {kind: found[kind] for kind in ROWS if kind in found}


def _over_folds(run: TrackedRun, table: pd.DataFrame, measure: Measure) -> dict[str, float]:
    """The same for the ground of all folds together, each at the threshold that was fitted for it.

    Sums of pixels are found again from the scores of each fold, to the last one; means over scenes are not.
    """
    if measure.stratum is not None or measure.aggregation != POOLED or measure.score not in SCORES:
        return {}
    of_each = list(zip(run.parts, of_parts(run, table), strict=True))
    found = {}
    for kind in ROWS:
        prefix = f"{measure.split}/naive/{kind}/"
        if all(_has(part.metrics, prefix) for part, _ in of_each):
            counts = [_counts(part.metrics, prefix, own) for part, own in of_each]
            found[kind] = float(SCORES[measure.score](np.sum(counts, axis=0)))
    return {kind: value for kind, value in found.items() if np.isfinite(value)}


def _has(metrics: Mapping[str, float], prefix: str) -> bool:
    """Whether a run has a row: of ground without lake, and none predicted, no score of it has a value."""
    if prefix.endswith("/background/"):
        return any(name.startswith(prefix.removesuffix("background/")) for name in metrics)
    return f"{prefix}threshold" in metrics


def _counts(metrics: Mapping[str, float], prefix: str, table: pd.DataFrame) -> list[int]:
    """tp, fp, fn, tn of a naive row, from its scores and from the lake and valid pixels of its ground."""
    lake, valid = int(table["lake_px"].sum()), int(table["valid_px"].sum())
    precision = metrics.get(f"{prefix}precision_{POOLED}")  # not there where no lake is predicted
    tp = round(metrics.get(f"{prefix}recall_{POOLED}", 0.0) * lake)
    if precision is None:
        fp = 0
    elif tp:
        fp = round(tp / precision) - tp
    else:  # the IoU of lake is 0, and that of the rest is all there is in the mean of both
        fp = valid - lake - round(2 * metrics[f"{prefix}miou_two_class_{POOLED}"] * valid)
    return [tp, fp, lake - tp, valid - lake - fp]
