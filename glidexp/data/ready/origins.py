"""Where ready tiles come from, as far as somebody says: a table, the rule of their names, the file itself."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
import pyproj.exceptions
import shapely

from glidexp.data import sensors
from glidexp.data.csv_rows import read_csv
from glidexp.data.geodesy import TURNS, around, outline_lonlat, to_lonlat, turned
from glidexp.data.ready.pairs import Pair
from glidexp.data.store import SPLITS
from glidexp.errors import DataError
from glidexp.wording import does, many

SHARED = 1e-3
"""share of the smaller of two tiles up to which they only touch"""
SIDE_POINTS = 4
"""points an edge of a tile, which bends in degrees"""
MOST_PX = 2**31
"""of the side of a picture"""
COLUMNS = ("tile", "scene", "sensor", "region", "gsd_m", "row", "col", "block", "split", "transform", "crs")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tile comes from."""

    scene: str = "unknown"
    sensor: str = sensors.UNKNOWN
    region: str = "unknown"
    gsd_m: float = math.nan
    row: int = -1
    col: int = -1
    block: str = ""
    """unit of the split, of a table that shares the tiles out itself"""
    split: str = ""
    transform: tuple[float, ...] | None = None
    """six numbers, pixel to map"""
    crs: str = ""


def read_origins(table: str | None, sensor: str, pairs: Sequence[Pair]) -> tuple[list[Pair], list[Origin]]:
    """The pairs and what is known of each.

    A table with the column `split` is what `glidexp data export` wrote: its order and its sides hold.

    Raises:
        DataError: the table cannot be read, names a tile that is not there, or shares out some tiles and not others
    """
    said = _read(Path(table), sensor, pairs) if table else {}
    if any(origin.split for origin in said.values()):
        lacking = [pair.name for pair in pairs if pair.name not in said or not said[pair.name].split]
        if lacking:
            raise DataError(
                f"{table} gives a split to some tiles, but not to {len(lacking)}, first '{lacking[0]}': "
                f"write {', '.join(SPLITS)} in every row, or leave the column out."
            )
        place = {name: n for n, name in enumerate(said)}
        pairs = sorted(pairs, key=lambda pair: place[pair.name])
    return list(pairs), [said.get(pair.name) or _of_rule(pair, sensor) for pair in pairs]


def _of_rule(pair: Pair, sensor: str) -> Origin:
    origin = _origin(Path(pair.name), {key: pair.said.get(key, "").strip() for key in ("sensor", "gsd_m")}, sensor)
    scene, region = (pair.said.get(key, "unknown") for key in ("scene", "region"))
    return replace(origin, scene=scene, region=region)


def _read(path: Path, sensor: str, pairs: Sequence[Pair]) -> dict[str, Origin]:
    columns, rows = read_csv(path, "dataset.manifest", COLUMNS)
    if rows and "tile" not in columns:
        raise DataError(f"{path} has no column 'tile': its first line must be like {','.join(COLUMNS)}.")
    said = {row["tile"].removesuffix(".png"): _origin(path, row, sensor) for row in rows}
    if len(said) < len(rows):
        (twice, _), *_ = Counter(row["tile"].removesuffix(".png") for row in rows).most_common(1)
        raise DataError(f"{path} names tile '{twice}' in several rows: leave one.")
    lost = sorted(said.keys() - {pair.name for pair in pairs})
    if lost:
        raise DataError(
            f"{path} names {many(len(lost), 'tile')} that {does(len(lost), 'are')} not there, first '{lost[0]}': "
            "correct it."
        )
    return said


