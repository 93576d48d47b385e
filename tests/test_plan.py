"""The plan of a study: words, arms of each design, checks before the first run, the names of its runs."""

import io
from collections import Counter
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from glidexp import door
from glidexp.composing import by_hydra, composer
from glidexp.config import Config, load
from glidexp.config.study import AxisConfig, Design, StudyConfig
from glidexp.errors import ConfigError
from glidexp.study.execution.cells import Cell, told_equal
from glidexp.study.plan.arms import arms_of, balanced
from glidexp.study.plan.check import checked, pinned
from glidexp.study.plan.making import all_checked, outline
from glidexp.study.plan.show import show_outline
from glidexp.study.plan.words import Words, merged, split, written
from glidexp.training.beginning import start


def names(study: StudyConfig, *typed: str) -> list[str]:
    return [arm.name for arm in arms_of(study, split(typed))]


def axes(**values: list[object]) -> dict[str, AxisConfig]:
    return {name: AxisConfig(values=among) for name, among in values.items()}


def test_words_are_sorted_by_whose_they_are() -> None:
    found = split(["study=loss", "plan=true", "backbone=resnet18,mit_b0", "seed=range(2)", "train.epochs=3", "~x=1"])
    assert found.own == ("study=loss", "plan=true")
    assert found.base == ("train.epochs=3", "~x=1")
    assert found.swept == {"backbone": ("resnet18", "mit_b0"), "seed": ("0", "1")}
    assert split(["tile_size=256,512"]).swept == {"tile_size": ("256", "512")}
    assert split(["sensor_mix.sensors=[a,b]"]).base == ("sensor_mix.sensors=[a,b]",)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("backbone", "neither GROUP=OPTION"),
        ("optimizer.lr=interval(0.1,1)", "give those to try"),
        ("hydra/launcher=joblib", "train.py -m"),
        ("loss=[a", "cannot be read"),
        ("backbone=glob(*)", "name the values one by one, as in backbone=A,B"),
    ],
)
def test_words_that_no_study_takes(word: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        split([word])


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("[optimizer=sgd,optimizer.betas=[0.9,0.99]]", ["optimizer=sgd", "optimizer.betas=[0.9,0.99]"]),
        ("optimizer=sgd", ["optimizer=sgd"]),
        ("['a=it,b', \"c=[1,2]\"]", ["a=it,b", "c=[1,2]"]),
        ("[]", []),
    ],
)
def test_lists_of_words_need_no_quotes(typed: str, taken: list[str]) -> None:
    found = split([f"study.transfer.tune={typed}", "study=transfer_ladder"])
    assert door.compose_sweep(list(found.own)).study.transfer.tune == taken


def test_a_list_that_is_cut_off_is_told_in_a_line() -> None:
    with pytest.raises(
        ConfigError, match=r"^study\.transfer\.tune=\[a=1 cannot be read: brackets .* quotes of its own"
    ):
        door.compose_sweep(list(split(["study.transfer.tune=[a=1"]).own))


def test_later_words_replace_earlier_ones() -> None:
    found = merged(["tile_size.px=64", "loss=bce", "seed=1"], ["tile_size=512", "loss=dice"], ["loss.dice=2"])
    assert found == ("seed=1", "tile_size=512", "loss=dice", "loss.dice=2")
    assert merged(["loss=bce"], ["loss.bce=2"]) == ("loss=bce", "loss.bce=2")


def test_values_as_hydra_writes_them() -> None:
    assert [written(value) for value in (None, True, 0.5, ["a", 1], {"x": False})] == [
        "null", "true", "0.5", "[a,1]", "{x:false}",
    ]  # fmt: skip


def test_one_factor_at_a_time() -> None:
    study = StudyConfig(design=Design.ofat, axes=axes(backbone=["resnet18", "mit_b0"], loss=["bce", "dice", "focal"]))
    found = arms_of(study, Words((), ()))
    assert [arm.name for arm in found] == ["baseline", "backbone=mit_b0", "loss=dice", "loss=focal"]
    assert found[0].words == ("backbone=resnet18", "loss=bce")
    assert found[2].words == ("backbone=resnet18", "loss=dice")


