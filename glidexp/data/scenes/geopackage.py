"""GeoPackages, written aside and renamed."""

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import geopandas

from glidexp.beside import beside
from glidexp.data.builder.parts import KEPT, refused, writing
from glidexp.data.scenes.features import REFUSALS, without_locks
from glidexp.errors import DataError
from glidexp.options import out_folder


def check_out(path: Path) -> None:
    """Refuses what is not the name of a GeoPackage, or a place that takes no file, before any work is done.

    Raises:
        DataError: another ending
        ConfigError: nothing can be written there
    """
    if path.suffix.lower() != ".gpkg":
        raise DataError(f"--out={path} is no GeoPackage: name a file that ends with .gpkg.")
    above = path.absolute().parent
    while not above.exists():  # folders that are missing are made when there is something to write
        above = above.parent
    with out_folder(path.parent), tempfile.TemporaryFile(dir=above):
        pass


def write_layers(
    path: Path,
    layers: Mapping[str, geopandas.GeoDataFrame],
    kind: str = "Unknown",
    *,
    after: str = KEPT,
    place: Path | None = None,
) -> Path:
    """Writes a GeoPackage, aside and renamed; gives its path.

    Args:
        path: of the file
        layers: by name, in the order in which they are to lie in it
        kind: of all geometries, as GDAL names it
        after: what is left where a disk is full, and what the same command does then
        place: hidden name that it is written to, where who calls renames it

    Raises:
        RunFailed: the disk refuses it
    """
    try:
        with writing(path, after), nullcontext(place) if place else beside(path) as aside, without_locks():
            for name, frame in layers.items():
                frame.to_file(aside, layer=name, driver="GPKG", engine="pyogrio", geometry_type=kind)
    except REFUSALS as error:
        raise refused(path, str(error).rsplit("failed: ", 1)[-1]) from None  # SQLite's words stand behind its statement
    return path
