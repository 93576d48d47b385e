"""The rows that a network has to beat: all background, and a threshold of each water index that the bands allow.

An index is the normalised difference of green and a band in which water is darker: near infrared (NDWI, McFeeters
1996), short-wave infrared (MNDWI, Xu 2006), and red, which is what red, green and blue leave. Of radar it is how dark
VV is, as still water throws nothing back. Its threshold is Otsu's, fitted without labels on a split that is not the one
scored. The index depends on a pair of two bytes alone: 65,536 pairs, so that the fit works on an exact joint histogram
and a tile is classified by looking up a table.
"""

import logging
import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.scoring.confusion import Counts, aggregate
from glidexp.scoring.predictions import Tiles

INDICES = {
    "index_threshold": ("red", "green"),
    "ndwi_threshold": ("nir", "green"),
    "mndwi_threshold": ("swir1", "green"),
    "vv_threshold": ("vv", "vv"),
}
"""the rows of indices, and the bands (X, G) of each one's (G - X) / (G + X); 1 - X / 255 where they are one band"""
ROWS = {
    "index_threshold": "index threshold",
    "ndwi_threshold": "NDWI threshold",
    "mndwi_threshold": "MNDWI threshold",
    "vv_threshold": "VV threshold",
    "background": "background",
}
"""all rows in the order of tables, and what they are called there"""
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
    """Scores the naive rows on every tile of a split, a tile in memory at a time.

    Args:
        store: images (N, H, W, C) uint8, labels (N, H, W) uint8 with 0, 1 and 255 for not valid, manifest["bands"]
        split: the split that is scored
        rows: rows of the store to score under the name of the split; its own when not given
        fit_rows: rows of the store whose pixels give the thresholds of the indices; those of val when not given
        told: called with 1 after each tile to which the indices are applied

    Returns:
        `<split>/naive/background/<score>_<aggregation>` and the same under each of `INDICES` whose bands the store has,
        as index_threshold, with `<split>/naive/index_threshold/threshold` in units of the index. Without a
        tile to fit on only the background; nothing for a split without tiles.
    """
    rows = store.rows(split) if rows is None else rows
    if not len(rows):
        _log.info("no naive rows: the store has no tile in split %s", split)
        return {}
    index = store.index.iloc[rows]
    lake, valid = _pixels(store, rows)
    nothing = np.zeros_like(lake)
    found = _named(index, np.stack([nothing, nothing, lake, valid - lake], axis=1), f"{split}/naive/background")
    fitted = {name: fit_threshold(store, fit_rows, name) for name in possible(store)}
    thresholds = {name: threshold for name, threshold in fitted.items() if threshold is not None}
    for name, counts in index_confusion(store, rows, thresholds, told).items():
        prefix = f"{split}/naive/{name}"
        found |= _named(index, counts, prefix) | {f"{prefix}/threshold": thresholds[name]}
    return found


def possible(store: Tiles) -> list[str]:
    """The rows of `INDICES` whose bands a store has; a log line where there is none."""
    bands = _bands(store)
    names = [name for name, pair in INDICES.items() if {*pair} <= {*bands}]
    if not names:
        _log.info("no index threshold: bands %s hold no green beside one of red, nir, swir1, and no vv", bands)
    return names


def index_of_pairs(name: str = "index_threshold") -> NDArray[np.float64]:
    """(65536,) value of an index at X * 256 + G: (G - X) / (G + X), -1 to 1, 0 where both are 0; of one band its
    darkness, 0 to 1."""
    other, green = np.divmod(np.arange(65536), 256)
    if len({*INDICES[name]}) == 1:
        return 1 - green / 255
    return np.divide(green - other, green + other, out=np.zeros(65536), where=green + other > 0)


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


def fit_threshold(store: Tiles, rows: NDArray[np.int64] | None = None, name: str = "index_threshold") -> float | None:
    """Otsu's threshold of an index over the valid pixels of some tiles, or of val; None, and a log line, without.

    Raises:
        ValueError: the store lacks a band of the index
    """
    bands = _pair_of(store, name)
    rows = store.rows("val") if rows is None else rows
    if len(rows) > FIT_TILES:
        rows = np.sort(np.random.default_rng(_FIT_SEED).choice(rows, FIT_TILES, replace=False))
    pairs = np.zeros(65536, dtype=np.int64)
    for row in rows:
        pairs += np.bincount(_pair(store.images[row], bands)[store.labels[row] <= 1], minlength=65536)
    threshold = otsu(index_of_pairs(name), pairs)
    if threshold is None:
        _log.info("no %s: its index has fewer than two values on the tiles that would give it", name)
    return threshold


def index_confusion(
    store: Tiles,
    rows: NDArray[np.int64],
    thresholds: Mapping[str, float],
    told: Callable[[int], object] | None = None,
) -> dict[str, Counts]:
    """Counts of each tile with lake where an index is at its threshold or above. A tile is read once for all of them.

    Args:
        store: as for `naive_scores`
        rows: of the tiles
        thresholds: of indices, by their names in `INDICES`
        told: called with 1 after each tile, where there is an index

    Returns:
        (len(rows), 4) tp, fp, fn, tn by index

    Raises:
        ValueError: the store lacks a band of an index
    """
    tables = {
        name: (_pair_of(store, name), index_of_pairs(name) >= threshold) for name, threshold in thresholds.items()
    }
    counts = {name: np.empty((len(rows), 4), dtype=np.int64) for name in tables}
    for place, row in enumerate(rows if tables else ()):
        image, label = store.images[row], store.labels[row]
        lake, background = label == 1, label == 0
        for name, (bands, is_lake) in tables.items():
            predicted = is_lake[_pair(image, bands)]
            tp, fp = np.count_nonzero(predicted & lake), np.count_nonzero(predicted & background)
            counts[name][place] = tp, fp, np.count_nonzero(lake) - tp, np.count_nonzero(background) - fp
        if told is not None:
            told(1)
    return counts


def _pair(image: NDArray[np.uint8], bands: tuple[int, int]) -> NDArray[np.uint16]:
    """(H, W, C) -> (H, W) X * 256 + G."""
    return image[..., bands[0]].astype(np.uint16) * np.uint16(256) + image[..., bands[1]]


def _bands(store: Tiles) -> list[str]:
    return [str(band).lower() for band in store.manifest.get("bands", [])]


def _pair_of(store: Tiles, name: str) -> tuple[int, int]:
    """Places of X and G among the channels."""
    bands, (other, green) = _bands(store), INDICES[name]
    if not {other, green} <= {*bands}:
        raise ValueError(f"bands {bands} hold no {other} and {green}.")
    return bands.index(other), bands.index(green)


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
