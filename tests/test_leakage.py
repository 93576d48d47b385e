"""Ground that was met in training is known again: at another tile size, on another grid, in another CRS, as a copy."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
from PIL import Image
from rasterio.transform import Affine
from tiny_scenes import NORTH, WEST, lake, world, write_polygons, write_scene

from glidexp.config import DatasetConfig, DatasetKind, SplitBy, SplitConfig, SyntheticConfig
from glidexp.data import leakage
from glidexp.data.leakage import EARTH, find_leak, from_bytes, ground_of, join, same_pixels, to_bytes
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore
from glidexp.data.writer import StoreWriter
from glidexp.errors import DataError


def box(store: TileStore, row: int) -> tuple[float, float, float, float]:
    """West, south, east, north of a tile without padding, in its CRS."""
    a, _, c, _, e, f = store.index.iloc[row]["transform"][:6]
    return c, f + e * store.tile_px, c + a * store.tile_px, f


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Shared area of two boxes as a share of the smaller one."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    area = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(across, 0.0) * max(down, 0.0) / area


def every(store: TileStore) -> np.ndarray:
    return np.arange(len(store), dtype=np.int64)


def other_split(ground: pd.DataFrame) -> pd.DataFrame:
    """The same ground, met under another split, so that no split speaks for it."""
    return ground.assign(split_hash="another")


def shifted(folder: Path, *, by_m: float, to: int | None = None) -> TileStore:
    """One scene moved along the row of `world`'s scenes, all of whose tiles are kept; maybe in another zone's CRS."""
    west, north, crs = WEST + by_m, NORTH, "EPSG:32645"
    if to is not None:
        crs = f"EPSG:{to}"
        west, north = pyproj.Transformer.from_crs(32645, to, always_xy=True).transform(west, north)
    write_scene(folder / "s.tif", west=west, north=north, crs=crs, seed=100 + int(by_m))
    write_polygons(folder / "lakes.gpkg", [lake(by_m + x, y, 40.0) for x in range(0, 1000, 150) for y in (100, 400)])
    settings: dict[str, Any] = {"root": str(folder / "s.tif"), "lakes": str(folder / "lakes.gpkg"), "buffer_m": 0.0}
    config = DatasetConfig(kind=DatasetKind.scenes, split=SplitConfig(val=0, test=0), sensor="sentinel2", **settings)
    return prepare(config, 32, folder / "data", progress=False)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def store(scenes: DatasetConfig, tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    return prepare(scenes, 32, tmp_path_factory.mktemp("data"), progress=False)


@pytest.mark.parametrize("px", [32, 64])
def test_its_own_test_ground_is_apart_and_its_train_and_val_ground_is_met_at_any_tile_size(
    store: TileStore, scenes: DatasetConfig, px: int, tmp_path: Path
) -> None:
    again = prepare(scenes, px, tmp_path, progress=False)
    ground = join([ground_of(store, store.rows("train"), "train"), ground_of(store, store.rows("val"), "val")])
    assert set(ground["world"]) == {EARTH}
    assert not find_leak(ground, again, again.rows("test")).tiles.any()
    whole = find_leak(other_split(ground), again, every(again))
    side = again.index["split"].to_numpy()
    assert (whole.on("train") == (side == "train")).all() and (whole.on("val") == (side == "val")).all()
    assert whole.by_model.keys() == {(0, "train"), (0, "val")}


@pytest.mark.parametrize("by_m", [0.0, 70.0, 310.0, 960.0, 5000.0])
@pytest.mark.parametrize("to", [None, 32644])
def test_a_shifted_grid_is_compared_by_its_footprints(
    store: TileStore, by_m: float, to: int | None, tmp_path: Path
) -> None:
    """Against boxes compared by hand in one CRS; 960 m is the scene's width, where neighbours only touch."""
    trained = np.flatnonzero(store.index["scene"] == "s0")
    moved = shifted(tmp_path, by_m=by_m, to=to)
    met = find_leak(ground_of(store, trained, "train"), moved, every(moved))
    assert len(moved) > 3
    expected = []
    for row in every(moved):
        west, south, east, north = box(moved, row)
        if to is not None:  # a few degrees of turn between the zones: the box of the turned corners is good enough
            back = pyproj.Transformer.from_crs(to, 32645, always_xy=True)
            x, y = back.transform([west, east, west, east], [south, south, north, north])
            west, south, east, north = np.mean(np.sort(x)[:2]), np.mean(np.sort(y)[:2]), max(x), max(y)
        valid = (west, max(south, NORTH - 640), min(east, WEST + by_m + 960), north)
        expected.append(max(overlap(valid, box(store, t)) for t in trained))
    clear = np.array([share < 0.001 or share > 0.1 for share in expected])
    assert clear.sum() > len(clear) // 2
    assert (met.tiles == (np.array(expected) > 0.01))[clear].all()
    assert met.tiles.any() == (by_m < 960) or (to is not None and by_m == 960)


