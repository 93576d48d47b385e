"""Names a run by what changes its result: the key of checkpoints, of resuming and of "skip what is finished"."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from glidexp.config import AugmentationConfig, Config, Embed, SubsetConfig, Weighting, flat

RESULTS_VERSION = 1
"""Bumped by a bug fix that changes results, so that old runs are not taken for new ones."""
FIRST_VERSION = 1
"""of runs and models that do not say theirs"""
VERSION_TAG = "glidexp.results_version"
"""of a run: the version that made it"""
MODEL_VERSION_TAG = "glidexp.model_results_version"
"""of an evaluation: the version that trained what it scored, of a mean of networks all of them"""

OUTSIDE_THE_ID = (
    "paths.",
    "tracking.",
    "dataset.",
    "resume",
    "train.device",
    "train.threads",
    "train.resident",
    "train.checkpoint_every",
    "train.gradient_checkpointing",
)
"""What changes where or how a run is made and shown, but not its result. The data set enters by its recipe instead."""

INTRODUCED_AT: dict[str, Any] = {
    "allow_leak": False,
    "init.bands": [],
    "init.key_map": [],
    "init.run": None,
    "init.wavelengths_um": [],
    "input.embed": "none",
    "input.gsd_m": None,
    "input.unknown": 0.25,
    "loss.cross_entropy": 0.0,
    "loss.tversky": 0.0,
    "loss.tversky_alpha": 0.3,
    "loss.tversky_beta": 0.7,
    "loss.focal_tversky": 0.0,
    "loss.focal_tversky_gamma": 1.3333,
    "loss.lovasz": 0.0,
    "loss.boundary": 0.0,
    "loss.boundary_px": 16,
    "optimizer.encoder_lr_ratio": 1.0,
    "optimizer.layer_decay": 1.0,
    "self_training.draw": None,
    "self_training.keep": 0.8,
    "self_training.regions": [],
    "self_training.sensors": [],
    "sensor_mix.region_weights": {},
    "style.beta": 0.01,
    "style.p": 0.5,
    "style.regions": [],
    "style.sensors": [],
    "subset.fraction": 1.0,
    "subset.lakes": 1.0,
    "subset.regions": ["all"],
    "subset.scenes": None,
    "subset.seed": None,
    "subset.val_from": "regions",
    "subset.val_scenes": None,
    "train.average_last": 0,
    "train.ema_decay": None,
    "train.freeze_encoder_epochs": 0,
    "train.lora_alpha": 8,
    "train.lora_rank": 0,
    "train.tta": "none",
    "train.unfreeze_every": 0,
}
"""Settings added after the first release, with the default at which old runs were made. At that value they stay out of
the id, so that a new setting does not turn finished runs into unknown ones."""


def trained_by(cards: Iterable[Mapping[str, Any]]) -> str:
    """The versions that trained models, from their cards; one that says nothing is of the first."""
    return "+".join(sorted({str(card.get("results_version", FIRST_VERSION)) for card in cards}))


def earlier_ids(config: Config, *, recipe: str, resolved: dict[str, str] | None = None) -> dict[int, str]:
    """By version, latest first, what the earlier ones named a run of the same settings, see `config_id`."""
    of = range(RESULTS_VERSION - 1, FIRST_VERSION - 1, -1)
    return {version: config_id(config, recipe=recipe, resolved=resolved, version=version) for version in of}


def config_id(
    config: Config, *, recipe: str, resolved: dict[str, str] | None = None, version: int | None = None
) -> str:
    """Names a run by what changes its result.

    Args:
        config: the whole config
        recipe: id of the data recipe, split included (`data.prepare.recipe_id`)
        resolved: what `auto` values became, by dotted key, and hashes that stand for paths
        version: of the results; this one's when not given

    Returns:
        16 hex digits
    """
    values = {key: value for key, value in flat(config).items() if not key.startswith(OUTSIDE_THE_ID)}
    values.update(resolved or {})
    values = {key: value for key, value in values.items() if key not in INTRODUCED_AT or INTRODUCED_AT[key] != value}
    part = config.subset != SubsetConfig() or "all" not in config.sensor_mix.sensors
    if (
        part or 0 in config.sensor_mix.weights.values()
    ):  # such runs were normalised by the whole store's statistics once
        values["normalised_by"] = "part"
    if config.train.accumulate > 1:  # an epoch's last, smaller group was divided by the whole `accumulate` once
        values["accumulated"] = "mean"
    if _repeats(config) and (config.augmentation != AugmentationConfig() or config.input.embed is not Embed.none):
        values["drawn"] = "each time"  # a tile that an epoch gave several times was the same one each time once
    if config.input.gsd_m is not None and config.train.average_last:  # a batch's last scale counted as the whole once
        values["renewed"] = "by image"
    values["recipe"] = recipe
    values["results_version"] = RESULTS_VERSION if version is None else version
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _repeats(config: Config) -> bool:
    """Whether an epoch may give a tile several times, since others weigh less."""
    mix, several = config.sensor_mix, "all" in config.sensor_mix.sensors or len(config.sensor_mix.sensors) > 1
    uneven = mix.weighting is Weighting.balanced or any(weight not in (0, 1) for weight in mix.weights.values())
    drawn = config.self_training.on and config.self_training.draw is not None
    return (several and uneven) or bool(mix.region_weights) or drawn
