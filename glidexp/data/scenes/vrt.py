"""What a VRT refers to, read from its text, so that a changed source is seen and resampling is said.

And that nothing else refers to other files: GDAL goes by what a file holds and not by its ending, and some of its
formats are texts that name files of this machine or addresses of the network.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

from glidexp.data.scenes.own_overviews import lie_elsewhere
from glidexp.errors import DataError

DEEPEST = 8
"""VRTs that refer to VRTs are followed so far"""
LARGEST_BYTES = 64 * 2**20
RECTANGLE = ("xSize", "ySize", "xOff", "yOff")
SLIGHT_PX = 0.01
"""what a rectangle may be off by rounding"""
_SOURCES = ("SourceFilename", "SourceDataset")
DIMAP = (".xml", ".dim")
"""endings of what providers ship with rasters, and which is opened as one"""
HEAD_BYTES = 4096
"""in which GDAL looks for what a file is"""
BESIDE = (".msk", ".ovr")
"""endings of files beside a raster that GDAL opens as rasters, too"""


def check_plain(path: Path) -> None:
    """Refuses a raster that is a text which refers to others, and one with such a mask or overview beside it.

    Raises:
        DataError: names the file
    """
    for file in (path, *(path.with_name(path.name + ending) for ending in BESIDE)):
        if file.suffix.lower() != ".vrt" and refers(file):
            raise DataError(f"{file} is no raster but a text that names other files or addresses: take it out.")
        if lie_elsewhere(file):
            raise DataError(f"{file} names other files as its overviews: write it anew without (gdal_translate -nomd).")


def refers(file: Path) -> bool:
    """Whether a file begins as a text in which GDAL finds other files; not for one that is not there."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return False
    if file.suffix.lower() in DIMAP and b"<Dimap_Document" in head:
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{") or b"<VRTDataset" in head


def sources_of(path: Path) -> list[Path]:
    """Files that a VRT is made of, as far as they are there; none for any other file or one that is not there."""
    found: list[Path] = []
    with suppress(DataError):  # told by `check_sources`, which stops the one scene alone
        found.extend(_followed(path, 0))
    return list(dict.fromkeys(found))


def check_sources(path: Path) -> None:
    """Follows what a VRT refers to.

    Raises:
        DataError: no VRT, or one that refers to itself or to what is no file here
    """
    for _ in _followed(path, 0):
        pass


def _followed(path: Path, depth: int) -> Iterator[Path]:
    if path.suffix.lower() != ".vrt" or not path.is_file():
        return
    if depth > DEEPEST:
        raise DataError(f"{path} refers to VRTs {DEEPEST} deep: make one VRT of the files themselves.")
    missing = ""
    for element in _root(path).iter():
        if element.tag not in _SOURCES or not element.text:
            continue
        name = element.text.strip()
        relative = element.get("relativeToVRT") == "1" or element.get("relativetoVRT") == "1"
        source = path.parent / name if relative else Path(name)
        if _is_file(source):
            check_plain(source)
            yield source
            yield from _followed(source, depth + 1)
        else:
            missing = missing or name[:120]
    if missing:
        raise DataError(f"{path} refers to {missing}, which is no file here: fetch it, or make the VRT anew.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text in place of a name
        return False


def resamples(path: Path) -> bool:
    """Whether a VRT, or one that it refers to, changes the pixel grid of its sources; no other file does.

    That is: warped, stretched to another size, or moved by a part of a pixel, as a mosaic of grids that do not meet is.
    """
    return any(_changes_grid(_root(one)) for one in (path, *sources_of(path)) if one.suffix.lower() == ".vrt")


def _changes_grid(root: ElementTree.Element) -> bool:
    if root.get("subClass") == "VRTWarpedDataset":
        return True
    for element in root.iter():
        source, target = element.find("SrcRect"), element.find("DstRect")
        if source is not None and target is not None:
            change = [float(target.get(key, 0)) - float(source.get(key, 0)) for key in RECTANGLE]
            # whole pixels from one place to another are the same pixels
            if max(map(abs, change[:2])) > SLIGHT_PX or max(abs(v - round(v)) for v in change[2:]) > SLIGHT_PX:
                return True
    return False


def _root(path: Path) -> ElementTree.Element:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError(f"{path} is larger than {LARGEST_BYTES // 2**20} MiB, which no VRT is: look at it.")
        text = path.read_bytes()
        # entities could name other files, or unfold without bound; no VRT has any
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise DataError(f"{path} declares a document type, which no VRT does: look at it.")
        root = ElementTree.fromstring(text)
        if root.tag != "VRTDataset":  # a text that names a server is taken under this ending, too
            raise DataError(f"{path} is no VRT: it begins with <{root.tag[:60]}>. Make it again (gdalbuildvrt).")
        return root
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path} cannot be read as a VRT: {error}; make it again (gdalbuildvrt).") from None
