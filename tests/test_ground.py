"""Tiles put together again: what touches, what stands alone, overlaps, and where the canvas lies."""

import math

import numpy as np
import pandas as pd
import pytest

from glidexp.scoring.ground import Piece, pieces

PX = 8


def index_of(*tiles: tuple[str, int, int], **columns: object) -> pd.DataFrame:
    """A row a tile (scene, row, col), 10 m, in a map whose corner is (1000, 5000); positions, not labels, count."""
    every = {name: [tile[i] for tile in tiles] for i, name in enumerate(("scene", "row", "col"))}
    every |= {"sensor": "sentinel2", "region": "andes", "gsd_m": 10.0, "crs": "EPSG:32645"}
    every["transform"] = [[10.0, 0.0, 1000.0 + 10 * col, 0.0, -10.0, 5000.0 - 10 * row] for _, row, col in tiles]
    return pd.DataFrame(every | columns, index=range(50, 50 + len(tiles)))


def cut(scene: np.ndarray, *tiles: tuple[str, int, int]) -> np.ndarray:
    return np.stack([scene[row : row + PX, col : col + PX] for _, row, col in tiles])


def members(found: list[Piece]) -> list[list[int]]:
    return [piece.tiles.tolist() for piece in found]


def test_tiles_that_touch_are_one_piece_and_give_the_scene_back() -> None:
    scene = np.random.default_rng(0).integers(0, 255, (24, 32)).astype(np.uint8)
    tiles = (("a", 8, 16), ("a", 8, 8), ("a", 16, 16), ("b", 0, 0))
    found = pieces(index_of(*tiles), PX)
    assert members(found) == [[0, 1, 2], [3]]
    piece = found[0]
    assert (piece.row, piece.col, piece.shape) == (8, 8, (16, 16)) and not piece.overlapping
    assert piece.transform == (10.0, 0.0, 1080.0, 0.0, -10.0, 4920.0) and piece.crs == "EPSG:32645"
    wanted = scene[8:24, 8:24].copy()
    wanted[8:, :8] = 255  # no tile there
    np.testing.assert_array_equal(piece.stitch(cut(scene, *tiles)), wanted)
    colours = np.stack([cut(scene, *tiles)] * 3, axis=-1)
    assert piece.stitch(colours, outside=0)[15, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("second", "together"),
    [((8, 8), True), ((8, 0), True), ((9, 0), False), ((0, 9), False), ((3, 7), True), ((17, 0), False)],
    ids=["corner", "edge", "a pixel between", "a column between", "overlap", "far"],
)
def test_what_touches(second: tuple[int, int], together: bool) -> None:
    assert len(pieces(index_of(("a", 0, 0), ("a", *second)), PX)) == 2 - together


@pytest.mark.parametrize(
    "columns",
    [
        {"scene": ["", ""]},
        {"scene": ["unknown", "unknown"]},
        {"scene": [None, None]},
        {"row": [-1, -1], "col": [-1, -1]},
        {"sensor": ["landsat8", "sentinel2"]},
        {"gsd_m": [10.0, math.nan]},
    ],
    ids=["no scene", "unknown scene", "null scene", "no place", "two sensors", "two GSDs"],
)
def test_what_stands_alone(columns: dict) -> None:
    found = pieces(index_of(("a", 0, 0), ("a", 0, 8), **columns), PX)
    assert members(found) == [[0], [1]]
    assert {piece.scene for piece in found} == {"" if "scene" in columns else "a"}
    array = np.arange(2 * PX * PX, dtype=np.uint8).reshape(2, PX, PX)
    np.testing.assert_array_equal(found[1].stitch(array), array[1])


def test_unknown_gsd_is_no_reason_to_part_and_no_place_gives_no_coordinates() -> None:
    found = pieces(index_of(("a", 0, 0), ("a", 0, 8), gsd_m=math.nan, transform=None, crs=""), PX)
    assert members(found) == [[0, 1]]
    assert math.isnan(found[0].gsd_m) and found[0].transform is None and found[0].crs == ""


def test_overlap_takes_the_pixel_from_the_nearest_centre() -> None:
    """Two tiles 3 px apart: columns 3-7 are in both; the first keeps 3, 4 and, at equal distance, 5."""
    piece = pieces(index_of(("a", 0, 0), ("a", 0, 3)), PX)[0]
    assert piece.overlapping
    row = piece.stitch(np.stack([np.full((PX, PX), 1), np.full((PX, PX), 2)]))[4]
    assert row.tolist() == [1] * 6 + [2] * 5
    assert piece.disagreement(np.zeros((2, PX, PX), np.uint8)) == 0, "no lake, so none that differs"


def test_pieces_come_in_the_order_of_their_first_tile() -> None:
    found = pieces(index_of(("b", 0, 0), ("", 0, 0), ("a", 0, 0), ("b", 0, 8), ("", 0, 8)), PX)
    assert members(found) == [[0, 3], [1], [2], [4]]


def test_every_tile_is_in_one_piece() -> None:
    rng = np.random.default_rng(1)
    tiles = [("abc"[i % 3], int(r) * PX, int(c) * PX) for i, (r, c) in enumerate(rng.integers(0, 9, (60, 2)))]
    distinct = list(dict.fromkeys(tiles))
    found = pieces(index_of(*distinct), PX)
    assert sorted(np.concatenate([piece.tiles for piece in found]).tolist()) == list(range(len(distinct)))
    assert all({distinct[i][0] for i in piece.tiles.tolist()} == {piece.scene} for piece in found)


def test_wrong_tile_size_is_refused_and_nothing_gives_nothing() -> None:
    assert pieces(index_of(("a", 0, 0)).iloc[:0], PX) == []
    with pytest.raises(ValueError, match="made for 8 px"):
        pieces(index_of(("a", 0, 0)), PX)[0].stitch(np.zeros((1, 4, 4), np.uint8))
