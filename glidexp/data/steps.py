"""Shows how far a long work is: a bar on a terminal, a few lines in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("glidexp")
Step = Callable[[str], None]


@contextmanager
def shown_steps(total: int, unit: str, progress: bool, what: str = "tiles") -> Iterator[Step]:
    """Gives a function to call after each step: a bar with ETA on a terminal, ten lines at most in a log."""
    if progress and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn(what + " of {task.fields[name]}" if what != "tiles" else "tiles from {task.fields[name]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=total, name=unit)
            yield lambda name: bar.update(task, advance=1, name=name)
        return
    done, began = 0, time.monotonic()

    def step(name: str) -> None:
        nonlocal done
        done += 1
        if progress and done * 10 // total > (done - 1) * 10 // total:
            left = (time.monotonic() - began) / done * (total - done)
            eta = f", about {left:.0f} s left" if left >= 1 else ""
            log.info("%s: %d of %d %s done (%s)%s", what, done, total, unit, name, eta)

    yield step
