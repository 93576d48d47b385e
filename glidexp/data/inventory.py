"""Lake and glacier polygons: read, repaired, brought to a scene; lakes judged by distance to ice and by size."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import pyogrio.errors
import pyproj
import shapely

from glidexp.data.scenes import Scene
from glidexp.errors import DataError

Geometries = npt.NDArray[np.object_]
POLYGONAL = (3, 6)
"""type numbers of Polygon and MultiPolygon in shapely"""


@dataclass(slots=True)
class Inventory:
    """Polygons of one file in the file's CRS: two dimensions, valid, not empty."""

    path: Path
    geometries: Geometries
    crs: pyproj.CRS
    read: int
    """features in the file"""
    repaired: int
    """features whose rings crossed or touched themselves"""
    unusable: int
    """features without a polygon, even after repair"""
    tree: shapely.STRtree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.tree = shapely.STRtree(self.geometries)


@dataclass(slots=True)
class SceneLakes:
    """The lakes of one scene.

    The arrays run over all lakes that touch the scene, in the order of the file.
    """

    geometries: Geometries
    """polygons in the scene's CRS, whole lakes, not cut at the scene's edge"""
    distance_m: npt.NDArray[np.float64]
    """to the nearest glacier outline, 0 within; infinite where none is near; NaN when nobody asked"""
    area_px: npt.NDArray[np.float64]
    far: npt.NDArray[np.bool_]
    """dropped: farther than the buffer from ice"""
    small: npt.NDArray[np.bool_]
    """dropped: near enough, but under the smallest size"""

    @property
    def kept(self) -> Geometries:
        return self.geometries[~(self.far | self.small)]


def read(path: Path | str, setting: str) -> Inventory:
    """Reads every polygon of a vector file (GeoPackage, shapefile, GeoJSON ...), repairs rings and drops Z.

    Args:
        path: the file; its first layer is read
        setting: config key that named it, for messages

    Raises:
        DataError: not there, unreadable, without CRS, without polygons
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{setting}={path} does not exist: give a vector file of polygons.")
    try:
        meta, _, wkb, _ = pyogrio.raw.read(path, columns=[], force_2d=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(f"{setting}={path} cannot be read as polygons: {' '.join(str(error).split())}") from None
    if not meta["crs"]:
        raise DataError(f"{setting}={path} has no CRS: assign it first (ogr2ogr -a_srs EPSG:4326).")
    raw = shapely.from_wkb(wkb, on_invalid="ignore")
    present = raw[~(shapely.is_missing(raw) | shapely.is_empty(raw))]
    areal = np.isin(shapely.get_type_id(present), POLYGONAL)
    broken = areal & ~shapely.is_valid(present)
    fixed = present.copy()
    fixed[broken] = [_polygons_of(geometry) for geometry in shapely.make_valid(present[broken])]
    fixed = fixed[areal & ~shapely.is_empty(fixed)]
    if len(fixed) == 0:
        raise DataError(
            f"{setting}={path} holds {len(raw)} features but no polygon: give outlines, not points or lines."
        )
    return Inventory(
        path=path,
        geometries=fixed,
        crs=pyproj.CRS.from_user_input(meta["crs"]),
        read=len(raw),
        repaired=int(broken.sum()),
        unusable=len(raw) - len(fixed),
    )


def lakes_of(
    scene: Scene, lakes: Inventory, glaciers: Inventory | None, *, buffer_m: float, min_lake_px: float
) -> SceneLakes:
    """The lakes that touch a scene, judged.

    Distances are taken in the scene's metric CRS, on whole glaciers, also those beyond the scene's edge.

    Args:
        scene: header of the scene
        lakes: lake outlines
        glaciers: glacier outlines; not needed when buffer_m is 0
        buffer_m: lakes farther from ice are `far`, metres; 0 keeps all
        min_lake_px: lakes of fewer pixels are `small`
    """
    found = _near(scene, lakes, 0.0)
    own = _transformed(found, lakes.crs, scene.crs)
    touching = shapely.intersects(own, scene.outline)
    own, found = own[touching], found[touching]
    area_px = shapely.area(own) / abs(scene.transform.determinant)
    distance_m = np.full(len(own), np.nan)
    far = np.zeros(len(own), dtype=bool)
    if buffer_m > 0 and len(own) and glaciers is not None:
        ice = _transformed(_near(scene, glaciers, buffer_m), glaciers.crs, scene.metric_crs)
        distance_m = _distance(_transformed(found, lakes.crs, scene.metric_crs), ice)
        far = ~(distance_m <= buffer_m)
    small = ~far & (area_px < min_lake_px)
    return SceneLakes(geometries=own, distance_m=distance_m, area_px=area_px, far=far, small=small)


def lonlat_points(lakes: Inventory) -> npt.NDArray[np.float64]:
    """(n, 2) degrees of a point inside each lake, as the split's blocks count lakes."""
    points = shapely.get_coordinates(shapely.point_on_surface(lakes.geometries))
    lon, lat = pyproj.Transformer.from_crs(lakes.crs, 4326, always_xy=True).transform(points[:, 0], points[:, 1])
    return np.column_stack([lon, lat])


