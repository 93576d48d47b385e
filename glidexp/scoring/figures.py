"""Pictures of single tiles: image, truth, prediction and error. Colours stay apart for the colour blind.

Arrays are uint8 (H, W, 3) RGB; masks are (H, W).
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glidexp.beside import beside
from glidexp.data.show.fonts import draw_text, own_font, readable, text_length
from glidexp.scoring.labels import threshold_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rgb = NDArray[np.uint8]
Note = tuple[float, float, str, str, bool]
"""x and y in pixels from the upper left corner, text, Pillow's anchor, whether it is a heading"""

# After Okabe and Ito's palette (2008): blue, vermilion and yellow differ in hue for every kind of sight, and in
# lightness, with the pale image between the latter two, so that they are told apart where a paper is printed in grey.
HIT = (0, 72, 150)
FALSE_ALARM = (205, 70, 0)
MISS = (255, 232, 70)
LAKE = (36, 128, 214)
INVALID = (150, 150, 150)
LAND = (238, 236, 230)
OUTLINE = (20, 20, 30)
COLUMNS = ("image", "truth", "lake probability", "error")

_MARGIN, _GAP, _LINE, _HEAD, _FOOT, _BETWEEN = 14, 8, 22, 34, 40, 28  # pixels
_TEXT_PX, _HEADING_PX = 13, 15
_INK, _GREY = (0, 0, 0), (64, 64, 64)


def error_overlay(
    image: NDArray[np.uint8],
    truth: NDArray[np.integer | np.bool_],
    predicted: NDArray[np.integer | np.bool_],
    valid: NDArray[np.integer | np.bool_] | None = None,
) -> Rgb:
    """The image in pale grey with hits blue, false alarms vermilion and misses yellow; not valid pixels hatched.

    Args:
        image: (H, W, C) uint8; the first three bands are taken as red, green, blue
        truth: (H, W), lake where it is 1
        predicted: (H, W), lake where it is not 0
        valid: (H, W), counted where it is not 0; everywhere when not given
    """
    drawn = _pale(image)
    lake, found = np.asarray(truth) == 1, np.asarray(predicted) != 0
    for where, colour, opacity in (
        (lake & found, HIT, 0.9),
        (~lake & found, FALSE_ALARM, 1.0),
        (lake & ~found, MISS, 1.0),
    ):
        drawn[where] = (1 - opacity) * drawn[where] + opacity * np.array(colour, dtype=np.float32)
    picture = drawn.round().astype(np.uint8)
    return picture if valid is None else _hatched(picture, np.asarray(valid) == 0)


def difference_overlay(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    one: NDArray[np.integer | np.bool_],
    other: NDArray[np.integer | np.bool_],
) -> Rgb:
    """The image in pale grey; where two predictions differ, blue if the other is right, vermilion if the one is.

    Args:
        image: (H, W, C) uint8
        truth: (H, W), 0, 1 and 255 for not valid
        one: (H, W), lake where it is not 0
        other: (H, W), likewise
    """
    lake, first, second = truth == 1, np.asarray(one) != 0, np.asarray(other) != 0
    drawn = _pale(image)
    drawn[(first != second) & (second == lake)] = HIT
    drawn[(first != second) & (first == lake)] = FALSE_ALARM
    return _hatched(drawn.round().astype(np.uint8), truth > 1)


def truth_picture(truth: NDArray[np.uint8]) -> Rgb:
    """Label (H, W) 0/1/255 as land, lake and hatched."""
    return _hatched(_blend((truth == 1).astype(np.float32)), truth > 1)


def probability_picture(probability: NDArray[np.floating], threshold: float) -> Rgb:
    """Lake probability (H, W) from land's to the lake's colour, the predicted lakes' rim in black."""
    picture = _blend(np.clip(np.nan_to_num(np.asarray(probability, dtype=np.float32)), 0, 1))
    inside = np.asarray(probability) >= threshold
    around = np.pad(inside, 1, mode="edge")
    core = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    picture[inside & ~core] = OUTLINE
    return picture


