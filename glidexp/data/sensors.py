"""The registry of sensors: open, read from YAML, extended by the user's own file."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from glidexp.errors import DataError, unknown_name

UNKNOWN = "unknown"
"""sensor of tiles that nobody knows more about"""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One entry of the registry."""

    name: str
    gsd_m: float
    """nominal ground sample distance of the multispectral bands, metres; NaN where unknown"""
    bands: tuple[str, ...]
    """lower-case names in the order in which the provider stacks them; empty where unknown"""


@cache
def _registry() -> dict[str, Sensor]:
    return _read(Path(__file__).with_name("sensors.yaml"))


def names() -> list[str]:
    """Every name the registry knows, sorted."""
    return sorted(_registry())


def get(name: str, setting: str = "dataset.sensor") -> Sensor:
    """The sensor of that name.

    Args:
        name: lower-case name of the registry
        setting: where the name was given, for the message

    Raises:
        ConfigError: not in the registry
    """
    if name not in _registry():
        raise unknown_name(setting, name, names())
    return _registry()[name]


def register_file(path: Path | str) -> list[str]:
    """Adds the sensors of a YAML file (`name: {gsd_m: 3.0, bands: [blue, green, red]}`) and returns their names.

    A name that is known already is replaced.

    Raises:
        DataError: unreadable, or a sensor without a positive gsd_m or with bands that are not names
    """
    added = _read(Path(path))
    _registry().update(added)
    return sorted(added)


def _read(path: Path) -> dict[str, Sensor]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read as a list of sensors: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds no sensors: write 'name: {{gsd_m: 3.0, bands: [blue, green, red]}}', one a line."
        )
    return {str(name): _sensor(path, str(name), value) for name, value in content.items()}


def _sensor(path: Path, name: str, value: Any) -> Sensor:
    gsd_m = value.get("gsd_m") if isinstance(value, dict) else None
    bands = value.get("bands", []) if isinstance(value, dict) else None
    if not isinstance(gsd_m, int | float) or isinstance(gsd_m, bool) or not (gsd_m > 0 or math.isnan(gsd_m)):
        raise DataError(f"{path}: {name}.gsd_m={gsd_m!r} must be a number of metres above 0 (.nan where unknown).")
    if not isinstance(bands, list) or not all(isinstance(band, str) for band in bands):
        raise DataError(f"{path}: {name}.bands={bands!r} must be a list of names in their order in the file.")
    return Sensor(name=name, gsd_m=float(gsd_m), bands=tuple(band.lower() for band in bands))
