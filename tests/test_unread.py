"""Settings that would change nothing: of a data set they are refused, of the training they are told."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console
from runs import small_config

from glidexp import cli, door
from glidexp.config import Config
from glidexp.config.study import Design, StudyConfig
from glidexp.config.unread import READ_BY, idle, refuse_unread
from glidexp.door import options
from glidexp.errors import ConfigError
from glidexp.study.plan.check import told_idle
from glidexp.study.plan.making import outline
from glidexp.study.plan.show import show_outline
from glidexp.study.plan.words import Words
from glidexp.training.run import run


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


def test_a_run_tells_what_changes_nothing(
    small_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, plain_figures: None
) -> None:
    words = ["train.epochs=1", "loss.tversky_alpha=0.5", "tracking.log_model=false", "tracking.log_masks=false"]
    run(small_config(small_data, tmp_path / "mlruns", *words), choices={})
    assert [line for line in caplog.messages if "changes nothing" in line] == [
        "loss.tversky_alpha=0.5 changes nothing, as loss.tversky and loss.focal_tversky are 0."
    ]


def test_a_plan_names_the_arms_in_which_a_setting_changes_nothing(tmp_path: Path) -> None:
    arms = {"none": ["loss=bce"], "one": ["loss.tversky_alpha=0.5"], "used": ["loss=tversky", "loss.tversky_alpha=0.5"]}
    study = StudyConfig(name="s", question="?", design=Design.list, arms=arms, seeds=[0])
    found = outline(study, Words((), (f"paths.data={tmp_path}",)), door.compose)
    (said,) = told_idle(found.arms)
    assert said.startswith("Warning: loss.tversky_alpha=0.5 changes nothing, as ") and said.endswith(" Arms: one.")
    console = Console(width=300, record=True, file=io.StringIO())
    show_outline(found, console)
    assert said in console.export_text()


def test_every_verb_that_makes_or_scores_tiles_refuses_what_they_are_not_made_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("images", "labels"):
        (tmp_path / "tiles" / part).mkdir(parents=True)
        Image.new("RGB" if part == "images" else "L", (64, 64)).save(tmp_path / "tiles" / part / "1.png")
    for words in (
        ["data", "build", "dataset=synthetic", "dataset.lakes=lakes.gpkg"],
        ["data", "import", "tiles", "dataset.buffer_m=5000"],
        ["evaluate", "0123abcd", "dataset=smoke", "dataset.lakes=lakes.gpkg"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and f"{words[-1]} would not be used with dataset.kind=" in said, said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("group", ["augmentation", "loss", "optimizer", "init"])
def test_no_ready_made_option_is_idle(group: str) -> None:
    needed = {"checkpoint": ["init.checkpoint=a"], "external": ["init.checkpoint=a"], "run": ["init.run=a"]}
    for name in options(group):
        words = needed.get(name, []) if group == "init" else []
        assert idle(config_of(f"{group}={name}", *words)) == [], name
