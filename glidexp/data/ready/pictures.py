"""Pixels of pictures and labels: whole, plain PNGs and TIFF through GDAL, the rest through Pillow.

Pillow refuses truncated files, which GDAL does not.
"""

import io
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from glidexp.data.ready import png
from glidexp.data.ready.layout import Source
from glidexp.data.ready.pairs import Drawn, Pair
from glidexp.errors import DataError
from glidexp.wording import many

# for the whole process, since a filter of one thread would be that of all
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
Mask = npt.NDArray[np.bool_]
ZERO_255, ZERO_ONE, GREY, EMPTY, OUTLINES = "0 and 255", "0 and 1", "grey edges", "no lake", "outlines"
"""kinds of labels"""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
"""of Pillow, that may lie behind an ending of a picture; PostScript, which it also knows, is a program"""
WHITE = 250
"""a lossy step leaves white at least so bright"""
APART_PX = 0.1
"""what corners of a label may lie apart from those of its picture, pixels"""
MOST_GREY, FEW_VALUES = 0.05, 4
"""grey on more than this share of a label is edges only where it comes in more values than this"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3)"""
    valid: Mask | None
    """(H, W); None where every pixel is"""
    transform: tuple[float, ...] | None = None
    """six numbers, of a TIFF that has a place"""
    crs: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A decoded label."""

    lake: Mask
    """(H, W)"""
    kind: str
    grey_px: int
    """pixels that were neither black nor white"""


def read_pair(pair: Pair) -> tuple[Picture, Label]:
    """A picture and its label.

    Raises:
        DataError: damaged, another kind of picture, sizes that differ, values that are no mask
    """
    picture = read_image(pair.image)
    if isinstance(pair.label, Drawn):
        height, width = picture.image.shape[:2]
        lake = pair.label.draw(height, width, (picture.transform, picture.crs))
        return picture, Label(lake, OUTLINES if lake.any() else EMPTY, 0)
    label = read_label(pair.label)
    _check_place(pair, picture)
    check_same_size(pair, picture, label.lake)
    return picture, label


def check_same_size(pair: Pair, picture: Picture, label: npt.NDArray[Any]) -> None:
    """Refuses a label (H, W) of another size than its picture.

    Raises:
        DataError: names both
    """
    if label.shape != picture.image.shape[:2]:
        raise DataError(
            f"{pair.label} is {label.shape[1]} x {label.shape[0]} px, its image {picture.image.shape[1]} x "
            f"{picture.image.shape[0]}: both must cover the same ground."
        )


def check_holds_a_tile(pair: Pair, size: tuple[int, int], px: int) -> None:
    """Refuses a picture of this height and width that is smaller than a tile.

    Raises:
        DataError: with the largest tile that it would hold
    """
    height, width = size
    if min(height, width) < px:
        raise DataError(
            f"{pair.image} is {width} x {height} px, smaller than tile_size.px={px}: "
            f"choose {min(height, width)} or less."
        )


def _check_place(pair: Pair, picture: Picture) -> None:
    """Refuses a label whose file says that it lies elsewhere than its picture.

    Raises:
        DataError: another CRS, or corners apart by more than `APART_PX`
    """
    if picture.transform is None or isinstance(pair.label, Drawn) or pair.label.suffix.lower() not in (".tif", ".tiff"):
        return
    allow_no_position()
    with _tiff(pair.label) as file:
        transform, crs = tuple(file.transform)[:6], file.crs
    if crs is None:
        return
    other = crs != CRS.from_string(picture.crs)
    a, b, c, d, e, f = np.subtract(transform, picture.transform)
    height, width = picture.image.shape[:2]
    apart = max(abs(a * x + b * y + c) + abs(d * x + e * y + f) for x in (0, width) for y in (0, height))
    side = max(map(abs, picture.transform[:2]))
    if other or apart > APART_PX * side:
        how = f"in {crs}, its image in {picture.crs}" if other else f"{apart / side:.3g} px from its image"
        raise DataError(
            f"{pair.label} lies {how}: both must cover the same ground. Write the label on the image's grid."
        )


def read_image(path: Source) -> Picture:
    """The picture; transparent pixels are not valid.

    Raises:
        DataError: damaged, or not RGB of 8 bit
    """
    if path.suffix.lower() in (".tif", ".tiff"):
        return _read_tiff(path)
    content, plain = _quickly(path)
    if plain is not None and plain.shape[2] > 1:
        pixels = plain
    else:
        with opened(path, content) as picture:
            if picture.mode not in ("RGB", "RGBA"):
                raise DataError(f"{path} is a picture of mode {picture.mode}, not RGB of 8 bit: convert it first.")
            pixels = np.asarray(picture)
    if pixels.shape[2] == 3:
        return Picture(pixels, None)
    return Picture(np.ascontiguousarray(pixels[:, :, :3]), pixels[:, :, 3] > 0)


def read_label(path: Source) -> Label:
    """True for lake: 0 and 1, or 0 and 255; edges that a lossy step made grey are lake above 127.

    Raises:
        DataError: damaged, more than one channel, or values that are no mask
    """
    content, plain = _quickly(path)
    if plain is not None and plain.shape[2] == 1:
        pixels = plain[:, :, 0]
    else:
        with opened(path, content) as picture:
            mode = picture.mode
            if mode not in ("1", "L"):
                raise DataError(f"{path} is a picture of mode {mode}: a label has one channel of 0 and 255.")
            pixels = np.asarray(picture)
    if pixels.dtype == bool:  # of a picture of 1 bit, where Pillow's true is a byte of 255 and would be written as that
        return Label(pixels.view(np.uint8) > 0, ZERO_255 if pixels.any() else EMPTY, 0)
    highest = int(pixels.max())
    if highest <= 1:
        return Label(pixels == 1, ZERO_ONE if highest else EMPTY, 0)
    if highest < WHITE:
        raise DataError(f"{path} holds values up to {highest}: a label has 0 and 255 (or 0 and 1).")
    grey = int(np.count_nonzero(pixels) - np.count_nonzero(pixels == 255))
    if grey and _has_ones(pixels, grey):
        raise DataError(
            f"{path} holds areas of 1 beside 255: a mask of 0 and 1 with 255 for what is not known would have that "
            "taken for lake. A label has 0 and 255 (or 0 and 1); make what is not known transparent in the image."
        )
    if grey > MOST_GREY * pixels.size:
        values = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)[1:255]) + 1
        if len(values) <= FEW_VALUES and values[-1] < WHITE:  # a step that loses little dims black and white alike
            raise DataError(
                f"{path} holds {', '.join(map(str, values))} beside 0 and 255, on {grey / pixels.size:.0%} of its "
                "pixels: classes and no grey edges. A label has 0 and 255 (or 0 and 1)."
            )
    return Label(pixels > 127, GREY if grey else ZERO_255, grey)


def _has_ones(pixels: npt.NDArray[np.uint8], grey: int) -> bool:
    """Whether 1 is the only grey and fills a square of 3 pixels, as no edge does that a lossy step made grey."""
    ones = pixels == 1
    if np.count_nonzero(ones) != grey:
        return False
    across = ones[:, :-2] & ones[:, 1:-1] & ones[:, 2:]
    return bool((across[:-2] & across[1:-1] & across[2:]).any())


def read_bytes(path: Source) -> bytes:
    """The content of a file, on the disk or in a ZIP, whose CRC is compared.

    Raises:
        DataError: it cannot be read
    """
    try:
        with path.open("rb") as stream:
            content: bytes = stream.read()
            return content
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}; fetch it again.") from None


def _quickly(path: Source) -> tuple[bytes, npt.NDArray[np.uint8] | None]:
    """The content of a file, and (H, W, C) pixels where it is a plain PNG."""
    content = read_bytes(path)
    if not content.startswith(png.SIGNATURE):
        return content, None
    allow_no_position()
    try:
        return content, png.decoded(content)
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}; fetch it again.") from None


@contextmanager
def opened(path: Source, content: bytes) -> Iterator[Image.Image]:
    """The decoded picture.

    Raises:
        DataError: damaged
    """
    try:
        # by its ending a file is one of these; others are told by what they hold, and one is run by another program
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            picture.load()
            if picture.mode in ("RGB", "RGBA") and png.bits(content) > 8:  # Pillow leaves the lower half away
                raise DataError(
                    f"{path} is a picture of 16 bit, not RGB of 8 bit: stretch it to 8 bit first, or build tiles from "
                    "scenes, which are stretched (dataset=scenes)."
                )
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}; fetch it again.") from None


def allow_no_position() -> None:
    """Lets rasterio read and draw without a position, silently and in all threads.

    To be called before threads start: rasterio's own filter is one of the whole process, and is lost when two threads
    draw at once.
    """
    silent = ("ignore", None, NotGeoreferencedWarning, None, 0)
    if silent not in warnings.filters:  # taking it out and putting it in again, another thread may warn in between
        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def _read_tiff(path: Source) -> Picture:
    allow_no_position()
    with _tiff(path) as file:
        if file.count not in (3, 4) or any(kind != "uint8" for kind in file.dtypes):
            raise DataError(
                f"{path} has {many(file.count, 'band')} of {file.dtypes[0]}, not red, green and blue of 8 bit: "
                "convert it first, or build tiles from scenes (dataset=scenes)."
            )
        if file.width * file.height > (Image.MAX_IMAGE_PIXELS or 0):
            raise DataError(f"{path} is {file.width} x {file.height} px: build tiles from it (dataset=scenes).")
        if file.count == 4 and file.colorinterp[3] is not ColorInterp.alpha:
            raise DataError(
                f"{path} has a fourth band that is no alpha: write red, green and blue alone, or build tiles from "
                "scenes, which take any bands (dataset=scenes)."
            )
        pixels = np.ascontiguousarray(np.moveaxis(file.read((1, 2, 3)), 0, 2))
        valid = file.dataset_mask() > 0
        place = (tuple(file.transform)[:6], file.crs.to_string()) if file.crs else (None, "")
    return Picture(pixels, None if valid.all() else valid, *place)


@contextmanager
def _tiff(path: Source) -> Iterator[rasterio.DatasetReader]:
    """A file that GDAL opened.

    Raises:
        DataError: it cannot be opened or read
    """
    name = str(path) if isinstance(path, Path) else io.BytesIO(read_bytes(path))
    try:
        with rasterio.open(name, driver="GTiff") as file:
            yield file
    except RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"{path} cannot be read: {reason}; fetch it again.") from None
