"""The lakes of a scene: brought to it, and judged by distance to ice and by size.

What an inventory says of a lake beside its outline, its id and its type, goes along and into the tile store.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from glidexp.data.geodesy import reprojected, to_lonlat, turned
from glidexp.data.scenes.degrees import in_one_piece
from glidexp.data.scenes.polygons import Geometries, Inventory, Texts, polygons_of
from glidexp.data.scenes.reading import Scene

SEARCH_M = 15_000.0
"""glaciers are looked for at least this far around a scene, so that larger buffers can be judged afterwards"""
STEP_M, STEP_DEG = 1000.0, 0.01
"""between points along the edges of ground that is brought to another CRS"""


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
    own = _turned(_transformed(lakes.geometries[rows], lakes.crs, scene.crs), scene)
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


def to_ice(
    scene: Scene,
    glaciers: Inventory,
    col: npt.NDArray[np.float64],
    row: npt.NDArray[np.float64],
    *,
    buffer_m: float,
) -> npt.NDArray[np.float64]:
    """Metres from pixel corners to the nearest glacier outline, on the plane of `lakes_of`; 0 within, infinite where
    none is near.

    Taken to points along the outlines, as there are too many corners for the outlines themselves: too large by less
    than a hundredth of the buffer squared over 8 times the distance, which is 0.1 m at 10 km, and never by more than
    half a hundredth; of a buffer under ten pixels a tenth of a pixel stands for the hundredth.

    Args:
        scene: header of the scene
        glaciers: glacier outlines
        col: (n,) of the corners
        row: (n,)
        buffer_m: up to this, and up to `SEARCH_M`, no ice is missed
    """
    from scipy.spatial import cKDTree

    near = glaciers.geometries[_near(scene, glaciers, max(buffer_m, SEARCH_M))]
    if len(near) == 0:
        return np.full(len(col), np.inf)
    ice = _transformed(near, glaciers.crs, scene.metric_crs)
    corners = _transformed(shapely.points(*scene.xy(col, row)), scene.crs, scene.metric_crs)
    step_m = max(buffer_m / 100, min(scene.pixel_m) / 10)  # of a buffer of a metre there would be no end of points
    along = shapely.get_coordinates(shapely.segmentize(shapely.boundary(ice), step_m))
    distance_m: npt.NDArray[np.float64] = cKDTree(along).query(shapely.get_coordinates(corners))[0]
    distance_m[shapely.STRtree(ice).query(corners, predicate="intersects")[0]] = 0.0
    return distance_m


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


def ground_of(scene: Scene, ground: Inventory) -> Geometries:
    """Polygons of ground near a scene, in its CRS; points along their edges let these bend as they should."""
    own = ground.geometries[_near(scene, ground, 0.0)]
    own = in_one_piece(own) if ground.crs.is_geographic else own
    fine = shapely.segmentize(own, STEP_DEG if ground.crs.is_geographic else STEP_M)
    return _turned(_transformed(fine, ground.crs, scene.crs), scene)


def lonlat_points(lakes: Inventory) -> npt.NDArray[np.float64]:
    """(n, 2) degrees of a point inside each lake, as the split's blocks count lakes."""
    points = shapely.get_coordinates(shapely.point_on_surface(lakes.geometries))
    return np.column_stack(to_lonlat(lakes.crs, *points.T))


def _near(scene: Scene, inventory: Inventory, margin_m: float) -> npt.NDArray[np.int64]:
    """Rows of the polygons whose box meets the scene's box grown by a margin, ascending."""
    crs = scene.metric_crs
    outline = np.array([scene.outline], dtype=object)
    outline = (outline if scene.crs == crs else reprojected(outline, scene.crs, crs))[0]
    # a little more than asked for, since a line that is straight in one CRS bends in another
    left, bottom, right, top = outline.bounds
    slack = margin_m + 0.01 * max(right - left, top - bottom)
    transformer = pyproj.Transformer.from_crs(crs, inventory.crs, always_xy=True)
    box = transformer.transform_bounds(left - slack, bottom - slack, right + slack, top + slack, densify_pts=21)
    if box[0] <= box[2]:
        boxes = [shapely.box(*box)]
    else:  # across the antimeridian
        boxes = [shapely.box(box[0], box[1], 180.0, box[3]), shapely.box(-180.0, box[1], box[2], box[3])]
    if inventory.crs.is_geographic:  # some count to 360 instead
        boxes += turned(np.array(boxes), 360.0).tolist()
    return np.unique(np.concatenate([inventory.tree.query(b) for b in boxes])).astype(np.int64)


def _turned(geometries: Geometries, scene: Scene) -> Geometries:
    """In a scene in degrees that reaches over 180, what is written on the other side of that line."""
    if not scene.crs.is_geographic or len(geometries) == 0:
        return geometries
    middle = shapely.get_x(shapely.centroid(scene.outline))
    turns = 360.0 * np.round((middle - shapely.bounds(geometries)[:, [0, 2]].mean(axis=1)) / 360.0)
    out = geometries.copy()
    for turn in np.unique(turns[turns != 0]):
        out[turns == turn] = turned(out[turns == turn], turn)
    return out


def _transformed(geometries: Geometries, source: pyproj.CRS, target: pyproj.CRS) -> Geometries:
    if len(geometries) == 0:
        return geometries
    # before rings are looked at: one that jumps from end to end of the longitudes may cross itself, or none of itself
    whole = in_one_piece(geometries) if source.is_geographic else geometries
    if source == target:
        return whole
    moved = reprojected(whole, source, target)
    moved = in_one_piece(moved) if target.is_geographic else moved
    bad = ~shapely.is_valid(moved)
    if bad.any():
        moved[bad] = [polygons_of(geometry) for geometry in shapely.make_valid(moved[bad])]
    return moved


def _distance(lakes: Geometries, ice: Geometries) -> npt.NDArray[np.float64]:
    """Metres from each lake to the nearest ice, infinite without ice."""
    if len(ice) == 0:
        return np.full(len(lakes), np.inf)
    pairs, distances = shapely.STRtree(ice).query_nearest(lakes, return_distance=True, all_matches=False)
    out = np.full(len(lakes), np.inf)
    out[pairs[0]] = distances
    return out
