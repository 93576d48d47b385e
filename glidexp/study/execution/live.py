"""What a person sees of a study at work: a table on a terminal, a line for each end elsewhere."""

import logging
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live as RichLive
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from glidexp.study.execution.cells import Cell
from glidexp.study.execution.ledger import DONE, Entry, Ledger, Status
from glidexp.study.execution.pace import seconds_to_go
from glidexp.study.names import short_names
from glidexp.wording import many

log = logging.getLogger("glidexp")

REFRESH_S = 1.0
PROGRESS_S = 10.0
"""seconds between looks into the store at how far a run is"""


class Live:
    """The table of a sweep.

    Args:
        ledger: of the study
        console: where it is shown; stderr by default
        most: runs that a search comes to, where the plan does not hold them yet; may be set anew
    """

    def __init__(self, ledger: Ledger, console: Console | None = None, *, most: int = 0) -> None:
        self.ledger, self.most = ledger, most
        self.console = console or Console(stderr=True)
        self._live: RichLive | None = None
        self._began: dict[str, float] = {}
        self._took: list[float] = []
        self._done: set[str] = set()
        self._share: dict[str, tuple[float, float | None]] = {}
        self._shown = 0.0

    def begin(self, waiting: Sequence[Cell], elsewhere: Sequence[Cell]) -> None:
        """Says what there is to do, before it is begun.

        Args:
            waiting: cells to run
            elsewhere: cells at work in other processes
        """
        entries = self.ledger.entries()
        to_come = {cell.name for cell in (*waiting, *elsewhere)}
        self._done = {name for name, entry in entries.items() if entry.status in DONE and name not in to_come}
        count = Counter(entry.status for entry in entries.values())
        parts = [f"{count[status]} {status}" for status in Status if count[status] and status is not Status.planned]
        plan = self.ledger.plan
        size = f"{plan.size}, {many(len(plan.cells), 'run')}; {len(waiting)} to run"
        log.info(
            "study %s (%s): %s%s%s",
            plan.title,
            self.ledger.study_id,
            size if plan.cells else "a search, whose trials are proposed one after the other",
            f", {len(elsewhere)} at work in other processes" * bool(elsewhere),
            f"; {', '.join(parts)}" * bool(parts),
        )

    def __enter__(self) -> "Live":
        if self.console.is_terminal:
            self._live = RichLive(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self.console.print(table(self.ledger))

    def show(self, running: list[Cell], waiting: int, slots: int) -> None:
        """Draws anew where it is due."""
        now = time.monotonic()
        for cell in running:
            self._began.setdefault(cell.name, now)
        if self._live is None or now - self._shown < REFRESH_S:
            return
        self._shown = now
        lines = {cell.name: self._running(cell, now) for cell in running}
        told = []
        if self.most:
            told.append(f"{len(self._done)} of {many(self.most, 'trial')} ended")
        if self._took:
            mean = statistics.mean(self._took)
            at_work = [max(mean - now + self._began[cell.name], 0) for cell in running]
            proposed = len(self._done) + len(running) + waiting
            to_come = waiting + max(self.most - proposed, 0)  # of a search the trials that nobody has asked for yet
            told.append(f"about {clock(seconds_to_go(at_work, [mean] * to_come, slots))} to go")
        title = f"study {self.ledger.plan.title}" + f": {', '.join(told)}" * bool(told)
        self._live.update(table(self.ledger, lines, title), refresh=True)

    def ended(self, cell: Cell, entry: Entry) -> None:
        """One cell came to an end; a line tells it."""
        began = self._began.pop(cell.name, None)
        if began is not None and entry.status in (Status.finished, Status.stopped):
            self._took.append(time.monotonic() - began)
        number = ""
        if entry.status in DONE:  # counted here: `cells.json` may know of the end of the next ones already
            self._done.add(cell.name)
            number = f"[{len(self._done)}/{max(self.most, len(self.ledger.plan.cells))}] "
        what = f", {self.ledger.plan.primary} {entry.score:.4f}" if entry.score is not None else ""
        if entry.status is Status.stopped:
            what = f": {entry.error}"
        if entry.status is Status.failed:
            what = f": {entry.error} (log: {self.ledger.log_path(cell)})"
        took = f" {'in' if entry.status is Status.finished else 'after'} {clock(entry.seconds)}" * bool(entry.seconds)
        line = f"{number}{cell.name} {entry.status}{took}{what}"
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            log.info("%s", line)

    def _running(self, cell: Cell, now: float) -> str:
        """`seed 1 40 %, 2:10 to go`, from the epochs that the store has of it."""
        asked, share = self._share.get(cell.name, (-PROGRESS_S, None))
        if now - asked > PROGRESS_S:
            share = self.ledger.progress(cell)
            self._share[cell.name] = (now, share)
        spent = now - self._began[cell.name]
        if not share:
            mean = statistics.mean(self._took) if self._took else None
            return f"{cell.training} " + (f"{clock(max(mean - spent, 0))} to go" if mean else f"since {clock(spent)}")
        if share >= 1:
            return f"{cell.training} is scored"
        return f"{cell.training} {share:.0%}, {clock(spent / share * (1 - share))} to go"


def table(ledger: Ledger, running: dict[str, str] | None = None, title: str = "") -> Table:
    """Arms with seeds done, what runs, score so far and failures.

    Args:
        ledger: of the study
        running: text by cell name; those of other processes are named by their seed
        title: above the table
    """
    entries, plan = ledger.entries(), ledger.plan
    score = plan.primary.removeprefix("test/")
    found = Table(title=escape(title or f"study {plan.title}"), title_justify="left")
    heading, short = short_names(plan.arms)
    found.add_column(heading, overflow="fold")
    for name in ("done", "failed"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column(f"{score}\n{'mean of runs' if plan.folds else 'mean (SD)'}", justify="right")
    found.add_column("running")
    for arm in plan.arms:
        cells = [cell for cell in plan.cells if cell.arm == arm]
        own = [entries[cell.name] for cell in cells]
        scores = [entry.score for entry in own if entry.status is Status.finished and entry.score is not None]
        text = f"{statistics.mean(scores):.4f}" if scores else ""
        if len(scores) > 1 and not plan.folds:  # of which the folds differ more than the seeds
            text += f" ({statistics.stdev(scores):.4f})"
        at_work = [
            (running or {}).get(cell.name, f"{cell.training} {'at work' if running is None else 'elsewhere'}")
            for cell in cells
            if cell.name in (running or {}) or entries[cell.name].status is Status.running
        ]
        count = Counter(entry.status for entry in own)
        at_work += ["stopped early"] * bool(count[Status.stopped])
        failed = f"{count[Status.failed]}" if count[Status.failed] else ""
        found.add_row(
            Text(short[arm]), f"{count[Status.finished]}/{len(cells)}", failed, text, Text("; ".join(at_work))
        )
    return found


def clock(seconds: float) -> str:
    """`2:05` for minutes and seconds, `3:02:05` with hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
