"""Clouds of a scene, as its provider marks them or as a mask of one's own does.

Of Landsat's `_QA_PIXEL` (Collection 2) bits 1 and 3: cloud and its rim. Of Sentinel-2's `_SCL_` (L2A) classes 8 and 9:
clouds of medium and high probability. Of `Fmask` of HLS (version 2) bit 1. Of any other raster what is not 0. No
shadows and no thin cirrus: dark lakes and bright ice are taken for them.

Source: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619); ESA, Sen2Cor ATBD (S2-PDGS-MPC-L2A);
NASA, Harmonized Landsat Sentinel-2 Product User Guide, version 2.0.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.errors import DataError

if TYPE_CHECKING:
    import pyproj
    from affine import Affine
    from rasterio.windows import Window

QA_BITS, SCL_CLASSES, FMASK_BITS = (1, 3), (8, 9), (1,)
_QA = re.compile(r"(?:^|_)QA_PIXEL$", re.I)
_SCL = re.compile(r"(?:^|_)SCL(?:_\d{2}m)?$", re.I)
_FMASK = re.compile(r"(?:^|[._])Fmask$", re.I)
LAYERS = re.compile(r"(?:Fmask|QA_PIXEL|QA_RADSAT|BQA|SR_QA_AEROSOL|SR_(?:CLOUD|ATMOS)\w+|ST_\w+|[VS][AZ]A)", re.I)
"""what the names of Landsat's and HLS's files that are neither bands nor scenes end with, after the scene's"""
OFF_PX = 0.01
"""what the corners of a cell may lie off the scene's pixels by rounding"""


@dataclass(frozen=True, slots=True)
class Clouds:
    """A layer of clouds on the grid of a scene."""

    path: Path
    times: int
    """pixels of the scene along a side of one of its cells"""

    def window(self, source: Any, window: "Window") -> npt.NDArray[np.bool_]:
        """Where a window of the scene, in its pixels, is cloud; `source` is the opened layer."""
        from rasterio.windows import Window

        top, left, n = int(window.row_off), int(window.col_off), self.times
        first, last = (top // n, left // n), (-(-(top + window.height) // n), -(-(left + window.width) // n))
        cells = source.read(1, window=Window(first[1], first[0], last[1] - first[1], last[0] - first[0]))
        found = cloudy(self.path, cells)
        if n > 1:
            found = found.repeat(n, axis=0).repeat(n, axis=1)
        top, left = top - first[0] * n, left - first[1] * n
        cut: npt.NDArray[np.bool_] = found[top : top + int(window.height), left : left + int(window.width)]
        return cut


def cloudy(path: Path, cells: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which values of a layer are cloud, by what its name says it is."""
    for kind, bits in ((_QA, QA_BITS), (_FMASK, FMASK_BITS)):
        if kind.search(path.stem):
            marked: npt.NDArray[np.bool_] = (cells & sum(1 << bit for bit in bits)) != 0
            return marked
    return np.isin(cells, SCL_CLASSES) if _SCL.search(path.stem) else cells != 0


def of_product(paths: Iterable[Path], stem: str = "") -> Path | None:
    """The layer of clouds among the files of a product, the finest; None where it has none.

    Args:
        paths: its files
        stem: what the names of its bands share, where files of other products lie beside
    """
    kinds = (_QA, _SCL, _FMASK)
    found = [p for p in sorted(paths) if p.name.startswith(stem) and any(kind.search(p.stem) for kind in kinds)]
    return found[0] if found else None


def on_grid(path: Path, source: Any, crs: "pyproj.CRS", transform: "Affine", width: int, height: int) -> Clouds:
    """A layer, once it is known that its cells are whole pixels of a scene.

    Args:
        path: of the layer
        source: opened
        crs: of the scene
        transform: of its file
        width: of its file, pixels
        height: likewise

    Raises:
        DataError: it has several bands or no whole numbers, or lies on another grid
    """
    import pyproj
    from affine import Affine

    own = source.transform
    times = max(round(abs(own.determinant / transform.determinant) ** 0.5), 1)
    off = np.subtract((~transform @ own)[:6], Affine.scale(times)[:6])
    # a cell that is a thousandth longer is a whole one off after a thousand
    corners = [abs(off[i] * source.width) + abs(off[i + 1] * source.height) + abs(off[i + 2]) for i in (0, 3)]
    covers = source.width * times >= width and source.height * times >= height
    same = source.crs is not None and pyproj.CRS.from_wkt(source.crs.to_wkt()) == crs
    whole = np.dtype(source.dtypes[0]).kind in "ui"
    if source.count != 1 or not whole or not same or not covers or max(corners) > OFF_PX:
        raise DataError(
            f"{path}, the clouds of a scene, must be one band of whole numbers whose cells are whole pixels of the "
            "scene, in its CRS and from its corner: bring it there (gdalwarp -r near -t_srs -te -tr), or leave clouds "
            "as they are."
        )
    return Clouds(path, times)
