"""Heights and slopes of mapped lakes, by a DEM that the network may not know of."""

import io
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
import torch
from PIL import Image
from test_dem import model, over, plane, sloped, told_by, write_dem
from test_predict import Bright, bright, mapped
from test_predict import pixels as with_lakes
from test_serve import Inside, a_scene, bundle, levels, sent, served
from tiny_scenes import write_scene

from glidexp.mapping import areas, heights
from glidexp.mapping.heights import below, of_lakes
from glidexp.mapping.settings import MapSettings
from glidexp.serving import mapper
from glidexp.serving.settings import ServeSettings
from glidexp.serving.worker import Setup

__all__ = ["bright", "bundle", "model", "sloped"]  # fixtures


def scene_of(folder: Path) -> Path:
    return write_scene(folder / "s.tif", pixels=with_lakes(), descriptions=["red", "green", "blue"])


@pytest.mark.parametrize("side", [1024, 16])
def test_means_over_the_pixels_of_each_lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """On a plane the slope is the plane's and the height that of the lake's middle, holes left out, in any squares."""
    monkeypatch.setattr(heights, "SIDE_PX", side)
    rising = plane(20.0)
    scene = over(scene_of(tmp_path), write_dem(tmp_path / "dem.tif", rising, size=(100, 100)), ("red", "green", "blue"))
    ring = shapely.Polygon(shapely.box(10, 10, 50, 40).exterior, [shapely.box(12, 12, 30, 20).exterior])
    lakes = np.array([ring, shapely.box(60, 70, 61, 71), shapely.box(0, 90, 100, 92)], object)
    assert scene.dem is not None
    found = of_lakes(scene, lakes, scene.dem)
    assert np.allclose(found["slope_deg"], 20.0, atol=0.02)
    wanted = [float(rising(*scene.xy(*np.array(one.centroid.coords[0])))) for one in lakes]
    assert np.allclose(found["elevation_m"], wanted, atol=0.05)
    none = of_lakes(scene, np.array([], object), scene.dem)
    assert [len(none[name]) for name in heights.COLUMNS] == [0, 0]


def test_pixels_without_a_height_are_left_out(tmp_path: Path) -> None:
    """A lake half beyond the DEM has the mean of the rest, one wholly beyond it none."""
    dem = write_dem(tmp_path / "dem.tif", plane(0.0), size=(40, 100))
    scene = over(scene_of(tmp_path), dem, ("red", "green", "blue"))
    lakes = np.array([shapely.box(10, 60, 20, scene.height), shapely.box(10, 120, 20, 130)], object)
    assert scene.dem is not None
    found = of_lakes(scene, lakes, scene.dem)
    assert found["elevation_m"][0] == pytest.approx(4000, abs=0.1) and found["slope_deg"][0] == pytest.approx(
        0, abs=0.1
    )
    assert np.isnan([found[name][1] for name in heights.COLUMNS]).all()


def test_lakes_of_a_network_of_three_bands(bright: Bright, model: Path, tmp_path: Path) -> None:
    """Its map is the same pixel for pixel, and the table has two columns more; another DEM makes the table anew."""
    scene, maps = scene_of(tmp_path), tmp_path / "maps"
    ways = ("--sensor", "sentinel2")
    assert mapped(model, maps, scene, more=ways) == 0
    plain = geopandas.read_file(maps / "s_lakes.gpkg", layer="lakes")
    raster = (maps / "s_mask.tif").read_bytes()
    for degrees in (10.0, 30.0):
        dem = write_dem(tmp_path / "dem.tif", plane(degrees), size=(100, 100))
        assert mapped(model, maps, scene, more=(*ways, "--dem", str(dem))) == 0
        lakes = geopandas.read_file(maps / "s_lakes.gpkg", layer="lakes")
        assert list(lakes.columns) == [*areas.columns_of(False, True), "geometry"] and len(lakes) == len(plain) > 0
        assert np.allclose(lakes["slope_deg"], degrees, atol=0.05) and lakes["elevation_m"].between(3000, 5000).all()
    assert lakes[list(plain.columns)].equals(plain) and (maps / "s_mask.tif").read_bytes() == raster
    assert json.loads((maps / "s.json").read_text())["properties"]["glidexp:dem"] == ["dem.tif"]


def test_a_map_without_lakes_has_the_columns_too(bright: Bright, model: Path, tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif", plane(10.0), size=(100, 100))
    ways = ("--sensor", "sentinel2", "--dem", str(dem), "--min-km2", "1000")
    assert mapped(model, tmp_path / "maps", scene_of(tmp_path), more=ways) == 0
    lakes = geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet")
    assert not len(lakes) and list(lakes.columns) == [*areas.columns_of(False, True), "geometry"]
    assert lakes[list(heights.COLUMNS)].dtypes.eq(float).all()


def test_a_dem_elsewhere_is_told_and_leaves_heights_empty(
    bright: Bright, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network does without it, so the scene is mapped; what is no DEM is refused before."""
    scene = scene_of(tmp_path)
    dem = write_dem(tmp_path / "dem.tif", plane(10.0), west=700_000.0)
    assert below(over(scene, write_dem(tmp_path / "far.tif", plane(0.0), size=(100, 100))), ())[1] == ()
    words = ["predict", str(model), str(scene), "--out", str(tmp_path / "maps"), "--sensor", "sentinel2"]
    assert told_by(*words, "--dem", str(dem)) == 0
    assert "s.tif: the DEM does not reach it: its lakes are without heights." in capsys.readouterr().err
    lakes = geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet")
    assert len(lakes) and lakes[list(heights.COLUMNS)].isna().all(axis=None)
    dem.write_bytes(b"no raster")
    assert told_by(*words, "--dem", str(dem)) == 2 and "dem.tif cannot be read" in capsys.readouterr().err


def test_lakes_of_a_network_over_a_dem(model: Path, sloped: list[torch.Tensor], tmp_path: Path) -> None:
    """One DEM gives both: what the network sees, and heights of what it finds there."""
    dem = write_dem(tmp_path / "dem.tif", plane(2.0), size=(100, 100))
    ways = ("--sensor", "sentinel2", "--dem", str(dem))
    assert mapped(model, tmp_path / "maps", scene_of(tmp_path), more=ways) == 0
    lakes = geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet")
    assert len(lakes) and np.allclose(lakes["slope_deg"], 2.0, atol=0.05) and sloped[0].shape[1] == 4


def test_a_server_with_a_dem(bundle: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Lakes of an upload have heights, those of a picture that lies nowhere none, and the network needs neither."""
    dem = write_dem(tmp_path / "dem.tif", plane(10.0), size=(100, 100))
    settings = ServeSettings(maps=MapSettings(device="cpu"), sensor="sentinel2", dem=str(dem))
    inside = Inside(mapper.begin(Setup(bundle[0], "a-model", settings)))
    picture = io.BytesIO()
    Image.fromarray(levels(np.uint8).transpose(1, 2, 0)).save(picture, "PNG")
    with served(tmp_path / "root", bundle[1], inside, settings) as address:
        placed = sent(address, a_scene(tmp_path).read_bytes()).json()
        flat = sent(address, picture.getvalue()).json()
    for lakes in (placed, flat):
        assert len(lakes["features"]) == 4
    for one in placed["features"]:
        assert one["properties"]["slope_deg"] == pytest.approx(10.0, abs=0.05)
    assert not any({*heights.COLUMNS} & {*one["properties"]} for one in flat["features"])
