"""What a network descends from, and the ground that it and its ancestors were trained on."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from glidexp.beside import file_sha256
from glidexp.config import InitConfig
from glidexp.data import leakage
from glidexp.data.store import TileStore
from glidexp.errors import DataError, LeakError
from glidexp.models.card import CARD, read_card, read_part
from glidexp.models.init import weights_file

log = logging.getLogger("glidexp")

KEPT = ("run_id", "config_id", "dataset", "split_hash", "data_hash")
"""what is remembered of an ancestor, as far as its card says"""


@dataclass(slots=True)
class Lineage:
    """A line of networks, the youngest first. Made by `of_bundle` and `of_init`."""

    members: list[dict[str, Any]] = field(default_factory=list)
    """`KEPT`, `weights` (sha256) and `ground`: whether it is known what each was trained on"""
    ground: pd.DataFrame = field(default_factory=lambda: leakage.join([]))
    """`leakage.SCHEMA`; the column model is the place in `members`"""

    @property
    def names(self) -> list[str]:
        """How each member is called in a message."""
        return [_name(member) for member in self.members]

    @property
    def unknown(self) -> list[str]:
        """Names of the members of which nobody knows what they were trained on."""
        return [_name(member) for member in self.members if not member["ground"]]

    def below(self, own: pd.DataFrame) -> tuple[list[dict[str, Any]], bytes]:
        """What the card of a network that started from this line keeps: its ancestors, and all ground as a file.

        Args:
            own: ground of the new network
        """
        older = self.ground.assign(model=self.ground["model"] + 1)
        return self.members, leakage.to_bytes(leakage.join([own, older]))


def of_bundle(folder: Path) -> Lineage:
    """The network of a bundle and its ancestors.

    Raises:
        DataError: the card or the ground is damaged
    """
    card = read_card(folder)
    entry = card.get("ground")
    known = isinstance(entry, Mapping)
    itself = {key: card[key] for key in KEPT if card.get(key)}
    members = [itself | {"weights": card["weights"]["sha256"], "ground": known}, *card.get("ancestors", [])]
    if not isinstance(entry, Mapping):
        return Lineage(members)
    ground = leakage.from_bytes(read_part(folder, entry["file"], entry["sha256"]), folder / entry["file"])
    return Lineage(members, ground)


def of_init(init: InitConfig) -> Lineage:
    """What a network starts from: nothing, or the line of its first weights.

    ImageNet's pictures are no ground.

    Args:
        init: settings; a run was turned into its folder before

    Raises:
        ConfigError: there is no such checkpoint
    """
    if init.checkpoint is None:
        return Lineage()
    file = weights_file(init.checkpoint)
    sha256 = file_sha256(file)
    if (file.parent / CARD).is_file():
        try:
            line = of_bundle(file.parent)
        except DataError as error:
            log.warning("%s", error)
        else:
            if line.members[0]["weights"] == sha256:
                return line
    return Lineage([{"weights": sha256, "ground": False}])


def refuse_leak(
    line: Lineage, tiles: TileStore, rows: npt.NDArray[np.int64], *, allow: bool, trains: bool = False
) -> leakage.Leak:
    """Compares the tiles to be scored with all ground of a line, train and val: val chose epochs and thresholds.

    Args:
        line: what the network is or starts from
        tiles: an opened store
        rows: the tiles that are to be scored
        allow: `allow_leak`: warn only
        trains: a network is about to be trained on the store's own train tiles

    Returns:
        what leaks

    Raises:
        LeakError: some of them were met in training
    """
    leak = leakage.find_leak(line.ground, tiles, rows, trains=trains)
    if leak.tiles.any():
        sentence = leak.sentence(line.names)
        if not allow:
            raise LeakError(
                f"{sentence}: score other ground, or set allow_leak=true, which marks the scores as leaking."
            )
        log.warning("%s: the scores are marked as leaking.", sentence)
    if line.unknown:
        log.warning(
            "what %s was trained on is not known (no card with ground): nobody can say whether these scores leak.",
            ", ".join(line.unknown),
        )
    return leak


def marks(line: Lineage, leak: leakage.Leak) -> tuple[dict[str, str], dict[str, float]]:
    """Tags and metrics that say of a run whether its test scores leak; none for a network without past."""
    if not line.members and not leak.at_random:
        return {}, {}
    state = "true" if leak.tiles.any() else "unknown" if line.unknown else "false"
    share = float(leak.tiles.mean()) if len(leak.tiles) else 0.0
    return {"glidexp.leak": state}, {"test/leak/tiles": float(leak.tiles.sum()), "test/leak/share": share}


def _name(member: Mapping[str, Any]) -> str:
    for key, what in (("run_id", "run"), ("config_id", "config")):
        if member.get(key):
            return f"{what} {str(member[key])[:12]}"
    return f"weights {str(member['weights'])[:12]}"
