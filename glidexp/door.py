"""What the doors share: where conf/ lies, the help page, and one-line errors out of Hydra's. No torch, no mlflow."""

import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from glidexp.composing import as_text, by_hydra, check_flags, composer, register
from glidexp.errors import ConfigError, GlidexpError, no_value, unknown_name, unreadable

if TYPE_CHECKING:
    from glidexp.config import Config
    from glidexp.config.evaluation import EvaluateConfig
    from glidexp.config.study import SweepConfig

GROUPS = {
    "dataset": "where tiles come from and how they are made",
    "sensor_mix": "which sensors are trained on, and how often each is drawn",
    "tile_size": "side of a square tile, pixels",
    "backbone": "encoder; any timm feature backbone with backbone.name=NAME",
    "decoder": "what turns features into a lake mask",
    "augmentation": "what is done to training tiles on the device",
    "loss": "what is minimised, on valid pixels",
    "optimizer": "optimizer and learning rate schedule",
    "init": "initial weights",
    "tracking": "where MLflow keeps runs, and what it is given",
    "experiment": "a ready-made set of choices",
}
SWEEP_GROUPS = {
    "study": "what varies, in which design, on which budget",
    "launcher": "what carries out the runs of a study, and how many at once",
}
"""groups that belong to `sweep.py` alone"""

KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
"""types of settings as OmegaConf calls them, and in words"""
TAKES_A_WORD = {"--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p"}
TAKES_A_WORD |= {"--mlruns"}
"""Hydra's own options whose next word is theirs"""


def conf_dir() -> Path:
    """Folder of the YAML files: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def options(group: str) -> dict[str, str]:
    """Names of a group's options with the sentence that heads each file."""
    found = {}
    for path in sorted((conf_dir() / group).glob("*.yaml"), key=lambda file: (len(file.stem), file.stem)):
        lines = [line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#")]
        sentences = [line for line in lines if not line.startswith("@package")]
        found[path.stem] = sentences[0] if sentences else ""
    return found


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


def config_dir(argv: list[str]) -> Path | None:
    """The user's own folder of YAML, given by --config-dir FOLDER, --config-dir=FOLDER or -cd FOLDER."""
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            return Path(value if equals else argv[place + 1]).absolute() if equals or argv[place + 1 :] else None
    return None


def quoted(argv: list[str]) -> list[str]:
    """Quotes options that look like numbers, which Hydra takes `tile_size=512` for, and text that it does not take."""
    out = []
    for word in argv:
        key, equals, value = word.partition("=")
        if key in GROUPS and equals and re.fullmatch(r"[0-9]+(,[0-9]+)*", value):
            value = ",".join(f"'{part}'" for part in value.split(","))
        out.append(as_text(key + equals + value))
    return out


def known_keys(config_name: str) -> list[str]:
    """Every key that a composed config may hold."""
    from glidexp.config import Config, flat
    from glidexp.config.evaluation import EvaluateConfig
    from glidexp.config.study import SweepConfig

    schema = {"evaluate": EvaluateConfig, "sweep": SweepConfig}.get(config_name, Config)
    return list(flat(schema()))


def explain(error: Exception, argv: list[str], known: list[str] | None = None) -> GlidexpError:
    """Hydra's and OmegaConf's errors in one line that lists what is allowed: the keys in `known`, else training's."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, OverrideParseException) and "=" in str(error.override):
        return unreadable(str(error.override))
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if (conf_dir() / group).is_dir() and group:
            told = unknown_name(group, name.removesuffix(".yaml"), error.options or options(group))
            number = re.fullmatch(r"tile_size/([0-9]+)(\.yaml)?", str(error.missing_cfg_file))
            return ConfigError(f"{told} Another one is set as tile_size.px={number[1]}.") if number else told
    for before, override in zip(["", *argv], argv, strict=False):
        if before in TAKES_A_WORD:
            continue
        if "=" not in override and not override.startswith(("-", "~")):
            return ConfigError(f"'{override}' is neither GROUP=OPTION nor KEY=VALUE: for example backbone=resnet34.")
        key = override.split("=", 1)[0].lstrip("+~").split("@")[0]
        value = override.split("=", 1)[-1]
        if value == "null" and "Got NoneType" in text and (conf_dir() / key).is_dir():
            return no_value(f"{key}={value}", options(key))
        one = re.search(rf"override {re.escape(key)}=(\S+)", text)  # of several that -m was given
        if one:
            value = one[1]
        if f"override '{key}'" in text or f"full_key: {key}" in text or f"'{key}'" in text or override in text or one:
            return _wrong_override(key, value, " ".join(str(cause).split()), known or known_keys("train"))
    return ConfigError(re.sub(r"\s+", " ", text))


def _wrong_override(key: str, value: str, reason: str, known: list[str]) -> GlidexpError:
    sections = sorted({name.split(".")[0] for name in known} | ({"experiment"} if "seed" in known else set()))
    parent = key.rpartition(".")[0]
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    if key not in sections and not any(name == key or name.startswith(key + ".") for name in known):
        near = get_close_matches(key, [*known, *sections], n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        below = f"Allowed below {parent}: " if siblings and parent else "Allowed to begin with: "
        listed = siblings if siblings and parent else sections
        return ConfigError(f"there is no setting '{key}'.{hint} {below}{', '.join(listed)}.")
    if "is not Optional" in reason:
        return no_value(f"{key}={value}")
    allowed = re.search(r"(?:one of|possible values[^:]*:?|expected one of|should be one of) ?\[?([^\]]+)\]?", reason)
    if allowed:
        names = ", ".join(part.strip().split(".")[-1] for part in allowed[1].split(","))
        return ConfigError(f"{key}={value} is not possible. Allowed: {names}.")
    kind = re.search(r"could not be converted to (Integer|Float)|is not a valid (bool)", reason)
    if kind:
        return ConfigError(f"{key}={value} is not possible: give {KINDS[kind[1] or kind[2]]}.")
    unlike = "Cannot merge" in reason  # a list where names belong, or the other way round
    if "is not a ListConfig" in reason or (unlike and value.startswith("{")):
        return ConfigError(f"{key}={value} is not possible: it is a list, written {key}=[A,B] without spaces.")
    if unlike or "is not a subclass of" in reason:
        return ConfigError(f"{key}={value} is not possible: it holds values by name, written '{key}={{NAME: VALUE}}'.")
    reason = re.split(r" full_key:| object_type=", reason)[0].rstrip(".")
    return ConfigError(f"{key}={value} is not possible: {reason}.")
