"""prepare(): recipes, building once, the generated scenes, and the shipped settings."""

import os
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.errors
import warm
import yaml
from tiny_scenes import lake, world, write_polygons

from glidexp.config import DatasetConfig, SensorMixConfig, SyntheticConfig, TileSizeConfig
from glidexp.data import sensors
from glidexp.data.builder.making import digest
from glidexp.data.prepare import declared_sensors, prepare, recipe_id
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import read_header

ROOT = Path(__file__).resolve().parent.parent


def test_recipe_names_what_changes_tiles_and_nothing_else(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    first = recipe_id(dataset, 32)
    assert first == recipe_id(dataset, 32) != recipe_id(dataset, 64)
    dataset.name = "another label"
    dataset.split.block_m = 5.0  # by=scene does not look at blocks
    assert recipe_id(dataset, 32) == first
    for setting, value in (
        ("buffer_m", 7.0),
        ("min_lake_px", 3.0),
        ("empty_share", 0.5),
        ("sensor", "landsat8"),
        ("lake_type_column", "dam"),
        ("lakes_layer", "lakes"),
        ("glaciers_layer", "ice"),
    ):
        before = getattr(dataset, setting)
        setattr(dataset, setting, value)
        assert recipe_id(dataset, 32) != first, setting
        setattr(dataset, setting, before)
    os.utime(tmp_path / "s0.tif", ns=(0, 0))
    changed = recipe_id(dataset, 32)
    assert changed != first
    write_polygons(tmp_path / "lakes.gpkg", [lake(100, 100, 30)])
    assert recipe_id(dataset, 32) != changed


def test_a_moved_folder_is_the_same_recipe(tmp_path: Path) -> None:
    dataset = world(tmp_path / "a")
    first = recipe_id(dataset, 32)
    (tmp_path / "a").rename(tmp_path / "b")
    for setting in ("root", "lakes", "glaciers"):
        setattr(dataset, setting, getattr(dataset, setting).replace("/a/", "/b/"))
    assert recipe_id(dataset, 32) == first


@pytest.mark.parametrize("name", ["lakes[2].gpkg", "lakes.gdb", "lakes"])
def test_an_edited_inventory_is_another_recipe_whatever_its_name(tmp_path: Path, name: str) -> None:
    """A folder does not change when a file in it does: one of shapefiles, or a geodatabase, whose locks are of
    those who look at it."""
    dataset = world(tmp_path)
    file = tmp_path / name
    if not name.endswith(".gpkg"):
        file.mkdir()
        file = file / "a0001.gdbtable"
    file.write_bytes(b"one")
    lakes = replace(dataset, lakes=str(tmp_path / name))
    before, stand = recipe_id(lakes, 64), (tmp_path / name).stat()
    if file != tmp_path / name:
        (file.parent / "a.lock").touch()
        os.utime(file.parent, ns=(stand.st_atime_ns, stand.st_mtime_ns))
        assert recipe_id(lakes, 64) == before
    file.write_bytes(b"other")
    assert recipe_id(lakes, 64) != before


def test_a_geopackage_that_somebody_looks_at_is_the_same_recipe(tmp_path: Path) -> None:
    """QGIS opens it in a mode with two more files beside it, of which one takes what is edited."""
    dataset, lakes = world(tmp_path), tmp_path / "lakes.gpkg"
    with closing(sqlite3.connect(lakes)) as once:
        once.execute("PRAGMA journal_mode=wal")
    before = recipe_id(dataset, 32)
    with closing(sqlite3.connect(lakes)) as looking:
        looking.execute("SELECT count(*) FROM lakes").fetchone()
        assert (tmp_path / "lakes.gpkg-wal").is_file() and (tmp_path / "lakes.gpkg-shm").is_file()
        assert recipe_id(dataset, 32) == before
        looking.execute("CREATE TABLE more (n INTEGER)")
        looking.commit()
        assert recipe_id(dataset, 32) != before


STATISTICS = '<Metadata><MDI key="STATISTICS_MAXIMUM">9</MDI></Metadata><Histograms><HistItem/></Histograms>'


def beside(path: Path, of_band: str, of_file: str = "") -> None:
    text = f'<PAMDataset>{of_file}<PAMRasterBand band="1">{STATISTICS}{of_band}</PAMRasterBand></PAMDataset>'
    path.with_name(f"{path.name}.aux.xml").write_text(text)


def masked(path: Path, rows: slice) -> None:
    """A mask in a file of its own, beside the scene, which stays as it is."""
    stand, valid = path.stat(), np.full((64, 96), 255, dtype=np.uint8)
    valid[rows] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as scene:
        scene.write_mask(valid)
    os.utime(path, ns=(stand.st_atime_ns, stand.st_mtime_ns))
    assert path.with_name(f"{path.name}.msk").is_file() and path.stat().st_size == stand.st_size


def test_another_mask_beside_a_scene_is_another_store(tmp_path: Path) -> None:
    dataset, scene = world(tmp_path), tmp_path / "s1.tif"
    rows = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(tmp_path.glob("*.tif"))]
    table = tmp_path / Path(str(dataset.root)).name
    rows = [[table.name, table.stat().st_size, table.stat().st_mtime_ns], *rows]
    known = prepare(dataset, 32, tmp_path / "data", progress=False)
    whole = known.manifest["recipe"]["inputs"]["root"]
    assert whole["sha256"] == digest(rows, 64), "the id of scenes without such files is the one it was"
    invalid = []
    for masks in (slice(0, 20), slice(0, 40)):
        masked(scene, masks)
        store = prepare(dataset, 32, tmp_path / "data", progress=False)
        own = (store.index["scene"] == "s1").to_numpy()
        invalid.append((store.index["row"][own].min(), int((np.asarray(store.labels)[own] == 255).sum())))
        scene.with_name("s1.tif.msk").unlink()
    assert len(set(invalid)) == 2, "the second mask was not met"
    assert prepare(dataset, 32, tmp_path / "data", progress=False).path == known.path


