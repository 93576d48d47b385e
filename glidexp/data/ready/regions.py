"""The published transferability set: tiles by region, where a small layout file says where each region's tiles lie.

How the archive is laid out inside is not described by its publisher, so nothing is guessed: the layout is the user's.
"""

import dataclasses
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glidexp.config import DatasetConfig
from glidexp.data import sensors
from glidexp.data.ready.layout import Place, Source, describe
from glidexp.data.ready.members import open_zip
from glidexp.data.ready.pairs import Pair, find_pairs
from glidexp.data.ready.unpack import is_rar
from glidexp.errors import ConfigError, DataError

ARCHIVE = "Transferability validation.zip"
"""name of the file in the published record"""
KEYS = ("images", "labels", "sensor", "gsd_m")
APART = 10**9
"""between the numbers of two regions, so that no run of neighbouring numbers goes across"""


@dataclass(frozen=True, slots=True)
class RegionPlace:
    """Where the tiles of a region lie, and what is known of them."""

    name: str
    images: str
    """rule for paths below the set, as `dataset.images`"""
    labels: str
    sensor: str
    gsd_m: float
    """NaN where the layout leaves it to the sensor's registry"""


def read_layout(path: Path | str) -> tuple[RegionPlace, ...]:
    """The regions of a layout file, in its order.

    Raises:
        DataError: not YAML of the form `regions: {NAME: {images: ..., labels: ..., sensor: ..., gsd_m: ...}}`
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:120]
        raise DataError(f"dataset.layout={path} cannot be read as YAML: {reason}.") from None
    regions = content.get("regions") if isinstance(content, dict) else None
    if not isinstance(regions, dict) or not regions:
        raise DataError(f"{path} has no regions: write regions: {{NAME: {{images: FOLDER, labels: FOLDER}}}}.")
    return tuple(_region(path, str(name), entry) for name, entry in regions.items())


def _region(path: Path, name: str, entry: Any) -> RegionPlace:
    given = entry if isinstance(entry, dict) else {}
    strange = sorted(str(key) for key in given.keys() - {*KEYS})
    if strange or not all(isinstance(given.get(key), str) and given[key] for key in KEYS[:2]):
        what = f"does not know '{strange[0]}'" if strange else "needs images and labels"
        raise DataError(f"{path}: region {name} {what}. Allowed: {', '.join(KEYS)}, the first two are needed.")
    sensor = str(given.get("sensor", sensors.UNKNOWN))
    sensors.get(sensor, f"sensor of region {name} in {path}")
    gsd_m = given.get("gsd_m", math.nan)
    if isinstance(gsd_m, bool) or not isinstance(gsd_m, int | float) or gsd_m <= 0:
        raise DataError(f"{path}: gsd_m={gsd_m} of region {name} must be metres above 0.")
    images, labels = (
        rule if "{id}" in rule else f"{rule.strip('/')}/{{id}}.*" for rule in (given["images"], given["labels"])
    )
    return RegionPlace(name, images, labels, sensor, float(gsd_m))


def place_of(dataset: DatasetConfig) -> Path:
    """Folder or archive of the set: `dataset.root`, or the published file in it.

    Raises:
        DataError, ConfigError: it is not there, or no layout is given; says what to download and what to write
    """
    root = Path(dataset.root).expanduser() if dataset.root else None
    if root is None or not root.exists():
        where = f"dataset.root={root} does not exist" if root else "dataset.root is not given"
        raise DataError(
            f"the published transferability set is not there ({where}): download '{ARCHIVE}' from Zenodo record "
            "14838695 (https://zenodo.org/records/14838695), set dataset.root to it or to its folder, and "
            "dataset.layout to a YAML that says where the tiles of each region lie (docs/transfer.md). For the same "
            "studies dataset=synthetic has four generated regions."
        )
    found = root / ARCHIVE if (root / ARCHIVE).is_file() else root
    if not dataset.layout:
        raise ConfigError(
            f"dataset.layout is not given: write a YAML of regions: {{NAME: {{images: FOLDER, labels: FOLDER}}}} for "
            f"what lies in {found}: {'; '.join(describe(str(found)))}."
        )
    return found


def pairs_by_region(dataset: DatasetConfig, data_dir: Path) -> list[Pair]:
    """The pairs of every region, told which region, sensor and ground sample distance they are of.

    Raises:
        DataError, ConfigError: as of `place_of` and `read_layout`; a region without tiles, or with lone files
    """
    place = place_of(dataset)
    folder = _opened(place, data_dir)
    found = []
    for number, region in enumerate(read_layout(str(dataset.layout))):
        known = {"region": region.name, "sensor": region.sensor}
        known |= {} if math.isnan(region.gsd_m) else {"gsd_m": str(region.gsd_m)}
        for nth, pair in enumerate(find_pairs(folder, region.images, region.labels)):
            said = {**pair.said, **known}
            order = APART * number + (pair.number if pair.number >= 0 else nth)
            name = f"{region.name}/{pair.name}"
            found.append(dataclasses.replace(pair, name=name, number=order, said=said))
    return found


def files_of(dataset: DatasetConfig) -> list[Path]:
    """Files that decide the tiles: the archive, or the pictures and labels of a folder."""
    place = place_of(dataset)
    if place.is_file():
        return [place]
    files: list[Path] = []
    for region in read_layout(str(dataset.layout)):
        for pair in find_pairs(place, region.images, region.labels):
            files += pair.files
    return files


def _opened(place: Path, data_dir: Path) -> Source:
    if place.is_dir():
        return place
    if is_rar(place):
        return Place(place.stem, place).open(data_dir)
    return zipfile.Path(open_zip(place), "")
