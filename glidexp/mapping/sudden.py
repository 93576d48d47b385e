"""Lakes that lost half or more of their area between two dates, as one that has burst does.

A date on which a lake was overlooked looks the same, so it counts how many dates on either side say so.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SHARE = 0.5
"""of the area"""
HELD = 2
"""dates on either side from which a loss is listed"""


@dataclass(frozen=True, slots=True)
class Loss:
    """The clearest sudden loss of a lake."""

    date: int
    """the last with the larger area; the next of those that say how large the lake is has the smaller"""
    km2: float
    held: int
    """dates in a row that are above the middle of both areas before, or below it after, whichever are fewer"""


def sudden_loss(area: Floats, bound: Floats) -> Loss | None:
    """The loss that the most dates hold to, of these the largest; None where there is none.

    Args:
        area: (n,) km2, of the dates that say how large the lake is, in their order; 0 where it is not there
        bound: (n,) km2, by how much each may be off. A loss is more than both together, root of the sum of squares
    """
    found = []
    for k in range(len(area) - 1):
        loss = float(area[k] - area[k + 1])
        if loss >= SHARE * area[k] and loss > np.hypot(bound[k], bound[k + 1]):
            middle = (area[k] + area[k + 1]) / 2
            held = min(_run(area[: k + 1][::-1] > middle), _run(area[k + 1 :] < middle))
            found.append(Loss(k, loss, held))
    return max(found, key=lambda one: (one.held, one.km2), default=None)


def _run(holds: npt.NDArray[np.bool_]) -> int:
    """How many hold before the first that does not."""
    return len(holds) if holds.all() else int(holds.argmin())
