"""`glidexp data diff`: what changed between two versions of an inventory, or of a store."""

from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.options import Parser, data_option

if TYPE_CHECKING:
    from glidexp.data.verbs import Compose


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data diff",
        description="Compares two versions: files of lake outlines, known again by their ground, or two stores, known "
        "again by the id of the lake.",
    )
    parser.add_argument("old", metavar="OLD", help="outlines in any format of GDAL, or a store")
    parser.add_argument("new", metavar="NEW", help="likewise")
    parser.add_argument("--out", metavar="FILE.gpkg", help="write the changed outlines, a layer a change (files only)")
    for name in ("old", "new"):
        parser.add_argument(f"--{name}-layer", metavar="NAME", help=f"layer of {name.upper()}, of several")
    data_option(parser)
    return parser


def run(argv: list[str], compose: "Compose") -> int:
    """Compares, prints, writes; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.scenes import polygons, versions
    from glidexp.data.store import opened
    from glidexp.errors import DataError

    stores = [_is_store(name, Path(given.data)) for name in (given.old, given.new)]
    if any(stores):
        if not all(stores):
            raise DataError(f"{given.old} and {given.new} are a store and a file: give two of a kind.")
        if given.old_layer or given.new_layer:
            raise DataError("--old-layer and --new-layer name layers of files of outlines: a store has none.")
        if given.out:
            raise DataError("--out writes outlines, which a store does not hold: compare the files of outlines.")
        old, new = (opened(name, Path(given.data)) for name in (given.old, given.new))
        table = versions.store_changes(old, new)
        columns = ["change", "scene", "old_ids", "new_ids", "old_km2", "new_km2", "fate"]
    else:
        old_lakes = polygons.read(given.old, "OLD", layer=given.old_layer)
        new_lakes = polygons.read(given.new, "NEW", layer=given.new_layer)
        outlines = versions.changes(old_lakes, new_lakes, progress=True)
        if given.out:
            versions.write_changes(outlines, Path(given.out))
        table, columns = outlines, ["change", "old_ids", "new_ids", "iou", "old_km2", "new_km2"]
    found = versions.summed(table)
    if len(table):
        every = "--out writes all" if not any(stores) else "give files of outlines and --out to have all"
        print(versions.largest(table, columns, every=f"all are in {given.out}" if given.out else every))
    counts = {name: found[name] for name in versions.CHANGES}
    counts["of another fate"] = int((table["change"] == "fate").sum())
    told = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    print(f"{told or 'no lake changed'}; {found['gained_km2']:.4f} km2 gained, {found['lost_km2']:.4f} km2 lost")
    if given.out:
        print(f"outlines: {given.out}")
    return 0


def _is_store(name: str, data: Path) -> bool:
    """A folder is one, or is to be one; but a geodatabase is a file of outlines."""
    return (data / "stores" / name).is_dir() or (Path(name).is_dir() and Path(name).suffix.lower() != ".gdb")
