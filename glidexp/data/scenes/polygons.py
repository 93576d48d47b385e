"""Polygons of lakes and glaciers, read from any vector file: columns found, rings repaired, Z dropped, CRS checked."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import pyproj.exceptions
import shapely

from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.scenes.features import columns_of, layer_of, read_features
from glidexp.data.scenes.reading import Scene
from glidexp.errors import ConfigError, DataError
from glidexp.wording import does, many

log = logging.getLogger("glidexp")
Geometries = npt.NDArray[np.object_]
Texts = npt.NDArray[np.object_]
POLYGONAL = (3, 6)
"""type numbers of Polygon and MultiPolygon in shapely"""
COLLECTION = 7
NOTHING = ("nan", "NaT", "<NA>")
"""cells without a value, as text"""
ID_COLUMNS = ("lake_id", "gl_id", "glake_id", "rgi_id", "rgiid", "id")
TYPE_COLUMNS = ("lake_type", "gl_type", "type", "kind")
"""columns that are taken for a lake's id and type when none is named, in any case: ICIMOD's GL_ID
and Type, RGI's ids"""
WITH_CRS = ("dataset.lakes", "dataset.glaciers")
"""settings of files that have another setting for their CRS"""
_RGI = re.compile(r"RGI(?:2000-v)?(\d)\.?(\d)-")
"""ids of the Randolph Glacier Inventory: RGI60-15.03410, RGI2000-v7.0-G-15-03410"""


@dataclass(slots=True)
class Inventory:
    """Polygons of one file in the file's CRS: two dimensions, valid, not empty."""

    path: Path
    geometries: Geometries
    crs: pyproj.CRS
    read: int
    """features in the file"""
    repaired: int
    """features whose rings crossed or touched themselves, or that held other things beside polygons"""
    unusable: int
    """features without a polygon, even after repair, or with a coordinate that is no number"""
    ids: Texts
    """of each polygon: its id, the feature's number in the file where there is none"""
    types: Texts
    """of each polygon, "" where not known"""
    id_column: str | None = None
    type_column: str | None = None
    own_crs: bool = True
    """the file names the CRS; else it was given"""
    layer: str = ""
    """that was named"""
    rows: npt.NDArray[np.int64] | None = None
    """of each polygon: which feature of the layer it is, from 0; None of outlines that come from no file"""
    tree: shapely.STRtree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.tree = shapely.STRtree(self.geometries)


