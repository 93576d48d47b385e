"""What is to be logged, on disk before anything else: an append-only journal, and the files that its entries need.

    <mlruns>/spool/<run id>/
      journal.jsonl   a line an entry: checksum, then JSON. The first line names the store
      sent.jsonl      a line for each entry that is over and done with, likewise
      files/          copies of what is to be uploaded; each goes when its entry has gone
      lock            held by the process that writes the run, released by the system when it dies

A process that is killed loses no entry it put: whoever takes the lock next finds those that are not yet noted in
sent.jsonl. Entries keep the time at which they were put, and the sink writes them so that a second time changes
nothing.
"""

import errno
import json
import logging
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from glidexp.beside import lock as take_lock
from glidexp.errors import GlidexpError

log = logging.getLogger("glidexp.tracking")

FOLDER = "spool"
JOURNAL, SENT, FILES, LOCK = "journal.jsonl", "sent.jsonl", "files", "lock"
HEAD = "head"
"""kind of the journal's first line"""
LASTING = ("metrics", "artifact", "model")
"""kinds of entries without which a run is not finished"""
LOCK_TRIES = 4
LOCK_WAIT_S = 0.05
"""between two tries"""

_claimed: "dict[Path, Spool]" = {}
"""spools locked by this process for a run that it is about to go on with"""


@dataclass(slots=True)
class Entry:
    """One thing to be written: what kind, its values, and the time at which it was so."""

    kind: str
    values: dict[str, Any]
    timestamp_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    number: int = 0


class Busy(Exception):
    """Another process, or another part of this one, holds the spool."""


class Lines:
    """An append-only file of JSON, a line each, with a checksum in front.

    A last line that was cut short by a kill is cut off; a line in the middle that was damaged is left out.

    Args:
        path: made where it is missing

    Attributes:
        records: what the file held when it was opened
        damaged: lines that were left out
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._file.seek(0)
        data = self._file.read()
        self._size = data.rfind(b"\n") + 1
        if self._size < len(data):
            self._file.truncate(self._size)
        read = [_decoded(line) for line in data[: self._size].splitlines()]
        self.records = [record for record in read if record is not None]
        self.damaged = len(read) - len(self.records)

    def append(self, record: Any) -> None:
        """Hands a line to the system: it outlives this process, though not a power cut before the next `flush`.

        Raises:
            OSError: the disk takes no more; nothing of the line is left in the file
        """
        body = json.dumps(record, default=_plain).encode()
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._size)  # half a line would spoil the next one
            raise
        self._size += len(line)

    def flush(self) -> None:
        """Waits until the disk holds what was appended."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line[9:]) if int(line[:8], 16) == zlib.crc32(line[9:]) else None
    except ValueError:
        return None


def _plain(value: Any) -> Any:
    """Numbers of NumPy as numbers, whatever else as text."""
    return value.item() if hasattr(value, "item") else str(value)


