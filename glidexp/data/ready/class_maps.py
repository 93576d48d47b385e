"""Land cover of several classes: a table of the classes, and label maps that hold their numbers or colours.

For training an encoder before it meets lakes. The published sets differ in their classes and in how they paint them, so
the table says both; a value or colour that it does not name is refused, as nobody would see it later.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glidexp.data.csv_rows import read_csv
from glidexp.data.ready.layout import Source
from glidexp.data.ready.pairs import Drawn, Pair
from glidexp.data.ready.pictures import check_holds_a_tile, check_same_size, opened, read_bytes, read_image
from glidexp.data.sensors import RGB
from glidexp.data.store import INVALID
from glidexp.data.writer import Tile, measured
from glidexp.errors import DataError
from glidexp.wording import many

MOST = 200
"""classes; a label is a byte"""
LEAST_KNOWN = 0.5
"""share of a tile's pixels that must have a class; else it is left out"""


@dataclass(frozen=True, slots=True)
class ClassTable:
    """Classes of a set of label maps."""

    names: tuple[str, ...]
    """in the order of the table; a label is a place in it"""
    codes: dict[int, int]
    """what a file holds, a value or red << 16 | green << 8 | blue, to the label; 255 where the class is not known"""
    coloured: bool


def read_table(path: Path | str) -> ClassTable:
    """The classes of a CSV: columns name and value, or name, red, green and blue; a row a value or colour.

    Rows of one name are one class. A row without a name is ground of no known class: it neither teaches nor counts.

    Raises:
        DataError: not such a table, fewer than two classes, a value twice
    """
    path = Path(path)
    columns, rows = read_csv(path, "dataset.classes")
    known = {column.strip().lower() for column in columns}
    coloured = "value" not in known
    wanted = RGB if coloured else ("value",)
    if not {"name", *wanted} <= known:
        raise DataError(f"{path} must have the columns name and value, or name, red, green and blue.")
    names: list[str] = []
    codes: dict[int, int] = {}
    for number, row in enumerate(rows, 2):
        texts = {column.strip().lower(): text for column, text in row.items()}
        name = re.sub(r"[\s/]+", "_", texts["name"].lower())
        if not all(texts[key].isdecimal() and int(texts[key]) <= 255 for key in wanted):
            raise DataError(f"{path}, line {number}: {', '.join(wanted)} must be whole numbers from 0 to 255.")
        if not re.fullmatch(r"[\w.-]*", name):
            raise DataError(f"{path}, line {number}: the name '{texts['name']}' must be letters, digits, - and _.")
        code = int.from_bytes(bytes(int(texts[key]) for key in wanted))
        if code in codes:
            raise DataError(f"{path}, line {number}: {' '.join(texts[key] for key in wanted)} stands there twice.")
        if name and name not in names:
            names.append(name)
        codes[code] = names.index(name) if name else INVALID
    if not 2 <= len(names) <= MOST:
        raise DataError(f"{path} names {many(len(names), 'class')}: from 2 to {MOST} are possible.")
    return ClassTable(tuple(names), codes, coloured)


def read_labels(path: Source, table: ClassTable) -> npt.NDArray[np.uint8]:
    """The label of every pixel of a class map, (H, W), 255 where no class is known.

    Raises:
        DataError: damaged, another kind of picture than the table says, a value or colour that is not in it
    """
    with opened(path, read_bytes(path)) as picture:
        kinds = ("RGB", "RGBA", "P") if table.coloured else ("L", "P", "1")
        if picture.mode not in kinds:
            what = "red, green and blue of 8 bit" if table.coloured else "one channel of 8 bit"
            raise DataError(f"{path} is a picture of mode {picture.mode}: dataset.classes speaks of {what}.")
        pixels = np.asarray(picture.convert("RGB") if table.coloured else picture)
    flat = pixels.astype(np.int64)
    if table.coloured:
        flat = flat @ np.array([1 << 16, 1 << 8, 1])
    found, place = np.unique(flat, return_inverse=True)
    unknown = [int(code) for code in found if int(code) not in table.codes]
    if unknown:
        said = [" ".join(str(part) for part in code.to_bytes(3)) if table.coloured else str(code) for code in unknown]
        raise DataError(
            f"{path} holds {'the colour' if table.coloured else 'the value'} {said[0]}, which dataset.classes does not "
            f"name ({len(unknown)} such in all): add a row; without a name its pixels do not count."
        )
    labels = np.array([table.codes[int(code)] for code in found], dtype=np.uint8)
    return labels[place].reshape(flat.shape)


@dataclass(frozen=True, slots=True)
class Mapped:
    """An image and its class map, cut."""

    image: npt.NDArray[np.uint8]
    """(H, W, 3), whole"""
    tiles: list[tuple[int, int, Tile]]
    """row and column in the image, pixels, and the tile"""
    left_out: int
    """tiles of which too little has a class"""
    transform: tuple[float, ...] | None
    crs: str


def cut_pair(pair: Pair, table: ClassTable, px: int) -> Mapped:
    """Cuts an image and its class map into a grid of tiles from the upper left corner; what is beyond it is left out.

    Raises:
        DataError: damaged, sizes that differ, smaller than a tile, a class that is not known
    """
    if isinstance(pair.label, Drawn):
        raise DataError(f"{pair.label} is a file of outlines: dataset.classes needs class maps, a picture an image.")
    picture, label = read_image(pair.image), read_labels(pair.label, table)
    height, width = label.shape
    check_same_size(pair, picture, label)
    check_holds_a_tile(pair, (height, width), px)
    if picture.valid is not None:
        label = np.where(picture.valid, label, np.uint8(INVALID))
    tiles, left_out = [], 0
    for row in range(0, height - px + 1, px):
        for col in range(0, width - px + 1, px):
            part = (slice(row, row + px), slice(col, col + px))
            tile = measured(picture.image[part], label[part])
            if tile.valid_px < LEAST_KNOWN * px * px:
                left_out += 1
            else:
                tiles.append((row, col, tile))
    return Mapped(picture.image, tiles, left_out, picture.transform, picture.crs)
