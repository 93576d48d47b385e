"""Shows how far a long work is: a bar on a terminal, a few lines in a log."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Protocol

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
def shown_stage(what: str) -> Iterator[None]:
    """Says what is done, and how long it took: for work that cannot tell how far it is.

    On a terminal the seconds run while it lasts; a log has a line as it begins, and one with the time from a second on.
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
        log.info("%s", what)
        yield
    if bar or time.monotonic() - began >= 1:
        log.info("%s: %s", what, span(time.monotonic() - began))


@contextmanager
def shown_steps(total: int, unit: str, progress: bool, what: str = "tiles", *, late: bool = False) -> Iterator[Step]:
    """Gives a function to call after each step: a bar with ETA on a terminal, ten lines at most in a log.

    Args:
        total: steps
        unit: of a step, plural
        progress: False shows nothing
        what: is done
        late: in a log only what `Pace` lets through, so that short work says nothing
    """
    done: int | Fraction = 0
    if progress and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        # rich knows no speed where a step takes longer than this, so that there would be no ETA
        with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=MOST_S) as bar:
            said = "tiles from {}" if what == "tiles" else f"{what} of {{}}"
            task = bar.add_task(said.format(unit), total=total)

            def drawn(name: str, count: int | Fraction = 1, *, before: bool = False) -> None:
                nonlocal done
                done += count
                if before:
                    bar.reset(task)  # speed counts from here
                bar.update(task, completed=float(done), description=said.format(name) if name else what)

            yield drawn
        return
    pace, found = Pace(), Fraction(0)

    def step(name: str, count: int | Fraction = 1, *, before: bool = False) -> None:
        nonlocal done, found
        done += count
        found += count * before
        due = pace.due() if late else done * LINES // total > (done - count) * LINES // total
        if progress and due and done > found:
            left = (time.monotonic() - pace.began) / float(done - found) * float(total - done)
            named = f" ({name})" if name else ""
            about = f", about {span(left)} left" * (left >= 1)
            log.info("%s: %d of %d %s done%s%s", what, int(done), total, unit, named, about)

    yield step
