"""`glidexp data show`: what a store is, and a sheet of some of its tiles with their lakes outlined."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.errors import DataError, unknown_name
from glidexp.options import Parser, data_option, out_folder
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.data.store import TileStore
    from glidexp.data.verbs import Compose

ACROSS = 6
SIDE_PX = 256


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data show",
        description="Tells what a store is and draws some of its tiles, their lakes outlined, into a PNG.",
    )
    parser.add_argument("store", metavar="STORE", help="folder of a store, or its id below paths.data/stores")
    parser.add_argument("--tiles", nargs="+", metavar="NAME", help="these tiles, in this order")
    parser.add_argument("--n", type=int, default=24, help="else so many, drawn by --seed (default: 24)")
    parser.add_argument("--sensor", help="of this sensor")
    parser.add_argument("--side", help="of this side: train, val or test")
    parser.add_argument("--seed", type=int, default=0, help="another seed shows other tiles (default: 0)")
    parser.add_argument("--out", metavar="FILE.png", help="the sheet (default: outputs/show/ID.png)")
    data_option(parser)
    return parser


def run(argv: list[str], compose: "Compose") -> int:
    """Prints, draws; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.show.gallery import picture, save, sheet
    from glidexp.data.show.summary import show
    from glidexp.data.store import opened

    store = opened(given.store, Path(given.data))
    out = Path(given.out or Path("outputs") / "show" / f"{store.path.name}.png")
    with out_folder(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    rows = chosen(store, given.tiles, given.n, given.sensor, given.side, given.seed)
    show(store)
    manifest = store.manifest
    gsd = [f"{gsd:g} m" for gsd in sorted(set(store.index["gsd_m"].dropna()))]
    print(f"bands: {', '.join(manifest['bands'])}; pixels of {', '.join(gsd) or 'unknown size'}")
    print(f"split: {', '.join(f'{key} {value}' for key, value in manifest['split_rule'].items())}")
    recipe = manifest.get("recipe", {})
    print(f"recipe {manifest.get('recipe_id', '')}: {', '.join(settings_of(recipe))}")
    index = store.index.iloc[rows]
    captions = [f"{name} {side}" for side, name in zip(index["split"], index["tile"], strict=True)]
    pictures = [picture(store, row, SIDE_PX) for row in rows.tolist()]
    title = f"{store.path.name}: {len(rows)} of {many(len(store), 'tile')} of {store.tile_px} px"
    with out_folder(out):
        save(sheet(pictures, captions, columns=ACROSS, title=title), out)
    print(f"sheet: {out}")
    return 0


def chosen(
    store: "TileStore", names: list[str] | None, count: int, sensor: str | None, side: str | None, seed: int
) -> npt.NDArray[np.int64]:
    """Rows of the named tiles, or of `count` drawn ones, of a sensor and side where these are given.

    Raises:
        GlidexpError: a tile, sensor or side that is not there, a count below 1
    """
    index = store.index
    place = {name: row for row, name in enumerate(index["tile"])}
    for name in names or ():
        if name not in place:
            raise unknown_name("--tiles", name, list(place)[:20])
    if names:
        return np.array([place[name] for name in names], dtype=np.int64)
    if count < 1:
        raise DataError(f"--n={count}: give a number of tiles, 1 or more.")
    taken = np.ones(len(index), dtype=bool)
    for option, column, value in (("--sensor", "sensor", sensor), ("--side", "split", side)):
        if value is not None:
            if value not in set(index[column]):
                raise unknown_name(option, value, set(index[column]))
            taken &= (index[column] == value).to_numpy()
    rows = np.flatnonzero(taken).astype(np.int64)
    if not len(rows):
        raise DataError(f"no tile of --sensor={sensor} on --side={side}: take another of the two.")
    return np.sort(np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False))


def settings_of(recipe: dict[str, Any], under: str = "") -> Iterator[str]:
    """KEY=VALUE of what a store was made of, keys dotted as they are typed; of files their number and hash."""
    for key, value in sorted(recipe.items()):
        if isinstance(value, dict) and "sha256" in value:
            number = value.get("files", 1)
            if number:  # settings that name no file are there too
                yield f"{under}{key}={many(number, 'file')}, sha256 {value['sha256'][:12]}"
        elif isinstance(value, dict):
            yield from settings_of(value, f"{under}{key}.")
        else:
            text = str(value)
            yield f"{under}{key}={text if len(text) <= 60 else text[:57] + '...'}"
