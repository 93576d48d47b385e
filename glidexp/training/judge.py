"""What all ranks score with: val and test as the network was trained to see them. Rank 0 records, the others follow."""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import Config
from glidexp.data.band_statistics import statistics_of
from glidexp.data.resident import stays
from glidexp.data.sensor_mix import judging_rows, training_rows
from glidexp.data.store import TileStore
from glidexp.training.augmentation.telling import Telling, told_for
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import plain


class Judge:
    """The tiles that a run is judged by, the same on every rank.

    Args:
        config: whole
        tiles: the store
        runtime: device, precision, ranks
    """

    def __init__(self, config: Config, tiles: TileStore, runtime: Runtime) -> None:
        self.config, self.tiles, self.runtime = config, tiles, runtime
        self.train, self.weights = training_rows(tiles, config.sensor_mix, config.subset, config.seed)
        self.mean, self.std = statistics_of(tiles, self.train, config.subset)
        self.told = told_for(config, tiles)
        telling = Telling(self.told, tiles) if self.told.size else None
        self.normalise = plain(self.mean, self.std, runtime, telling)
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

    def epoch(self, epoch: int, metrics: dict[str, float], model: torch.nn.Module, *, last: bool) -> None:
        """Rank 0 logs them."""

    def finish(self, model: torch.nn.Module, *, best_epoch: int, about: dict[str, float]) -> dict[str, float]:
        """The final scoring: bins of every pixel of this rank's tiles go to rank 0."""
        for evaluator in (self.val, self.shared(self.tiles.rows("test"))):
            evaluator.histograms(model, sink=lambda _, __: None)
        return {}
