"""Files and folders are written beside their place and renamed into it: no reader meets half of one, a failure leaves
the old."""

import errno
import fcntl
import functools
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO, Any

from glidexp.errors import GlidexpError

PARTIAL = ".partial"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""errors of a disk, or of a user's share of it, that is full"""
FOLDERS = "paths.data, paths.mlruns, of maps and releases --out"
"""where users say which folder is written to"""


def lock(file: IO[Any] | int, path: Path, *, shared: bool = False, wait: bool = True) -> bool:
    """Takes the lock of an open file or folder; it goes when that is closed, and with the process.

    Args:
        file: or its number
        path: of it, to be named
        shared: with others who share it
        wait: until it is free

    Returns:
        False where another process has it and `wait` is false

    Raises:
        GlidexpError: the file system keeps no locks
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):  # the latter of a lock that NFS keeps
            return False
        raise GlidexpError(
            f"the file system of {path.parent} keeps no locks of files ({error.strerror}): have it mounted with them "
            f"(Lustre: -o flock), or give a folder on another disk ({FOLDERS})."
        ) from None
    return True


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Gives a hidden name in the same folder, with the same ending, to write to; renames it when the block ends well.

    What killed processes of this machine left of theirs in the folder goes first.

    Args:
        path: where the file is to be; its folder is made where it is missing

    Raises:
        OSError: the folder cannot be made or the file not renamed; what was written is removed, as after any error,
            with what a library keeps beside it under a longer name, such as a journal
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_dead(path.parent.absolute())
    place = path.with_name(f".{os.getpid()}-{_machine()}.{path.name}")
    try:
        yield place
        os.replace(place, path)
    except BaseException as error:
        for left in place.parent.glob(f"{escape(place.name)}*"):
            left.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL and error.filename in (None, place, str(place)):
            error.filename = str(path)  # what a full disk says of a write names no file
        raise


@contextmanager
def together(paths: Sequence[Path], *, without: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Gives a hidden name for each of some files that belong together, as `beside` does for one.

    None of the old ones changes before all new ones are written. Then the first of the old ones goes, and the first of
    the new ones comes last: where a process is killed in between, it is missing, so that old and new files are not
    taken for those of one run.

    Args:
        paths: where the files are to be; the first is the one that is looked for
        without: files of an earlier run that this one does not write; they go with the first

    Raises:
        OSError: as of `beside`; what was written is removed
    """
    with ExitStack() as stack:
        places = [stack.enter_context(beside(path)) for path in paths]
        if len(paths) > 1:
            stack.enter_context(_gone(paths[0], *without))
        yield places


@contextmanager
def _gone(*paths: Path) -> Iterator[None]:
    """Removes files when the block ends well."""
    yield
    for path in paths:
        path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Tells numbers of processes here from those of other machines that share a disk, and of other containers."""
    numbers = Path("/proc/self/ns/pid")
    apart = f"{platform.node()} {os.readlink(numbers) if numbers.is_symlink() else ''}"
    return hashlib.sha256(apart.encode()).hexdigest()[:8]


@functools.lru_cache(maxsize=256)
def _sweep_dead(folder: Path) -> None:
    """Removes files that processes of this machine had begun in a folder when they died.

    Once a process and folder: looking through a folder for each of its files would take longer than writing them.
    """
    for left in folder.glob(f".*-{_machine()}.*"):
        number = left.name[1:].partition("-")[0]
        if number.isdigit() and _is_dead(int(number)):
            with suppress(OSError):  # another user's, or a folder: nobody waits for it to go
                left.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """Gives a new hidden folder beside a place, to be renamed into it; what is still in it when the block ends goes.

    What killed processes left of theirs goes first. Whoever is at work holds a lock on its own, which ends with it.

    Args:
        path: where the folder is to be; the one above it is made where it is missing

    Raises:
        OSError: it cannot be made
    """
    for left in path.parent.glob(f".{escape(path.name)}.*{PARTIAL}"):
        if not _at_work(left):
            shutil.rmtree(left, ignore_errors=True)
    place = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    lock = os.open(place, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: the number in the name is what is left
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield place
    finally:
        os.close(lock)
        shutil.rmtree(place, ignore_errors=True)


def _at_work(folder: Path) -> bool:
    """Whether a process of this machine has the number in the folder's name, or one of any machine holds its lock."""
    number = folder.name.removesuffix(PARTIAL).rpartition(".")[2]
    if not number.isdigit() or not _is_dead(int(number)):
        return True
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _is_dead(number: int) -> bool:
    """Whether no process of this machine has the number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no number of a process
        return False
    return False


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 beside and renames.

    Args:
        path: where the file is to be
        text: all of it
    """
    with beside(path) as place:
        place.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside, flushes it to disk and renames: what others are told of is then there, whatever happens.

    Args:
        path: where the file is to be
        content: all of it
    """
    with beside(path) as place:
        flushed(place, content)


def flushed(place: Path, content: bytes) -> None:
    """Writes bytes to a name that `beside` or `together` gave, and flushes them to disk.

    Args:
        place: hidden name
        content: all of the file
    """
    with place.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(path: Path) -> None:
    """Removes what killed processes left beside a file; nobody else may be writing it.

    Args:
        path: that they would have written
    """
    for left in path.parent.glob(f".*.{escape(path.name)}*"):
        if re.fullmatch(r"[0-9]+(-[0-9a-f]+)?", left.name.split(".")[1]):
            left.unlink(missing_ok=True)
