"""Large scenes are cut into parts: by a rule that can be worked by hand, without losing or doubling a pixel."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_scenes import NORTH, WEST, lake, write_polygons, write_scene

from glidexp.config import DatasetConfig, DatasetKind, SplitConfig, StretchConfig, StretchMethod, StretchScope
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.scenes import crop
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import read_header, read_strips
from glidexp.data.splits import scene_groups
from glidexp.data.store import TileStore
from glidexp.errors import DataError


@pytest.mark.parametrize(
    ("count", "side_m", "part_km", "edges"),
    [
        (10_980, 10.0, 150.0, [0, 10_980]),  # Sentinel-2: 110 km
        (7_800, 30.0, 150.0, [0, 4096, 7_800]),  # Landsat: 234 km, halves of 3,900 rounded up to 4 x 1024
        (1_558, 150.0, 150.0, [0, 896, 1_558]),  # 1,000 px at most: 779 rounded up to 7 x 128
        (5_000, 30.0, 150.0, [0, 5_000]),
        (5_001, 30.0, 150.0, [0, 3_072, 5_001]),
        (7_800, 30.0, 0.0, [0, 7_800]),
        (3, 200_000.0, 150.0, [0, 1, 2, 3]),  # a pixel is never cut
    ],
)
def test_edges_worked_by_hand(count: int, side_m: float, part_km: float, edges: list[int]) -> None:
    assert crop._edges(count, side_m, part_km) == edges


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetConfig:
    """A scene of 0.96 x 0.64 km, its lakes also on the seams of parts of half a kilometre."""
    write_scene(tmp_path / "s.tif", dtype="uint8")
    write_polygons(tmp_path / "lakes.gpkg", [lake(480, 320, 90.0), lake(200, 100, 50.0), lake(800, 500, 70.0)])
    return DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(tmp_path / "s.tif"),
        lakes=str(tmp_path / "lakes.gpkg"),
        sensor="sentinel2",
        buffer_m=0.0,
        empty_share=9.0,
        stretch=StretchConfig(method=StretchMethod.fixed, low=0, high=255),
        split=SplitConfig(val=0.0, test=0.0),
    )


def on_ground(store: TileStore) -> np.ndarray:
    """(4, 64, 96) colours and labels by their place on the ground; 77 where there is no tile."""
    out = np.full((4, 64, 96), 77, np.uint8)
    for i, transform in enumerate(store.index["transform"]):
        col, row = round((transform[2] - WEST) / 10), round((NORTH - transform[5]) / 10)
        inside = np.argwhere(store.labels[i] != 255)
        for r, c in inside.tolist():
            assert (out[:, row + r, col + c] == 77).all() or out[3, row + r, col + c] == 77
            out[:3, row + r, col + c], out[3, row + r, col + c] = store.images[i][r, c], store.labels[i][r, c]
    return out


def test_parts_hold_every_pixel_once(dataset: DatasetConfig, tmp_path: Path) -> None:
    whole = prepare(dataset, 16, tmp_path / "data", progress=False)
    cut = prepare(replace(dataset, part_km=0.5), 16, tmp_path / "data", progress=False)
    assert set(cut.index["scene"]) == {"s_p0_0", "s_p0_1", "s_p1_0", "s_p1_1"} and len(cut) == len(whole) == 24
    assert (on_ground(cut) == on_ground(whole)).all() and not (on_ground(cut)[3] == 77).any()
    assert cut.manifest["parts"]["scenes"] == {"s": {"rows": [0, 32], "cols": [0, 48], "height": 64, "width": 96}}
    assert "parts" not in whole.manifest and set(cut.index["block"]) == {"s"}
    assert recipe_id(dataset, 16) == recipe_id(replace(dataset, part_km=150.0), 16)
    assert cut.split_hash == prepare(replace(dataset, part_km=0.5), 32, tmp_path / "data", progress=False).split_hash


def test_parts_of_one_scene_are_one_unit(tmp_path: Path) -> None:
    scenes = [
        part
        for n in range(2)
        for part in crop.parts_of(
            read_header(SceneFile(write_scene(tmp_path / f"{n}.tif", west=WEST + n * 5000), f"s{n}", "sentinel2")), 0.5
        )
    ]
    assert len(scenes) == 8
    assert {key: len(members) for key, members in scene_groups(scenes).items()} == {"s0": 4, "s1": 4}


@pytest.mark.slow
def test_a_real_scene_of_234_by_237_km_is_cut_and_stretched(
    real_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Landsat-8 over the Cascades at 150 m, uint16, nodata around it; without inventory, so a box in each part."""
    path = real_data / "landsat8_cascades_16bit" / "LC80460282016177_RGB_uint16.tif"
    whole = read_header(SceneFile(path, path.stem, "landsat8"))
    parts = crop.parts_of(whole, 150.0)
    assert [part.name for part in parts] == [f"{path.stem}_p{r}_{c}" for r in range(2) for c in range(2)]
    for part in parts:
        assert max(part.height, part.width) * part.gsd_m <= 150_000
        left, top = part.xy(np.array([0.0]), np.array([0.0]))
        assert (left[0], top[0]) == whole.xy(np.array([float(part.left)]), np.array([float(part.top)]))
    assert sum(part.height * part.width for part in parts) == whole.height * whole.width
    boxes = [part.outline.centroid.buffer(3_000, cap_style="square") for part in parts]
    write_polygons(tmp_path / "lakes.gpkg", boxes, crs="EPSG:32610")
    dataset = DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(path),
        lakes=str(tmp_path / "lakes.gpkg"),
        sensor="landsat8",
        buffer_m=0.0,
        split=SplitConfig(val=0.0, test=0.0),
    )
    with caplog.at_level(logging.WARNING):
        store = prepare(dataset, 128, tmp_path / "data", progress=False)
    assert caplog.text.count("a pixel is 150.019 m where landsat8 has 30 m") == 1
    assert set(store.index["scene"]) == {part.name for part in parts} == set(store.manifest["stretch"])
    lake_px = sum(int((label == 1).sum()) for label in store.labels)
    assert lake_px == pytest.approx(sum(box.area for box in boxes) / 150**2, rel=0.03)
    for part in parts:
        values = np.concatenate([p[:, v] for _, p, v in read_strips(part, 128)], axis=1)
        limits = store.manifest["stretch"][part.name]
        for band in range(3):
            assert [limits["low"][band], limits["high"][band]] == np.percentile(
                values[band], [2, 98], method="inverted_cdf"
            ).tolist()
    images = store.images[np.asarray(store.labels) != 255]
    assert images.min() == 0 and images.max() == 255 and images.std() > 30


def test_an_empty_part_is_left_out_and_an_empty_scene_refused(dataset: DatasetConfig, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 4000, (3, 64, 96)).astype(np.uint16)
    pixels[:, 32:, 48:] = 0
    write_scene(tmp_path / "s.tif", pixels=pixels, nodata=0)
    cut = replace(dataset, part_km=0.5, stretch=StretchConfig())
    for scope in StretchScope:
        cut.stretch.scope = scope
        store = prepare(cut, 16, tmp_path / "data", progress=False)
        assert set(store.index["scene"]) == set(store.manifest["stretch"]) == {"s_p0_0", "s_p0_1", "s_p1_0"}
        assert store.manifest["dropped"]["parts_without_valid_pixel"] == 1
    write_scene(tmp_path / "s.tif", pixels=pixels * 0, nodata=0)
    with pytest.raises(DataError, match=r"s\.tif has no valid pixel \(all is nodata or masked\): take it out"):
        prepare(cut, 16, tmp_path / "data", progress=False)
