"""The table of mistakes: every wrong pixel in it once, missed lakes by size and brightness, the worst tiles."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glidexp.scoring import mistakes as module
from glidexp.scoring.ground import pieces
from glidexp.scoring.left_out import lakes_left_out
from glidexp.scoring.mistakes import (
    COLUMNS,
    mistake_scores,
    mistakes,
    summary,
    worst_tiles,
    write_mistakes,
)
from glidexp.scoring.predictions import Predictions

PX = 32


class Store:
    """Tiles side by side in one scene, or each for itself."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, scene: str, gsd_m: float = 10.0) -> None:
        n = len(labels)
        self.images, self.labels = images, labels
        self.manifest: dict[str, Any] = {"bands": ["red", "green", "blue"]}
        self.inventory: pd.DataFrame | None = None
        self.ice: pd.DataFrame | None = None
        self.index = pd.DataFrame(
            {
                "tile": [f"t{i}" for i in range(n)],
                "scene": scene,
                "sensor": "sentinel2",
                "region": "andes",
                "gsd_m": gsd_m,
                "row": 64 if scene else -1,
                "col": [PX * i if scene else -1 for i in range(n)],
                "split": "test",
                "transform": None,
                "crs": "",
            }
        )

    def rows(self, split: str, /) -> np.ndarray:
        return np.arange(len(self.index))


def predictions(
    labels: np.ndarray, predicted: np.ndarray, images: np.ndarray | None = None, **store: Any
) -> Predictions:
    images = np.full((*labels.shape, 3), 100, np.uint8) if images is None else images
    bins = np.where(predicted, 200, 20).astype(np.uint8)
    hist = np.zeros((len(labels), 2, 256), np.int32)
    for i, (label, row) in enumerate(zip(labels, bins, strict=True)):
        for side in (0, 1):
            hist[i, side] = np.bincount(row[label == side], minlength=256)
    tiles = Store(images, labels, **({"scene": "s"} | store))
    return Predictions("test", tiles, np.arange(len(labels)), hist, bins, 0.5)


def random_predictions(**store: Any) -> Predictions:
    rng = np.random.default_rng(0)
    labels = (rng.random((3, PX, PX)) > 0.95).astype(np.uint8)
    labels[:, :2] = 255
    return predictions(
        labels, rng.random((3, PX, PX)) > 0.9, rng.integers(0, 255, (3, PX, PX, 3), dtype=np.uint8), **store
    )


@pytest.mark.parametrize("store", [{"scene": "s"}, {"scene": ""}, {"scene": "s", "gsd_m": np.nan}])
def test_every_wrong_pixel_is_in_one_row(store: dict[str, Any]) -> None:
    seen = random_predictions(**store)
    table = mistakes(seen, (0, 1, 2))
    assert list(table.columns) == list(COLUMNS)
    alarms = table[table["kind"] == "false_alarm"]
    assert alarms["area_px"].sum() == seen.hist[:, 0, seen.threshold_bin :].sum()
    assert table.loc[table["kind"] == "true_lake", "area_px"].sum() == (seen.tiles.labels == 1).sum()
    found = mistake_scores(table, "test")
    assert sum(value for name, value in found.items() if name.startswith("test/fp_share/")) == pytest.approx(1)
    assert table["area_km2"].isna().all() == np.isnan(store.get("gsd_m", 10.0))


