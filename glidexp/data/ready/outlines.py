"""Lake outlines in the metric grids of scenes, and what a lake is recognised by: area, centre, second moments."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from glidexp.data.ready.members import open_zip
from glidexp.data.scenes.features import HEAD_BYTES, layer_of, layer_setting, layers_of, read_features, refers
from glidexp.errors import DataError

ENDINGS = (".shp", ".gpkg", ".geojson", ".json", ".fgb", ".parquet")
SETTING = "--match"
"""names the outlines in messages"""
OVERLAP_DEG = 1.0
"""a scene's UTM zone may reach this far beyond its border: lakes there are looked for in both"""
Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Outlines:
    """Lakes of one UTM zone."""

    crs: str
    polygons: npt.NDArray[Any]
    area_m2: Floats
    centre: Floats
    """(N, 2), metres"""
    moments: Floats
    """(N, 3) xx, yy, xy about the centre, by area squared: no unit"""
    tree: Any = field(repr=False)
    """shapely.STRtree of the polygons"""
    near: Any = field(repr=False)
    """k-d tree of the centres"""
    shapes: dict[int, Any] = field(default_factory=dict, repr=False)
    """polygons in the form that GDAL's rasteriser takes, as they are needed"""


def read_outlines(path: Path, layer: str | None = None) -> list[Outlines]:
    """Lakes of a vector file, or of all vector files in a ZIP, once for each UTM zone that they may have been drawn in.

    Args:
        path: the file
        layer: where several may hold polygons; of a ZIP those files are read that have it

    Raises:
        DataError: nothing readable, no polygon, no CRS, no such layer, or several of which none is named
    """
    import geopandas

    shapes = []
    for name, taken in _layers(path, layer):
        read = read_features(name, SETTING, [], taken)
        if read.crs is None:
            raise DataError(f"{name} has no CRS: assign it (a .prj beside the .shp), else no place can be found by it.")
        shapes.append(geopandas.GeoSeries(read.geometries, crs=read.crs).to_crs("EPSG:4326").to_numpy())
    found = np.concatenate(shapes) if shapes else np.zeros(0, dtype=object)
    found = found[~(shapely.is_missing(found) | shapely.is_empty(found))]
    broken = ~shapely.is_valid(found)
    found[broken] = shapely.make_valid(found[broken])
    parts = shapely.get_parts(shapely.get_parts(found))
    parts = parts[(shapely.get_type_id(parts) == shapely.GeometryType.POLYGON) & (shapely.area(parts) > 0)]
    if not len(parts):
        raise DataError(f"{path} holds no polygon: --match takes the outlines that the labels were drawn by.")
    lon, lat = shapely.get_coordinates(shapely.point_on_surface(parts)).T
    sets = []
    for north in (True, False):
        for zone in range(1, 61):
            west = -180 + 6 * (zone - 1)
            east = (lon - west + OVERLAP_DEG) % 360 - OVERLAP_DEG  # of the zone's border, also over 180 degrees
            inside = (east < 6 + OVERLAP_DEG) & ((lat >= 0) == north)
            own = inside & (east >= 0) & (east < 6)
            if own.any():
                crs = f"EPSG:{(32600 if north else 32700) + zone}"
                sets.append(_outlines(crs, geopandas.GeoSeries(parts[inside], crs="EPSG:4326").to_crs(crs).to_numpy()))
    return sets


def _layers(path: Path, layer: str | None) -> list[tuple[str, int]]:
    """Each file that outlines are read from, and its layer."""
    files = _files(path)
    if layer and len(files) > 1:
        known = {name: [one for one, _ in layers_of(name, SETTING)] for name in files}
        files = [name for name, layers in known.items() if layer in layers]
        if not files:
            named = ", ".join(dict.fromkeys(one for layers in known.values() for one in layers))
            raise DataError(f"{layer_setting(SETTING)}={layer} is no layer of a file in {path}: they have {named}.")
    return [(name, layer_of(name, SETTING, layer)) for name in files]


