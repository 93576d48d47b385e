"""The features of a vector file: GDAL's drivers, and GeoParquet, which the GDAL of the wheels cannot read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import pyogrio.errors
import shapely

from glidexp.errors import DataError

PARQUET = (".parquet", ".geoparquet", ".pq")
GROUND = "ground"
"""layer of the ground that was mapped, beside the lakes of a map"""


@dataclass(frozen=True, slots=True)
class Features:
    """What was read of a layer."""

    crs: str | None
    """as the file says it"""
    numbers: npt.NDArray[np.int64]
    """of each feature in the file"""
    geometries: npt.NDArray[np.object_]
    """without Z; None where a feature has none or one that cannot be read"""
    values: dict[str, npt.NDArray[Any]]
    """by column, those asked for"""


def columns_of(path: Path, setting: str) -> list[str]:
    """Names of the columns of a file's first layer, the geometry's left out.

    Raises:
        DataError: it cannot be read as features
    """
    if path.suffix.lower() in PARQUET:
        frame = _frame(path, setting)
        return [str(name) for name in frame.columns if name != frame.geometry.name]
    try:
        return [str(name) for name in pyogrio.read_info(path, layer=0)["fields"]]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise _unreadable(path, setting, error) from None


def layers_of(path: Path) -> list[str]:
    """Names of the layers of a readable file that may hold polygons, the one that is read first.

    Tables without geometry, points, lines, and the ground of a map are left out.
    """
    if path.suffix.lower() in PARQUET:
        return []
    (first, _), *others = pyogrio.list_layers(path).tolist()
    areal = [name for name, kind in others if kind and "Point" not in kind and "Line" not in kind and name != GROUND]
    return [first, *areal]


def read_features(path: Path, setting: str, columns: list[str]) -> Features:
    """Reads the first layer of a file.

    Args:
        path: any vector file
        setting: config key that named it, for messages
        columns: to be read, beside the geometry

    Raises:
        DataError: it cannot be read as features
    """
    if path.suffix.lower() in PARQUET:
        frame = _frame(path, setting)
        crs = frame.crs.to_wkt() if frame.crs else None
        shapes = shapely.force_2d(np.asarray(frame.geometry, dtype=object))
        return Features(crs, np.arange(len(frame)), shapes, {name: frame[name].to_numpy() for name in columns})
    try:
        meta, fids, wkb, values = pyogrio.raw.read(path, layer=0, columns=columns, force_2d=True, return_fids=True)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise _unreadable(path, setting, error) from None
    # a driver gives columns in the order of the file
    by_name = dict(zip(meta["fields"].tolist(), values, strict=True))
    with np.errstate(invalid="ignore"):  # coordinates that are no numbers are met by who takes the geometries
        geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    return Features(meta["crs"], fids, geometries, by_name)


def _frame(path: Path, setting: str) -> Any:
    import geopandas

    try:
        with np.errstate(invalid="ignore"):  # as below
            return geopandas.read_parquet(path)
    except (ValueError, OSError) as error:  # a plain Parquet, a damaged one
        raise _unreadable(path, setting, error) from None


def _unreadable(path: Path, setting: str, error: Exception) -> DataError:
    if path.is_dir():  # one of shapefiles, or a geodatabase, can be read
        return DataError(f"{setting}={path} is a folder that cannot be read as polygons: name a file in it.")
    # what pyogrio says after that is for callers from Python
    text = " ".join(str(error).split()).partition("; It might help")[0].rstrip(".")
    return DataError(f"{setting}={path} cannot be read as polygons: {text[:200]}.")