def read(
    path: Path | str,
    setting: str,
    *,
    type_column: str | None = None,
    id_column: str | None = None,
    crs: str | None = None,
    layer: str | None = None,
    none: bool = False,
) -> Inventory:
    """Reads every polygon of a vector file (GeoPackage, shapefile, GeoJSON, GeoParquet ...), repairs rings and drops Z.

    Args:
        path: the file
        setting: config key that named it, for messages
        type_column: column of the lake types; one of `TYPE_COLUMNS`, if there is one, when not given
        id_column: column of the lake ids; likewise one of `ID_COLUMNS`
        crs: where the file names none, or a wrong one
        layer: where several may hold polygons
        none: whether a file without any feature will do

    Raises:
        DataError: not there, unreadable, without CRS, without polygons, without the named layer or column, with
            several layers of which none is named, or with coordinates that cannot be of its CRS
        ConfigError: a CRS that is none
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{setting}={path} does not exist: give a vector file of polygons.")
    taken = layer_of(path, setting, layer)
    columns = columns_of(path, setting, taken)
    id_column = _named(path, columns, "dataset.lake_id_column", id_column, ID_COLUMNS)
    type_column = _named(path, columns, "dataset.lake_type_column", type_column, TYPE_COLUMNS)
    wanted = [name for name in dict.fromkeys((id_column, type_column)) if name]
    found = read_features(path, setting, wanted, taken)
    found_crs, raw = _crs(path, setting, found.crs, crs), found.geometries
    fixed, rows, repaired = _repaired(raw)
    if len(raw) == 0 and not none:
        raise DataError(f"{setting}={path} holds no feature: give a file with outlines.")
    if len(fixed) == 0 and len(raw):
        raise DataError(
            f"{setting}={path} holds {many(len(raw), 'feature')} but no polygon: give outlines, not points or lines."
        )
    if len(fixed):
        check_coordinates(path, setting, fixed, found_crs)
    if lost := len(raw) - len(fixed):
        told = f"{lost} of {many(len(raw), 'feature')} {does(lost, 'are')} no polygon (points, lines, or nothing)"
        log.warning("%s=%s: %s and left out.", setting, path, told)
    numbers = _texts(found.numbers)
    ids, types = (
        _texts(found.values[name]) if name else np.full(len(raw), "", object) for name in (id_column, type_column)
    )
    ids[ids == ""] = numbers[ids == ""]
    return Inventory(
        path=path,
        geometries=fixed,
        crs=found_crs,
        read=len(raw),
        repaired=repaired,
        unusable=len(raw) - len(fixed),
        ids=ids[rows],
        types=types[rows],
        id_column=id_column,
        type_column=type_column,
        own_crs=not crs,
        layer=layer or "",
        rows=rows,
    )


def _repaired(raw: Geometries) -> tuple[Geometries, npt.NDArray[np.int64], int]:
    """Polygons that can be drawn, the rows of `raw` that they are of, and how many had to be repaired."""
    some = ~(shapely.is_missing(raw) | shapely.is_empty(raw) | _endless(raw))
    present = raw[some]
    kind = shapely.get_type_id(present)
    areal = np.isin(kind, (*POLYGONAL, COLLECTION))
    # a collection may hold a polygon beside the lines that a repair elsewhere left
    broken = areal & (~shapely.is_valid(present) | (kind == COLLECTION))
    fixed = present.copy()
    fixed[broken] = [polygons_of(geometry) for geometry in shapely.make_valid(present[broken])]
    usable = areal & ~shapely.is_empty(fixed)
    return fixed[usable], np.flatnonzero(some)[usable], int(broken.sum())


def read_both(lakes: Path, glaciers: Path | None, dataset: DatasetConfig) -> tuple[Inventory, Inventory | None]:
    """Lakes and glaciers as the settings say; see `read`. Generated ones are known, whatever columns are named."""
    if dataset.kind != DatasetKind.scenes:
        return read(lakes, "dataset.lakes"), read(glaciers, "dataset.glaciers") if glaciers else None
    kind, number = dataset.lake_type_column, dataset.lake_id_column
    water = read(
        lakes, "dataset.lakes", type_column=kind, id_column=number, crs=dataset.lakes_crs, layer=dataset.lakes_layer
    )
    if not glaciers:
        return water, None
    return water, read(glaciers, "dataset.glaciers", crs=dataset.glaciers_crs, layer=dataset.glaciers_layer)


def told_of(
    lakes: Inventory, glaciers: Inventory | None, scenes: Sequence[Scene], *, ground: Inventory | None, aloud: bool
) -> dict[str, dict[str, Any]]:
    """What the manifest says of each file of polygons; `aloud`: the log says when one is in another CRS than scenes."""
    given = {"lakes": lakes, "glaciers": glaciers, "within": ground}
    found = {name: told(inventory, scenes) for name, inventory in given.items() if inventory}
    for name, entry in found.items():
        if aloud and entry["transformed_to"]:
            others = ", ".join(entry["transformed_to"])
            log.info("dataset.%s is in %s: transformed to that of the scenes (%s)", name, entry["crs"], others)
    return found


def told(inventory: Inventory, scenes: Sequence[Scene]) -> dict[str, Any]:
    """What the manifest says of an inventory."""
    others = sorted({scene.crs_text.split("[")[0] for scene in scenes if scene.crs != inventory.crs})
    version = _RGI.match(str(inventory.ids[0]))
    return {
        "file": inventory.path.name,
        **({"layer": inventory.layer} if inventory.layer else {}),
        "source": f"RGI {version[1]}.{version[2]}" if version else "",
        "crs": _name(inventory.crs),
        "crs_given": not inventory.own_crs,
        "transformed_to": others,
        "features": inventory.read,
        "repaired": inventory.repaired,
        "unusable": inventory.unusable,
        "id_column": inventory.id_column or "",
        "type_column": inventory.type_column or "",
    }


def swapped(lakes: Inventory, box: Sequence[float]) -> bool:
    """Whether lakes in degrees would meet a box (west, south, east, north) with x and y the other way round."""
    left, bottom, right, top = shapely.total_bounds(lakes.geometries)
    other = shapely.box(bottom, left, top, right)
    return bool(lakes.crs.is_geographic and shapely.intersects(other, shapely.box(*box)))


def bounds_text(lakes: Inventory) -> str:
    """Where the polygons lie, for a message."""
    left, bottom, right, top = shapely.total_bounds(lakes.geometries)
    told = f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g} in {lakes.crs.name}"
    if lakes.crs.is_geographic:
        return told
    to = pyproj.Transformer.from_crs(lakes.crs, 4326, always_xy=True)
    west, south, east, north = to.transform_bounds(left, bottom, right, top)
    return f"{told} (longitude {west:.4g} to {east:.4g}, latitude {south:.4g} to {north:.4g})"


def _column(columns: list[str], known: tuple[str, ...]) -> str | None:
    """The first of the known names that is a column, in any case."""
    lower = {column.lower(): column for column in columns}
    return next((lower[name] for name in known if name in lower), None)


def _named(path: Path, columns: list[str], setting: str, named: str | None, known: tuple[str, ...]) -> str | None:
    if named and named not in columns:
        raise DataError(
            f"{setting}={named} is no column of {path}, which has {', '.join(columns) or 'none'}: name one of these, "
            "or leave it out."
        )
    return named or _column(columns, known)


def _crs(path: Path, setting: str, own: str | None, given: str | None) -> pyproj.CRS:
    """The CRS that was given, else the file's own."""
    if not given:
        if not own:
            raise DataError(
                f"{setting}={path} has no CRS: {_set_crs(setting)}, EPSG:4326 if the coordinates are degrees of "
                "longitude and latitude."
            )
        return pyproj.CRS.from_user_input(own)
    try:
        crs = pyproj.CRS.from_user_input(given)
    except pyproj.exceptions.CRSError:
        raise ConfigError(f"{setting}_crs={given} is no CRS: write it like EPSG:32645.") from None
    if own and pyproj.CRS.from_user_input(own) != crs:
        log.warning("%s=%s says it is in %s, but is taken as %s", setting, path, own.split("[")[0], given)
    return crs


