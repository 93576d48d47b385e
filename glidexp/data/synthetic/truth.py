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

    file = Path(folder) / "classes" / f"{scene}.tif"
    if not file.is_file():
        raise DataError(f"{file} is not there: give a folder of generated scenes and the name of one of them.")
    with rasterio.open(file) as source:
        codes: NDArray[np.uint8] = source.read(1)
    return codes
