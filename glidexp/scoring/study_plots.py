"""Pictures of a study: learning curves, main effects, interactions, score against cost, where the spread is from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from glidexp.scoring.labels import label, lines_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#2480d6", "#de5400", "#0f9b74", "#a3469f", "#8a6d00", "#56b4e9", "#555555", "#d55f8f")
"""after Okabe and Ito, darkened where thin lines would fade on white"""
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


def figure_of(
    width: float, height: float, columns: int = 1, *, ratios: Sequence[float] | None = None
) -> tuple["Figure", list[Any]]:
    """A figure of so many inches with panels side by side, as all of these pages have them; `ratios`: their widths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    axes = list(np.atleast_1d(figure.subplots(1, columns, width_ratios=ratios)))
    for one in axes:
        one.tick_params(labelsize=9)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="0.93")
        one.set_axisbelow(True)
    return figure, axes


def tall(height: float, names: Sequence[str]) -> float:
    """Inches of a figure with a legend of these names beside its panels, which it would squeeze to nothing."""
    return max(height, 0.6 + 0.18 * lines_of([label(name) for name in names]))


def _wide(levels: Sequence[str]) -> float:
    """Inches along which the names of levels have room one beside the other, each of them aslant."""
    return max((0.36 * lines_of([_level(level)]) for level in levels), default=0.0) * len(levels)


def _level(name: str) -> str:
    return label(name, 24)


def _name_levels(axes: Any, levels: Sequence[str], most: int) -> None:
    """Names of levels along the axis; aslant where so many characters beside each other would overlap."""
    slant = max(len(level) for level in levels) * len(levels) > most
    how = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if slant else {}
    axes.set_xticks(range(len(levels)), [_level(level) for level in levels], fontsize=9, **how)


