"""The naive rows by hand and by brute force."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from glidexp.scoring import naive


@dataclass
class Store:
    images: np.ndarray
    labels: np.ndarray
    split: list[str]
    manifest: dict[str, Any] = field(default_factory=lambda: {"bands": ["red", "green", "blue"]})

    @property
    def index(self) -> pd.DataFrame:
        tiles = len(self.labels)
        return pd.DataFrame({"scene": [f"s{i}" for i in range(tiles)], "sensor": "a", "region": "b"})

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(np.array(self.split) == split)


def watery(tiles: int = 6, px: int = 32, seed: int = 0) -> Store:
    """Lakes greener than the land, with overlap, and some pixels not valid."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((tiles, px, px)) < 0.2).astype(np.uint8)
    images = rng.integers(60, 160, (tiles, px, px, 3), dtype=np.uint8)
    images[..., 0][labels == 1] //= 2
    labels[rng.random(labels.shape) < 0.1] = 255
    return Store(images, labels, ["val", "test"] * (tiles // 2))


def test_index_of_pairs_by_hand() -> None:
    index = naive.index_of_pairs()
    assert index[10 * 256 + 30] == 0.5 and index[30 * 256 + 10] == -0.5
    assert index[0] == 0 and index[255] == 1 and index[255 * 256] == -1


def test_otsu_equals_trying_every_cut() -> None:
    rng = np.random.default_rng(1)
    values = np.round(np.concatenate([rng.normal(0, 1, 300), rng.normal(5, 1, 100)]), 1)
    weights = rng.integers(0, 4, len(values))
    every = np.repeat(values, weights)

    def between(cut: float) -> float:
        low, high = every[every < cut], every[every >= cut]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    found = naive.otsu(values, weights)
    assert found is not None
    assert between(found) == pytest.approx(max(between(cut) for cut in np.unique(every)[1:]))
    assert 1.5 < found < 3.5


def test_otsu_needs_two_values() -> None:
    assert naive.otsu(np.array([1.0, 2.0, 1.0]), np.array([4, 0, 3])) is None
    assert naive.otsu(np.array([1.0]), np.array([0])) is None
    assert naive.otsu(np.array([1.0, 2.0]), np.array([5, 1])) == 2.0


def test_both_rows_equal_brute_force() -> None:
    store = watery()
    found = naive.naive_scores(store, "test")
    red, green = store.images[..., 0].astype(float), store.images[..., 1].astype(float)
    index = (green - red) / (green + red)
    valid, rows = store.labels < 2, store.rows("test")
    threshold = found["test/naive/index_threshold/threshold"]
    fitted = index[store.rows("val")][valid[store.rows("val")]]
    assert threshold == naive.otsu(fitted, np.ones(len(fitted), dtype=np.int64))
    predicted, lake = (index >= threshold)[rows] & valid[rows], (store.labels == 1)[rows]
    iou = (predicted & lake).sum((1, 2)) / (predicted | lake).sum((1, 2))
    assert found["test/naive/index_threshold/lake_iou_per_image"] == pytest.approx(iou.mean())
    pooled = (predicted & lake).sum() / (predicted | lake).sum()
    assert found["test/naive/index_threshold/lake_iou_pooled"] == pytest.approx(pooled) and pooled > 0.3
    assert found["test/naive/background/lake_iou_pooled"] == 0
    share = 1 - lake.sum() / valid[rows].sum()
    assert found["test/naive/background/miou_two_class_pooled"] == pytest.approx(share / 2)
    assert "test/naive/background/precision_pooled" not in found
    assert not any("sensor" in name or "tiles" in name for name in found)


def test_each_index_has_a_row_where_its_band_is_there() -> None:
    """NDWI is of green and near infrared, MNDWI of green and short-wave infrared, each as if they were alone."""
    store = watery()
    red, green, blue = np.moveaxis(store.images, -1, 0)
    darker = np.where(store.labels == 1, red // 3, red)
    every = Store(
        np.stack([darker, blue, green, red, darker], axis=-1), store.labels, store.split,
        {"bands": ["NIR", "swir1", "green", "red", "vv"]},
    )  # fmt: skip
    told: list[int] = []
    found = naive.naive_scores(every, "test", told=told.append)
    assert told == [1] * len(every.rows("test")), "a bar over the tiles ends with them, however many indices there are"
    assert {name.split("/")[2] for name in found} == {*naive.ROWS}
    alone = {"index_threshold": red, "ndwi_threshold": darker, "mndwi_threshold": blue}
    for row, band in alone.items():
        one = naive.naive_scores(
            Store(np.stack([band, green], axis=-1), store.labels, store.split, {"bands": ["red", "green"]}), "test"
        )
        own = {name.replace(row, "index_threshold"): value for name, value in found.items() if row in name.split("/")}
        assert own == {name: value for name, value in one.items() if "background" not in name} and len(own) > 5
    pooled = [found[f"test/naive/{row}/lake_iou_pooled"] for row in ("ndwi_threshold", "index_threshold")]
    assert pooled[0] > pooled[1] + 0.1
    every.manifest["bands"][3] = "other"
    without = naive.naive_scores(every, "test")
    assert without == {name: value for name, value in found.items() if "index_threshold" not in name.split("/")}


def test_of_radar_the_dark_is_lake() -> None:
    """Levels 10 and 20 beside 200: the cut of 1 - VV / 255 is the darkness of 20, and what is as dark is lake."""
    vv = np.full((2, 2, 3, 1), 200, np.uint8)
    vv[:, 0, :, 0] = [10, 20, 20]
    label = np.zeros((2, 2, 3), np.uint8)
    label[:, 0], label[:, 1, 2] = 1, 1
    store = Store(vv, label, np.array(["val", "test"]), {"bands": ["vv"]})
    found = naive.naive_scores(store, "test")
    assert found["test/naive/vv_threshold/threshold"] == 1 - 20 / 255
    assert found["test/naive/vv_threshold/recall_pooled"] == 3 / 4
    assert found["test/naive/vv_threshold/precision_pooled"] == 1.0
    assert {name.split("/")[2] for name in found} == {"vv_threshold", "background"}


def test_bands_are_found_by_name() -> None:
    store = watery()
    turned = Store(store.images[..., ::-1].copy(), store.labels, store.split, {"bands": ["blue", "green", "Red"]})
    assert naive.naive_scores(turned, "test") == naive.naive_scores(store, "test")


def test_without_red_and_green_only_the_background_is_scored(caplog: pytest.LogCaptureFixture) -> None:
    store = watery()
    store.manifest = {"bands": ["yellow", "green", "blue"]}
    with caplog.at_level(logging.INFO):
        found = naive.naive_scores(store, "test")
    assert found and all("/background/" in name for name in found)
    assert "no green beside one of red, nir, swir1" in caplog.text
    with pytest.raises(ValueError, match="no red and green"):
        naive.index_confusion(store, store.rows("test"), {"index_threshold": 0.0})


def test_nothing_to_fit_on_or_to_score() -> None:
    store = watery()
    assert naive.naive_scores(store, "train") == {}
    assert all("/background/" in name for name in naive.naive_scores(store, "test", fit_rows=store.rows("train")))
    store.images[:] = 7
    assert all("/background/" in name for name in naive.naive_scores(store, "test"))


def test_only_valid_pixels_count() -> None:
    store = watery()
    before = naive.naive_scores(store, "test")
    store.images[store.labels == 255] = 255
    assert naive.naive_scores(store, "test") == before


def test_a_large_split_is_fitted_on_a_fixed_sample_and_scored_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    store = watery(40, 8)
    monkeypatch.setattr(naive, "FIT_TILES", 5)
    first, second = naive.naive_scores(store, "test"), naive.naive_scores(store, "test")
    assert first == second
    monkeypatch.setattr(naive, "FIT_TILES", 1000)
    whole = naive.naive_scores(store, "test")
    assert whole["test/naive/background/miou_two_class_pooled"] == first["test/naive/background/miou_two_class_pooled"]
