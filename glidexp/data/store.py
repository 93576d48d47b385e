"""The tile store: one flat uint8 file of images, one of labels, an index and a manifest, mapped into memory.

A store is a folder with
  images.u8      (N, H, W, C) uint8, rows one after the other, no header
  masks.u8       (N, H, W) uint8: 0 background, 1 lake, 255 not valid (no data, padding; ignored in loss and scores);
                 in a store of land cover the place of the class in the manifest's `classes`
  index.parquet  a row a tile, in the order of the two files (columns: `COLUMNS`)
  inventory.parquet  lakes of the inventory in the scenes (columns: `INVENTORY_SCHEMA`); not there where the tiles come
                 from no inventory, and in stores that were built before it was kept
  ice.parquet    how far the ground of the scenes is from glaciers (columns: `ICE_SCHEMA`); not there where lakes were
                 kept at any distance, and in stores that were built before it was kept
  manifest.json  how it was made, sha256 of the index and of itself; written last: where it is missing, half-written

`open` checks what is cheap (milliseconds), `verify` reads every byte.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from glidexp.beside import file_sha256
from glidexp.config.data import TERRAIN
from glidexp.data.steps import shown_steps
from glidexp.errors import DataError
from glidexp.wording import many

FORMAT = "glidexp-tiles"
VERSION = 1
BACKGROUND, LAKE, INVALID = 0, 1, 255
SPLITS = ("train", "val", "test")
IMAGES, LABELS, INDEX, MANIFEST = "images.u8", "masks.u8", "index.parquet", "manifest.json"
INVENTORY, ICE = "inventory.parquet", "ice.parquet"
SHOWN = 3
"""stores that are named where a folder of stores was given"""
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
INVENTORY_SCHEMA = pa.schema(
    [
        ("scene", pa.string()),
        ("lake", pa.string()),  # its id in the inventory, or the number of the feature
        ("tile", pa.string()),  # a row a lake and tile; "" for a lake that is in no tile
        ("row", pa.int64()),  # of one of its pixels, in the scene; in the tile where there is one
        ("col", pa.int64()),
        ("px", pa.int64()),  # labelled pixels in the tile
        ("cut", pa.bool_()),  # the outline goes on beyond the edge of the tile, or of the scene
        ("area_km2", pa.float64()),  # of the whole polygon
        ("glacier_distance_m", pa.float64()),  # 0 at ice, infinite where none is near, NaN where no glaciers were given
        ("lake_type", pa.string()),  # "" where not known
        ("fate", pa.string()),  # labelled, or why it was dropped: far_from_ice, too_small
    ]
)
ICE_SCHEMA = pa.schema(
    [
        ("scene", pa.string()),
        ("buffer_m", pa.float64()),  # lakes farther from ice were left out
        ("step_px", pa.int64()),  # distances are of pixel corners, every so many, from the scene's upper left one
        ("across", pa.int64()),  # of these, how many lie in a row
        ("distance_m", pa.list_(pa.float32())),  # row by row; what is farther than was looked for is cut down to that
    ]
)


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


_verified: dict[Path, tuple[int, ...]] = {}
"""stores that were read through by this process, and the times at which their files were last written"""


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
    def open(cls, path: Path | str, *, classes: bool | None = False) -> Self:
        """Opens a store after checking its manifest, its index and the size of its files.

        Args:
            path: its folder
            classes: whether labels are to be land cover of several classes, and not lakes; None takes either

        Raises:
            DataError: not a store, written by another version, half-written or damaged; labels of the other kind
        """
        path = Path(path)
        manifest = _read_manifest(path)
        if classes is not None and bool(manifest.get("classes")) != classes:
            held, way = ("lakes", "without dataset.classes") if classes else ("land cover", "for training an encoder")
            raise DataError(f"{path} holds labels of {held}: it can be used {way} only. Give another data set.")
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
    def every(self) -> npt.NDArray[np.int64]:
        """All rows, ascending."""
        return np.arange(len(self), dtype=np.int64)

    @property
    def tile_px(self) -> int:
        return int(self.manifest["tile_px"])

    @property
    def channels(self) -> int:
        return int(self.manifest["channels"])

    @property
    def bands(self) -> list[str]:
        """Names of the bands in the order of the channels, lower case."""
        return [str(band).lower() for band in self.manifest["bands"]]

    @property
    def terrain(self) -> list[str]:
        """Bands that come of a DEM, the last of all; none where a band of that name is the scenes' own."""
        return [band for band in self.bands if band in TERRAIN and "dem" in self.manifest.get("recipe", {})]

    @property
    def classes(self) -> list[str]:
        """Names of the classes of land cover, in the order of their labels; none where labels are lakes."""
        return [str(name) for name in self.manifest.get("classes", [])]

    @property
    def split_hash(self) -> str:
        return str(self.manifest["split_hash"])

    @property
    def data_hash(self) -> str:
        return str(self.manifest["data_hash"])

    @property
    def inventory(self) -> pd.DataFrame | None:
        """Lakes of the inventory, columns of `INVENTORY_SCHEMA`; None where the store has none.

        Raises:
            DataError: the file is missing or was changed
        """
        return self._kept(INVENTORY)

    @property
    def ice(self) -> pd.DataFrame | None:
        """Distances of the ground to ice, a row a scene, columns of `ICE_SCHEMA`; None where the store has none.

        Raises:
            DataError: the file is missing or was changed
        """
        return self._kept(ICE)

    def _kept(self, name: str) -> pd.DataFrame | None:
        if (key := sha_key(name)) not in self.manifest:
            return None
        file = self.path / name
        if not file.is_file() or file_sha256(file) != self.manifest[key]:
            raise DataError(_damaged(file, "its content does not fit the manifest"))
        return pq.read_table(file).to_pandas()

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """Rows of one split, ascending."""
        if split not in SPLITS:
            raise DataError(f"split='{split}' is not one of {', '.join(SPLITS)}.")
        return np.flatnonzero((self.index["split"] == split).to_numpy()).astype(np.int64)

    def verify(self, *, progress: bool = True) -> None:
        """Reads every tile and compares it with its hash: once a process, while the files stay as they are.

        Args:
            progress: show how far it is; all of GLID is 19 GB, minutes on a slow disk

        Raises:
            DataError: names the first damaged tiles
        """
        stand = tuple((self.path / name).stat().st_mtime_ns for name in (IMAGES, LABELS, INDEX, MANIFEST))
        if _verified.get(self.path.resolve()) == stand:  # many runs of a sweep share a store
            return
        names, hashes = self.index["tile"].tolist(), self.index["xxh3"].tolist()
        bad = []
        with shown_steps(len(names), "tiles", progress, what="checking the store", late=True) as step:
            for i, name in enumerate(names):
                if tile_hash(self.images[i], self.labels[i]) != hashes[i]:
                    bad.append(name)
                step("")
        if bad:
            first = ", ".join(bad[:5]) + (" ..." if len(bad) > 5 else "")
            raise DataError(
                _damaged(self.path, f"{len(bad)} of {many(len(names), 'tile')} changed since it was built ({first})")
            )
        _verified[self.path.resolve()] = stand


