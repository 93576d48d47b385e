"""Light that falls on every band, and the ids of runs that know it."""

from dataclasses import replace
from pathlib import Path

import pytest
from runs import small_config, undrawn
from tiny_scenes import world, write_scene

from glidexp.config import AugmentationConfig, Config, DatasetConfig, DatasetKind
from glidexp.data.prepare import prepare
from glidexp.errors import DataError
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.check import Checked, keys
from glidexp.tracking.store import store_at
from glidexp.training.beginning.light import light_of
from glidexp.training.run import run

JITTER = AugmentationConfig(color_p=0.5, brightness=0.2)
FOUR = ["red", "green", "blue", "nir"]


def infrared(root: Path) -> DatasetConfig:
    """Scenes of four bands, and the settings that read them."""
    dataset = world(root)
    for i in range(4):
        write_scene(root / f"s{i}.tif", bands=4, descriptions=FOUR, west=478_000.0 + i * 20_000.0, seed=i)
    return replace(dataset, bands=FOUR)


@pytest.mark.parametrize(
    ("bands", "augmentation", "told"),
    [
        (FOUR, JITTER, True),
        (FOUR, AugmentationConfig(color_p=0.5, contrast=0.2), True),
        (FOUR[:3], JITTER, False),
        ([*FOUR[:3], "slope"], JITTER, False),
        (FOUR, AugmentationConfig(color_p=0.5, hue=0.02), False),
        (FOUR, AugmentationConfig(gain_p=1.0, gain=0.2), False),
    ],
)
def test_ids_of_runs_that_changed_and_of_no_others(
    bands: list[str], augmentation: AugmentationConfig, told: bool
) -> None:
    """Those whose fourth band was left in the dark; a DEM's bands still are."""
    dem = "dem.tif" if "slope" in bands else None
    config = Config(
        dataset=DatasetConfig(kind=DatasetKind.scenes, root="s", lakes="l", glaciers="g", bands=bands, dem=dem),
        augmentation=augmentation,
    )
    assert bool(light_of(config)) == told


def test_a_store_says_itself_what_bands_it_has(tmp_path: Path) -> None:
    store = prepare(infrared(tmp_path), 32, tmp_path / "data", progress=False)
    config = Config(dataset=DatasetConfig(kind=DatasetKind.store, root=str(store.path)), augmentation=JITTER)
    assert store.channels == 4 and light_of(config)
    with pytest.raises(DataError, match=r"dataset\.root=.* is no tile store"):
        light_of(replace(config, dataset=replace(config.dataset, root=str(tmp_path))))


def test_a_run_of_four_bands_is_the_one_that_a_study_asks_for(tmp_path: Path) -> None:
    """The plan finds it by its id, as bands of a store and as bands of scenes."""
    dataset = infrared(tmp_path / "own")
    base = small_config(tmp_path / "data", tmp_path / "mlruns", "train.epochs=1", "tile_size.px=32")
    config = replace(base, dataset=dataset, augmentation=JITTER, tile_size=replace(base.tile_size, px=32))
    with undrawn():
        outcome = run(config, choices={})
    tags = store_at(tmp_path / "mlruns", None).client.get_run(outcome.run_id).data.tags
    (asked,) = keys(Checked(Arm("a", ()), (), config), [config.seed])
    assert tags["glidexp.config_id"] == asked
