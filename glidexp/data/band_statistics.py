"""How often each value of 0-255 comes in each band of some tiles, and what follows from it: mean, spread, matching."""

import numpy as np
import numpy.typing as npt

from glidexp.config import SubsetConfig
from glidexp.data.remembered import remembered
from glidexp.data.store import INVALID, TileStore

MOST = 512
"""tiles that are looked at, evenly spaced among those asked about: more change the third digit of nothing"""
Histograms = npt.NDArray[np.int64]
"""(C, 256) valid pixels by band and value"""
Floats = npt.NDArray[np.float64]


def band_histograms(store: TileStore, rows: npt.NDArray[np.int64]) -> Histograms:
    """Histograms of the valid pixels of some tiles; of more than `MOST`, of an even choice among them.

    Args:
        store: opened store
        rows: (n,) which tiles
    """
    found = np.zeros((store.channels, 256), dtype=np.int64)
    if len(rows) > MOST:
        rows = rows[np.linspace(0, len(rows) - 1, MOST).astype(np.int64)]
    for row in rows.tolist():
        pixels = store.images[row][store.labels[row] != INVALID]
        for band in range(store.channels):
            found[band] += np.bincount(pixels[:, band], minlength=256)
    return found


histograms_of = remembered(band_histograms)
"""the same, looked at once a process for the same tiles: many runs of it normalise by them"""


def mean_and_spread(histograms: Histograms) -> tuple[Floats, Floats]:
    """(C,) mean and (C,) standard deviation of the pixels, on the scale of 0-255; both 0 in a band without pixel."""
    values = np.arange(256.0)
    count = np.maximum(histograms.sum(axis=1), 1)
    mean = histograms @ values / count
    return mean, np.sqrt(np.maximum(histograms @ values**2 / count - mean**2, 0.0))


def moments(histograms: Histograms) -> tuple[list[float], list[float]]:
    """Mean and deviation a band to normalise by, on the scale of 0-255; a band without spread gets a deviation of 1."""
    mean, std = mean_and_spread(histograms)
    return mean.tolist(), np.where(std > 0, std, 1.0).tolist()


def statistics_of(
    store: TileStore, rows: npt.NDArray[np.int64], subset: SubsetConfig
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that the images of a run are normalised with, a value a band.

    Those of all training tiles of the store, from its manifest; of a part of them, by `subset` or by sensors, its own,
    so that a source knows nothing of a target.

    Args:
        store: opened store
        rows: (n,) the training tiles that are used
        subset: settings, by which they are a part
    """
    if subset == SubsetConfig() and len(rows) == len(store.rows("train")):
        return list(store.manifest["channel_mean"]), list(store.manifest["channel_std"])
    return moments(histograms_of(store, rows))


def matching(theirs: Histograms, ours: Histograms) -> npt.NDArray[np.uint8]:
    """The table that gives values of one set of tiles the distribution of another, band by band.

    Args:
        theirs: histograms of the tiles whose values are to change
        ours: histograms whose distribution they are to get

    Returns:
        (C, 256) new value of each old one: the lowest one below which at least as large a share of `ours` lies as of
        `theirs` lies below the middle of the old value's own pixels; never falling
    """
    found = np.empty(theirs.shape, dtype=np.uint8)
    for band, (old, new) in enumerate(zip(theirs.astype(np.float64), ours.astype(np.float64), strict=True)):
        share = (np.cumsum(old) - old / 2) / max(old.sum(), 1.0)
        found[band] = np.minimum(np.searchsorted(np.cumsum(new) / max(new.sum(), 1.0), share), 255)
    return found
