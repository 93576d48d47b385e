"""The file in which a search's trials lie, without Optuna: mended after a kill, and carried to another store."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glidexp.beside import lock, write_bytes

JOURNAL = "trials.journal"


def lock_of(path: Path) -> Path:
    """Held by whoever reads or writes a journal; it goes with the process that has it."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keeps a journal as it is."""
    with lock_of(path).open("a") as stream:
        lock(stream, path)
        yield


def mend(path: Path) -> None:
    """Cuts off a line that was not written to its end: the next one would be written behind it. Call it `held`."""
    if path.exists() and (data := path.read_bytes()) != _whole_lines(data):
        os.truncate(path, len(_whole_lines(data)))


def written(path: Path) -> bytes:
    """All that is written to its end, however many searches are at work on it; also where nothing may be written."""
    try:
        with held(path):
            return _whole_lines(path.read_bytes())
    except OSError:  # no lock beside it: another's, or an archive. It only grows, and a torn line is left out
        return _whole_lines(path.read_bytes())


def bring(data: bytes, path: Path) -> bool:
    """Puts a journal from another store into place, where it goes on with the one that is there.

    A journal only grows. So one that is there and begins with `data` has gone on since, and is kept.

    Returns:
        False where each of them went on by itself, and the one that is there was kept
    """
    with held(path):
        there = _whole_lines(path.read_bytes()) if path.exists() else b""
        if data.startswith(there):
            write_bytes(path, data)
            return True
        return there.startswith(data)


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
