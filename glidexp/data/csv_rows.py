"""Tables that users write: CSV in UTF-8, with or without the mark that spreadsheets put before it."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from glidexp.errors import DataError


def read_csv(path: Path, setting: str = "", known: Sequence[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """Columns of a table, and its rows; names and cells without space around them, "" where a row is too short.

    Args:
        path: of the table
        setting: that named it, for the message
        known: lower-case names of columns that are known in any case

    Raises:
        DataError: it cannot be read, or a known column is there twice
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = named_as_known(path, reader.fieldnames or (), known)
            reader.fieldnames = columns
            # what a row has beyond the columns stands under None
            return columns, [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        named = f"{setting}={path}" if setting else f"{path}"
        raise DataError(f"{named} cannot be read as a table in UTF-8: {error}.") from None


def named_as_known(path: Path, columns: Iterable[str], known: Sequence[str]) -> list[str]:
    """Names of columns, those that are known in any case as they are known: of 'Sensor' it is 'sensor'.

    Raises:
        DataError: a known one is there twice
    """
    found = [name.strip() for name in columns]
    found = [name.lower() if name.lower() in known else name for name in found]
    twice = next((name for name in known if found.count(name) > 1), None)
    if twice:
        raise DataError(f"{path} has the column '{twice}' twice: leave one.")
    return found
