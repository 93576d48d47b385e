"""Picture of lakes over many dates: the totals with their bounds, and the lakes that change fastest.

Read in grey too: what was mapped is hollow and dashed, common ground filled and drawn through.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.scoring.sheet import BLUE, PAGE, POINTS, VERMILION, Sheet, legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
SHOWN = 8
"""lakes that have a panel"""
HECTARE_KM2 = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """Areas over the years: (n,) each, km2; a date that says nothing is left out."""

    name: str
    years: Floats
    area: Floats
    low: Floats
    high: Floats
    rate: float = float("nan")
    """km2 a year, of a straight line through them; NaN draws none"""
    rate_low: float = float("nan")
    rate_high: float = float("nan")
    level: float = float("nan")
    """of that line in the year 0"""


def series_figure(mapped: Line, common: Line | None, lakes: Sequence[Line], sheet: Sheet = PAGE) -> "Figure":
    """The totals above, a small panel for each of the lakes below.

    Args:
        mapped: all that the maps of each date show
        common: the lakes that every date looked at; None where there are none, or where these are all
        lakes: the first `SHOWN` are drawn, from the fastest
        sheet: what it is drawn for
    """
    from matplotlib.figure import Figure

    shown, columns = list(lakes[:SHOWN]), 2 if sheet.narrow else 4
    rows = -(-len(shown) // columns)
    height = 2.3 + 1.15 * rows
    figure = Figure(figsize=(sheet.inches, height), layout="constrained", dpi=sheet.dpi)
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.9, *[1.0] * rows])
    axes = figure.add_subplot(grid[0, :])
    plain(axes)
    span = _span([mapped, *shown])
    handles = [_drawn(axes, mapped, VERMILION if common else BLUE, hollow=common is not None)]
    names = [mapped.name]
    if common:
        handles.append(_drawn(axes, common, BLUE))
        names.append(common.name)
    axes.set(xlim=span, ylabel="lake area, km²")
    axes.set_ylim(bottom=0)
    _whole_years(axes, 4 if sheet.narrow else 9)
    # above all panels on any sheet: beside the first it would squeeze the others too
    legend(replace(sheet, narrow=True), axes, handles, names)
    for number, one in enumerate(shown):
        panel = figure.add_subplot(grid[1 + number // columns, number % columns])
        plain(panel)
        _drawn(panel, one, BLUE, small=True)
        if one.rate == one.rate:
            ends = np.array([one.years[0], one.years[-1]])
            panel.plot(ends, one.level + one.rate * ends, color="0.2", linewidth=0.9, zorder=3)
        panel.set_title(_titled(one), fontsize=POINTS, loc="left", pad=2)
        panel.set_xlim(span)
        panel.margins(y=0.15)
        panel.set_ylim(bottom=0)
        _whole_years(panel, 2)
        if number % columns == 0:
            panel.set_ylabel("km²")
    return figure


def _drawn(axes: "Axes", one: Line, colour: str, *, hollow: bool = False, small: bool = False) -> Any:
    """Marks with their bounds, joined."""
    off = np.vstack([one.area - one.low, one.high - one.area])
    return axes.errorbar(
        one.years,
        one.area,
        np.maximum(off, 0.0),
        color=colour,
        linestyle="--" if hollow else "none" if small else "-",
        linewidth=1.0,
        marker="s" if hollow else "o",
        markersize=3.0 if small else 4.0,
        markerfacecolor="white" if hollow else colour,
        markeredgewidth=0.8,
        elinewidth=0.8,
        capsize=1.5 if small else 2.5,
        capthick=0.8,
    )


def _titled(one: Line) -> str:
    """Name, and rate with its interval: hectares a year of small lakes."""
    if one.rate != one.rate:
        return one.name
    unit, size = ("km²/a", 1.0) if abs(one.rate) >= 0.1 else ("ha/a", HECTARE_KM2)
    rate, low, high = (value / size for value in (one.rate, one.rate_low, one.rate_high))
    return f"{one.name}\n{rate:+.2f} ({low:.2f} to {high:.2f}) {unit}"


def _span(lines: Sequence[Line]) -> tuple[float, float]:
    """Years of all panels, so that they can be read from above to below."""
    years = np.concatenate([one.years for one in lines])
    room = 0.04 * max(float(np.ptp(years)), 0.1)
    return float(years.min()) - room, float(years.max()) + room


def _whole_years(axes: "Axes", most: int) -> None:
    """Years as they are read; parts of years where all lies within one or two."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(MaxNLocator(most, integer=high - low > 2, min_n_ticks=2))
    axes.xaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
