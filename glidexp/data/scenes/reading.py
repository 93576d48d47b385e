"""What a scene's header says, and its pixels strip by strip, from one file or one a band."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import pyproj.exceptions
import rasterio
import rasterio.errors
import shapely
from affine import Affine
from rasterio.windows import Window

from glidexp.config.data import TERRAIN
from glidexp.data import sensors
from glidexp.data.geodesy import Floats, around, is_metric, outline_lonlat, utm
from glidexp.data.scenes import bands as choice
from glidexp.data.scenes import corners, dem, vrt
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.clouds import Clouds, on_grid
from glidexp.data.scenes.declared import masked_of, no_data_of
from glidexp.data.scenes.dem import Dem
from glidexp.data.scenes.dem_grids import laid
from glidexp.data.scenes.grid import check_grid, not_orthorectified
from glidexp.data.scenes.numbers import coded, has_data, kind_of, numbers_in
from glidexp.data.sensors import RGB
from glidexp.errors import DataError

STRIP_PX = 4096
"""most rows that are read at once when the file's own blocks are higher than a tile"""
STRIP_BYTES = 2**28
"""a strip of more than one row of tiles stays below this, whatever the file's blocks are"""
SIDE_POINTS = 8
"""points an edge of a scene's outline"""
GRID_PX = 0.01
"""what corners of two bands may lie apart by rounding, pixels"""


