"""What the doors share: the help page, and configs composed of words. No torch, no mlflow."""

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from glidexp.composing import as_text, by_hydra, check_flags, check_words, composer, register
from glidexp.errors import ConfigError, GlidexpError
from glidexp.explaining import GROUPS, SWEEP_GROUPS, TAKES_A_WORD, conf_dir, explain, known_keys, options
from glidexp.own_yaml import check_own, config_dir, own_folders, search_word

if TYPE_CHECKING:
    from glidexp.config import Config
    from glidexp.config.evaluation import EvaluateConfig
    from glidexp.config.study import SweepConfig
__all__ = [
    "GROUPS",
    "SWEEP_GROUPS",
    "check_flags",
    "conf_dir",
    "config_dir",
    "explain",
    "known_keys",
    "options",
    "search_word",
]


def help_text(command: str) -> str:
    """The page behind --help: every group, what it is for, its options."""
    out = [
        f"Usage: {command} [GROUP=OPTION ...] [KEY=VALUE ...]",
        "",
        "Trains one network and scores it; without arguments, the demo on generated scenes.",
        f"  {command} backbone=resnet34 tile_size=512 seed=1     change a group or a value",
        f"  {command} -m backbone=resnet18,mobilenetv3 seed=0,1  one run for every combination",
        f"  {command} --cfg job                                  show the composed config and stop",
        "",
    ]
    for group, meaning in GROUPS.items():
        out.append(f"{group}: {meaning}")
        width = max((len(name) for name in options(group)), default=0)
        out += [f"  {name:<{width}}  {sentence}".rstrip() for name, sentence in options(group).items()]
        out.append("")
    out += [
        "Common keys: seed, resume (auto | never), paths.data, paths.mlruns, tracking.uri, train.epochs, ",
        "  train.batch_size (N | auto), train.precision (auto | fp32 | bf16 | fp16), train.compile (auto | on | off),",
        "  train.device. All of them: --cfg job",
        "Your own YAML: --config-dir FOLDER, laid out as conf/. Hydra's own options: --hydra-help",
    ]
    return "\n".join(out)


def evaluate_help() -> str:
    """The page behind `glidexp evaluate --help`."""
    out = [
        "Usage: glidexp evaluate MODEL [MODEL ...] [GROUP=OPTION ...] [KEY=VALUE ...]",
        "",
        "Scores a trained model on a data set, into an MLflow run of its own: without dataset=..., on the test split",
        "of the data set it was trained on. Ground that it was trained on is refused.",
        "",
        "MODEL: a run id or its first characters, the folder of a bundle, models:/NAME@ALIAS, models:/NAME/VERSION, or",
        "a checkpoint of a run under way (mlruns/checkpoints/.../last.000007.pt). Of several, such as the seeds of one",
        "arm, the mean of their probabilities is scored, at the threshold that is best on val, and kept as a model",
        "",
        "  glidexp evaluate 1a2b3c4d                                     its own test split again",
        "  glidexp evaluate 1a2b3c4d dataset=scenes dataset.root=SCENES dataset.lakes=LAKES dataset.glaciers=GLACIERS",
        "  glidexp evaluate models:/lakes@champion sensor_mix=landsat8   one sensor",
        "  glidexp evaluate 1a2b3c4d 5e6f7a8b 9c0d1e2f                   three networks as one",
        "",
    ]
    for group in ("dataset", "sensor_mix", "tile_size", "tracking"):
        out += [f"{group}: {', '.join(options(group))}"]
    out += [
        "",
        "Keys: eval.split (auto | test | all), eval.threshold (card | 0 to 1), allow_leak (false | true),",
        "  resume (auto | never), train.batch_size, train.precision, train.device, train.threads, paths.data,",
        "  paths.mlruns, tracking.uri, tracking.experiment. --mlruns DIR is paths.mlruns=DIR. All of them: --cfg job",
    ]
    return "\n".join(out)


