"""Lakes of a mask as polygons: pixels that touch at an edge or corner are one lake; small holes and specks go.

Rules, in this order: a hole of fewer than `fill_px` pixels is filled, unless a pixel in it has no data; a lake of fewer
than `min_px` pixels is dropped. The mask is changed the same way, so that it and the outlines agree.
"""

import warnings
from collections.abc import Iterator
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

Geometries = npt.NDArray[np.object_]
Bytes = npt.NDArray[np.uint8]
LAKE, NODATA = 1, 255
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
    kept: list[Any] = []
    filled: list[Any] = []
    dropped: list[Any] = []
    for rings in _rings(vrt):
        holes = [shapely.Polygon(ring) for ring in rings[1:]]
        small = [hole for hole in holes if hole.area < fill_px and not (_under(hole, mask_HW) == NODATA).any()]
        if small:
            gone = set(map(id, small))
            rings = [rings[0], *(r for r, hole in zip(rings[1:], holes, strict=True) if id(hole) not in gone)]
            filled += small
        lake = shapely.Polygon(rings[0], rings[1:])
        if lake.area < min_px:
            dropped.append(lake)
        else:
            kept.append(lake if shapely.is_valid(lake) else polygons_of(shapely.make_valid(lake)))
    for lake in dropped:
        burn(lake, mask_HW, 0)
    for hole in filled:
        burn(hole, mask_HW, LAKE)
    found = np.array(kept, dtype=object)
    if filled and len(found):  # a lake within a hole that was filled is part of the other now
        inside, _ = shapely.STRtree(np.array(filled, dtype=object)).query(found, predicate="within").tolist() or [
            [],
            [],
        ]
        found = np.delete(found, np.unique(np.array(inside, dtype=np.int64)))
    return found


def smoothed(geometries: Geometries, rounds: int) -> Geometries:
    """Cuts the corners of outlines; what crosses itself afterwards is repaired."""
    if not rounds:
        return geometries
    out = [shapely.MultiPolygon([_cut(part, rounds) for part in shapely.get_parts(one)]) for one in geometries]
    fixed = [one if shapely.is_valid(one) else polygons_of(shapely.make_valid(one)) for one in out]
    return np.array(fixed, dtype=object)


def _rings(vrt: Path) -> Iterator[list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # pixels are what is wanted
        source = rasterio.open(vrt)
    with source:
        band = rasterio.band(source, 1)
        for shape, value in rasterio.features.shapes(band, mask=band, connectivity=8, transform=Affine.identity()):
            if value == LAKE:
                yield shape["coordinates"]


def window_of(geometry: Any, shape: tuple[int, int], margin: int = 0) -> tuple[int, int, int, int]:
    """Rows and columns, half open, of a polygon in pixels, with a margin, within an array."""
    left, top, right, bottom = (round(v) for v in shapely.bounds(geometry))
    height, width = shape
    return max(top - margin, 0), min(bottom + margin, height), max(left - margin, 0), min(right + margin, width)


def pixels_of(geometry: Any, window: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """Which pixels of a window lie in a polygon in pixels."""
    top, bottom, left, right = window
    drawn = rasterio.features.rasterize(
        [(geometry, 1)], out_shape=(bottom - top, right - left), transform=Affine.translation(left, top), dtype="uint8"
    )
    return np.asarray(drawn, dtype=bool)


def _under(geometry: Any, mask_HW: Bytes) -> Bytes:
    window = window_of(geometry, (mask_HW.shape[0], mask_HW.shape[1]))
    top, bottom, left, right = window
    return mask_HW[top:bottom, left:right][pixels_of(geometry, window)]


def burn(geometry: Any, mask_HW: Bytes, value: int) -> None:
    """Writes a value where a polygon in pixels lies."""
    window = window_of(geometry, (mask_HW.shape[0], mask_HW.shape[1]))
    top, bottom, left, right = window
    mask_HW[top:bottom, left:right][pixels_of(geometry, window)] = value


def _cut(polygon: Any, rounds: int) -> Any:
    rings = [shapely.get_coordinates(ring) for ring in (polygon.exterior, *polygon.interiors)]
    for _ in range(rounds):
        rings = [_corners(ring) for ring in rings]
    return shapely.Polygon(rings[0], rings[1:])


def _corners(ring: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    here, there = ring[:-1], ring[1:]
    near, far = here + CORNER * (there - here), there - CORNER * (there - here)
    points = np.stack([near, far], axis=1).reshape(-1, 2)
    return np.vstack([points, points[:1]])
