"""Lakes of a mask as polygons: pixels that touch at an edge or corner are one lake; small holes and specks go.

Rules, in this order: a hole of fewer than `fill_px` pixels is filled, unless a pixel in it has no data; a lake of fewer
than `min_px` pixels is dropped. The mask is changed the same way, so that it and the outlines agree.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.errors
import rasterio.features
import shapely
from affine import Affine

from glidexp.data.scenes.polygons import polygons_of
from glidexp.mapping.runs import runs_of

Geometries = npt.NDArray[np.object_]
Bytes = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
LAKE, NODATA = 1, 255
LARGE_POINTS = 5000
"""of an outline that is drawn anew from its pixels where it touches itself: the time that GEOS takes to repair it grows
with the square of its holes, 220 s for 57,000 of them"""
CORNER = 0.25
"""where corner cutting puts the two points that replace a corner: Chaikin 1974"""


def outlines(vrt: Path, mask_HW: Bytes, *, fill_px: int, min_px: int) -> Geometries:
    """Polygons in pixels, x to the right and y down; the mask is changed in place.

    Args:
        vrt: says what the mask's file is, without a place
        mask_HW: the same file, to be written: 1 lake, 0 none, 255 no data
        fill_px: holes of fewer pixels are filled
        min_px: lakes of fewer are dropped
    """
    rings, owner, hole = _rings(vrt)
    if not len(rings):
        return np.zeros(0, dtype=object)
    within = _valid(shapely.polygons(rings[hole]))
    small = shapely.area(within) < fill_px
    small[small] = ~_meets(within[small], mask_HW, NODATA)
    keep = np.ones(len(rings), bool)
    keep[np.flatnonzero(hole)[small]] = False
    lakes = _valid(shapely.polygons(rings[keep], indices=owner[keep]))
    large = shapely.area(lakes) >= min_px
    burn(lakes[~large], mask_HW, 0)
    filled = within[small & large[owner[hole]]]
    burn(filled, mask_HW, LAKE)
    found: Geometries = lakes[large]
    if len(filled) and len(found):  # a lake within a hole that was filled is part of the other now
        inside = shapely.STRtree(filled).query(found, predicate="within")[0]
        found = np.delete(found, np.unique(inside))
    return found


def smoothed(geometries: Geometries, rounds: int) -> Geometries:
    """Cuts the corners of outlines; what crosses itself afterwards is repaired."""
    if not rounds or not len(geometries):
        return geometries
    parts, of_part = shapely.get_parts(geometries, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    xy, of_point = shapely.get_coordinates(rings, return_index=True)
    for _ in range(rounds):
        xy, of_point = _corners(xy, of_point)
    cut = shapely.polygons(shapely.linearrings(xy, indices=of_point), indices=of_ring)
    found: Geometries = shapely.multipolygons(cut, indices=of_part)
    for i in np.flatnonzero(~shapely.is_valid(found)):
        found[i] = polygons_of(shapely.make_valid(found[i]))
    return found


def _rings(vrt: Path) -> tuple[Geometries, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Rings of all lakes, the number of the lake of each, and which are holes; these follow the shore of their lake."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # pixels are what is wanted
        source = rasterio.open(vrt)
    with source:
        band = rasterio.band(source, 1)
        shapes = rasterio.features.shapes(band, mask=band, connectivity=8, transform=Affine.identity())
        # as arrays at once: a point is ten times as large as a tuple of Python's
        lakes = [[np.array(ring) for ring in shape["coordinates"]] for shape, value in shapes if value == LAKE]
    owner = np.repeat(np.arange(len(lakes)), [len(lake) for lake in lakes])
    rings = [ring for lake in lakes for ring in lake]
    if not rings:
        return np.zeros(0, dtype=object), owner, np.zeros(0, bool)
    made = shapely.linearrings(np.concatenate(rings), indices=np.repeat(np.arange(len(rings)), [*map(len, rings)]))
    return made, owner, np.concatenate([[False], owner[1:] == owner[:-1]])


def _valid(shapes: Geometries) -> Geometries:
    """The same, repaired where an outline touches itself."""
    broken = np.flatnonzero(~shapely.is_valid(shapes))
    large = shapely.get_num_coordinates(shapes) > LARGE_POINTS
    for i in broken:
        shapes[i] = _redrawn(shapes[i]) if large[i] else polygons_of(shapely.make_valid(shapes[i]))
    return shapes


def _redrawn(shape: Any) -> Any:
    """The pixels of an outline that touches itself, as parts that meet others, or themselves, at corners alone."""
    left, top, right, bottom = (round(v) for v in shapely.bounds(shape))
    window = np.zeros((bottom - top, right - left), np.uint8)
    burn(np.array([shapely.transform(shape, lambda xy: xy - (left, top))], dtype=object), window, 1)
    shapes = rasterio.features.shapes(window, mask=window > 0, connectivity=4, transform=Affine.translation(left, top))
    return shapely.MultiPolygon(
        [shapely.Polygon(rings[0], rings[1:]) for rings in (one["coordinates"] for one, _ in shapes)]
    )


def window_of(geometry: Any, shape: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
    """Rows and columns, half open, of a polygon in pixels, with a margin, within an array."""
    left, top, right, bottom = (round(v) for v in shapely.bounds(geometry))
    height, width = shape
    return max(top - margin, 0), min(bottom + margin, height), max(left - margin, 0), min(right + margin, width)


def _meets(shapes: Geometries, mask_HW: Bytes, value: int) -> npt.NDArray[np.bool_]:
    """Whether a pixel within each polygon in pixels has a value."""
    flat, found = mask_HW.reshape(-1), np.zeros(len(shapes), bool)
    for numbers, places in runs_of(shapes).pixels(mask_HW.shape[1]):
        found[numbers[flat[places] == value]] = True
    return found


def burn(shapes: Geometries, mask_HW: Bytes, value: int) -> None:
    """Writes a value where polygons in pixels lie."""
    flat = mask_HW.reshape(-1)
    for _, places in runs_of(shapes).pixels(mask_HW.shape[1]):
        flat[places] = value


def _corners(xy: Points, ring: Rows) -> tuple[Points, Rows]:
    """Points of all rings, each closed, after one round of corner cutting, and the ring of each."""
    edges = np.flatnonzero(ring[1:] == ring[:-1])
    here, there = xy[edges], xy[edges + 1]
    near, far = here + CORNER * (there - here), there - CORNER * (there - here)
    points, of = np.stack([near, far], axis=1).reshape(-1, 2), np.repeat(ring[edges], 2)
    first = np.flatnonzero(np.diff(of, prepend=-1))  # of each ring, which closes it as well
    ends = np.append(first[1:], len(of))
    return np.insert(points, ends, points[first], axis=0), np.insert(of, ends, of[first])
