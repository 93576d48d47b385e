"""The config of a run's words without Hydra's whole way, where the words are plain: a study composes dozens, each of
which takes Hydra 0.2 s.

Words that choose an option of a group or set a value lead to the same config whichever way is gone: the default config,
composed by Hydra once, with the chosen options in place of the default ones and then the values set. All other words
(experiments, `++`, `~`, packages, a search path, what is wrong) are left to Hydra.
"""

import copy
import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glidexp.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

PARTS_OF_HYDRA = ("hydra.launcher", "hydra.sweeper")
"""sections of Hydra's own that an option of a group makes; a text in their place is met only by -m"""


class Composer:
    """Composes plain words of a run.

    Args:
        folder: of the YAML files
    """

    def __init__(self, folder: Path) -> None:
        from glidexp.config import Config

        self._folder, self._schema = folder, _schema(Config)
        self._usual = by_hydra(folder, [], "train")
        self._options: dict[tuple[str, str], DictConfig | None] = {}

    def composed(self, words: Sequence[str]) -> DictConfig | None:
        """The config of these words, or None where they are for Hydra."""
        config = copy.deepcopy(self._usual)
        values: list[Override] = []
        chosen: set[str] = set()
        for word in words:
            override = _parsed(word)
            if override is None:
                return None
            key = str(override.key_or_group)
            if not (self._folder / key).is_dir():
                values.append(override)
                continue
            section = self._option(key, override.value())
            if section is None or key in chosen or override.is_add():
                return None
            chosen.add(key)
            OmegaConf.update(config, key, copy.deepcopy(section), merge=False)
        try:
            for override in values:  # after all choices, as Hydra does it
                key, value, new = str(override.key_or_group), override.value(), override.is_add()
                if new and not isinstance(value, (dict, list)) and OmegaConf.select(config, key) is not None:
                    return None
                OmegaConf.update(config, key, value, merge=True, force_add=new)
        except (OmegaConfBaseException, AttributeError, TypeError, ValueError):
            return None  # Hydra says what is wrong
        return config

    def _option(self, group: str, name: object) -> DictConfig | None:
        """The section that an option makes; None where it is more than that, or not there."""
        if not isinstance(name, str):
            return None
        if (group, name) not in self._options:
            self._options[group, name] = self._read(self._folder / group / f"{name}.yaml", group)
        return self._options[group, name]

    def _read(self, path: Path, group: str) -> DictConfig | None:
        if group not in self._schema or not path.is_file():
            return None
        found = OmegaConf.load(path)
        if "@package" in path.read_text(encoding="utf-8") or not isinstance(found, DictConfig) or "defaults" in found:
            return None
        section = copy.deepcopy(self._schema[group])
        section.merge_with(found)
        return section if isinstance(section, DictConfig) else None


def as_text(word: str) -> str:
    """KEY=VALUE with the value quoted where it is plain text of letters or signs that Hydra's grammar does not know.

    Such as the umlaut or the # of a path. A ~ at the beginning is left: nobody would make a home folder of it.
    """
    key, equals, value = word.partition("=")
    plain = (
        equals
        and not word.startswith(("-", "~"))
        and re.fullmatch(r"[^~'\"(){}\[\],=\\$\ud800-\udfff][^'\"(){}\[\],=\\$\ud800-\udfff]*", value)
    )
    return f"{key}='{value}'" if plain and re.search(r"[^\x20-\x7e]|[!#&;<>^`~]", value) else word


composer = functools.cache(Composer)
"""of a folder, made once"""


@functools.cache
def register() -> None:
    """Makes the schemas known to Hydra, once: a study composes dozens of configs, and this is a third of one."""
    from hydra.core.config_store import ConfigStore

    from glidexp.config import Config
    from glidexp.config.evaluation import EvaluateConfig
    from glidexp.config.study import SweepConfig

    schemas = ConfigStore.instance()
    schemas.store(name="schema", node=_schema(Config))
    schemas.store(name="evaluate_schema", node=_schema(EvaluateConfig))
    schemas.store(name="sweep_schema", node=_schema(SweepConfig))


def _schema(of: type[object]) -> DictConfig:
    """A class as a schema whose dictionaries take any key: Hydra wants a + for `sensor_mix.weights.landsat8=3`."""
    schema = OmegaConf.structured(of)
    pending = [schema]
    while pending:
        section = pending.pop()
        inner = [section._get_node(key) for key in section]
        pending += [node for node in inner if isinstance(node, DictConfig) and not node._is_none()]
        if OmegaConf.get_type(section) is dict:
            OmegaConf.set_struct(section, False)
    return schema


def by_hydra(folder: Path, words: Sequence[str], config_name: str) -> DictConfig:
    """What Hydra composes from words, with its own errors.

    Args:
        folder: of the YAML files
        words: of Hydra's grammar
        config_name: train, evaluate or sweep
    """
    import hydra

    register()
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        return hydra.compose(config_name, overrides=list(words))


@functools.lru_cache(maxsize=4096)
def _parsed(word: str) -> "Override | None":
    """A word as Hydra's grammar reads it; None where it is not plain, or not readable."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    try:
        (found,) = OverridesParser.create().parse_overrides([word])
    except HydraException:
        return None
    key = str(found.key_or_group)
    plain = found.type in (OverrideType.CHANGE, OverrideType.ADD) and not found.is_sweep_override()
    plain &= found.package is None
    return found if plain and "/" not in key and key.split(".")[0] not in ("hydra", "experiment") else None


def check_flags(argv: list[str], known: list[str]) -> None:
    """Refuses options that Hydra does not have, which it would answer with a page.

    Args:
        argv: the words of a command line
        known: dotted keys, for a hint: who types --epochs means train.epochs

    Raises:
        ConfigError: an option of another program, or one of Hydra's without its value
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        example = ", as train.epochs=3" if "train.epochs" in known else ""
        raise ConfigError(f"{message}. Settings are written KEY=VALUE{example}; Hydra's options: --hydra-help.")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    given, unknown = parser.parse_known_args(argv)
    if given.cfg and given.multirun:
        raise ConfigError("--cfg shows one config, and -m runs several: leave one out.")
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0].replace("-", "_")
        near = next((key for key in known if key == name or key.endswith(f".{name}")), None)
        refuse(f"there is no option {unknown[0]}{f', but a setting {near}=VALUE' if near else ''}")


def check_words(words: Sequence[str], known: Sequence[str], groups: Iterable[str]) -> None:
    """Refuses words that Hydra takes without a word and that do not do what they say.

    Args:
        words: of a command line
        known: dotted keys
        groups: of options

    Raises:
        ConfigError: a setting is taken out, which then has the value of its class, or one of Hydra's parts is a text
    """
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        whole = key in groups or any(name == key or name.startswith(f"{key}.") for name in known)
        if word.startswith("~") and whole:
            raise ConfigError(
                f"{word} is not possible: a setting always has a value and cannot be taken out: give {key}=VALUE, or "
                "leave the word away for the usual one."
            )
        if key in PARTS_OF_HYDRA and "=" in word:
            group = key.replace(".", "/")
            raise ConfigError(f"{word} is not possible: Hydra's are chosen as {group}=NAME, which goes with train -m.")
