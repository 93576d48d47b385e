"""One sweep at work on a study: takes cells, has them begun, and knows what their ends mean."""

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from glidexp.config.launcher import LauncherConfig
from glidexp.signals import Signals, signal_name
from glidexp.study.execution.cells import Cell, take_ready
from glidexp.study.execution.feed import Feed
from glidexp.study.execution.launchers.choice import Job, Launcher, NotTaken, build_launcher
from glidexp.study.execution.ledger import CANCEL, DONE, Entry, Ledger, Status
from glidexp.study.execution.live import Live
from glidexp.study.execution.parent import keep_alive
from glidexp.study.execution.patience import Patience
from glidexp.study.execution.work import AWAY, BUSY, Order, environment, given_up
from glidexp.tracking.database import first_line
from glidexp.tracking.spool import waiting_in
from glidexp.tracking.writer import is_away
from glidexp.wording import does, many

log = logging.getLogger("glidexp")

LOOK_S = 0.1
"""seconds between looks at the processes"""
ELSEWHERE_S = 2.0
"""seconds between looks at cells that other processes have"""
BEAT_S = 60.0
NO_SIGN = (
    "%s was ended by %s, or its node is gone: it goes on when it has saved, or gave no sign of life for three minutes"
)


@dataclass(slots=True)
class _Running:
    cell: Cell
    job: Job
    began: float = field(default_factory=time.monotonic)
    early: str = ""  # why it was asked to end


