"""A trained network is fitted to other ground without learning: to pixels of it without labels, or by its threshold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.swa_utils import AveragedModel

from glidexp.config.evaluation import Adapt
from glidexp.data import order as data_order
from glidexp.data.band_statistics import band_histograms, matching, moments
from glidexp.data.loader import Loader
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError
from glidexp.training.augmentation.augment import Augment, Prepared
from glidexp.training.averages import renew_batch_statistics, shown_images
from glidexp.training.device import Runtime

Rows = npt.NDArray[np.int64]


class Matched:
    """Normalisation with a table of new values before it; stands in for `final.plain`.

    Args:
        normalise: what follows the table
        table: (C, 256) uint8, from `band_statistics.matching`
        device: where the images are
    """

    def __init__(self, normalise: Augment, table: npt.NDArray[np.uint8], device: torch.device) -> None:
        self.normalise = normalise
        self.table = torch.from_numpy(table).to(device)

    def __call__(
        self,
        image: torch.Tensor,
        label: torch.Tensor,
        rows: torch.Tensor,
        epoch: int,
        again: torch.Tensor | None = None,
    ) -> Prepared:
        """(B, C, H, W) uint8 -> as `Augment` gives it."""
        bands = [self.table[band][image[:, band].long()] for band in range(len(self.table))]
        return self.normalise(torch.stack(bands, dim=1), label, rows, epoch, again)


def target_moments(tiles: TileStore, rows: Rows) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the target's own images, a value a band of the tiles."""
    return moments(band_histograms(tiles, rows))


def matched(
    normalise: Augment, card: Mapping[str, Any], order: list[int], tiles: TileStore, rows: Rows, device: torch.device
) -> Matched:
    """The target's values on the distribution of the model's training tiles.

    Args:
        normalise: with the model's own mean and deviation
        card: of the model
        order: where each band of the model lies in the tiles
        tiles: the target's store
        rows: its tiles without labels
        device: where the images are

    Raises:
        DataError: a model from before its card kept histograms
    """
    ours = card.get("histogram")
    if not ours:
        raise DataError("eval.adapt=histogram: the model's card has no histogram of its training tiles: train it anew.")
    theirs = band_histograms(tiles, rows)
    table = np.tile(np.arange(256, dtype=np.uint8), (tiles.channels, 1))  # bands that the model does not know stay
    table[order] = matching(theirs[order], np.asarray(ours, dtype=np.int64))
    return Matched(normalise, table, device)


def with_statistics_of(
    model: torch.nn.Module, tiles: TileStore, rows: Rows, normalise: Any, runtime: Runtime, batch_size: int
) -> torch.nn.Module:
    """The network with batch statistics of the target's images (AdaBN).

    Source: Li et al. 2016, Revisiting batch normalization for practical domain adaptation, arXiv 1603.04779. Here the
    mean over plain batches of all given tiles, weights untouched. The tiles are mixed: a store has those of a scene
    beside each other, and batches of one scene each would miss by how much scenes differ.

    Raises:
        ConfigError: a network without batch normalisation
    """
    if not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in model.modules()):
        raise ConfigError("eval.adapt=batch_norm: this network has no batch normalisation: choose another adaptation.")
    copied = AveragedModel(model)
    mixed = rows[data_order.order(len(rows), seed=0, epoch=0, weights=None)]
    if len(mixed) > batch_size and len(mixed) % batch_size == 1:
        mixed = mixed[:-1]  # of one tile there may be a single value to normalise by
    loader = Loader(tiles, mixed, batch_size, device=runtime.device, shuffle=False)
    renew_batch_statistics(copied, shown_images(loader, normalise, 0, runtime), runtime, frozen=set())
    network: torch.nn.Module = copied.module
    return network


def unlabelled_rows(tiles: TileStore, of: npt.NDArray[np.bool_], what: Adapt) -> Rows:
    """Training tiles of the target: their pixels are looked at, their labels are not, and none of them is scored.

    Args:
        tiles: the target's store
        of: (n,) tiles of the sensors and regions that are scored
        what: the adaptation, for the message

    Raises:
        ConfigError: there are none
    """
    rows = np.flatnonzero(of & (tiles.index["split"] == "train").to_numpy()).astype(np.int64)
    if not len(rows):
        raise ConfigError(f"eval.adapt={what}: the target has no training tiles whose pixels could be looked at.")
    return rows
