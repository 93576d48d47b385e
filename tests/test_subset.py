"""Parts of the training tiles: nested, drawn by seed, counted in scenes and lakes, and nothing else is remembered."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import small_config

from glidexp.config import Config, SensorMixConfig, SubsetConfig, TrainConfig, ValFrom, flat
from glidexp.data.prepare import prepare
from glidexp.data.sensor_mix import judging_rows, training_rows
from glidexp.data.store import TileStore
from glidexp.data.subset import part_of
from glidexp.errors import ConfigError, GlidexpError
from glidexp.identity import config_id
from glidexp.training.check import check, check_judging

REGIONS = ("andes", "himalaya")


class Store:
    """24 scenes of 10 tiles, two regions, two sensors; the last 8 scenes are val. Every fifth tile has no lake."""

    def __init__(self, inventory: pd.DataFrame | None = None) -> None:
        scene = np.repeat(np.arange(24), 10)
        tile = np.arange(240)
        self.index = pd.DataFrame(
            {
                "tile": [f"t{i:03}" for i in tile],
                "scene": [f"s{i:02}" for i in scene],
                "region": [REGIONS[i % 2] for i in scene],
                "sensor": [("landsat8", "sentinel2")[i // 2 % 2] for i in scene],
                "lake_fraction": np.where(tile % 5 == 0, 0.0, 0.1),
                "split": np.where(scene < 16, "train", "val"),
            }
        )
        self.inventory = inventory

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero(self.index["split"] == split)


def inventory(shown: dict[str, list[str]]) -> pd.DataFrame:
    """A row a lake and tile, from the lakes of each tile."""
    rows = [{"tile": t, "lake": lake, "px": 9, "fate": "labelled"} for t, lakes in shown.items() for lake in lakes]
    gone = [{"tile": "", "lake": "gone", "px": 0, "fate": "too_small"}]
    return pd.DataFrame([*rows, *gone])


def drawn(subset: SubsetConfig, store: Store | None = None, seed: int = 0) -> list[int]:
    store = store or Store()
    return part_of(store, store.rows("train"), subset, seed).tolist()


def test_the_whole_is_the_default_and_changes_no_id() -> None:
    assert drawn(SubsetConfig()) == list(range(160))
    keys = [key for key in flat(Config()) if key.startswith("subset.")]
    assert len(keys) == 7
    other = Config(subset=SubsetConfig(fraction=0.5))
    assert config_id(other, recipe="r") != config_id(Config(), recipe="r")


@pytest.mark.parametrize("key", ["fraction", "lakes", "scenes"])
def test_a_smaller_part_lies_in_a_larger_one(key: str) -> None:
    sizes = [1, 2, 5, 10, 16] if key == "scenes" else [0.01, 0.05, 0.1, 0.25, 0.6, 1.0]
    for seed in (0, 1):
        parts = [set(drawn(SubsetConfig(**{key: size}), seed=seed)) for size in sizes]
        assert all(small < large for small, large in pairwise(parts))
        assert len(parts[-1]) == 160 and parts[0]
    assert drawn(SubsetConfig(**{key: sizes[1]})) != drawn(SubsetConfig(**{key: sizes[1]}), seed=1)
    fixed = SubsetConfig(**{key: sizes[1]}, seed=7)
    assert drawn(fixed) == drawn(fixed, seed=1)


def test_the_order_of_the_store_does_not_matter() -> None:
    """The same tiles under other row numbers: the same tiles are drawn."""
    store, turned = Store(), Store()
    turned.index = turned.index.iloc[::-1].reset_index(drop=True)
    for subset in (SubsetConfig(scenes=3), SubsetConfig(lakes=0.2), SubsetConfig(fraction=0.2)):
        one, other = (set(s.index["tile"].iloc[drawn(subset, s)]) for s in (store, turned))
        assert one == other


def test_regions_and_scenes() -> None:
    store = Store()
    rows = drawn(SubsetConfig(regions=["andes"], scenes=3))
    assert set(store.index["region"].iloc[rows]) == {"andes"}
    assert len(set(store.index["scene"].iloc[rows])) == 3 and len(rows) == 30
    with pytest.raises(ConfigError, match=r"subset\.scenes=9 is more than the 8 training scenes"):
        drawn(SubsetConfig(regions=["andes"], scenes=9))
    with pytest.raises(ConfigError, match="Did you mean 'andes'"):
        drawn(SubsetConfig(regions=["ande"]))


def test_scenes_without_lake_come_last() -> None:
    store = Store()
    bare = store.index["scene"].isin([f"s{i:02}" for i in range(15)])
    store.index.loc[bare, "lake_fraction"] = 0.0
    assert set(store.index["scene"].iloc[drawn(SubsetConfig(scenes=1), store)]) == {"s15"}


def test_a_share_of_the_lakes_counts_every_lake_that_is_seen() -> None:
    """Lake a lies in all tiles of the first scene, beside another lake in each: to draw it is to have labelled nine."""
    store = Store()
    full = [f"t{i:03}" for i in range(160) if i % 5]
    shown = {t: ["a", f"l{t}"] if t < "t010" else [f"l{t}"] for t in full}
    store.inventory = inventory(shown)
    for seed in range(5):
        rows = drawn(SubsetConfig(lakes=0.1), store, seed)
        tiles = set(store.index["tile"].iloc[rows])
        lakes = {lake for t in tiles & set(full) for lake in shown[t]}
        wanted = int(np.ceil(0.1 * 129))
        assert wanted <= len(lakes) <= wanted + 8
        assert len(tiles - set(full)) == 4  # a tenth of the 32 tiles without lake, rounded up
    first = {t for t in full if t < "t010"}
    one = [
        set(store.index["tile"].iloc[part_of(store, np.arange(30), SubsetConfig(lakes=0.001), s)]) for s in range(60)
    ]
    drawn_full = [tiles & set(full) for tiles in one]
    assert first in drawn_full and all(len(tiles) == 1 or tiles == first for tiles in drawn_full)


def test_without_inventory_a_tile_is_a_lake() -> None:
    rows = drawn(SubsetConfig(lakes=0.25))
    fractions = Store().index["lake_fraction"].iloc[rows]
    assert (fractions > 0).sum() == 32 and (fractions == 0).sum() == 8


def test_the_mix_goes_first_and_weights_are_those_of_the_part() -> None:
    store = Store()
    mix = SensorMixConfig(sensors=["landsat8"])
    rows, weights = training_rows(store, mix, SubsetConfig(scenes=2), 0)
    assert set(store.index["sensor"].iloc[rows]) == {"landsat8"} and len(rows) == 20 and weights is None
    store.index.loc[store.index["sensor"] == "landsat8", "region"] = "alps"
    with pytest.raises(ConfigError, match="no train tile of landsat8 there"):
        training_rows(store, mix, SubsetConfig(regions=["andes"]), 0)


def test_val_scenes_are_drawn_by_the_seed_of_the_part_and_not_of_the_run() -> None:
    store, mix = Store(), SensorMixConfig()

    def scenes(run: int, **settings: int) -> set[str]:
        rows = judging_rows(store, mix, SubsetConfig(val_scenes=2, **settings), run)
        return set(store.index["scene"].iloc[rows])

    fixed = [scenes(run, seed=5) for run in range(6)]
    assert all(one == fixed[0] for one in fixed), "runs of several seeds are judged on the same scenes"
    assert len({frozenset(scenes(run)) for run in range(6)}) > 1, "without one the run's own seed draws"
    assert scenes(1, seed=5) == scenes(5)


def test_val_is_of_what_is_trained_on() -> None:
    store, index = Store(), Store().index
    mix, andes = SensorMixConfig(sensors=["sentinel2"]), ["andes"]

    def val(**settings: object) -> pd.DataFrame:
        return index.iloc[judging_rows(store, mix, SubsetConfig(**settings), 0)]

    assert len(val()) == 80
    assert set(val(regions=andes)["region"]) == {"andes"} and set(val(regions=andes)["sensor"]) != {"sentinel2"}
    assert len(val(regions=andes, val_from=ValFrom.all)) == 80
    source = val(regions=andes, val_from=ValFrom.source)
    assert set(source["sensor"]) == {"sentinel2"} and set(source["region"]) == {"andes"}
    assert val(val_scenes=1)["scene"].nunique() == 1
    with pytest.raises(ConfigError, match=r"subset\.val_scenes=9 is more than the 8 val"):
        val(val_scenes=9)
    store.index.loc[store.rows("val"), "region"] = "himalaya"
    with pytest.raises(ConfigError, match="no val tile of what is trained on"):
        judging_rows(store, mix, SubsetConfig(regions=andes), 0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"fraction": 0.0}, "above 0 and at most 1"),
        ({"lakes": 1.5}, "above 0 and at most 1"),
        ({"scenes": 0}, r"subset\.scenes=0"),
        ({"regions": []}, "at least one"),
        ({"regions": ["a", "a"]}, "none twice"),
        ({"seed": -1}, r"subset\.seed=-1"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SubsetConfig(**values)


def test_a_region_that_is_not_there_is_told_before_data_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"subset\.regions='alps'"):
        check(small_config(tmp_path, tmp_path, "subset.regions=[alps]"))


def test_on_a_real_store(small_data: Path) -> None:
    """Lakes of the built inventory are the ones of the tiles: half of them is less than all, and every tile has one."""
    config = small_config(small_data, small_data / "unused")
    store: TileStore = prepare(config.dataset, config.tile_size.px, small_data, progress=False)
    rows = store.rows("train")
    half = part_of(store, rows, SubsetConfig(lakes=0.5), 0)
    assert 0 < len(half) < len(rows)
    assert store.inventory is not None
    known = store.inventory[
        (store.inventory["tile"].isin(store.index["tile"].iloc[rows])) & (store.inventory["px"] > 0)
    ]
    of_half = known[known["tile"].isin(store.index["tile"].iloc[half])]["lake"].nunique()
    assert of_half >= known["lake"].nunique() / 2


def test_val_tiles_that_cannot_tell_epochs_apart_are_refused() -> None:
    """Their score would have no value after any epoch, and the first one would be kept."""
    config, store = Config(), Store()
    store.classes = ()
    assert check_judging(config, store) == 80
    by_scene = replace(config, train=TrainConfig(select="val/f1_per_scene"))
    assert check_judging(by_scene, store) == 80
    for unknown in ("", "unknown", None):
        store.index["scene"] = unknown
        assert check_judging(config, store) == 80
        with pytest.raises(GlidexpError, match=r"val/f1_per_scene .* no val tile says .* give val/f1_pooled"):
            check_judging(by_scene, store)
    store.index["lake_fraction"] = 0.0
    with pytest.raises(GlidexpError, match=r"none of the 80 val tiles .* has a lake, so val/lake_iou_pooled cannot"):
        check_judging(config, store)