def look_of(number: int) -> dict[str, Any]:
    """Colour of a line and, from the ninth on, another kind of it."""
    style = STYLES[number // len(PALETTE) % len(STYLES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style}


def line_of(number: int) -> dict[str, Any]:
    """Colour and kind of a line that has no mark, so that neighbours are told apart in print without colour too."""
    style = STYLES[(number + number // len(PALETTE)) % len(STYLES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style}


def _mark(number: int) -> str:
    """A mark that goes with the colour of a number, so that the ninth has not both of the first."""
    return MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]


def curves_figure(
    curves: Mapping[str, Sequence[Mapping[float, float]]], *, score: str, scale: float, along: str = "epoch"
) -> "Figure":
    """Mean over the trainings of each arm, with a band from the lowest to the highest; of a single epoch a dot.

    Args:
        curves: score by epoch, or by what else was spent until then, of each training, by arm
        score: as the axis says it
        scale: from the score to the axis
        along: what was spent, as the axis says it
    """
    figure, (axes,) = figure_of(7.6, tall(3.6, list(curves)))
    for number, (name, trainings) in enumerate(curves.items()):
        steps = sorted(set.intersection(*(set(one) for one in trainings)))
        if not steps:
            continue
        table = scale * np.array([[one[step] for step in steps] for one in trainings])
        look = line_of(number)
        if len(steps) == 1:
            look |= {"marker": "o", "markersize": 4}
            axes.vlines(steps, table.min(0), table.max(0), color=look["color"], alpha=0.4, linewidth=3)
        axes.plot(steps, table.mean(0), label=label(f"{name} (n={len(table)})"), linewidth=1.6, **look)
        axes.fill_between(steps, table.min(0), table.max(0), color=look["color"], alpha=0.13, linewidth=0)
    axes.set_xlabel(along, fontsize=9)
    axes.set_ylabel(score, fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=along == "epoch")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _resting_on(figure: "Figure", n: str) -> None:
    """Says below the panels what the means are of."""
    figure.supxlabel(f"means over {n}", fontsize=9, color="0.35")


def effects_figure(factors: Mapping[str, Sequence[Point]], *, score: str, level: float, n: str) -> "Figure":
    """A panel a factor, with the mean of each level; whiskers are the interval of its difference to the first level.

    Args:
        factors: levels by name of the factor
        score: as the axis says it
        level: share that intervals hold
        n: what the means are over, such as `3 seeds, 8 scenes`
    """
    names = {name: [point.name for point in points] for name, points in factors.items()}
    widths = [max(3.4, 0.8 + _wide(levels)) for levels in names.values()]
    longest = max(len(line) for levels in names.values() for level in levels for line in _level(level).split("\n"))
    figure, panels = figure_of(max(4.0, sum(widths)), 3.4 + 0.03 * longest, len(factors), ratios=widths)
    lowest = min(min(p.value, p.low if p.low == p.low else p.value) for points in factors.values() for p in points)
    highest = max(max(p.value, p.high if p.high == p.high else p.value) for points in factors.values() for p in points)
    room = 0.08 * (highest - lowest) or 1.0
    for axes, (name, points) in zip(panels, factors.items(), strict=True):
        places = range(len(points))
        axes.plot(places, [point.value for point in points], "-", color="0.75", linewidth=1)
        for place, point in zip(places, points, strict=True):
            if point.low == point.low:
                axes.plot([place, place], [point.low, point.high], color=PALETTE[0], linewidth=2)
            axes.plot(place, point.value, "o", color=PALETTE[0], markersize=6)
        axes.axhline(points[0].value, color="0.6", linewidth=0.8, linestyle=":")
        _name_levels(axes, names[name], most=30)
        axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(lowest - room, highest + room))
        axes.set_title(label(name), fontsize=10)
    panels[0].set_ylabel(f"{score}\n{level:.0%} interval of the difference", fontsize=9)
    _resting_on(figure, n)
    return figure


def interaction_figure(
    cells: Mapping[tuple[str, str], Sequence[float]], *, names: tuple[str, str], score: str, n: str
) -> "Figure":
    """Levels of one factor along the axis, a line for each level of the other; small dots are trainings.

    Args:
        cells: scores of the trainings by both levels, in the unit of the axis
        names: of the factors
        score: as the axis says it
        n: what the means are over, such as `3 seeds, 8 scenes`
    """
    along = list(dict.fromkeys(one for one, _ in cells))
    lines = list(dict.fromkeys(other for _, other in cells))
    figure, (axes,) = figure_of(max(5.6, 2.4 + _wide(along)), tall(3.4, lines))
    step = min(0.06, 0.6 / max(len(lines) - 1, 1))  # of many lines too none is nearer to another level than to its own
    for number, line in enumerate(lines):
        look = look_of(number)
        shift = step * (number - (len(lines) - 1) / 2)
        at = [(place + shift, cells[(one, line)]) for place, one in enumerate(along) if (one, line) in cells]
        means = [np.mean(values) for _, values in at]
        axes.plot([x for x, _ in at], means, marker=_mark(number), label=label(line), **look)
        for x, values in at:
            axes.plot([x] * len(values), values, ".", color=look["color"], alpha=0.4, markersize=5)
    _name_levels(axes, along, most=45)
    axes.set(xlim=(-0.4, len(along) - 0.6))
    axes.set_xlabel(label(names[0]), fontsize=9)
    axes.set_ylabel(score, fontsize=9)
    look = {"fontsize": 8, "title_fontsize": 8, "frameon": False}
    axes.legend(title=label(names[1]), loc="center left", bbox_to_anchor=(1.0, 0.5), **look)
    _resting_on(figure, n)
    return figure


def pareto_figure(
    points: Sequence[tuple[str, float, float | None, float | None]],
    *,
    score: str,
    n: str,
    better: int = 1,
    speed: str = "images/s",
) -> "Figure":
    """Score against throughput of training, and against parameters; the frontier is drawn through the best.

    Args:
        points: name, score in the unit of its axis, throughput, parameters; None where not known
        score: as the axis says it
        n: what scores are means over, such as `3 seeds, 8 scenes`
        better: 1: a higher score is better, -1: a lower one, 0: neither, so that there is no frontier
        speed: unit of the throughput
    """
    figure, panels = figure_of(9.4, tall(3.6, [row[0] for row in points]), 2)
    kinds = ((2, f"{speed} in training", 1.0, 1), (3, "parameters [million]", 1e-6, -1))
    shown: dict[int, Any] = {}
    for axes, (place, what, scale, cheaper) in zip(panels, kinds, strict=True):
        values = ((number, row[1], row[place]) for number, row in enumerate(points))
        known = [(number, value, scale * float(cost)) for number, value, cost in values if cost is not None]
        for number, value, cost in known:
            look = {"color": PALETTE[number % len(PALETTE)], "label": label(points[number][0])}
            (shown[number],) = axes.plot([cost], [value], _mark(number), markersize=7, **look)
        front = []
        for _, value, cost in known if better else ():
            beaten = [(v, c) for _, v, c in known if better * (v - value) >= 0 and cheaper * (c - cost) >= 0]
            if all((v, c) == (value, cost) for v, c in beaten):
                front.append((cost, value))
        front.sort()
        axes.plot([c for c, _ in front], [v for _, v in front], color="0.6", linewidth=1, linestyle=":", zorder=0)
        axes.set_xlabel(what, fontsize=9)
    panels[0].set_ylabel(score, fontsize=9)
    handles = [shown[number] for number in sorted(shown)]  # of arms too of which one cost alone is known
    panels[1].legend(handles=handles, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _resting_on(figure, n)
    return figure


def variance_figure(shares: Mapping[str, float]) -> "Figure":
    """One bar, cut into where the spread comes from; shares sum to 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 1.25), layout="constrained", dpi=150)
    axes = figure.subplots()
    left = 0.0
    for number, (name, share) in enumerate(shares.items()):
        look: dict[str, Any] = {
            "color": PALETTE[number % len(PALETTE)],
            "alpha": 0.85,
            "edgecolor": "white",
            "linewidth": 0.8,
        }
        hatch = HATCHES[number % len(HATCHES)]
        axes.barh(0, share, left=left, hatch=hatch, label=f"{name} {share:.0%}", **look)
        left += share
    axes.set(xlim=(0, 1), yticks=[])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"], fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncols=len(shares), loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
    return figure


def few_shot_figure(
    curves: Mapping[str, Mapping[float, Sequence[float]]],
    level: Sequence[float],
    *,
    name: str,
    unit: str,
    score: str,
    crossings: Mapping[str, float],
) -> "Figure":
    """Score by budget of every way that learns, each training a dot, and what is there without learning.

    Args:
        curves: values of the trainings by budget, by way; in the unit of the axis
        level: values of the trainings without learning, drawn as a line with a band from the lowest to the highest
        name: of that
        unit: what budgets are, as the axis says it
        score: likewise
        crossings: budget at which a way is caught up with, by way: marked on its curve
    """
    figure, (axes,) = figure_of(7.6, 3.8)
    for number, (way, points) in enumerate(curves.items()):
        budgets = sorted(points)
        means = [float(np.mean(points[budget])) for budget in budgets]
        look = look_of(number)
        # straight between budgets, as crossings are reckoned, also where the axis is logarithmic
        along = np.unique([*budgets, *(x for ends in pairwise(budgets) for x in np.linspace(*ends, 33))])
        at_budgets = np.searchsorted(along, budgets).tolist()
        straight = np.interp(along, budgets, means)
        axes.plot(along, straight, marker=_mark(number), markevery=at_budgets, label=label(way), **look)
        for budget in budgets:
            axes.scatter([budget] * len(points[budget]), points[budget], s=9, alpha=0.45, color=look["color"])
        at = crossings.get(way)
        if at is not None and budgets[0] < at <= budgets[-1]:
            height = float(np.interp(at, budgets, means))
            axes.plot([at], [height], marker="o", markersize=11, fillstyle="none", color="#1c2430", linestyle="none")
    axes.axhline(float(np.mean(level)), color="0.35", linestyle=":", label=name)
    axes.axhspan(min(level), max(level), color="0.5", alpha=0.12, linewidth=0)
    budgets = sorted({budget for points in curves.values() for budget in points})
    if len(budgets) > 1 and budgets[-1] / budgets[0] > 4:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axes.set_xlabel(unit, fontsize=9)
    axes.set_ylabel(score, fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
