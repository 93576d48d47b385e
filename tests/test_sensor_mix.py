"""Which rows a mix takes, and their weights."""

import numpy as np
import pandas as pd
import pytest

from glidexp.config import SensorMixConfig, Weighting
from glidexp.data.loader import order
from glidexp.data.sensor_mix import chosen_sensors, training_rows
from glidexp.errors import ConfigError

SENSORS = ["landsat8"] * 6 + ["sentinel2"] * 3 + ["worldview2"] * 1 + ["sentinel2"] * 2


class Store:
    index = pd.DataFrame({"sensor": SENSORS, "split": ["train"] * 10 + ["val"] * 2})

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.index["split"] == split)


def test_all_takes_everything_without_weights() -> None:
    rows, weights = training_rows(Store(), SensorMixConfig())
    assert rows.tolist() == list(range(10)) and weights is None


def test_balanced_draws_every_sensor_as_often() -> None:
    rows, weights = training_rows(Store(), SensorMixConfig(weighting=Weighting.balanced))
    assert weights is not None
    sums = {name: weights[[SENSORS[r] == name for r in rows]].sum() for name in set(SENSORS)}
    assert sums == pytest.approx(dict.fromkeys(sums, 1.0))
    drawn = [SENSORS[rows[i]] for e in range(30) for i in order(len(rows), seed=0, epoch=e, weights=weights)]
    for name in sums:
        assert abs(drawn.count(name) / len(drawn) - 1 / 3) < 0.03


def test_weights_multiply_and_zero_leaves_out() -> None:
    mix = SensorMixConfig(weights={"worldview2": 2.0, "landsat8": 0.0})
    rows, weights = training_rows(Store(), mix)
    assert rows.tolist() == [6, 7, 8, 9]
    assert weights is not None and weights.tolist() == [1, 1, 1, 2]


def test_regions_are_drawn_in_proportion_and_sensors_within_them_as_before() -> None:
    store = Store()
    store.index = store.index.assign(region=(["andes"] * 4 + ["alaska"] * 4 + ["tibet"] * 2) + ["andes"] * 2)
    mix = SensorMixConfig(weights={"sentinel2": 3.0}, region_weights={"andes": 2.0})
    rows, weights = training_rows(store, mix)
    assert weights is not None
    sums = {name: weights[store.index["region"].iloc[rows] == name].sum() for name in ("andes", "alaska", "tibet")}
    assert sums == pytest.approx({"andes": 2.0, "alaska": 1.0, "tibet": 1.0})
    assert weights[6] == pytest.approx(3 * weights[5])  # sentinel2 and landsat8, both in alaska
    with pytest.raises(ConfigError, match="Did you mean 'alaska'"):
        training_rows(store, SensorMixConfig(region_weights={"alaskaa": 1.0}))
    with pytest.raises(ConfigError, match=r"region_weights\.andes=0\.0 must be a finite number above 0"):
        training_rows(store, SensorMixConfig(region_weights={"andes": 0.0}))


def test_one_sensor() -> None:
    rows, weights = training_rows(Store(), SensorMixConfig(sensors=["sentinel2"]))
    assert rows.tolist() == [6, 7, 8] and weights is None


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        (
            SensorMixConfig(sensors=["gaofen2"]),
            r"gaofen2 is not in the data\. Present: landsat8, sentinel2, w",
        ),
        (SensorMixConfig(sensors=[]), "is empty"),
        (SensorMixConfig(weights={"sentinel": 1.0}), "Did you mean 'sentinel2'"),
        (SensorMixConfig(weights={"sentinel2": -1.0}), "must be 0 or a finite number"),
        (SensorMixConfig(sensors=["sentinel2"], weights={"sentinel2": 0.0}), "all 0"),
    ],
)
def test_impossible_mixes_are_refused(mix: SensorMixConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        chosen_sensors(mix, SENSORS)


def test_no_tile_of_the_mix_in_train() -> None:
    store = Store()
    store.index = store.index.assign(split=["test"] * 6 + ["train"] * 6)
    with pytest.raises(ConfigError, match="no train tile of landsat8"):
        training_rows(store, SensorMixConfig(sensors=["landsat8"]))
