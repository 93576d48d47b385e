"""Scene values of any kind of number as codes: whole numbers from 0 on, in the order of the values.

Limits of the stretch come from a histogram of the codes, and the stretch is a look-up by code. Values of 8 and 16 bit
have a code each. Others have as many as a float32 tells apart when its fraction is cut to 13 bits, so that 8,192 codes
lie between a value and its double: a value of the stretch is off by less than its 1/8,000th part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

AS_THEY_ARE = ("uint8", "uint16")
"""kinds whose values are their codes"""
WITH_SIGN = ("int8", "int16")
LEVELS = 65536
"""codes of values of 8 and 16 bit"""
WIDE_LEVELS = 2**19
"""codes of all other kinds"""
ZERO = WIDE_LEVELS // 2
"""code of 0 among these"""
CUT_BITS = 10
"""of a float32's 23 bits of fraction, those that no code tells"""
HALF = np.int32(1 << (CUT_BITS - 1))
"""half a step, so that codes are of the nearest one"""
LEAST = np.float32(2.0**-13)
"""below it values lie in even steps, 1/8,192 of it each; above it in steps that grow with the value"""
PIECE = 1 << 16
"""values coded at once"""
MOST = 2.0**19 - 1
"""values beyond this, up or down, have its code"""


def kind_of(dtypes: list[str]) -> str:
    """The kind of number that holds the values of all these kinds, by its name; those of 8 bit count as of 16.

    Args:
        dtypes: of rasters or bands, real numbers
    """
    kind = str(np.result_type(*dtypes))
    return {"uint8": "uint16", "int8": "int16"}.get(kind, kind)


def levels_of(kind: str) -> int:
    """How many codes a kind of number has."""
    return LEVELS if kind in AS_THEY_ARE or kind in WITH_SIGN else WIDE_LEVELS


def bytes_of(kind: str) -> int:
    """What a value takes in memory, in the mean of its ways from the file to its code."""
    return 2 if kind in AS_THEY_ARE else 2 * np.dtype(kind).itemsize


def coded(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The codes of values: themselves where they are uint8 or uint16, else uint16 or uint32 of the same shape.

    What is no number has some code: `numbers_in` tells where.
    """
    kind = str(values.dtype)
    if kind in AS_THEY_ARE:
        return values
    if kind in WITH_SIGN:
        return values.astype(np.int16).view(np.uint16) ^ np.uint16(LEVELS // 2)
    codes = np.empty(values.shape, np.uint32)
    flat, into = values.reshape(-1), codes.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(flat), PIECE):  # pieces that stay in the cache
            single = flat[start : start + PIECE].astype(np.float32)
            size = np.abs(single)
            np.fmin(size, np.float32(MOST), out=size)  # of what is no number too
            size += LEAST
            steps = size.view(np.int32)
            steps += HALF - LEAST.view(np.int32)
            steps >>= CUT_BITS
            np.minimum(steps, ZERO - 1, out=steps)
            np.negative(steps, out=steps, where=single < 0)
            np.add(steps, ZERO, out=into[start : start + PIECE].view(np.int32))
    return codes


def numbers_in(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Where a pixel (bands, H, W) is a number in every band, (H, W); None where its kind has nothing else."""
    if values.dtype.kind != "f":
        return None
    return np.asarray(np.isfinite(values).all(axis=0))


def has_data(values: npt.NDArray[Any], nodata: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Where pixels have data, (H, W): where a band is another value than stands for none.

    Of uint8 and uint16, and where that value is 0, one band is enough: a dark pixel is 0 in one of them and has data.
    No measurement is -9999, so of other kinds every band must be another value.

    Args:
        values: (bands, H, W) as they are in the file
        nodata: value of each band that stands for no data
    """
    other = np.stack([band != value for band, value in zip(values, nodata, strict=True)])
    dark = str(values.dtype) in AS_THEY_ARE or 0 in nodata
    return np.asarray(other.any(axis=0) if dark else other.all(axis=0))


def values_of(kind: str) -> npt.NDArray[np.float64]:
    """The value of each code of a kind of number, float64 (`levels_of`,)."""
    codes = np.arange(levels_of(kind))
    if kind in AS_THEY_ARE:
        return codes.astype(np.float64)
    if kind in WITH_SIGN:
        return codes.astype(np.float64) - LEVELS // 2
    steps = np.abs(codes - ZERO).astype(np.int32)
    size = ((steps << CUT_BITS) + LEAST.view(np.int32)).view(np.float32).astype(np.float64) - float(LEAST)
    return np.where(codes < ZERO, -size, size)


def together(histograms: dict[str, npt.NDArray[np.int64]]) -> tuple[str, npt.NDArray[np.int64]]:
    """Histograms of scenes of several kinds as one of one kind.

    Args:
        histograms: (bands, `levels_of`) counts of codes, by kind

    Returns:
        the kind and (bands, levels) counts; of one kind what was given
    """
    if len(histograms) == 1:
        return next(iter(histograms.items()))
    wide = "float32"
    bands = len(next(iter(histograms.values())))
    found = np.zeros((bands, WIDE_LEVELS), np.int64)
    for kind, counts in histograms.items():
        codes = coded(values_of(kind))
        for into, of_band in zip(found, counts, strict=True):
            np.add.at(into, codes, of_band)
    return wide, found
