"""`glidexp store`: what it takes, and what it prints."""

import argparse
from pathlib import Path

from glidexp.options import Parser, out_folder
from glidexp.wording import does, many


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(prog="glidexp store", description="Moves a tracking store, or studies and runs to another one.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    move = verbs.add_parser(
        "relocate",
        help="after mlruns was moved or copied: let runs and models find their files again",
        description="Writes the places of pictures, files and models in mlflow.db anew after the folder was moved or "
        "copied. The database is copied first. Exit code 1: files of some runs are not there all the same.",
    )
    move.add_argument("--from", dest="old", metavar="FOLDER", help="where it lay (default: as the database says)")
    out = verbs.add_parser(
        "export",
        help="studies and runs, with their files and models, into a folder",
        description="Writes studies and runs into a folder, from which `glidexp store import` brings them into another "
        "store. Exports that were broken off go on; of runs that were there, those that changed are written anew.",
    )
    out.add_argument("runs", metavar="RUN", nargs="+", help="run ids; a parent's or study's stands for all its runs")
    out.add_argument("--out", required=True, metavar="FOLDER", help="of the export")
    back = verbs.add_parser(
        "import",
        help="what was exported, into another store",
        description="Brings an export into a store, where runs get new ids. What an earlier import brought is kept, "
        "but for runs that were finished since.",
    )
    back.add_argument("folder", metavar="FOLDER", help="of the export")
    for one in (move, out, back):
        one.add_argument("--mlruns", default="mlruns", help="folder of the store (default: mlruns)")
    for one in (out, back):
        one.add_argument("--uri", default=None, help="tracking address, when it is not the folder's own")
    return parser


def run(argv: list[str]) -> int:
    """Moves; gives the exit code."""
    given = options().parse_args(argv)
    if given.verb == "relocate":
        return _relocate(given)
    from glidexp.study import carry
    from glidexp.tracking.store import store_at

    store = store_at(given.mlruns, given.uri, make=given.verb == "import", read=given.verb == "export")
    if given.verb == "export":
        folder = Path(given.out)
        with out_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
        runs = carry.export(store, given.runs, folder)
        print(
            f"{many(len(runs), 'run')} {does(len(runs), 'are')} in {given.out}: glidexp store import {given.out} "
            "brings all into another store."
        )
        return 0
    carried = carry.bring(store, Path(given.folder))
    before = f", {carried.found} of them before" if carried.found else ""
    print(f"{many(len(carried.runs), 'run')} and {many(len(carried.models), 'model')} are in this store{before}:")
    for old, new in carried.runs.items():
        print(f"  {old[:12]} is {new}")
    for sentence in carried.versions:
        print(sentence)
    return 0


def _relocate(given: argparse.Namespace) -> int:
    from glidexp.tracking.relocate import relocate

    moved = relocate(Path(given.mlruns), given.old)
    if moved.backup is None:
        print("Every place lies in this folder already: nothing was changed.")
    else:
        print(f"{moved.changed} places that began with {moved.old} begin with this folder now.")
        print(f"The database as it was: {moved.backup}")
    for place in moved.missing[:5]:
        print(f"missing: {place}")
    if len(moved.missing) > 5:
        print(f"and {len(moved.missing) - 5} more")
    return int(bool(moved.missing))