def test_full_grid_has_every_combination_once() -> None:
    study = StudyConfig(axes=axes(backbone=["a", "b"], loss=["x", "y", "z"]))
    found = names(study)
    assert found[0] == "backbone=a loss=x"
    assert len(set(found)) == len(found) == 6


def test_what_is_typed_changes_an_axis() -> None:
    study = StudyConfig(axes=axes(backbone=["a", "b"]))
    assert names(study, "backbone=c,a") == ["backbone=c", "backbone=a"]
    assert names(study, "backbone=b") == ["backbone=b", "backbone=a"]  # another baseline
    assert names(study, "loss=x,y") == [
        "backbone=a loss=x",
        "backbone=a loss=y",
        "backbone=b loss=x",
        "backbone=b loss=y",
    ]
    assert names(StudyConfig(), "loss=x,y") == ["loss=x", "loss=y"]


def test_an_axis_with_a_condition_is_varied_where_it_holds() -> None:
    conditional = axes(backbone=["a", "vit"]) | {"decoder": AxisConfig(values=["dpt", "fpn"], when="backbone=vit")}
    assert names(StudyConfig(axes=conditional)) == [
        "backbone=a",
        "backbone=vit decoder=dpt",
        "backbone=vit decoder=fpn",
    ]
    found = arms_of(StudyConfig(axes=conditional, design=Design.ofat), Words((), ()))
    assert [arm.words for arm in found] == [
        ("backbone=a",), ("backbone=vit", "decoder=dpt"), ("backbone=vit", "decoder=fpn"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"when: backbone='vti' is not known\. Did you mean 'vit'"):
        names(StudyConfig(axes=axes(backbone=["a", "vit"]) | {"x": AxisConfig(values=[1, 2], when="backbone=vti")}))


def test_named_levels_and_exclusions() -> None:
    stretch = AxisConfig(levels={"usual": [], "wide": ["dataset.stretch.low=0", "dataset.stretch.high=100"]})
    study = StudyConfig(axes={"stretch": stretch} | axes(loss=["x", "y"]), exclude=["stretch=wide loss=y"])
    found = arms_of(study, Words((), ()))
    assert [arm.name for arm in found] == ["stretch=usual loss=x", "stretch=usual loss=y", "stretch=wide loss=x"]
    assert found[2].words == ("dataset.stretch.low=0", "dataset.stretch.high=100", "loss=x")
    with pytest.raises(ConfigError, match="baseline"):
        names(StudyConfig(axes=axes(loss=["x", "y"]), exclude=["loss=x"]))
    with pytest.raises(ConfigError, match=r"study\.exclude: loss='z'"):
        names(StudyConfig(axes=axes(loss=["x", "y"]), exclude=["loss=z"]))


def test_a_fraction_is_balanced() -> None:
    every = [dict(zip("abcd", levels, strict=True)) for levels in product("01", repeat=4)]
    half = balanced(every, 8)
    assert half[0] == every[0] and len(half) == 8
    for factor in "abcd":
        assert Counter(levels[factor] for levels in half) == {"0": 4, "1": 4}
    for one, other in combinations("abcd", 2):
        assert set(Counter((levels[one], levels[other]) for levels in half).values()) == {2}, (one, other)
    assert half == balanced(every, 8)


def test_wrong_arms_are_told_before_anything_starts() -> None:
    study = StudyConfig(axes=axes(backbone=["resnet18", "vit_small", "mit_b0"]))
    with pytest.raises(ConfigError, match=r"1 of 3 arms cannot run.*backbone=vit_small: "):
        checked(arms_of(study, Words((), ())), ["decoder=pspnet"], door.compose)
    with pytest.raises(ConfigError, match=r"^there is no setting 'trian\.epochs'"):
        checked(arms_of(study, Words((), ())), ["trian.epochs=3"], door.compose)


def test_a_value_twice_is_refused_wherever_it_was_given() -> None:
    """Typed for a grid of one's own, it was left out without a word."""
    for study in (StudyConfig(), StudyConfig(axes=axes(loss=["bce", "focal"]))):
        with pytest.raises(ConfigError, match=r"^loss=dice is there twice: give each value once"):
            arms_of(study, split(["loss=dice,dice"]))


def both_ways(words: list[str]) -> Config:
    """As the door composes it, and as Hydra does."""
    typed = door.quoted(words)
    plain, whole = composer(door.conf_dir()).composed(typed), by_hydra(door.conf_dir(), typed, "train")
    assert plain is not None, "no shipped study needs Hydra for its arms"
    assert OmegaConf.to_yaml(plain) == OmegaConf.to_yaml(whole)
    assert load(plain) == load(whole)
    return load(whole)


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=smoke"], ["++train.new=1"], ["~tracking"], ["+seed=1"], ["+loss=dice"], ["loss@x=dice"],
        ["hydra.searchpath=[file:///x]"],
        ["loss=none"], ["loss=dice", "loss=bce"], ["seed=0,1"], ["loss=[a"], ["train.epochs=many"], ["nothing=1"],
        ["train.nothing=1"], ["dataset/x=1"], ["loss=3"], ["train=3"],
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_hydra(words: list[str]) -> None:
    assert composer(door.conf_dir()).composed(words) is None


def test_plain_words_are_those_of_a_group_and_values() -> None:
    both_ways(["optimizer.lr=0.1", "optimizer=sgd", "tile_size=512", "train.threads=null", "dataset.bands=[red,nir]"])
    both_ways(["+sensor_mix.weights.landsat8=2.0", "paths.data='a b'", "seed=3", "seed=4", "tile_size.px=64"])


@pytest.mark.parametrize("name", door.options("study"))
def test_every_study_plans_with_what_is_shipped(name: str) -> None:
    study = door.compose_sweep([f"study={name}", "study.transfer.budgets=[2]"]).study  # of a ladder one is enough
    assert study.name == name and study.question.endswith("?")
    if name == "glid_paper":  # possible in itself, but its data is the user's
        with pytest.raises(ConfigError, match=r"6 of 6 arms cannot run.*dataset\.root"):
            all_checked(study, Words((), ()), door.compose, 0)
        return
    assert len(all_checked(study, Words((), ()), both_ways, 0)) > 1


def test_arms_that_start_from_a_study_are_all_of_the_run_that_is_its_best_now(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def settled(config: Config) -> Config:
        asked.append(config.init.run)
        return replace(config, init=replace(config.init, run="ab" * 16))

    monkeypatch.setattr(start, "settled", settled)
    study = StudyConfig(name="x", question="?", base=["init=run", "init.run=regions"], axes=axes(loss=["bce", "dice"]))
    arms = pinned(all_checked(study, Words((), ()), door.compose, 0))
    assert asked == ["regions"] and len(arms) == 2
    for arm, loss in zip(arms, ("bce", "dice"), strict=True):
        assert arm.config.init.run == "ab" * 16 and [word for word in arm.words if "init.run" in word] == [
            f"init.run={'ab' * 16}"
        ]
        # what is written into the plan is the config that was checked
        assert door.compose([*arm.words, "seed=0"]) == replace(arm.config, seed=0)
        assert f"loss={loss}" in arm.words


def test_arms_with_equal_settings_are_warned_of_before_anything_is_trained(tmp_path: Path) -> None:
    """Two names of one training: their difference is 0 by itself, and no noise shows in it."""
    arms = {"plain": ["loss=dice"], "again": ["loss=dice", "loss.dice=1.0"], "other": ["loss=bce"]}
    study = StudyConfig(name="s", question="?", design=Design.list, arms=arms, seeds=[0, 1])
    typed = Words((), (f"paths.data={tmp_path}",))
    found = outline(study, typed, door.compose)
    (said,) = found.equal
    assert said.startswith("Warning: arms plain and again have equal settings") and "\n" not in said
    console = Console(width=300, record=True, file=io.StringIO())
    show_outline(found, console)
    assert said in console.export_text()
    del arms["again"]
    assert outline(replace(study, arms=arms), typed, door.compose).equal == ()
    twice = [Cell(arm, 0, (), "key", ("dataset=x",)[:on]) for arm, on in (("a", 1), ("b", 1), ("c", 0), ("d", 1))]
    assert [line.partition(" have")[0] for line in told_equal(twice)] == ["Warning: arms a, b and d"], "c: other ground"
