"""Maps side by side as one, in a plane that keeps areas: their lakes, and the ground that they looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from glidexp.data.geodesy import reprojected
from glidexp.data.scenes import polygons
from glidexp.data.scenes.degrees import LONLAT, cut_at_180, whole_in_degrees
from glidexp.data.scenes.polygons import Geometries
from glidexp.data.steps import Step
from glidexp.errors import DataError
from glidexp.mapping import lake_map
from glidexp.mapping.areas import GEOD
from glidexp.mapping.lake_map import STRAIGHT_M, least_km2, some_of
from glidexp.mapping.map_dates import gsd_beside_it
from glidexp.wording import many

SETTING = "MAP"
TOUCH_M = 0.2
"""lakes of two maps touch, where their edges have no ground in common: moved into the plane, edges are that much off"""
FARTHEST_M = 10_000_000.0
"""from the middle of the ground, where squares of the plane are twice as long as wide on the ground"""


@dataclass(frozen=True, slots=True)
class Joined:
    """Lakes and ground of several maps. Ground that two of them looked at counts as the first one says it.

    A lake that goes on from the ground of one to that of the next is one; some may reach beyond all ground.
    """

    shapes: Geometries
    """in the plane, metres"""
    ids: npt.NDArray[np.object_]
    ground: Any
    """in the plane; prepared"""
    least_km2: float
    """no smaller lake can be on all of the maps; 0 where they do not tell their pixels"""
    plane: pyproj.CRS
    grounds: Geometries = field(default_factory=lambda: np.empty(0, object))
    """of each map, in the plane"""


def joined(paths: Sequence[Path], step: Step, *, layer: str | None = None, within: Any = None) -> Joined:
    """Reads maps and puts them side by side.

    Args:
        paths: of maps
        step: told of half of each map as it was read, of the other as it lies beside those before
        layer: of the outlines, as for `lake_map.read`
        within: ground in degrees beyond which nothing counts

    Raises:
        DataError: one cannot be read or does not say what it looked at, or none looked at the ground in question
    """
    maps = []
    for path in paths:
        one = lake_map.read(path, SETTING, None, layer)
        if one.ground is None and within is None:
            raise DataError(
                f"{SETTING}={path} has no layer ground that says what was looked at: give a map as glidexp predict "
                "writes it (NAME_lakes.gpkg), or that ground as polygons with --within FILE."
            )
        maps.append(one)
        step(path.name, Fraction(1, 2))
    grounds = np.array([within if one.ground is None else one.ground for one in maps], dtype=object)
    if not shapely.area(grounds).any():
        raise DataError(
            f"{SETTING}: {some_of([one.name for one in maps])}: no ground was looked at, by the layer ground (squares "
            "of 16 pixels with data throughout): give other maps."
        )
    plane = plane_of(grounds)
    looked = on(plane, grounds)
    if within is not None:
        looked = shapely.intersection(looked, on(plane, np.array([within], dtype=object))[0])
    shapes, ids, before = np.empty(0, object), np.empty(0, object), shapely.Polygon()
    for path, one, ground in zip(paths, maps, looked, strict=True):
        lakes = on(plane, one.shapes)
        shapely.prepare([ground, before])
        own = shapely.intersects(ground, lakes)
        shapes, new, which = _added(shapes, lakes[own], before)
        shapes, ids = np.concatenate([shapes, new]), np.concatenate([ids, one.ids[own][which]])
        before = shapely.union(before, ground)
        step(path.name, Fraction(1, 2))
    if shapely.area(before) <= 0:
        raise DataError(
            f"{SETTING}: none of the {many(len(maps), 'map')} looked at the ground of --within: give others."
        )
    shapely.prepare(before)
    sides = [one.gsd_m or gsd_beside_it(path) or 0.0 for one, path in zip(maps, paths, strict=True)]
    return Joined(shapes, ids, before, float(least_km2(np.array(max(sides)))), plane, looked)


def _added(shapes: Geometries, more: Geometries, before: Any) -> tuple[Geometries, Geometries, npt.NDArray[np.int64]]:
    """Lakes that are known with what one more map has of them beyond the ground before, new ones, and which these are.

    Args:
        shapes: that are known
        more: of one more map
        before: ground that others looked at; prepared
    """
    both = shapely.dwithin(before, more, TOUCH_M)
    beyond = more.copy()
    beyond[both] = shapely.difference(more[both], before)
    new = shapely.area(beyond) > 0
    rest = np.flatnonzero(both & new)
    known = shapes.copy()
    for lake, one in np.stack(shapely.STRtree(shapes).query(more[rest], "dwithin", TOUCH_M), 1).tolist():
        if new[rest[lake]]:  # to one of those that it touches
            known[one] = shapely.union(known[one], beyond[rest[lake]])
            new[rest[lake]] = False
    return known, beyond[new], np.flatnonzero(new)


def plane_of(lonlat: Geometries) -> pyproj.CRS:
    """Lambert's azimuthal plane around the middle of outlines in degrees, which keeps areas.

    Raises:
        DataError: they lie too far apart
    """
    lon, lat = np.radians(shapely.get_coordinates(lonlat)).T
    x, y, z = (np.cos(lat) * np.cos(lon)).mean(), (np.cos(lat) * np.sin(lon)).mean(), np.sin(lat).mean()
    lon0, lat0 = np.degrees([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))]).tolist()
    middle = np.full(len(lon), lon0), np.full(len(lon), lat0)
    far = float(np.max(GEOD.inv(middle[0], middle[1], np.degrees(lon), np.degrees(lat))[2]))
    if far > FARTHEST_M:
        raise DataError(
            f"{SETTING}: the maps reach {far / 1e3:.0f} km from their middle, more than {FARTHEST_M / 1e3:.0f}: "
            "take a part of them at a time."
        )
    return pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat0:.6f} +lon_0={lon0:.6f} +datum=WGS84 +units=m")


def on(plane: pyproj.CRS, lonlat: Geometries) -> Geometries:
    """Outlines in degrees, in the plane; valid, straight sides in pieces."""
    pieces = shapely.segmentize(lonlat, STRAIGHT_M / 111_000.0)
    moved = reprojected(pieces, LONLAT, plane)
    # what was cut at 180 degrees hangs together again
    valid: Geometries = np.where(shapely.is_valid(moved), moved, shapely.make_valid(moved))
    return valid


def off(plane: pyproj.CRS, shapes: Geometries) -> Geometries:
    """Outlines of the plane, in degrees from -180 to 180."""
    return cut_at_180(whole_in_degrees(shapely.segmentize(shapes, STRAIGHT_M), plane))


def read_ground(path: Path, setting: str) -> Any:
    """Polygons of a file as one ground, in degrees.

    Raises:
        DataError: as `polygons.read`
    """
    own = polygons.read(path, setting)
    return shapely.union_all(cut_at_180(whole_in_degrees(own.geometries, own.crs)))
