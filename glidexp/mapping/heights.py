"""How high lakes lie and how steep the ground is where they are, by a digital elevation model (DEM).

Shadows are taken for lakes and lie on slopes. Heights and slopes are those that bands of a DEM are made of, on the
pixels of the scene (`data.scenes.dem`), before they become levels.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from glidexp.data.scenes import dem
from glidexp.data.scenes.dem import Dem
from glidexp.data.scenes.dem_grids import laid
from glidexp.data.scenes.reading import Scene, opened_raster
from glidexp.mapping.polygons import Geometries
from glidexp.mapping.runs import Ints, Runs, runs_of

Floats = npt.NDArray[np.float64]
COLUMNS = ("elevation_m", "slope_deg")
SIDE_PX = 1024
"""of the squares of a scene that are looked at one after the other, where they hold lakes"""


def below(scene: Scene, rasters: tuple[Path, ...]) -> tuple[Dem | None, tuple[str, ...]]:
    """The DEM under a scene and what is to be said of it; that of its bands, where the model takes bands of one.

    Raises:
        DataError: a raster is no DEM
    """
    if scene.dem is not None or not rasters:
        return scene.dem, ()
    try:
        return dem.on_scene(replace(scene, file=replace(scene.file, dem=rasters)), (), lacking="heights")
    except dem.BeyondDem:
        return Dem((), ()), (f"{scene.file.path}: the DEM does not reach it: its lakes are without heights.",)


def of_lakes(scene: Scene, outlines: Geometries, under: Dem) -> dict[str, Floats]:
    """Mean height and slope over the pixels of each lake that have one, by the names of `COLUMNS`.

    Args:
        scene: its header
        outlines: from `polygons.outlines`
        under: the DEM

    Returns:
        metres above the DEM's zero and degrees, a value a lake; NaN where none of its pixels has one

    Raises:
        DataError: a raster of the DEM cannot be read
    """
    n = len(outlines)
    sums, counts = np.zeros((2, n)), np.zeros((2, n))
    runs = runs_of(outlines)
    with ExitStack() as stack:
        opened = laid(under.grids, under.wrap, stack.enter_context(opened_raster(scene.paths[0])), stack)
        for window, here in _squares(scene, runs):
            top, left = scene.top + int(window.row_off), scene.left + int(window.col_off)
            heights = under.heights(opened, top, left, window.height, window.width)
            steep = dem.slope(heights, dem.steps_m(scene, top, window.height))
            for number, place in here.pixels(window.width):
                for row, found in enumerate((heights[1:-1, 1:-1], steep)):
                    value = np.ravel(found)[place].astype(np.float64)
                    known = np.isfinite(value)
                    sums[row] += np.bincount(number[known], weights=value[known], minlength=n)
                    counts[row] += np.bincount(number[known], minlength=n)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return dict(zip(COLUMNS, means, strict=True))


def _squares(scene: Scene, runs: Runs) -> Iterator[tuple[Window, Runs]]:
    """Squares of a scene that hold pixels of lakes, and the runs of these within each, from its corner on."""
    for top in range(0, scene.height, SIDE_PX):
        rows = (runs.row >= top) & (runs.row < top + SIDE_PX)
        if not rows.any():
            continue
        number, row, first, last = (part[rows] for part in (runs.number, runs.row, runs.first, runs.last))
        for left in range(0, scene.width, SIDE_PX):
            right = min(left + SIDE_PX, scene.width)
            here = (first < right) & (last > left)
            if here.any():
                within: tuple[Ints, Ints] = (
                    np.maximum(first[here] - left, 0),
                    np.minimum(last[here], right) - left,
                )
                height = min(SIDE_PX, scene.height - top)
                yield Window(left, top, right - left, height), Runs(number[here], row[here] - top, *within)
