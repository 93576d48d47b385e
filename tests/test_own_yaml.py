"""YAML of the user's own: what is wrong in it is one line with file and setting, and none is passed over."""

from pathlib import Path

import pytest

from glidexp import door
from glidexp.config.study import SweepConfig
from glidexp.errors import ConfigError
from glidexp.own_yaml import own_folders
from glidexp.study.plan.making import all_checked
from glidexp.study.plan.words import split
from glidexp.training.multirun import check_combinations

LOSS = "axes:\n  loss:\n    values: [bce_dice, dice]\n"
GLOBAL = "# @package _global_\n"

STUDIES = {
    "": "sets nothing",
    "# a note\n": "sets nothing",
    "- a\n": "holds no settings by name",
    "name: x\naxes:\n\tloss: 1\n": r"line 3, column 1 is no YAML: found character '\\t'.*indent with spaces",
    "name: [x\n": r"line 2, column 1 is no YAML: expected ',' or '\]'.*correct it there",
    f"{LOSS}{LOSS}": "line 4, column 1 is no YAML: found duplicate key axes",
    "name: a\n---\nname: b\n": "line 2, column 1 is no YAML: but found another document",
    "axes: &a\n  loss: *a\n": r"line 1: a part holds itself \(&NAME and \*NAME\)",
    "axes: !!python/object/apply:os.getcwd []\n": "could not determine a constructor",
    "seeds: [0, 010]\n": "line 1: YAML reads 010 as the number 8: write that, or '010'",
    "question: 12:30\n": "line 1: YAML reads 12:30 as the number 750",
    "questoin: x\n": r"no setting 'study.questoin'\. Did you mean 'study.question'\? Allowed below study: study.name",
    "axes: [loss]\n": r'study.axes=\["loss"\] is not possible: it holds values by name',
    "axes:\n  loss: [dice]\n": r"study.axes.loss=.* is not possible: it holds values by name",
    "axes:\n  loss:\n    values: dice\n": "study.axes.loss.values=dice is not possible: it is a list",
    "axes:\n  loss:\n    values: {a: dice}\n": 'study.axes.loss.values={"a": "dice"} is not possible: it is a list',
    "axes:\n  loss:\n    value: [dice]\n": "no setting 'study.axes.loss.value'. Did you mean 'study.axes.loss.values'?",
    "axes:\n  yes: {values: [1]}\n": "study.axes: the name True is no text: write it in quotes",
    "axes:\n": "study.axes=null is not possible: it needs a value",
    "arms:\n  a: loss=dice\n": "study.arms.a=loss=dice is not possible: it is a list",
    "arms:\n  a: [{loss: dice}]\n": "study.arms.a=.* is not possible: give a text",
    "seeds: zero\n": r"study.seeds=zero is not possible: it is a list",
    "alpha: five\n": "study.alpha=five is not possible: give a number",
    "design: factorial\n": "study.design=factorial is not possible. Allowed: ofat, full",
    "study:\n  name: x\n": "is of the group study already: write what stands below study: without it",
    "defaults: backbones\n": "defaults=backbones is not possible: it is a list",
    "defaults:\n  - nothing\n": "defaults: study='nothing' is not known",
    "defaults:\n  - other\n": r"other.yaml: study.power=x is not possible: give a number",
}


@pytest.mark.parametrize("text", STUDIES)
def test_a_study_of_ones_own_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "other.yaml").write_text("power: x\n")
    file = tmp_path / "study" / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=STUDIES[text].replace("{", r"\{")) as told:
        composed(tmp_path, "study=mine")
    assert str(tmp_path) in str(told.value) and "\n" not in str(told.value)


def composed(folder: Path, *words: str) -> SweepConfig:
    return door.compose_sweep([*words, door.search_word(folder)])


def test_a_study_of_ones_own_in_any_script_and_with_any_line_ends(tmp_path: Path) -> None:
    folder = tmp_path / "mine, [yours] and 'theirs'"
    (folder / "study").mkdir(parents=True)
    text = (
        f"name: Größe 大\n{LOSS.replace('loss:', 'loss: &a')}  other: {{<<: *a, key: decoder, values: [unet, fcn]}}\n"
    )
    for name, written in (("lines", text.replace("\n", "\r\n")), ("mark", f"\ufeff{text}")):
        (folder / "study" / f"{name}.yaml").write_bytes(written.encode())
        found = composed(folder, f"study={name}").study
        assert found.name == "Größe 大"
        assert {axis: one.values for axis, one in found.axes.items()} == {
            "loss": ["bce_dice", "dice"],
            "other": ["unet", "fcn"],
        }
    (folder / "study" / "latin.yaml").write_bytes(text[:10].encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml is no text in UTF-8 \(at byte 8\): save it in that encoding"):
        composed(folder, "study=latin")


EXPERIMENTS = {
    "seed: 3\n": f"must begin with the line {GLOBAL.strip()}",
    f"{GLOBAL}sed: 3\n": "no setting 'sed'. Did you mean 'seed'",
    f"{GLOBAL}train:\n  epoch: 3\n": "no setting 'train.epoch'. Did you mean 'train.epochs'",
    f"{GLOBAL}train:\n  epochs: three\n": "train.epochs=three is not possible: give a whole number",
    f"{GLOBAL}loss: dice\n": "loss=dice is not possible: it holds values by name",
    f"{GLOBAL}defaults:\n  - /loss: dice\n": "defaults: /loss: dice chooses a second one: write override /loss",
    f"{GLOBAL}defaults:\n  - override /los: dice\n": "defaults='los' is not known. Did you mean 'loss'",
    f"{GLOBAL}defaults:\n  - override /loss: dise\n": "defaults: loss='dise' is not known. Did you mean 'dice'",
}


@pytest.mark.parametrize("text", EXPERIMENTS)
def test_an_experiment_of_ones_own_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=EXPERIMENTS[text]) as told:
        door.compose(["experiment=mine", door.search_word(tmp_path), "train.epochs=1"])
    assert str(told.value).startswith(str(file))


