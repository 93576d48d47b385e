"""Scores by hand, by brute force on logits, and the rules for what is empty."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from glidexp.errors import DataError
from glidexp.scoring import scores
from glidexp.scoring.confusion import PER_PLACE, aggregate, pooled_scores, rows_of, scene_rows, strata
from glidexp.scoring.counts import BINS, EDGES, histograms_of_bins, logit_bins, total

NAN = math.nan


def index_of(tiles: int, **columns: object) -> pd.DataFrame:
    every = {"tile": [f"t{i}" for i in range(tiles)], "scene": "s", "sensor": "sentinel2", "region": "andes"}
    every |= {"split": "test", "gsd_m": 10.0, "block": "b"}
    return pd.DataFrame(every | columns, index=range(100, 100 + tiles))


def at_half(*confusions: tuple[int, int, int, int]) -> np.ndarray:
    """Histograms that have these tp, fp, fn, tn at 0.5, with scores just above and below it."""
    hist = np.zeros((len(confusions), 2, BINS), dtype=np.int32)
    for tile, (tp, fp, fn, tn) in zip(hist, confusions, strict=True):
        tile[1, 128], tile[0, 128], tile[1, 127], tile[0, 127] = tp, fp, fn, tn
    return hist


def random_tiles(tiles: int = 12, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    label = (torch.rand(tiles, 24, 24, generator=rng) < 0.3).to(torch.uint8)
    logits = (torch.randn(tiles, 24, 24, generator=rng) * 3 + 4 * label - 3).unsqueeze(1)
    label[torch.rand(label.shape, generator=rng) < 0.1] = 255
    label[0][label[0] == 1] = 0
    index = index_of(
        tiles,
        scene=[f"s{i % 5}" for i in range(tiles)],
        sensor=["sentinel2", "landsat8", "gaofen2"] * (tiles // 3),
        region=["andes", "himalaya"] * (tiles // 2),
    )
    return index, histograms_of_bins(logit_bins(logits), label).numpy(), logits, label


def test_published_confusion_counts_give_the_published_scores() -> None:
    found = pooled_scores(np.array([13_109_933, 602_409, 1_080_860, 605_701_646]))
    percent = {name: round(100 * value, 2) for name, value in found.items()}
    assert percent == {
        "precision": 95.61,
        "recall": 92.38,
        "f1": 93.97,
        "lake_iou": 88.62,
        "miou_two_class": 94.17,
    }


def test_a_case_by_hand() -> None:
    found = scores.pooled(at_half((6, 2, 1, 11)), 128)
    assert found == pytest.approx(
        {"precision": 6 / 8, "recall": 6 / 7, "f1": 12 / 15, "lake_iou": 6 / 9, "miou_two_class": (6 / 9 + 11 / 14) / 2}
    )


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.9])
def test_every_aggregation_equals_brute_force_on_the_logits(threshold: float) -> None:
    index, hist, logits, label = random_tiles()
    k = scores.bin_of_threshold(threshold)
    predicted = (logits[:, 0].double() >= EDGES[k]).numpy()
    valid, lake = label.numpy() < 2, label.numpy() == 1

    def iou(rows: np.ndarray) -> float:
        hit = (predicted & lake & valid)[rows].sum()
        union = ((predicted | lake) & valid)[rows].sum()
        return hit / union if union else NAN

    every = np.arange(len(index))
    found = scores.score_split(index, hist, threshold, "test")
    assert found["test/lake_iou_pooled"] == pytest.approx(iou(every))
    assert found["test/lake_iou_per_image"] == pytest.approx(np.nanmean([iou(every == i) for i in every]))
    scene, sensor = index["scene"].to_numpy(), index["sensor"].to_numpy()
    assert found["test/lake_iou_per_scene"] == pytest.approx(np.mean([iou(scene == s) for s in np.unique(scene)]))
    assert found["test/sensor/landsat8/lake_iou_pooled"] == pytest.approx(iou(sensor == "landsat8"))
    precision = (predicted & lake & valid).sum() / (predicted & valid).sum()
    recall = (predicted & lake & valid).sum() / (lake & valid).sum()
    assert found["test/precision_pooled"] == pytest.approx(precision)
    assert found["test/recall_pooled"] == pytest.approx(recall)
    assert found["test/f1_pooled"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["test/threshold"] == pytest.approx(1 / (1 + math.exp(-EDGES[k])))


def test_names_and_numbers_of_tiles_and_scenes() -> None:
    index, hist, _, _ = random_tiles()
    found = scores.score_split(index, hist, 0.4, "val")
    expected = {f"val/{name}_{how}" for name in PER_PLACE for how in ("pooled", "per_image", "per_scene")}
    expected |= {f"val/at_0.5/{name}_pooled" for name in (*PER_PLACE, "miou_two_class")}
    expected |= {f"val/{name}" for name in ("average_precision", "ece", "nll", "threshold")}
    expected |= {f"val/{name}" for name in ("tiles", "scenes", "tiles_empty", "tiles_with_lake", "tiles_predicted")}
    expected |= {"val/miou_two_class_pooled"}
    for stratum in ("sensor/sentinel2", "sensor/landsat8", "sensor/gaofen2", "region/andes", "region/himalaya"):
        expected |= {f"val/{stratum}/{name}_pooled" for name in PER_PLACE}
        expected |= {f"val/{stratum}/tiles", f"val/{stratum}/scenes"}
    assert set(found) == expected
    assert (found["val/tiles"], found["val/scenes"], found["val/sensor/gaofen2/tiles"]) == (12, 5, 4)
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_rows_of_scenes_are_what_their_mean_is_made_of_and_add_up() -> None:
    index, hist, _, _ = random_tiles()
    index["scene"] = [*["", "unknown"], *index["scene"][2:]]
    table = scores.scores_table(index, hist, 0.4)
    rows = scene_rows(pd.concat([table, table.assign(split="val")]))
    assert rows["split"].tolist() == ["test"] * 5 + ["val"] * 5
    of_test = rows[rows["split"] == "test"]
    found = aggregate(index, table[["tp", "fp", "fn", "tn"]].to_numpy(), "test")
    for name in PER_PLACE:
        assert of_test[name].mean() == pytest.approx(found[f"test/{name}_per_scene"])
    for name in ("tp", "fp", "fn", "tn", "valid_px", "lake_px"):
        assert of_test[name].sum() == table[name][2:].sum()
    assert of_test["tiles"].tolist() == [2, 2, 2, 2, 2]


def test_empty_tiles_are_left_out_of_the_mean_over_images_unless_they_hold_a_false_alarm() -> None:
    hist = at_half((5, 5, 0, 90), (0, 0, 0, 100), (0, 1, 0, 99), (0, 0, 0, 0), (0, 0, 4, 96))
    found = scores.score_split(index_of(5, scene=list("aabcd")), hist, 0.5, "test")
    assert found["test/lake_iou_per_image"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found["test/precision_per_image"] == pytest.approx((0.5 + 0) / 2)  # nothing predicted: no precision
    assert found["test/recall_per_image"] == pytest.approx((1 + 0) / 2)  # no lake: no recall
    assert (found["test/tiles_empty"], found["test/tiles_predicted"], found["test/tiles_with_lake"]) == (2, 2, 2)
    assert found["test/lake_iou_per_scene"] == pytest.approx((0.5 + 0 + 0) / 3)


def test_a_correct_empty_tile_moves_no_score_of_the_lake() -> None:
    few, more = at_half((5, 2, 1, 92)), at_half((5, 2, 1, 92), (0, 0, 0, 100))
    one = scores.score_split(index_of(1), few, 0.5, "val")
    two = scores.score_split(index_of(2, scene=["s", "other"]), more, 0.5, "val")
    for name in PER_PLACE:
        for how in ("pooled", "per_image", "per_scene"):
            assert two[f"val/{name}_{how}"] == one[f"val/{name}_{how}"]


def test_nothing_predicted_has_recall_0_and_no_precision() -> None:
    assert math.isnan(scores.pooled(at_half((0, 0, 7, 3)), 128)["precision"])
    found = scores.score_split(index_of(1), at_half((0, 0, 7, 3)), 0.5, "val")
    assert "val/precision_pooled" not in found
    assert (found["val/recall_pooled"], found["val/f1_pooled"], found["val/lake_iou_pooled"]) == (0, 0, 0)


def test_no_lake_and_none_predicted_leaves_no_lake_score() -> None:
    found = scores.score_split(index_of(2), at_half((0, 0, 0, 9), (0, 0, 0, 9)), 0.5, "val")
    kept = {
        "tiles",
        "scenes",
        "tiles_empty",
        "tiles_with_lake",
        "tiles_predicted",
        "ece",
        "nll",
        "threshold",
        "sensor/sentinel2/tiles",
        "sensor/sentinel2/scenes",
    }
    assert set(found) == {f"val/{name}" for name in kept | {"region/andes/tiles", "region/andes/scenes"}}


@pytest.mark.parametrize("tiles", [0, 3])
def test_no_valid_pixel_or_no_tile_at_all(tiles: int) -> None:
    found = scores.score_split(index_of(tiles), np.zeros((tiles, 2, BINS), dtype=np.int32), 0.5, "val")
    assert found["val/tiles"] == tiles and found["val/tiles_empty"] == tiles
    assert "val/ece" not in found and "val/nll" not in found and not any(name.endswith("_pooled") for name in found)


def test_unknown_scenes_have_no_mean_over_scenes() -> None:
    hist = at_half((1, 1, 0, 8), (3, 0, 0, 7))
    found = scores.score_split(index_of(2, scene=""), hist, 0.5, "val")
    assert found["val/scenes"] == 0 and "val/lake_iou_per_scene" not in found
    half_known = scores.score_split(index_of(2, scene=["", "s"]), hist, 0.5, "val")
    assert half_known["val/scenes"] == 1 and half_known["val/lake_iou_per_scene"] == 1


def test_strata_have_names_that_tracking_accepts_and_stay_apart() -> None:
    """Of keys that would be called alike those that were changed end in a mark; one that was not keeps its name."""
    keys = pd.Series(["A/B", "A B", "A=B", "", None, "Südtirol", "A/B", "unknown"])
    slash, equals = (hashlib.sha256(key.encode()).hexdigest()[:8] for key in ("A/B", "A=B"))
    both = {f"A_B_{slash}": [0, 6], f"A_B_{equals}": [2]}
    others = {"unknown": [3, 4, 7], "A B": [1], "S_dtirol": [5]}
    assert {name: rows.tolist() for name, rows in strata(keys).items()} == others | both
    alone = strata(keys.replace("A=B", "A_B"))
    assert {name: rows.tolist() for name, rows in alone.items() if "A_" in name} == {f"A_B_{slash}": [0, 6], "A_B": [2]}
    assert set(strata(pd.Series(["A/B"]))) == {"A_B"}, "no mark where nothing is alike"


def test_a_stratum_is_found_by_its_name_whatever_is_beside_it() -> None:
    keys = pd.Series(["A/B", "A_B", "C/D"])
    named = {name: rows_of(keys, name).tolist() for name in strata(keys)}
    assert named == {name: rows.tolist() for name, rows in strata(keys).items()} and len(named) == 3
    marked = next(name for name, rows in strata(keys).items() if rows.tolist() == [0])
    assert rows_of(keys, "A/B").tolist() == [0] and rows_of(keys, "A_B").tolist() == [1]
    assert rows_of(pd.Series(["x", "A/B"]), marked).tolist() == [1], "named where there were others beside it"
    assert rows_of(pd.Series(["A/B", "A=B"]), "A_B").tolist() == [], "either could be meant"


def test_strata_add_up_to_the_whole() -> None:
    index, hist, _, _ = random_tiles()
    confusion = scores.confusion(hist, 140)
    for kind in ("sensor", "region"):
        parts = [confusion[rows].sum(0) for rows in strata(index[kind]).values()]
        np.testing.assert_array_equal(np.sum(parts, axis=0), confusion.sum(0))
    np.testing.assert_array_equal(confusion.sum(1), hist.sum((1, 2)))
    np.testing.assert_array_equal(confusion.sum(0), scores.confusion(total(hist), 140))


def test_thresholds_0_and_1_predict_everything_and_nothing() -> None:
    hist = at_half((6, 2, 1, 11))
    assert scores.confusion(hist, 0).tolist() == [[7, 13, 0, 0]]
    assert scores.confusion(hist, BINS).tolist() == [[0, 0, 7, 13]]


def test_best_threshold_equals_trying_every_edge() -> None:
    _, hist, _, _ = random_tiles(seed=3)
    tried = [scores.pooled(hist, k)["lake_iou"] for k in range(1, BINS)]
    best = scores.best_threshold(hist)
    assert scores.pooled(hist, scores.bin_of_threshold(best))["lake_iou"] == max(tried)
    assert best == scores.best_threshold(hist.sum(0))


def test_of_equal_thresholds_the_nearest_to_half_wins() -> None:
    hist = np.zeros((1, 2, BINS), dtype=np.int32)
    hist[0, 0, 10], hist[0, 1, 200] = 50, 50  # every edge from 11 to 200 separates them
    assert scores.best_threshold(hist) == 0.5
    hist[0, 0, 10], hist[0, 0, 140] = 0, 50  # 141 to 200
    assert scores.bin_of_threshold(scores.best_threshold(hist)) == 141
    hist[0] = 0
    hist[0, 1, 60], hist[0, 0, 20] = 5, 5  # 21 to 60
    assert scores.bin_of_threshold(scores.best_threshold(hist)) == 60


@pytest.mark.parametrize("hist", [np.zeros((3, 2, BINS), dtype=np.int32), at_half((0, 0, 0, 9), (0, 3, 0, 9))])
def test_best_threshold_without_a_lake_is_half(hist: np.ndarray) -> None:
    assert scores.best_threshold(hist) == 0.5


def test_lake_everywhere_is_no_threshold_that_is_chosen() -> None:
    """All lake in the lowest bin: only the edge below it would find some, and would call all other ground lake too."""
    hist = np.zeros((1, 2, BINS), dtype=np.int32)
    hist[0, 1, 0] = 5
    assert scores.best_threshold(hist) == 0.5


def test_many_large_tiles_do_not_overflow() -> None:
    hist = np.zeros((3, 2, BINS), dtype=np.int32)
    hist[:, :, 200] = 2**30
    assert scores.confusion(hist, 128).sum() == 6 * 2**30
    assert scores.pooled(hist, 128)["precision"] == 0.5
    assert scores.scores_table(index_of(3), hist, 0.5)["valid_px"].tolist() == [2**31] * 3


def test_tiles_and_histograms_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="same tiles"):
        scores.score_split(index_of(2), at_half((1, 1, 1, 1)), 0.5, "val")
    with pytest.raises(ValueError, match="same tiles"):
        scores.scores_table(index_of(2), at_half((1, 1, 1, 1)), 0.5)


def test_scores_file_gives_back_the_table_and_rescores_at_any_threshold(tmp_path: Path) -> None:
    index, hist, _, _ = random_tiles()
    index["gsd_m"] = [NAN, *([10.0] * 11)]
    table = scores.scores_table(index, hist, 0.3)
    path = tmp_path / "new" / "scores.parquet"
    scores.write_scores(table, path)
    scores.write_scores(table, path)  # over an older one
    read, found = scores.read_scores(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["scores.parquet"]
    np.testing.assert_array_equal(found, hist)
    pd.testing.assert_frame_equal(read, table.drop(columns=["hist_background", "hist_lake"]), check_dtype=False)
    assert scores.score_split(read, found, 0.8, "test") == scores.score_split(index, hist, 0.8, "test")
    np.testing.assert_array_equal(
        read[["tp_at_0.5", "fp_at_0.5", "fn_at_0.5", "tn_at_0.5"]], scores.confusion(hist, 128)
    )
    assert aggregate(read, read[["tp", "fp", "fn", "tn"]].to_numpy(), "x")["x/lake_iou_pooled"] == pytest.approx(
        scores.pooled(hist, scores.bin_of_threshold(0.3))["lake_iou"]
    )


def test_scores_file_without_tiles(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    scores.write_scores(scores.scores_table(index_of(0), np.zeros((0, 2, BINS), dtype=np.int32), 0.5), path)
    read, found = scores.read_scores(path)
    assert len(read) == 0 and found.shape == (0, 2, BINS)


def test_what_is_no_scores_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    pd.DataFrame({"tile": ["a"]}).to_parquet(tmp_path / "other.parquet")
    for name in ("missing.parquet", "broken.parquet", "other.parquet"):
        with pytest.raises(DataError, match=f"{name} cannot be read as scores"):
            scores.read_scores(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scores.parquet"
    index, hist, _, _ = random_tiles()
    scores.write_scores(scores.scores_table(index, hist, 0.5), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        scores.write_scores(scores.scores_table(index, hist, 0.9), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_example_of_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index, hist, _, _ = random_tiles()
    monkeypatch.chdir(tmp_path)
    scores.write_scores(scores.scores_table(index, hist, 0.5), Path("scores.parquet"))
    page = (Path(__file__).parent.parent / "docs" / "scores.md").read_text(encoding="utf-8")
    exec(page.split("```python")[1].split("```")[0], {})
    assert (
        f"'lake_iou': {scores.pooled(hist[1::2], scores.bin_of_threshold(0.7))['lake_iou']}" in capsys.readouterr().out
    )


@pytest.mark.parametrize("unknown", ["", "unknown"])
def test_tiles_of_no_known_scene_are_not_taken_for_a_scene(unknown: str) -> None:
    from glidexp.scoring.confusion import by_scene

    counts = np.array([[1, 0, 0, 0], [5, 0, 0, 0], [2, 0, 0, 0]])
    assert by_scene(pd.Series(["a", unknown, "a"]), counts).tolist() == [[3, 0, 0, 0]]


def test_a_temperature_adds_what_it_gains() -> None:
    index, hist, _, _ = random_tiles()
    plain = scores.score_split(index, hist, 0.4, "test")
    found = scores.score_split(index, hist, 0.4, "test", temperature=2.0)
    more = {name: found[name] for name in found.keys() - plain.keys()}
    assert set(more) == {"test/temperature", "test/ece_calibrated", "test/nll_calibrated"}
    assert {name: found[name] for name in plain} == plain
    assert more["test/nll_calibrated"] != pytest.approx(plain["test/nll"])
    alike = scores.score_split(index, hist, 0.4, "test", temperature=1.0)
    assert alike["test/nll_calibrated"] == alike["test/nll"] and alike["test/ece_calibrated"] == alike["test/ece"]
