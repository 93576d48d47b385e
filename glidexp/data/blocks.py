"""Ground by square block: an absolute metric grid, and which side a footprint lies on."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pyproj
import shapely

from glidexp.config import SplitConfig
from glidexp.data.geodesy import around, to_lonlat, unwrap, zone
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import Scene
from glidexp.data.sharing import may_test
from glidexp.data.splits import Place, Unit, choose, joined
from glidexp.errors import ConfigError

SLACK_M = 0.01
"""what two transformations of one point may differ by, metres"""
SIDE_POINTS = 5
"""points an edge of a footprint"""
MOST_BLOCKS = 10**6
"""of a scene: more are narrower than any tile, and no unit that was meant"""
Points = npt.NDArray[np.float64]


class BlockPlaces:
    """by=block: squares of `block_m` on the metre grid of UTM, each within the zone of its longitude.

    The grid is absolute: it knows nothing of scenes, so two scenes over one place agree. Footprints are compared by
    their box in the grid's CRS, which may leave a tile out that only nearly crosses, and never lets one in.
    """

    def __init__(self, scenes: Sequence[Scene], lakes_lonlat: Points, config: SplitConfig) -> None:
        self._block_m, self._buffer_m, self._left_out = config.block_m, config.buffer_m, config.leave_out
        with_lake = {self._key(zone_, i, j) for zone_, i, j in self._cells(lakes_lonlat)}
        met: dict[str, list[SceneFile]] = {}
        for scene in scenes:
            for key in self._touched(scene):
                met.setdefault(key, []).append(scene.file)
        units = []
        for key, files in sorted(met.items()):
            # blocks with lakes are shared out apart from bare ones, so that every side gets some of them
            kind = "lake" if key in with_lake else "bare"
            units.append(Unit.of(key, f"{kind} {joined(file.sensor for file in files)}", files))
        self.sides = choose(units, config)

    def of(self, scene: Scene, windows: npt.NDArray[np.int64], sides: dict[str, str]) -> list[Place]:
        """Block under the middle of each window, and the side that all ground within the buffer of it has.

        Args:
            scene: where the windows lie
            windows: (n, 4) row, col, height, width in pixels, within the scene
            sides: the frozen side of each block
        """
        top, left, height, width = (windows[:, i].astype(np.float64) for i in range(4))
        across, down = around(SIDE_POINTS)
        col = np.column_stack([left[:, None] + width[:, None] * across, left + width / 2])
        row = np.column_stack([top[:, None] + height[:, None] * down, top + height / 2])
        x, y = scene.xy(col.ravel(), row.ravel())
        lon, lat = to_lonlat(scene.crs, x, y)
        lon = unwrap(lon)
        shape = col.shape
        places = [
            self._place(lon_, lat_, sides) for lon_, lat_ in zip(lon.reshape(shape), lat.reshape(shape), strict=True)
        ]
        if may_test(scene, self._left_out):
            return places
        # ground that what is left out is tested on
        return [(block, None if side == "test" else side) for block, side in places]

    def _place(self, lon: Points, lat: Points, sides: dict[str, str]) -> Place:
        """Place of one footprint: its edge points, the last one its middle."""
        ((zone_, i, j),) = self._cells(np.array([[lon[-1], lat[-1]]]))
        here = self._key(zone_, i, j)
        met = {sides[key] for key in self._blocks_near(lon[:-1], lat[:-1], self._buffer_m) if key in sides}
        # the middle of a narrow rest at a scene's edge may lie where no scene was met
        return here, met.pop() if len(met) == 1 and here in sides else None

    def _blocks_near(self, lon: Points, lat: Points, margin_m: float) -> list[str]:
        """Blocks that the box of points, grown by a margin, meets in each zone it reaches."""
        reach = margin_m / (111_000.0 * max(math.cos(math.radians(float(np.abs(lat).max()))), 0.01))
        first = math.floor((lon.min() - reach + 180.0) / 6.0)
        last = math.floor((lon.max() + reach + 180.0) / 6.0)
        keys = []
        for zone_ in (n % 60 + 1 for n in range(first, last + 1)):
            x, y = _to_zone(zone_).transform(lon, lat)
            # a footprint that ends on a line does not touch what lies beyond it, also after rounding
            low = [math.floor((v.min() - margin_m + SLACK_M) / self._block_m) for v in (x, y)]
            high = [math.ceil((v.max() + margin_m - SLACK_M) / self._block_m) - 1 for v in (x, y)]
            keys += [self._key(zone_, i, j) for i in range(low[0], high[0] + 1) for j in range(low[1], high[1] + 1)]
        return keys

    def _touched(self, scene: Scene) -> list[str]:
        """Blocks of the grid that the scene's footprint meets."""
        west, _, east, _ = scene.outline_lonlat.bounds
        keys = []
        for n in range(math.floor((west + 180.0) / 6.0), math.floor((east + 180.0) / 6.0) + 1):
            strip = shapely.intersection(scene.outline_lonlat, shapely.box(n * 6 - 180, -90, n * 6 - 174, 90))
            if strip.is_empty:
                continue
            zone_ = n % 60 + 1
            part = shapely.transform(strip, _to_zone(zone_).transform, interleaved=False)
            low_x, low_y, high_x, high_y = (math.floor(v / self._block_m) for v in part.bounds)
            if (count := (high_x - low_x + 1) * (high_y - low_y + 1)) > MOST_BLOCKS:
                raise ConfigError(
                    f"dataset.split.block_m={self._block_m:g} divides scene {scene.name} into {count:.2g} blocks: give "
                    "metres, some four times as many as a tile has."
                )
            cells = [(i, j) for i in range(low_x, high_x + 1) for j in range(low_y, high_y + 1)]
            m = self._block_m
            boxes = [shapely.box(i * m, j * m, (i + 1) * m, (j + 1) * m) for i, j in cells]
            met = shapely.intersects(part, boxes)
            keys += [self._key(zone_, i, j) for (i, j), yes in zip(cells, met.tolist(), strict=True) if yes]
        return keys

    def _cells(self, lonlat: Points) -> list[tuple[int, int, int]]:
        """Zone, column and row of the block under each (lon, lat)."""
        out = []
        for lon, lat in lonlat.tolist():
            zone_ = zone(lon)
            x, y = _to_zone(zone_).transform(lon, lat)
            out.append((zone_, math.floor(x / self._block_m), math.floor(y / self._block_m)))
        return out

    def _key(self, zone_: int, i: int, j: int) -> str:
        return f"utm{zone_:02d}/{self._block_m:g}m/{i}/{j}"


@cache
def _to_zone(zone_: int) -> pyproj.Transformer:
    """From degrees to the zone's northern CRS, whose northing goes on below 0 in the south."""
    return pyproj.Transformer.from_crs(4326, 32600 + zone_, always_xy=True)
