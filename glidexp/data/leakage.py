"""Which ground a network was trained on, told so that it is known again at another tile size and in another data set.

Ground is a table, a row a tile, that travels with the weights. A tile lies in one of these worlds:
  earth            its affine transform and CRS are known; footprints are compared in degrees
  generated/...    a scene of the generator: a seed gives the same scene wherever it is put, and another seed gives
                   another scene in the same place, so footprints are compared in pixels of that scene
  scene/...        a ready tile of which somebody said scene, row and column; compared in pixels of that scene
  ""               a ready tile of unknown place: known again by what it shows, whole (also flipped, turned or stored
                   anew) or by any of its squares of 64 px (the same pixels cut at another tile size)
Tiles of every world are known again by the hash of their bytes, but for unplaced ones of a single value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import shapely
import xxhash

from glidexp.data.check import duplicates
from glidexp.data.geodesy import TURNS, around, to_lonlat, turned, unwrap
from glidexp.data.remembered import remembered
from glidexp.data.splits import connected
from glidexp.data.steps import Step, shown_steps, untold
from glidexp.data.store import INVALID, TileStore
from glidexp.errors import DataError
from glidexp.wording import does, many

EARTH = "earth"
SQUARE_PX = 64
"""side of the squares by which the pixels of an unplaced tile are known again at another tile size"""
VALUES = 16
SAMPLED = 13
"""a square is known again if it has this many different values of 0-255 among every 13th of its bytes"""
SHARED = 0.01
"""share of the smaller of two footprints from which they share ground: neighbours touch, and edges are rounded"""
SIDE_POINTS = 4
"""points an edge of a footprint, so that a long edge stays within a pixel of its line in another CRS"""
SCHEMA = pa.schema(
    [
        ("model", pa.int16()),  # 0: the network itself, 1: what it started from, 2: what that started from ...
        ("side", pa.string()),  # train, or val, which chose its epoch and threshold
        ("split_hash", pa.string()),
        ("world", pa.string()),
        ("scene", pa.string()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64())),  # a, b, c, d, e, f of the tile; empty where it has no place
        ("box", pa.list_(pa.int32())),  # left, top, right, bottom of its valid pixels
        ("xxh3", pa.string()),  # "" for a tile without place of one value all over
        ("look", pa.binary()),  # code and small picture (duplicates.Look) of a tile without place
        ("squares", pa.list_(pa.uint64())),  # xxh3_64 of the squares of a tile without place
    ]
)
_CODE_BYTES = 8

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def ground_of(tiles: TileStore, rows: Rows, side: str, step: Step = untold) -> pd.DataFrame:
    """The ground of some tiles, with `SCHEMA`'s columns; its index is the place in `rows`.

    A tile without a valid pixel has no ground and no row.

    Args:
        tiles: an opened store
        rows: which of its tiles
        side: train or val
        step: told of each tile
    """
    found: dict[int, dict[str, Any]] = {}
    index = tiles.index.iloc[rows]
    for i, (row, tile) in enumerate(zip(rows.tolist(), index.to_dict("records"), strict=True)):
        step("")
        box = _valid_box(tiles, row, tile["valid_fraction"])
        if box is None:
            continue
        world, transform = _place(tiles, tile)
        entry = {"model": 0, "side": side, "split_hash": tiles.split_hash, "world": world, "scene": tile["scene"]}
        entry |= {"crs": tile["crs"] if world == EARTH else "", "transform": transform, "box": box}
        entry |= {"xxh3": tile["xxh3"], "look": b"", "squares": []}
        if not world:
            look = duplicates.look(_three(tiles.images[row]))
            entry["look"] = look.code + look.thumbnail.tobytes()
            entry["squares"] = _squares(tiles.images[row])
            if not entry["squares"] and (tiles.images[row] == tiles.images[row][0, 0]).all():
                entry["xxh3"] = ""  # nothing but white or black: equal bytes are no equal ground
        found[i] = entry
    return pd.DataFrame(list(found.values()), index=list(found), columns=SCHEMA.names)


def _shown(tiles: TileStore, rows: Rows, side: str) -> pd.DataFrame:
    with shown_steps(len(rows), "tiles", True, what="ground", late=True) as step:
        return ground_of(tiles, rows, side, step)


known_ground = remembered(_shown)
"""the same with a bar, looked at once a process for the same tiles: tiles without place take a millisecond each, in
every run"""


def join(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several tables as one; parts without rows leave the types of the others alone."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=SCHEMA.names)


def to_bytes(ground: pd.DataFrame) -> bytes:
    """The table as a parquet file, the same bytes for the same table."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(ground, SCHEMA, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def from_bytes(content: bytes, source: Path | str) -> pd.DataFrame:
    """The table of `to_bytes`.

    Raises:
        DataError: it is something else
    """
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source} is not a table ({' '.join(str(error).split())[:120]}): copy it again.") from None
    if not table.schema.equals(SCHEMA, check_metadata=False):
        raise DataError(f"{source} has other columns than ground ({', '.join(table.schema.names)}): copy it again.")
    ground: pd.DataFrame = table.to_pandas()
    return ground