def _origin(path: Path, text: Mapping[str, str], sensor: str) -> Origin:
    name = text.get("sensor") or sensor
    nominal = sensors.get(name, f"sensor in {path}").gsd_m
    if text.get("split", "") not in ("", *SPLITS):
        raise DataError(f"{path}, tile {text.get('tile')}: split '{text['split']}' is not one of {', '.join(SPLITS)}.")
    try:
        gsd_m = float(text.get("gsd_m") or nominal)
        if gsd_m <= 0 or gsd_m == math.inf:
            raise ValueError(f"gsd_m {gsd_m:g} is no size of a pixel")
        transform = tuple(float(part) for part in text.get("transform", "").split()) or None
        if transform is not None and (len(transform) != 6 or not all(map(math.isfinite, transform))):
            raise ValueError("transform is six numbers with spaces between")
        if text.get("crs"):
            crs_of(text["crs"])
        row, col = (int(text.get(key) or -1) for key in ("row", "col"))
        if max(row, col) >= MOST_PX:
            raise ValueError(f"row {row} and col {col} lie in no picture")
        return Origin(
            scene=text.get("scene") or "unknown",
            sensor=name,
            region=text.get("region") or "unknown",
            gsd_m=gsd_m,
            row=row,
            col=col,
            block=text.get("block", ""),
            split=text.get("split", ""),
            transform=transform,
            crs=text.get("crs", ""),
        )
    except ValueError as error:
        raise DataError(
            f"{path}, tile {text.get('tile')}: {error}; gsd_m is a number, row and col are whole."
        ) from None


def shared_ground(origins: Sequence[Origin], sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs (a, b), a < b, of tiles whose positions are known and that overlap by more than an edge.

    Those of one CRS are compared in it, others in degrees, such as tiles on either side of the border of two UTM zones.

    Args:
        origins: of the tiles
        sizes: height and width of each, pixels
    """
    by_crs: dict[pyproj.CRS, list[int]] = {}
    for i, origin in enumerate(origins):
        if origin.transform is not None and origin.crs:
            by_crs.setdefault(crs_of(origin.crs), []).append(i)
    links: list[tuple[int, int]] = []
    for members in by_crs.values():
        outlines = [shapely.Polygon(_edge(origins[i], sizes[i], 1)) for i in members]
        links += [(members[a], members[b]) for a, b in _overlapping(np.array(outlines, dtype=object))]
    if len(by_crs) > 1:
        crs = {i: crs for crs, members in by_crs.items() for i in members}
        edges = {i: _edge(origins[i], sizes[i], SIDE_POINTS).T for i in sorted(crs)}
        every = [i for i, edge in edges.items() if np.isfinite(to_lonlat(crs[i], *edge)).all()]  # others are nowhere
        outlines = [outline_lonlat(crs[i], *edges[i]) for i in every]
        found = {
            (every[a], every[b])
            for turn in TURNS  # of two tiles at 180 degrees one may be written on either side of the line
            for a, b in _overlapping(np.array(outlines, dtype=object), turn)
        }
        links += sorted((a, b) for a, b in found if crs[a] != crs[b])
    return links


@cache
def crs_of(text: str) -> pyproj.CRS:
    """The CRS that a table or a file names; raises ValueError where it is none."""
    try:
        return pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError:
        raise ValueError(f"crs '{text[:60]}' is none, such as EPSG:32645") from None


def _edge(origin: Origin, size: tuple[int, int], points: int) -> npt.NDArray[np.float64]:
    """(n, 2) points along the edge of a tile, in its CRS."""
    a, b, c, d, e, f = origin.transform or ()
    across, down = around(points)
    col, row = across * size[1], down * size[0]
    return np.column_stack([a * col + b * row + c, d * col + e * row + f])


def _overlapping(outlines: npt.NDArray[np.object_], turn: float = 0.0) -> list[tuple[int, int]]:
    """Places of those that overlap by more than an edge, the smaller first; one of both turned by so many degrees."""
    moved = turned(outlines, turn) if turn else outlines
    a, b = shapely.STRtree(outlines).query(moved, predicate="intersects")
    shared = shapely.area(shapely.intersection(moved[a], outlines[b]))
    met = (a < b) & (shared > SHARED * np.minimum(shapely.area(outlines[a]), shapely.area(outlines[b])))
    return list(zip(a[met].tolist(), b[met].tolist(), strict=True))
