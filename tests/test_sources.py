"""Scenes from folders and catalogues, from one file or one a band: however pixels are stored, they are the same."""

import json
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
from pyproj import CRS
from rasterio.transform import Affine
from tiny_scenes import NORTH, WEST, write_scene

from glidexp.data.scenes.catalogue import SceneFile, find
from glidexp.data.scenes.numbers import values_of
from glidexp.data.scenes.products import date_of
from glidexp.data.scenes.reading import Scene, read_header, read_strips
from glidexp.errors import DataError, GlidexpError
from glidexp.mapping.stac import on_globe

SAFE = "S2A_MSIL2A_20201012T045721_N0214_R119_T45RVL_20201012T071000.SAFE"
LANDSAT = "LC08_L1TP_140041_20201103_20201112_02_T1"


def pixels(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """The whole scene and which of its pixels are valid."""
    strips = list(read_strips(scene, 32))
    return np.concatenate([s[1] for s in strips], axis=1), np.concatenate([s[2] for s in strips])


def one(root: Path, sensor: str = "unknown") -> Scene:
    (file,) = find(root, sensor)
    return read_header(file)


@pytest.fixture
def rgb() -> np.ndarray:
    """(3, 64, 96) 12-bit values in uint16, the upper left corner without data."""
    values = np.random.default_rng(7).integers(1, 4096, (3, 64, 96)).astype(np.uint16)
    values[:, :8, :8] = 0
    return values


def write_bands(folder: Path, values: np.ndarray, names: tuple[str, str, str], **options: Any) -> Path:
    for name, band in zip(names, values, strict=True):
        write_scene(folder / name, pixels=band[None], **options)
    return folder


@pytest.mark.parametrize(
    ("driver", "ending", "options"),
    [
        ("COG", "tif", {"BLOCKSIZE": "128", "COMPRESS": "DEFLATE"}),
        ("JP2OpenJPEG", "jp2", {"QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": "64", "BLOCKYSIZE": "64"}),
        ("VRT", "vrt", {}),
        ("HFA", "img", {}),
        ("ENVI", "dat", {}),
        ("ENVI", "bsq", {}),
    ],
)
def test_every_format_gives_the_same_pixels(
    tmp_path: Path, rgb: np.ndarray, driver: str, ending: str, options: dict[str, str]
) -> None:
    source = write_scene(tmp_path / "s.tif", pixels=rgb, nodata=0, photometric="RGB")
    (tmp_path / "scenes").mkdir()
    with rasterio.open(source) as opened:
        rasterio.shutil.copy(opened, tmp_path / "scenes" / f"s.{ending}", driver=driver, **options)
    scene = one(tmp_path / "scenes")
    values, valid = pixels(scene)
    assert (values == rgb).all() and (valid == rgb.any(axis=0)).all()
    assert scene.gsd_m == 10.0 and scene.crs_text == "EPSG:32645"


def test_a_header_beside_a_file_counts_as_a_part_of_it_and_other_data_are_no_scene(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    with rasterio.open(write_scene(tmp_path / "s.tif")) as opened:
        rasterio.shutil.copy(opened, folder / "s.dat", driver="ENVI")
    (folder / "notes.dat").write_text("1 2 3")
    (file,) = find(folder, "unknown")
    before = file.stand
    header = folder / "s.hdr"
    header.write_text(header.read_text() + "data ignore value = 0\n")
    assert file.stand != before and {row[0] for row in file.stand} >= {"s.dat", "s.hdr"}


def test_landsat_and_sentinel_products_are_one_scene_each(tmp_path: Path, rgb: np.ndarray) -> None:
    """B2, B3, B4 are blue, green, red here; 0 in every band is no data, as providers fill without declaring it."""
    bgr = rgb[::-1]
    safe = tmp_path / SAFE / "GRANULE" / "L2A_T45RVL_A027707_20201012T045719" / "IMG_DATA"
    stem = "T45RVL_20201012T045719"
    write_bands(safe / "R10m", bgr, tuple(f"{stem}_B0{n}_10m.tif" for n in (2, 3, 4)))
    write_bands(safe / "R20m", bgr[:, ::2, ::2], tuple(f"{stem}_B0{n}_20m.tif" for n in (2, 3, 5)), gsd_m=20.0)
    flat = {"gsd_m": 30.0}
    write_bands(tmp_path / LANDSAT, bgr, tuple(f"{LANDSAT}_B{n}.TIF" for n in (2, 3, 4)), **flat)
    write_bands(
        tmp_path, bgr, tuple(f"LC09_L2SP_140041_20220101_20220103_02_T1_SR_B{n}.TIF" for n in (2, 3, 4)), **flat
    )
    # band 1 of Landsat 7 is blue
    write_bands(tmp_path, bgr, tuple(f"LE71400412000304SGS00_B{n}.tif" for n in (1, 2, 3)), **flat)
    files = find(tmp_path, "unknown")
    assert [(file.sensor, file.date) for file in files] == [
        ("landsat8", "2020-11-03"),
        ("landsat9", "2022-01-01"),
        ("landsat7", "2000-10-30"),
        ("sentinel2", "2020-10-12"),
    ]
    assert files[3].scene == SAFE.removesuffix(".SAFE")
    for file in files:
        scene = pickle.loads(pickle.dumps(read_header(file)))
        values, valid = pixels(scene)
        assert (values == rgb).all() and (valid == rgb.any(axis=0)).all()
    with pytest.raises(DataError, match=r"B04_10m\.tif \(96 x 64 px of 10 m.* and .*B05_20m\.tif \(48 x 32 px of 20 m"):
        read_header(files[3], ("red", "rededge"))
    with pytest.raises(DataError, match=r"has no file for nir, only for blue, green, red"):
        read_header(files[0], ("nir", "red"))
    with pytest.raises(DataError, match=r"is of landsat8 by its name, but its sensor is given as sentinel2"):
        find(tmp_path / LANDSAT, "sentinel2")


def test_bands_on_another_grid_are_never_resampled(tmp_path: Path, rgb: np.ndarray) -> None:
    for n, west in ((2, WEST), (3, WEST), (4, WEST + 15.0)):
        write_scene(tmp_path / f"{LANDSAT}_B{n}.TIF", pixels=rgb[:1], gsd_m=30.0, west=west)
    with pytest.raises(DataError, match="do not share one grid: choose bands of one resolution"):
        one(tmp_path)
    write_scene(tmp_path / f"{LANDSAT}_B4.TIF", pixels=rgb[:1], gsd_m=30.0, crs="EPSG:32644")
    with pytest.raises(DataError, match=r"in EPSG:32644\) and .* in EPSG:32645\) do not share"):
        one(tmp_path)


def test_bands_whose_pixels_differ_a_little_part_over_a_whole_scene(tmp_path: Path) -> None:
    """A pixel of 30.02 m for 30 m is nothing by itself, and 1.3 pixels after 2,000 of them."""
    row = np.ones((1, 1, 2000), np.uint16)
    for n, gsd_m in ((2, 30.0), (3, 30.0), (4, 30.02)):
        write_scene(tmp_path / f"{LANDSAT}_B{n}.TIF", pixels=row, gsd_m=gsd_m)
    with pytest.raises(DataError, match="do not share one grid"):
        one(tmp_path)
    write_scene(tmp_path / f"{LANDSAT}_B4.TIF", pixels=row, gsd_m=30.0 + 1e-6)  # rounded by who wrote it
    assert one(tmp_path).width == 2000


def test_one_scene_by_every_catalogue(tmp_path: Path, rgb: np.ndarray) -> None:
    stack = write_scene(tmp_path / "s.tif", pixels=rgb[::-1], photometric="MINISBLACK")
    write_bands(tmp_path / "b", rgb, ("r.tif", "g.tif", "b.tif"))
    row = {"scene": "khumbu", "sensor": "sentinel2", "region": "himalaya", "date": "2020-10-12"}
    (tmp_path / "one.csv").write_text(
        "path,scene,sensor,region,date,bands\ns.tif,khumbu,sentinel2,himalaya,2020-10-12,blue green red\n"
    )
    (tmp_path / "each.csv").write_text(
        "path,scene,sensor,region,date,bands\nb,khumbu,sentinel2,himalaya,2020-10-12,red=r.tif green=g.tif blue=b.tif\n"
    )
    table = geopandas.GeoDataFrame(
        [{"path": "s.tif", **row, "bands": ["blue", "green", "red"]}],
        geometry=geopandas.points_from_xy([86.8], [28.0]),
        crs=4326,
    )
    table.to_parquet(tmp_path / "one.parquet")
    item: dict[str, Any] = {"type": "Feature", "stac_version": "1.0.0", "id": "khumbu", "geometry": None}
    item["properties"] = {"datetime": "2020-10-12T04:57:21Z", "platform": "sentinel-2a", "region": "himalaya"}
    names = [{"name": name, "common_name": colour} for name, colour in (("a", "blue"), ("b", "green"), ("c", "red"))]
    whole = {"href": "./s.tif", "type": "image/tiff; application=geotiff", "roles": ["data"], "eo:bands": names}
    (tmp_path / "one.json").write_text(json.dumps(item | {"assets": {"all": whole}}))
    each: dict[str, dict[str, Any]] = {
        key: {"href": f"b/{name}.tif", "roles": None} for key, name in (("B04", "r"), ("B03", "g"), ("blue", "b"))
    }
    each["preview"] = {"href": "https://example.org/p.jpg", "type": "image/jpeg"}
    collection = {"type": "FeatureCollection", "features": [item | {"assets": each}]}
    (tmp_path / "each.json").write_text(json.dumps(collection))
    for name in ("one.csv", "each.csv", "one.parquet", "one.json", "each.json"):
        scene = one(tmp_path / name)
        assert {key: getattr(scene.file, key) for key in row} == row, name
        assert (pixels(scene)[0] == rgb).all(), name
    assert find(tmp_path / "one.csv", "unknown")[0].files == (stack,)
    each["B04"]["href"] = "https://example.org/r.tif"
    (tmp_path / "far.json").write_text(json.dumps(collection))
    with pytest.raises(DataError, match=r"item 'khumbu': https://example\.org/r\.tif is not on this machine"):
        find(tmp_path / "far.json", "unknown")


def test_a_vrt_stands_for_its_files_and_tells_when_it_resamples(tmp_path: Path, rgb: np.ndarray) -> None:
    source = write_scene(tmp_path / "s.tif", pixels=rgb)
    with rasterio.open(source) as opened:
        rasterio.shutil.copy(opened, tmp_path / "v.vrt", driver="VRT")
    (file,) = find(tmp_path, "unknown")
    assert file.scene == "v" and file.files == (tmp_path / "v.vrt", source)
    assert not any("resamples" in note for note in read_header(file).warnings)
    text = (tmp_path / "v.vrt").read_text()
    (tmp_path / "v.vrt").write_text(re.sub(r'(<DstRect .*xSize=")96', r"\g<1>48", text))
    assert any("a VRT that resamples its sources" in note for note in read_header(file).warnings)
    (tmp_path / "v.vrt").write_text(text.replace("s.tif", "gone.tif", 1))
    assert [file.scene for file in find(tmp_path, "unknown")] == ["v"], "what is there still belongs to it"
    with pytest.raises(DataError, match=r"v\.vrt refers to gone\.tif, which is no file here"):
        read_header(file)
    (tmp_path / "v.vrt").write_text('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><VRTDataset/>')
    with pytest.raises(DataError, match="declares a document type"):
        read_header(file)


def test_a_vrt_that_moves_its_sources_by_half_a_pixel_resamples(tmp_path: Path, rgb: np.ndarray) -> None:
    """As gdalbuildvrt does with files whose grids do not meet; whole pixels are only another place."""
    source = write_scene(tmp_path / "s.tif", pixels=rgb)
    with rasterio.open(source) as opened:
        rasterio.shutil.copy(opened, tmp_path / "v.vrt", driver="VRT")
    text = (tmp_path / "v.vrt").read_text()
    for offset, told in (("3", False), ("0.5", True)):
        moved, count = re.subn(r'(<DstRect xOff=")0', rf"\g<1>{offset}", text)
        (tmp_path / "v.vrt").write_text(moved)
        assert count == 3
        with rasterio.open(tmp_path / "v.vrt") as opened:
            rasterio.shutil.copy(opened, tmp_path / "outer.vrt", driver="VRT")
        for name in ("v", "outer"):
            notes = read_header(SceneFile(tmp_path / f"{name}.vrt", name, "unknown")).warnings
            assert any("a VRT that resamples its sources" in note for note in notes) == told


def test_one_band_file_of_several_is_told_what_to_give(tmp_path: Path, rgb: np.ndarray) -> None:
    path = write_scene(tmp_path / "s.tif", pixels=rgb[:1])
    with pytest.raises(DataError, match="has one band and none is named red, green, blue: give the folder of"):
        one(path)


@pytest.mark.parametrize(
    ("crs", "corner", "px"), [("EPSG:32645", (5e5, 3e6), 1e-9), ("EPSG:4326", (500.0, 200.0), 1e-3)]
)
def test_a_scene_that_is_nowhere_on_earth_is_refused(
    tmp_path: Path, rgb: np.ndarray, crs: str, corner: tuple[float, float], px: float
) -> None:
    path = write_scene(tmp_path / "s.tif", pixels=rgb)
    with rasterio.open(path, "r+") as source:
        source.crs, source.transform = crs, Affine(px, 0, corner[0], 0, -px, corner[1])
    with pytest.raises(DataError, match=r"s\.tif lies nowhere on Earth by its CRS and position: georeference it anew"):
        one(path)


def test_a_position_that_is_no_number_is_none(tmp_path: Path, rgb: np.ndarray) -> None:
    path = write_scene(tmp_path / "s.tif", pixels=rgb)
    with rasterio.open(path, "r+") as source:
        source.transform = Affine(math.nan, 0, 5e5, 0, -10, 3e6)
    with pytest.raises(DataError, match=r"s\.tif has no CRS or no position"):
        one(path)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90.0), ("EPSG:3031", -90.0)])