def test_blocks_that_touch_share_no_ground(tmp_path: Path) -> None:
    scenes = world(tmp_path, scenes=3, apart_m=960.0)
    split = SplitConfig(by=SplitBy.block, block_m=320.0, val=0.2, test=0.3)
    blocks = prepare(dataclasses.replace(scenes, split=split), 16, tmp_path / "data", progress=False)
    ground = other_split(ground_of(blocks, blocks.rows("train"), "train"))
    assert len(blocks.rows("test")) and not find_leak(ground, blocks, blocks.rows("test")).tiles.any()
    assert find_leak(ground, blocks, blocks.rows("train")).tiles.all()


def test_footprints_across_the_line_of_180_degrees_are_one_place() -> None:
    """A square of 2 km around (180, 10): written in the zone west and in the zone east of the line.

    The last square begins just east of the line, so that its longitudes are below 0 and those of the first above 180.
    """
    rows = []
    for crs, lon in ((32660, 179.999), (32601, -179.999), (32601, -179.9), (32601, -179.99)):
        x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, 10.0)
        rows.append({"world": EARTH, "crs": f"EPSG:{crs}", "transform": [10.0, 0, x - 1000, 0, -10.0, y + 1000]})
    table = pd.DataFrame(rows).assign(box=[[0, 0, 200, 200]] * 4)
    assert leakage.same_place(table.iloc[[0]], table.iloc[[1]]) == [(0, 1)]
    assert leakage.same_place(table.iloc[[1]], table.iloc[[0]]) == [(1, 0)]
    assert leakage.same_place(table.iloc[[0]], table.iloc[[2]]) == []
    assert leakage.same_place(table.iloc[[0]], table.iloc[[3]]) == [(0, 3)]
    assert leakage.same_place(table.iloc[[3]], table.iloc[[0]]) == [(3, 0)]


def test_padding_beyond_the_edge_is_no_ground(tmp_path: Path) -> None:
    """The scene ends 20 px into its last column of tiles; a neighbour begins there."""
    first, second = tmp_path / "a", tmp_path / "b"
    left, right = shifted(first, by_m=0), shifted(second, by_m=960)
    trained = left.index["valid_fraction"].to_numpy() <= 1
    assert not find_leak(ground_of(left, every(left)[trained], "train"), right, every(right)).tiles.any()
    row = int(np.flatnonzero(left.index["valid_fraction"] < 1)[0]) if (left.index["valid_fraction"] < 1).any() else 0
    label = np.zeros((1, 32, 32), np.uint8)
    label[0, :, 20:] = 255
    cut = dataclasses.replace(left, labels=np.repeat(label, len(left), axis=0))
    cut.index = left.index.assign(valid_fraction=20 / 32)
    assert ground_of(cut, np.array([row]), "train")["box"].tolist() == [[0, 0, 20, 32]]
    cut.labels = np.full_like(cut.labels, 255)
    assert len(ground_of(cut, np.array([row]), "train")) == 0


def noise(seed: int, px: int = 128) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((px, px), Image.Resampling.BICUBIC))


def ready(root: Path, pictures: list[np.ndarray], px: int, **settings: Any) -> TileStore:
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, 1):
        mask = np.zeros(picture.shape[:2], np.uint8)
        mask[10:-10, 10:-10] = 255
        Image.fromarray(picture).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "labels" / f"{number}.png")
    config = DatasetConfig(kind=DatasetKind.folder, root=str(root), split=SplitConfig(val=0, test=0), **settings)
    return prepare(config, px, root / "data", progress=False)


def test_ready_tiles_are_known_again_by_what_they_show(tmp_path: Path) -> None:
    trained = ready(tmp_path / "a", [noise(n) for n in range(8)], 128)
    ground = ground_of(trained, every(trained), "train")
    assert set(ground["world"]) == {""} and {len(squares) for squares in ground["squares"]} == {4}
    turned = np.ascontiguousarray(np.rot90(noise(3))[:, ::-1])
    brighter = np.clip(noise(4).astype(int) + 2, 0, 255).astype(np.uint8)
    asked = ready(tmp_path / "b", [noise(100), noise(2), turned, noise(101), brighter, noise(102)], 128)
    assert find_leak(ground, asked, every(asked)).tiles.tolist() == [False, True, True, False, True, False]
    smaller = ready(tmp_path / "c", [noise(100), noise(5)], 64)
    assert find_leak(ground, smaller, every(smaller)).tiles.tolist() == [False] * 4 + [True] * 4
    snow = [np.full((128, 128, 3), 250, np.uint8)] * 2
    white, other = ready(tmp_path / "d", snow[:1], 128), ready(tmp_path / "e", [*snow, noise(1)], 64)
    assert not find_leak(ground_of(white, every(white), "train"), other, every(other)).tiles.any()


