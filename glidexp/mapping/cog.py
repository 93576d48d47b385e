"""Raw bytes on disk as a Cloud Optimized GeoTIFF: GDAL copies them block by block, so memory does not grow.

Overviews are made here, as GDAL takes longer for them than for all the rest. Each pixel of one is the mean of the up to
four with data below it, rounded: of classes 0 and 1 that is the more frequent one, 1 where both are as frequent.
"""

import os
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio._err import CPLE_BaseError  # GDAL's own words, which copying lets through; it has no public name
from rasterio.errors import RasterioError

from glidexp.beside import beside
from glidexp.data.builder.parts import refused, writing
from glidexp.data.scenes.reading import Scene

CACHE_BYTES = 64 << 20
BLOCK_PX = 512
STRIP_PX = 512
"""rows that are halved together"""
NODATA = 255
Bytes = npt.NDArray[np.uint8]


def describe(raw: Path, scene: Scene, *, name: str, scale: float = 1.0, placed: bool = True) -> Path:
    """A VRT beside a file of raw bytes that says what they are; 255 is no data.

    Args:
        raw: one byte a pixel, row by row
        scene: gives size and place
        name: of the band
        scale: what a step of a byte is worth
        placed: whether it says where the scene lies; without, GDAL's polygons are in pixels
    """
    place = ", ".join(repr(float(v)) for v in scene.transform.to_gdal())
    there = f"<SRS>{escape(scene.crs.to_wkt())}</SRS><GeoTransform>{place}</GeoTransform>" if placed else ""
    told = f"<Description>{name}</Description><Scale>{scale!r}</Scale>"
    path = raw.with_suffix(".vrt" if placed else ".pixels.vrt")
    return _write_vrt(path, raw, (scene.height, scene.width), there, told)


def with_overviews(vrt: Path, raw: Path, shape: tuple[int, int]) -> Path:
    """Makes halves of a file of raw bytes, of these halves again and so on, and names them in its VRT."""
    told, level, small = "", 0, raw
    while max(shape) > BLOCK_PX:
        level += 1
        large, small = small, raw.with_suffix(f".{level}.u8")
        shape = _halve(large, small, shape)
        half = _write_vrt(small.with_suffix(".vrt"), small, shape)
        told += f'<Overview><SourceFilename relativeToVRT="1">{half.name}</SourceFilename></Overview>'
    text = vrt.read_text(encoding="utf-8")
    vrt.write_text(text.replace("<SourceFilename", f"{told}<SourceFilename", 1), encoding="utf-8")
    return vrt


def halved(pixels_HW: Bytes) -> Bytes:
    """Means of two by two pixels, rounded, of those with data; 255 where none has. Sides are rounded up."""
    if not pixels_HW.size or pixels_HW.max() < NODATA:
        return np.asarray(Image.fromarray(pixels_HW).reduce(2))
    height, width = pixels_HW.shape
    even = np.pad(pixels_HW, ((0, height % 2), (0, width % 2)), constant_values=NODATA)
    fours = even.reshape(len(even) // 2, 2, -1, 2)
    known = fours != NODATA
    count = known.sum((1, 3), dtype=np.uint16)
    total = np.where(known, fours, 0).sum((1, 3), dtype=np.uint16)
    mean = (total + count // 2) // np.maximum(count, 1)
    return np.where(count > 0, mean, NODATA).astype(np.uint8)


def _halve(large: Path, small: Path, shape: tuple[int, int]) -> tuple[int, int]:
    """Writes the half of a file of raw bytes; gives its shape."""
    pixels = np.memmap(large, np.uint8, "r", shape=shape)
    with writing(small), small.open("wb") as stream:
        for top in range(0, shape[0], STRIP_PX):
            stream.write(halved(np.asarray(pixels[top : top + STRIP_PX])).tobytes())
    return (shape[0] + 1) // 2, (shape[1] + 1) // 2


def _write_vrt(path: Path, raw: Path, shape: tuple[int, int], there: str = "", told: str = "") -> Path:
    height, width = shape
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{there}'
        f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f"{told}<NoDataValue>{NODATA}</NoDataValue>"
        f'<SourceFilename relativeToVRT="1">{raw.name}</SourceFilename><ImageOffset>0</ImageOffset>'
        f"<PixelOffset>1</PixelOffset><LineOffset>{width}</LineOffset></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    return path


def write_cog(vrt: Path, raw: Path, path: Path, scene: Scene) -> None:
    """Writes a COG with overviews, aside and renamed.

    Args:
        vrt: from `describe`
        raw: the bytes that it describes
        path: of the COG
        scene: gives the size
    """
    described = with_overviews(vrt, raw, (scene.height, scene.width))
    try:
        with (
            writing(path),
            beside(path) as place,
            rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "2")),
        ):
            rasterio.shutil.copy(
                str(described), str(place), driver="COG", COMPRESS="DEFLATE", LEVEL="6", BLOCKSIZE=str(BLOCK_PX),
                BIGTIFF="IF_SAFER",
            )  # fmt: skip
    except (RasterioError, CPLE_BaseError) as error:
        raise refused(path, error) from None
