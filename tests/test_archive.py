"""Ready tiles: pairs, labels, leakage groups, the published layout, tables of origin."""

import errno
import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from PIL import Image
from test_near import KINDS, texture
from tiny_scenes import WEST, lake, write_scene

from glidexp.config import DatasetConfig, DatasetKind, SplitBy, SplitConfig
from glidexp.data import prepare as prepare_module
from glidexp.data import splits
from glidexp.data.check import duplicates
from glidexp.data.prepare import declared_sensors, prepare, recipe_id
from glidexp.data.ready import archive
from glidexp.data.ready.pairs import Pair, find_pairs
from glidexp.data.ready.pictures import read_image, read_label, read_pair
from glidexp.data.writer import StoreWriter
from glidexp.errors import ConfigError, DataError, RunFailed

PX = 64


def picture(seed: int) -> np.ndarray:
    """Land-like: smooth, with contrast, unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((PX, PX), Image.Resampling.BICUBIC))


def label(seed: int) -> np.ndarray:
    mask = np.zeros((PX, PX), np.uint8)
    row, col = np.random.default_rng(seed).integers(5, 30, 2)
    mask[row : row + 20, col : col + 15] = 255
    return mask


def write_pairs(root: Path, numbers: range, seeds: list[int] | None = None) -> Path:
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for number, seed in zip(numbers, seeds or list(numbers), strict=True):
        Image.fromarray(picture(seed)).save(root / "images" / f"{number}.png")
        Image.fromarray(label(seed)).save(root / "labels" / f"{number}.png")
    return root


def folder(root: Path, **settings) -> DatasetConfig:
    return DatasetConfig(**({"kind": DatasetKind.folder, "root": str(root)} | settings))


def test_folder_keeps_every_tile_as_it_is(tmp_path: Path) -> None:
    write_pairs(tmp_path / "tiles", range(1, 31))
    Image.fromarray(np.zeros((PX, PX), np.uint8)).save(tmp_path / "tiles" / "labels" / "30.png")
    store = prepare(folder(tmp_path / "tiles", sensor="sentinel2"), PX, tmp_path / "data", progress=False)
    assert store.index["tile"].tolist() == [str(n) for n in range(1, 31)]
    for i in range(29):
        assert np.array_equal(store.images[i], picture(i + 1))
        assert np.array_equal(store.labels[i], label(i + 1) // 255)
    assert store.index["lake_fraction"][29] == 0  # a published tile without lake stays
    assert set(store.index["scene"]) == {"unknown"} and set(store.index["crs"]) == {""}
    assert set(store.index["gsd_m"]) == {10.0} and set(store.index["row"]) == {-1}
    assert {s: len(store.rows(s)) for s in ("train", "val", "test")} == {"train": 19, "val": 5, "test": 6}


def test_names_that_are_no_running_numbers_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SCENE_ROW_COL, as most programs cut: by their last number no two are neighbours, and each goes where it likes."""
    names = [f"s{scene}_{row}_{col}" for scene in range(6) for row in range(0, 256, PX) for col in range(0, 256, PX)]
    for part, content in (("images", picture), ("labels", label)):
        (tmp_path / "tiles" / part).mkdir(parents=True)
        for seed, name in enumerate(names):
            Image.fromarray(content(seed)).save(tmp_path / "tiles" / part / f"{name}.png")
    dataset = folder(tmp_path / "tiles")
    with caplog.at_level("WARNING", "glidexp"):
        prepare(dataset, PX, tmp_path / "data", progress=False)
    assert "96 of 96 tiles of no known scene are shared out one by one, since their names (s0_0_0" in caplog.text
    caplog.clear()
    rules = {"images": "images/{scene}_{id}.*", "labels": "labels/{scene}_{id}.*"}
    with caplog.at_level("WARNING", "glidexp"):
        store = prepare(replace(dataset, **rules), PX, tmp_path / "data", progress=False)
    assert not caplog.text and store.index.groupby("scene")["split"].nunique().tolist() == [1] * 6


