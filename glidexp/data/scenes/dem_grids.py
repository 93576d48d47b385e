"""The rasters of a DEM as one: those of a grid mosaicked before they are resampled, and laid on the grid of a scene."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from xml.sax.saxutils import escape

import numpy as np

from glidexp.errors import DataError

if TYPE_CHECKING:
    from affine import Affine

RIM_CELLS = 3
"""around a grid, beyond the reach of a B-spline"""
OFF_CELLS = 0.01
"""what rasters of a grid may lie off it by rounding"""
HEIGHTS_M = (-500.0, 9000.0)
"""what lies beyond is a void, whether the file declares it or not: -32768, -9999, 65535"""
MIDDLE_CELLS, UNLIKELY_M = 32, 1e6
"""side of the part of a raster that is looked at, and what heights in millimetres are below, voids often not"""
KEPT = "<LUT>-1e300:nan,{0:.3f}:nan,{1}:{1},{2}:{2},{3:.3f}:nan,1e300:nan</LUT>".format(
    HEIGHTS_M[0] - 0.001, *HEIGHTS_M, HEIGHTS_M[1] + 0.001
)
"""heights as they are, and NaN for what is none: GDAL draws straight lines between these points"""
BESIDE = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
"""setting of GDAL: headers and masks beside a DEM count also in a server, which looks for none beside an upload"""
WRAPPED = "+proj=longlat +datum=WGS84 +lon_wrap={:.0f} +no_defs"


@lru_cache(2**15)
def refuse_unlikely(path: Path, changed_ns: int) -> None:
    """Refuses a raster whose middle is higher than any mountain: all of it would be taken for voids, in silence.

    Args:
        path: its place
        changed_ns: when it was last changed: each file is looked at once

    Raises:
        DataError: says which values it holds
    """
    import rasterio.errors
    from rasterio import Env
    from rasterio.windows import Window

    from glidexp.data.scenes.reading import opened_raster

    with Env(**BESIDE), opened_raster(path) as source:
        col, row = (max(side // 2 - MIDDLE_CELLS // 2, 0) for side in (source.width, source.height))
        sides = min(MIDDLE_CELLS, source.width), min(MIDDLE_CELLS, source.height)
        try:
            values = source.read(1, window=Window(col, row, *sides), masked=True).compressed().astype(np.float64)
        except rasterio.errors.RasterioError:  # damage is told by who reads all of it
            return
        heights = values[np.isfinite(values)] * source.scales[0] + source.offsets[0]
    if len(heights) and HEIGHTS_M[1] < heights.min() < heights.max() < UNLIKELY_M:  # one value alone stands for voids
        raise DataError(
            f"{path} is no DEM in metres: in its middle it holds {heights.min():,.0f} to {heights.max():,.0f}, and no "
            f"ground is above {HEIGHTS_M[1]:,.0f} m: bring its heights to metres first (gdal_calc)."
        )


def laid(grids: Sequence[tuple[Path, ...]], wrap: float | None, scene_file: Any, stack: ExitStack) -> dict[Path, Any]:
    """The grids of a DEM, opened and laid on that of a scene's file with a pixel more on each side.

    Args:
        grids: from `grids_of`
        wrap: as there
        scene_file: opened
        stack: keeps them open

    Returns:
        each by its first raster
    """
    from affine import Affine
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    found = {}
    for paths in grids:
        mosaic = stack.enter_context(_mosaic(paths, wrap))
        across, down = _widths(mosaic, scene_file)
        found[paths[0]] = stack.enter_context(
            WarpedVRT(
                mosaic,
                crs=scene_file.crs,
                transform=scene_file.transform @ Affine.translation(-1, -1),
                width=scene_file.width + 2,
                height=scene_file.height + 2,
                resampling=Resampling.cubic_spline,
                src_nodata=None,  # a cell without height is NaN, and so is each pixel that it is a part of
                nodata=math.nan,
                dtype="float32",
                XSCALE=1 / across,
                YSCALE=1 / down,
            )
        )
    return found


def _widths(mosaic: Any, scene_file: Any) -> tuple[int, int]:
    """By how many cells of a DEM, across and down, its B-splines widen: as many as a pixel is wide, 1 at least.

    Whole ones: of others the weights, taken at cells alone, do not give a plane back, and its slope would be in waves.
    """
    import pyproj

    col, row = scene_file.width / 2, scene_file.height / 2
    x, y = scene_file.transform * (np.array([col, col + 1, col]), np.array([row, row, row + 1]))
    to = pyproj.Transformer.from_crs(scene_file.crs.to_wkt(), mosaic.crs.to_wkt(), always_xy=True)
    cols, rows = ~mosaic.transform * to.transform(x, y)
    return tuple(max(round(math.hypot(*(places[1:] - places[0]))), 1) for places in (cols, rows))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Header:
    """Of a raster of a DEM."""

    path: Path
    crs: str
    transform: "Affine"
    width: int
    height: int
    scale: float
    offset_m: float
    """with the scale: from the file's values to metres"""

    @classmethod
    def of(cls, path: Path, wrap: float | None) -> Self:
        """In longitudes around one where that is given and the raster is in degrees of WGS 84, whatever its heights."""
        import pyproj
        from affine import Affine
        from rasterio import Env
        from rasterio.crs import CRS

        from glidexp.data.scenes.reading import opened_raster

        with Env(**BESIDE), opened_raster(path) as source:
            crs, transform = source.crs, source.transform
            if wrap is not None and pyproj.CRS.from_wkt(crs.to_wkt()).to_2d().to_epsg() == 4326:
                turns = round((wrap - sum(source.bounds[::2]) / 2) / 360)
                crs, transform = CRS.from_string(WRAPPED.format(wrap)), Affine.translation(360 * turns, 0) @ transform
            return cls(path, crs.to_wkt(), transform, source.width, source.height, *source.scales, *source.offsets)

    def offset(self, first: "_Header") -> tuple[int, int] | None:
        """Columns and rows from another's corner, where both lie on one grid."""
        change = ~first.transform @ self.transform
        col, row = round(change.c), round(change.f)
        off = np.abs(np.subtract(change[:6], (1, 0, col, 0, 1, row)))
        same = self.crs == first.crs and max(off[2], off[5]) < OFF_CELLS
        return (col, row) if same and max(off[[0, 1, 3, 4]]) * max(self.width, self.height) < OFF_CELLS else None