def test_tables_are_made_for_all_pieces_of_ground_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each took most of the time where each tile is a piece. Rows stay by piece, false alarms first."""
    made: list[int] = []

    class Counted(pd.DataFrame):
        def __init__(self, *args: Any, **words: Any) -> None:
            super().__init__(*args, **words)
            made.append(len(self))

    seen = random_predictions(scene="")
    monkeypatch.setattr(module, "pd", SimpleNamespace(DataFrame=Counted, Series=pd.Series, concat=pd.concat))
    table = pd.DataFrame(mistakes(seen, (0, 1, 2)))
    assert len(made) == 2 and table["piece"].nunique() == 3
    order = table["piece"] * 2 + (table["kind"] == "true_lake")
    assert order.is_monotonic_increasing and order.nunique() == 6
    alone = [
        mistakes(
            predictions(*(of[i : i + 1] for of in (seen.tiles.labels, seen.bins > 100, seen.tiles.images)), scene=""),
            (0, 1, 2),
        )
        for i in range(3)
    ]
    alone = [part.assign(piece=i, tile=f"t{i}") for i, part in enumerate(alone)]
    pd.testing.assert_frame_equal(table, pd.concat(alone, ignore_index=True), check_exact=True)


def test_places_are_those_of_the_scene_and_of_the_tile() -> None:
    labels, predicted = np.zeros((2, PX, PX), np.uint8), np.zeros((2, PX, PX), bool)
    predicted[1, 10:14, 4:8] = True
    for scene, row, col in (("s", 64 + 11, PX + 5), ("", 11, 5)):
        (alarm,) = mistakes(predictions(labels, predicted, scene=scene), (0, 1, 2)).to_dict("records")
        assert (alarm["tile"], alarm["area_px"], alarm["area_km2"]) == ("t1", 16, pytest.approx(0.0016))
        assert abs(alarm["row"] - row) <= 1 and abs(alarm["col"] - col) <= 1


def test_without_a_scene_a_place_in_one_is_no_place() -> None:
    """As in lakes.parquet: rows and columns of nobody knows what."""
    labels, predicted = np.zeros((1, PX, PX), np.uint8), np.zeros((1, PX, PX), bool)
    predicted[0, 10:14, 4:8] = True
    seen = predictions(labels, predicted, scene="")
    seen.tiles.index["row"] = seen.tiles.index["col"] = 64
    (alarm,) = mistakes(seen, (0, 1, 2)).to_dict("records")
    assert abs(alarm["row"] - 11) <= 1 and abs(alarm["col"] - 5) <= 1


def test_missed_lakes_by_size_and_brightness() -> None:
    labels, predicted = np.zeros((2, PX, PX), np.uint8), np.zeros((2, PX, PX), bool)
    images = np.full((2, PX, PX, 3), 100, np.uint8)
    labels[0, 2:6, 2:6], images[0, 2:6, 2:6] = 1, 20  # 0.0016 km2, dark, missed
    labels[0, 20:26, 20:26], images[0, 20:26, 20:26] = 1, 25  # 0.0036 km2, dark, one pixel found
    predicted[0, 20, 20] = True
    labels[1, 4:20, 4:20], images[1, 4:20, 4:20] = 1, 220  # 0.0256 km2, bright, missed
    table = mistakes(predictions(labels, predicted, images), (0, 1, 2))
    found = mistake_scores(table, "test")
    assert found == {
        "test/missed/size/under_0.0054km2/lakes": 1,
        "test/missed/size/under_0.0054km2/share": 0.5,
        "test/missed/size/0.01-0.05km2/lakes": 1,
        "test/missed/size/0.01-0.05km2/share": 1,
        "test/missed/brightness/darker/lakes": 1,
        "test/missed/brightness/darker/share": 0.5,
        "test/missed/brightness/brighter/lakes": 1,
        "test/missed/brightness/brighter/share": 1,
    }
    rows = summary(table).set_index(["what", "class"])
    assert rows.loc[("missed lakes by size", "0.01-0.05km2"), ["number", "area_px", "share"]].tolist() == [1, 256, 1]
    assert rows.loc["false alarms", "number"].sum() == 0


def test_a_lake_across_two_tiles_is_one_and_found_when_either_half_is() -> None:
    labels, predicted = np.zeros((2, PX, PX), np.uint8), np.zeros((2, PX, PX), bool)
    labels[0, 10:14, -4:], labels[1, 10:14, :4] = 1, 1
    predicted[1, 10:14, :2] = True
    (lake,) = mistakes(predictions(labels, predicted), None).to_dict("records")
    assert lake["area_px"] == 32 and not lake["missed"] and lake["brightness_class"] == ""


def test_a_left_out_lake_is_found_where_the_inventory_says() -> None:
    labels, predicted = np.zeros((2, PX, PX), np.uint8), np.zeros((2, PX, PX), bool)
    predicted[1, 8:16, 8:16] = True
    seen = predictions(labels, predicted)
    inventory = pd.DataFrame(
        {"scene": "s", "row": [64 + 12, 64 + 2, 64 + 3], "col": [PX + 12, 3, 5], "area_km2": [0.0064, 0.0064, 0.01]}
    ).assign(fate=["far_from_ice", "labelled", "too_small"])
    (alarm,) = mistakes(seen, (0, 1, 2), inventory).to_dict("records")
    assert alarm["attributed_to"] == "beyond_buffer"
    (piece,) = pieces(seen.index, PX)
    known = lakes_left_out(piece, inventory)
    assert [(lake.row, lake.col, lake.fate) for lake in known] == [(12, PX + 12, "far_from_ice"), (3, 5, "too_small")]
    assert known[0].radius_px == pytest.approx(np.sqrt(6400 / np.pi) / 10)


def test_ground_beyond_the_buffer_is_found_where_the_scene_is_known() -> None:
    """Ice lies along the scene's upper edge, and the tiles are its rows 64 to 95: 640 to 950 m of 10 m."""
    labels, predicted = np.zeros((2, PX, PX), np.uint8), np.zeros((2, PX, PX), bool)
    predicted[0, 20:24, 4:8] = predicted[1, 4:8, 4:8] = predicted[1, 14:24, 20:24] = True
    corners = np.repeat(np.arange(0, 101, 20) * 10.0, 6)  # every 20 px of a scene of 100 px
    ice = pd.DataFrame({"scene": ["s"], "buffer_m": 800.0, "step_px": 20, "across": 6, "distance_m": [corners]})
    found = mistakes(predictions(labels, predicted), (0, 1, 2), None, ice).set_index("tile")
    near, across = found.loc["t1"].sort_values("area_px").to_dict("records")
    assert found.loc["t0", ["attributed_to", "look"]].tolist() == ["beyond_buffer", "unattributed"]
    assert found.loc["t0", "glacier_distance_m"] == pytest.approx(845)  # of its row 20, to the pixel's centre
    assert (near["attributed_to"], near["glacier_distance_m"]) == ("unattributed", pytest.approx(685))
    assert (across["attributed_to"], across["glacier_distance_m"]) == ("unattributed", pytest.approx(785))
    for store, known in (({"scene": "s"}, ice.assign(scene="other")), ({"scene": ""}, ice), ({"scene": "s"}, None)):
        table = mistakes(predictions(labels, predicted, **store), (0, 1, 2), None, known)
        assert set(table["attributed_to"]) == {"unattributed"} and table["glacier_distance_m"].isna().all()


