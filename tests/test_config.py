"""Every shipped YAML composes into the typed config, and a run's name depends on what changes its result."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf.errors import ValidationError

from glidexp import door
from glidexp.config import Config, flat, study, to_dict
from glidexp.config.evaluation import EvaluateConfig
from glidexp.config.plain import by_omegaconf
from glidexp.errors import ConfigError, DataError
from glidexp.identity import INTRODUCED_AT, config_id
from glidexp.training.check import check

OPTIONS = [(group, name) for group in door.GROUPS for name in door.options(group)]
NEEDS = {
    ("backbone", "timm"): ["backbone.name=regnety_004"],
    ("init", "checkpoint"): ["init.checkpoint=weights.safetensors"],
    ("init", "external"): ["init.checkpoint=weights.pth"],
    ("init", "run"): ["init.run=0123abcd"],
    ("backbone", "vit_small"): ["decoder=dpt"],
    ("decoder", "dpt"): ["backbone=vit_small"],
    ("backbone", "pixel_mlp"): ["decoder=linear"],
    ("decoder", "linear"): ["backbone=pixel_mlp"],
    ("dataset", "land_cover"): ["loss=cross_entropy", "train.select=val/miou_pooled", "dataset.classes=classes.csv"],
    ("dataset", "land_cover_synthetic"): ["loss=cross_entropy", "train.select=val/miou_pooled"],
    ("loss", "cross_entropy"): ["dataset=land_cover_synthetic", "train.select=val/miou_pooled"],
}
"""what an option cannot do without"""

ABSENT = {
    ("dataset", "scenes"),
    ("dataset", "folder"),
    ("dataset", "glid"),
    ("dataset", "store"),
    ("dataset", "land_cover"),
    ("dataset", "glid_transfer"),
    ("experiment", "glid_paper"),
}
"""possible in themselves, but their data is the user's: asked for in one sentence, before torch is loaded"""


def composed(*overrides: str) -> Config:
    return door.compose(list(overrides))


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=[f"{group}={name}" for group, name in OPTIONS])
def test_every_option_composes_and_is_possible(group: str, name: str) -> None:
    config = composed(f"{group}='{name}'", *NEEDS.get((group, name), []))
    if (group, name) in ABSENT:
        with pytest.raises((ConfigError, DataError), match=r"dataset\.root"):
            check(config)
    else:
        check(config)
    assert json.dumps(to_dict(config)) == json.dumps(by_omegaconf(config))
    assert door.options(group)[name], f"conf/{group}/{name}.yaml must begin with a sentence for --help"


def test_no_yaml_holds_code_or_arithmetic() -> None:
    for path in door.conf_dir().rglob("*.yaml"):
        text = path.read_text()
        assert "_target_" not in text
        assert "${eval" not in text


def test_the_demo_is_the_default() -> None:
    assert flat(composed()) | {"seed": 0} == flat(composed())
    assert composed().dataset.kind == "synthetic"


def test_experiment_gives_way_to_the_command_line() -> None:
    assert composed("experiment=smoke").train.epochs != 7
    assert composed("experiment=smoke", "train.epochs=7").train.epochs == 7
    assert composed("experiment=smoke", "seed=5").seed == 5


def test_id_is_golden() -> None:
    """Changes only with RESULTS_VERSION, or when a setting of the first release changes its default."""
    assert config_id(Config(), recipe="r") == config_id(Config(), recipe="r")
    assert config_id(Config(), recipe="r") == GOLDEN


GOLDEN = "5283a50c4f0898d1"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("seed", True),
        ("train.epochs", True),
        ("train.threads", False),
        ("train.device", False),
        ("train.checkpoint_every", False),
        ("tracking.experiment", False),
        ("paths.data", False),
        ("resume", False),
        ("dataset.name", False),
        ("augmentation.noise_std", True),
    ],
)
def test_what_the_id_depends_on(key: str, changes: bool) -> None:
    values = {"train.device": "cpu", "tracking.experiment": "x", "paths.data": "x", "resume": "never"}
    other = composed(f"{key}={values.get(key, 3)}", "resume=never" if key != "resume" else "seed=0")
    assert (config_id(other, recipe="r") != config_id(composed(), recipe="r")) == changes


