"""What ranks other than 0 do where rank 0 scores and records: their share of the tiles, and nothing else."""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import Config
from glidexp.data.band_statistics import statistics_of
from glidexp.data.resident import stays
from glidexp.data.sensor_mix import judging_rows, rows_and_weights
from glidexp.data.store import TileStore
from glidexp.training.augment import Augment
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import plain
from glidexp.training.telling import Telling, told_for


def shared_evaluator(
    tiles: TileStore,
    rows: npt.NDArray[np.int64],
    normalise: Augment,
    runtime: Runtime,
    batch_size: int,
    *,
    resident: bool = False,
) -> Evaluator:
    """An evaluator of tiles that all ranks share; on a single process the plain one.

    Args:
        tiles: the store
        rows: (n,) which of them
        normalise: from `plain`
        runtime: device, precision, ranks
        batch_size: train.batch_size; a rank takes its share of it at a time
        resident: keep this rank's tiles in the device's memory
    """
    own_size = max(batch_size // runtime.ranks.size, 1)
    return Evaluator(tiles, rows, normalise, runtime, own_size, ranks=runtime.ranks, resident=resident)


class Follower:
    """Stands in for the `Recorder` on ranks other than 0: call for call its part of the scoring, and no record."""

    def __init__(self, config: Config, tiles: TileStore, runtime: Runtime) -> None:
        self.ranks, self.tiles = runtime.ranks, tiles
        val, test = judging_rows(tiles, config.sensor_mix, config.subset, config.seed), tiles.rows("test")
        size = config.train.batch_tiles
        resident = stays(config.train.resident, tiles, len(val), runtime.device, "val tiles")
        train, _ = rows_and_weights(tiles, "train", config.sensor_mix, config.subset, config.seed)
        told = told_for(config, tiles)
        telling = Telling(told, tiles) if told.size else None
        normalise = plain(*statistics_of(tiles, train, config.subset), runtime, telling)
        self.val = shared_evaluator(tiles, val, normalise, runtime, size, resident=resident)
        self.test = shared_evaluator(tiles, test, normalise, runtime, size)

    def augmented(self, augment: Augment, rows: npt.NDArray[np.int64]) -> None:
        """Rank 0 draws the picture."""

    def val_scores(self, model: torch.nn.Module) -> dict[str, float]:
        """Scores on val, as rank 0 makes them."""
        self.val.histograms(model)
        return cast(dict[str, float], self.ranks.share(None))

    def epoch(self, epoch: int, metrics: dict[str, float], model: torch.nn.Module, *, last: bool) -> None:
        """Rank 0 logs them."""

    def tile_names(self, rows: npt.NDArray[np.int64]) -> list[str]:
        """Names of rows of the store, as an error tells them."""
        return [str(name) for name in self.tiles.index["tile"].iloc[rows]]

    def finish(self, model: torch.nn.Module, *, best_epoch: int, about: dict[str, float]) -> dict[str, float]:
        """The final scoring: bins of every pixel of this rank's tiles go to rank 0."""
        for evaluator in (self.val, self.test):
            evaluator.histograms(model, sink=lambda _, __: None)
        return {}
