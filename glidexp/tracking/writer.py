"""A thread that writes to the tracking store, so that training never waits for it.

Every entry is in the spool on disk before `put` returns, and leaves it when the store has it. Where the store does not
answer entries wait and are tried again; training goes on, and what waits at the end stays in the spool. An entry that
the store refuses for what it says is dropped with a warning, since it would be refused again.
"""

import errno
import logging
import math
import threading
import time
import urllib.error
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glidexp.errors import TrackingError
from glidexp.tracking.database import first_line
from glidexp.tracking.spool import LASTING, Entry, Spool
from glidexp.wording import does, many

log = logging.getLogger("glidexp.tracking")

PAUSE_S = 20.0
"""seconds between two tries at a store that does not answer"""
BEAT_S = 60.0
"""seconds between two signs of life"""
FLUSH_S = 5.0
"""seconds of entries that a power cut may take"""
LAST_TRIES = 2
"""failures in a row at which `close` gives up"""
PATIENCE_S = 120.0
"""seconds that `close` waits without one entry leaving, e.g. for a large model"""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""what a disk says that cannot take more"""
SERVER_ERROR = 500
"""HTTP status from which on it is no fault of what was asked"""
REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"})
"""MLflow error codes that a second try does not mend. Missing rights are mended by other credentials"""


class Writer:
    """Queue and thread around one function that writes an entry.

    Args:
        write: called with one entry at a time, in the thread; raises when it did not work
        spool: holds what an earlier process left, which goes out first; closed by the thread as it ends
        beat: called about once a minute, in the thread, to show that the run is at work
        pause_s: seconds between two tries at a store that does not answer
    """

    def __init__(
        self,
        write: Callable[[Entry], None],
        spool: Spool,
        *,
        beat: Callable[[], None] | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._write = write
        self._spool = spool
        self._beat = beat
        self._pause_s = pause_s
        self._waiting: deque[Entry] = deque(spool.waiting)
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = False
        self._over = False
        self._failures = 0
        self._unreached = 0
        self._dropped = 0
        self.marked = False
        """whether the run stands as FAILED in the store till what waits is sent, known after `close`"""
        self._next_beat = time.monotonic() + BEAT_S
        self._next_flush = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="glidexp-tracking", daemon=True)
        self._thread.start()

    @property
    def refused(self) -> int:
        """Entries that a finished run cannot do without and that are lost: the store, or the disk, refused them."""
        return self._spool.refused + self._dropped

    def put(self, kind: str, **values: Any) -> None:
        """Adds an entry: to the disk, then to the queue. Does not wait for the store."""
        with self._changed:
            if self._closing:
                log.debug("Tracking: %s came after the end of the run and is left out.", kind)
                return
            self._waiting.append(self._spool.append(kind, values))
            self._changed.notify_all()

    def put_file(self, kind: str, filename: str, make: Callable[[Path], object], **values: Any) -> None:
        """Adds an entry with a file or folder, which is removed when the store has it. A full disk stops nothing.

        Args:
            kind: of the entry
            filename: of what is made
            make: called with the place where it shall be made
            values: of the entry
        """
        try:
            place = self._spool.stage(filename)
            make(place)
        except OSError as error:
            if error.errno not in FULL:
                raise
            log.warning("Tracking: %s %s is left out (%s).", kind, filename, first_line(error))
            self._dropped += kind in LASTING
            return
        self.put(kind, staged=f"{place.parent.name}/{filename}", **values)

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Waits until everything is written, or the store fails, or the time is over. True when all is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._failures > 0, timeout_s)
            return not self._waiting

    def close(self, patience_s: float = PATIENCE_S, at_most_s: float = math.inf) -> int:
        """Writes what waits, as long as entries keep leaving, and ends the thread.

        A store that does not answer is tried twice more, once if it did not answer before. Each try is as long as
        the client's own limits for a call (`store.CLIENT_ENVIRONMENT`).

        Args:
            patience_s: seconds without one entry leaving
            at_most_s: seconds in all

        Returns:
            number of entries that stay in the spool
        """
        deadline = time.monotonic() + at_most_s
        with self._changed:
            self._closing = True
            self._failures = min(self._failures, 1)
            self._unreached = min(self._unreached, 1)
            self._changed.notify_all()
            while not self._over:
                before = len(self._waiting)
                wait_s = min(patience_s, max(0.0, deadline - time.monotonic()))
                if not self._changed.wait_for(lambda: self._over or len(self._waiting) < before, wait_s):  # noqa: B023 - used at once
                    self._given_up = True  # the thread ends with the call it is in
                    return len(self._waiting)
        self._thread.join()
        return len(self._waiting)

    def _work(self) -> None:
        while self._next():
            if self._failures == 0 and not self._closing:
                self._show_life()
            if time.monotonic() >= self._next_flush:
                self._spool.flush()
                self._next_flush = time.monotonic() + FLUSH_S
            if self._waiting:
                self._deal_with(self._waiting[0])
        self._spool.flush()
        if self._waiting and not self._unreached and not self._given_up:
            self._say_stuck()
        self._spool.close()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _next(self) -> bool:
        """Waits for something to do. False when all is over."""
        with self._changed:
            if self._failures:
                self._changed.wait_for(lambda: self._closing, self._pause_s)
            else:
                due = min(self._next_beat, self._next_flush if self._spool.unflushed else self._next_beat)
                self._changed.wait_for(lambda: self._waiting or self._closing, max(0.0, due - time.monotonic()))
            # Those that are answered with an error change places, so each gets a last try of its own.
            tired = self._unreached >= LAST_TRIES or self._failures >= max(LAST_TRIES, len(self._waiting))
            return not self._closing or (bool(self._waiting) and not tired and not self._given_up)

    def _deal_with(self, entry: Entry) -> None:
        """Writes one entry and notes what became of it."""
        try:
            over = self._try(entry)
        except Exception as error:  # noqa: BLE001 - whatever tracking does, training goes on
            self._spool.done(entry, refused=True)
            log.warning("Tracking: %s was refused and is left out (%s).", entry.kind, first_line(error))
            over = True
        with self._changed:
            if over:
                self._failures = self._unreached = 0
                self._waiting.popleft()
            else:
                self._failures += 1
                if not self._unreached:
                    self._set_back()
            self._changed.notify_all()

    def _set_back(self) -> None:
        """What the store cannot take now must not hold up the others; the end of the run stays the last."""
        entry = self._waiting.popleft()
        last = bool(self._waiting) and self._waiting[-1].kind == "end"
        self._waiting.insert(len(self._waiting) - last, entry)

    def _try(self, entry: Entry) -> bool:
        """True when the entry is written, False when it has to wait; raises when it is refused."""
        staged = self._spool.staged(entry)
        if staged is not None and not staged.exists():
            log.debug("%s of entry %d is gone: it was sent, and the note of it was lost", staged, entry.number)
            self._spool.done(entry)
            return True
        try:
            self._write(self._true_end(entry) if entry.kind == "end" else entry)
        except Exception as error:
            if is_refusal(error):
                raise
            if not self._failures:
                log.warning(
                    "Tracking: %s cannot be written now (%s). Training goes on; it waits and is tried again.",
                    entry.kind,
                    first_line(error),
                )
            self._unreached = self._unreached + 1 if is_unreachable(error) else 0
            return False
        if self._failures:
            log.warning("Tracking: the store takes entries again; what waited is being written.")
        self._spool.done(entry)
        return True

    def _true_end(self, entry: Entry) -> Entry:
        """A run of which something was refused is not finished."""
        if not self.refused or entry.values["status"] != "FINISHED":
            return entry
        reason = f"{self.refused} of its scores, files or models did not reach the tracking store"
        return Entry("end", {"status": "FAILED", "error": reason}, entry.timestamp_ms, entry.number)

    def _say_stuck(self) -> None:
        """The store answers, but does not take everything: till then the run must not look as if it was at work."""
        end = self._waiting[-1]
        if end.kind != "end":
            return
        status = "FAILED" if end.values["status"] == "FINISHED" else end.values["status"]
        reason = (
            f"{many(len(self._waiting) - 1, 'entry')} did not reach the tracking store and "
            f"{does(len(self._waiting) - 1, 'wait')} in {self._spool.folder}: "
        )
        try:
            self._write(Entry("end", {"status": status, "error": reason + "glidexp sync sends them"}, end.timestamp_ms))
            self.marked = status == "FAILED"
        except Exception as error:  # noqa: BLE001 - it stays as it is
            log.debug("the end of the run cannot be marked: %s", first_line(error))

    def _show_life(self) -> None:
        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + BEAT_S
        if self._beat is None:
            return
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - the next entry, or the next minute, tells more
            log.debug("no sign of life: %s", first_line(error))


def is_refusal(error: BaseException) -> bool:
    """Whether the store understood an entry and will not have it, now or later."""
    if isinstance(error, TypeError | ValueError) and not isinstance(error, OSError):  # errors of requests are both
        return True
    # An answer that is none of MLflow's, from whatever stands before it, carries a code that MLflow's client made up.
    return getattr(error, "error_code", None) in REFUSED and not str(error).startswith("API request")


def is_away(error: BaseException) -> bool:
    """Whether a store did not answer, or could not for now: the same may be asked again."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and not is_refusal(error)


def store_is_away(error: BaseException) -> bool:
    """Whether a command ended as its store did not answer, by MLflow's error or by what was told of that."""
    of_store = isinstance(error, TrackingError) and any(map(_of_line, _causes(error)))
    return is_away(error) or of_store


def _of_line(cause: BaseException) -> bool:
    """Whether it tells of the line to a server, or of what stands before one that is down."""
    code = getattr(cause, "code", None)
    unserved = isinstance(cause, urllib.error.HTTPError) and isinstance(code, int) and code >= SERVER_ERROR
    return unserved or is_away(cause) or isinstance(cause, ConnectionError | TimeoutError)


def is_unreachable(error: BaseException) -> bool:
    """Whether nobody answered: then every other entry would meet the same."""
    return any(isinstance(cause, ConnectionError | TimeoutError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
