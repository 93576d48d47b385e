"""How a raster stands on disk: by what a store or a map knows that it is made of the same files as before.

GDAL reads more than the file: a mask (.msk), the header of ENVI (.hdr), what Imagine spills (.ige), what .aux.xml says
of position, nodata and bands, and, where nothing else tells the position, a world file (.tfw ...). These count where
they are there, and as far as they change what is read: statistics and histograms, which a look at a file leaves in its
.aux.xml, do not.
"""

import hashlib
from pathlib import Path
from xml.etree import ElementTree

Row = tuple[str, int, int | str]
"""name, bytes, and time of last change in ns or a hash"""
WITH_HEADER = (".dat", ".bsq", ".bil", ".bip")
"""endings of ENVI's files, whose header lies beside them"""
OF_FILE = ("SRS", "GeoTransform", "GCPList")
OF_BAND = ("NoDataValue", "NoDataValueAsInt64", "NoDataValueAsUInt64", "Description", "ColorInterp")
"""elements of an .aux.xml that change position, mask or choice of bands"""


def stand(file: Path) -> list[Row]:
    """A row for a raster, and one for each file beside it that changes what is read of it.

    Raises:
        OSError: it is not there, or cannot be looked at
    """
    rows = [row_of(file)]
    rows += [row_of(mask) for ending in (".msk", ".MSK") if (mask := file.with_name(file.name + ending)).is_file()]
    rows += [row_of(part) for part in (*headers(file), file.with_suffix(".ige")) if _is_part(file, part)]
    beside = file.with_name(f"{file.name}.aux.xml")
    if beside.is_file() and (told := _told(beside)):
        rows.append((beside.name, len(told), hashlib.sha256(told).hexdigest()))
    worlds = _world_files(file)
    if worlds and _needs_world(file):
        rows += [row_of(path) for path in worlds]
    return rows


def headers(file: Path) -> tuple[Path, ...]:
    """Where the header of a file of ENVI may lie, as GDAL looks for it."""
    return tuple(dict.fromkeys(file.with_name(name) for name in (f"{file.stem}.hdr", f"{file.name}.hdr")))


def _is_part(file: Path, part: Path) -> bool:
    return file.suffix.lower() in (*WITH_HEADER, ".img", "") and part != file and part.is_file()


def row_of(file: Path) -> Row:
    """Of this file alone; raises OSError."""
    stat = file.stat()
    return file.name, stat.st_size, stat.st_mtime_ns


def _told(beside: Path) -> bytes:
    """What an .aux.xml says that changes what is read; nothing of one that is none."""
    text = beside.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:  # which could unfold without bound
        return text
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:  # GDAL leaves it aside
        return b""
    found = [("", element) for element in root if element.tag in OF_FILE or element.get("domain") == "xml:ESRI"]
    for band in root.iter("PAMRasterBand"):
        found += [(band.get("band", ""), element) for element in band if element.tag in OF_BAND]
    lines = [band + ElementTree.canonicalize(ElementTree.tostring(one), strip_text=True) for band, one in found]
    return "\n".join(lines).encode()


def _world_files(file: Path) -> list[Path]:
    ending = file.suffix.lower()[1:]
    if ending in ("", "vrt"):
        return []
    names = (f"{ending[0]}{ending[-1]}w", f"{ending}w", "wld")
    found = (file.with_suffix(f".{name}") for one in names for name in (one, one.upper()))
    return [path for path in found if path.is_file()]


def _needs_world(file: Path) -> bool:
    """Whether nothing but a world file says where a raster lies: beside most that have one it is not read."""
    import rasterio

    from glidexp.data.scenes.reading import opened_raster
    from glidexp.errors import DataError

    try:
        with rasterio.Env(GDAL_GEOREF_SOURCES="PAM,INTERNAL"), opened_raster(file) as source:
            return bool(source.transform.is_identity)
    except DataError:  # its scene is refused when it is read
        return True
