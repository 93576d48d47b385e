"""Tables for a terminal or a log: the scores of a run, from its metrics alone, and the audit of printed scores."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from glidexp.scoring.audit import Check, Reading

COLUMNS = {"precision": "precision", "recall": "recall", "f1": "F1", "lake_iou": "lake IoU"}
TEST = "test/"
"""stands before the metrics that are shown"""
_NONE = "-"
_COMPARED = "n of errors: true lakes that were found, where nothing of them and of what they meet is cut"


def bare_table(**about: Any) -> "Table":
    """A table with a line below its headings and none around it; title and caption begin at the left.

    Args:
        about: as rich's `Table` takes it, also in place of what is set here
    """
    from rich import box
    from rich.table import Table

    look: dict[str, Any] = {"box": box.SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1), "collapse_padding": True}
    return Table(**look | {"title_justify": "left", "caption_justify": "left"} | about)


def summary_table(metrics: dict[str, float], *, title: str | None = None) -> "Table":
    """Scores on test: pooled at both thresholds, means, every sensor and region, naive rows, each with its numbers.

    Args:
        metrics: by the name they have in tracking; what is missing shows as "-"
        title: stands above

    Returns:
        a table 80 characters wide or less, for `rich.console.Console.print`, on a terminal and in a log
    """
    from glidexp.scoring.naive import ROWS

    table = bare_table(title=(title or "Scores on test") + leak_warning(metrics), caption=_caption(metrics))
    table.add_column("lake pixels", overflow="fold", max_width=28)
    for heading in ("tiles", "scenes", *COLUMNS.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    threshold = _number(metrics.get(f"{TEST}threshold"), 3)
    _row(table, metrics, f"pooled, threshold {threshold}", TEST, "pooled", bold=True)
    _row(table, metrics, "pooled, threshold 0.5", f"{TEST}at_0.5/", "pooled")
    _row(table, metrics, "mean over tiles", TEST, "per_image")
    _row(table, metrics, "mean over scenes", TEST, "per_scene", last=True)
    for kind in ("sensor", "region"):
        names = _strata(metrics, kind)
        if names == ["unknown"]:  # says nothing that the first row does not
            continue
        for name in names:
            prefix = f"{TEST}{kind}/{name}/"
            _row(table, metrics, name, prefix, "pooled", numbers=prefix, last=name == names[-1])
    for name, label in ROWS.items():
        prefix = f"{TEST}naive/{name}/"
        if any(key.startswith(prefix) for key in metrics):
            _row(table, metrics, f"naive: {label}", prefix, "pooled")
    return table


def lake_table(metrics: dict[str, float]) -> "Table | None":
    """Per-lake scores on test: all lakes, then every size class and lake type; None where there is no lake.

    Each score stands behind the number of lakes, n, that it is of: recall of true ones, precision of predicted ones,
    errors of those that were compared.

    Args:
        metrics: by the name they have in tracking; what is missing shows as "-"

    Returns:
        a table 80 characters wide or less
    """
    from rich.text import Text

    from glidexp.scoring.components import lower_bound

    if not metrics.get(f"{TEST}lakes") and not metrics.get(f"{TEST}lakes_predicted"):
        return None
    unit = "m" if f"{TEST}assd_m" in metrics else "px"
    table = bare_table(caption=_lake_caption(metrics, unit))
    table.add_column("lakes", overflow="fold", max_width=21)
    for heading in ("n", "recall", "n", "precision", "n", "area error", f"ASSD [{unit}]"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    places = [("any overlap", f"{TEST}", "", False), ("IoU 0.5 or more", f"{TEST}", "_iou50", True)]
    for kind in ("size", "glacier_distance", "lake_type"):
        names = sorted(_strata(metrics, kind), key=lower_bound)
        what = {"size": "", "glacier_distance": "ice at ", "lake_type": ""}[kind]
        places += [(what + _in_words(name), f"{TEST}{kind}/{name}/", "", name == names[-1]) for name in names]
    for label, prefix, suffix, last in places:
        cells = []
        for n, score in (("lakes", "lake_recall"), ("lakes_predicted", "lake_precision")):
            cells += [_number(metrics.get(prefix + n), 0), _number(metrics.get(f"{prefix}{score}{suffix}"), 3)]
        errors = {} if suffix else metrics
        error = errors.get(f"{prefix}area_error_percent")
        cells += [_number(errors.get(f"{prefix}lakes_compared"), 0), _NONE if error is None else f"{error:.1f} %"]
        cells += [_number(errors.get(f"{prefix}assd_{unit}"), 2)]
        table.add_row(Text(label), *cells, style="bold" if label == "any overlap" else None, end_section=last)
    return table


def _in_words(name: str) -> str:
    """A class as it is read, `under 0.0054 km²`, from its name in a metric, `under_0.0054km2`."""
    return re.sub(r"(?<=\d)(?=(km|px))", " ", name.replace("_", " ")).replace(" km2", " km²")


def _lake_caption(metrics: dict[str, float], unit: str) -> str:
    """Shoreline scores and what the table leaves out; nothing of a score that has no value."""
    parts = (
        ("boundary F1 {} at 1 px, {} at 2 px", 3, ("boundary_f1_1px", "boundary_f1_2px")),
        ("boundary IoU {}", 3, ("boundary_iou",)),
        (f"HD95 {{}} {unit}", 2, (f"hd95_{unit}",)),
        ("area bias {} % (bound of half a pixel: {} %)", 1, ("area_bias_percent", "area_bound_percent")),
        ("split {}, merged {}", 0, ("lake_splits", "lake_merges")),
        (f"cut by the edge of the ground: {{}}; {_COMPARED}", 0, ("lakes_cut",)),
    )
    said = []
    for words, digits, names in parts:
        values = [metrics.get(f"{TEST}{name}") for name in names]
        if any(value is not None for value in values):
            said.append(words.format(*(_number(value, digits) for value in values)))
    if metrics.get(f"{TEST}lakes_compared") == 0:
        said.insert(
            0, "no lake was found where nothing of it and of what it meets is cut, so no area and no shore was compared"
        )
    return "; ".join(said)


def _row(
    table: "Table",
    metrics: dict[str, float],
    label: str,
    prefix: str,
    how: str,
    *,
    numbers: str = TEST,
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


def _strata(metrics: dict[str, float], kind: str) -> list[str]:
    found = (re.fullmatch(rf"{TEST}{kind}/([^/]+)/[^/]+", key) for key in metrics)
    return sorted({match.group(1) for match in found if match})


def leak_warning(metrics: dict[str, float]) -> str:
    """Stands beside the title of scores that cannot be trusted."""
    met = metrics.get(f"{TEST}leak/tiles", 0)
    return f", LEAKING: {met:.0f} of its tiles lie on ground that was met in training" if met else ""


def _caption(metrics: dict[str, float]) -> str:
    """What has no column."""
    parts = []
    for key, label, digits in (
        ("average_precision", "average precision", 4),
        ("miou_two_class_pooled", "two-class mIoU", 4),
        ("ece", "ECE", 4),
    ):
        if f"{TEST}{key}" in metrics:
            parts.append(f"{label} {_number(metrics[f'{TEST}{key}'], digits)}")
    empty = metrics.get(f"{TEST}tiles_empty", 0)
    if empty:
        parts.append(f"tiles without lake, true or predicted, and so in no mean over tiles: {empty:.0f}")
    of_precision, of_recall = (metrics.get(f"{TEST}tiles_{which}") for which in ("predicted", "with_lake"))
    if of_recall is not None and {of_precision, of_recall} != {metrics[f"{TEST}tiles"] - empty}:
        parts.append(
            f"in the mean over tiles, precision is of the {of_precision:.0f} with predicted lake, recall of the "
            f"{of_recall:.0f} with true lake"
        )
    return "; ".join(parts)


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None or value != value else f"{value:.{digits}f}"


def audit_table(readings: "list[Reading]") -> "Table":
    """The readings as a table 80 characters wide or less: what is implied, what was printed, by how much it misses."""
    from rich.text import Text

    table = bare_table(
        caption="All in per cent. Impossible: for every value that rounds to the printed ones. Scores that were "
        "averaged in different ways cannot be compared by arithmetic, and so are never excluded."
    )
    table.add_column("aggregation", overflow="fold", max_width=36)
    table.add_column("consistent?", overflow="fold", max_width=17)
    for heading in ("implied", "printed", "misses by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for reading in readings:
        every = all(check.exact for check in reading.checks)
        verdict = "impossible" if not reading.possible else "yes" if every else "not excluded"
        table.add_row(Text(reading.name), verdict, style="bold")
        for check in reading.checks:
            last = check is reading.checks[-1]
            table.add_row(Text(f"  {check.what}"), _answer(check), *_numbers(check), end_section=last)
    return table


def _answer(check: "Check") -> str:
    if not check.possible:
        return "no"
    if check.lake_share is not None:
        return f"at {100 * check.lake_share:.2g} % lake"
    return "yes" if check.exact else "not excluded"


def _numbers(check: "Check") -> tuple[str, str, str]:
    low, high = (f"{100 * side:.2f}" for side in (check.implied.low, check.implied.high))
    printed = f"{100 * check.printed.value:.2f}"
    return low if low == high else f"{low}-{high}", printed, "" if check.possible else f"{100 * check.misses_by:+.2f}"
