"""Several networks as one model: the mean of their probabilities.

Networks that differ by their seed err in different places, so that their mean is mostly better than each of them
(Lakshminarayanan, Pritzel and Blundell 2017, deep ensembles). It costs as many forward passes as there are networks.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from glidexp.config import Tta
from glidexp.data import leakage
from glidexp.errors import ConfigError
from glidexp.models.card import read_card
from glidexp.models.export import bare, load_bundle, save_bundle
from glidexp.models.lineage import of_bundle
from glidexp.models.load import FoundModel
from glidexp.models.mean import MeanOfNetworks
from glidexp.models.tta import with_views

ALIKE = {
    "architecture": "backbone or decoder",
    "bands": "bands",
    "tile_px": "tile size",
    "data_hash": "tiles",
    "split_hash": "split",
    "mean": "training tiles",
    "std": "training tiles",
    "told": "input.embed or input.gsd_m",
    "tta": "train.tta",
}
"""what must be the same on the cards of all, and what it is called in a message"""
SHARED = ("dataset", "terrain", "sensors", "regions", "stretch", "gsd_m", "histogram")
"""what the card of the whole takes from the first besides, as the same tiles give it"""


def ensemble_of(found: Sequence[FoundModel], folder: Path) -> FoundModel:
    """Puts models together into one. Threshold and temperature are not known of it: they are to be found on val.

    Args:
        found: two or more, in any order
        folder: for the bundle

    Raises:
        ConfigError: one of them twice, or two that differ by more than their weights
        DataError: a damaged bundle
    """
    members = sorted(found, key=_weights)
    for one, other in pairwise(members):
        if _weights(one) == _weights(other):
            raise ConfigError(f"{_name(one)} and {_name(other)} have the same weights: name each model once.")
    for one in found:
        _refuse_unlike(found[0], one)
    first = members[0]
    card: dict[str, Any] = {key: first.card[key] for key in (*ALIKE, *SHARED) if key in first.card}
    lines = [of_bundle(one.bundle) for one in members]
    ancestors: list[dict[str, Any]] = []
    grounds = []
    for line in lines:
        grounds.append(line.ground.assign(model=line.ground["model"] + 1 + len(ancestors)))  # 0 is the whole
        ancestors += line.members
    card |= {
        "members": [{"uri": one.uri, "run_id": one.run_id, "weights": _weights(one)} for one in members],
        "ancestors": ancestors,
        "ground": {},
    }
    net = with_views(MeanOfNetworks(bare(load_bundle(one.bundle).net) for one in members), card.get("tta", Tta.none))
    bundle = save_bundle(folder, net, card=card, ground=leakage.to_bytes(leakage.join(grounds)))
    return FoundModel(bundle, read_card(bundle), " + ".join(one.uri for one in members), None, tuple(members))


def _weights(found: FoundModel) -> str:
    return str(found.card["weights"]["sha256"])


def _name(found: FoundModel) -> str:
    return f"run {found.run_id[:12]}" if found.run_id else found.uri


def _refuse_unlike(one: FoundModel, other: FoundModel) -> None:
    if any("members" in each.card for each in (one, other)):
        raise ConfigError("a mean of networks is no part of another: name the networks that it is the mean of.")
    for key, name in ALIKE.items():
        ours, theirs = one.card.get(key), other.card.get(key)
        if ours != theirs:
            raise ConfigError(
                f"{_name(one)} and {_name(other)} differ by {name}{_told(ours, theirs)}: the mean is of networks that "
                "differ by their weights alone, such as the seeds of one arm."
            )


def _told(ours: Any, theirs: Any) -> str:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        pairs = [(ours.get(key), theirs.get(key)) for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    else:
        pairs = [(ours, theirs)]
    short = [f"{one}, {other}" for one, other in pairs if len(f"{one}{other}") < 60]
    return f" ({'; '.join(short)})" if short else ""