def test_smaller_tiles_are_cut_on_the_same_side(tmp_path: Path) -> None:
    dataset = folder(write_pairs(tmp_path / "tiles", range(1, 31)))
    whole = prepare(dataset, PX, tmp_path / "data", progress=False)
    cut = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert cut.split_hash == whole.split_hash
    side = dict(zip(whole.index["tile"], whole.index["split"], strict=True))
    assert all(side[tile.split("_")[0]] == s for tile, s in zip(cut.index["tile"], cut.index["split"], strict=True))
    assert (cut.index["lake_fraction"] > 0).all()
    assert int((np.asarray(cut.labels) == 1).sum()) == int((np.asarray(whole.labels) == 1).sum())
    with pytest.raises(DataError, match=r"64 x 64 px, smaller than tile_size\.px=128: choose 64 or less"):
        prepare(dataset, 128, tmp_path / "data", progress=False)


def test_copies_of_a_tile_share_a_side(tmp_path: Path) -> None:
    """12 pictures in their 8 flips and turns and a lossy copy, shuffled over the numbers."""
    root = tmp_path / "tiles"
    write_pairs(root, range(1, 2), [0])
    rng = np.random.default_rng(0)
    copies = [(seed, k) for seed in range(12) for k in range(9)]
    order = rng.permutation(len(copies))
    owner = {}
    for number, which in enumerate(order.tolist(), start=1):
        seed, k = copies[which]
        owner[str(number)] = seed
        pixels = picture(seed)
        if k < 8:
            pixels = np.rot90(pixels if k < 4 else pixels.transpose(1, 0, 2), k % 4)
            Image.fromarray(np.ascontiguousarray(pixels)).save(root / "images" / f"{number}.png")
        else:
            Image.fromarray(pixels).save(tmp_path / "lossy.jpg", quality=95)
            Image.open(tmp_path / "lossy.jpg").save(root / "images" / f"{number}.png")
        Image.fromarray(label(seed)).save(root / "labels" / f"{number}.png")
    looks = [duplicates.look(read_image(pair.image).image) for pair in find_pairs(root)]
    names = [pair.name for pair in find_pairs(root)]
    pairs = duplicates.same_ground(looks)
    assert all(owner[names[a]] == owner[names[b]] for a, b in pairs)
    # 8 copies each are always found; a lossy one may miss by a bit
    assert len(pairs) >= 12 * 7


def test_tiles_without_texture_are_no_copies_of_others_and_copies_of_the_rest_are_found() -> None:
    """Half-empty and nearly white tiles of other ground have small pictures alike: they were put on one side."""
    rng = np.random.default_rng(5)
    ground = [texture(rng, 128, *KINDS[i % 4]) for i in range(160)]

    def pale(image: np.ndarray) -> np.ndarray:
        return np.clip(np.round(250 + (image - image.mean()) * 0.05), 0, 255).astype(np.uint8)

    def half(image: np.ndarray, empty: int) -> np.ndarray:
        return np.where(np.arange(128)[:, None] < empty, 0, image).astype(np.uint8)

    def lossy(image: np.ndarray) -> np.ndarray:
        Image.fromarray(image).save(file := io.BytesIO(), "JPEG", quality=90)
        return np.asarray(Image.open(file))

    empty = [half(image, 56 + 4 * (i % 3)) for i, image in enumerate(ground)]
    white = [half(pale(image), 64) for image in ground]
    for tiles, false in ((ground, 0), (empty, 1), (white, 100)):
        assert len(duplicates.same_ground([duplicates.look(image) for image in tiles])) >= false
        looks = [duplicates.look(image, grain=True) for image in tiles]
        assert duplicates.same_ground(looks) == []
        for change in (lambda image: np.rot90(image, 2), lambda image: image.transpose(1, 0, 2), lossy, brighter):
            found, there = 0, 0
            for image, look in zip(tiles, looks, strict=True):
                other = np.ascontiguousarray(change(image))
                if not look.flat and duplicates.same_ground([duplicates.look(image), duplicates.look(other)]):
                    there += 1
                    found += len(duplicates.same_ground([look, duplicates.look(other, grain=True)]))
            assert there > (20 if tiles is white else 80) and found >= (0.9 if tiles is white else 1) * there


def brighter(image: np.ndarray) -> np.ndarray:
    return np.where(image, np.minimum(image.astype(int) * 1.01 + 1, 255), 0).astype(np.uint8)


