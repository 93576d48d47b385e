"""The words of a command line: which are the sweep's, which vary, and which words replace which."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glidexp.config.study import OWN_KEYS
from glidexp.errors import ConfigError, unreadable

PLAIN = re.compile(r"[\w./:+%@ -]*[\w./]")
"""text that Hydra's grammar takes without quotes"""

QUOTES = ("'", '"')
LISTS_OF_WORDS = ("study.base", "study.transfer.tune", "study.transfer.lora")
"""settings of the sweep that hold words of the runs, which Hydra's grammar wants in quotes"""


@dataclass(frozen=True, slots=True)
class Words:
    """What was typed at `sweep.py`."""

    own: tuple[str, ...]
    """settings of the sweep itself: study, launcher, plan ..."""
    base: tuple[str, ...]
    """settings of the runs with one value: every arm gets them"""
    swept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """values of the settings that were given several"""

    @property
    def seedless(self) -> "Words":
        """The same without what they say of the seed."""
        swept = {key: values for key, values in self.swept.items() if key != "seed"}
        return Words(self.own, tuple(word for word in self.base if key_of(word) != "seed"), swept)


def split(argv: Sequence[str]) -> Words:
    """Sorts the words of a command line.

    Args:
        argv: overrides of Hydra's grammar, without flags

    Raises:
        ConfigError: a word that is no override, or a range that only a search could try
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    own: list[str] = []
    base: list[str] = []
    swept: dict[str, tuple[str, ...]] = {}
    for word in argv:
        if word in ("-m", "--multirun"):  # as `train -m` takes it; here it goes without saying
            continue
        if word.startswith("-") or ("=" not in word and not word.startswith("~")):
            raise ConfigError(
                f"'{word}' is neither GROUP=OPTION nor KEY=VALUE: for example backbone=resnet18,resnet34."
            )
        key = key_of(word)
        if key.split(".")[0] in OWN_KEYS:
            own.append(listed(word) if key in LISTS_OF_WORDS else word)
            continue
        if key.split("/")[0] == "hydra" and key != "hydra.searchpath":
            raise ConfigError(f"{word}: a study has launchers of its own; Hydra's go with `python train.py -m`.")
        try:
            (item,) = OverridesParser.create().parse_overrides([word])
        except HydraException:
            raise unreadable(word) from None
        if not item.is_sweep_override():
            base.append(word)
        elif item.is_discrete_sweep():
            try:
                swept[key] = tuple(value.strip("'\"") for value in item.sweep_string_iterator())
            except HydraException:  # glob() wants the options at hand
                raise ConfigError(f"{word}: name the values one by one, as in {key}=A,B.") from None
        else:
            raise ConfigError(
                f"{word}: a range without steps has no list of values: give those to try, such as KEY=1e-4,1e-3."
            )
    return Words(tuple(own), tuple(base), swept)


def listed(word: str) -> str:
    """`KEY=[a=1,b=[2,3]]` with each entry in quotes, where it has none; a single one needs no brackets."""
    key, _, value = word.partition("=")
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    entries, depth, within = [""], 0, ""
    for letter in inner:
        if within or letter in QUOTES:
            within = "" if letter == within else within or letter
        else:
            depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and not depth and not within:
            entries.append("")
        else:
            entries[-1] += letter
    if "=" not in inner or depth or within:
        return word
    stripped = [entry.strip() for entry in entries]
    return f"{key}=[{','.join(one if one[:1] in QUOTES else _quoted(one) for one in stripped)}]"


def _quoted(text: str) -> str:
    """A text as Hydra's grammar takes any."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def searched(argv: Sequence[str], setting: str | None) -> tuple[list[str], list[str]]:
    """`--config-dir FOLDER` as a setting of Hydra's, which every run can be given.

    Args:
        argv: as typed
        setting: that word; None without such a folder

    Returns:
        the words with that setting in place of the flag, and the setting alone
    """
    if setting is None:
        return list(argv), []
    left: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word in ("--config-dir", "-cd"):
            next(rest, None)
        elif not word.startswith(("--config-dir=", "-cd=")):
            left.append(word)
    return [*left, setting], [setting]


def key_of(word: str) -> str:
    """The config key or group that a word sets."""
    return word.split("=", 1)[0].lstrip("+~").split("@")[0]


def value_of(word: str) -> str:
    """What a word sets it to."""
    return word.partition("=")[2]


def merged(*parts: Iterable[str]) -> tuple[str, ...]:
    """Words in which later parts replace what earlier ones said of the same key.

    A group that is chosen later also replaces earlier values inside it: `tile_size=512` after `tile_size.px=64`.
    """
    found: list[str] = []
    for part in parts:
        words = list(part)
        keys = {key_of(word) for word in words}
        groups = tuple(f"{key}." for key in keys if "." not in key)
        found = [old for old in found if key_of(old) not in keys and not key_of(old).startswith(groups or ("\0",))]
        found += words
    return tuple(found)


def word(key: str, value: Any) -> str:
    """`KEY=VALUE` as Hydra's grammar writes it."""
    return f"{key}={written(value)}"


def written(value: Any) -> str:
    """A value as Hydra's grammar writes it: true, null, [a,b], {a:1}."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{written(inner)}" for key, inner in value.items()) + "}"
    text = str(value)
    if isinstance(value, str) and not PLAIN.fullmatch(text):
        return _quoted(text)
    return text
