"""Drawings go into a paper as they are: as wide as a page or a column, letters that can be read, nothing cut off."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from glidexp.scoring import plots
from glidexp.scoring.figures import pdf_bytes
from glidexp.scoring.forest import Bar, forest_figure, parts_of
from glidexp.scoring.heatmap import heatmap_figure
from glidexp.scoring.series_plots import Line, series_figure
from glidexp.scoring.sheet import COLUMN, PAGE, SHEETS, Sheet, files_of
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
from glidexp.study.report.blocks import Picture, html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS = [
    f"{backbone}, {way}" for backbone in ("mobilenetv3", "resnet18", "efficientnet_b0") for way in ("flips", "heavy")
]
REGIONS = ["hindu kush himalaya", "southern andes and patagonia", "alaska", "greenland", "european alps", "caucasus"]
REGIONS += ["tien shan", "altai", "new zealand", "arctic canada north"]
SHORT = ["alaska", "andes", "greenland", "himalaya"]
SCENES = ["bands_swapped", "gamma_1.6", "landsat8_alaska_07", "landsat8_greenland_54", "landsat8_himalaya_00"]
SAID = {"score": "lake IoU [points]", "n": "3 seeds, 8 scenes"}


def bars(*sure: bool) -> list[Bar]:
    arms = [Bar(ARMS[0], [0.4, 0.5], None, sure=False)]
    return arms + [Bar(ARMS[n + 1], [0.5, 0.6], (0.1, 0.05, 0.15), sure=one) for n, one in enumerate(sure)]


def dots() -> list[Dot]:
    return [Dot(name, 1.6 - 0.3 * n, 0.8, outside=n < 2, ranks=np.full(3, 20.0 * n)) for n, name in enumerate(SCENES)]


def ranges() -> list[Range]:
    return [Range(name, 0.3 + 0.1 * n, 0.2, 0.9, outside=n < 2) for n, name in enumerate(SCENES)]


def matrix(names: list[str], **how: Sheet) -> "Figure":
    values = np.linspace(0, 1, (len(names) + 1) * len(names)).reshape(-1, len(names))
    rest_on = (["3 seeds"] * (len(names) + 1), ["12 scenes"] * len(names))
    return heatmap_figure(values, [*names, "all"], names, score="lake IoU", across="region", rest_on=rest_on, **how)


def line(number: int, name: str = "", years: tuple[float, ...] = (2000.5, 2004.5, 2013.7, 2020.8)) -> Line:
    area = 0.02 * (number + 1) + 0.01 * np.arange(len(years))
    name = name or f"GL08{number}.9342E27.9421N"
    return Line(name, np.array(years), area, 0.9 * area, 1.1 * area, 0.0123, 0.0099, 0.0211, -24.0)


def points(names: list[str]) -> list[Point]:
    return [Point(name, 40.0 + n, 38.0 + n, 43.0 + n) for n, name in enumerate(names)]


DRAWN: dict[str, Callable[..., "Figure"]] = {
    "forest": partial(
        forest_figure, bars(*[True, False] * 2), score="lake IoU", level=0.95, n="3 seeds, 8 scenes", unit="points"
    ),
    "curves": partial(
        curves_figure, {arm: [{1: 0.1, 2: 0.2 + n / 9}] for n, arm in enumerate(ARMS)}, score="IoU", scale=100
    ),
    "effects": partial(effects_figure, {"backbone": points(ARMS), "loss": points(["bce", "dice"])}, level=0.95, **SAID),
    "interaction": partial(
        interaction_figure, {(a, b): [1.0, 2.0] for a in SHORT for b in ARMS}, names=("region", "backbone"), **SAID
    ),
    "pareto": partial(pareto_figure, [(arm, 40.0 + n, 9.0 + n, 1e6 * n) for n, arm in enumerate(ARMS)], **SAID),
    "variance": partial(variance_figure, {"arm": 0.4, "scene": 0.3, "arm x scene": 0.1, "seed": 0.1, "rest": 0.1}),
    "few_shot": partial(
        few_shot_figure,
        {way: {1.0: [50.0 + n], 3.0: [60.0 + n], 10.0: [65.0 + n]} for n, way in enumerate(["head", "full"])},
        {"zero-shot": [45.0, 48.0], "longer": [50.0], "self_training": [52.0]},
        unit="training scenes of the target", score="lake IoU, points", crossings={},
    ),
    "matrix": partial(matrix, SHORT),
    "large matrix": partial(matrix, REGIONS),
    "distance": partial(distance_figure, dots()),
    "traits": partial(traits_figure, dots(), ["red mean", "green 95 %", "greenness"]),
    "expected": partial(expected_figure, np.array([0.5]), np.array([0.5]), ranges()),
    "series": partial(
        series_figure, line(90, "as mapped"), line(60, "lakes that all dates looked at"), [line(n) for n in range(9)]
    ),
    "short series": partial(series_figure, line(90, "as mapped", (2020.7, 2021.6)), None, [line(0)]),
    "pixels": partial(histograms_figure, {name: np.full((2, 8), 1 / 8) for name in ("landsat8", "sentinel2", "uav")}),
}  # fmt: skip


def histogram() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.multinomial(9000, np.ones(256) / 256), rng.multinomial(900, np.arange(256) / 32640)])


ONE_COLUMN = {
    "pr": partial(plots.pr_figure, histogram(), 0.3, naive={"index_threshold": (0.5, 0.4)}, title="test"),
    "reliability": partial(plots.reliability_figure, histogram(), temperature=1.4, title="test"),
}
"""drawn for a column alone"""


def texts(figure: "Figure") -> list[Text]:
    """What is to be read."""
    figure.draw_without_rendering()
    ticks = {one for axes in figure.axes for one in (*axes.xaxis.majorTicks, *axes.yaxis.majorTicks)}
    unseen = {text for tick in ticks for text in (tick.label1, tick.label2)}
    for axes in figure.axes:
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
            for tick in axis.get_major_ticks():
                if low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                    unseen -= {tick.label1, tick.label2}
    found = [one for one in figure.findobj(Text) if isinstance(one, Text) and one not in unseen]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("sheet", SHEETS, ids=["page", "column"])
@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_fits_on_its_sheet(name: str, sheet: Sheet) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(DRAWN[name](sheet=sheet), sheet)


@pytest.mark.parametrize("name", ONE_COLUMN)
def test_a_run_s_plots_are_one_column_wide(name: str) -> None:
    check(ONE_COLUMN[name](), COLUMN)


def check(figure: "Figure", sheet: Sheet) -> None:
    """Width, size of letters, all within, no name on another, no legend on what is drawn."""
    mm = 25.4 * figure.get_size_inches()[0]
    assert mm <= sheet.mm + 0.01 and (mm == pytest.approx(88) or not sheet.narrow)
    read = texts(figure)
    assert len(read) > 5
    assert min(text.get_fontsize() for text in read) >= 6
    whole = figure.bbox.padded(1)
    boxes = [(text.get_text(), text.get_window_extent()) for text in read if not text.get_rotation() % 90]
    for said, box in boxes:
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1, f"{said} is cut"
    for (said, one), (also, other) in combinations([(said, box.padded(-1)) for said, box in boxes], 2):
        assert not one.overlaps(other), f"{said!r} lies on {also!r}"
    legends = [one for one in (*figure.legends, *(axes.get_legend() for axes in figure.axes)) if one is not None]
    for legend in legends:
        shown = legend.get_window_extent()
        assert not any(shown.padded(-1).overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert min(axes.get_position().height * figure.get_size_inches()[1] for axes in figure.axes) > 0.09


@pytest.mark.parametrize("name", [*DRAWN, *ONE_COLUMN])
def test_pdfs_have_letters_as_truetype(name: str) -> None:
    content = pdf_bytes((DRAWN | ONE_COLUMN)[name]())
    assert b"/FontFile2" in content and b"/Type3" not in content, "journals refuse fonts of type 3"


def test_a_drawing_is_left_for_page_and_column() -> None:
    files = files_of("bar", DRAWN["variance"])
    assert list(files) == ["bar.png", "bar.pdf", "bar_column.png", "bar_column.pdf"]
    page, column = (b" ".join(files[name].split()) for name in ("bar.pdf", "bar_column.pdf"))
    assert b"/MediaBox [ 0 0 249.44" in column and b"/MediaBox [ 0 0 396 " in page
    shown = html("t", [Picture.of("bar", DRAWN["variance"], "a bar")])
    assert shown.count("data:image/png") == 2 and '<source media="(max-width:560px)"' in shown


def test_what_is_sure_is_told_without_colour() -> None:
    figure = forest_figure(bars(True, False), score="s", level=0.95, n="3 seeds", unit="points")
    right = figure.axes[1]
    assert "filled: holds up after Holm" in right.get_xlabel()
    marks = [line for line in right.lines if line.get_marker() == "s"]
    assert [line.get_markerfacecolor() == "white" for line in marks] == [False, True]
    wide, thin = (
        line.get_linewidth()
        for line in right.lines
        if line.get_linestyle() == "-" and len(line.get_xdata()) == 2 and line.get_color() != "0.6"
    )
    assert wide > 2 * thin


@pytest.mark.parametrize("name", ["arm {}", "a name of several lines, " * 4 + "{}"])
def test_more_arms_than_fit_on_a_page_are_drawn_in_parts(name: str) -> None:
    """Every arm once, the baseline in each, and the same axes, so that they can be read side by side."""
    every = [
        Bar(name.format(n), [0.5 + n / 100], (n / 100, n / 100 - 0.02, n / 100 + 0.02), sure=True) for n in range(45)
    ]
    base, *others = every = [Bar("base", [0.5], None, sure=False), *every]
    assert parts_of(every[:3]) == [every[:3]] and parts_of([base]) == [[base]]
    parts = parts_of(every)
    assert len(parts) > 2 and all(part[0] is base for part in parts)
    assert [bar for part in parts for bar in part[1:]] == others
    for sheet in SHEETS:
        figures = [
            forest_figure(part, score="s", level=0.95, n="3 seeds", unit="points", beside=every, sheet=sheet)
            for part in parts
        ]
        assert max(figure.get_size_inches()[1] for figure in figures) <= 9.0
        for place, shown in ((0, (0.5, 0.94)), (1, (-0.02, 0.46))):
            (limits,) = {figure.axes[place].get_xlim() for figure in figures}
            assert limits[0] <= 100 * shown[0] and 100 * shown[1] <= limits[1]


def test_scenes_outside_are_told_without_colour() -> None:
    for figure in (distance_figure(dots()), expected_figure(np.array([0.5]), np.array([0.5]), ranges())):
        legend = figure.axes[0].get_legend()
        assert legend is not None
        fills = [to_hex(line.get_markerfacecolor()) for line in legend.get_lines()]
        assert [fill == "#ffffff" for fill in fills] == [True, True, False, False, False]
        assert len({line.get_marker() for line in legend.get_lines()}) == len(SCENES)


def test_numbers_and_frames_of_a_matrix_are_seen_on_every_ground() -> None:
    figure = matrix(SHORT, sheet=PAGE)
    axes = figure.axes[0]
    frames = [to_hex(patch.get_edgecolor()) for patch in axes.patches]
    assert frames == ["#ffffff", "#000000"] * len(SHORT)
    image = axes.images[0]
    for text in axes.texts:
        column, row = (round(at) for at in text.get_position())
        ground, ink = (
            np.array(image.cmap(image.norm(image.get_array()[row, column]))[:3]),
            float(text.get_color() == "white"),
        )
        linear = np.where(ground <= 0.04045, ground / 12.92, ((ground + 0.055) / 1.055) ** 2.4)
        light = float(linear @ (0.2126, 0.7152, 0.0722))
        high, low = max(light, ink), min(light, ink)
        assert (high + 0.05) / (low + 0.05) >= 4.5, "WCAG's least contrast of text"
