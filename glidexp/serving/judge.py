"""An uploaded file judged by its first bytes and its header, before any pixel is read.

Only formats that hold all of their pixels themselves are let in: a VRT, a ZIP or a catalogue names other files, which a
request must not reach.
"""

import re
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import rasterio.enums
import rasterio.errors
import rasterio.shutil
from affine import Affine

from glidexp.data import sensors
from glidexp.data.scenes.catalogue import SceneFile, find
from glidexp.data.scenes.dem import files_of
from glidexp.data.scenes.grid import check_numbers, check_picture
from glidexp.data.scenes.own_overviews import lie_elsewhere
from glidexp.errors import DataError
from glidexp.mapping import areas, domain
from glidexp.serving.refusal import ALONE, Refusal
from glidexp.serving.settings import ServeSettings, Wish

FORMATS = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg", "JP2OpenJPEG": ".jp2"}
"""drivers of GDAL that may open an upload, and the ending its file gets"""
ALLOWED = "GeoTIFF, PNG, JPEG or JPEG2000"
SIGNS = (
    (b"II*\x00", "GTiff"), (b"MM\x00*", "GTiff"), (b"II+\x00", "GTiff"), (b"MM\x00+", "GTiff"),
    (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JP2OpenJPEG"), (b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
)  # fmt: skip
"""first bytes of these formats"""
BLOCK_BYTES = 256 << 20
"""most that a block may take in memory once unpacked: GDAL unpacks it whole"""
MOST_BANDS = 64
NAME_BYTES = 80
"""of a scene's name: a file system takes 255, and outputs add their own words"""
USUAL_GSD_M = 10.0
FLAT = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
"""where a picture without position is laid while it is mapped: a metre is a metre there"""


@dataclass(frozen=True, slots=True)
class Judged:
    """An upload that may be mapped."""

    file: SceneFile
    name: str
    placed: bool
    """whether it says where it lies; else lakes are told in pixels"""
    width: int
    height: int
    gsd_m: float
    """metres to a pixel: of the file, of the request, or assumed"""


def safe_name(told: str) -> str:
    """A scene's name as outputs are named by it: what was uploaded, without folders, ending and odd characters.

    Letters of all scripts stay, as `glidexp predict` keeps them.
    """
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", told)[-1])
    stem = last.rpartition(".")[0] or last
    kept = areas.plain(stem).strip("._-").encode()[:NAME_BYTES]
    return kept.decode(errors="ignore") or "scene"  # the cut may go through a letter


def judge(upload: Path, name: str, wish: Wish, card: dict[str, Any], settings: ServeSettings) -> Judged:
    """Looks at an upload's header, and gives its file the ending of its format.

    Args:
        upload: the file as it came, alone in its folder
        name: from `safe_name`
        wish: what the request says of it
        card: of the model
        settings: give the limits

    Raises:
        Refusal: 413 too many pixels, 415 another format or damaged, 422 not for this model
    """
    driver = kind_of(upload)
    path = upload.rename(upload.with_name(name + FORMATS[driver]))
    if lie_elsewhere(path):
        raise Refusal(415, "the scene names other files as its overviews: send it without.")
    with rasterio.Env(**ALONE):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
                with rasterio.open(path, driver=driver) as source:
                    _check_size(source, settings)
                    placed = source.crs is not None and not source.transform.is_identity
                    check_picture(path, source)
                    check_numbers(path, source)
                    width, height = source.width, source.height
                    palette = source.count == 1 and source.colorinterp[0] is rasterio.enums.ColorInterp.palette
                with rasterio.open(path) as again:  # as later readers open it: no other driver may claim it
                    if again.driver != driver:
                        raise Refusal(415, f"the scene is not what it seems: {ALLOWED} are taken.")
        except rasterio.errors.RasterioError as error:
            reason = " ".join(str(error.__cause__ or error).replace(f"{path.parent}/", "").split())
            raise Refusal(415, f"the scene cannot be read as {driver}: {reason}") from None
        except DataError as error:
            raise Refusal(422, str(error).replace(f"{path.parent}/", "")) from None
        if palette:
            raise Refusal(
                422, "the scene is a picture with a palette, which holds no colours of its own: save it as RGB."
            )
        gsd_m = wish.gsd_m or usual_gsd(card, wish.sensor)
        below = settings.dem if card.get("terrain") else None
        if below and not placed:
            raise Refusal(
                422, "the scene does not say where it lies, and the model takes heights of its ground: send one with "
                "a CRS and a position.",
            )  # fmt: skip
        seen = path if placed else laid_flat(path, width, height, gsd_m)
        try:
            file = find(seen, wish.sensor, dem=files_of(below, "--dem"))[0]
            scene = domain.header(card, file)
        except DataError as error:
            raise Refusal(422, str(error).replace(f"{path.parent}/", "").replace(seen.name, path.name)) from None
    return Judged(file, name, placed, width, height, scene.gsd_m if placed else gsd_m)


def kind_of(path: Path) -> str:
    """Driver of a file by its first bytes.

    Raises:
        Refusal: none of ours
    """
    with path.open("rb") as stream:
        head = stream.read(16)
    for sign, driver in SIGNS:
        if head.startswith(sign):
            return driver
    what = "is empty" if not head else "is no raster that is taken here"
    raise Refusal(415, f"the scene {what}: send a {ALLOWED} file (no VRT, no ZIP).")


def usual_gsd(card: dict[str, Any], sensor: str) -> float:
    """Metres to a pixel that a model knows of a sensor, else of any."""
    sizes = dict(card.get("gsd_m") or {})
    known = sizes.get(sensor) or next(iter(sizes.values()), None) or [sensors.get(sensor).gsd_m]
    return float(known[0]) if known[0] == known[0] and known[0] else USUAL_GSD_M


def laid_flat(path: Path, width: int, height: int, gsd_m: float) -> Path:
    """A VRT of ours beside a picture without position, which lays it around a point on the equator."""
    flat = path.with_suffix(".vrt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        rasterio.shutil.copy(str(path), str(flat), driver="VRT")
    place = Affine(gsd_m, 0.0, -width / 2 * gsd_m, 0.0, -gsd_m, height / 2 * gsd_m)
    text = flat.read_text(encoding="utf-8")
    text = re.sub(r"\s*<(SRS|GeoTransform)\b.*?</\1>", "", text, flags=re.DOTALL)
    head, more, rest = text.partition(">\n" if ">\n" in text else ">")
    numbers = ", ".join(repr(float(v)) for v in place.to_gdal())
    there = f"<SRS>{rasterio.crs.CRS.from_string(FLAT).to_wkt()}</SRS><GeoTransform>{numbers}</GeoTransform>"
    flat.write_text(f"{head}{more}{there}{rest}", encoding="utf-8")
    return flat


def _check_size(source: Any, settings: ServeSettings) -> None:
    pixels = source.width * source.height
    if pixels > settings.max_pixels:
        raise Refusal(
            413, f"the scene has {source.width} x {source.height} px, more than the {settings.max_mpx:g} million "
            "pixels allowed: cut it, or start the server with a higher --max-mpx.",
        )  # fmt: skip
    if source.count > MOST_BANDS:
        raise Refusal(413, f"the scene has {source.count} bands, more than {MOST_BANDS}: send those the model takes.")
    height, width = source.block_shapes[0]
    together = source.count if source.interleaving is not None and source.interleaving.name == "pixel" else 1
    block = height * width * together * max(8 if "64" in kind else 4 if "32" in kind else 2 for kind in source.dtypes)
    if block > BLOCK_BYTES:
        raise Refusal(413, f"the scene's blocks of {width} x {height} px are too large: write it in tiles of 512 px.")
