"""Bands that a digital elevation model (DEM) gives a scene: elevation and slope on the scene's own grid.

Heights are brought to the pixels of the scene by cubic B-splines, whose first derivatives are continuous: a DEM of 30 m
has no steps of slope under pixels of 10 m, and of a finer one the kernel widens with the pixel. Slope is the angle of
the gradient by differences of the four neighbours (Zevenbergen and Thorne 1987, doi:10.1002/esp.3290120107), one-sided
where one of them lacks a height, in metres on the ground whatever the CRS. It does not change when a tile is turned or
mirrored; aspect and hillshade would, so there are none.

Both are written in levels of 8 bit that are the same for every scene, so no stretch is fitted to them. Where the DEM
has no height, and up to two of its cells beside that, a pixel is without data: a slope of half a kernel would be wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.data.scenes import vrt
from glidexp.data.scenes.dem_grids import BESIDE, grids_of, refuse_unlikely
from glidexp.errors import DataError

if TYPE_CHECKING:
    from rasterio.windows import Window

    from glidexp.data.scenes.reading import Scene

SUFFIXES = (".tif", ".tiff", ".vrt", ".img", ".hgt", ".dt0", ".dt1", ".dt2", ".asc", ".bil")
"""of files that are a DEM"""
ELEVATION_M, SLOPE_DEG = 35.0, 0.25
"""of a level: 255 is 8925 m and 63.75 degrees, or more"""
PIECE = 1 << 20
"""pixels worked on at once"""
WRAPPED_FROM = 170.0
"""degrees east or west, from where a scene may reach across 180"""
SIDE_POINTS = 64
"""points an edge of a projected DEM's outline: a polar one of thousands of kilometres is bent in degrees"""
METRES = ("", "m", "metre", "metres", "meter", "meters")
"""what a file may say that its heights are in"""
NAMED = ("_dem", "_dsm", "_dtm")
"""how products end the name of the raster that holds the heights"""
LEVELS_VERSION = 1
"""counts up when other levels come of the same DEM, so that stores and maps of before are not taken for these"""
UNCOVERED = 0.001
"""share of a scene beyond the DEM that is said"""
NOTHING = 1e-6
"""share of a scene on a DEM that is none: their edges touch"""
TWICE = 0.1
"""share of the smaller of two rasters that both cover, from which it is said; tiles share a rim at most"""
Floats = npt.NDArray[np.float32]


class BeyondDem(DataError):
    """No raster of a DEM touches a scene."""


