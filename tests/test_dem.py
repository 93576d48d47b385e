"""Bands of a DEM: slope and elevation on a scene's grid, in stores, in training and in maps."""

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.shutil
import torch
from affine import Affine
from PIL import Image
from runs import small_config, undrawn, words
from scipy import ndimage
from test_augment import preset, smooth
from test_predict import mapped, model
from test_predict import pixels as with_lakes
from test_sources import pixels
from tiny_scenes import NORTH, WEST, write_scene
from tiny_scenes import world as scenery

from glidexp import cli
from glidexp.config import AugmentationConfig, DatasetConfig, SyntheticConfig
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.scenes.catalogue import find
from glidexp.data.scenes.crop import parts_of
from glidexp.data.scenes.dem import ELEVATION_M, SLOPE_DEG, _edge, files_of
from glidexp.data.scenes.reading import Scene, read_header, read_strips
from glidexp.data.store import TileStore
from glidexp.data.synthetic import generate
from glidexp.data.synthetic.covers import CLASSES
from glidexp.data.synthetic.truth import read_classes
from glidexp.errors import ConfigError, DataError
from glidexp.mapping import predict
from glidexp.mapping.domain import header
from glidexp.models.card import read_card
from glidexp.models.predictor import Predictor
from glidexp.release.card_page import _use
from glidexp.release.stac_mlm import _input
from glidexp.serving.app import about
from glidexp.serving.judge import Judged, judge
from glidexp.serving.refusal import ALONE, Refusal
from glidexp.serving.settings import ServeSettings, Wish
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.check import Checked
from glidexp.study.plan.ground import grounds
from glidexp.training.augmentation.augment import Augment
from glidexp.training.bands import places_of_bands

__all__ = ["model"]  # fixtures
KEPT_OUT = ("backbone", "decoder", "train.epochs", "train.batch_size", "tracking.probe_tiles")
BANDS = ("red", "green", "blue", "elevation", "slope")
Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]


def plane(degrees: float, azimuth: float = 30.0) -> Surface:
    """Heights that rise by so many degrees, from metres east and north of the scenes' corner."""
    rise, turn = math.tan(math.radians(degrees)), math.radians(azimuth)
    return lambda x, y: 4000 + rise * (math.sin(turn) * (x - WEST) + math.cos(turn) * (y - NORTH))


def write_dem(
    path: Path,
    surface: Surface,
    *,
    cell: float = 30.0,
    crs: str = "EPSG:32645",
    west: float = WEST - 300,
    north: float = NORTH + 300,
    size: tuple[int, int] = (80, 80),
    change: Callable[[np.ndarray], None] | None = None,
    **options: Any,
) -> Path:
    """A DEM whose cells hold the heights of their centres; `west` and `north` in metres of the scenes' CRS."""
    to = pyproj.Transformer.from_crs("EPSG:32645", crs, always_xy=True)
    left, top = to.transform(west, north)
    transform = Affine(cell, 0, left, 0, -cell, top)
    col, row = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    x, y = transform * (col, row)
    heights = np.asarray(surface(*to.transform(x, y, direction="INVERSE"))).astype(np.float32)
    if change:
        change(heights)
    profile = {"driver": "GTiff", "width": size[1], "height": size[0], "count": 1, "dtype": "float32", "crs": crs}
    with rasterio.open(path, "w", **{**profile, "transform": transform, **options}) as sink:
        sink.write(heights.astype(options.get("dtype", "float32")), 1)
    return path


def over(place: Path, dem: Path, bands: tuple[str, ...] = BANDS) -> Scene:
    (file,) = find(place, "sentinel2", dem=files_of(dem, "--dem"))
    return read_header(file, bands)


def told_by(*line: str) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(line))
    return int(ended.value.code or 0)


def scene_of(folder: Path, **options: Any) -> Path:
    return write_scene(folder / "s.tif", descriptions=["red", "green", "blue"], **options)


@pytest.mark.parametrize(
    ("cell", "crs"), [(30.0, "EPSG:32645"), (10.0, "EPSG:32645"), (1 / 3600, "EPSG:4326"), (33.0, "EPSG:3857")]
)
def test_the_slope_of_a_plane_is_its_own_whatever_the_dem(tmp_path: Path, cell: float, crs: str) -> None:
    size = (200, 200) if cell == 10.0 else (80, 80)
    dem = write_dem(tmp_path / "dem.tif", plane(20.0), cell=cell, crs=crs, size=size)
    values, valid = pixels(over(scene_of(tmp_path), dem))
    plain, _ = pixels(read_header(find(tmp_path / "s.tif", "sentinel2")[0]))
    assert valid.all() and (values[:3] == plain).all() and values.dtype == plain.dtype
    assert np.unique(values[4]).tolist() == [20.0 / SLOPE_DEG]
    row, col = np.mgrid[:64, :96] + 0.5
    heights = plane(20.0)(WEST + 10 * col, NORTH - 10 * row)
    assert np.abs(values[3] * ELEVATION_M - heights).max() <= 0.5 * ELEVATION_M + 0.5


@pytest.mark.parametrize("cell", [2.0, 6.3, 8.4, 9.0, 9.5, 9.9])
def test_a_plane_has_no_waves_where_cells_are_a_little_finer_than_pixels(tmp_path: Path, cell: float) -> None:
    """Kernels widened by a part of a cell leave up to 3 degrees: so would cells of 1" under Landsat's 30 m."""
    count = int(1700 / cell)
    dem = write_dem(
        tmp_path / "dem.tif", plane(25.0), cell=cell, west=WEST - 103.3, north=NORTH + 101.7, size=(count,) * 2
    )
    values, valid = pixels(over(scene_of(tmp_path), dem))
    assert valid.all() and np.unique(values[4]).tolist() == [25.0 / SLOPE_DEG]