def test_a_folder_of_ones_own_is_never_passed_over(tmp_path: Path) -> None:
    words = ["seed=1", "--config-dir", str(tmp_path)]
    with pytest.raises(ConfigError, match=r"has no folder of a group, such as experiment/ or study/"):
        door.run_hydra(lambda _: None, words)
    for missing, told in ((tmp_path / "none", "does not exist"), (Path(__file__), "is no folder")):
        with pytest.raises(ConfigError, match=f"^--config-dir {missing} {told}"):
            door.compose([door.search_word(missing)])
        with pytest.raises(ConfigError, match=f"^--config-dir {missing} {told}"):
            door.run_hydra(lambda _: None, [f"--config-dir={missing}", "seed=1"])
    with pytest.raises(ConfigError, match=r"^--config-dir needs a folder"):
        door.config_dir(["seed=1", "--config-dir="])
    assert own_folders([*words, "hydra.searchpath=[file:///a,'file:///b, c']"]) == [
        tmp_path,
        Path("/a"),
        Path("/b, c"),
    ]


def test_an_option_named_as_one_of_ours_would_be_passed_over(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    file = tmp_path / "dataset" / "smoke.yaml"
    file.write_bytes((door.conf_dir() / "dataset" / "smoke.yaml").read_bytes())
    assert door.compose(["dataset=smoke", door.search_word(tmp_path)]).dataset.name == "smoke"
    other = tmp_path / "other"
    (other / "dataset").mkdir(parents=True)
    (other / "dataset" / "smoke.yaml").write_text("kind: scenes\n")
    (other / "dataset" / "mine.yml").write_text("kind: scenes\n")
    with pytest.raises(ConfigError, match=r"smoke.yaml has the name of a file of conf/, .* in its place: rename it"):
        door.compose(["dataset=smoke", door.search_word(other)])
    (other / "dataset" / "smoke.yaml").rename(other / "dataset" / "empty.yaml").write_text("")
    renamed = tmp_path / "renamed"
    other.rename(renamed)
    with pytest.raises(ConfigError, match=r"mine.yml is not read: rename it to mine.yaml"):
        door.compose(["dataset=mine", door.search_word(renamed)])
    with pytest.raises(ConfigError, match=r"empty.yaml sets nothing"):  # generated scenes would be taken for mine
        door.compose(["dataset=empty", door.search_word(renamed)])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study.axes={seed:{values:[0,1]}}"], r"seed=0 cannot be of one arm.* give study.seeds=\[0,1\]"),
        (["tracking.experiment=a,b"], "tracking.experiment=a cannot be of one arm"),
        (["study.axes={a:{key:loss,values:[dice,bce]},b:{key:loss,values:[bce,dice]}}"], "both vary loss"),
        (["study.base=[seed=5]", "loss=dice,bce"], r"^study.base: seed=5 would not be used: give study.seeds"),
        (["study.axes={loss:{key:loss}}"], r"^study.axes.loss has values \[\] and levels \[\]: give one of the two"),
        (["study.name='a\nb'"], r"^study.name='a\\nb' is not possible"),
    ],
)
def test_arms_that_no_study_can_compare(words: list[str], told: str) -> None:
    typed = split(words)
    own = [f"+{word}" if word.startswith("study.axes") else word for word in typed.own]
    with pytest.raises(ConfigError, match=told):
        all_checked(door.compose_sweep(own).study, typed, door.compose, 0)


def test_several_values_where_one_belongs() -> None:
    with pytest.raises(ConfigError, match=r"^loss=dice,bce is not possible: one value is expected here\. A list is"):
        door.compose(["loss=dice,bce"])
    with pytest.raises(ConfigError, match=r"^loss=glob\(z\*\): no such option\. Allowed: bce, "):
        check_combinations(["loss=glob(z*)"])
    check_combinations(["loss=glob(dice*)", "seed=0,1"])
