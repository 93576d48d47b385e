"""PNGs by the quick road: the pixels that Pillow gives, and nothing that is damaged or of another kind."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from glidexp.data.ready import png
from glidexp.data.ready.pictures import allow_no_position

PIXELS = np.random.default_rng(0).integers(0, 256, (33, 47, 4), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _silent() -> None:
    allow_no_position()


def written(mode: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(stream, "PNG", **options)
    return stream.getvalue()


def interlaced(whole: bytes) -> bytes:
    """The file with a header that says so."""
    header = bytearray(whole[16:29])
    header[12] = 1
    return whole[:16] + bytes(header) + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + whole[33:]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("level", [0, 9])
def test_pixels_are_those_of_pillow(mode: str, level: int) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "a test")
    content = written(mode, compress_level=level, pnginfo=text)
    found = png.decoded(content)
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(picture)
    assert found is not None and np.array_equal(found[..., 0] if mode == "L" else found, expected)


def test_other_kinds_are_left_to_pillow() -> None:
    sixteen = io.BytesIO()
    Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 256).save(sixteen, "PNG")
    kinds = [written("1"), written("LA"), written("P"), written("RGB", transparency=(0, 0, 0)), sixteen.getvalue()]
    jpeg = io.BytesIO()
    Image.fromarray(PIXELS[:, :, :3]).save(jpeg, "JPEG")
    for content in [*kinds, interlaced(written("RGB")), jpeg.getvalue(), b"", png.SIGNATURE]:
        assert png.decoded(content) is None


def test_what_was_cut_off_is_left_to_pillow() -> None:
    whole = written("RGB")
    assert png.decoded(whole) is not None
    for length in range(0, len(whole), 97):
        assert png.decoded(whole[:length]) is None
    assert png.decoded(whole[:-1]) is None


@pytest.mark.parametrize(("at", "chunk"), [(20, "IHDR"), (1_000, "IDAT"), (-6, "IEOD")])
def test_a_flipped_bit_is_told(at: int, chunk: str) -> None:
    content = bytearray(written("L", compress_level=0))
    content[at] ^= 1
    with pytest.raises(ValueError, match=f"its {chunk} chunk does not fit its checksum"):
        png.decoded(bytes(content))


def test_a_stream_that_does_not_fit_is_left_to_pillow() -> None:
    whole = written("RGB")
    start = whole.index(b"IDAT") - 4
    packed = zlib.compress(b"\x00" * 10_000_000)[:-4] + b"\0\0\0\0"
    chunk = b"IDAT" + packed
    made = whole[:start] + struct.pack(">I", len(packed)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[-12:]
    assert png.decoded(made) is None
