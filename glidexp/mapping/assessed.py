"""How good a map of lakes is: its scores against reference lakes, on all its ground or on cells drawn from it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.data.sizes import SIZES_KM2, size_of
from glidexp.mapping.against import Against, Met
from glidexp.scoring.stratified import Estimate, Sample

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
COLUMNS = ("name", "value", "low", "high", "units", "of")
"""of the table of scores: how many lakes or cells a score is of"""
ROUNDED_KM2 = 1e-9
"""a thousandth of a square metre"""


@dataclass(frozen=True, slots=True)
class Assessed:
    """What was found."""

    scores: pd.DataFrame
    """columns of `COLUMNS`"""
    strata: pd.DataFrame
    """a row a kind of cell: cells, looked_at, and how many of these hold lakes that are mapped, true, missed, false"""


def assessed(
    found: Against,
    sample: Sample,
    kinds: tuple[str, ...],
    *,
    mapped_km2: float,
    least_km2: float,
    areas_from_km2: float = 0.0,
    types: npt.NDArray[np.object_],
    held_in: Flags | None,
) -> Assessed:
    """Scores of a map.

    Args:
        found: both sides on the cells that were looked at
        sample: of which the cells are
        kinds: names of the strata
        mapped_km2: area of all mapped lakes that count, on cells that were looked at or not
        least_km2: smaller lakes count neither as found nor as missed, nor as false
        areas_from_km2: areas of smaller lakes do not count, as `found` was made
        types: of each true lake, "" where not known
        held_in: (H,) strata that can hold mapped lakes; None: all
    """
    true, mapped = found.true, found.mapped
    table = _Table(found, sample, [], areas_from_km2)
    some, shown = _counted(true, least_km2), _counted(mapped, least_km2)
    missed, false = (_beyond(side, found.both_km2) for side in (found.true_km2, found.mapped_km2))
    n, m = int(some.sum()), int(shown.sum())
    precision = table.ground("precision_pooled", found.both_km2, false, m, held_in)
    recall = table.ground("recall_pooled", found.both_km2, missed, n)
    table.ground("f1_pooled", 2 * found.both_km2, missed + false, n)
    table.ground("lake_iou_pooled", found.both_km2, missed + false, n)
    table.lakes("lake_precision", mapped, shown, mapped.touched, held_in)
    table.lakes("lake_precision_iou50", mapped, shown, mapped.alike, held_in)
    table.lakes("lake_recall", true, some, true.touched)
    table.lakes("lake_recall_iou50", true, some, true.alike)
    counted_km2, true_km2 = found.large_km2 or (found.mapped_km2, found.true_km2)
    if found.both_km2.any() and counted_km2.any():
        area = _true_area(mapped_km2, precision, recall)
        if found.large_km2:  # what is right of small ones of either side is in both shares, and in no total
            area = area.times(mapped_km2 * sample.sum(true_km2)[0] / sample.sum(counted_km2)[0] / area.value)
    else:  # of the map's area none is right, as far as is known
        area = sample.total(true_km2, table.usual_km2)
    table.of_ground("area_predicted_km2", Estimate(mapped_km2, mapped_km2, mapped_km2), m)
    table.of_ground("area_true_km2", area, n)
    table.of_ground("area_total_bias_percent", _bias(mapped_km2, area), n)
    classes = size_of(true.area_km2)
    for name in SIZES_KM2:
        table.lakes(f"size/{name}/lake_recall", true, some & (classes == name), true.touched)
    for name in sorted({*types[some].tolist()} - {""}):
        table.lakes(f"lake_type/{name}/lake_recall", true, some & (types == name), true.touched)
    held = {
        "with_mapped": table.per_cell(mapped, shown),
        "with_true": table.per_cell(true, some),
        "with_missed": table.per_cell(true, some & ~true.touched),
        "with_false": table.per_cell(mapped, shown & ~mapped.touched),
    }
    return Assessed(pd.DataFrame(table.rows, columns=list(COLUMNS)), _strata(sample, kinds, held))


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of scores as they are made."""

    found: Against
    sample: Sample
    rows: list[tuple[str, float, float, float, int, str]]
    areas_from_km2: float

    def lakes(self, name: str, side: Met, some: Flags, right: Flags, where: Flags | None = None) -> None:
        """Share of the lakes of a side that are right, where there are any."""
        if some.any():
            good, bad = (self.per_cell(side, some & those) for those in (right, ~right))
            n = int(some.sum())
            self._add(name, self.sample.share(good, bad, n, 1.0, where), n, "lakes")

    def ground(self, name: str, part: Floats, rest: Floats, lakes: int, where: Flags | None = None) -> Estimate:
        """Share of a part of the lake area of the cells; `lakes` are told where all ground is one cell."""
        units = int((part + rest > 0).sum())
        share = self.sample.share(part, rest, units, self.usual_km2, where)
        self.of_ground(name, share, lakes, units)
        return share

    def of_ground(self, name: str, value: Estimate, lakes: int, cells: int | None = None) -> None:
        """What is of the ground, not of its lakes."""
        if self.sample.whole:
            self._add(name, value, lakes, "lakes")
        else:
            self._add(name, value, len(self.found.true_km2) if cells is None else cells, "cells")

    def per_cell(self, side: Met, some: Flags) -> Floats:
        """Lakes in each cell."""
        return np.bincount(side.cell[some], minlength=len(self.found.true_km2)).astype(np.float64)

    @property
    def usual_km2(self) -> float:
        """Area of a lake that counts: of the reference, else of the map; NaN where neither has any."""
        for side in (self.found.true, self.found.mapped):
            if (some := _counted(side, self.areas_from_km2)).any():
                return float(side.area_km2[some].mean())
        return float("nan")

    def _add(self, name: str, value: Estimate, units: int, of: str) -> None:
        self.rows.append((name, value.value, value.low, value.high, units, of))


