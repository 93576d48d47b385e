"""What can be told from the settings alone, before torch or data are touched."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glidexp.config import Config, DatasetConfig, DatasetKind, InitKind, SensorMixConfig, SplitBy, TrainConfig, Tta
from glidexp.config.evaluation import EvalSplit, EvaluateConfig
from glidexp.config.unread import refuse_unread
from glidexp.data.prepare import declared_regions, declared_sensors, recipe_id
from glidexp.data.sensor_mix import chosen_sensors, judging_rows, training_rows
from glidexp.data.subset import chosen_regions
from glidexp.errors import ConfigError, GlidexpError, unknown_name
from glidexp.models import catalog
from glidexp.scoring.land_cover import CHOOSING

if TYPE_CHECKING:
    from glidexp.data.store import TileStore

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
        ConfigError: an impossible network, tile size, sensor or start, a setting that this data set does not read; one
            line that lists what is allowed
    """
    catalog.check(config.backbone.name, config.decoder.name, config.tile_size.px)
    if not config.train.auto_batch:
        catalog.check_batch(config.decoder.name, config.tile_size.px, config.train.batch_tiles)
    _check_labels(config)
    split = config.dataset.split
    if split.by is SplitBy.random and not config.allow_leak:
        raise ConfigError(
            "dataset.split.by=random puts neighbours of each test tile into train: use scene, block or region, or set "
            "allow_leak=true, which marks the scores as leaking."
        )
    if split.val <= 0 or (not split.has_test and config.dataset.kind is not DatasetKind.glid):
        raise ConfigError(
            f"dataset.split.val={split.val:g} and dataset.split.test={split.test:g}: training needs both above 0, "
            "one to choose the epoch and the threshold, one to report on."
        )
    check_data(config.dataset, config.tile_size.px, config.sensor_mix)
    regions = declared_regions(config.dataset)
    if regions is not None:
        chosen_regions(config.subset.regions, regions)
        chosen_regions(config.self_training.regions, regions, "self_training.regions")
        chosen_regions(config.style.regions, regions, "style.regions")
    sensors = declared_sensors(config.dataset)
    if sensors is not None:
        chosen_regions(config.self_training.sensors, sensors, "self_training.sensors")
        chosen_regions(config.style.sensors, sensors, "style.sensors")
    if config.self_training.on and config.init.kind not in (InitKind.run, InitKind.checkpoint):
        raise ConfigError(
            f"init.kind={config.init.kind}: self_training takes the labels from the model that a run starts from: give "
            "init=run init.run=RUN."
        )
    refuse_unread(config.dataset)


def _check_labels(config: Config) -> None:
    """Refuses a loss, a choice of the epoch and other settings that are not of the labels there are."""
    cover = config.dataset.classes is not None
    selectable = CHOOSING if cover else SELECTABLE
    if cover and config.train.select == TrainConfig().select:
        raise ConfigError(
            f"train.select={config.train.select} is of lakes, dataset.classes gives land cover: give one of "
            f"{', '.join(CHOOSING)}, as experiment=glid_paper_pretrain does."
        )
    if config.train.select not in selectable:
        raise unknown_name("train.select", config.train.select, selectable)
    if cover != (config.loss.cross_entropy > 0):
        if cover:
            raise ConfigError("land cover (dataset.classes) is learnt with loss=cross_entropy, and with no other loss.")
        raise ConfigError("loss.cross_entropy is of land cover (dataset.classes): for lakes give loss=bce_dice.")
    if cover and config.self_training.on:
        raise ConfigError("self_training is of lakes, dataset.classes gives land cover: leave one of them out.")
    if cover and (config.train.auto_batch or config.train.tta is not Tta.none):
        raise ConfigError(
            f"train.batch_size={config.train.batch_size}, train.tta={config.train.tta}: on land cover "
            "(dataset.classes) give a number, and train.tta=none."
        )


def check_evaluation(config: EvaluateConfig, card: Mapping[str, Any]) -> None:
    """Refuses a model and a data set that cannot meet.

    Args:
        config: whole, the data set included
        card: of the model

    Raises:
        ConfigError: a tile size that the network does not take, an absent sensor or file, no test split
    """
    shape = card["architecture"]
    catalog.check(shape["backbone"], shape["decoder"], config.tile_size.px)
    dataset = config.dataset
    if dataset.classes:
        raise ConfigError(f"dataset.classes={dataset.classes} gives land cover: models of lakes are scored on lakes.")
    if config.eval.split is EvalSplit.test and not dataset.split.has_test and dataset.kind is not DatasetKind.glid:
        raise ConfigError("dataset.split.test=0 leaves no test tiles: set a share, or eval.split=all.")
    check_data(dataset, config.tile_size.px, config.sensor_mix)


