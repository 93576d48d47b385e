"""How far a vector lies from many others, by their own spread, and whether others that were held out lie so far too."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
INSIDE = 95.0
"""per cent of the held-out vectors that lie within `Cloud.limit`. The median of many vectors is held
against it, which scatters far less: at 99 a scene of which every tile had been darkened passed for usual"""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Vectors by their mean and spread, and the distances of vectors that had no part in these."""

    mean: Floats
    """(T,)"""
    whiten: Floats
    """(T, T): brings the vectors to a spread of 1 in every direction"""
    held: Floats
    """(n,) distances of held-out vectors, ascending"""
    count: int
    """vectors that mean and spread are of"""

    @classmethod
    def fit(cls, vectors: Floats, held_out: Floats) -> Self:
        """The cloud of some vectors.

        Args:
            vectors: (N, T), two or more
            held_out: (n, T) others of the same kind, at least one
        """
        mean, spread = vectors.mean(axis=0), vectors.std(axis=0)
        spread = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, 1.0)
        values, axes = np.linalg.eigh(shrunk((vectors - mean) / spread))
        whiten = (axes / np.sqrt(values)).T / spread
        bare = cls(mean, whiten, np.empty(0), len(vectors))
        return cls(mean, whiten, np.sort(bare.distances(held_out)), len(vectors))

    def distances(self, vectors: Floats) -> Floats:
        """(N, T) -> (N,): Mahalanobis distance over the square root of T, about 1 for the vectors themselves."""
        found: Floats = np.sqrt((((vectors - self.mean) @ self.whiten.T) ** 2).mean(axis=1))
        return found

    @property
    def limit(self) -> float:
        """Distance within which `INSIDE` per cent of the held-out vectors lie."""
        return float(np.percentile(self.held, INSIDE, method="inverted_cdf"))

    def percentile(self, distance: float) -> float:
        """Per cent of the held-out vectors that lie nearer."""
        return 100.0 * float(np.searchsorted(self.held, distance, side="left")) / len(self.held)


def shrunk(vectors: Floats) -> Floats:
    """Covariance (T, T) of centred vectors (N, T), drawn towards a multiple of the identity where N is small.

    Source: Chen, Wiesel, Eldar and Hero 2010, Shrinkage algorithms for MMSE covariance estimation, eq. 23 (OAS), as
    scikit-learn's `oas` has it.
    """
    count, size = vectors.shape
    plain = vectors.T @ vectors / count
    mean_square, level = float((plain**2).mean()), float(np.trace(plain)) / size
    above = mean_square + level**2
    below = (count + 1) * (mean_square - level**2 / size)
    share = 1.0 if below <= 0 else min(above / below, 1.0)
    found: Floats = (1 - share) * plain + (share * level + 1e-9) * np.eye(size)
    return found
