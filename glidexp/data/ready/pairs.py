"""Picture files and their labels: found in pairs by a rule for their names, on the disk or in a ZIP."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.data.ready.layout import ENDINGS, Source, children
from glidexp.errors import ConfigError, DataError
from glidexp.wording import does, many


@dataclass(frozen=True, slots=True)
class Drawn:
    """A label that is drawn from outlines."""

    path: Path
    """file that holds them"""
    name: str
    """for messages"""
    draw: Callable[[int, int, tuple[tuple[float, ...] | None, str]], npt.NDArray[np.bool_]]
    """height, width, and transform and CRS of the image, to (H, W) True for lake"""

    def __str__(self) -> str:
        return self.name


FIELDS = ("id", "scene", "sensor", "region")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label, as files."""

    name: str
    """unique in a data set: what {id} stands for, after the scene where the rule has one"""
    number: int
    """last number in the name, -1 where there is none"""
    image: Source
    label: Source | Drawn
    said: dict[str, str] = field(default_factory=dict)
    """scene, sensor, region, as far as the rule finds them in the path"""

    @property
    def files(self) -> tuple[Path, Path]:
        """Where image and label lie on the disk; of a label that is drawn the file of its outlines."""
        label = self.label.path if isinstance(self.label, Drawn) else Path(str(self.label))
        return Path(str(self.image)), label


def find_pairs(root: Source, images: str = "images/{id}.*", labels: str = "labels/{id}.*") -> list[Pair]:
    """Pairs of files below `root` in the order of their numbers.

    Args:
        root: folder
        images: rule for paths of images from `root`: {id} is the name that both share, {scene}, {sensor} and {region}
            are taken over, * is anything within a folder, and .* at the end any of .png .jpg .jpeg .tif .tiff
        labels: rule for paths of labels

    Raises:
        DataError: nothing found, a picture without label or a label without picture, two files of one name
        ConfigError: a rule without {id}
    """
    if labels.lower().endswith((".json", ".geojson")):
        from glidexp.data.ready.annotations import pairs_of

        return pairs_of(root, images, labels)
    files = list(children(root))
    found = {
        setting: _matching(root, files, setting, rule)
        for setting, rule in (("dataset.images", images), ("dataset.labels", labels))
    }
    pictures, masks = found["dataset.images"], found["dataset.labels"]
    if not pictures and not masks:
        raise DataError(f"{root} holds no picture that fits '{images}': correct dataset.root or dataset.images.")
    alone = sorted(pictures.keys() ^ masks.keys())
    if alone:
        has, lacks = (pictures, labels) if alone[0] in pictures else (masks, images)
        raise DataError(
            f"{root}: {many(len(alone), 'file')} {does(len(alone), 'have')} no partner, first "
            f"{_shown(lacks, alone[0])} for {has[alone[0]][0]}: "
            "add it or remove both."
        )
    pairs = []
    for key, (_, said, image) in pictures.items():
        name = "/".join(filter(None, (said.get("scene", ""), key[0])))
        rest = {field: value for field, value in said.items() if field != "id"}
        pairs.append(Pair(name, number_of(name), image, masks[key][2], rest))
    return sorted(pairs, key=lambda pair: (pair.number, pair.name))


def images_of(root: Source, rule: str) -> dict[str, tuple[str, Source]]:
    """Images below `root` by what {id} stands for: path from it, and file."""
    found = _matching(root, children(root), "dataset.images", rule)
    return {key[0]: (path, file) for key, (path, _, file) in found.items()}


Key = tuple[str, ...]
"""what {id} and {scene} stand for"""


def _matching(root: Source, files: Iterable[tuple[str, Source]], setting: str, rule: str) -> dict[Key, Any]:
    pattern = _pattern(setting, rule)
    found: dict[Key, Any] = {}
    for path, file in files:
        fits = pattern.fullmatch(path)
        if fits:
            said = {name: value for name, value in fits.groupdict().items() if value is not None}
            key = (said["id"], said.get("scene", ""))
            if key in found:
                raise DataError(f"{root}: {found[key][0]} and {path} are both '{key[0]}' by {setting}={rule}.")
            found[key] = (path, said, file)
    return found


def _pattern(setting: str, rule: str) -> re.Pattern[str]:
    parts, seen = [], set()
    ending = rule.endswith(".*")
    for text in re.split(r"(\{\w+\}|\*)", rule.removesuffix(".*")):
        if text == "*":
            parts.append("[^/]*")
        elif text.startswith("{"):
            name = text[1:-1]
            if name not in FIELDS:
                raise ConfigError(f"{setting}={rule}: {text} is not known. Allowed: {{{'}, {'.join(FIELDS)}}}.")
            # an id may have folders in it
            inside = ".+?" if name == "id" else "[^/]+?"
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{inside})")
            seen.add(name)
        else:
            parts.append(re.escape(text))
    if "id" not in seen:
        raise ConfigError(f"{setting}={rule} has no {{id}}, the name that image and label share: 'img/{{id}}.jpg'.")
    if ending:
        parts.append(f"(?i:{'|'.join(re.escape(e) for e in ENDINGS)})")
    return re.compile("".join(parts))


def _shown(rule: str, key: Key) -> str:
    """A rule filled in; where any ending will do, .png."""
    return rule.replace("{id}", key[0]).replace("{scene}", key[1]).removesuffix(".*") + (
        ".png" if rule.endswith(".*") else ""
    )


def number_of(name: str) -> int:
    """Last number in a name, -1 where there is none."""
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1
