"""A section of settings as plain values. A plan of a study asks hundreds of times, so values that are what their field
says are taken as they are; OmegaConf, which takes 50 times as long, is asked where one is not.
"""

import functools
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf

Plain = Callable[[Any], Any]


class _Other(Exception):
    """A value that is not what its field says, such as a whole number for a float: OmegaConf makes it that."""


def to_dict(section: Any) -> dict[str, Any]:
    """The section as plain nested dicts, lists and values that JSON and YAML can hold."""
    kind: Any = type(section)
    try:
        found: dict[str, Any] = _section(kind)(section)
    except _Other:
        return by_omegaconf(section)
    return found


def by_omegaconf(section: Any) -> dict[str, Any]:
    """The same by way of OmegaConf, which says what it is."""
    plain = OmegaConf.to_container(OmegaConf.structured(section), enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def flat(section: Any) -> dict[str, Any]:
    """The section as dotted keys: `{"train.epochs": 12, ...}`. Lists stay lists; an empty dict shows as {}."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            found[prefix] = value

    walk("", to_dict(section))
    return found


@functools.cache
def _section(kind: type) -> Plain:
    """What makes a dict of an object of this class."""
    if not is_dataclass(kind):
        return _other
    hints = get_type_hints(kind)
    parts = [(field.name, _of(hints[field.name])) for field in fields(kind)]

    def plain(value: Any) -> dict[str, Any]:
        if type(value) is not kind:
            raise _Other
        return {name: part(getattr(value, name)) for name, part in parts}

    return plain


def _other(value: Any) -> Any:
    raise _Other


def _of(hint: Any) -> Plain:
    """What makes a value of a field with this annotation plain."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _either([_of(one) for one in inner])
    if origin in (list, dict):
        return _many(origin, _of(inner[-1]))
    if not isinstance(hint, type):  # Any
        return _other
    if is_dataclass(hint):
        return _section(hint)
    return _value(hint)


def _value(kind: type) -> Plain:
    named = issubclass(kind, Enum)

    def plain(value: Any) -> Any:
        if not _is(value, kind) or (kind is str and "$" in value):  # which OmegaConf may read as more than text
            raise _Other
        return value.name if named else value

    return plain


def _is(value: Any, kind: type) -> bool:
    """Exactly of this class; a function of its own, as mypy would take the value for an object from there on."""
    return type(value) is kind


def _either(parts: list[Plain]) -> Plain:
    def plain(value: Any) -> Any:
        for part in parts:
            try:
                return part(value)
            except _Other:
                continue
        raise _Other

    return plain


def _many(kind: type, part: Plain) -> Plain:
    def plain(value: Any) -> Any:
        if not _is(value, kind):
            raise _Other
        if kind is dict:
            if any(type(key) is not str for key in value):
                raise _Other
            return {key: part(one) for key, one in value.items()}
        return [part(one) for one in value]

    return plain