@dataclass
class Leak:
    """Which of n tiles lie on ground that a network, or one that it descends from, has met before."""

    scenes: npt.NDArray[np.object_]
    """(n,) of the tiles that were looked at"""
    by_model: dict[tuple[int, str], Flags]
    """(n,) by model and side, see `SCHEMA`; only those with a tile"""
    at_random: bool = False
    """the tiles were drawn at random out of ground that the network trains on"""

    def on(self, side: str) -> Flags:
        """(n,) tiles on the ground of a side, train or val, of any of the models."""
        flags = [flags for (_, at), flags in self.by_model.items() if at == side]
        return np.any(flags, axis=0) if flags else np.zeros(len(self.scenes), dtype=bool)

    @cached_property
    def tiles(self) -> Flags:
        """(n,) tiles on any ground that was met before."""
        return (self.on("train") | self.on("val")) | self.at_random

    def sentence(self, names: Sequence[str]) -> str:
        """How many tiles, of which scenes, met by which model; `names` are those of models 0, 1 ..."""
        count, whole = int(self.tiles.sum()), len(self.tiles)
        if self.at_random:
            return (
                f"{count} of {many(whole, 'tile')} to be scored {does(count, 'were')} drawn at random "
                "(dataset.split.by=random), so that the network is trained on the tiles beside them"
            )
        trained, chosen = int(self.on("train").sum()), int((self.on("val") & ~self.on("train")).sum())
        parts = [f"{trained} trained on"] * (trained > 0) + [f"{chosen} used as val"] * (chosen > 0)
        scenes = sorted({str(scene) or "unknown" for scene in self.scenes[self.tiles]})
        shown = ", ".join(scenes[:3]) + (f" and {len(scenes) - 3} more" if len(scenes) > 3 else "")
        by = ", ".join(names[number] for number in sorted({number for number, _ in self.by_model}))
        return (
            f"{count} of {many(whole, 'tile')} to be scored {does(count, 'lie')} on ground that was met in training "
            f"({', '.join(parts)}; scene{'s' * (len(scenes) > 1)} {shown}; by {by})"
        )


def drawn_at_random(tiles: TileStore) -> bool:
    """Whether the sides of a store are no ground: each test tile may have neighbours in train."""
    return bool(tiles.manifest.get("split_rule", {}).get("by") == "random")


def find_leak(ground: pd.DataFrame, tiles: TileStore, rows: Rows, *, trains: bool = False) -> Leak:
    """Compares tiles with the ground that was met in training.

    Ground of a split with the same hash does not count against test tiles of that split: the split was frozen as ground
    before tiles were cut, so that its sides are apart at every tile size.

    Args:
        ground: table of `ground_of`
        tiles: an opened store
        rows: the tiles that are to be scored
        trains: a network is about to be trained on the store's own train tiles
    """
    at_random = drawn_at_random(tiles) and (trains or bool((ground["split_hash"] == tiles.split_hash).any()))
    if at_random:
        return Leak(tiles.index["scene"].iloc[rows].to_numpy(dtype=object), {}, at_random=True)
    if (tiles.index["split"].iloc[rows] == "test").all():
        ground = ground[ground["split_hash"] != tiles.split_hash]
    ground = ground.reset_index(drop=True)
    scenes = tiles.index["scene"].iloc[rows].to_numpy(dtype=object)
    if not len(ground):
        return Leak(scenes, {})
    here = known_ground(tiles, rows, "test")
    pairs = same_pixels(ground, here) + _same_look(ground, here) + same_place(ground, here)
    by_model: dict[tuple[int, str], Flags] = {}
    models, sides = ground["model"].tolist(), ground["side"].tolist()
    for met, i in pairs:
        key = int(models[met]), str(sides[met])
        by_model.setdefault(key, np.zeros(len(rows), dtype=bool))[i] = True
    return Leak(scenes, dict(sorted(by_model.items())))


def _place(tiles: TileStore, tile: Mapping[Any, Any]) -> tuple[str, list[float]]:
    """World of a tile, and its affine transform there."""
    recipe = tiles.manifest.get("recipe", {})
    in_scene = [1.0, 0.0, float(tile["col"]), 0.0, 1.0, float(tile["row"])]
    if recipe.get("kind") == "synthetic":
        made = recipe["synthetic"]
        return f"generated/{recipe['generator']}/{made['seed']}/{made['scene_px']}/{tile['scene']}", in_scene
    if tile["transform"] is not None and tile["crs"]:
        return EARTH, [float(value) for value in tile["transform"][:6]]
    if tile["scene"] not in ("", "unknown") and tile["row"] >= 0 and tile["col"] >= 0:
        gsd = "" if math.isnan(tile["gsd_m"]) else f"{tile['gsd_m']:g}m"
        return f"scene/{tile['sensor']}/{gsd}/{tile['scene']}", in_scene
    return "", []


