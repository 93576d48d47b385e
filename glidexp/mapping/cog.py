"""Raw bytes on disk as a Cloud Optimized GeoTIFF: GDAL copies them block by block, so memory does not grow."""

import os
from pathlib import Path
from xml.sax.saxutils import escape

import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError

from glidexp.beside import beside
from glidexp.data.builder.parts import writing
from glidexp.data.scenes.reading import Scene
from glidexp.errors import RunFailed

CACHE_BYTES = 64 << 20
BLOCK_PX = 512


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
    path = raw.with_suffix(".vrt" if placed else ".pixels.vrt")
    there = f"<SRS>{escape(scene.crs.to_wkt())}</SRS><GeoTransform>{place}</GeoTransform>" if placed else ""
    path.write_text(
        f'<VRTDataset rasterXSize="{scene.width}" rasterYSize="{scene.height}">'
        f"{there}"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f"<Description>{name}</Description><NoDataValue>255</NoDataValue><Scale>{scale!r}</Scale>"
        f'<SourceFilename relativeToVRT="1">{raw.name}</SourceFilename><ImageOffset>0</ImageOffset>'
        f"<PixelOffset>1</PixelOffset><LineOffset>{scene.width}</LineOffset></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    return path


def write_cog(vrt: Path, path: Path, *, resampling: str) -> None:
    """Writes a COG with overviews, aside and renamed.

    Args:
        vrt: from `describe`
        path: of the COG
        resampling: of the overviews: average, or mode for classes
    """
    try:
        with (
            writing(path),
            beside(path) as place,
            rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "2")),
        ):
            rasterio.shutil.copy(
                str(vrt), str(place), driver="COG", COMPRESS="DEFLATE", LEVEL="6", BLOCKSIZE=str(BLOCK_PX),
                BIGTIFF="IF_SAFER", OVERVIEW_RESAMPLING=resampling.upper(),
            )  # fmt: skip
    except RasterioError as error:
        raise RunFailed(f"{path} cannot be written: {' '.join(str(error).split())[:160]}.") from None