def test_slope_far_north_where_a_degree_of_longitude_is_short(tmp_path: Path) -> None:
    """Cells of 1" are 31 m by 9.5 m there, turned against the scene's grid."""
    to = pyproj.Transformer.from_crs("EPSG:32622", "EPSG:4326", always_xy=True)
    rise = math.tan(math.radians(20.0))
    lon, lat = to.transform(480_000.0, 8_000_000.0)
    place = Affine(1 / 3600, 0, lon - 0.02, 0, -1 / 3600, lat + 0.01)
    col, row = np.meshgrid(np.arange(300) + 0.5, np.arange(80) + 0.5)
    x, y = to.transform(*(place * (col, row)), direction="INVERSE")
    with rasterio.open(
        tmp_path / "dem.tif", "w", driver="GTiff", width=300, height=80, count=1, dtype="float32", crs="EPSG:4326",
        transform=place,
    ) as sink:  # fmt: skip
        sink.write((2000 + rise * (0.6 * (x - 480_000) + 0.8 * (y - 8_000_000))).astype(np.float32), 1)
    values, valid = pixels(
        over(scene_of(tmp_path, crs="EPSG:32622", west=480_000.0, north=8_000_000.0), tmp_path / "dem.tif")
    )
    assert valid.all() and np.unique(values[4]).tolist() == [20.0 / SLOPE_DEG]


@pytest.mark.parametrize("gsd_m", [2.0, 30.0])
def test_pixels_of_any_size(tmp_path: Path, gsd_m: float) -> None:
    dem = write_dem(tmp_path / "dem.tif", plane(33.0), size=(120, 140))
    values, _ = pixels(over(scene_of(tmp_path, gsd_m=gsd_m), dem, ("red", "green", "blue", "slope")))
    assert len(values) == 4 and np.unique(values[3]).tolist() == [33.0 / SLOPE_DEG]


def test_a_scene_in_degrees_and_one_that_is_turned(tmp_path: Path) -> None:
    """A degree east is less than one north; on a turned grid neither pixel runs along an axis."""
    dem = write_dem(tmp_path / "dem.tif", plane(25.0, 70.0), size=(150, 150))
    lon, lat = pyproj.Transformer.from_crs("EPSG:32645", "EPSG:4326", always_xy=True).transform(WEST + 500, NORTH - 500)
    turned = Affine.translation(WEST + 900, NORTH - 600) @ Affine.rotation(35.0) @ Affine.scale(10.0, -10.0)
    degrees = Affine(1 / 9000, 0, lon, 0, -1 / 9000, lat)
    for crs, transform in (("EPSG:4326", degrees), ("EPSG:32645", turned)):
        with rasterio.open(
            tmp_path / "s.tif", "w", driver="GTiff", width=96, height=64, count=3, dtype="uint8", crs=crs,
            transform=transform,
        ) as sink:  # fmt: skip
            sink.write(np.full((3, 64, 96), 9, np.uint8))
            for number, name in enumerate(BANDS[:3], start=1):
                sink.set_band_description(number, name)
        values, valid = pixels(over(tmp_path / "s.tif", dem))
        assert valid.all() and values.dtype == np.uint8
        assert np.unique(values[4]).tolist() == [25.0 / SLOPE_DEG], crs


def test_a_curved_surface_is_that_of_its_formula(tmp_path: Path) -> None:
    """Waves of 900 m seen by cells of 30 m: within what B-splines smooth away, and not in steps of a cell."""
    wave = 2 * math.pi / 900.0

    def surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 3000 + 60 * np.sin(wave * (x - WEST)) + 40 * np.cos(wave * (y - NORTH))

    dem = write_dem(tmp_path / "dem.tif", surface)
    values, _ = pixels(over(scene_of(tmp_path), dem))
    row, col = np.mgrid[:64, :96] + 0.5
    east, south = 10 * col * wave, -10 * row * wave
    slope = np.degrees(np.arctan(np.hypot(60 * wave * np.cos(east), -40 * wave * np.sin(south))))
    assert np.abs(values[4] * SLOPE_DEG - slope).max() < 0.6
    assert np.abs(np.diff(values[4].astype(int), axis=1)).max() <= 8  # 2 degrees, where the formula's own are 1.6


@pytest.mark.parametrize("cell", [30.0, 20.0, 7.0])
def test_rough_ground_is_that_of_another_b_spline(tmp_path: Path, cell: float) -> None:
    """SciPy's weights and NumPy's differences: the same levels but for rounding."""
    rough = 4000 + 2000 * ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, (220, 220)), 3)
    dem = write_dem(
        tmp_path / "dem.tif", lambda x, y: rough, cell=cell, west=WEST - 203.7, north=NORTH + 211.3, size=(220, 220)
    )
    values, valid = pixels(over(scene_of(tmp_path), dem))
    assert valid.all()
    row, col = np.mgrid[-1:65, -1:97] + 0.5
    places = [(211.3 + 10 * row) / cell - 0.5, (203.7 + 10 * col) / cell - 0.5]
    heights = ndimage.map_coordinates(rough, places, order=3, prefilter=False)
    east, south = (heights[1:-1, 2:] - heights[1:-1, :-2]) / 20, (heights[2:, 1:-1] - heights[:-2, 1:-1]) / 20
    expected = np.degrees(np.arctan(np.hypot(east, south))) / SLOPE_DEG
    assert np.abs(values[4] - np.minimum(expected, 255)).max() < 0.51
    assert np.abs(values[3] - heights[1:-1, 1:-1] / ELEVATION_M).max() < 0.51