def opened(named: str, data_dir: Path) -> TileStore:
    """Opens a store by its folder, or by its id below `data_dir`/stores, of which the first four characters or more do.

    Raises:
        DataError: as `TileStore.open`; none of that name, or several
    """
    if Path(named).is_dir() or "/" in named:
        return TileStore.open(Path(named))
    known = sorted(place.parent for place in (data_dir / "stores").glob(f"[!.]*/{MANIFEST}"))
    own = data_dir / "stores" / named  # in a folder of stores with names of their own one may begin with another's
    meant = [own] if own in known else [place for place in known if len(named) > 3 and place.name.startswith(named)]
    if len(meant) == 1:
        return TileStore.open(meant[0])
    there = ", ".join(place.name for place in (meant or known)[:SHOWN]) + " ..." * (len(meant or known) > SHOWN)
    if meant:
        raise DataError(f"{len(meant)} stores begin with {named}: {there}. Give more characters.")
    raise DataError(
        f"{named} is not a folder and no store in {data_dir / 'stores'}, which holds {there or 'none'}: give the "
        "folder of a tile store, or an id of these (--data names another folder)."
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise DataError(
            f"{path} is not a folder: give the folder of a tile store, which a run makes under paths.data/stores."
        )
    file = path / MANIFEST
    if not file.is_file():
        if (path / IMAGES).is_file():
            raise DataError(f"{path} is half-written (its manifest is missing): delete the folder and build it again.")
        inside = sorted(str(found.parent) for found in path.glob(f"*/{MANIFEST}"))
        which = f"give one of those in it: {', '.join(inside[:SHOWN])}" if inside else "give the folder of one"
        raise DataError(f"{path} is not a tile store (no {MANIFEST}): {which}{' ...' * (len(inside) > SHOWN)}.")
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
    if not file.is_file() or file_sha256(file) != manifest["index_sha256"]:
        raise DataError(_damaged(file, "its content does not fit the manifest"))
    table = pq.read_table(file)
    transforms = table.column("transform").to_pylist()
    index = table.drop_columns(["transform"]).to_pandas()
    index.insert(COLUMNS.index("transform"), "transform", pd.Series(transforms, dtype=object))
    if len(index) != manifest["tiles"] or data_hash(index["xxh3"].tolist()) != manifest["data_hash"]:
        raise DataError(_damaged(file, "its tiles are not those of the manifest"))
    return index


def sha_key(name: str) -> str:
    """Where the manifest has the sha256 of a table, by the name of its file."""
    return f"{Path(name).stem}_sha256"


def _damaged(place: Path, what: str) -> str:
    return f"{place} is damaged: {what}; delete the store's folder and build it again."
