"""`glidexp data export` and back: the same bytes by every format. COCO and GeoJSON of other people."""

import fcntl
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from test_archive import PX, picture
from tiny_scenes import WEST, world, write_scene

from glidexp import cli
from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.prepare import prepare
from glidexp.data.ready import annotations
from glidexp.data.ready.export import export
from glidexp.data.store import INVALID, TileStore
from glidexp.errors import DataError

BACK = {
    "png": {},
    "croissant": {},
    "geotiff": {},
    "coco": {"labels": "annotations/instances_*.json"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """Tiles with positions, of which those at the edge are partly invalid."""
    root = tmp_path_factory.mktemp("scenes")
    return prepare(world(root), 64, root / "data", progress=False)


@pytest.mark.parametrize("to", BACK)
def test_exported_and_imported_it_is_the_same_store(store: TileStore, to: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.data(["export", str(store.path), "--to", to, "--out", str(out)]) == 0
    assert (np.asarray(store.labels) == 255).any()
    dataset = DatasetConfig(kind=DatasetKind.folder, root=str(out), manifest=str(out / "tiles.csv"), **BACK[to])
    back = prepare(dataset, 64, tmp_path / "data", progress=False)
    for name in ("images.u8", "masks.u8", "index.parquet"):
        assert (back.path / name).read_bytes() == (store.path / name).read_bytes(), name
    assert back.manifest["channel_mean"] == store.manifest["channel_mean"]
    with pytest.raises(DataError, match="not empty"):
        cli.data(["export", str(store.path), "--to", to, "--out", str(out)])


def test_a_geotiff_lies_where_the_tile_lies(store: TileStore, tmp_path: Path) -> None:
    cli.data(["export", str(store.path), "--to", "geotiff", "--out", str(tmp_path / "out")])
    row = store.index.iloc[0]
    with rasterio.open(tmp_path / "out" / "labels" / f"{row['tile']}.tif") as file:
        assert file.crs.to_string() == row["crs"] and tuple(file.transform)[:6] == tuple(row["transform"])
        assert np.array_equal(file.read(1) == 255, store.labels[0] == 1)
    # the file alone is enough for the position
    dataset = DatasetConfig(kind=DatasetKind.folder, root=str(tmp_path / "out"))
    back = prepare(dataset, 64, tmp_path / "data", progress=False)
    where = {r["tile"]: (list(r["transform"]), r["crs"]) for r in back.index.to_dict("records")}
    assert where[row["tile"]] == (list(row["transform"]), row["crs"])


def test_other_bands_are_shown_as_three_and_written_whole(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    for i in range(4):
        names = ["blue", "green", "red", "nir"]
        write_scene(tmp_path / f"s{i}.tif", west=WEST + i * 20_000, bands=4, descriptions=names, seed=i)
    dataset.bands = ["nir", "red", "green", "blue"]
    store = prepare(dataset, 64, tmp_path / "data", progress=False)
    partly = int(np.flatnonzero((np.asarray(store.labels) == INVALID).any((1, 2)))[0])
    name = store.index["tile"].iloc[partly]
    for to in ("geotiff", "png", "coco", "croissant"):
        assert cli.data(["export", str(store.path), "--to", to, "--out", str(tmp_path / to)]) == 0
    with rasterio.open(tmp_path / "geotiff" / "images" / f"{name}.tif") as file:
        assert file.descriptions == ("nir", "red", "green", "blue")
        assert np.array_equal(np.moveaxis(file.read(), 0, 2), store.images[partly])
        assert np.array_equal(file.dataset_mask() > 0, store.labels[partly] != INVALID)
    shown = np.asarray(Image.open(tmp_path / "png" / "images" / f"{name}.png"))
    assert np.array_equal(shown[..., :3], store.images[partly][..., 1:])
    assert "bands 2, 3, 4 of nir, red, green, blue" in (tmp_path / "png" / "README.txt").read_text()


def test_coco_is_what_coco_tools_expect(store: TileStore, tmp_path: Path) -> None:
    cli.data(["export", str(store.path), "--to", "coco", "--out", str(tmp_path / "out")])
    content = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    first = content["annotations"][0]
    mask = annotations.mask_of(first["segmentation"]["counts"], 64, 64)
    ys, xs = np.nonzero(mask)
    assert first["area"] == mask.sum() > 0
    assert first["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
    names = {image["id"]: image["file_name"].removesuffix(".png") for image in content["images"]}
    assert set(names.values()) == set(store.index.loc[store.index["split"] == "train", "tile"])
    total = dict.fromkeys(names.values(), 0)
    for one in content["annotations"]:
        total[names[one["image_id"]]] += one["area"]
    lakes = {tile: int((store.labels[i] == 1).sum()) for i, tile in enumerate(store.index["tile"])}
    assert total == {name: lakes[name] for name in total}


def test_croissant_describes_what_is_there(store: TileStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli.data(["export", str(store.path), "--to", "croissant", "--out", str(out)])
    content = json.loads((out / "croissant.json").read_text())
    by_name = {entry["@id"]: entry for entry in content["distribution"]}
    for part in ("images", "labels"):
        assert len(list(out.glob(by_name[part]["includes"]))) == len(store)
    header = (out / "tiles.csv").read_text().splitlines()[0].split(",")
    fields = content["recordSet"][0]["field"]
    assert [field["source"]["extract"]["column"] for field in fields] == header


def test_positions_are_needed_for_geotiff(tmp_path: Path) -> None:
    from test_archive import folder, write_pairs

    store = prepare(folder(write_pairs(tmp_path / "t", range(1, 13))), PX, tmp_path / "data", progress=False)
    with pytest.raises(DataError, match=r"12 of 12 tiles have no position, first '1': use --to png"):
        cli.data(["export", store.path.name, "--data", str(tmp_path / "data"), "--to", "geotiff", "--out", "x"])


def test_what_killed_processes_left_beside_a_folder_goes(store: TileStore, tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    dead, at_work = f".out.{process.pid}.partial", f".out.{os.getppid()}.partial"
    for name in (dead, at_work, f".other.{process.pid}.partial", f".out.{process.pid + 1}.partial"):
        (tmp_path / name / "images").mkdir(parents=True)
    held = os.open(tmp_path / f".out.{process.pid + 1}.partial", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as a process of another machine holds it
    export(store, "png", tmp_path / "out", lambda _: None)
    os.close(held)
    assert sorted(path.name for path in tmp_path.glob(".*.partial")) == sorted(
        [at_work, f".other.{process.pid}.partial", f".out.{process.pid + 1}.partial"]
    )
    assert (tmp_path / "out" / "tiles.csv").is_file()


def test_run_lengths_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)  # down the columns: 0 0 1 1 1 0
    assert annotations.runs_of(mask) == [2, 3, 1]
    assert np.array_equal(annotations.mask_of([2, 3, 1], 2, 3), mask)
    assert annotations.runs_of(np.ones((2, 2), bool)) == [0, 4]
    # "231" is 2, 3, 1 in the compressed form; from the fourth on runs are differences: 0, 10, 5, 10 - 10 = 0
    assert annotations._unpacked("231") == [2, 3, 1]
    assert annotations._unpacked("0:50") == [0, 10, 5, 10]
    with pytest.raises(ValueError, match="runs of 5 pixels where 6 belong"):
        annotations.mask_of([2, 3], 2, 3)


def others(root: Path, content: dict, n: int = 6) -> DatasetConfig:
    (root / "pics").mkdir(parents=True)
    for i in range(n):
        Image.fromarray(picture(i)).save(root / "pics" / f"{i}.png")
    (root / "lakes.json").write_text(json.dumps(content))
    return DatasetConfig(kind=DatasetKind.folder, root=str(root), images="pics/{id}.*", labels="lakes.json")


def test_coco_of_other_people(tmp_path: Path) -> None:
    square = [[10, 10, 20, 10, 20, 30, 10, 30]]
    content = {
        "categories": [{"id": 3, "name": "Glacial lake"}, {"id": 4, "name": "ice"}],
        "images": [{"id": i, "file_name": f"{i}.png", "width": PX, "height": PX} for i in range(6)],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "segmentation": square},
            {"id": 2, "image_id": 1, "category_id": 4, "segmentation": square},
        ],
    }
    store = prepare(others(tmp_path / "a", content), PX, tmp_path / "data", progress=False)
    expected = np.zeros((PX, PX), np.uint8)
    expected[10:30, 10:20] = 1
    assert np.array_equal(store.labels[0], expected) and not np.asarray(store.labels[1:]).any()
    assert store.manifest["labels"] == {"outlines": 1, "no lake": 5}
    content["categories"][0]["name"] = "pond"
    with pytest.raises(DataError, match="categories ice, pond: none is called lake"):
        prepare(others(tmp_path / "b", content), PX, tmp_path / "data", progress=False)
    content["images"].pop()
    content["categories"][0]["name"] = "lake"
    with pytest.raises(DataError, match=r"1 image stands in none of the annotation files, first pics/5\.png"):
        prepare(others(tmp_path / "c", content), PX, tmp_path / "data", progress=False)


def test_a_spike_of_an_outline_is_no_lake(tmp_path: Path) -> None:
    """The repair of the ring leaves a line beside the polygon; lines are drawn wherever they pass."""
    spiked = [[10, 10, 20, 10, 20, 20, 50, 20, 20, 20, 20, 30, 10, 30]]
    content = {
        "categories": [{"id": 1, "name": "lake"}],
        "images": [{"id": i, "file_name": f"{i}.png", "width": PX, "height": PX} for i in range(6)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "segmentation": spiked}],
    }
    store = prepare(others(tmp_path, content), PX, tmp_path / "data", progress=False)
    expected = np.zeros((PX, PX), np.uint8)
    expected[10:30, 10:20] = 1
    assert np.array_equal(store.labels[0], expected)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [([], "has none, and a box is no outline"), ([[1, 2, 3, float("nan"), 5, 6]], "a coordinate is no number")],
)
def test_an_annotation_without_an_outline_is_told(tmp_path: Path, segmentation: list, says: str) -> None:
    content = {
        "categories": [{"id": 1, "name": "lake"}],
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(6)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "segmentation": segmentation}],
    }
    with pytest.raises(DataError, match=rf"lakes\.json, image 0\.png: a segmentation cannot be read: .*{says}"):
        prepare(others(tmp_path, content), PX, tmp_path / "data", progress=False)


def test_geojson_in_pixels_and_on_the_map(store: TileStore, tmp_path: Path) -> None:
    ring = [[10, 10], [20, 10], [20, 30], [10, 30], [10, 10]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    content = {"type": "FeatureCollection", "features": [feature]}
    made = prepare(others(tmp_path / "a", content), PX, tmp_path / "data", progress=False)
    assert all((np.asarray(tile) == 1).sum() == 200 for tile in made.labels)
    ring[1][0] = 4000
    with pytest.raises(DataError, match="has no position: outlines must be in pixels"):
        prepare(others(tmp_path / "b", content), PX, tmp_path / "data", progress=False)
    # outlines in WGS84 on tiles with a position give the labels that they were drawn from
    import geopandas

    out = tmp_path / "out"
    cli.data(["export", str(store.path), "--to", "geotiff", "--out", str(out)])
    lakes = geopandas.read_file(store.path.parents[2] / "lakes.gpkg").to_crs("EPSG:4326")
    (out / "all.geojson").write_text(lakes.to_json())
    dataset = DatasetConfig(
        kind=DatasetKind.folder, root=str(out), labels="all.geojson", manifest=str(out / "tiles.csv")
    )
    drawn = prepare(dataset, 64, tmp_path / "data", progress=False)
    assert np.array_equal(drawn.labels, store.labels)
