"""Whether a raster says in its own header that its overviews lie elsewhere, read without GDAL.

GDAL opens what is named, a file of this machine or an address of the network, as it opens the raster.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

METADATA = 42112
"""tag of a TIFF in which GDAL keeps metadata, as XML"""
MOST_BYTES = 16 * 2**20
"""of a header's XML that are looked at; more is none"""
MOST_PARTS = 4096
"""tags of a TIFF, boxes of a JPEG2000; a header of more is taken for one that hides something"""
_SIGN = re.compile(rb"overview_file|(?:name|key|domain)\s*=\s*[\"'][^\"'>]*&", re.IGNORECASE)
"""the name of such an item, or one that is written so that it cannot be read off"""

HIDDEN = b"overview_file"


def lie_elsewhere(path: Path) -> bool:
    """Whether a TIFF or a JPEG2000 names a file of overviews; not for any other file, nor for one that is damaged."""
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
            if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return any(len(text) > MOST_BYTES or _SIGN.search(text) for text in _of_tiff(stream, head))
            if head[4:8] == b"jP  ":
                return any(len(text) > MOST_BYTES or _SIGN.search(text) for text in _of_jp2(stream))
    except (OSError, struct.error, OverflowError):
        return False
    return False


def _of_tiff(stream: BinaryIO, head: bytes) -> Iterator[bytes]:
    order, large = "<" if head[:1] == b"I" else ">", head[2:4] in (b"+\0", b"\0+")
    wide, count = ("Q", "Q") if large else ("I", "H")
    stream.seek(8 if large else 4)
    (at,) = _read(stream, order + wide)
    stream.seek(at)
    (entries,) = _read(stream, order + count)
    if entries > MOST_PARTS:
        yield HIDDEN
        return
    table = stream.read(entries * (20 if large else 12))
    for tag, _, size, value in struct.iter_unpack(f"{order}HH{wide}{8 if large else 4}s", table):
        if tag == METADATA:
            if size > len(value):
                stream.seek(struct.unpack(order + wide, value)[0])
                value = stream.read(min(size, MOST_BYTES + 1))
            yield value


def _of_jp2(stream: BinaryIO) -> Iterator[bytes]:
    """All boxes but that of the pixels."""
    at = 0
    for _ in range(MOST_PARTS):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        if size == 1:
            (size,) = struct.unpack(">Q", head[8:16])
        if kind != b"jp2c":
            stream.seek(at)
            yield stream.read(min(size, MOST_BYTES + 1) if size else MOST_BYTES + 1)
        if size < 8:  # to the end of the file
            return
        at += size
    yield HIDDEN


def _read(stream: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))
