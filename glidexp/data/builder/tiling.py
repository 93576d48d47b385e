"""Which squares of a grid become tiles, and how a tile is filled. A cell (row, col) of a grid is a tile."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from glidexp.data.splits import Place
from glidexp.data.store import INVALID, SPLITS

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Cell = tuple[int, int]


@dataclass(slots=True)
class Survey:
    """First look at a scene: everything that must be known before a tile is cut.

    The grids have a cell a tile.
    """

    histogram: Counts
    """(bands, codes) values of valid pixels"""
    valid_px: Counts
    """(rows, cols) of valid pixels that have a label"""
    lake_px: Counts
    """(rows, cols) of valid lake pixels"""
    drawn_px: int = 0
    """lake pixels of the whole scene, also where it is not valid"""
    overlapped_valid_px: Counts = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """valid pixels in each cell of the grid of overlapping tiles, where one is asked for"""
    overlapped_lake_px: Counts = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def count_by_tile(pixels: Mask, tile_px: int) -> Counts:
    """True pixels in each square of tile_px of an (H, W) array; the last squares may be incomplete."""
    edges = [range(0, length, tile_px) for length in pixels.shape]
    # bytes are counted by words, which adding along rows is not
    return np.array(
        [[np.count_nonzero(pixels[r : r + tile_px, c : c + tile_px]) for c in edges[1]] for r in edges[0]], np.int64
    )


class WindowCounts:
    """True pixels in each window of a grid with overlap, from strips of any height."""

    def __init__(self, height: int, width: int, tile_px: int, stride_px: int) -> None:
        """Starts with nothing counted.

        Args:
            height: of the scene, pixels
            width: of the scene
            tile_px: side of a window
            stride_px: from one window to the next
        """
        self._rows, self._cols = (starts(length, tile_px, stride_px) for length in (height, width))
        self._tile_px, self._height, self._width = tile_px, height, width
        self._sums = np.zeros((height + 1, len(self._cols)), np.int64)

    def add(self, top: int, pixels: Mask) -> None:
        """Counts the rows of a strip."""
        sums = np.zeros((len(pixels), self._width + 1), np.int32)
        np.cumsum(pixels, axis=1, dtype=np.int32, out=sums[:, 1:])
        ends = np.minimum(self._cols + self._tile_px, self._width)
        self._sums[top + 1 : top + 1 + len(pixels)] = sums[:, ends] - sums[:, self._cols]

    def totals(self) -> Counts:
        """(rows, cols) of the windows, after all strips."""
        down = np.cumsum(self._sums, axis=0)
        return down[np.minimum(self._rows + self._tile_px, self._height)] - down[self._rows]


def starts(length: int, tile_px: int, stride_px: int) -> Counts:
    """First pixels of the windows along one side: the last one is the first that reaches the end."""
    return np.arange(max(math.ceil((length - tile_px) / stride_px), 0) + 1, dtype=np.int64) * stride_px


def choose_tiles(
    name: str,
    survey: Survey,
    where: dict[Cell, Place],
    empty_share: float,
    dropped: Counter[str],
) -> set[Cell]:
    """Tiles of a scene that go into the store, as (row, col) of the grid.

    Args:
        name: of the scene, part of the hash that orders tiles without lake
        survey: its counts
        where: unit and side of each tile
        empty_share: tiles without lake kept, as a share of those with lake, on each side
        dropped: what is left out is added here, by reason
    """
    chosen: set[Cell] = set()
    empty: dict[str, list[Cell]] = {side: [] for side in SPLITS}
    with_lake: Counter[str] = Counter()
    for cell, (_, side) in where.items():
        if survey.valid_px[cell] == 0:
            dropped["tiles_without_valid_pixel"] += 1
        elif side is None:
            dropped["tiles_on_divided_ground" + ("" if survey.lake_px[cell] else "_without_lake")] += 1
        elif survey.lake_px[cell]:
            chosen.add(cell)
            with_lake[side] += 1
        else:
            empty[side].append(cell)
    for side, cells in empty.items():
        cells.sort(key=lambda cell: hashlib.sha256(f"{name}/{cell[0]}/{cell[1]}".encode()).digest())
        kept = cells[: math.floor(empty_share * with_lake[side] + 0.5)]
        chosen.update(kept)
        dropped["tiles_without_lake"] += len(cells) - len(kept)
    return chosen


def padded(
    image: npt.NDArray[np.uint8], lake: Mask, valid: Mask, tile_px: int, labelled: Mask | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A full tile of what lies in it: the rest is invalid, and invalid pixels are black.

    Args:
        image: (h, w, C) uint8, h and w at most tile_px
        lake: (h, w)
        valid: (h, w)
        tile_px: side of the tile
        labelled: (h, w) valid pixels that have a label; others are seen and do not count. None: all of them

    Returns:
        image (tile_px, tile_px, C) and label (tile_px, tile_px) of 0, 1, 255
    """
    height, width, channels = image.shape
    labelled = valid if labelled is None else labelled
    if height == width == tile_px and labelled.all():
        return image, lake.view(np.uint8)
    out = np.zeros((tile_px, tile_px, channels), dtype=np.uint8)
    label = np.full((tile_px, tile_px), INVALID, dtype=np.uint8)
    out[:height, :width] = image
    out[:height, :width][~valid] = 0
    label[:height, :width] = np.where(labelled, lake, INVALID)
    return out, label
