"""Ranking and calibration from histograms: precision-recall curve, average precision, reliability, ECE, temperature.

A bin's pixels all count with the probability at the bin's middle. The bin is 1/8 wide in the logit, so that this is off
by at most 0.0157 (at probability 0.5) and by less towards 0 and 1.

A temperature T divides the logit: the calibrated probability is sigmoid(logit / T). It keeps every ranking, so that
masks, curves and scores at a threshold stay as they are. Source: Guo et al. 2017, arXiv:1706.04599.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glidexp.scoring.counts import BINS, EDGES, total

CALIBRATION_BINS = 15
"""equal parts of the probability range, as is customary since Guo et al. 2017 (arXiv:1706.04599)"""


LOGIT = (EDGES[:-1] + EDGES[1:]) / 2
"""(256,) middle of each bin; the outer ones, which are open, as if they were not"""
TEMPERATURES = (0.05, 20.0)
"""what a temperature is fitted in; a network that is never wrong on val gets the lower end"""


@dataclass(frozen=True, slots=True)
class PrCurve:
    """Precision and recall at every threshold bin 0-255, rising threshold, undefined precision (none predicted) NaN."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Predicted against observed in the parts of the probability range that hold pixels."""

    confidence: NDArray[np.float64]
    """mean predicted lake probability"""
    frequency: NDArray[np.float64]
    """share of lake pixels"""
    pixels: NDArray[np.int64]


def pr_curve(hist: NDArray[np.integer]) -> PrCurve | None:
    """The precision-recall curve of (..., 2, 256) histograms, summed; None when there is no lake pixel."""
    summed = total(hist)
    above = summed[:, ::-1].cumsum(axis=1)[:, ::-1]  # pixels at the bin or beyond
    false, true = above
    if true[0] == 0:
        return None
    predicted = true + false
    precision = np.divide(true, predicted, out=np.full(BINS, np.nan), where=predicted > 0)
    return PrCurve(precision=precision, recall=true / true[0])


def average_precision(hist: NDArray[np.integer]) -> float:
    """Area under the precision-recall steps, sum of (R_k - R_k+1) P_k, 0-1; NaN when there is no lake pixel.

    The same as scikit-learn's `average_precision_score` of scores rounded down to the bins. Pixels of one bin count as
    equals, which takes some thousandths off what the unrounded scores would give.
    """
    curve = pr_curve(hist)
    if curve is None:
        return float("nan")
    steps = curve.recall - np.append(curve.recall[1:], 0.0)
    return float(np.nansum(np.where(steps > 0, steps * curve.precision, 0.0)))


def negative_log_likelihood(hist: NDArray[np.integer], temperature: float = 1.0) -> float:
    """Mean over pixels of -log of the probability given to the true class, natural log; NaN without pixels.

    Args:
        hist: (..., 2, 256), summed
        temperature: above 0; 1 leaves the network as it is
    """
    background, lake = total(hist)
    pixels = int(background.sum() + lake.sum())
    if not pixels:
        return float("nan")
    cooled = LOGIT / temperature
    return float((lake @ np.logaddexp(0, -cooled) + background @ np.logaddexp(0, cooled)) / pixels)


def fit_temperature(hist: NDArray[np.integer]) -> float | None:
    """The temperature with the least negative log likelihood of these pixels, which are those of val.

    The likelihood has one optimum in 1 / T, and so in log T, which is searched for within `TEMPERATURES`.

    Args:
        hist: (..., 2, 256), summed

    Returns:
        above 1 for a network that is too sure of itself, below 1 for one that is not sure enough; None where the pixels
        are all lake or all background, which no temperature can be learnt from
    """
    from scipy.optimize import minimize_scalar

    summed = total(hist)
    if not summed.sum(axis=1).all():
        return None
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(summed, float(np.exp(log_t))),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def reliability(hist: NDArray[np.integer], *, temperature: float = 1.0) -> Reliability:
    """Predicted lake probability against the observed share of lake, over the `CALIBRATION_BINS`.

    A bin of the histogram belongs to the part in which its middle lies, so a part's limits are those of the nearest
    bins.

    Args:
        hist: (..., 2, 256), summed
        temperature: the probabilities' own, above 0
    """
    probability = 1.0 / (1.0 + np.exp(-LOGIT / temperature))
    background, lake = total(hist)
    part = np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    pixels = np.bincount(part, weights=background + lake, minlength=CALIBRATION_BINS)
    mass = np.bincount(part, weights=(background + lake) * probability, minlength=CALIBRATION_BINS)
    lakes = np.bincount(part, weights=lake, minlength=CALIBRATION_BINS)
    held = pixels > 0
    return Reliability(
        confidence=mass[held] / pixels[held], frequency=lakes[held] / pixels[held], pixels=pixels[held].astype(np.int64)
    )


def expected_calibration_error(hist: NDArray[np.integer], *, temperature: float = 1.0) -> float:
    """Mean distance of predicted probability and observed share of lake, weighted by pixels, 0-1; NaN without pixels.

    Over all valid pixels, most of which are background: compare it on the same ground only.
    """
    curve = reliability(hist, temperature=temperature)
    if not len(curve.pixels):
        return float("nan")
    return float(np.average(np.abs(curve.confidence - curve.frequency), weights=curve.pixels))
