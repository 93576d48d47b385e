"""A config as it lies in a store that others read and write: no password goes there, and plain values come back.

What OmegaConf resolves, `${oc.env:NAME}` above all, would put this machine's environment into settings that are logged
again, to that store. Runs write values, so nothing is lost.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import yaml

from glidexp.config import Config
from glidexp.config.evaluation import EvaluateConfig
from glidexp.errors import DataError

Settings = TypeVar("Settings", Config, EvaluateConfig)


def without_secrets(uri: str) -> str:
    """The address without a user name and password, be they before the host or in its query."""
    bare = re.sub(r"(?<=://)[^/?#]*@", "", uri)
    return re.sub(r"(?i)(?<=[?&])([^=&]*(?:user|pass|secret|token|key)[^=&]*=)[^&#]*", r"\1", bare)


def public(config: Settings) -> Settings:
    """The config as others may read it: its address of the tracking store has no password."""
    uri = config.tracking.uri
    return replace(config, tracking=replace(config.tracking, uri=uri and without_secrets(uri)))


def read_values(text: str) -> Any:
    """What the text of a stored config, or of a logged list, holds: dicts, lists and values.

    Raises:
        DataError: it is no YAML, has an alias, or a value that refers to another (`${...}`)
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise DataError("it has an alias (*), which no run writes")  # a few of them unfold to gigabytes
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(" ".join(str(error).split()) or "it is nested too deeply") from None
    for name, value in _texts(found):
        if "${" in value:
            raise DataError(f"{name}={value[:60]} refers to something else, which the settings of a run do not")
    return found


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text, keys too, by where it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield name, str(key)
            yield from _texts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value
