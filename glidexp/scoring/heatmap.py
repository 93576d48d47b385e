"""A table of scores as a picture: sources down, targets across, each field with its number."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.labels import label, lines_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heatmap_figure(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    score: str,
    across: str,
    rest_on: tuple[Sequence[str], Sequence[str]],
) -> "Figure":
    """The picture; a field whose row and column have one name, so trained on what it is scored on, has a frame.

    Args:
        values: (rows, columns), 0-1, shown as points of 100; NaN, as of a target without lake, as an empty field
        rows: names of sources
        columns: names of targets
        score: what is shown, as the colour bar says it
        across: what rows and columns are, such as region
        rest_on: what the numbers of each row and of each column are means of: `3 seeds`, `8 scenes`; below their names
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    down, along = (
        [f"{label(name, width)}\n({n})" for name, n in zip(names, of, strict=True)]
        for names, of, width in zip((rows, columns), rest_on, (36, 14), strict=True)
    )  # names of columns have the width of a field
    size = (2.8 + 1.0 * len(columns), 1.5 + 0.5 * len(rows) + 0.15 * max(lines_of([one]) for one in along))
    figure = Figure(figsize=size, layout="constrained", dpi=130)
    axes = figure.subplots()
    points = 100 * values
    image = axes.imshow(points, cmap="viridis", aspect="auto")
    known = points[np.isfinite(points)]
    middle = (known.min() + known.max()) / 2 if known.size else 0.0
    for row, name in enumerate(rows):
        for column, target in enumerate(columns):
            value = points[row, column]
            shade = "white" if value <= middle else "black"
            text = f"{value:.1f}" if np.isfinite(value) else "no value"
            axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=9)
            if name == target:
                axes.add_patch(
                    Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor="#de5400", linewidth=2)
                )
    axes.set_xticks(range(len(columns)), along, fontsize=9)
    axes.set_yticks(range(len(rows)), down, fontsize=9)
    axes.set_xlabel(f"scored on this {across}", fontsize=9)
    axes.set_ylabel(f"trained on this {across}", fontsize=9)
    figure.colorbar(image, ax=axes).set_label(f"{score}, points", fontsize=9)
    return figure
