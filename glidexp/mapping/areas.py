"""Lakes measured: area and perimeter on the ellipsoid, how sure the area is, mean probability, distance to ice.

Two intervals of the area. `area_low_km2` to `area_high_km2`: the shore is off by half a pixel, everywhere to the same
side (half a pixel times the perimeter; a staircase along a slanted shore is longer than the shore, on average 4/pi
times). `area_p05_km2` to `area_p95_km2`: of what the model's temperature makes of its answers, the pixels of the lake
with a calibrated probability of 0.95 or more, and those with 0.05 or more in the lake or up to `REACH_PX` around it
and joined to it: the 90 % interval where all pixels of a shore err together, which is the widest case.
"""

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

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
from glidexp.mapping import heights
from glidexp.mapping.polygons import Geometries, smoothed, window_of
from glidexp.mapping.runs import Runs, runs_of
from glidexp.mapping.workfiles import INVALID, LIKELY, STEPS, SURE

if TYPE_CHECKING:
    from glidexp.mapping.spread import Votes

Floats = npt.NDArray[np.float64]
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
OF_MEANS = ("agreement", "area_sd_km2")
"""further ones of a mean of networks, which stand after its mean probability"""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What the map says within the outlines, a value each."""

    area: Floats
    """pixels; a filled hole belongs to the lake, whatever its pixels say"""
    total: Floats
    """sum of the probabilities, in steps"""
    sure: Floats
    likely: Floats
    """pixels; NaN where the model has no temperature"""
    cut: npt.NDArray[np.bool_]
    """touches pixels without data or the scene's edge"""


