"""A scene's strips to counts, and to tiles."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.data.builder.tiling import Survey, WindowCounts, count_by_tile, padded
from glidexp.data.scenes import stretch
from glidexp.data.scenes.lake_mask import LakeMask, Owners, Share, shares
from glidexp.data.scenes.reading import Scene
from glidexp.data.scenes.strips import Strip
from glidexp.errors import DataError

Bools = npt.NDArray[np.bool_]
Window = tuple[int, int]
"""first row and column of a tile in its scene"""
Cut = tuple[int, int, npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[Share]]
"""first row and column of a tile, image (tile_px, tile_px, bands), label (tile_px, tile_px) of 0, 1, 255, its lakes"""


def new_survey(scene: Scene, tile_px: int) -> Survey:
    """A survey that has met nothing yet."""
    shape = (math.ceil(scene.height / tile_px), math.ceil(scene.width / tile_px))
    return Survey(stretch.no_counts(scene), np.zeros(shape, np.int64), np.zeros(shape, np.int64))


def surveying(
    scene: Scene,
    mask: LakeMask,
    tile_px: int,
    strips: Iterable[Strip],
    into: Survey,
    *,
    overlap_px: int = 0,
    values: bool = True,
) -> Iterator[Strip]:
    """Hands strips on and counts each tile's labelled and lake pixels, and the scene's values if these are asked for.

    Raises:
        DataError: at the end: a whole scene without valid pixel
    """
    denser = [WindowCounts(scene.height, scene.width, tile_px, tile_px - overlap_px) for _ in range(2)]
    for top, pixels, valid in strips:
        if values:
            stretch.count_values(pixels, valid, into.histogram)
        lake, labelled = mask.strip(top, len(valid)), mask.labelled(top, valid)
        into.drawn_px += int(np.count_nonzero(lake))
        lake &= labelled
        first = top // tile_px
        for grid, windows, pixels_of in zip((into.valid_px, into.lake_px), denser, (labelled, lake), strict=True):
            found = count_by_tile(pixels_of, tile_px)
            grid[first : first + len(found)] += found
            if overlap_px:
                windows.add(top, pixels_of)
        yield top, pixels, valid
    if not into.valid_px.any() and not scene.part:  # a corner of a large scene may well be empty
        why = "nodata or masked" if mask.everywhere else "nodata, masked or beyond dataset.within"
        raise DataError(f"{scene.file.path} has no valid pixel (all is {why}): take it out.")
    if overlap_px:
        into.overlapped_valid_px, into.overlapped_lake_px = (windows.totals() for windows in denser)


def drawn_windows(scene: Scene, mask: LakeMask, tile_px: int) -> set[Window]:
    """Tiles that have lake by the outlines alone, whether valid or not."""
    found = set()
    for top in range(0, scene.height, tile_px):
        counts = count_by_tile(mask.strip(top, min(tile_px, scene.height - top)), tile_px)[0]
        found |= {(top, int(c) * tile_px) for c in np.flatnonzero(counts)}
    return found


def cut(
    scene: Scene,
    mask: LakeMask,
    tables: npt.NDArray[np.uint8],
    windows: Iterable[Window],
    tile_px: int,
    strips: Iterable[Strip],
) -> Iterator[Cut]:
    """Tiles of a scene, row by row."""
    waiting = deque(sorted(windows))
    # rows that tiles are waiting for which go on in the next strip
    rest: tuple[npt.NDArray[Any], Bools, Bools, Owners] | None = None
    for top, pixels, valid in strips:
        bottom = top + len(valid)
        if not waiting:
            return
        if waiting[0][0] >= bottom:
            continue
        owner, labelled = mask.owners(top, len(valid)), mask.labelled(top, valid)
        begin = top
        if rest is not None:
            begin -= len(rest[1])
            pixels = np.concatenate([rest[0], pixels], axis=1)
            valid, labelled = np.concatenate([rest[1], valid]), np.concatenate([rest[2], labelled])
            owner = np.concatenate([rest[3], owner])
        while waiting and min(waiting[0][0] + tile_px, scene.height) <= bottom:
            row, col = waiting.popleft()
            rows = slice(row - begin, min(row - begin + tile_px, len(valid)))
            cols = slice(col, min(col + tile_px, scene.width))
            colours = stretch.apply(pixels[:, rows, cols], tables)
            lake = (owner[rows, cols] > 0) & labelled[rows, cols]
            image, label = padded(colours, lake, valid[rows, cols], tile_px, labelled[rows, cols])
            yield row, col, image, label, shares(owner[rows, cols], lake, row, col)
        rest = None
        if waiting and waiting[0][0] < bottom:
            kept = waiting[0][0] - begin
            rest = pixels[:, kept:].copy(), valid[kept:].copy(), labelled[kept:].copy(), owner[kept:].copy()
