"""How a score falls with the distance from what a network was trained on, and what it will be at a distance.

From scenes of which both are known. A curve that never rises, a spread that never shrinks with distance, and intervals
by cross-conformal prediction: what the curve of all other targets misses on a target's scenes is what an unseen target
is reckoned to miss.

Source: Barber, Candes, Ramdas and Tibshirani 2021, Predictive inference with the jackknife+ (CV+), with signed errors
in units of the spread, so that an interval need not be symmetric.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from glidexp.errors import DataError

Floats = npt.NDArray[np.float64]
LEVEL = 0.9
LEAST_SCENES = 20
LEAST_SPREAD = 0.02
"""of a score of 0-1: no distance is known better"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean and spread of a score by distance, both monotone, linear between the distances that were met."""

    distances: Floats
    """(k,) ascending"""
    means: Floats
    spreads: Floats

    @classmethod
    def fit(cls, distances: Floats, scores: Floats) -> Self:
        """The curve of some scenes, (n,) each."""
        order = np.argsort(distances, kind="stable")
        x, y = distances[order], scores[order]
        means = _smooth(x, _monotone(y, rising=False))
        spreads = np.maximum(_smooth(x, _monotone(np.abs(y - means), rising=True)), LEAST_SPREAD)
        return cls(x, means, spreads)

    def at(self, distances: Floats) -> tuple[Floats, Floats]:
        """Mean and spread; beyond the distances that were met, those of the last one."""
        return np.interp(distances, self.distances, self.means), np.interp(distances, self.distances, self.spreads)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a score will be at a distance."""

    curve: Curve
    """of all scenes"""
    others: tuple[Curve, ...]
    """without the scenes of a target, one a target"""
    errors: tuple[Floats, ...]
    """of each target's scenes against the curve of the others, in spreads"""
    level: float
    scenes: int
    """scores that all is made of"""
    farthest: float
    """distance beyond which nothing is known"""

    @classmethod
    def fit(cls, distances: Floats, scores: Floats, targets: npt.NDArray[np.str_], *, level: float = LEVEL) -> Self:
        """From scenes of several targets.

        Args:
            distances: (n,) of a scene to what the network was trained on, above 0
            scores: (n,) of that network on the scene, 0-1
            targets: (n,) what is left out together: region, or sensor
            level: share of scenes that the intervals are to hold

        Raises:
            DataError: too few scenes, or one target
        """
        names = sorted(set(targets.tolist()))
        if len(scores) < LEAST_SCENES or len(names) < 2:
            raise DataError(
                f"{len(scores)} scores of scenes in {len(names)} target{'s' * (len(names) != 1)} are too few to "
                f"say what a score will be: {LEAST_SCENES} or more in two or more targets are needed."
            )
        others, errors = [], []
        for name in names:
            out = targets == name
            curve = Curve.fit(distances[~out], scores[~out])
            mean, spread = curve.at(distances[out])
            others.append(curve)
            errors.append((scores[out] - mean) / spread)
        whole = Curve.fit(distances, scores)
        return cls(whole, tuple(others), tuple(errors), level, len(scores), float(distances.max()))

    def at(self, distances: Floats) -> tuple[Floats, Floats, Floats]:
        """Expected score and the ends of its interval at (n,) distances, 0-1."""
        means, _ = self.curve.at(distances)
        reach = []
        for curve, errors in zip(self.others, self.errors, strict=True):
            mean, spread = curve.at(distances)
            reach.append(mean[:, None] + errors[None] * spread[:, None])
        every = np.sort(np.concatenate(reach, axis=1), axis=1)
        count = every.shape[1]
        tail = (1 - self.level) / 2
        low, high = math.floor(tail * (count + 1)) - 1, math.ceil((1 - tail) * (count + 1)) - 1
        lows = every[:, low] if low >= 0 else np.zeros(len(every))
        highs = every[:, high] if high < count else np.ones(len(every))
        means = np.clip(means, 0, 1)
        return means, np.clip(np.minimum(lows, means), 0, 1), np.clip(np.maximum(highs, means), 0, 1)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often intervals held scores of targets that had no part in them."""

    share: float
    width: float
    """mean, 0-1"""
    constant_width: float
    """of the interval that the same scores give without looking at distances"""
    scores: int


def coverage(distances: Floats, scores: Floats, targets: npt.NDArray[np.str_], *, level: float = LEVEL) -> Coverage:
    """Leaves out each target in turn, makes intervals of the others, and counts how many of its scenes they hold."""
    held, widths, plain = [], [], []
    for name in sorted(set(targets.tolist())):
        out = targets == name
        found = Expected.fit(distances[~out], scores[~out], targets[~out], level=level)
        _, low, high = found.at(distances[out])
        held += ((low <= scores[out]) & (scores[out] <= high)).tolist()
        widths += (high - low).tolist()
        ends = np.quantile(scores[~out], [(1 - level) / 2, (1 + level) / 2])
        plain += [float(ends[1] - ends[0])] * int(out.sum())
    return Coverage(float(np.mean(held)), float(np.mean(widths)), float(np.mean(plain)), len(held))


def _monotone(values: Floats, *, rising: bool) -> Floats:
    from scipy.optimize import isotonic_regression

    found: Floats = isotonic_regression(values, increasing=rising).x
    return found


def _smooth(x: Floats, steps: Floats) -> Floats:
    """Steps as lines between their middles, so that a small distance more is a small difference."""
    begins = np.flatnonzero(np.r_[True, np.diff(steps) != 0])
    ends = np.r_[begins[1:], len(steps)]
    middles = np.array([(x[begin] + x[end - 1]) / 2 for begin, end in zip(begins, ends, strict=True)])
    found: Floats = np.interp(x, middles, steps[begins])
    return found
