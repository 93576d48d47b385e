"""Writes a tile store: tiles stream to flat files in a folder aside, then index and manifest, then it is renamed."""

import filecmp
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from glidexp.beside import file_sha256
from glidexp.data.band_statistics import mean_and_spread
from glidexp.data.steps import untold
from glidexp.data.store import (
    COLUMNS,
    FORMAT,
    ICE,
    ICE_SCHEMA,
    IMAGES,
    INDEX,
    INVALID,
    INVENTORY,
    INVENTORY_SCHEMA,
    LABELS,
    LAKE,
    MANIFEST,
    SCHEMA,
    VERSION,
    canonical,
    data_hash,
    sha_key,
    tile_hash,
)
from glidexp.errors import DataError

Steps = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""for a number of steps a context with the function to call after each"""


class StoreWriter:
    """Writes tiles one after the other into a new folder; `close` adds index and manifest and renames it into place.

    Use as a context manager: leaving it without `close` removes what was written.
    """

    def __init__(self, path: Path, *, tile_px: int, bands: Sequence[str]) -> None:
        """Starts a store beside `path`, which must not exist yet.

        Args:
            path: final folder
            tile_px: side of a tile
            bands: names of the channels, in their order
        """
        self.path, self.tile_px, self.bands = path, tile_px, list(bands)
        self.folder = path.with_name(f".{path.name}.{os.getpid()}.partial")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._images: BinaryIO = (self.folder / IMAGES).open("w+b")
        self._labels: BinaryIO = (self.folder / LABELS).open("w+b")
        self._records: list[dict[str, Any]] = []
        self._histogram = np.zeros((len(self.bands), 256), dtype=np.int64)
        self._open: dict[int, npt.NDArray[np.int32]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for stream in (self._images, self._labels):
            with suppress(OSError):  # a full disk refuses the last bytes again, and was told already
                stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What the index will hold so far, a dict a tile."""
        return self._records

    def add(self, image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], record: Mapping[str, Any]) -> None:
        """Appends a tile.

        Args:
            image: (H, W, C) uint8
            label: (H, W) uint8 of 0, 1, 255
            record: the columns of the index that the pixels do not give (all but fractions and hash)
        """
        self.append(measured(image, label), record)

    def append(self, tile: "Tile", record: Mapping[str, Any], *, group: int | None = None) -> None:
        """Appends a tile that was measured already, perhaps by another thread.

        Args:
            tile: pixels and what they give
            record: the other columns of the index
            group: tiles of a group get their side at the end, by `settle`; None: `record` has it
        """
        px, channels = self.tile_px, len(self.bands)
        if tile.image.shape != (px, px, channels) or tile.label.shape != (px, px):
            raise DataError(
                f"tile {record['tile']}: image {tile.image.shape} and label {tile.label.shape} do not fit {px} px."
            )
        if group is not None:
            held = self._open.setdefault(group, np.zeros((channels, 256), dtype=np.int32))
            held += tile.histogram.astype(np.int32)
        elif record["split"] == "train":
            self._histogram += tile.histogram
        self._note(record, tile.valid_px, tile.lake_px, tile.xxh3, group)
        self._images.write(tile.image.data)
        self._labels.write(tile.label.data)

    def adopt(
        self,
        folder: Path,
        tiles: Sequence[Mapping[str, Any]],
        histograms: npt.NDArray[np.uint32],
        records: Sequence[Mapping[str, Any]],
        *,
        alone: bool = False,
    ) -> None:
        """Appends tiles that lie in a folder, as the files of a store hold them.

        Args:
            folder: holds the two flat files
            tiles: valid_px, lake_px and xxh3 of each tile
            histograms: (tiles, C, 256) of the valid pixels
            records: the other columns of the index
            alone: the store is to hold nothing else, so that its files may be those of the folder
        """
        self._images = _taken(folder / IMAGES, self._images, alone)
        self._labels = _taken(folder / LABELS, self._labels, alone)
        for tile, counts, record in zip(tiles, histograms, records, strict=True):
            if record["split"] == "train":
                self._histogram += counts
            self._note(record, tile["valid_px"], tile["lake_px"], tile["xxh3"], None)

    def _note(self, record: Mapping[str, Any], valid_px: int, lake_px: int, xxh3: str, group: int | None) -> None:
        fractions = {"lake_fraction": lake_px / max(valid_px, 1), "valid_fraction": valid_px / self.tile_px**2}
        self._records.append({**record, **fractions, "xxh3": xxh3, "group": group})

    def settle(self, places: Mapping[int, tuple[str, str] | None], steps: Steps | None = None) -> None:
        """Gives each group its unit and side. Tiles of a group without a place are taken out again.

        Args:
            places: (unit, side) of every group, or None
            steps: gives, for a number of moves, a context with the function to call after each: all that lies behind
                such a tile moves up, of GLID nearly all of 19 GB
        """
        kept = [row for row, r in enumerate(self._records) if r["group"] is None or places[r["group"]]]
        if len(kept) < len(self._records):
            px = self.tile_px**2
            with nullcontext(untold) if steps is None else steps(2 * len(kept)) as step:
                for stream, size in ((self._images, px * len(self.bands)), (self._labels, px)):
                    _compact(stream, kept, size, step)
        self._records = [self._records[row] for row in kept]
        for record in self._records:
            place = None if record["group"] is None else places[record["group"]]
            if place:
                record["block"], record["split"] = place
        for group, held in self._open.items():
            place = places[group]
            if place and place[1] == "train":
                self._histogram += held
        self._open.clear()

    def close(
        self,
        manifest: Mapping[str, Any],
        inventory: Sequence[Mapping[str, Any]] | None = None,
        ice: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Writes index, inventory, distances to ice and manifest and renames the folder to its final name.

        Args:
            manifest: what the builder knows (recipe, recipe_id, split_hash, stretch, sensors, counts, dropped)
            inventory: rows of `INVENTORY_SCHEMA`; None where the tiles come from no inventory
            ice: rows of `ICE_SCHEMA`; None where lakes were kept at any distance from ice

        Raises:
            DataError: no tile was added
        """
        if not self._records:
            raise DataError(f"{self.path}: no tile was made, so there is nothing to store.")
        for stream in (self._images, self._labels):
            stream.flush()
            os.fsync(stream.fileno())
            stream.close()
        names = [r["tile"] for r in self._records]
        if len(set(names)) != len(names):
            raise DataError(f"{self.path}: two tiles carry one name; scenes need names of their own.")
        columns = {name: [r[name] for r in self._records] for name in COLUMNS}
        pq.write_table(pa.table(columns, schema=SCHEMA), self.folder / INDEX, compression="zstd")
        mean, std = _moments(self._histogram)
        full = {
            **manifest,
            "format": FORMAT,
            "version": VERSION,
            "tiles": len(self._records),
            "tile_px": self.tile_px,
            "channels": len(self.bands),
            "bands": self.bands,
            "data_hash": data_hash([r["xxh3"] for r in self._records]),
            "channel_mean": mean,
            "channel_std": std,
            "files": {name: (self.folder / name).stat().st_size for name in (IMAGES, LABELS, INDEX)},
            "index_sha256": file_sha256(self.folder / INDEX),
        }
        for name, schema, rows in ((INVENTORY, INVENTORY_SCHEMA, inventory), (ICE, ICE_SCHEMA, ice)):
            if rows is not None:
                pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), self.folder / name, compression="zstd")
                full["files"][name] = (self.folder / name).stat().st_size
                full[sha_key(name)] = file_sha256(self.folder / name)
        full["manifest_sha256"] = hashlib.sha256(canonical(full)).hexdigest()
        text = json.dumps(full, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self.folder / MANIFEST).write_text(text, encoding="utf-8")
        self._share(full)
        os.replace(self.folder, self.path)

    def _share(self, manifest: Mapping[str, Any]) -> None:
        """Keeps pixels once on disk that a store beside this one has, too: folds of one ground differ in sides alone.

        A file system without hard links keeps them twice.
        """
        for other in sorted(self.path.parent.glob(f"[!.]*/{MANIFEST}")):
            with suppress(OSError, ValueError, KeyError, TypeError):  # whatever lies there
                theirs = json.loads(other.read_text(encoding="utf-8"))
                if theirs["data_hash"] != manifest["data_hash"]:
                    continue
                for name in (IMAGES, LABELS):
                    if filecmp.cmp(other.with_name(name), self.folder / name, shallow=False):
                        linked = self.folder / f"{name}.linked"
                        os.link(other.with_name(name), linked)
                        os.replace(linked, self.folder / name)
                return


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile as it is stored, and what its pixels give."""

    image: npt.NDArray[np.uint8]
    """(H, W, C), contiguous"""
    label: npt.NDArray[np.uint8]
    """(H, W) of 0, 1, 255, contiguous"""
    valid_px: int
    lake_px: int
    histogram: npt.NDArray[np.int64]
    """(C, 256) of the valid pixels"""
    xxh3: str


def measured(image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> Tile:
    """What the pixels of a tile give.

    Args:
        image: (H, W, C) uint8
        label: (H, W) uint8 of 0, 1, 255
    """
    image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
    valid_px = label.size - int(np.count_nonzero(label == INVALID))
    lake_px = int(np.count_nonzero(label == LAKE))
    # Pillow counts in C and lets other threads work meanwhile
    if valid_px == label.size and image.shape[2] == 3:
        histogram = np.asarray(Image.fromarray(image).histogram(), dtype=np.int64).reshape(3, 256)
    else:
        pixels = image if valid_px == label.size else image[label != INVALID]
        bands = pixels.reshape(-1, image.shape[2])
        histogram = np.stack([np.bincount(bands[:, c], minlength=256) for c in range(image.shape[2])])
    return Tile(image, label, valid_px, lake_px, histogram, tile_hash(image, label))


def _taken(source: Path, stream: BinaryIO, alone: bool) -> BinaryIO:
    """The stream with a file's bytes behind its own; where it is empty and stays so, a second name of that file."""
    if alone and stream.tell() == 0:
        place = Path(stream.name)
        stream.close()
        place.unlink()
        with suppress(OSError):  # not every file system has second names
            os.link(source, place)
        stream = place.open("a+b")
        if os.fstat(stream.fileno()).st_size:
            return stream
    with source.open("rb") as whole:
        shutil.copyfileobj(whole, stream, 4 << 20)
    return stream


def _compact(stream: BinaryIO, kept: Sequence[int], size: int, step: Callable[[str], None]) -> None:
    """Moves the kept records of a file, `size` bytes each, to its front and cuts off the rest."""
    stream.flush()
    handle = stream.fileno()
    for to, row in enumerate(kept):
        if to != row:
            os.pwrite(handle, os.pread(handle, size, row * size), to * size)
        step("")
    stream.truncate(len(kept) * size)
    stream.seek(0, os.SEEK_END)


def _moments(histogram: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation a channel from (C, 256) counts; 0 and 1 where there is no pixel."""
    if not histogram.sum(axis=1).all():
        return [0.0] * len(histogram), [1.0] * len(histogram)
    mean, std = mean_and_spread(histogram)
    return [round(float(m), 6) for m in mean], [round(float(max(s, 1e-3)), 6) for s in std]
