"""Lakes: how many and how large, where on the terrain, and the outline as a level set that follows the ground."""

import math
from dataclasses import dataclass
from itertools import pairwise

import contourpy
import numpy as np
import shapely
import shapely.affinity
from scipy import ndimage
from shapely.geometry import Polygon

from glidexp.data.synthetic.noise import Field, fractal
from glidexp.data.synthetic.regions import Region
from glidexp.data.synthetic.terrain import Ice, Terrain

SIZE_EXPONENT = 0.9
"""b of N(>A) ~ A^-b; inventories of glacial lakes give about 0.8 to 1.1 above their smallest sizes"""
SMALLEST_PX, LARGEST_SHARE = 36.0, 0.022
"""area of the smallest lake in pixels, and of the largest as a share of the scene"""
LAKE_SHARE = 0.042
"""wanted lake share of a scene"""
FILTER_M, GUARD_M = 10_000.0, 400.0
"""no lake lies within GUARD_M of the 10 km line, so that its kind does not hang on the map projection"""
KINDS = ("supraglacial", "proglacial", "ice_marginal", "unconnected", "nonglacial")
_BLOCKED = 4.0
BESIDE = ndimage.generate_binary_structure(2, 1)
"""a pixel's four neighbours"""


@dataclass(slots=True)
class Lake:
    """One lake in scene pixels (x right, y down, pixel corners at integers)."""

    polygon: Polygon
    kind: str
    frozen: bool
    turbidity: float
    depth: float
    """0 shallow, 1 deep and dark"""


def draw_areas(rng: np.random.Generator, scene_px: int) -> list[float]:
    """Areas in pixels from a truncated Pareto law until the wanted share of the scene is covered, largest first."""
    low, high, b = SMALLEST_PX, max(LARGEST_SHARE * scene_px**2, 4 * SMALLEST_PX), SIZE_EXPONENT
    wanted, areas = LAKE_SHARE * scene_px**2, list[float]()
    while sum(areas) < wanted:
        u = float(rng.random())
        areas.append((low**-b - u * (low**-b - high**-b)) ** (-1 / b))
    return sorted(areas, reverse=True)


def _weights(terrain: Terrain, ice: Ice, gsd_m: float, slope: Field) -> dict[str, Field]:
    """Where each kind of lake may start: relative probability a pixel."""
    side = terrain.height.shape[0]
    unit = side / 128
    height, on_ice, ice_dist = terrain.height, ice.mask, ice.outside_px
    low_ground = np.exp(-terrain.above_channel / 0.02)
    flat = np.exp(-slope / 0.9)
    near = np.exp(-ice_dist / (3.0 * unit)) * ~on_ice
    below = height < terrain.ela + 0.02
    far_m = ice_dist * gsd_m
    glacial = ~on_ice & (far_m < FILTER_M - GUARD_M)
    weights = {
        "supraglacial": on_ice & below & (ice.inside_px > 0.8 * unit) & (slope < 4.0),
        "proglacial": near * low_ground * below * (terrain.wetness > 1.1),
        "ice_marginal": near * below * np.exp(-ice_dist / (1.0 * unit)),
        "unconnected": glacial * (ice_dist > 4 * unit) * low_ground * flat,
        "nonglacial": ~on_ice & (far_m > FILTER_M + GUARD_M),
    }
    return {kind: np.asarray(w, np.float32) for kind, w in weights.items()}


