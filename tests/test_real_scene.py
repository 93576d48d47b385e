"""A real scene from pixels to scores: Landsat-7 over Everest with RGI 6.0 glaciers. No score on it is a GLID score."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from glidexp import door
from glidexp.composing import register
from glidexp.config import load
from glidexp.data.prepare import prepare
from glidexp.training.check import check
from glidexp.training.run import run


@pytest.mark.slow
def test_tiles_are_built_and_trained_on(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "everest_landsat7"
    scene = tmp_path / "scenes"
    scene.mkdir()
    (scene / "everest.tif").symlink_to(folder / "LE71400412000304SGS00_RGB.tif")
    overrides = [
        "dataset=scenes",
        f"dataset.root={scene}",
        f"dataset.lakes={folder / 'lakes_derived_2000.gpkg'}",
        f"dataset.glaciers={folder / '15_rgi60_glacier_outlines.gpkg'}",
        "dataset.sensor=landsat7",
        "dataset.empty_share=2",
        "dataset.split.by=block",
        "dataset.split.block_m=7680",
        "dataset.split.val=0.25",
        "dataset.split.test=0.25",
        "dataset.split.seed=1",
        "tile_size=128",
        "train.epochs=2",
        "train.batch_size=2",
        "train.precision=fp32",
        "train.threads=1",
        "tracking=light",
        f"paths.data={tmp_path / 'data'}",
        f"paths.mlruns={tmp_path / 'mlruns'}",
    ]
    register()
    with initialize_config_dir(str(door.conf_dir()), version_base="1.3"):
        config = load(compose("train", overrides=door.quoted(overrides)))
    check(config)
    tiles = prepare(config.dataset, config.tile_size.px, tmp_path / "data", progress=False)
    assert set(tiles.index["sensor"]) == {"landsat7"}
    assert set(tiles.index["gsd_m"]) == {30.0}
    assert all(len(tiles.rows(split)) for split in ("train", "val", "test"))
    metrics = run(config, choices={}).metrics
    assert metrics["test/tiles"] == len(tiles.rows("test"))
    assert 0 <= metrics["test/lake_iou_pooled"] <= 1
    assert metrics["test/sensor/landsat7/lake_iou_pooled"] == metrics["test/lake_iou_pooled"]
    assert "test/naive/index_threshold/lake_iou_pooled" in metrics
