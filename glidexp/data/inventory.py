"""Lake and glacier polygons: read, repaired, brought to a scene; lakes judged by distance to ice and by size.

What an inventory says of a lake beside its outline, its id and its type, goes along and into the tile store.
"""

from dataclasses import dataclass, field, replace
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
Texts = npt.NDArray[np.object_]
POLYGONAL = (3, 6)
"""type numbers of Polygon and MultiPolygon in shapely"""
ID_COLUMNS = ("lake_id", "gl_id", "glake_id", "id")
TYPE_COLUMNS = ("lake_type", "gl_type", "type", "kind")
"""columns that are taken for a lake's id and type when none is named, in any case"""
SEARCH_M = 10_000.0
"""glaciers are looked for at least this far around a scene"""


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
    ids: Texts
    """of each polygon: its id, the feature's number in the file where there is none"""
    types: Texts
    """of each polygon, "" where not known"""
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
    ids: Texts
    types: Texts
    distance_m: npt.NDArray[np.float64]
    """to the nearest glacier outline, 0 within; infinite where none is near; NaN where no glaciers were given"""
    area_px: npt.NDArray[np.float64]
    far: npt.NDArray[np.bool_]
    """dropped: farther than the buffer from ice"""
    small: npt.NDArray[np.bool_]
    """dropped: near enough, but under the smallest size"""

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Which of them are drawn into the labels."""
        return np.flatnonzero(~(self.far | self.small)).astype(np.int64)

    @property
    def kept(self) -> Geometries:
        return self.geometries[self.labelled]


def read(path: Path | str, setting: str, *, type_column: str | None = None) -> Inventory:
    """Reads every polygon of a vector file (GeoPackage, shapefile, GeoJSON ...), repairs rings and drops Z.

    Args:
        path: the file; its first layer is read
        setting: config key that named it, for messages
        type_column: column of the lake types; one of `TYPE_COLUMNS`, if there is one, when not given

    Raises:
        DataError: not there, unreadable, without CRS, without polygons, without the named column
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{setting}={path} does not exist: give a vector file of polygons.")
    try:
        columns = list(pyogrio.read_info(path)["fields"])
        id_column, type_column = _column(columns, ID_COLUMNS), _type_column(path, columns, type_column)
        wanted = [name for name in dict.fromkeys((id_column, type_column)) if name]
        meta, fids, wkb, values = pyogrio.raw.read(path, columns=wanted, force_2d=True, return_fids=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise DataError(f"{setting}={path} cannot be read as polygons: {' '.join(str(error).split())}") from None
    if not meta["crs"]:
        raise DataError(f"{setting}={path} has no CRS: assign it first (ogr2ogr -a_srs EPSG:4326).")
    raw = shapely.from_wkb(wkb, on_invalid="ignore")
    some = ~(shapely.is_missing(raw) | shapely.is_empty(raw))
    present = raw[some]
    areal = np.isin(shapely.get_type_id(present), POLYGONAL)
    broken = areal & ~shapely.is_valid(present)
    fixed = present.copy()
    fixed[broken] = [_polygons_of(geometry) for geometry in shapely.make_valid(present[broken])]
    usable = areal & ~shapely.is_empty(fixed)
    fixed = fixed[usable]
    if len(fixed) == 0:
        raise DataError(
            f"{setting}={path} holds {len(raw)} features but no polygon: give outlines, not points or lines."
        )
    # a driver gives columns in the order of the file
    by_name = dict(zip(meta["fields"].tolist(), values, strict=True))
    numbers = _texts(fids)
    ids, types = (_texts(by_name[name]) if name else np.full(len(raw), "", object) for name in (id_column, type_column))
    ids[ids == ""] = numbers[ids == ""]
    rows = np.flatnonzero(some)[usable]
    return Inventory(
        path=path,
        geometries=fixed,
        crs=pyproj.CRS.from_user_input(meta["crs"]),
        read=len(raw),
        repaired=int(broken.sum()),
        unusable=len(raw) - len(fixed),
        ids=ids[rows],
        types=types[rows],
    )


def lakes_of(
    scene: Scene, lakes: Inventory, glaciers: Inventory | None, *, buffer_m: float, min_lake_px: float
) -> SceneLakes:
    """The lakes that touch a scene, judged.

    Distances are taken in the scene's metric CRS, on whole glaciers, also those beyond the scene's edge.

    Args:
        scene: header of the scene
        lakes: lake outlines
        glaciers: glacier outlines; not needed when buffer_m is 0, but then no distance is known
        buffer_m: lakes farther from ice are `far`, metres; 0 keeps all
        min_lake_px: lakes of fewer pixels are `small`
    """
    rows = _near(scene, lakes, 0.0)
    own = _transformed(lakes.geometries[rows], lakes.crs, scene.crs)
    touching = shapely.intersects(own, scene.outline)
    own, rows = own[touching], rows[touching]
    area_px = shapely.area(own) / abs(scene.transform.determinant)
    distance_m = np.full(len(own), np.nan)
    far = np.zeros(len(own), dtype=bool)
    if len(own) and glaciers is not None:
        near = glaciers.geometries[_near(scene, glaciers, max(buffer_m, SEARCH_M))]
        ice = _transformed(near, glaciers.crs, scene.metric_crs)
        distance_m = _distance(_transformed(lakes.geometries[rows], lakes.crs, scene.metric_crs), ice)
        if buffer_m > 0:
            far = ~(distance_m <= buffer_m)
    small = ~far & (area_px < min_lake_px)
    return SceneLakes(
        geometries=own,
        ids=lakes.ids[rows],
        types=lakes.types[rows],
        distance_m=distance_m,
        area_px=area_px,
        far=far,
        small=small,
    )


def near(scene: Scene, inventory: Inventory, margin_m: float = 0.0) -> Inventory:
    """The polygons that `lakes_of` may look at for a scene, so that no more than these travels to another process.

    Args:
        scene: header of the scene
        inventory: lakes or glaciers
        margin_m: how far around the scene `lakes_of` looks: for glaciers the larger of buffer_m and `SEARCH_M`
    """
    rows = _near(scene, inventory, margin_m)
    return replace(
        inventory, geometries=inventory.geometries[rows], ids=inventory.ids[rows], types=inventory.types[rows]
    )


def lonlat_points(lakes: Inventory) -> npt.NDArray[np.float64]:
    """(n, 2) degrees of a point inside each lake, as the split's blocks count lakes."""
    points = shapely.get_coordinates(shapely.point_on_surface(lakes.geometries))
    lon, lat = pyproj.Transformer.from_crs(lakes.crs, 4326, always_xy=True).transform(points[:, 0], points[:, 1])
    return np.column_stack([lon, lat])


def bounds_text(lakes: Inventory) -> str:
    """Where the polygons lie, for a message."""
    left, bottom, right, top = shapely.total_bounds(lakes.geometries)
    return f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g} in {lakes.crs.name}"


