"""Scenes on disk: which there are, what their header says, and their pixels strip by strip."""

import csv
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import rasterio.errors
import shapely
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from glidexp.data import sensors
from glidexp.errors import DataError

Floats = npt.NDArray[np.float64]
RGB = ("red", "green", "blue")
SUFFIXES = (".tif", ".tiff")
COLUMNS = ("path", "scene", "sensor", "region", "date")
STRIP_PX = 4096
"""most rows that are read at once when the file's own blocks are higher than a tile"""
_SHORT = {"r": "red", "g": "green", "b": "blue"}


@dataclass(frozen=True, slots=True)
class SceneFile:
    """A scene as the catalogue names it."""

    path: Path
    scene: str
    sensor: str
    region: str = "unknown"
    date: str = ""


@dataclass(frozen=True)
class Scene:
    """A scene's header, checked. Pixel windows are half open: rows [row, row + height)."""

    file: SceneFile
    width: int
    height: int
    crs: pyproj.CRS
    transform: Affine
    bands: tuple[int, ...]
    """1-based numbers in the file of the bands that are taken: red, green and blue when nothing else was asked for"""
    strip_px: int = field(default=1)
    """rows of the file's own blocks"""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.file.scene

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
        steps = np.linspace(0.0, 1.0, 9)[:-1]
        sides = [
            (steps * self.width, np.zeros_like(steps)),
            (np.full_like(steps, self.width), steps * self.height),
            ((1 - steps) * self.width, np.full_like(steps, self.height)),
            (np.zeros_like(steps), (1 - steps) * self.height),
        ]
        col, row = (np.concatenate([side[i] for side in sides]) for i in (0, 1))
        return shapely.Polygon(np.column_stack(self.xy(col, row)))

    @cached_property
    def outline_lonlat(self) -> shapely.Polygon:
        """The edge in degrees. Across the antimeridian, longitudes go on beyond 180."""
        lon, lat = to_lonlat(self.crs, *shapely.get_coordinates(self.outline).T)
        return shapely.Polygon(np.column_stack([unwrap(lon), lat]))

    @cached_property
    def metric_crs(self) -> pyproj.CRS:
        """The scene's own CRS where its unit is a true metre here (within 1 %), else the UTM zone of its centre."""
        point = self.outline_lonlat.centroid
        return self.crs if is_metric(self.crs, point.x, point.y) else utm(point.x, point.y)

    @cached_property
    def gsd_m(self) -> float:
        """Side of a square of a pixel's ground area at the scene's centre, metres."""
        row, col = self.height / 2, self.width / 2
        pixels = np.array([(col, row), (col + 1, row), (col, row + 1)]).T
        x, y = self.xy(pixels[0], pixels[1])
        if self.metric_crs != self.crs:
            x, y = pyproj.Transformer.from_crs(self.crs, self.metric_crs, always_xy=True).transform(x, y)
        right, down = (x[1] - x[0], y[1] - y[0]), (x[2] - x[0], y[2] - y[0])
        return round(math.sqrt(abs(right[0] * down[1] - right[1] * down[0])), 6)

    @property
    def ground(self) -> str:
        """Names the ground the scene covers: scene, CRS and corners rounded to a thousandth of its unit."""
        corners = ",".join(f"{value:.3f}" for value in self.outline.bounds)
        return f"{self.name} {self.crs_text} {corners}"


