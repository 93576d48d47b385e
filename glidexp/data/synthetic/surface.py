"""From ground to reflectance: what covers each pixel, how it is lit, and what the air in between adds."""

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from glidexp.data.synthetic.lakes import Lake, rasterise
from glidexp.data.synthetic.noise import Field, fractal
from glidexp.data.synthetic.regions import Colour, Region
from glidexp.data.synthetic.terrain import Mask, Terrain

CLASSES: dict[str, int] = {
    "nodata": 0, "rock": 1, "vegetation": 2, "moraine": 3, "snow": 4, "glacier": 5, "debris_ice": 6, "river": 7,
    "lake": 8, "frozen_lake": 9, "shadow": 10, "cloud": 11, "cloud_shadow": 12,
}  # fmt: skip
"""Codes of the truth class maps. A lake stays a lake under shadow and thin cloud, as it does in an inventory."""


@dataclass(slots=True)
class Ground:
    """The covers of a scene before light: truth codes, reflectance, and what light needs."""

    codes: NDArray[np.uint8]
    reflectance: NDArray[np.float32]
    """(3, side, side), red green blue"""
    height: Field
    water: Mask


@dataclass(frozen=True, slots=True)
class Sky:
    """Light and air of one acquisition."""

    sun_elevation_deg: float
    sun_azimuth_deg: float
    haze: float
    """0 clear, 1 thick"""
    cloud_share: float
    taken: date


def _mix(out: NDArray[np.float32], where: Field | Mask, colour: Colour | NDArray[np.float32]) -> None:
    """Blends a colour, or a (3, side, side) picture, over `out` with opacity `where`, in place."""
    for band in range(3):
        out[band] += (colour[band] - out[band]) * where


def _soft(value: Field, width: float) -> Field:
    """0 below -width, 1 above width, straight in between."""
    return np.clip(value / (2 * width) + 0.5, 0, 1).astype(np.float32)


def river_mask(terrain: Terrain) -> Mask:
    """Streams drawn along their courses, wider downstream."""
    side = terrain.height.shape[0]
    image = Image.new("L", (side * 2, side * 2))
    pen = ImageDraw.Draw(image)
    for course in terrain.paths:
        for i in range(0, len(course) - 1, 3):
            part = course[i : i + 4]
            width = 0.5 + 0.085 * math.sqrt(float(part[0, 2])) * side / 1024
            pen.line(
                [(float(x) * 2, float(y) * 2) for x, y in part[:, :2]], fill=255, width=max(int(round(width * 2)), 1)
            )
    return np.asarray(image.resize((side, side), Image.Resampling.BOX)) > 110


def lake_colour(lake: Lake) -> NDArray[np.float64]:
    """Reflectance of open water: clear and deep is nearly black-blue, rock flour turns it turquoise, mud grey-green."""
    clear_deep, clear_shallow = np.array([0.010, 0.022, 0.036]), np.array([0.035, 0.075, 0.085])
    turquoise, milky, mud = (
        np.array([0.055, 0.150, 0.165]),
        np.array([0.150, 0.205, 0.200]),
        np.array([0.195, 0.195, 0.165]),
    )
    base = clear_deep * lake.depth + clear_shallow * (1 - lake.depth)
    stops = np.stack([base, base * 0.7 + turquoise * 0.3, turquoise, milky, mud])
    at = lake.turbidity * 4
    i = min(int(at), 3)
    return stops[i] * (i + 1 - at) + stops[i + 1] * (at - i)


def build_ground(
    rng: np.random.Generator,
    terrain: Terrain,
    ice: Mask,
    ice_dist: Field,
    ice_depth: Field,
    lakes: list[Lake],
    region: Region,
) -> Ground:
    """Paints covers from the ground up: rock, vegetation, moraine, snow, ice with debris, rivers, lakes."""
    side = terrain.height.shape[0]
    unit = side / 128
    rough, patch, fine = fractal(rng, side, 2.0), fractal(rng, side, 2.8), fractal(rng, side, 1.2, longest_px=12)
    gy, gx = np.gradient(ndimage.gaussian_filter(terrain.height, 1.5))
    slope = (np.hypot(gy, gx) * side).astype(np.float32)
    z, ela = terrain.height, terrain.ela
    codes = np.full((side, side), CLASSES["rock"], np.uint8)
    r = np.empty((3, side, side), np.float32)
    tone = _soft(patch, 1.2)
    for band in range(3):
        r[band] = region.rock[0][band] * tone + region.rock[1][band] * (1 - tone)
    r *= np.exp(0.20 * rough + 0.08 * fine)

    green = _soft((ela - region.vegetation_line - z) / 0.06 + 0.8 * patch - np.clip(slope - 2.5, 0, 4), 0.6) * ~ice
    shade = _soft(rough, 1.0)
    meadow = np.stack([region.vegetation[0][b] * shade + region.vegetation[1][b] * (1 - shade) for b in range(3)])
    _mix(r, green, meadow * np.exp(0.12 * fine + 0.08 * rough))
    codes[green > 0.5] = CLASSES["vegetation"]

    front = np.exp(-ice_dist / (2.2 * unit)) * (z < ela) * np.exp(-terrain.above_channel / 0.06) * ~ice
    till = _soft(front - 0.35 + 0.12 * patch, 0.12)
    _mix(r, till, np.asarray(region.moraine)[:, None, None] * np.exp(0.16 * rough + 0.12 * fine))
    codes[till > 0.5] = CLASSES["moraine"]

    line = ela + float(rng.uniform(*region.snow_line))
    snow = _soft((z - line) / 0.05 + 0.7 * rough - np.clip(slope - 3.0, -1, 5) * 0.9, 0.35)
    white = np.array([0.82, 0.84, 0.87])[:, None, None] * np.exp(0.035 * rough + 0.015 * fine)
    _mix(r, snow * ~ice, white)
    codes[(snow > 0.5) & ~ice] = CLASSES["snow"]

    _paint_ice(rng, r, codes, terrain, ice, ice_depth, region, white, rough, fine)

    river = river_mask(terrain) & ~ice & (z < line)
    silt = np.array([0.150, 0.155, 0.140]) * float(rng.uniform(0.6, 1.15))
    _mix(r, river.astype(np.float32) * 0.85, silt[:, None, None] * np.exp(0.10 * rough))
    codes[river] = CLASSES["river"]
    height, water = _paint_lakes(rng, r, codes, terrain.height, lakes, rough)
    return Ground(codes, np.clip(r, 0.003, 1.0), height, water)