def measured(
    scene: Scene,
    outlines: Geometries,
    levels_HW: Any,
    marks_HW: Any,
    mask_HW: Any,
    *,
    smooth: int,
    calibrated: bool,
    votes: "Votes | None" = None,
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
        votes: of the networks of a mean; the table then has `OF_MEANS`
    """
    columns = columns_of(votes is not None)
    if not len(outlines):
        return outlines, pd.DataFrame(columns=columns)
    shapes = shapely.transform(smoothed(outlines, smooth), scene.xy, interleaved=False)
    met = pixels_in(outlines, levels_HW, marks_HW, mask_HW, calibrated=calibrated)
    area, perimeter, lon, lat = geodesic(scene.crs, shapes)
    ground, stairs = area, perimeter
    if smooth:
        ground, stairs, _, _ = geodesic(scene.crs, shapely.transform(outlines, scene.xy, interleaved=False))
    pixel_m2 = ground / met.area
    bound = 0.5 * np.sqrt(pixel_m2) * stairs * np.pi / 4
    table = {
        "area_km2": area / 1e6,
        "area_low_km2": np.maximum(area - bound, 0.0) / 1e6,
        "area_high_km2": (area + bound) / 1e6,
        "area_p05_km2": met.sure * pixel_m2 / 1e6,
        "area_p95_km2": met.likely * pixel_m2 / 1e6,
        "perimeter_km": perimeter / 1e3,
        "area_px": met.area.astype(np.int64),
        "mean_probability": met.total / met.area / STEPS,
        "cut": met.cut,
        "lon": lon,
        "lat": lat,
        "size_class": size_of(area / 1e6),
    }
    if votes is not None:
        agreement, sd_px = votes.of_lakes(outlines, mask_HW)
        table |= {"agreement": agreement, "area_sd_km2": sd_px * pixel_m2 / 1e6}
    return shapes, pd.DataFrame({name: table[name] for name in columns if name in table})


def columns_of(of_mean: bool, over_dem: bool = False) -> list[str]:
    """Of the table of lakes of a single network or of a mean of several, without a DEM or over one."""
    mean, ice = (COLUMNS.index(name) + 1 for name in ("mean_probability", "within_10km"))
    return [*COLUMNS[:mean], *OF_MEANS * of_mean, *COLUMNS[mean:ice], *heights.COLUMNS * over_dem, *COLUMNS[ice:]]


def pixels_in(outlines: Geometries, levels_HW: Any, marks_HW: Any, mask_HW: Any, *, calibrated: bool) -> Pixels:
    """Counts within outlines."""
    height, width = mask_HW.shape
    runs, n = runs_of(outlines), len(outlines)
    levels, marks = np.asarray(levels_HW).reshape(-1), np.asarray(marks_HW).reshape(-1)
    area = np.bincount(runs.number, weights=runs.last - runs.first, minlength=n).astype(np.float64)
    total = np.zeros(n)
    sure = likely = np.full(n, np.nan)
    if calibrated:
        sure = np.zeros(n)
        around = [joined_px(i, one, runs, marks_HW, LIKELY, mask_HW, whole=True) for i, one in enumerate(outlines)]
        likely = np.array(around, np.float64)
    for numbers, places in runs.pixels(width):
        total += np.bincount(numbers, weights=levels[places], minlength=n)
        if calibrated:
            sure += np.bincount(numbers, weights=(marks[places] & SURE) > 0, minlength=n)
    left, top, right, bottom = shapely.bounds(outlines).T
    cut = (left <= 0) | (top <= 0) | (right >= width) | (bottom >= height)
    if any(int(marks_HW[row : row + STRIP_PX].max()) >= INVALID for row in range(0, height, STRIP_PX)):
        for numbers, places in runs.grown(height, width).pixels(width):
            cut |= np.bincount(numbers, weights=(marks[places] & INVALID) > 0, minlength=n) > 0
    return Pixels(area, total, sure, likely, np.asarray(cut, dtype=bool))


def joined_px(number: int, outline: Any, runs: Runs, bits_HW: Any, bit: int, mask_HW: Any, *, whole: bool) -> int:
    """Pixels of a lake that have a bit, and those up to `REACH_PX` around that are joined to them, in strips of rows.

    Args:
        number: of the outline in `runs`
        outline: polygon in pixels
        runs: of all outlines
        bits_HW: a byte a pixel
        bit: that is looked for
        mask_HW: 1 lake: those of other lakes do not count
        whole: all pixels within the outline count, whatever their bits
    """
    from scipy import ndimage

    height, width = mask_HW.shape
    first, last, left, right = window_of(outline, (height, width), REACH_PX)
    found, square = 0, np.ones((3, 3))
    for top in range(first, last, STRIP_PX):
        bottom = min(top + STRIP_PX, last)
        # what lies beyond the strip can reach into it
        high, low = max(top - REACH_PX, 0), min(bottom + REACH_PX, height)
        inside = runs.drawn(number, (high, low, left, right))
        other = (np.asarray(mask_HW[high:low, left:right]) == 1) & ~inside
        there = ((np.asarray(bits_HW[high:low, left:right]) & bit) > 0) & ~other
        taken = inside if whole else inside & there
        if (there & ~inside).any():
            taken = ndimage.binary_dilation(taken, square, iterations=REACH_PX, mask=there | taken)
        found += int(taken[top - high : bottom - high].sum())
    return found


def geodesic(crs: pyproj.CRS, geometries: Geometries) -> tuple[Floats, Floats, Floats, Floats]:
    """Area m2 and perimeter m (holes included) on WGS 84, and longitude and latitude of the centroid, a value each."""
    area, perimeter = on_ellipsoid(shapely.transform(geometries, partial(to_lonlat, crs), interleaved=False))
    lon, lat = to_lonlat(crs, *shapely.get_coordinates(shapely.centroid(geometries)).T)
    # degrees of a file may run from 0 to 360, or on beyond 180
    return area, perimeter, np.where(lon > 180, lon - 360, np.where(lon < -180, lon + 360, lon)), lat


def on_ellipsoid(lonlat: Geometries) -> tuple[Floats, Floats]:
    """Area m2 and perimeter m of polygons in degrees, a value each; shores of islands count."""
    parts, of_part = shapely.get_parts(lonlat, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    xy, of_point = shapely.get_coordinates(rings, return_index=True)
    points = np.bincount(of_point, minlength=len(rings))
    ends = np.cumsum(points)
    found = [GEOD.polygon_area_perimeter(*xy[b:e].T) for b, e in zip(ends - points, ends, strict=True)]
    sums = np.abs(np.array(found, np.float64).reshape(-1, 2))
    # a hole follows its shore; which way round a ring runs is not seen in degrees that jump at 180
    sums[np.diff(of_ring, prepend=-1) == 0, 0] *= -1
    owner, n = of_part[of_ring], len(lonlat)
    area, perimeter = (np.bincount(owner, weights=some, minlength=n).astype(np.float64) for some in sums.T)
    return area, perimeter


def to_ice(scene: Scene, shapes: Geometries, glaciers: Inventory | None) -> Floats:
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
