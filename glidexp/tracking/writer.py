"""A thread that writes to the tracking store, so that training never waits for it.

Entries go out in order. Where the store does not answer they wait in memory and are tried again; training goes on. An
entry that the store refuses for what it says is dropped with a warning, since it would be refused again. A spool on
disk would sit where `_waiting` is: entries are plain data, files of an entry lie in `staging`.
"""

import logging
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glidexp.tracking.store import first_line

log = logging.getLogger("glidexp.tracking")

PAUSE_S = 20.0
"""seconds between two tries at a store that does not answer"""
LAST_TRIES = 2
"""failures in a row at which `close` gives up"""
LASTING = ("metrics", "artifact", "model")
"""kinds of entries without which a run is not finished"""
REFUSED = frozenset(
    {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED"}
)
"""MLflow error codes that a second try does not mend"""


@dataclass(slots=True)
class Entry:
    """One thing to be written: what kind, its values, and the time at which it was so."""

    kind: str
    values: dict[str, Any]
    timestamp_ms: int = field(default_factory=lambda: int(time.time() * 1000))


class Writer:
    """Queue and thread around one function that writes an entry.

    Args:
        write: called with one entry at a time, in the thread; raises when it did not work
        pause_s: seconds between two tries at a store that does not answer
    """

    def __init__(self, write: Callable[[Entry], None], *, pause_s: float = PAUSE_S) -> None:
        self._write = write
        self._pause_s = pause_s
        self._waiting: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._settling = False
        self._failures = 0
        self._refused = 0
        self._staging = Path(tempfile.mkdtemp(prefix="glidexp-tracking-"))
        self._thread = threading.Thread(target=self._work, name="glidexp-tracking", daemon=True)
        self._thread.start()

    @property
    def staging(self) -> Path:
        """Folder for the files of entries that wait; removed by `close`."""
        return self._staging

    def put(self, kind: str, **values: Any) -> None:
        """Adds an entry and returns at once."""
        with self._changed:
            self._waiting.append(Entry(kind, values))
            self._changed.notify_all()

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Waits until everything is written, or the store fails, or the time is over. True when all is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._failures > 0, timeout_s)
            return not self._waiting

    def settle(self, timeout_s: float = 120.0) -> int:
        """Waits until everything is written, as long as entries keep leaving, and says what is missing.

        Args:
            timeout_s: for one entry

        Returns:
            number of entries that wait still or were refused, those that a finished run cannot do without
        """
        with self._changed:
            self._settling = True
            self._changed.notify_all()
            before = -1
            while self._waiting and self._failures < LAST_TRIES and len(self._waiting) != before:
                before = len(self._waiting)
                self._changed.wait_for(
                    lambda: len(self._waiting) < before or self._failures >= LAST_TRIES,  # noqa: B023 - used at once
                    timeout_s,
                )
            self._settling = False
            return self._refused + sum(entry.kind in LASTING for entry in self._waiting)

    def close(self, timeout_s: float = 120.0) -> int:
        """Writes what waits, ends the thread, removes the staging folder.

        Returns:
            number of entries that were lost, because the store did not take them in time
        """
        with self._changed:
            self._closing = True
            self._failures = 0  # what came after a failure, the end of the run above all, gets its own tries
            self._changed.notify_all()
        self._thread.join(timeout_s)
        shutil.rmtree(self._staging, ignore_errors=True)
        lost = len(self._waiting)
        if lost:
            log.warning("Tracking: %d entries did not reach the store and are lost.", lost)
        return lost

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._failures and not self._hurried():
                    self._changed.wait_for(self._hurried, self._pause_s)
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting or (self._closing and self._failures >= LAST_TRIES):
                    return
                entry = self._waiting[0]
            done = self._try(entry)
            with self._changed:
                self._failures = 0 if done else self._failures + 1
                if done:
                    self._waiting.popleft()
                else:
                    self._waiting.rotate(-1)  # what can never be written must not hold up the others
                self._changed.notify_all()

    def _hurried(self) -> bool:
        return self._closing or (self._settling and self._failures < LAST_TRIES)

    def _try(self, entry: Entry) -> bool:
        """True when the entry is over and done with, written or refused."""
        try:
            self._write(entry)
        except Exception as error:  # noqa: BLE001 - whatever tracking does, training goes on
            if getattr(error, "error_code", None) in REFUSED or isinstance(
                error, TypeError | ValueError | FileNotFoundError
            ):
                self._refused += entry.kind in LASTING
                log.warning("Tracking: %s was refused and is left out (%s).", entry.kind, first_line(error))
                return True
            if not self._failures:
                log.warning(
                    "Tracking: %s cannot be written now (%s). Training goes on; it waits and is tried again.",
                    entry.kind,
                    first_line(error),
                )
            return False
        if self._failures:
            log.warning("Tracking: the store takes entries again; what waited is being written.")
        return True
