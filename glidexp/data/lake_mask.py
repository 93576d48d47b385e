"""Lake outlines to pixels: strip by strip, and which lake has which pixels of a tile."""

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

from glidexp.data.scenes import Scene
from glidexp.data.store import LAKE


class LakeMask:
    """Rasterises a scene's lakes strip by strip, on one grid: a pixel is lake where its centre lies in a polygon."""

    def __init__(self, scene: Scene, lakes: npt.NDArray[np.object_], *, all_touched: bool = False) -> None:
        """Brings the outlines to pixels.

        Args:
            scene: where they lie
            lakes: polygons in the scene's CRS
            all_touched: a pixel is lake where a polygon touches it at all
        """
        self._width, self._all_touched = scene.width, all_touched
        to_pixels = ~scene.transform
        a, b, c, d, e, f = to_pixels[:6]
        # in pixel coordinates strips differ by a whole number, so that they agree along their seams
        self._shapes = shapely.transform(
            lakes, lambda p: np.column_stack([a * p[:, 0] + b * p[:, 1] + c, d * p[:, 0] + e * p[:, 1] + f])
        )
        self._tree = shapely.STRtree(self._shapes)

    def strip(self, top: int, height: int) -> npt.NDArray[np.bool_]:
        """(height, width) of the rows from `top` on."""
        found = np.sort(self._tree.query(shapely.box(0, top, self._width, top + height)))
        if len(found) == 0:
            return np.zeros((height, self._width), dtype=bool)
        mask = rasterize(
            self._shapes[found].tolist(),
            out_shape=(height, self._width),
            transform=Affine.translation(0, top),
            all_touched=self._all_touched,
            dtype="uint8",
        )
        return mask.view(bool)

    def shares(self, top: int, left: int, label: npt.NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
        """Which lakes have pixels in a tile.

        Args:
            top: first row of the tile
            left: its first column
            label: (H, W) of 0, 1, 255

        Returns:
            number of the lake, one of its labelled pixels (row, col in the scene), how many it has in the tile. A
            pixel of two polygons counts for the later one.
        """
        height, width = label.shape
        found = np.sort(self._tree.query(shapely.box(left, top, left + width, top + height)))
        if len(found) == 0:
            return []
        owner = rasterize(
            zip(self._shapes[found].tolist(), range(1, len(found) + 1), strict=True),
            out_shape=(height, width),
            transform=Affine.translation(left, top),
            all_touched=self._all_touched,
            dtype="int32",
        )
        owner[label != LAKE] = 0
        flat = np.flatnonzero(owner)
        lakes, first, px = np.unique(owner.ravel()[flat], return_index=True, return_counts=True)
        return [
            (int(found[lake - 1]), top + int(flat[at]) // width, left + int(flat[at]) % width, int(n))
            for lake, at, n in zip(lakes, first, px, strict=True)
        ]