def test_a_scene_over_a_pole_has_the_pole_in_its_outline(
    tmp_path: Path, rgb: np.ndarray, crs: str, pole: float
) -> None:
    path = write_scene(tmp_path / "s.tif", pixels=rgb)
    with rasterio.open(path, "r+") as source:
        source.crs, source.transform = crs, Affine(30, 0, -1000, 0, -30, 700)
    outline = one(path).outline_lonlat
    west, south, east, north = outline.bounds
    assert outline.is_valid and east - west == pytest.approx(360) and pole in (south, north)
    geometry, box = on_globe(outline)
    assert geometry.is_valid and geometry.bounds == (-180, south, 180, north) and box == [-180, south, 180, north]


def test_a_packed_product_is_told_to_be_unpacked(tmp_path: Path) -> None:
    packed = tmp_path / f"{LANDSAT}.tar"
    packed.write_bytes(b"any")
    with pytest.raises(DataError, match=rf"{LANDSAT}\.tar is packed: unpack it, and give what was in it\.$"):
        find(packed, "landsat8")
    with pytest.raises(DataError, match=rf"holds no scene: unpack what is packed there, as {LANDSAT}\.tar\.$"):
        find(tmp_path, "landsat8")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "scene\nx\n", "has no column 'path' but 'scene'"),
        ("a.csv", "path;scene\ns.tif;x\n", "no column 'path' but 'path;scene': .*, with commas between"),
        ("a.csv", "path,Path\ns.tif,s.tif\n", "has the column 'path' twice"),
        ("a.csv", "path,date\ns.tif,T\n", "the date 'T' is no day like 2020-10-12"),
        ("a.csv", "path,bands\n,red=a.tif red=b.tif\n", "bands 'red=a.tif red=b.tif' name a band twice"),
        ("a.csv", "path,bands\ns.tif,blue green\n", r"has 3 bands, the catalogue names 2 \(blue, green\)"),
        ("a.csv", "path,bands\n,red= green=g.tif\n", "must be 'red=FILE green=FILE ...'"),
        ("a.csv", "path\nd\n", "holds 0 scenes of one file a band"),
        ("a.csv", "path,bands\n,red=s.tif green=s.tif blue=s.tif\n", "is given as one band of s but has 3"),
        ("a.csv", "path,scene,date\ns.tif,s,12/10/2020\n", "the date '12/10/2020' is no day like 2020-10-12"),
        ("a.csv", "path,scene,sensor\ns.tif,s,\n,lost,landsat8\n", "the row 'lost landsat8' has no path"),
        ("a.parquet", "path\n", "cannot be read as GeoParquet"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", '{"type": "FeatureCollection", "features": [{"type": "Feature"}]}', "is no STAC item"),
        ("a.json", '{"id": "x", "assets": {"a": {"href": "s.tif"}, "b": {"href": "s.tif"}}}', "2 assets could be"),
        ("a.json", '{"id": "x", "properties": [1], "assets": {"a": {"href": "s.tif"}}}', "is not as STAC has it"),
        ("a.json", '{"id": "x", "assets": {"a": {"href": "s.tif", "eo:bands": 5}}}', "is not as STAC has it"),
        ("a.json", "[" * 100_000, "cannot be read as JSON"),
        ("a.json", '{"id": "x", "assets": {"a": {"href": "http://[s.tif"}}}', "is not as STAC has it"),
        (
            "a.json",
            '{"id": "x", "properties": {"datetime": "12/10/2020"}, "assets": {"a": {"href": "s.tif"}}}',
            "the date '12/10/2020' is no day like",
        ),
        ("d/a.SAFE/x", "", "holds no band file at GRANULE"),
    ],
)
def test_what_is_no_catalogue_is_one_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    write_scene(tmp_path / "s.tif")
    (tmp_path / "d").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(GlidexpError, match=says) as caught:
        one(tmp_path / ("d" if name.startswith("d/") else name))
    assert "\n" not in str(caught.value)


