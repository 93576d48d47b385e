"""Scenes of a transfer matrix: how far each lies from what a network was trained on, and how well that network does."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from glidexp.errors import DataError, TrackingError
from glidexp.models.survey import SCENES
from glidexp.scoring.expected import Coverage, Expected, coverage
from glidexp.study.studies import runs_of
from glidexp.tracking.found import TrackedRun, fetch_file
from glidexp.tracking.store import Store

SCORE = "lake_iou"
SCORES = "scene_scores.csv"


@dataclass(frozen=True, slots=True)
class FromMatrix:
    """What a matrix says of scores at a distance."""

    scenes: pd.DataFrame
    """run, scene, sensor, region, statistics, embedding, distance, score; a row a network and test scene"""
    expected: Expected
    held_out: Coverage | None
    """None where two targets are too few to leave one out of the making of the intervals as well"""
    by: str
    notes: tuple[str, ...]


def from_matrix(store: Store, reference: str, *, by: str = "region", level: float) -> FromMatrix:
    """Reads what the runs of a matrix left, and fits.

    Args:
        store: from `open_store`
        reference: a study, its folder, or the parent of runs
        by: region or sensor: what is left out together
        level: share of scenes that the intervals are to hold, 0-1

    Raises:
        TrackingError: no such study, or none of its runs kept distances
        DataError: too few scenes
    """
    runs, notes, _ = runs_of(store, [reference])
    scenes, left = scenes_of(store, runs)
    if scenes.empty:
        raise TrackingError(
            f"no run of {reference} has {SCENES}: its networks are from before distances were kept, train them anew."
        )
    distances, scores = scenes["distance"].to_numpy(), scenes["score"].to_numpy()
    targets = scenes[by].astype(str).to_numpy()
    expected = Expected.fit(distances, scores, targets, level=level)
    try:
        held_out = coverage(distances, scores, targets, level=level)
    except DataError:
        held_out = None
    return FromMatrix(scenes, expected, held_out, by, (*notes, *left))


def scenes_of(store: Store, runs: Sequence[TrackedRun]) -> tuple[pd.DataFrame, list[str]]:
    """A row a run and test scene with lake, as `FromMatrix.scenes`; and a sentence on runs that are left out."""
    parts, left = [], []
    for run in runs:
        with tempfile.TemporaryDirectory() as aside:
            try:
                far, scored = (pd.read_csv(fetch_file(store, run, name, Path(aside))) for name in (SCENES, SCORES))
            except TrackingError:
                left.append(f"run {run.run_id[:12]} ({run.name}) kept no distances and is left out")
                continue
        scored = scored[(scored["split"] == "test") & (scored["lake_px"] > 0)]
        both = far.merge(scored[["scene", SCORE]], on="scene").rename(columns={SCORE: "score"})
        parts.append(both.assign(run=run.run_id, distance=both[["statistics", "embedding"]].max(axis=1)))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return (found[np.isfinite(found["score"])] if len(found) else found), left
