"""Plots of a whole split from its histograms: precision over recall, and predicted against observed.

One column wide, in the size in which they are printed.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring import calibration
from glidexp.scoring.counts import HALF_BIN, bin_of_threshold, total
from glidexp.scoring.labels import threshold_text
from glidexp.scoring.sheet import BLUE, COLUMN, POINTS, VERMILION, figure_of, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GUIDE = "0.72"


def pr_figure(
    hist: NDArray[np.integer], threshold: float, *, naive: dict[str, tuple[float, float]] | None = None, title: str = ""
) -> "Figure":
    """Precision over recall of all pixels together, with lines of equal F1, the threshold from val and 0.5.

    It is as wide as one column of a journal, its legend above what is drawn.

    Args:
        hist: (..., 2, 256), summed
        threshold: probability fixed on val
        naive: (recall, precision) of rows to compare with, by name
        title: stands above the plot, with the number of pixels
    """
    figure, axes = _axes(title or "all pixels", hist, 3.5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    _equal_f1(axes)
    curve = calibration.pr_curve(hist)
    if curve is None:
        axes.text(0.5, 0.5, "no lake in truth", ha="center", va="center", fontsize=POINTS, color="0.4")
        return figure
    score = calibration.average_precision(hist)
    thin: dict[str, Any] = {"clip_on": False, "zorder": 3}
    axes.plot(curve.recall, curve.precision, color=BLUE, linewidth=1.4, label=f"network, AP {score:.3f}", **thin)
    marks = (
        (bin_of_threshold(threshold), "o", VERMILION, f"threshold {threshold_text(threshold)} (val)"),
        (HALF_BIN, "D", "white", "threshold 0.5"),
    )
    for place, marker, fill, label in marks:
        if place < len(curve.recall) and not np.isnan(curve.precision[place]):
            x, y = curve.recall[place], curve.precision[place]
            look: dict[str, Any] = {"markersize": 5, "linestyle": "none", "mfc": fill, "mec": VERMILION} | thin
            axes.plot(x, y, marker, label=label, **look)
    for (name, (recall, precision)), marker in zip((naive or {}).items(), "s^vP", strict=False):
        if not np.isnan(precision + recall):
            grey: dict[str, Any] = {"markersize": 4.5, "linestyle": "none", "color": "0.3"} | thin
            axes.plot(recall, precision, marker, label=name.replace("_", " "), **grey)
    legend(COLUMN, axes, *axes.get_legend_handles_labels())
    return figure


def reliability_figure(hist: NDArray[np.integer], *, temperature: float | None = None, title: str = "") -> "Figure":
    """Observed share of lake over predicted probability, and how many pixels stand behind each point.

    It is as wide as one column of a journal, its legend above what is drawn.

    Args:
        hist: (..., 2, 256), summed
        temperature: a second line shows the probabilities that it calibrates, where it is given
        title: stands above the plot, with the number of pixels
    """
    figure, axes = _axes(title or "all pixels", hist, 4.0, rows=2)
    axes.set(ylabel="observed share of lake", xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color=_GUIDE, linewidth=1, linestyle="--", label="calibrated")
    below = figure.axes[1]
    below.set(xlabel="predicted lake probability", ylabel="pixels", xlim=(0, 1))
    if not len(calibration.reliability(hist).pixels):
        axes.text(0.5, 0.5, "no valid pixels", ha="center", va="center", fontsize=POINTS, color="0.4")
        return figure
    side = 1 / calibration.CALIBRATION_BINS
    lines = [("network", 1.0, "o-", BLUE)]
    if temperature is not None:
        lines.append((f"at temperature {temperature:.2f}", temperature, "D:", VERMILION))
    for place, (name, heat, style, colour) in enumerate(lines):
        curve = calibration.reliability(hist, temperature=heat)
        error = calibration.expected_calibration_error(hist, temperature=heat)
        look: dict[str, Any] = {"color": colour, "linewidth": 1.4, "markersize": 3.5, "clip_on": False, "zorder": 3}
        axes.plot(curve.confidence, curve.frequency, style, label=f"{name}, ECE {error:.4f}", **look)
        part = np.minimum(np.floor(curve.confidence * calibration.CALIBRATION_BINS), calibration.CALIBRATION_BINS - 1)
        width = side * 0.92 / len(lines)
        bars: dict[str, Any] = {"color": colour, "hatch": "/////" * place, "edgecolor": "white", "linewidth": 0.4}
        below.bar(part * side + place * width, curve.pixels, width=width, align="edge", **bars)
    legend(COLUMN, axes, *axes.get_legend_handles_labels())
    below.set_yscale("log")
    return figure


def _axes(title: str, hist: NDArray[np.integer], height: float, rows: int = 1) -> tuple["Figure", "Axes"]:
    """A panel, a low one below it where there are two rows, and above them whose pixels these are and how many."""
    ratios = (1,) if rows == 1 else (3, 1)
    figure, panels = figure_of(COLUMN, 0, height, rows=rows, height_ratios=ratios, sharex=rows > 1)
    of_class = total(hist).sum(axis=1)
    share = f", {of_class[1] / of_class.sum():.2%} lake" if of_class.sum() else ""
    panels[0].set_title(f"{title}: {of_class.sum():,} pixels{share}", fontsize=POINTS, loc="left")
    return figure, panels[0]


def _equal_f1(axes: "Axes") -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8, 0.9):
        recall = np.linspace(f1 / (2 - f1), 1, 100)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color=_GUIDE, linewidth=0.6)
        axes.text(1.01, f1 / (2 - f1), f"F1 {f1}", fontsize=POINTS, color="0.4", va="center", clip_on=False)
