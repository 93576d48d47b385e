"""What a network is told of the tiles of a store, and how often it is not, so that it learns to do without."""

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import Config, Embed
from glidexp.data.sensor_mix import training_rows
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError
from glidexp.models.told import NOTHING, Told, with_told
from glidexp.training.augmentation.draws import nth, raw_draws, uniforms
from glidexp.training.augmentation.indexing import send

LARGEST_SCALE = 4
"""times a tile's side to which it may grow: the network's memory grows by its square"""
APART = 0x701D
"""keeps the draws apart from those of the augmentation, which are of the same seed, epoch and tile"""


def told_for(config: Config, tiles: TileStore) -> Told:
    """What the network of a run can be told: of sensors those that it trains on.

    Raises:
        ConfigError: all images are to be seen at one ground sample distance, and those of training cannot
    """
    embed, gsd_m = config.input.embed, config.input.gsd_m
    if embed is Embed.none and gsd_m is None:
        return NOTHING
    rows, _ = training_rows(tiles, config.sensor_mix, config.subset, config.seed, config.self_training)
    table = tiles.index.iloc[rows]
    if gsd_m is not None:
        unknown, largest = int(table["gsd_m"].isna().sum()), float(table["gsd_m"].max())
        if unknown:
            raise ConfigError(
                f"input.gsd_m={gsd_m:g}: {unknown} of {len(rows)} training tiles have no ground sample distance; name "
                "it in dataset.manifest, or leave input.gsd_m out."
            )
        if largest > LARGEST_SCALE * gsd_m:
            raise ConfigError(
                f"input.gsd_m={gsd_m:g}: tiles of {largest:g} m would grow to {largest / gsd_m:.0f} times their side: "
                f"give {largest / LARGEST_SCALE:g} m or more."
            )
    sensors = sorted(set(table["sensor"].astype(str)))
    return Told(embed, tuple(sensors) if embed is Embed.sensor else (), gsd_m)


class Telling:
    """Puts behind the bands of a batch what is known of its tiles.

    Args:
        told: what the network can be told
        tiles: the store
        unknown: share of the tiles of which nothing is told, drawn anew in each epoch
        seed: of the run
    """

    def __init__(self, told: Told, tiles: TileStore, *, unknown: float = 0.0, seed: int = 0) -> None:
        known = zip(tiles.index["sensor"].astype(str), tiles.index["gsd_m"], strict=True)
        table = [told.vector(sensor, gsd_m) for sensor, gsd_m in known]
        self.table: npt.NDArray[np.float32] = np.asarray(table, dtype=np.float32).reshape(len(tiles), told.size)
        self.learnt = told.learnt
        self.unknown, self.seed = unknown, seed ^ APART

    def __call__(
        self, image: torch.Tensor, rows: torch.Tensor, epoch: int, again: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, H, W) normalised -> (B, C + E, H, W).

        Args:
            image: normalised batch
            rows: int64 (B,) rows of the store, on the CPU; with seed and epoch they fix of which nothing is told
            epoch: from 0
            again: int64 (B,) how often the epoch gave each of them before; never when not given
        """
        vectors = self.table[rows.numpy()]
        if self.unknown > 0 and self.learnt:
            drawn = uniforms(
                raw_draws(self.seed, epoch if again is None else nth(epoch, again.numpy()), rows.numpy(), 1)
            )[:, 0]
            vectors[:, : self.learnt] *= (drawn >= self.unknown)[:, None]
        return with_told(image, send(vectors, image.device))


def telling_of(told: Told, tiles: TileStore, *, unknown: float = 0.0, seed: int = 0) -> Telling | None:
    """As `Telling`; None for a network that is told nothing."""
    return Telling(told, tiles, unknown=unknown, seed=seed) if told.size else None
