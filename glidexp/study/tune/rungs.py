"""Which trials are ended early: successive halving without waiting for others.

Source: Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA), in the form that stops runs in
place of pausing and promoting them.
"""

from collections.abc import Sequence


def rungs_of(first: int, factor: int, epochs: int) -> list[int]:
    """Epochs after which a trial is held against the others: the last one, when it ends anyway, is none of them."""
    if factor < 2:
        return []
    found = []
    while first < epochs:
        found.append(first)
        first *= factor
    return found


def goes_on(value: float, others: Sequence[float], factor: int) -> bool:
    """Whether a trial that has just reached a rung is among the best 1/factor there.

    Args:
        value: of the trial, more is better
        others: of all that reached the rung before, ended since or not
        factor: one in so many goes on; of fewer than that the best
    """
    if value != value:
        return False
    best = max((len(others) + 1) // factor, 1)
    return sum(other >= value for other in others) < best
