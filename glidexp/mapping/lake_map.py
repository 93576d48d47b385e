"""A map or an inventory of lakes as it is read to be compared with others: outlines, areas, bounds, ground."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import cut_at_180, whole_in_degrees
from glidexp.data.scenes.features import GROUND, PARQUET, columns_of, flags, layer_of, layers_of, read_features
from glidexp.errors import DataError
from glidexp.mapping.areas import on_ellipsoid
from glidexp.mapping.map_dates import LAKES
from glidexp.wording import does, many

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
HALF_PIXEL = ("area_low_km2", "area_high_km2")
OF_NETWORK = ("area_p05_km2", "area_p95_km2")
"""what the network's probabilities leave open. Half a pixel alone held the true area of 41 % of the lakes in maps of a
network, the wider of both that of 85 % (docs/inventories.md)"""
OTHERWISE = {HALF_PIXEL: "leave both columns out and give --gsd", OF_NETWORK: "give --half-pixel"}
"""way out of an interval that is none"""
CUT, PIXELS = "cut", "area_px"
STRAIGHT_M = 2000.0
"""a side of the ground is bent into degrees in pieces of this length, 0.1 m off at most; one of 110 km is 140 m off"""

TWICE = "more than once, which counts as often in areas: take copies out."
BLIND = "no raster NAME_probability.tif lies beside it, so a lake that the network half saw counts as gone."
LEAST_PX = 6
"""pixels of the smallest lake of a map, as `glidexp predict` leaves them"""
ROUNDED_PX = 0.5
"""smooth outlines and the map's scale make a lake's area a little other than its pixels'"""


@dataclass(frozen=True, slots=True)
class Map:
    """The lakes of one inventory, in degrees from -180 to 180."""

    path: Path
    """of the file"""
    shapes: npt.NDArray[np.object_]
    ids: npt.NDArray[np.object_]
    area_km2: Floats
    bound_km2: Floats
    """by how much the area may be off: half a pixel of shore, or what the network leaves open, where that is more; 0
    where nothing is known"""
    cut: Flags
    """the lake may go on beyond what was looked at; False where the file does not say"""
    ground: Any
    """what was looked at; None where the file does not say"""
    lacking: int
    """lakes whose bound is not known"""
    gsd_m: float | None = None
    """side of a pixel, from the lakes' areas and their pixels; None where the file does not say"""
    column: npt.NDArray[Any] | None = None
    """values of the column that was asked for, one a lake"""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.path.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result has to know of it."""
        notes = []
        if self.lacking:
            notes.append(
                f"{self.name} gives {many(self.lacking, 'lake')} no interval of areas, which counts as exact: "
                "give --gsd."
            )
        if self.copies:
            notes.append(f"{self.name} has {many(self.copies, 'outline')} {TWICE}")
        if self.blind:
            notes.append(f"{self.name}: {BLIND}")
        return tuple(notes)

    @property
    def copies(self) -> int:
        """Outlines that stand there already, point by point."""
        return len(self.shapes) - len(set(shapely.to_wkb(shapely.normalize(self.shapes)).tolist()))

    @property
    def blind(self) -> bool:
        """Whether it is a network's, whose probabilities do not lie where `glidexp predict` left them."""
        own = self.path.stem.endswith(LAKES) and self.ground is not None
        return own and not probability_of(self.path).is_file()


def probability_of(path: Path) -> Path:
    """The raster that lies beside NAME_lakes.gpkg."""
    return path.with_name(f"{path.stem.removesuffix(LAKES)}_probability.tif")


