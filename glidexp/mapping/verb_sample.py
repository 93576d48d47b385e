"""`glidexp inventory sample`: cells of a map to look at, so that its accuracy can be told without an inventory."""

from pathlib import Path

from glidexp.options import Parser, above_0, filled
from glidexp.wording import many

COUNT, SIDE_KM = 120, 1.0
MOST_KM = 100.0
"""of a cell's side; nobody looks at more at a time"""


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp inventory sample",
        description="Draws cells of the ground of one map or of several at random: with mapped lakes, with pixels that "
        "are lake perhaps, and without either. Draw the lakes of these cells, from better imagery, in the layer lakes "
        "of the file that is written, and set checked to 1; then glidexp inventory assess tells how good the map is.",
    )
    parser.add_argument(
        "maps", nargs="+", type=filled, metavar="MAP", help="NAME_lakes.gpkg, as glidexp predict writes them"
    )
    parser.add_argument("--out", type=filled, required=True, metavar="FOLDER", help="where the sample is written")
    parser.add_argument("--cells", type=int, default=COUNT, metavar="N", help=f"cells to draw (default: {COUNT})")
    parser.add_argument(
        "--cell-km", type=above_0, default=SIDE_KM, metavar="KM", help=f"side of a cell (default: {SIDE_KM:g})"
    )
    parser.add_argument(
        "--within",
        type=filled,
        metavar="FILE",
        help="polygons: only their ground is drawn from, such as 10 km around ice",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw (default: 0)")
    parser.add_argument(
        "--outlines", choices=("none", "map"), default="none",
        help="map: the layer begins with the map's lakes, to be corrected; quicker, but drawn so a reference is "
        "nearer to the map than the ground is (default: none)",
    )  # fmt: skip
    parser.add_argument("--map-layer", type=filled, metavar="NAME", help="layer of each MAP, of several")
    return parser


def run(argv: list[str]) -> int:
    """Draws, writes, says what to do; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.scenes.geopackage import check_out
    from glidexp.data.steps import shown_stage, shown_steps
    from glidexp.errors import ConfigError
    from glidexp.mapping.cells import KINDS, divided, drawn
    from glidexp.mapping.doubt import doubted
    from glidexp.mapping.joined import joined, read_ground
    from glidexp.mapping.lake_map import some_of
    from glidexp.mapping.sample_files import SAMPLE, check_new, write_sample

    if given.cell_km > MOST_KM:
        raise ConfigError(f"--cell-km={given.cell_km:g} must be at most {MOST_KM:g} km.")
    if given.seed < 0:
        raise ConfigError(f"--seed={given.seed} must be 0 or more.")
    out, paths = Path(given.out), [Path(one) for one in given.maps]
    check_new(out)
    check_out(out / SAMPLE)
    within = read_ground(Path(given.within), "--within") if given.within else None
    with shown_steps(len(paths), "maps", True, what="reading", late=True) as step:
        maps = joined(paths, step, layer=given.map_layer, within=within)
    with shown_steps(len(paths), "maps", True, what="looking for doubtful pixels", late=True) as step:
        doubt = doubted(paths, maps, given.cell_km, step)
    with shown_stage("drawing cells and writing them", late=True):
        cells = divided(maps, given.cell_km, doubt)
        chosen = drawn(cells, given.cells, given.seed)
        write_sample(
            out, maps, paths, cells, chosen, filled=given.outlines == "map", cell_km=given.cell_km, seed=given.seed
        )
    for kind, name in enumerate(KINDS):
        print(f"{name:>6}: {int((cells.kind[chosen] == kind).sum())} of {many(cells.numbers[kind], 'cell')}")
    if doubt.lacking:
        print(f"note: {some_of(doubt.lacking)}: no probabilities lie beside the map, so none of its cells is in doubt.")
    print(
        f"Open {out / SAMPLE}: draw every lake that touches a cell of the layer cells, whole, in the layer lakes, and "
        "set the cell's checked to 1.\nThe order of cell_id is random: you may stop after any number. Then: "
        f"glidexp inventory assess {' '.join(given.maps)} --reference {out}"
    )
    return 0
