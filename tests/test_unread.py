"""Settings that would change nothing: of a data set they are refused, of the training they are told."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from glidexp import cli, door
from glidexp.config import Config
from glidexp.config.unread import READ_BY, idle, refuse_unread
from glidexp.door import options
from glidexp.errors import ConfigError


def config_of(*words: str) -> Config:
    return door.compose(list(words))


@pytest.mark.parametrize(
    ("words", "setting", "goes_with"),
    [
        (["dataset.root=SCENES"], "root=SCENES", "dataset=scenes|folder|glid|glid_transfer|store"),
        (["dataset.lakes=lakes.gpkg"], "lakes=lakes.gpkg", "dataset=scenes"),
        (["dataset=smoke", "dataset.sensor=sentinel2"], "sensor=sentinel2", "dataset=scenes|folder|glid|glid_transfer"),
        (["dataset=glid", "dataset.buffer_m=0"], "buffer_m=0", "dataset=scenes|synthetic"),
        (["dataset=folder", "dataset.stretch.method=minmax"], "stretch.method=minmax", "dataset=scenes|synthetic"),
        (["dataset=folder", "dataset.bands=[nir,red]"], "bands=[nir,red]", "dataset=scenes|synthetic"),
        (["dataset=scenes", "dataset.manifest=tiles.csv"], "manifest=tiles.csv", "dataset=folder|glid|glid_transfer"),
        (["dataset=store", "dataset.split.by=block"], "split.by=block", "dataset=scenes|synthetic|folder|glid|"),
        (["dataset=store", "dataset.all_touched=true"], "all_touched=true", "dataset=scenes|synthetic"),
    ],
)
def test_a_setting_of_another_data_set_is_refused(words: list[str], setting: str, goes_with: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_unread(config_of(*words).dataset)
    assert f"dataset.{setting} would not be used with dataset.kind=" in str(caught.value)
    assert f"it goes with {goes_with}" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "needs"),
    [
        (
            ["dataset.split.block_m=5000"],
            r"split\.block_m=5000 would not be used: it goes with dataset\.split\.by=block",
        ),
        (["dataset.split.fold=1"], r"split\.fold=1 would not be used: it goes with dataset\.split\.folds=N"),
    ],
)
def test_a_setting_of_another_split_is_refused(words: list[str], needs: str) -> None:
    with pytest.raises(ConfigError, match=needs):
        refuse_unread(config_of(*words).dataset)


def test_what_is_read_is_taken(tmp_path: Path) -> None:
    for name in options("dataset"):
        given = {"glid_transfer": ["dataset.layout=regions.yaml"], "land_cover": ["dataset.classes=classes.csv"]}
        refuse_unread(config_of(f"dataset={name}", *given.get(name, [])).dataset)
    refuse_unread(config_of("dataset=scenes", "dataset.root=a", "dataset.lakes=b", "dataset.part_km=9").dataset)
    refuse_unread(config_of("dataset.root=''", "dataset.split.by=block", "dataset.split.block_m=5000").dataset)


def test_every_setting_of_the_table_exists() -> None:
    assert {key for key in READ_BY if not hasattr(Config().dataset, key)} == set()


def test_the_door_tells_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "dataset.root=SCENES", "dataset.lakes=lakes.gpkg"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "dataset.root=SCENES would not be used with dataset.kind=synthetic" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        ([], []),
        (["loss.tversky_alpha=0.5"], ["loss.tversky_alpha=0.5 changes nothing, as loss.tversky and "]),
        (["loss=tversky", "loss.tversky_alpha=0.5"], []),
        (
            ["augmentation=none", "augmentation.hue=0.1"],
            ["augmentation.hue=0.1 changes nothing, as augmentation.color_p"],
        ),
        (["augmentation=standard", "augmentation.hue=0.1"], []),
        (["optimizer.momentum=0.5"], ["optimizer.momentum=0.5 changes nothing, as optimizer.name is adamw."]),
        (["init.scope=encoder"], ["init.scope=encoder changes nothing, as init.kind is scratch."]),
        (["subset.seed=3"], ["subset.seed=3 changes nothing, as no part of the data is drawn (subset)."]),
        (["subset.seed=3", "subset.fraction=0.5"], []),
        (["input.unknown=0.5"], ["input.unknown=0.5 changes nothing, as input.embed is none."]),
        (
            ["train.freeze_encoder_epochs=5", "train.unfreeze_every=1"],
            ["train.unfreeze_every=1 changes nothing, as the "],
        ),
    ],
)
def test_idle_settings_are_told(words: Sequence[str], sentences: Sequence[str]) -> None:
    found = idle(config_of(*words))
    assert len(found) == len(sentences)
    assert all(one.startswith(start) for one, start in zip(found, sentences, strict=True))


@pytest.mark.parametrize("group", ["augmentation", "loss", "optimizer", "init"])
def test_no_ready_made_option_is_idle(group: str) -> None:
    needed = {"checkpoint": ["init.checkpoint=a"], "external": ["init.checkpoint=a"], "run": ["init.run=a"]}
    for name in options(group):
        words = needed.get(name, []) if group == "init" else []
        assert idle(config_of(f"{group}={name}", *words)) == [], name
