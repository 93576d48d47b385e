"""The model that labels tiles of self-training: whether it can, told before data is made, and what names its labels."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glidexp.beside import file_sha256
from glidexp.config import InitConfig
from glidexp.errors import ConfigError
from glidexp.models import catalog
from glidexp.models.card import CARD, classes_of, members_of, read_card
from glidexp.models.init import weights_file

DECIDES = ("threshold", "mean", "std", "bands", "told", "tta")
"""of a card: what labels follow from beside the weights"""


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
