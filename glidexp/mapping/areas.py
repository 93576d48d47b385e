"""Lakes measured: area and perimeter on the ellipsoid, how sure the area is, mean probability, distance to ice.

Two intervals of the area. `area_low_km2` to `area_high_km2`: the shore is off by half a pixel, everywhere to the same
side (half a pixel times the perimeter; a staircase along a slanted shore is longer than the shore, on average 4/pi
times). `area_p05_km2` to `area_p95_km2`: of what the model's temperature makes of its answers, the pixels of the lake
with a calibrated probability of 0.95 or more, and those with 0.05 or more in the lake or up to `REACH_PX` around it
and joined to it: the 90 % interval where all pixels of a shore err together, which is the widest case.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyproj
import shapely

from glidexp.data.geodesy import to_lonlat
from glidexp.data.scenes.inventory import SEARCH_M, lakes_of
from glidexp.data.scenes.polygons import Inventory
from glidexp.data.scenes.reading import Scene
from glidexp.data.sizes import size_of
from glidexp.mapping.polygons import Geometries, pixels_of, smoothed, window_of
from glidexp.mapping.workfiles import INVALID, LIKELY, STEPS, SURE

FAR_M = 10_000.0
"""lakes farther from ice are not glacial: the rule of the published data set"""
REACH_PX = 8
STRIP_PX = 2048
"""rows of a large lake that are looked at together"""
GEOD = pyproj.Geod(ellps="WGS84")
COLUMNS = (
    "lake_id", "area_km2", "area_low_km2", "area_high_km2", "area_p05_km2", "area_p95_km2", "perimeter_km", "area_px",
    "size_class", "mean_probability", "cut", "glacier_distance_m", "within_10km", "lon", "lat", "scene", "sensor",
    "date", "model",
)  # fmt: skip
"""of the table of lakes, beside the geometry"""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What the map says within one lake, pixels."""

    area: int
    total: float
    """sum of the probabilities"""
    sure: int
    likely: int
    cut: bool
    """touches pixels without data or the scene's edge"""


def measured(
    scene: Scene, outlines: Geometries, levels_HW: Any, marks_HW: Any, mask_HW: Any, *, smooth: int, calibrated: bool
) -> tuple[Geometries, pd.DataFrame]:
    """Outlines in the scene's CRS, and a row each but for glaciers and names; by row and column of the scene.

    Args:
        scene: its header
        outlines: from `polygons.outlines`
        levels_HW: probability in steps
        marks_HW: bits
        mask_HW: 1 lake, 0 none, 255 no data
        smooth: rounds of corner cutting
        calibrated: whether the marks for sure and likely are of a temperature
    """
    x, y = scene.xy(np.zeros(1), np.zeros(1))
    a, b, _, d, e, _ = scene.transform[:6]

    def on_map(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack([a * xy[:, 0] + b * xy[:, 1] + x, d * xy[:, 0] + e * xy[:, 1] + y])

    shapes = shapely.transform(smoothed(outlines, smooth), on_map) if len(outlines) else outlines
    steps = shapely.transform(outlines, on_map) if len(outlines) else outlines
    rows = []
    for outline, shape, stairs in zip(outlines, shapes, steps, strict=True):
        met = pixels_in(outline, levels_HW, marks_HW, mask_HW)
        area, perimeter, lon, lat = geodesic(scene.crs, shape)
        ground, stairs_m = geodesic(scene.crs, stairs)[:2] if smooth else (area, perimeter)
        pixel_m2 = ground / met.area
        bound = 0.5 * np.sqrt(pixel_m2) * stairs_m * np.pi / 4
        sure, likely = (met.sure, met.likely) if calibrated else (np.nan, np.nan)
        rows.append(
            {
                "area_km2": area / 1e6,
                "area_low_km2": max(area - bound, 0.0) / 1e6,
                "area_high_km2": (area + bound) / 1e6,
                "area_p05_km2": sure * pixel_m2 / 1e6,
                "area_p95_km2": likely * pixel_m2 / 1e6,
                "perimeter_km": perimeter / 1e3,
                "area_px": met.area,
                "mean_probability": met.total / met.area / STEPS,
                "cut": met.cut,
                "lon": lon,
                "lat": lat,
            }
        )
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name in (rows[0] if rows else COLUMNS)])
    table["size_class"] = size_of(table["area_km2"].to_numpy(dtype=np.float64)) if rows else []
    return shapes, table


