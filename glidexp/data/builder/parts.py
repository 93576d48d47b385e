"""What is finished of a scene, kept beside the store until the store is whole: its survey, and its tiles.

A part's name holds a hash of all that decides its bytes, so that what fits is taken again and what does not fit is
never met. Parts are written aside and renamed; each carries hashes of its own, and a damaged one is made anew.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import xxhash

from glidexp.beside import beside, write_text
from glidexp.data.builder.tiling import Survey
from glidexp.data.scenes.lake_mask import Share
from glidexp.data.scenes.numbers import LEVELS
from glidexp.data.store import IMAGES, LABELS, canonical
from glidexp.data.writer import Tile
from glidexp.errors import RunFailed

HISTOGRAMS, TILES = "histograms.u32", "tiles.json"
WHOLE = "whole"
"""names the store that the parts of a folder were put together to"""
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
"""what reading a damaged part may raise"""
FOLDERS = "paths.data, of maps and releases --out"
"""where users say which folder is written to"""
KEPT = "finished scenes are kept and the same command goes on"
"""what is left of maps and builds where a disk is full"""


@dataclass(frozen=True, slots=True)
class TilePart:
    """The tiles of one scene on disk."""

    folder: Path
    tiles: list[dict[str, Any]]
    """a tile each: row, col, valid_px, lake_px, xxh3, shares"""
    histograms: npt.NDArray[np.uint32]
    """(tiles, bands, 256) of the valid pixels"""

    @classmethod
    def read(cls, folder: Path, tile_px: int, bands: int) -> Self | None:
        """The part of a folder after every byte of it was compared with its hash; None where it is not whole."""
        try:
            content = json.loads((folder / TILES).read_bytes())
            tiles = content["tiles"]
            histograms = np.fromfile(folder / HISTOGRAMS, np.uint32).reshape(len(tiles), bands, 256)
            stated = content["xxh3"]
            if stated != _digest(tiles, histograms):
                return None
            sizes = [((folder / name).stat().st_size) for name in (IMAGES, LABELS)]
            if sizes != [len(tiles) * tile_px**2 * bands, len(tiles) * tile_px**2]:
                return None
            with (folder / IMAGES).open("rb") as images, (folder / LABELS).open("rb") as labels:
                for tile in tiles:
                    digest = xxhash.xxh3_64(images.read(tile_px**2 * bands))
                    digest.update(labels.read(tile_px**2))
                    if digest.hexdigest() != tile["xxh3"]:
                        return None
        except DAMAGED:
            return None
        return cls(folder, tiles, histograms)


def mark_whole(parts: Path, store: Path) -> None:
    """Says in a folder of parts which store is made of them, so that what a killed build leaves of it is known."""
    write_text(parts / WHOLE, store.name)


def drop_parts(parts: Path) -> None:
    """Removes a folder of parts; what says whose they were goes last. Who calls holds the lock."""
    for left in parts.iterdir() if parts.is_dir() else ():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        elif left.name != WHOLE:
            left.unlink(missing_ok=True)
    shutil.rmtree(parts, ignore_errors=True)


class PartWriter:
    """Writes the tiles of one scene into a folder aside; `close` renames it."""

    def __init__(self, folder: Path) -> None:
        """Starts a part at `folder`; whatever lies there is damaged and goes."""
        self.folder = folder
        self._aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(self._aside, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        with writing(self._aside):
            self._aside.mkdir(parents=True)
            self._images: BinaryIO = (self._aside / IMAGES).open("wb")
            self._labels: BinaryIO = (self._aside / LABELS).open("wb")
        self._tiles: list[dict[str, Any]] = []
        self._histograms: list[npt.NDArray[np.uint32]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self._images, self._labels):
            with suppress(OSError):  # a full disk refuses the last bytes again, and was told already
                stream.close()
        shutil.rmtree(self._aside, ignore_errors=True)

    def add(self, row: int, col: int, tile: Tile, shares: list[Share]) -> None:
        """Appends a tile whose first pixel is (row, col) of the scene, and the lakes in it."""
        self._images.write(tile.image.data)
        self._labels.write(tile.label.data)
        self._histograms.append(tile.histogram.astype(np.uint32))
        numbers = {"row": row, "col": col, "valid_px": tile.valid_px, "lake_px": tile.lake_px}
        self._tiles.append({**numbers, "xxh3": tile.xxh3, "shares": [list(share) for share in shares]})

    def close(self, bands: int) -> TilePart:
        """Finishes the part and renames it into place."""
        self._images.close()
        self._labels.close()
        held = np.array(self._histograms, np.uint32).reshape(len(self._tiles), bands, 256)
        held.tofile(self._aside / HISTOGRAMS)
        content = {"xxh3": _digest(self._tiles, held), "tiles": self._tiles}
        (self._aside / TILES).write_text(json.dumps(content), encoding="utf-8")
        os.replace(self._aside, self.folder)
        return TilePart(self.folder, self._tiles, held)


def part_name(scene: str, *decides: Any) -> str:
    """Name of a part: the scene's, as far as a file system takes it, and a hash of what decides the part's bytes."""
    digest = hashlib.sha256(canonical([scene, *decides])).hexdigest()[:20]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '_', scene)[:60]}-{digest}"


def write_survey(file: Path, survey: Survey) -> None:
    """Keeps a survey."""
    with writing(file), beside(file) as place, place.open("wb") as stream:
        few = survey.histogram.shape[1] > LEVELS  # most of so many codes are of no pixel
        (np.savez_compressed if few else np.savez)(stream, **asdict(survey))


def read_survey(file: Path) -> Survey | None:
    """A kept survey; None where there is none, or a damaged one."""
    try:
        with np.load(file) as found:  # a ZIP: every member carries a checksum
            return Survey(**{**found, "drawn_px": int(found["drawn_px"])})
    except DAMAGED:
        return None


@contextmanager
def writing(place: Path, after: str = KEPT) -> Iterator[None]:
    """Turns what a disk refuses into one sentence.

    Args:
        place: what is written
        after: what is left, and what the same command does then

    Raises:
        RunFailed: no room, or not to be written
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise RunFailed(
                f"no room for {place} ({error.strerror}): free some, or give a folder on another disk ({FOLDERS}); "
                f"{after}."
            ) from None
        if not error.strerror:  # GDAL's error has no number and refers to the one before it
            raise refused(place, error.__cause__ or error) from None
        raise RunFailed(f"{place} cannot be written: {error.strerror}; give another folder ({FOLDERS}).") from None


def refused(place: Path, reason: object) -> RunFailed:
    """What is said where GDAL cannot write and only its own words tell why."""
    return RunFailed(
        f"{place} cannot be written: {' '.join(str(reason).split())[:160]}; free some room, or give another folder "
        f"({FOLDERS})."
    )


def _digest(tiles: list[dict[str, Any]], histograms: npt.NDArray[np.uint32]) -> str:
    digest = xxhash.xxh3_64(canonical(tiles))
    digest.update(np.ascontiguousarray(histograms).data)
    return digest.hexdigest()
