"""Shows how far a long work is: a bar on a terminal, a few lines in a log."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Protocol

from glidexp.wording import legible

log = logging.getLogger("glidexp")
FIRST_S, MOST_S = 30.0, 600.0
"""seconds until a `Pace` is due for the first time, and at most between two times"""
LINES = 10
"""in a log, of a work that says how far it is from the start"""


class Step(Protocol):
    """Told of steps that were done: the name of the last, "" for none, how many or what part of one, and whether an
    earlier process did them, so that they took no time here."""

    def __call__(self, name: str, count: int | Fraction = 1, /, *, before: bool = False) -> None: ...


def untold(name: str, count: int | Fraction = 1, /, *, before: bool = False) -> None:
    """A step that nobody is told of."""


class Pace:
    """When a log is due for a line: after half a minute, each time after twice as long, at least every ten minutes."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._next = FIRST_S

    def due(self) -> bool:
        """Whether it is time; if so, the next time is later."""
        taken = time.monotonic() - self.began
        if taken < self._next:
            return False
        self._next = min(2 * taken, taken + MOST_S)
        return True


class _Left:
    """How long a work still takes, by what this process did of it. Known from its first step on."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done: int | Fraction = 0
        self.found: int | Fraction = 0
        self._began = self._last = time.monotonic()

    def add(self, count: int | Fraction, before: bool) -> None:
        """Takes a step; those that an earlier process did take no time, nor does what came before the first other."""
        self._last = time.monotonic()
        if before and self.done == self.found:
            self._began = self._last
        self.done += count
        self.found += count * before

    def seconds(self) -> float | None:
        """About how many; None where nothing tells."""
        own = self.done - self.found
        if own <= 0:
            return None
        whole = (self._last - self._began) / float(own) * float(self.total - self.done)
        return max(whole - (time.monotonic() - self._last), 0.0)


def span(seconds: float) -> str:
    """About how long: 45 s, 12 min, 3 h 20 min, 5 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@contextmanager
def shown_stage(what: str, *, late: bool = False) -> Iterator[None]:
    """Says what is done, and how long it took: for work that cannot tell how far it is.

    On a terminal the seconds run while it lasts; a log has a line as it begins, and one with the time from a second on.

    Args:
        what: is done
        late: only the line with the time, so that short work says nothing
    """
    began = time.monotonic()
    if bar := sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            shown.add_task(what, total=None)
            yield
    else:
        if not late:
            log.info("%s", what)
        yield
    if (bar and not late) or time.monotonic() - began >= 1:
        log.info("%s: %s", what, span(time.monotonic() - began))


@contextmanager
def shown_steps(total: int, unit: str, progress: bool, what: str = "tiles", *, late: bool = False) -> Iterator[Step]:
    """Gives a function to call after each step: a bar on a terminal, ten lines at most in a log; with the time left.

    Args:
        total: steps
        unit: of a step, plural
        progress: False shows nothing
        what: is done
        late: in a log only what `Pace` lets through, so that short work says nothing
    """
    left = _Left(total)
    if progress and sys.stderr.isatty():
        with _bar(left) as bar:
            said = "tiles from {}" if what == "tiles" else f"{what} of {{}}"
            task = bar.add_task(said.format(unit), total=total)

            def drawn(name: str, count: int | Fraction = 1, *, before: bool = False) -> None:
                left.add(count, before)
                bar.update(task, completed=float(left.done), description=said.format(legible(name)) if name else what)

            yield drawn
        return
    pace = Pace()

    def step(name: str, count: int | Fraction = 1, *, before: bool = False) -> None:
        left.add(count, before)
        due = pace.due() if late else left.done * LINES // total > (left.done - count) * LINES // total
        if progress and due and (seconds := left.seconds()) is not None:
            named = f" ({legible(name)})" if name else ""
            about = f", about {span(seconds)} left" * (seconds >= 1)
            log.info("%s: %d of %d %s done%s%s", what, int(left.done), total, unit, named, about)

    yield step


def _bar(left: _Left) -> Any:
    """A bar of rich's, with what is done, the time since it began and the time left.

    The last is not rich's own, which needs two steps, takes what several processes finish at once for one speed, and
    forgets it where steps of an earlier process come in between.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Any) -> Text:
            seconds = left.seconds()
            known = seconds is not None and seconds >= 1
            return Text(f"about {span(seconds or 0)} left" if known else "", style="progress.remaining")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeft())
    return Progress(*columns, console=Console(stderr=True), transient=True)
