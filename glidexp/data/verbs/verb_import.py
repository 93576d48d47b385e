"""`glidexp data import`: ready tiles, as they were downloaded, to a tile store, with a word on everything found."""

import dataclasses
import hashlib
import logging
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.config import Config, DatasetConfig, DatasetKind
from glidexp.config.unread import refuse_unread
from glidexp.data.ready.layout import GLID_COUNTS, Place, describe, find_places, glid_places
from glidexp.errors import ConfigError, DataError
from glidexp.options import Parser
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.data.store import TileStore
    from glidexp.data.verbs import Compose

log = logging.getLogger("glidexp")
KNOWN = {
    "GLID_annotation.zip": "outlines of the lakes; --match takes it to find where tiles lie",
    "Transferability validation.zip": "tiles of other regions; import them as a data set of their own",
}
"""other files of the published record, and what becomes of them"""
SOURCE_LIST = "Optical_images_source.xlsx"
SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*=")


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data import",
        description="Reads ready tiles with labels into a tile store: the published GLID as downloaded or unpacked, or "
        "any folder, ZIP or RAR of images and masks. It says what it found and takes what it knows.",
        epilog="A run builds the same store from the same settings; this verb does it beforehand and reports.",
    )
    parser.add_argument(
        "words", nargs="+", metavar="PATH", help="folders or archives; settings of a run too, as dataset.split.val=0.2"
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder of the store (default: paths.data/stores/ID)")
    parser.add_argument("--name", help="name of the data set in tracking (default: glid, or the folder's)")
    parser.add_argument("--tile-px", type=int, metavar="N", help="side of a tile, pixels (default: as the pictures)")
    parser.add_argument("--manifest", metavar="CSV", help="table of tile,scene,sensor,region,gsd_m,row,col")
    parser.add_argument("--sensor", metavar="NAME", help="sensor of tiles that do not name their own")
    parser.add_argument("--images", metavar="RULE", help="where images lie, as 'img/{id}.jpg' (default: images/{id}.*)")
    parser.add_argument(
        "--masks", metavar="RULE", help="where masks lie, as 'ann/{id}_mask.png' (default: labels/{id}.*)"
    )
    parser.add_argument(
        "--match",
        metavar="OUTLINES",
        help="find where tiles lie by the outlines they were drawn by: vector file or ZIP",
    )
    parser.add_argument("--match-layer", metavar="NAME", help="layer of --match, if several hold polygons")
    parser.add_argument("--gsd", default="2,4,10,30", help="pixel sizes --match tries, metres (default: 2,4,10,30)")
    parser.add_argument("--data", metavar="FOLDER", help="paths.data, where stores lie (default: data)")
    parser.add_argument("--look", action="store_true", help="say what is there and build nothing")
    return parser


def run(argv: list[str], compose: "Compose") -> int:
    """Finds, builds, reports; gives the exit code."""
    given = options().parse_intermixed_args(argv)
    paths = [word for word in given.words if not SETTING.match(word) or Path(word).exists()]
    if not paths:
        raise ConfigError("glidexp data import needs a folder or archive: for example glidexp data import DOWNLOADS.")
    root = os.pathsep.join(str(Path(path).expanduser().absolute()) for path in paths)
    ruled = bool(given.images or given.masks)
    places = [] if ruled else find_places(root)
    for line in found_lines(root, places):
        print(line)
    if given.look:
        return 0
    words = [word for word in given.words if word not in paths]
    config = settings(compose, words, given.__dict__, root, places)
    from glidexp.data.prepare import prepare
    from glidexp.data.show.report_page import write_beside

    if given.match_layer and not given.match:
        raise ConfigError(f"--match-layer={given.match_layer} is a layer of --match, which is not given.")
    if given.match:
        config = matched(config, Path(given.match), given.gsd, given.match_layer)
    out = Path(given.out).absolute() if given.out else None
    store = prepare(config.dataset, config.tile_size.px, Path(config.paths.data), path=out)
    report(store)
    write_beside(store)
    keep_source_lists(root, store)
    print(f"\nTrain on it:\n  {train_line(config, store, out)}")
    return 0


def matched(config: Config, outlines: Path, gsd: str, layer: str | None = None) -> Config:
    """The config with a table of the places that --match found; an earlier table of the same tiles is taken again.

    Raises:
        ConfigError, DataError: a table was given already, pixel sizes that are no numbers, outlines that cannot be read
    """
    dataset, data_dir = config.dataset, Path(config.paths.data)
    if dataset.manifest:
        raise ConfigError("--match writes a table of places itself: leave out --manifest, or put both into one table.")
    try:
        gsds_m = [float(part) for part in gsd.split(",")]
    except ValueError:
        gsds_m = []
    if not gsds_m or not min(gsds_m) > 0:
        raise ConfigError(f"--gsd={gsd} must be metres above 0 with commas between, such as 10 or 2,4,10,30.")
    from glidexp.data.prepare import recipe_id
    from glidexp.data.ready.archive import find
    from glidexp.data.ready.placing import MATCH_VERSION, place_tiles
    from glidexp.data.steps import shown_steps

    if not outlines.is_file():
        raise DataError(f"--match={outlines} is not there: give a vector file, or a ZIP such as GLID_annotation.zip.")
    stat = outlines.stat()
    tiles = recipe_id(dataset, config.tile_size.px)
    what = [MATCH_VERSION, tiles, outlines.name, stat.st_size, stat.st_mtime_ns, gsds_m]
    what += [layer] if layer else []
    table = data_dir / "matches" / f"{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.csv"
    if not table.is_file():
        pairs = find(dataset, data_dir)
        with shown_steps(len(pairs), "tiles looked up", True) as step:
            glid = dataset.kind == DatasetKind.glid
            counts = place_tiles(pairs, outlines, gsds_m, table, glid=glid, step=step, layer=layer)
        print(f"Places: {', '.join(f'{name} {n}' for name, n in counts.items())}; table {table}")
    return dataclasses.replace(config, dataset=dataclasses.replace(dataset, manifest=str(table.absolute())))


def settings(
    compose: "Compose", words: list[str], given: dict[str, str | None], root: str, places: list[Place]
) -> Config:
    """The config of a run that would build the same store.

    Args:
        compose: overrides to the whole config
        words: overrides that were given
        given: options of the verb
        root: paths with the separator of PATH between
        places: what lies there

    Raises:
        ConfigError, DataError: nothing known is there, or too much to choose from
    """
    ruled = bool(given["images"] or given["masks"])
    both = glid_places(root).keys() == GLID_COUNTS.keys() if places else False
    if not ruled and not both:
        if not places:
            raise DataError(
                f"no images/ beside labels/ is there. What is there: {'; '.join(describe(root))}. "
                "Say where images and masks lie: --images 'img/{id}.jpg' --masks 'ann/{id}_mask.png'."
            )
        if len(places) > 1:
            raise DataError(
                f"{len(places)} sets of tiles are there: {', '.join(map(str, places[:8]))}. Import one by its path."
            )
        root = str(places[0])
    config = compose([f"dataset={'glid' if both else 'folder'}", *words])
    changes: dict[str, str] = {"root": root}
    for option, setting in (("images", "images"), ("masks", "labels"), ("manifest", "manifest"), ("sensor", "sensor")):
        value = given[option]
        if value:
            changes[setting] = str(Path(value).absolute()) if setting == "manifest" else value
    changes["name"] = given["name"] or ("glid" if both else Path(root).stem)
    dataset = dataclasses.replace(config.dataset, **changes)  # type: ignore[arg-type]
    refuse_unread(dataset)
    tile = config.tile_size
    if given["tile_px"]:
        tile = dataclasses.replace(tile, px=int(given["tile_px"]))
    elif not any(word.startswith("tile_size") for word in words):
        tile = dataclasses.replace(tile, px=side_of_first(dataset, Path(given["data"] or config.paths.data)))
    where = dataclasses.replace(config.paths, data=given["data"] or config.paths.data)
    return dataclasses.replace(config, dataset=dataset, tile_size=tile, paths=where)


def side_of_first(dataset: DatasetConfig, data_dir: Path) -> int:
    """Shorter side of the first picture, pixels."""
    from glidexp.data.ready.archive import find
    from glidexp.data.ready.pictures import read_image

    return min(read_image(find(dataset, data_dir)[0].image).image.shape[:2])


def found_lines(root: str, places: Sequence[Place]) -> list[str]:
    """What lies at the given paths, and what of the published record is missing."""
    lines = [f"Found {place.name}: {place}{' (archive)' if place.archived else ''}" for place in places]
    names = {place.name.lower() for place in places}
    of_glid = {name for name in GLID_COUNTS if name.lower() in names}
    if of_glid and len(of_glid) < len(GLID_COUNTS):
        lacking = next(name for name in GLID_COUNTS if name not in of_glid)
        file = {"GLID": "GLID.rar", "val": "val.zip"}[lacking]
        lines.append(
            f"Missing {lacking}: of the published GLID only a part is here. It is imported as a data set of its own, "
            f"with a split of its own; for GLID's, put {file} (Zenodo record 14838695) beside it."
        )
    taken = {place.source.name for place in places}
    for folder in folders(root):
        there = [name for name in KNOWN if (folder / name).is_file() and name not in taken]
        lines += [f"Also there: {name}: {KNOWN[name]}." for name in there]
        if (folder / SOURCE_LIST).is_file():
            from glidexp.data.ready.source_list import described

            lines.append(f"Also there: {SOURCE_LIST}: {described(folder / SOURCE_LIST)}.")
    return lines


def folders(root: str) -> list[Path]:
    """The given folders, and those of given files, each once."""
    paths = (Path(text) for text in root.split(os.pathsep))
    return list(dict.fromkeys(path if path.is_dir() else path.parent for path in paths))


def keep_source_lists(root: str, store: "TileStore") -> None:
    """Keeps a list of source scenes that lies beside the tiles with the store's report, as a table."""
    from glidexp.data.ready.source_list import keep

    there = next((folder / SOURCE_LIST for folder in folders(root) if (folder / SOURCE_LIST).is_file()), None)
    if there and (store.path / "report").is_dir() and (kept := keep(there, store.path / "report")):
        print(f"source scenes: {kept}")


def report(store: "TileStore") -> None:
    """Prints tiles by split, labels by kind, what was left out and what is odd."""
    from rich.console import Console
    from rich.table import Table

    from glidexp.data.show.summary import known_places, odd

    index, manifest = store.index, store.manifest
    table = Table(title=f"{many(len(store), 'tile')} of {store.tile_px} px", title_justify="left", show_edge=False)
    for column, justify in (("split", "left"), ("tiles", "right"), ("without lake", "right"), ("lake pixels", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for side in ("train", "val", "test"):
        rows = index[index["split"] == side]
        valid = rows["valid_fraction"].sum()
        share = (rows["lake_fraction"] * rows["valid_fraction"]).sum() / valid if valid else 0.0
        table.add_row(side, str(len(rows)), str(int((rows["lake_fraction"] == 0).sum())), f"{100 * share:.2f} %")
    console = Console()
    console.print()
    console.print(table)
    labels = manifest.get("labels", {})
    lines = [
        f"labels: {', '.join(f'{kind} in {n}' for kind, n in labels.items())}" if labels else "",
        "sensors: " + ", ".join(f"{name} {entry['tiles']}" for name, entry in manifest["sensors"].items()),
        f"known: {known_places(store)}",
        *(f"left out: {reason.replace('_', ' ')} {n}" for reason, n in manifest["dropped"].items()),
        *(f"odd: {line}" for line in odd(store)),
        f"store: {store.path}, {sum(manifest['files'].values()) >> 20} MiB, data {store.data_hash[:12]}, "
        f"split {store.split_hash[:12]}",
    ]
    for line in filter(None, lines):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def train_line(config: Config, store: "TileStore", out: Path | None) -> str:
    """The command that trains on the store."""
    from glidexp.data.verbs.verb_build import needed_for

    words = [f"tile_size.px={store.tile_px}", *needed_for(store)]
    if out:
        return " ".join(["python train.py", "dataset=store", setting("dataset.root", str(out)), *words])
    usual, dataset = DatasetConfig(), config.dataset
    words += [
        setting(f"dataset.{key}", str(value))
        for key in ("name", "root", "manifest", "sensor", "images", "labels")
        if (value := getattr(dataset, key)) != getattr(usual, key) and value and (key, value) != ("name", "glid")
    ]
    split = dataset.split
    for key, default in (("val", 0.1 if dataset.kind == DatasetKind.glid else 0.15), ("test", 0.2), ("seed", 0)):
        if getattr(split, key) != default:
            words.append(f"dataset.split.{key}={getattr(split, key)}")
    if dataset.empty_share:
        words.append(f"dataset.empty_share={dataset.empty_share:g}")
    if config.paths.data != "data":
        words.append(setting("paths.data", config.paths.data))
    return " ".join(["python train.py", f"dataset={dataset.kind.value}", *words])


def setting(key: str, value: str) -> str:
    """KEY=VALUE as a shell and Hydra both take it."""
    if re.fullmatch(r"[\w/.:@+-]+", value):
        return f"{key}={value}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'{key}="{quoted}"')
