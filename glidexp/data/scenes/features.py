"""The features of a vector file: GDAL's drivers, and GeoParquet, which the GDAL of the wheels cannot read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyogrio
import pyogrio.errors
import shapely

from glidexp.errors import DataError

T = TypeVar("T")
PARQUET = (".parquet", ".geoparquet", ".pq")
_NO_LOCKS = set[Path]()
"""folders whose file system refused them to this process"""
REFUSALS = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
"""of GDAL, as pyogrio raises them"""
REFERRING = (
    b"<OGRVRTDataSource",
    b"<OGRWFSDataSource",
    b"<OGROAPIFDataSource",
    b"<OGRCSWDataSource",
    b"gdal_streamed_alg",
)
"""signs by which GDAL knows a text that names other sources, whatever its ending"""
HEAD_BYTES = 65536
GROUND = "ground"
"""layer of the ground that was mapped, beside the lakes of a map"""
TILES = "tiles"
"""layer of the tiles that lakes were doubted on, beside these lakes (`glidexp data suspects`)"""


@dataclass(frozen=True, slots=True)
class Features:
    """What was read of a layer."""

    crs: str | None
    """as the file says it; None where it says no place on Earth"""
    numbers: npt.NDArray[np.int64]
    """of each feature in the file"""
    geometries: npt.NDArray[np.object_]
    """without Z; None where a feature has none or one that cannot be read"""
    values: dict[str, npt.NDArray[Any]]
    """by column, those asked for"""


def refers(head: bytes) -> bool:
    """Whether a file that begins so is a text by which GDAL goes to other files or addresses."""
    return any(sign in head for sign in REFERRING)


def _check_plain(path: Path | str) -> None:
    """Refuses such a text under the ending of something else. Of a ZIP's members it is asked as they are listed.

    Raises:
        DataError: names the file
    """
    if Path(path).suffix.lower() == ".vrt" or not Path(path).is_file():
        return
    try:
        with Path(path).open("rb") as stream:
            found = refers(stream.read(HEAD_BYTES))
    except OSError:  # told by who reads it
        return
    if found:
        raise DataError(f"{path} holds no features but names other files or addresses: take what it names.")


@contextmanager
def without_locks() -> Iterator[None]:
    """Inside, GDAL asks for no locks of GeoPackages, which many network drives do not keep: for what nobody changes."""
    pyogrio.set_gdal_config_options({"SQLITE_USE_OGR_VFS": "YES"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"SQLITE_USE_OGR_VFS": None})


def _unlocked(read: Callable[..., T], path: Path | str, setting: str, **options: Any) -> T:
    """What it gives; once more without locks where the file system refused them, after 10 s for the first file.

    Raises:
        DataError: GDAL cannot read it
    """
    _check_plain(path)
    try:
        if Path(path).parent not in _NO_LOCKS:
            return read(path, **options)
    except REFUSALS as error:
        if "locked" not in str(error):
            raise _unreadable(path, setting, error) from None
        _NO_LOCKS.add(Path(path).parent)
    try:
        with without_locks():
            return read(path, **options)
    except REFUSALS as error:
        raise _unreadable(path, setting, error) from None


def columns_of(path: Path, setting: str, layer: int = 0) -> list[str]:
    """Names of the columns of a layer, the geometry's left out.

    Raises:
        DataError: it cannot be read as features
    """
    if path.suffix.lower() in PARQUET:
        frame = _frame(path, setting)
        return [str(name) for name in frame.columns if name != frame.geometry.name]
    return [str(name) for name in _unlocked(pyogrio.read_info, path, setting, layer=layer)["fields"]]


def layer_of(path: Path | str, setting: str, named: str | None = None) -> int:
    """The layer of polygons of a file, a folder or a ZIP of files: the one that is named, else the only one.

    Tables without geometry, points, lines, what we write beside lakes (ground, tiles), and of several also empty layers
    are left out.

    Args:
        path: any vector file
        setting: config key or option that named it; the one beside it (`layer_setting`) names the layer
        named: in any case where no other layer is called so

    Returns:
        its place, from 0

    Raises:
        DataError: it cannot be read as features, has no such layer, or several that may hold polygons
    """
    if str(path).lower().endswith(PARQUET):
        if named:
            raise DataError(f"{layer_setting(setting)}={named}: {path} has no layers, so leave it out.")
        return 0
    found = layers_of(path, setting)
    names = [name for name, _ in found]
    if named:
        met = [name for name in names if name == named] or [name for name in names if name.lower() == named.lower()]
        if len(met) != 1:
            raise DataError(f"{layer_setting(setting)}={named} is no layer of {path}: it has {', '.join(names)}.")
        return names.index(met[0])
    flat = [i for i, (_, kind) in enumerate(found) if not kind or "Point" in kind or "Line" in kind]
    areal = [i for i, name in enumerate(names) if i not in flat and name not in (GROUND, TILES)]
    if len(areal) > 1:
        areal = [i for i in areal if _unlocked(pyogrio.read_info, path, setting, layer=i)["features"]] or areal[:1]
    if len(areal) > 1:
        several = ", ".join(names[i] for i in areal)
        raise DataError(
            f"{setting}={path} has several layers that may hold polygons ({several}): name one with "
            f"{layer_setting(setting)}."
        )
    return areal[0] if areal else 0


def layers_of(path: Path | str, setting: str) -> list[tuple[str, str | None]]:
    """Layers of a file: name, and the kind of geometry that each holds: Polygon, Unknown (any) ..., None.

    Raises:
        DataError: it cannot be read as features
    """
    return [(str(name), kind) for name, kind in _unlocked(pyogrio.list_layers, path, setting).tolist()]


def layer_setting(setting: str) -> str:
    """What names the layer of the file that `setting` names: dataset.lakes_layer, --glaciers-layer, --old-layer."""
    if setting.startswith("dataset."):
        return f"{setting}_layer"
    return f"--{setting.removeprefix('--').lower()}-layer"


def read_features(path: Path | str, setting: str, columns: list[str], layer: int = 0) -> Features:
    """Reads a layer of a file.

    Args:
        path: any vector file
        setting: config key that named it, for messages
        columns: to be read, beside the geometry
        layer: its place, as `layer_of` gives it

    Raises:
        DataError: it cannot be read as features
    """
    if str(path).lower().endswith(PARQUET):
        frame = _frame(path, setting)
        crs = _placed(frame.crs.to_wkt() if frame.crs else None)
        shapes = shapely.force_2d(np.asarray(frame.geometry, dtype=object))
        return Features(crs, np.arange(len(frame)), shapes, {name: frame[name].to_numpy() for name in columns})
    meta, fids, wkb, values = _unlocked(
        pyogrio.raw.read, path, setting, layer=layer, columns=columns, force_2d=True, return_fids=True
    )
    if wkb is None:
        raise DataError(f"{setting}={path} holds no geometry: give outlines, in a CSV as WKT in a column WKT.")
    # a driver gives columns in the order of the file
    by_name = dict(zip(meta["fields"].tolist(), values, strict=True))
    place = Path(path)
    if place.suffix.lower() == ".shp" and not any(place.with_suffix(end).is_file() for end in (".cpg", ".CPG")):
        by_name = {name: _as_written(column) for name, column in by_name.items()}
    with np.errstate(invalid="ignore"):  # coordinates that are no numbers are met by who takes the geometries
        geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    return Features(_placed(meta["crs"]), fids, geometries, by_name)


def _placed(crs: str | None) -> str | None:
    """A CRS that says where on Earth it is; None of a plan's own metres, as GeoPackages write what has no CRS."""
    return None if crs and crs.startswith(("LOCAL_CS[", "ENGCRS[", "ENGINEERINGCRS[")) else crs


