"""Tables of a study's report that stand alone, and the picture of a comparison."""

from collections.abc import Iterable, Sequence
from functools import partial

from glidexp.scoring.forest import Bar, forest_figure, parts_of
from glidexp.scoring.naive import ROWS
from glidexp.scoring.sheet import Draw
from glidexp.scoring.statistics import Effect, holm
from glidexp.study.comparison.compare import Comparison, verdict
from glidexp.study.comparison.measures import Measure
from glidexp.study.names import short_names
from glidexp.study.report.blocks import Table
from glidexp.wording import decimals, many, percent

NONE = "–"
BEYOND = ">100"
"""for more points than two scores can differ by"""


def axis(measure: Measure) -> str:
    """A score with its unit, as an axis says it."""
    return f"{measure.words} [{measure.unit}]"


def number(value: float | None, scale: float = 1.0, digits: int = 2) -> str:
    """A cell; – where there is nothing."""
    return NONE if value is None or value != value else f"{scale * value:.{digits}f}"


def detectable(value: float, measure: Measure) -> str:
    """The least difference that is found, as a cell."""
    return BEYOND if measure.unit == "points" and value > 1 else number(value, measure.scale)


def p_value(value: float, none: str = NONE) -> str:
    """A cell."""
    return none if value != value else "<0.0001" if value < 1e-4 else f"{value:.4f}"


def main_table(comparison: Comparison) -> Table:
    """Naive rows, then a row an arm."""
    measure, scale = comparison.measure, comparison.measure.scale
    headings = ["arm", "n", "mean", "SD", f"difference [{percent(comparison.level)}]", "p (Holm)", "verdict"]
    rows = [
        [f"naive: {ROWS[name]}", NONE, number(value, scale), NONE, NONE, NONE, ""]
        for name, value in comparison.naive.items()
    ]
    quiet = len(rows)
    for row in comparison.rows:
        cells = [row.arm.name, str(len(row.values)), number(row.mean, scale), number(row.sd, scale)]
        rows.append([*cells, interval(row.effect, scale), p_value(row.p_holm), verdict(row, comparison)])
    ground = f"{many(comparison.clusters, comparison.ground.kind)}, {many(comparison.ground.tiles, 'tile')}"
    caption = (
        f"{measure.words[:1].upper()}{measure.words[1:]} on {measure.split} [{measure.unit}]: mean and SD over n "
        f"{_counted(comparison)}, paired difference to the baseline with {percent(comparison.level)} interval over "
        f"seeds and {comparison.ground.kind}s ({ground}). Each interval is of its difference alone; p, and with it the "
        "verdict, is adjusted for all of them."
    )
    return Table("result", caption, headings, rows, quiet=quiet)


def _counted(comparison: Comparison) -> str:
    """What n counts."""
    return f"seeds, each trained on {comparison.folds} folds of the ground" if comparison.folds else "trainings"


def checks_table(comparison: Comparison) -> Table:
    """Two other ways to judge the same differences, which decide nothing."""
    scale, kind = comparison.measure.scale, f"{comparison.ground.kind}s"
    rows = []
    flips = holm([row.p_flips for row in comparison.rows[1:]])
    for row, p in zip(comparison.rows[1:], flips, strict=True):
        low, high = row.bootstrap or (float("nan"), float("nan"))
        digits = decimals(scale * low, scale * high, least=2)
        drawn = f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]" if low == low else NONE
        rows.append([row.arm.name, interval(row.effect, scale), p_value(row.p_holm), p_value(p), drawn])
    caption = (
        f"Second opinions. Sign flips take the trainings as given and ask about the {kind} alone, by exchange of "
        "what arms made of single ones; the hierarchical "
        f"bootstrap draws seeds and {kind} anew and covers too little where they are few. p values after Holm."
    )
    headings = [
        "difference of",
        f"difference [{percent(comparison.level)}]",
        "p (Holm)",
        "sign flips (Holm)",
        "bootstrap",
    ]
    return Table("checks", caption, headings, rows)


def forests(name: str, comparison: Comparison) -> dict[str, Draw]:
    """The pictures of the result by their names, `name` and, where arms are more than fit on a page, `name2` and so on.
    All have the baseline, and the same axes.
    """
    scale = comparison.measure.scale / 100
    _, short = short_names([row.arm.name for row in comparison.rows])
    bars = []
    for row in comparison.rows:
        effect = row.effect
        shown = (scale * effect.value, scale * effect.low, scale * effect.high) if effect else None
        bars.append(Bar(short[row.arm.name], [scale * v for v in row.values], shown, row.sure(comparison.level)))
    seeds = [row.effect.parts.seeds for row in comparison.rows if row.effect]
    parts = parts_of(bars)
    draw = partial(
        forest_figure, score=comparison.measure.words, level=comparison.level, n=sample(seeds, comparison),
        unit=comparison.measure.unit, better=comparison.measure.better, beside=bars if len(parts) > 1 else (),
        dot="seed" if comparison.folds else "training",
    )  # fmt: skip
    return {f"{name}{place}" if place > 1 else name: partial(draw, part) for place, part in enumerate(parts, 1)}


def sample(seeds: Iterable[int], comparison: Comparison) -> str:
    """What a picture rests on: `3 seeds, 8 scenes`, or `2 or 3 seeds` where arms have unlike numbers of them."""
    counts = sorted(set(seeds))
    said = f"{' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"
    folds = f" on {comparison.folds} folds" * bool(comparison.folds)
    return f"{said}{folds}, {many(comparison.clusters, comparison.ground.kind)}"


def stratum_table(name: str, comparisons: Sequence[Comparison]) -> Table:
    """A row a stratum or score and arm; intervals are not adjusted for being many."""
    rows = []
    for one in comparisons:
        measure, scale = one.measure, one.measure.scale
        label = measure.place or axis(measure)
        for row in one.rows:
            shown = [str(len(row.values)), number(row.mean, scale), number(row.sd, scale)]
            rows.append([label, row.arm.name, *shown, interval(row.effect, scale), str(one.clusters)])
    first, level = comparisons[0], comparisons[0].level
    what = first.measure.score.replace("_", " ").replace("iou", "IoU") + f" [{first.measure.unit}]"
    caption = what if first.measure.stratum else "Scores beside the primary one, in the unit named"
    caption += f"; difference to the baseline with {percent(level)} interval, not adjusted for being many."
    if less := [one.measure.plain for one in comparisons if one.measure.better < 0]:
        caption += f" Less is better of {', '.join(less)}."
    if any(one.measure.score.startswith("assd") for one in comparisons):
        caption += " ASSD: mean distance between the true and the predicted shoreline."
    kind = f"{first.ground.kind}s"
    headings = ["stratum" if first.measure.stratum else "score", "arm", "n", "mean", "SD", "difference", kind]
    return Table(name, caption, headings, rows, grouped=True)


def interval(effect: Effect | None, scale: float) -> str:
    """`+1.80 [0.60, 3.10]`; – where there is none."""
    if effect is None:
        return NONE
    value, low, high = (scale * number for number in (effect.value, effect.low, effect.high))
    digits = decimals(value, low, high, least=2)
    between = f"[{low:.{digits}f}, {high:.{digits}f}]" if effect.known else "[no interval]"
    return f"{value:+.{digits}f} {between}"
