"""What can be told from the settings alone, before torch or data are touched."""

from glidexp.config import Config, DatasetKind, InitKind
from glidexp.data.prepare import declared_sensors, recipe_id
from glidexp.data.sensor_mix import chosen_sensors
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
    split = config.dataset.split
    if split.val <= 0 or (split.test <= 0 and config.dataset.kind is not DatasetKind.glid):
        raise ConfigError(
            f"dataset.split.val={split.val:g} and dataset.split.test={split.test:g}: training needs both above 0, "
            "one to choose the epoch and the threshold, one to report on."
        )
    recipe_id(config.dataset, config.tile_size.px)  # looks for every file that the data set names
    present = declared_sensors(config.dataset)
    if present is not None:
        chosen_sensors(config.sensor_mix, present)
