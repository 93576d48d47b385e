"""Checks that need no champion: the scores repeat, beat the naive rows, rest on clean ground, and are calibrated."""

from collections.abc import Mapping

from glidexp.release.report import Check, judged, skipped
from glidexp.scoring.naive import ROWS
from glidexp.study.comparison.compare import Measure, measure_of
from glidexp.study.comparison.naive_rows import naive_of
from glidexp.wording import does, many

FALLBACK = "test/lake_iou_pooled"
"""is held against the naive rows where they have no score of the kind that decides"""
TOLERANCE = 1e-3
"""by how much a score may differ when it is made again, 0-1: another processor rounds in another way"""


def repeated(claimed: Mapping[str, float], again: Mapping[str, float]) -> Check:
    """Whether the stored weights give the scores that their run logged: every pooled and averaged score of test.

    Args:
        claimed: metrics of the training run
        again: metrics of an evaluation of its stored weights
    """
    name = "scores_repeat"
    scores = [key for key in claimed if key.startswith("test/") and "leak/" not in key and _is_share(key)]
    if not scores:
        return judged(name, False, "the run has no test score that could be repeated.")
    missing = [key for key in scores if key not in again]
    if missing:
        return judged(name, False, f"{len(missing)} of {len(scores)} scores are not there again, {missing[0]} first.")
    worst = max(scores, key=lambda key: abs(claimed[key] - again[key]))
    off = abs(claimed[worst] - again[worst])
    told = f"{len(scores)} test scores made again from the stored weights"
    if off == 0:
        return judged(name, True, f"{told} are equal to the last digit.")
    said = f"{told} differ by {off:.2g} at most ({worst}: {claimed[worst]:.5f} claimed, {again[worst]:.5f} found)"
    return judged(name, off <= TOLERANCE, f"{said}; {TOLERANCE:g} is allowed.")


def beats_naive(scores: Mapping[str, float], measure: Measure) -> Check:
    """Whether the candidate is above a threshold of each water index and above calling everything background."""
    name = "beats_naive"
    own = scores.get(measure.name)
    if own is None:
        return judged(name, False, f"there is no {measure.name}.")
    score = measure.name
    known = naive_of(scores, measure)
    if not known:  # lakes and strata have no naive rows
        score = FALLBACK
        known, own = naive_of(scores, measure_of(score)), scores.get(score)
    if not known or own is None:
        return skipped(
            name, f"no naive row has {score}: the data lacks green and a band beside it, or the score is 0/0."
        )
    told = ", ".join(f"{ROWS[kind]} {100 * value:.2f}" for kind, value in known.items())
    return judged(name, own > max(known.values()), f"{score} is {100 * own:.2f}, naive rows: {told}.")


def clean_ground(again: Mapping[str, float], tags: Mapping[str, str]) -> Check:
    """Whether the test ground was never met in training, by the candidate or what it descends from."""
    name = "no_leakage"
    state, met = tags.get("glidexp.leak"), again.get("test/leak/tiles")
    tiles = int(again.get("test/tiles", 0))
    if state is None or met is None:
        return judged(
            name, False, "it is not known what the candidate was trained on: nobody can say whether it leaks."
        )
    if state == "unknown":
        return judged(name, False, "it is not known what an ancestor of the candidate was trained on.")
    told = (
        f"{int(met)} of {many(tiles, 'test tile')} {does(int(met), 'lie')} on ground that the candidate or an "
        "ancestor has met"
    )
    return judged(name, state == "false" and met == 0, f"{told}.")


def calibrated(scores: Mapping[str, float], bound: float) -> Check:
    """Whether the probability means what it says: expected calibration error over the test pixels, as scored.

    Args:
        scores: of the candidate
        bound: largest error allowed, 0-1
    """
    name = "calibration"
    error = scores.get("test/ece")
    if error is None:
        return judged(name, False, "there is no test/ece.")
    told = f"expected calibration error {error:.4f}, at most {bound:g} is allowed"
    after = scores.get("test/ece_calibrated")
    more = f" ({after:.4f} after the card's temperature)" if after is not None else ""
    return judged(name, error <= bound, f"{told}{more}.")


def _is_share(key: str) -> bool:
    """Scores in 0-1: those in metres, pixels or counts have other scales, and follow from the same masks."""
    last = key.split("/")[-1]
    return last.startswith(("precision", "recall", "f1", "lake_iou", "miou", "average_precision", "ece"))
