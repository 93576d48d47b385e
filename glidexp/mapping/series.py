"""Lakes over many dates: a row a lake, a row a lake and date, and the totals by date."""

from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from glidexp.data.scenes.degrees import LONLAT, whole_in_degrees
from glidexp.data.steps import Step
from glidexp.mapping.areas import ids_of, on_ellipsoid
from glidexp.mapping.dated_maps import Dated
from glidexp.mapping.known_again import one_lake
from glidexp.mapping.lake_map import BLIND, TWICE, some_of
from glidexp.mapping.observed import ABSENT, SEEN, Observed, observed
from glidexp.mapping.sudden import sudden_loss
from glidexp.mapping.trend import Course, Trend, course, trend
from glidexp.scoring.statistics import holm
from glidexp.wording import does, many

Floats = npt.NDArray[np.float64]
LOSS = ("loss_from", "loss_to", "loss_km2", "loss_held")
"""columns of a sudden loss: the dates between which it was, its area, how many dates on either side hold to it"""
OTHER_PIXELS = 1.2
"""times the finest pixels: beyond it dates are said to differ"""


@dataclass(frozen=True, slots=True)
class Series:
    """What maps of several dates say together."""

    lakes: geopandas.GeoDataFrame
    """a row a lake, the outline of all dates together"""
    dates: geopandas.GeoDataFrame
    """a row a lake and date, the outline of that date"""
    totals: pd.DataFrame
    """a row a date"""
    total: Trend
    """of the lakes that every date says the area of, km2 a year"""
    notes: tuple[str, ...]


def made(dated: Dated, step: Step) -> Series:
    """Knows the lakes again, and says of each what became of it.

    Args:
        dated: maps
        step: told of each round of the work, `rounds` of them
    """
    lake = one_lake([one.shapes for one in dated.maps], step)
    seen = observed(dated, lake, step)
    # of one that is cut at 180 degrees the middle lies between its parts, not half way round the globe
    lon, lat = shapely.get_coordinates(shapely.centroid(whole_in_degrees(seen.unions, LONLAT))).T
    lon = (lon + 180.0) % 360.0 - 180.0
    order = np.lexsort([lat, lon])
    names = np.array(ids_of(lon[order], lat[order]), dtype=object)
    courses = [_course(dated.years, seen, g) for g in order.tolist()]
    common = np.asarray(seen.known.all(axis=1), dtype=bool)
    totals = _totals(dated, seen, common)
    half = (totals["common_high_km2"] - totals["common_low_km2"]).to_numpy() / 2
    total = trend(dated.years, totals["common_km2"].to_numpy(), half)
    return Series(
        _lakes(dated, seen, order, names, courses),
        _dates(dated, seen, order, names),
        totals,
        total,
        _notes(dated, seen, totals),
    )


def rounds(dated: Dated) -> int:
    """How often `made` says that it has come farther."""
    return 2 * len(dated.maps) - 1 + len(dated.texts)


def _course(years: Floats, seen: Observed, g: int) -> Course:
    known = seen.known[g]
    there = seen.state[g][known] == SEEN
    return course(years[known], np.where(there, seen.area_km2[g][known], 0.0), seen.bound_km2[g][known], there)


def _lakes(
    dated: Dated, seen: Observed, order: npt.NDArray[np.int64], names: Any, courses: list[Course]
) -> geopandas.GeoDataFrame:
    """A row a lake."""
    state, known, parts = seen.state[order], seen.known[order], seen.parts[order]
    texts = np.array(dated.texts, dtype=object)
    there, mapped = state == SEEN, parts > 0
    first, last = mapped.argmax(axis=1), mapped.shape[1] - 1 - mapped[:, ::-1].argmax(axis=1)
    p = [one.trend.p for one in courses]
    table = {
        "lake_id": names,
        "verdict": [one.verdict for one in courses],
        "first_seen": texts[first],
        "last_seen": texts[last],
        "absent_before": [_text(texts, row[:n][::-1], -1, n) for row, n in zip(state, first, strict=True)],
        "absent_after": [_text(texts, row[n + 1 :], 1, n) for row, n in zip(state, last, strict=True)],
        "dates": known.sum(axis=1),
        "dates_seen": there.sum(axis=1),
        "dates_missing": (~known).sum(axis=1),
        "gaps": [one.gaps for one in courses],
        "most_parts": parts.max(axis=1, initial=0),
        "first_km2": [one.first_km2 for one in courses],
        "last_km2": [one.last_km2 for one in courses],
        "change_km2": [one.last_km2 - one.first_km2 for one in courses],
        "uncertainty_km2": [one.uncertainty_km2 for one in courses],
        "km2_per_year": [one.trend.rate for one in courses],
        "km2_per_year_low": [one.trend.low for one in courses],
        "km2_per_year_high": [one.trend.high for one in courses],
        "p": p,
        "p_holm": holm(p),
        **_losses(dated, seen, order),
    }
    return geopandas.GeoDataFrame(table, geometry=seen.unions[order], crs=LONLAT)


