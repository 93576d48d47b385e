"""The tile store: what is written is read, and what is damaged is refused."""

import errno
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from glidexp.data.store import COLUMNS, TileStore, opened
from glidexp.data.writer import StoreWriter
from glidexp.errors import DataError

MANIFEST = {"recipe": {"a": 1}, "recipe_id": "r", "split_hash": "s", "sensors": {}, "counts": {}, "dropped": {}}


def tiles(n: int = 6, px: int = 16) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.integers(0, 256, (px, px, 3)).astype(np.uint8), rng.choice([0, 1, 255], (px, px)).astype(np.uint8))
        for _ in range(n)
    ]


def write(path: Path, made: list[tuple[np.ndarray, np.ndarray]], **tables: list) -> TileStore:
    with StoreWriter(path, tile_px=16, bands=("red", "green", "blue")) as writer:
        for i, (image, label) in enumerate(made):
            writer.add(
                image,
                label,
                {
                    "tile": f"t{i}",
                    "scene": f"s{i % 2}",
                    "sensor": "sentinel2",
                    "region": "andes",
                    "gsd_m": float("nan") if i == 0 else 10.0,
                    "row": 16 * i,
                    "col": 0,
                    "block": "b",
                    "split": ("train", "val", "test")[i % 3],
                    "transform": None if i == 0 else [10.0, 0.0, 5.0, 0.0, -10.0, 7.0],
                    "crs": "" if i == 0 else "EPSG:32645",
                },
            )
        writer.close(MANIFEST, **tables)
    return TileStore.open(path)


def test_round_trip(tmp_path: Path) -> None:
    made = tiles()
    store = write(tmp_path / "store", made)
    assert store.images.shape == (6, 16, 16, 3) and store.labels.shape == (6, 16, 16)
    for i, (image, label) in enumerate(made):
        assert np.array_equal(store.images[i], image) and np.array_equal(store.labels[i], label)
        valid = label != 255
        assert store.index["lake_fraction"][i] == (label == 1).sum() / valid.sum()
        assert store.index["valid_fraction"][i] == valid.mean()
    assert tuple(store.index.columns) == COLUMNS
    assert store.index["transform"].tolist()[:2] == [None, [10.0, 0.0, 5.0, 0.0, -10.0, 7.0]]
    assert np.isnan(store.index["gsd_m"][0])
    assert store.rows("val").tolist() == [1, 4]
    assert (store.tile_px, store.channels, store.split_hash, len(store)) == (16, 3, "s", 6)
    store.verify()


def test_mean_and_std_are_those_of_valid_train_pixels(tmp_path: Path) -> None:
    made = tiles()
    store = write(tmp_path / "store", made)
    pixels = np.concatenate([made[i][0][made[i][1] != 255] for i in (0, 3)]).astype(np.float64)
    assert store.manifest["channel_mean"] == pytest.approx(pixels.mean(axis=0), abs=1e-5)
    assert store.manifest["channel_std"] == pytest.approx(pixels.std(axis=0), abs=1e-5)


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, tiles())
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("name", ["images.u8", "masks.u8"])
def test_one_flipped_bit_names_the_tile(tmp_path: Path, name: str) -> None:
    store = write(tmp_path / "store", tiles())
    size = 16 * 16 * (3 if name == "images.u8" else 1)
    content = bytearray((tmp_path / "store" / name).read_bytes())
    content[4 * size + 17] ^= 1
    (tmp_path / "store" / name).write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 6 tiles changed since it was built \(t4\)"):
        TileStore.open(store.path).verify()


def test_a_second_run_does_not_read_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(tmp_path / "store", tiles())
    store.verify()
    monkeypatch.setattr("glidexp.data.store.tile_hash", lambda *_: pytest.fail("read again"))
    TileStore.open(store.path).verify()
    monkeypatch.undo()
    content = bytearray((tmp_path / "store" / "images.u8").read_bytes())
    content[0] ^= 1
    (tmp_path / "store" / "images.u8").write_bytes(content)  # a later time of writing, so it is read again
    with pytest.raises(DataError, match=r"1 of 6 tiles changed"):
        TileStore.open(store.path).verify()


@pytest.mark.parametrize("name", ["images.u8", "masks.u8", "index.parquet", "manifest.json"])
@pytest.mark.parametrize("how", ["missing", "short"])
def test_half_a_store_is_refused(tmp_path: Path, name: str, how: str) -> None:
    store = write(tmp_path / "store", tiles())
    file = store.path / name
    content = file.read_bytes()
    file.unlink()
    if how == "short":
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"damaged|half-written") as caught:
        TileStore.open(store.path)
    assert "\n" not in str(caught.value) and "build it again" in str(caught.value)


def test_edited_manifest_foreign_folder_and_other_version_are_refused(tmp_path: Path) -> None:
    store = write(tmp_path / "store", tiles())
    file = store.path / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps(manifest | {"split_hash": "other"}))
    with pytest.raises(DataError, match="does not fit its sha256"):
        TileStore.open(store.path)
    file.write_text(json.dumps(manifest | {"version": 99}))
    with pytest.raises(DataError, match="store version 99, this program reads 1"):
        TileStore.open(store.path)
    file.write_text(json.dumps({"format": "zarr"}))
    with pytest.raises(DataError, match="not the manifest of a tile store"):
        TileStore.open(store.path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"is not a tile store \(no manifest.json\): give the folder of one\.$"):
        TileStore.open(tmp_path / "empty")
    with pytest.raises(DataError, match=rf"give one of those in it: {re.escape(str(store.path))}\.$") as caught:
        TileStore.open(tmp_path)
    assert "delete" not in str(caught.value), "a folder of many stores"
    with pytest.raises(DataError, match="is not a folder"):
        TileStore.open(tmp_path / "nowhere")


