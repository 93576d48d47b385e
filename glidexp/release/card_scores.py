"""Scores with intervals for the model card: whole, by sensor, by region, and lakes found by size class."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd

from glidexp.scoring.statistics import effect_of, pseudo_values
from glidexp.study.arms import Arm, common_ground, counts_of
from glidexp.study.compare import Measure
from glidexp.tracking.found import TrackedRun

NAN = float("nan")


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
    """what it rests on: 12 scenes, 40 lakes"""
    stratum: bool = False


def rows_of(run: TrackedRun, table: pd.DataFrame, measure: Measure) -> list[ScoreRow]:
    """The table of the card.

    Args:
        run: a scored one
        table: its rows of scores.parquet, of test
        measure: the primary score
    """
    tables = {run.run_id: table}
    arm = Arm("candidate", (run,))
    ground = common_ground(tables)
    short = measure.name.removeprefix("test/")
    rows = []
    wanted: list[tuple[str, str] | None] = [None]
    wanted += [(kind, value) for kind in ("sensor", "region") for value in sorted(set(table[kind].astype(str)))]
    for stratum in wanted:
        counts = counts_of(arm, tables, ground, at_half=measure.at_half, stratum=stratum)[0]
        value = float(measure.of(counts)[0])
        if not np.isfinite(value):
            continue
        low, high = NAN, NAN
        if counts.shape[1] > 1:
            pseudo = pseudo_values(counts, measure.of)
            if np.isfinite(pseudo).all():
                effect = effect_of(pseudo, value=value)
                low, high = max(effect.low, 0.0), min(effect.high, 1.0)
        named = f"{stratum[0]} {stratum[1]}" if stratum else "all"
        many = counts.shape[1]
        rows.append(
            ScoreRow(
                named, short, Interval(value, low, high), f"{many} {ground.kind}{'s' * (many != 1)}", bool(stratum)
            )
        )
    return rows + lakes_by_size(run.metrics)


def lakes_by_size(metrics: Mapping[str, float]) -> list[ScoreRow]:
    """Share of the lakes of each size class that were found, with Wilson's interval over lakes."""
    rows = []
    for key in sorted(key for key in metrics if key.startswith("test/size/") and key.endswith("/lake_recall")):
        prefix = key.removesuffix("/lake_recall")
        count = int(metrics.get(f"{prefix}/lakes", 0))
        if count:
            found = f"{count} lake{'s' * (count != 1)}"
            rows.append(ScoreRow(f"lakes of {prefix.split('/')[-1]}", "found", wilson(metrics[key], count), found))
    return rows


def wilson(share: float, count: int, z: float = 1.959964) -> Interval:
    """Interval of a share of a count. Source: Wilson (1927), J. Am. Stat. Assoc. 22."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))