def test_the_published_set_keeps_the_rule_that_its_split_was_made_by(tmp_path: Path) -> None:
    """Its recipe says nothing of the other."""
    for part in ("GLID", "val"):
        write_pairs(tmp_path / part, range(1, 3))
    kinds = {DatasetKind.folder: tmp_path / "val", DatasetKind.glid: tmp_path}
    recipes = {
        kind: prepare_module._recipe(DatasetConfig(kind=kind, root=str(root)), PX) for kind, root in kinds.items()
    }
    assert recipes[DatasetKind.folder]["copies"] == 2 and "copies" not in recipes[DatasetKind.glid]
    (pair, *_) = find_pairs(tmp_path / "val")
    seen = {}
    for kind in recipes:
        job = SimpleNamespace(tile_px=PX, dataset=DatasetConfig(kind=kind))
        seen[kind] = archive._see(pair, job).look.grain is None
    assert seen == {DatasetKind.folder: False, DatasetKind.glid: True}


def test_distinct_and_flat_tiles_are_not_copies() -> None:
    looks = [duplicates.look(picture(seed)) for seed in range(400)]
    looks += [duplicates.look(np.full((PX, PX, 3), 250, np.uint8)) for _ in range(5)]
    assert duplicates.same_ground(looks) == []


def test_published_layout(tmp_path: Path) -> None:
    root = tmp_path / "glid"
    write_pairs(root / "GLID", range(1, 201))
    # 1.png of val is another tile than 1.png of GLID; 3.png shows the ground of GLID's 7.png
    write_pairs(root / "val", range(1, 21), [1001, 1002, 7, *range(1004, 1021)])
    dataset = DatasetConfig(kind=DatasetKind.glid, root=str(root), split=SplitConfig(val=0.1))
    store = prepare(dataset, PX, tmp_path / "data", progress=False)
    test = store.index[store.index["split"] == "test"]
    assert test["tile"].tolist() == [f"val/{n}" for n in range(1, 21)]
    assert "7" not in set(store.index["tile"]) and store.manifest["dropped"] == {"tiles_like_a_test_tile": 1}
    assert len(store.rows("train")) + len(store.rows("val")) == 199
    assert 10 <= len(store.rows("val")) <= 30
    # val comes in runs of neighbouring numbers
    numbers = sorted(int(t) for t in store.index[store.index["split"] == "val"]["tile"])
    assert sum(b - a > 1 for a, b in pairwise(numbers)) <= 8


def test_published_set_absent_says_where_it_is(tmp_path: Path) -> None:
    for root in (None, str(tmp_path)):
        with pytest.raises(DataError) as caught:
            recipe_id(DatasetConfig(kind=DatasetKind.glid, root=root), 512)
        for part in ("14838695", "GLID.rar", "val.zip", "dataset.root"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)