def check_data(dataset: DatasetConfig, tile_px: int, mix: SensorMixConfig) -> None:
    """Refuses a data set that lacks an input, and a sensor that it says it does not have.

    Raises:
        ConfigError, DataError: which one
    """
    recipe_id(dataset, tile_px)  # looks for every file that the data set names
    present = declared_sensors(dataset)
    if present is not None:
        chosen_sensors(mix, present)


def check_shares(config: Config, processes: int, *, common_statistics: bool) -> None:
    """Refuses what several processes cannot do, and a batch that they cannot share equally.

    Args:
        config: the settings; a batch that is yet to be found (`train.batch_size=auto`) will be one that they can share
        processes: how many share a batch
        common_statistics: batch statistics are those of the whole batch, and not of a part

    Raises:
        ConfigError: a setting of one process, a batch that is no multiple of their number, or parts of one tile where
            batch statistics need two
    """
    if config.input.gsd_m is not None and processes > 1:
        raise ConfigError(
            f"input.gsd_m={config.input.gsd_m:g}: {processes} processes would see groups of other sizes: start one."
        )
    if config.self_training.on and processes > 1:
        raise ConfigError(f"self_training: one process labels the tiles and learns, and {processes} were started.")
    if config.dataset.classes and processes > 1:
        raise ConfigError(f"dataset.classes: land cover is learnt by one process, and {processes} were started.")
    if config.train.auto_batch:
        return
    size = config.train.batch_tiles
    if size % processes:
        nearest = max(round(size / processes), 1) * processes
        raise ConfigError(
            f"train.batch_size={size} is shared by {processes} processes: give a multiple of {processes}, such as "
            f"{nearest}."
        )
    if common_statistics or processes == 1:
        return
    try:
        catalog.check_batch(config.decoder.name, config.tile_size.px, size // processes)
    except ConfigError:
        raise ConfigError(
            f"train.batch_size={size} gives each of {processes} processes one tile, over which decoder.name="
            f"{config.decoder.name} cannot normalise: give {2 * processes} or more, or start fewer processes."
        ) from None


def check_judging(config: Config, tiles: "TileStore") -> int:
    """Refuses val tiles by which no epoch can be chosen: the first would be kept, whatever came after it.

    Returns:
        number of val tiles that choose

    Raises:
        GlidexpError: none of them has a lake, or a scene where `train.select` is a mean over scenes
    """
    from glidexp.scoring.confusion import UNKNOWN_SCENES  # knows pandas

    rows, select = judging_rows(tiles, config.sensor_mix, config.subset, config.seed), config.train.select
    index = tiles.index.iloc[rows]
    if not tiles.classes and len(rows) and not (index["lake_fraction"] > 0).any():
        raise GlidexpError(
            f"none of the {len(rows)} val tiles that choose epoch and threshold has a lake, so {select} cannot tell "
            "epochs apart: give other regions, sensors or dataset.split, or subset.val_from=all."
        )
    if select.endswith("_per_scene") and index["scene"].fillna("").isin(UNKNOWN_SCENES).all():
        raise GlidexpError(
            f"train.select={select} is a mean over scenes, and no val tile says which scene it is of: give "
            f"{select.replace('_per_scene', '_pooled')}, or name scenes in dataset.manifest."
        )
    return len(rows)


def check_tiles(config: Config, tiles: "TileStore") -> None:
    """Refuses data that cannot be trained on or scored, before a run is begun.

    Raises:
        GlidexpError: a side without tiles, or fewer training tiles than a batch holds
    """
    for split in ("val", "test"):
        if not len(tiles.rows(split)):
            raise GlidexpError(f"the data set has no {split} tiles: change dataset.split so that every side gets some.")
    check_judging(config, tiles)
    rows, _ = training_rows(tiles, config.sensor_mix, config.subset, config.seed, config.self_training)
    if len(rows) < config.train.batch_tiles:
        raise GlidexpError(
            f"train.batch_size={config.train.batch_tiles} is more than the {len(rows)} training tiles: lower it."
        )
