"""SIGTERM and Ctrl-C: at once where nothing is lost, at the end of the step where something would be."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """A signal asked the run to end. Not an Exception, so that nothing swallows it on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name


class Signals:
    """Turns SIGTERM and SIGINT into `Interrupted`; inside `deferred()` they only set `pending`."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._deferred and self.pending is None:
            self.pending = number
            return
        raise Interrupted(number)

    @contextmanager
    def installed(self) -> Iterator["Signals"]:
        """Handles the signals inside the block; not outside the main thread, where Python allows no handlers."""
        try:
            before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block the first signal waits in `pending` for somebody to ask."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
            if self.pending is not None:
                raise Interrupted(self.pending)
