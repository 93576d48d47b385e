"""Confusion counts to scores, and scores to named metrics. Used for networks and for the naive rows alike.

A score that has no value (0/0) is NaN here and has no entry among the named metrics.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.tracking.names import own_or_marked, stratum_names

Counts = NDArray[np.int64]
"""(..., 4): true positive, false positive, false negative, true negative pixels; lake is the positive class"""

PER_PLACE = ("precision", "recall", "f1", "lake_iou")
"""scores that are also averaged over images and over scenes"""
STRATA = ("sensor", "region")


def precision(counts: Counts) -> NDArray[np.float64]:
    """(..., 4) -> (...), 0-1: tp / (tp + fp); NaN where no lake is predicted."""
    tp, fp, _, _ = _columns(counts)
    return _ratio(tp, tp + fp)


def recall(counts: Counts) -> NDArray[np.float64]:
    """(..., 4) -> (...), 0-1: tp / (tp + fn); NaN where there is no lake."""
    tp, _, fn, _ = _columns(counts)
    return _ratio(tp, tp + fn)


def f1(counts: Counts) -> NDArray[np.float64]:
    """(..., 4) -> (...), 0-1: 2 tp / (2 tp + fp + fn); NaN where there is no lake and none is predicted."""
    tp, fp, fn, _ = _columns(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def lake_iou(counts: Counts) -> NDArray[np.float64]:
    """(..., 4) -> (...), 0-1: tp / (tp + fp + fn); NaN where there is no lake and none is predicted."""
    tp, fp, fn, _ = _columns(counts)
    return _ratio(tp, tp + fp + fn)


def miou_two_class(counts: Counts) -> NDArray[np.float64]:
    """(..., 4) -> (...), 0-1: mean of the lake's and the background's IoU; NaN where either has none."""
    tp, fp, fn, tn = _columns(counts)
    return (_ratio(tp, tp + fp + fn) + _ratio(tn, tn + fp + fn)) / 2


SCORES: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "lake_iou": lake_iou,
    "miou_two_class": miou_two_class,
}


def pooled_scores(counts: Counts) -> dict[str, float]:
    """Every score of the summed pixels, by name, undefined ones as NaN.

    Args:
        counts: (..., 4); everything but the last axis is summed
    """
    total = np.asarray(counts, dtype=np.int64).reshape(-1, 4).sum(axis=0)
    return {name: float(score(total)) for name, score in SCORES.items()}


def aggregate(index: pd.DataFrame, counts: Counts, prefix: str) -> dict[str, float]:
    """Scores pooled, by image and by scene, pooled for every sensor and region, and the numbers behind them.

    The mean over images is over the tiles where the score has a value: a tile without lake in which none is predicted
    counts neither as 1 nor as 0, because otherwise the share of empty tiles would set the score. One with a false alarm
    has f1 and lake_iou 0 and counts. The mean over scenes follows the same rule with the pixels of a scene pooled;
    tiles whose scene is not known ("") take no part in it.

    Args:
        index: a row a tile, with scene, sensor and region
        counts: (N, 4), in the order of the index
        prefix: what stands before the names, such as "val"

    Returns:
        `<prefix>/<score>_<aggregation>`, the strata between, and the counts `<prefix>/tiles`, `<prefix>/scenes`,
        `<prefix>/tiles_empty` (no lake in truth and prediction, so left out of the mean over images),
        `<prefix>/tiles_with_lake` and `<prefix>/tiles_predicted` (of which the means of recall and of precision are)
    """
    if len(index) != len(counts):
        raise ValueError(f"{len(index)} tiles in the index, {len(counts)} rows of counts: they must be the same tiles.")
    of_scenes = by_scene(index["scene"], counts)
    found = {f"{name}_pooled": value for name, value in pooled_scores(counts).items()}
    for name in PER_PLACE:
        found[f"{name}_per_image"] = mean_of_defined(SCORES[name](counts))
        found[f"{name}_per_scene"] = mean_of_defined(SCORES[name](of_scenes))
    found |= {"tiles": len(index), "scenes": len(of_scenes)}
    found["tiles_empty"] = int((counts[:, :3].sum(axis=1) == 0).sum())
    found["tiles_with_lake"] = int(np.isfinite(recall(counts)).sum())
    found["tiles_predicted"] = int(np.isfinite(precision(counts)).sum())
    for kind in STRATA:
        for stratum, rows in strata(index[kind]).items():
            values = pooled_scores(counts[rows])
            found |= {f"{kind}/{stratum}/{name}_pooled": value for name, value in values.items() if name in PER_PLACE}
            found[f"{kind}/{stratum}/tiles"] = len(rows)
            found[f"{kind}/{stratum}/scenes"] = len(by_scene(index["scene"].iloc[rows], counts[rows]))
    return defined({f"{prefix}/{name}": float(value) for name, value in found.items()})


UNKNOWN_SCENES = ("", "unknown")
"""what stands for the scene of a tile that does not say"""


def by_scene(scene: pd.Series, counts: Counts) -> Counts:
    """Sums the tiles of each known scene: (N, 4) -> (scenes, 4), scenes in sorted order."""
    codes, names = pd.factorize(_text(scene), sort=True)
    summed = np.zeros((len(names), counts.shape[1]), dtype=np.int64)
    np.add.at(summed, codes, counts)
    return summed[~np.isin(np.asarray(names, dtype=object), UNKNOWN_SCENES)]


def scene_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Pixel scores of every known scene.

    Args:
        table: a row a tile, with split, scene, sensor, region, valid_px, lake_px, tp, fp, fn and tn

    Returns:
        a row a split and scene, sorted: sensor, region, tiles, the summed counts, and precision, recall, f1 and
        lake_iou of its pixels together, 0-1; NaN where 0/0
    """
    known = table[~_text(table["scene"]).isin(UNKNOWN_SCENES)]
    summed = ["valid_px", "lake_px", "tp", "fp", "fn", "tn"]
    kept = {"sensor": ("sensor", "first"), "region": ("region", "first"), "tiles": ("tile", "size")}
    rows = known.groupby(["split", "scene"]).agg(**kept, **{name: (name, "sum") for name in summed}).reset_index()
    counts = rows[["tp", "fp", "fn", "tn"]].to_numpy(np.int64)
    return rows.assign(**{name: SCORES[name](counts) for name in PER_PLACE})


