"""What is wrong with settings, in one line each: Hydra's and OmegaConf's errors in words that say what is allowed."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from glidexp.errors import ConfigError, GlidexpError, no_value, unknown_name, unreadable

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


def schema_of(config_name: str) -> type[Any]:
    """The class of what is composed: of train, evaluate or sweep."""
    from glidexp.config import Config
    from glidexp.config.evaluation import EvaluateConfig
    from glidexp.config.study import SweepConfig

    return {"evaluate": EvaluateConfig, "sweep": SweepConfig}.get(config_name, Config)


def known_keys(config_name: str) -> list[str]:
    """Every key that a composed config may hold."""
    from glidexp.config import flat

    return list(flat(schema_of(config_name)()))


def explain(error: Exception, argv: list[str], known: list[str] | None = None) -> GlidexpError:
    """Hydra's and OmegaConf's errors in one line that lists what is allowed: the keys in `known`, else training's."""
    from hydra.errors import MissingConfigException, OverrideParseException

    if isinstance(error, OverrideParseException) and "=" in str(error.override):
        return unreadable(str(error.override))
    if "does not support sweep type" in str(error):
        ranges = [word for word in argv if re.search(r"=(?:interval|tag)\(", word)]
        return ConfigError(f"{' '.join(ranges)}: a range without steps has no list of values: give those, as KEY=A,B.")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group and ((conf_dir() / group).is_dir() or group.startswith("hydra/")):
            told = unknown_name(group, name.removesuffix(".yaml"), error.options or options(group))
            number = re.fullmatch(r"tile_size/([0-9]+)(\.yaml)?", str(error.missing_cfg_file))
            return ConfigError(f"{told} Another one is set as tile_size.px={number[1]}.") if number else told
    for before, override in zip(["", *argv], argv, strict=False):
        if before in TAKES_A_WORD or override.startswith("-"):
            continue
        if "=" not in override and not override.startswith("~"):
            return ConfigError(f"'{override}' is neither GROUP=OPTION nor KEY=VALUE: for example backbone=resnet34.")
        key = override.split("=", 1)[0].lstrip("+~").split("@")[0]
        value = override.split("=", 1)[-1]
        if value == "null" and "Got NoneType" in text and (conf_dir() / key).is_dir():
            return no_value(f"{key}={value}", options(key))
        one = None if override in text else re.search(rf"override {re.escape(key)}=(\S+)", text)  # of those of -m
        if one:
            value = one[1]
        if f"override '{key}'" in text or f"full_key: {key}" in text or f"'{key}'" in text or override in text or one:
            return _wrong_override(key, value, " ".join(str(cause).split()), known or known_keys("train"))
    return ConfigError(re.sub(r"\s+", " ", text))


def _wrong_override(key: str, value: str, reason: str, known: list[str]) -> GlidexpError:
    sections = sorted({name.split(".")[0] for name in known} | ({"experiment"} if "seed" in known else set()))
    parent = key.rpartition(".")[0]
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    named = key in sections or any(name == key or name.startswith(f"{key}.") for name in known)
    if not named and "reference_type=Dict[" not in reason:  # that is one of a dictionary, which may have any name
        return no_setting(key, siblings if siblings and parent else sections, known)
    return why_not(key, value, reason)


def no_setting(key: str, allowed: Sequence[str], known: Sequence[str] = ()) -> GlidexpError:
    """The error for a key that there is not.

    Args:
        key: dotted
        allowed: keys in its place
        known: further keys that may have been meant
    """
    leaf = key.rpartition(".")[2]  # train.lr: the word is right, the section is not
    sections = {name.partition(".")[0] for name in known}
    same = [leaf] if leaf in sections else [name for name in known if name.rpartition(".")[2] == leaf]
    near = same if len(same) == 1 else get_close_matches(key, [*same, *known, *allowed], n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    parent = key.rpartition(".")[0]
    below = f"Allowed below {parent}: " if parent and allowed[0].startswith(f"{parent}.") else "Allowed to begin with: "
    return ConfigError(f"there is no setting '{key}'.{hint} {below}{', '.join(allowed)}.")


def why_not(key: str, value: str, reason: str) -> GlidexpError:
    """The error for a value that a setting does not take.

    Args:
        key: of a setting that there is
        value: as it was given
        reason: what OmegaConf says of it
    """
    if "NoneType is not a subclass of" in reason and value.startswith("["):
        return ConfigError(f"{key}={value} is not possible: null is no name: leave it out of the list.")
    if "is not Optional" in reason or "Incompatible value 'None'" in reason:
        return no_value(f"{key}={value}")
    allowed = re.search(r"(?:one of|possible values[^:]*:?|expected one of|should be one of) ?\[?([^\]]+)\]?", reason)
    if allowed:
        names = ", ".join(part.strip().split(".")[-1] for part in allowed[1].split(","))
        return ConfigError(f"{key}={value} is not possible. Allowed: {names}.")
    kind = re.search(r"could not be converted to (Integer|Float)|is not a valid (bool)", reason)
    if kind:
        return ConfigError(f"{key}={value} is not possible: give {KINDS[kind[1] or kind[2]]}.")
    if "Ambiguous value" in reason:
        return ConfigError(
            f"{key}={value} is not possible: one value is expected here. A list is written {key}=[A,B]; every value by "
            "itself is tried by `train -m` or `sweep`."
        )
    unlike = "Cannot merge" in reason  # a list where names belong, or the other way round
    if "is not a ListConfig" in reason or "hint 'typing.List" in reason or (unlike and value.startswith("{")):
        return ConfigError(f"{key}={value} is not possible: it is a list, written {key}=[A,B] without spaces.")
    if unlike or "is not a subclass of" in reason or "hint 'typing.Dict" in reason:
        return ConfigError(f"{key}={value} is not possible: it holds values by name, written '{key}={{NAME: VALUE}}'.")
    if "to string:" in reason or "hint '<class 'str'>'" in reason:
        return ConfigError(f"{key}={value} is not possible: give a text.")
    reason = re.split(r" full_key:| object_type=", reason)[0].rstrip(".")
    return ConfigError(f"{key}={value} is not possible: {reason}.")
