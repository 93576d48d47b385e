"""What the generator knows of every pixel. For tests and studies of what goes wrong where; never for training."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glidexp.errors import DataError


def read_classes(folder: Path, scene: str) -> NDArray[np.uint8]:
    """The class map of a generated scene.

    Args:
        folder: as `generate` made it, holding scenes/ and classes/
        scene: its name

    Returns:
        (height, width), codes of `CLASSES`

    Raises:
        DataError: no such scene
    """
    import rasterio

    with rasterio.open(_class_file(folder, scene)) as source:
        codes: NDArray[np.uint8] = source.read(1)
    return codes


def read_turbidity(folder: Path, scene: str) -> NDArray[np.float32]:
    """How turbid the water of a generated scene is: (height, width), 0 clear, 1 mud, NaN where there is no lake.

    Args:
        folder: as `generate` made it
        scene: its name

    Raises:
        DataError: no such scene
    """
    import geopandas
    import rasterio
    from rasterio.features import rasterize

    with rasterio.open(_class_file(folder, scene)) as source:
        shape, transform, crs = source.shape, source.transform, source.crs
    lakes = geopandas.read_file(folder / "lakes.gpkg", engine="pyogrio")
    lakes = lakes[lakes["lake_id"].str.startswith(f"{scene}_")].to_crs(crs)
    if not len(lakes):
        return np.full(shape, np.nan, dtype=np.float32)
    drawn: NDArray[np.float32] = rasterize(
        list(zip(lakes.geometry, lakes["turbidity"], strict=True)),
        out_shape=shape,
        transform=transform,
        fill=np.nan,
        dtype="float32",
    )
    return drawn


def _class_file(folder: Path, scene: str) -> Path:
    file = Path(folder) / "classes" / f"{scene}.tif"
    if not file.is_file():
        raise DataError(f"{file} is not there: give a folder of generated scenes and the name of one of them.")
    return file
