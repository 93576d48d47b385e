"""Scenes to tiles: masks, bands, nodata, padding, what is kept, and refusals in one sentence."""

import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.rpc import RPC
from rasterio.transform import Affine
from tiny_scenes import NORTH, WEST, lake, placed_by_points, two_pages, world, write_polygons, write_scene

from glidexp.config import DatasetConfig, DatasetKind, SplitBy, SplitConfig, StretchConfig, StretchMethod, StretchScope
from glidexp.data.builder import seams
from glidexp.data.builder.report import Job, check_sides, warn_of_lost
from glidexp.data.builder.tiling import Survey, WindowCounts, choose_tiles, starts
from glidexp.data.prepare import prepare
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import read_header
from glidexp.data.show.summary import cautions
from glidexp.data.store import INVENTORY_SCHEMA, SPLITS, TileStore
from glidexp.errors import ConfigError, DataError
from glidexp.scoring.lakes import score_lakes


def alone(folder: Path, polygons: list, *, px: int = 32, to: str | None = None, **settings) -> TileStore:
    """One scene at folder/s.tif and its lakes, all of it training ground, no stretch, no filter."""
    if not (folder / "s.tif").exists():
        write_scene(folder / "s.tif")
    write_polygons(folder / "lakes.gpkg", polygons, to=to)
    defaults = {
        "kind": DatasetKind.scenes,
        "root": str(folder / "s.tif"),
        "lakes": str(folder / "lakes.gpkg"),
        "sensor": "sentinel2",
        "buffer_m": 0.0,
        "stretch": StretchConfig(method=StretchMethod.fixed, low=0, high=255),
        "split": SplitConfig(val=0.0, test=0.0),
    }
    return prepare(DatasetConfig(**(defaults | settings)), px, folder / "data", progress=False)