def probe_grid(
    images: Sequence[NDArray[np.uint8]],
    truths: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[NDArray[np.floating]],
    threshold: float,
    titles: Sequence[str],
    *,
    panel_px: int = 224,
    columns: int = 1,
) -> Rgb:
    """A row a tile: image, truth, lake probability with the predicted rim, error; names above, legend below.

    Args:
        images: (H, W, C) uint8 each; the first three bands are taken as red, green, blue
        truths: (H, W) uint8 each, 0, 1 and 255 for not valid
        probabilities: (H, W) each, 0-1
        threshold: probability from which a pixel is predicted lake
        titles: what stands above each row
        panel_px: side of a panel in the picture
        columns: tiles beside each other, filled row by row

    Returns:
        (height, width, 3) uint8
    """
    block = 4 * panel_px + 3 * _GAP
    rows, step = -(-len(images) // columns), panel_px + _LINE + _GAP
    width = 2 * _MARGIN + columns * block + (columns - 1) * _BETWEEN
    canvas = np.full((_HEAD + rows * step + _FOOT, width, 3), 255, dtype=np.uint8)
    notes: list[Note] = []
    for place, (image, truth, probability, title) in enumerate(zip(images, truths, probabilities, titles, strict=True)):
        row, column = divmod(place, columns)
        top, start = _HEAD + row * step + _LINE, _MARGIN + column * (block + _BETWEEN)
        valid, predicted = truth <= 1, np.asarray(probability) >= threshold
        panels = (
            _resized(_rgb(image), panel_px, smooth=True),
            _resized(truth_picture(truth), panel_px),
            _resized(probability_picture(probability, threshold), panel_px),
            _resized(error_overlay(image, truth, predicted, valid), panel_px),
        )
        for number, (panel, name) in enumerate(zip(panels, COLUMNS, strict=True)):
            left = start + number * (panel_px + _GAP)
            canvas[top : top + panel_px, left : left + panel_px] = panel
            if row == 0:
                notes.append((left, 24, name, "ls", True))
        iou = iou_text(truth == 1, predicted, valid)
        score = f"lake {iou}" if iou else "no lake, none predicted"
        room = block - text_length(score, _TEXT_PX) - 2 * _GAP
        notes.append((start, top - 6, _shortened(title, room), "ls", False))
        notes.append((start + block, top - 6, score, "rs", False))
    return _with_text(canvas, notes, threshold)


def _with_text(canvas: Rgb, notes: list[Note], threshold: float) -> Rgb:
    """Notes and a legend drawn on the canvas by Pillow, in a hundredth of the time a matplotlib figure takes."""
    image = Image.fromarray(canvas)
    pen = ImageDraw.Draw(image)
    for x, y, text, anchor, heading in notes:
        px, colour = (_HEADING_PX, _INK) if heading else (_TEXT_PX, _GREY)
        draw_text(pen, (x, y), text, px, fill=colour, anchor=anchor, bold=heading)
    kinds = {
        "lake probability 0 to 1": _blend(np.repeat(np.linspace(0, 1, 40, dtype=np.float32)[None], 12, axis=0)),
        **{name: _swatch(colour) for name, colour in (("hit", HIT), ("false alarm", FALSE_ALARM), ("miss", MISS))},
        "not valid": _hatched(_swatch(INVALID), np.ones((12, 16), dtype=np.bool_)),
        f"predicted rim, threshold {threshold_text(threshold)}": _swatch(OUTLINE)[:2],
    }
    font, space = own_font(_TEXT_PX), 22
    lengths = [swatch.shape[1] + 6 + pen.textlength(label, font=font) for label, swatch in kinds.items()]
    x, y = (canvas.shape[1] - sum(lengths) - space * (len(kinds) - 1)) / 2, canvas.shape[0] - _FOOT // 2
    for (label, swatch), length in zip(kinds.items(), lengths, strict=True):
        image.paste(Image.fromarray(np.ascontiguousarray(swatch)), (round(x), y - swatch.shape[0] // 2))
        pen.text((x + swatch.shape[1] + 6, y), label, fill=_INK, font=font, anchor="lm")
        x += length + space
    return np.asarray(image)


def _swatch(colour: tuple[int, int, int]) -> Rgb:
    """A field of the legend."""
    return np.full((12, 16, 3), colour, dtype=np.uint8)


def _shortened(text: str, room_px: float) -> str:
    """The text, its beginning cut off where it does not fit: names of tiles differ at their ends, and counts follow."""
    if text_length(text, _TEXT_PX) <= room_px:
        return text
    while text and text_length("…" + text, _TEXT_PX) > room_px:
        text = text[1:]
    return "…" + text.lstrip()


def pdf_bytes(figure: "Figure") -> bytes:
    """A matplotlib figure in vectors, for a paper: fonts as TrueType, which journals ask for, and no date inside."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}), readable(figure):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


def png_bytes(picture: "Rgb | Figure") -> bytes:
    """PNG of an array (H, W, 3) uint8, or of a matplotlib figure in its own dots per inch."""
    buffer = io.BytesIO()
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(buffer, format="PNG")
    else:
        with readable(picture):
            picture.savefig(buffer, format="png", dpi="figure", facecolor="white")
    return buffer.getvalue()


def save_png(picture: "Rgb | Figure", path: Path) -> Path:
    """Writes `png_bytes` aside and renames it into place; gives the path back."""
    with beside(path) as place:
        place.write_bytes(png_bytes(picture))
    return path


def _rgb(image: NDArray[np.uint8]) -> Rgb:
    """The first three bands; one or two bands become grey from the first."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def _pale(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The image in greys that are lighter than hits and false alarms and darker than misses: (H, W, 3) in 150-188."""
    return np.repeat(150 + 0.15 * _rgb(image).astype(np.float32).mean(axis=2, keepdims=True), 3, axis=2)


def _blend(share: NDArray[np.float32]) -> Rgb:
    """(...) in 0-1 to (..., 3), from land's colour to the lake's."""
    land, lake = np.array(LAND, dtype=np.float32), np.array(LAKE, dtype=np.float32)
    return (land + share[..., None] * (lake - land)).round().astype(np.uint8)


def _hatched(picture: Rgb, where: NDArray[np.bool_]) -> Rgb:
    rows, columns = np.indices(where.shape)
    stripe = (rows + columns) // max(where.shape[0] // 64, 1) % 4 == 0
    picture[where] = INVALID
    picture[where & stripe] = (110, 110, 110)
    return picture


def _resized(picture: Rgb, side: int, *, smooth: bool = False) -> Rgb:
    """Square of `side` pixels. Larger pictures are averaged; smaller ones keep their pixels' edges unless smooth."""
    if picture.shape[:2] == (side, side):
        return picture
    enlarging = picture.shape[0] < side
    way = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST if enlarging else Image.Resampling.BOX
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((side, side), way))


def iou_text(lake: NDArray[np.bool_], predicted: NDArray[np.bool_], valid: NDArray[np.bool_]) -> str:
    """`IoU 0.71` of the valid pixels; empty where there is no lake and none is predicted."""
    union = np.count_nonzero((lake | predicted) & valid)
    return f"IoU {np.count_nonzero(lake & predicted & valid) / union:.2f}" if union else ""