def test_columns_are_known_in_any_case_and_with_space_around(tmp_path: Path) -> None:
    write_scene(tmp_path / "s.tif")
    (tmp_path / "a.csv").write_text("Path, Scene ,SENSOR, region\ns.tif,x,sentinel2,andes\n")
    pd.DataFrame({"Path": ["s.tif"], "Scene": ["x"], "Sensor": ["sentinel2"], "Region": ["andes"]}).to_parquet(
        tmp_path / "a.parquet"
    )
    for name in ("a.csv", "a.parquet"):
        (file,) = find(tmp_path / name, "unknown")
        assert (file.scene, file.sensor, file.region) == ("x", "sentinel2", "andes")


@pytest.mark.parametrize("text", ["2020-10-12", "20201012", "2020-10-12T04:57:21Z", "2020-10-12 00:00:00"])
def test_a_day_is_written_one_way_whatever_a_table_says(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(f"path,date\ns.tif,{text}\n\nt.tif,\n")
    assert [file.date for file in find(tmp_path / "a.csv", "unknown")] == ["2020-10-12", ""]


def test_old_names_of_sentinel_2_begin_with_the_day_of_processing() -> None:
    assert date_of("S2A_OPER_PRD_MSIL1C_PDMC_20160101T123456_R019_V20151230T045000_20151230T045000") == "2015-12-30"


def test_the_path_of_a_stac_asset_may_be_written_as_an_address(tmp_path: Path) -> None:
    write_scene(tmp_path / "a b.tif")
    (tmp_path / "a.json").write_text('{"id": "x", "assets": {"a": {"href": "a%20b.tif"}}}')
    assert find(tmp_path / "a.json", "unknown")[0].path == tmp_path / "a b.tif"


def test_a_pixel_in_files_of_its_bands_is_without_data_where_all_of_them_say_so_or_any_mask_does(
    tmp_path: Path, rgb: np.ndarray
) -> None:
    """The corner of 8 x 8 px is 0 in all bands, and one pixel more in the green one alone."""
    rgb[1, 20, 30] = 0
    corner = rgb.any(axis=0)

    def valid(*nodata: float | None, fill: float | None = None, masked: bool = False) -> np.ndarray:
        files = []
        for name, band, value in zip(("red", "green", "blue"), rgb, nodata, strict=True):
            path = write_scene(tmp_path / f"{name}.tif", pixels=band[None], nodata=value)
            if masked and name == "green":
                with rasterio.open(path, "r+") as file:
                    file.write_mask(band > 0)
            files.append((name, path))
        scene = read_header(SceneFile(files[0][1], "s", "unknown", bands=tuple(files), fill=fill))
        values, found = pixels(scene)
        assert np.array_equal(values, rgb)
        return found

    assert np.array_equal(valid(0, 0, 0), corner)
    assert valid(0, 0, None).all(), "the blue one declares nothing"
    assert np.array_equal(valid(0, None, None, fill=0), corner)
    assert valid(7, 7, 7, fill=0)[0, 0], "what a file declares counts more than what its provider fills with"
    assert np.array_equal(valid(0, 0, 0, masked=True), rgb[1] > 0), "a mask counts more than nodata"


def test_one_band_alone_is_read_from_its_own_file(tmp_path: Path, rgb: np.ndarray) -> None:
    paths = [write_scene(tmp_path / f"{name}.tif", pixels=band[None]) for name, band in zip("rgb", rgb, strict=True)]
    file = SceneFile(paths[0], "s", "unknown", bands=tuple(zip(("red", "green", "blue"), paths, strict=True)))
    scene = read_header(file, ("green",))
    values, _ = pixels(scene)
    assert scene.bands == (1,) and np.array_equal(values, rgb[1:2])


@pytest.mark.parametrize(
    ("crs", "transform", "height_m", "width_m"),
    [
        # a step to the right is (8, 6) m, one down (12, -16) m: a turned pixel of 10 x 20 m
        ("EPSG:32645", Affine(8.0, 12.0, 500_000.0, 6.0, -16.0, 3_100_000.0), 20.0, 10.0),
        # a thousandth of a degree at 28 N: 110.820 m of meridian, 98.362 m of parallel; 0.9996 of them in UTM
        ("EPSG:4326", Affine(0.001, 0.0, 86.96, 0.0, -0.001, 28.04), 110.775, 98.322),
    ],
)
def test_a_pixel_on_the_ground_by_hand(
    tmp_path: Path, crs: str, transform: Affine, height_m: float, width_m: float
) -> None:
    scene = replace(one(write_scene(tmp_path / "a.tif")), width=80, height=80, crs=CRS(crs), transform=transform)
    assert scene.pixel_m == pytest.approx((height_m, width_m), rel=1e-4)
    assert scene.gsd_m == pytest.approx((height_m * width_m) ** 0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("strip_px", "most_px", "fit", "tops"),
    [
        (1, 4096, 99, [0, 32, 64, 96]),
        (32, 4096, 99, [0, 32, 64, 96]),
        (33, 4096, 99, [0, 64]),
        (96, 4096, 99, [0, 96]),
        (96, 64, 99, [0, 64]),
        (1, 16, 99, [0, 32, 64, 96]),
        (96, 4096, 2, [0, 64]),
        (96, 4096, 0, [0, 32, 64, 96]),
    ],
)
def test_strips_are_whole_tile_rows_along_the_blocks_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strip_px: int, most_px: int, fit: int, tops: list[int]
) -> None:
    """Tiles of 32 px in 120 rows: as many as a block holds, as may be read at once, and as memory has room for."""
    values = np.random.default_rng(1).integers(1, 255, (3, 120, 40)).astype(np.uint8)
    scene = replace(one(write_scene(tmp_path / "a.tif", pixels=values)), strip_px=strip_px)
    monkeypatch.setattr("glidexp.data.scenes.reading.STRIP_BYTES", fit * 32 * 40 * 3 * 2)
    strips = list(read_strips(scene, 32, most_px))
    assert [top for top, _, _ in strips] == tops
    assert np.array_equal(np.concatenate([pixels for _, pixels, _ in strips], axis=1), values)


