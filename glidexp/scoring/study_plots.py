"""Pictures of a study: learning curves, main effects, interactions, score against cost, where the spread is from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#2480d6", "#de5400", "#0f9b74", "#a3469f", "#8a6d00", "#56b4e9", "#555555", "#d55f8f")
"""after Okabe and Ito, darkened where thin lines would fade on white"""
STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*"


@dataclass(frozen=True, slots=True)
class Point:
    """A mean with its interval, in the unit of the axis; NaN bounds where there is none."""

    name: str
    value: float
    low: float
    high: float


def figure_of(width: float, height: float, columns: int = 1) -> tuple["Figure", list[Any]]:
    """A figure of so many inches with panels side by side, as all of these pages have them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    axes = list(np.atleast_1d(figure.subplots(1, columns)))
    for one in axes:
        one.tick_params(labelsize=9)
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="0.93")
        one.set_axisbelow(True)
    return figure, axes


def _tall(height: float, entries: int) -> float:
    """Inches of a figure with a legend of so many entries beside its panels, which it would squeeze to nothing."""
    return max(height, 0.6 + 0.18 * entries)


def _look(number: int) -> dict[str, Any]:
    style = STYLES[number // len(PALETTE) % len(STYLES)]
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": style}


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
    figure, (axes,) = figure_of(7.6, _tall(3.6, len(curves)))
    for number, (name, trainings) in enumerate(curves.items()):
        steps = sorted(set.intersection(*(set(one) for one in trainings)))
        if not steps:
            continue
        table = scale * np.array([[one[step] for step in steps] for one in trainings])
        look = _look(number)
        if len(steps) == 1:
            look |= {"marker": "o", "markersize": 4}
            axes.vlines(steps, table.min(0), table.max(0), color=look["color"], alpha=0.4, linewidth=3)
        axes.plot(steps, table.mean(0), label=f"{name} (n={len(table)})", linewidth=1.6, **look)
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
    figure, panels = figure_of(max(4.0, 3.4 * len(factors)), 3.4, len(factors))
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
        slant = {"rotation": 25, "ha": "right"} if max(len(p.name) for p in points) * len(points) > 30 else {}
        axes.set_xticks(list(places), [point.name for point in points], fontsize=9, **slant)
        axes.set(xlim=(-0.5, len(points) - 0.5), ylim=(lowest - room, highest + room))
        axes.set_title(name, fontsize=10)
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
    figure, (axes,) = figure_of(5.6, _tall(3.4, len(lines)))
    for number, line in enumerate(lines):
        look = _look(number)
        shift = 0.06 * (number - (len(lines) - 1) / 2)
        at = [(place + shift, cells[(one, line)]) for place, one in enumerate(along) if (one, line) in cells]
        marker = MARKERS[number % len(MARKERS)]
        axes.plot([x for x, _ in at], [np.mean(values) for _, values in at], marker=marker, label=line, **look)
        for x, values in at:
            axes.plot([x] * len(values), values, ".", color=look["color"], alpha=0.4, markersize=5)
    axes.set_xticks(range(len(along)), along, fontsize=9)
    axes.set(xlim=(-0.4, len(along) - 0.6))
    axes.set_xlabel(names[0], fontsize=9)
    axes.set_ylabel(score, fontsize=9)
    axes.legend(title=names[1], fontsize=8, title_fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    _resting_on(figure, n)
    return figure


def pareto_figure(
    points: Sequence[tuple[str, float, float | None, float | None]],
    *,
    score: str,
    n: str,
    higher: bool = True,
    speed: str = "images/s",
) -> "Figure":
    """Score against throughput of training, and against parameters; the frontier is drawn through the best.

    Args:
        points: name, score in the unit of its axis, throughput, parameters; None where not known
        score: as the axis says it
        n: what scores are means over, such as `3 seeds, 8 scenes`
        higher: whether a higher score is better
        speed: unit of the throughput
    """
    figure, panels = figure_of(9.4, _tall(3.6, len(points)), 2)
    kinds = ((2, f"{speed} in training", 1.0, 1), (3, "parameters [million]", 1e-6, -1))
    up = 1 if higher else -1
    for axes, (place, label, scale, better) in zip(panels, kinds, strict=True):
        values = ((number, row[1], row[place]) for number, row in enumerate(points))
        known = [(number, value, scale * float(cost)) for number, value, cost in values if cost is not None]
        for number, value, cost in known:
            look = {"color": PALETTE[number % len(PALETTE)], "label": points[number][0]}
            axes.plot([cost], [value], MARKERS[number % len(MARKERS)], markersize=7, **look)
        front = []
        for _, value, cost in known:
            beaten = [(v, c) for _, v, c in known if up * (v - value) >= 0 and better * (c - cost) >= 0]
            if all((v, c) == (value, cost) for v, c in beaten):
                front.append((cost, value))
        front.sort()
        axes.plot([c for c, _ in front], [v for _, v in front], color="0.6", linewidth=1, linestyle=":", zorder=0)
        axes.set_xlabel(label, fontsize=9)
    panels[0].set_ylabel(score, fontsize=9)
    handles, labels = panels[0 if panels[0].lines[:-1] else 1].get_legend_handles_labels()
    panels[1].legend(handles, labels, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _resting_on(figure, n)
    return figure


def variance_figure(shares: Mapping[str, float]) -> "Figure":
    """One bar, cut into where the spread comes from; shares sum to 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 1.25), layout="constrained", dpi=150)
    axes = figure.subplots()
    left = 0.0
    for number, (name, share) in enumerate(shares.items()):
        axes.barh(0, share, left=left, color=PALETTE[number % len(PALETTE)], alpha=0.85, label=f"{name} {share:.0%}")
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
        look = _look(number)
        axes.plot(budgets, means, marker=MARKERS[number % len(MARKERS)], label=way, **look)
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
