"""Lakes as connected components of a mask: their areas, perimeters, places, and whether the scored ground cuts them.

Pixels that touch at an edge or a corner belong together (8-connectivity): where a narrow lake runs askew across the
pixel grid, its pixels touch at corners only.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glidexp.data.sizes import size_of
from glidexp.errors import DataError

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SIZES_PX = ("under_54px", "54-100px", "100-500px", "500-1000px", "1000-10000px", "over_10000px")
"""the classes of `data.sizes` for pixels of 10 m, for ground whose GSD is not known"""
_EDGES_PX = np.array([54, 100, 500, 1000, 10001])
_M2_IN_KM2 = 1e6


@dataclass(frozen=True, slots=True)
class Components:
    """The lakes of one mask, numbered from 1 in the order of their first pixel. Arrays (n,) hold lake k at k - 1."""

    labels_HW: npt.NDArray[np.int32]
    """0 outside lakes, else the lake's number"""
    rows: Ints
    """(pixels,) of every lake pixel, in reading order"""
    cols: Ints
    owner: Ints
    """(pixels,) number of the lake, minus 1"""
    shore: Mask
    """(pixels,) whether one of the four neighbours is valid ground without lake"""
    area_px: Ints
    perimeter_px: Floats
    cut: Mask
    """whether the lake touches, also at a corner, ground that is not scored"""
    row: Floats
    """of the centroid, pixel centres at whole numbers"""
    col: Floats

    def __len__(self) -> int:
        return len(self.area_px)


def components(lake_HW: Mask, scored_HW: Mask) -> Components:
    """Finds and measures the lakes of a mask.

    The perimeter is pi/4 times the number of pixel edges between a lake and what is not lake: Crofton's formula in two
    directions, right on average for shores without a preferred direction, whereas the edges alone overstate a slanted
    shore by up to sqrt(2).

    Args:
        lake_HW: lake pixels; those that are not scored are dropped first
        scored_HW: valid ground; what lies beyond the array is not scored
    """
    from scipy import ndimage

    lake = lake_HW & scored_HW
    labels, count = ndimage.label(lake, structure=np.ones((3, 3), dtype=np.int8), output=np.int32)
    width = lake.shape[1]
    flat = np.flatnonzero(lake)
    rows, cols = np.divmod(flat, width)
    owner = labels.ravel()[flat].astype(np.int64) - 1
    # in arrays with a frame, neighbours are found by adding a step
    at, step = (rows + 1) * (width + 2) + cols + 1, width + 2
    water = np.pad(lake, 1).ravel()
    outside = np.pad(~scored_HW, 1, constant_values=True).ravel()
    edges, shore = np.zeros(len(at), dtype=np.int64), np.zeros(len(at), dtype=bool)
    open_end = np.zeros(len(at), dtype=bool)
    for move in (-1, 1, -step, step):
        dry, beyond = ~water[at + move], outside[at + move]
        edges += dry
        shore |= dry & ~beyond
        open_end |= beyond
    for move in (-step - 1, -step + 1, step - 1, step + 1):
        open_end |= outside[at + move]
    area = np.bincount(owner, minlength=count)
    return Components(
        labels_HW=labels,
        rows=rows,
        cols=cols,
        owner=owner,
        shore=shore,
        area_px=area,
        perimeter_px=np.asarray(np.pi / 4 * np.bincount(owner, weights=edges, minlength=count), dtype=np.float64),
        cut=np.bincount(owner[open_end], minlength=count) > 0,
        row=np.bincount(owner, weights=rows, minlength=count) / area,
        col=np.bincount(owner, weights=cols, minlength=count) / area,
    )


def overlaps(true: Components, predicted: Components) -> tuple[Ints, Ints, Ints]:
    """Pairs of a true and a predicted lake that share pixels.

    Returns:
        indices of the true lakes, of the predicted ones, and the pixels shared, (pairs,) each, by true lake
    """
    other = predicted.labels_HW[true.rows, true.cols].astype(np.int64) - 1
    both = other >= 0
    codes, shared = np.unique(true.owner[both] * max(len(predicted), 1) + other[both], return_counts=True)
    first, second = np.divmod(codes, max(len(predicted), 1))
    return first, second, shared.astype(np.int64)


def area_bound_px(perimeter_px: Floats) -> Floats:
    """By how much an area is uncertain when a shore is known to half a pixel: perimeter times half a pixel.

    Source: the +-0.5 pixel rule of lake inventories, as in Hanshaw and Bookhagen 2014 (The Cryosphere 8, 359-376,
    doi 10.5194/tc-8-359-2014), who take 0.6872 of it as one standard deviation; here it is the whole half pixel.
    """
    return 0.5 * np.asarray(perimeter_px, dtype=np.float64)


def in_km2(area_px: npt.ArrayLike, gsd_m: npt.ArrayLike) -> Floats:
    """Areas in km2.

    Raises:
        DataError: a GSD is not known, so that there is no area in km2
    """
    gsd = _known(gsd_m, "areas in km2")
    return np.asarray(area_px, dtype=np.float64) * gsd**2 / _M2_IN_KM2


def in_metres(length_px: npt.ArrayLike, gsd_m: npt.ArrayLike) -> Floats:
    """Lengths in metres.

    Raises:
        DataError: a GSD is not known, so that there is no length in metres
    """
    return np.asarray(length_px, dtype=np.float64) * _known(gsd_m, "lengths in metres")


def size_class(area_px: npt.ArrayLike, gsd_m: float) -> npt.NDArray[np.object_]:
    """The size class of each lake, by km2 where the GSD is known and by pixels otherwise.

    A class holds its lower bound; 1 km2 itself (10,000 px) is in the class below it.
    """
    area = np.asarray(area_px)
    if np.isnan(gsd_m):
        return np.array(SIZES_PX, dtype=object)[np.searchsorted(_EDGES_PX, area, side="right")]
    return size_of(in_km2(area, gsd_m))


def lower_bound(name: str) -> float:
    """The number from which a class of size or distance runs, by its name; 0 where it has none. Sorts classes."""
    number = re.match(r"(?:over_)?(\d+(?:\.\d+)?)", name)
    return float(number.group(1)) if number else 0.0


def _known(gsd_m: npt.ArrayLike, what: str) -> Floats:
    gsd = np.asarray(gsd_m, dtype=np.float64)
    if np.isnan(gsd).any():
        raise DataError(
            f"the ground sample distance of {int(np.isnan(gsd).sum())} of {gsd.size} lakes is not known, so there are "
            f"no {what}: name the sensor (dataset.sensor) or give gsd_m in dataset.manifest, or ask for pixels."
        )
    return gsd
