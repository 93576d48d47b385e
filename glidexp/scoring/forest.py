"""The picture of a comparison: every training's score, and every arm's difference to the baseline with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glidexp.scoring.labels import label, lines_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOT = "#2480d6"
_BETTER, _WORSE = "#2480d6", "#de5400"
_NAME = 44
"""characters of a name in a line"""
_UNSURE = "0.45"


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


def forest_figure(bars: Sequence[Bar], *, score: str, level: float, n: str, unit: str, better: int = 1) -> "Figure":
    """Scores on the left, differences to the first arm on the right, one line an arm.

    Args:
        bars: baseline first
        score: what is compared, as its axis says it
        level: of the intervals, 0-1
        n: what the intervals rest on, e.g. "3 seeds, 12 scenes"
        unit: of the axes
        better: -1 where a lower score is better
    """
    from matplotlib.figure import Figure

    names = [label(bar.name, _NAME) for bar in bars]
    height = 1.5 + max(0.42 * len(bars), 0.15 * lines_of(names))
    figure = Figure(figsize=(9.5, height), layout="constrained", dpi=130)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.15))
    for place, bar in enumerate(bars):
        left.plot([100 * v for v in bar.values], [place] * len(bar.values), "o", color=_DOT, alpha=0.45, markersize=5)
        left.plot(100 * float(np.mean(bar.values)), place, "|", color="black", markersize=15, markeredgewidth=2)
        if bar.difference is None:
            right.annotate(
                "baseline", (0, place), (6, 0), textcoords="offset points", va="center", fontsize=9, color=_UNSURE
            )
            continue
        value, low, high = (100 * number for number in bar.difference)
        colour = (_BETTER if (better or 1) * value > 0 else _WORSE) if bar.sure else _UNSURE
        if low == low:
            right.plot([low, high], [place, place], "-", color=colour, linewidth=2, solid_capstyle="butt")
        right.plot(value, place, "s", color=colour, markersize=6)
    right.axvline(0, color="0.72", linewidth=1, zorder=0)
    left.set_yticks(range(len(bars)), names, fontsize=9)
    left.set(ylim=(len(bars) - 0.4, -0.6), xlabel=f"{score}, {unit}\na dot a training, a stroke their mean")
    right.set(xlabel=f"difference to the baseline, {unit}\n{level:.0%} interval over {n}")
    for axes in (left, right):
        axes.tick_params(labelsize=9)
        axes.xaxis.label.set_size(9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.93")
    return figure
