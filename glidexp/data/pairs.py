"""Picture files and their labels: found in pairs and read with Pillow, which refuses truncated files."""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from glidexp.errors import DataError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label, as files."""

    name: str
    """file name without ending, unique in a data set"""
    number: int
    """last number in the name, -1 where there is none"""
    image: Path
    label: Path


def find_pairs(root: Path) -> list[Pair]:
    """Pairs of root/images/NAME.png and root/labels/NAME.png in the order of their numbers.

    Raises:
        DataError: a folder missing or empty, a picture without label or a label without picture
    """
    found = {}
    for part in ("images", "labels"):
        folder = root / part
        if not folder.is_dir():
            raise DataError(f"{folder} is not there: dataset.root must hold images/N.png and labels/N.png.")
        found[part] = {path.stem: path for path in folder.iterdir() if path.suffix.lower() == ".png"}
    images, labels = found["images"], found["labels"]
    alone = sorted(images.keys() ^ labels.keys())
    if alone:
        lacking = "labels" if alone[0] in images else "images"
        raise DataError(
            f"{root}: {len(alone)} files have no partner, first {lacking}/{alone[0]}.png: add it or remove both."
        )
    if not images:
        raise DataError(f"{root / 'images'} holds no PNG: give another dataset.root.")
    pairs = [Pair(name, _number(name), images[name], labels[name]) for name in images]
    return sorted(pairs, key=lambda pair: (pair.number, pair.name))


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


def read_pair(pair: Pair) -> tuple[npt.NDArray[np.uint8], Mask, Mask, int]:
    """A picture and its label.

    Returns:
        image (H, W, 3) uint8, valid (H, W), lake (H, W), number of label pixels that were neither black nor white

    Raises:
        DataError: damaged, another kind of picture, sizes that differ, values that are no mask
    """
    image, valid = read_image(pair.image)
    lake, grey = read_label(pair.label)
    if lake.shape != valid.shape:
        raise DataError(
            f"{pair.label} is {lake.shape[1]} x {lake.shape[0]} px, its image {valid.shape[1]} x {valid.shape[0]}: "
            "both must cover the same ground."
        )
    return image, valid, lake, grey


def read_image(path: Path) -> tuple[npt.NDArray[np.uint8], Mask]:
    """(H, W, 3) uint8 and (H, W) valid; transparent pixels are not valid."""
    pixels, mode = _read(path)
    if mode not in ("RGB", "RGBA"):
        raise DataError(f"{path} is a picture of mode {mode}, not RGB of 8 bit: convert it first.")
    valid = pixels[:, :, 3] > 0 if mode == "RGBA" else np.ones(pixels.shape[:2], dtype=bool)
    return np.ascontiguousarray(pixels[:, :, :3]), valid


def read_label(path: Path) -> tuple[Mask, int]:
    """(H, W) True for lake, and the number of grey pixels.

    0 and 1, or 0 and 255; edges that a lossy step made grey are lake above 127.
    """
    pixels, mode = _read(path)
    if mode not in ("1", "L"):
        raise DataError(f"{path} is a picture of mode {mode}: a label has one channel of 0 and 255.")
    if mode == "1":
        return pixels.astype(bool), 0
    highest = int(pixels.max())
    if highest <= 1:
        return pixels == 1, 0
    if highest < 128:
        raise DataError(f"{path} holds values up to {highest}: a label has 0 and 255 (or 0 and 1).")
    return pixels > 127, int(((pixels > 0) & (pixels < 255)).sum())


def _read(path: Path) -> tuple[npt.NDArray[np.uint8], str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return np.asarray(picture), picture.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}; fetch it again.") from None
