"""Picture of how good a map is: its scores and the lakes found by size, with intervals, and areas beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.scoring.sheet import PAGE, POINTS, Sheet, plain
from glidexp.scoring.study_plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
BLUE = PALETTE[0]


@dataclass(frozen=True, slots=True)
class Interval:
    """A share from 0 to 1 with its interval; NaN is not drawn."""

    label: str
    value: float
    low: float
    high: float
    units: int
    """lakes or cells that it is of"""


def assess_figure(
    scores: Sequence[Interval], sizes: Sequence[Interval], true_km2: Floats, mapped_km2: Floats, sheet: Sheet = PAGE
) -> "Figure":
    """Three panels, beside each other or below.

    Args:
        scores: from above to below
        sizes: lakes found, from the smallest class
        true_km2: areas of lakes that were found
        mapped_km2: of the mapped lake of each
        sheet: what it is drawn for
    """
    from matplotlib.figure import Figure

    rows, columns = (3, 1) if sheet.narrow else (1, 3)
    size = (sheet.inches, 6.4 if sheet.narrow else 2.5)
    figure = Figure(figsize=size, layout="constrained", dpi=sheet.dpi)
    ratios: dict[str, Any] = {} if sheet.narrow else {"width_ratios": (1.0, 1.0, 1.8)}
    panels = list(np.atleast_1d(figure.subplots(rows, columns, **ratios)).flat)
    for panel in panels:
        plain(panel)
    _shares(panels[0], scores, "score")
    _shares(panels[1], sizes, "lakes found, by area in km²")
    _areas(panels[2], true_km2, mapped_km2)
    return figure


def _shares(axes: "Axes", shown: Sequence[Interval], title: str) -> None:
    """A mark with its interval a line, from above; the number of lakes or cells beside the name."""
    places = np.arange(len(shown))[::-1]
    for place, one in zip(places.tolist(), shown, strict=True):
        if one.value == one.value:
            axes.plot([one.low, one.high], [place, place], color=BLUE, linewidth=1.2, solid_capstyle="butt")
            axes.plot([one.value], [place], "o", color=BLUE, markersize=4)
    axes.set_yticks(places, [f"{one.label} (n = {one.units})" for one in shown], fontsize=POINTS)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(title)


def _areas(axes: "Axes", true_km2: Floats, mapped_km2: Floats) -> None:
    """A mark a lake, on the line where both agree."""
    axes.set(xlabel="area, reference, km²", ylabel="area, map, km²")
    if not len(true_km2):
        axes.set_xticks([])
        axes.set_yticks([])
        return
    ends = np.array([min(true_km2.min(), mapped_km2.min()) / 1.5, max(true_km2.max(), mapped_km2.max()) * 1.5])
    axes.plot(ends, ends, color="0.5", linewidth=0.8)
    axes.plot(true_km2, mapped_km2, "o", color=BLUE, markersize=2.5, markerfacecolor="none", markeredgewidth=0.7)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.tick_params(which="minor", labelsize=POINTS)  # numbers stand there where the axis is shorter than a decade
    axes.set_box_aspect(1)
