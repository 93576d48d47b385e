"""What can be told from the settings alone, before torch or data are touched."""

from glidexp.config import Config, DatasetKind, InitKind
from glidexp.errors import ConfigError, unknown_name
from glidexp.models import catalog

SELECTABLE = (
    *(f"val/{score}_{how}" for how in ("pooled", "per_image", "per_scene") for score in ("lake_iou", "f1")),
    *(f"val/{score}_pooled" for score in ("precision", "recall", "miou_two_class")),
    *(f"val/at_0.5/{score}_pooled" for score in ("lake_iou", "f1")),
    "val/average_precision",
)
"""scores that can choose the best epoch: higher is better, and on val, since test only reports"""


def check(config: Config) -> None:
    """Refuses combinations that cannot run.

    Raises:
        ConfigError: an impossible network, tile size, sensor or start; one line that lists what is allowed
    """
    catalog.check(config.backbone.name, config.decoder.name, config.tile_size.px)
    catalog.check_batch(config.decoder.name, config.tile_size.px, config.train.batch_size)
    if config.train.select not in SELECTABLE:
        raise unknown_name("train.select", config.train.select, SELECTABLE)
    if config.init.kind is InitKind.checkpoint and not config.init.checkpoint:
        raise ConfigError("init=checkpoint needs init.checkpoint=PATH: a .safetensors file or the folder of a model.")
    if config.dataset.kind is DatasetKind.synthetic:
        check_sensors(config.sensor_mix.sensors, config.dataset.synthetic.sensors)


def check_sensors(wanted: list[str], present: list[str]) -> None:
    """Refuses a sensor that the data does not hold.

    Raises:
        ConfigError: names the sensor and those present
    """
    for sensor in wanted:
        if sensor != "all" and sensor not in present:
            raise ConfigError(
                f"sensor_mix.sensors: '{sensor}' is not in the data. Present: {', '.join(sorted(present))}. "
                "Use sensor_mix=all for all of them."
            )
