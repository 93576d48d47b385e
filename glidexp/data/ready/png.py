"""Plain PNGs through GDAL, in 0.4 of Pillow's time, after every byte of them was accounted for.

GDAL reads a file that was cut off without a word, and Pillow does not look at the checksums of pixels. So chunks are
walked first: their checksums must fit, and the last one must be there. What is not plain, or not whole, is Pillow's.
"""

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 6: 4}
"""by the header's colour type: grey, RGB, RGBA"""
DEPTH_AT = 24
"""byte of a PNG that says how many bits a channel has: signature, length, IHDR, width, height lie before it"""


def decoded(content: bytes) -> npt.NDArray[np.uint8] | None:
    """(H, W, C) pixels with C 1, 3 or 4, or None: Pillow is to read this, or to say what is wrong.

    Position is not looked at: call `allow_no_position` before.

    Raises:
        ValueError: the checksum of a chunk without which there is no picture does not fit
    """
    header = _header(content)
    if header is None:
        return None
    height, width, channels = header
    pixels = np.empty((height, width, channels), np.uint8)
    try:
        with MemoryFile(content) as file, file.open(driver="PNG") as picture:
            if picture.count != channels:
                return None
            picture.read(out=pixels.transpose(2, 0, 1))  # GDAL's quick road is the one for pixels side by side
    except RasterioError:
        return None
    return pixels


def bits(content: bytes) -> int:
    """Bits a channel that the header of a PNG says; 0 of anything else."""
    return content[DEPTH_AT] if content.startswith(SIGNATURE) and len(content) > DEPTH_AT else 0


def _header(content: bytes) -> tuple[int, int, int] | None:
    """Height, width and channels of a whole PNG of 8 bit, not interlaced, without palette or colour that is clear."""
    if not content.startswith(SIGNATURE):
        return None
    at, kind, header = len(SIGNATURE), b"", b""
    view = memoryview(content)
    while kind != b"IEND":
        if at + 12 > len(content):
            return None
        (size,), kind = struct.unpack_from(">I", content, at), content[at + 4 : at + 8]
        end = at + 8 + size
        if end + 4 > len(content) or kind == b"tRNS" or not kind.isalpha():
            return None
        critical = not kind[:1].islower()
        if critical and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise ValueError(f"its {kind.decode()} chunk does not fit its checksum")
        header = content[at + 8 : end] if kind == b"IHDR" else header
        at = end + 4
    if len(header) != 13:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or interlaced or colour not in CHANNELS or not 0 < width * height <= (Image.MAX_IMAGE_PIXELS or 0):
        return None
    return height, width, CHANNELS[colour]