def test_a_store_is_known_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    for name in ("94e651b8", "94e6aaaa", "12345678", "khumbu", "khumbu_512"):
        write(tmp_path / "stores" / name, tiles(1))
    (tmp_path / "stores" / ".12345679.parts").mkdir()
    for named in ("12345678", "1234", str(tmp_path / "stores" / "12345678")):
        assert opened(named, tmp_path).path == tmp_path / "stores" / "12345678"
    assert opened("khumbu", tmp_path).path == tmp_path / "stores" / "khumbu", (
        "its whole name, with which another begins"
    )
    with pytest.raises(DataError, match=r"^2 stores begin with 94e6: 94e651b8, 94e6aaaa\. Give more characters\.$"):
        opened("94e6", tmp_path)
    with pytest.raises(DataError, match=r"^beef is not a folder and no store in .*/stores, which holds 12345678, 94e6"):
        opened("beef", tmp_path)
    with pytest.raises(DataError, match=r"^123 is not a folder and no store"):
        opened("123", tmp_path)


def test_a_writer_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The last bytes are refused again when the files are closed; what was written would keep the disk full."""

    def filled() -> None:
        with StoreWriter(tmp_path / "store", tile_px=16, bands=("red",)) as writer:
            writer._images.close()
            writer._images = open("/dev/full", "wb")  # noqa: SIM115
            writer._images.write(b"pixels")
            writer._images.flush()

    with pytest.raises(OSError, match="No space left"):
        filled()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), StoreWriter(tmp_path / "store", tile_px=16, bands=("red",)) as writer:
        writer.add(np.zeros((16, 16, 1), np.uint8), np.zeros((16, 16), np.uint8), {})
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_tiles_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="no tile was made"),
        StoreWriter(tmp_path / "store", tile_px=16, bands=("red",)) as writer,
    ):
        writer.close(MANIFEST)


def test_inventory_is_there_or_not_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    assert write(tmp_path / "old", tiles()).inventory is None
    row = {"scene": "s0", "lake": "l", "tile": "t0", "row": 1, "col": 2, "px": 3, "cut": True, "area_km2": 0.5}
    row |= {"glacier_distance_m": math.inf, "lake_type": "", "fate": "labelled"}
    store = write(tmp_path / "new", tiles(), inventory=[row])
    assert store.inventory is not None and store.inventory.to_dict("records") == [row]
    (tmp_path / "new" / "inventory.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"inventory.parquet is damaged"):
        _ = TileStore.open(tmp_path / "new").inventory
    empty = write(tmp_path / "empty", tiles(), inventory=[]).inventory
    assert empty is not None and len(empty) == 0


def test_distances_to_ice_are_there_or_not_and_changed_ones_are_refused(tmp_path: Path) -> None:
    old = write(tmp_path / "old", tiles(), inventory=[])
    assert old.ice is None
    row = {"scene": "s0", "buffer_m": 100.0, "step_px": 8, "across": 2, "distance_m": [0.0, 1.5, 2.0, 2.5]}
    store = write(tmp_path / "new", tiles(), inventory=[], ice=[row])
    assert store.ice is not None
    (kept,) = store.ice.to_dict("records")
    assert kept | {"distance_m": kept["distance_m"].tolist()} == row
    assert store.manifest["files"]["ice.parquet"] == (store.path / "ice.parquet").stat().st_size
    assert store.data_hash == old.data_hash
    (store.path / "ice.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"ice.parquet is damaged"):
        _ = TileStore.open(store.path).ice


def test_stores_of_the_same_pixels_keep_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As folds of one ground. Not those of other pixels, nor of a damaged store, nor where files cannot be linked."""
    made = tiles()

    def inodes(store: TileStore) -> list[int]:
        return [(store.path / name).stat().st_ino for name in ("images.u8", "masks.u8")]

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("[1]")
    first = write(tmp_path / "one", made)
    second = write(tmp_path / "two", made)
    assert inodes(first) == inodes(second)
    second.verify()
    assert sorted(path.name for path in second.path.iterdir()) == sorted(path.name for path in first.path.iterdir())
    assert not {*inodes(write(tmp_path / "unlike", made[:5]))} & {*inodes(first)}
    shutil.rmtree(first.path)
    assert np.array_equal(TileStore.open(second.path).images[3], made[3][0]), "the other one keeps its own"
    damaged = bytearray((second.path / "masks.u8").read_bytes())
    damaged[7] ^= 1
    (second.path / "masks.u8").write_bytes(damaged)
    third = write(tmp_path / "three", made)
    assert inodes(third)[0] == inodes(second)[0] and inodes(third)[1] != inodes(second)[1]
    third.verify()
    monkeypatch.setattr("glidexp.data.writer.os.link", refused)
    alone = write(tmp_path / "alone", made)
    assert not {*inodes(alone)} & {*inodes(third)}
    alone.verify()


def refused(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")