def _files(path: Path) -> list[str]:
    """What GDAL reads the outlines by."""
    if not path.is_file():
        raise DataError(f"{path} is not there: --match takes a vector file or a ZIP of them.")
    if path.suffix.lower() != ".zip":
        return [str(path)]
    with open_zip(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(ENDINGS) and "__MACOSX" not in name]
        for name in names:
            with archive.open(name) as member:
                if refers(member.read(HEAD_BYTES)):
                    raise DataError(f"{path}, member {name}: it names other files or addresses. Take what it names.")
    if not names:
        raise DataError(f"{path} holds no vector file ({', '.join(ENDINGS)}).")
    return [f"/vsizip/{path.absolute()}/{name}" for name in sorted(names)]


def _outlines(crs: str, polygons: npt.NDArray[Any]) -> Outlines:
    area, centre, moments = shape_of(polygons)
    good = area > 0
    polygons, area, centre, moments = polygons[good], area[good], centre[good], moments[good]
    return Outlines(crs, polygons, area, centre, moments, shapely.STRtree(polygons), cKDTree(centre))


def shape_of(polygons: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Area, centre and second moments of polygons with holes, by Green's theorem.

    Returns:
        area (N,), centre (N, 2), moments (N, 3): xx, yy, xy of the area about its centre, over the area squared
    """
    n = len(polygons)
    rings, owner = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    start = shapely.get_coordinates(shapely.centroid(polygons))
    x, y = (points - start[owner[ring]]).T  # near 0, where sums of products keep their digits
    step = ring[1:] == ring[:-1]
    x0, x1, y0, y1, of = x[:-1][step], x[1:][step], y[:-1][step], y[1:][step], ring[:-1][step]
    cross = x0 * y1 - x1 * y0
    terms = {
        "a": cross / 2,
        "x": (x0 + x1) * cross / 6,
        "y": (y0 + y1) * cross / 6,
        "xx": (x0 * x0 + x0 * x1 + x1 * x1) * cross / 12,
        "yy": (y0 * y0 + y0 * y1 + y1 * y1) * cross / 12,
        "xy": (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0) * cross / 24,
    }
    by_ring = {name: np.bincount(of, values, minlength=len(rings)) for name, values in terms.items()}
    first = np.r_[True, owner[1:] != owner[:-1]] if len(owner) else np.zeros(0, bool)
    sign = np.where(by_ring["a"] < 0, -1.0, 1.0) * np.where(first, 1.0, -1.0)  # a hole takes away, however it turns
    total = {name: np.bincount(owner, values * sign, minlength=n) for name, values in by_ring.items()}
    area: Floats = total["a"].astype(np.float64)
    safe = np.where(area > 0, area, 1.0)
    mx, my = total["x"] / safe, total["y"] / safe
    moments = np.stack(
        [total["xx"] - safe * mx * mx, total["yy"] - safe * my * my, total["xy"] - safe * mx * my], axis=1
    ) / (safe[:, None] ** 2)
    return area, start + np.stack([mx, my], axis=1), moments


def drawn(outlines: Outlines, origin: Sequence[float], gsd_m: float, px: int) -> npt.NDArray[np.bool_]:
    """The lakes of a square as a label has them: a pixel is lake where its centre lies in an outline.

    Args:
        outlines: lakes
        origin: x and y of the upper left corner, metres
        gsd_m: metres a pixel
        px: side, pixels
    """
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    x, y = origin
    box = shapely.box(x, y - px * gsd_m, x + px * gsd_m, y)
    rows = outlines.tree.query(box)
    if not len(rows):
        return np.zeros((px, px), dtype=bool)
    transform = Affine(gsd_m, 0.0, x, 0.0, -gsd_m, y)
    for row in rows.tolist():
        if row not in outlines.shapes:
            outlines.shapes[row] = outlines.polygons[row].__geo_interface__
    shapes = [outlines.shapes[row] for row in rows.tolist()]
    out: npt.NDArray[np.uint8] = rasterize(shapes, out_shape=(px, px), transform=transform, dtype="uint8")
    return out.astype(bool)
