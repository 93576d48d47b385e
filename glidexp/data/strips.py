"""A scene's strips as often as they are asked for: decoded once, then taken from a file beside the store."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from glidexp.data.parts import writing
from glidexp.data.scenes import Scene, read_strips

Strip = tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_]]
"""first row, pixels (bands, h, W), valid (h, W)"""


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
    _file: BinaryIO | None = field(default=None, init=False)
    _whole: bool = field(default=False, init=False)
    _held: list[tuple[int, tuple[int, ...], np.dtype[Any], bytes | None]] = field(default_factory=list, init=False)
    """of each strip: first row, shape, kind of number, packed valid pixels (None: all are)"""

    def __enter__(self) -> "Strips":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def once(self) -> Iterator[Strip]:
        """The strips, for a pass that no other follows."""
        if self._file is None or not self._whole:
            yield from read_strips(self.scene, self.tile_px, self.most_px)
            return
        self._file.seek(0)
        for top, shape, kind, packed in self._held:
            pixels = np.empty(shape, kind)
            with writing(self.beside):
                self._file.readinto(pixels.data.cast("B"))  # type: ignore[attr-defined]
            if packed is None:
                valid = np.ones(shape[1:], bool)
            else:
                size = shape[1] * shape[2]
                valid = np.unpackbits(np.frombuffer(packed, np.uint8), count=size).view(bool).reshape(shape[1:])
            yield top, pixels, valid

    def kept(self) -> Iterator[Strip]:
        """The strips, kept for `once`, which is to follow."""
        spool = self.beside / f".{os.getpid()}.pixels"
        with writing(spool):
            self.beside.mkdir(parents=True, exist_ok=True)
            stream = self._file = spool.open("w+b")
            spool.unlink()
        for top, pixels, valid in read_strips(self.scene, self.tile_px, self.most_px):
            with writing(spool):
                stream.write(np.ascontiguousarray(pixels).data)
            packed = None if valid.all() else np.packbits(valid).tobytes()
            self._held.append((top, pixels.shape, pixels.dtype, packed))
            yield top, pixels, valid
        self._whole = True