class Spool:
    """The spool of one run, locked. Made by `Spool.open`.

    Attributes:
        waiting: entries that an earlier process put and that are not noted as sent, in order
        refused: entries of the lasting kinds that the store refused
        head: what the journal says of the store: `uri`, `experiment_id`
    """

    def __init__(self, folder: Path, lock: int, head: Mapping[str, str]) -> None:
        self.folder = folder
        self._lock = lock
        self._journal = Lines(folder / JOURNAL)
        self._sent = Lines(folder / SENT)
        over: dict[int, str] = dict(self._sent.records)
        entries = [Entry(**record) for record in self._journal.records if record["kind"] != HEAD]
        heads = [record["values"] for record in self._journal.records if record["kind"] == HEAD]
        self.head: dict[str, str] = heads[0] if heads else dict(head)
        self.waiting = [entry for entry in entries if entry.number not in over]
        self.refused = sum(over.get(entry.number) == "refused" for entry in entries if entry.kind in LASTING)
        self._open = {entry.number for entry in self.waiting}
        self._next = max([0, *over, *(entry.number for entry in entries)]) + 1
        self._unflushed = False
        self._full = False
        if self._journal.damaged:
            log.warning("Tracking: %d damaged lines of %s are left out.", self._journal.damaged, folder / JOURNAL)
        if not heads and self.head:
            with suppress(OSError):
                self._journal.append({"kind": HEAD, "values": self.head})
        self._sweep()

    @classmethod
    def open(cls, folder: Path, head: Mapping[str, str] | None = None) -> Self:
        """Takes the lock, makes what is missing, and reads what waits.

        Args:
            folder: of the run
            head: for the first line of a new journal

        Raises:
            Busy: somebody else holds it
            OSError: the folder cannot be written
        """
        if folder in _claimed:
            claimed = _claimed.pop(folder)
            assert isinstance(claimed, cls)
            return claimed
        lock = hold(folder)
        try:
            return cls(folder, lock, head or {})
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def claim(cls, folder: Path, head: Mapping[str, str] | None = None) -> Self:
        """As `open`, and keeps the spool for the next `open` in this process: nobody else gets the run meanwhile."""
        spool = cls.open(folder, head)
        _claimed[folder] = spool
        return spool

    def append(self, kind: str, values: dict[str, Any]) -> Entry:
        """Adds an entry. On a full disk it is kept in memory alone, which is said once."""
        entry = Entry(kind, values, number=self._next)
        self._next += 1
        self._open.add(entry.number)
        try:
            self._journal.append(
                {"number": entry.number, "timestamp_ms": entry.timestamp_ms, "kind": kind, "values": values}
            )
            self._unflushed = True
        except (OSError, ValueError) as error:
            if not self._full:
                log.warning("Tracking: %s cannot be written (%s): entries wait in memory alone.", self.folder, error)
            self._full = True
        return entry

    def done(self, entry: Entry, *, refused: bool = False) -> None:
        """Notes that the store has the entry, or will never take it, and removes its file."""
        self._open.discard(entry.number)
        self.refused += refused and entry.kind in LASTING
        try:
            self._sent.append([entry.number, "refused" if refused else "sent"])
        except OSError as error:
            log.debug("%s: %s", self.folder / SENT, error)  # it is sent once more then, which changes nothing
        with suppress(ValueError):  # what is no file of ours stays
            if (staged := self.staged(entry)) is not None:
                shutil.rmtree(staged.parent, ignore_errors=True)

    def stage(self, name: str) -> Path:
        """A place for a file or folder of that name, to be named as `staged` by the entry that needs it."""
        folder = self.folder / FILES / uuid.uuid4().hex
        folder.mkdir(parents=True)
        return folder / name

    def staged(self, entry: Entry) -> Path | None:
        """Where the file of an entry lies.

        Raises:
            ValueError: elsewhere; a folder may be shared, and its journal somebody else's
        """
        if not (place := entry.values.get("staged")):
            return None
        path = self.folder / FILES / str(place)
        strange = Path(place).is_absolute() or ".." in Path(place).parts or len(Path(place).parts) < 2
        if strange or path.is_symlink() or path.parent.is_symlink():
            raise ValueError(f"{str(place)[:80]!r} is no file of the spool")
        return path

    @property
    def unflushed(self) -> bool:
        """Whether a power cut could take an entry."""
        return self._unflushed

    def flush(self) -> None:
        """Waits until the disk holds the entries. For the writer's thread: it may take long."""
        if self._unflushed:
            self._unflushed = False
            with suppress(OSError):
                self._journal.flush()

    def close(self) -> None:
        """Releases the lock; a spool in which nothing waits is removed."""
        _claimed.pop(self.folder, None)
        self._journal.close()
        self._sent.close()
        if not self._open:
            shutil.rmtree(self.folder / FILES, ignore_errors=True)
            # A kill between two of these must leave no journal without the notes of what was sent.
            for name in (JOURNAL, SENT, LOCK):
                (self.folder / name).unlink(missing_ok=True)
            for folder in (self.folder, self.folder.parent):
                with suppress(OSError):
                    folder.rmdir()
        os.close(self._lock)

    def _sweep(self) -> None:
        """Removes files without an entry: a kill came between the two."""
        wanted = {Path(entry.values["staged"]).parts[0] for entry in self.waiting if entry.values.get("staged")}
        files = self.folder / FILES
        for folder in files.iterdir() if files.is_dir() else ():
            if folder.name not in wanted:
                shutil.rmtree(folder, ignore_errors=True)


def hold(folder: Path, tries_more: int = LOCK_TRIES) -> int:
    """Takes the lock of a folder, which is made where it is missing.

    Args:
        folder: whose lock
        tries_more: after the first try, `LOCK_WAIT_S` apart

    Returns:
        file number of the lock: closing it releases it

    Raises:
        Busy: somebody else holds it
        OSError: the folder cannot be written
    """
    tries = 0
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the owner has just removed the folder
            continue
        try:
            mine = take_lock(lock, folder / LOCK, wait=False)
        except GlidexpError:
            os.close(lock)
            raise
        if not mine:
            os.close(lock)
            tries += 1
            if tries > tries_more:
                raise Busy(str(folder)) from None
            time.sleep(LOCK_WAIT_S)  # it may be somebody who only looks
            continue
        with suppress(FileNotFoundError):
            if os.stat(folder / LOCK).st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)  # that file was removed by its owner between the opening and the locking


def waiting_in(folder: Path) -> int:
    """Entries of a spool that are not yet over and done with. Reads, and takes no lock."""

    def records(name: str) -> list[Any]:
        path = folder / name
        lines = path.read_bytes().splitlines() if path.is_file() else []
        return [record for record in map(_decoded, lines) if record is not None]

    over = {number for number, _ in records(SENT)}
    return sum(record["kind"] != HEAD and record["number"] not in over for record in records(JOURNAL))


def is_held(folder: Path) -> bool | None:
    """Whether a run at work holds the spool; None where there is none to ask."""
    if folder in _claimed:
        return False
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        return not take_lock(lock, folder / LOCK, shared=True, wait=False)
    finally:
        os.close(lock)
