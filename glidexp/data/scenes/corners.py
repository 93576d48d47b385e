"""Pixels without data that are not known to be: corners that a reprojection left black and nobody declared, and masks
that GDAL passes over. They would be stretched, learnt and mapped.
"""

import math
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import rasterio
import rasterio.errors
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from glidexp.data.scenes import vrt
from glidexp.errors import DataError

CORNER_PX = 8
"""of an edge, from a corner on, that are black where a picture was turned, be it by little"""
CHEAP_PX = 2**21
"""pixels of a block up to which corners are read as they are"""
DEAREST_PX = 2**25
"""and where there is no overview: the four corners of one strip of more pixels would cost seconds and its memory"""
OVERVIEW = 8
"""overviews of about this factor are looked at: a corner that a turned picture left is wider than one of its pixels"""
FILLS = {"uint8": (0,), "uint16": (0, 65535), "int16": (0, -9999, -32768)} | dict.fromkeys(
    ("int32", "float32", "float64"), (0, -9999, -32768)
)
"""values that stand for no data as a rule, by kind of number"""
SOURCES = 16
"""of a VRT that are asked for their blocks"""


def undeclared(path: Path, source: rasterio.DatasetReader, numbers: tuple[int, ...]) -> tuple[str, ...]:
    """A note where a corner has one value that stands for no data as a rule: one of `FILLS`, and 0.

    A few blocks are decoded, of large ones those of an overview; a file whose blocks are larger still is left alone.

    Args:
        path: its place
        source: opened
        numbers: of the bands that are taken, from 1
    """
    factor = _factor(path, source)
    n, f, (height, width) = CORNER_PX, factor, source.shape
    declared = any(source.mask_flag_enums[number - 1] != [MaskFlags.all_valid] for number in numbers)
    if declared or not f or min(height, width) < n * f:
        return ()
    along = [(row, col, 1, n) for row in (0, height - f) for col in (0, width - n * f)]
    along += [(row, col, n, 1) for row in (0, height - n * f) for col in (0, width - f)]
    try:
        edges = [
            source.read(numbers, window=Window(col, row, w * f, h * f), out_shape=(len(numbers), h, w))
            for row, col, h, w in along
        ]
    except rasterio.errors.RasterioError:  # damage is told by who reads all of it
        return ()
    fills = FILLS.get(source.dtypes[numbers[0] - 1], (0,))
    found = next((fill for fill in fills if any(np.all(edge == fill) for edge in edges)), None)
    if found is None:
        return ()
    cog = source.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"  # which is not edited in place
    way = f"gdal_translate -of COG -a_nodata {found} {path.name} OUT.tif" if cog else ""
    way = way or f"rio edit-info --nodata {found} {path.name}"
    note = f"a corner is {found} in all bands and no nodata is declared, so it counts as ground. If it is none: {way}."
    return (f"{path}: {note}",)


def idle_mask(path: Path, source: rasterio.DatasetReader) -> tuple[str, ...]:
    """A note where a mask lies beside a file and is not used: GDAL passes over one that is not made as its own are.

    Args:
        path: its place
        source: opened

    Raises:
        DataError: the mask is used and of another size
    """
    beside = (path.with_name(path.name + ending) for ending in (".msk", ".MSK"))
    found = next((mask for mask in beside if mask.is_file()), None)
    if found is None:
        return ()
    if not any(MaskFlags.per_dataset in flags for flags in source.mask_flag_enums):
        return (f"{found} is not used, as it is no mask that GDAL knows (INTERNAL_MASK_FLAGS): make it anew.",)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(found) as mask:
                size = mask.shape
    except rasterio.errors.RasterioError:  # damage is told by who reads all of it
        return ()
    if size != source.shape:
        raise DataError(
            f"{found} is a mask of {size[1]} x {size[0]} px, and {path.name} has {source.width} x {source.height}: "
            "make it anew, or take it out."
        )
    return ()


def _factor(path: Path, source: rasterio.DatasetReader) -> int:
    """Pixels to one of the overview that corners are read from; 1: as they are, 0: not at all."""
    largest = math.prod(source.block_shapes[0])
    for part in islice(vrt.sources_of(path), SOURCES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # the VRT may place it
                with rasterio.open(part) as one:
                    largest = max(largest, math.prod(one.block_shapes[0]))
        except rasterio.errors.RasterioError:  # told by who reads it
            return 0
    if largest <= CHEAP_PX and source.driver != "JP2OpenJPEG":
        return 1
    levels = source.overviews(1)
    if levels:
        return int(min(levels, key=lambda level: abs(level - OVERVIEW)))
    return int(largest <= DEAREST_PX)