def to_lonlat(crs: pyproj.CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Degrees of WGS 84 of points in any CRS."""
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    return lon, lat


def unwrap(lon: Floats) -> Floats:
    """Longitudes without the jump at 180 degrees, for points that lie close together."""
    return np.where(lon < 0, lon + 360.0, lon) if np.ptp(lon) > 180.0 else lon


def is_metric(crs: pyproj.CRS, lon: float, lat: float) -> bool:
    """Whether a unit of the CRS is a metre on the ground at this place, to 1 %: true of UTM, not of Web Mercator."""
    if not crs.is_projected or any(axis.unit_name not in ("metre", "meter", "m") for axis in crs.axis_info):
        return False
    factors = pyproj.Proj(crs).get_factors(lon, lat)
    return abs(factors.meridional_scale - 1) < 0.01 and abs(factors.parallel_scale - 1) < 0.01


def utm(lon: float, lat: float) -> pyproj.CRS:
    """UTM zone of a place; beyond 84 N and 80 S, where there is none, an equidistant plane around the place itself."""
    if not -80 <= lat <= 84:
        return pyproj.CRS.from_proj4(f"+proj=aeqd +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")
    return pyproj.CRS.from_epsg((32600 if lat >= 0 else 32700) + zone(lon))


def zone(lon: float) -> int:
    """UTM zone of a longitude, by the plain rule of 6 degrees."""
    return math.floor((lon + 180.0) / 6.0) % 60 + 1


def find(root: Path, sensor: str) -> list[SceneFile]:
    """Scenes of a folder of TIFFs, of one TIFF, or of a CSV with the columns path,scene,sensor,region,date.

    Only `path` is needed in a CSV; paths are relative to it. Sorted by scene.

    Args:
        root: folder, TIFF or CSV
        sensor: sensor of every scene that does not name its own

    Raises:
        DataError: nothing there, a file missing, a scene named twice
        ConfigError: a sensor outside the registry
    """
    if not root.exists():
        raise DataError(f"dataset.root={root} does not exist: give a folder of TIFFs or a CSV with a column 'path'.")
    if root.is_dir():
        paths = [p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        files = [SceneFile(path=p, scene=p.stem, sensor=sensor) for p in paths]
    elif root.suffix.lower() == ".csv":
        files = _read_catalogue(root, sensor)
    else:
        files = [SceneFile(path=root, scene=root.stem, sensor=sensor)]
    if not files:
        raise DataError(f"dataset.root={root} holds no scene ({', '.join(SUFFIXES)}): give another folder or a CSV.")
    seen: set[str] = set()
    for file in files:
        sensors.get(file.sensor, f"sensor of scene {file.scene}")
        if not file.path.is_file():
            raise DataError(f"{file.path} is named by {root} but is not there: correct the path or remove the line.")
        if file.scene in seen:
            raise DataError(f"scene '{file.scene}' comes twice in {root}: give every scene a name of its own.")
        seen.add(file.scene)
    return sorted(files, key=lambda f: f.scene)


def _read_catalogue(path: Path, sensor: str) -> list[SceneFile]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = reader.fieldnames or []
            if "path" not in header:
                raise DataError(f"{path} has no column 'path': its first line must be like {','.join(COLUMNS)}.")
            rows = [
                {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)} for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8: {error}.") from None
    return [
        SceneFile(
            path=path.parent / row["path"],
            scene=row.get("scene") or Path(row["path"]).stem,
            sensor=row.get("sensor") or sensor,
            region=row.get("region") or "unknown",
            date=row.get("date", ""),
        )
        for row in rows
        if row["path"]
    ]


@contextmanager
def _opened(path: Path) -> Iterator[rasterio.DatasetReader]:
    """Opens a raster and turns GDAL's refusals, at opening or at reading, into one sentence."""
    try:
        with warnings.catch_warnings():
            # said in one sentence by read_header
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source
    except rasterio.errors.RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise DataError(f"{path} cannot be read: {reason}; fetch it again or take it out.") from None


def read_header(file: SceneFile, bands: Sequence[str] = RGB) -> Scene:
    """Opens a scene and checks what a build needs of it: CRS, north and metres, pixel type, the bands asked for.

    Args:
        file: the scene
        bands: lower-case names of the bands to take, in the order in which `read_strips` gives them

    Raises:
        DataError: one sentence with the file and what is wrong
    """
    with _opened(file.path) as source:
        if source.crs is None or source.transform.is_identity:
            raise DataError(f"{file.path} has no CRS or no position: georeference it (gdal_translate -a_srs -a_ullr).")
        kinds = set(source.dtypes)
        if not kinds <= {"uint8", "uint16"}:
            raise DataError(f"{file.path} holds {'/'.join(sorted(kinds))}, not uint8 or uint16: convert it first.")
        numbers, notes = _choose_bands(file, source, tuple(bands))
        scene = Scene(
            file=file,
            width=source.width,
            height=source.height,
            crs=pyproj.CRS.from_wkt(source.crs.to_wkt()),
            transform=source.transform,
            bands=numbers,
            strip_px=int(source.block_shapes[0][0]),
            warnings=notes,
        )
    nominal = sensors.get(file.sensor).gsd_m
    if nominal == nominal and not 0.7 < scene.gsd_m / nominal < 1.43:
        note = f"{file.path}: a pixel is {scene.gsd_m:g} m where {file.sensor} has {nominal:g} m."
        return Scene(**{**_fields(scene), "warnings": (*scene.warnings, note)})
    return scene


def _fields(scene: Scene) -> dict[str, Any]:
    return {name: getattr(scene, name) for name in Scene.__dataclass_fields__}


def _choose_bands(
    file: SceneFile, source: rasterio.DatasetReader, names: tuple[str, ...]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Numbers of the named bands: by the file's band names, its colours, the sensor's order; R, G, B else by place."""
    described = [_SHORT.get(text, text) for text in ((d or "").strip().lower() for d in source.descriptions)]
    meant = [c.name for c in source.colorinterp]
    for known in (described, meant):
        if all(known.count(name) == 1 for name in names):
            return tuple(known.index(name) + 1 for name in names), ()
    order = sensors.get(file.sensor).bands
    colours = [i for i, kind in enumerate(source.colorinterp, start=1) if kind != ColorInterp.alpha]
    if len(order) == len(colours) and set(names) <= set(order):
        note = f"{file.path} names no bands: taken in the order of {file.sensor} ({', '.join(order)})."
        return tuple(colours[order.index(name)] for name in names), (note,)
    if len(colours) == 3 and names == RGB:
        return (colours[0], colours[1], colours[2]), (f"{file.path} names no bands: its three are taken as R, G, B.",)
    lacking = [name for name in names if name not in described]
    none = "none is named" if len(lacking) == len(names) else "none or more than one is named"
    raise DataError(
        f"{file.path} has {len(colours)} bands and {none} {', '.join(lacking or names)}: "
        "set band descriptions, or dataset.sensor to one whose band order fits."
    )


def read_strips(scene: Scene, tile_px: int) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """The scene from top to bottom in strips of whole tile rows, along the file's own blocks.

    Yields:
        first row, pixels (bands, h, W) uint8 or uint16, valid (h, W); invalid is what alpha, mask or nodata (in all
        bands that are taken) declares

    Raises:
        DataError: the file is damaged
    """
    rows = math.ceil(min(max(scene.strip_px, tile_px), STRIP_PX) / tile_px) * tile_px
    with _opened(scene.file.path) as source:
        flags = source.mask_flag_enums[scene.bands[0] - 1]
        nodata = [source.nodatavals[band - 1] for band in scene.bands]
        for top in range(0, scene.height, rows):
            window = Window(0, top, scene.width, min(rows, scene.height - top))
            pixels = source.read(scene.bands, window=window)
            if MaskFlags.per_dataset in flags:
                valid = source.dataset_mask(window=window) > 0
            elif all(value is not None for value in nodata):
                valid = np.zeros(pixels.shape[1:], dtype=bool)
                for band, value in zip(pixels, nodata, strict=True):
                    valid |= band != value
            else:
                valid = np.ones(pixels.shape[1:], dtype=bool)
            yield top, pixels, valid