def check_coordinates(path: Path, setting: str, geometries: Geometries, crs: pyproj.CRS) -> None:
    """Refuses degrees in a CRS of metres and the reverse, which would put every lake in the sea without a word.

    Args:
        path: of the file, for messages
        setting: that named it
        geometries: polygons, some of them not empty
        crs: that they are said to be in

    Raises:
        DataError: says how to set the CRS
    """
    left, bottom, right, top = shapely.total_bounds(geometries).tolist()
    degrees = left >= -360.0 and right <= 360.0 and bottom >= -90.0 and top <= 90.0
    where = f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g}"
    if crs.is_geographic and not degrees:
        raise DataError(f"{setting}={path}: {where} are no degrees, but {_name(crs)} has degrees: {_set_crs(setting)}.")
    if crs.is_projected and degrees:
        way_out = _set_crs(setting, "EPSG:4326")
        raise DataError(f"{setting}={path}: {where} look like degrees, but {_name(crs)} has metres: {way_out}.")


def _set_crs(setting: str, crs: str = "") -> str:
    """How a user says a file's CRS: some settings have one beside them, others and options of verbs have none."""
    if setting in WITH_CRS:
        return f"set {setting}_crs={crs}" if crs else f"set {setting}_crs"
    return f"write it into the file, with ogr2ogr -a_srs {crs or 'CRS'}"


def _name(crs: pyproj.CRS) -> str:
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else str(crs.name)


def _texts(values: npt.NDArray[Any]) -> Texts:
    """As text, "" where there is nothing."""
    texts = np.empty(len(values), dtype=object)
    for i, value in enumerate(values.tolist()):  # also lists and pandas.NA, which GeoJSON and GeoParquet may hold
        nothing = value is None or (not isinstance(value, str) and str(value) in NOTHING)
        texts[i] = "" if nothing else str(value).strip()
    return texts


def _endless(geometries: Geometries) -> npt.NDArray[np.bool_]:
    """Which of them have a coordinate that is no number, or infinite: nothing can be drawn or repaired of these."""
    points, of_geometry = shapely.get_coordinates(geometries, return_index=True)
    found = np.zeros(len(geometries), dtype=bool)
    found[of_geometry[~np.isfinite(points).all(axis=1)]] = True
    return found


def multi(geometry: Any) -> Any:
    """As MultiPolygon, lines and points let go."""
    parts = shapely.get_parts(geometry)
    return shapely.MultiPolygon(parts[shapely.get_type_id(parts) == POLYGONAL[0]].tolist())


def polygons_of(geometry: Any) -> Any:
    """The polygons of what a repair left: lines and points of a collapsed ring are let go."""
    parts = shapely.get_parts(geometry)
    # make_valid may put polygons into a collection with a line beside them
    flat = np.concatenate([shapely.get_parts(part).reshape(-1) for part in parts]) if len(parts) else parts
    polygons = flat[np.isin(shapely.get_type_id(flat), POLYGONAL)]
    return shapely.union_all(polygons) if len(polygons) else shapely.Polygon()
