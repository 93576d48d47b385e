"""SIGTERM, Ctrl-C and SIGUSR1 (a scheduler's notice): at once where nothing is lost, else at the end of the step; and
whether output is still read."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside the block SIGTERM raises KeyboardInterrupt, with its number, in the main thread: others may have no
    handlers."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interrupted(BaseException):
    """A signal asked the run to end. Not an Exception, so that nothing swallows it on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name


class Signals:
    """Turns signals into `Interrupted`. Inside `deferred()` the first only sets `pending`, a second ends at once."""

    def __init__(self) -> None:
        self.pending: int | None = None
        self.patient = False
        """whether further signals wait as the first does: a launcher and a scheduler may send the same one"""
        self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.pending = self.pending is None, number
        if not (self._deferred and (first or self.patient)):
            raise Interrupted(number)

    def asked(self, step: int = 0) -> bool:
        """Whether a signal waits; processes that train together look at each other's too, after some of the steps."""
        return self.pending is not None

    @contextmanager
    def installed(self) -> Iterator["Signals"]:
        """Handles the signals inside the block; not outside the main thread, where Python allows no handlers."""
        try:
            before = {number: signal.signal(number, self._handle) for number in HANDLED}
        except ValueError:
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block the first signal waits in `pending` for somebody to ask. Its errors go first."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.pending is not None:
            raise Interrupted(self.pending)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A stretch of `deferred()` in which nothing changes that would have to be saved: a signal ends it at once."""
        deferred, self._deferred = self._deferred, False
        try:
            if self.pending is not None:
                raise Interrupted(self.pending)
            yield
        finally:
            self._deferred = deferred


def unread() -> bool:
    """Whether nobody reads any more what is printed, as behind `| head`."""
    looked = select.poll()
    looked.register(sys.stdout.fileno(), select.POLLOUT)
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in looked.poll(0))


def silent() -> None:
    """Lets go what is printed from now on, and what waits to be: Python would try again, and complain, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def signal_name(code: int) -> str:
    """Of the signal that an exit code stands for."""
    number = -code if code < 0 else code - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {code}"