def read(
    path: Path,
    setting: str,
    gsd_m: float | None,
    layer: str | None = None,
    column: str | None = None,
    *,
    half_pixel: bool = False,
) -> Map:
    """Reads outlines with the uncertainty of their areas.

    Args:
        path: any vector file; of one that `glidexp predict` wrote, the columns of the area's intervals and the ground
        setting: names it in messages
        gsd_m: for half a pixel along the perimeter, where the file has no interval
        layer: of the outlines, where several may hold polygons
        column: whose values are wanted too
        half_pixel: what the network leaves open is passed over

    Raises:
        DataError: it cannot be read as outlines, has no such column, or its intervals of areas cannot be
    """
    own = polygons.read(path, setting, layer=layer, none=True)  # all lakes of a map may have vanished
    whole = whole_in_degrees(own.geometries, own.crs)
    area, perimeter = (values / 1e6 for values in on_ellipsoid(whole))
    taken = layer_of(path, setting, layer)
    there = columns_of(path, setting, taken)
    if column and column not in there and len(area):
        raise DataError(f"{column} is no column of {path}, which has {', '.join(there) or 'none'}: name one of these.")
    intervals = [pair for pair in (HALF_PIXEL, OF_NETWORK)[: 1 if half_pixel else 2] if {*pair} <= {*there}]
    wanted = [name for pair in intervals for name in pair]
    wanted += [name for name in (CUT, PIXELS, column) if name and name in there]
    known = read_features(path, setting, wanted, taken).values if wanted else {}
    known = {name: values[own.rows] for name, values in known.items()}
    bound = np.full(len(area), np.nan)
    if HALF_PIXEL in intervals:  # around the mapped area, also where that was rounded or smoothed
        low, high = _ordered(known, HALF_PIXEL, path, setting)
        bound = (high - low) / 2
        bound = np.where(low == 0, np.fmax(bound, high - area), bound)  # of a thin lake the lower end stops at 0
    if gsd_m:
        bound = np.where(np.isnan(bound), 0.5 * gsd_m * perimeter, bound)
    if OF_NETWORK in intervals:
        low, high = _ordered(known, OF_NETWORK, path, setting)
        bound = np.fmax(bound, np.maximum(area - low, high - area))
    return Map(
        path,
        cut_at_180(whole),
        own.ids,
        area,
        np.nan_to_num(bound),
        flags(known[CUT]) if CUT in known else np.zeros(len(area), dtype=bool),
        _ground(path, setting),
        int(np.isnan(bound).sum()),
        _side(area, _numbers(known[PIXELS], PIXELS, path, setting)) if PIXELS in known else None,
        known.get(column) if column else None,
    )


def least_km2(gsd_m: Floats) -> Floats:
    """Area of the smallest lakes that a map can show, of the sides of its pixels."""
    return np.asarray((LEAST_PX - ROUNDED_PX) * gsd_m**2 / 1e6, dtype=np.float64)


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first of the names of maps, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - most} more" if len(each) > most else ""
    return ", ".join(each[:most]) + more


def _ground(path: Path, setting: str) -> Any:
    """What was looked at, in degrees; None where the file has no such layer."""
    if path.suffix.lower() in PARQUET:
        return None
    names = [name for name, _ in layers_of(path, setting)]
    if GROUND not in names:
        return None
    found = read_features(path, setting, [], names.index(GROUND))
    if not found.crs:
        raise DataError(
            f"{setting}={path}: its layer {GROUND} has no CRS: write it into the file, with ogr2ogr -a_srs."
        )
    shapes, crs = found.geometries[~shapely.is_missing(found.geometries)], pyproj.CRS(found.crs)
    if crs.is_projected:  # a side that is straight on the map is none in degrees
        shapes = shapely.segmentize(shapes, STRAIGHT_M / crs.axis_info[0].unit_conversion_factor)
    return shapely.union_all(cut_at_180(whole_in_degrees(shapes, crs)))


def _side(area_km2: Floats, pixels: Floats) -> float | None:
    """Metres of a pixel's side; the median, as the scale of a map changes a little across it."""
    there = pixels > 0
    return float(np.sqrt(np.median(area_km2[there] / pixels[there]) * 1e6)) if there.any() else None


def _ordered(known: dict[str, Any], names: tuple[str, str], path: Path, setting: str) -> tuple[Floats, Floats]:
    """The ends of the intervals of areas; NaN where none is given."""
    low, high = (_numbers(known[name], name, path, setting) for name in names)
    wrong = int(((low > high) | np.isinf(low) | np.isinf(high)).sum())
    if wrong:
        raise DataError(
            f"{setting}={path}: {many(wrong, 'lake')} {does(wrong, 'have')} an {names[0]} above {names[1]}, or "
            "an infinite one: put them "
            f"right, or {OTHERWISE[names]}."
        )
    return low, high


def _numbers(values: npt.NDArray[Any], name: str, path: Path, setting: str) -> Floats:
    """A column of numbers; nothing becomes NaN."""
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"{setting}={path}: its column {name} holds text that is no number: write numbers, or rename the column."
        ) from None
