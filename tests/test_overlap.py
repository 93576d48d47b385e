"""Overlapping tiles: for training alone, so that no pixel is scored twice."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_scenes import lake, world, write_polygons, write_scene

from glidexp.config import DatasetConfig, SplitBy, SplitConfig
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.store import TileStore
from glidexp.data.workers import Crew
from glidexp.errors import ConfigError


def times_seen(store: TileStore, side: str, height: int, width: int) -> dict[str, np.ndarray]:
    """How often each pixel of each scene is in a tile of a side, padding left out."""
    seen: dict[str, np.ndarray] = {}
    rows = store.index[store.index["split"] == side]
    for i, scene, row, col in zip(rows.index, rows["scene"], rows["row"], rows["col"], strict=True):
        full = seen.setdefault(scene, np.zeros((height + 64, width + 64), int))
        full[row : row + store.tile_px, col : col + store.tile_px] += np.asarray(store.labels[i]) != 255
    return {scene: full[:height, :width] for scene, full in seen.items()}


@pytest.mark.parametrize("overlap", [8, 16, 5])
def test_training_ground_overlaps_and_no_other_does(tmp_path: Path, overlap: int) -> None:
    dataset = world(tmp_path)
    dataset.empty_share = 99.0
    plain = prepare(dataset, 32, tmp_path / "data", progress=False)
    dataset.overlap_px = overlap
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert store.path != plain.path and store.split_hash == plain.split_hash
    stride = 32 - overlap
    for side in ("val", "test"):
        kept, before = (s.index[s.index["split"] == side]["xxh3"].tolist() for s in (store, plain))
        assert kept == before
        assert all((seen == 1).all() for seen in times_seen(store, side, 64, 96).values())
    train = store.index[store.index["split"] == "train"]
    assert (train["row"] % stride == 0).all() and (train["col"] % stride == 0).all()
    for seen in times_seen(store, "train", 64, 96).values():
        assert seen.min() == 1 and seen.max() >= 4
    # each tile shows what a tile of that place shows: against the tiles without overlap, put together
    whole: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for i, scene, row, col in plain.index[["scene", "row", "col"]].itertuples():
        image, label = whole.setdefault(scene, (np.zeros((160, 160, 3), np.uint8), np.full((160, 160), 255, np.uint8)))
        image[row : row + 32, col : col + 32], label[row : row + 32, col : col + 32] = plain.images[i], plain.labels[i]
    for i, scene, row, col in store.index[["scene", "row", "col"]].itertuples():
        image, label = whole[scene]
        assert np.array_equal(store.images[i], image[row : row + 32, col : col + 32])
        assert np.array_equal(store.labels[i], label[row : row + 32, col : col + 32])
        assert store.index["valid_fraction"][i] == (np.asarray(store.labels[i]) != 255).mean()
    assert store.index["tile"].is_unique
    known = store.inventory
    assert known is not None
    shown = known[known["tile"] != ""].merge(store.index[["tile", "row", "col"]], on="tile", suffixes=("", "_tile"))
    centres = np.array([(15, 15), (42, 33), (80, 50)])[(shown["lake"].astype(int).to_numpy() - 1) % 3]
    corner = shown[["col_tile", "row_tile"]].to_numpy()
    whole_lake = (centres - 6 >= corner) & (centres + 6 <= np.minimum(corner + 32, [96, 64]))
    assert shown["cut"].tolist() == (~whole_lake.all(axis=1)).tolist()
    assert shown.groupby("lake")["cut"].nunique().max() == 2  # whole in one tile, cut in another
    many = prepare(dataset, 32, tmp_path / "b", progress=False, crew=Crew(workers=2))
    assert many.data_hash == store.data_hash


def test_by_block_no_training_tile_reaches_ground_of_another_side(tmp_path: Path) -> None:
    write_scene(tmp_path / "wide.tif", width=320, height=320)
    lakes = [lake(x, y, 60) for x in range(100, 3200, 200) for y in range(100, 3200, 200)]
    dataset = DatasetConfig(
        kind="scenes",  # type: ignore[arg-type]
        root=str(tmp_path / "wide.tif"),
        lakes=str(write_polygons(tmp_path / "lakes.gpkg", lakes)),
        sensor="sentinel2",
        buffer_m=0.0,
        split=SplitConfig(by=SplitBy.block, block_m=800.0, val=0.2, test=0.2),
        overlap_px=16,
    )
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    seen = {side: times_seen(store, side, 320, 320)["wide"] for side in ("train", "val", "test")}
    assert seen["train"].max() == 4 and seen["val"].max() == seen["test"].max() == 1
    assert not ((seen["train"] > 0) & ((seen["val"] > 0) | (seen["test"] > 0))).any()
    assert Counter(store.index["split"])["train"] > 100


def test_overlap_that_cannot_be(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    assert recipe_id(dataset, 32) != recipe_id(DatasetConfig(**(vars_of(dataset) | {"overlap_px": 4})), 32)
    dataset.overlap_px = 17
    with pytest.raises(ConfigError, match=r"dataset\.overlap_px=17 must be from 0 to half of tile_size\.px=32"):
        recipe_id(dataset, 32)
    dataset.overlap_px, dataset.split = 8, SplitConfig(by=SplitBy.random)
    with pytest.raises(ConfigError, match=r"dataset\.overlap_px=8 does not go with dataset\.split\.by=random"):
        recipe_id(dataset, 32)


def vars_of(dataset: DatasetConfig) -> dict[str, object]:
    return {name: getattr(dataset, name) for name in DatasetConfig.__dataclass_fields__}
