"""True and predicted lakes of one piece of ground meet: who overlaps whom, by how much area and shore are off."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.scoring.components import Components, Floats, Ints, Mask, overlaps
from glidexp.scoring.shoreline import shore_distances

Columns = dict[str, npt.NDArray[Any]]
HIT_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Match:
    """The lakes of one piece of ground, matched by overlap: a shared pixel makes a pair.

    A lake is compared in area and shore where it and all its counterparts lie on scored ground with all they have.
    """

    true: Components
    predicted: Components
    first: Ints
    """(pairs,) index of the true lake"""
    second: Ints
    """(pairs,) index of the predicted lake"""
    shared: Ints
    """(pairs,) pixels"""
    compared: Mask
    """(true,) found, and nothing of it cut"""
    distance_px: Floats
    """(k,) between the shores of the compared lakes"""
    distance_owner: Ints
    """(k,) index of the true lake it counts for"""


def match(true: Components, predicted: Components) -> Match:
    """Matches the lakes of two masks of the same ground."""
    first, second, shared = overlaps(true, predicted)
    compared = np.bincount(first, minlength=len(true)) > 0
    compared &= ~true.cut
    compared[first[predicted.cut[second]]] = False
    distance, owner = shore_distances(true, predicted, (first, second))
    kept = compared[owner]
    return Match(true, predicted, first, second, shared, compared, distance[kept], owner[kept])


def hits(found: Match, *, of_true: bool) -> Columns:
    """How each lake of one side is met by the other.

    Returns:
        overlaps (lakes of the other side), overlap_px, best_iou (0 without overlap), matched_any, matched_iou50
    """
    lakes, own = (found.true, found.first) if of_true else (found.predicted, found.second)
    union = found.true.area_px[found.first] + found.predicted.area_px[found.second] - found.shared
    best = np.zeros(len(lakes))
    np.maximum.at(best, own, found.shared / union)
    met = np.bincount(own, minlength=len(lakes))
    return {
        "overlaps": met,
        "overlap_px": np.bincount(own, weights=found.shared, minlength=len(lakes)).astype(np.int64),
        "best_iou": best,
        "matched_any": met > 0,
        "matched_iou50": best >= HIT_IOU,
    }


def errors(found: Match) -> Columns:
    """By how much area and shore of the compared true lakes are off, in pixels; NaN for the others.

    A predicted lake over several true ones gives each a share of its area, in proportion to what it covers of each, so
    that no pixel counts twice. HD95 is the 95th percentile of the distances of both directions taken together.

    Returns:
        compared, predicted_area_px, area_error_px (predicted - true), shore_distances (their number), assd_px, hd95_px
    """
    n = len(found.true)
    covered = np.bincount(found.second, weights=found.shared, minlength=len(found.predicted))
    given = found.predicted.area_px[found.second] * found.shared / covered[found.second]
    area = np.where(found.compared, np.bincount(found.first, weights=given, minlength=n), np.nan)
    count = np.bincount(found.distance_owner, minlength=n)
    total = np.bincount(found.distance_owner, weights=found.distance_px, minlength=n)
    return {
        "compared": found.compared,
        "predicted_area_px": area,
        "area_error_px": area - found.true.area_px,
        "shore_distances": count,
        "assd_px": np.divide(total, count, out=np.full(n, np.nan), where=count > 0),
        "hd95_px": _percentile_95(found.distance_px, found.distance_owner, count),
    }


def _percentile_95(values: Floats, owner: Ints, count: Ints) -> Floats:
    """The 95th percentile of each owner's values, between neighbours as NumPy's; NaN where there is none."""
    ordered = values[np.lexsort([values, owner])]
    place = 0.95 * np.maximum(count - 1, 0)
    low = np.floor(place).astype(np.int64)
    start = np.cumsum(count) - count
    out, some = np.full(len(count), np.nan), count > 0
    lower = ordered[(start + low)[some]]
    upper = ordered[(start + np.minimum(low + 1, count - 1))[some]]
    out[some] = lower + (upper - lower) * (place - low)[some]
    return out
