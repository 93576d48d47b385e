"""A picture of a mapped scene: the image made small, lakes outlined over it, scale bar, north, what it was made of."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from PIL import Image, ImageDraw, ImageFont

from glidexp.beside import beside
from glidexp.data.builder.parts import writing
from glidexp.data.show.fonts import draw_text, text_length
from glidexp.mapping.polygons import Geometries

LINE, CASING, FILL = (255, 221, 0, 255), (0, 0, 0, 150), (0, 200, 255, 70)
"""the line has dark sides, so that it is seen on snow and in grey too"""
LEAST_PX = 480
"""a smaller picture is enlarged, so that outlines can be told apart"""
TITLE_PX, FOOT_PX = 34, 26
LEAST_HALF = 22
"""letters that are left of both ends of any title: number and area of lakes stand at the second"""


def draw(
    path: Path,
    look_HWC: npt.NDArray[np.uint8],
    outlines: Geometries,
    *,
    step: int,
    gsd_m: float | None,
    title: str,
    foot: str = "",
    north: tuple[float, float] | None = None,
) -> Path:
    """Writes a PNG, aside and renamed.

    Args:
        path: of the PNG
        look_HWC: every `step`th pixel of the scene
        outlines: in pixels of the scene
        step: pixels of the scene to one of the picture
        gsd_m: of the scene; None: not known, so no scale bar
        title: stands above the picture
        foot: stands below it, such as sensor and date
        north: step to the right and down that leads to grid north, of any length; None: not known, so no arrow
    """
    times = max(1, math.ceil(LEAST_PX / max(look_HWC.shape[:2])))
    height, width = (side * times for side in look_HWC.shape[:2])
    picture = (
        Image.fromarray(np.ascontiguousarray(look_HWC))
        .resize((width, height), Image.Resampling.NEAREST)
        .convert("RGBA")
    )
    over = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(over)
    parts = shapely.get_parts(outlines)
    around = shapely.area(shapely.polygons(shapely.get_exterior_ring(parts)))
    for part in parts[np.argsort(-around, kind="stable")]:  # a lake on another's island is drawn after it
        _lake(pen, part, times / step)
    picture = Image.alpha_composite(picture, over).convert("RGB")
    width = max(width, LEAST_PX)  # room for the title, also above a strip
    page = Image.new("RGB", (width, height + TITLE_PX + FOOT_PX), (255, 255, 255))
    page.paste(picture, (0, TITLE_PX))
    pen = ImageDraw.Draw(page)
    room = width - 16 - (width // 4 + 12 if gsd_m is not None else 0)
    _line(pen, (8, TITLE_PX // 2), title, 16, room)
    _line(pen, (8, height + TITLE_PX + FOOT_PX // 2), foot, 13, width - 16 - 44)
    if gsd_m is not None:
        _scale_bar(pen, width, gsd_m * step / times)
    if north is not None:
        _arrow(pen, (width - 16, height + TITLE_PX + FOOT_PX / 2), north)
    return write_picture(path, page)


def _line(pen: ImageDraw.ImageDraw, xy: tuple[float, float], title: str, px: int, room: float) -> None:
    """Writes a line of text in so many pixels: smaller if need be, and then without its middle."""
    title = " ".join(title.split())  # a file's name may hold line breaks, which Pillow cannot measure
    while _length(title, px) > room and px > 9:
        px -= 1
    whole, half = title, len(title) // 2
    while _length(title, px) > room and half > LEAST_HALF:  # of a long name the middle goes
        half -= 1
        title = f"{whole[:half]}...{whole[-half:]}"
    draw_text(pen, xy, title, px, fill=(0, 0, 0), anchor="lm", plain=ImageFont.load_default(size=px))


def _length(title: str, px: int) -> float:
    return text_length(title, px, plain=ImageFont.load_default(size=px))


def write_picture(path: Path, image: Image.Image) -> Path:
    """Writes a PNG, aside and renamed."""
    with writing(path), beside(path) as place:
        image.save(
            place, format="PNG", compress_level=3
        )  # a tenth larger than by the usual 6, in a quarter of the time
    return path


def _lake(pen: ImageDraw.ImageDraw, part: Any, scale: float) -> None:
    ring = [tuple(xy) for xy in (shapely.get_coordinates(part.exterior) * scale).tolist()]
    pen.polygon(ring, fill=FILL)
    for hole in part.interiors:
        edge = [tuple(xy) for xy in (shapely.get_coordinates(hole) * scale).tolist()]
        pen.polygon(edge, fill=(0, 0, 0, 0))
        pen.line(edge, fill=CASING, width=3)
        pen.line(edge, fill=LINE, width=1)
    pen.line(ring, fill=CASING, width=3)
    pen.line(ring, fill=LINE, width=1)


def _arrow(pen: ImageDraw.ImageDraw, middle: tuple[float, float], north: tuple[float, float]) -> None:
    """An arrow to the north around its middle, and its letter to the left."""
    x, y = middle
    right, down = (part / math.hypot(*north) for part in north)
    tip, back = (x + 9 * right, y + 9 * down), (x - 9 * right, y - 9 * down)
    pen.line((back, tip), fill=(0, 0, 0), width=2)
    head = [(tip[0] - 7 * right + side * 4 * down, tip[1] - 7 * down - side * 4 * right) for side in (1, -1)]
    pen.polygon([tip, *head], fill=(0, 0, 0))
    pen.text((x - 22, y), "N", fill=(0, 0, 0), font=ImageFont.load_default(size=13), anchor="mm")


def _scale_bar(pen: ImageDraw.ImageDraw, width: int, pixel_m: float) -> None:
    """The longest bar of 1, 2 or 5 times a power of ten that is no longer than a quarter of the picture.

    It stands above the picture, to the right of the title: on the picture it could hide a lake.
    """
    most = width / 4 * pixel_m
    power = 10 ** math.floor(math.log10(most))
    length_m = max(n for n in (1, 2, 5) if n * power <= most) * power
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    right, bottom = width - 8, TITLE_PX - 8
    left = right - length_m / pixel_m
    pen.rectangle((left, bottom - 4, right, bottom), fill=(0, 0, 0))
    pen.text(((left + right) / 2, bottom - 14), text, fill=(0, 0, 0), font=ImageFont.load_default(size=13), anchor="mm")
