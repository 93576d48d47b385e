"""Where a lake may have been missed: pixels that are no lake on the map, but lake perhaps to the network."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import shapely
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from glidexp.data.geodesy import reprojected
from glidexp.data.scenes.degrees import LONLAT, ROUND
from glidexp.data.scenes.lake_mask import LakeMask
from glidexp.data.scenes.polygons import Geometries
from glidexp.data.scenes.vrt import check_plain
from glidexp.data.steps import Step
from glidexp.errors import DataError
from glidexp.mapping.joined import Joined
from glidexp.mapping.lake_map import LEAST_PX, Map, probability_of
from glidexp.mapping.workfiles import STEPS

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
PERHAPS = 0.1
"""probability from which a pixel is lake perhaps"""
LEAST_SHARE = 0.1
"""of a lake's ground in such pixels, from which it was half seen: of generated lakes that were gone 1 in 100 had as
many, of lakes that were overlooked 6 in 10 (docs/LOG.md)"""
STRIP_PX = 2048
"""rows that are read together"""


@dataclass(frozen=True, slots=True)
class Doubt:
    """How many such pixels lie in each cell of a grid."""

    pixels: Counter[tuple[int, int]]
    """by column and row of the cell"""
    lacking: tuple[str, ...]
    """maps without probabilities"""

    def in_cells(self, columns: Ints, rows: Ints) -> npt.NDArray[np.bool_]:
        """Whether cells hold as many as the smallest lake of a map."""
        pairs = zip(columns.tolist(), rows.tolist(), strict=True)
        return np.array([self.pixels[pair] >= LEAST_PX for pair in pairs], dtype=bool)


def doubted(paths: Sequence[Path], maps: Joined, side_km: float, step: Step) -> Doubt:
    """Looks through the probabilities of maps. Ground that two of them have counts as the first one says it.

    Args:
        paths: of maps; one without a raster beside it is named
        maps: these, side by side in the plane of the grid
        side_km: of a cell
        step: told of each map

    Raises:
        DataError: a raster cannot be read
    """
    pixels: Counter[tuple[int, int]] = Counter()
    lacking, before = [], shapely.Polygon()
    for path, ground in zip(paths, maps.grounds, strict=True):
        raster = probability_of(path)
        if raster.is_file():
            shapely.prepare(before)
            told = before if shapely.intersects(before, ground) else None
            pixels += _in_raster(raster, maps.plane, side_km * 1e3, told)
            before = shapely.union(before, ground)
        else:
            lacking.append(path.name)
        step(path.name)
    return Doubt(pixels, tuple(lacking))


def half_seen(one: Map, shapes: Geometries) -> Flags:
    """Whether a map that lacks lakes half saw them: over a share of their ground the network said perhaps.

    Args:
        one: the map; without a raster beside it, it half saw nothing
        shapes: (n,) outlines as another map has them, degrees

    Returns:
        (n,)

    Raises:
        DataError: the raster cannot be read, or is none of this map
    """
    found = np.zeros(len(shapes), dtype=bool)
    raster, asked = probability_of(one.path), np.arange(len(shapes))
    if one.ground is not None:  # other lakes of its date may be far away
        shapely.prepare(one.ground)
        asked = np.flatnonzero(shapely.intersects(one.ground, shapes))
    if len(asked) and raster.is_file():
        with _opened(raster) as source:
            mask = LakeMask(source, _in_its_crs(shapes[asked], source))
            if one.ground is not None:
                left, top, right, bottom = mask.bounds[shapely.covers(one.ground, shapes[asked])].T
                beside = (right < 0) | (left > source.width) | (bottom < 0) | (top > source.height)
                if len(beside) and beside.all():
                    raise DataError(f"{raster} lies elsewhere than the ground of {one.name}: map the scene again.")
            found[asked] = _shares(source, mask, len(asked)) >= LEAST_SHARE
    return found


def _in_its_crs(shapes: Geometries, source: Any) -> Geometries:
    """Outlines in degrees as they lie in the CRS of a raster; one in degrees may go on beyond 180."""
    crs = pyproj.CRS.from_user_input(source.crs)
    moved = reprojected(shapes, LONLAT, crs)
    if not crs.is_geographic:
        return moved
    middle = (source.bounds.left + source.bounds.right) / 2
    nearest: Geometries = shapely.transform(
        moved, lambda lon, lat: (lon - ROUND * np.round((lon - middle) / ROUND), lat), interleaved=False
    )
    return nearest


def _shares(source: Any, mask: LakeMask, lakes: int) -> Floats:
    """(lakes,) of the pixels of each that are lake perhaps; 0 of one without a pixel."""
    perhaps, pixels = np.zeros(lakes + 1, np.int64), np.zeros(lakes + 1, np.int64)
    for top in range(0, source.height, STRIP_PX):
        height = min(STRIP_PX, source.height - top)
        owners = mask.owners(top, height)
        if owners.any():
            levels = source.read(1, window=Window(0, top, source.width, height))
            pixels += np.bincount(owners.ravel(), minlength=len(pixels))
            perhaps += np.bincount(owners[_perhaps(levels)], minlength=len(pixels))
    return perhaps[1:] / np.maximum(pixels[1:], 1)


@contextmanager
def _opened(raster: Path) -> Iterator[Any]:
    """The raster of probabilities of a map."""
    check_plain(raster)
    try:
        with rasterio.open(raster) as source:
            if source.dtypes[0] != "uint8":  # such as 0 to 1, of which no level is lake perhaps
                raise DataError(
                    f"{raster} holds {source.dtypes[0]}, where glidexp predict writes uint8 (probability times "
                    f"{STEPS}): map the scene again."
                )
            yield source
    except (RasterioError, CRSError) as error:
        raise DataError(f"{raster} cannot be read ({error}): map the scene again.") from None


def _perhaps(levels: npt.NDArray[np.uint8]) -> Flags:
    """Pixels that are lake perhaps; none without data."""
    return (levels >= PERHAPS * STEPS) & (levels <= STEPS)


def _in_raster(raster: Path, plane: pyproj.CRS, side_m: float, told: Any) -> Counter[tuple[int, int]]:
    """Doubtful pixels by cell; `told`: ground in the plane whose pixels count already, None: none of its own."""
    found: Counter[tuple[int, int]] = Counter()
    with _opened(raster) as source:
        to = pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(source.crs), plane, always_xy=True)
        for top in range(0, source.height, STRIP_PX):
            window = Window(0, top, source.width, min(STRIP_PX, source.height - top))
            rows, columns = np.nonzero(_perhaps(source.read(1, window=window)))
            if not len(rows):
                continue
            x, y = to.transform(*(source.transform @ (columns + 0.5, rows + top + 0.5)))
            points = np.stack([x, y], 1)
            if told is not None:
                points = points[~shapely.contains_xy(told, points)]
            places = np.floor(points / side_m).astype(np.int64)
            cells, count = np.unique(places, axis=0, return_counts=True)
            for (column, row), number in zip(cells.tolist(), count.tolist(), strict=True):
                found[column, row] += number
    return found