@pytest.mark.parametrize(
    "word", ["sensor_mix.weights.landsat8=3", "+sensor_mix.weights.landsat8=3", "sensor_mix.weights={landsat8: 3}"]
)
@pytest.mark.parametrize("also", [[], ["experiment=smoke"]], ids=["plain", "by Hydra"])
def test_names_with_values_are_given_as_any_value(word: str, also: list[str]) -> None:
    assert composed(word, *also).sensor_mix.weights == {"landsat8": 3.0}


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["sensor_mix=balanced", "augmentation=flips"], True),
        (["+sensor_mix.weights.landsat8=3", "augmentation=flips"], True),
        (["+sensor_mix.region_weights.andes=3", "augmentation=flips"], True),
        (["sensor_mix=balanced", "augmentation=none", "input.embed=gsd"], True),
        (["self_training.regions=[andes]", "self_training.draw=0.5", "augmentation=flips"], True),
        (["augmentation=flips"], False),
        (["sensor_mix=balanced", "augmentation=none"], False),
        (["sensor_mix=balanced", "sensor_mix.sensors=[landsat8]", "augmentation=flips"], False),
        (["+sensor_mix.weights.landsat8=0", "augmentation=flips"], False),
        (["self_training.regions=[andes]", "augmentation=flips"], False),
    ],
)
def test_ids_change_where_tiles_that_come_again_were_drawn_once(
    words: list[str], changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = config_id(composed(*words), recipe="r")
    monkeypatch.setattr("glidexp.identity._repeats", lambda _: False)
    assert (config_id(composed(*words), recipe="r") != now) == changes


@pytest.mark.parametrize(
    ("word", "before"),
    [("sensor_mix=landsat8", "fcc9b07380c404ee"), ("sensor_mix.weights.landsat8=0", "8e7d01a5aa88bfa2")],
)
def test_a_part_by_sensors_is_another_run_than_when_all_sensors_tiles_normalised_it(word: str, before: str) -> None:
    assert config_id(composed(word), recipe="r") != before


def test_the_data_recipe_and_resolved_values_count() -> None:
    config = Config()
    ids = {
        config_id(config, recipe="r"),
        config_id(config, recipe="s"),
        config_id(config, recipe="r", resolved={"train.precision": "bf16"}),
        config_id(config, recipe="r", resolved={"train.precision": "fp32"}),
    }
    assert len(ids) == 4


def test_a_new_setting_at_its_first_default_changes_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {key: value for key, value in flat(Config()).items() if key != "loss.focal_gamma"}
    monkeypatch.setattr("glidexp.identity.flat", lambda _: dict(before))
    old = config_id(Config(), recipe="r")
    monkeypatch.setitem(INTRODUCED_AT, "loss.focal_gamma", 2.0)
    monkeypatch.setattr("glidexp.identity.flat", lambda _: before | {"loss.focal_gamma": 2.0})
    assert config_id(Config(), recipe="r") == old
    monkeypatch.setattr("glidexp.identity.flat", lambda _: before | {"loss.focal_gamma": 3.0})
    assert config_id(Config(), recipe="r") != old


def test_values_of_another_type_become_what_their_field_says() -> None:
    """A whole number for a float is another text, and so another run's name, than the float."""
    train = replace(Config().train, clip_norm=1, threads=2, precision="bf16")
    odd = [
        replace(Config(), train=train),
        replace(Config(), sensor_mix=replace(Config().sensor_mix, weights={"landsat8": 2})),
        replace(Config(), paths=replace(Config().paths, data="${paths.mlruns}", mlruns="x$y")),
        study.StudyConfig(axes={"a": study.AxisConfig(values=[1, 2.5, "x", None, [1]])}, seeds=[3]),
        EvaluateConfig(),
        study.SweepConfig(plan="dry"),
    ]
    for config in odd:
        assert json.dumps(to_dict(config)) == json.dumps(by_omegaconf(config))
    assert flat(odd[0])["train.clip_norm"] == 1.0 and type(flat(odd[0])["train.clip_norm"]) is float
    with pytest.raises(ValidationError):
        to_dict(replace(Config(), allow_leak="perhaps"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dataset.empty_share=inf"], "is no number that can be used: it must be finite"),
        (["dataset.split.buffer_m=inf"], "is no number that can be used: it must be finite"),
        (["dataset.split.by=block", "dataset.split.block_m=inf"], "must be above 0 metres, and finite"),
        (
            ["dataset.split.by=block", "dataset.split.buffer_m=1e9"],
            "is more than 100 blocks of .*=10000, which leaves no",
        ),
        (["dataset.stretch.method=fixed", "dataset.stretch.high=inf"], "high=inf must be finite"),
        (["dataset.stretch.method=minmax", "dataset.stretch.high=inf"], "high=inf must be finite"),
    ],
)
def test_numbers_without_end_are_refused(words: list[str], says: str) -> None:
    """They ended with traces, and a buffer of thousands of blocks did not end at all."""
    with pytest.raises(ConfigError, match=says):
        composed(*words)


def test_what_was_added_with_a_plus_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'foo'"):
        composed("+foo=1")
    with pytest.raises(ConfigError, match="does not exist"):
        composed("+train.foo=1")


def test_what_refers_to_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ConfigError, match=r"^paths\.mlruns is not possible: .*'NOT_SET' not found"):
        composed("paths.mlruns=${oc.env:NOT_SET}/runs")
    with pytest.raises(ConfigError, match=r"^seed is not possible: .*'nope' not found"):
        composed("seed=${nope}")
    with pytest.raises(ConfigError, match=r"^dataset\.bands is not possible: a list stands in it"):
        composed("dataset.bands=[[1]]")
    with pytest.raises(ConfigError, match=r"sensors\[0\] is not possible: Cannot convert 'list' to string"):
        composed("sensor_mix.sensors=[[sentinel2]]")


def test_ranges_of_training() -> None:
    for key in ("train.epochs", "train.batch_size", "train.accumulate", "train.patience"):
        with pytest.raises(ConfigError, match=key):
            composed(f"{key}=0")


def test_replace_keeps_checks() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs=0"):
        replace(Config().train, epochs=0)


def test_conf_is_found(tmp_path: Path) -> None:
    assert (door.conf_dir() / "train.yaml").is_file()
