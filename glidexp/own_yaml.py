"""YAML of the user's own, from `--config-dir FOLDER`: looked at before Hydra reads it.

Hydra takes an option of its own search path before the user's of the same name, an empty file for one that sets
nothing, a folder that is not there for an empty one, and says of what it does not take neither file nor line.
"""

import functools
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, KeyValidationError, OmegaConfBaseException

from glidexp.errors import ConfigError, GlidexpError, unknown_name
from glidexp.explaining import GROUPS, SWEEP_GROUPS, conf_dir, no_setting, schema_of, why_not

FLAGS = ("--config-dir", "-cd")
SEARCHED = "hydra.searchpath="
GLOBAL = "# @package _global_"
ODD_NUMBER = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9_]+(:[0-5]?[0-9])+")
"""plain scalars that YAML takes for numbers to the base of 8 and of 60"""


def config_dir(argv: Sequence[str]) -> Path | None:
    """The user's own folder of YAML, given by --config-dir FOLDER, --config-dir=FOLDER or -cd FOLDER.

    Raises:
        ConfigError: the flag without a folder
    """
    for place, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in FLAGS:
            given = value if equals else "".join(argv[place + 1 : place + 2])
            if not given:
                raise ConfigError(f"{name} needs a folder: of YAML of your own, laid out as conf/.")
            return Path(given).absolute()
    return None


def own_folders(argv: Sequence[str]) -> list[Path]:
    """The folders of YAML that words name: by a flag, or as places that Hydra searches."""
    named = config_dir(argv)
    searched = [word.removeprefix(SEARCHED) for word in argv if word.startswith(SEARCHED)]
    places = [
        found for value in searched for found in re.findall(r"'file://((?:[^'\\]|\\.)*)'|file://([^,\]]*)", value)
    ]
    return [
        *([named] if named else []),
        *(Path(re.sub(r"\\(.)", r"\1", quoted) or plain) for quoted, plain in places),
    ]


def search_word(folder: Path) -> str:
    """The word that makes Hydra search a folder."""
    place = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return f"{SEARCHED}['file://{place}']"


def check_own(folders: Sequence[Path], argv: Sequence[str], config_name: str) -> None:
    """Looks at the user's own folders, and at the files in them that words choose.

    Args:
        folders: from `own_folders`
        argv: the words
        config_name: train, evaluate or sweep

    Raises:
        ConfigError: a folder that is not there or would not be read, or a file with what no setting takes
    """
    if not folders:
        return
    other = any(word.split("=")[0] in ("--config-name", "-cn") for word in argv)
    for folder in folders:
        _check_folder(folder, other)
    met: set[Path] = set()
    for word in argv:
        group, equals, names = word.lstrip("+").partition("=")
        if equals and group in (*GROUPS, *SWEEP_GROUPS):
            for name in names.split(","):
                _check_option(folders, group, name.strip("'\""), config_name, met)


@functools.cache
def _check_folder(folder: Path, other: bool) -> None:
    """Refuses a folder that is none, in which no group is, or with an option that conf/ has and so keeps."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise ConfigError(f"--config-dir {folder} {what}: give a folder of YAML of your own, laid out as conf/.")
    groups = [name for name in (*GROUPS, *SWEEP_GROUPS, "hydra") if (folder / name).is_dir()]
    if not groups and not other:
        raise ConfigError(
            f"--config-dir {folder} has no folder of a group, such as experiment/ or study/, so nothing of it would be "
            "read: give the folder in which they are."
        )
    shipped = conf_dir()
    for file in (*sorted(folder.glob("*.yaml")), *(found for name in groups for found in _yaml(folder / name))):
        same = shipped / file.relative_to(folder)
        if same.is_file() and same.read_bytes() != file.read_bytes():
            raise ConfigError(f"{file} has the name of a file of conf/, which is read in its place: rename it.")


def _yaml(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.yaml"))


def _check_option(folders: Sequence[Path], group: str, name: str, config_name: str, met: set[Path]) -> None:
    """Checks the file of an option, and the options that its own defaults name."""
    for folder in folders:
        file = folder / group / f"{name}.yaml"
        if not file.is_file() and file.with_suffix(".yml").is_file():
            raise ConfigError(f"{file.with_suffix('.yml')} is not read: rename it to {file.name}.")
        if not file.is_file() or file in met:
            continue
        met.add(file)
        content, package = _read(file)
        for inner, option in _defaults(file, content, group, package):
            places = [place / inner for place in (conf_dir(), *folders)]
            known = {found.stem for place in places for found in place.glob("*.yaml")}
            _check_option(folders, inner, option, config_name, met)
            if option not in known:
                raise unknown_name(f"{file}: defaults: {inner}", option, known)
        if package is None and group == "experiment":
            raise ConfigError(f"{file} must begin with the line {GLOBAL}: an experiment sets what all groups hold.")
        if package not in (None, "_global_", "_group_"):
            continue
        path = () if package == "_global_" else (group,)
        own = {key: value for key, value in content.items() if key not in ("defaults", "hydra")}
        if path and group in own and group not in OmegaConf.structured(schema_of(config_name))[group]:
            raise ConfigError(f"{file} is of the group {group} already: write what stands below {group}: without it.")
        if fault := next(_faults(OmegaConf.structured(schema_of(config_name)), path, own), None):
            raise ConfigError(f"{file}: {fault}")


def _read(file: Path) -> tuple[dict[Any, Any], str | None]:
    """What a file holds, and the package that its head names.

    Raises:
        ConfigError: not to be read, no YAML, or not settings by name
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}): correct its rights.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text in UTF-8 (at byte {error.start}): save it in that encoding.") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if isinstance(root, yaml.MappingNode):
            _refuse_odd(file, root, ())
        content = OmegaConf.to_container(OmegaConf.load(io.StringIO(text))) if root else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        hint = "indent with spaces" if "\\t" in str(error.problem) else "correct it there"
        raise ConfigError(f"{file}{where} is no YAML: {error.problem}; {hint}.") from None
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(f"{file} is no YAML of settings: {reason}.") from None
    package = re.match(r"(?:\s*#[^\n]*\n)*?\s*#\s*@package\s+(\S+)", text)
    if not isinstance(root, yaml.MappingNode) or not isinstance(content, dict) or not content:
        what = "sets nothing" if root is None or content == {} else "holds no settings by name"
        raise ConfigError(f"{file} {what}: write a setting a line, as KEY: VALUE, or take the file out.")
    return content, package[1] if package else None