def _beyond(side_km2: Floats, both_km2: Floats) -> Floats:
    """Area of one side alone; nothing where it is no more than rounding leaves."""
    more = side_km2 - both_km2
    return np.where(more > ROUNDED_KM2, more, 0.0)


def _counted(side: Met, least_km2: float) -> Flags:
    """Lakes that lie in a cell and are large enough."""
    return (side.cell >= 0) & (side.area_km2 >= least_km2)


def _true_area(mapped_km2: float, precision: Estimate, recall: Estimate) -> Estimate:
    """The map's area, less what is wrong of it and more for what it missed: area times precision over recall.

    Both say of missed and wrong area how little a few large lakes tell, which the spread of their sum does not: drawn
    from generated maps that missed some large frozen lakes, its interval held the truth in 67 % of draws. Ends are put
    together as logarithms, as if both were independent (Zou and Donner 2008, Stat. Med. 27, for sums).
    """
    p, r = precision, recall
    value = mapped_km2 * p.value / r.value
    fall = np.hypot(_ratio(p.value, p.low), _ratio(r.high, r.value))
    rise = np.hypot(_ratio(p.high, p.value), _ratio(r.value, r.low))
    return Estimate(value, value * float(np.exp(-fall)), value * float(np.exp(rise)))


def _ratio(large: float, small: float) -> float:
    """Logarithm of how many times a value is another; endless where that is 0."""
    return float(np.log(large / small)) if small > 0 else float("inf")


def _bias(mapped_km2: float, true: Estimate) -> Estimate:
    """By how many per cent the map's area is off; NaN without true lake, endless where there may be none."""
    if true.value <= 0:
        return Estimate(*[float("nan")] * 3)
    value, low, high = (
        100 * (mapped_km2 / v - 1) if v > 0 else float("inf") for v in (true.value, true.high, true.low)
    )
    return Estimate(value, low, high)


def _strata(sample: Sample, kinds: tuple[str, ...], held: dict[str, Floats]) -> pd.DataFrame:
    table = {"kind": list(kinds), "cells": sample.size.astype(np.int64), "looked_at": sample.seen.astype(np.int64)}
    for name, lakes in held.items():
        table[name] = np.bincount(sample.stratum, lakes > 0, minlength=len(kinds)).astype(np.int64)
    found = pd.DataFrame(table)
    return found[found["cells"] > 0].reset_index(drop=True)