def bounds_text(lakes: Inventory) -> str:
    """Where the polygons lie, for a message."""
    left, bottom, right, top = shapely.total_bounds(lakes.geometries)
    return f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g} in {lakes.crs.name}"


def _polygons_of(geometry: Any) -> Any:
    """The polygons of what a repair left: lines and points of a collapsed ring are let go."""
    parts = shapely.get_parts(geometry)
    # make_valid may put polygons into a collection with a line beside them
    flat = np.concatenate([shapely.get_parts(part).reshape(-1) for part in parts]) if len(parts) else parts
    polygons = flat[np.isin(shapely.get_type_id(flat), POLYGONAL)]
    return shapely.union_all(polygons) if len(polygons) else shapely.Polygon()


def _near(scene: Scene, inventory: Inventory, margin_m: float) -> Geometries:
    """Polygons whose box meets the scene's box grown by a margin, in the order of the file."""
    crs = scene.metric_crs
    outline = _transformed(np.array([scene.outline], dtype=object), scene.crs, crs)[0]
    # a little more than asked for, since a line that is straight in one CRS bends in another
    left, bottom, right, top = outline.bounds
    slack = margin_m + 0.01 * max(right - left, top - bottom)
    transformer = pyproj.Transformer.from_crs(crs, inventory.crs, always_xy=True)
    box = transformer.transform_bounds(left - slack, bottom - slack, right + slack, top + slack, densify_pts=21)
    if box[0] <= box[2]:
        boxes = [shapely.box(*box)]
    else:  # across the antimeridian
        boxes = [shapely.box(box[0], box[1], 180.0, box[3]), shapely.box(-180.0, box[1], box[2], box[3])]
    rows = np.unique(np.concatenate([inventory.tree.query(b) for b in boxes]))
    return inventory.geometries[rows]


def _transformed(geometries: Geometries, source: pyproj.CRS, target: pyproj.CRS) -> Geometries:
    if source == target or len(geometries) == 0:
        return geometries
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    moved = shapely.transform(geometries, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    # vertices move, edges between them stay straight: two rings that nearly touch may cross afterwards
    bad = ~shapely.is_valid(moved)
    if bad.any():
        moved[bad] = [_polygons_of(geometry) for geometry in shapely.make_valid(moved[bad])]
    return moved


def _distance(lakes: Geometries, ice: Geometries) -> npt.NDArray[np.float64]:
    """Metres from each lake to the nearest ice, infinite without ice."""
    if len(ice) == 0:
        return np.full(len(lakes), np.inf)
    pairs, distances = shapely.STRtree(ice).query_nearest(lakes, return_distance=True, all_matches=False)
    out = np.full(len(lakes), np.inf)
    out[pairs[0]] = distances
    return out