def pixels_in(outline: Any, levels_HW: Any, marks_HW: Any, mask_HW: Any) -> Pixels:
    """Counts within one outline, in strips of its rows."""
    from scipy import ndimage

    height, width = mask_HW.shape
    first, last, left, right = window_of(outline, (height, width), REACH_PX)
    area = sure = likely = 0
    total, cut = 0.0, False
    for top in range(first, last, STRIP_PX):
        bottom = min(top + STRIP_PX, last)
        # what lies beyond the strip can reach into it
        high, low = max(top - REACH_PX, 0), min(bottom + REACH_PX, height)
        inside = pixels_of(outline, (high, low, left, right))
        marks = np.asarray(marks_HW[high:low, left:right])
        other = (np.asarray(mask_HW[high:low, left:right]) == 1) & ~inside
        room = ((marks & LIKELY) > 0) & ~other
        grown = inside | ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=REACH_PX, mask=room | inside)
        beside = ndimage.binary_dilation(inside, np.ones((3, 3)))
        own = slice(top - high, bottom - high)
        # a filled hole belongs to the lake, whatever its pixels say
        area += int(inside[own].sum())
        sure += int((inside & ((marks & SURE) > 0))[own].sum())
        likely += int(grown[own].sum())
        total += float(np.asarray(levels_HW[top:bottom, left:right])[inside[own]].sum(dtype=np.float64))
        cut |= bool((beside & ((marks & INVALID) > 0)).any())
    cut |= _on_edge(outline, height, width)
    return Pixels(area, total, sure, likely, cut)


def _on_edge(outline: Any, height: int, width: int) -> bool:
    left, top, right, bottom = shapely.bounds(outline)
    return bool(left <= 0 or top <= 0 or right >= width or bottom >= height)


def geodesic(crs: pyproj.CRS, geometry: Any) -> tuple[float, float, float, float]:
    """Area m2 and perimeter m (holes included) on WGS 84, and longitude and latitude of the centroid."""
    centre = geometry.centroid

    def moved(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(to_lonlat(crs, xy[:, 0], xy[:, 1]))

    ball = shapely.transform(geometry, moved)
    area, perimeter = on_ellipsoid(ball)
    lon, lat = to_lonlat(crs, np.array([centre.x]), np.array([centre.y]))
    return area, perimeter, float(lon[0]), float(lat[0])


def on_ellipsoid(lonlat: Any) -> tuple[float, float]:
    """Area m2 and perimeter m of a polygon in degrees; shores of islands count, which pyproj leaves out."""
    area = GEOD.geometry_area_perimeter(shapely.orient_polygons(lonlat))[0]
    return abs(float(area)), float(GEOD.geometry_length(shapely.boundary(lonlat)))


def to_ice(scene: Scene, shapes: Geometries, glaciers: Inventory | None) -> npt.NDArray[np.float64]:
    """Metres to the nearest glacier outline; infinite where none is within 15 km; NaN where no glaciers are given."""
    if glaciers is None or not len(shapes):
        return np.full(len(shapes), np.nan)
    names = np.array([str(i) for i in range(len(shapes))], dtype=object)
    own = Inventory(scene.file.path, shapes, scene.crs, len(shapes), 0, 0, names, names)
    found = lakes_of(scene, own, glaciers, buffer_m=min(FAR_M, SEARCH_M), min_lake_px=0.0)
    out = np.full(len(shapes), np.inf)
    out[found.ids.astype(np.int64)] = found.distance_m
    return out


def ids_of(lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> list[str]:
    """Ids that follow from a lake's place alone, to 0.0001 degree (some 10 m), as GL086.9342E27.9421N.

    Of lakes around one point, such as a ring and a lake within, the later ones get a letter.
    """
    seen: dict[str, int] = {}
    out = []
    for x, y in zip(lon.tolist(), lat.tolist(), strict=True):
        name = f"GL{abs(x):08.4f}{'E' if x >= 0 else 'W'}{abs(y):07.4f}{'N' if y >= 0 else 'S'}"
        number = seen[name] = seen.get(name, -1) + 1
        out.append(name + (f"-{number + 1}" if number else ""))
    return out


def plain(name: str) -> str:
    """A name as a file system takes it."""
    return re.sub(r"[^\w.-]+", "_", name)
