"""Cells where a lake may have been missed: pixels that are no lake on the map, but lake perhaps to the network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
from pyproj.exceptions import CRSError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from glidexp.data.steps import Step
from glidexp.errors import DataError
from glidexp.mapping.lake_map import LEAST_PX
from glidexp.mapping.map_dates import LAKES
from glidexp.mapping.workfiles import STEPS

Ints = npt.NDArray[np.int64]
PERHAPS = 0.1
"""probability from which a pixel is lake perhaps"""
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


def probability_of(path: Path) -> Path:
    """The raster that lies beside NAME_lakes.gpkg."""
    return path.with_name(f"{path.stem.removesuffix(LAKES)}_probability.tif")


def doubted(paths: Sequence[Path], plane: pyproj.CRS, side_km: float, step: Step) -> Doubt:
    """Looks through the probabilities of maps.

    Args:
        paths: of maps; one without a raster beside it is named
        plane: of the grid
        side_km: of a cell
        step: told of each map

    Raises:
        DataError: a raster cannot be read
    """
    pixels: Counter[tuple[int, int]] = Counter()
    lacking = []
    for path in paths:
        raster = probability_of(path)
        if raster.is_file():
            pixels += _in_raster(raster, plane, side_km * 1e3)
        else:
            lacking.append(path.name)
        step(path.name)
    return Doubt(pixels, tuple(lacking))


def _in_raster(raster: Path, plane: pyproj.CRS, side_m: float) -> Counter[tuple[int, int]]:
    found: Counter[tuple[int, int]] = Counter()
    try:
        with rasterio.open(raster) as source:
            to = pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(source.crs), plane, always_xy=True)
            for top in range(0, source.height, STRIP_PX):
                window = Window(0, top, source.width, min(STRIP_PX, source.height - top))
                levels = source.read(1, window=window)
                rows, columns = np.nonzero((levels >= PERHAPS * STEPS) & (levels <= STEPS))
                if not len(rows):
                    continue
                x, y = to.transform(*(source.transform @ (columns + 0.5, rows + top + 0.5)))
                cells, count = np.unique(
                    np.floor(np.stack([x, y], 1) / side_m).astype(np.int64), axis=0, return_counts=True
                )
                for (column, row), number in zip(cells.tolist(), count.tolist(), strict=True):
                    found[column, row] += number
    except (RasterioError, CRSError) as error:
        raise DataError(f"{raster} cannot be read ({error}): map the scene again.") from None
    return found
