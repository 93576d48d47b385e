"""Outlines in degrees, the same whichever way a file writes those at 180 degrees.

One file cuts a lake there in two (RFC 7946), another lets its longitudes go on beyond 180, count from 0 to 360, or jump
from one end to the other. `whole_in_degrees` puts each outline together, so that it may be measured; `cut_at_180` cuts
all of them alike, so that they may be compared.
"""

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from glidexp.data.geodesy import Geometries, reprojected, turned

LONLAT = pyproj.CRS.from_epsg(4326)
HALF, ROUND = 180.0, 360.0


def whole_in_degrees(shapes: Geometries, crs: pyproj.CRS) -> Geometries:
    """Polygons in degrees of WGS 84, each in one piece where it lies across 180 degrees: longitudes go on beyond it.

    An outline is taken the shorter way round, but for one that has all longitudes.
    """
    moved = in_one_piece(shapes if crs == LONLAT else reprojected(shapes, crs, LONLAT))
    valid: Geometries = np.where(shapely.is_valid(moved), moved, shapely.make_valid(moved))
    return valid


def in_one_piece(lonlat: Geometries) -> Geometries:
    """Polygons in degrees of any CRS, those across 180 degrees in one piece, whichever way they are written there."""
    wide = _width(lonlat) > HALF
    if not wide.any():
        return lonlat
    out = lonlat.copy()
    out[wide] = [_joined(shape) for shape in lonlat[wide]]
    return out


def cut_at_180(shapes: Geometries) -> Geometries:
    """The same ground within longitudes of -180 to 180, where an outline across 180 has a part at either end."""
    bounds = shapely.bounds(shapes)
    beyond = (bounds[:, 0] < -HALF) | (bounds[:, 2] > HALF)
    if not beyond.any():
        return shapes
    out = shapes.copy()
    out[beyond] = shapely.union_all(
        [
            turned(shapely.intersection(shapes[beyond], shapely.box(turn - HALF, -90.0, turn + HALF, 90.0)), -turn)
            for turn in (-ROUND, 0.0, ROUND)
        ],
        axis=0,
    )
    return out


def _width(shapes: Geometries) -> npt.NDArray[np.float64]:
    """Degrees from end to end, as it is written."""
    bounds = shapely.bounds(shapes)
    width: npt.NDArray[np.float64] = bounds[:, 2] - bounds[:, 0]
    return width


def _joined(shape: shapely.Geometry) -> shapely.Geometry:
    """First each part by itself, whose points jump, then parts that were cut from each other."""
    parts = shapely.get_parts(shape)
    width = _width(parts)
    if (width >= ROUND).any():  # around a pole
        return shape
    jump = width > HALF
    parts[jump] = shapely.transform(parts[jump], lambda lon, lat: (lon + ROUND * (lon < 0), lat), interleaved=False)
    west = shapely.bounds(parts)[:, 0] < 0
    parts[west] = turned(parts[west], ROUND)
    parts = np.where(shapely.is_valid(parts), parts, shapely.make_valid(parts))
    return shapely.union_all(parts)
