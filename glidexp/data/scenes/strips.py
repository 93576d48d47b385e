"""A scene's strips as often as they are asked for: decoded once, then taken from a file beside the store."""

import hashlib
import math
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.windows import Window

from glidexp.data.builder.parts import writing
from glidexp.data.scenes.reading import Scene, opened_files, read_strips, read_window

Strip = tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_]]
"""first row, pixels (bands, h, W), valid (h, W)"""
BLOCK_PX = 2**16
"""least pixels of a block that is drawn"""
CACHE_BYTES = 64 << 20
"""least that GDAL keeps of decoded blocks; by itself it takes a twentieth of the machine's memory, in every process"""


@dataclass(slots=True)
class Strips:
    """Strips of a scene, as `read_strips` gives them. The first pass decodes, later ones read what it left on disk.

    Decoding is the dearest part of a build, and a scene is met twice: its limits must be known before its first tile.
    Use as a context manager.
    """

    scene: Scene
    tile_px: int
    beside: Path
    """folder that takes the decoded pixels; the file has no name, so that nothing stays behind"""
    most_px: int
    threads: int = 1
    """more than one: the next strip is decoded while the last one is worked on"""
    memory_bytes: int = 0
    """of decoded pixels, the first ones, that are kept in memory and not on disk"""
    _file: BinaryIO | None = field(default=None, init=False)
    _whole: bool = field(default=False, init=False)
    _held: list[tuple[int, tuple[int, ...], np.dtype[Any], bytes | None]] = field(default_factory=list, init=False)
    """of each strip: first row, shape, kind of number, packed valid pixels (None: all are)"""
    _here: list[npt.NDArray[Any]] = field(default_factory=list, init=False)
    """pixels of the first strips, as far as they are kept in memory"""

    def __enter__(self) -> "Strips":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def once(self) -> Iterator[Strip]:
        """The strips, for a pass that no other follows. Their pixels may lie where the next strip will."""
        if self._file is None or not self._whole:
            yield from self._decoded()
            return
        self._file.seek(0)
        buffer = np.empty(0, np.uint8)
        here = self._here[::-1]
        self._here.clear()
        for top, shape, kind, packed in self._held:
            if here:
                pixels = here.pop()
            else:
                if (size := math.prod(shape) * kind.itemsize) > len(buffer):
                    buffer = np.empty(size, np.uint8)
                with writing(self.beside):
                    self._file.readinto(buffer[:size])  # type: ignore[attr-defined]
                pixels = buffer[:size].view(kind).reshape(shape)
            if packed is None:
                valid = np.ones(shape[1:], bool)
            else:
                count = shape[1] * shape[2]
                valid = np.unpackbits(np.frombuffer(packed, np.uint8), count=count).view(bool).reshape(shape[1:])
            yield top, pixels, valid

    def kept(self) -> Iterator[Strip]:
        """The strips, kept for `once`, which is to follow."""
        spool = self.beside / f".{os.getpid()}.pixels"
        with writing(spool):
            self.beside.mkdir(parents=True, exist_ok=True)
            stream = self._file = spool.open("w+b")
            spool.unlink()
        room = self.memory_bytes
        for top, pixels, valid in self._decoded():
            if pixels.nbytes <= room:
                room -= pixels.nbytes
                self._here.append(pixels)
            else:
                room = 0  # what follows one on disk lies behind it
                with writing(spool):
                    stream.write(np.ascontiguousarray(pixels).data)
            packed = None if valid.all() else np.packbits(valid).tobytes()
            self._held.append((top, pixels.shape, pixels.dtype, packed))
            yield top, pixels, valid
        self._whole = True

    def _decoded(self) -> Iterator[Strip]:
        """The strips from the scene's own files."""
        yield from self._read() if self.threads == 1 else ahead(self._read())

    def _read(self) -> Generator[Strip, None, None]:
        rows = max(self.scene.strip_px, self.tile_px)
        cache = max(CACHE_BYTES, min(4 * rows * self.scene.width * self.scene.channels, 4 * CACHE_BYTES))
        with rasterio.Env(GDAL_CACHEMAX=cache, GDAL_NUM_THREADS=str(self.threads)):
            yield from read_strips(self.scene, self.tile_px, self.most_px)


def ahead(strips: Generator[Strip, None, None]) -> Generator[Strip, None, None]:
    """The same, one ahead: a thread makes the next while the last is worked on.

    The thread is our own and not a pool's: a pool that is collected together with this generator ends its thread
    first, and whoever closes the generator then waits for it for ever.
    """
    asked: SimpleQueue[bool] = SimpleQueue()
    made: SimpleQueue[Strip | BaseException | None] = SimpleQueue()

    def make() -> None:
        while asked.get():
            try:
                made.put(next(strips, None))
            except BaseException as error:  # noqa: BLE001 - it is raised where the strip is asked for
                made.put(error)
        strips.close()  # GDAL's settings are those of a thread, so they are taken back where they were made

    thread = Thread(target=make, name="glidexp-ahead", daemon=True)
    thread.start()
    try:
        asked.put(True)
        while (strip := made.get()) is not None:
            if isinstance(strip, BaseException):
                raise strip
            asked.put(True)
            yield strip
    finally:
        asked.put(False)
        if current_thread() is not thread:  # which may be the one that collects this
            thread.join()


def read_blocks(scene: Scene, count: int) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Blocks of the file with valid pixels, drawn by a hash of their place: the same whenever they are read.

    Args:
        scene: its header
        count: how many, where there are as many

    Yields:
        pixels (bands, h, w), valid (h, w), as `read_strips` gives them

    Raises:
        DataError: the file is damaged
    """
    with ExitStack() as stack:
        opened = opened_files(scene, stack)
        high, wide = opened[scene.paths[0]].block_shapes[0]
        high = math.ceil(BLOCK_PX / (high * min(wide, scene.width))) * high  # a row of a striped file is little
        corners = [(r, c) for r in range(0, scene.height, high) for c in range(0, scene.width, wide)]
        corners.sort(key=lambda corner: hashlib.sha256(f"{scene.name}/{corner[0]}/{corner[1]}".encode()).digest())
        for row, col in corners:
            if count == 0:
                return
            size = min(wide, scene.width - col), min(high, scene.height - row)
            pixels, valid = read_window(scene, opened, Window(scene.left + col, scene.top + row, *size))
            if valid.any():
                count -= 1
                yield pixels, valid