class Grower:
    """Grows lakes one after the other on a shared map of what is taken."""

    def __init__(self, rng: np.random.Generator, terrain: Terrain, ice: Ice, gsd_m: float, region: Region) -> None:
        self.rng, self.region, self.ice = rng, region, ice.mask
        self.glacial = ice.outside_px * gsd_m < FILTER_M + GUARD_M / 2
        self.side = terrain.height.shape[0]
        self.ground = ndimage.gaussian_filter(terrain.height, self.side / 400)
        self.taken = np.zeros((self.side, self.side), bool)
        # filtered once, not for each of some hundred windows
        self.texture = ndimage.spline_filter(fractal(rng, 256, 3.3, longest_px=90), order=2, mode="grid-wrap")

    def _noise(self, y: Field, x: Field, radius: float) -> Field:
        """A fresh window of the noise tile, at a scale that grows with the lake."""
        start = self.rng.random(2) * 256
        zoom = 26.0 / radius
        return ndimage.map_coordinates(
            self.texture,
            [y * zoom + start[0], x * zoom + start[1]],
            order=2,
            mode="grid-wrap",
            output=np.float32,
            prefilter=False,
        )

    def grow(self, seed: tuple[int, int], area_px: float, kind: str) -> Polygon | None:
        """A polygon of about `area_px` around the seed (row, col), or None where it does not fit.

        The outline is a level set of: height above the seed + squared distance in a stretched frame + fractal noise,
        with ice (or everything but ice, for supraglacial ponds) and older lakes as walls.
        """
        radius = math.sqrt(area_px / math.pi)
        reach = math.ceil(3.4 * radius) + 4
        row, col = seed
        if not (reach < 2 * row and reach < 2 * col and row + reach / 2 < self.side and col + reach / 2 < self.side):
            return None
        r0, r1 = max(row - reach, 2), min(row + reach + 1, self.side - 2)
        c0, c1 = max(col - reach, 2), min(col + reach + 1, self.side - 2)
        window = (slice(r0, r1), slice(c0, c1))
        wall = self.taken[window] | (~self.ice[window] if kind == "supraglacial" else self.ice[window])
        if kind == "nonglacial":
            wall = wall | self.glacial[window]
        if wall[row - r0, col - c0]:
            return None
        y, x = np.mgrid[r0 - row : r1 - row, c0 - col : c1 - col].astype(np.float32)
        angle = float(self.rng.random()) * math.pi
        stretch = math.sqrt(float(self.rng.uniform(*self.region.lake_elongation)))
        along = (x * math.cos(angle) + y * math.sin(angle)) / stretch
        across = (y * math.cos(angle) - x * math.sin(angle)) * stretch
        rise = (self.ground[window] - self.ground[row, col]) * (self.side / radius)
        pull = 0.0 if kind == "supraglacial" else 0.30
        ragged = 0.25 + 0.55 * self.region.lake_irregularity
        cost = (along**2 + across**2) / radius**2 * 0.7 + pull * np.clip(rise, -1.5, 6.0)
        cost = cost + ragged * self._noise(y, x, radius)
        cost = cost + 8.0 * np.clip(np.hypot(x, y) / reach - 0.62, 0, None)  # an outline must close inside its window
        cost = np.where(wall, _BLOCKED, np.minimum(cost, _BLOCKED)).astype(np.float32)
        cost[0], cost[-1], cost[:, 0], cost[:, -1] = (_BLOCKED,) * 4
        return self._outline(ndimage.gaussian_filter(cost, 0.8), (row - r0, col - c0), area_px, (r0, c0))

    def _outline(self, cost: Field, at: tuple[int, int], area_px: float, origin: tuple[int, int]) -> Polygon | None:
        low, high = float(cost[at]), _BLOCKED * 0.75
        if low >= high:
            return None
        for _ in range(9):
            level = 0.5 * (low + high)
            parts, _ = ndimage.label(cost < level, BESIDE)
            size = int((parts == parts[at]).sum()) if parts[at] else 0
            low, high = (level, high) if size < area_px else (low, level)
        lines = contourpy.contour_generator(z=cost, fill_type="OuterOffset").filled(-1e9, high)
        here = shapely.Point(at[1], at[0])
        for points, offsets in zip(*lines, strict=True):
            rings = [points[a:b] for a, b in pairwise(offsets)]
            polygon = Polygon(rings[0] + 0.5, [ring + 0.5 for ring in rings[1:]])
            if polygon.covers(shapely.Point(here.x + 0.5, here.y + 0.5)):
                return self._accept(polygon, area_px, origin)
        return None

    def _accept(self, polygon: Polygon, area_px: float, origin: tuple[int, int]) -> Polygon | None:
        islands = [ring for ring in polygon.interiors if Polygon(ring).area > 12]
        polygon = Polygon(polygon.exterior, islands).simplify(0.12)
        if not polygon.is_valid or not 0.7 * area_px < polygon.area < 1.5 * area_px:
            return None
        return shapely.affinity.translate(polygon, origin[1], origin[0])

    def take(self, polygon: Polygon) -> None:
        """Marks the lake and a shore of 3 pixels as taken."""
        x0, y0, x1, y1 = polygon.bounds
        r0, c0 = max(int(y0) - 5, 0), max(int(x0) - 5, 0)
        shape = (min(int(y1) + 6, self.side) - r0, min(int(x1) + 6, self.side) - c0)
        inside = rasterise([shapely.affinity.translate(polygon, -c0, -r0)], [1], shape) > 0
        self.taken[r0 : r0 + shape[0], c0 : c0 + shape[1]] |= ndimage.binary_dilation(inside, iterations=3)


