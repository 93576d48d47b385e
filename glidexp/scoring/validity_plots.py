"""Pictures of what a model was trained on: where scenes lie from it, trait by trait, and what is expected of them.

Scenes are told apart by the shape of their mark; one that is outside is hollow, so in grey too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.scoring.cloud import INSIDE
from glidexp.scoring.sheet import BLUE, LETTER, PAGE, POINTS, VERMILION, Sheet, figure_of, legend, roomy
from glidexp.scoring.study_plots import MARKERS, look_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
NAMED = 8
"""scenes that are told apart by their mark; of more each is a dot"""


@dataclass(frozen=True, slots=True)
class Dot:
    """A scene in a picture."""

    name: str
    statistics: float
    embedding: float
    """NaN where it is not known"""
    outside: bool
    ranks: Floats
    """(T,) per cent of the training tiles that have less of each trait"""


@dataclass(frozen=True, slots=True)
class Range:
    """What is expected of a scene, 0-1."""

    name: str
    value: float
    low: float
    high: float
    outside: bool


def distance_figure(dots: Sequence[Dot], sheet: Sheet = PAGE) -> "Figure":
    """Each scene by both distances; beyond the lines it is outside."""
    figure, (axes,) = figure_of(sheet, *roomy(sheet, 3.3, 3.1, _named(dots)))
    values = [value for dot in dots for value in (dot.statistics, dot.embedding) if 0 < value < np.inf]
    low, high = 0.8 * min([*values, 0.5]), 1.3 * max([*values, 1.5])
    axes.axvspan(low, 1, color="#eef5fc", zorder=0)
    axes.fill_between([1, high], low, high, color="#fdf1ea", zorder=0)
    axes.fill_between([low, 1], 1, high, color="#fdf1ea", zorder=0)
    marks = []
    for number, dot in enumerate(dots):
        x, y = (max(value, low) if np.isfinite(value) else low for value in (dot.statistics, dot.embedding))
        marks += axes.plot(x, y, linestyle="none", clip_on=False, **_look(number, len(dots), outside=dot.outside))
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.axvline(1, color="0.4", linewidth=0.8, linestyle="--")
    axes.axhline(1, color="0.4", linewidth=0.8, linestyle="--")
    for where, at in (("inside", 1), ("outside", high)):
        shown: dict[str, Any] = {
            "textcoords": "offset points",
            "ha": "right",
            "va": "top",
            "fontsize": POINTS,
            "color": "0.35",
        }
        axes.annotate(where, (at, at), (-3, -3), **shown)
    axes.set_xlabel(f"distance by statistics\n(1: {INSIDE:.0f} % of held-out tiles lie within)")
    unknown = not all(np.isfinite(dot.embedding) for dot in dots)
    axes.set_ylabel("distance by the encoder's embedding" + "\n(on the lower rim: not known)" * unknown)
    _plain_ticks(axes, high / low)
    if names := _named(dots):
        legend(sheet, axes, marks, names)
    return figure


def traits_figure(dots: Sequence[Dot], names: Sequence[str], sheet: Sheet = PAGE) -> "Figure":
    """Trait by trait where each scene lies among the training tiles, in per cent of them."""
    longest = LETTER * max(map(len, names), default=0)
    figure, (axes,) = figure_of(sheet, *roomy(sheet, 3.2 + longest, 0.8 + 0.19 * len(names), _named(dots)))
    places = np.arange(len(names))[::-1]
    axes.axvspan(1, 99, color="#eef5fc", zorder=0)
    axes.axvspan(25, 75, color="#d7e8f8", zorder=0)
    marks = []
    for number, dot in enumerate(dots):
        marks += axes.plot(dot.ranks, places, linestyle="none", **_look(number, len(dots), outside=dot.outside))
    axes.set(xlim=(-2.5, 102.5), ylim=(-0.7, len(names) - 0.3))
    axes.set_yticks(places, names, fontsize=POINTS)
    axes.set_xlabel("per cent of the training tiles that have less of it")
    if shown := _named(dots):
        legend(sheet, axes, marks, shown)
    return figure


def histograms_figure(shares: Mapping[str, Floats], sheet: Sheet = PAGE) -> "Figure":
    """Pixels of the training tiles by brightness and by greenness.

    Args:
        shares: (2, bins) by sensor; a row of zeros is left out
        sheet: what it is drawn for
    """
    figure, panels = figure_of(sheet, *roomy(sheet, 4.6, 1.9, list(shares)), columns=2)
    kinds = (("brightness, 0-255", 0, 256), ("greenness, -1 to 1", -1, 1))
    lines: dict[str, Any] = {}
    for row, (axes, (what, low, high)) in enumerate(zip(panels, kinds, strict=True)):
        for number, (name, values) in enumerate(shares.items()):
            if values[row].any():
                edges = np.linspace(low, high, values.shape[1] + 1)
                drawn = axes.stairs(100 * values[row], edges, linewidth=1.2, **look_of(number))
                lines.setdefault(name, drawn)
        axes.set_xlabel(what)
    panels[0].set_ylabel("per cent of the pixels")
    legend(sheet, panels[1], list(lines.values()), list(lines))
    return figure


def expected_figure(expected: Floats, scores: Floats, ranges: Sequence[Range], sheet: Sheet = PAGE) -> "Figure":
    """Scores over what was expected of them, and the intervals of scenes without a score.

    Args:
        expected: (n,) 0-1
        scores: (n,) 0-1
        ranges: of the scenes; the interval of one that is outside is dashed
        sheet: what it is drawn for
    """
    figure, (axes,) = figure_of(sheet, *roomy(sheet, 3.3, 3.1, _named(ranges)))
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle="--")
    axes.plot(100 * expected, 100 * scores, ".", color="0.6", markersize=3.5)
    marks = []
    few = len(ranges) <= NAMED
    for number, one in enumerate(ranges):
        x, ends = 100 * one.value, [100 * one.low, 100 * one.high]
        look: dict[str, Any] = {"color": VERMILION if one.outside else BLUE, "linestyle": ":" if one.outside else "-"}
        axes.plot([x, x], ends, linewidth=1.5 if few else 0.7, alpha=0.8 if few else 0.4, **look)
        marks += axes.plot(x, x, linestyle="none", **_look(number, len(ranges), outside=one.outside))
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.set(xlabel="expected lake IoU of a scene, points", ylabel="lake IoU, points")
    if names := _named(ranges):
        legend(sheet, axes, marks, names)
    return figure


def _named(scenes: "Sequence[Dot] | Sequence[Range]") -> list[str]:
    """Names of the legend: of scenes that are so few that each has a mark of its own."""
    return [one.name for one in scenes] if len(scenes) <= NAMED else []


def _look(number: int, count: int, *, outside: bool) -> dict[str, Any]:
    """The mark of a scene: hollow where it is outside."""
    colour = VERMILION if outside else BLUE
    few = count <= NAMED
    return {
        "marker": MARKERS[number % len(MARKERS)] if few else "o",
        "markersize": 5.5 if few else 3,
        "markerfacecolor": "white" if outside else colour,
        "markeredgecolor": colour if outside or not few else "white",
        "markeredgewidth": 1.0 if outside else 0.4,
        "alpha": 1.0 if few else 0.6,
    }


def _plain_ticks(axes: Any, across: float) -> None:
    """Numbers as they are read, and not powers of ten; of an axis whose ends differ by so much, as many as fit."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for side in "xy":
        axis = getattr(axes, f"{side}axis")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if across < 1000 else (1.0,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
