"""The files of a series: tables, outlines and pictures, each written aside and renamed."""

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd

from glidexp.beside import flushed, sweep, together
from glidexp.data.builder.parts import writing
from glidexp.data.scenes.geopackage import write_layers
from glidexp.mapping.observed import ABSENT, SEEN
from glidexp.mapping.series import Series
from glidexp.mapping.trend import GROWS, SHRINKS
from glidexp.scoring.series_plots import SHOWN, Line, series_figure
from glidexp.scoring.sheet import files_of

LAKES, DATES = "lakes", "dates"
"""layers of the GeoPackage: a row a lake; a row a lake and date"""
OUTLINES, ROWS, COLUMNS, TOTALS, PICTURE = "series.gpkg", "series.csv", "series.parquet", "totals.csv", "series"
AFTER = "what the maps say is not lost, and the same command makes all of it anew"


def write_series(series: Series, out: Path) -> list[Path]:
    """Writes all files into a folder; gives their paths.

    Raises:
        RunFailed: the disk refuses it
    """
    files = {
        ROWS: _csv(pd.DataFrame(series.lakes.drop(columns="geometry"))),
        TOTALS: _csv(series.totals),
        **files_of(PICTURE, lambda sheet: series_figure(*lines_of(series), sheet=sheet)),
    }
    paths = [out / name for name in (OUTLINES, *files, COLUMNS)]
    with writing(out, AFTER):
        for path in paths:
            sweep(path)
        with together(paths) as (outlines, *places, columns):
            layers = {LAKES: series.lakes, DATES: series.dates}
            write_layers(out / OUTLINES, layers, "MultiPolygon", after=AFTER, place=outlines)
            series.lakes.to_parquet(columns, index=False)  # as in the maps, a table of lakes holds its outlines
            for place, content in zip(places, files.values(), strict=True):
                flushed(place, content)
    return paths


def lines_of(series: Series) -> tuple[Line, Line | None, list[Line]]:
    """What the picture shows: all that is mapped, the total over common ground unless that is the same, the lakes that
    surely grow or shrink, from the fastest."""
    totals = series.totals
    mapped = _line("as mapped", totals, "area")
    shared = None
    if totals["common_lakes"].max() and not np.allclose(totals["common_km2"], totals["area_km2"], rtol=1e-9):
        shared = _line("lakes that all dates looked at", totals, "common")
    fast = fastest(series.lakes).head(SHOWN)
    rows = series.dates[series.dates["state"].isin((SEEN, ABSENT)) & series.dates["lake_id"].isin(fast["lake_id"])]
    lakes = []
    rates = fast[["km2_per_year", "km2_per_year_low", "km2_per_year_high"]].to_numpy(dtype=np.float64).tolist()
    for name, (rate, low, high) in zip(fast["lake_id"], rates, strict=True):
        one = _line(name, rows[rows["lake_id"] == name], "area")
        level = float(np.median(one.area) - rate * np.median(one.years))
        lakes.append(replace(one, rate=rate, rate_low=low, rate_high=high, level=level))
    return mapped, shared, lakes


def fastest(lakes: geopandas.GeoDataFrame) -> geopandas.GeoDataFrame:
    """Lakes that surely grow or shrink, from the fastest."""
    sure = lakes[lakes["verdict"].isin((GROWS, SHRINKS))]
    return sure.iloc[np.argsort(-sure["km2_per_year"].abs().to_numpy(dtype=np.float64), kind="stable")]


def _line(name: str, table: pd.DataFrame, of: str) -> Line:
    years, area, low, high = (
        table[column].to_numpy(dtype=np.float64) for column in ("year", f"{of}_km2", f"{of}_low_km2", f"{of}_high_km2")
    )
    return Line(name, years, area, low, high)


def _csv(table: pd.DataFrame) -> bytes:
    """Areas to a square metre, rates to a hundredth of one."""
    return table.to_csv(index=False, lineterminator="\n", float_format="%.8g").encode()
