"""The registry of sensors: open, read from YAML, extended by the user's own file."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from glidexp.errors import DataError, unknown_name

UNKNOWN = "unknown"
"""sensor of tiles that nobody knows more about"""
RGB = ("red", "green", "blue")
"""bands where nobody names others"""


@dataclass(frozen=True, slots=True)
class Sensor:
    """One entry of the registry."""

    name: str
    gsd_m: float
    """nominal ground sample distance of the multispectral bands, metres; NaN where unknown"""
    bands: tuple[str, ...]
    """lower-case names in the order in which the provider stacks them; empty where unknown"""
    codes: tuple[str, ...] = ()
    """codes of the bands in file names (B4, B08), in the same order; empty where no file a band is known"""
    product: str = ""
    """pattern for the beginning of the names of the provider's products"""

    def band_of(self, code: str) -> str:
        """Name of the band with this code, any case, leading zeros or not; "" where there is none."""
        plain = _plain(code)
        return next((b for b, own in zip(self.bands, self.codes, strict=False) if _plain(own) == plain), "")


@cache
def _shipped() -> dict[str, Sensor]:
    return _read(Path(__file__).with_name("sensors.yaml"))


@cache
def _registry() -> dict[str, Sensor]:
    return dict(_shipped())


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


def of_product(name: str) -> str:
    """The sensor that a product's name or a platform (landsat-8, sentinel-2a) tells; "" where it tells none."""
    for sensor in _registry().values():
        if sensor.product and re.match(sensor.product, name):
            return sensor.name
    plain = re.sub("[^a-z0-9]", "", name.lower())
    known = [sensor for sensor in names() if re.fullmatch(f"{sensor}[a-d]?", plain)]
    return known[0] if known and known[0] != UNKNOWN else ""


def register_file(path: Path | str) -> list[str]:
    """Adds the sensors of a YAML file (`name: {gsd_m: 3.0, bands: [blue, green, red]}`) and returns their names.

    A name that is known already is replaced.

    Raises:
        DataError: unreadable, or a sensor without a positive gsd_m or with bands that are not names
    """
    added = _read(Path(path))
    add(added.values())
    return sorted(added)


def add(added: Iterable[Sensor]) -> None:
    """Adds sensors, as of `own` of another process; a name that is known already is replaced."""
    _registry().update({sensor.name: sensor for sensor in added})


def own() -> tuple[Sensor, ...]:
    """What was added here: other processes and machines do not know it unless it is sent along."""
    return tuple(sensor for name, sensor in _registry().items() if _shipped().get(name) is not sensor)


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
    codes, product = value.get("codes", []), value.get("product", "")
    if not isinstance(codes, list) or not all(isinstance(c, str) for c in codes) or len(codes) not in (0, len(bands)):
        raise DataError(f"{path}: {name}.codes={codes!r} must be a list of as many codes as there are bands.")
    if not isinstance(product, str) or not _is_pattern(product):
        raise DataError(f"{path}: {name}.product={product!r} must be a pattern for the beginning of a file's name.")
    lower = tuple(band.lower() for band in bands)
    return Sensor(name=name, gsd_m=float(gsd_m), bands=lower, codes=tuple(codes), product=product)


def _plain(code: str) -> str:
    return re.sub(r"(?<=[A-Z])0+(?=\d)", "", code.upper())


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def rgb_of(bands: Sequence[str]) -> list[int]:
    """Channels that are shown as red, green and blue: those of these names, else the first three, else the first."""
    if {*RGB} <= {*bands}:
        return [list(bands).index(colour) for colour in RGB]
    return [0, 1, 2] if len(bands) > 2 else [0, 0, 0]
