"""A released model meets a raster or a folder of them, whole and in memory: for scenes of moderate size.

Scenes are read as the builder reads them, bands by name, and stretched by the rule of the card, refitted on the scene.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import StretchConfig, StretchMethod
from glidexp.data.scenes import stretch
from glidexp.data.scenes.catalogue import SceneFile, find
from glidexp.data.scenes.reading import RGB, read_header, read_strips
from glidexp.errors import DataError
from glidexp.models.predictor import Predictor

MOST_PX = 64_000_000
"""of a scene, about 8,000 x 8,000: it is held in memory four times over"""
WINDOW_PX, MARGIN_PX = 512, 64
"""side of what the network sees at once, and how much of its rim is not used where there is a neighbour"""

Floats = npt.NDArray[np.float32]


def probabilities_of(predictor: Predictor, path: Path) -> Floats | dict[str, Floats]:
    """Lake probability of a scene, or of every scene of a folder.

    Args:
        predictor: with its card
        path: a raster, or a folder of them

    Returns:
        float32 (H, W) in 0-1, NaN where the scene has no data; for a folder by scene name

    Raises:
        DataError: nothing there, a band is missing, a damaged or too large file
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: give a raster or a folder of rasters.")
    sensors = predictor.card.get("sensors")
    sensor = str(sensors[0]) if isinstance(sensors, list) and len(sensors) == 1 else "unknown"
    scenes = find(path, sensor)
    if path.is_dir():
        return {scene.scene: _of_scene(predictor, scene) for scene in scenes}
    return _of_scene(predictor, scenes[0])


def _of_scene(predictor: Predictor, file: SceneFile) -> Floats:
    bands = predictor.card.get("bands")
    scene = read_header(file, tuple(map(str, bands)) if isinstance(bands, list) else RGB)
    if scene.width * scene.height > MOST_PX:
        raise DataError(
            f"{file.path} has {scene.width} x {scene.height} pixels, which are not held in memory at once: cut it into "
            f"parts of {MOST_PX:,} pixels at most."
        )
    parts = list(read_strips(scene, WINDOW_PX))
    pixels = np.concatenate([strip for _, strip, _ in parts], axis=1)
    valid = np.concatenate([here for _, _, here in parts], axis=0)
    if not valid.any():
        return np.full(valid.shape, np.nan, dtype=np.float32)
    image = stretch.apply(pixels, _limits(predictor, pixels, valid).tables())
    image[:, ~valid] = 0
    found = _in_windows(predictor, image)
    found[~valid] = np.nan
    return found


def _limits(predictor: Predictor, pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> stretch.Stretch:
    rule = predictor.card.get("stretch")
    told = rule if isinstance(rule, dict) else {}
    kept = {key: told[key] for key in ("low", "high") if key in told}
    config = StretchConfig(method=StretchMethod(told.get("method", StretchMethod.percentile)), **kept)
    counts = np.zeros((len(pixels), stretch.LEVELS), np.int64)
    stretch.count_values(pixels, valid, counts)
    return stretch.fit(counts, config)


def _in_windows(predictor: Predictor, image: npt.NDArray[np.uint8]) -> Floats:
    """Each pixel from the window in which it lies deepest."""
    height, width = image.shape[1:]
    found = np.empty((height, width), dtype=np.float32)
    for top, y in _windows(height):
        for left, x in _windows(width):
            part = torch.from_numpy(np.ascontiguousarray(image[None, :, top : top + WINDOW_PX, left : left + WINDOW_PX]))
            with torch.inference_mode():
                probability = predictor(part)[0, 0].cpu().numpy()
            found[y, x] = probability[y.start - top : y.stop - top, x.start - left : x.stop - left]
    return found


def _windows(length: int) -> list[tuple[int, slice]]:
    """Where windows begin along a side, and the part of it that each answers for."""
    step = WINDOW_PX - 2 * MARGIN_PX
    starts = list(range(0, max(length - WINDOW_PX, 0), step)) + [max(length - WINDOW_PX, 0)]
    ends = [start + WINDOW_PX - MARGIN_PX for start in starts[:-1]] + [length]
    return [(start, slice(before, end)) for start, before, end in zip(starts, [0, *ends[:-1]], ends, strict=True)]
