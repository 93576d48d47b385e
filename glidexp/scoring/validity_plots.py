"""Pictures of what a model was trained on: where scenes lie from it, trait by trait, and what is expected of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.scoring.cloud import INSIDE as LIMIT
from glidexp.scoring.labels import label
from glidexp.scoring.study_plots import MARKERS, figure_of, line_of, tall

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
INSIDE, OUTSIDE = "#2480d6", "#de5400"
NAMED = 8
"""scenes that are told apart by their mark; more are dots"""


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


def distance_figure(dots: Sequence[Dot]) -> "Figure":
    """Each scene by both distances; beyond the lines it is outside."""
    figure, (axes,) = figure_of(6.4, 4.4)
    values = [value for dot in dots for value in (dot.statistics, dot.embedding) if 0 < value < np.inf]
    low, high = 0.8 * min([*values, 0.5]), 1.3 * max([*values, 1.5])
    axes.axvspan(low, 1, color="#eef5fc", zorder=0)
    axes.fill_between([1, high], low, high, color="#fdf1ea", zorder=0)
    axes.fill_between([low, 1], 1, high, color="#fdf1ea", zorder=0)
    for number, dot in enumerate(dots):
        x, y = (max(value, low) if np.isfinite(value) else low for value in (dot.statistics, dot.embedding))
        axes.plot(x, y, linestyle="none", label=label(dot.name), clip_on=False, **_look(number, dot, len(dots)))
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.axvline(1, color="0.4", linewidth=1, linestyle="--")
    axes.axhline(1, color="0.4", linewidth=1, linestyle="--")
    axes.set_xlabel(f"distance by statistics (1: {LIMIT:.0f} % of held-out tiles lie within)", fontsize=9)
    unknown = not all(np.isfinite(dot.embedding) for dot in dots)
    rim = "\n(on the lower rim: not known)" * unknown
    axes.set_ylabel(f"distance by the encoder's embedding{rim}", fontsize=9)
    _plain_ticks(axes, high / low)
    if 0 < len(dots) <= NAMED:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def traits_figure(dots: Sequence[Dot], names: Sequence[str]) -> "Figure":
    """Trait by trait where each scene lies among the training tiles, in per cent of them."""
    figure, (axes,) = figure_of(7.2, 1.1 + 0.26 * len(names))
    places = np.arange(len(names))[::-1]
    axes.axvspan(1, 99, color="#eef5fc", zorder=0)
    axes.axvspan(25, 75, color="#d7e8f8", zorder=0)
    for number, dot in enumerate(dots):
        axes.plot(dot.ranks, places, linestyle="none", label=label(dot.name), **_look(number, dot, len(dots)))
    axes.set(xlim=(-2.5, 102.5), ylim=(-0.7, len(names) - 0.3))
    axes.set_yticks(places, names, fontsize=9)
    axes.set_xlabel("per cent of the training tiles that have less of it", fontsize=9)
    if 0 < len(dots) <= NAMED:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def histograms_figure(shares: Mapping[str, Floats]) -> "Figure":
    """Pixels of the training tiles by brightness and by greenness.

    Args:
        shares: (2, bins) by sensor; a row of zeros is left out
    """
    figure, panels = figure_of(8.4, tall(2.6, list(shares)), columns=2)
    kinds = (("brightness, 0-255", 0, 256), ("greenness, -1 to 1", -1, 1))
    for row, (axes, (what, low, high)) in enumerate(zip(panels, kinds, strict=True)):
        for number, (name, values) in enumerate(shares.items()):
            if values[row].any():
                edges = np.linspace(low, high, values.shape[1] + 1)
                axes.stairs(100 * values[row], edges, label=label(name), linewidth=1.6, **line_of(number))
        axes.set_xlabel(what, fontsize=9)
    panels[0].set_ylabel("per cent of the pixels", fontsize=9)
    handles, names = panels[0].get_legend_handles_labels()
    panels[1].legend(handles, names, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def expected_figure(expected: Floats, scores: Floats, ranges: Sequence[Range]) -> "Figure":
    """Scores over what was expected of them, and the intervals of scenes without a score.

    Args:
        expected: (n,) 0-1
        scores: (n,) 0-1
        ranges: of the scenes
    """
    figure, (axes,) = figure_of(6.4, 4.4)
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=1, linestyle="--")
    axes.plot(100 * expected, 100 * scores, ".", color="0.6", markersize=5)
    for number, one in enumerate(ranges):
        colour = OUTSIDE if one.outside else INSIDE
        x, ends = 100 * one.value, [100 * one.low, 100 * one.high]
        few = len(ranges) <= NAMED
        axes.plot([x, x], ends, color=colour, linewidth=2 if few else 0.8, alpha=0.8 if few else 0.4)
        mark = MARKERS[number % len(MARKERS)] if few else "o"
        axes.plot(
            x, x, mark, color=colour, markersize=7 if few else 3, mec="white", linestyle="none", label=label(one.name)
        )
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.set_xlabel("expected lake IoU of a scene, points", fontsize=9)
    axes.set_ylabel("lake IoU, points", fontsize=9)
    if 0 < len(ranges) <= NAMED:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _look(number: int, dot: Dot, count: int) -> dict[str, Any]:
    colour = OUTSIDE if dot.outside else INSIDE
    if count > NAMED:
        return {"marker": "o", "markersize": 4, "color": colour, "alpha": 0.6}
    return {
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 7,
        "markerfacecolor": colour,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


def _plain_ticks(axes: Any, across: float) -> None:
    """Numbers as they are read, and not powers of ten; of an axis whose ends differ by so much, as many as fit."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for side in "xy":
        axis = getattr(axes, f"{side}axis")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if across < 1000 else (1.0,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