def grids_of(paths: Sequence[Path], wrap: float | None) -> tuple[tuple[Path, ...], ...]:
    """The rasters that lie on one grid together: between them heights are resampled as if they were one.

    Args:
        paths: of the rasters
        wrap: longitude around which those in degrees lie, near 180; None elsewhere
    """
    found: list[list[_Header]] = []
    for header in (_Header.of(path, wrap) for path in paths):
        mine = next((group for group in found if header.offset(group[0]) is not None), None)
        if mine is None:
            found.append([header])
        else:
            mine.append(header)
    return tuple(tuple(header.path for header in group) for group in found)


def _mosaic(paths: Sequence[Path], wrap: float | None) -> Any:
    """The rasters of a grid as one, opened; NaN between and around them, so that no pixel is made of half a kernel."""
    import rasterio
    from affine import Affine

    headers = [_Header.of(path, wrap) for path in paths]
    places = [header.offset(headers[0]) or (0, 0) for header in headers]
    left, top = (min(place[axis] for place in places) - RIM_CELLS for axis in (0, 1))
    right = max(col + header.width for (col, _), header in zip(places, headers, strict=True)) + RIM_CELLS
    bottom = max(row + header.height for (_, row), header in zip(places, headers, strict=True)) + RIM_CELLS
    corner = headers[0].transform @ Affine.translation(left, top)
    sources = [
        f"<ComplexSource><SourceFilename>{escape(str(header.path.absolute()))}</SourceFilename>"
        "<SourceBand>1</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{header.width}" ySize="{header.height}"/>'
        f'<DstRect xOff="{col - left}" yOff="{row - top}" xSize="{header.width}" ySize="{header.height}"/>'
        f"<UseMaskBand>true</UseMaskBand><ScaleOffset>{header.offset_m!r}</ScaleOffset>"
        f"<ScaleRatio>{header.scale!r}</ScaleRatio>{KEPT}</ComplexSource>"
        for (col, row), header in zip(places, headers, strict=True)
    ]
    return rasterio.open(
        f'<VRTDataset rasterXSize="{right - left}" rasterYSize="{bottom - top}"><SRS>{escape(headers[0].crs)}</SRS>'
        f"<GeoTransform>{', '.join(map(repr, corner.to_gdal()))}</GeoTransform>"
        '<VRTRasterBand dataType="Float32" band="1"><NoDataValue>nan</NoDataValue>'
        f"{''.join(reversed(sources))}</VRTRasterBand></VRTDataset>"  # where two have a height, the first counts
    )
