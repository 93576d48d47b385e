"""The list of source scenes that comes with the published record (`Optical_images_source.xlsx`): read, counted, kept.

Its columns are not described by the record, so none is guessed: every sheet is taken as it is, and cells that name a
sensor of the registry are counted.
"""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.beside import write_text
from glidexp.data import sensors
from glidexp.data.ready.members import open_zip
from glidexp.errors import DataError
from glidexp.wording import many

if TYPE_CHECKING:
    import pandas as pd

SOURCES = "source_scenes.csv"
SHORT = {"GF": "gaofen", "WV": "worldview"}
"""how providers write a platform's name in products"""


def read_source_list(path: Path) -> "pd.DataFrame":
    """Every row of every sheet, with the sheet's name in the first column `in_sheet`; columns as they are named there.

    Raises:
        DataError: no workbook that GDAL reads, one without a row, or one that would unpack to too much
    """
    import pandas as pd
    import pyogrio

    open_zip(path).close()  # which judges what it would unpack to
    try:
        names = [str(name) for name, _ in pyogrio.list_layers(path)]
        sheets = [pyogrio.read_dataframe(path, layer=name, read_geometry=False) for name in names]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a workbook: {' '.join(str(error).split())}") from None
    for name, sheet in zip(names, sheets, strict=True):
        sheet.insert(0, "in_sheet", name)
    if not sum(map(len, sheets)):
        raise DataError(f"{path} holds no row: {len(names)} sheets.")
    return pd.concat([sheet for sheet in sheets if len(sheet)], ignore_index=True)


def sensor_counts(table: "pd.DataFrame") -> dict[str, int]:
    """Rows by the first sensor of the registry that a cell of theirs names; rows that name none are not counted."""
    found = Counter(next(filter(None, map(_sensor, row)), "") for row in table.astype(str).to_numpy().tolist())
    return {name: found[name] for name in sorted(found) if name}


def described(path: Path) -> str:
    """What the list holds, in one line; why not, where it cannot be read."""
    try:
        table = read_source_list(path)
    except DataError as error:
        return f"the list of source scenes is left aside: {error}"
    columns = ", ".join(map(str, table.columns[1:]))
    counts = ", ".join(f"{name} {n}" for name, n in sensor_counts(table).items()) or "none of a known sensor"
    return (
        f"{many(len(table), 'source scene')} ({counts}) with the columns {columns}; it names no tile, so none "
        "gets a scene"
    )


def keep(path: Path, folder: Path) -> Path | None:
    """Writes the list as `source_scenes.csv` into an existing folder; None where it cannot be read."""
    try:
        table = read_source_list(path)
    except DataError:
        return None
    write_text(folder / SOURCES, table.to_csv(index=False, lineterminator="\n"))
    return folder / SOURCES


def _sensor(cell: str) -> str:
    text = re.sub(r"^(GF|WV)-?0?(?=\d)", lambda found: SHORT[found[1]], cell.strip())
    return sensors.of_product(re.sub(r"_.*", "", text) if text != cell.strip() else text)
