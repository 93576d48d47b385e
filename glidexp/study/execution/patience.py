"""What a sweep does while the tracking store, or a scheduler, does not answer: runs go on, and it is asked again."""

import logging
import time

from glidexp.errors import RunFailed
from glidexp.tracking.writer import PAUSE_S

log = logging.getLogger("glidexp")

AWAY_S = 1800.0
"""seconds after which a sweep ends of which nothing is at work"""


class Patience:
    """How long somebody has not answered. Without a failure for three pauses he is back."""

    def __init__(self) -> None:
        self._first = self._last = float("-inf")

    @property
    def pausing(self) -> bool:
        """Whether it is too early to ask again."""
        return time.monotonic() - self._last < PAUSE_S

    def failed(self, what: str, reason: str, *, idle: bool) -> None:
        """Takes note of a failure; the first one is told.

        Args:
            what: does not answer, in words
            reason: of it
            idle: whether no run is at work

        Raises:
            RunFailed: it is so for long, and nothing is at work
        """
        now = time.monotonic()
        if now - self._last > 3 * PAUSE_S:
            self._first = now
            log.warning("%s (%s): runs go on, and it is asked again every %g s", what, reason, PAUSE_S)
        self._last = now
        if idle and now - self._first > AWAY_S:
            raise RunFailed(f"{what}, for {AWAY_S / 60:g} minutes now ({reason}): the same command goes on later.")
