"""The probability of whole scenes as arrays: the pixels that `glidexp predict` would write, and no files."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glidexp.data.scenes.catalogue import SceneFile, find
from glidexp.data.scenes.dem import files_of
from glidexp.data.scenes.products import SAFE
from glidexp.data.sensors import UNKNOWN
from glidexp.errors import DataError
from glidexp.mapping import domain, predict, raster
from glidexp.mapping.settings import MapSettings
from glidexp.mapping.workfiles import NODATA, PROBABILITY, STEPS, WorkFiles
from glidexp.models.card import read_card

log = logging.getLogger("glidexp")
DEM = '{"scene": PATH, "dem": PATH}'
SENSOR = '{"scene": PATH, "sensor": NAME}'
"""how a scene, its DEM and its sensor are given to a model that MLflow has loaded"""
Floats = npt.NDArray[np.float32]


def probabilities_of(
    bundle: Path,
    place: Path,
    settings: MapSettings | None = None,
    *,
    dem: Path | str | None = None,
    sensor: str = UNKNOWN,
) -> Floats | dict[str, Floats]:
    """Lake probability of a scene, or of every scene of a folder.

    Args:
        bundle: folder of the model
        place: a raster, VRT, catalogue or .SAFE; or a folder of them
        settings: window, stretch, device ...; the usual ones when not given
        dem: raster of heights or folder of them, for a model that takes bands of a DEM
        sensor: of scenes that name none, as `--sensor` of `glidexp predict`

    Returns:
        float32 (H, W) in steps of 1/254 from 0 to 1, NaN where the scene has no data; by name where there are several
        scenes, and for a folder other than .SAFE

    Raises:
        ConfigError: settings that no scene could be mapped with, a DEM that lacks or is not wanted, or a sensor that is
            not known
        DataError: nothing there, a band is missing, a damaged file
    """
    if not place.exists():
        raise DataError(f"{place} does not exist: give a raster or a folder of rasters.")
    files = find(place, sensor, "scene", dem=files_of(dem, DEM))
    chosen = settings or MapSettings()
    folder = place.is_dir() and place.suffix.lower() != SAFE
    if len(files) == 1 and not folder:
        return _of_scene(bundle, files[0], chosen)
    return {file.scene: _of_scene(bundle, file, chosen) for file in files}


def _of_scene(bundle: Path, file: SceneFile, settings: MapSettings) -> Floats:
    card = read_card(bundle)
    scene = domain.header(card, file, DEM)
    for word in (*scene.warnings, *domain.outside(card, scene, SENSOR)):
        log.warning("warning: %s", word)
    look = raster.look_shape(scene)
    with tempfile.TemporaryDirectory(prefix="glidexp-scene-") as aside:
        task = predict.SceneTask(file, bundle, Path(aside), settings, "")
        with WorkFiles(Path(aside, "work"), "once", scene.height, scene.width, look) as files:
            told = predict.rasters(task, card, scene, files, predict.untold)
            levels = np.array(files.read(PROBABILITY))
    for word in told["said"]:
        log.warning("warning: %s", word)
    found = levels.astype(np.float32) / np.float32(STEPS)
    found[levels == NODATA] = np.nan
    return found
