"""What a design can tell: the smallest difference it finds, and what it can never find, said before anything is run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from glidexp.config.study import AssumeConfig, StudyConfig
from glidexp.errors import GlidexpError
from glidexp.scoring.statistics import Parts, detectable
from glidexp.tracking.history import PastRun
from glidexp.tracking.store import Store
from glidexp.wording import decimals, many

MOST_RUNS = 12
"""of finished runs, that tell how far differences spread"""


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of a paired difference, on the scale of the score."""

    seed: float
    cluster: float
    rest: float
    source: str
    """where they are from, in words"""

    def parts(self, seeds: int, clusters: int) -> Parts:
        """Mean squares that such differences give on average in a design."""
        nothing = float("nan")
        rest = self.rest**2
        return Parts(
            seed=rest + clusters * self.seed**2 if seeds > 1 else nothing,
            cluster=rest + seeds * self.cluster**2 if clusters > 1 else nothing,
            rest=rest if seeds > 1 and clusters > 1 else nothing,
            seeds=seeds,
            clusters=clusters,
        )


def assumed(cfg: AssumeConfig) -> Spread:
    """The spread that the settings assume."""
    return Spread(cfg.seed_sd, cfg.cluster_sd, cfg.rest_sd, "assumed (study.assume)")


def of_history(store: Store, past: Sequence[PastRun], primary: str) -> Spread | None:
    """The spread in finished runs on the same tiles; None where there are no two arms with two seeds of both.

    Args:
        store: that holds them
        past: from `tracking.history`
        primary: score
    """
    from glidexp.study.comparison.arms import arms_of
    from glidexp.study.comparison.compare import compare, measure_of

    try:
        arms = [arm for arm in arms_of([one.run for one in past]) if len(arm.runs) > 1]
        pairs = [(a, b) for n, a in enumerate(arms) for b in arms[n + 1 :] if len({*a.seeds} & {*b.seeds}) > 1]
        if not pairs:
            return None
        one, other = max(pairs, key=lambda pair: len({*pair[0].seeds} & {*pair[1].seeds}))
        runs = [*one.runs[:MOST_RUNS], *other.runs[:MOST_RUNS]]
        effect = compare(store, runs, measure_of(primary)).rows[1].effect
    except GlidexpError:  # files that are gone, a seed twice: history is a help, not a need
        return None
    if effect is None or math.isnan(effect.parts.rest):
        return None
    parts = effect.parts
    return Spread(
        math.sqrt(max(parts.seed - parts.rest, 0) / parts.clusters),
        math.sqrt(max(parts.cluster - parts.rest, 0) / parts.seeds),
        math.sqrt(parts.rest),
        f"as in {many(len(runs), 'finished run')} on these tiles",
    )


def told(study: StudyConfig, spread: Spread, *, arms: int, seeds: int, clusters: int, cluster: str) -> list[str]:
    """What the design can detect, and sentences of warning where it cannot reach alpha.

    Args:
        study: alpha, power
        spread: of a difference
        arms: the baseline among them
        seeds: trainings of each arm
        clusters: pieces of test ground
        cluster: what they are
    """
    if arms < 2:
        return []
    family = arms - 1
    alpha = study.alpha / family
    found = []
    smallest = detectable(spread.parts(seeds, clusters), alpha=alpha, power=study.power)
    spreads = f"seeds {spread.seed:.3f}, {cluster}s {spread.cluster:.3f}, rest {spread.rest:.3f}"
    steps = f" over {many(family, 'comparison')} (Holm: {alpha:.4g} for the first)" * (family > 1)
    if smallest == smallest:
        scale, unit = _unit(study.primary)
        design = (
            f"with {100 * study.power:.0f} % power at alpha {study.alpha:g}{steps}, {many(seeds, 'seed')} and "
            f"{many(clusters, cluster)}"
        )
        digits = decimals(scale * smallest, least=1)
        reach = f"a true difference of {scale * smallest:.{digits}f} {unit} or more, {design}"
        if unit == "points" and smallest >= 1:
            reach = (
                f"no difference that there can be, {design}. Warning: it would have to be {scale * smallest:.1f} "
                f"{unit}, and no two scores differ by more than {scale:g}: give more seeds, more test ground or fewer "
                "arms"
            )
        found.append(f"Detectable: {reach}. SD of a difference between {spreads}: {spread.source}.")
    else:
        found.append(
            f"Warning: one seed on one {cluster}: no comparison can reach alpha {study.alpha:g}, as there is no spread "
            "to judge it by. Give more seeds (study.seeds) and more test ground."
        )
    return found + out_of_reach(study.alpha, family, seeds, clusters, cluster)


def _unit(primary: str) -> tuple[float, str]:
    """From a score to what it is told in; points of 100 where it is none that can be compared."""
    from glidexp.study.comparison.measures import measure_of

    try:
        measure = measure_of(primary)
    except GlidexpError:
        return 100.0, "points"
    return measure.scale, measure.unit


def out_of_reach(alpha: float, family: int, seeds: int, clusters: int, cluster: str) -> list[str]:
    """Sentences for what so few seeds or clusters can never show, whatever the difference is."""
    found = []
    least = 2.0 ** (1 - clusters)
    if clusters > 1 and family * least > alpha:
        needed = math.ceil(1 + math.log2(family / alpha))
        found.append(
            f"Warning: with {clusters} {cluster}s sign flips cannot be below p = {least:.3g}, which Holm over "
            f"{family} makes {min(family * least, 1):.3g}: that test cannot reach alpha {alpha:g} here. It needs "
            f"{needed} {cluster}s, "
            "so a verdict rests on the t interval and its assumption of normal differences alone."
        )
    if seeds == 1:
        found.append(
            "Warning: one seed an arm: the luck of a training is in no interval, so that no verdict can go beyond the "
            "trainings at hand. Give study.seeds two or more, better three to five."
        )
    if cluster == "tile":
        found.append("Warning: no scene or block is known: tiles count as independent, and intervals are too narrow.")
    return found
