"""What all ranks score with: val and test as the network was trained to see them. Rank 0 records, the others follow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import Config
from glidexp.data.band_statistics import statistics_of
from glidexp.data.resident import stays
from glidexp.data.sensor_mix import judging_rows, training_rows
from glidexp.data.store import TileStore
from glidexp.training.augmentation.augment import Augment
from glidexp.training.augmentation.telling import telling_of, told_for
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import plain


@dataclass(frozen=True, slots=True)
class Taught:
    """A store as it is learnt from: its images, and labels of which those of some rows a model gave."""

    images: npt.NDArray[np.uint8]
    """(N, H, W, C)"""
    labels: npt.NDArray[np.uint8]
    """(N, H, W)"""
    rows: npt.NDArray[np.int64]
    """(n,) rows whose labels a model gave, ascending"""
    facts: Mapping[str, float]
    """metrics of these labels"""

    @classmethod
    def plainly(cls, tiles: TileStore) -> "Taught":
        """The store's own labels."""
        return cls(tiles.images, tiles.labels, np.empty(0, dtype=np.int64), {})


class Judge:
    """The tiles that a run is judged by, the same on every rank.

    Args:
        config: whole
        tiles: the store
        runtime: device, precision, ranks
        taught: the tiles with the labels that are learnt; those of the store when not given
    """

    def __init__(self, config: Config, tiles: TileStore, runtime: Runtime, taught: Taught | None = None) -> None:
        self.config, self.tiles, self.runtime = config, tiles, runtime
        self.taught = taught or Taught.plainly(tiles)
        self.train, self.weights = training_rows(
            tiles, config.sensor_mix, config.subset, config.seed, config.self_training
        )
        self.mean, self.std = statistics_of(tiles, self.train, config.subset)
        self.told = told_for(config, tiles)
        self.normalise = plain(self.mean, self.std, runtime, telling_of(self.told, tiles))
        val = judging_rows(tiles, config.sensor_mix, config.subset, config.seed)
        resident = stays(config.train.resident, tiles, len(val), runtime.device, "val tiles")
        self.val = self.shared(val, resident=resident)

    def shared(self, rows: npt.NDArray[np.int64], *, resident: bool = False) -> Evaluator:
        """An evaluator of rows of the store that all ranks share: each takes its part, and of a batch its share."""
        ranks = self.runtime.ranks
        own_size = max(self.config.train.batch_tiles // ranks.size, 1)
        return Evaluator(self.tiles, rows, self.normalise, self.runtime, own_size, ranks=ranks, resident=resident)

    def tile_names(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Names of rows of the store."""
        return [str(name) for name in self.tiles.index["tile"].iloc[rows]]


class Follower(Judge):
    """Stands in for the `Recorder` on ranks other than 0: call for call its part of the scoring, and no record."""

    def val_scores(self, model: torch.nn.Module) -> dict[str, float]:
        """Scores on val, as rank 0 makes them."""
        self.val.histograms(model)
        return cast(dict[str, float], self.runtime.ranks.share(None))

    def augmented(self, augment: Augment, rows: npt.NDArray[np.int64]) -> None:
        """Rank 0 draws them."""

    def epoch(self, epoch: int, metrics: dict[str, float], model: torch.nn.Module, *, last: bool) -> None:
        """Rank 0 logs them."""

    def finish(self, model: torch.nn.Module, *, best_epoch: int, about: dict[str, float]) -> dict[str, float]:
        """The final scoring: bins of every pixel of this rank's tiles go to rank 0."""
        for evaluator in (self.val, self.shared(self.tiles.rows("test"))):
            evaluator.histograms(model, sink=lambda _, __: None)
        return {}
