"""Ranking and calibration against scikit-learn, torchmetrics and the probabilities themselves."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, precision_recall_curve

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


def error_bound(hist: np.ndarray, temperature: float = 1.0) -> float:
    """The most by which taking each pixel at its bin's middle can move the ECE."""
    edges, middle = (1 / (1 + np.exp(-logit / temperature)) for logit in (EDGES, calibration.LOGIT))
    edges[0], edges[-1] = 0.0, 1.0
    return float(np.average(np.maximum(edges[1:] - middle, middle - edges[:-1]), weights=hist.sum(axis=0)))


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
    part = np.minimum((15 / (1 + np.exp(-calibration.LOGIT[place]))).astype(int), 14)
    probability = 1 / (1 + np.exp(-logit))
    exact = sum(
        abs(probability[part == p].mean() - lake[part == p].mean()) * (part == p).mean() for p in np.unique(part)
    )
    bound = error_bound(hist)
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
    hist[0, 0, 5] = 4
    assert math.isnan(calibration.average_precision(hist))
    assert calibration.expected_calibration_error(hist) < 1e-6


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_ece_equals_that_of_torchmetrics_within_the_bin_error(sharpness: float) -> None:
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    logit, lake, hist = drawn(sharpness=sharpness)
    for temperature in (1.0, 2.0):
        probability = 1 / (1 + np.exp(-logit / temperature))
        theirs = binary_calibration_error(torch.from_numpy(probability), torch.from_numpy(lake).int(), n_bins=15)
        ours = calibration.expected_calibration_error(hist, temperature=temperature)
        # they sort a pixel by its own probability, we by its bin's middle: those of one bin may lie in the next part
        assert ours == pytest.approx(float(theirs), abs=error_bound(hist, temperature) + 2e-3)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_equals_a_logistic_regression_without_intercept(sharpness: float) -> None:
    logit, lake, hist = drawn(sharpness=sharpness)
    held = np.clip(logit, calibration.LOGIT[0], calibration.LOGIT[-1])  # the outer bins take all that lies beyond
    slope = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10).fit(held[:, None], lake).coef_[0, 0]
    found = calibration.fit_temperature(hist)
    assert found == pytest.approx(1 / slope, rel=5e-3)
    assert found == pytest.approx(sharpness, rel=0.05)
    assert calibration.expected_calibration_error(hist, temperature=found) < 0.01


def test_likelihood_equals_scikit_learn_and_is_least_at_the_temperature() -> None:
    logit, lake, hist = drawn(sharpness=2.0)
    for temperature in (1.0, 3.0):
        theirs = log_loss(lake, 1 / (1 + np.exp(-logit / temperature)))
        assert calibration.negative_log_likelihood(hist, temperature) == pytest.approx(theirs, abs=1e-3)
    best = calibration.fit_temperature(hist)
    assert best is not None
    least = calibration.negative_log_likelihood(hist, best)
    assert all(calibration.negative_log_likelihood(hist, best * step) > least for step in (0.9, 0.99, 1.01, 1.1))


def test_histograms_of_tiles_count_together() -> None:
    whole = drawn(sharpness=2.0)[2]
    tiles = np.stack([whole // 3, whole - whole // 3 - whole // 5, whole // 5])
    for score in (
        calibration.average_precision,
        calibration.expected_calibration_error,
        calibration.negative_log_likelihood,
        calibration.fit_temperature,
    ):
        assert score(tiles) == score(whole)


def test_likelihood_by_hand() -> None:
    hist = np.zeros((2, BINS), dtype=np.int64)
    hist[1, 128], hist[0, 128] = 3, 1  # logit 1/16
    p = 1 / (1 + math.exp(-1 / 16))
    assert calibration.negative_log_likelihood(hist) == pytest.approx(-(3 * math.log(p) + math.log(1 - p)) / 4)


def test_temperature_where_there_is_nothing_to_learn_from() -> None:
    hist = np.zeros((2, BINS), dtype=np.int64)
    assert calibration.fit_temperature(hist) is None and math.isnan(calibration.negative_log_likelihood(hist))
    hist[0, 3] = 9
    assert calibration.fit_temperature(hist) is None
    hist[1, 250] = 9  # never wrong: as cold as it may be
    assert calibration.fit_temperature(hist) == pytest.approx(calibration.TEMPERATURES[0], rel=1e-3)
    hist[[0, 1]] = hist[[1, 0]]  # always wrong: as hot as it may be
    assert calibration.fit_temperature(hist) == pytest.approx(calibration.TEMPERATURES[1], rel=1e-3)