def run_hydra(task: Callable[[DictConfig], object], argv: list[str], config_name: str = "train") -> None:
    """Composes `config_name` from `argv` and calls `task`, letting every error through as an exception.

    Raises:
        ConfigError: the settings cannot be composed; the message is one line
    """
    import hydra

    register()
    argv = overrides_first(quoted(argv))
    check_flags(argv, known_keys(config_name))
    refuse_words(argv, config_name)
    check_own(own_folders(argv), argv, config_name)
    told: list[BaseException] = []  # by the task itself; kept from Hydra, which would print a line of its own
    alone = "-m" not in argv and "--multirun" not in argv

    def observed(composed: DictConfig) -> None:
        try:
            task(composed)
        except BaseException as error:
            told.append(error)
            if not alone:
                raise  # the launcher must know

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing a trace and exiting with 1
    decorated = hydra.main(config_path=str(conf_dir()), config_name=config_name, version_base="1.3")(observed)
    program = sys.argv
    sys.argv = [program[0], *argv]
    try:
        decorated()
    except Exception as error:
        if isinstance(error, GlidexpError) or error in told:
            raise
        raise explain(error, argv, known_keys(config_name)) from error
    finally:
        sys.argv = program
    if told:
        raise told[0]


def refuse_words(words: list[str], config_name: str = "train") -> None:
    """Refuses words that Hydra takes and that do not do what they say: `composing.check_words`."""
    if any(word.lstrip("+").startswith(("~", "hydra.")) for word in words):  # a study composes dozens of configs
        check_words(words, known_keys(config_name), (*GROUPS, *SWEEP_GROUPS))


def compose(overrides: list[str]) -> "Config":
    """The whole config of some overrides, for verbs that need a part of it and run nothing of Hydra's.

    Raises:
        ConfigError: the settings cannot be composed; the message is one line
    """
    from glidexp.config import load

    return load(_composed(overrides, "train"))


def compose_evaluation(overrides: list[str]) -> "EvaluateConfig":
    """The same for `glidexp evaluate`; what it takes from its model is not in it.

    Raises:
        ConfigError: the settings cannot be composed; the message is one line
    """
    from glidexp.config import evaluation

    return evaluation.load(_composed(overrides, "evaluate"))


def compose_sweep(overrides: list[str]) -> "SweepConfig":
    """The config of the words that are the sweep's own: of study, launcher, plan ...

    Raises:
        ConfigError: the settings cannot be composed; the message is one line
    """
    from glidexp.config import study

    return study.load(_composed(overrides, "sweep"))


def _composed(overrides: list[str], config_name: str) -> DictConfig:
    words = quoted(overrides)
    refuse_words(words, config_name)
    check_own(own_folders(words), words, config_name)
    if config_name == "train" and (plain := composer(conf_dir()).composed(words)) is not None:
        return plain
    try:
        return by_hydra(conf_dir(), words, config_name)
    except Exception as error:
        if isinstance(error, GlidexpError):
            raise
        raise explain(error, words, known_keys(config_name)) from error


def models_and_overrides(argv: list[str]) -> tuple[list[str], list[str]]:
    """Takes the models, the words without an equals sign, and `--mlruns DIR` out of a command line of `evaluate`.

    Raises:
        ConfigError: a multirun is asked for
    """
    words: list[str] = []
    models: list[str] = []
    rest = iter(overrides_first(argv))
    for word in rest:
        if word in ("-m", "--multirun"):
            raise ConfigError("evaluate scores one model on one data set: give the command once for each.")
        if word == "--mlruns" or word.startswith("--mlruns="):
            folder = word.partition("=")[2] or next(rest, "")
            escaped = folder.replace("'", "\\'")
            words.append(f"paths.mlruns='{escaped}'")
        elif word in TAKES_A_WORD:
            words += [word, next(rest, "")]
        elif word.startswith(("-", "~")) or re.match(r"\+{0,2}[A-Za-z_][\w./@]*=", word):
            words.append(word)
        else:
            models.append(word)
    return models, overrides_first(words)


def overrides_first(argv: list[str]) -> list[str]:
    """The same words with the overrides before the flags: argparse takes those on both sides of one for unknown."""
    flags: list[str] = []
    overrides: list[str] = []
    takes = False
    for word in argv:
        is_flag = takes or word.startswith("-")
        (flags if is_flag else overrides).append(word)
        takes = word in TAKES_A_WORD
    return [*overrides, *flags]


def quoted(argv: list[str]) -> list[str]:
    """Quotes options that look like numbers, which Hydra takes `tile_size=512` for, and text that it does not take."""
    out = []
    for word in argv:
        key, equals, value = word.partition("=")
        if key in GROUPS and equals and re.fullmatch(r"[0-9]+(,[0-9]+)*", value):
            value = ",".join(f"'{part}'" for part in value.split(","))
        out.append(as_text(key + equals + value))
    return out