def test_what_an_aux_xml_says_of_mask_bands_and_place_is_in_the_recipe_and_statistics_are_not(tmp_path: Path) -> None:
    dataset, scene = world(tmp_path), tmp_path / "s1.tif"
    first = recipe_id(dataset, 32)
    beside(scene, "")
    scene.with_suffix(".tfw").write_text("20\n0\n0\n-20\n0\n0\n")
    assert recipe_id(dataset, 32) == first, "statistics, and a world file that nobody reads"
    found = [first]
    for of_band, of_file in (
        ("<NoDataValue>5</NoDataValue>", ""),
        ("<NoDataValue>6</NoDataValue>", ""),
        ("<Description>nir</Description>", ""),
        ("<ColorInterp>Blue</ColorInterp>", ""),
        ("", "<SRS>EPSG:32646</SRS>"),
        ("", "<GeoTransform>1,10,0,2,0,-10</GeoTransform>"),
    ):
        beside(scene, of_band, of_file)
        found.append(recipe_id(dataset, 32))
        stands = SceneFile(scene, "s1", "sentinel2").stand
        os.utime(scene.with_name("s1.tif.aux.xml"), ns=(0, 0))
        assert recipe_id(dataset, 32) == found[-1] and SceneFile(scene, "s1", "sentinel2").stand == stands
        with rasterio.open(scene) as source:  # it does change what is read
            read = (source.nodatavals[0], source.descriptions[0], source.colorinterp[0], source.crs, source.transform)
        scene.with_name("s1.tif.aux.xml").rename(tmp_path / "away")
        with rasterio.open(scene) as source:
            plain = (source.nodatavals[0], source.descriptions[0], source.colorinterp[0], source.crs, source.transform)
        assert read != plain
    assert len(set(found)) == 7
    beside(scene, "", '<!DOCTYPE a [<!ENTITY b "c">]>')
    assert recipe_id(dataset, 32) != first
    scene.with_name("s1.tif.aux.xml").write_text("no XML")
    assert recipe_id(dataset, 32) == first


