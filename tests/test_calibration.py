"""Ranking and calibration against scikit-learn and against the probabilities themselves."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from glidexp.scoring import calibration
from glidexp.scoring.counts import BINS, EDGES


def drawn(pixels: int = 20_000, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels drawn from their own probability (calibrated when sharpness is 1), and the histogram."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-2, 4, pixels)
    lake = rng.random(pixels) < 1 / (1 + np.exp(-logit))
    logit *= sharpness
    place = np.searchsorted(EDGES[1:-1], logit, side="right")
    hist = np.stack([np.bincount(place[~lake], minlength=BINS), np.bincount(place[lake], minlength=BINS)])
    return logit, lake, hist


def test_average_precision_equals_scikit_learn_on_the_bins() -> None:
    logit, lake, hist = drawn()
    place = np.searchsorted(EDGES[1:-1], logit, side="right")
    assert calibration.average_precision(hist) == pytest.approx(average_precision_score(lake, place), abs=1e-12)
    assert calibration.average_precision(hist) == pytest.approx(average_precision_score(lake, logit), abs=4e-3)


def test_pr_curve_equals_scikit_learn_at_every_bin_that_holds_pixels() -> None:
    logit, lake, hist = drawn()
    place = np.searchsorted(EDGES[1:-1], logit, side="right")
    precision, recall, bins = precision_recall_curve(lake, place)
    curve = calibration.pr_curve(hist)
    assert curve is not None
    np.testing.assert_allclose(curve.precision[bins], precision[:-1])
    np.testing.assert_allclose(curve.recall[bins], recall[:-1])


def test_average_precision_by_hand() -> None:
    hist = np.zeros((2, BINS), dtype=np.int64)
    hist[1, 250], hist[0, 200], hist[1, 150], hist[0, 3] = 1, 1, 1, 7
    assert calibration.average_precision(hist) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_perfect_ranking_has_1_and_a_blind_one_the_share_of_lake() -> None:
    hist = np.zeros((2, BINS), dtype=np.int64)
    hist[0, 10], hist[1, 20] = 90, 10
    assert calibration.average_precision(hist) == 1
    hist[1, 20], hist[1, 10] = 0, 10
    assert calibration.average_precision(hist) == pytest.approx(0.1)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_ece_equals_that_of_the_probabilities_within_the_stated_bound(sharpness: float) -> None:
    logit, lake, hist = drawn(sharpness=sharpness)
    place = np.searchsorted(EDGES[1:-1], logit, side="right")
    part = np.minimum((calibration.PROBABILITY[place] * 15).astype(int), 14)
    probability = 1 / (1 + np.exp(-logit))
    exact = sum(
        abs(probability[part == p].mean() - lake[part == p].mean()) * (part == p).mean() for p in np.unique(part)
    )
    bound = calibration.probability_error_bound(hist)
    assert bound < 0.0157
    assert calibration.expected_calibration_error(hist) == pytest.approx(exact, abs=bound)
    assert calibration.expected_calibration_error(hist) == pytest.approx(exact, abs=2e-4)  # in fact far nearer


def test_calibrated_scores_have_a_small_ece_and_overconfident_ones_do_not() -> None:
    assert calibration.expected_calibration_error(drawn()[2]) < 0.01
    assert calibration.expected_calibration_error(drawn(sharpness=4)[2]) > 0.05


def test_ece_by_hand() -> None:
    hist = np.zeros((2, BINS), dtype=np.int64)
    hist[0, 0], hist[1, 255] = 60, 20  # sure and right
    hist[0, 255] = 20  # sure and wrong: the top part says 1 and holds half lakes
    assert calibration.expected_calibration_error(hist) == pytest.approx(0.4 * 0.5, abs=1e-6)
    curve = calibration.reliability(hist)
    np.testing.assert_allclose(curve.confidence, [0, 1], atol=2e-7)
    np.testing.assert_allclose(curve.frequency, [0, 0.5])
    assert curve.pixels.tolist() == [60, 40]


def test_no_lake_no_pixels() -> None:
    hist = np.zeros((3, 2, BINS), dtype=np.int32)
    assert math.isnan(calibration.average_precision(hist)) and calibration.pr_curve(hist) is None
    assert math.isnan(calibration.expected_calibration_error(hist))
    assert math.isnan(calibration.probability_error_bound(hist))
    hist[0, 0, 5] = 4
    assert math.isnan(calibration.average_precision(hist))
    assert calibration.expected_calibration_error(hist) < 1e-6
