"""Scores from per-tile histograms, at any threshold, with no second look at the network.

Histograms are (N, 2, 256) as `counts.histograms_of_bins` gives them: [n, 0] non-lake, [n, 1] lake pixels of tile n.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.beside import beside
from glidexp.errors import DataError
from glidexp.scoring import calibration
from glidexp.scoring.confusion import Counts, aggregate, defined, lake_iou, pooled_scores
from glidexp.scoring.counts import BINS, HALF_BIN, PER_LOGIT, bin_of_threshold, threshold_of_bin, total

if TYPE_CHECKING:
    import pyarrow as pa

Histograms = NDArray[np.integer]
"""(..., 2, 256) pixels by label and bin"""

INDEX_COLUMNS = ("tile", "scene", "sensor", "region", "split", "gsd_m", "block")
"""what scores.parquet takes over from the store's index"""
HISTOGRAMS = ("hist_background", "hist_lake")
"""its columns of 256 counts each"""


def confusion(hist: Histograms, threshold_bin: int) -> Counts:
    """Confusion counts with lake predicted from a bin upwards.

    Args:
        hist: (..., 2, 256)
        threshold_bin: 0-256

    Returns:
        (..., 4) int64: tp, fp, fn, tn
    """
    hist = np.asarray(hist, dtype=np.int64)
    above, below = hist[..., threshold_bin:].sum(-1), hist[..., :threshold_bin].sum(-1)
    return np.stack([above[..., 1], above[..., 0], below[..., 1], below[..., 0]], axis=-1)


def pooled(hist: Histograms, threshold_bin: int) -> dict[str, float]:
    """precision, recall, f1, lake_iou and miou_two_class of all pixels together, 0-1; NaN where undefined (0/0).

    Args:
        hist: (..., 2, 256); everything before the last two axes is summed
        threshold_bin: 0-256, `counts.bin_of_threshold`
    """
    return pooled_scores(confusion(total(hist), threshold_bin))


def best_threshold(hist: Histograms) -> float:
    """The threshold with the highest pooled lake IoU; of equals, the nearest to 0.5, then the lower.

    Args:
        hist: (..., 2, 256) of the val split

    Returns:
        probability at an edge between two bins; 0.5 when no threshold finds any lake
    """
    summed = total(hist)
    candidates = np.arange(1, BINS)
    score = lake_iou(np.stack([confusion(summed, int(k)) for k in candidates]))
    score = np.nan_to_num(score, nan=0.0)
    best = candidates[score == score.max()]
    return threshold_of_bin(int(best[np.argmin(np.abs(best - HALF_BIN))]))


def score_split(
    index: pd.DataFrame, hist: Histograms, threshold: float, prefix: str, *, temperature: float | None = None
) -> dict[str, float]:
    """Every metric that histograms give, by the name it has in tracking.

    Args:
        index: a row a tile of this split, with scene, sensor and region
        hist: (N, 2, 256), in the order of the index
        threshold: probability, the one fixed on val; taken at the nearest edge of a bin
        prefix: "val" or "test"
        temperature: the one fitted on val; None where there is none

    Returns:
        `aggregate`'s names, `<prefix>/at_0.5/<score>_pooled`, average_precision, ece, nll and the threshold used; with
        a temperature also that, ece_calibrated and nll_calibrated. What is undefined (0/0), such as precision where
        nothing is predicted, has no entry.
    """
    hist = np.asarray(hist).reshape(-1, 2, BINS)
    threshold_bin = bin_of_threshold(threshold)
    summed = total(hist)
    found = aggregate(index, confusion(hist, threshold_bin), prefix)
    found |= {f"{prefix}/at_0.5/{name}_pooled": value for name, value in pooled(summed, HALF_BIN).items()}
    found[f"{prefix}/average_precision"] = calibration.average_precision(summed)
    found[f"{prefix}/ece"] = calibration.expected_calibration_error(summed)
    found[f"{prefix}/nll"] = calibration.negative_log_likelihood(summed)
    if temperature is not None:
        found[f"{prefix}/temperature"] = temperature
        found[f"{prefix}/ece_calibrated"] = calibration.expected_calibration_error(summed, temperature=temperature)
        found[f"{prefix}/nll_calibrated"] = calibration.negative_log_likelihood(summed, temperature)
    found[f"{prefix}/threshold"] = threshold_of_bin(threshold_bin)
    return defined(found)


def scores_table(index: pd.DataFrame, hist: Histograms, threshold: float) -> pd.DataFrame:
    """What a run leaves behind of every scored tile: enough to rescore it at any threshold.

    Args:
        index: a row a tile; the columns of `INDEX_COLUMNS` are taken over
        hist: (N, 2, 256), in the order of the index
        threshold: probability fixed on val

    Returns:
        a row a tile: the index columns, valid_px, lake_px, threshold, tp fp fn tn at it, lake_iou (NaN without lake in
        truth and prediction), tp_at_0.5 ... tn_at_0.5, and hist_background, hist_lake, each 256 counts
    """
    hist = np.asarray(hist).reshape(-1, 2, BINS)
    if len(index) != len(hist):
        raise ValueError(f"{len(index)} tiles in the index, {len(hist)} histograms: they must be the same tiles.")
    threshold_bin = bin_of_threshold(threshold)
    table = index[list(INDEX_COLUMNS)].reset_index(drop=True)
    table["valid_px"] = hist.sum(axis=(1, 2), dtype=np.int64)
    table["lake_px"] = hist[:, 1].sum(axis=1, dtype=np.int64)
    table["threshold"] = threshold_of_bin(threshold_bin)
    at = confusion(hist, threshold_bin)
    table[["tp", "fp", "fn", "tn"]] = at
    table["lake_iou"] = lake_iou(at)
    table[["tp_at_0.5", "fp_at_0.5", "fn_at_0.5", "tn_at_0.5"]] = confusion(hist, HALF_BIN)
    for label, name in enumerate(HISTOGRAMS):
        table[name] = list(hist[:, label].astype(np.int32))
    return table


def write_scores(table: pd.DataFrame, path: Path) -> None:
    """Writes scores.parquet aside and renames it into place. The bins' edges stand in the file's own metadata."""
    import pyarrow as pa

    counts = {name: pa.array(table[name].tolist(), pa.list_(pa.int32())) for name in HISTOGRAMS}
    columns = {name: counts[name] if name in counts else pa.array(table[name]) for name in table.columns}
    meaning = {"first_logit": -HALF_BIN / PER_LOGIT, "bins": BINS, "bin_width": 1 / PER_LOGIT}
    arrow = pa.table(columns).replace_schema_metadata({"glidexp.histogram": json.dumps(meaning)})
    write_parquet(arrow, path)


def write_parquet(arrow: "pa.Table", path: Path) -> None:
    """Writes a table aside and renames it into place; a failed write leaves what was there."""
    import pyarrow.parquet as pq

    with beside(path) as place:
        pq.write_table(arrow, place, compression="zstd")


def read_scores(path: Path) -> tuple[pd.DataFrame, NDArray[np.int32]]:
    """Reads scores.parquet.

    Returns:
        the table without its histogram columns, and the histograms (N, 2, 256) in its order

    Raises:
        DataError: no such file, or one that `write_scores` did not write
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
        sides = [arrow[name].combine_chunks() for name in HISTOGRAMS]
        hist = np.stack([side.flatten().to_numpy().reshape(len(side), BINS) for side in sides], axis=1)
    except (OSError, KeyError, ValueError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as scores: give the scores.parquet of a finished run.") from error
    return arrow.drop_columns(list(HISTOGRAMS)).to_pandas(), hist.astype(np.int32)
