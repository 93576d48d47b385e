"""What a raster must be before its pixels are read: one picture of real numbers, on a grid of its own."""

import math
import warnings
from pathlib import Path

import numpy as np
import pyproj
import pyproj.exceptions
import rasterio
import rasterio.errors

from glidexp.data.geodesy import to_lonlat, utm
from glidexp.errors import DataError
from glidexp.wording import many


def check_grid(path: Path, source: rasterio.DatasetReader) -> None:
    """Refuses a raster that is not placed, or not by a grid, and complex numbers.

    Raises:
        DataError: one sentence with the file, what is wrong and the command that mends it
    """
    check_picture(path, source)
    if source.crs is None or source.transform.is_identity or not all(map(math.isfinite, source.transform)):
        raise DataError(f"{path} has no CRS or no position: georeference it (gdal_translate -a_srs -a_ullr).")
    check_numbers(path, source)


def check_picture(path: Path, source: rasterio.DatasetReader) -> None:
    """Refuses a file of several pictures, and one whose pixels lie on no grid.

    Raises:
        DataError: it holds subdatasets (HDF, NetCDF) or further pages of a TIFF that are no thumbnails, or is placed by
            control points or RPCs alone
    """
    several = source.subdatasets
    if source.count == 0 or any(_as_large(page, source) for page in several):
        held = f"{many(len(several), 'picture')}" if several else "no picture"
        way = f": take the one that is the scene out, as gdal_translate {several[0]} OUT.tif" if several else ""
        raise DataError(f"{path} holds {held}, and which one is the scene is not told{way}.")
    if source.crs is not None and not source.transform.is_identity:
        return
    out = f"-dstalpha {path.name} OUT.tif"
    points, crs = source.gcps
    if points:
        target = _zone_of(crs.to_wkt() if crs else "", [point.x for point in points], [point.y for point in points])
        raise DataError(
            f"{path} is placed by {len(points)} control points alone, so its pixels lie on no grid: warp it, as "
            f"gdalwarp -t_srs {target} {out}."
        )
    if source.rpcs is not None:
        target = _zone_of("EPSG:4326", [source.rpcs.long_off], [source.rpcs.lat_off])
        raise DataError(
            f"{path} is placed by RPCs alone, so its pixels lie on no grid: orthorectify it, as "
            f"gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs {target} {out}."
        )


def check_numbers(path: Path, source: rasterio.DatasetReader) -> None:
    """Refuses pixels that have no order.

    Raises:
        DataError: they are complex numbers
    """
    kind = next((kind for kind in source.dtypes if "complex" in kind), None)
    if kind is not None:
        raise DataError(f"{path} holds {kind}, as radar does before it is a picture: give real numbers.")


def not_orthorectified(path: Path, source: rasterio.DatasetReader) -> tuple[str, ...]:
    """A note on a placed raster that still has its RPCs: it may lie on a mean height, and so hundreds of metres off."""
    if source.rpcs is None:
        return ()
    note = (
        "has RPCs beside its position, as pictures that are not orthorectified do: in mountains outlines may lie off."
    )
    return (f"{path} {note}",)


def _as_large(page: str, source: rasterio.DatasetReader) -> bool:
    """Whether a page of a TIFF is another picture, and not the opened one's thumbnail."""
    if source.driver != "GTiff":
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        number = page.split(":")[1]
        if number == "1":
            return False
        with rasterio.open(page) as one:
            return bool(one.width >= source.width and one.height >= source.height)


def _zone_of(wkt: str, x: list[float], y: list[float]) -> str:
    """Code of the UTM zone of some points, as an option takes it."""
    try:
        lon, lat = to_lonlat(pyproj.CRS.from_user_input(wkt), np.array(x), np.array(y))
        code = utm(float(np.mean(lon)), float(np.mean(lat))).to_epsg()
    except (pyproj.exceptions.CRSError, pyproj.exceptions.ProjError, ValueError, OverflowError):
        code = None
    return f"EPSG:{code}" if code else "EPSG:CODE"
