"""Writes a tile store: tiles stream to flat files in a folder aside, then index and manifest, then it is renamed."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from glidexp.data.store import (
    COLUMNS,
    FORMAT,
    IMAGES,
    INDEX,
    INVALID,
    LABELS,
    LAKE,
    MANIFEST,
    SCHEMA,
    VERSION,
    canonical,
    data_hash,
    file_sha256,
    tile_hash,
)
from glidexp.errors import DataError


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
        _remove(self.folder)
        self.folder.mkdir(parents=True)
        self._images: BinaryIO = (self.folder / IMAGES).open("wb")
        self._labels: BinaryIO = (self.folder / LABELS).open("wb")
        self._records: list[dict[str, Any]] = []
        self._histogram = np.zeros((len(self.bands), 256), dtype=np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._images.close()
        self._labels.close()
        _remove(self.folder)

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
        px, channels = self.tile_px, len(self.bands)
        if image.shape != (px, px, channels) or label.shape != (px, px):
            raise DataError(f"tile {record['tile']}: image {image.shape} and label {label.shape} do not fit {px} px.")
        image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
        valid = label != INVALID
        n_valid = int(valid.sum())
        if record["split"] == "train":
            pixels = image[valid]
            for c in range(channels):
                self._histogram[c] += np.bincount(pixels[:, c], minlength=256)
        self._records.append(
            {
                **record,
                "lake_fraction": int((label == LAKE).sum()) / max(n_valid, 1),
                "valid_fraction": n_valid / (px * px),
                "xxh3": tile_hash(image, label),
            }
        )
        self._images.write(image.data)
        self._labels.write(label.data)

    def close(self, manifest: Mapping[str, Any]) -> None:
        """Writes index and manifest and renames the folder to its final name.

        Args:
            manifest: what the builder knows (recipe, recipe_id, split_hash, stretch, sensors, counts, dropped)

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
        full["manifest_sha256"] = hashlib.sha256(canonical(full)).hexdigest()
        text = json.dumps(full, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (self.folder / MANIFEST).write_text(text, encoding="utf-8")
        os.replace(self.folder, self.path)


def _moments(histogram: npt.NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation a channel from (C, 256) counts; 0 and 1 where there is no pixel."""
    values = np.arange(256, dtype=np.float64)
    total = histogram.sum(axis=1)
    if not total.all():
        return [0.0] * len(histogram), [1.0] * len(histogram)
    mean = histogram @ values / total
    std = np.sqrt(np.maximum(histogram @ values**2 / total - mean**2, 0.0))
    return [round(float(m), 6) for m in mean], [round(float(max(s, 1e-3)), 6) for s in std]


def _remove(folder: Path) -> None:
    """Removes a flat folder of files, if it is there."""
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
