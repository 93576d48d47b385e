"""Pictures of single tiles: image, truth, prediction and error. Colours stay apart for the colour blind.

Arrays are uint8 (H, W, 3) RGB; masks are (H, W).
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rgb = NDArray[np.uint8]
Note = tuple[float, float, str, dict[str, Any]]
"""x and y in pixels from the upper left corner, text, style"""

# Okabe and Ito's palette (2008): blue, vermilion and yellow differ in hue and in lightness for every kind of sight.
HIT = (36, 128, 214)
FALSE_ALARM = (222, 84, 0)
MISS = (250, 224, 60)
INVALID = (150, 150, 150)
LAND = (238, 236, 230)
OUTLINE = (20, 20, 30)
COLUMNS = ("image", "truth", "lake probability", "error")

_DPI = 100
_MARGIN, _GAP, _LINE, _HEAD, _FOOT = 14, 8, 22, 34, 40  # pixels


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
    grey = 90 + 0.55 * _rgb(image).astype(np.float32).mean(axis=2, keepdims=True)
    drawn = np.repeat(grey, 3, axis=2)
    lake, found = np.asarray(truth) == 1, np.asarray(predicted) != 0
    for where, colour, opacity in (
        (lake & found, HIT, 0.8),
        (~lake & found, FALSE_ALARM, 1.0),
        (lake & ~found, MISS, 1.0),
    ):
        drawn[where] = (1 - opacity) * drawn[where] + opacity * np.array(colour, dtype=np.float32)
    picture = drawn.round().astype(np.uint8)
    return picture if valid is None else _hatched(picture, np.asarray(valid) == 0)


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
) -> Rgb:
    """A row a tile: image, truth, lake probability with the predicted rim, error; names above, legend below.

    Args:
        images: (H, W, C) uint8 each; the first three bands are taken as red, green, blue
        truths: (H, W) uint8 each, 0, 1 and 255 for not valid
        probabilities: (H, W) each, 0-1
        threshold: probability from which a pixel is predicted lake
        titles: what stands above each row
        panel_px: side of a panel in the picture

    Returns:
        (height, width, 3) uint8
    """
    rows, step = len(images), panel_px + _LINE + _GAP
    width = 2 * _MARGIN + 4 * panel_px + 3 * _GAP
    height = _HEAD + rows * step + _FOOT
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    notes: list[Note] = []
    for column, name in enumerate(COLUMNS):
        x = _MARGIN + column * (panel_px + _GAP)
        notes.append((x, 12, name, {"fontsize": 11, "fontweight": "bold", "va": "top"}))
    for row, (image, truth, probability, title) in enumerate(zip(images, truths, probabilities, titles, strict=True)):
        top = _HEAD + row * step + _LINE
        valid, predicted = truth <= 1, np.asarray(probability) >= threshold
        panels = (
            _resized(_rgb(image), panel_px, smooth=True),
            _resized(truth_picture(truth), panel_px),
            _resized(probability_picture(probability, threshold), panel_px),
            _resized(error_overlay(image, truth, predicted, valid), panel_px),
        )
        for column, panel in enumerate(panels):
            left = _MARGIN + column * (panel_px + _GAP)
            canvas[top : top + panel_px, left : left + panel_px] = panel
        notes.append((_MARGIN, top - 5, title, {"fontsize": 9, "color": "0.25", "va": "bottom"}))
        score = _iou_text(truth == 1, predicted, valid)
        notes.append((width - _MARGIN, top - 5, score, {"fontsize": 9, "color": "0.25", "va": "bottom", "ha": "right"}))
    return _with_text(canvas, notes, threshold)


def _with_text(canvas: Rgb, notes: list[Note], threshold: float) -> Rgb:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    height, width = canvas.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    agg = FigureCanvasAgg(figure)
    figure.figimage(canvas, 0, 0, origin="upper")
    for x, y, text, style in notes:
        figure.text(x / width, 1 - y / height, text, **style)
    kinds = {"hit": HIT, "false alarm": FALSE_ALARM, "miss": MISS, "not valid": INVALID}
    handles: list[Any] = [Patch(color=_unit(colour), label=name) for name, colour in kinds.items()]
    handles.append(
        Line2D([], [], color=_unit(OUTLINE), linewidth=1.2, label=f"predicted rim, threshold {threshold:.2f}")
    )
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        handleheight=1.0,
        columnspacing=1.6,
        bbox_to_anchor=(0.5, 2 / height),
    )
    agg.draw()
    return np.asarray(agg.buffer_rgba())[..., :3].copy()


def png_bytes(picture: "Rgb | Figure", *, max_bytes: int | None = None) -> bytes:
    """PNG of an array or a figure.

    Args:
        picture: (H, W, 3) uint8, or a matplotlib figure
        max_bytes: reduce the colours, then the size, until the file is no larger
    """
    if not isinstance(picture, np.ndarray):
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=110, facecolor="white")
        return buffer.getvalue()
    image = Image.fromarray(picture)
    data = _encoded(image)
    for colours in (256, 128, 64):
        if max_bytes is None or len(data) <= max_bytes:
            return data
        data = _encoded(_fewer_colours(image, colours))
    while max_bytes is not None and len(data) > max_bytes and min(image.size) > 16:
        image = image.resize((image.width * 9 // 10, image.height * 9 // 10), Image.Resampling.LANCZOS)
        data = _encoded(_fewer_colours(image, 128))
    return data


def save_png(picture: "Rgb | Figure", path: Path, *, max_bytes: int | None = None) -> Path:
    """Writes `png_bytes` aside and renames it into place; gives the path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(png_bytes(picture, max_bytes=max_bytes))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _fewer_colours(image: Image.Image, colours: int) -> Image.Image:
    """Palette of the commonest colours and of those with a meaning, which are too rare to be kept by their share."""
    shades = [tuple(shade) for shade in _blend(np.linspace(0, 1, 6, dtype=np.float32)).tolist()]
    kept = [*shades, FALSE_ALARM, MISS, INVALID, OUTLINE, (255, 255, 255)]
    common = image.quantize(colours - len(kept)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(band for colour in kept for band in colour), *common][: 3 * colours])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _rgb(image: NDArray[np.uint8]) -> Rgb:
    """The first three bands; one or two bands become grey from the first."""
    return image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)


def _blend(share: NDArray[np.float32]) -> Rgb:
    """(...) in 0-1 to (..., 3), from land's colour to the lake's."""
    land, lake = np.array(LAND, dtype=np.float32), np.array(HIT, dtype=np.float32)
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


def _iou_text(lake: NDArray[np.bool_], predicted: NDArray[np.bool_], valid: NDArray[np.bool_]) -> str:
    union = np.count_nonzero((lake | predicted) & valid)
    return f"lake IoU {np.count_nonzero(lake & predicted & valid) / union:.2f}" if union else "no lake, none predicted"


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
