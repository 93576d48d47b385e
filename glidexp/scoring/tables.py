"""The table at the end of a run, made from its metrics alone, so that a finished run can show it again."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {"precision": "precision", "recall": "recall", "f1": "F1", "lake_iou": "lake IoU"}
_NONE = "-"


def summary_table(metrics: dict[str, float], *, split: str = "test", title: str | None = None) -> "Table":
    """Scores of a split: pooled at both thresholds, means, every sensor and region, naive rows, each with its numbers.

    Args:
        metrics: by the name they have in tracking; what is missing shows as "-"
        split: "test" or "val"
        title: stands above; the split when not given

    Returns:
        a table 80 characters wide or less, for `rich.console.Console.print`, on a terminal and in a log
    """
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or f"Scores on {split}",
        caption=_caption(metrics, split),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
        padding=(0, 1),
        collapse_padding=True,
    )
    table.add_column("lake pixels", overflow="fold", max_width=28)
    for heading in ("tiles", "scenes", *COLUMNS.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    every = f"{split}/"
    threshold = _number(metrics.get(f"{split}/threshold"), 3)
    _row(table, metrics, f"pooled, threshold {threshold}", every, "pooled", every, bold=True)
    _row(table, metrics, "pooled, threshold 0.5", f"{split}/at_0.5/", "pooled", every)
    _row(table, metrics, "mean over tiles", every, "per_image", every)
    _row(table, metrics, "mean over scenes", every, "per_scene", every, last=True)
    for kind in ("sensor", "region"):
        names = _strata(metrics, split, kind)
        if names == ["unknown"]:  # says nothing that the first row does not
            continue
        for name in names:
            prefix = f"{split}/{kind}/{name}/"
            _row(table, metrics, name, prefix, "pooled", prefix, last=name == names[-1])
    for name in ("index_threshold", "background"):
        prefix = f"{split}/naive/{name}/"
        if any(key.startswith(prefix) for key in metrics):
            _row(table, metrics, f"naive: {name.replace('_', ' ')}", prefix, "pooled", every)
    return table


def _row(
    table: "Table",
    metrics: dict[str, float],
    label: str,
    prefix: str,
    how: str,
    numbers: str,
    *,
    bold: bool = False,
    last: bool = False,
) -> None:
    from rich.text import Text

    tiles = metrics.get(f"{numbers}tiles")
    if tiles is not None and how == "per_image":
        tiles -= metrics.get(f"{numbers}tiles_empty", 0)
    cells = [_number(tiles, 0), _number(metrics.get(f"{numbers}scenes"), 0)]
    cells += [_number(metrics.get(f"{prefix}{score}_{how}"), 4) for score in COLUMNS]
    table.add_row(Text(label), *cells, style="bold" if bold else None, end_section=last)


def _strata(metrics: dict[str, float], split: str, kind: str) -> list[str]:
    found = (re.fullmatch(rf"{split}/{kind}/([^/]+)/[^/]+", key) for key in metrics)
    return sorted({match.group(1) for match in found if match})


def _caption(metrics: dict[str, float], split: str) -> str:
    """What has no column."""
    parts = []
    for key, label, digits in (
        ("average_precision", "average precision", 4),
        ("miou_two_class_pooled", "two-class mIoU", 4),
        ("ece", "ECE", 4),
    ):
        if f"{split}/{key}" in metrics:
            parts.append(f"{label} {_number(metrics[f'{split}/{key}'], digits)}")
    empty = metrics.get(f"{split}/tiles_empty", 0)
    if empty:
        parts.append(f"tiles without lake, true or predicted, and so in no mean over tiles: {empty:.0f}")
    return "; ".join(parts)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None or value != value else f"{value:.{digits}f}"
