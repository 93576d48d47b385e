"""A table of scores as a picture: sources down, targets across, each field with its number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.labels import label, lines_of
from glidexp.scoring.sheet import LETTER, LINE, PAGE, POINTS, Sheet, deep, figure_of, name_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_BREAK = "\u00a0"
"""a blank at which no line is broken"""
_TENTHS, _WHOLE = 0.29, 0.16
"""inches of a field that has room for 72.3, and for 72"""


def heatmap_figure(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    score: str,
    across: str,
    rest_on: tuple[Sequence[str], Sequence[str]],
    sheet: Sheet = PAGE,
) -> "Figure":
    """The picture; a field whose row and column have one name, so trained on what it is scored on, has a frame.

    Args:
        values: (rows, columns), 0-1, shown as points of 100, whole ones where fields are narrow; NaN, as of a target
            without lake, as an empty field
        rows: names of sources
        columns: names of targets
        score: what is shown, as the colour bar says it
        across: what rows and columns are, such as region
        rest_on: what the numbers of each row and of each column are means of: `3 seeds`, `8 scenes`; beside their names
        sheet: what it is drawn for
    """
    down, along = (
        [f"{name} ({n.replace(' ', NO_BREAK)})" for name, n in zip(names, of, strict=True)]
        for names, of in zip((rows, columns), rest_on, strict=True)
    )
    down = [label(name, 16 if sheet.narrow else 36) for name in down]
    beside = 0.35 + LETTER * max(len(line) for name in down for line in name.split("\n"))
    beside += 0.0 if sheet.narrow else 0.75  # the colour bar
    width = sheet.inches if sheet.narrow else min(sheet.inches, beside + 0.8 * len(columns))
    field = (width - beside) / len(columns)
    tall = len(down) * max(0.25 if sheet.narrow else 0.34, *(LINE * lines_of([name]) + 0.05 for name in down))
    figure, (axes,) = figure_of(sheet, width, tall + 0.35 + 0.5 * sheet.narrow + deep(along, width - beside))
    image = axes.imshow(100 * values, cmap="viridis", aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    name_levels(axes, along, width - beside)
    axes.set_yticks(range(len(rows)), down, fontsize=POINTS)
    for row, name in enumerate(rows):
        for column, target in enumerate(columns):
            value = 100 * values[row, column]
            _field(axes, row, column, _said(value, field), image.cmap(image.norm(value)), framed=name == target)
    axes.set(xlabel=f"scored on this {across}", ylabel=f"trained on this {across}")
    where: dict[str, Any] = {"location": "top", "aspect": 22} if sheet.narrow else {}
    bar = figure.colorbar(image, ax=axes, **where)
    bar.set_label(f"{score}, points", fontsize=POINTS)
    bar.ax.tick_params(labelsize=POINTS, length=2.5, width=0.6)
    return figure


def _said(value: float, field: float) -> str:
    """The number in a field of so many inches."""
    if not np.isfinite(value):
        return "no value" if field > 8 * LETTER else "–"
    return f"{value:.1f}" if field >= _TENTHS else f"{value:.0f}" if field >= _WHOLE else ""


def _field(axes: "Axes", row: int, column: int, text: str, colour: Any, *, framed: bool) -> None:
    """A number in black or white, whichever is read better; a frame is black in white, seen on any ground."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    light = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    shade = "black" if text in ("no value", "–") or light > 0.179 else "white"  # of equal contrast there (WCAG 2)
    axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=POINTS)
    if framed:
        for edge, thick in (("white", 2.6), ("black", 1.2)):
            frame: dict[str, Any] = {"fill": False, "edgecolor": edge, "linewidth": thick}
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **frame))