def test_levels_do_not_depend_on_how_a_scene_is_read(tmp_path: Path) -> None:
    """In strips of any height, and in parts of a large scene: the same pixels, to the bit."""
    hills = np.random.default_rng(0).normal(0, 60, (80, 80))
    dem = write_dem(tmp_path / "dem.tif", lambda x, y: 4000 + hills)
    scene = over(scene_of(tmp_path, tiled=True, blockxsize=32, blockysize=16), dem)
    whole, valid = pixels(scene)
    assert len(np.unique(whole[4])) > 100 and valid.all()
    for side, most in ((16, 16), (64, 4096), (7, 7)):
        strips = np.concatenate([strip[1] for strip in read_strips(scene, side, most)], axis=1)
        assert (strips == whole).all()
    parts = parts_of(scene, 0.4)
    assert len(parts) == 6
    for part in parts:
        window = slice(part.top, part.top + part.height), slice(part.left, part.left + part.width)
        assert (pixels(part)[0] == whole[:, *window]).all()


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (-9999.0, {"nodata": -9999.0}), (-32768.0, {"dtype": "int16"}), (np.nan, {}), (-9999.0, {}),
        (-32768.0, {}), (-9999.0, {"dtype": "int16"}), (65535.0, {"dtype": "uint16"}), (-3.4e38, {}),
        (np.nan, {"nodata": -9999.0}), (0.0, {"nodata": 0.0}),
    ],
)  # fmt: skip
def test_pixels_without_height_are_without_data(tmp_path: Path, value: float, options: dict[str, Any]) -> None:
    """And so is what lies so near to a void that its slope would be of half a kernel: no slope is a wrong one."""

    def void(heights: np.ndarray) -> None:
        heights[20:24, 30:33] = value

    dem = write_dem(tmp_path / "dem.tif", plane(20.0), change=void, **options)
    scene = scene_of(tmp_path, nodata=0)
    values, valid = pixels(over(scene, dem))
    inside = np.zeros((64, 96), bool)
    inside[30:42, 60:69] = True  # cells of 30 m are three pixels, and the DEM begins 300 m north-west
    near = ndimage.binary_dilation(inside, iterations=7, structure=np.ones((3, 3)))  # two cells and the differences
    assert not valid[inside].any() and valid[~near].all()
    assert np.abs(values[4][valid] * SLOPE_DEG - 20.0).max() <= (1.0 if options.get("dtype") else 0.0)