def test_worst_tiles_are_those_with_most_wrong_pixels() -> None:
    labels, predicted = np.zeros((4, PX, PX), np.uint8), np.zeros((4, PX, PX), bool)
    labels[1, :4, :4] = 1
    predicted[2, :5, :5], predicted[3, 0, 0] = True, True
    seen = predictions(labels, predicted)
    assert worst_tiles(seen) == [(2, 25, 0), (1, 0, 16), (3, 1, 0)]
    assert worst_tiles(seen, 1) == [(2, 25, 0)]


def test_twelve_tiles_are_shown_as_the_worst() -> None:
    predicted = np.zeros((14, PX, PX), bool)
    for tile, row in enumerate(predicted):
        row.flat[: tile + 1] = True
    found = worst_tiles(predictions(np.zeros((14, PX, PX), np.uint8), predicted))
    assert found == [(tile, tile + 1, 0) for tile in range(13, 1, -1)]


def test_no_mistake_no_lake(tmp_path: Path) -> None:
    labels = np.zeros((2, PX, PX), np.uint8)
    table = mistakes(predictions(labels, labels > 0), (0, 1, 2))
    assert not len(table) and mistake_scores(table, "test") == {}
    assert summary(table)["number"].sum() == 0
    write_mistakes(table, tmp_path / "errors.parquet")
    assert list(pd.read_parquet(tmp_path / "errors.parquet").columns) == list(COLUMNS)


def test_the_file_holds_the_table(tmp_path: Path) -> None:
    table = mistakes(random_predictions(scene="s"), (0, 1, 2))
    write_mistakes(table, tmp_path / "errors.parquet")
    again = pd.read_parquet(tmp_path / "errors.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["errors.parquet"]
    pd.testing.assert_frame_equal(again.drop(columns="missed"), table.drop(columns="missed"), check_dtype=False)
    assert again["missed"].fillna(False).sum() == table["missed"].fillna(False).astype(bool).sum()
