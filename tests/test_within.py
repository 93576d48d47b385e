"""Ground over which an inventory is complete: beyond it no pixel is labelled, and images stay as they are."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from runs import small_config
from test_build import alone, mosaic
from tiny_scenes import NORTH, WEST, lake, world, write_polygons, write_scene

from glidexp.config import DatasetConfig, DatasetKind, StretchConfig
from glidexp.config.unread import refuse_unread
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.check import Checked
from glidexp.study.plan.ground import grounds

LAKES = [lake(150, 150, 60.0), lake(480, 300, 90.0), lake(800, 500, 70.0)]
HALF = shapely.box(WEST - 5000, NORTH - 5000, WEST + 480, NORTH + 5000)
"""the western half of a scene, which the second lake reaches over"""


def ground(folder: Path, *shapes: shapely.Geometry, to: str | None = None, **columns: list[object]) -> str:
    path = write_polygons(folder / "ground.gpkg", shapes, to=to)
    if columns:
        frame = geopandas.read_file(path).assign(**columns)
        frame.to_file(path, engine="pyogrio")
    return str(path)


def tiles_of(store: TileStore) -> tuple[np.ndarray, np.ndarray]:
    return mosaic(store, 64, 96)


@pytest.mark.parametrize("to", [None, "EPSG:4326", "EPSG:32646"])
@pytest.mark.parametrize("empty_share", [0.0, 10.0])
@pytest.mark.parametrize("px", [32, 48])
def test_labels_end_with_the_ground_and_images_do_not(
    tmp_path: Path, to: str | None, empty_share: float, px: int
) -> None:
    """What lies within is as without the setting; tiles wholly beyond are none; in one pass and in two alike."""
    plain = alone(tmp_path, LAKES, px=px, empty_share=empty_share)
    cut = alone(tmp_path, LAKES, px=px, empty_share=empty_share, within=ground(tmp_path, HALF, to=to))
    (image, label), (whole_image, whole) = tiles_of(cut), tiles_of(plain)
    west = np.arange(96)[None, :].repeat(64, 0) < 48
    known = label != 77
    assert np.array_equal(label[known & west], whole[known & west]) and (label[known & ~west] == 255).all()
    assert np.array_equal(image[known], whole_image[known]) and image[known & ~west].any() == (px == 32)
    assert (whole[west & ~known] != 1).all(), "lake on that ground is in a tile"
    assert (cut.index["col"] < 48).all() and len(cut) < len(plain)
    shown = cut.index["valid_fraction"].to_numpy() * px * px
    assert shown.tolist() == [float((one != 255).sum()) for one in np.asarray(cut.labels)]
    manifest = json.loads((cut.path / "manifest.json").read_text())
    assert manifest["dropped"]["lakes_beyond"] == 1 and manifest["lakes"]["labelled"] == 2
    assert manifest["inventories"]["within"]["file"] == "ground.gpkg"


def test_limits_of_the_stretch_are_those_of_the_whole_scene(tmp_path: Path) -> None:
    """A map stretches the whole scene: what was learnt must look the same."""
    stretch = StretchConfig()
    plain, cut = (
        alone(tmp_path, LAKES, px=32, stretch=stretch, within=within) for within in (None, ground(tmp_path, HALF))
    )
    assert plain.manifest["stretch"] == cut.manifest["stretch"]


def test_cells_that_were_not_looked_at_are_unknown(tmp_path: Path) -> None:
    """Of a sample only checked cells count; without that column all do; none checked is refused."""
    cells = [shapely.box(WEST + x, NORTH - 640, WEST + x + 320, NORTH) for x in (0, 320, 640)]
    within = ground(tmp_path, *cells, checked=[1, 0, 0])
    label = tiles_of(alone(tmp_path, LAKES, within=within))[1]
    assert (label[:, 32:] % 178 == 77).all() and (label[:, :32] == 1).any()
    geopandas.read_file(within).assign(checked=None).to_file(within, engine="pyogrio")
    with pytest.raises(DataError, match=r"dataset\.within=.*no polygon is checked: set the column checked to 1"):
        alone(tmp_path, LAKES, within=within)
    geopandas.read_file(within).assign(checked=["yes", "done", None]).to_file(within, engine="pyogrio")
    with pytest.raises(DataError, match=r"dataset\.within=.*: checked: done is neither yes nor no: write 1 or 0"):
        alone(tmp_path, LAKES, within=within)  # a cell would be left out in silence
    geopandas.read_file(within).drop(columns="checked").to_file(within, engine="pyogrio")
    assert (tiles_of(alone(tmp_path, LAKES, within=within))[1] != 255).all()


def test_scenes_beyond_it_are_left_out(tmp_path: Path) -> None:
    """They need not be taken out by hand; where none is left, that is said with both places."""
    dataset = world(tmp_path, scenes=5)
    dataset.within = ground(tmp_path, shapely.box(WEST - 100, NORTH - 9000, WEST + 70_000, NORTH + 100))
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert {*store.index["scene"]} == {"s0", "s1", "s2", "s3"}
    assert store.manifest["dropped"] | {"scenes_beyond": 1, "lakes_beyond": 3} == store.manifest["dropped"]
    far = ground(tmp_path, shapely.box(WEST, NORTH + 50_000, WEST + 900, NORTH + 60_000))
    with pytest.raises(DataError, match=r"no scene lies on dataset\.within=.*ground\.gpkg: that ground is at x "):
        prepare(replace(dataset, within=far), 32, tmp_path / "data", progress=False)
    bare = ground(tmp_path, shapely.box(WEST + 20_850, NORTH - 640, WEST + 20_950, NORTH - 600))
    with pytest.raises(DataError, match=r"no lake of .*lakes\.gpkg lies on dataset\.within=.*check the CRS of both"):
        prepare(replace(dataset, within=bare), 32, tmp_path / "data", progress=False)


def test_it_names_a_store_and_no_other(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    first = recipe_id(dataset, 32)
    within = replace(dataset, within=ground(tmp_path, HALF))
    names = [first, recipe_id(within, 32), recipe_id(replace(within, within_layer="ground"), 32)]
    ground(tmp_path, HALF.buffer(10))
    assert len({*names, recipe_id(within, 32)}) == 4
    with pytest.raises(ConfigError, match=r"dataset\.within=.* would not be used with dataset\.kind=folder"):
        refuse_unread(DatasetConfig(kind=DatasetKind.folder, within="ground.gpkg"))
    with pytest.raises(ConfigError, match=r"dataset\.within_layer=cells is a layer of dataset\.within, which is not"):
        refuse_unread(DatasetConfig(kind=DatasetKind.scenes, within_layer="cells"))
    write_polygons(tmp_path / "ground.geojson", [shapely.Point(0, 0)], crs="EPSG:4326")
    with pytest.raises(DataError, match="but no polygon"):
        prepare(replace(dataset, within=str(tmp_path / "ground.geojson")), 32, tmp_path / "data", progress=False)


def test_a_split_is_of_the_ground_that_is_labelled(tmp_path: Path) -> None:
    """Each has a split of its own, whichever was made first, and arms of a study have one ground."""
    dataset = world(tmp_path, scenes=5)
    part = shapely.box(WEST - 100, NORTH - 9000, WEST + 70_000, NORTH + 100)
    within = replace(dataset, within=ground(tmp_path, part))
    stores = [prepare(one, 32, tmp_path / "data", progress=False) for one in (dataset, within, dataset)]
    assert stores[0].path == stores[2].path
    assert [len({*one.index["scene"]}) for one in stores[:2]] == [5, 4]
    assert all({*one.index["split"]} == {"train", "val", "test"} for one in stores)
    base = replace(small_config(tmp_path, tmp_path), dataset=dataset)
    arms = [Checked(Arm(name, ()), (), replace(base, dataset=one)) for name, one in (("a", dataset), ("b", within))]
    assert grounds([arms[0], arms[0]]) == [None, None]
    with pytest.raises(ConfigError, match=r"b has another dataset\.within .* than the baseline \(None\)"):
        grounds(arms)


def test_a_layer_without_a_crs_is_told_how_to_get_one(tmp_path: Path) -> None:
    """There is no setting for it, so none is named."""
    write_scene(tmp_path / "s.tif")
    write_polygons(tmp_path / "bare.shp", [HALF])
    (tmp_path / "bare.prj").unlink()
    with pytest.raises(DataError, match=r"bare\.shp has no CRS: write it into the file, with ogr2ogr -a_srs"):
        alone(tmp_path, LAKES, within=str(tmp_path / "bare.shp"))
