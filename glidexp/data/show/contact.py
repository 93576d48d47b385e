"""A contact sheet of a finished store: tiles of each sensor and region, their lakes outlined."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation

from glidexp.data.sensors import rgb_of
from glidexp.data.show.fonts import draw_text
from glidexp.data.store import INVALID, LAKE, TileStore
from glidexp.wording import many

THUMB_PX = 128
ACROSS = 8
"""tiles in a row"""
MOST_ROWS = 60
"""sensors and regions; a sheet of more would be no sheet"""
GAP_PX, TEXT_PX, LETTER_PX = 4, 16, 11
LAKE_LINE, VOID = (255, 220, 0), (120, 120, 120)
SIDES = {"train": (110, 165, 215), "val": (250, 205, 80), "test": (140, 30, 20)}
"""a bar above each tile tells its side; light, lighter and dark, so that sides are told apart in grey"""


def contact_sheet(store: TileStore) -> Image.Image:
    """Draws up to 8 tiles a sensor and region, from few lakes to many, evenly over the tiles that have any.

    Larger tiles are reduced, smaller ones doubled, trebled ...; ground that is not valid is grey.
    """
    index = store.index
    groups = list(index.groupby(["sensor", "region"], sort=True))[:MOST_ROWS]
    row_px = THUMB_PX + TEXT_PX + 2 * GAP_PX
    sheet = Image.new("RGB", (ACROSS * (THUMB_PX + GAP_PX) + GAP_PX, len(groups) * row_px + GAP_PX), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    channels = rgb_of(store.bands)
    for n, ((sensor, region), own) in enumerate(groups):
        top = n * row_px + GAP_PX
        text = f"{sensor}{_sizes(own['gsd_m'])}, {region}: {many(len(own), 'tile')}"
        if text.isascii():
            pen.text((GAP_PX, top), text, fill="black", font=font)
        else:
            draw_text(pen, (GAP_PX, top - 1), text, LETTER_PX, fill="black")
        ranked = own.sort_values(["lake_fraction", "tile"], kind="stable")
        some = ranked[ranked["lake_fraction"] > 0] if (ranked["lake_fraction"] > 0).any() else ranked
        chosen = np.unique(np.linspace(0, len(some) - 1, min(ACROSS, len(some))).round().astype(int))
        for k, row in enumerate(index.index.get_indexer(some.index[chosen]).tolist()):
            thumb = thumbnail(store.images[row][..., channels], store.labels[row])
            left = GAP_PX + k * (THUMB_PX + GAP_PX)
            sheet.paste(Image.fromarray(thumb), (left, top + TEXT_PX))
            bar = [left, top + TEXT_PX - 3, left + thumb.shape[1] - 1, top + TEXT_PX - 2]
            pen.rectangle(bar, fill=SIDES[str(index["split"].iloc[row])])
    return sheet


def _sizes(gsd_m: "pd.Series[float]") -> str:
    """`, 10 m` or `, 2 to 4 m`; nothing where the pixel size of some tiles is not known."""
    if gsd_m.isna().any():
        return ""
    low, high = f"{gsd_m.min():g}", f"{gsd_m.max():g}"
    return f", {low} m" if low == high else f", {low} to {high} m"


def thumbnail(
    image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], side_px: int = THUMB_PX
) -> npt.NDArray[np.uint8]:
    """A tile small enough for the sheet, a line around its lakes on their outer side.

    Args:
        image: (H, W, 3) uint8
        label: (H, W) of 0, 1, 255
        side_px: longest side of the picture

    Returns:
        (h, w, 3), at most `side_px` a side
    """
    shrink = -(-max(label.shape) // side_px)
    grow = max(side_px // max(label.shape), 1)
    picture = np.asarray(Image.fromarray(np.ascontiguousarray(image)).reduce(shrink)).repeat(grow, 0).repeat(grow, 1)
    lake, void = (_any(label == value, shrink).repeat(grow, 0).repeat(grow, 1) for value in (LAKE, INVALID))
    out: npt.NDArray[np.uint8] = picture.copy()
    out[void & ~lake] = VOID
    out[binary_dilation(lake) & ~lake] = LAKE_LINE
    return out


def _any(mask: npt.NDArray[np.bool_], step: int) -> npt.NDArray[np.bool_]:
    """Whether any pixel of each square of `step` is set, so that a lake of one pixel still shows."""
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], step), axis=0)
    return np.logical_or.reduceat(rows, np.arange(0, mask.shape[1], step), axis=1)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """A bitmap font where Pillow has it, which gives the same pixels everywhere."""
    plain = getattr(ImageFont, "load_default_imagefont", None)
    return plain() if plain else ImageFont.load_default()


def save(sheet: Image.Image, path: Path) -> None:
    """Writes a sheet as PNG."""
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, format="PNG", optimize=True)