def test_a_mask_says_where_there_is_no_height(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif", plane(20.0))
    covered = np.full((80, 80), 255, np.uint8)
    covered[20:24, 30:33] = 0
    with rasterio.open(dem, "r+") as file:
        heights = file.read(1)
        heights[covered == 0] = 0.0
        file.write(heights, 1)
        file.write_mask(covered)
    values, valid = pixels(over(scene_of(tmp_path), dem))
    assert not valid[30:42, 60:69].any()
    valid[23:49, 53:76] = True  # two cells and the differences beside it
    assert valid.all()
    values, valid = pixels(over(tmp_path / "s.tif", dem))
    assert np.unique(values[4][valid]).tolist() == [80]


def test_a_server_reads_a_dem_as_others_do(tmp_path: Path) -> None:
    """It looks for no files beside an upload; a mask or a header beside its DEM is its own."""
    dem = write_dem(tmp_path / "dem.tif", plane(20.0))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(dem, "r+") as file:
        file.write_mask(np.where(np.arange(80)[:, None] < 22, 255, 0).astype(np.uint8).repeat(80, 1))
    bare = write_dem(tmp_path / "dem.bil", plane(20.0), driver="EHdr")
    scene = scene_of(tmp_path)
    expected = [pixels(over(scene, one)) for one in (dem, bare)]
    assert 0.4 < expected[0][1].mean() < 0.6 and expected[1][1].all()
    _edge.cache_clear()
    with rasterio.Env(**ALONE):
        for one, (values, valid) in zip((dem, bare), expected, strict=True):
            found = pixels(over(scene, one))
            assert (found[0] == values).all() and (found[1] == valid).all()


def test_scale_and_offset_of_a_dem_count_and_feet_are_refused(tmp_path: Path) -> None:
    scene = scene_of(tmp_path)
    plain, _ = pixels(over(scene, write_dem(tmp_path / "plain.tif", plane(20.0))))
    dem = write_dem(tmp_path / "dem.tif", lambda x, y: (plane(20.0)(x, y) - 100) * 20)
    with rasterio.open(dem, "r+") as file:
        file.scales, file.offsets = (0.05,), (100.0,)
    values, valid = pixels(over(scene, dem))
    assert valid.all() and (values == plain).all()
    with rasterio.open(dem, "r+") as file:
        file.units = ("ft",)
    with pytest.raises(DataError, match=r"dem\.tif holds heights in ft: bring them to metres first"):
        over(scene, dem)


def test_a_damaged_or_lost_dem_is_named_and_not_the_scene(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "heights.tif", plane(20.0), tiled=True, blockxsize=16, blockysize=16)
    scene = over(scene_of(tmp_path), dem)
    dem.write_bytes(dem.read_bytes()[: dem.stat().st_size // 2])
    with pytest.raises(DataError, match=r"heights\.tif cannot be read: .*; fetch it again\.$"):
        pixels(scene)
    dem.unlink()
    with pytest.raises(DataError, match=r"heights\.tif, a raster of the DEM, cannot be read: No such file"):
        read_header(scene.file, BANDS)


def test_a_dem_around_the_pole_covers_what_lies_in_it(tmp_path: Path) -> None:
    place = scene_of(tmp_path, crs="EPSG:32622", west=480_000.0, north=8_000_000.0)
    for half in (3e6, 2.1e6):  # metres from the pole: the scene lies 1,965 km from it
        with rasterio.open(
            tmp_path / "dem.tif", "w", driver="GTiff", width=600, height=600, count=1, dtype="int16", crs="EPSG:3413",
            transform=Affine(half / 300, 0, -half, 0, -half / 300, half),
        ) as sink:  # fmt: skip
            sink.write(np.full((1, 600, 600), 700, np.int16))
        scene = over(place, tmp_path / "dem.tif")
        values, valid = pixels(scene)
        assert valid.all() and np.unique(values[3]).tolist() == [20] and "beyond" not in " ".join(scene.warnings)
    with pytest.raises(DataError, match="the DEM does not reach scene s"):
        over(scene_of(tmp_path), tmp_path / "dem.tif")


def test_folders_as_products_are_fetched(tmp_path: Path) -> None:
    """A folder a tile with others' rasters beside its heights, and rasters that are named as surfaces."""
    inside = tmp_path / "glo30" / "Copernicus_DSM_COG_10_N27_00_E086_00_DEM"
    (inside / "AUXFILES").mkdir(parents=True)
    heights = write_dem(inside / f"{inside.name}.tif", plane(20.0))
    write_dem(inside / "AUXFILES" / "Copernicus_DSM_COG_10_N27_00_E086_00_WBM.tif", lambda x, y: np.ones(x.shape))
    assert files_of(tmp_path / "glo30", "--dem") == (heights,)
    for kind in ("DSM", "MSK", "STK"):
        write_dem(tmp_path / f"ALPSMLC30_N027E086_{kind}.tif", plane(20.0))
    (found,) = (path for path in files_of(tmp_path, "--dem") if path.parent == tmp_path)
    assert found.name == "ALPSMLC30_N027E086_DSM.tif"


def test_a_dem_that_ends_with_the_scene_costs_its_edge(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif", plane(20.0), cell=10.0, west=WEST, north=NORTH, size=(64, 96))
    values, valid = pixels(over(scene_of(tmp_path), dem))
    assert valid[3:-3, 3:-3].all() and np.unique(values[4][valid]).tolist() == [80]


def test_steep_high_and_low_ground_stay_within_a_byte(tmp_path: Path) -> None:
    for surface, expected in (
        (lambda x, y: 4000 + 8 * (x - WEST - 500), [255]),  # 83 degrees
        (lambda x, y: np.full(x.shape, -400.0), [0]),
        (lambda x, y: np.full(x.shape, 8990.0), [0]),
    ):
        values, valid = pixels(over(scene_of(tmp_path), write_dem(tmp_path / "dem.tif", surface)))
        assert np.unique(values[4][valid]).tolist() == expected
        assert values[3].max() <= 255 and (expected == [255] or valid.all())
    assert np.unique(values[3]).tolist() == [255]


def test_a_folder_of_tiles_has_no_seam(tmp_path: Path) -> None:
    """Two tiles that meet inside the scene; other rasters of a product beside a `_DEM` are left alone."""
    folder = tmp_path / "heights"
    folder.mkdir()
    write_dem(folder / "N27_DEM.tif", plane(20.0), size=(80, 26))  # ends 480 m east of the corner, on a pixel's edge
    write_dem(folder / "N28_DEM.tif", plane(20.0), west=WEST + 480, size=(80, 40))
    write_dem(folder / "N28_num.tif", lambda x, y: np.full(x.shape, 7.0))
    (folder / "readme.txt").write_text("")
    assert [path.name for path in files_of(folder, "--dem")] == ["N27_DEM.tif", "N28_DEM.tif"]
    scene = over(scene_of(tmp_path), folder)
    assert scene.dem is not None and [len(grid) for grid in scene.dem.grids] == [2] and not scene.warnings
    values, valid = pixels(scene)
    assert valid.all() and np.unique(values[4]).tolist() == [80]
    far = write_dem(tmp_path / "far.tif", plane(20.0), west=WEST + 90_000)
    write_dem(folder / "far_dem.tif", plane(20.0), west=WEST + 90_000)
    assert over(tmp_path / "s.tif", folder).dem == scene.dem, "a tile that does not touch is not opened"
    with pytest.raises(DataError, match="the DEM does not reach scene s: add its ground"):
        over(tmp_path / "s.tif", far)


def test_tiles_of_two_grids_leave_a_line_that_is_said(tmp_path: Path) -> None:
    """As Copernicus' do at 60 degrees, where a tile's cells are twice as wide as those of the next."""
    folder = tmp_path / "heights"
    folder.mkdir()
    write_dem(folder / "N27_DEM.tif", plane(20.0), size=(80, 26))
    write_dem(folder / "N28_DEM.tif", plane(20.0), cell=20.0, west=WEST + 480, size=(90, 80))
    scene = over(scene_of(tmp_path), folder)
    assert [re.sub(r"^.*/", "", word) for word in scene.warnings] == [
        "s.tif: the DEM's rasters lie on 2 grids there: where these meet and do not overlap, up to four cells are "
        "without data. Bring them to one grid first (gdalwarp)."
    ]
    values, valid = pixels(scene)
    lost = np.flatnonzero(~valid.all(axis=0))
    assert 0 < len(lost) <= 12 and lost.min() >= 41 and lost.max() <= 54 and valid[:, :41].all()
    assert np.unique(values[4][valid]).tolist() == [80]


def test_ground_beyond_the_dem_is_said(tmp_path: Path) -> None:
    dem = write_dem(tmp_path / "dem.tif", plane(20.0), size=(80, 26))
    scene = over(scene_of(tmp_path), dem)
    assert [re.sub(r"^.*/", "", word) for word in scene.warnings] == [
        "s.tif: 50.0% lies beyond the DEM and is without data."
    ]
    assert 0.5 - 6 / 96 <= pixels(scene)[1].mean() <= 0.5  # two cells are six pixels


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4326+3855"])
def test_a_dem_on_the_other_side_of_180_degrees(tmp_path: Path, crs: str) -> None:
    """The scene lies across; its tiles are written as 179 and as -180 degrees east, and are one grid."""
    place = scene_of(tmp_path, crs="EPSG:3832", west=3_339_000.0, north=3_000_000.0, gsd_m=100.0)
    with rasterio.open(place) as source:
        corner = pyproj.Transformer.from_crs(source.crs, 4326, always_xy=True).transform(3_339_000.0, 3_000_000.0)
    assert 179.9 < corner[0] < 180
    folder = tmp_path / "heights"
    folder.mkdir()
    for name, west in (("E179", 179.0), ("W180", -180.0)):
        transform = Affine(1 / 1200, 0, west, 0, -1 / 1200, 27.0)
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=1200, height=2400, count=1, dtype="int16",
            crs=crs, transform=transform,
        ) as sink:  # fmt: skip
            sink.write(np.full((1, 2400, 1200), 1400, np.int16))
    scene = over(place, folder)
    assert "beyond the DEM" not in " ".join(scene.warnings)
    assert scene.dem is not None and [len(grid) for grid in scene.dem.grids] == [2]
    values, valid = pixels(scene)
    assert valid.all() and np.unique(values[3]).tolist() == [40] and not values[4].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 3}, "must be one band of heights in metres"),
        ({"crs": None}, "must be one band of heights in metres"),
        ({"dtype": "complex64"}, "must be one band of heights in metres"),
        ({"dtype": "uint8"}, "its values are of 8 bit, as those of a hillshade or a picture are"),
        ({"transform": Affine(30, 0, WEST + 960, 0, -30, NORTH)}, r"the DEM does not reach scene s: add its ground"),
    ],
)
def test_what_is_no_dem_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    profile = {"driver": "GTiff", "width": 80, "height": 80, "count": 1, "dtype": "float32", "crs": "EPSG:32645"}
    profile |= {"transform": Affine(30, 0, WEST - 300, 0, -30, NORTH + 300), **options}
    with rasterio.open(tmp_path / "dem.tif", "w", **profile) as sink:
        sink.write(np.ones((profile["count"], 80, 80), profile["dtype"]))
    with pytest.raises(DataError, match=message):
        over(scene_of(tmp_path), tmp_path / "dem.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"--dem=.*empty holds no DEM"):
        files_of(tmp_path / "empty", "--dem")
    with pytest.raises(DataError, match=r"--dem=.*nothing does not exist"):
        files_of(tmp_path / "nothing", "--dem")
    with pytest.raises(DataError, match="named slope: give a DEM, which these come of"):
        read_header(find(tmp_path / "s.tif", "sentinel2")[0], (*BANDS[:3], "slope"))


def test_two_rasters_of_the_same_ground_are_told(tmp_path: Path) -> None:
    """A slope beside the heights that it was made of would be taken for them, and is first by its name."""
    folder = tmp_path / "heights"
    folder.mkdir()
    write_dem(folder / "a_slope.tif", lambda x, y: 20.0 + 0 * (x + y))
    write_dem(folder / "height.tif", plane(20.0))
    (told,) = over(scene_of(tmp_path), folder).warnings
    assert "a_slope.tif and " in told and "height.tif hold the same ground, and where both have values one" in told
    (folder / "height.tif").rename(folder / "height_dem.tif")
    assert not over(scene_of(tmp_path), folder).warnings  # the heights alone are named as such


def with_heights(root: Path, **settings: Any) -> DatasetConfig:
    """Scenes with lakes, over a DEM."""
    dataset = scenery(root)
    rough = np.random.default_rng(1).normal(0, 40, (60, 2200))
    write_dem(root / "heights.tiff", lambda x, y: 4000 + rough, size=(60, 2200))
    return dataclasses.replace(dataset, dem=str(root / "heights.tiff"), **settings)


def test_a_store_with_bands_of_a_dem(tmp_path: Path) -> None:
    """The scenes' own bands, tiles and split are those of a store without, and levels are stretched by nothing."""
    dataset = with_heights(tmp_path / "data")
    usual = dataclasses.replace(dataset, dem=None)
    terrain = dataclasses.replace(dataset, bands=list(BANDS))
    plain, covered, store = (prepare(one, 32, tmp_path / "stores", progress=False) for one in (usual, dataset, terrain))
    assert store.bands == list(BANDS) and store.terrain == ["elevation", "slope"]
    assert (plain.terrain, covered.terrain) == ([], []) and "dem" not in plain.manifest["recipe"]
    for one in (covered, store):
        assert (np.asarray(one.images)[..., :3] == np.asarray(plain.images)).all()
        assert one.split_hash == plain.split_hash and (one.labels == np.asarray(plain.labels)).all()
    for limits in store.manifest["stretch"].values():
        assert limits["low"][3:] == [0.0, 0.0] and limits["high"][3:] == [255.0, 255.0]
    files = find(Path(str(dataset.root)), "sentinel2", dem=files_of(Path(str(dataset.dem)), "--dem"))
    (scene,) = (file for file in files if file.scene == "s2")
    values, _ = pixels(read_header(scene, BANDS))
    index = store.index
    for row in index.index[index["scene"] == "s2"]:
        top, left = int(index["row"][row]), int(index["col"][row])
        tile = values[3:, top : top + 32, left : left + 32].transpose(1, 2, 0)
        assert (store.images[row][..., 3:] == tile).all() and len(np.unique(tile[..., 1])) > 20
    known = recipe_id(terrain, 32)
    for scope in ("sensor", "global"):
        stretch = dataclasses.replace(dataset.stretch, scope=scope)
        shared = dataclasses.replace(terrain, stretch=stretch)
        found = prepare(shared, 32, tmp_path / "stores", progress=False)
        assert (np.asarray(found.images)[..., 3:] == np.asarray(store.images)[..., 3:]).all()
    write_dem(tmp_path / "data" / "heights.tiff", plane(5.0), size=(60, 2200))
    assert recipe_id(terrain, 32) != known and recipe_id(usual, 32) == plain.manifest["recipe_id"]
    vrt = tmp_path / "data" / "heights.vrt"
    with rasterio.open(dataset.dem) as file:
        rasterio.shutil.copy(file, vrt, driver="VRT")
    of_vrt = dataclasses.replace(terrain, dem=str(vrt))
    known = recipe_id(of_vrt, 32)
    write_dem(tmp_path / "data" / "heights.tiff", plane(6.0), size=(60, 2200))
    assert recipe_id(of_vrt, 32) != known, "what a VRT refers to is the DEM"


@pytest.mark.parametrize("bands", [["slope", "red"], ["slope"], ["red", "slope", "green"]])
def test_bands_of_a_dem_come_last(bands: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"must name bands of the scenes first, then those of a DEM \(slope\)"):
        DatasetConfig(bands=bands)
    assert DatasetConfig(kind="scenes", bands=bands).terrain == []  # type: ignore[arg-type]  # the scenes' own


def test_light_does_not_fall_on_heights() -> None:
    """Colour, gain and haze leave the bands of a DEM as they are; without one all bands get what they always got."""
    colours = dataclasses.replace(
        AugmentationConfig(), color_p=1.0, gain_p=1.0, gain=0.3, haze_p=1.0, haze=[0.2, 0.4], brightness=0.3
    )
    image, label = smooth(6, 32, 32, channels=4), torch.zeros(6, 32, 32, dtype=torch.uint8)
    mean, std = [120.0, 110.0, 100.0, 90.0], [60.0, 50.0, 40.0, 30.0]
    plain = Augment(AugmentationConfig(), mean=mean, std=std, seed=0)(image, label, torch.arange(6), 0).image
    lit = Augment(colours, mean=mean, std=std, seed=0)(image, label, torch.arange(6), 0).image
    found = Augment(colours, mean=mean, std=std, seed=0, terrain=1)(image, label, torch.arange(6), 0).image
    assert torch.allclose(found[:, 3], plain[:, 3], atol=1e-5) and torch.equal(found[:, :3], lit[:, :3])
    assert (lit[:, 3] - plain[:, 3]).abs().amax(dim=(1, 2)).min() > 0.1
    assert (found[:, :3] - plain[:, :3]).abs().amax(dim=(1, 2, 3)).min() > 0.1
    two = Augment(colours, mean=mean[:2], std=std[:2], seed=0, terrain=1)  # one band and a slope
    alone = two(image[:, :2], label, torch.arange(6), 0).image
    assert torch.allclose(alone[:, 1], plain[:, 1], atol=1e-5) and (alone[:, 0] - plain[:, 0]).abs().max() > 0.1


def test_slope_turns_with_the_tile() -> None:
    """Every preset moves the bands of a DEM as it moves the others."""
    image = smooth(8, 32, 32)
    image[:, 2] = image[:, 0]
    label = torch.zeros(8, 32, 32, dtype=torch.uint8)
    cfg = dataclasses.replace(preset("strong"), color_p=0.0, gain_p=0.0, haze_p=0.0, noise_p=0.0)
    found = Augment(cfg, mean=[0.0] * 3, std=[1.0] * 3, seed=3, terrain=1)(image, label, torch.arange(8), 0).image
    assert torch.equal(found[:, 2], found[:, 0]) and not torch.equal(found[:, 0], image[:, 0].float())


def test_generated_scenes_have_a_dem_and_are_else_the_same(tmp_path: Path) -> None:
    """Heights that are flat over two of three lakes, and steep beside them."""
    cfg = SyntheticConfig(sensors=["sentinel2"], scenes_per_sensor=2, scene_px=256)
    plain, made = generate(cfg, tmp_path / "plain", progress=False), tmp_path / "made"
    generate(cfg, made, progress=False, dem=True)
    for file in sorted(path for path in plain.rglob("*") if path.is_file()):
        assert file.read_bytes() == (made / file.relative_to(plain)).read_bytes()
    assert sorted(path.name for path in (made / "dem").iterdir()) == sorted(p.name for p in (made / "scenes").iterdir())
    files = find(made / "scenes.csv", "sentinel2", dem=files_of(made / "dem", "--dem"))
    flat_lakes, ground = [], []
    for file in files:
        values, valid = pixels(read_header(file, BANDS))
        assert (valid == (read_classes(made, file.scene) != CLASSES["nodata"])).mean() > 0.99
        codes = read_classes(made, file.scene)
        lake = np.isin(codes, [CLASSES["lake"], CLASSES["frozen_lake"]]) & valid
        flat_lakes.append(np.median(values[4][lake]))
        ground.append(np.median(values[4][valid & ~lake]))
    assert np.mean(flat_lakes) < 0.6 * np.mean(ground)


def test_arms_over_different_dems_share_no_ground(tmp_path: Path) -> None:
    base = small_config(tmp_path, tmp_path)
    base = dataclasses.replace(base, dataset=with_heights(tmp_path / "data"))

    def arm(name: str, **settings: Any) -> Checked:
        own = dataclasses.replace(base, dataset=dataclasses.replace(base.dataset, **settings))
        return Checked(Arm(name, ()), (), own)

    assert grounds([arm("rgb"), arm("slope", bands=list(BANDS))]) == [None, None]
    with pytest.raises(
        ConfigError, match=r"other has another dataset\.dem .* dataset\.bands says which of them use it"
    ):
        grounds([arm("rgb"), arm("other", dem="other.tif")])


def test_a_model_knows_a_dem_s_slope_from_another(tmp_path: Path) -> None:
    terrain = dataclasses.replace(with_heights(tmp_path / "data"), bands=[*BANDS[:3], "slope"])
    store = prepare(terrain, 32, tmp_path / "stores", progress=False)
    card = {"bands": store.bands, "terrain": ["slope"]}
    assert places_of_bands(card, store) == [0, 1, 2, 3] and places_of_bands({"bands": ["blue", "red"]}, store) == [2, 0]
    with pytest.raises(DataError, match=r"slope: the data's comes of a DEM .* the model's is the scenes' own"):
        places_of_bands({"bands": store.bands}, store)
    own = TileStore.open(store.path)
    own.manifest["recipe"] = {key: value for key, value in own.manifest["recipe"].items() if key != "dem"}
    with pytest.raises(DataError, match=r"slope: the model's comes of a DEM .* the data's is the scenes' own"):
        places_of_bands(card, own)


@pytest.fixture
def sloped(model: Path, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """A model of four bands whose lakes are the flat ground; what it is shown."""
    card = json.loads((model / "card.json").read_text())
    card |= {"bands": [*BANDS[:3], "slope"], "terrain": ["slope"], "mean": [128.0] * 4, "std": [64.0] * 4}
    (model / "card.json").write_text(json.dumps(card | {"architecture": card["architecture"] | {"in_channels": 4}}))
    net = torch.nn.Conv2d(4, 1, 1)
    torch.nn.init.zeros_(net.weight)
    net.weight.data[0, 3] = -8.0
    net.bias.data[0] = -12.0  # type: ignore[index]  # lake below a level of 32, 8 degrees
    made = Predictor(net, mean=[128.0] * 4, std=[64.0] * 4, stride=1, smallest_px=1, card={"threshold": 0.5}).eval()
    shown: list[torch.Tensor] = []
    net.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    monkeypatch.setattr(predict, "network", lambda *_: made)
    return shown


def test_maps_over_a_dem(model: Path, sloped: list[torch.Tensor], tmp_path: Path) -> None:
    """Ground that is flat is found; beyond the DEM there is no data; another DEM is another map."""
    scene = write_scene(tmp_path / "s.tif", pixels=with_lakes(), descriptions=["red", "green", "blue"])

    def pond(heights: np.ndarray) -> None:
        heights[30:50, 30:50] = 3900.0  # 600 to 1200 m from the scene's corner

    for size, share in (((100, 100), 1.0), ((40, 100), 0.6)):
        dem = write_dem(tmp_path / "dem.tif", plane(20.0), size=size, change=pond)
        assert mapped(model, tmp_path / "maps", scene, more=("--sensor", "sentinel2", "--dem", str(dem))) == 0
        with rasterio.open(tmp_path / "maps" / "s_probability.tif") as file:
            levels = file.read(1)
        assert share - 0.04 <= (levels != 255).mean() <= share
        lake = np.zeros(levels.shape, bool)
        lake[66:84, 66:114] = True
        assert (levels[lake] > 200).all() and (levels[:54, :] < 20).all() and (levels[66:84, 130:] < 20).all()
    told = json.loads((tmp_path / "maps" / "s.json").read_text())["properties"]
    assert told["glidexp:dem"] == ["dem.tif"] and "beyond the DEM" in " ".join(told["glidexp:warnings"])
    assert {tuple(one.shape[1:2]) for one in sloped} == {(4,)}


def test_a_dem_that_lacks_or_is_not_wanted_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=with_lakes(), descriptions=["red", "green", "blue"])
    (file,) = find(scene, "sentinel2", dem=files_of(write_dem(tmp_path / "dem.tif", plane(20.0)), "--dem"))
    with pytest.raises(ConfigError, match=r"--dem would not be used: the model takes red, green, blue\. Leave it out"):
        header(read_card(model), file)
    words = ["predict", str(model), str(scene), "--out", str(tmp_path / "maps"), "--sensor", "sentinel2"]
    request.getfixturevalue("sloped")
    assert told_by(*words) == 2
    assert "the model takes slope of a DEM: give --dem, a raster of heights" in capsys.readouterr().err
    assert told_by(*words, "--dem", str(tmp_path / "none.tif")) == 2
    assert "--dem=" in (told := capsys.readouterr().err) and "none.tif does not exist: give a raster" in told


def test_heights_in_feet_that_nobody_tells_are_no_ground(
    model: Path, sloped: list[torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie above all mountains, so nothing is left to map, and that is said of the heights."""
    scene = write_scene(tmp_path / "s.tif", pixels=with_lakes(), descriptions=["red", "green", "blue"])
    words = ["predict", str(model), str(scene), "--out", str(tmp_path / "maps"), "--sensor", "sentinel2"]
    dem = write_dem(tmp_path / "dem.tif", lambda x, y: plane(20.0)(x, y) / 0.3048, size=(100, 100))
    assert told_by(*words, "--dem", str(dem)) == 2
    told = capsys.readouterr().err
    assert (
        "dem.tif is no DEM in metres: in its middle it holds 11,840 to 13,357, and no ground" in told
        and "above 9,000 m: bring" in told
    )
    even = write_dem(tmp_path / "even.tif", lambda x, y: np.full_like(x + y, 13_000.0), size=(100, 100))
    assert told_by(*words, "--dem", str(even)) == 2  # it might be a void
    assert "s.tif has no valid pixel over heights in metres: there is nothing to map." in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_on_slope_is_scored_mapped_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From generated scenes with their DEM to maps: the doors a user takes."""
    own = ["dataset.bands=[red,green,blue,slope]", "augmentation=strong"]
    with undrawn():
        assert told_by("train", *words(tmp_path / "data", tmp_path / "mlruns", *own)) == 0
    run = re.findall(r"runs/([0-9a-f]{32})", capsys.readouterr().out)[-1]
    folder = next(path.parent for path in (tmp_path / "data" / "scenes").glob("*/dem"))
    scene, store = str(min((folder / "scenes").iterdir())), ["--mlruns", str(tmp_path / "mlruns")]
    over_dem = [scene, "--sensor", "landsat8", "--dem", str(folder / "dem"), *store]
    assert told_by("predict", run, *over_dem, "--out", str(tmp_path / "maps")) == 0
    capsys.readouterr()
    assert told_by("validity", run, *over_dem, "--out", str(tmp_path / "page")) == 0
    assert "by statistics" in capsys.readouterr().out and "slope" in (tmp_path / "page" / "validity.md").read_text()
    alone = ["validity", run, "--dem", str(folder / "dem"), *store, "--out", str(tmp_path / "page")]
    assert told_by(*alone) == 2 and "--dem=" in (said := capsys.readouterr().err) and "would not be used" in said
    data = [word for word in words(tmp_path / "data", tmp_path / "mlruns") if not word.startswith(KEPT_OUT)]
    assert told_by("evaluate", run, *data, "eval.split=test") == 2
    assert "slope is missing. Choose data with these bands (dataset.bands=[red,green,blue,slope])" in (
        capsys.readouterr().err
    )
    with undrawn():
        assert told_by("evaluate", run, *data, *own[:1], "eval.split=test") == 0
    scored = re.findall(r"runs/([0-9a-f]{32})", capsys.readouterr().out)[-1]
    assert scored != run and told_by("predict", scored, *over_dem, "--out", str(tmp_path / "maps")) == 2
    assert f"is FINISHED and has no model: it scores the model of run {run}: give that" in capsys.readouterr().err


def test_an_upload_is_held_against_the_server_s_dem(
    sloped: list[torch.Tensor], model: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is said names no folder of the server; a picture that lies nowhere has no heights."""
    card = json.loads((model / "card.json").read_text())
    secret = tmp_path_factory.mktemp("secret")
    settings = ServeSettings(dem=str(write_dem(secret / "heights.tif", plane(20.0))))

    def judged(pixels: np.ndarray, **options: Any) -> Judged:
        upload = tmp_path / "upload"
        write_scene(tmp_path / "u.tif", pixels=pixels, descriptions=["red", "green", "blue"], **options)
        (tmp_path / "u.tif").rename(upload)
        return judge(upload, "mine", Wish(sensor="sentinel2"), card, settings)

    told = about(card, "a-model", settings)
    assert (told["bands"], told["bands_of_dem"]) == (["red", "green", "blue"], ["slope"]), "what a scene must hold"
    assert judged(with_lakes()).file.dem == (secret / "heights.tif",)
    with pytest.raises(Refusal, match=r"^heights\.tif: the DEM does not reach scene mine: add its ground") as away:
        judged(with_lakes(), west=WEST + 90_000)
    assert away.value.status == 422
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "upload", "PNG")
    with pytest.raises(
        Refusal, match="the scene does not say where it lies, and the model takes heights of its ground"
    ):
        judge(tmp_path / "upload", "mine", Wish(sensor="sentinel2"), card, settings)
    (secret / "heights.tif").unlink()
    with pytest.raises(Refusal, match=r"^--dem=heights\.tif does not exist"):
        judged(with_lakes())


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of mlflow's own import
def test_a_scene_and_its_dem_are_given_to_a_model_of_mlflow(
    model: Path, sloped: list[torch.Tensor], tmp_path: Path
) -> None:
    from glidexp.tracking.pyfunc_release import ReleasedLakeModel

    scene = write_scene(tmp_path / "s.tif", pixels=with_lakes(), descriptions=["red", "green", "blue"])
    released = ReleasedLakeModel()
    released.bundle = model
    with pytest.raises(ConfigError, match=re.escape('give {"scene": PATH, "dem": PATH}, a raster of heights')):
        released.predict(None, str(scene))
    for degrees, expected in ((20.0, 0.0), (2.0, 1.0)):
        dem = write_dem(tmp_path / "dem.tif", plane(degrees), size=(100, 100))
        found = released.predict(None, {"scene": str(scene), "dem": dem})
        assert found.shape == (150, 200) and np.abs(found - expected).max() < 0.1
    with pytest.raises(DataError, match=r"none\.tif does not exist"):
        released.predict(None, {"scene": scene, "dem": tmp_path / "none.tif"})
    for odd in ({"scene": str(scene), "sensors": "sentinel2"}, {"Scene": str(scene)}, {"scene": np.zeros((4, 9, 9))}):
        with pytest.raises(
            ValueError, match=re.escape('a scene is given as {"scene": PATH}, with "dem": PATH and "sensor": NAME, not')
        ):
            released.predict(None, odd)
    for beyond in (np.full((4, 9, 9), 3000, np.uint16), np.full((4, 9, 9), -1.0), np.full((4, 9, 9), np.nan)):
        with pytest.raises(ValueError, match="holds values of 0 to 255, not of"):
            released.predict(None, beyond)


def test_cards_say_what_the_levels_are() -> None:
    """So that others can make them who have the network alone, as an ONNX graph."""
    card: dict[str, Any] = {"bands": [*BANDS[:3], "slope"], "terrain": ["slope"], "mean": [0.0] * 4, "std": [1.0] * 4}
    card |= {"architecture": {"in_channels": 4}, "graph": {"stride": 32, "smallest_px": 32}}
    said = "Of a digital elevation model come slope: slope in steps of 0.25 degrees, rounded, from 0 to 255"
    assert said in _use(card) and said in _input(card)["description"]
    del card["terrain"]
    assert "elevation model" not in _use(card) + _input(card)["description"]