def _losses(dated: Dated, seen: Observed, order: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
    """The columns of `LOSS`, a row a lake."""
    rows = []
    for g in order.tolist():
        dates = np.flatnonzero(seen.known[g])
        area = np.where(seen.state[g] == SEEN, seen.area_km2[g], 0.0)[dates]
        loss = sudden_loss(area, seen.bound_km2[g][dates])
        if loss is None:
            rows.append(("", "", np.nan, 0))
        else:
            before, after = (dated.texts[d] for d in dates[loss.date : loss.date + 2])
            rows.append((before, after, loss.km2, loss.held))
    return {name: [row[n] for row in rows] for n, name in enumerate(LOSS)}


def _text(texts: Any, states: Any, way: int, n: int) -> str:
    """The nearest date without the lake, counted from date n; "" where no date says that it is not there."""
    absent = np.flatnonzero(states == ABSENT)
    return str(texts[n + way * (1 + int(absent[0]))]) if len(absent) else ""


def _dates(dated: Dated, seen: Observed, order: npt.NDArray[np.int64], names: Any) -> geopandas.GeoDataFrame:
    """A row a lake and date, in the order of lakes, then of dates."""
    dates = len(dated.texts)
    area, bound, state = (table[order].reshape(-1) for table in (seen.area_km2, seen.bound_km2, seen.state))
    mapped = seen.parts[order].reshape(-1) > 0
    size = np.where(mapped, area, np.where(state == ABSENT, 0.0, np.nan))
    table = {
        "lake_id": np.repeat(names, dates),
        "date": np.tile(np.array(dated.texts, dtype=object), len(order)),
        "year": np.tile(dated.years, len(order)),
        "state": state,
        "area_km2": size,
        "area_low_km2": np.where(mapped, np.maximum(area - bound, 0.0), size),
        "area_high_km2": np.where(mapped, area + bound, size),
        "parts": seen.parts[order].reshape(-1),
    }
    return geopandas.GeoDataFrame(table, geometry=seen.outlines[order].reshape(-1), crs=LONLAT)


def _totals(dated: Dated, seen: Observed, common: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """A row a date: all that its maps show, and the lakes whose area every date says. Bounds are those of all shores
    off to the same side."""
    low, high = np.maximum(seen.area_km2 - seen.bound_km2, 0.0), seen.area_km2 + seen.bound_km2
    ground = [np.nan if one is None else _km2(one) for one in seen.grounds]
    told = [one for one in seen.grounds if one is not None]
    shared = told[0] if told else None
    for one in told[1:]:
        shared = shapely.intersection(shared, one)
    return pd.DataFrame(
        {
            "date": dated.texts,
            "year": dated.years,
            "gsd_m": dated.gsd_m,
            "maps": np.bincount(dated.of, minlength=len(dated.texts)),
            "lakes": (seen.parts > 0).sum(axis=0),
            "area_km2": seen.area_km2.sum(axis=0),
            "area_low_km2": low.sum(axis=0),
            "area_high_km2": high.sum(axis=0),
            "ground_km2": ground,
            "common_lakes": (seen.state[common] == SEEN).sum(axis=0),
            "common_km2": seen.area_km2[common].sum(axis=0),
            "common_low_km2": low[common].sum(axis=0),
            "common_high_km2": high[common].sum(axis=0),
            "common_ground_km2": np.nan if shared is None else _km2(shared),
        }
    )


def _km2(ground: Any) -> float:
    if shapely.is_empty(ground):
        return 0.0
    areal = [one for one in shapely.get_parts(ground) if shapely.get_type_id(one) in (3, 6)]
    return float(on_ellipsoid(np.array(areal, dtype=object))[0].sum()) / 1e6 if areal else 0.0


def _notes(dated: Dated, seen: Observed, totals: pd.DataFrame) -> tuple[str, ...]:
    """What a reader of the result has to know."""
    everywhere = [one for one in dated.maps if one.ground is None]
    blind = [one for one in dated.maps if one.blind]
    inexact = [one for one in dated.maps if one.lacking]
    notes = []
    if everywhere:
        notes.append(
            f"{some_of([one.name for one in everywhere])}: no layer ground says what was looked at, so a lake that is "
            "missing there counts as gone."
        )
    notes += [f"{one.name} has {many(one.copies, 'outline')} {TWICE}" for one in dated.maps if one.copies]
    if inexact:
        lacking = sum(one.lacking for one in inexact)
        notes.append(
            f"{some_of([one.name for one in inexact])}: {many(lacking, 'lake')} {does(lacking, 'have')} no "
            "interval of areas, so each is taken as "
            "exact and a change of a pixel may count: give --gsd."
        )
    if blind:
        notes.append(f"{some_of([one.name for one in blind])}: {BLIND}")
    if len(seen.state) and not seen.known.all(axis=1).any():
        same_year = len({int(year) for year in dated.years}) < len(dated.texts)
        notes.append(
            "of no lake every date says how large it is, so there is no total over common ground"
            + (": --by year puts maps of one year together." if same_year else ".")
        )
    notes += _of_pixels(dated)
    kinds = {len(text) for text in dated.texts}
    if len(kinds) > 1:
        notes.append("some dates are years, others days: a year stands in its middle, up to half a year off.")
    return tuple(notes)


def _of_pixels(dated: Dated) -> list[str]:
    """That dates differ in their pixels."""
    sides = dated.gsd_m
    if np.isnan(sides).all():
        return []
    fine, coarse = int(np.nanargmin(sides)), int(np.nanargmax(sides))
    if sides[coarse] < OTHER_PIXELS * sides[fine]:
        return []
    return [
        f"pixels are of {sides[coarse]:.3g} m on {dated.texts[coarse]} and of {sides[fine]:.3g} m on "
        f"{dated.texts[fine]}: a lake that coarse pixels missed seems to appear or to vanish, and totals to change."
    ]