def _paint_ice(rng, r, codes, terrain, ice, ice_depth, region, white, rough, fine) -> None:  # noqa: ANN001
    side = ice.shape[0]
    unit = side / 128
    streak = ndimage.gaussian_filter(rough, 1.0) * 0.6
    bands = np.sin(ice_depth / unit * 2.6 + 2.2 * fractal(rng, side, 3.4)).astype(np.float32)
    firn = _soft((terrain.height - terrain.ela + 0.02) / 0.04 + 0.6 * rough, 0.6)
    bare = np.asarray(region.ice)[:, None, None] * np.exp(0.10 * bands + 0.10 * streak + 0.05 * fine)
    body = bare * (1 - firn) + white * firn
    _mix(r, ice.astype(np.float32), body)
    low = np.clip((terrain.ela - terrain.height) / 0.12, 0, 1.6)
    margin = np.exp(-ice_depth / (0.7 * unit))
    cover = _soft(region.debris * low * 1.5 + 0.9 * margin * low + 0.35 * bands * low + 0.2 * rough - 0.75, 0.2)
    cover *= ice
    rubble = np.asarray(region.moraine)[:, None, None] * 0.92 * np.exp(0.22 * rough + 0.14 * fine)
    _mix(r, cover, rubble)
    codes[ice] = CLASSES["glacier"]
    codes[cover > 0.5] = CLASSES["debris_ice"]


def _paint_lakes(rng, r, codes, height, lakes: list[Lake], rough) -> tuple[Field, Mask]:  # noqa: ANN001
    side = height.shape[0]
    ids = rasterise([lake.polygon for lake in lakes], list(range(1, len(lakes) + 1)), (side, side))
    water = ids > 0
    if not lakes:
        return height, water
    table = np.zeros((len(lakes) + 1, 3), np.float32)
    ice_table = np.zeros(len(lakes) + 1, bool)
    for i, lake in enumerate(lakes, 1):
        ice_table[i] = lake.frozen
        table[i] = lake_colour(lake) if not lake.frozen else np.array([0.50, 0.56, 0.60]) * rng.uniform(0.7, 1.25)
    plume = np.exp(0.07 * fractal(rng, side, 3.6, longest_px=side / 8))
    crack = 1 + 0.08 * np.clip(rough, -1, 1)
    frozen = ice_table[ids]
    shore = np.clip(ndimage.distance_transform_edt(water) / 4.0, 0, 1).astype(np.float32)
    for band in range(3):
        colour = table[:, band][ids] * np.where(frozen, crack, plume)
        # the bed shines through near the shore
        r[band] = np.where(water, colour + (1 - shore) * np.where(frozen, 0.0, 0.03), r[band])
    codes[water] = CLASSES["lake"]
    codes[frozen] = CLASSES["frozen_lake"]
    mean = np.asarray(ndimage.mean(height, ids, np.arange(len(lakes) + 1)), np.float32)
    return np.where(water, mean[ids], height).astype(np.float32), water


def cast_shadow(height_px: Field, elevation_deg: float, azimuth_deg: float) -> Field:
    """Soft mask of terrain shadow, 1 in shadow.

    Args:
        height_px: (side, side) height in pixel widths
        elevation_deg: of the sun above the horizon
        azimuth_deg: of the sun, clockwise from north (up)

    The highest ray of light blocked at x is max over distances d of z(x + d) - d tan(elevation); doubling the
    distance covered at each pass finds it in log2 steps.
    """
    drop = math.tan(math.radians(elevation_deg))
    step_x, step_y = math.sin(math.radians(azimuth_deg)), -math.cos(math.radians(azimuth_deg))
    blocked = height_px - np.float32(1e-3)
    reach = 1
    while reach < height_px.shape[0] // 3:
        dx, dy = round(step_x * reach), round(step_y * reach)
        shifted = _shift(blocked, dy, dx) - np.float32(math.hypot(dx, dy) * drop)
        blocked = np.maximum(blocked, shifted)
        reach *= 2
    return np.clip((blocked - height_px) / 1.5, 0, 1).astype(np.float32)