def mosaic(store: TileStore, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles put back where they came from; 77 where there is none."""
    px = store.tile_px
    image = np.zeros((height + px, width + px, store.channels), np.uint8)
    label = np.full((height + px, width + px), 77, np.uint8)
    for i, (row, col) in enumerate(zip(store.index["row"], store.index["col"], strict=True)):
        image[row : row + px, col : col + px] = store.images[i]
        label[row : row + px, col : col + px] = store.labels[i]
    return image[:height, :width], label[:height, :width]


@pytest.mark.parametrize("px", [32, 48, 64])
@pytest.mark.parametrize("to", [None, "EPSG:4326"])
def test_mask_area_is_the_vectors_area(tmp_path: Path, px: int, to: str | None) -> None:
    """A pixel counts where its centre lies, so the area is out by at most half a pixel along the shore."""
    polygons = [
        lake(200, 200, 137.0),
        lake(640, 380, 91.0),
        shapely.box(WEST + 500, NORTH - 160, WEST + 731, NORTH - 93),
    ]
    store = alone(tmp_path, polygons, px=px, to=to)
    lake_px = int((np.asarray(store.labels) == 1).sum())
    area = sum(p.area for p in polygons) / 100.0
    shore = sum(p.length for p in polygons) / 10.0
    assert abs(lake_px - area) <= 0.5 * shore
    assert abs(lake_px - area) < 0.02 * area
    assert store.index["gsd_m"].tolist() == [10.0] * len(store)


def test_pixels_whose_centre_lies_within(tmp_path: Path) -> None:
    # 13 to 47 m east of the corner: centres at 15, 25, 35, 45; 6 to 34 m south: 15, 25
    store = alone(tmp_path, [shapely.box(WEST + 13, NORTH - 34, WEST + 47, NORTH - 6)])
    rows, cols = np.nonzero(store.labels[0] == 1)
    assert set(cols.tolist()) == {1, 2, 3, 4} and set(rows.tolist()) == {1, 2}


def test_images_are_the_scenes_pixels_and_edges_are_padded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 40, 70)).astype(np.uint8)
    write_scene(tmp_path / "s.tif", pixels=pixels)
    store = alone(tmp_path, [shapely.box(WEST - 50, NORTH - 900, WEST + 900, NORTH + 50)])
    assert len(store) == 6
    image, label = mosaic(store, 40, 70)
    assert np.array_equal(image, pixels.transpose(1, 2, 0)) and (label == 1).all()
    last = store.index.index[(store.index["row"] == 32) & (store.index["col"] == 64)][0]
    assert (store.labels[last][:8, :6] == 1).all()
    assert (store.labels[last][8:] == 255).all() and (store.labels[last][:, 6:] == 255).all()
    assert not store.images[last][8:].any() and store.index["valid_fraction"][last] == 8 * 6 / 1024
    assert store.index["lake_fraction"][last] == 1.0
    assert store.index["transform"][last] == [10.0, 0.0, WEST + 640, 0.0, -10.0, NORTH - 320]
    assert store.index["crs"][last] == "EPSG:32645"


def test_nodata_is_invalid_black_and_outside_the_stretch(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1000, 3000, (3, 64, 96)).astype(np.uint16)
    pixels[:, :, :40] = 0
    pixels[0, 5, 50] = 0  # one dark band alone is no nodata
    write_scene(tmp_path / "s.tif", pixels=pixels, nodata=0)
    store = alone(tmp_path, [lake(500, 300, 200)], stretch=StretchConfig(method=StretchMethod.minmax), empty_share=9.0)
    image, label = mosaic(store, 64, 96)
    assert (label[:, 32:40] == 255).all() and not image[:, 32:40].any() and (label[:, 40:] != 255).all()
    assert (label[:, :32] == 77).all()  # tiles without a valid pixel are left out
    assert store.manifest["dropped"]["tiles_without_valid_pixel"] == 2
    assert store.manifest["stretch"]["s"]["low"][1:] == [pixels[b, :, 40:].min() for b in (1, 2)]


def test_alpha_masks(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(1, 255, (4, 64, 96)).astype(np.uint8)
    pixels[3] = 255
    pixels[3, 10:20, 10:20] = 0
    write_scene(tmp_path / "s.tif", pixels=pixels, photometric="RGB", alpha="YES")
    store = alone(tmp_path, [lake(150, 150, 140)], empty_share=9.0)
    _, label = mosaic(store, 64, 96)
    assert (label[10:20, 10:20] == 255).all() and (label == 255).sum() == 100


@pytest.mark.parametrize(
    ("sensor", "bands", "descriptions", "expected"),
    [
        ("unknown", 4, ["nir", "Blue", "Green", "Red"], (4, 3, 2)),
        ("unknown", 3, ["b", "g", "r"], (3, 2, 1)),
        ("gaofen2", 4, None, (3, 2, 1)),
        ("landsat8", 11, None, (4, 3, 2)),
        ("unknown", 3, None, (1, 2, 3)),
        ("landsat8", 3, ["SR_B2", "SR_B3", "SR_B4"], (3, 2, 1)),
        ("landsat7", 4, ["B1", "B2", "B3", "B4"], (3, 2, 1)),
        ("sentinel2", 4, ["B8, central wavelength 842 nm", "B02", "B03", "B4"], (4, 3, 2)),
        ("unknown", 3, ["B2", "B3", "B4"], (1, 2, 3)),
    ],
)
def test_bands_by_name_then_by_sensor_then_by_place(
    tmp_path: Path, sensor: str, bands: int, descriptions: list[str] | None, expected: tuple[int, ...]
) -> None:
    path = write_scene(tmp_path / "s.tif", bands=bands, descriptions=descriptions, gsd_m=30.0, photometric="MINISBLACK")
    scene = read_header(SceneFile(path, "s", sensor))
    assert scene.bands == expected
    assert bool([n for n in scene.warnings if "names no bands" in n]) == (descriptions is None)


def test_bands_whose_names_tell_nothing_are_said_to(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", descriptions=["B2", "B3", "B4"])
    (note,) = read_header(SceneFile(path, "s", "unknown")).warnings
    assert note == f"{path} names its bands B2, B3, B4, which tells no colour: its three are taken as R, G, B."


@pytest.mark.parametrize("photometric", ["MINISBLACK", "RGB"])
def test_bands_that_a_catalogue_names_are_no_others(tmp_path: Path, photometric: str) -> None:
    """Who names bands means them: three that nobody knows would be read as red, green and blue."""
    path = write_scene(tmp_path / "s.tif", photometric=photometric)
    for order in (("x1", "x2", "x3"), ("b1", "b2", "b3"), ("red", "green", "blau")):
        said = (
            f"s.tif: the catalogue names its bands {', '.join(order)}, of which none or more than one is .*blue: name"
        )
        with pytest.raises(DataError, match=said):
            read_header(SceneFile(path, "s", "unknown", order=order))
    assert read_header(SceneFile(path, "s", "unknown", order=("b", "G", "red"))).bands == (3, 2, 1)


def test_a_mask_that_hides_nothing_is_told_and_one_of_another_size_refused(tmp_path: Path) -> None:
    """GDAL passes over the one, and of a larger one takes a corner: what they hide would be ground."""
    path, mask = write_scene(tmp_path / "s.tif"), tmp_path / "s.tif.msk"

    def read(width: int, **tags: str) -> tuple[str, ...]:
        profile = {"width": width, "height": 64, "count": 1, "dtype": "uint8", "transform": Affine.scale(2)}
        with rasterio.open(mask, "w", driver="GTiff", **profile) as sink:
            sink.write(np.full((1, 64, width), 255, np.uint8))
            sink.update_tags(**tags)
        return tuple(note for note in read_header(SceneFile(path, "s", "unknown")).warnings if "msk" in note)

    assert read(96, INTERNAL_MASK_FLAGS_1="2") == ()
    for width in (95, 97):
        with pytest.raises(DataError, match=rf"s.tif.msk is a mask of {width} x 64 px, and s.tif has 96 x 64: make"):
            read(width, INTERNAL_MASK_FLAGS_1="2")
    (note,) = read(96)
    assert "s.tif.msk is not used, as it is no mask that GDAL knows" in note


@pytest.mark.parametrize("photometric", ["MINISBLACK", "RGB"])
def test_a_false_colour_picture_is_no_rgb(tmp_path: Path, photometric: str) -> None:
    path = write_scene(tmp_path / "s.tif", descriptions=["NIR", "red", "green"], photometric=photometric)
    said = "3 bands named NIR, red, green and none or more than one is named blue: give a file that holds red, green"
    with pytest.raises(DataError, match=said):
        read_header(SceneFile(path, "s", "unknown"))
    path = write_scene(tmp_path / "t.tif", photometric=photometric)
    with pytest.raises(DataError, match="3 bands named b5, b4, b3 and"):
        read_header(SceneFile(path, "t", "landsat8", order=("b5", "b4", "b3")))
    assert read_header(SceneFile(path, "t", "landsat8", order=("b2", "b3", "b4"))).bands == (3, 2, 1)


def test_four_bands_that_nobody_names_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", bands=5, photometric="MINISBLACK")
    said = "5 bands and none is named red, green, blue: .* in the column bands of a catalogue, such as 'blue green"
    with pytest.raises(DataError, match=said):
        read_header(SceneFile(path, "s", "unknown"))


def test_any_bands_by_name_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", bands=4, descriptions=["Blue", "Green", "Red", "NIR"], gsd_m=4.0)
    assert read_header(SceneFile(path, "s", "unknown"), ("nir", "green")).bands == (4, 2)
    path = write_scene(tmp_path / "t.tif", bands=11, gsd_m=30.0, photometric="MINISBLACK")
    assert read_header(SceneFile(path, "t", "landsat8"), ("swir1", "nir", "red")).bands == (6, 5, 4)
    with pytest.raises(DataError, match="4 bands and none or more than one is named swir1: set band descriptions"):
        read_header(SceneFile(tmp_path / "s.tif", "s", "unknown"), ("nir", "swir1"))


def test_filter_and_smallest_size(tmp_path: Path) -> None:
    write_polygons(tmp_path / "ice.gpkg", [lake(0, 300, 50)])
    polygons = [lake(150, 300, 40), lake(850, 300, 40), lake(150, 500, 6)]
    common = {"glaciers": str(tmp_path / "ice.gpkg")}
    near = alone(tmp_path, polygons, buffer_m=300.0, **common)
    assert near.manifest["lakes"] == {"in_scenes": 3, "labelled": 2, "read": 3, "repaired": 0, "unusable": 0}
    assert near.manifest["dropped"]["lakes_far_from_ice"] == 1
    far = alone(tmp_path, polygons, buffer_m=900.0, min_lake_px=10.0, **common)
    assert far.manifest["lakes"]["labelled"] == 2 and far.manifest["dropped"]["lakes_too_small"] == 1
    _, label = mosaic(near, 64, 96)
    assert not (label[:, 60:] == 1).any()


@pytest.mark.parametrize(("share", "empty"), [(0.0, 0), (0.5, 1), (2.0, 4), (99.0, 4)])
def test_share_of_tiles_without_lake(tmp_path: Path, share: float, empty: int) -> None:
    store = alone(tmp_path, [lake(160, 160, 60), lake(480, 160, 60)], empty_share=share)
    assert (store.index["lake_fraction"] > 0).sum() == 2
    assert (store.index["lake_fraction"] == 0).sum() == empty
    assert store.manifest["dropped"].get("tiles_without_lake", 0) == 4 - empty


def test_same_scenes_same_bytes(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    for name in ("a", "b"):
        prepare(dataset, 32, tmp_path / name, progress=False)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len([f for f in files if f.suffix != ".lock"]) == 7  # six of the store and the split
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.parametrize("by", [SplitBy.scene, SplitBy.block])
def test_one_split_for_every_tile_size(tmp_path: Path, by: SplitBy) -> None:
    """Same hash at every size, and no place is on one side at one size and on another at the next."""
    dataset = world(tmp_path, scenes=6)
    if by == SplitBy.block:  # one scene of 6.4 km with a lake every 400 m
        dataset.root = str(write_scene(tmp_path / "wide.tif", width=640, height=640))
        lakes = [lake(x, y, 60) for x in range(200, 6400, 400) for y in range(200, 6400, 400)]
        dataset.lakes, dataset.buffer_m = str(write_polygons(tmp_path / "many.gpkg", lakes)), 0.0
        dataset.split = SplitConfig(by=by, block_m=1500.0, val=0.25, test=0.25)
    sides: dict[tuple[str, int, int], set[str]] = {}
    hashes = set()
    for px in (8, 16, 32):
        store = prepare(dataset, px, tmp_path / "data", progress=False)
        hashes.add(store.split_hash)
        for row, col, scene, side in store.index[["row", "col", "scene", "split"]].itertuples(index=False):
            for r in range(row, row + px, 8):
                for c in range(col, col + px, 8):
                    sides.setdefault((scene, r, c), set()).add(side)
    assert len(hashes) == 1
    assert all(len(found) == 1 for found in sides.values())
    assert {"train", "val", "test"} == set.union(*sides.values())
    assert len(list((tmp_path / "data" / "splits").glob("*.json"))) == 1


def test_no_crs_complex_pixels_and_damage_are_one_sentence(tmp_path: Path) -> None:
    cases = {
        "no CRS": write_scene(tmp_path / "nocrs.tif", crs=None),
        "complex64": write_scene(tmp_path / "complex.tif", dtype="complex64"),
    }
    whole = write_scene(tmp_path / "cut.tif", width=400, height=400, compress="deflate")
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.tif").write_text("hello")
    cases["cannot be read"] = tmp_path / "text.tif"
    for says, path in cases.items():
        with pytest.raises(DataError, match=says) as caught:
            read_header(SceneFile(path, "s", "unknown"))
        assert "\n" not in str(caught.value) and path.name in str(caught.value)
    (tmp_path / "s.tif").write_bytes(whole.read_bytes())
    with pytest.raises(DataError, match=r"s\.tif cannot be read") as caught:
        alone(tmp_path, [lake(300, 300, 50)])
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "data" / "stores").glob("*.partial")) == []


def test_black_corners_that_are_not_declared_are_told(tmp_path: Path) -> None:
    pixels = np.full((3, 64, 96), 90, np.uint8)
    pixels[:, -9:, 0] = 0

    def notes(name: str, changed: np.ndarray, **options: object) -> tuple[str, ...]:
        path = write_scene(tmp_path / name, pixels=changed, descriptions=("red", "green", "blue"), **options)
        return read_header(SceneFile(path, "s", "sentinel2")).warnings

    (note,) = notes("fill.tif", pixels)
    assert "a corner is 0 in all bands and no nodata is declared, so it counts as ground" in note
    assert note.endswith("rio edit-info --nodata 0 fill.tif.")
    assert notes("declared.tif", pixels, nodata=0) == ()
    pixels[2, -3, 0] = 1
    assert notes("dark.tif", pixels) == (), "no corner is 0 in all bands"
    white = np.full((3, 64, 96), 900, np.uint16)
    white[:, :9, -1] = 65535
    assert notes("white.tif", white)[0].endswith("rio edit-info --nodata 65535 white.tif.")
    assert notes("snow.tif", np.where(white == 65535, 255, 90).astype(np.uint8)) == (), "snow is as bright in 8 bit"


@pytest.mark.parametrize("where", ["one strip", "large tiles", "COG", "JPEG2000", "VRT", "mosaic"])
def test_black_corners_are_found_however_a_file_is_laid_out(tmp_path: Path, where: str) -> None:
    """Of 2000 x 1600 px turned by 2 degrees: wedges, whose height is that of a few pixels of an overview."""
    row, col = np.mgrid[:1600, :2000]
    black = (row < 56 - col * 0.035) | (1599 - row < 56 - (1999 - col) * 0.035)
    pixels = np.broadcast_to(np.where(black, 0, 90).astype(np.uint8), (3, 1600, 2000))
    named = {"descriptions": ("red", "green", "blue")}
    options = {
        "one strip": {"blockysize": 1600},
        "large tiles": {"tiled": True, "blockxsize": 1600, "blockysize": 1600},
    }
    path = write_scene(tmp_path / "s.tif", pixels=pixels, **options.get(where, {}), compress="deflate", **named)
    if where in ("COG", "JPEG2000", "VRT"):
        driver, more = {
            "COG": ("COG", {"blocksize": 2048}), "JPEG2000": ("JP2OpenJPEG", {"quality": 20}), "VRT": ("VRT", {})
        }[where]  # fmt: skip
        rasterio.shutil.copy(path, tmp_path / f"t.{where[:3].lower()}", driver=driver, **more)
        path = tmp_path / f"t.{where[:3].lower()}"
        if where == "VRT":
            path = path.rename(path.with_suffix(".vrt"))
    if where == "mosaic":
        path = tmp_path / "m.vrt"
        whole = "<VRTRasterBand dataType='Byte' band='{n}'><SimpleSource><SourceFilename relativeToVRT='1'>s.tif"
        whole += "</SourceFilename><SourceBand>{n}</SourceBand><SrcRect xOff='0' yOff='0' xSize='2000' ySize='1600'/>"
        whole += "<DstRect xOff='300' yOff='300' xSize='2000' ySize='1600'/></SimpleSource></VRTRasterBand>"
        with rasterio.open(write_scene(tmp_path / "s.tif", pixels=np.maximum(pixels, 5))) as source:
            place = (
                f"<SRS>EPSG:32645</SRS><GeoTransform>{','.join(map(str, source.transform.to_gdal()))}</GeoTransform>"
            )
        bands = "".join(whole.format(n=n) for n in (1, 2, 3))
        path.write_text(f"<VRTDataset rasterXSize='2600' rasterYSize='2200'>{place}{bands}</VRTDataset>")
    began = time.process_time()
    notes = read_header(SceneFile(path, "s", "sentinel2")).warnings
    assert time.process_time() - began < 2
    assert any("a corner is 0 in all bands" in note for note in notes), notes
    command = "gdal_translate -of COG -a_nodata 0" if where == "COG" else "rio edit-info --nodata 0"
    assert any(command in note for note in notes)


def test_a_scene_that_lies_on_no_grid_is_told_how_to_warp_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"by 4 control points alone.*: warp it, as gdalwarp -t_srs EPSG:32645 -dstalpha"
    ):
        read_header(SceneFile(placed_by_points(tmp_path / "g.tif"), "s", "unknown"))
    terms = [0.0] * 20
    rpcs = RPC(
        height_off=5000, height_scale=500, lat_off=-15.2, lat_scale=0.02, line_off=32, line_scale=32, long_off=-69.4,
        long_scale=0.03, samp_off=48, samp_scale=48, line_num_coeff=terms, line_den_coeff=terms, samp_num_coeff=terms,
        samp_den_coeff=terms,
    )  # fmt: skip
    options = {"driver": "GTiff", "width": 96, "height": 64, "count": 3, "dtype": "uint16", "rpcs": rpcs}
    with rasterio.open(tmp_path / "r.tif", "w", **options):
        pass
    with pytest.raises(
        DataError, match=r"by RPCs alone.*gdalwarp -rpc -to RPC_DEM=DEM\.tif -t_srs EPSG:32719 -dstalpha"
    ):
        read_header(SceneFile(tmp_path / "r.tif", "s", "unknown"))
    placed = write_scene(tmp_path / "both.tif", rpcs=rpcs, descriptions=("red", "green", "blue"))
    (note,) = read_header(SceneFile(placed, "s", "sentinel2")).warnings
    assert "RPCs beside its position" in note


def test_of_several_pictures_in_a_file_none_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"pages\.tif holds 2 pictures.*: take .* as gdal_translate GTIFF_DIR:1:\S+ OUT"
    ):
        read_header(SceneFile(two_pages(tmp_path / "pages.tif"), "s", "unknown"))
    assert read_header(SceneFile(two_pages(tmp_path / "t.tif", thumbnail=True), "s", "unknown")).width == 96


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", pixels=np.ones((3, 64, 96), "complex64"))
    with pytest.raises(DataError, match=r"s\.tif holds complex64, as radar does .*: give real numbers\.$"):
        read_header(SceneFile(path, "s", "unknown"))


def test_lakes_that_miss_the_scene_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no lake of .* lies in a scene: lakes at x .* 45N \(longitude 87\.\d+ to"):
        alone(tmp_path, [lake(90_000, 0, 50)])
    # latitude first, as some write degrees
    (tmp_path / "swap").mkdir()
    turned = [shapely.transform(shapely.box(86.7, 28.0, 86.9, 28.2), lambda xy: xy[:, ::-1])]
    with pytest.raises(DataError, match=r"; longitude and latitude of the lakes are swapped\.$"):
        alone(tmp_path, turned, lakes=str(write_polygons(tmp_path / "swap" / "lakes.geojson", turned, crs="EPSG:4326")))
    # degrees that were declared as metres
    with pytest.raises(DataError, match="look like degrees, but EPSG:32645 has metres"):
        alone(tmp_path, [shapely.box(86.9, 27.9, 86.91, 27.91)])


def test_all_lakes_dropped_is_an_error(tmp_path: Path) -> None:
    write_polygons(tmp_path / "ice.gpkg", [lake(5000, 300, 50)])
    with pytest.raises(DataError, match=r"no lake in the scenes is left of 1 .*raise dataset\.buffer_m=100"):
        alone(tmp_path, [lake(300, 300, 50)], buffer_m=100.0, glaciers=str(tmp_path / "ice.gpkg"))


def test_a_scene_without_a_valid_pixel_is_an_error(tmp_path: Path) -> None:
    write_scene(tmp_path / "s.tif", pixels=np.zeros((3, 64, 96), np.uint16), nodata=0)
    with pytest.raises(DataError, match="no valid pixel"):
        alone(tmp_path, [lake(300, 300, 50)])


def test_missing_inputs_name_the_setting(tmp_path: Path) -> None:
    for settings, says in (
        ({"root": None}, r"dataset\.root is not given"),
        ({"lakes": None}, r"dataset\.lakes is not given"),
        ({"buffer_m": 100.0}, r"dataset\.glaciers is not given"),
        ({"sensor": "sentinel"}, r"dataset\.sensor='sentinel' is not known"),
    ):
        with pytest.raises(ConfigError, match=says):
            alone(tmp_path, [lake(300, 300, 50)], **settings)
    with pytest.raises(DataError, match="does not exist"):
        alone(tmp_path, [lake(300, 300, 50)], root=str(tmp_path / "nowhere"))


@pytest.fixture
def everest(real_data: Path, tmp_path: Path) -> DatasetConfig:
    folder = real_data / "everest_landsat7"
    if not folder.is_dir():
        pytest.skip(f"no Everest scene at {folder}")
    catalogue = tmp_path / "scenes.csv"
    scene = (folder / "LE71400412000304SGS00_RGB.tif").resolve()
    catalogue.write_text(f"path,scene,sensor,region\n{scene},everest,landsat7,himalaya\n")
    return DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(catalogue),
        lakes=str(folder / "lakes_derived_2000.gpkg"),
        glaciers=str(folder / "15_rgi60_glacier_outlines.gpkg"),
        split=SplitConfig(val=0.0, test=0.0),
    )


def test_real_scene_is_shared_out_by_block(everest: DatasetConfig, tmp_path: Path) -> None:
    """One scene alone: its lakes lie in one corner of 8 x 9 km, so blocks and tiles must be small."""
    everest.split = SplitConfig()
    with pytest.raises(DataError, match=r"1 scene of ground cannot be shared out .* set dataset\.split\.by=block"):
        prepare(everest, 128, tmp_path / "data", progress=False)
    everest.split = SplitConfig(by=SplitBy.block, block_m=7680.0, val=0.25, test=0.25, seed=1)
    stores = [prepare(everest, px, tmp_path / "data", progress=False) for px in (64, 128)]
    for store in stores:
        assert set(store.index["split"]) == {"train", "val", "test"}
    assert stores[0].split_hash == stores[1].split_hash
    with pytest.raises(DataError, match=r"no tile for .* try a smaller tile_size \(a tile has 7680 m\)"):
        prepare(everest, 256, tmp_path / "data", progress=False)


@pytest.mark.parametrize("px", [128, 256])
def test_real_scene_mask_equals_the_vector(everest: DatasetConfig, real_data: Path, tmp_path: Path, px: int) -> None:
    dataset, folder = everest, real_data / "everest_landsat7"
    store = prepare(dataset, px, tmp_path / "data", progress=False)
    with rasterio.open(folder / "lakes_derived_2000.tif") as source:
        truth = source.read(1) > 0
    _, label = mosaic(store, *truth.shape)
    assert ((label == 1) == truth).mean() > 0.9999
    import geopandas

    lakes = geopandas.read_file(folder / "lakes_derived_2000.gpkg")
    lake_px = int((np.asarray(store.labels) == 1).sum())
    assert abs(lake_px - lakes.area.sum() / 900) <= 0.5 * lakes.length.sum() / 30
    # they lie 0.14 to 2.3 km from ice: all stay at 10 km, some go at 1 km
    assert store.manifest["lakes"]["labelled"] == 10
    dataset.buffer_m = 1000.0
    fewer = prepare(dataset, px, tmp_path / "data", progress=False)
    assert 0 < fewer.manifest["lakes"]["labelled"] < 10
    assert fewer.split_hash == store.split_hash


def test_real_lakes_are_the_same_whatever_the_size_of_the_tiles(everest: DatasetConfig, tmp_path: Path) -> None:
    """The labels, scored against themselves; the largest lake lies in two tiles of 64 px."""
    got = []
    for px in (64, 128):
        store = prepare(everest, px, tmp_path / "data", progress=False)
        bins = np.where(np.asarray(store.labels) == 1, 200, 50).astype(np.uint8)
        found = score_lakes(store.index, store.labels, bins, 128, store.inventory)
        lakes = found.lakes[found.lakes["kind"] == "true"]
        columns = ["x", "y", "area_px", "best_iou", "inventory_id", "glacier_distance_m"]
        got.append(lakes[columns].sort_values(["x", "y"], ignore_index=True))
    pd.testing.assert_frame_equal(*got)
    assert len(lakes) == 10 and lakes["area_px"].max() == 504 and lakes["inventory_id"].is_unique
    assert lakes["glacier_distance_m"].between(130, 2350).all()


@pytest.mark.parametrize(
    ("block_m", "way"),
    [
        (
            1000.0,
            r"a smaller tile_size \(a tile has 640 m\), blocks wider than dataset.split.block_m=1000, or another dat",
        ),
        (3000.0, r"a smaller tile_size with smaller blocks, or another dataset.split.seed"),
        (10000.0, r"smaller blocks, of which there are more \(dataset.split.block_m=2560, not 10000\), or another"),
    ],
)
def test_a_side_without_a_tile_says_which_blocks_would_give_it_one(tmp_path: Path, block_m: float, way: str) -> None:
    dataset = DatasetConfig(split=SplitConfig(by=SplitBy.block, block_m=block_m))
    job = Job(tmp_path / "store", tmp_path / "split", 64, dataset, {}, "id")
    with pytest.raises(DataError, match=rf"^no tile for val and test \(train 1, val 0, test 0\): try {way}"):
        check_sides([{"split": "train"}], job, 10.0)


def test_other_settings_of_a_split_without_a_side_are_named_and_do(tmp_path: Path) -> None:
    """One scene of 6.4 km with its lakes in a corner of 2 km."""
    write_scene(tmp_path / "s.tif", width=640, height=640)
    lakes = [lake(x, y, 60.0) for x in (200, 700, 1300, 1900) for y in (200, 1100, 2100)]
    blocks = SplitConfig(by=SplitBy.block, block_m=20_000.0, val=0.25, test=0.25)
    with pytest.raises(DataError, match=r"^2 blocks of ground cannot be shared out"):
        alone(tmp_path, lakes, split=blocks)
    blocks.block_m = 4000.0
    way = r"^no tile for (.+) \(train \d+, val \d+, test \d+(; left out: .*)?\): "
    way += r"dataset\.split\.block_m=(\d+) dataset\.split\.seed=(\d+) would give "
    way += r"train (\d+), val (\d+), test (\d+) with lake\.$"
    with pytest.raises(DataError, match=way) as told:
        alone(tmp_path, lakes, split=blocks)
    found = re.match(way, str(told.value))
    assert found is not None
    blocks.block_m, blocks.seed = float(found[3]), int(found[4])
    store = alone(tmp_path, lakes, split=blocks)
    counts = store.index["split"].value_counts()
    assert [counts[side] for side in ("train", "val", "test")] == [int(found[n]) for n in (5, 6, 7)]


def test_a_side_without_a_tile_says_what_was_left_out(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", tmp_path / "split", 64, DatasetConfig(empty_share=0.5), {}, "id")
    dropped = {"tiles_on_divided_ground": 3, "tiles_without_lake": 17}
    told = r"test 0; left out: 3 with lake on ground of two sides, 17 without lake \(dataset\.empty_share=0\.5\)\): "
    with pytest.raises(DataError, match=told + r"try another dataset\.split\.seed\.$"):
        check_sides([{"split": "train"}], job, 10.0, dropped=dropped)


def test_a_sensor_that_ends_without_a_tile_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="glidexp"):
        warn_of_lost(["landsat8", "sentinel2"], [{"sensor": "landsat8"}])
    assert "no tile of sensor sentinel2" in caplog.text
    assert "landsat8" not in caplog.text


def test_scenes_that_the_glaciers_do_not_reach_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their lakes were counted as far from ice, and of their region nothing was said."""
    dataset = replace(world(tmp_path, scenes=4, apart_m=40_000.0), split=SplitConfig(val=0.0, test=0.0))
    table = Path(str(dataset.root)).read_text().replace("s2.tif,s2,sentinel2,south", "s2.tif,s2,sentinel2,andes")
    Path(str(dataset.root)).write_text(table)
    ice = geopandas.read_file(str(dataset.glaciers))
    with caplog.at_level("WARNING", "glidexp"):
        prepare(dataset, 32, tmp_path / "data", progress=False)
        assert "no glacier" not in caplog.text and "no tile of" not in caplog.text
        ice[:2].to_file(str(dataset.glaciers))
        store = prepare(dataset, 32, tmp_path / "data", progress=False)
        assert store.manifest["dropped"]["lakes_far_from_ice"] == 6
        said = (
            "no glacier lies within 15 km of s2, s3: all lakes there (6) are left out as far from ice. Does dataset.gla"
        )
        assert said in caplog.text and "no tile of region andes was kept" in caplog.text
        caplog.clear()
        prepare(replace(dataset, buffer_m=0), 32, tmp_path / "data", progress=False)
    assert "no glacier" not in caplog.text


def test_the_store_keeps_what_the_inventory_says(tmp_path: Path) -> None:
    """One lake across two tiles, one in one tile, one too far, one too small, one without a pixel centre."""
    write_scene(tmp_path / "s.tif")  # 64 rows, 96 columns of 10 m
    across, single = lake(320, 150, 60), lake(800, 150, 40)
    far, small = lake(100, 560, 30), lake(500, 400, 12)
    thread = shapely.box(WEST + 601, NORTH - 399, WEST + 604, NORTH - 391)
    names = ["across", "single", "far", "small", "thread"]
    outlines = geopandas.GeoDataFrame(
        {"Lake_ID": names, "TYPE": ["proglacial", None, "x", "x", "x"], "other": [1] * 5},
        geometry=[across, single, far, small, thread],
        crs="EPSG:32645",
    )
    outlines.to_file(tmp_path / "lakes.gpkg", engine="pyogrio")
    write_polygons(tmp_path / "ice.gpkg", [shapely.box(WEST, NORTH - 50, WEST + 960, NORTH)])
    dataset = DatasetConfig(
        kind=DatasetKind.scenes, root=str(tmp_path / "s.tif"), lakes=str(tmp_path / "lakes.gpkg"),
        glaciers=str(tmp_path / "ice.gpkg"), sensor="sentinel2", buffer_m=450.0, min_lake_px=5.0,
        split=SplitConfig(val=0.0, test=0.0), empty_share=1.0,
    )  # fmt: skip
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    found = store.inventory
    assert found is not None and list(found.columns) == INVENTORY_SCHEMA.names
    tiles = found[found["tile"] != ""]
    assert tiles[["lake", "tile"]].to_numpy().tolist() == [
        ["across", "s_0_0"], ["across", "s_0_32"], ["single", "s_0_64"],
    ]  # fmt: skip
    assert tiles["cut"].tolist() == [True, True, False] and not found.loc[found["tile"] == "", "cut"].any()
    labels = mosaic(store, 64, 96)[1]
    for row in tiles.to_dict("records"):
        assert labels[row["row"], row["col"]] == 1
        assert int((np.asarray(store.labels[store.index["tile"] == row["tile"]]) == 1).sum()) == row["px"]
    rest = found[found["tile"] == ""].set_index("lake")
    assert rest["fate"].to_dict() == {"far": "far_from_ice", "small": "too_small", "thread": "too_small"}
    assert abs(rest.loc["far", "row"] - 56) <= 1 and abs(rest.loc["far", "col"] - 10) <= 1
    distance = found.drop_duplicates("lake").set_index("lake")["glacier_distance_m"]
    assert distance[["across", "far", "small"]].tolist() == pytest.approx([40, 480, 338], abs=0.5)
    area = found.drop_duplicates("lake").set_index("lake")["area_km2"]
    assert area["across"] == pytest.approx(across.area / 1e6) and area["thread"] == pytest.approx(24e-6)
    assert tiles["lake_type"].tolist() == ["proglacial", "proglacial", ""]
    assert store.ice is not None  # corners every 2 px of 10 m, ice on the upper 50 m
    (ice,) = store.ice.to_dict("records")
    assert (ice["scene"], ice["buffer_m"], ice["step_px"], ice["across"]) == ("s", 450.0, 2, 49)
    south_m = np.arange(0, 641, 20)
    assert np.allclose(ice["distance_m"].reshape(-1, 49), np.maximum(south_m - 50, 0)[:, None], atol=0.3)


def test_a_lake_over_the_edge_of_the_scene_is_cut(tmp_path: Path) -> None:
    store = alone(tmp_path, [lake(930, 150, 60), lake(890, 450, 60)])
    assert store.inventory is not None and store.inventory["cut"].tolist() == [True, False]


def test_without_glaciers_no_distance_and_with_them_no_lake_is_dropped_at_buffer_0(tmp_path: Path) -> None:
    store = alone(tmp_path, [lake(200, 200, 60)])
    assert store.inventory is not None and store.inventory["glacier_distance_m"].isna().all()
    write_polygons(tmp_path / "ice.gpkg", [lake(200, 60_000, 60)])
    store = alone(tmp_path, [lake(200, 200, 60)], glaciers=str(tmp_path / "ice.gpkg"))
    assert store.inventory is not None and np.isinf(store.inventory["glacier_distance_m"]).all() and len(store) == 1
    assert store.ice is None  # no ground is beyond a buffer that is not there


@pytest.mark.parametrize(("px", "tiles"), [(128, 81), (512, 9), (1024, 4)])
def test_large_tiles_hold_every_pixel_once(tmp_path: Path, px: int, tiles: int) -> None:
    write_scene(tmp_path / "s.tif", width=1100, height=1100, dtype="uint8")
    everywhere = shapely.box(WEST + 10, NORTH - 10_990, WEST + 10_990, NORTH - 10)
    store = alone(tmp_path, [everywhere], px=px)
    assert len(store) == tiles
    labels = np.asarray(store.labels)
    assert ((labels == 1).sum(), (labels != 255).sum()) == (1098 * 1098, 1100 * 1100)
    image, _ = mosaic(store, 1100, 1100)
    with rasterio.open(tmp_path / "s.tif") as scene:
        assert np.array_equal(image, scene.read().transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("baselines", "stretch", "told"),
    [
        (("0214", "0400"), StretchConfig(scope=StretchScope.sensor), True),
        (("0214", "0510"), StretchConfig(method=StretchMethod.fixed, low=0, high=4000), True),
        (("0214", "0400"), StretchConfig(), False),
        (("0400", "0511"), StretchConfig(scope=StretchScope.sensor), False),
        (("0209", "0301"), StretchConfig(scope=StretchScope.sensor), False),
    ],
)
def test_one_stretch_for_two_baselines_of_sentinel_2_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, baselines: tuple[str, str], stretch: StretchConfig, told: bool
) -> None:
    """From 04.00 on all values are 1000 higher: one stretch for both makes the scenes of one of them dark or bright."""
    dataset = replace(world(tmp_path), stretch=stretch)
    table = Path(str(dataset.root)).read_text()
    for i in range(4):
        name = f"S2A_MSIL2A_2022020{i + 1}T045721_N{baselines[i % 2]}_R076_T45RVL_20220201T071010"
        table = table.replace(f",s{i},", f",{name},")
    Path(str(dataset.root)).write_text(table)
    with caplog.at_level("WARNING", "glidexp"):
        prepare(dataset, 32, tmp_path / "data", progress=False)
    assert ("2 scenes of Sentinel-2 are of processing baseline 04.00 or later, whose values" in caplog.text) == told