def rasterise(polygons: list[Polygon], values: list[int], shape: tuple[int, int]) -> np.ndarray:
    """Polygons in pixel coordinates to an int32 raster; a pixel belongs to the polygon that holds its centre."""
    from rasterio.features import rasterize

    if not polygons:
        return np.zeros(shape, np.int32)
    return rasterize(zip(polygons, values, strict=True), out_shape=shape, dtype="int32")


def place_lakes(
    rng: np.random.Generator, terrain: Terrain, ice: Ice, shade: Field, gsd_m: float, region: Region
) -> list[Lake]:
    """Every lake of a scene, largest first, so that the size law holds as drawn.

    Args:
        rng: generator of this scene
        terrain: the ground
        ice: its glaciers
        shade: terrain shadow, 1 in shadow; few lakes start there, as an inventory drawn from pictures misses those
        gsd_m: metres a pixel
        region: shapes and colours
    """
    side = terrain.height.shape[0]
    gy, gx = np.gradient(ndimage.gaussian_filter(terrain.height, side / 250))
    slope = (np.hypot(gy, gx) * side).astype(np.float32)
    weights = _weights(terrain, ice, gsd_m, slope)
    stride = max(side // 256, 1)
    cumulative = {}
    for kind, weight in weights.items():
        w = (weight * (1 - 0.93 * shade))[stride // 2 :: stride, stride // 2 :: stride]
        total = np.cumsum(w, dtype=np.float64)
        if total[-1] > 0:
            cumulative[kind] = (total / total[-1], w.shape[1])
    grower, lakes = Grower(rng, terrain, ice, gsd_m, region), list[Lake]()
    areas = draw_areas(rng, side)
    scene_area = side * side
    for area in areas:
        for _ in range(40):
            odds = _kind_odds(area, scene_area, cumulative)
            kind = str(rng.choice(list(odds), p=np.asarray(list(odds.values()))))
            table, width = cumulative[kind]
            cell = int(np.searchsorted(table, rng.random()))
            jitter = rng.integers(0, stride, 2)
            seed = (cell // width * stride + int(jitter[0]), cell % width * stride + int(jitter[1]))
            polygon = grower.grow((min(seed[0], side - 1), min(seed[1], side - 1)), area, kind)
            if polygon is not None:
                grower.take(polygon)
                lakes.append(_coloured(rng, polygon, kind, area / scene_area, region))
                break
    return lakes


def _kind_odds(area: float, scene_area: int, available: dict) -> dict[str, float]:
    """Large lakes dam up in front of ice or fill hollows; ponds on ice are small."""
    large = area > 0.002 * scene_area
    odds = {
        "supraglacial": 0.0 if large else 0.24,
        "proglacial": 0.45 if large else 0.22,
        "ice_marginal": 0.10 if large else 0.14,
        "unconnected": 0.45 if large else 0.40,
        "nonglacial": 0.0 if large else 0.05,
    }
    odds = {kind: odds[kind] for kind in odds if kind in available}
    total = sum(odds.values())
    return {kind: value / total for kind, value in odds.items()}


def _coloured(rng: np.random.Generator, polygon: Polygon, kind: str, share: float, region: Region) -> Lake:
    turbid = float(rng.beta(*region.lake_turbidity))
    if kind in ("unconnected", "nonglacial"):
        turbid *= 0.55  # no melt water arrives there directly
    # the ice goes last from high small lakes
    frozen = bool(rng.random() < region.frozen_share) and kind != "nonglacial" and share < 0.002
    depth = float(np.clip(0.35 + 0.13 * math.log10(max(share, 1e-6) * 1e5) + 0.2 * rng.standard_normal(), 0, 1))
    return Lake(polygon, kind, frozen, turbid, depth)
