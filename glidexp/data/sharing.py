"""How ground gets its sides other than by shares alone: in folds, with a sensor or region left out, at random."""

import hashlib
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glidexp.config import SplitConfig
from glidexp.errors import ConfigError, DataError
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.data.scenes.reading import Scene
    from glidexp.data.splits import Place, Unit


def deal(units: Sequence["Unit"], config: SplitConfig) -> dict[str, str]:
    """Sides of one of k folds: fold `fold` is test, the next one val (if val has a share), the others train.

    Units are dealt out like cards, stratum by stratum, regions taking turns, each in the order of a hash of (seed,
    unit). So folds differ by one unit at most, and each unit is test in one of the k splits.

    Raises:
        DataError: fewer units than folds
    """
    if len(units) < config.folds:
        raise DataError(
            f"{many(len(units), config.by.value)} of ground cannot be dealt out to "
            f"dataset.split.folds={config.folds}: take fewer folds, or dataset.split.by=block with smaller blocks."
        )

    def word(unit: "Unit") -> str:
        return hashlib.sha256(f"{config.seed}/fold/{unit.key}".encode()).hexdigest()

    dealt: list[Unit] = []
    for stratum in sorted({unit.stratum for unit in units}):
        regions: dict[str, list[Unit]] = {}
        for unit in sorted((unit for unit in units if unit.stratum == stratum), key=word):
            regions.setdefault(unit.region, []).append(unit)
        in_turn = zip_longest(*(regions[name] for name in sorted(regions)))
        dealt += [unit for turn in in_turn for unit in turn if unit is not None]
    sides = {config.fold: "test"}
    if config.val > 0:
        sides[(config.fold + 1) % config.folds] = "val"
    by_key = {unit.key: sides.get(n % config.folds, "train") for n, unit in enumerate(dealt)}
    return {unit.key: by_key[unit.key] for unit in units}


def held_out(units: Sequence["Unit"], name: str) -> set[str]:
    """Keys of the ground that a sensor or region has a scene on: all of it is test.

    Raises:
        ConfigError: no ground is of that name, or all is
    """
    held = {unit.key for unit in units if name in unit.names}
    known = ", ".join(sorted({other for unit in units for other in unit.names}))
    if not held:
        raise ConfigError(f"dataset.split.leave_out={name} is no sensor or region of this data set: it has {known}.")
    if len(held) == len(units):
        raise ConfigError(
            f"dataset.split.leave_out={name} leaves nothing to train on, as all ground is of it: name one of {known}."
        )
    return held


def may_test(scene: "Scene", left_out: str | None) -> bool:
    """Whether tiles of a scene may be test: where a sensor or region is left out, only its own."""
    return left_out is None or left_out in (scene.file.sensor, scene.file.region)


class RandomPlaces:
    """by=random: each tile takes its side by a hash, whatever lies beside it. It leaks, and is there to say how much.

    No ground is shared out: what is frozen is the rule. A tile's neighbours may be on any side, so scores on such a
    split are marked as leaking (`leakage.at_random`).
    """

    def __init__(self, scenes: "Sequence[Scene]", config: SplitConfig, tile_px: int) -> None:
        self._config = config
        rule = f"tiles of {tile_px} px at random: val {config.val:g}, test {config.test:g}, seed {config.seed}"
        self.sides = {scene.ground: rule for scene in scenes}

    def of(self, scene: "Scene", windows: npt.NDArray[np.int64], sides: dict[str, str]) -> list["Place"]:
        """Place of each window; see BlockPlaces.of."""
        return [(scene.name, self._side(f"{scene.name}/{row}/{col}")) for row, col, *_ in windows.tolist()]

    def _side(self, tile: str) -> str:
        digest = hashlib.sha256(f"{self._config.seed}/random/{tile}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        if drawn < self._config.test:
            return "test"
        return "val" if drawn < self._config.test + self._config.val else "train"