class Sweep:
    """Carries out cells of a study until none is left, or somebody asks for the end.

    Args:
        ledger: of the study, begun, with its parent run
        settings: of the launcher
        signals: that ask for the end
        order: may change what a process is told to do
        feed: finds further cells, and says which to end early
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: LauncherConfig,
        signals: Signals,
        order: Callable[[Order], Order],
        feed: Feed | None = None,
    ) -> None:
        self.ledger, self.settings, self.signals, self.order, self.feed = ledger, settings, signals, order, feed
        self.waiting: list[Cell] = []
        self.running: list[_Running] = []
        self.elsewhere: list[Cell] = []
        self.attempts: dict[str, int] = {}
        self.cancelled = self._stopping = False
        self._looked = self._beaten = time.monotonic()
        self.patience = Patience()
        self._before = self._cancel_text()
        self.live = Live(ledger, most=feed.most if feed is not None else 0)

    def sort(self, cells: list[Cell], *, retry_failed: bool) -> None:
        """Finds out what is to be done."""
        for cell in cells:
            entry = self.ledger.look(cell)
            if entry.status is Status.failed and retry_failed:
                entry = self.ledger.update(cell, status=Status.killed, error="")
            if entry.status is Status.running:
                self.elsewhere.append(cell)
            elif entry.status not in DONE:
                self.waiting.append(cell)
            elif self.feed is not None:
                self.feed.ended(cell, entry)
        self.live.begin(self.waiting, self.elsewhere)

    def run(self) -> None:
        """Until every cell is finished or failed, or somebody asks for the end."""
        if not self._left():
            return
        words = (self.waiting or self.elsewhere)[0].words
        device = next((word.split("=", 1)[1] for word in words if word.startswith("train.device=")), "auto")
        cells = self.feed.most if self.feed is not None else len(self.waiting) + len(self.elsewhere)
        launcher = build_launcher(self.settings, self.ledger.folder, cells=cells, device=device)
        try:
            self._adopt(launcher)
            with self.live:
                while self._left():
                    if self._stop_asked() and not self.running:
                        break
                    if not self._patient_step(launcher):
                        time.sleep(LOOK_S)
        finally:
            for one in self.running:  # after an error, or a second signal
                if not one.job.lasts:
                    one.job.stop(signal.SIGTERM)
            launcher.close()

    def _adopt(self, launcher: Launcher) -> None:
        """Takes over what an earlier sweep left with a scheduler and is at work: it fills places, and may end early."""
        entries = self.ledger.entries()
        for cell in list(self.elsewhere):
            entry = entries[cell.name]
            if entry.job and (job := launcher.adopt(entry)) is not None:
                self.elsewhere.remove(cell)
                self.running.append(_Running(cell, job))

    def _left(self) -> bool:
        """Whether there is anything to do or to wait for."""
        if not (self.waiting or self.running or self.elsewhere or self._stopping):
            self._feed(1)
        return bool(self.waiting or self.running or self.elsewhere)

    def _patient_step(self, launcher: Launcher) -> bool:
        """As `_step`. While the tracking store is away runs go on, and it is asked again after a pause.

        Raises:
            RunFailed: it is away for long, and no run is at work
        """
        if self.patience.pausing and not self._stopping:
            return False
        what = "the tracking store does not answer"
        try:
            return self._step(launcher)
        except NotTaken as error:
            if not self.attempts and not self.running:  # it is what was asked for, not the hour
                raise
            what, reason = "the scheduler takes no jobs", str(error)
        except Exception as error:
            if not is_away(error):
                raise
            reason = first_line(error)
        self.patience.failed(what, reason, idle=all(one.job.poll() is not None for one in self.running))
        return False

    def _step(self, launcher: Launcher) -> bool:
        """One look at everything; tells whether something ended or began."""
        launcher.look()
        ended = [(one, code) for one in self.running if (code := one.job.poll()) is not None]
        for one, code in ended:
            self._end(one, code)
            self.running.remove(one)  # not before the store was asked, which may be away
        begun = 0 if self._stopping else self._fill(launcher)
        now = time.monotonic()
        if now - self._looked > ELSEWHERE_S:
            self._looked = now
            self._look_elsewhere()
            self._end_early()
        if now - self._beaten > BEAT_S:
            self._beaten = now
            keep_alive(self.ledger)
        self.live.show([one.cell for one in self.running], len(self.waiting), launcher.slots)
        return bool(ended or begun)

    def _fill(self, launcher: Launcher) -> int:
        self._feed(launcher.slots - len(self.running) - len(self.waiting))
        orders = list[tuple[Cell, Order]]()
        try:
            begun = self._taken(launcher, orders)
            jobs = launcher.start([order for _, order in orders]) if orders else []
        except BaseException:
            self.waiting[:0] = [cell for cell, _ in orders]  # none was begun: another try, or the same command, does
            raise
        for (cell, _), job in zip(orders, jobs, strict=True):
            self.attempts[cell.name] = self.attempts.get(cell.name, 0) + 1
            self.running.append(_Running(cell, job))
            if job.name:
                self.ledger.update(cell, job=job.name)
        return begun + len(jobs)

    def _taken(self, launcher: Launcher, orders: list[tuple[Cell, Order]]) -> int:
        """Orders for the free places, as far as there are cells; gives how many are with the scheduler already."""
        begun = 0
        while len(self.running) + len(orders) < launcher.slots:
            at_work = [*(one.cell for one in self.running), *(cell for cell, _ in orders), *self.elsewhere]
            if (cell := take_ready(self.waiting, at_work)) is None:
                break
            try:
                entry = self.ledger.look(cell)  # another sweep may have been faster
            except BaseException:
                self.waiting.insert(0, cell)
                raise
            if entry.status in DONE:
                self._ended(cell, entry)
            elif entry.status is Status.running:
                self.elsewhere.append(cell)
            elif entry.job and (job := launcher.adopt(entry)) is not None:
                self.running.append(_Running(cell, job))
                begun += 1
            else:
                if entry.job:  # which the scheduler has no more
                    self.ledger.update(cell, job="")
                orders.append((cell, self._order(cell, launcher.threads)))
        return begun

    def _order(self, cell: Cell, threads: int | None) -> Order:
        ledger = self.ledger
        assert ledger.parent_run_id is not None
        return self.order(
            Order(
                name=cell.name,
                words=cell.words,
                key=cell.key,
                scored_on=cell.scored_on,
                cells=str(ledger.path.absolute()),
                log=str(ledger.log_path(cell).absolute()),
                mlruns=str(ledger.store.mlruns),
                primary=ledger.plan.primary,
                environment=environment(ledger.parent_run_id, ledger.plan.title, cell.arm, threads),
            )
        )

    def _feed(self, free: int) -> None:
        """Takes cells that are found only now, as many as there is room for."""
        if self.feed is None or free < 1:
            return
        cells = self.feed.more(free)
        self.live.most = self.feed.most
        if cells:
            self.ledger.grow(cells, again=[cell for cell in cells if self.feed.again(cell)])
            self.waiting += cells

    def _end_early(self) -> None:
        """Asks runs to save and end that are not worth their time."""
        for one in self.running if self.feed is not None and not self._stopping else ():
            assert self.feed is not None
            if not one.early and (why := self.feed.early(one.cell)):
                one.early = why
                one.job.stop(signal.SIGTERM)

    def _ended(self, cell: Cell, entry: Entry) -> None:
        if self.feed is not None:
            self.feed.ended(cell, entry)
        self.live.ended(cell, entry)

    def _end(self, one: _Running, code: int) -> None:
        cell = one.cell
        try:
            entry = self.ledger.look(cell)
        except Exception as error:
            if self._stopping and is_away(error):
                return  # the same command asks the store
            raise
        unsent = code == 0 and not one.job.why and self._unsent(entry)
        if one.job.name:
            entry = self.ledger.update(cell, job="")
        if entry.status is Status.finished or (entry.status is Status.failed and not one.job.why):
            self._ended(cell, entry)
        elif one.early and code not in (0, 1, 2, BUSY):
            self._ended(cell, self.ledger.update(cell, status=Status.stopped, error=one.early))
        elif code == BUSY or entry.status is Status.running:
            if code != BUSY and not self._stopping:
                log.info(NO_SIGN, cell.name, signal_name(code))
            self.elsewhere.append(cell)
        # what fails says so itself; a process that a signal meets as it begins ends by 1, too
        elif one.job.why or (code in (0, 1, 2) and not unsent and not self._stop_asked()):
            reason = one.job.why or f"ended with exit code {code} and no finished run: see {self.ledger.log_path(cell)}"
            self._ended(cell, self.ledger.update(cell, status=Status.failed, error=reason))
        elif self._stop_asked():
            self.live.ended(cell, self.ledger.update(cell, status=Status.killed))
        elif self.attempts.get(cell.name, 0) >= self.settings.attempts:
            reason = given_up(self.attempts[cell.name], code, entry.error)
            self._ended(cell, self.ledger.update(cell, status=Status.failed, error=reason))
        else:
            told = "ended while the tracking store was away: what waits of it is sent" if unsent else ""
            if code == AWAY:
                told = f"goes on when the tracking store answers ({entry.error})"
            log.info("%s %s", cell.name, told or f"was killed by {signal_name(code)} and goes on")
            self.ledger.update(cell, status=Status.killed)
            self.waiting.insert(0, cell)

    def _unsent(self, entry: Entry) -> bool:
        """Whether a run, or its evaluation, left something in its spool: the same command sends it, and is done."""
        folder = self.ledger.store.spool_folder
        return any(run_id and waiting_in(folder(run_id)) for run_id in (entry.train, entry.scored))

    def _look_elsewhere(self) -> None:
        for cell in list(self.elsewhere):
            entry = self.ledger.look(cell)
            if entry.status is Status.running:
                continue
            self.elsewhere.remove(cell)
            if entry.status in DONE:
                self._ended(cell, entry)
            else:
                self.waiting.insert(0, cell)

    def _stop_asked(self) -> bool:
        """Whether the sweep is to end; the first time, its runs are told to save and end."""
        if self._stopping:
            return True
        number = self.signals.pending
        if number is None and not self._cancel_asked():
            return False
        self.cancelled = number is None
        self._stopping = True
        self.waiting.clear()
        self.elsewhere.clear()
        log.info("%s: the runs save and end", signal.Signals(number).name if number else "cancelled")
        if (staying := sum(one.job.lasts for one in self.running)) and not self.cancelled:
            log.info("%s %s with the scheduler; cancel=true ends them", many(staying, "job"), does(staying, "stay"))
        for one in list(self.running):
            if one.job.lasts and not self.cancelled:
                self.running.remove(one)  # the same command finds it again
            else:
                one.job.stop(number or signal.SIGTERM)
        return True

    def _cancel_asked(self) -> bool:
        return self._cancel_text() != self._before

    def _cancel_text(self) -> str:
        """What the last one wrote who asked for the end. A time, but clocks differ between machines, and are set."""
        try:
            return (self.ledger.folder / CANCEL).read_text(encoding="utf-8")
        except OSError:
            return ""