@dataclass(frozen=True, slots=True)
class Dem:
    """The rasters of a DEM that touch a scene, and what is made of them."""

    grids: tuple[tuple[Path, ...], ...]
    """rasters that lie on one grid together; where two have a height, the first counts"""
    names: tuple[str, ...]
    """of `TERRAIN`, in the order of the channels; none where only ground with heights is wanted"""
    wrap: float | None = None
    """longitude of the scene's middle, where it lies near 180 degrees: rasters on either side are one grid then"""

    def behind(
        self,
        pixels: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_],
        scene: "Scene",
        opened: Mapping[Path, Any],
        window: "Window",
    ) -> npt.NDArray[Any]:
        """The bands of a window of the scene's files and, behind them, those of the DEM.

        Args:
            pixels: (bands, h, W) of the scene
            valid: (h, W), changed in place: not where there is no height
            scene: its header
            opened: of each grid a raster on that of the scene, from `laid`
            window: in pixels of the scene's files
        """
        levels = np.empty((len(self.names), *pixels.shape[1:]), np.uint8)
        rows = max(PIECE // max(pixels.shape[2], 1), 1)
        for first in range(0, pixels.shape[1], rows):
            part = slice(first, min(first + rows, pixels.shape[1]))
            top, left = int(window.row_off) + part.start, int(window.col_off)
            heights = self.heights(opened, top, left, part.stop - part.start, pixels.shape[2])
            steps = steps_m(scene, top, len(heights) - 2)
            valid[part] &= np.isfinite(heights[1:-1, 1:-1])
            for place, name in enumerate(self.names):
                found = heights[1:-1, 1:-1] / ELEVATION_M if name == "elevation" else slope(heights, steps) / SLOPE_DEG
                known = np.isfinite(found)
                valid[part] &= known
                levels[place, part] = np.clip(np.rint(np.where(known, found, 0)), 0, 255).astype(np.uint8)
        return np.concatenate([pixels, levels.astype(pixels.dtype)])

    def heights(self, opened: Mapping[Path, Any], top: int, left: int, height: int, width: int) -> Floats:
        """(height + 2, width + 2) metres of a window of the scene's files and of the pixels around it, NaN where there
        is none.

        Args:
            opened: as in `behind`
            top, left, height, width: of the window, in pixels of the scene's files

        Raises:
            DataError: a raster cannot be read
        """
        import rasterio
        import rasterio.errors
        from rasterio.windows import Window

        # the grids of `laid` begin a pixel before the scene does
        window = Window(left, top, width + 2, height + 2)
        found = np.full((height + 2, width + 2), np.nan, np.float32)
        for paths in self.grids:
            lacking = np.isnan(found)
            if not lacking.any():
                break
            try:
                with rasterio.Env(**BESIDE):  # sources of a mosaic are opened when they are read
                    heights = opened[paths[0]].read(1, window=window)
            except rasterio.errors.RasterioError as error:
                others = f" or a raster of its grid, {len(paths)} in all," * (len(paths) > 1)
                reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
                raise DataError(f"{paths[0]}{others} cannot be read: {reason}; fetch it again.") from None
            found[lacking] = heights[lacking]
        return found


def slope(heights: Floats, steps: npt.NDArray[np.float64]) -> Floats:
    """Degrees, (h, W), of heights with a rim of one pixel.

    Args:
        heights: (h + 2, W + 2) metres; NaN where there is none
        steps: (h, 2, 2) from `steps_m`

    Returns:
        NaN where the height is, or both neighbours of a side
    """
    centre = heights[1:-1, 1:-1]
    right = _difference(heights[1:-1, :-2], centre, heights[1:-1, 2:])
    down = _difference(heights[:-2, 1:-1], centre, heights[2:, 1:-1])
    # a pixel to the right is a vector on the ground and so is one down: the gradient is what gives both differences
    inverse = np.linalg.inv(steps).astype(np.float32)[:, :, :, None]
    east = inverse[:, 0, 0] * right + inverse[:, 0, 1] * down
    north = inverse[:, 1, 0] * right + inverse[:, 1, 1] * down
    found: Floats = np.degrees(np.arctan(np.hypot(east, north)))
    return found


def _difference(before: Floats, at: Floats, after: Floats) -> Floats:
    """Of a pixel's height to the next one's: half of the two steps, the one that there is, NaN where there is none."""
    left, right = at - before, after - at
    both = (left + right) / 2
    found: Floats = np.where(np.isnan(both), np.where(np.isnan(left), right, left), both)
    return found


def steps_m(scene: "Scene", top: int, count: int) -> npt.NDArray[np.float64]:
    """What a pixel to the right and one down is on the ground, metres: (count, 2, 2) of rows of the scene's files.

    In degrees, and in projections that stretch, it changes from row to row; it is taken in the middle of each.
    """
    import pyproj

    rows, col = np.arange(top, top + count) - scene.top + 0.5, scene.width / 2
    corners = np.array([(col, 0.0), (col + 1, 0.0), (col, 1.0)])
    x, y = scene.xy(corners[:, 0][None, :].repeat(count, 0), corners[:, 1][None, :] + rows[:, None])
    if scene.metric_crs != scene.crs:
        x, y = pyproj.Transformer.from_crs(scene.crs, scene.metric_crs, always_xy=True).transform(x, y)
    ground = np.stack([x, y], axis=-1)
    steps: npt.NDArray[np.float64] = ground[:, 1:] - ground[:, :1]
    return steps


def files_of(given: Path | str | None, setting: str) -> tuple[Path, ...]:
    """The rasters of a DEM: one file, or those below a folder. Where some are named as in `NAMED`, these alone.

    Args:
        given: place of the DEM; None or "" where there is none
        setting: that gave it, in messages

    Raises:
        DataError: nothing there
    """
    if not given:
        return ()
    place = Path(given)
    if place.is_file():
        return (place,)
    inside = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = sorted(path for path in inside if not path.name.startswith(".") and path.is_file())
    named = [path for path in found if path.stem.lower().endswith(NAMED)]
    if not found:
        what = "holds no DEM" if place.is_dir() else "does not exist"
        raise DataError(
            f"{setting}={place} {what}: give a raster of heights in metres, or a folder of them "
            f"({', '.join(SUFFIXES)})."
        )
    return tuple(named or found)


def read_of(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Every file that heights are read from: rasters, and of a VRT also those that it refers to."""
    return tuple(dict.fromkeys(part for path in paths for part in (path, *vrt.sources_of(path))))


def meaning(bands: Sequence[str]) -> str:
    """What the levels of bands of `TERRAIN` are, in a sentence, for who makes them elsewhere."""
    told = {"elevation": f"heights in steps of {ELEVATION_M:g} m", "slope": f"slope in steps of {SLOPE_DEG:g} degrees"}
    return (
        f"Of a digital elevation model come {' and '.join(bands)}: {' and '.join(told[band] for band in bands)}, "
        "rounded, from 0 to 255, on the scene's pixels, to which heights are brought by cubic B-splines. No stretch is "
        "fitted to them."
    )


def on_scene(scene: "Scene", bands: Sequence[str], lacking: str = "data") -> tuple[Dem, tuple[str, ...]]:
    """The part of a DEM that a scene needs, and what is to be said of it.

    Args:
        scene: its header, with the DEM's rasters in `file.dem`
        bands: of `TERRAIN`
        lacking: what a pixel beyond the DEM is without, in words

    Raises:
        DataError: a raster is no DEM, or none touches the scene (`BeyondDem`)
    """
    import shapely
    from shapely.affinity import translate

    from glidexp.data.geodesy import TURNS

    touching, edges, covered, ground = [], [], [], scene.outline_lonlat
    for path in scene.file.dem:
        try:
            edge = _edge(path, path.stat().st_mtime_ns)
        except OSError as error:
            raise DataError(f"{path}, a raster of the DEM, cannot be read: {error.strerror}.") from None
        near = [moved for by in TURNS if (moved := translate(edge, by)).intersects(ground)]
        if near:
            refuse_unlikely(path, path.stat().st_mtime_ns)
            touching.append(path)
            edges.append(near[0])
            covered += near
    beyond = 1 - shapely.union_all(covered).intersection(ground).area / ground.area if covered else 1.0
    if beyond > 1 - NOTHING:
        others = f" and {len(scene.file.dem) - 1} others" * (len(scene.file.dem) > 1)
        raise BeyondDem(
            f"{scene.file.dem[0]}{others}: the DEM does not reach scene {scene.name}: add its ground, or take the "
            "scene out."
        )
    middle = ground.centroid.x
    wrap = middle if abs(middle) > WRAPPED_FROM else None
    grids, said = grids_of(touching, wrap), list[str]()
    if beyond > UNCOVERED:
        said.append(f"{scene.file.path}: {beyond:.1%} lies beyond the DEM and is without {lacking}.")
    said += _twice(scene, touching, edges)
    if len(grids) > 1:
        said.append(
            f"{scene.file.path}: the DEM's rasters lie on {len(grids)} grids there: where these meet and do not "
            f"overlap, up to four cells are without {lacking}. Bring them to one grid first (gdalwarp)."
        )
    return Dem(grids, tuple(bands), wrap), tuple(said)


def _twice(scene: "Scene", paths: Sequence[Path], edges: Sequence[Any]) -> list[str]:
    """A note where two rasters have the same ground, of which one may be no DEM: slope, hillshade, another version.

    Args:
        scene: its header
        paths: of the rasters
        edges: outline of each, in degrees
    """
    for place, edge in enumerate(edges):
        for path, before in zip(paths[:place], edges[:place], strict=False):
            if edge.intersection(before).area > TWICE * min(edge.area, before.area):
                return [
                    f"{scene.file.path}: {path} and {paths[place]} hold the same ground, and where both have values "
                    "one alone counts: if one of them is not of heights, or another version, take it out."
                ]
    return []


@lru_cache(2**15)
def _edge(path: Path, changed_ns: int) -> Any:
    """The outline of a raster in degrees, once it is known that it can be a DEM; a folder of them meets many scenes."""
    import pyproj
    from rasterio import Env

    from glidexp.data.geodesy import around, outline_lonlat
    from glidexp.data.scenes.reading import opened_raster

    vrt.check_sources(path)
    with Env(**BESIDE), opened_raster(path) as source:
        if source.count != 1 or source.crs is None or source.transform.is_identity or "complex" in source.dtypes[0]:
            raise DataError(
                f"{path} is no DEM: it must be one band of heights in metres, with a CRS and a position "
                "(gdal_translate -b 1 -a_srs)."
            )
        if source.dtypes[0] in ("uint8", "int8") and source.scales[0] == 1:
            raise DataError(
                f"{path} is no DEM: its values are of 8 bit, as those of a hillshade or a picture are. Give heights in "
                "metres, or take it out of the folder."
            )
        unit = source.units[0] or ""
        if unit.lower() not in METRES:
            raise DataError(f"{path} holds heights in {unit}: bring them to metres first (gdal_calc).")
        across, down = around(1 if source.crs.is_geographic else SIDE_POINTS)
        a, b, c, d, e, f = source.transform[:6]
        col, row = across * source.width, down * source.height
        crs = pyproj.CRS.from_wkt(source.crs.to_wkt())
        return outline_lonlat(crs, a * col + b * row + c, d * col + e * row + f).buffer(0)
