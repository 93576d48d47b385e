"""Clouds that a product, a catalogue or a STAC item marks: found, laid over the scene's pixels, without data."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from test_predict import bright, mapped, model
from test_predict import pixels as with_lakes
from test_sources import LANDSAT, SAFE, pixels, rgb, write_bands
from tiny_scenes import NORTH, WEST, write_scene
from tiny_scenes import world as scenery

from glidexp import cli
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.scenes.catalogue import find
from glidexp.data.scenes.numbers import values_of
from glidexp.data.scenes.reading import read_header
from glidexp.errors import DataError
from glidexp.mapping import verb_inventory

__all__ = ["bright", "model", "rgb"]  # fixtures
LEFT, RIGHT = slice(0, 40), slice(40, 96)


def landsat(folder: Path, values: np.ndarray, quality: np.ndarray | None) -> Path:
    """A product of Collection 2 with layers of it that are neither bands nor scenes."""
    write_bands(folder, values[::-1], tuple(f"{LANDSAT}_B{n}.TIF" for n in (2, 3, 4)), gsd_m=30.0)
    for name in ("QA_RADSAT", "SAA", "ST_QA"):
        write_scene(folder / f"{LANDSAT}_{name}.TIF", bands=1, gsd_m=30.0)
    if quality is not None:
        write_scene(folder / f"{LANDSAT}_QA_PIXEL.TIF", pixels=quality[None], gsd_m=30.0)
    return folder


def test_bits_of_landsat_are_cloud_and_its_rim(tmp_path: Path, rgb: np.ndarray) -> None:
    """Bits 1 and 3; not cirrus (2), shadow (4), snow (5), clear (6), water (7) or the confidences above."""
    quality = np.full((64, 96), 0xFFFF & ~0b1010, np.uint16)
    quality[20:30, LEFT], quality[40, 50] = 1 << 3 | 1 << 6, 1 << 1
    landsat(tmp_path, rgb, quality)
    (left_alone,) = find(tmp_path, "unknown")
    assert left_alone.clouds is None and left_alone.sensor == "landsat8"
    assert pixels(read_header(left_alone))[1].sum() == 64 * 96 - 64
    (file,) = find(tmp_path, "unknown", mask_clouds=True)
    assert file.clouds == tmp_path / f"{LANDSAT}_QA_PIXEL.TIF" and file.clouds in file.files
    values, valid = pixels(read_header(file))
    expected = rgb.any(axis=0) & ~((quality & 0b1010) > 0)
    assert (valid == expected).all() and (~valid).sum() == 64 + 400 + 1 and (values == rgb).all()


@pytest.mark.parametrize(("product", "near"), [("L30", "B05"), ("S30", "B8A")])
@pytest.mark.parametrize("folder", ["", "own"])
def test_hls_is_read_as_it_is_downloaded(tmp_path: Path, product: str, near: str, folder: str) -> None:
    """Signed reflectance, filled with -9999, and bit 1 of Fmask: not what lies beside clouds (2), shadow (3), snow (4),
    water (5) or aerosols above."""
    stem = f"HLS.{product}.T45RVL.2020123T045512.v2.0"
    place = tmp_path / (stem if folder else "")
    values = np.random.default_rng(0).integers(-50, 9000, (4, 64, 96)).astype(np.int16)
    values[:, :8, :8], values[2, 20, 20] = -9999, -9999
    for code, band in zip(("B04", "B03", "B02", near), values, strict=True):
        write_scene(place / f"{stem}.{code}.tif", pixels=band[None], gsd_m=30.0, nodata=-9999)
    fmask = np.full((64, 96), 0b11111101, np.uint8)
    fmask[30:40, :50] |= 2
    write_scene(place / f"{stem}.Fmask.tif", pixels=fmask[None], gsd_m=30.0, nodata=255)
    write_scene(place / f"{stem}.SZA.tif", bands=1, gsd_m=30.0)
    (file,) = find(tmp_path, "unknown", mask_clouds=True)
    assert (file.scene, file.sensor, file.date) == (stem, f"hls_{product.lower()}", "2020-05-02")
    scene = read_header(file, ["red", "green", "blue", "nir"])
    codes, valid = pixels(scene)
    expected = (values != -9999).all(axis=0) & (fmask & 2 == 0)
    assert (valid == expected).all() and not scene.warnings
    assert (values_of(scene.numbers)[codes[:, valid]] == values[:, valid]).all()


def test_a_picture_beside_a_product_stays_a_scene(tmp_path: Path, rgb: np.ndarray) -> None:
    landsat(tmp_path, rgb, None)
    write_scene(tmp_path / f"{LANDSAT}_RGB.tif", gsd_m=30.0)
    write_scene(tmp_path / "other_QA_PIXEL.tif", gsd_m=30.0)
    assert [file.scene for file in find(tmp_path, "unknown")] == [LANDSAT, f"{LANDSAT}_RGB", "other_QA_PIXEL"]


def sentinel(root: Path, values: np.ndarray, classes: np.ndarray) -> Path:
    images = root / SAFE / "GRANULE" / "L2A_T45RVL_A027707_20201012T045719" / "IMG_DATA"
    stem = "T45RVL_20201012T045719"
    write_bands(images / "R10m", values[::-1], tuple(f"{stem}_B0{n}_10m.tif" for n in (2, 3, 4)))
    for side in (20, 60):
        write_scene(images / f"R{side}m" / f"{stem}_SCL_{side}m.tif", pixels=classes[None], gsd_m=float(side))
    return root / SAFE


def test_cells_of_sentinel_are_four_pixels_each(tmp_path: Path, rgb: np.ndarray) -> None:
    """Classes 8 and 9 of the finest layer; windows begin and end within cells."""
    classes = np.random.default_rng(1).integers(0, 12, (32, 48)).astype(np.uint8)
    safe = sentinel(tmp_path, rgb, classes)
    for root in (safe, tmp_path):
        (file,) = find(root, "unknown", mask_clouds=True)
        scene = read_header(file)
        assert scene.clouds is not None and scene.clouds.times == 2 and "_SCL_20m" in scene.clouds.path.name
        cloud = np.isin(classes, (8, 9)).repeat(2, 0).repeat(2, 1)
        assert (pixels(scene)[1] == rgb.any(axis=0) & ~cloud).all()
    for top, left, height, width in ((3, 5, 40, 7), (0, 0, 1, 1), (63, 95, 1, 1), (2, 4, 33, 92), (7, 0, 57, 96)):
        part = replace(scene, top=top, left=left, height=height, width=width)  # as of a file that is cut into parts
        window = slice(top, top + height), slice(left, left + width)
        assert (pixels(part)[1] == (rgb.any(axis=0) & ~cloud)[window]).all()


def test_a_mask_of_ones_own_and_an_asset(tmp_path: Path, rgb: np.ndarray) -> None:
    """In the column clouds, a raster in which anything but 0 is cloud; in STAC the assets scl and qa_pixel."""
    write_scene(tmp_path / "s.tif", pixels=rgb, nodata=0)
    mask = np.zeros((64, 96), np.uint8)
    mask[30:40, RIGHT] = 255
    write_scene(tmp_path / "mine.tif", pixels=mask[None])
    (tmp_path / "scenes.csv").write_text("path,scene,sensor,clouds\ns.tif,a,sentinel2,mine.tif\n")
    classes = np.full((32, 48), 5, np.uint8)
    classes[15:20, 20:] = 9
    write_scene(tmp_path / "SCL.tif", pixels=classes[None], gsd_m=20.0)
    item = {
        "id": "a",
        "assets": {
            "visual": {"href": "s.tif", "type": "image/tiff", "roles": ["data"], "eo:bands": [{}, {}, {}]},
            "scl": {"href": "SCL.tif", "type": "image/tiff", "roles": ["data"]},
        },
    }
    for asset, colour in zip(item["assets"]["visual"]["eo:bands"], ("red", "green", "blue"), strict=True):
        asset["common_name"] = colour
    item["assets"]["scl"]["roles"] = ["classification"]
    (tmp_path / "item.json").write_text(json.dumps(item))
    for table in ("scenes.csv", "item.json"):
        (file,) = find(tmp_path / table, "sentinel2", mask_clouds=True)
        assert (pixels(read_header(file))[1] == rgb.any(axis=0) & (mask == 0)).all(), table
    item["assets"]["scl"]["href"] = "https://example.org/SCL.tif"  # as of an item whose other assets were fetched
    (tmp_path / "item.json").write_text(json.dumps(item))
    assert find(tmp_path / "item.json", "sentinel2")[0].clouds is None
    assert find(tmp_path / "item.json", "sentinel2", mask_clouds=True)[0].clouds is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"west": WEST + 5.0},
        {"gsd_m": 15.0},
        {"crs": "EPSG:32644"},
        {"bands": 3},
        {"width": 95},
        {"gsd_m": 9.99, "width": 97, "height": 65},
        {"gsd_m": 5.0, "width": 192, "height": 128},
        {"dtype": "float32"},
    ],
)
def test_a_layer_on_another_grid_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    write_scene(tmp_path / "s.tif")
    write_scene(tmp_path / "clouds.tif", **{"bands": 1, **wrong})  # type: ignore[arg-type]
    (tmp_path / "scenes.csv").write_text("path,clouds\ns.tif,clouds.tif\n")
    (file,) = find(tmp_path / "scenes.csv", "sentinel2", mask_clouds=True)
    with pytest.raises(DataError, match=r"clouds\.tif, the clouds of a scene, must be one band of whole numbers"):
        read_header(file)


def test_a_store_without_what_lies_under_clouds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = scenery(tmp_path / "data")
    usual = recipe_id(dataset, 32)
    rows = (tmp_path / "data" / "scenes.csv").read_text().splitlines()
    cloud = np.zeros((64, 96), np.uint8)
    cloud[:32] = 1
    write_scene(tmp_path / "data" / "c0.tif", pixels=cloud[None])
    named = [rows[0] + ",clouds", rows[1] + ",c0.tif", *(f"{row}," for row in rows[2:])]
    plain = prepare(dataset, 32, tmp_path / "stores", progress=False)
    dataset.mask_clouds = True
    with pytest.raises(DataError, match=re.escape("dataset.mask_clouds=true: no scene has a layer of clouds")):
        prepare(dataset, 32, tmp_path / "stores", progress=False)
    (tmp_path / "data" / "scenes.csv").write_text("\n".join(named))
    with caplog.at_level(logging.WARNING):
        store = prepare(dataset, 32, tmp_path / "stores", progress=False)
    assert "3 of 4 scenes, as s1, have no layer of clouds: theirs stay." in caplog.text
    assert store.manifest["recipe"]["mask_clouds"] is True and "mask_clouds" not in plain.manifest["recipe"]
    assert usual == plain.manifest["recipe_id"]  # as before there was such a setting
    rows_of = [set(one.index[one.index["scene"] == "s0"]["row"]) for one in (plain, store)]
    assert rows_of == [{0, 32}, {32}], "tiles of invalid ground alone are none"
    assert len(store.index[store.index["scene"] == "s1"]) == len(plain.index[plain.index["scene"] == "s1"])


def test_a_map_looks_at_no_ground_under_clouds(model: Path, bright: object, tmp_path: Path) -> None:
    """And a series knows of the lake there that this date says nothing of it."""
    cloud = np.zeros((150, 200), np.uint8)
    cloud[10:60, 20:80] = 1
    write_scene(tmp_path / "cloud.tif", pixels=cloud[None])
    names = {"clear_2001": "", "cloudy_2005": "cloud.tif", "clear_2009": ""}
    for name in names:
        under = with_lakes()
        under[:, cloud > 0] = 500 if name == "cloudy_2005" else under[:, cloud > 0]
        write_scene(tmp_path / f"{name}.tif", pixels=under, descriptions=["red", "green", "blue"])
    rows = [f"{name}.tif,{name},sentinel2,{layer}" for name, layer in names.items()]
    (tmp_path / "scenes.csv").write_text("\n".join(["path,scene,sensor,clouds", *rows]))
    out = tmp_path / "maps"
    for more, invalid in (((), 0), (("--mask-clouds",), 3000)):  # another map: it is made anew
        assert mapped(model, out, tmp_path / "scenes.csv", more=more) == 0
        with rasterio.open(out / "cloudy_2005_probability.tif") as file:
            levels = file.read(1)
        assert (levels == 255).sum() == invalid and ((levels == 255) == (cloud > 0)).all() == bool(more)
    told = json.loads((out / "cloudy_2005.json").read_text())["properties"]
    assert told["glidexp:clouds"] == "cloud.tif"
    assert json.loads((out / "clear_2001.json").read_text())["properties"]["glidexp:clouds"] is None
    ground = geopandas.read_file(out / "cloudy_2005_lakes.gpkg", layer="ground").geometry.iloc[0]
    assert not ground.intersects(shapely.box(WEST + 320, NORTH - 500, WEST + 680, NORTH - 220))
    maps = [str(path) for path in sorted(out.glob("*_lakes.gpkg"))]
    assert verb_inventory.run(["series", *maps, "--out", str(tmp_path / "change")]) == 0
    dates = geopandas.read_file(tmp_path / "change" / "series.gpkg", layer="dates")
    largest = dates.loc[dates["area_km2"].idxmax(), "lake_id"]
    assert dates[dates["lake_id"] == largest]["state"].tolist() == ["seen", "not_looked_at", "seen"]


def test_no_layer_of_clouds_is_told_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "s.tif", descriptions=["red", "green", "blue"])
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(model), str(scene), "--out", str(tmp_path / "maps"), "--mask-clouds"])
    told = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and "--mask-clouds: no scene has a layer of clouds" in told and "\n" not in told
    assert not (tmp_path / "maps").exists()