def _as_written(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Text of a shapefile that does not say its encoding: UTF-8 where all of it is that, else as it was read."""
    if column.dtype != object:
        return column
    try:
        texts = [one.encode("latin-1").decode("utf-8") if isinstance(one, str) else one for one in column]
    except UnicodeError:
        return column
    found = np.empty(len(texts), dtype=object)
    found[:] = texts
    return found


def _frame(path: Path | str, setting: str) -> Any:
    import geopandas

    try:
        with np.errstate(invalid="ignore"):  # as below
            return geopandas.read_parquet(path)
    except (ValueError, OSError) as error:  # a plain Parquet, a damaged one
        raise _unreadable(path, setting, error) from None


def _unreadable(path: Path | str, setting: str, error: Exception) -> DataError:
    if Path(path).is_dir():  # one of shapefiles, or a geodatabase, can be read
        return DataError(f"{setting}={path} is a folder that cannot be read as polygons: name a file in it.")
    # what pyogrio says after that is for callers from Python
    text = " ".join(str(error).split()).partition("; It might help")[0].rstrip(".")
    if Path(path).suffix.lower() == ".zip":  # GDAL sees files at its top alone
        text += ". Unpack it, and name the file in it"
    return DataError(f"{setting}={path} cannot be read as polygons: {text[:200]}.")


YES = ("true", "1", "1.0", "yes", "y", "t")
NO = ("false", "0", "0.0", "no", "n", "f", "", "none", "nan", "<na>")


def flags(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Yes and no as drivers give them: as such, as numbers or text; nothing is no."""
    return np.array([str(value).strip().lower() in YES for value in values], dtype=bool)


def marked(values: npt.NDArray[Any], where: str) -> npt.NDArray[np.bool_]:
    """The same of a column that a person fills: what is neither is no `no`.

    Args:
        values: of the column
        where: file and column, in messages

    Raises:
        DataError: names such a value
    """
    odd = next((value for value in values if str(value).strip().lower() not in (*YES, *NO)), None)
    if odd is not None:
        raise DataError(f"{where}: {odd} is neither yes nor no: write 1 or 0.")
    return flags(values)
