"""The page on what a model was trained on, how far scenes lie from that, and what is expected of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from glidexp.models.validity import ALL, STEPS, Distance, Validity, Verdict
from glidexp.scoring.cloud import INSIDE
from glidexp.scoring.expected import Floats, signs
from glidexp.scoring.validity_plots import (
    Dot,
    Range,
    distance_figure,
    expected_figure,
    histograms_figure,
    traits_figure,
)
from glidexp.study.report.blocks import Block, Heading, Picture, Points, Table, Text
from glidexp.study.report.tables import NONE
from glidexp.study.validity.matrix import FromMatrix
from glidexp.study.validity.scenes import Judged
from glidexp.wording import does, many, part, percent

SHOWN = 12
"""scenes that are told in sentences; the table has all"""


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page tells."""

    model: str
    """as it is called"""
    card: Mapping[str, Any]
    validity: Validity
    scenes: Sequence[Judged]
    matrix: FromMatrix | None
    own: pd.DataFrame | None
    """the model's own test scenes, as `survey.scene_table` gives them; None where they are not known"""


def blocks(page: Page) -> list[Block]:
    """The page in reading order."""
    return [*_opening(page), *_scenes(page), *_expected(page), *_trained_on(page), *_how(page)]


def scene_rows(page: Page) -> pd.DataFrame:
    """A row a scene, for CSV; scores 0-1, empty where they are not known."""
    rows = []
    for one in page.scenes:
        row: dict[str, Any] = {"scene": one.name, "sensor": one.sensor, "region": one.region}
        if (verdict := one.verdict) is not None:
            seen = verdict.embedding
            row |= {"against": verdict.group, "tiles": verdict.tiles, "outside": verdict.outside}
            row |= {"statistics": verdict.statistics.value, "embedding": seen.value if seen else np.nan}
            row |= {"statistics_percentile": verdict.statistics.percentile}
            row |= {"embedding_percentile": seen.percentile if seen else np.nan, "distance": verdict.distance}
            row |= {"certainty": verdict.certainty}
            if page.matrix is not None:
                ends = page.matrix.expected.at(_signs(verdict))
                row |= dict(zip(("expected", "low", "high"), (float(end[0]) for end in ends), strict=True))
            row["why"] = "; ".join(verdict.unusual)
        rows.append(row | {"said": "; ".join(one.said)})
    return pd.DataFrame(rows)


def _opening(page: Page) -> Iterable[Block]:
    whole = page.validity.groups[ALL]
    sensors = [name for name in page.validity.groups if name != ALL] or list(map(str, page.card.get("sensors", [])))
    yield Text(
        f"Trained on {whole.tiles:,} tiles of {', '.join(sensors)} in {', '.join(whole.regions)}. A scene is held "
        "against them in two ways: by statistics of its pixels, and by what the network's own encoder makes of it.",
        "lead",
    )
    known = [one for one in page.scenes if one.verdict is not None]
    out = [one for one in known if one.verdict is not None and one.verdict.outside]
    if known:
        yield Text(
            f"{len(out)} of {many(len(known), 'scene')} {does(len(out) if len(known) > 1 else 1, 'lie')} outside.",
            "warn" if out else "",
        )
        told = (out + [one for one in known if one.verdict is not None and not one.verdict.outside])[:SHOWN]
        kinds = ["worse" if place < len(out) else "better" for place in range(len(told))]
        yield Points([sentence(one, page.matrix) for one in told], kinds)
        if len(known) > SHOWN:
            yield Text(f"{len(known) - SHOWN} more {does(len(known) - SHOWN, 'are')} in the table.")
    for one in page.scenes:
        if one.verdict is None:
            yield Text(f"{one.name}: too few valid pixels to say anything.", "warn")


def sentence(one: Judged, matrix: FromMatrix | None) -> str:
    """What is said of a scene that was judged: inside or outside, how far, what to expect, and why."""
    verdict = one.verdict
    assert verdict is not None
    told = f"{one.name}: {'outside' if verdict.outside else 'inside'}, distance {_both(verdict)}"
    if matrix is not None:
        guess = ", a guess so far away" if matrix.beyond(verdict) else ""
        told += f"; expected lake IoU {_score(matrix, verdict)} points{guess}"
    why = [*verdict.unusual[:2]]
    if verdict.outside and not why:
        far_seen = verdict.embedding is not None and verdict.embedding.outside and not verdict.statistics.outside
        why = [
            "to the encoder it is unlike the training tiles, though no single statistic is rare among them"
            if far_seen
            else "no single statistic is rare among the training tiles, their combination is"
        ]
    return ". ".join([told, *map(_begun, (*why, *one.said))]) + "."


