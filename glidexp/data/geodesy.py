"""Where on earth: degrees, the jump at 180 degrees, and the metric CRS of a place."""

import math

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

Floats = npt.NDArray[np.float64]
Geometries = npt.NDArray[np.object_]
TURNS = (0.0, 360.0, -360.0)
"""degrees by which outlines are moved that may be written on either side of 180 degrees"""


def to_lonlat(crs: pyproj.CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Degrees of WGS 84 of points in any CRS."""
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return lon, lat


def outline_lonlat(crs: pyproj.CRS, x: Floats, y: Floats) -> shapely.Polygon:
    """An outline in degrees, from points along it in any CRS.

    Across the antimeridian longitudes go on beyond 180; a pole inside has an edge of its own.
    """
    lon, lat = to_lonlat(crs, x, y)
    lon = np.unwrap(np.append(lon, lon[0]), period=360.0)
    lat = np.append(lat, lat[0])
    if abs(lon[-1] - lon[0]) > 180.0:  # the last point is the first, once around
        pole = math.copysign(90.0, lat[0])
        lon, lat = np.append(lon, lon[[-1, 0]]), np.append(lat, [pole, pole])
    return shapely.Polygon(np.column_stack([lon + 360.0 * (lon.min() < -180.0), lat]))


def unwrap(lon: Floats) -> Floats:
    """Longitudes without the jump at 180 degrees, for points that lie close together."""
    return np.where(lon < 0, lon + 360.0, lon) if np.ptp(lon) > 180.0 else lon


def around(points: int) -> tuple[Floats, Floats]:
    """Places along the edge of a square of side 1, from its corner (0, 0) on: (4 x points,) across and down.

    An edge in another CRS bends: it is followed by points along it, not by corners alone.
    """
    t = np.linspace(0.0, 1.0, points, endpoint=False)
    low, high = np.zeros(points), np.ones(points)
    return np.concatenate([t, high, 1 - t, low]), np.concatenate([low, t, high, 1 - t])


def turned(lonlat: Geometries, degrees: float) -> Geometries:
    """Outlines in degrees, moved so far east."""
    moved: Geometries = shapely.transform(lonlat, lambda lon, lat: (lon + degrees, lat), interleaved=False)
    return moved


def reprojected(geometries: Geometries, source: pyproj.CRS, target: pyproj.CRS) -> Geometries:
    """Outlines in another CRS. Vertices move, edges between them stay straight: rings may cross afterwards."""
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    moved: Geometries = shapely.transform(geometries, transformer.transform, interleaved=False)
    return moved


def is_metric(crs: pyproj.CRS, lon: float, lat: float) -> bool:
    """Whether a unit of the CRS is a metre on the ground at this place, to 1 %: true of UTM, not of Web Mercator."""
    if not crs.is_projected or any(axis.unit_name not in ("metre", "meter", "m") for axis in crs.axis_info):
        return False
    factors = pyproj.Proj(crs).get_factors(lon, lat)
    return abs(factors.meridional_scale - 1) < 0.01 and abs(factors.parallel_scale - 1) < 0.01


def utm(lon: float, lat: float) -> pyproj.CRS:
    """UTM zone of a place; beyond 84 N and 80 S, where there is none, an equidistant plane around the place itself."""
    if not -80 <= lat <= 84:
        return pyproj.CRS.from_proj4(f"+proj=aeqd +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")
    return pyproj.CRS.from_epsg((32600 if lat >= 0 else 32700) + zone(lon))


def zone(lon: float) -> int:
    """UTM zone of a longitude, by the plain rule of 6 degrees."""
    return math.floor((lon + 180.0) / 6.0) % 60 + 1
