"""`glidexp data diff` and `glidexp data show`: what changed, and what there is."""

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from announced import Announced
from PIL import Image
from tiny_scenes import lake, world, write_polygons, write_scene

from glidexp import cli
from glidexp.config import DatasetConfig, DatasetKind, SplitConfig
from glidexp.data.prepare import prepare
from glidexp.data.scenes import polygons, versions
from glidexp.data.store import TileStore
from glidexp.errors import GlidexpError


def read(path: Path) -> polygons.Inventory:
    return polygons.read(path, "dataset.lakes")


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight lakes; the editor removed one, moved one by half its radius, parted one, joined two, drew one."""
    folder = tmp_path_factory.mktemp("edited")
    at = [lake(x, 0, 100.0) for x in range(0, 8000, 1000)]
    left, right = (shapely.intersection(at[3], shapely.box(*box)) for box in _halves(at[3]))
    bridge = shapely.union_all([at[4], at[5], shapely.box(*shapely.total_bounds(np.array(at[4:6])))])
    now = [at[0], lake(2050, 0, 100.0), left, right, bridge, at[6], at[7], lake(0, 3000, 50.0)]
    old = write_polygons(folder / "old.shp", at)
    return old, write_polygons(folder / "new.gpkg", now[::-1], to="EPSG:4326")


def _halves(one: shapely.Polygon) -> list[tuple[float, float, float, float]]:
    left, bottom, right, top = one.bounds
    middle = (left + right) / 2
    return [(left, bottom, middle - 1, top), (middle + 1, bottom, right, top)]


def test_lakes_are_known_again_by_their_ground(edited: tuple[Path, Path]) -> None:
    old, new = map(read, edited)
    table = versions.changes(old, new).set_index("change")
    assert sorted(table.index) == ["added", "merged", "removed", "reshaped", "split"]
    assert (table.loc["removed", "old_ids"], table.loc["reshaped", "old_ids"]) == ("1", "2")
    assert (table.loc["split", "old_ids"], table.loc["merged", "old_ids"]) == ("3", "4,5")
    assert len(table.loc["split", "new_ids"].split(",")) == 2 and table.loc["added", "old_ids"] == ""
    # two circles of radius 100, half a radius apart: the lens is 2 r2 acos(d / 2r) - d / 2 sqrt(4 r2 - d2)
    lens = 2 * 100**2 * np.arccos(0.25) - 25 * np.sqrt(4 * 100**2 - 50**2)
    assert table.loc["reshaped", "iou"] == pytest.approx(lens / (2 * np.pi * 100**2 - lens), abs=0.01)
    assert table.loc["removed", "old_km2"] == pytest.approx(np.pi * 0.01, rel=0.01)
    assert versions.changes(old, old).empty
    found = versions.versions_diff(old, new)
    assert (found["old_lakes"], found["new_lakes"], found["merged"]) == (8, 8, 1)


def test_diff_writes_what_changed(
    edited: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "changes.gpkg"
    monkeypatch.setattr(versions, "shown_steps", announced := Announced())
    assert cli.data(["diff", *map(str, edited), "--out", str(out)]) == 0
    assert announced.works == {"changes": [8, 8]}, "of 8 and 8 lakes two are one and one is two"
    assert "1 added, 1 removed, 1 reshaped, 1 split, 1 merged" in capsys.readouterr().out
    assert {name for name, _ in pyogrio.list_layers(out)} == set(versions.CHANGES)
    assert geopandas.read_file(out, layer="removed").geometry.iloc[0].area > 0
    assert cli.data(["diff", str(edited[0]), str(edited[0]), "--out", str(tmp_path / "none.gpkg")]) == 0
    assert "no lake changed" in capsys.readouterr().out
    several = tmp_path / "several.gpkg"
    for layer, path in zip(("before", "after"), edited, strict=True):
        geopandas.read_file(path).to_crs(4326).to_file(several, layer=layer)
    layers = ["--old-layer", "before", "--new-layer", "after"]
    assert cli.data(["diff", str(several), str(several), *layers]) == 0
    assert "1 added, 1 removed, 1 reshaped, 1 split, 1 merged" in capsys.readouterr().out
    with pytest.raises(GlidexpError, match="a store has none"):
        cli.data(["diff", str(tmp_path), str(tmp_path), *layers])
    with pytest.raises(GlidexpError, match="no GeoPackage"):
        cli.data(["diff", *map(str, edited), "--out", str(tmp_path / "changes.txt")])
    with pytest.raises(GlidexpError, match="a store and a file"):
        cli.data(["diff", str(edited[0]), str(tmp_path)])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    return world(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def store(scenes: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    return prepare(scenes, 32, tmp_path_factory.mktemp("data"), progress=False)


def test_two_stores(store: TileStore, scenes: DatasetConfig, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    frame = geopandas.read_file(scenes.lakes)
    scenes.lakes = str(tmp_path / "lakes.gpkg")
    frame.geometry = [frame.geometry[0].buffer(20), *frame.geometry[1:]]
    frame.iloc[:-1].to_file(scenes.lakes, engine="pyogrio")
    other = prepare(scenes, 32, tmp_path / "data", progress=False)
    assert cli.data(["diff", str(store.path), str(other.path)]) == 0
    table = versions.store_changes(store, other)
    assert table["change"].tolist() == ["reshaped", "removed"] and set(table["scene"]) == {"s0", "s3"}
    assert "1 removed, 1 reshaped" in capsys.readouterr().out


def test_the_manifest_tells_what_changed_since_the_previous_version(edited: tuple[Path, Path], tmp_path: Path) -> None:
    write_scene(tmp_path / "s.tif", width=800, height=320, seed=3)
    dataset = DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(tmp_path / "s.tif"),
        lakes=str(edited[1]),
        buffer_m=0.0,
        sensor="sentinel2",
        split=SplitConfig(val=0, test=0),
    )
    plain = prepare(dataset, 64, tmp_path / "data", progress=False)
    assert "changes" not in plain.manifest and "previous" not in plain.manifest["recipe"]
    dataset.previous = str(edited[0])
    store = prepare(dataset, 64, tmp_path / "data", progress=False)
    found = store.manifest["changes"]
    assert found["file"] == "old.shp" and found == {"file": "old.shp"} | versions.versions_diff(*map(read, edited))
    assert [found[change] for change in versions.CHANGES] == [1, 1, 1, 1, 1]
    assert (store.data_hash, store.split_hash) == (plain.data_hash, plain.split_hash)
    dataset.previous = str(tmp_path / "no.gpkg")
    with pytest.raises(GlidexpError, match=r"dataset\.previous=.*no\.gpkg does not exist"):
        prepare(dataset, 64, tmp_path / "data", progress=False)


def test_show_draws_the_tiles_that_were_asked_for(
    store: TileStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "sheet.png"
    names = store.index["tile"].tolist()[:3]
    assert cli.data(["show", str(store.path), "--tiles", *names, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert store.data_hash[:12] in told and "by scene" in told and str(out) in told
    with Image.open(out) as one:
        three = one.size
    assert (
        cli.data(
            [
                "show",
                store.path.name,
                "--data",
                str(store.path.parent.parent),
                "--side",
                "val",
                "--n",
                "4",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    with Image.open(out) as one:
        assert one.width > three[0] and one.height == three[1]
    for words, message in (
        (["--tiles", "nowhere"], "--tiles='nowhere'"),
        (["--side", "best"], "Allowed: test, train, val"),
        (["--n", "0"], "--n=0"),
    ):
        with pytest.raises(GlidexpError, match=message):
            cli.data(["show", str(store.path), *words])
