"""Settings that were given and would change nothing: of a data set they are refused, of the training they are told.

A scene's folder given to the generator would train on generated ground in silence, and be taken for the user's own. A
setting of a loss that has no weight does no harm but to who takes its two runs for a comparison.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from glidexp.config import Config, flat
from glidexp.config.data import DatasetConfig, DatasetKind, SplitBy, StretchMethod
from glidexp.config.network import Embed, InitKind
from glidexp.config.subset import SubsetConfig, ValFrom
from glidexp.config.training import OptimizerName
from glidexp.errors import ConfigError

CUT = (DatasetKind.scenes, DatasetKind.synthetic)
"""kinds whose tiles are cut from scenes"""
READY = (DatasetKind.folder, DatasetKind.glid, DatasetKind.glid_transfer)
"""kinds whose tiles come as pictures"""

READ_BY: dict[str, tuple[DatasetKind, ...]] = {
    "root": (DatasetKind.scenes, *READY, DatasetKind.store),
    "sensor": (DatasetKind.scenes, *READY),
    "manifest": READY,
    **dict.fromkeys(("images", "labels"), (DatasetKind.folder,)),
    **dict.fromkeys(("empty_share", "split"), (*CUT, *READY)),
    **dict.fromkeys(("lakes", "lake_type_column", "lake_id_column", "lakes_crs", "lakes_layer"), (DatasetKind.scenes,)),
    **dict.fromkeys(("glaciers", "glaciers_crs", "glaciers_layer"), (DatasetKind.scenes,)),
    **dict.fromkeys(("previous", "previous_layer"), (DatasetKind.scenes,)),
    **dict.fromkeys(("within", "within_layer", "part_km", "mask_clouds", "dem"), (DatasetKind.scenes,)),
    **dict.fromkeys(("buffer_m", "min_lake_px", "bands", "all_touched", "overlap_px", "stretch"), CUT),
}
"""Settings of a data set, or groups of them, and the kinds that read them. The generator's own are not among them:
presets hold them, and no other kind could be meant by them."""


def refuse_unread(dataset: DatasetConfig) -> None:
    """Refuses a setting that this kind of data set does not read, for another data set was meant then.

    Raises:
        ConfigError: names it, and the data sets that it goes with
    """
    usual = flat(DatasetConfig(kind=dataset.kind, classes=dataset.classes, layout=dataset.layout))
    # a path that is given as nothing takes back what an experiment set
    given = {key: value for key, value in flat(dataset).items() if value not in (usual[key], "")}
    for key, value in given.items():
        kinds = READ_BY.get(key.partition(".")[0])
        if kinds is not None and dataset.kind not in kinds:
            raise ConfigError(
                f"dataset.{key}={_word(value)} would not be used with dataset.kind={dataset.kind}: it goes with "
                f"dataset={'|'.join(kinds)}. Choose one of these, or leave it out."
            )
    if dataset.within_layer and not dataset.within:
        raise ConfigError(
            f"dataset.within_layer={dataset.within_layer} is a layer of dataset.within, which is not given: give its "
            "file, or leave the layer out."
        )
    split = dataset.split
    for key, used, needs in (
        ("block_m", split.by is SplitBy.block, "dataset.split.by=block"),
        ("buffer_m", split.by is SplitBy.block, "dataset.split.by=block"),
        ("fold", split.folds > 0, "dataset.split.folds=N"),
    ):
        if f"split.{key}" in given and not used:
            raise ConfigError(
                f"dataset.split.{key}={given[f'split.{key}']:g} would not be used: it goes with {needs}. Add that, or "
                "leave it out."
            )


def idle(config: Config) -> list[str]:
    """Settings of the training that are away from their default and change nothing, in a sentence each."""
    values, usual = flat(config), flat(Config())
    return [
        f"{key}={_word(values[key])} changes nothing, as {why}."
        for key, why in _without_effect(config)
        if values[key] != usual[key]
    ]


def _without_effect(config: Config) -> Iterator[tuple[str, str]]:
    """Keys that other settings leave without effect, and which these are."""
    for switch, keys in {
        "augmentation.affine_p": ("rotate_deg", "translate", "scale", "shear_deg"),
        "augmentation.color_p": ("brightness", "contrast", "saturation", "hue"),
        "augmentation.gain_p": ("gain",),
        "augmentation.haze_p": ("haze",),
        "augmentation.gsd_p": ("gsd_factor",),
        "augmentation.blur_p": ("blur_sigma_px",),
        "augmentation.noise_p": ("noise_std",),
        "loss.focal": ("focal_gamma",),
        "loss.focal_tversky": ("focal_tversky_gamma",),
        "loss.boundary": ("boundary_px",),
        "train.lora_rank": ("lora_alpha",),
    }.items():
        group, _, name = switch.partition(".")
        if not getattr(getattr(config, group), name):
            yield from ((f"{group}.{key}", f"{switch} is 0") for key in keys)
    if not (config.loss.tversky or config.loss.focal_tversky):
        for key in ("tversky_alpha", "tversky_beta"):
            yield f"loss.{key}", "loss.tversky and loss.focal_tversky are 0"
    if config.optimizer.name is not OptimizerName.sgd:
        yield "optimizer.momentum", f"optimizer.name is {config.optimizer.name}"
    if config.init.kind in (InitKind.scratch, InitKind.imagenet):
        yield "init.scope", f"init.kind is {config.init.kind}"
    if replace(config.subset, seed=None, regions=["all"], val_from=ValFrom.regions) == SubsetConfig():
        yield "subset.seed", "no part of the data is drawn (subset)"
    if not config.self_training.on:
        for key in ("keep", "draw"):
            yield f"self_training.{key}", "self_training.regions and self_training.sensors are empty"
    if not config.style.on:
        for key in ("p", "beta"):
            yield f"style.{key}", "style.regions and style.sensors are empty"
    if config.input.embed is Embed.none:
        yield "input.unknown", "input.embed is none"
    if config.dataset.stretch.method is StretchMethod.minmax:
        yield from ((f"dataset.stretch.{key}", "dataset.stretch.method is minmax") for key in ("low", "high"))
    if config.train.freeze_encoder_epochs >= config.train.epochs:
        yield "train.unfreeze_every", "the encoder is held fixed in all epochs (train.freeze_encoder_epochs)"


def _word(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
