"""How long runs take that share places: the next one begins wherever a place is free first."""

import heapq
from collections.abc import Sequence


def seconds_to_go(running: Sequence[float], waiting: Sequence[float], places: int) -> float:
    """Seconds until the last of some runs has ended.

    Args:
        running: seconds that those at work still take
        waiting: seconds that each of the others takes, in the order in which they begin
        places: runs at once, 1 or more; as many as are at work, where those are more
    """
    ends = [*running, *[0.0] * (places - len(running))]
    heapq.heapify(ends)
    for one in waiting:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)
