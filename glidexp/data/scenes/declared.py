"""What a scene's files declare of their values: which stand for no data, and in what they are counted."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import rasterio
from rasterio.enums import MaskFlags

if TYPE_CHECKING:
    from glidexp.data.scenes.reading import Scene

Opened = Mapping[Path, rasterio.DatasetReader]


def no_data_of(scene: "Scene", opened: Opened) -> list[float | None]:
    """Value without data of each band that is taken, None where nothing says one."""
    found = [opened[path].nodatavals[band - 1] for path, band in zip(scene.paths, scene.bands, strict=True)]
    return [scene.file.fill if value is None else value for value in found]


def masked_of(scene: "Scene", opened: Opened) -> list[rasterio.DatasetReader]:
    """The files whose mask or alpha band says where there are data; their values without data say nothing then."""
    return [
        opened[path]
        for path in dict.fromkeys(scene.paths)
        if MaskFlags.per_dataset in opened[path].mask_flag_enums[scene.bands[scene.paths.index(path)] - 1]
    ]


def scaled_of(scene: "Scene", opened: Opened) -> list[Path]:
    """The files that declare a scale or an offset of a band that is taken: here values are read as they are stored."""
    return list(
        dict.fromkeys(
            path
            for path, band in zip(scene.paths, scene.bands, strict=True)
            if (opened[path].scales[band - 1], opened[path].offsets[band - 1]) != (1.0, 0.0)
        )
    )
