"""`glidexp data suspects`: where picture, mask and a network disagree, for an editor of outlines."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser, data_option, store_options
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.data.check.suspects import Answer
    from glidexp.data.store import TileStore
    from glidexp.data.verbs import Compose

AnswerOf = Callable[[str, "TileStore", str, "str | None"], "tuple[Answer, float]"]
"""model, store, folder and address of the tracking store -> what it says of a tile, and its threshold"""


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data suspects",
        description="Writes lakes and tiles where picture, mask and a model disagree, for QGIS, the worst first. "
        "Correct the outlines there, and build again with dataset.lakes=EDITED_FILE.",
    )
    parser.add_argument("store", metavar="STORE", help="folder of a store, or its id below paths.data/stores")
    parser.add_argument("--model", help="run id, folder of a bundle or models:/NAME@ALIAS (default: none is asked)")
    parser.add_argument("--out", default="suspects.gpkg", metavar="FILE.gpkg", help="default: suspects.gpkg")
    data_option(parser)
    store_options(parser)
    return parser


def run(argv: list[str], compose: "Compose", answer_of: AnswerOf | None = None) -> int:
    """Looks, writes, says what was found; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.check.suspects import suspects, write_suspects
    from glidexp.data.scenes.geopackage import check_out
    from glidexp.data.store import opened

    check_out(Path(given.out))
    tiles = opened(given.store, Path(given.data))
    answer, threshold = None, 0.5
    if given.model and answer_of is not None:
        answer, threshold = answer_of(given.model, tiles, given.mlruns, given.uri)
    lakes, whole = suspects(tiles, answer, threshold, progress=True)
    write_suspects(lakes, whole, Path(given.out))
    for why, count in lakes["why"].value_counts().items():
        print(f"{count:6d} {'lake' if count == 1 else 'lakes'} {why}")
    print(
        f"{many(len(lakes), 'lake')} and {len(whole)} of {many(len(tiles), 'tile')} in {given.out}, layers lakes "
        "and tiles"
    )
    return 0
