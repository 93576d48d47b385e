"""What a run's id says of light that falls on every band.

Brightness and contrast once left bands beyond the third alone. Runs of that time keep their ids, and are no runs of
today; those of three bands are the same, and their ids too.
"""

from glidexp.config import Config, DatasetConfig, DatasetKind
from glidexp.config.data import TERRAIN
from glidexp.data.ready.inputs import manifest_of
from glidexp.data.sensors import RGB


def light_of(config: Config) -> dict[str, str]:
    """What goes into the id beside the settings; nothing where no light falls beyond the third band.

    Raises:
        ConfigError, DataError: `dataset.root` is no store
    """
    light = config.augmentation
    falls = light.color_p > 0 and (light.brightness > 0 or light.contrast > 0)
    return {"augmentation.light": "every band"} if falls and _lit(config.dataset) > len(RGB) else {}


def _lit(dataset: DatasetConfig) -> int:
    """Bands on which light falls: all but those of a DEM."""
    if dataset.kind is not DatasetKind.store:
        return len(dataset.bands) - len(dataset.terrain)
    manifest = manifest_of(dataset.root)
    of_dem = TERRAIN if "dem" in manifest.get("recipe", {}) else ()
    return sum(str(band).lower() not in of_dem for band in manifest["bands"])