def _column(columns: list[str], known: tuple[str, ...]) -> str | None:
    """The first of the known names that is a column, in any case."""
    lower = {column.lower(): column for column in columns}
    return next((lower[name] for name in known if name in lower), None)


def _type_column(path: Path, columns: list[str], named: str | None) -> str | None:
    if named and named not in columns:
        raise DataError(
            f"dataset.lake_type_column={named} is no column of {path}, which has {', '.join(columns) or 'none'}: name "
            "one of these, or leave it out."
        )
    return named or _column(columns, TYPE_COLUMNS)


def _texts(values: npt.NDArray[Any]) -> Texts:
    """As text, "" where there is nothing."""
    texts = ["" if value is None or value != value else str(value).strip() for value in values.tolist()]
    return np.array(texts, dtype=object)


def _polygons_of(geometry: Any) -> Any:
    """The polygons of what a repair left: lines and points of a collapsed ring are let go."""
    parts = shapely.get_parts(geometry)
    # make_valid may put polygons into a collection with a line beside them
    flat = np.concatenate([shapely.get_parts(part).reshape(-1) for part in parts]) if len(parts) else parts
    polygons = flat[np.isin(shapely.get_type_id(flat), POLYGONAL)]
    return shapely.union_all(polygons) if len(polygons) else shapely.Polygon()


def _near(scene: Scene, inventory: Inventory, margin_m: float) -> npt.NDArray[np.int64]:
    """Rows of the polygons whose box meets the scene's box grown by a margin, ascending."""
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
    return np.unique(np.concatenate([inventory.tree.query(b) for b in boxes])).astype(np.int64)


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