@pytest.mark.parametrize("by", [SplitBy.scene, SplitBy.region])
@pytest.mark.parametrize("shared_px", [0, 1])
def test_tiles_on_a_strip_that_scenes_on_two_sides_share_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shared_px: int, by: SplitBy
) -> None:
    """A column of 1,100 is less than a thousandth of a scene, and a twelfth of the last tile of a row."""
    dataset = world(tmp_path, scenes=6, apart_m=11_000.0 - 10 * shared_px)
    lines = ["path,scene,sensor,region", *(f"s{i}.tif,s{i},sentinel2,r{i}" for i in range(6))]
    (tmp_path / "scenes.csv").write_text("\n".join(lines) + "\n")
    for i in range(6):
        write_scene(tmp_path / f"s{i}.tif", width=1100, west=WEST + i * (11_000 - 10 * shared_px), seed=i)
    dataset = replace(dataset, empty_share=1e6, split=replace(dataset.split, by=by))
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    side = dict(zip(store.index["scene"], store.index["split"], strict=True))
    pairs = [(f"s{i}", f"s{i + 1}") for i in range(5) if side[f"s{i}"] != side[f"s{i + 1}"]]
    assert pairs, "no neighbours are on two sides"
    if not shared_px:
        assert "seams" not in store.manifest and not cautions(store)
        return
    later = {pair: max((side[one] for one in pair), key=SPLITS.index) for pair in pairs}
    found = store.manifest["seams"]
    for name in ("val", "test"):  # 64 px are two rows of tiles
        assert found[name] == 2 * sum(of == name for of in later.values())
    assert found["scenes"] == [list(pair) for pair in pairs]
    (said,) = [line for line in caplog.messages if "on another side as well" in line]
    assert said == f"{cautions(store)[0]}." and f"({pairs[0][0]} and {pairs[0][1]}" in said


