"""Pictures of a study: learning curves, main effects, interactions, score against cost, where the spread is from.

Each is drawn for a `Sheet`, both columns of a page or one, and read in grey too: lines differ in kind, marks in shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from glidexp.scoring.labels import label, lines_of
from glidexp.scoring.sheet import (
    BLUE,
    LETTER,
    LINE,
    PAGE,
    POINTS,
    VERMILION,
    Sheet,
    figure_of,
    legend,
    name_levels,
    roomy,
)
from glidexp.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = (BLUE, VERMILION, "#0f9b74", "#a3469f", "#8a6d00", "#56b4e9", "#555555", "#d55f8f")
"""of lines and marks, one a number; after Okabe and Ito likewise"""
STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*"
HATCHES = ("", "//", "..", "xx", "--")
"""areas that are told apart in print without colour too"""


@dataclass(frozen=True, slots=True)
class Point:
    """A mean with its interval, in the unit of the axis; NaN bounds where there is none."""

    name: str
    value: float
    low: float
    high: float


def look_of(number: int) -> dict[str, Any]:
    """Colour and kind of a line, so that neighbours are told apart in print without colour too."""
    style = STYLES[(number + number // len(PALETTE)) % len(STYLES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style}


def mark_of(number: int) -> str:
    """A mark that goes with the colour of a number, so that the ninth has not both of the first."""
    return MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]


def curves_figure(
    curves: Mapping[str, Sequence[Mapping[float, float]]],
    *,
    score: str,
    scale: float,
    along: str = "epoch",
    sheet: Sheet = PAGE,
) -> "Figure":
    """Mean over the trainings of each arm, with a band from the lowest to the highest; of a single epoch a dot.

    Args:
        curves: score by epoch, or by what else was spent until then, of each training, by arm
        score: as the axis says it
        scale: from the score to the axis
        along: what was spent, as the axis says it
        sheet: what it is drawn for
    """
    drawn = {}
    for name, trainings in curves.items():
        if steps := sorted(set.intersection(*(set(one) for one in trainings))):
            drawn[f"{name} (n={len(trainings)})"] = (
                steps,
                scale * np.array([[one[s] for s in steps] for one in trainings]),
            )
    figure, (axes,) = figure_of(sheet, *roomy(sheet, 4.0, 2.6, list(drawn)))
    lines = []
    for number, (steps, table) in enumerate(drawn.values()):
        look = look_of(number)
        if len(steps) == 1:
            look |= {"marker": mark_of(number), "markersize": 3}
            axes.vlines(steps, table.min(0), table.max(0), color=look["color"], alpha=0.4, linewidth=2)
        lines += axes.plot(steps, table.mean(0), linewidth=1.2, **look)
        axes.fill_between(steps, table.min(0), table.max(0), color=look["color"], alpha=0.13, linewidth=0)
    axes.set(xlabel=along, ylabel=score)
    locator: Any = axes.xaxis.get_major_locator()
    locator.set_params(integer=along == "epoch")
    legend(sheet, axes, lines, list(drawn))
    return figure


def _resting_on(figure: "Figure", n: str) -> None:
    """Says below the panels what the means are of."""
    figure.supxlabel(f"means over {n}", fontsize=POINTS, color="0.35")


def effects_figure(
    factors: Mapping[str, Sequence[Point]], *, score: str, level: float, n: str, sheet: Sheet = PAGE
) -> "Figure":
    """A panel a factor, a line a level with its mean; whiskers are the interval of its difference to the first level.

    Args:
        factors: levels by name of the factor; the first of each is hollow, as others are held against it
        score: as the axis says it
        level: share that intervals hold
        n: what the means are over, such as `3 seeds, 8 scenes`
        sheet: what it is drawn for
    """
    width = 20 if sheet.narrow else 36
    names = {name: [label(point.name, width) for point in points] for name, points in factors.items()}
    each = [max(0.19, *(LINE * lines_of([one]) + 0.03 for one in levels)) for levels in names.values()]
    tall = [0.12 + inches * len(levels) for inches, levels in zip(each, names.values(), strict=True)]
    height = 0.65 + sum(tall) + 0.22 * len(tall)
    longest = max(len(line) for levels in names.values() for one in levels for line in one.split("\n"))
    figure, panels = figure_of(
        sheet,
        3.6 + LETTER * longest,
        height,
        rows=len(factors),
        height_ratios=tall,
        sharex=True,
    )
    for axes, (name, points) in zip(panels, factors.items(), strict=True):
        axes.axvline(points[0].value, color="0.6", linewidth=0.7, linestyle=":")
        for place, point in enumerate(points):
            if point.low == point.low:
                axes.plot([point.low, point.high], [place, place], color=PALETTE[0], linewidth=1.5)
            fill = "white" if place == 0 else PALETTE[0]
            axes.plot(point.value, place, "o", color=PALETTE[0], markersize=4.5, mfc=fill)
        axes.set_yticks(range(len(points)), names[name], fontsize=POINTS)
        axes.set_ylim(len(points) - 0.4, -0.6)
        axes.set_title(label(name), fontsize=POINTS, loc="left", fontweight="bold")
        axes.grid(axis="y", visible=False)
    words = f"{score}, means over {n};\n{percent(level)} interval of the difference\nto the first level (hollow)"
    panels[-1].set_xlabel(words, loc="right" if sheet.narrow else "center")
    return figure


def interaction_figure(
    cells: Mapping[tuple[str, str], Sequence[float]],
    *,
    names: tuple[str, str],
    score: str,
    n: str,
    sheet: Sheet = PAGE,
) -> "Figure":
    """Levels of one factor along the axis, a line for each level of the other; small marks are trainings.

    Args:
        cells: scores of the trainings by both levels, in the unit of the axis
        names: of the factors
        score: as the axis says it
        n: what the means are over, such as `3 seeds, 8 scenes`
        sheet: what it is drawn for
    """
    along = list(dict.fromkeys(one for one, _ in cells))
    lines = list(dict.fromkeys(other for _, other in cells))
    longest = max(len(word) for level in along for word in (level.split() or [""]))
    panel = min(4.6, max(3.2, 0.8 + max(0.3, LETTER * (longest + 2)) * len(along)))
    figure, (axes,) = figure_of(sheet, *roomy(sheet, panel, 2.6, [*lines, names[1]]))
    step = min(0.06, 0.6 / max(len(lines) - 1, 1))  # of many lines too none is nearer to another level than to its own
    drawn = []
    for number, line in enumerate(lines):
        look = look_of(number)
        shift = step * (number - (len(lines) - 1) / 2)
        at = [(place + shift, cells[(one, line)]) for place, one in enumerate(along) if (one, line) in cells]
        means = [np.mean(values) for _, values in at]
        drawn += axes.plot([x for x, _ in at], means, marker=mark_of(number), markersize=4.5, linewidth=1.2, **look)
        for x, values in at:
            axes.plot([x] * len(values), values, ".", color=look["color"], alpha=0.4, markersize=3.5)
    name_levels(axes, along, figure.get_size_inches()[0] - 0.6 if sheet.narrow else panel - 0.6)
    axes.set(xlim=(-0.4, len(along) - 0.6), xlabel=label(names[0]), ylabel=score)
    legend(sheet, axes, drawn, lines, label(names[1]))
    _resting_on(figure, n)
    return figure


def pareto_figure(
    points: Sequence[tuple[str, float, float | None, float | None]],
    *,
    score: str,
    n: str,
    better: int = 1,
    speed: str = "images/s",
    sheet: Sheet = PAGE,
) -> "Figure":
    """Score against throughput of training, and against parameters; the frontier is drawn through the best.

    Args:
        points: name, score in the unit of its axis, throughput, parameters; None where not known
        score: as the axis says it
        n: what scores are means over, such as `3 seeds, 8 scenes`
        better: 1: a higher score is better, -1: a lower one, 0: neither, so that there is no frontier
        speed: unit of the throughput
        sheet: what it is drawn for
    """
    figure, panels = figure_of(sheet, *roomy(sheet, 5.0, 2.6, [row[0] for row in points]), columns=2, sharey=True)
    kinds = ((2, f"{speed} in training", 1.0, 1), (3, "parameters [million]", 1e-6, -1))
    shown: dict[int, Any] = {}
    for axes, (place, what, scale, cheaper) in zip(panels, kinds, strict=True):
        values = ((number, row[1], row[place]) for number, row in enumerate(points))
        known = [(number, value, scale * float(cost)) for number, value, cost in values if cost is not None]
        for number, value, cost in known:
            colour = PALETTE[number % len(PALETTE)]
            (shown[number],) = axes.plot([cost], [value], mark_of(number), markersize=5, color=colour)
        front = []
        for _, value, cost in known if better else ():
            beaten = [(v, c) for _, v, c in known if better * (v - value) >= 0 and cheaper * (c - cost) >= 0]
            if all((v, c) == (value, cost) for v, c in beaten):
                front.append((cost, value))
        front.sort()
        axes.plot([c for c, _ in front], [v for _, v in front], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        axes.set_xlabel(what)
    panels[0].set_ylabel(score)
    numbers = sorted(shown)  # of arms too of which one cost alone is known
    legend(sheet, panels[1], [shown[number] for number in numbers], [points[number][0] for number in numbers])
    _resting_on(figure, n)
    return figure


def variance_figure(shares: Mapping[str, float], sheet: Sheet = PAGE) -> "Figure":
    """One bar, cut into where the spread comes from; shares sum to 1."""
    names = [f"{name} {share:.0%}" for name, share in shares.items()]
    figure, (axes,) = figure_of(sheet, 5.5, 0.85 + 0.15 * sheet.narrow)
    left, bars = 0.0, list[Any]()
    for number, share in enumerate(shares.values()):
        look: dict[str, Any] = {"color": PALETTE[number % len(PALETTE)], "edgecolor": "white", "linewidth": 0.8}
        bars.append(axes.barh(0, share, left=left, hatch=HATCHES[number % len(HATCHES)], alpha=0.85, **look))
        left += share
    axes.set(xlim=(0, 1), yticks=[])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    axes.spines["left"].set_visible(False)
    where: dict[str, Any] = {"loc": "outside upper left", "ncols": 3 if sheet.narrow else len(shares)}
    figure.legend(bars, names, fontsize=POINTS, frameon=False, columnspacing=1.2, labelspacing=0.3, **where)
    return figure


LEVEL_STYLES = (":", "--", "-.", (0, (6, 1.5, 1, 1.5, 1, 1.5)))
"""of lines that are the same at every budget, told apart in grey"""


def few_shot_figure(
    curves: Mapping[str, Mapping[float, Sequence[float]]],
    levels: Mapping[str, Sequence[float]],
    *,
    unit: str,
    score: str,
    crossings: Mapping[str, float],
    sheet: Sheet = PAGE,
) -> "Figure":
    """Score by budget of every way that learns from it, each training a small mark, and what is there without any.

    Args:
        curves: values of the trainings by budget, by way; in the unit of the axis
        levels: values of the trainings that need no budget, by name, at most four: a line each, of the first with a
            band from the lowest to the highest
        unit: what budgets are, as the axis says it
        score: likewise
        crossings: budget at which a way is caught up with, by way: marked on its curve
        sheet: what it is drawn for
    """
    figure, (axes,) = figure_of(sheet, *roomy(sheet, 4.4, 2.8, [*curves, *levels]))
    lines = []
    for number, (way, points) in enumerate(curves.items()):
        lines += _way(axes, number, points)
        budgets = sorted(points)
        at = crossings.get(way)
        if at is not None and budgets[0] < at <= budgets[-1]:
            height = float(np.interp(at, budgets, [float(np.mean(points[budget])) for budget in budgets]))
            axes.plot([at], [height], marker="o", markersize=8, fillstyle="none", color="#1c2430", linestyle="none")
    for values, style in zip(levels.values(), LEVEL_STYLES, strict=False):
        lines.append(axes.axhline(float(np.mean(values)), color="0.35", linestyle=style, linewidth=1.2))
    first = next(iter(levels.values()))
    axes.axhspan(min(first), max(first), color="0.5", alpha=0.12, linewidth=0)
    budgets = sorted({budget for points in curves.values() for budget in points})
    if len(budgets) > 1 and budgets[-1] / budgets[0] > 4:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axes.set(xlabel=unit, ylabel=score)
    legend(sheet, axes, lines, [*curves, *levels])
    return figure


def _way(axes: "Axes", number: int, points: Mapping[float, Sequence[float]]) -> list[Any]:
    """The line of a way to adapt, and its trainings in the same marks, smaller."""
    budgets = sorted(points)
    look, mark = look_of(number), mark_of(number)
    # straight between budgets, as crossings are reckoned, also where the axis is logarithmic
    along = np.unique([*budgets, *(x for ends in pairwise(budgets) for x in np.linspace(*ends, 33))])
    straight = np.interp(along, budgets, [float(np.mean(points[budget])) for budget in budgets])
    marked: dict[str, Any] = {"marker": mark, "markevery": np.searchsorted(along, budgets).tolist(), "markersize": 4.5}
    line = axes.plot(along, straight, linewidth=1.2, **marked, **look)
    for budget in budgets:
        values = points[budget]
        axes.scatter([budget] * len(values), values, s=11, alpha=0.55, color=look["color"], marker=mark, linewidths=0)
    return line