def test_the_header_of_a_huge_scene_costs_nothing(tmp_path: Path) -> None:
    """200,000 x 200,000 px in a file of a few kilobytes; the first strip stays small all the same."""
    path = tmp_path / "huge.tif"
    transform = Affine(10.0, 0.0, WEST, 0.0, -10.0, NORTH)
    size = {"width": 200_000, "height": 200_000, "count": 3, "dtype": "uint16"}
    options = {"sparse_ok": True, "tiled": True, "blockxsize": 1024, "blockysize": 1024, "bigtiff": "YES"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32645", transform=transform, **size, **options):
        pass
    scene = read_header(SceneFile(path, "huge", "sentinel2"))
    assert (scene.width, scene.height) == (200_000, 200_000)
    _, values, valid = next(read_strips(scene, 128))
    assert values.nbytes <= 2**28 and valid.shape == values.shape[1:]


ASF = "S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A"
OPERA = "OPERA_L2_RTC-S1_T069-147170-IW1_20180128T060232Z_20231109T110305Z_S1A_30_v1.0"


@pytest.mark.parametrize("stem", [ASF, OPERA])
@pytest.mark.parametrize("own_folder", [False, True])
def test_radar_is_read_as_it_is_downloaded(tmp_path: Path, stem: str, own_folder: bool) -> None:
    """Backscatter: float32, a file a polarisation, 0 without data, layers of the product beside them."""
    place = tmp_path / "scenes" / (stem if own_folder else "")
    values = np.random.default_rng(0).gamma(4.4, 0.02, (2, 64, 96)).astype(np.float32)
    values[:, :8, :8] = 0
    for band, name in zip(values, ("VV", "VH"), strict=True):
        write_scene(place / f"{stem}_{name}.tif", pixels=band[None], nodata=0, gsd_m=30.0)
    for name in ("dem", "inc_map", "ls_map", "area", "mask"):
        write_scene(place / f"{stem}_{name}.tif", bands=1, gsd_m=30.0)
    write_scene(place / f"{stem}_rgb.tif", gsd_m=30.0)
    (file,) = find(tmp_path / "scenes", "unknown")
    assert (file.scene, file.sensor, file.date) == (stem, "sentinel1", "2018-01-28")
    scene = read_header(file, ["vv", "vh"])
    codes, valid = pixels(scene)
    assert (valid == values.all(axis=0)).all() and not scene.warnings
    assert np.allclose(values_of(scene.numbers)[codes[:, valid]], values[:, valid], rtol=2**-10, atol=0)
    with pytest.raises(DataError, match="red"):
        read_header(file)


def test_radar_that_lies_on_no_ground_yet_is_refused_with_what_to_do(tmp_path: Path) -> None:
    raw = tmp_path / "S1A_IW_GRDH_1SDV_20180128T161201_20180128T161226_020353_022C43_FD6A.SAFE"
    (raw / "measurement").mkdir(parents=True)
    with pytest.raises(DataError, match=r"FD6A\.SAFE is Sentinel-1 as it was sensed.*correct it for the terrain first"):
        find(tmp_path, "unknown")


def test_a_stac_item_of_radar(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(-12, 4, (2, 64, 96)).astype(np.float32)
    assets = {}
    for band, name in zip(values, ("vv", "vh"), strict=True):
        write_scene(tmp_path / f"{name}.tif", pixels=band[None], nodata=-9999)
        assets[name] = {"href": f"{name}.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]}
    item = {"type": "Feature", "id": "s1", "properties": {"platform": "SENTINEL-1A"}, "assets": assets}
    (tmp_path / "item.json").write_text(json.dumps(item))
    (file,) = find(tmp_path / "item.json", "unknown")
    assert file.sensor == "sentinel1" and [name for name, _ in file.bands or ()] == ["vv", "vh"]
    scene = read_header(file, ["vh", "vv"])
    codes, _ = pixels(scene)
    assert np.allclose(values_of(scene.numbers)[codes], values[::-1], rtol=2**-10, atol=0)
