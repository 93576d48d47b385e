"""`glidexp data export`: a tile store as PNG folders, COCO, GeoTIFF or Croissant."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser, data_option
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.data.verbs import Compose

FORMATS = ("png", "coco", "geotiff", "croissant")


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data export",
        description="Writes a tile store as files that other programs read. png: images/ and labels/ in the published "
        "layout; croissant: the same with croissant.json; coco: images/ and annotations/; geotiff: with a position. "
        "tiles.csv carries origin and split, so that `glidexp data import` gives the same tiles on the same sides.",
    )
    parser.add_argument("store", metavar="STORE", help="folder of a store, or its id below paths.data/stores")
    parser.add_argument("--to", choices=FORMATS, default="png", help="what to write (default: png)")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new folder")
    data_option(parser)
    return parser


def run(argv: list[str], compose: "Compose") -> int:
    """Verifies the store, writes, says what was written; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.ready.export import export
    from glidexp.data.steps import shown_steps
    from glidexp.data.store import opened

    store = opened(given.store, Path(given.data))
    store.verify()
    started = time.monotonic()
    with shown_steps(len(store), "tiles", True) as step:
        export(store, given.to, Path(given.out), step)
    print(f"{many(len(store), 'tile')} written to {given.out} as {given.to} in {time.monotonic() - started:.1f} s.")
    return 0