def _valid_box(tiles: TileStore, row: int, valid_fraction: float) -> list[int] | None:
    """Left, top, right, bottom of the valid pixels; padding beyond a scene's edge is no ground."""
    if valid_fraction >= 1:
        return [0, 0, tiles.tile_px, tiles.tile_px]
    valid = tiles.labels[row] != INVALID
    across, down = np.flatnonzero(valid.any(axis=0)), np.flatnonzero(valid.any(axis=1))
    if not len(across):
        return None
    return [int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1]


def _three(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def _squares(image: npt.NDArray[np.uint8]) -> list[int]:
    """Hashes of the squares of a tile; none where it is no multiple of them.

    Squares of few grey values are left out: snow and black borders look alike everywhere.
    """
    side, px = image.shape[0], SQUARE_PX
    if side % px:
        return []
    squares = image.reshape(side // px, px, side // px, px, -1).swapaxes(1, 2).reshape(-1, px * px * image.shape[-1])
    return [
        xxhash.xxh3_64_intdigest(one.data) for one in squares if np.count_nonzero(np.bincount(one[::SAMPLED])) >= VALUES
    ]


def same_pixels(ground: pd.DataFrame, here: pd.DataFrame) -> list[tuple[int, int]]:
    """(row of ground, row of here) of tiles with the same bytes, or with a square of the same pixels."""
    first: dict[Any, list[int]] = {}
    for met, xxh3, squares in zip(ground.index.tolist(), ground["xxh3"], ground["squares"], strict=True):
        for key in (xxh3, *squares):
            if key != "":
                first.setdefault(key, []).append(met)
    return [
        (met, i)
        for i, xxh3, squares in zip(here.index.tolist(), here["xxh3"], here["squares"], strict=True)
        for met in {met for key in (xxh3, *squares) for met in first.get(key, ())}
    ]


def _same_look(ground: pd.DataFrame, here: pd.DataFrame) -> list[tuple[int, int]]:
    """(row of ground, row of here) of tiles without place that show the same, in any of the 8 positions."""
    old, new = (
        [(i, look) for i, look in zip(table.index.tolist(), table["look"], strict=True) if look]
        for table in (ground, here)
    )
    if not old or not new:
        return []
    looks = [_look(look) for _, look in (*old, *new)]
    pairs = []
    for group in connected(len(looks), duplicates.same_ground(looks)):
        met = [old[n][0] for n in group if n < len(old)]
        pairs += [(place, new[n - len(old)][0]) for n in group if n >= len(old) for place in met]
    return pairs


def _look(content: bytes) -> duplicates.Look:
    thumbnail = np.frombuffer(content[_CODE_BYTES:], dtype=np.uint8).reshape(duplicates.SIDE, duplicates.SIDE)
    return duplicates.Look(thumbnail=thumbnail, code=content[:_CODE_BYTES])


def same_place(ground: pd.DataFrame, here: pd.DataFrame) -> list[tuple[int, int]]:
    """(row of ground, row of here) of footprints that share more than `SHARED` of the smaller one."""
    pairs: list[tuple[int, int]] = []
    for world in sorted(set(here["world"]) & set(ground["world"]) - {""}):
        met, asked = ground[ground["world"] == world], here[here["world"] == world]
        old, new = _footprints(met), _footprints(asked)
        tree = shapely.STRtree(old)
        # a footprint across 180 degrees may have been written on the other side of the line
        for turn in TURNS if world == EARTH else (0.0,):
            moved = turned(new, turn)
            b, a = tree.query(moved, predicate="intersects")
            shared = shapely.area(shapely.intersection(old[a], moved[b]))
            enough = shared > SHARED * np.minimum(shapely.area(old[a]), shapely.area(moved[b]))
            pairs += zip(met.index[a[enough]].tolist(), asked.index[b[enough]].tolist(), strict=True)
    return pairs


def _footprints(table: pd.DataFrame) -> npt.NDArray[np.object_]:
    """(n,) polygons of the valid pixels: degrees on earth, pixels of the scene elsewhere."""
    transform = np.array(table["transform"].tolist(), dtype=np.float64)
    left, top, right, bottom = np.array(table["box"].tolist(), dtype=np.float64).T[:, :, None]
    across, down = around(SIDE_POINTS)
    col, row = left + (right - left) * across, top + (bottom - top) * down
    a, b, c, d, e, f = transform.T[:, :, None]
    points = np.stack([a * col + b * row + c, d * col + e * row + f], axis=-1)
    crs = table["crs"].to_numpy(dtype=object)
    for text in sorted(set(crs) - {""}):
        own = crs == text
        lon, lat = to_lonlat(pyproj.CRS.from_user_input(text), points[own, :, 0], points[own, :, 1])
        points[own] = np.stack([np.apply_along_axis(unwrap, 1, lon), lat], axis=-1)
    outlines: npt.NDArray[np.object_] = shapely.polygons(points)
    return outlines
