"""Tables that users write: CSV in UTF-8, with or without the mark that spreadsheets put before it."""

import csv
from pathlib import Path

from glidexp.errors import DataError


def read_csv(path: Path, setting: str = "") -> tuple[list[str], list[dict[str, str]]]:
    """Columns of a table, and its rows; cells without space around them, "" where a row is too short.

    Args:
        path: of the table
        setting: that named it, for the message

    Raises:
        DataError: it cannot be read
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or ())
            # what a row has beyond the columns stands under None
            return columns, [{name: (row[name] or "").strip() for name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        named = f"{setting}={path}" if setting else f"{path}"
        raise DataError(f"{named} cannot be read as a table in UTF-8: {error}.") from None
