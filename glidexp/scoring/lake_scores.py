"""Per-lake scores from the table of lakes: found and false, by how much area and shore are off, by stratum.

What they mean and when one has no value stands in docs/scores.md. A score without a value is NaN here and has no entry
among the named metrics.
"""

import logging
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from glidexp.errors import DataError
from glidexp.scoring.components import Floats, in_km2, in_metres, lower_bound
from glidexp.scoring.confusion import UNKNOWN_SCENES, defined, mean_of_defined, strata
from glidexp.scoring.lakes import PREDICTED, TRUE, LakeScores
from glidexp.scoring.shoreline import COUNTS, TOLERANCES_PX, boundary_f1, boundary_iou

GLACIER_KM = (0, 2, 5, 10)
"""lower bounds of the classes of distance to the nearest glacier"""
PLACES = ("sensor", "region", "scene")
"""strata of ground: every score"""
KINDS = ("size", "glacier_distance", "lake_type")
"""strata of lakes: no boundary scores, and no precision where predicted lakes do not have the property"""
OF_STRATA = (
    *("lakes", "lakes_predicted", "lakes_compared"),
    *("lake_recall", "lake_precision", "lake_recall_iou50", "lake_precision_iou50"),
    *("area_bias_percent", "area_error_percent", "boundary_f1_2px", "boundary_iou", "assd_px", "assd_m"),
)
"""scores of a stratum among the metrics"""
_log = logging.getLogger("glidexp")


def area_scores(lakes: pd.DataFrame, unit: str) -> dict[str, float]:
    """Error in area of the compared lakes in a unit, means over lakes, beside the +-0.5 px bound.

    Args:
        lakes: rows of the table; only true lakes that are compared count
        unit: "km2", "px" or "percent" (of the true area)

    Returns:
        area_bias_<unit> (predicted - true), area_error_<unit> (its absolute), area_bound_<unit>; NaN without a lake

    Raises:
        DataError: km2 where a lake's GSD is not known
    """
    compared = lakes[(lakes["kind"] == TRUE) & lakes["compared"]]
    error, bound = (compared[name].to_numpy(dtype=np.float64) for name in ("area_error_px", "area_bound_px"))
    if unit == "km2":
        error, bound = (in_km2(values, compared["gsd_m"]) for values in (error, bound))
    elif unit == "percent":
        error, bound = (100 * values / compared["area_px"].to_numpy() for values in (error, bound))
    elif unit != "px":
        raise ValueError(f"unit={unit} is none of km2, px, percent.")
    names = (f"area_bias_{unit}", f"area_error_{unit}", f"area_bound_{unit}")
    return dict(zip(names, map(_mean, (error, np.abs(error), bound)), strict=True))


def shore_scores(found: LakeScores, lakes: pd.DataFrame, unit: str) -> dict[str, float]:
    """Distances between the shores of the compared lakes, pooled over their shoreline pixels.

    Args:
        found: with the distances
        lakes: rows of `found.lakes`; only the distances of these count
        unit: "m" or "px"

    Returns:
        assd_<unit> and hd95_<unit>; NaN without a lake

    Raises:
        DataError: metres where a lake's GSD is not known
    """
    asked = np.zeros(len(found.lakes), dtype=bool)
    asked[lakes.index.to_numpy(dtype=np.int64)] = True
    kept = asked[found.distance_row]
    distance = found.distance_px[kept]
    if unit == "m":
        distance = in_metres(distance, found.lakes["gsd_m"].to_numpy()[found.distance_row[kept]])
    elif unit != "px":
        raise ValueError(f"unit={unit} is neither m nor px.")
    hd95 = float(np.percentile(distance, 95)) if len(distance) else float("nan")
    return {f"assd_{unit}": _mean(distance), f"hd95_{unit}": hd95}


def detection_scores(lakes: pd.DataFrame) -> dict[str, float]:
    """Numbers of lakes, and the shares that were found (recall) and that are right (precision), 0-1."""
    true, predicted = lakes[lakes["kind"] == TRUE], lakes[lakes["kind"] == PREDICTED]
    found: dict[str, float] = {
        "lakes": len(true),
        "lakes_predicted": len(predicted),
        "lakes_cut": int(true["cut"].sum()),
    }
    for suffix, column in (("", "matched_any"), ("_iou50", "matched_iou50")):
        found[f"lake_recall{suffix}"] = _mean(true[column].to_numpy(dtype=np.float64))
        found[f"lake_precision{suffix}"] = _mean(predicted[column].to_numpy(dtype=np.float64))
    found["lake_splits"] = int((true["overlaps"] > 1).sum())
    found["lake_merges"] = int((predicted["overlaps"] > 1).sum())
    return found