def strata(keys: pd.Series) -> dict[str, NDArray[np.int64]]:
    """Row positions of each key, by a name that tracking accepts, "" as unknown. Different keys get different names."""
    codes, known = pd.factorize(_text(keys).replace("", "unknown"), sort=True)
    names = stratum_names(map(str, known))
    return {names[str(key)]: np.flatnonzero(codes == code) for code, key in enumerate(known)}


def rows_of(keys: pd.Series, name: str) -> NDArray[np.int64]:
    """Row positions of a key, by its own name or by one that tracking has of it; none where there is no such key.

    A name that tracking has beside others is found without them too, and the other way round where one key alone
    could be meant.
    """
    texts = _text(keys)
    own = np.flatnonzero(texts == name)
    if len(own) or name in (by_name := strata(keys)):
        return own if len(own) else by_name[name]
    meant = [key for key in texts.unique() if name in own_or_marked(key)]
    return np.flatnonzero(texts == meant[0]) if len(meant) == 1 else own


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN; NaN when nothing is."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def defined(metrics: dict[str, float]) -> dict[str, float]:
    """Without the entries that are NaN: a tracking store has no picture of 0/0."""
    return {name: value for name, value in metrics.items() if not np.isnan(value)}


def _text(keys: pd.Series) -> pd.Series:
    return keys.astype(object).where(keys.notna(), "").astype(str)


def _columns(counts: Counts) -> tuple[Counts, ...]:
    counts = np.asarray(counts, dtype=np.int64)
    return tuple(counts[..., i] for i in range(4))


def _ratio(part: Counts, whole: Counts) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) != 0)
