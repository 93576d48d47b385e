"""`glidexp transfer`: what it takes, and the tables it prints."""

from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser, write_out
from glidexp.study.verb_compare import DEFAULT_SCORE, add_level_and_store, check_level

if TYPE_CHECKING:
    from rich.table import Table

    from glidexp.study.comparison.transfer import Matrix


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp transfer",
        description="Lays runs that were trained on different regions or sensors out as a matrix: each source on each "
        "target, what the target's own source has more (gap), what the best source has more (regret), and which way "
        "is the better one (asymmetry). Nothing is run again.",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="run ids, or their first characters; a parent's stands for its children, a study's, or its folder, for "
        "its arms",
    )
    parser.add_argument("--by", choices=("region", "sensor"), default="region", help="what varies (default: region)")
    parser.add_argument("--score", default=DEFAULT_SCORE, help=f"what is laid out (default: {DEFAULT_SCORE})")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write transfer.csv there, and PNG and PDF: transfer for both columns of a page, transfer_column for one",
    )
    add_level_and_store(parser)
    return parser


def run(argv: list[str]) -> int:
    """Makes the matrix, prints it and writes what was asked for; gives the exit code."""
    given = options().parse_args(argv)
    check_level(given.level)
    from rich.console import Console

    from glidexp.study.comparison.compare import measure_of
    from glidexp.study.comparison.references import runs_of
    from glidexp.study.comparison.transfer import matrix
    from glidexp.tracking.store import store_at

    measure = measure_of(given.score)
    store = store_at(given.mlruns, given.uri, read=True)
    runs, left, arms = runs_of(store, given.runs)
    found = matrix(store, runs, measure, by=given.by, level=given.level, arms=arms)
    console = Console()
    console.print(table_of(found))
    console.print(gaps_of(found))
    for note in (*left, *found.notes):
        console.print(f"note: {note}", highlight=False, markup=False)
    if given.out:
        print(f"Written: {', '.join(map(str, write(found, Path(given.out))))}")
    return 0


def write(found: "Matrix", folder: Path) -> list[Path]:
    """Writes transfer.csv, and the picture for both columns of a page and for one, as PNG and PDF; gives the files.

    Raises:
        ConfigError: the folder cannot be written to
    """
    from functools import partial

    from glidexp.scoring.heatmap import heatmap_figure
    from glidexp.scoring.sheet import files_of
    from glidexp.study.comparison.transfer import as_table

    picture = partial(
        heatmap_figure, found.means, found.sources, found.targets, score=found.measure.name, across=found.by,
        rest_on=found.rest_on,
    )  # fmt: skip
    files = {"transfer.csv": as_table(found).to_csv(index=False).encode()} | files_of("transfer", picture)
    return write_out(folder, files)


def table_of(found: "Matrix") -> "Table":
    """Mean of the seeds, a row a source, a column a target with its test ground; and the source's mean regret."""
    from rich.text import Text

    from glidexp.scoring.tables import bare_table

    table = bare_table(title=f"{found.measure.name}, 0-100, trained on (down), scored on (across)")
    table.add_column("trained on", overflow="fold")
    table.add_column("seeds", justify="right")
    for target, n in zip(found.targets, found.rest_on[1], strict=True):
        table.add_column(Text(f"{target}\n{n}"), justify="right", no_wrap=True)
    table.add_column("mean regret", justify="right")
    for source in found.sources:
        cells = [
            Text(f"{100 * found.pairs[source, target].mean:.2f}", style="bold" if source == target else "")
            for target in found.targets
        ]
        seeds = f"{len(found.pairs[source, found.targets[0]].values)}"
        table.add_row(Text(source), seeds, *cells, f"{100 * found.regret(source):.2f}")
    return table


def gaps_of(found: "Matrix") -> "Table":
    """What the target's own source has more than another, with its interval."""
    from rich.text import Text

    from glidexp.scoring.tables import bare_table
    from glidexp.study.report.tables import p_value
    from glidexp.wording import decimals, percent

    table = bare_table(title="gap: what the target's own source has more")
    table.add_column("source -> target", overflow="fold")
    for heading in ("seeds", f"{found.ground}s", f"gap [{percent(found.level)}]", "p Holm", "asymmetry"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for pair in found.pairs.values():
        if pair.gap is None:
            continue
        value, low, high = (100 * number for number in (pair.gap.value, pair.gap.low, pair.gap.high))
        digits = decimals(value, low, high, least=2)
        between = f"[{low:+.{digits}f}, {high:+.{digits}f}]" if pair.gap.known else "[-, -]"
        way = "-" if pair.asymmetry != pair.asymmetry else f"{100 * pair.asymmetry:+.2f}"
        cells = [
            str(pair.gap.parts.seeds),
            str(pair.clusters),
            f"{value:+.{digits}f} {between}",
            p_value(pair.p_holm, "-"),
        ]
        table.add_row(Text(f"{pair.source} -> {pair.target}"), *cells, way)
    return table
