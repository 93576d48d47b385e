"""`glidexp inventory`: which lakes appeared, vanished, grew or shrank between two maps (`diff`), or over many dates
(`series`); how good a map is (`sample`, `assess`)."""

from pathlib import Path

from glidexp.errors import ConfigError
from glidexp.mapping import verb_assess, verb_sample, verb_series
from glidexp.options import Parser, above_0, filled

OTHERS = {"series": verb_series.run, "sample": verb_sample.run, "assess": verb_assess.run}
"""further verbs, by name"""


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp inventory diff",
        description="Compares two maps or inventories of lakes, which are known again by their ground. A lake grew or "
        "shrank where its areas differ by more than both are uncertain together (root of the sum of squares).",
    )
    parser.add_argument(
        "old", type=filled, metavar="OLD", help="outlines in any format of GDAL, as glidexp predict writes them"
    )
    parser.add_argument("new", type=filled, metavar="NEW", help="likewise, later")
    parser.add_argument("--out", type=filled, metavar="FILE.gpkg", help="write a row and an outline a lake")
    for name in ("old", "new"):
        parser.add_argument(f"--{name}-layer", metavar="NAME", help=f"layer of {name.upper()}, of several")
    parser.add_argument(
        "--gsd", type=above_0, metavar="M", help="pixel of outlines that give no area_low_km2, for half a pixel's bound"
    )
    verb_series.add_half_pixel(parser)
    return parser


def run(argv: list[str]) -> int:
    """Compares, prints, writes; gives the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print("Usage: glidexp inventory diff OLD NEW [--out FILE.gpkg] [--gsd M] [--half-pixel]")
        print("       glidexp inventory series MAP MAP ... [--out FOLDER] [--by year] [--date COLUMN] [--gsd M]")
        print("       glidexp inventory sample MAP ... --out FOLDER [--cells N] [--cell-km KM] [--within FILE]")
        print("       glidexp inventory assess MAP ... --reference FILE|FOLDER [--out FOLDER] [--within FILE]")
        return 0 if argv else 2
    if argv[0] in OTHERS:
        return OTHERS[argv[0]](argv[1:])
    if argv[0] != "diff":
        raise ConfigError(f"glidexp inventory {argv[0]} is not known. Allowed: diff, {', '.join(OTHERS)}.")
    given = options().parse_args(argv[1:])
    from glidexp.data.scenes.geopackage import check_out, write_layers
    from glidexp.data.scenes.versions import largest
    from glidexp.mapping.diff import compared, totals
    from glidexp.mapping.lake_map import read

    if given.out:
        check_out(Path(given.out))
    old = read(Path(given.old), "OLD", given.gsd, given.old_layer, half_pixel=given.half_pixel)
    new = read(Path(given.new), "NEW", given.gsd, given.new_layer, half_pixel=given.half_pixel)
    table = compared(old, new, progress=True)
    if given.out:
        write_layers(Path(given.out), {"changes": table}, after="nothing is lost, and the same command compares anew")
    columns = ["change", "old_ids", "new_ids", "old_km2", "new_km2", "change_km2", "uncertainty_km2"]
    told = table[table["change"] != "unchanged"]
    if len(told):
        print(largest(told, columns, every=f"all are in {given.out}" if given.out else "--out writes all"))
    print(totals(table))
    for note in (*old.notes, *new.notes):
        print(f"note: {note}")
    if given.out:
        print(f"outlines: {given.out}")
    return 0
