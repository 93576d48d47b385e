"""What covers the ground and how bright it is in even light: rock, plants, moraine, snow, ice, rivers, lakes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from glidexp.data.synthetic.lakes import Lake, rasterise
from glidexp.data.synthetic.noise import Field, fractal
from glidexp.data.synthetic.regions import Colour, Region
from glidexp.data.synthetic.terrain import Ice, Mask, Terrain

CLASSES: dict[str, int] = {
    "nodata": 0, "rock": 1, "vegetation": 2, "moraine": 3, "snow": 4, "glacier": 5, "debris_ice": 6, "river": 7,
    "lake": 8, "frozen_lake": 9, "shadow": 10, "cloud": 11, "cloud_shadow": 12,
}  # fmt: skip
"""Codes of the truth class maps. A lake stays a lake under shadow and thin cloud, as it does in an inventory."""
SNOW: Colour = (0.66, 0.68, 0.70, 0.60)
LAKE_ICE: Colour = (0.50, 0.56, 0.60, 0.36)
MELT_WATER: Colour = (0.10, 0.26, 0.42, 0.030)
SILT: Colour = (0.150, 0.155, 0.140, 0.105)
BED = (0.06, 0.06, 0.06, 0.008)
"""what the bed adds near a shore; near infrared hardly comes back through water"""


@dataclass(slots=True)
class Ground:
    """The covers of a scene before light: truth codes, reflectance, and what light needs."""

    codes: NDArray[np.uint8]
    reflectance: NDArray[np.float32]
    """(bands, side, side), red green blue, and near infrared where it was asked for"""
    height: Field
    """flat on lakes"""
    water: Mask


class Canvas:
    """A scene being painted: reflectance, class codes, and the three textures that every cover shares."""

    def __init__(self, rng: np.random.Generator, side: int, bands: int) -> None:
        self.reflectance = np.zeros((bands, side, side), np.float32)
        self.codes = np.full((side, side), CLASSES["rock"], np.uint8)
        self.rough = fractal(rng, side, 2.0)
        self.patch = fractal(rng, side, 2.8)
        self.fine = fractal(rng, side, 1.2, longest_px=12)

    def texture(self, rough: float, fine: float) -> Field:
        """Brightness factor around 1 with the given contrast of coarse and fine grain."""
        return np.exp(np.float32(rough) * self.rough + np.float32(fine) * self.fine)

    def paint(self, where: Field, colour: Sequence[float] | list[Field], texture: Field, name: str) -> None:
        """Blends a colour (or one picture a band) times a texture over the scene, with opacity `where` of 0-1."""
        for band in range(len(self.reflectance)):
            value = colour[band]
            layer = texture * (value if isinstance(value, np.ndarray) else np.float32(value))
            layer -= self.reflectance[band]
            layer *= where
            self.reflectance[band] += layer
        self.codes[where > 0.5] = CLASSES[name]

    def between(self, first: Colour, second: Colour, share: Field) -> list[Field]:
        """A picture a band: `first` where share is 1, `second` where it is 0."""
        return [first[b] * share + second[b] * (1 - share) for b in range(len(self.reflectance))]


def _soft(value: Field, width: float) -> Field:
    """0 below -width, 1 above width, straight in between."""
    return np.clip(value / (2 * width) + 0.5, 0, 1).astype(np.float32)


def build_ground(
    rng: np.random.Generator, terrain: Terrain, ice: Ice, lakes: list[Lake], region: Region, *, bands: int = 3
) -> Ground:
    """Paints covers from the ground up: rock, vegetation, moraine, snow, ice with debris, rivers, lakes.

    Args:
        rng: generator of this scene
        terrain: the ground
        ice: its glaciers
        lakes: in pixel coordinates
        region: palette and shares
        bands: 3, or 4 with near infrared, which changes nothing of the others
    """
    z, ela, side = terrain.height, terrain.ela, terrain.height.shape[0]
    canvas = Canvas(rng, side, bands)
    rough, patch = canvas.rough, canvas.patch
    gy, gx = np.gradient(ndimage.gaussian_filter(z, 1.5))
    slope = (np.hypot(gy, gx) * side).astype(np.float32)
    everywhere = np.ones_like(z)
    canvas.paint(everywhere, canvas.between(*region.rock, _soft(patch, 1.2)), canvas.texture(0.20, 0.08), "rock")

    green = _soft((ela - region.vegetation_line - z) / 0.06 + 0.8 * patch - np.clip(slope - 2.5, 0, 4), 0.6)
    meadow = canvas.between(*region.vegetation, _soft(rough, 1.0))
    canvas.paint(green * ~ice.mask, meadow, canvas.texture(0.08, 0.12), "vegetation")
    del gx, gy, green, meadow, everywhere  # memory

    reach = np.exp(-ice.outside_px / (2.2 * side / 128)) * np.exp(-terrain.above_channel / 0.06)
    till = _soft(reach * (z < ela) * ~ice.mask - 0.35 + 0.12 * patch, 0.12)
    canvas.paint(till, region.moraine, canvas.texture(0.16, 0.12), "moraine")

    line = ela + float(rng.uniform(*region.snow_line))
    snow = _soft((z - line) / 0.05 + 0.7 * rough - np.clip(slope - 3.0, -1, 5) * 0.9, 0.35)
    canvas.paint(snow * ~ice.mask, SNOW, canvas.texture(0.035, 0.015), "snow")
    del slope, reach, till, snow  # memory
    _paint_ice(rng, canvas, terrain, ice, region)

    river = (river_mask(terrain) & ~ice.mask & (z < line)).astype(np.float32)
    load = float(rng.uniform(0.6, 1.15))
    silt = [c * load for c in SILT]
    canvas.paint(river * np.float32(0.85), silt, canvas.texture(0.10, 0.0), "river")
    height, water = _paint_lakes(rng, canvas, z, lakes)
    np.clip(canvas.reflectance, 0.003, 1.0, out=canvas.reflectance)
    return Ground(canvas.codes, canvas.reflectance, height, water)


def _paint_ice(rng: np.random.Generator, canvas: Canvas, terrain: Terrain, ice: Ice, region: Region) -> None:
    """Firn above the equilibrium line, banded ice below it, debris towards the snout, the rims and medial moraines."""
    unit = canvas.codes.shape[0] / 128
    drift = fractal(rng, canvas.codes.shape[0], 3.6)
    # lines of equal distance to the rim run along the flow, which is what flow bands and medial moraines do
    bands = np.sin(ice.inside_px * np.float32(1.5 / unit) + 2.6 * drift)
    medial = 5 * np.clip(np.sin(ice.inside_px * np.float32(1.1 / unit) + 3.1 + 2.0 * drift) - 0.80, 0, 0.2)
    firn = _soft((terrain.height - terrain.ela + 0.02) / 0.04 + 0.6 * canvas.rough, 0.6)
    canvas.paint(ice.mask * (1 - firn), region.ice, canvas.texture(0.06, 0.05) * np.exp(0.05 * bands), "glacier")
    canvas.paint(ice.mask * firn, SNOW, canvas.texture(0.035, 0.015), "glacier")
    low = np.clip((terrain.ela - terrain.height) / 0.12, 0, 1.6)
    rim = np.exp(-ice.inside_px / (0.7 * unit))
    cover = low * (1.6 * region.debris + 0.7 * rim + 0.5 * medial + 0.12 * bands) + 0.28 * canvas.patch - 0.8
    canvas.codes[ice.mask] = CLASSES["glacier"]
    canvas.paint(
        _soft(cover, 0.3) * ice.mask, region.moraine, np.float32(0.92) * canvas.texture(0.22, 0.14), "debris_ice"
    )


def river_mask(terrain: Terrain) -> Mask:
    """Streams drawn along their courses, wider downstream."""
    side = terrain.height.shape[0]
    image = Image.new("L", (side * 2, side * 2))
    pen = ImageDraw.Draw(image)
    for course in terrain.paths:
        for i in range(0, len(course) - 1, 3):
            part = course[i : i + 4]
            pulse = 0.75 + 0.35 * math.sin(0.21 * i) * math.sin(0.083 * i + 1.0)
            width = 0.7 + 0.13 * pulse * math.sqrt(float(part[0, 2])) * side / 1024
            pen.line((part[:, :2] * 2).ravel().tolist(), fill=255, width=max(round(width * 2), 1))
    return np.asarray(image.resize((side, side), Image.Resampling.BOX)) > 110


def lake_colour(lake: Lake) -> NDArray[np.float64]:
    """Reflectance of water: clear and deep is nearly black, rock flour turns it turquoise, mud grey-green.

    In near infrared water is dark, the less so the more it carries.
    """
    if lake.kind == "supraglacial" and lake.turbidity < 0.6:
        return np.array(MELT_WATER) * (1.25 - 0.75 * lake.depth)
    deep, shallow = np.array([0.014, 0.040, 0.062, 0.008]), np.array([0.032, 0.085, 0.100, 0.014])
    turquoise, milky, mud = np.array(
        [[0.050, 0.150, 0.170, 0.028], [0.120, 0.200, 0.205, 0.068], [0.165, 0.186, 0.165, 0.115]]
    )
    clear = deep * lake.depth + shallow * (1 - lake.depth)
    stops = np.stack([clear, clear * 0.7 + turquoise * 0.3, turquoise, milky, mud])
    at = lake.turbidity * 4
    i = min(int(at), 3)
    return stops[i] * (i + 1 - at) + stops[i + 1] * (at - i)


def _paint_lakes(rng: np.random.Generator, canvas: Canvas, height: Field, lakes: list[Lake]) -> tuple[Field, Mask]:
    """Even water or lake ice over the lakes; hands back the height with flat lakes, and the water mask."""
    side = height.shape[0]
    plume = fractal(rng, side, 3.6, longest_px=side / 8)
    ids = rasterise([lake.polygon for lake in lakes], list(range(1, len(lakes) + 1)), (side, side))
    water = ids > 0
    if not lakes:
        return height, water
    colour, is_ice = np.zeros((len(lakes) + 1, 4), np.float32), np.zeros(len(lakes) + 1, bool)
    for i, lake in enumerate(lakes, 1):
        is_ice[i] = lake.frozen
        colour[i] = np.array(LAKE_ICE) * rng.uniform(0.7, 1.25) if lake.frozen else lake_colour(lake)
    inner = ids[water]
    frozen = is_ice[inner]
    grain = np.where(frozen, 1 + 0.08 * np.clip(canvas.rough[water], -1, 1), np.exp(0.07 * plume[water]))
    inland = ndimage.uniform_filter(water.astype(np.float32), 7)[water]
    shore = np.clip(1 - inland, 0, 0.5)
    for band, picture in enumerate(canvas.reflectance):
        bed = np.where(frozen, 0.0, BED[band] * shore)  # the bed shines through near the shore
        picture[water] = colour[:, band][inner] * grain + bed
    canvas.codes[water] = np.where(frozen, CLASSES["frozen_lake"], CLASSES["lake"])
    level = np.bincount(inner, weights=height[water]) / np.maximum(np.bincount(inner), 1)
    height = height.copy()
    height[water] = level[inner]
    return height, water
