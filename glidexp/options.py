"""Options of a verb, read from the command line."""

import argparse
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from glidexp.beside import flushed, together
from glidexp.errors import ConfigError, GlidexpError
from glidexp.wording import legible


class Parser(argparse.ArgumentParser):
    """Options of a verb; a wrong one is told in one line, as every other mistake."""

    def error(self, message: str) -> NoReturn:
        """Raises GlidexpError."""
        raise GlidexpError(f"{self.prog.removeprefix('glidexp ')}: {message}. What it takes: {self.prog} --help.")


def filled(text: str) -> str:
    """Type of an argument that names a place: an unset variable of the shell must not become the current folder, and
    what cannot be written down is told before any work."""
    if not text.strip():
        raise argparse.ArgumentTypeError("nothing is given: a variable of the shell may not be set")
    if (name := legible(text)) != text:
        raise argparse.ArgumentTypeError(f"'{name}' is not in UTF-8: give a name that is")
    return text


def above_0(text: str) -> float:
    """Type of an argument that is a limit."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def store_options(parser: argparse.ArgumentParser) -> None:
    """Adds --mlruns and --uri, which together name a tracking store (`tracking.store.store_at`)."""
    parser.add_argument("--mlruns", default="mlruns", help="folder of the tracking store (default: mlruns)")
    parser.add_argument("--uri", default=None, help="tracking address, when it is not the folder's own")


def data_option(parser: argparse.ArgumentParser) -> None:
    """Adds --data, below which tile stores lie."""
    parser.add_argument(
        "--data", default="data", metavar="FOLDER", help="folder of tile stores, paths.data (default: data)"
    )


@contextmanager
def out_folder(folder: Path) -> Iterator[None]:
    """Whatever the disk refuses in here is told of the folder that --out names.

    Raises:
        ConfigError: it cannot be written to
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"--out={folder} cannot be written to ({error.strerror or error}): give another folder."
        ) from None


def write_out(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Writes files that belong together into the folder that --out names; gives their places.

    Args:
        folder: made where it is not there
        files: contents by name, first the one that is looked for

    Raises:
        ConfigError: it cannot be written to; earlier files are as they were
    """
    paths = [folder / name for name in files]
    with out_folder(folder), together(paths) as places:
        for place, content in zip(places, files.values(), strict=True):
            flushed(place, content)
    return paths