def _begun(reason: str) -> str:
    """With a capital, but for a reason that begins with a path or the name of a scene."""
    word = reason.split(" ", 1)[0]
    return (reason[:1].upper() + reason[1:] if word.isalpha() else reason).rstrip(".")


def _both(verdict: Verdict) -> str:
    seen = f", {verdict.embedding.value:.2f} by embedding" if verdict.embedding else ""
    return f"{verdict.statistics.value:.2f} by statistics{seen}"


def _score(matrix: FromMatrix, verdict: Verdict) -> str:
    value, low, high = (100 * float(end[0]) for end in matrix.expected.at(_signs(verdict)))
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def _signs(verdict: Verdict) -> Floats:
    return signs(np.array([verdict.certainty or 0.0]), np.array([verdict.distance]))


def _scenes(page: Page) -> Iterable[Block]:
    known = [(one, one.verdict) for one in page.scenes if one.verdict is not None]
    if not known:
        return
    yield Heading("The scenes")
    rows = [
        [
            one.name, verdict.group, _cell(verdict.statistics), _cell(verdict.embedding),
            *([_score(page.matrix, verdict)] if page.matrix is not None else []),
            "outside" if verdict.outside else "inside", f"{verdict.tiles}",
        ]
        for one, verdict in known
    ]  # fmt: skip
    score = [f"expected lake IoU [{percent(page.matrix.expected.level)}]"] if page.matrix is not None else []
    yield Table(
        "scenes",
        f"Distance: median over the scene's tiles; 1 is where {INSIDE:.0f} % of the held-out tiles lie within. In "
        "brackets the per cent of held-out tiles that lie nearer.",
        ["scene", "held against", "by statistics", "by embedding", *score, "verdict", "tiles"],
        rows,
    )
    dots = _dots(page)
    yield Picture.of(
        "distance", partial(distance_figure, dots),
        "Each scene by both distances. Blue ground: inside. Beyond a dashed line: outside, and hollow.",
    )  # fmt: skip
    yield Picture.of(
        "traits", partial(traits_figure, dots, page.validity.names),
        "Where each scene lies among the training tiles, trait by trait: 50 in their middle, 0 and 100 at their ends "
        "or beyond. Light blue: 1 to 99 % of them; darker: 25 to 75 %. Hollow: outside.",
    )  # fmt: skip


def _dots(page: Page) -> list[Dot]:
    found = []
    for one in page.scenes:
        if (verdict := one.verdict) is not None:
            seen = verdict.embedding.value if verdict.embedding else float("nan")
            found.append(Dot(one.name, verdict.statistics.value, seen, verdict.outside, verdict.ranks))
    return found


def _cell(distance: Distance | None) -> str:
    return f"{distance.value:.2f} ({distance.percentile:.0f} %)" if distance else NONE


