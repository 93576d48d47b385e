"""`glidexp inventory assess`: how good a map of lakes is, against an inventory or a sample that was looked at."""

from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser, filled

if TYPE_CHECKING:
    import pandas as pd


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp inventory assess",
        description="Tells how many lakes of a map are right, how many it missed, how well their areas agree, and what "
        "the true lake area is. The reference is an inventory of all the map's ground, or the folder of a sample "
        "(glidexp inventory sample) in which cells were looked at; scores then have 95 % intervals.",
    )
    parser.add_argument("maps", nargs="+", type=filled, metavar="MAP", help="as glidexp predict writes them")
    parser.add_argument(
        "--reference", type=filled, required=True, metavar="FILE|FOLDER", help="an inventory, or a sample's folder"
    )
    parser.add_argument("--out", type=filled, metavar="FOLDER", help="write tables, outlines and a picture")
    parser.add_argument(
        "--within", type=filled, metavar="FILE",
        help="polygons: only their ground counts, such as that of the inventory; not with a sample, which has its own",
    )  # fmt: skip
    parser.add_argument(
        "--min-km2", type=float, metavar="KM2",
        help="what is smaller is no lake: neither found nor missed nor false, nor in scores of area (default: 5.5 "
        "pixels of the coarsest map, for numbers of lakes alone)",
    )  # fmt: skip
    parser.add_argument("--map-layer", type=filled, metavar="NAME", help="layer of each MAP, of several")
    parser.add_argument("--reference-layer", type=filled, metavar="NAME", help="layer of the inventory, of several")
    return parser


def run(argv: list[str]) -> int:
    """Compares, prints, writes; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.scenes.geopackage import check_out
    from glidexp.data.steps import shown_stage, shown_steps
    from glidexp.errors import ConfigError
    from glidexp.mapping.assess_files import OUTLINES, write_assessed
    from glidexp.mapping.assessment import made, read

    if given.min_km2 is not None and not 0 <= given.min_km2 < 1e6:
        raise ConfigError(f"--min-km2={given.min_km2} must be 0 or more km2.")
    reference = Path(given.reference)
    if reference.is_dir() and (given.within or given.reference_layer):
        option = "--within" if given.within else "--reference-layer"
        raise ConfigError(f"{option} goes with an inventory, and --reference={reference} is a sample: leave it out.")
    out = Path(given.out) if given.out else None
    if out:
        check_out(out / OUTLINES)
    with shown_steps(len(given.maps), "maps", True, what="reading", late=True) as step:
        sides = read(
            [Path(one) for one in given.maps], reference, step, layer=given.map_layer,
            reference_layer=given.reference_layer, within=Path(given.within) if given.within else None,
        )  # fmt: skip
    with shown_stage("map against reference", late=True):
        found = made(sides, min_km2=given.min_km2)
    files: list[Path] = []
    if out:
        with shown_stage("writing the files", late=True):
            files = write_assessed(found, out)
    print(told(found.scores))
    if found.strata is not None:
        print("\n" + found.strata.to_string(index=False))
    for note in found.notes:
        print(f"note: {note}")
    if files:
        print(f"files: {', '.join(str(path) for path in files)}")
    return 0


def told(scores: "pd.DataFrame") -> str:
    """The table of scores as text, intervals where there are any; an end that is not known is one too."""
    sampled = bool(((scores["high"] > scores["low"]) | (scores["value"].notna() & scores["high"].isna())).any())
    shown = scores if sampled else scores.drop(columns=["low", "high"])
    return str(shown.to_string(index=False, float_format="%.4g", na_rep="-"))
