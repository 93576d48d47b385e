"""What is finished of a scene while it is mapped: plain files beside the outputs, from which a killed run goes on.

The folder holds, in raw bytes of the scene's size, `probability.u8` and `marks.u8`, and `progress.npz`, which is
renamed into place after the rows it speaks of are on the disk. A folder of other settings or another scene is dropped.
"""

import os
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from glidexp.beside import lock
from glidexp.data.builder.parts import DAMAGED, writing
from glidexp.errors import DataError, GlidexpError

LAKE, LIKELY, SURE, INVALID = 1, 2, 4, 128
"""bits of a mark: probability at the threshold or above; calibrated probability 0.05, and 0.95, or above; no data"""
STEPS = 254
"""a probability p is written as the whole number nearest to 254 p"""
NODATA = 255
KEEP_EVERY_S = 1.0
"""seconds of finished rows that a killed map may lose at most"""
PROBABILITY, MARKS, PROGRESS, LOOK = "probability.u8", "marks.u8", "progress.npz", "look.u8"
SPREAD, VOTES = "spread.u8", "votes.{}.u8"
"""of a mean of networks: the standard deviation of their probabilities, in steps; which of them see lake, a bit each,
eight networks a file"""


@dataclass(slots=True)
class WorkFiles:
    """The folder of a scene at work. Use as a context manager."""

    folder: Path
    key: str
    """names all that decides the bytes"""
    height: int
    width: int
    look: tuple[int, int, int]
    """shape of the small picture"""
    networks: int = 0
    """of which a mean is made; 0: a single one"""
    rows: int = field(default=0, init=False)
    """rows of windows that are finished"""
    carry: npt.NDArray[np.float32] | None = field(default=None, init=False)
    limits: npt.NDArray[np.float64] | None = field(default=None, init=False)
    """(2, bands) of the stretch, once they are known"""
    _open: dict[str, BinaryIO] = field(default_factory=dict, init=False)
    _kept_at: float = field(default_factory=time.monotonic, init=False)

    def __enter__(self) -> "WorkFiles":
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open["lock"] = (self.folder / "lock").open("ab")
        if not lock(self._open["lock"], self.folder / "lock", wait=False):
            self._open["lock"].close()
            raise DataError(f"another process is at work in {self.folder}: wait for it.")
        self._take_up()
        with writing(self.folder):
            for name, size in self._sizes.items():
                self._open[name] = (self.folder / name).open("r+b" if (self.folder / name).exists() else "w+b")
                _make_room(self._open[name], size)
        return self

    def __exit__(self, *exc: object) -> None:
        with writing(self.folder), ExitStack() as all_of_them:
            for stream in self._open.values():
                all_of_them.callback(stream.close)

    @property
    def _pixels(self) -> list[str]:
        """Files with a byte for each pixel of the scene."""
        return [PROBABILITY, MARKS, *([SPREAD, *self.votes] if self.networks else [])]

    @property
    def _sizes(self) -> dict[str, int]:
        """Bytes of each file that progress speaks of."""
        return dict.fromkeys(self._pixels, self.height * self.width) | {LOOK: int(np.prod(self.look))}

    @property
    def votes(self) -> list[str]:
        """Names of the files of votes."""
        return [VOTES.format(number) for number in range(-(-self.networks // 8))]

    def write(self, name: str, row: int, values: npt.NDArray[np.uint8]) -> None:
        """Writes whole rows of one of the files."""
        stream = self._open[name]
        with writing(self.folder):
            stream.seek(row * int(np.prod(values.shape[1:])))
            stream.write(np.ascontiguousarray(values).data)

    def keep(self, rows: int, carry: npt.NDArray[np.float32], *, last: bool) -> None:
        """Says that so many rows of windows are on the disk, and keeps what goes on into the next one.

        Rows that follow within `KEEP_EVERY_S` are spared the wait for the disk, so that no more is lost than was made
        in that time, whatever the network costs.

        Args:
            rows: finished rows of windows
            carry: (ramp, W) of `Blend`; (1 + networks, ramp, W) of a mean
            last: no row follows
        """
        if not last and time.monotonic() - self._kept_at < KEEP_EVERY_S:
            return
        with writing(self.folder):
            for name in (*self._pixels, LOOK):
                self._open[name].flush()
                os.fsync(self._open[name].fileno())
            aside = self.folder / f".{PROGRESS}"
            with aside.open("wb") as stream:
                limits = self.limits if self.limits is not None else np.zeros((0, 0))
                np.savez(stream, key=np.array(self.key), rows=np.array(rows), carry=carry, limits=limits)
            os.replace(aside, self.folder / PROGRESS)
        self.rows, self._kept_at = rows, time.monotonic()

    def read(self, name: str) -> npt.NDArray[np.uint8]:
        """A file mapped into memory, to be read."""
        shape = self.look if name == LOOK else (self.height, self.width)
        with writing(self.folder):
            self._open[name].flush()
        return np.memmap(self.folder / name, np.uint8, "r", shape=shape)

    def drawn(self, name: str) -> npt.NDArray[np.uint8]:
        """A new file of the scene's size mapped into memory, to be written."""
        with writing(self.folder), (self.folder / name).open("w+b") as stream:
            _make_room(stream, self.height * self.width)
        return np.memmap(self.folder / name, np.uint8, "r+", shape=(self.height, self.width))

    def drop(self) -> None:
        """Takes the folder away."""
        _drop(self.folder)

    def _take_up(self) -> None:
        try:
            with np.load(self.folder / PROGRESS) as found:
                known: dict[str, Any] = dict(found)
        except DAMAGED:
            known = {}
        sizes = [(self.folder / name).stat().st_size for name in self._sizes if (self.folder / name).is_file()]
        if str(known.get("key")) != self.key or sizes != [*self._sizes.values()]:
            (self.folder / PROGRESS).unlink(missing_ok=True)
            return
        self.rows, self.carry = int(known["rows"]), known["carry"]
        self.limits = known["limits"] if known["limits"].size else None


def drop_left(folder: Path) -> None:
    """Takes the folder of a finished scene away, which the process that finished it could not; not one at work."""
    with suppress(OSError, GlidexpError), (folder / "lock").open("ab") as stream:
        if lock(stream, folder / "lock", wait=False):
            _drop(folder)


def _drop(folder: Path) -> None:
    """Removes a folder, first what says that its files are whole."""
    with suppress(OSError):
        (folder / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _make_room(stream: BinaryIO, size: int) -> None:
    """Takes the disk's room at once: a full disk then refuses here, not by a signal where memory is written to it."""
    stream.truncate(size)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(stream.fileno(), 0, size)
