"""The table of lakes and its scores: every case worked by hand, then a brute force with scikit-image."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage import measure

from glidexp.errors import DataError
from glidexp.scoring.lake_scores import area_scores, kinds_of, lake_scores, named, say_what_is_left_out, shore_scores
from glidexp.scoring.lakes import SCHEMA, LakeScores, read_lakes, score_lakes, write_lakes
from glidexp.scoring.matching import _percentile_95

PX = 16
YES, NO = 200, 50
"""bins of a lake and of background at threshold bin 128"""


def index_of(tiles: int, **columns: object) -> pd.DataFrame:
    """Tiles side by side in one scene, 10 m."""
    every = {"tile": [f"tile{i}" for i in range(tiles)], "scene": "s", "sensor": "sentinel2", "region": "andes"}
    every |= {"split": "test", "gsd_m": 10.0, "block": "b", "row": 0, "col": [PX * i for i in range(tiles)]}
    return pd.DataFrame(every | columns, index=range(7, 7 + tiles))


def drawn(*boxes: tuple[int, int, int, int], tiles: int = 1) -> np.ndarray:
    """Lake where boxes (top, left, height, width) are, cut into tiles (n, PX, PX)."""
    canvas = np.zeros((PX, PX * tiles), np.uint8)
    for top, left, height, width in boxes:
        canvas[top : top + height, left : left + width] = 1
    return np.stack(np.split(canvas, tiles, axis=1))


def scored(true: np.ndarray, predicted: np.ndarray, index: pd.DataFrame | None = None, **columns) -> LakeScores:
    index = index_of(len(true), **columns) if index is None else index
    return score_lakes(index, true, np.where(predicted == 1, YES, NO).astype(np.uint8), 128)


def metrics(found: LakeScores) -> dict[str, float]:
    return named(lake_scores(found), "test")


def side(found: LakeScores, kind: str) -> pd.DataFrame:
    return found.lakes[found.lakes["kind"] == kind]


def test_distances_to_a_glacier_at_their_bounds() -> None:
    km = [0.0, 1.999, 2.0, 4.999, 5.0, 9.999, 10.0, 80.0, math.nan]
    lakes = pd.DataFrame({"glacier_distance_m": [1000 * one for one in km], "size_class": "", "lake_type": ""})
    assert kinds_of(lakes)["glacier_distance"].tolist() == [
        *["0-2km"] * 2, *["2-5km"] * 2, *["5-10km"] * 2, *["over_10km"] * 2, "",
    ]  # fmt: skip


def test_one_lake_found_by_hand() -> None:
    """6 x 6 px true, 6 x 8 predicted over it: IoU 36/48, area + 12 px of 36, bound pi/4 * 24 / 2."""
    found = scored(drawn((4, 4, 6, 6)), drawn((4, 4, 6, 8)))
    lake = side(found, "true").iloc[0]
    assert (lake["area_px"], lake["overlap_px"], lake["best_iou"]) == (36, 36, 0.75)
    assert (lake["row"], lake["col"], lake["tile"], lake["size_class"]) == (6.5, 6.5, "tile0", "under_0.0054km2")
    assert lake["matches"] == ["test_0_p0"] and side(found, "predicted")["matches"].tolist() == [["test_0_t0"]]
    assert not lake["cut"] and lake["compared"]
    got = metrics(found)
    for name, value in {
        "lakes": 1, "lakes_predicted": 1, "lakes_cut": 0, "lakes_compared": 1, "lake_splits": 0, "lake_merges": 0,
        "lake_recall": 1, "lake_precision": 1, "lake_recall_iou50": 1, "lake_precision_iou50": 1,
        "area_bias_percent": 100 / 3, "area_error_percent": 100 / 3, "area_bound_percent": 100 * 3 * math.pi / 36,
        "area_bias_km2": 0.0012, "area_error_km2": 0.0012, "area_bound_km2": 3 * math.pi * 1e-4,
        "area_true_km2": 0.0036, "area_predicted_km2": 0.0048, "area_total_bias_percent": 100 / 3,
        "area_within_bound": 0, "size/under_0.0054km2/lake_recall": 1, "sensor/sentinel2/lake_recall": 1,
        "region/andes/lake_precision": 1, "lake_recall_per_scene": 1,
    }.items():  # fmt: skip
        assert got[f"test/{name}"] == pytest.approx(value), name
    # the right side is 2 px off (6 true px, of which 2 corners on the long sides; 6 predicted): see test_shoreline
    assert got["test/assd_m"] == pytest.approx(10 * got["test/assd_px"])
    assert got["test/hd95_m"] == pytest.approx(20.0) and got["test/hd95_px"] == pytest.approx(2.0)


def test_split_and_merge() -> None:
    """One lake seen as two, then two lakes seen as one: recall 1 and precision 1 at any overlap, IoU says more."""
    whole, halves = drawn((2, 2, 4, 12)), drawn((2, 2, 4, 7), (2, 10, 4, 4))
    found = scored(whole, halves)
    got = metrics(found)
    assert (got["test/lake_splits"], got["test/lake_merges"], got["test/lake_recall"]) == (1, 0, 1)
    # 28 of 48 px: IoU 0.583 for the larger half, 16 of 48 for the smaller
    assert got["test/lake_recall_iou50"] == 1 and got["test/lake_precision_iou50"] == 0.5
    assert side(found, "true")["predicted_area_px"].tolist() == [44.0]
    found = scored(halves, whole)
    got = metrics(found)
    assert (got["test/lake_splits"], got["test/lake_merges"], got["test/lake_precision"]) == (0, 1, 1)
    # its 48 px are shared out 28 : 16, so that no pixel counts twice
    assert side(found, "true")["predicted_area_px"].tolist() == pytest.approx([48 * 28 / 44, 48 * 16 / 44])


def test_a_missed_and_a_false_lake() -> None:
    found = scored(drawn((2, 2, 3, 3), (10, 10, 3, 3)), drawn((2, 2, 3, 3), (10, 2, 1, 1)))
    got = metrics(found)
    assert got["test/lake_recall"] == got["test/lake_precision"] == 0.5
    assert got["test/lakes_compared"] == 1 and got["test/area_bias_percent"] == 0 and got["test/assd_px"] == 0
    assert got["test/area_total_bias_percent"] == pytest.approx(100 * (10 / 18 - 1))
    # 8 of 16 true shoreline pixels, 8 of 9 predicted
    assert got["test/boundary_f1_1px"] == pytest.approx(2 * 8 / (16 + 9))
    wrong = side(found, "predicted").query("overlaps == 0").iloc[0]
    assert wrong["best_iou"] == 0 and wrong["matches"] == [] and wrong["mean_probability"] > 0.99


def test_a_lake_across_a_tile_edge_is_one_where_the_scene_is_known() -> None:
    lake = drawn((4, 10, 4, 12), tiles=2)
    together = side(scored(lake, lake), "true")
    assert together[["area_px", "cut", "row", "col"]].to_numpy().tolist() == [[48, False, 5.5, 15.5]]
    alone = side(scored(lake, lake, scene=""), "true")
    assert alone["area_px"].tolist() == [24, 24] and alone["cut"].all()
    assert alone["col"].tolist() == [12.5, 2.5]  # in its tile


def test_a_lake_is_named_by_the_tile_of_its_first_pixel_and_lies_where_its_middle_is() -> None:
    """Four tiles that begin at row 32, column 48 of a scene on a map turned askew; a lake in each of two of them."""
    rows, cols = [32, 32, 32 + PX, 32 + PX], [48, 48 + PX] * 2
    # x = 500 + 10 col + 2 row, y = 900 + 3 col - 10 row, of pixel corners
    maps = [
        (10.0, 2.0, 500.0 + 10 * c + 2 * r, 3.0, -10.0, 900.0 + 3 * c - 10 * r) for r, c in zip(rows, cols, strict=True)
    ]
    index = index_of(4, row=rows, col=cols, crs="EPSG:32645").assign(transform=maps)
    tiles = np.zeros((4, PX, PX), np.uint8)
    tiles[1, 2:4, :6] = tiles[2, :3, :3] = 1
    lakes = side(scored(tiles, tiles, index), "true")
    assert lakes["tile"].tolist() == ["tile1", "tile2"]
    # pixels' centres are at halves: rows 34 and 35, columns 64 to 69; rows 48 to 50, columns 48 to 50
    assert lakes[["row", "col"]].to_numpy().tolist() == [[34.5, 66.5], [49.0, 49.0]]
    assert lakes["x"].tolist() == [500 + 10 * 67 + 2 * 35, 500 + 10 * 49.5 + 2 * 49.5]
    assert lakes["y"].tolist() == [900 + 3 * 67 - 10 * 35, 900 + 3 * 49.5 - 10 * 49.5]


def test_cut_lakes_count_as_found_but_not_in_area_and_distances() -> None:
    """The upper lake is cut itself; the lower is whole, but what was predicted over it reaches the edge."""
    found = scored(drawn((2, 0, 3, 5), (9, 3, 3, 5), (14, 12, 1, 1)), drawn((2, 0, 3, 4), (9, 0, 3, 8)))
    got = metrics(found)
    assert (got["test/lakes_cut"], got["test/lakes_compared"]) == (1, 0)
    assert got["test/lake_recall"] == pytest.approx(2 / 3) and got["test/lake_precision"] == 1
    assert not any("area_error" in name or "assd" in name for name in got)
    assert got["test/boundary_f1_2px"] > 0.8  # boundary scores take every shore there is


def test_invalid_pixels_count_nowhere() -> None:
    true, predicted = drawn((4, 4, 4, 4)), drawn((4, 4, 4, 4), (10, 2, 3, 10))
    true[0, 9:14] = 255
    found = scored(true, predicted)
    assert len(side(found, "predicted")) == 1 and metrics(found)["test/lake_precision"] == 1
    true[0, 5] = 255  # and they part a lake in two
    assert side(scored(true, predicted), "true")["area_px"].tolist() == [4, 8]
    assert side(scored(true, predicted), "predicted")["area_px"].tolist() == [4, 8]


def test_nothing_true_nothing_predicted_nothing_at_all() -> None:
    nothing, some = drawn(), drawn((4, 4, 3, 3))
    got = metrics(scored(nothing, some))
    assert got["test/lake_precision"] == 0 and "test/lake_recall" not in got and got["test/boundary_f1_2px"] == 0
    got = metrics(scored(some, nothing))
    assert got["test/lake_recall"] == 0 and "test/lake_precision" not in got
    assert got["test/area_total_bias_percent"] == -100
    got = metrics(scored(nothing, nothing))
    kept = {"lakes", "lakes_predicted", "lakes_cut", "lakes_compared", "lake_splits", "lake_merges"}
    assert {name for name, value in got.items() if value == 0 and name.count("/") == 1} >= {f"test/{n}" for n in kept}
    assert not any("recall" in name or "percent" in name or "boundary" in name for name in got)
    empty = score_lakes(index_of(1).iloc[:0], nothing[:0], nothing[:0], 128)
    assert list(empty.lakes.columns) == SCHEMA.names and metrics(empty)["test/lakes"] == 0


def test_the_size_of_the_tiles_changes_no_lake() -> None:
    """One ground in tiles of 16, 32 and 64 px, an empty corner left out: the same lakes, the same scores."""
    rng = np.random.default_rng(3)
    true, predicted = (rng.random((2, 64, 64)) < 0.25).astype(np.uint8)
    true[:32, :32] = predicted[:32, :32] = 0
    true[rng.random(true.shape) < 0.02] = 255
    got = []
    for px in (16, 32, 64):
        cells = [(r, c) for r in range(0, 64, px) for c in range(0, 64, px) if px == 64 or r + c > 32 or max(r, c) > 31]
        index = index_of(1).iloc[[0] * len(cells)].assign(row=[r for r, _ in cells], col=[c for _, c in cells])
        cut = [np.stack([canvas[r : r + px, c : c + px] for r, c in cells]) for canvas in (true, predicted)]
        got.append(scored(*cut, index=index))
    keys = ["kind", "row", "col"]
    tables = [found.lakes.sort_values(keys, ignore_index=True) for found in got]
    for table in tables[:2]:
        own = ["kind", "row", "col", "area_px", "perimeter_px", "overlaps", "overlap_px", "best_iou"]
        pd.testing.assert_frame_equal(table[own], tables[2][own])
    scores = [metrics(found) for found in got]
    assert scores[0] == pytest.approx(scores[1])  # the same ground is scored
    assert scores[2]["test/lake_recall"] == scores[1]["test/lake_recall"]


def test_rows_and_columns_that_are_numbers_of_tiles_are_told(caplog: pytest.LogCaptureFixture) -> None:
    tiles = np.concatenate([drawn((2, 2, 5, 5)), drawn((8, 8, 5, 5))])
    scored(tiles, tiles, index_of(2, col=[0, 1]))
    assert "row and col must be pixels of the scene, not numbers of tiles" in caplog.text
    caplog.clear()
    lake = np.concatenate([drawn((4, 8, 5, 5), tiles=2)[:1], drawn((4, 0, 5, 5), tiles=2)[:1]])
    found = scored(lake, lake, index_of(2, col=[0, 8]))  # the same lake, seen twice in tiles 8 px apart
    assert not caplog.text and side(found, "true")["area_px"].tolist() == [25]


def test_threshold_bin_is_the_lowest_that_is_lake() -> None:
    bins = np.full((1, PX, PX), 127, np.uint8)
    bins[0, 4:6, 4:6] = 128
    for threshold, lakes in ((128, 1), (129, 0), (256, 0), (0, 1)):
        assert len(side(score_lakes(index_of(1), drawn(), bins, threshold), "predicted")) == lakes


def test_unknown_gsd_gives_pixels_and_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    lake = drawn((4, 4, 8, 8))
    found = scored(lake, lake, gsd_m=math.nan)
    got = metrics(found)
    assert got["test/size/54-100px/lake_recall"] == 1 and got["test/area_true_px"] == 64
    assert got["test/area_error_px"] == 0 and got["test/assd_px"] == 0
    assert not any("km2" in name or name.endswith("_m") for name in got)
    for ask in (lambda: area_scores(found.lakes, "km2"), lambda: shore_scores(found, found.lakes, "m")):
        with pytest.raises(DataError, match=r"ground sample distance .* is not known"):
            ask()
    with caplog.at_level("INFO", "glidexp"):
        say_what_is_left_out(found.lakes)
        say_what_is_left_out(scored(lake, lake).lakes)
    assert len(caplog.messages) == 1 and "no areas in km2: name the sensor" in caplog.text


def test_one_unknown_gsd_leaves_only_the_others_strata_metric() -> None:
    lake = np.repeat(drawn((4, 4, 8, 8)), 2, axis=0)
    index = index_of(2, scene=["a", "b"], sensor=["landsat8", "unknown"], gsd_m=[30.0, math.nan])
    got = metrics(scored(lake, lake, index))
    assert "test/assd_m" not in got and got["test/sensor/landsat8/assd_m"] == 0
    assert "test/sensor/unknown/assd_m" not in got and got["test/sensor/unknown/assd_px"] == 0
    assert "test/area_true_km2" not in got and "test/area_true_px" not in got  # pixels of two sizes do not add up
    assert got["test/size/0.05-0.1km2/lakes"] == 1 == got["test/size/54-100px/lakes"]


def test_scenes_are_in_the_table_and_their_mean_among_the_metrics() -> None:
    true = np.concatenate([drawn((4, 4, 8, 8)), drawn((4, 4, 3, 3), (10, 10, 3, 3))])
    predicted = np.concatenate([drawn((4, 4, 8, 8)), drawn()])
    table = lake_scores(scored(true, predicted, index_of(2, scene=["a", "b"])))
    by_scene = table[table["by"] == "scene"].set_index("name")
    assert by_scene["lake_recall"].tolist() == [1.0, 0.0] and math.isnan(by_scene.loc["b", "lake_precision"])
    got = named(table, "test")
    assert got["test/lake_recall"] == pytest.approx(1 / 3) and got["test/lake_recall_per_scene"] == 0.5
    assert got["test/lake_precision_per_scene"] == 1.0 and not any("/scene/" in name for name in got)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (40, 7)])
def test_what_the_inventory_knows_goes_with_the_lake_that_has_most_pixels(top: int, left: int) -> None:
    """Two inventory lakes share a component, one is known by its part in the second tile, three are on other ground."""
    true = drawn((2, 2, 4, 8), (10, 12, 3, 8), tiles=2)
    inventory = pd.DataFrame(
        {
            "scene": ["s", "s", "s", "s", "s", "s", "other"],
            "lake": ["small", "large", "across", "dropped", "below", "beside", "elsewhere"],
            "row": [2, 3, 11, 7, PX, 2, 2], "col": [2, 5, 17, 3, 2, 2 * PX, 2], "px": [8, 24, 12, 0, 9, 9, 9],
            "area_km2": [0.0008, 0.0024, 0.0024, 1.0, 1.0, 1.0, 1.0],
            "glacier_distance_m": [10.0, 2500.0, 0.0, 20000.0, 5.0, 5.0, 5.0],
            "lake_type": ["supraglacial", "proglacial", "", "unconnected", "proglacial", "proglacial", "proglacial"],
        }
    )  # fmt: skip
    inventory = inventory.assign(row=inventory["row"] + top, col=inventory["col"] + left)
    index = index_of(2, row=top, col=[left, left + PX])
    bins = np.where(drawn((2, 2, 4, 8), tiles=2) == 1, YES, NO).astype(np.uint8)
    found = score_lakes(index, true, bins, 128, inventory)
    lakes = side(found, "true")
    assert lakes["inventory_id"].tolist() == ["large", "across"]
    assert lakes["lake_type"].tolist() == ["proglacial", ""]
    got = metrics(found)
    assert got["test/lake_type/proglacial/lake_recall"] == 1 and got["test/lake_type/proglacial/lakes"] == 1
    assert got["test/glacier_distance/2-5km/lake_recall"] == 1
    assert got["test/glacier_distance/0-2km/lake_recall"] == 0
    assert not any("lake_type" in name and "precision" in name for name in got)
    assert "test/lake_type/unknown/lakes" not in got


def test_file_comes_back_as_it_was(tmp_path: Path) -> None:
    true, predicted = drawn((2, 2, 4, 12), tiles=2), drawn((2, 2, 4, 5), (2, 9, 4, 5), (9, 9, 1, 1), tiles=2)
    for found in (scored(true, predicted), scored(true, predicted, gsd_m=math.nan), scored(true * 0, true * 0)):
        write_lakes(found.lakes, tmp_path / "lakes.parquet")
        again = read_lakes(tmp_path / "lakes.parquet")
        again["matches"] = [list(names) for names in again["matches"]]
        pd.testing.assert_frame_equal(again, found.lakes, check_dtype=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lakes.parquet"]
    (tmp_path / "x").write_text("no")
    with pytest.raises(DataError, match=r"cannot be read as lakes: give the lakes.parquet"):
        read_lakes(tmp_path / "x")


@pytest.mark.parametrize("seed", range(3))
def test_detection_against_brute_force_with_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = (rng.random((1, 40, 40)) < 0.3).astype(np.uint8)
    predicted = np.where(rng.random(true.shape) < 0.15, 1 - true, true)
    true[rng.random(true.shape) < 0.05] = 255
    found = scored(true, predicted)
    a, b = (measure.label(mask, connectivity=2) for mask in (true[0] == 1, (predicted[0] == 1) & (true[0] <= 1)))
    iou = np.array(
        [
            [((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum() for j in range(1, b.max() + 1)]
            for i in range(1, a.max() + 1)
        ]
    )
    got = metrics(found)
    assert (got["test/lakes"], got["test/lakes_predicted"]) == iou.shape
    for suffix, hit in (("", iou > 0), ("_iou50", iou >= 0.5)):
        assert got[f"test/lake_recall{suffix}"] == pytest.approx(hit.any(axis=1).mean())
        assert got[f"test/lake_precision{suffix}"] == pytest.approx(hit.any(axis=0).mean())
    assert got["test/lake_splits"] == ((iou > 0).sum(axis=1) > 1).sum()
    assert got["test/lake_merges"] == ((iou > 0).sum(axis=0) > 1).sum()
    np.testing.assert_allclose(side(found, "true")["best_iou"], iou.max(axis=1))
    np.testing.assert_allclose(side(found, "predicted")["best_iou"], iou.max(axis=0))


def test_the_95th_percentile_of_each_lakes_distances_is_numpys() -> None:
    values, owner = np.array([4.0, 0.0, 9.0, 1.0, 5.0, 2.5]), np.array([2, 0, 2, 2, 3, 2])
    found = _percentile_95(values, owner, np.bincount(owner))
    wanted = [0.0, math.nan, np.percentile([4.0, 9.0, 1.0, 2.5], 95), 5.0]  # 4 + 0.85 * 5 of the four
    assert found.tolist() == pytest.approx(wanted, nan_ok=True) and found[2] == pytest.approx(8.25)


@pytest.mark.parametrize("scenes", [1, 2])
def test_distances_of_a_lake_are_its_own_and_pool(scenes: int) -> None:
    if scenes == 1:
        found = scored(drawn((2, 2, 4, 4), (10, 2, 4, 4)), drawn((2, 3, 4, 4), (10, 2, 4, 4)))
    else:  # the same lakes, on two pieces of ground
        tiles = [np.concatenate([drawn((2, left, 4, 4)), drawn((10, 2, 4, 4))]) for left in (2, 3)]
        found = scored(*tiles, index_of(2, scene=["a", "b"]))
    lakes = side(found, "true")
    for row, lake in lakes.iterrows():
        own = found.distance_px[found.distance_row == row]
        assert (len(own), own.mean()) == (lake["shore_distances"], pytest.approx(lake["assd_px"]))
        assert lake["hd95_px"] == pytest.approx(np.percentile(own, 95))
    assert lakes["assd_px"].iloc[0] > 0 and lakes["assd_px"].iloc[1] == 0
    pooled = shore_scores(found, found.lakes, "px")
    assert pooled["assd_px"] == pytest.approx(found.distance_px.mean())
