"""What a network will score on a scene without labels, from scenes that were scored.

Two signs tell: how sure the network is of its own map (`certainty`), and how far the scene lies from what the network
was trained on. A plane over both that never falls with certainty nor rises with distance, and intervals by
cross-conformal prediction: what the plane of all other targets misses on a target's scenes is what a plane misses on an
unseen target.

Source: Barber, Candes, Ramdas and Tibshirani 2021, Predictive inference with the jackknife+ (CV+), with signed errors,
so that an interval need not be symmetric.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from glidexp.errors import DataError
from glidexp.scoring.calibration import LOGIT
from glidexp.scoring.counts import PROBABILITY, bin_of_threshold
from glidexp.wording import does, many

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]
LEVEL = 0.9
LEAST_SCENES = 20
NEAREST = 1e-3
"""distances below are taken as this"""


def certainty(counts: npt.NDArray[np.integer], threshold: float, temperature: float | None = None) -> float:
    """IoU of lake that a map is expected to have if its probabilities hold, 0-1; 0 where it has no lake.

    Args:
        counts: (256,) pixels by bin of the logit
        threshold: probability from which a pixel is lake
        temperature: calibrates the probabilities; without it they are taken as they are
    """
    lake = counts * (PROBABILITY if temperature is None else 1 / (1 + np.exp(-LOGIT / temperature)))
    at = bin_of_threshold(threshold)
    union = float(counts[at:].sum() + lake[:at].sum())
    return float(lake[at:].sum()) / union if union > 0 else 0.0


def signs(certainties: Floats, distances: Floats) -> Floats:
    """(n,) and (n,) -> (n, 2): of each, more is never worse."""
    return np.column_stack([certainties, -np.log(np.maximum(distances, NEAREST))])


@dataclass(frozen=True, slots=True)
class Plane:
    """Mean of a score by its signs."""

    level: float
    slopes: Floats
    """(k,), none below 0"""

    @classmethod
    def fit(cls, signs_nk: Floats, scores: Floats) -> Self:
        """By least squares; flat along a sign that tells nothing, or the wrong way."""
        from scipy.optimize import nnls

        middle = signs_nk.mean(axis=0)
        slopes, _ = nnls(signs_nk - middle, scores - scores.mean())
        return cls(float(scores.mean() - middle @ slopes), slopes)

    def at(self, signs_nk: Floats) -> Floats:
        """(n, k) -> (n,), not bounded."""
        found: Floats = self.level + signs_nk @ self.slopes
        return found


@dataclass(frozen=True, slots=True)
class Expected:
    """What a score will be."""

    plane: Plane
    """of all scenes"""
    others: tuple[Plane, ...]
    """without the scenes of a target, one a target"""
    errors: tuple[Floats, ...]
    """of each target's scenes against the plane of the others"""
    left_out: Floats
    """(n,) what the plane of the other targets says of each scene"""
    level: float

    @classmethod
    def fit(cls, signs_nk: Floats, scores: Floats, targets: Names, *, level: float = LEVEL) -> Self:
        """From scenes of several targets.

        Args:
            signs_nk: of a network on a scene, from `signs`
            scores: (n,) of that network on the scene, 0-1
            targets: (n,) what is left out together: region, or sensor
            level: share of scenes that the intervals are to hold

        Raises:
            DataError: too few scenes, or one target
        """
        names = sorted(set(targets.tolist()))
        if len(scores) < LEAST_SCENES or len(names) < 2:
            raise DataError(
                f"{many(len(scores), 'score')} of scenes in {many(len(names), 'target')} "
                f"{does(len(scores), 'are')} too few to say "
                f"what a score will be: {LEAST_SCENES} or more in two or more targets are needed."
            )
        others, errors, left_out = [], [], np.empty(len(scores))
        for name in names:
            out = targets == name
            plane = Plane.fit(signs_nk[~out], scores[~out])
            left_out[out] = plane.at(signs_nk[out])
            others.append(plane)
            errors.append(scores[out] - left_out[out])
        return cls(Plane.fit(signs_nk, scores), tuple(others), tuple(errors), np.clip(left_out, 0, 1), level)

    def at(self, signs_nk: Floats) -> tuple[Floats, Floats, Floats]:
        """Expected score and the ends of its interval, (n,) each, 0-1."""
        reach = [plane.at(signs_nk)[:, None] + errors for plane, errors in zip(self.others, self.errors, strict=True)]
        every = np.sort(np.concatenate(reach, axis=1), axis=1)
        count, tail = every.shape[1], (1 - self.level) / 2
        low, high = math.floor(tail * (count + 1)) - 1, math.ceil((1 - tail) * (count + 1)) - 1
        lows = every[:, low] if low >= 0 else np.zeros(len(every))
        highs = every[:, high] if high < count else np.ones(len(every))
        means = np.clip(self.plane.at(signs_nk), 0, 1)
        return means, np.clip(np.minimum(lows, means), 0, 1), np.clip(np.maximum(highs, means), 0, 1)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often intervals held scores of targets that had no part in them."""

    share: float
    width: float
    """mean, 0-1"""
    scores: int


def coverage(signs_nk: Floats, scores: Floats, targets: Names, *, level: float = LEVEL) -> Coverage:
    """Leaves out each target in turn, makes intervals of the others, and counts how many of its scores they hold.

    Raises:
        DataError: too few scenes, or fewer than three targets
    """
    held: list[bool] = []
    widths: list[float] = []
    for name in sorted(set(targets.tolist())):
        out = targets == name
        _, low, high = Expected.fit(signs_nk[~out], scores[~out], targets[~out], level=level).at(signs_nk[out])
        held += ((low <= scores[out]) & (scores[out] <= high)).tolist()
        widths += (high - low).tolist()
    return Coverage(float(np.mean(held)), float(np.mean(widths)), len(held))