def _expected(page: Page) -> Iterable[Block]:
    matrix = page.matrix
    yield Heading("Expected score")
    if matrix is None:
        yield Text("Not known: no matrix was given. With --matrix STUDY, of study=transfer_region, it is told.")
        return
    expected, scenes = matrix.expected, matrix.scenes
    ranges = []
    for one in page.scenes:
        if one.verdict is not None:
            value, low, high = (float(end[0]) for end in expected.at(_signs(one.verdict)))
            ranges.append(Range(one.name, value, low, high, one.verdict.outside))
    picture = partial(expected_figure, expected.left_out, scenes["score"].to_numpy(), ranges)
    yield Picture.of(
        "expected", picture,
        f"Grey: {many(len(scenes), 'score')} of {many(scenes['scene'].nunique(), 'scene')} by "
        f"{many(scenes['run'].nunique(), 'network')} of the matrix, over what was expected of them without their "
        f"{matrix.by}. In colour: scenes of this page, with the interval in which their scores are expected; "
        "hollow and dotted: outside.",
    )  # fmt: skip
    points = [
        "Expected from how sure the network is of its own map (the IoU it would have if its probabilities held) and "
        "from the distance, as the scores of the matrix's networks on its test scenes depend on both.",
        f"The interval is meant to hold the score of {percent(expected.level)} of scenes. It is of a single scene, not "
        "of a mean over scenes.",
    ]
    if (held := matrix.held_out) is not None and matrix.without is not None:
        points.append(
            f"With each {matrix.by} in turn left out of the making, intervals held {part(held.share)} of its "
            f"{held.scores} scores, at a mean width of {100 * held.width:.0f} points; without either sign they would "
            f"be {100 * matrix.without.width:.0f} points wide."
        )
    if page.card.get("run_id") not in set(scenes["run"]):
        points.append(
            "The model is none of the matrix's networks: its scores are reckoned to depend on both as theirs."
        )
    far = [one.name for one in page.scenes if one.verdict and matrix.beyond(one.verdict)]
    if far:
        points.append(
            f"Farther than any scene of the matrix, by statistics ({scenes['statistics'].max():.2f} there) or by "
            f"embedding ({scenes['embedding'].max():.2f}): {', '.join(far[:SHOWN])}. What is expected there is "
            "a guess: a network may be sure of what it has never seen."
        )
    yield Points([*points, *(note[:1].upper() + note[1:] + "." for note in matrix.notes)])


def _trained_on(page: Page) -> Iterable[Block]:
    validity = page.validity
    yield Heading("What it was trained on")
    sizes = page.card.get("gsd_m") or {}
    rows = []
    for group in validity.groups.values():
        low, high = sizes.get(group.name, (np.nan, np.nan))
        size = NONE if low != low else f"{low:g}" if low == high else f"{low:g} to {high:g}"
        held = f"{group.held['tiles']} in {many(group.held['scenes'], 'scene')}"
        rows.append([group.name, f"{group.tiles}", ", ".join(group.regions), size, held])
    yield Table(
        "trained_on",
        "Training tiles by sensor. A scene of another sensor, or of one with too few tiles, is held against all.",
        ["sensor", "tiles", "regions", "pixel [m]", "held-out tiles"],
        rows,
    )
    groups = [group for group in validity.groups.values() if group.name != ALL] or [validity.groups[ALL]]
    ends = [int(np.searchsorted(STEPS, at)) for at in (1, 50, 99)]
    cells = [
        [name, *(" / ".join(f"{group.steps[end, place]:.3g}" for end in ends) for group in groups)]
        for place, name in enumerate(validity.names)
    ]
    yield Table(
        "traits",
        "Traits of the training tiles on 0-255, after the stretch: 1 % of them lie below the first number, half below "
        "the second, 99 % below the third.",
        ["trait of a tile", *(group.name for group in groups)],
        cells,
    )
    yield Picture.of(
        "pixels", partial(histograms_figure, {group.name: group.histograms for group in groups}),
        "Pixels of the training tiles, after the stretch. Greenness: (green - red) / (green + red).",
    )  # fmt: skip
    if page.own is not None and len(page.own):
        alarms = int(page.own["outside"].sum())
        home = page.own["region"].astype(str).isin(validity.groups[ALL].regions)
        home &= page.own["sensor"].astype(str).isin([str(name) for name in page.card.get("sensors", [])])
        told = f"Of its own {many(len(page.own), 'test scene')} {alarms} {does(alarms, 'lie')} outside"
        if not home.all():
            told += (
                f", {int(page.own['outside'][home].sum())} of them of the sensors and regions that it was trained on"
            )
            told += f" ({many(int(home.sum()), 'scene')}), which are false alarms"
        yield Text(f"{told}.")


def _how(page: Page) -> Iterable[Block]:
    yield Heading("How it is measured")
    yield Points(
        [
            f"Tiles of {page.validity.tile_px} px are taken evenly from a scene, stretched as the model's own were. "
            "Each gives its traits, and the encoder's deepest features averaged over the tile.",
            "Distance: Mahalanobis, by the shrunk covariance of the training tiles; of the features along their "
            f"principal axes. 1 is the distance within which {INSIDE:.0f} % of val tiles lie, from which no weight was "
            "learnt.",
            "A scene is outside where the median of its tiles lies beyond 1 in either way. A scene can lie inside and "
            "still be mapped badly: what neither statistics nor features see is not seen here.",
        ]
    )
