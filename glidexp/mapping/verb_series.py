"""`glidexp inventory series`: what became of each lake over the dates of many maps."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser, above_0, filled
from glidexp.wording import decimals, many

if TYPE_CHECKING:
    from glidexp.mapping.series import Series

log = logging.getLogger("glidexp")
SHOWN = 20
"""lakes that are listed"""


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp inventory series",
        description="Follows lakes through maps of two dates or more: which grow or shrink, how fast and how sure, "
        "which appeared or vanished, and the total by date. Lakes are known again by their ground. Maps of one date "
        "lie side by side; ground that two of them show counts once.",
    )
    parser.add_argument(
        "maps", nargs="+", type=filled, metavar="MAP",
        help="outlines in any format of GDAL, as glidexp predict writes them, in any order",
    )  # fmt: skip
    parser.add_argument("--out", type=filled, metavar="FOLDER", help="write tables, outlines and pictures")
    parser.add_argument(
        "--date", type=filled, metavar="COLUMN",
        help="column of the date or year of each lake (default: date, else the file's name)",
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("date", "year"), default="date",
        help="year: maps of one year count as one date, such as neighbouring scenes of different days (default: date)",
    )  # fmt: skip
    parser.add_argument("--map-layer", type=filled, metavar="NAME", help="layer of each MAP, of several")
    parser.add_argument(
        "--gsd", type=above_0, metavar="M",
        help="pixel of outlines that give no area_low_km2, for half a pixel's bound",
    )  # fmt: skip
    add_half_pixel(parser)
    return parser


def add_half_pixel(parser: Parser) -> None:
    """The option that every comparison of maps takes."""
    parser.add_argument(
        "--half-pixel", action="store_true",
        help="bounds of half a pixel alone, as inventories give them; else what the network leaves open counts too, "
        "where that is more",
    )  # fmt: skip


def run(argv: list[str]) -> int:
    """Follows, prints, writes; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.scenes.geopackage import check_out
    from glidexp.data.steps import shown_steps
    from glidexp.mapping.dated_maps import read_all
    from glidexp.mapping.series import made, rounds
    from glidexp.mapping.series_files import OUTLINES, write_series

    out = Path(given.out) if given.out else None
    if out:
        check_out(out / OUTLINES)
    paths = [Path(one) for one in given.maps]
    with shown_steps(len(paths), "maps", True, what="reading", late=True) as step:
        dated = read_all(
            paths, step, gsd_m=given.gsd, layer=given.map_layer, column=given.date, by_year=given.by == "year",
            half_pixel=given.half_pixel,
        )  # fmt: skip
    with shown_steps(rounds(dated), "rounds", True, what="following lakes", late=True) as step:
        series = made(dated, step)
    files: list[Path] = []
    if out:
        log.info("writing %s on %s", many(len(series.lakes), "lake"), many(len(dated.texts), "date"))
        files = write_series(series, out)
    print(told(series, str(files[1]) if files else ""))
    if files:
        print(f"files: {', '.join(str(path) for path in files)}")
    return 0


def told(series: "Series", rows: str) -> str:
    """What the screen says: totals by date, the fastest lakes, how many lakes there are of each verdict, notes.

    Args:
        series: what was found
        rows: file of all lakes, "" where none is written
    """
    from glidexp.mapping.observed import HALF_SEEN
    from glidexp.mapping.series import LOSS
    from glidexp.mapping.series_files import fastest
    from glidexp.mapping.sudden import HELD
    from glidexp.mapping.trend import GROWS, SHRINKS, VERDICTS

    totals = series.totals
    columns = ["date", "maps", "lakes", "area_km2", "area_low_km2", "area_high_km2", "common_lakes", "common_km2"]
    lines = [totals[columns].to_string(index=False, float_format="%.4f"), ""]
    lakes, sure = series.lakes, fastest(series.lakes)
    where = f"all are in {rows}" if rows else "--out writes all"
    if len(sure):
        rates = ["km2_per_year", "km2_per_year_low", "km2_per_year_high"]
        shown = sure.head(SHOWN)[["lake_id", "verdict", "dates", "first_km2", "last_km2", *rates, "p"]]
        digits = decimals(*shown[rates].to_numpy(dtype=float).ravel(), least=5, most=8)
        looks = {"p": _p, **dict.fromkeys(rates, f"{{:.{digits}f}}".format)}
        lines.append(shown.to_string(index=False, float_format="%.5f", formatters=looks, na_rep="-"))
        if len(sure) > SHOWN:
            lines.append(f"... and {len(sure) - SHOWN} that change less fast; {where}")
        lines.append("")
    burst = lakes[lakes["loss_held"] >= HELD].sort_values("loss_km2", ascending=False, kind="stable")
    if len(burst):
        lines.append("lost half or more of their area between two dates, and stayed so:")
        shown = ["lake_id", "verdict", *LOSS]
        lines.append(burst.head(SHOWN)[shown].to_string(index=False, float_format="%.5f"))
        if len(burst) > SHOWN:
            lines.append(f"... and {len(burst) - SHOWN} that lost less; {where}")
        lines.append("")
    count = {name: int((lakes["verdict"] == name).sum()) for name in VERDICTS}
    words = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in count.items())
    lines.append(f"lakes: {len(lakes)}, of which {words}")
    joined = int((lakes["most_parts"] > 1).sum())
    if joined:
        lines.append(f"split, merged or in parts, so that their areas are sums (most_parts above 1): {joined}")
    lacked = int((lakes["gaps"] > 0).sum())
    if lacked:
        lines.append(f"missing on a date between others that have them, so perhaps overlooked (gaps above 0): {lacked}")
    half = series.dates[series.dates["state"] == HALF_SEEN]
    if len(half):
        lines.append(
            "half seen by the network on a date that maps none, which says nothing of them (state half_seen): "
            f"{half['lake_id'].nunique()}"
        )
    tested = int(lakes["p"].notna().sum())
    if tested:
        moved = count[GROWS] + count[SHRINKS]
        lines.append(
            f"with a trend (4 dates or more): {tested}; growing or shrinking beyond bounds and scatter: {moved}"
        )
    if totals["common_lakes"].max():
        first, last = totals["common_km2"].iloc[0], totals["common_km2"].iloc[-1]
        line = f"lakes that all dates looked at: {first:.4f} km2 to {last:.4f} km2"
        if series.total.rate == series.total.rate:
            line += f", {series.total.rate:+.5f} km2 a year ({series.total.low:+.5f} to {series.total.high:+.5f})"
        lines.append(line)
    return "\n".join([*lines, *(f"note: {note}" for note in series.notes)])


def _p(value: float) -> str:
    return "<0.00001" if value < 1e-5 else f"{value:.5f}"
