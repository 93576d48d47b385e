"""The order in which an epoch gives its tiles: a function of (seed, epoch) alone."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def order(n: int, *, seed: int, epoch: int, weights: npt.NDArray[np.float64] | None) -> Rows:
    """Positions 0..n-1 in the order of one epoch, n of them, a function of the arguments alone.

    Without weights: a permutation. With weights: position i comes floor or ceil of n * w_i / sum(w) times (systematic
    sampling), the leftover fractions fall to other rows in every epoch, and all rows of equal weight together get their
    share to within one draw. So a heavier row repeats only when its share asks for it, and a weight of 0 never comes.

    Philox keyed by (seed, epoch) and a stable sort of its raw words: raw words do not change with NumPy's version.
    """
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64))
    shuffled = np.argsort(words.random_raw(n), kind="stable").astype(np.int64)
    if weights is None:
        return shuffled
    by_weight = shuffled[np.argsort(weights[shuffled], kind="stable")]
    share = weights[by_weight] / weights.sum() * n
    offset = float(words.random_raw()) / 2.0**64
    # rounding may leave the last sum a hair beside n
    upto = np.minimum(np.floor(np.cumsum(share) + offset), n)
    upto[-1] = n
    counts = np.diff(np.concatenate([[0.0], upto])).astype(np.int64)
    drawn = np.repeat(by_weight, counts)
    return drawn[np.argsort(words.random_raw(n), kind="stable")]


def times_before(drawn: Rows) -> Rows:
    """How often each of these was there before, in the order in which they come: (n,) from 0."""
    sorted_ = np.argsort(drawn, kind="stable")
    ordered, place = drawn[sorted_], np.arange(len(drawn))
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(drawn)]
    found = np.empty_like(place)
    found[sorted_] = place - np.maximum.accumulate(np.where(first, place, 0))
    return found
