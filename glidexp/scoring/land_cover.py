"""Scores of several classes: intersection over union of each, pooled over all pixels, and their mean.

The mean is over the classes that occur, in truth or in prediction; how many these are stands beside it
(`miou_classes`), as a mean over other classes is another score. It is no score of lakes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.tables import bare_table, leak_warning

if TYPE_CHECKING:
    import torch
    from rich.table import Table

CHOOSING = ("val/miou_pooled", "val/accuracy_pooled")
"""scores that can choose the best epoch"""


def confusion_of(logits: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
    """Pixels by true and predicted class, on the device of the logits, with no host sync.

    Args:
        logits: (B, K, H, W); of equal ones the first class is taken
        label: (B, H, W) uint8, 0 to K - 1; anything else (255) is not valid and not counted

    Returns:
        (K, K) int64, true class first
    """
    import torch

    classes = logits.shape[1]
    valid = label < classes
    place = (label.long() * classes + logits.argmax(1)).where(valid, classes * classes).flatten()
    counted = torch.zeros(classes * classes + 1, dtype=torch.int64, device=logits.device)
    counted.scatter_add_(0, place, torch.ones_like(place))
    return counted[:-1].view(classes, classes)


def class_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, K) -> (K,), 0-1: pixels of both over pixels of either; NaN for a class that is in neither."""
    both = np.diag(confusion).astype(np.float64)
    either = confusion.sum(0) + confusion.sum(1) - both
    return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


def class_scores(confusion: NDArray[np.int64], names: Sequence[str], split: str) -> dict[str, float]:
    """Every score of a split by the name it has in tracking; what is undefined has no entry.

    Args:
        confusion: (K, K) pixels, true class first
        names: of the classes
        split: "val" or "test"
    """
    iou, total = class_iou(confusion), int(confusion.sum())
    there = ~np.isnan(iou)
    found = {f"{split}/class/{name}/iou_pooled": float(value) for name, value in zip(names, iou, strict=True)}
    found |= {f"{split}/class/{name}/px": float(n) for name, n in zip(names, confusion.sum(1), strict=True)}
    if total:
        found[f"{split}/miou_pooled"] = float(iou[there].mean())
        found[f"{split}/accuracy_pooled"] = float(np.diag(confusion).sum() / total)
    found[f"{split}/miou_classes"] = float(there.sum())
    return {name: value for name, value in found.items() if value == value}


def class_table(metrics: dict[str, float]) -> "Table":
    """The scores of `class_scores` on test as a table 80 characters wide or less."""
    from rich.text import Text

    table = bare_table(title=f"Land cover on test{leak_warning(metrics)}")
    table.add_column("class", overflow="fold", max_width=28)
    for heading in ("pixels", "share", "IoU"):
        table.add_column(heading, justify="right", no_wrap=True)
    start, end = "test/class/", "/px"
    names = [key[len(start) : -len(end)] for key in metrics if key.startswith(start) and key.endswith(end)]
    total = sum(metrics[f"{start}{name}{end}"] for name in names)
    for name in names:
        px, iou = metrics[f"{start}{name}{end}"], metrics.get(f"{start}{name}/iou_pooled")
        shown = "-" if iou is None else f"{iou:.4f}"
        table.add_row(Text(name), f"{px:,.0f}", f"{px / max(total, 1):.1%}", shown, end_section=name == names[-1])
    mean, count = metrics.get("test/miou_pooled"), metrics.get("test/miou_classes", 0)
    table.add_row(
        f"mean of {count:.0f} classes", f"{total:,.0f}", "", "-" if mean is None else f"{mean:.4f}", style="bold"
    )
    return table