def test_ready_tiles_with_a_table_of_origins_are_compared_in_their_scene(tmp_path: Path) -> None:
    def store(name: str, col: int, scene: str, px: int) -> TileStore:
        root = tmp_path / name
        root.mkdir()
        (root / "t.csv").write_text(f"tile,scene,sensor,region,gsd_m,row,col\n1,{scene},sentinel2,x,10,0,{col}\n")
        return ready(root, [noise(ord(name))], px, manifest=str(root / "t.csv"))

    trained = store("a", 0, "S2A_1", 128)
    ground = ground_of(trained, every(trained), "train")
    assert ground["world"].tolist() == ["scene/sentinel2/10m/S2A_1"]
    for name, col, scene, met in (
        ("b", 64, "S2A_1", [1, 0] * 2),
        ("c", 128, "S2A_1", [0] * 4),
        ("d", 0, "S2A_2", [0] * 4),
    ):
        asked = store(name, col, scene, 64)
        assert find_leak(ground, asked, every(asked)).tiles.tolist() == [bool(yes) for yes in met]


def test_a_generated_scene_is_the_seeds_and_not_the_places(tmp_path: Path) -> None:
    def store(px: int, **settings: Any) -> TileStore:
        made = {"sensors": ["landsat8"], "scenes_per_sensor": 3, "scene_px": 256, "regions": ["andes", "alaska"]}
        config = DatasetConfig(buffer_m=0, synthetic=SyntheticConfig(**(made | settings)), split=SplitConfig(val=0.3))
        return prepare(config, px, tmp_path, progress=False)

    trained = store(64)
    ground = other_split(ground_of(trained, every(trained), "train"))
    again, other = store(128), store(64, seed=1)
    assert find_leak(ground, again, every(again)).tiles.all()
    assert not find_leak(ground, other, every(other)).tiles.any()
    # the scenes of Alaska moved to another place on the map; those of the Himalaya lie where the Andes' did not
    mixed = store(64, regions=["himalaya", "alaska"])
    alaska = mixed.index["region"] == "alaska"
    assert alaska.any() and (find_leak(ground, mixed, every(mixed)).tiles == alaska.to_numpy()).all()


def test_the_table_comes_back_from_its_file_and_a_foreign_one_is_refused(store: TileStore) -> None:
    ground = ground_of(store, every(store), "train")
    back = from_bytes(to_bytes(ground), "g")
    assert back.drop(columns=["transform", "box", "squares"]).equals(
        ground.reset_index(drop=True).drop(columns=["transform", "box", "squares"]).astype(back.dtypes[["model"]])
    )
    assert [list(t) for t in back["transform"]] == ground["transform"].tolist()
    assert Affine(*back["transform"][0]).a == 10.0
    assert find_leak(other_split(back), store, every(store)).tiles.all()
    assert to_bytes(back) == to_bytes(ground)
    assert len(from_bytes(to_bytes(join([])), "g")) == 0
    with pytest.raises(DataError, match="g is not a table"):
        from_bytes(b"PAR1", "g")
    strange = to_bytes(ground)[:-8] + b"\0" * 8
    with pytest.raises(DataError, match="g is not a table"):
        from_bytes(strange, "g")


def test_a_leak_is_told_with_numbers_scenes_and_models(store: TileStore) -> None:
    rows = every(store)
    train, val = (other_split(ground_of(store, store.rows(side), side)) for side in ("train", "val"))
    leak = find_leak(join([train, val.assign(model=1)]), store, rows)
    counts = {side: len(store.rows(side)) for side in ("train", "val")}
    said = leak.sentence(["run a", "run b"])
    assert said.startswith(f"{sum(counts.values())} of {len(rows)} tiles to be scored lie on ground that was met")
    assert f"({counts['train']} trained on, {counts['val']} used as val; scenes " in said and said.endswith(
        "by run a, run b)"
    )
    assert not find_leak(join([]), store, rows).tiles.any()


def test_tiles_of_one_value_are_no_ground_that_was_met(tmp_path: Path) -> None:
    """Two white tiles are equal to the byte, wherever they lie; two equal tiles with anything on them are copies."""
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "store", tile_px=64, bands=["red", "green", "blue"]) as sink:
        for side in ("train", "test"):
            for name, image in (
                ("white", np.full((64, 64, 3), 255, np.uint8)),
                ("speck", np.where(np.arange(64 * 64 * 3).reshape(64, 64, 3) == 99, 254, 255).astype(np.uint8)),
                ("noise", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)),
            ):
                row = {"tile": f"{side}/{name}", "scene": "unknown", "sensor": "unknown", "region": ""}
                row |= {"gsd_m": math.nan, "row": -1, "col": -1, "block": side, "split": side, "transform": None}
                sink.add(image, np.zeros((64, 64), np.uint8), row | {"crs": ""})
        about = {"recipe": {"kind": "folder"}, "recipe_id": "0", "split_hash": "a", "split_rule": {"by": "group"}}
        sink.close(about)
    tiles = TileStore.open(tmp_path / "store")
    sides = {side: tiles.rows(side) for side in ("train", "test")}
    pairs = same_pixels(*(ground_of(tiles, rows, side) for side, rows in sides.items()))
    names = tiles.index["tile"]
    assert [(names[sides["train"][a]], names[sides["test"][b]]) for a, b in pairs] == [("train/speck", "test/speck")]
