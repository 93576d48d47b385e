"""The rows that a network has to beat: all background, and a threshold of (G - R) / (G + R).

Red, green and blue hold no near infrared, so the usual water indices cannot be had; (G - R) / (G + R) is what is left.
Its threshold is Otsu's, fitted without labels on a split that is not the one scored. The index depends on the pair
(red, green) of two bytes alone: 65,536 pairs, so that the fit works on an exact joint histogram and a tile is
classified by looking up a table.
"""

import logging
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts, aggregate
from glidexp.scoring.predictions import Tiles

FIT_TILES = 1000
"""at most so many tiles, drawn with a fixed seed, go into the fit; every tile of the split is scored"""
_FIT_SEED = 0
_log = logging.getLogger(__name__)


def naive_scores(
    store: Tiles,
    split: str,
    *,
    rows: NDArray[np.int64] | None = None,
    fit_rows: NDArray[np.int64] | None = None,
    told: Callable[[int], object] | None = None,
) -> dict[str, float]:
    """Scores both naive rows on every tile of a split, a tile in memory at a time.

    Args:
        store: images (N, H, W, C) uint8, labels (N, H, W) uint8 with 0, 1 and 255 for not valid, manifest["bands"]
        split: the split that is scored
        rows: rows of the store to score under the name of the split; its own when not given
        fit_rows: rows of the store whose pixels give the threshold of the index; those of val when not given
        told: called with 1 after each tile to which the index is applied

    Returns:
        `<split>/naive/background/<score>_<aggregation>` and the same under index_threshold, with
        `<split>/naive/index_threshold/threshold` in units of the index, -1 to 1. Without a red and a green band, or
        without a tile to fit on, only the background; nothing for a split without tiles.
    """
    rows = store.rows(split) if rows is None else rows
    if not len(rows):
        _log.info("no naive rows: the store has no tile in split %s", split)
        return {}
    index = store.index.iloc[rows]
    lake, valid = _pixels(store, rows)
    nothing = np.zeros_like(lake)
    found = _named(index, np.stack([nothing, nothing, lake, valid - lake], axis=1), f"{split}/naive/background")
    threshold = fit_threshold(store, fit_rows)
    if threshold is None:
        return found
    prefix = f"{split}/naive/index_threshold"
    found |= _named(index, index_confusion(store, rows, threshold, told), prefix)
    return found | {f"{prefix}/threshold": threshold}


def index_of_pairs() -> NDArray[np.float64]:
    """(65536,) value of (G - R) / (G + R) at red * 256 + green, -1 to 1; 0 where both are 0."""
    red, green = np.divmod(np.arange(65536), 256)
    return np.divide(green - red, green + red, out=np.zeros(65536), where=green + red > 0)


def otsu(values: NDArray[np.float64], weights: NDArray[np.integer]) -> float | None:
    """The cut with the greatest variance between the two classes (Otsu 1979), exact over every possible cut.

    Args:
        values: (K,)
        weights: (K,) how often each occurs

    Returns:
        the lowest value of the upper class, of equal cuts the lowest; None when fewer than two values occur
    """
    distinct, place = np.unique(values[weights > 0], return_inverse=True)
    if len(distinct) < 2:
        return None
    weight = np.bincount(place, weights=weights[weights > 0])
    share, mass = np.cumsum(weight)[:-1], np.cumsum(weight * distinct)[:-1]
    whole, mean = weight.sum(), (weight * distinct).sum() / weight.sum()
    between = (mean * share - mass) ** 2 / (share * (whole - share))
    return float(distinct[1:][np.argmax(between)])


def fit_threshold(store: Tiles, rows: NDArray[np.int64] | None = None) -> float | None:
    """Otsu's threshold of the index over the valid pixels of some tiles, or of val; None, and a log line, without."""
    bands = _red_green(store)
    if bands is None:
        return None
    rows = store.rows("val") if rows is None else rows
    if len(rows) > FIT_TILES:
        rows = np.sort(np.random.default_rng(_FIT_SEED).choice(rows, FIT_TILES, replace=False))
    pairs = np.zeros(65536, dtype=np.int64)
    for row in rows:
        pairs += np.bincount(_pair(store.images[row], bands)[store.labels[row] <= 1], minlength=65536)
    threshold = otsu(index_of_pairs(), pairs)
    if threshold is None:
        _log.info("no index threshold: (G-R)/(G+R) has fewer than two values on the tiles that would give it")
    return threshold


def index_confusion(
    store: Tiles, rows: NDArray[np.int64], threshold: float, told: Callable[[int], object] | None = None
) -> Counts:
    """(len(rows), 4) tp, fp, fn, tn of each tile with lake where (G - R) / (G + R) is at the threshold or above.

    `told` is called with 1 after each tile.

    Raises:
        ValueError: the store has no red and green band
    """
    bands = _red_green(store)
    if bands is None:
        raise ValueError(f"bands {store.manifest.get('bands')} hold no red and green.")
    is_lake = index_of_pairs() >= threshold
    counts = np.empty((len(rows), 4), dtype=np.int64)
    for place, row in enumerate(rows):
        label = store.labels[row]
        predicted = is_lake[_pair(store.images[row], bands)]
        lake, background = label == 1, label == 0
        tp, fp = np.count_nonzero(predicted & lake), np.count_nonzero(predicted & background)
        counts[place] = tp, fp, np.count_nonzero(lake) - tp, np.count_nonzero(background) - fp
        if told is not None:
            told(1)
    return counts


def _pair(image: NDArray[np.uint8], bands: tuple[int, int]) -> NDArray[np.uint16]:
    """(H, W, C) -> (H, W) red * 256 + green."""
    return image[..., bands[0]].astype(np.uint16) * np.uint16(256) + image[..., bands[1]]


def _red_green(store: Tiles) -> tuple[int, int] | None:
    bands = [str(band).lower() for band in store.manifest.get("bands", [])]
    if "red" in bands and "green" in bands:
        return bands.index("red"), bands.index("green")
    _log.info("no index threshold: bands %s hold no red and green", bands)
    return None


def _pixels(store: Tiles, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lake and valid pixels of each tile."""
    lake = [np.count_nonzero(store.labels[row] == 1) for row in rows]
    valid = [np.count_nonzero(store.labels[row] <= 1) for row in rows]
    return np.asarray(lake, dtype=np.int64), np.asarray(valid, dtype=np.int64)


def _named(index: pd.DataFrame, counts: Counts, prefix: str) -> dict[str, float]:
    """The scores over the whole split; strata and numbers of tiles stand with the network's own rows."""
    every = aggregate(index, counts, prefix)
    own = re.compile(re.escape(prefix) + r"/[^/]+_(pooled|per_image|per_scene)")
    return {name: value for name, value in every.items() if own.fullmatch(name)}
