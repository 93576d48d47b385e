"""Pictures of chosen tiles with their lakes outlined and a line of text each, two beside each other or many."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from glidexp.beside import beside
from glidexp.data.sensors import rgb_of
from glidexp.data.show.contact import thumbnail
from glidexp.data.show.fonts import draw_text, text_length
from glidexp.data.store import TileStore

CAPTION_PX = 14
GAP_PX = 6
LETTER_PX = 10
"""of captions with letters beyond ASCII; the others are in Pillow's own font"""
Picture = npt.NDArray[np.uint8]


def picture(tiles: TileStore, row: int, side_px: int) -> Picture:
    """(h, w, 3) of a tile, at most `side_px` a side, with a line around its lakes and grey where it is not valid."""
    return thumbnail(tiles.images[row][..., rgb_of(tiles.bands)], np.asarray(tiles.labels[row]), side_px)


def sheet(pictures: Sequence[Picture], captions: Sequence[str], *, columns: int, title: str = "") -> Image.Image:
    """Puts pictures side by side, row by row, with a line under each.

    Args:
        pictures: (H, W, 3) uint8 each, at least one
        captions: a line each, cut where it is too long
        columns: pictures in a row
        title: stands above all
    """
    height, width = (max(one.shape[side] for one in pictures) for side in (0, 1))
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    top = CAPTION_PX + GAP_PX if title else 0
    step = width + GAP_PX, height + CAPTION_PX + GAP_PX
    canvas = Image.new("RGB", (columns * step[0] + GAP_PX, top + rows * step[1] + GAP_PX), "white")
    pen = ImageDraw.Draw(canvas)
    if title:
        _write(pen, (GAP_PX, GAP_PX), title, canvas.width - 2 * GAP_PX)
    for i, (one, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, upper = GAP_PX + i % columns * step[0], top + GAP_PX + i // columns * step[1]
        canvas.paste(Image.fromarray(one), (left, upper))
        _write(pen, (left, upper + height + 1), caption, width)
    return canvas


def save(image: Image.Image, path: Path) -> None:
    """Writes a PNG aside and renames it into place."""
    with beside(path) as place:
        image.save(place, format="PNG")


def _write(pen: ImageDraw.ImageDraw, xy: tuple[int, int], text: str, width: int) -> None:
    """The text, its beginning cut off where it is too long: names differ at their ends."""
    plain, shown, left = ImageFont.load_default(), text, text
    while len(left) > 1 and text_length(shown, LETTER_PX, plain=plain) > width:
        left = left[1:]
        shown = f"..{left}"
    draw_text(pen, xy, shown, LETTER_PX, fill="black", plain=plain)
