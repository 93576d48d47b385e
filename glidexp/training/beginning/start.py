"""What a run starts from, found in the store before anything is made: its folder, and what stands for it in the id.

With self-training that model also labels tiles: whether it can is told here, too.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from glidexp.beside import file_sha256
from glidexp.config import Config, InitConfig, InitKind, InitScope
from glidexp.data.ready.inputs import bands_of
from glidexp.data.sensors import RGB
from glidexp.errors import ConfigError, DataError, TrackingError
from glidexp.models import catalog
from glidexp.models.bands import by_name
from glidexp.models.card import CARD, classes_of, members_of, read_card, require_lakes
from glidexp.models.init import checkpoint_digest, weights_file
from glidexp.models.load import FoundModel, find, is_place
from glidexp.tracking.models import RUN_ID
from glidexp.tracking.store import Store, store_at
from glidexp.tracking.study_runs import best_of

log = logging.getLogger("glidexp")

BY_CONFIG = "config:"
"""stands before a config id in init.run"""
NO_STUDY = (BY_CONFIG, "models:/", "runs:/")
"""how references begin that are of no study"""
DECIDES = ("threshold", "mean", "std", "bands", "told", "tta")
"""of a card: what labels follow from beside the weights"""


def settled(config: Config, store: Store | None = None) -> Config:
    """The settings with a run's id in place of a study, whose best training it is by now; others as they are.

    Args:
        config: whole
        store: opened; opened here, if one is needed, when not given

    Raises:
        TrackingError: a study that names no best training, or a reference that can be of no model
    """
    reference = str(config.init.run)
    if config.init.kind is not InitKind.run or reference.startswith(NO_STUDY) or is_place(reference):
        return config
    best = best_of(store or store_at(config.paths.mlruns, config.tracking.uri, make=True), reference)
    if best is None and not RUN_ID.fullmatch(reference):
        raise TrackingError(
            f"init.run={reference} is neither a model nor a study of this store: give a run id (4 to 32 of 0-9a-f), "
            "the folder of a bundle, models:/NAME@ALIAS, or a study's name, id or parent run."
        )
    if best is None:
        return config
    log.info(
        "init.run=%s: of study %s the arm %s, seed %s, run %s: %s",
        *(reference, best.study, best.arm, best.seed, best.run_id, best.why),
    )
    return replace(config, init=replace(config.init, run=best.run_id))


@contextmanager
def start_of(config: Config, store: Store | None = None) -> Iterator[tuple[InitConfig, dict[str, str]]]:
    """The first weights as a file, and what stands for them in the config id.

    Args:
        config: whole; of a study its best training is taken (`settled`)
        store: opened; opened here, if one is needed, when not given

    Returns:
        `init` with kind=checkpoint where a run was meant, whose files may be gone after the block; and `digest_of`,
        or of a file its content, and with self-training what else its labels follow from

    Raises:
        GlidexpError: no such file, run or model, one of another network, or one that cannot label (`labeller`)
    """
    labels = config.self_training.on
    if config.init.kind is not InitKind.run:
        digest = checkpoint_digest(config.init) if config.init.checkpoint else {}
        if config.init.kind is InitKind.imagenet and by_name(bands_of(config.dataset)):
            digest |= {"init.first_layer": "by name"}  # kernels were taken in turn once, whatever the bands' names
        if _taken_in_order(config):
            digest |= {"init.first_layer": "in order"}  # with a card beside them the same weights are another start
        if labels:
            _, card = labeller(config.init, config.tile_size.px, f"init.checkpoint={config.init.checkpoint}")
            digest |= {"self_training.labeller": labels_digest(card)}
        yield config.init, digest
        return
    store = store or store_at(config.paths.mlruns, config.tracking.uri, make=True)
    config = settled(config, store)
    with tempfile.TemporaryDirectory(prefix="glidexp-start-") as aside:
        found = find(_run_of(config, store), store, Path(aside))
        _fits(config, found)
        first = replace(config.init, kind=InitKind.checkpoint, checkpoint=str(found.bundle), run=None)
        if labels:
            labeller(first, config.tile_size.px, f"init.run={config.init.run}")
        yield first, digest_of(found.card)


def _taken_in_order(config: Config) -> bool:
    """Whether the first layer of a file of ours whose bands nobody says is taken for others than red, green, blue."""
    init = config.init
    if init.kind is not InitKind.checkpoint or init.bands or tuple(bands_of(config.dataset)) == RGB:
        return False
    try:
        return not read_card(weights_file(init.checkpoint).parent).get("bands")
    except DataError:
        return True


def digest_of(card: Mapping[str, Any]) -> dict[str, str]:
    """What stands for a trained model in the config id of a run that starts from it.

    It is the config id of the run that trained it: that is known before there is a model, so that what follows from a
    run can be planned with it, and however the model is named, the start is the same.
    """
    if card.get("config_id"):
        return {"init.run": f"{BY_CONFIG}{card['config_id']}"}
    return {"init.run": f"sha256:{card['weights']['sha256']}"}


def _run_of(config: Config, store: Store) -> str:
    """A reference that `find` knows."""
    reference = str(config.init.run)
    if not reference.startswith(BY_CONFIG):
        return reference
    identity = reference.removeprefix(BY_CONFIG)
    run = store.find_run(identity, config.tracking.experiment)
    if run is None or run.status != "FINISHED":
        state = "there is none" if run is None else f"run {run.run_id} is {run.status}"
        raise ConfigError(
            f"init.run={reference}: no finished run of this config id in experiment {config.tracking.experiment} "
            f"({state}): train it first, or give the id of a run."
        )
    return run.run_id


def _fits(config: Config, found: FoundModel) -> None:
    """Refuses a model of another network before data is made."""
    shape = found.card["architecture"]
    if classes_of(found.card) > 1 and config.init.scope is InitScope.all:
        require_lakes(found.card, f"init.run={config.init.run}")
    asked = {"backbone": config.backbone.name, "decoder": config.decoder.name}
    parts = asked if config.init.scope is InitScope.all else {"backbone": asked["backbone"]}
    wrong = [f"{part}.name={name}, the model has {shape[part]}" for part, name in parts.items() if shape[part] != name]
    if wrong:
        more = "" if "backbone" in wrong[0] else ", or init.scope=encoder to take the encoder alone"
        raise ConfigError(
            f"init.run={config.init.run} is of another network: {'; '.join(wrong)}: choose its own{more}."
        )


def labeller(first: InitConfig, tile_px: int, named: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the model that a run starts from, and its card.

    Args:
        first: `init`, of which a run was turned into its folder before
        tile_px: side of the tiles, pixels
        named: the model, in a message

    Raises:
        ConfigError: weights whose threshold is not known, a model that cannot label such tiles, a mean of networks
        DataError: the card is damaged
    """
    file = weights_file(first.checkpoint)
    folder = file.parent
    if not (folder / CARD).is_file():
        raise ConfigError(
            f"self_training: {named} is not a model's folder (no {CARD}), its threshold is not known: give init=run, "
            "or the folder of a bundle."
        )
    card = read_card(folder)
    if card["weights"]["sha256"] != file_sha256(file):
        raise ConfigError(
            f"self_training: {named} holds other weights than {folder / CARD} speaks of, so its threshold is not "
            "known: give the folder of a whole bundle."
        )
    if classes_of(card) > 1:
        raise ConfigError(
            f"self_training: {named} knows {classes_of(card)} classes of land cover, no lakes: give a model of lakes."
        )
    if members := members_of(card):
        raise ConfigError(
            f"self_training: {named} is the mean of {len(members)} networks, and a run starts from one: give one of "
            f"them, {', '.join(members)}."
        )
    shape = card["architecture"]
    try:
        catalog.check(shape["backbone"], shape["decoder"], tile_px)
    except ConfigError as error:
        raise ConfigError(f"self_training: {named} is to label the tiles: {error}") from None
    return folder, card


def labels_digest(card: Mapping[str, Any]) -> str:
    """sha256 of what labels follow from beside the weights, which alone stand for a file in a config id."""
    kept = {key: card.get(key) for key in DECIDES}
    return f"sha256:{hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()}"
