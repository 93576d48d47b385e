"""Stretch to 8 bit: limits, tables, replay."""

import numpy as np
import pytest

from glidexp.config import StretchConfig, StretchMethod
from glidexp.data.scenes import stretch
from glidexp.data.scenes.numbers import LEVELS
from glidexp.errors import ConfigError


def histogram_of(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    into = np.zeros((len(pixels), LEVELS), np.int64)
    stretch.count_values(pixels, valid, into)
    return into


@pytest.mark.parametrize("percents", [(2.0, 98.0), (0.0, 100.0), (0.5, 50.0)])
def test_percentiles_equal_numpys(percents: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.gamma(3.0, 900.0, (3, 50, 70)).astype(np.uint16)
    valid = rng.random((50, 70)) > 0.3
    found = stretch.fit(histogram_of(pixels, valid), StretchConfig(low=percents[0], high=percents[1]))
    for band in range(3):
        expected = np.percentile(pixels[band][valid], percents, method="inverted_cdf")
        assert (found.low[band], found.high[band]) == tuple(expected)


def test_hand_worked_table() -> None:
    table = stretch.Stretch(low=(100.0,), high=(355.0,)).tables()[0]
    assert [int(table[v]) for v in (0, 100, 101, 227, 355, 60000)] == [0, 0, 1, 127, 255, 255]


def test_invalid_pixels_do_not_count() -> None:
    pixels = np.array([[[0, 0, 10, 20]]], dtype=np.uint8)
    valid = np.array([[False, False, True, True]])
    found = stretch.fit(histogram_of(pixels, valid), StretchConfig(method=StretchMethod.minmax))
    assert (found.low, found.high) == ((10.0,), (20.0,))


def test_minmax_reaches_to_the_single_brightest_and_darkest_pixel() -> None:
    pixels = np.full((1, 50, 50), 500, np.uint16)
    pixels[0, 3, 4], pixels[0, 7, 8] = 7, 60_001
    found = stretch.fit(histogram_of(pixels, np.ones((50, 50), bool)), StretchConfig(method=StretchMethod.minmax))
    assert (found.low, found.high) == ((7.0,), (60_001.0,))


def test_fixed_range_of_8_bit_changes_nothing() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    limits = stretch.fit(
        histogram_of(pixels, np.ones((16, 16), bool)), StretchConfig(method=StretchMethod.fixed, low=0, high=255)
    )
    assert np.array_equal(stretch.apply(pixels, limits.tables())[:, :, 0], pixels[0])


def test_band_of_one_value_becomes_black() -> None:
    pixels = np.full((1, 4, 4), 900, np.uint16)
    limits = stretch.fit(histogram_of(pixels, np.ones((4, 4), bool)), StretchConfig())
    assert not stretch.apply(pixels, limits.tables()).any()


def test_manifest_replays_the_stretch() -> None:
    limits = stretch.Stretch(low=(1.0, 2.0), high=(30.0, 40.0))
    assert stretch.Stretch.from_json(limits.to_json()) == limits


@pytest.mark.parametrize("values", [{"low": 98, "high": 2}, {"low": -1}, {"high": 101}])
def test_impossible_limits_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.stretch"):
        StretchConfig(**values)