def _shift(field: Field, dy: int, dx: int) -> Field:
    """field[y + dy, x + dx], the rim repeated."""
    side = field.shape[0]
    rows = np.clip(np.arange(side) + dy, 0, side - 1)
    cols = np.clip(np.arange(side) + dx, 0, side - 1)
    return field[rows[:, None], cols[None, :]]


def light(rng: np.random.Generator, ground: Ground, sky: Sky, relief_px: float) -> NDArray[np.float32]:
    """Top-of-atmosphere reflectance (3, side, side) of the lit ground; writes shadow and cloud into `ground.codes`.

    Args:
        rng: generator of the clouds
        ground: painted ground
        sky: light and air
        relief_px: scene's relief in pixel widths
    """
    zenith = math.radians(90 - sky.sun_elevation_deg)
    azimuth = math.radians(sky.sun_azimuth_deg)
    z = ground.height * np.float32(relief_px)
    gy, gx = np.gradient(z)
    sun = (math.sin(zenith) * math.sin(azimuth), -math.sin(zenith) * math.cos(azimuth), math.cos(zenith))
    facing = (-gx * sun[0] - gy * sun[1] + sun[2]) / np.sqrt(gx * gx + gy * gy + 1)
    shadow = cast_shadow(z, sky.sun_elevation_deg, sky.sun_azimuth_deg)
    direct = np.clip(facing / sun[2], 0, 2.0) * (1 - shadow)
    lakes = (ground.codes == CLASSES["lake"]) | (ground.codes == CLASSES["frozen_lake"])
    dark = (direct < 0.25) & ~lakes
    ground.codes[dark] = CLASSES["shadow"]

    cloud, cloud_shadow = _clouds(rng, ground.water, sky)
    direct = direct * (1 - 0.75 * cloud_shadow)
    ground.codes[(cloud_shadow > 0.5) & ~lakes] = CLASSES["cloud_shadow"]
    diffuse = (0.11, 0.15, 0.21)
    path = (0.012, 0.022, 0.042)
    veil = (0.055, 0.065, 0.080)
    out = ground.reflectance
    for band in range(3):
        lit = out[band] * (direct * (1 - diffuse[band]) + diffuse[band])
        lit = lit * (1 - 0.22 * sky.haze) + path[band] + veil[band] * sky.haze
        out[band] = lit + (0.72 - lit) * cloud
    ground.codes[(cloud > 0.5) & ~lakes] = CLASSES["cloud"]
    return out


def _clouds(rng: np.random.Generator, water: Mask, sky: Sky) -> tuple[Field, Field]:
    """Opacity of clouds and of their shadows; of several skies the one that hides the least water is taken."""
    side = water.shape[0]
    field = fractal(rng, side, 3.0)
    if sky.cloud_share <= 0:
        return np.zeros_like(field), np.zeros_like(field)
    field = field + 0.25 * fractal(rng, side, 2.2)
    offsets = rng.integers(0, side, (8, 2))
    level = float(np.quantile(field[::4, ::4], 1 - sky.cloud_share))
    over = [int((np.roll(field, tuple(o), (0, 1)) > level)[water].sum()) for o in offsets.tolist()]
    field = np.roll(field, tuple(offsets[int(np.argmin(over))].tolist()), (0, 1))
    opacity = np.clip((field - level) * 1.6, 0, 1).astype(np.float32)
    far = side / 22
    dx = -math.sin(math.radians(sky.sun_azimuth_deg)) * far
    dy = math.cos(math.radians(sky.sun_azimuth_deg)) * far
    shadow = ndimage.gaussian_filter(np.roll(opacity, (round(dy), round(dx)), (0, 1)), 1.5)
    thin = 1 - 0.7 * ndimage.gaussian_filter(water.astype(np.float32), 3)
    return opacity * thin, shadow * (1 - opacity) * thin


def expose(rng: np.random.Generator, reflectance: NDArray[np.float32], radiometry) -> NDArray[np.uint16]:  # noqa: ANN001
    """Point spread, gain, noise, quantising: (3, side, side) reflectance to uint16 numbers of at least 1 (0 is nodata)."""
    out = np.empty(reflectance.shape, np.uint16)
    for band in range(3):
        seen = ndimage.gaussian_filter(reflectance[band], radiometry.psf_sigma_px, truncate=3.0)
        signal = seen * radiometry.gain[band] + radiometry.offset
        noise = rng.standard_normal(signal.shape, np.float32)
        signal += noise * np.sqrt(radiometry.shot * np.maximum(signal, 0) + radiometry.read**2)
        levels = np.rint(signal / radiometry.step) * radiometry.step
        out[band] = np.clip(levels, 1, radiometry.top)
    return out
