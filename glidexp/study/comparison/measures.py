"""Scores that can be compared, read from the name they have in tracking, and made of sums over clusters of ground.

Pixel scores are made of confusion counts (..., C, 4). Per-lake scores are made of two sums over the lakes of a cluster,
(..., C, 2): what is counted, and what it is divided by.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.errors import ConfigError, DataError
from glidexp.scoring.confusion import SCORES, STRATA, Counts, rows_of, strata
from glidexp.scoring.lake_scores import kinds_of
from glidexp.scoring.lakes import PREDICTED, TRUE
from glidexp.tracking.names import stratum_names

FALLBACK = "test/lake_iou_pooled"
"""what is compared where a study's own score cannot be"""
AGGREGATIONS = ("pooled", "per_scene")
OF_PIXELS = {"precision": [0, 1], "recall": [0, 2]}
"""places of the confusion counts that a score is of: predicted, or true lake; others are of both"""
LAKE_STRATA = ("sensor", "region", "size", "glacier_distance", "lake_type")
Terms = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class LakeScore:
    """A mean over lakes."""

    of: str
    """the lakes that it is about: true or predicted ones"""
    terms: Callable[[pd.DataFrame], Terms]
    """what each lake adds to the sum above and below the line"""
    better: int
    """1: higher is better, -1: lower is, 0: neither"""
    unit: str = "points"


def _share(column: str) -> Callable[[pd.DataFrame], Terms]:
    return lambda lakes: (lakes[column].to_numpy(np.float64), np.ones(len(lakes)))


def _area(of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[pd.DataFrame], Terms]:
    def terms(lakes: pd.DataFrame) -> Terms:
        compared = lakes["compared"].to_numpy(bool)
        percent = 100 * lakes["area_error_px"].to_numpy(np.float64) / lakes["area_px"].to_numpy(np.float64)
        return np.where(compared, of(percent), 0.0), compared.astype(np.float64)

    return terms


def _shore(metres: bool) -> Callable[[pd.DataFrame], Terms]:
    def terms(lakes: pd.DataFrame) -> Terms:
        many = lakes["shore_distances"].fillna(0).to_numpy(np.float64) * lakes["compared"].to_numpy(bool)
        each = lakes["assd_px"].to_numpy(np.float64) * (lakes["gsd_m"].to_numpy(np.float64) if metres else 1.0)
        return np.where(many > 0, many * each, 0.0), many

    return terms


LAKE_SCORES = {
    "lake_recall": LakeScore(TRUE, _share("matched_any"), 1),
    "lake_recall_iou50": LakeScore(TRUE, _share("matched_iou50"), 1),
    "lake_precision": LakeScore(PREDICTED, _share("matched_any"), 1),
    "lake_precision_iou50": LakeScore(PREDICTED, _share("matched_iou50"), 1),
    "area_error_percent": LakeScore(TRUE, _area(np.abs), -1, "%"),
    "area_bias_percent": LakeScore(TRUE, _area(np.asarray), 0, "%"),
    "assd_px": LakeScore(TRUE, _shore(metres=False), -1, "px"),
    "assd_m": LakeScore(TRUE, _shore(metres=True), -1, "m"),
}


@dataclass(frozen=True, slots=True)
class Measure:
    """A score as its name says it."""

    name: str
    """as in tracking: test/sensor/landsat8/lake_iou_pooled"""
    split: str
    score: str
    aggregation: str
    """pooled or per_scene; of lakes always pooled"""
    at_half: bool
    stratum: tuple[str, str] | None

    @property
    def of_lakes(self) -> bool:
        """Whether it is made of lakes rather than of pixels."""
        return self.score in LAKE_SCORES

    @property
    def unit(self) -> str:
        """points (of 100), %, px or m."""
        return LAKE_SCORES[self.score].unit if self.of_lakes else "points"

    @property
    def scale(self) -> float:
        """From the score to its unit."""
        return 100.0 if self.unit == "points" else 1.0

    @property
    def better(self) -> int:
        """1: higher is better, -1: lower is, 0: neither."""
        return LAKE_SCORES[self.score].better if self.of_lakes else 1

    @property
    def words(self) -> str:
        """The score in words: `lake IoU`, `lake recall, size 0.01-0.05 km²`."""
        return self.plain + (f", {self.place}" if self.place else "")

    @property
    def place(self) -> str:
        """The stratum in words: `region andes`, `size 0.01-0.05 km²`; empty for the whole ground."""
        if self.stratum is None:
            return ""
        kind, value = self.stratum
        if kind in ("size", "glacier_distance"):
            value = re.sub(r"km(2?)$", lambda unit: f" km{'²' * bool(unit[1])}", value.replace("_", " "))
        return f"{kind.replace('_', ' ')} {value}"

    @property
    def plain(self) -> str:
        """The score in words, without its stratum: `lake IoU at 0.5`."""
        said = self.score.replace("_iou50", " at IoU 0.5").replace("lake_iou", "lake IoU").replace("f1", "F1")
        said = said.replace("miou_two_class", "two-class mIoU").replace("assd", "ASSD").replace("_", " ")
        said = said.removesuffix(" percent").removesuffix(" px").removesuffix(" m")
        said += " per scene" if self.aggregation == "per_scene" else ""
        return said + (" at 0.5" if self.at_half else "")

    def within(self, kind: str, value: str, among: Iterable[str] = ()) -> "Measure":
        """The same score of one stratum, such as ("region", "andes"); `among`: all that there are of its kind."""
        called = stratum_names({*among, value})[value]
        return replace(self, name=self._named(f"{kind}/{called}/"), stratum=(kind, value))

    def everywhere(self) -> "Measure":
        """The same score of the whole ground."""
        return replace(self, name=self._named(""), stratum=None) if self.stratum else self

    def _named(self, where: str) -> str:
        """As tracking names it; `where` is empty or ends with a slash."""
        if self.of_lakes:
            return f"{self.split}/{where}{self.score}"
        return f"{self.split}/{'at_0.5/' * self.at_half}{where}{self.score}_{self.aggregation}"

    def weights(self, *counts: Counts) -> NDArray[np.float64]:
        """What each cluster weighs in the score, (C,), from the (S, C, k) of one or more arms: its lakes, or the pixels
        that the score is of; in a mean over scenes 1. It is 0 where no run has anything to score."""
        if self.aggregation == "per_scene":
            known = [np.isfinite(SCORES[self.score](table)).any(0) for table in counts]
            return np.any(known, axis=0).astype(np.float64)
        below = [1] if self.of_lakes else OF_PIXELS.get(self.score, [0, 1, 2])
        return np.asarray(np.mean([table[..., below].sum(-1).mean(0) for table in counts], axis=0), np.float64)

    def of(self, counts: Counts) -> NDArray[np.float64]:
        """(..., C, 4) or (..., C, 2) -> (...)."""
        if self.of_lakes:
            above, below = np.moveaxis(np.asarray(counts, np.float64).sum(axis=-2), -1, 0)
            return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
        if self.aggregation == "pooled":
            return SCORES[self.score](counts.sum(axis=-2))
        of_clusters = SCORES[self.score](counts)
        known = ~np.isnan(of_clusters)
        total = np.where(known, of_clusters, 0.0).sum(axis=-1)
        return np.divide(total, known.sum(axis=-1), out=np.full(total.shape, np.nan), where=known.any(axis=-1))