def test_a_world_file_counts_where_nothing_else_tells_the_place(tmp_path: Path) -> None:
    scene, stands = tmp_path / "s.tif", []
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(scene, "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8", crs="EPSG:32645") as sink,
    ):
        sink.write(np.ones((3, 8, 8), dtype=np.uint8))
    file = SceneFile(scene, "s", "sentinel2")
    for west in (None, 478_000, 479_000):
        if west:
            scene.with_suffix(".tfw").write_text(f"10\n0\n0\n-10\n{west + 5}\n3107995\n")
            assert read_header(file).transform.c == west
        stands.append(file.stand)
    assert [len(one) for one in stands] == [1, 2, 2] and len(set(stands)) == 3


def test_second_call_only_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = world(tmp_path)
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert store.path.name == recipe_id(dataset, 32) == store.manifest["recipe_id"]
    monkeypatch.setattr("glidexp.data.builder.from_scenes.build_scenes", lambda *_: pytest.fail("built again"))
    assert prepare(dataset, 32, tmp_path / "data").data_hash == store.data_hash


@pytest.mark.slow
def test_of_two_processes_one_builds(tmp_path: Path) -> None:
    world(tmp_path)
    code = (
        "import sys, logging, warnings; sys.path[:0] = [sys.argv[2], sys.argv[2] + '/tests']\n"
        "warnings.simplefilter('ignore'); logging.basicConfig(level=logging.INFO)\n"
        "from pathlib import Path; from glidexp.config import *; from glidexp.data.prepare import prepare\n"
        "r = sys.argv[1]; d = DatasetConfig(kind=DatasetKind.scenes, root=r + '/scenes.csv', lakes=r + '/lakes.gpkg',\n"
        "  glaciers=r + '/glaciers.gpkg'); s = prepare(d, 32, Path(r) / 'data'); s.verify(); print(s.data_hash)\n"
    )
    command = [warm.python(), "-c", code, str(tmp_path), str(ROOT)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], ends
    assert len({out for out, _ in ends}) == 1
    assert sum("built" in err for _, err in ends) == 1


@pytest.mark.slow
def test_generated_scenes_become_a_store(tmp_path: Path) -> None:
    dataset = DatasetConfig(synthetic=SyntheticConfig(sensors=["worldview2"], scenes_per_sensor=3, scene_px=256))
    assert declared_sensors(dataset) == ["worldview2"]
    store = prepare(dataset, 128, tmp_path, progress=False)
    store.verify()
    assert set(store.index["sensor"]) == {"worldview2"} and set(store.index["gsd_m"]) == {2.0}
    assert set(store.index["split"]) == {"train", "val", "test"}
    again = prepare(dataset, 64, tmp_path, progress=False)  # from the same scenes
    assert again.split_hash == store.split_hash
    assert len([p for p in (tmp_path / "scenes").iterdir() if p.is_dir()]) == 1


@pytest.mark.parametrize(
    ("group", "section"), [("dataset", DatasetConfig), ("sensor_mix", SensorMixConfig), ("tile_size", TileSizeConfig)]
)
def test_shipped_settings_fit_and_say_what_they_are(group: str, section: type) -> None:
    files = sorted((ROOT / "conf" / group).glob("*.yaml"))
    assert files
    for file in files:
        text = file.read_text()
        assert text.startswith("# ") and text.splitlines()[0].endswith(".")
        values = yaml.safe_load(text)
        assert set(values) <= set(section.__dataclass_fields__), file
        if group == "sensor_mix":
            assert all(name == "all" or name in sensors.names() for name in values["sensors"])
        if group == "tile_size":
            assert str(section(**values).px) == file.stem


def test_settings_of_scenes_do_not_reach_generated_ones(tmp_path: Path) -> None:
    """They are not in the recipe of a generated data set, so they must not change its bytes."""
    made = SyntheticConfig(sensors=["landsat8"], regions=["andes"], scenes_per_sensor=3, scene_px=128)
    settings = {"part_km": 1.0, "lakes_crs": "EPSG:4326", "lake_id_column": "none", "lake_type_column": "none"}
    settings |= {"lakes_layer": "none", "glaciers_layer": "none", "previous_layer": "none"}
    plain, changed = DatasetConfig(synthetic=made), DatasetConfig(synthetic=made, **settings)
    assert recipe_id(plain, 64) == recipe_id(changed, 64)
    stores = [prepare(dataset, 64, tmp_path / name, progress=False) for name, dataset in (("a", plain), ("b", changed))]
    assert stores[0].manifest == stores[1].manifest
