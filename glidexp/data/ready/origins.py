"""Where ready tiles come from, as far as somebody says: a table, the rule of their names, the file itself."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glidexp.data import sensors
from glidexp.data.csv_rows import read_csv
from glidexp.data.ready.pairs import Pair
from glidexp.data.store import SPLITS
from glidexp.errors import DataError
from glidexp.wording import does, many

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
        return Origin(
            scene=text.get("scene") or "unknown",
            sensor=name,
            region=text.get("region") or "unknown",
            gsd_m=gsd_m,
            row=int(text.get("row") or -1),
            col=int(text.get("col") or -1),
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

    Args:
        origins: of the tiles
        sizes: height and width of each, pixels
    """
    links: list[tuple[int, int]] = []
    by_crs: dict[str, list[int]] = {}
    for i, origin in enumerate(origins):
        if origin.transform is not None and origin.crs:
            by_crs.setdefault(origin.crs, []).append(i)
    if not by_crs:
        return links
    import shapely

    for members in by_crs.values():
        boxes = [_footprint(origins[i].transform or (), *sizes[i]) for i in members]
        for a, b in shapely.STRtree(boxes).query(boxes, predicate="intersects").T.tolist():
            if a < b and shapely.intersection(boxes[a], boxes[b]).area > 1e-3 * min(boxes[a].area, boxes[b].area):
                links.append((members[a], members[b]))
    return links


def _footprint(transform: Sequence[float], height: int, width: int) -> Any:
    from shapely import Polygon

    a, b, c, d, e, f = transform
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    return Polygon([(a * x + b * y + c, d * x + e * y + f) for x, y in corners])
