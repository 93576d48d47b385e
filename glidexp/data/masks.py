"""Writes masks as files that other programs read: GeoTIFF where the place is known, PNG where it is not."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glidexp.beside import beside


def write_mask(
    folder: Path, name: str, mask: npt.NDArray[np.bool_], *, transform: Sequence[float] | None, crs: str
) -> Path:
    """Writes one mask as 0 and 255, the values of the published labels.

    Args:
        folder: must exist
        name: file name without ending; characters that a file system may refuse become `_`
        mask: (H, W), True for lake
        transform: six numbers of the affine transform, pixel to map; None where unknown
        crs: coordinate reference system as text, empty where unknown

    Returns:
        the written file
    """
    pixels = mask.astype(np.uint8) * 255
    stem = _stem(name)
    if transform is None or not crs:
        from PIL import Image

        path = folder / f"{stem}.png"
        with beside(path) as place:
            Image.fromarray(pixels).save(place, format="PNG", optimize=False)
    else:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.transform import Affine

        path = folder / f"{stem}.tif"
        height, width = pixels.shape
        with warnings.catch_warnings(), beside(path) as place:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # an identity transform is a place, too
            with rasterio.open(
                place,
                "w",
                driver="GTiff",
                width=width,
                height=height,
                count=1,
                dtype="uint8",
                crs=crs,
                transform=Affine(*transform[:6]),
                compress="deflate",
            ) as file:
                file.write(pixels, 1)
    return path


def mask_file(name: str, files: Collection[str]) -> str | None:
    """Which of these files is the mask of a tile; None where there is none."""
    return next((file for file in (f"{_stem(name)}.tif", f"{_stem(name)}.png") if file in files), None)


def read_mask(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W) of 0 and 255, as `write_mask` wrote it."""
    from PIL import Image

    with Image.open(path) as image:  # Pillow reads the GeoTIFFs, too
        return np.asarray(image, dtype=np.uint8)


def _stem(name: str) -> str:
    return "".join(character if character.isalnum() or character in "-_." else "_" for character in name)
