"""Scenes of a transfer matrix: how far each lies from what a network was trained on, and how well that network does."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glidexp.errors import DataError, TrackingError
from glidexp.models.survey import SCENES
from glidexp.models.validity import Verdict
from glidexp.scoring.confusion import scene_rows
from glidexp.scoring.expected import Coverage, Expected, Floats, certainty, coverage, signs
from glidexp.scoring.scores import read_scores
from glidexp.study.comparison.arms import shown
from glidexp.study.comparison.references import runs_of
from glidexp.study.validity.lacking import why_no_distances
from glidexp.tracking.found import TrackedRun, all_parts, read_file
from glidexp.tracking.store import Store


@dataclass(frozen=True, slots=True)
class FromMatrix:
    """What a matrix says of scores."""

    scenes: pd.DataFrame
    """run, scene, sensor, region, statistics, embedding, distance (of both), certainty, score; a row a network and test
    scene with lake"""
    expected: Expected
    held_out: Coverage | None
    """None where two targets are too few to leave one out of the making of the intervals as well"""
    without: Coverage | None
    """the same of intervals that look at nothing"""
    by: str
    notes: tuple[str, ...]

    def beyond(self, verdict: Verdict) -> bool:
        """Whether a scene lies farther away than any of the matrix, so that what is expected of it is a guess."""
        seen = verdict.embedding.value if verdict.embedding else 0.0
        return verdict.statistics.value > self.scenes["statistics"].max() or seen > self.scenes["embedding"].max()


def from_matrix(store: Store, references: Sequence[str], *, by: str = "region", level: float) -> FromMatrix:
    """Reads what the runs of a matrix left, and fits.

    Args:
        store: from `open_store`
        references: studies, their folders, parents of runs, or runs
        by: region or sensor: what is left out together
        level: share of scenes that the intervals are to hold, 0-1

    Raises:
        TrackingError: no such study, or none of its runs kept distances
        DataError: too few scenes
    """
    runs, notes, _ = runs_of(store, references, whole=False)
    scenes, left = scenes_of(store, all_parts(runs))
    if scenes.empty:
        raise TrackingError(
            f"no run of {', '.join(references)} tells how far its scenes lie: {'; '.join(left or notes)}. Give "
            "a matrix whose networks do."
        )
    given, scores, targets = told_by(scenes), scenes["score"].to_numpy(), np.asarray(scenes[by], dtype=np.str_)
    expected = Expected.fit(given, scores, targets, level=level)
    held_out: Coverage | None = None
    without: Coverage | None = None
    with suppress(DataError):
        held_out = coverage(given, scores, targets, level=level)
        without = coverage(np.zeros_like(given), scores, targets, level=level)
    return FromMatrix(scenes, expected, held_out, without, by, (*notes, *left))


def told_by(scenes: pd.DataFrame) -> Floats:
    """(n, 2) the signs of `FromMatrix.scenes`."""
    return signs(scenes["certainty"].to_numpy(), scenes["distance"].to_numpy())


def scenes_of(store: Store, runs: Sequence[TrackedRun]) -> tuple[pd.DataFrame, list[str]]:
    """A row a run and test scene with lake, as `FromMatrix.scenes`; and a sentence on runs that are left out."""
    parts = []
    lacking: dict[str, list[str]] = {}
    for run in shown(runs, "reading distances"):
        try:
            far = read_file(store, run, SCENES, lambda path: pd.read_csv(path, dtype={"scene": str}))
            table, hist = read_file(store, run, "scores.parquet", read_scores)
        except TrackingError:
            lacking.setdefault(why_no_distances(store, run), []).append(f"{run.run_id[:12]} ({run.name})")
            continue
        test = (table["split"] == "test").to_numpy()
        table, counts = table[test].reset_index(drop=True), hist[test].sum(axis=1)
        at = run.metrics.get("test/threshold", 0.5), run.metrics.get("test/temperature")
        sure = {
            scene: certainty(counts[rows].sum(axis=0), *at) for scene, rows in table.groupby("scene").indices.items()
        }
        scored = scene_rows(table)
        scored = scored[scored["lake_px"] > 0].assign(certainty=scored["scene"].map(sure), score=scored["lake_iou"])
        parts.append(far.merge(scored[["scene", "certainty", "score"]], on="scene").assign(run=run.run_id))
    left = [f"without distances, and so left out: {', '.join(names)}: {why}" for why, names in lacking.items()]
    return (pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()), left