@pytest.mark.parametrize(
    ("length", "stride", "expected"),
    [(12, 4, [0, 4, 8]), (13, 4, [0, 4, 8, 12]), (10, 3, [0, 3, 6]), (4, 1, [0]), (3, 2, [0])],
)
def test_the_last_window_is_the_first_that_reaches_the_end(length: int, stride: int, expected: list[int]) -> None:
    assert starts(length, 4, stride).tolist() == expected


@pytest.mark.parametrize("strips", [(3,), (2, 1), (1, 1, 1)])
def test_pixels_of_windows_that_overlap_are_counted_from_any_strips(strips: tuple[int, ...]) -> None:
    pixels = np.array([[1, 0, 0, 1, 1], [0, 1, 0, 0, 1], [1, 1, 0, 0, 0]], bool)
    counts, top = WindowCounts(3, 5, tile_px=2, stride_px=1), 0
    for height in strips:
        counts.add(top, pixels[top : top + height])
        top += height
    assert counts.totals().tolist() == [[2, 1, 1, 3], [3, 2, 0, 1]]


def test_tiles_that_are_left_out_are_counted_by_reason() -> None:
    """Seven in a row: no data; on divided ground with lake and without; one of train with lake; three without."""
    valid, lake_px = np.array([[0, 9, 9, 9, 9, 9, 9]]), np.array([[0, 5, 0, 5, 0, 0, 0]])
    survey = Survey(np.zeros((3, 1), np.int64), valid, lake_px)
    sides = ["train", None, None, "train", "train", "train", "train"]
    dropped: Counter[str] = Counter()
    chosen = choose_tiles("s", survey, {(0, col): ("u", side) for col, side in enumerate(sides)}, 1.0, dropped)
    assert len(chosen) == 2 and (0, 3) in chosen and min(chosen) >= (0, 3)
    assert {name: count for name, count in dropped.items() if count} == {
        "tiles_without_valid_pixel": 1,
        "tiles_on_divided_ground": 1,
        "tiles_on_divided_ground_without_lake": 1,
        "tiles_without_lake": 2,
    }


def test_seams_are_told_by_side() -> None:
    pairs = [["a", "b"]]
    assert seams.told({"val": 1, "test": 2, "scenes": pairs}).startswith("1 tile of val and 2 tiles of test on ground")
    assert seams.told({"val": 3, "test": 0, "scenes": pairs}).startswith("3 tiles of val on ground")
    many = [[f"a{i}", f"b{i}"] for i in range(seams.NAMED + 2)]
    assert f"and b{seams.NAMED - 1} and 2 more pairs)" in seams.told({"val": 0, "test": 1, "scenes": many})
