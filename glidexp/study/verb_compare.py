"""`glidexp compare`: what it takes, and the table it prints."""

from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.errors import ConfigError
from glidexp.options import Parser, store_options, write_out
from glidexp.wording import decimals, many, part, percent

if TYPE_CHECKING:
    from rich.table import Table

    from glidexp.study.comparison.compare import Comparison, Row

DEFAULT_SCORE = "test/lake_iou_pooled"


def add_level_and_store(parser: Parser) -> None:
    """What verbs take that lay finished runs side by side."""
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals (default: 0.95)")
    store_options(parser)


def check_level(level: float) -> None:
    """Refuses a level that no interval has.

    Raises:
        ConfigError: outside 0.5 to 1
    """
    if not 0.5 <= level < 1:
        raise ConfigError(f"--level {level} is outside 0.5 to 1: give a share such as 0.95.")


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp compare",
        description="Compares trained settings by what their runs left behind, without running them again. Runs that "
        "differ in nothing but their seed are one arm; the arm of the first run is the baseline. Intervals and p "
        "values are over seeds and scenes, p values after Holm.",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run ids, or their first characters; a parent's stands for its children; a study's, its name or its "
        "folder for its arms, and STUDY:ARM for one of them",
    )
    parser.add_argument("--score", default=DEFAULT_SCORE, help=f"what is compared (default: {DEFAULT_SCORE})")
    parser.add_argument(
        "--bootstrap",
        action="store_true",
        help="as a check, also the interval by redrawing scenes and seeds, which is too narrow for few of them",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write comparison.csv there, and PNG and PDF: comparison for both columns of a page, comparison_column "
        "for one",
    )
    add_level_and_store(parser)
    return parser


def run(argv: list[str]) -> int:
    """Compares, prints a table and writes what was asked for; gives the exit code."""
    given = options().parse_args(argv)
    check_level(given.level)
    from glidexp.scoring.sheet import files_of
    from glidexp.study.comparison.compare import compare, measure_of
    from glidexp.study.comparison.references import runs_of
    from glidexp.study.comparison.table import as_table
    from glidexp.study.report.cautions import naive
    from glidexp.study.report.tables import forests
    from glidexp.tracking.store import store_at

    measure = measure_of(given.score)
    store = store_at(given.mlruns, given.uri, read=True)
    runs, left, arms = runs_of(store, given.runs)
    comparison = compare(store, runs, measure, level=given.level, arms=arms, bootstrap=given.bootstrap)
    from rich.console import Console

    console = Console()
    console.print(table_of(comparison), crop=False)
    for note in (*left, *comparison.notes, *naive(comparison), *_bootstraps(comparison)):
        console.print(f"note: {note}", highlight=False, markup=False)
    if given.out:
        files = {"comparison.csv": as_table(comparison).to_csv(index=False).encode()}
        for name, draw in forests("comparison", comparison).items():
            files |= files_of(name, draw)
        print(f"Written: {', '.join(map(str, write_out(Path(given.out), files)))}")
    return 0


def table_of(comparison: "Comparison") -> "Table":
    """Naive rows first, then a row an arm."""
    from rich.text import Text

    from glidexp.scoring.naive import ROWS
    from glidexp.scoring.tables import bare_table
    from glidexp.study.comparison.compare import verdict
    from glidexp.study.names import short_names

    title = Text(f"{comparison.measure.name} [{comparison.measure.unit}]")
    table = bare_table(title=title, caption=_caption(comparison), padding=0, show_edge=False)
    heading, short = short_names([row.arm.name for row in comparison.rows])
    table.add_column(Text(heading), overflow="fold", min_width=len("naive: index"))
    of_means = any(row.arm.of_means for row in comparison.rows)
    for heading in (
        "runs" if of_means else "seeds",
        "mean",
        "SD",
        f"difference [{percent(comparison.level)}]",
        "p Holm",
    ):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    table.add_column("verdict", min_width=len("distinguishable:"))
    scale = comparison.measure.scale
    for place, (name, value) in enumerate(comparison.naive.items()):
        last = place == len(comparison.naive) - 1
        table.add_row(f"naive: {ROWS[name]}", "-", f"{scale * value:.2f}", *["-"] * 3, "", end_section=last)
    for row in comparison.rows:
        table.add_row(Text(short[row.arm.name]), *_cells(row, scale), verdict(row, comparison))
    return table


def _cells(row: "Row", scale: float) -> list[str]:
    from glidexp.study.report.tables import p_value

    cells = [str(len(row.values)), f"{scale * row.mean:.2f}", f"{scale * row.sd:.2f}" if row.sd == row.sd else "-"]
    effect = row.effect
    if effect is None:
        return [*cells, "-", "-"]
    value, low, high = (scale * number for number in (effect.value, effect.low, effect.high))
    digits = decimals(value, low, high, least=2)
    between = f"[{low:.{digits}f}, {high:.{digits}f}]" if effect.known else "[-, -]"
    return [*cells, f"{value:+.{digits}f} {between}", p_value(row.p_holm, "-")]


def _bootstraps(comparison: "Comparison") -> list[str]:
    """The intervals by redrawing, a sentence an arm, with a word where they say otherwise."""
    said = []
    for row in comparison.rows:
        if row.effect is None or row.bootstrap is None:
            continue
        low, high = (comparison.measure.scale * bound for bound in row.bootstrap)
        other = (low > 0 or high < 0) != row.effect.distinguishable
        digits = decimals(low, high, least=2)
        text = f"{row.arm.name}: bootstrap [{low:+.{digits}f}, {high:+.{digits}f}]"
        said.append(text + ", which says otherwise than the interval above; that one decides" * other)
    return said


def _threshold(comparison: "Comparison") -> str:
    from glidexp.config.evaluation import CARD, VAL

    rule = comparison.rows[0].arm.runs[0].params.get("eval.threshold", CARD)
    if comparison.measure.at_half:
        return "threshold 0.5"
    if rule == VAL:
        return "each run at the threshold that is best on val tiles of the data set that is scored"
    return "each run at the threshold chosen on its val" if rule == CARD else f"threshold {rule}"


def _caption(comparison: "Comparison") -> str:
    """What the numbers rest on, where the spread comes from, and how stable the order is."""
    said = [f"{many(comparison.ground.tiles, 'tile')}, {many(comparison.clusters, comparison.ground.kind)}"]
    said += [f"{comparison.folds} folds"] * bool(comparison.folds)
    said.append(_threshold(comparison))
    if any(row.arm.of_means for row in comparison.rows):
        said.append("networks=N: a run is the mean of the probabilities of N networks, and counts as one")
    for row in comparison.rows[1:2]:
        if row.shares:
            parts = ", ".join(f"{name} {share:.0%}" for name, share in row.shares.items())
            said.append(f"spread of the first difference: {parts}".replace("cluster", comparison.ground.kind))
        least, unit = comparison.measure.scale * row.detectable, comparison.measure.unit
        if unit == "points" and least > 100:
            said.append(f"80 % power to find no difference that there can be (it would have to be {least:.0f} points)")
        elif least == least:
            said.append(f"80 % power to find {least:.2f} {unit}")
    best = int(comparison.ranks[:, 0].argmax())
    first = "best" if comparison.measure.better else "highest"
    said.append(f"{first} in {part(comparison.ranks[best, 0])} of redrawn worlds: {comparison.rows[best].arm.name}")
    return "; ".join(said)