def _refuse_odd(file: Path, node: yaml.Node, around: tuple[yaml.Node, ...]) -> None:
    """Refuses numbers that YAML reads to another base: 010 would be 8, and 1:30 would be 90."""
    if any(node is one for one in around):
        raise ConfigError(f"{file}, line {node.start_mark.line + 1}: a part holds itself (&NAME and *NAME).")
    if isinstance(node, yaml.ScalarNode):
        if node.style is None and node.tag.endswith(":int") and ODD_NUMBER.fullmatch(node.value):
            raise ConfigError(
                f"{file}, line {node.start_mark.line + 1}: YAML reads {node.value} as the number "
                f"{yaml.safe_load(node.value)}: write that, or '{node.value}' where a text is meant."
            )
        return
    parts = node.value if isinstance(node, yaml.SequenceNode) else [one for pair in node.value for one in pair]
    for part in parts:
        _refuse_odd(file, part, (*around, node))


def _defaults(file: Path, content: Mapping[Any, Any], group: str, package: str | None) -> Iterator[tuple[str, str]]:
    """Groups and options that a file's list of defaults names.

    Raises:
        ConfigError: no list, or a group that is not there
    """
    entries = content.get("defaults", [])
    if not isinstance(entries, list):
        raise ConfigError(f"{file}: defaults={_shown(entries)} is not possible: it is a list, an entry a line (- ...).")
    known = [*GROUPS, *SWEEP_GROUPS]
    for entry in entries:
        if isinstance(entry, str) and entry != "_self_":
            yield group, entry
        for key, option in entry.items() if isinstance(entry, dict) else ():
            words = str(key).split("@")[0].split()
            inner = words[-1].lstrip("/") if words else ""
            if inner.startswith("hydra"):
                continue
            if inner not in known:
                raise unknown_name(f"{file}: defaults", inner, known)
            if "override" not in words and package == "_global_":
                raise ConfigError(f"{file}: defaults: {key}: {option} chooses a second one: write override /{inner}.")
            if isinstance(option, str):
                yield inner, option


def _faults(schema: DictConfig, path: tuple[str, ...], value: Any) -> Iterator[GlidexpError]:
    """What is wrong with a part of a file: the error of its innermost setting."""
    nested = value
    for key in reversed(path):
        nested = {key: nested}
    try:
        OmegaConf.merge(schema, nested)
        return
    except OmegaConfBaseException as error:
        told = error
    key = ".".join(path)
    if isinstance(value, dict) and value and next(_faults(schema, path, {}), None) is None:
        for name, inner in value.items():
            if not isinstance(name, str):
                yield ConfigError(f"{key}: the name {name} is no text: write it in quotes.")
                return
            yield from _faults(schema, (*path, name), inner)
    kind = getattr(told, "object_type", None)
    if isinstance(told, ConfigKeyError) and not isinstance(told, KeyValidationError) and is_dataclass(kind):
        yield no_setting(key, [".".join((*path[:-1], field.name)) for field in fields(kind)])
        return
    yield why_not(key, _shown(value), " ".join(str(told).split()))


def _shown(value: Any) -> str:
    """A value of a file, short."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
