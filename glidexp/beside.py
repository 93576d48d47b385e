"""A file is written beside its place and renamed into it: no reader meets half of one, a failure leaves the old."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Gives a hidden name in the same folder, with the same ending, to write to; renames it when the block ends well.

    Args:
        path: where the file is to be; its folder is made where it is missing

    Raises:
        OSError: the folder cannot be made or the file not renamed; what was written is removed, as after any error
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield place
        os.replace(place, path)
    finally:
        place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 beside and renames.

    Args:
        path: where the file is to be
        text: all of it
    """
    with beside(path) as place:
        place.write_text(text, encoding="utf-8")


def sweep(path: Path) -> None:
    """Removes what killed processes left beside a file; nobody else may be writing it.

    Args:
        path: that they would have written
    """
    for left in path.parent.glob(f".*.{escape(path.name)}*"):
        if left.name.split(".")[1].isdigit():
            left.unlink(missing_ok=True)
