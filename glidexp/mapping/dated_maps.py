"""Maps read with their dates, in the order of these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.data.scenes.features import columns_of, layer_of
from glidexp.data.steps import Step
from glidexp.errors import DataError
from glidexp.mapping import lake_map
from glidexp.mapping.lake_map import Map
from glidexp.mapping.map_dates import COLUMN, When, beside_it, distinct, gsd_beside_it, in_name, is_nothing, when
from glidexp.wording import many

SETTING = "MAP"
HOW = "name the column that holds it with --date, or write it into the file's name, as in lakes_2015-10-30.gpkg"


@dataclass(frozen=True, slots=True)
class Dated:
    """Maps by date, those of one date beside each other."""

    maps: tuple[Map, ...]
    of: npt.NDArray[np.int64]
    """which date each map is of, ascending"""
    texts: tuple[str, ...]
    """of the dates: 2015-10-30, or 2015"""
    years: npt.NDArray[np.float64]
    """of the dates, with the part of the year that has passed"""

    @property
    def gsd_m(self) -> npt.NDArray[np.float64]:
        """(D,) side of a pixel on each date, the coarsest of its maps; NaN where none of them says."""
        sides = np.array([np.nan if one.gsd_m is None else one.gsd_m for one in self.maps])
        return np.array([np.fmax.reduce(sides[self.of == d]) for d in range(len(self.texts))])


def read_all(
    paths: Sequence[Path],
    step: Step,
    *,
    gsd_m: float | None = None,
    layer: str | None = None,
    column: str | None = None,
    by_year: bool = False,
    half_pixel: bool = False,
) -> Dated:
    """Reads maps and puts them in the order of their dates.

    Args:
        paths: of maps; one may hold several dates, where a column says which lake is of which
        step: told of each file
        gsd_m: as for `lake_map.read`
        layer: as for `lake_map.read`
        column: that holds the date; `date`, where there is one, when not given
        by_year: maps of one year are of one date
        half_pixel: as for `lake_map.read`

    Raises:
        DataError: one cannot be read, one has no date, or all are of one date
    """
    _check_once(paths)
    found: list[tuple[When, Map]] = []
    for path in paths:
        found += _dated(path, gsd_m, layer, column, half_pixel)
        step(path.name)
    # of one date in the order in which they were given
    found.sort(key=lambda one: _place(one[0], by_year))
    dates = [list(group) for _, group in groupby(found, key=lambda one: _place(one[0], by_year))]
    texts = [str(group[0][0].first.year) if by_year else group[0][0].text for group in dates]
    if len(dates) < 2:
        what = "year" if by_year else "date"
        given = "the one file is" if len(paths) == 1 else f"all {len(paths)} files are"
        raise DataError(
            f"{SETTING}: {given} of one {what} ({texts[0]}): a series needs two or more; "
            + ("leave out --by year, or add maps of other years." if by_year else "add maps of others.")
        )
    return Dated(
        tuple(one for group in dates for _, one in group),
        np.repeat(np.arange(len(dates)), [len(group) for group in dates]),
        tuple(texts),
        np.array([np.mean([one.year for one, _ in group]) for group in dates]),
    )


def _place(one: When, by_year: bool) -> tuple[float, When]:
    """Where a date stands among others."""
    return (one.whole_year.year, one.whole_year) if by_year else (one.year, one)


def _check_once(paths: Sequence[Path]) -> None:
    """A shell's `maps/*_lakes.*` names GeoPackage and GeoParquet of each map."""
    seen: dict[Path, Path] = {}
    for path in paths:
        stem = path.absolute().with_suffix("")
        if stem in seen:
            if seen[stem].absolute() == path.absolute():
                raise DataError(f"{SETTING}: {path} is given twice: give it once.")
            raise DataError(f"{SETTING}: {seen[stem]} and {path} are one map: give one of them, best the GeoPackage.")
        seen[stem] = path


def _dated(
    path: Path, gsd_m: float | None, layer: str | None, named: str | None, half_pixel: bool
) -> list[tuple[When, Map]]:
    """The maps of a file, each with its date."""
    column = named or _column_of(path, layer)
    one = lake_map.read(path, SETTING, gsd_m, layer, column, half_pixel=half_pixel)
    if not len(one.shapes):  # nor has it lakes to tell its pixels
        one = replace(one, gsd_m=gsd_beside_it(path))
    values = distinct([] if one.column is None else one.column.tolist())
    known = {value: when(value) for value in values}
    unread = [value for value, date in known.items() if date is None]
    if unread and named:
        raise DataError(
            f"--date={named}: {path} holds '{unread[0]}', which is no date like 2015-10-30 or year like 2015: name "
            "another column."
        )
    dates = sorted({date for date in known.values() if date})
    if unread and dates:  # of others the column may be about something else
        raise DataError(
            f"{SETTING}={path} holds dates in its column {column}, and '{unread[0]}', which is none like 2015-10-30: "
            "correct it, or name another column with --date."
        )
    if unread or not dates:
        other = beside_it(path) or in_name(path)
        if other is None:
            raise DataError(f"{SETTING}={path} does not say of which date it is: {HOW}.")
        return [(other, one)]
    if len(dates) == 1:
        return [(dates[0], one)]
    return _several(path, one, dates, known, column or COLUMN)


def _several(
    path: Path, one: Map, dates: list[When], known: dict[Any, When | None], column: str
) -> list[tuple[When, Map]]:
    """A file of lakes of several dates taken apart."""
    assert one.column is not None
    cells = one.column.tolist()
    if one.ground is not None:
        raise DataError(
            f"{SETTING}={path} holds several dates in its column {column} ({dates[0].text}, {dates[1].text} ...) and "
            "one layer ground: give a file a date, or one without that layer."
        )
    empty = sum(map(is_nothing, cells))
    if empty:
        raise DataError(
            f"{SETTING}={path} holds several dates in its column {column}, and {many(empty, 'lake')} without "
            "any: fill them "
            "in, or name another column with --date."
        )
    of = np.array([dates.index(date) if (date := known[cell]) else -1 for cell in cells])
    return [(date, _only(one, of == number)) for number, date in enumerate(dates)]


def _only(one: Map, some: npt.NDArray[np.bool_]) -> Map:
    """A part of the lakes of a map."""
    lacking = round(one.lacking * float(some.mean()))
    return replace(
        one,
        shapes=one.shapes[some],
        ids=one.ids[some],
        area_km2=one.area_km2[some],
        bound_km2=one.bound_km2[some],
        cut=one.cut[some],
        lacking=lacking,
        column=None,
    )


def _column_of(path: Path, layer: str | None) -> str | None:
    """The column of dates that a file has, in any case."""
    if not path.exists():  # told by who reads it
        return None
    names = columns_of(path, SETTING, layer_of(path, SETTING, layer))
    return next((name for name in names if name.lower() == COLUMN), None)
