"""Lake outlines to pixels: strip by strip, and which lake has which pixels of a tile."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

Share = tuple[int, int, int, int]
"""number of a lake, one of its labelled pixels (row, col in the scene), how many it has in the tile"""

Owners = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


class Grid(Protocol):
    """Where the pixels of a scene or a raster lie."""

    @property
    def width(self) -> int: ...

    @property
    def transform(self) -> Affine: ...


class LakeMask:
    """Rasterises a scene's lakes strip by strip, on one grid: a pixel is lake where its centre lies in a polygon."""

    def __init__(
        self,
        scene: Grid,
        lakes: npt.NDArray[np.object_],
        *,
        all_touched: bool = False,
        ground: npt.NDArray[np.object_] | None = None,
    ) -> None:
        """Brings the outlines to pixels.

        Args:
            scene: where they lie
            lakes: polygons in the scene's CRS
            all_touched: a pixel is lake where a polygon touches it at all
            ground: polygons beyond which no pixel is labelled; None: there are labels everywhere
        """
        self._ground = None if ground is None else LakeMask(scene, ground)
        self._width, self._all_touched = scene.width, all_touched
        to_pixels = ~scene.transform
        # in pixel coordinates strips differ by a whole number, so that they agree along their seams
        self._shapes = shapely.transform(lakes, lambda x, y: to_pixels @ (x, y), interleaved=False)
        self.bounds: npt.NDArray[np.float64] = shapely.bounds(self._shapes).reshape(-1, 4)
        """(lakes, 4) left, top, right and bottom of each outline, pixels of the scene"""
        self._tree = shapely.STRtree(self._shapes)
        self._drawn = _as_json(self._shapes)

    def strip(self, top: int, height: int) -> npt.NDArray[np.bool_]:
        """(height, width) of the rows from `top` on: lake or not."""
        found = self._found(top, height)
        shapes = [self._drawn[i] for i in found]
        return self._burnt(shapes, "uint8", top, height).view(bool)

    def owners(self, top: int, height: int) -> Owners:
        """(height, width) of the rows from `top` on: 1 + number of the lake, the later one of two; 0 where none is."""
        found = self._found(top, height)
        shapes = [(self._drawn[i], i + 1) for i in found.tolist()]
        return self._burnt(shapes, "uint16" if len(self._shapes) < 65_535 else "int32", top, height)

    @property
    def everywhere(self) -> bool:
        """Whether each valid pixel has a label."""
        return self._ground is None

    def labelled(self, top: int, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """(height, width) of the rows from `top` on: which of the valid pixels have a label."""
        return valid if self._ground is None else valid & self._ground.strip(top, len(valid))

    def _found(self, top: int, height: int) -> npt.NDArray[np.int64]:
        return np.sort(self._tree.query(shapely.box(0, top, self._width, top + height))).astype(np.int64)

    def _burnt(self, shapes: list[Any], kind: str, top: int, height: int) -> npt.NDArray[Any]:
        if not shapes:
            return np.zeros((height, self._width), dtype=kind)
        return rasterize(
            shapes,
            out_shape=(height, self._width),
            transform=Affine.translation(0, top),
            all_touched=self._all_touched,
            dtype=kind,
        )


def _as_json(shapes: npt.NDArray[np.object_]) -> list[dict[str, Any]]:
    """Polygons as rasterio takes them; made by it, one by one for every strip, they cost more than the drawing."""
    if len(shapes) == 0:
        return []
    parts, of_shape = shapely.get_parts(shapes, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    cuts = np.searchsorted(of_ring, np.arange(1, len(rings)))
    drawn: list[list[list[Any]]] = [[] for _ in range(len(shapes))]
    polygons: list[list[Any]] = [[] for _ in range(len(parts))]
    for part, ring in zip(of_part.tolist(), np.split(points, cuts), strict=True):
        polygons[part].append(ring.tolist())
    for shape, polygon in zip(of_shape.tolist(), polygons, strict=True):
        drawn[shape].append(polygon)
    return [{"type": "MultiPolygon", "coordinates": polygons} for polygons in drawn]


def shares(owners: Owners, lake: npt.NDArray[np.bool_], top: int, left: int) -> list[Share]:
    """Which lakes have pixels in a tile.

    Args:
        owners: (h, w) of `LakeMask.owners`
        lake: (h, w) pixels that count
        top: first row of the tile
        left: its first column
    """
    flat = np.flatnonzero(lake)
    lakes, first, px = np.unique(owners[lake], return_index=True, return_counts=True)
    width = owners.shape[1]
    return [
        (int(number) - 1, top + int(flat[at]) // width, left + int(flat[at]) % width, int(n))
        for number, at, n in zip(lakes, first, px, strict=True)
    ]
