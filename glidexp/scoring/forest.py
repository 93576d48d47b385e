"""The picture of a comparison: every training's score, and every arm's difference to the baseline with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glidexp.scoring.labels import label, lines_of
from glidexp.scoring.sheet import BLUE, LINE, PAGE, POINTS, SHEETS, VERMILION, Sheet, figure_of
from glidexp.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_UNSURE = "0.4"
MOST_INCHES = 9.0
"""that a picture is tall, so that it fits on a page of A4 or Letter with its caption"""
_NAME, _NARROW_NAME = 44, 24
"""characters of a name in a line, beside both panels and beside one"""


@dataclass(frozen=True, slots=True)
class Bar:
    """An arm as the picture shows it. Scores and differences are 0-1, shown as points of 100."""

    name: str
    values: Sequence[float]
    """score of each training"""
    difference: tuple[float, float, float] | None
    """value, low, high; None for the baseline"""
    sure: bool
    """whether the verdict is better or worse"""


def parts_of(bars: Sequence[Bar]) -> list[Sequence[Bar]]:
    """The bars in as many parts as it takes for the picture of each to fit on a page; all begin with the baseline."""
    others = bars[1:]
    for count in range(1, len(others) + 1):
        size = -(-len(others) // count)
        parts = [[bars[0], *others[start : start + size]] for start in range(0, len(others), size)]
        if size == 1 or all(_inches(part, sheet) <= MOST_INCHES for part in parts for sheet in SHEETS):
            return list(parts)
    return [bars]


def _names(bars: Sequence[Bar], sheet: Sheet) -> list[str]:
    return [label(bar.name, _NARROW_NAME if sheet.narrow else _NAME) for bar in bars]


def _inches(bars: Sequence[Bar], sheet: Sheet) -> float:
    """How tall the picture of some bars is."""
    least = 0.19 if sheet.narrow else 0.3
    tall = len(bars) * max(least, *(LINE * lines_of([name]) + 0.03 for name in _names(bars, sheet)))
    return 1.5 + 2 * tall if sheet.narrow else 0.95 + tall


def forest_figure(
    bars: Sequence[Bar],
    *,
    score: str,
    level: float,
    n: str,
    unit: str,
    better: int = 1,
    beside: Sequence[Bar] = (),
    dot: str = "training",
    sheet: Sheet = PAGE,
) -> "Figure":
    """Scores and, beside or below them, differences to the first arm, one line an arm.

    What is sure is filled and in colour; what is not is hollow and grey, its interval thin.

    Args:
        bars: baseline first
        score: what is compared, as its axis says it
        level: of the intervals, 0-1
        n: what the intervals rest on, e.g. "3 seeds, 12 scenes"
        unit: of the axes
        better: -1 where a lower score is better
        beside: bars of other pictures, whose axes are to be the same
        dot: what each score is of
        sheet: what it is drawn for; the panels of a narrow one stand one below the other
    """
    names, height = _names(bars, sheet), _inches(bars, sheet)
    if sheet.narrow:
        figure, (scores, differences) = figure_of(sheet, 0, height, rows=2)
    else:
        figure, (scores, differences) = figure_of(
            sheet, sheet.inches, height, columns=2, sharey=True, width_ratios=(1, 1.15)
        )
    for place, bar in enumerate(bars):
        scores.plot([100 * v for v in bar.values], [place] * len(bar.values), "o", color=BLUE, alpha=0.45, markersize=4)
        scores.plot(100 * float(np.mean(bar.values)), place, "|", color="black", markersize=10, markeredgewidth=1.5)
        _difference(differences, place, bar, better)
    for axes, values in (
        (scores, [value for bar in beside for value in bar.values]),
        (differences, [end for bar in beside for end in bar.difference or () if end == end]),
    ):
        axes.update_datalim([(100 * value, 0) for value in values], updatey=False)
    differences.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    for axes in (scores, differences) if sheet.narrow else (scores,):
        axes.set_yticks(range(len(bars)), names, fontsize=POINTS)
        axes.set_ylim(len(bars) - 0.4, -0.6)
    where: dict[str, Any] = {
        "loc": "right" if sheet.narrow else "center"
    }  # long words go below the names, and are not cut off
    scores.set_xlabel(f"{score}, {unit}\na dot a {dot}, a stroke their mean", **where)
    differences.set_xlabel(
        f"difference to the baseline, {unit}\n{percent(level)} interval over {n}\nfilled: holds up after Holm", **where
    )
    for axes in (scores, differences):
        axes.grid(axis="y", visible=False)
    return figure


def _difference(axes: "Axes", place: int, bar: Bar, better: int) -> None:
    """An arm's difference with its interval, or that there is none to itself."""
    if bar.difference is None:
        look: dict[str, Any] = {"va": "center", "fontsize": POINTS, "color": _UNSURE}
        axes.annotate("baseline", (0, place), (4, 0), textcoords="offset points", **look)
        return
    value, low, high = (100 * number for number in bar.difference)
    colour = (BLUE if (better or 1) * value > 0 else VERMILION) if bar.sure else _UNSURE
    if low == low:
        width = 2.2 if bar.sure else 0.9
        axes.plot([low, high], [place, place], "-", color=colour, linewidth=width, solid_capstyle="butt")
    axes.plot(value, place, "s", color=colour, markersize=4.5, mfc=colour if bar.sure else "white")
