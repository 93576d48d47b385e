"""Plots of a whole split from its histograms: precision over recall, and predicted against observed."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring import calibration
from glidexp.scoring.counts import HALF_BIN, bin_of_threshold
from glidexp.scoring.labels import threshold_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE = "#2480d6"
_POINT = "#de5400"
_GUIDE = "0.72"


def pr_figure(
    hist: NDArray[np.integer], threshold: float, *, naive: dict[str, tuple[float, float]] | None = None, title: str = ""
) -> "Figure":
    """Precision over recall of all pixels together, with lines of equal F1, the threshold from val and 0.5.

    Args:
        hist: (..., 2, 256), summed
        threshold: probability fixed on val
        naive: (recall, precision) of rows to compare with, by name
        title: stands above the plot
    """
    figure, axes = _axes(title or "Precision and recall, pooled over pixels")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.005), ylim=(0, 1.005), aspect="equal")
    _equal_f1(axes)
    curve = calibration.pr_curve(hist)
    if curve is None:
        axes.text(0.5, 0.5, "no lake in truth", ha="center", va="center", fontsize=12, color="0.4")
        return figure
    score = calibration.average_precision(hist)
    axes.plot(curve.recall, curve.precision, color=_LINE, linewidth=2, label=f"network, average precision {score:.3f}")
    marks = (
        (bin_of_threshold(threshold), "o", _POINT, f"threshold from val, {threshold_text(threshold)}"),
        (HALF_BIN, "D", "white", "threshold 0.5"),
    )
    for place, marker, fill, label in marks:
        if place < len(curve.recall) and not np.isnan(curve.precision[place]):
            x, y = curve.recall[place], curve.precision[place]
            axes.plot(x, y, marker, markersize=8, linestyle="none", mfc=fill, mec=_POINT, label=label)
    for (name, (recall, precision)), marker in zip((naive or {}).items(), "s^vP", strict=False):
        if not np.isnan(precision + recall):
            label = name.replace("_", " ")
            axes.plot(recall, precision, marker, color="0.3", markersize=7, linestyle="none", label=label)
    axes.legend(loc="lower left", fontsize=9, framealpha=0.95)
    return figure


def reliability_figure(hist: NDArray[np.integer], *, temperature: float | None = None, title: str = "") -> "Figure":
    """Observed share of lake over predicted probability, and how many pixels stand behind each point.

    Args:
        hist: (..., 2, 256), summed
        temperature: a second line shows the probabilities that it calibrates, where it is given
        title: stands above the plot
    """
    figure, axes = _axes(title or "Reliability over all valid pixels", rows=2)
    axes.set(ylabel="observed share of lake", xlim=(0, 1), ylim=(-0.02, 1.02))
    axes.plot([0, 1], [0, 1], color=_GUIDE, linewidth=1.5, linestyle="--", label="calibrated")
    below = figure.axes[1]
    below.set(xlabel="predicted lake probability", ylabel="pixels", xlim=(0, 1))
    if not len(calibration.reliability(hist).pixels):
        axes.text(0.5, 0.5, "no valid pixels", ha="center", va="center", fontsize=12, color="0.4")
        return figure
    side = 1 / calibration.CALIBRATION_BINS
    lines = [("network", 1.0, "o-", _LINE)]
    if temperature is not None:
        lines.append((f"at temperature {temperature:.2f}", temperature, "D:", _POINT))
    for place, (name, heat, style, colour) in enumerate(lines):
        curve = calibration.reliability(hist, temperature=heat)
        error = calibration.expected_calibration_error(hist, temperature=heat)
        label = f"{name}, ECE {error:.4f}"
        axes.plot(curve.confidence, curve.frequency, style, color=colour, linewidth=2, markersize=5, label=label)
        part = np.minimum(np.floor(curve.confidence * calibration.CALIBRATION_BINS), calibration.CALIBRATION_BINS - 1)
        width = side * 0.92 / len(lines)
        below.bar(part * side + place * width, curve.pixels, width=width, align="edge", color=colour)
    axes.legend(loc="upper left", fontsize=9, framealpha=0.95)
    below.set_yscale("log")
    return figure


def _axes(title: str, rows: int = 1) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    grid = figure.add_gridspec(rows, 1, height_ratios=(1,) if rows == 1 else (3, 1))
    first = figure.add_subplot(grid[0])
    for row in range(1, rows):
        figure.add_subplot(grid[row], sharex=first)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
    first.set_title(title, fontsize=12, loc="left")
    return figure, first


def _equal_f1(axes: "Axes") -> None:
    for f1 in (0.2, 0.4, 0.6, 0.8, 0.9):
        recall = np.linspace(f1 / (2 - f1), 1, 100)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color=_GUIDE, linewidth=0.8)
        axes.text(0.995, f1 / (2 - f1), f"F1 {f1}", fontsize=7, color="0.5", ha="right", va="bottom")
