"""The tile store: one flat uint8 file of images, one of labels, an index and a manifest, mapped into memory.

A store is a folder with
  images.u8      (N, H, W, C) uint8, rows one after the other, no header
  masks.u8       (N, H, W) uint8: 0 background, 1 lake, 255 not valid (no data, padding; ignored in loss and scores)
  index.parquet  a row a tile, in the order of the two files (columns: `COLUMNS`)
  manifest.json  how it was made, sha256 of the index and of itself; written last: where it is missing, half-written

`open` checks what is cheap (milliseconds), `verify` reads every byte.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from glidexp.errors import DataError

FORMAT = "glidexp-tiles"
VERSION = 1
BACKGROUND, LAKE, INVALID = 0, 1, 255
SPLITS = ("train", "val", "test")
IMAGES, LABELS, INDEX, MANIFEST = "images.u8", "masks.u8", "index.parquet", "manifest.json"
SCHEMA = pa.schema(
    [
        ("tile", pa.string()),  # unique within the store
        ("scene", pa.string()),
        ("sensor", pa.string()),
        ("region", pa.string()),
        ("gsd_m", pa.float64()),  # NaN where unknown
        ("row", pa.int64()),  # pixel offset in the scene, -1 where unknown
        ("col", pa.int64()),
        ("lake_fraction", pa.float64()),  # of the valid pixels
        ("valid_fraction", pa.float64()),  # of all pixels
        ("block", pa.string()),  # unit of the split the tile belongs to: scene group, spatial block, tile group
        ("split", pa.string()),
        ("transform", pa.list_(pa.float64())),  # affine a, b, c, d, e, f of the tile, null where unknown
        ("crs", pa.string()),  # EPSG code or WKT, "" where unknown
        ("xxh3", pa.string()),  # xxh3_64 of image bytes followed by label bytes
    ]
)
COLUMNS = tuple(SCHEMA.names)


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, no NaN. What every hash of this package is taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def data_hash(tile_hashes: Sequence[str]) -> str:
    """sha256 over the tiles' hashes in row order: names the pixels and labels of a whole store."""
    return hashlib.sha256("\n".join(tile_hashes).encode()).hexdigest()


def tile_hash(image: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> str:
    """xxh3_64 of a tile.

    Args:
        image: (H, W, C), contiguous
        label: (H, W), contiguous
    """
    digest = xxhash.xxh3_64(image.data)
    digest.update(label.data)
    return digest.hexdigest()


@dataclass(slots=True)
class TileStore:
    """An opened store. Arrays are read-only views of the files; nothing is read before it is touched."""

    path: Path
    index: pd.DataFrame
    images: npt.NDArray[np.uint8]
    """(N, H, W, C)"""
    labels: npt.NDArray[np.uint8]
    """(N, H, W)"""
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Opens a store after checking its manifest, its index and the size of its files.

        Raises:
            DataError: not a store, written by another version, half-written or damaged
        """
        path = Path(path)
        manifest = _read_manifest(path)
        n, px, channels = manifest["tiles"], manifest["tile_px"], manifest["channels"]
        for name, size in ((IMAGES, n * px * px * channels), (LABELS, n * px * px)):
            found = (path / name).stat().st_size if (path / name).is_file() else -1
            if found != size:
                raise DataError(_damaged(path / name, f"{max(found, 0)} bytes where {size} belong"))
        index = _read_index(path, manifest)
        images = np.memmap(path / IMAGES, dtype=np.uint8, mode="r", shape=(n, px, px, channels))
        labels = np.memmap(path / LABELS, dtype=np.uint8, mode="r", shape=(n, px, px))
        return cls(path=path, index=index, images=images, labels=labels, manifest=manifest)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def tile_px(self) -> int:
        return int(self.manifest["tile_px"])

    @property
    def channels(self) -> int:
        return int(self.manifest["channels"])

    @property
    def split_hash(self) -> str:
        return str(self.manifest["split_hash"])

    @property
    def data_hash(self) -> str:
        return str(self.manifest["data_hash"])

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """Rows of one split, ascending."""
        if split not in SPLITS:
            raise DataError(f"split='{split}' is not one of {', '.join(SPLITS)}.")
        return np.flatnonzero((self.index["split"] == split).to_numpy()).astype(np.int64)

    def verify(self) -> None:
        """Reads every tile and compares it with its hash.

        Raises:
            DataError: names the first damaged tiles
        """
        names, hashes = self.index["tile"].tolist(), self.index["xxh3"].tolist()
        bad = [names[i] for i in range(len(names)) if tile_hash(self.images[i], self.labels[i]) != hashes[i]]
        if bad:
            first = ", ".join(bad[:5]) + (" ..." if len(bad) > 5 else "")
            raise DataError(
                _damaged(self.path, f"{len(bad)} of {len(names)} tiles changed since it was built ({first})")
            )


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
            "index_sha256": _sha256(self.folder / INDEX),
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


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: give the folder of a tile store, or let `glidexp data` build one.")
    file = path / MANIFEST
    if not file.is_file():
        half = (path / IMAGES).is_file()
        what = "is half-written (its manifest is missing)" if half else f"is not a tile store (no {MANIFEST})"
        raise DataError(f"{path} {what}: delete the folder and build it again.")
    try:
        manifest = json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(_damaged(file, f"it is not JSON, {error}")) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(
            f"{file} is not the manifest of a tile store (format '{FORMAT}' expected): give another folder."
        )
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{path} has store version {manifest.get('version')}, this program reads {VERSION}: build it again."
        )
    stated = manifest.get("manifest_sha256")
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    if hashlib.sha256(canonical(rest)).hexdigest() != stated:
        raise DataError(_damaged(file, "its content does not fit its sha256"))
    return manifest


def _read_index(path: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    file = path / INDEX
    if not file.is_file() or _sha256(file) != manifest["index_sha256"]:
        raise DataError(_damaged(file, "its content does not fit the manifest"))
    table = pq.read_table(file)
    transforms = table.column("transform").to_pylist()
    index = table.drop_columns(["transform"]).to_pandas()
    index.insert(COLUMNS.index("transform"), "transform", pd.Series(transforms, dtype=object))
    if len(index) != manifest["tiles"] or data_hash(index["xxh3"].tolist()) != manifest["data_hash"]:
        raise DataError(_damaged(file, "its tiles are not those of the manifest"))
    return index


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damaged(place: Path, what: str) -> str:
    return f"{place} is damaged: {what}; delete the store's folder and build it again."


def _remove(folder: Path) -> None:
    """Removes a flat folder of files, if it is there."""
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