def test_table_of_origins(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "tiles", range(1, 13))
    table = tmp_path / "origins.csv"
    lines = ["tile,scene,sensor,region,gsd_m,row,col"]
    lines += [f"{n},scene{n % 4},landsat8,andes,28.5,{64 * n},0" for n in range(1, 13)]
    table.write_text("\n".join(lines) + "\n")
    dataset = folder(root, manifest=str(table))
    assert declared_sensors(dataset) == ["landsat8"]
    store = prepare(dataset, PX, tmp_path / "data", progress=False)
    assert store.index["row"].tolist() == [64 * n for n in range(1, 13)]
    assert set(store.index["sensor"]) == {"landsat8"} and set(store.index["gsd_m"]) == {28.5}
    assert store.index.groupby("scene")["split"].nunique().tolist() == [1, 1, 1, 1]
    assert set(store.index["split"]) == {"train", "val", "test"}
    table.write_text("tile,scene\n99,x\n")
    with pytest.raises(DataError, match="names 1 tile that is not there, first '99'"):
        prepare(dataset, PX, tmp_path / "data", progress=False)
    for text, says in (
        ("tile,row\n1,one\n", "row and col are whole"),
        ("tile,row\n1,99999999999999999999\n", "lie in no picture"),
        ("tile,gsd_m\n1,-10\n", "gsd_m -10 is no size of a pixel"),
        ("tile,scene\n1,a\n1.png,b\n", "names tile '1' in several rows"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=says):
            prepare(dataset, PX, tmp_path / "data", progress=False)
    table.write_text("\n".join([lines[0].title(), *lines[1:]]) + "\n")  # Tile, Scene ...
    assert set(prepare(dataset, PX, tmp_path / "data", progress=False).index["sensor"]) == {"landsat8"}


def test_tiles_that_share_ground_across_two_zones_are_on_one_side(tmp_path: Path) -> None:
    """Of 30 places by the border of two UTM zones, each as a tile of either, 17 were on two sides."""
    root, data = tmp_path / "tiles", tmp_path / "data"
    across = pyproj.Transformer.from_crs(32645, 32644, always_xy=True)
    for number in range(30):
        at = (300_000 + 2000 * number, 3_100_000)
        for zone, (west, north) in ((45, at), (44, across.transform(*at))):
            name = f"{zone}_{1000 * (zone - 44) + 7 * number}"
            image = root / "images" / f"{name}.tif"
            place = {"crs": f"EPSG:326{zone}", "west": west, "north": north, "photometric": "RGB"}
            write_scene(image, dtype="uint8", width=PX, seed=zone + 100 * number, **place)
            (root / "labels").mkdir(exist_ok=True)
            Image.fromarray(label(number)).save(root / "labels" / f"{name}.png")
    store = prepare(folder(root), PX, data, progress=False)
    sides = dict(zip(store.index["tile"], store.index["split"], strict=True))
    assert all(sides[f"45_{1000 + 7 * n}"] == sides[f"44_{7 * n}"] for n in range(30))
    assert set(sides.values()) == {"train", "val", "test"}
    table = tmp_path / "origins.csv"
    table.write_text("tile,crs,transform\n44_0,EPSG:32699,10 0 1e12 0 -10 1e12\n")
    with pytest.raises(DataError, match="tile 44_0: crs 'EPSG:32699' is none, such as EPSG:32645"):
        prepare(folder(root, manifest=str(table)), PX, data, progress=False)


@pytest.mark.parametrize(
    ("crs", "written", "says"),
    [
        ("urn:ogc:def:crs:EPSG::32645", "metres", ""),
        ("", "degrees", ""),
        ("", "metres", "are no degrees, but EPSG:4326 has degrees"),
        ("EPSG:32645", "degrees", "look like degrees, but EPSG:32645 has metres"),
        ("EPSG:1", "metres", "names a CRS that is none: write it anew"),
        ("", "swapped", "no outline of dataset.labels=lakes.geojson covers a pixel of an image: look at its CRS"),
        ("", "points", "holds 6 features but no polygon: give outlines"),
    ],
)
def test_outlines_that_cannot_be_of_the_images_are_refused(tmp_path: Path, crs: str, written: str, says: str) -> None:
    """They left every tile without a lake, in silence, or ended with a trace."""
    for number in range(6):
        place = {"west": WEST + 640 * number, "photometric": "RGB"}
        write_scene(tmp_path / "t" / "images" / f"{number}.tif", dtype="uint8", width=PX, seed=number, **place)
    shapes = [lake(640 * number + 300, 300, 100) for number in range(6)]
    if written != "metres":
        to = pyproj.Transformer.from_crs(32645, 4326, always_xy=True)
        turn = (lambda x, y: to.transform(x, y)[::-1]) if written == "swapped" else to.transform
        shapes = [shapely.transform(shape, turn, interleaved=False) for shape in shapes]
    if written == "points":
        shapes = [shape.centroid for shape in shapes]
    content = {"type": "FeatureCollection", "features": [{"geometry": shapely.geometry.mapping(s)} for s in shapes]}
    content |= {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    (tmp_path / "t" / "lakes.geojson").write_text(json.dumps(content))
    dataset = folder(tmp_path / "t", labels="lakes.geojson")
    if says:
        with pytest.raises(DataError, match=says):
            prepare(dataset, PX, tmp_path / "data", progress=False)
    else:
        store = prepare(dataset, PX, tmp_path / "data", progress=False)
        assert (np.asarray(store.labels) == 1).sum() == pytest.approx(6 * np.pi * 100, rel=0.02)


def test_only_tiles_whose_places_may_be_in_several_crs_are_of_another_recipe(tmp_path: Path) -> None:
    root, table = write_pairs(tmp_path / "tiles", range(1, 13)), tmp_path / "origins.csv"
    rows = ["tile,crs,transform", *(f"{n},EPSG:326{44 + n % 2},10 0 {64_000 * n} 0 -10 3000000" for n in range(1, 13))]
    table.write_text("\n".join(rows))
    assert "places" not in prepare_module._recipe(folder(root), PX)
    assert prepare_module._recipe(folder(root, manifest=str(table)), PX)["places"] == 2
    table.write_text("\n".join(rows).replace("EPSG:32644", "EPSG:32645"))
    assert "places" not in prepare_module._recipe(folder(root, manifest=str(table)), PX)
    table.write_text("tile,crs,transform\n1,EPSG:32645,10 0 1e12 0 -10 1e12\n2,EPSG:32644,10 0 5e5 0 -10 3e6\n")
    assert len(prepare(folder(root, manifest=str(table)), PX, tmp_path / "data", progress=False)) == 12


def test_a_mask_of_one_bit_is_lake_in_the_store_too(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "tiles", range(1, 13))
    whole = prepare(folder(root), PX, tmp_path / "data", progress=False)
    for path in (root / "labels").iterdir():
        Image.open(path).convert("1").save(path)
    again = prepare(folder(root), PX, tmp_path / "data", progress=False)
    assert again.path != whole.path and (np.asarray(whole.labels) == 1).any()
    assert np.array_equal(again.labels, whole.labels)


@pytest.mark.parametrize(
    ("values", "lake", "grey"),
    [([0, 255], [False, True], 0), ([0, 1], [False, True], 0), ([0, 100, 128, 255], [False, False, True, True], 2)],
)
def test_values_of_a_label(tmp_path: Path, values: list[int], lake: list[bool], grey: int) -> None:
    pixels = np.zeros((1, 80), np.uint8)  # of which a few are grey, as edges are
    pixels[0, : len(values)] = values
    Image.fromarray(pixels).save(tmp_path / "l.png")
    found = read_label(tmp_path / "l.png")
    assert found.lake[0, : len(values)].tolist() == lake and not found.lake[0, len(values) :].any()
    assert found.grey_px == grey
    assert found.kind == {1: "0 and 1", 2: "grey edges"}.get(max(values) if grey == 0 else grey, "0 and 255")


@pytest.mark.parametrize(
    ("values", "says"),
    [([0, 7, 255], "holds 7 beside 0 and 255, on 33% of its pixels"), ([0, 200], "values up to 200")],
)
def test_class_maps_are_no_labels(tmp_path: Path, values: list[int], says: str) -> None:
    Image.fromarray(np.array([values] * 9, np.uint8)).save(tmp_path / "l.png")
    with pytest.raises(DataError, match=says):
        read_label(tmp_path / "l.png")


def test_a_mask_that_has_255_for_what_is_not_known_is_told(tmp_path: Path) -> None:
    """Lake would be background, and the margin lake. Edges that a lossy step made 1 or 254 go on being edges."""
    pixels = np.zeros((64, 64), np.uint8)
    pixels[8:14, 8:14], pixels[:, 61:] = 1, 255
    Image.fromarray(pixels).save(tmp_path / "l.png")
    with pytest.raises(DataError, match=r"holds areas of 1 beside 255: .*; make what is not known transparent"):
        read_label(tmp_path / "l.png")
    rows, cols = np.mgrid[:64, :64]
    for quality in (60, 75, 90, 95, 98, 100):
        for radius in range(2, 30, 3):
            lake = (rows - 31) ** 2 + 0.7 * (cols - 30) ** 2 < radius**2
            Image.fromarray(lake.astype(np.uint8) * 255).save(tmp_path / "l.jpg", quality=quality)
            assert (read_label(tmp_path / "l.jpg").lake == lake).mean() > 0.99


@pytest.mark.parametrize(
    ("shift", "crs", "says"),
    [
        (0.0, "EPSG:32645", ""),
        (5.0, "EPSG:32645", "lies 0.5 px from its image"),
        (0.0, "EPSG:32644", "lies in EPSG:32644"),
    ],
)
def test_a_label_lies_where_its_image_lies(tmp_path: Path, shift: float, crs: str, says: str) -> None:
    image = write_scene(tmp_path / "i.tif", dtype="uint8", photometric="RGB")
    lake = np.zeros((1, 64, 96), np.uint8)
    lake[0, 10:20, 10:20] = 255
    mask = write_scene(tmp_path / "l.tif", pixels=lake, west=WEST + shift, crs=crs)
    if says:
        with pytest.raises(DataError, match=f"{says}.*: both must cover the same ground"):
            read_pair(Pair("i", 0, image, mask))
    else:
        assert read_pair(Pair("i", 0, image, mask))[1].lake.sum() == 100


def test_a_fourth_band_is_not_dropped_and_a_short_tiff_says_why(tmp_path: Path) -> None:
    path = tmp_path / "t.tif"
    pixels = np.random.default_rng(0).integers(1, 255, (4, 64, 64), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "dtype": "uint8", "compress": "lzw"}
    place = {"transform": rasterio.Affine(10, 0, 500_000, 0, -10, 3_000_000), "crs": "EPSG:32645"}
    with rasterio.open(path, "w", count=4, photometric="minisblack", **profile, **place) as file:
        file.write(pixels)
    with pytest.raises(DataError, match="a fourth band that is no alpha"):
        read_image(path)
    with rasterio.open(path, "w", count=3, **profile, **place) as file:
        file.write(pixels[:3])
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"t\.tif cannot be read") as caught:
        read_image(path)
    assert "previous exception" not in str(caught.value)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    root = write_pairs(tmp_path / "tiles", range(1, 6))
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "append", full)
        with pytest.raises(RunFailed, match=r"no room for .*the same command begins anew"):
            prepare(folder(root), PX, tmp_path / "data", progress=False)
    assert not [path for path in (tmp_path / "data" / "stores").iterdir() if not path.name.startswith(".")]
    assert len(prepare(folder(root), PX, tmp_path / "data", progress=False)) == 5


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "tiles", range(1, 6))
    image, mask = root / "images" / "3.png", root / "labels" / "3.png"
    whole, whole_mask = image.read_bytes(), mask.read_bytes()

    def refused(says: str) -> None:
        with pytest.raises(DataError, match=says) as caught:
            prepare(folder(root), PX, tmp_path / "data", progress=False)
        assert "\n" not in str(caught.value)

    image.write_bytes(whole[: len(whole) // 2])
    refused(r"3\.png cannot be read")
    image.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    refused(r"3\.png cannot be read: its IDAT chunk does not fit its checksum; fetch it again")
    image.write_bytes(whole)
    Image.fromarray(np.zeros((PX, PX), np.uint8)).save(image)
    refused(r"3\.png is a picture of mode L, not RGB")
    for bands in (3, 4):  # of which Pillow gives the upper half of each value: 300 and 3,000 become 1 and 11
        with rasterio.open(image, "w", driver="PNG", width=PX, height=PX, count=bands, dtype="uint16") as sink:
            sink.write(np.full((bands, PX, PX), 3000, np.uint16))
        refused(r"3\.png is a picture of 16 bit, not RGB of 8 bit: stretch it to 8 bit first, or build tiles from sc")
    image.write_bytes(whole)
    Image.fromarray(np.full((PX, PX), 7, np.uint8)).save(mask)
    refused(r"3\.png holds values up to 7")
    Image.fromarray(np.zeros((PX, 32), np.uint8)).save(mask)
    refused(r"3\.png is 32 x 64 px, its image 64 x 64")
    mask.unlink()
    refused(r"1 file has no partner, first labels/3\.png")
    mask.write_bytes(whole_mask)
    with pytest.raises(DataError, match="is not there"):
        prepare(folder(tmp_path), PX, tmp_path / "data", progress=False)
    with pytest.raises(ConfigError, match="needs positions"):
        prepare(folder(root, split=SplitConfig(by=SplitBy.block)), PX, tmp_path / "data", progress=False)


def test_the_published_split_is_told_and_checked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rule = splits.rule_of(SplitConfig(val=0.1))
    split = splits.Split(rule=rule, sides={"a": "train", "b": "val", "c": "test"})
    with caplog.at_level("INFO", logger="glidexp"):
        archive.check_published(split)
    assert split.hash in caplog.text
    monkeypatch.setattr(archive, "PUBLISHED_SPLIT_HASH", split.hash)
    archive.check_published(split)
    other = splits.Split(rule=rule, sides={"a": "val", "b": "train", "c": "test"})
    with pytest.raises(DataError, match="not the published ones"):
        archive.check_published(other)
    archive.check_published(splits.Split(rule=splits.rule_of(SplitConfig(val=0.3)), sides=other.sides))
