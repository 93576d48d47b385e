"""From covers to digital numbers: sun and shadow, haze and clouds, the sensor's point spread, noise and quantising."""

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glidexp.data.synthetic.covers import CLASSES, Ground
from glidexp.data.synthetic.noise import Field, fractal
from glidexp.data.synthetic.regions import Colour, Radiometry
from glidexp.data.synthetic.terrain import Mask

SKY_LIGHT: Colour = (0.125, 0.190, 0.270, 0.075)
"""light of the sky as a share of full light; bluish, so shadows are"""
PATH: Colour = (0.012, 0.022, 0.042, 0.005)
"""reflectance that clear air adds"""
VEIL: Colour = (0.055, 0.065, 0.080, 0.045)
"""reflectance that full haze adds"""
CLOUD: Colour = (0.68, 0.70, 0.73, 0.72)


@dataclass(frozen=True, slots=True)
class Sky:
    """Light and air of one acquisition."""

    sun_elevation_deg: float
    sun_azimuth_deg: float
    haze: float
    """0 clear, 1 thick"""
    cloud_share: float
    taken: date


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
    """Top-of-atmosphere reflectance (bands, side, side) of the lit ground; writes shadow and cloud into `ground.codes`.

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
    direct = np.clip(facing / sun[2], 0, 1.5) * (1 - shadow)
    lakes = (ground.codes == CLASSES["lake"]) | (ground.codes == CLASSES["frozen_lake"])
    dark = (direct < 0.25) & ~lakes
    ground.codes[dark] = CLASSES["shadow"]

    # light from the open side of the sky keeps shadows from being as even as water
    ambient = np.clip(1.0 + 0.55 * (gx * sun[0] + gy * sun[1]) / np.sqrt(gx * gx + gy * gy + 0.2), 0.45, 1.6)
    ambient[lakes] = 1.0
    del z, gx, gy, facing, shadow, dark  # memory
    # water mirrors the sky, so terrain shadow on it is faint
    direct[lakes] = np.maximum(direct[lakes], 0.55)
    cloud, cloud_shadow = _clouds(rng, ground.water, sky)
    direct = direct * (1 - 0.75 * cloud_shadow)
    ground.codes[(cloud_shadow > 0.5) & ~lakes] = CLASSES["cloud_shadow"]
    out = ground.reflectance
    for band in range(len(out)):
        lit = out[band] * (direct * (1 - SKY_LIGHT[band]) + SKY_LIGHT[band] * ambient)
        lit = lit * (1 - 0.22 * sky.haze) + PATH[band] + VEIL[band] * sky.haze
        out[band] = lit + (CLOUD[band] - lit) * cloud
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


def expose(
    rng: np.random.Generator, reflectance: NDArray[np.float32], radiometry: Radiometry, beyond: np.random.Generator
) -> NDArray[np.uint16]:
    """Point spread, gain, noise, quantising: (bands, side, side) reflectance to uint16, at least 1 as 0 is nodata.

    Noise of red, green and blue is drawn from `rng`, of a fourth band from `beyond`: so it changes nothing of theirs.
    """
    out = np.empty(reflectance.shape, np.uint16)
    for band in range(len(reflectance)):
        seen = ndimage.gaussian_filter(reflectance[band], radiometry.psf_sigma_px, truncate=3.0)
        signal = seen * radiometry.gain[band] + radiometry.offset
        noise = (rng if band < 3 else beyond).standard_normal(signal.shape, np.float32)
        signal += noise * np.sqrt(radiometry.shot * np.maximum(signal, 0) + radiometry.read**2)
        levels = np.rint(signal / radiometry.step) * radiometry.step
        out[band] = np.clip(levels, 1, radiometry.top)
    return out
