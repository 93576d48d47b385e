"""Scored ground: tiles of one scene that touch are put together again, so that a lake cut by a tile's edge is whole."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.data.splits import connected
from glidexp.data.store import INVALID, LAKE
from glidexp.scoring.confusion import UNKNOWN_SCENES

Tiles = npt.NDArray[Any] | Callable[[int], npt.NDArray[Any]]
_KEY = ["scene", "sensor", "region", "gsd_m"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A connected part of a scene's scored tiles, or one tile of which no more is known.

    A canvas is the bounding box of the tiles; what no tile covers is outside.
    """

    tiles: npt.NDArray[np.int64]
    """(k,) positions in the index the piece was made from, ascending"""
    tops: npt.NDArray[np.int64]
    """(k,) first row of each tile in the canvas"""
    lefts: npt.NDArray[np.int64]
    """(k,) first column of each tile in the canvas"""
    shape: tuple[int, int]
    """rows and columns of the canvas"""
    tile_px: int
    scene: str
    """"" where unknown"""
    sensor: str
    region: str
    gsd_m: float
    """NaN where unknown"""
    row: int
    """of the canvas's upper left pixel in the scene, -1 where unknown"""
    col: int
    transform: tuple[float, ...] | None
    """affine a, b, c, d, e, f from pixel corners (col, row) of the canvas to the map; None where unknown"""
    crs: str
    overlapping: bool
    """whether a pixel is in more than one tile"""

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the canvas's upper left pixel in the scene; 0, 0 where no scene or place is known."""
        placed = bool(self.scene) and self.row >= 0 and self.col >= 0
        return (self.row, self.col) if placed else (0, 0)

    def tile_at(self, rows: npt.NDArray[np.int64], cols: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tiles that pixels (n,) of the canvas lie in, by their positions in the index; of several the first."""
        inside = (rows[:, None] >= self.tops) & (rows[:, None] < self.tops + self.tile_px)
        inside &= (cols[:, None] >= self.lefts) & (cols[:, None] < self.lefts + self.tile_px)
        return self.tiles[inside.argmax(axis=1)]

    def on_canvas(self, table: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Row and column on the canvas (n, 2) of what has row and col in the scene, and (n,) whether it lies on it."""
        at: npt.NDArray[np.int64] = table[["row", "col"]].to_numpy(dtype=np.int64) - np.array([self.row, self.col])
        return at, np.asarray(((at >= 0) & (at < self.shape)).all(axis=1))

    def disagreement(self, labels_nHW: Tiles) -> float:
        """Share of the tiles' lake pixels that are no lake on the canvas, 0-1: above 0 only where tiles overlap.

        Tiles of one ground agree where they overlap. Where they do not, their rows and columns are not what they say.
        """
        if not self.overlapping:
            return 0.0
        at = labels_nHW if callable(labels_nHW) else labels_nHW.__getitem__
        canvas, px = self.stitch(labels_nHW) == LAKE, self.tile_px
        lake, lost = 0, 0
        for tile, top, left in zip(self.tiles.tolist(), self.tops.tolist(), self.lefts.tolist(), strict=True):
            own = np.asarray(at(tile)) == LAKE
            lake += int(own.sum())
            lost += int((own & ~canvas[top : top + px, left : left + px]).sum())
        return lost / lake if lake else 0.0

    def stitch(self, tiles_nHW: Tiles, *, outside: int = INVALID) -> npt.NDArray[Any]:
        """Puts the tiles of this piece on one canvas, and touches no other tile.

        Where tiles overlap a pixel is taken from the tile whose centre is nearest (of equals the first), which for a
        prediction is the one that saw most around it, and for labels is as good as any.

        Args:
            tiles_nHW: (n, H, W) or (n, H, W, C) in the order of the index, mapped files included, or a function that
                gives the tile at a position in the index
            outside: value where no tile is; 255 for labels, 0 for bins of the logit

        Returns:
            (rows, cols) or (rows, cols, C) of the tiles' type
        """
        at = tiles_nHW if callable(tiles_nHW) else tiles_nHW.__getitem__
        first = np.asarray(at(int(self.tiles[0])))
        px = self.tile_px
        if first.shape[:2] != (px, px):
            raise ValueError(f"tiles are {first.shape[:2]}, the piece was made for {px} px.")
        if len(self.tiles) == 1:
            return first
        canvas = np.full((*self.shape, *first.shape[2:]), outside, dtype=first.dtype)
        nearest = np.full(self.shape, np.iinfo(np.int32).max, dtype=np.int32) if self.overlapping else None
        away = np.abs(2 * np.arange(px, dtype=np.int32) - (px - 1))
        from_centre = np.maximum(away[:, None], away[None, :])
        for tile, top, left in zip(self.tiles.tolist(), self.tops.tolist(), self.lefts.tolist(), strict=True):
            window = (slice(top, top + px), slice(left, left + px))
            values = np.asarray(at(tile))
            if nearest is None:
                canvas[window] = values
                continue
            nearer = from_centre < nearest[window]
            nearest[window][nearer] = from_centre[nearer]
            canvas[window][nearer] = values[nearer]
        return canvas


def pieces(index: pd.DataFrame, tile_px: int) -> list[Piece]:
    """The pieces of some ground: a tile is in exactly one.

    Tiles belong together when they overlap or touch, also at a corner, since lakes are connected across corners, and
    have scene, sensor, region and GSD in common. A tile whose scene or place is not known stands alone.

    Memory: a piece is worked on at a time. Its canvas is the bounding box of its tiles, so the bound is the largest
    connected part of one scene. Per-lake scores take about 20 bytes a pixel of it (`bench/lakes.py --memory`): 2.4 GB
    where all of a Sentinel-2 scene of 10,980 px was tiled, 5 MB for a lone tile of 512 px.

    Args:
        index: a row a tile of one split, with scene, sensor, region, gsd_m, row, col in pixels of the scene; transform
            and crs where there are any
        tile_px: side of a tile

    Returns:
        pieces in the order of their first tile
    """
    places = index.reset_index(drop=True)
    known = places["scene"].notna() & ~places["scene"].isin(UNKNOWN_SCENES)
    known &= (places["row"] >= 0) & (places["col"] >= 0)
    found = [_piece(places, np.array([i], dtype=np.int64), tile_px) for i in np.flatnonzero(~known).tolist()]
    for _, group in places[known].groupby(_KEY, sort=False, dropna=False):
        at = group[["row", "col"]].to_numpy(dtype=np.int64)
        members = group.index.to_numpy(dtype=np.int64)
        pairs = _near(at, tile_px)
        found += [_piece(places, members[part], tile_px) for part in connected(len(at), map(tuple, pairs.tolist()))]
    return sorted(found, key=lambda piece: int(piece.tiles[0]))


def _near(at: npt.NDArray[np.int64], within: int) -> npt.NDArray[np.int64]:
    """(pairs, 2) of the corners (k, 2) that are at most so many pixels apart in rows and in columns."""
    from scipy.spatial import cKDTree

    return cKDTree(at).query_pairs(float(within), p=np.inf, output_type="ndarray").astype(np.int64)


def _piece(places: pd.DataFrame, tiles: npt.NDArray[np.int64], tile_px: int) -> Piece:
    first = places.loc[tiles[0]]
    rows, cols = (places.loc[tiles, name].to_numpy(dtype=np.int64) for name in ("row", "col"))
    top, left = int(rows.min()), int(cols.min())
    alone = len(tiles) == 1
    transform = first.get("transform")
    if transform is not None:
        a, b, c, d, e, f = (float(value) for value in transform)
        right, down = left - int(cols[0]), top - int(rows[0])
        transform = (a, b, c + a * right + b * down, d, e, f + d * right + e * down)
    scene = str(first["scene"]) if first["scene"] is not None and first["scene"] not in UNKNOWN_SCENES else ""
    return Piece(
        tiles=tiles,
        tops=np.zeros(1, dtype=np.int64) if alone else rows - top,
        lefts=np.zeros(1, dtype=np.int64) if alone else cols - left,
        shape=(int(rows.max()) - top + tile_px, int(cols.max()) - left + tile_px),
        tile_px=tile_px,
        scene=scene,
        sensor=str(first["sensor"]),
        region=str(first["region"]),
        gsd_m=float(first["gsd_m"]),
        row=top,
        col=left,
        transform=transform,
        crs=str(first.get("crs") or "") if transform is not None else "",
        overlapping=not alone and len(_near(np.column_stack([rows, cols]), tile_px - 1)) > 0,
    )
