"""What a network said of every pixel of a set of tiles, kept so that nothing needs a second look at the network.

A pixel's answer is the bin of its logit, one byte (`counts.logit_bins`): masks at any threshold, pictures, the mean
probability of a lake, and every score can be made from it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.scoring.counts import PROBABILITY, bin_of_threshold


class Tiles(Protocol):
    """What is needed of a tile store; `data.store.TileStore` is one."""

    index: pd.DataFrame
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    manifest: dict[str, Any]

    @property
    def inventory(self) -> pd.DataFrame | None: ...

    @property
    def ice(self) -> pd.DataFrame | None: ...

    def rows(self, split: str, /) -> NDArray[np.int64]: ...


@dataclass
class Predictions:
    """The answers to n tiles of a store. Place i, 0 to n - 1, is row `rows[i]` of the store."""

    split: str
    """stands before the names of its metrics: val or test"""
    tiles: Tiles
    """the store"""
    rows: NDArray[np.int64]
    """(n,) rows of the store"""
    hist: NDArray[np.int32]
    """(n, 2, 256) pixels of each tile by label and bin"""
    bins: NDArray[np.uint8]
    """(n, H, W) bin of every pixel, also of those that are not valid; on disk where there are many: read it by tile"""
    threshold: float
    """probability fixed on val"""
    temperature: float | None = None
    """fitted on val; None where there is none. Probabilities and threshold are without it"""

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def index(self) -> pd.DataFrame:
        """The store's index, a row a place, counted from 0; the column split says `split`."""
        return self.tiles.index.iloc[self.rows].reset_index(drop=True).assign(split=self.split)

    @property
    def threshold_bin(self) -> int:
        """Lake is predicted where `bins` is at or above it."""
        return bin_of_threshold(self.threshold)

    def image(self, place: int) -> NDArray[np.uint8]:
        """(H, W, C) of 0-255."""
        return self.tiles.images[self.rows[place]]

    def label(self, place: int) -> NDArray[np.uint8]:
        """(H, W): 0 background, 1 lake, 255 not valid."""
        return self.tiles.labels[self.rows[place]]

    def lake(self, place: int) -> NDArray[np.bool_]:
        """(H, W): where lake is predicted, also on pixels that are not valid."""
        found: NDArray[np.bool_] = np.asarray(self.bins[place]) >= self.threshold_bin
        return found

    def probability(self, place: int) -> NDArray[np.float32]:
        """(H, W) probability of lake, the middle of its bin (1/8 of a logit wide)."""
        return PROBABILITY[self.bins[place]]