def measure_of(name: str) -> Measure:
    """Reads the name of a score.

    Raises:
        ConfigError: no score of that name can be compared
    """
    pixels = re.fullmatch(
        rf"(?P<split>test|val)/(?:(?P<half>at_0\.5)/)?(?:(?P<kind>{'|'.join(STRATA)})/(?P<value>[^/]+)/)?"
        rf"(?P<score>{'|'.join(SCORES)})_(?P<how>{'|'.join(AGGREGATIONS)})",
        name,
    )
    if pixels is not None:
        stratum = (pixels["kind"], pixels["value"]) if pixels["kind"] else None
        return Measure(name, pixels["split"], pixels["score"], pixels["how"], pixels["half"] is not None, stratum)
    lakes = re.fullmatch(
        rf"(?P<split>test|val)/(?:(?P<kind>{'|'.join(LAKE_STRATA)})/(?P<value>[^/]+)/)?"
        rf"(?P<score>{'|'.join(LAKE_SCORES)})",
        name,
    )
    if lakes is None:
        raise ConfigError(
            f"--score {name} cannot be compared: it must be test/SCORE_HOW with SCORE one of {', '.join(SCORES)} and "
            f"HOW {' or '.join(AGGREGATIONS)}, with at_0.5/, sensor/NAME/ or region/NAME/ between if wanted; or "
            f"test/SCORE with SCORE one of {', '.join(LAKE_SCORES)}, with {'/NAME/, '.join(LAKE_STRATA)}/NAME/ between."
        )
    stratum = (lakes["kind"], lakes["value"]) if lakes["kind"] else None
    return Measure(name, lakes["split"], lakes["score"], "pooled", at_half=False, stratum=stratum)


def strata_of_lakes(lakes: pd.DataFrame, kind: str) -> dict[str, NDArray[np.int64]]:
    """Row positions of each stratum of a kind, one of LAKE_STRATA, by its name in tracking; unknown ones left out."""
    keys = lakes[kind] if kind in STRATA else kinds_of(lakes)[kind]
    return {name: rows for name, rows in strata(keys).items() if name != "unknown"}


def lake_sums(
    lakes: Mapping[str, pd.DataFrame], clusters: Mapping[str, "pd.Series[str]"], measure: Measure
) -> dict[str, NDArray[np.float64]]:
    """Sums over the lakes of each cluster, by run, on the clusters that hold such lakes in any of the runs.

    Args:
        lakes: rows of `lakes.parquet` of the measure's split, by run id
        clusters: of each of these rows, by run id
        measure: a score of lakes

    Returns:
        (C, 2) of each run, the same clusters in the same order

    Raises:
        DataError: no run has such a lake
    """
    score, found, known = LAKE_SCORES[measure.score], {}, set()
    for run_id, table in lakes.items():
        rows = np.flatnonzero(table["kind"] == score.of)
        if measure.stratum is not None:
            kind, name = measure.stratum
            groups = strata_of_lakes(table, kind)
            known |= set(groups)
            of_name = rows_of(table[kind], name) if kind in STRATA else groups.get(name, rows[:0])
            rows = np.intersect1d(rows, of_name)
        above, below = score.terms(table.iloc[rows])
        frame = pd.DataFrame({"above": above, "below": below}).groupby(clusters[run_id].iloc[rows].to_numpy()).sum()
        found[run_id] = frame[frame["below"] > 0]
    names = sorted(set().union(*(frame.index for frame in found.values())))
    if not names:
        there = f" There is: {', '.join(sorted(known))}." if known else ""
        raise DataError(f"{measure.name}: no lake counts there.{there}")
    return {run_id: frame.reindex(names, fill_value=0.0).to_numpy(np.float64) for run_id, frame in found.items()}