def scores_of(found: LakeScores, lakes: pd.DataFrame, ground: pd.DataFrame | None) -> dict[str, float]:
    """Every per-lake score of some lakes and, if given, of the ground they lie on; km2 and metres where they exist.

    Args:
        found: of `lakes.score_lakes`
        lakes: rows of `found.lakes`
        ground: rows of `found.ground`; None for strata that are no ground
    """
    scores = detection_scores(lakes)
    compared = lakes[(lakes["kind"] == TRUE) & lakes["compared"]]
    scores |= {"lakes_compared": len(compared)} | area_scores(lakes, "percent")
    within = compared["area_error_px"].abs() <= compared["area_bound_px"]
    scores["area_within_bound"] = _mean(np.asarray(within, dtype=np.float64))
    scores |= shore_scores(found, lakes, "px")
    metric = not lakes["gsd_m"].isna().any()
    if metric:
        scores |= area_scores(lakes, "km2") | shore_scores(found, lakes, "m")
    else:
        scores |= area_scores(lakes, "px")
    if ground is not None:
        scores |= _totals(lakes, metric=metric)
        counts = {name: int(ground[name].sum()) if len(ground) else 0 for name in COUNTS}
        scores |= {f"boundary_f1_{px}px": boundary_f1(counts, px) for px in TOLERANCES_PX}
        scores["boundary_iou"] = boundary_iou(counts)
    return scores


def lake_scores(found: LakeScores) -> pd.DataFrame:
    """Every per-lake score, a row for all of a split and one for each stratum.

    Returns:
        columns `by` (all, sensor, region, scene, size, glacier_distance, lake_type) and `name`, then the scores; NaN
        where there is none
    """
    lakes, ground = found.lakes, found.ground
    rows: list[dict[str, Any]] = [{"by": "all", "name": "all"} | scores_of(found, lakes, ground)]
    for kind in PLACES if len(ground) else ():
        for name, places in strata(ground[kind]).items():
            inside = ground["piece"].iloc[places]
            part = lakes[lakes["piece"].isin(inside)]
            rows.append({"by": kind, "name": name} | scores_of(found, part, ground.iloc[places]))
    for kind, keys in kinds_of(lakes).items():
        groups = {name: lakes.iloc[at] for name, at in strata(keys).items() if name != "unknown"}
        for name in sorted(groups, key=lower_bound):
            scores = scores_of(found, groups[name], None)
            if kind != "size":
                scores = {score: value for score, value in scores.items() if score not in _OF_PREDICTED}
            rows.append({"by": kind, "name": name} | scores)
    return pd.DataFrame(rows)


def named(table: pd.DataFrame, prefix: str) -> dict[str, float]:
    """The metrics of a run from `lake_scores`: `<prefix>/lake_recall`, `<prefix>/size/0.01-0.05km2/lake_recall` ...

    A stratum has the scores of `OF_STRATA`; the others are in the table. Scenes enter as means over the scenes where a
    score has a value (`lake_recall_per_scene`). A kind whose only stratum is "unknown" says nothing and has no entry.
    """
    found: dict[str, float] = {}
    strata_of = table.groupby("by")["name"].agg(list).to_dict()
    for row in table[table["by"] != "scene"].to_dict("records"):
        by, name = row.pop("by"), row.pop("name")
        if by == "all":
            found |= {f"{prefix}/{score}": float(value) for score, value in row.items()}
        elif strata_of[by] != ["unknown"]:
            found |= {f"{prefix}/{by}/{name}/{score}": float(row[score]) for score in OF_STRATA if score in row}
    scenes = table[(table["by"] == "scene") & ~table["name"].isin(UNKNOWN_SCENES)]
    for score in ("lake_recall", "lake_precision", "boundary_f1_2px"):
        found[f"{prefix}/{score}_per_scene"] = mean_of_defined(scenes[score].to_numpy(dtype=np.float64))
    return defined(found)


def say_what_is_left_out(lakes: pd.DataFrame) -> None:
    """One line of the log where areas and lengths have no unit.

    Args:
        lakes: the table of lakes, of one or more splits
    """
    try:
        in_km2(lakes["area_px"], lakes["gsd_m"])
    except DataError as error:
        _log.info("scores of lakes: %s", error)


_OF_PREDICTED = ("lakes_predicted", "lake_precision", "lake_precision_iou50", "lake_merges")


def _totals(lakes: pd.DataFrame, *, metric: bool) -> dict[str, float]:
    """Area of all true and of all predicted lakes, cut, missed and false ones among them."""
    gsd = lakes["gsd_m"]
    if not metric and not gsd.isna().all():
        return {}  # pixels of different size do not add up
    unit = "km2" if metric else "px"
    area = lakes["area_km2" if metric else "area_px"]
    true, predicted = (float(area[lakes["kind"] == kind].sum()) for kind in (TRUE, PREDICTED))
    bias = 100 * (predicted / true - 1) if true else float("nan")
    return {f"area_true_{unit}": true, f"area_predicted_{unit}": predicted, "area_total_bias_percent": bias}


def kinds_of(lakes: pd.DataFrame) -> dict[str, pd.Series]:
    """The stratum of each lake by kind, "" where it has none."""
    km = lakes["glacier_distance_m"].to_numpy(dtype=np.float64) / 1000
    names = [f"{low}-{high}km" for low, high in pairwise(GLACIER_KM)]
    names.append(f"over_{GLACIER_KM[-1]}km")
    distance = np.array(["", *names], dtype=object)[np.searchsorted(GLACIER_KM, np.nan_to_num(km, nan=-1), "right")]
    return {
        "size": lakes["size_class"],
        "glacier_distance": pd.Series(distance, index=lakes.index),
        "lake_type": lakes["lake_type"],
    }


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