@dataclass(frozen=True)
class Scene:
    """A scene's header, checked. Pixel windows are half open: rows [row, row + height)."""

    file: SceneFile
    width: int
    height: int
    crs: pyproj.CRS
    transform: Affine
    bands: tuple[int, ...]
    """1-based numbers in their files of the bands that are taken of them: red, green, blue when nothing else was asked
    for"""
    paths: tuple[Path, ...] = ()
    """file of each of these bands"""
    strip_px: int = field(default=1)
    """rows of the file's own blocks"""
    warnings: tuple[str, ...] = ()
    part: str = ""
    """ending of the name, where a large file is cut into several scenes"""
    top: int = 0
    left: int = 0
    """where the scene begins in its file, pixels; `transform` is of this corner"""
    numbers: str = "uint16"
    """kind of the values, whose codes `read_window` gives (`scenes.numbers`)"""
    clouds: Clouds | None = None
    """under which pixels are without data"""
    dem: Dem | None = None
    """whose bands follow on those of the files"""

    @property
    def terrain(self) -> int:
        """How many bands come of a DEM; they are the last."""
        return len(self.dem.names) if self.dem else 0

    @property
    def channels(self) -> int:
        """All bands."""
        return len(self.bands) + self.terrain

    @property
    def name(self) -> str:
        return self.file.scene + self.part

    def xy(self, col: Floats, row: Floats) -> tuple[Floats, Floats]:
        """Coordinates of pixel corners (col, row) in the scene's CRS."""
        a, b, c, d, e, f = self.transform[:6]
        return a * col + b * row + c, d * col + e * row + f

    @cached_property
    def crs_text(self) -> str:
        """EPSG code where there is one, else WKT."""
        code = self.crs.to_epsg()
        return f"EPSG:{code}" if code else self.crs.to_wkt()

    @cached_property
    def outline(self) -> shapely.Polygon:
        """The scene's edge in its own CRS, with points along it so that it may be transformed."""
        across, down = around(SIDE_POINTS)
        return shapely.Polygon(np.column_stack(self.xy(across * self.width, down * self.height)))

    @cached_property
    def outline_lonlat(self) -> shapely.Polygon:
        """The edge in degrees."""
        return outline_lonlat(self.crs, *shapely.get_coordinates(self.outline)[:-1].T)

    @cached_property
    def metric_crs(self) -> pyproj.CRS:
        """The scene's own CRS where its unit is a true metre here (within 1 %), else the UTM zone of its centre."""
        point = self.outline_lonlat.centroid
        return self.crs if is_metric(self.crs, point.x, point.y) else utm(point.x, point.y)

    @cached_property
    def gsd_m(self) -> float:
        """Side of a square of a pixel's ground area at the scene's centre, metres."""
        right, down = self._steps_m
        return round(math.sqrt(abs(right[0] * down[1] - right[1] * down[0])), 6)

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Height and width of a pixel on the ground at the scene's centre, metres."""
        right, down = self._steps_m
        return math.hypot(*down), math.hypot(*right)

    @cached_property
    def _steps_m(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """What a pixel to the right and one down is on the ground at the scene's centre, metres."""
        row, col = self.height / 2, self.width / 2
        pixels = np.array([(col, row), (col + 1, row), (col, row + 1)]).T
        x, y = self.xy(pixels[0], pixels[1])
        if self.metric_crs != self.crs:
            x, y = pyproj.Transformer.from_crs(self.crs, self.metric_crs, always_xy=True).transform(x, y)
        return (float(x[1] - x[0]), float(y[1] - y[0])), (float(x[2] - x[0]), float(y[2] - y[0]))

    @property
    def ground(self) -> str:
        """Names the ground the scene covers: scene, CRS and corners rounded to a thousandth of its unit."""
        corners = ",".join(f"{value:.3f}" for value in self.outline.bounds)
        return f"{self.name} {self.crs_text} {corners}"


@contextmanager
def opened_raster(path: Path) -> Iterator[rasterio.DatasetReader]:
    """Opens a raster and turns GDAL's refusals, at opening or at reading, into one sentence."""
    vrt.check_plain(Path(path))
    try:
        with warnings.catch_warnings():
            # said in one sentence by read_header
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source
    except rasterio.errors.RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise DataError(f"{path} cannot be read: {reason}; fetch it again or take it out.") from None


def read_header(file: SceneFile, bands: Sequence[str] = RGB) -> Scene:
    """Opens a scene and checks what a build needs of it: CRS, north and metres, pixel type, the bands asked for.

    Args:
        file: the scene
        bands: lower-case names of the bands to take, in the order in which `read_strips` gives them; of a DEM last

    Raises:
        DataError: one sentence with the file and what is wrong
    """
    file.require()
    terrain = [name for name in bands if file.dem and name in TERRAIN]
    bands = [name for name in bands if name not in terrain]
    paths = _band_files(file, bands)
    scene: Scene | None = None
    for path in dict.fromkeys(paths):
        vrt.check_sources(path)
        with opened_raster(path) as source:
            check_grid(path, source)
            if file.bands and source.count != 1:
                raise DataError(f"{path} is given as one band of {file.scene} but has {source.count}: give its file.")
            numbers, notes = ((1,), ()) if file.bands else choice.choose(file, source, tuple(bands))
            met = Scene(
                file=file,
                width=source.width,
                height=source.height,
                crs=pyproj.CRS.from_wkt(source.crs.to_wkt()),
                transform=source.transform,
                bands=numbers if len(paths) == 1 else (1,) * len(paths),
                paths=paths * len(numbers) if len(paths) == 1 else paths,
                strip_px=int(source.block_shapes[0][0]),
                numbers=kind_of([source.dtypes[number - 1] for number in numbers]),
                warnings=notes
                + (() if file.bands else corners.undeclared(path, source, numbers))
                + corners.idle_mask(path, source)
                + not_orthorectified(path, source),
            )
        if scene is not None:
            _check_grid(scene, met, paths[0], path)
        scene = replace(scene, numbers=kind_of([scene.numbers, met.numbers])) if scene else met
    assert scene is not None  # a scene has at least one band
    _check_place(scene)
    if file.clouds is not None:
        with opened_raster(file.clouds) as source:
            layer = on_grid(file.clouds, source, scene.crs, scene.transform, scene.width, scene.height)
        scene = replace(scene, clouds=layer)
    notes = scene.warnings
    if file.dem:
        layers, said = dem.on_scene(scene, terrain)
        scene, notes = replace(scene, dem=layers), notes + said
    notes += tuple(f"{p}: a VRT that resamples its sources." for p in dict.fromkeys(paths) if vrt.resamples(p))
    nominal = sensors.get(file.sensor).gsd_m
    if nominal == nominal and not 0.7 < scene.gsd_m / nominal < 1.43:
        notes += (f"{file.path}: a pixel is {scene.gsd_m:g} m where {file.sensor} has {nominal:g} m.",)
    return replace(scene, warnings=notes)


def _band_files(file: SceneFile, bands: Sequence[str]) -> tuple[Path, ...]:
    """The one file of a scene, or the file of each band."""
    if not file.bands:
        return (file.path,)
    known = dict(file.bands)
    lacking = [name for name in bands if name not in known]
    if lacking:
        raise DataError(
            f"scene {file.scene} has no file for {', '.join(lacking)}, only for {', '.join(known)}: add it beside "
            f"{file.path}{choice.OF_DEM * ({*lacking} <= {*TERRAIN})}, or choose other bands."
        )
    return tuple(known[name] for name in bands)


def _check_place(scene: Scene) -> None:
    try:
        west, south, east, north = scene.outline_lonlat.bounds
        sound = -540 <= west <= east <= 540 and -90 <= south <= north <= 90 and 0 < scene.gsd_m < math.inf
    except (pyproj.exceptions.ProjError, ValueError):
        sound = False
    if not sound:
        raise DataError(
            f"{scene.file.path} lies nowhere on Earth by its CRS and position: georeference it anew "
            "(gdal_translate -a_srs -a_ullr)."
        )


def _check_grid(first: Scene, other: Scene, path: Path, other_path: Path) -> None:
    """Bands of a scene lie on one grid: to bring them there is resampling, which is never done in silence."""

    def told(scene: Scene) -> str:
        return f"{scene.width} x {scene.height} px of {scene.gsd_m:g} m in {scene.crs_text.split('[')[0]}"

    size = (first.width, first.height) == (other.width, other.height)
    corners = np.array([(0, 0), (first.width, 0), (first.width, first.height), (0, first.height)], dtype=float).T
    # a pixel that is a thousandth longer is a whole pixel off after a thousand
    apart = np.abs(np.subtract(first.xy(*corners), other.xy(*corners))).max()
    if not size or first.crs != other.crs or apart > GRID_PX * abs(first.transform.determinant) ** 0.5:
        raise DataError(
            f"scene {first.file.scene}: {path.name} ({told(first)}) and {other_path.name} ({told(other)}) do not share "
            "one grid: choose bands of one resolution, or bring them to one grid first; nothing is resampled here."
        )


def read_strips(
    scene: Scene, tile_px: int, most_px: int = STRIP_PX
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """The scene from top to bottom in strips of whole tile rows, along the file's own blocks.

    Args:
        scene: its header
        tile_px: side of a tile
        most_px: most rows in a strip, where a tile has fewer

    Yields:
        first row, pixels (bands, h, W) as codes (`scenes.numbers`), valid (h, W); invalid is what alpha, mask or nodata
        declares (`has_data`), what is no number in one of the bands, and what is under masked clouds

    Raises:
        DataError: the file is damaged
    """
    tall = math.ceil(min(max(scene.strip_px, tile_px), most_px) / tile_px)
    fit = STRIP_BYTES // (tile_px * scene.width * scene.channels * max(2, np.dtype(scene.numbers).itemsize))
    rows = max(1, min(tall, fit)) * tile_px
    with ExitStack() as stack:
        opened = opened_files(scene, stack)
        for top in range(0, scene.height, rows):
            window = Window(scene.left, scene.top + top, scene.width, min(rows, scene.height - top))
            yield top, *read_window(scene, opened, window)


def opened_files(scene: Scene, stack: ExitStack) -> dict[Path, rasterio.DatasetReader]:
    """The files that `read_window` reads, open until the stack is."""
    paths = [*scene.paths, *([scene.clouds.path] if scene.clouds else [])]
    opened = {path: stack.enter_context(opened_raster(path)) for path in dict.fromkeys(paths)}
    if scene.dem is not None:
        opened |= laid(scene.dem.grids, scene.dem.wrap, opened[scene.paths[0]], stack)
    return opened


def read_window(
    scene: Scene, opened: Mapping[Path, rasterio.DatasetReader], window: Window
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Pixels (bands, h, W), as codes, and valid (h, W) of a window of the files."""
    first = opened[scene.paths[0]]
    if len(set(scene.paths)) == 1:
        kind = scene.numbers if len({*first.dtypes}) > 1 else None  # a VRT may have bands of several
        pixels = first.read(scene.bands, window=window, out_dtype=kind)
    else:
        pixels = np.stack([opened[p].read(b, window=window) for p, b in zip(scene.paths, scene.bands, strict=True)])
    nodata, masked = no_data_of(scene, opened), masked_of(scene, opened)
    valid = np.ones(pixels.shape[1:], dtype=bool)
    for source in masked:
        valid &= source.dataset_mask(window=window) > 0
    declared = [value for value in nodata if value is not None]
    if not masked and len(declared) == len(nodata):
        valid = has_data(pixels, declared)
    if (numbers := numbers_in(pixels)) is not None:
        valid &= numbers
    pixels = coded(pixels)
    if scene.clouds is not None:
        valid &= ~scene.clouds.window(opened[scene.clouds.path], window)
    return (scene.dem.behind(pixels, valid, scene, opened, window) if scene.dem else pixels), valid
