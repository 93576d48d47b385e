"""Pictures of studies and of validity stay readable: many arms, long names, odd names, costs that are half known."""

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from glidexp.scoring.figures import png_bytes
from glidexp.scoring.forest import Bar, forest_figure
from glidexp.scoring.heatmap import heatmap_figure
from glidexp.scoring.labels import label, threshold_text
from glidexp.scoring.study_plots import (
    Point,
    curves_figure,
    effects_figure,
    few_shot_figure,
    interaction_figure,
    pareto_figure,
    variance_figure,
)
from glidexp.scoring.validity_plots import (
    Dot,
    Range,
    distance_figure,
    expected_figure,
    histograms_figure,
    traits_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG = "backbone=tu-convnextv2_tiny decoder=upernet loss=focal_tversky augmentation=heavy sensor_mix=all_{}"
PRODUCT = "S2B_MSIL1C_20210815T045659_N0301_R119_T45RTM_20210815T07051{}_bands.tif"


def drawn(figure: "Figure") -> "Figure":
    """As it is written; matplotlib warns where panels have no room, and warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png_bytes(figure)
    return figure


def shares(figure: "Figure") -> list[float]:
    """Of the figure's width, that of each panel."""
    return [axes.get_position().width for axes in figure.axes]


def legend_of(axes: "Axes") -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def overlapping(figure: "Figure", side: str = "x") -> bool:
    """Whether two neighbouring names at an axis cover each other."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        texts = getattr(axes, f"get_{side}ticklabels")()
        if len(texts) > 1 and texts[0].get_rotation():  # aslant: each begins a line's height from the next
            ends = [text.get_transform().transform(text.get_position())[0] for text in texts]
            lines = max(text.get_text().count("\n") + 1 for text in texts)
            height = texts[0].get_fontsize() * lines * figure.dpi / 72
            if min(np.diff(ends)) * np.sin(np.radians(texts[0].get_rotation())) < height:
                return True
        else:
            boxes = [text.get_window_extent() for text in texts]
            if any(one.overlaps(other) for one, other in pairwise(boxes)):
                return True
    return False


def test_a_label_is_its_name_in_lines() -> None:
    assert label("resnet18, dice") == "resnet18, dice"
    assert label("_old") == " _old", "a legend leaves out what begins with _"
    assert label("cost $5 or $6") == r"cost \$5 or \$6"
    assert label(LONG.format(1)).replace("\n", " ") == LONG.format(1)
    assert max(map(len, label(PRODUCT.format(1)).split("\n"))) <= 36
    assert label(PRODUCT.format(1)).replace("\n", "") == PRODUCT.format(1)
    assert label("") == ""


def test_a_threshold_is_told_from_nothing_and_from_all() -> None:
    """A network that is seldom sure has one of 0.003, which was shown as 0.00."""
    thresholds = (0.5, 0.123, 0.003, 0.996, 0.99995, 0.0)
    assert [*map(threshold_text, thresholds)] == ["0.50", "0.12", "0.003", "0.996", "0.99995", "0"]


def test_long_names_leave_room_for_the_panels() -> None:
    names = [LONG.format(place) for place in range(4)]
    points = [Point(name, 50, 40, 60) for name in names]
    dots = [Dot(PRODUCT.format(place), 0.5, 0.6, outside=False, ranks=np.arange(3.0)) for place in range(4)]
    ranges = [Range(dot.name, 0.5, 0.4, 0.6, outside=False) for dot in dots]
    figures = [
        curves_figure({name: [{1: 0.1, 2: 0.3}] for name in names}, score="IoU", scale=100),
        pareto_figure([(name, 50.0, 10.0, 1e6) for name in names], score="IoU", n="1 seed"),
        interaction_figure({(a, name): [0.1] for name in names for a in "xy"}, names=("a", "b"), score="IoU", n="1"),
        effects_figure({"a": points, "b": points}, score="IoU", level=0.95, n="1 seed"),
        forest_figure([Bar(name, [0.5], None, sure=False) for name in names], score="s", level=0.95, n="1", unit="%"),
        distance_figure(dots),
        traits_figure(dots, ["a", "b", "c"]),
        expected_figure(np.array([0.5]), np.array([0.5]), ranges),
    ]
    for figure in figures:
        assert sum(shares(drawn(figure))) > 0.4, "names have taken the room"


def test_names_of_levels_do_not_cover_each_other() -> None:
    levels = [f"backbone{place}" for place in range(30)]
    points = {"backbone": [Point(one, 50, 40, 60) for one in levels], "loss": [Point("bce", 50, 40, 60)]}
    effects = drawn(effects_figure(points, score="IoU", level=0.95, n="1 seed"))
    cells = {(one, other): [50.0] for one in levels for other in ("bce", "dice")}
    crossed = drawn(interaction_figure(cells, names=("backbone", "loss"), score="IoU", n="1 seed"))
    regions = ["all but hindu kush himalaya", "hindu kush himalaya", "southern andes and patagonia"]
    rest_on = (["3 seeds"] * 3, ["8 scenes"] * 3)
    matrix = drawn(heatmap_figure(np.eye(3), regions, regions, score="IoU", across="region", rest_on=rest_on))
    assert [overlapping(one, side) for one in (effects, crossed, matrix) for side in "xy"] == [False] * 6
    few = drawn(effects_figure({"loss": points["loss"] * 3}, score="IoU", level=0.95, n="1 seed"))
    assert few.get_size_inches()[1] < 1.6, "few levels take little room"


@pytest.mark.parametrize("count", [2, 20, 40])
def test_every_line_of_an_interaction_is_within_the_picture_and_by_its_level(count: int) -> None:
    cells = {(loss, f"b{place}"): [float(place)] for loss in ("bce", "dice") for place in range(count)}
    (axes,) = drawn(interaction_figure(cells, names=("loss", "backbone"), score="IoU", n="1 seed")).axes
    low, high = axes.get_xlim()
    for line in axes.lines:
        x = np.asarray(line.get_xdata(), float)
        assert low < x.min() and x.max() < high
        assert all(np.abs(x - np.round(x)) < 0.45), "nearer to another level than to its own"


def test_arms_of_a_cost_picture_are_told_apart_and_all_named() -> None:
    figure = pareto_figure([(f"b{place}", 50.0, 10.0, 1e6) for place in range(40)], score="IoU", n="1 seed")
    marks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines[:-1]}
    assert len(marks) == 40, "the ninth arm looked like the first"
    points = [("a", 50.0, None, 1e6), ("b", 51.0, 10.0, 2e6), ("c", 52.0, 11.0, None), ("_d", 52.0, 12.0, None)]
    assert legend_of(pareto_figure(points, score="IoU", n="1 seed").axes[1]) == ["a", "b", "c", " _d"]


def test_there_is_no_frontier_where_neither_more_nor_less_is_better() -> None:
    points = [("a", 50.0, 10.0, 1e6), ("b", 40.0, 20.0, 1e6)]
    ends = {
        better: len(np.asarray(pareto_figure(points, score="x", n="1", better=better).axes[0].lines[-1].get_xdata()))
        for better in (1, -1, 0)
    }
    assert ends == {1: 2, -1: 1, 0: 0}


def test_the_ring_lies_where_the_drawn_lines_meet() -> None:
    """Over a logarithmic axis too: crossings are reckoned straight between budgets."""
    tuned, scratch = {1.0: [50.0], 4.0: [60.0], 16.0: [70.0]}, {1.0: [30.0], 4.0: [40.0], 16.0: [75.0]}
    at = 4 + 12 * 20 / 25
    figure = few_shot_figure(
        {"full": tuned, "scratch": scratch}, {"zero-shot": [45.0]}, unit="scenes", score="s", crossings={"full": at}
    )
    (axes,) = drawn(figure).axes
    assert axes.get_xscale() == "log"
    to_log = axes.transScale.transform
    places = []
    for line in axes.lines[:3]:
        xy = to_log(np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)]))
        places.append(xy)
    full, ring, other = places
    assert len(ring) == 1
    for line in (full, other):
        assert np.interp(ring[0, 0], line[:, 0], line[:, 1]) == pytest.approx(ring[0, 1], abs=0.05)
    marked = axes.lines[0].get_markevery()
    assert np.asarray(axes.lines[0].get_xdata())[marked].tolist() == [1, 4, 16], "marks are at budgets alone"


def test_what_needs_no_budget_is_a_line_of_its_own_style() -> None:
    levels = {"zero-shot": [45.0, 47.0], "longer": [50.0], "self_training": [52.0]}
    figure = drawn(few_shot_figure({"full": {1.0: [50.0]}}, levels, unit="scenes", score="s", crossings={}))
    (axes,) = figure.axes
    flat = [line for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert [line.get_ydata()[0] for line in flat] == [46.0, 50.0, 52.0]
    assert len({line.get_linestyle() for line in flat}) == 3
    assert not overlapping(figure)


def test_a_distance_that_is_not_known_is_said_and_scenes_of_one_name_are_drawn() -> None:
    ranks = np.arange(3.0)
    known, unknown = (Dot("a", 0.5, value, outside=False, ranks=ranks) for value in (0.6, float("nan")))
    twin = Dot("a", 0.5, 0.6, outside=False, ranks=ranks.copy())
    assert "not known" in drawn(distance_figure([known, unknown])).axes[0].get_ylabel()
    assert "not known" not in drawn(distance_figure([known, twin])).axes[0].get_ylabel()
    drawn(distance_figure([Dot("at the middle itself", 0.0, 0.0, outside=False, ranks=ranks)]))
    far = drawn(distance_figure([Dot("black", 1e6, 0.6, outside=True, ranks=ranks)]))
    assert not overlapping(far)


def test_histograms_of_many_sensors_are_told_apart_beside_the_panels() -> None:
    figure = drawn(histograms_figure({f"sensor {place}": np.full((2, 8), 1 / 8) for place in range(12)}))
    assert legend_of(figure.axes[1]) == [f"sensor {place}" for place in range(12)]
    looks = {(patch.get_edgecolor(), patch.get_linestyle()) for patch in figure.axes[0].patches}
    assert len(looks) == 12


def test_lines_and_areas_are_told_apart_without_colour() -> None:
    """A journal prints in grey; the palette's blue, orange and green are one grey there."""
    curves = curves_figure({f"arm{n}": [{1: 0.1, 2: 0.2}] for n in range(32)}, score="IoU", scale=100)
    shapes = histograms_figure({f"sensor{n}": np.ones((2, 8)) for n in range(32)})
    lines = [[(one.get_color(), one.get_linestyle()) for one in curves.axes[0].lines]]
    lines.append([(str(one.get_edgecolor()), one.get_linestyle()) for one in shapes.axes[0].patches])
    for looks in lines:
        assert len(looks) == 32 == len(set(map(str, looks))), "two have the same look"
        assert all(one[1] != other[1] for one, other in pairwise(looks)), "neighbours differ in colour alone"
    parts = {"arm": 0.4, "scene": 0.3, "arm x scene": 0.1, "seed": 0.1, "rest": 0.1}
    bars = variance_figure(parts).axes[0].patches
    assert len({bar.get_hatch() for bar in bars}) == len(parts) and {bar.get_linewidth() for bar in bars} == {0.8}
