"""How many tiles each arm has, made where they are not there yet: budget, hours and power depend on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from glidexp.config import Config, DatasetKind
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.sensor_mix import training_rows
from glidexp.data.workers import Crew
from glidexp.errors import ConfigError
from glidexp.scoring.confusion import UNKNOWN_SCENES, rows_of
from glidexp.study.comparison.clusters import cluster_kind
from glidexp.study.plan.check import Checked
from glidexp.training.check import check_judging

if TYPE_CHECKING:
    from glidexp.data.store import TileStore


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tiles of an arm's sides, as its runs use them."""

    train: int
    val: int
    test: int


class Data:
    """The opened stores of a study, each recipe once."""

    def __init__(self) -> None:
        self._stores: dict[str, TileStore] = {}
        self._met: dict[str, pd.DataFrame] = {}

    def missing(self, configs: Sequence[Config]) -> list[str]:
        """The stores that are not there yet, each in words; what `sizes` of these configs would build."""
        found: dict[str, str] = {}
        for config in configs:
            if config.dataset.kind is DatasetKind.store:
                continue  # ready, or refused when it is opened
            path = Path(config.paths.data) / "stores" / recipe_id(config.dataset, config.tile_size.px)
            if not path.exists():
                found.setdefault(str(path), f"{config.dataset.name} in tiles of {config.tile_size.px} px, {path}")
        return list(found.values())

    def store(self, config: Config) -> "TileStore":
        """The store of a config, built where it is not there."""
        key = f"{config.paths.data}/{recipe_id(config.dataset, config.tile_size.px)}"
        if key not in self._stores:
            self._stores[key] = prepare(config.dataset, config.tile_size.px, Path(config.paths.data), crew=Crew())
        return self._stores[key]

    def met(self, config: Config) -> "pd.DataFrame":
        """Pairs of a tile that trains or chooses and a test tile of the same ground, in the store of a config."""
        from glidexp.data.check.met import met  # knows the earth

        key = str(self.store(config).path)
        if key not in self._met:
            self._met[key] = met(self.store(config), Path(config.paths.data) / "checks")
        return self._met[key]

    def sizes(self, config: Config) -> Sizes:
        """Tiles of the run of a config.

        Raises:
            GlidexpError: data that cannot be used, or a side without tiles
        """
        store = self.store(config)
        train, _ = training_rows(store, config.sensor_mix, config.subset, config.seed, config.self_training)
        return Sizes(len(train), check_judging(config, store), len(store.rows("test")))

    def train_tiles(self, config: Config) -> int:
        """Number of training tiles."""
        return self.sizes(config).train

    def ground(self, configs: Sequence[Config], stratum: tuple[str, str] | None) -> tuple[str, int]:
        """What counts as independent ground of the score that decides, scene, block or tile, and how much there is that
        holds lakes: other ground says little of most scores, and nothing of some.

        Args:
            configs: of the baseline, on each fold
            stratum: of that score, `Measure.stratum`: of one sensor or region its own ground alone counts; None: all
        """
        tables = [self.store(config).index for config in configs]
        index = pd.concat([table[table["split"] == "test"] for table in tables], ignore_index=True)
        kind = cluster_kind(index)  # of all ground, as scores are put together
        if stratum is not None and stratum[0] in ("sensor", "region"):
            index = index.iloc[rows_of(index[stratum[0]], stratum[1])]
        index = index[index["lake_fraction"] > 0]
        return kind, max(len(index) if kind == "tile" else int(index[kind].nunique()), 1)

    def refuse_mixed_ground(self, arms: Sequence[Checked]) -> None:
        """Refuses arms of which one trains on scenes that another is scored on.

        Raises:
            ConfigError: which arm and which scene
        """
        base = self.store(arms[0].config).index
        tested = set(base.loc[base["split"] == "test", "scene"].astype(str)) - {*UNKNOWN_SCENES}
        for one in arms[1:]:
            index = self.store(one.config).index
            if index is base:
                continue
            trained = set(index.loc[index["split"] != "test", "scene"].astype(str))
            own = set(base.loc[base["split"] != "test", "scene"].astype(str))
            met = sorted((tested & trained) - own)  # of a split by block both sides may share a scene
            if met:
                raise ConfigError(
                    f"{one.name} trains on scene {met[0]}, which the baseline tests on: its settings change the split. "
                    "Fix it with dataset.split.by=region or leave_out, or give other arms."
                )
