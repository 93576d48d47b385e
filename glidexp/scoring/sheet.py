"""The widths that drawings are made for, in the size in which they are printed: both columns of a page, or one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glidexp.scoring.figures import pdf_bytes, png_bytes
from glidexp.scoring.labels import label, lines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

INCH_MM = 25.4
BLUE, VERMILION = "#2480d6", "#de5400"
"""of what is drawn, and of what is to be seen beside it; after Okabe and Ito, darkened where thin lines would fade on
white"""
POINTS = 7.0
"""of all text, as it is printed; journals ask for 6 to 8"""
LETTER = 0.058
"""inches that a letter of that size takes along a line, on average and a little more"""
LINE = 0.13
"""inches from line to line"""
ASLANT, UPRIGHT = 25, 90
"""degrees"""
WHOLE_LINE = 44
"""letters of a name in a legend above the panels"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A width, and how panels and legends stand on it."""

    ending: str
    """of the names of files"""
    mm: float
    """that no drawing is wider than"""
    dpi: int
    """of PNG"""
    narrow: bool
    """legends stand above the panels, and not beside them"""

    @property
    def inches(self) -> float:
        """The width."""
        return self.mm / INCH_MM


PAGE = Sheet("", 180, 150, narrow=False)
"""both columns; PNG for a screen"""
COLUMN = Sheet("_column", 88, 300, narrow=True)
"""one column: 85 to 90 mm in most journals; PNG for a text processor"""
SHEETS = (PAGE, COLUMN)
Draw = Callable[..., "Figure"]
"""draws for the sheet that its argument `sheet` is"""


def files_of(name: str, draw: Draw) -> dict[str, bytes]:
    """PNG and PDF of a drawing on each sheet, by the file's name: `forest.png`, `forest_column.pdf`."""
    found = {}
    for sheet in SHEETS:
        figure = draw(sheet=sheet)
        found[f"{name}{sheet.ending}.png"] = png_bytes(figure)
        found[f"{name}{sheet.ending}.pdf"] = pdf_bytes(figure)
    return found


def figure_of(
    sheet: Sheet, width: float, height: float, rows: int = 1, columns: int = 1, **panels: Any
) -> tuple["Figure", list["Axes"]]:
    """A figure with plain panels, as all drawings have them.

    Args:
        sheet: what it is made for
        width: inches, where the sheet is not narrow; of a narrow one the whole width is taken
        height: inches
        rows: of panels
        columns: of panels
        panels: `height_ratios`, `width_ratios`, `sharex`, `sharey` as `Figure.subplots` takes them
    """
    from matplotlib.figure import Figure

    size = (sheet.inches if sheet.narrow else min(width, sheet.inches), height)
    figure = Figure(figsize=size, layout="constrained", dpi=sheet.dpi)
    axes = list(np.atleast_1d(figure.subplots(rows, columns, **panels)).flat)
    for one in axes:
        plain(one)
    return figure, axes


def plain(axes: "Axes") -> None:
    """Thin lines, no box, text of the one size."""
    axes.tick_params(labelsize=POINTS, length=2.5, width=0.6, pad=2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_fontsize(POINTS)
    axes.yaxis.label.set_fontsize(POINTS)


def roomy(sheet: Sheet, panel: float, height: float, names: Sequence[str]) -> tuple[float, float]:
    """Inches of a figure whose panels are so large, with a legend of these names, which would squeeze them."""
    if sheet.narrow:
        shown = [label(name, WHOLE_LINE) for name in names]
        return sheet.inches, height + LINE * -(-lines_of(shown) // _columns(sheet, shown))
    shown = [label(name) for name in names]
    longest = max((len(line) for name in shown for line in name.split("\n")), default=0)
    return panel + 0.5 + LETTER * longest, max(height, 0.45 + LINE * lines_of(shown))


def legend(sheet: Sheet, axes: "Axes", handles: Sequence[Any], names: Sequence[str], title: str = "") -> "Legend":
    """What lines and marks are: to the right of the panel, or above all panels, and so never on what is drawn."""
    look: dict[str, Any] = {"fontsize": POINTS, "title_fontsize": POINTS, "frameon": False, "title": title or None}
    if sheet.narrow:
        shown = [label(name, WHOLE_LINE) for name in names]
        look |= {"loc": "outside upper left", "ncols": _columns(sheet, shown), "alignment": "left"}
        figure = axes.get_figure(root=True)
        assert figure is not None
        return figure.legend(handles, shown, columnspacing=1.2, labelspacing=0.3, **look)
    shown = [label(name) for name in names]
    return axes.legend(handles, shown, loc="center left", bbox_to_anchor=(1.0, 0.5), **look)


def _columns(sheet: Sheet, shown: Sequence[str]) -> int:
    """How many names stand beside each other above the panels."""
    longest = max((len(line) for name in shown for line in name.split("\n")), default=1)
    return max(1, min(len(shown), int((sheet.inches - 0.1) / (0.39 + LETTER * longest))))


def name_levels(axes: "Axes", levels: Sequence[str], room: float) -> None:
    """Names along the x axis: level where they fit, wrapped if need be; else aslant, and upright where they are many.

    Args:
        axes: of the panel
        levels: names, at 0, 1, 2, ...
        room: inches that the panel has
    """
    shown, angle = _turned(levels, room)
    how: dict[str, Any] = {"rotation": angle, "ha": "right", "rotation_mode": "anchor"} if angle else {}
    how |= {"va": "center" if angle == UPRIGHT else "top"}
    axes.set_xticks(range(len(levels)), shown, fontsize=POINTS, **how)


def deep(levels: Sequence[str], room: float) -> float:
    """Inches that `name_levels` takes below the panel."""
    shown, angle = _turned(levels, room)
    long = LETTER * max(len(line) for name in shown for line in name.split("\n"))
    high = LINE * max(lines_of([name]) for name in shown)
    return float(long * np.sin(np.radians(angle)) + high * np.cos(np.radians(angle)))


def _turned(levels: Sequence[str], room: float) -> tuple[list[str], int]:
    """Names as they stand along an axis, and by how many degrees they are turned."""
    each = room / max(len(levels), 1)
    letters = int(each / LETTER) - 1
    if max(len(word) for level in levels for word in level.split(" ")) <= letters:
        return [label(level, letters) for level in levels], 0
    shown = [label(level, 24) for level in levels]
    lines = LINE * max(lines_of([one]) for one in shown)
    if each * np.sin(np.radians(ASLANT)) > lines:
        return shown, ASLANT
    return ([label(level, 60) for level in levels] if each < lines else shown), UPRIGHT
