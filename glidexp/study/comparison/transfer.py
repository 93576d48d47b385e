"""Transfer matrices: what a network trained on one region or sensor is worth on each other. From the scores alone.

A source is what an arm was trained on, a target what a part of the test ground is of. Each source is trained once a
seed and scored on all targets. Positive gaps and regrets are losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from glidexp.config.stored import read_values
from glidexp.config.transfer import TRAINED_ON, By
from glidexp.errors import ConfigError, DataError
from glidexp.scoring.statistics import Effect, deviation, holm
from glidexp.study.comparison.arms import Arm, arms_of, seed_order, told_leaks, told_versions
from glidexp.study.comparison.compare import Row, row_of
from glidexp.study.comparison.folds import told
from glidexp.study.comparison.material import Material, gather
from glidexp.study.comparison.measures import Measure
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import Store
from glidexp.wording import many

ALL = "all"


@dataclass(frozen=True, slots=True)
class Pair:
    """A source on a target."""

    source: str
    target: str
    values: tuple[float, ...]
    """score of each seed, 0-1"""
    gap: Effect | None
    """what the target's own source has more, over seeds and clusters; None for that source, and where there is none"""
    p_holm: float
    regret: float
    """what the best source on this target has more; 0 for that one"""
    asymmetry: float
    """how much better source -> target is than target -> source; NaN where one of them was not trained"""
    clusters: int
    """of the target's test ground"""

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


@dataclass(frozen=True, slots=True)
class Matrix:
    """All sources on all targets."""

    by: str
    measure: Measure
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    pairs: dict[tuple[str, str], Pair]
    level: float
    notes: tuple[str, ...]
    ground: str = "scene"
    """what clusters are: scene, block or tile"""
    uneven: str = ""
    """a sentence where sources lack seeds that others have"""

    @property
    def rest_on(self) -> tuple[list[str], list[str]]:
        """What the means are of: `3 seeds` of each source, `8 scenes` of each target."""
        first, target = self.sources[0], self.targets[0]
        seeds = [many(len(self.pairs[source, target].values), "seed") for source in self.sources]
        return seeds, [many(self.pairs[first, target].clusters, self.ground) for target in self.targets]

    @property
    def means(self) -> NDArray[np.float64]:
        """(sources, targets), 0-1."""
        return np.array([[self.pairs[source, target].mean for target in self.targets] for source in self.sources])

    def regret(self, source: str) -> float:
        """Mean over targets: what is lost with this source everywhere in place of the best one for each target."""
        return float(np.mean([self.pairs[source, target].regret for target in self.targets]))


def matrix(
    store: Store,
    runs: Sequence[TrackedRun],
    measure: Measure,
    *,
    by: str,
    level: float = 0.95,
    arms: Sequence[Arm] | None = None,
) -> Matrix:
    """Lays runs of several sources out by target.

    Args:
        store: holds the runs
        runs: finished; what they were trained on and the seed are all they differ in
        measure: from `compare.measure_of`, without a stratum
        by: region or sensor
        level: of the intervals, 0-1
        arms: of these runs, where they are known, as of a study; else found by what differs

    Raises:
        ConfigError: a score of one stratum, or of which more is not better
        DataError: fewer than two sources, two arms of one source, other ground, a target without lake
        TrackingError: a run without scores
    """
    refuse_unfit(measure)
    arms = list(arms) if arms is not None else arms_of(runs)
    return lay_out(arms, gather(store, runs, measure.split, lakes=measure.of_lakes), measure, by=by, level=level)


def refuse_unfit(measure: Measure) -> None:
    """Raises ConfigError for the score of one stratum, and for one of which more is not better."""
    if measure.better != 1:
        raise ConfigError(f"--score {measure.name}: more of it is not better: give test/lake_iou_pooled or the like.")
    if measure.stratum is not None:
        raise ConfigError(
            f"--score {measure.name} is of one {measure.stratum[0]}: give test/lake_iou_pooled or the like."
        )


def lay_out(arms: Sequence[Arm], material: Material, measure: Measure, *, by: str, level: float = 0.95) -> Matrix:
    """As `matrix`, of arms whose scores were read before."""
    refuse_unfit(measure)
    targets = sorted(set(next(iter(material.tables.values()))[by].astype(str)))
    sources = _sources(arms, by, targets)
    rows: dict[tuple[str, str], Row] = {}
    clusters: dict[str, int] = {}
    for target in targets:
        own, there = sources.get(target), measure.within(by, target)
        counts = dict(zip(sources, material.sums(list(sources.values()), there), strict=True))
        clusters[target] = int(np.count_nonzero(there.weights(*counts.values())))
        for source, arm in sources.items():
            base = None if own is None or source == target else (own, counts[target])
            row = row_of(arm, counts[source], there, level, base=base)
            if not np.isfinite(row.values).all():
                raise DataError(f"{measure.name} of {source} on {target} has no value (0/0): take another score.")
            rows[source, target] = row
    gaps = {pair: turned(row.effect) for pair, row in rows.items() if row.effect is not None}
    adjusted = dict(zip(gaps, holm([gap.p for gap in gaps.values()]), strict=True))
    means = {pair: row.mean for pair, row in rows.items()}
    nothing = float("nan")
    pairs = {}
    for (source, target), row in rows.items():
        best = max(means[other, target] for other in sources)
        there_and_back = means[source, target] - means.get((target, source), nothing)
        pairs[source, target] = Pair(
            source,
            target,
            row.values,
            gaps.get((source, target)),
            adjusted.get((source, target), nothing),
            best - means[source, target],
            there_and_back if source != target else nothing,
            clusters[target],
        )
    uneven = _uneven(sources)
    notes = (*_notes(sources, targets, material.ground.caveat, pairs), *([uneven] if uneven else []))
    return Matrix(by, measure, tuple(sources), tuple(targets), pairs, level, notes, material.ground.kind, uneven)


def turned(effect: Effect) -> Effect:
    """The difference the other way round."""
    return replace(effect, value=0.0 - effect.value, low=-effect.high, high=-effect.low)


def _sources(arms: Sequence[Arm], by: str, targets: Sequence[str]) -> dict[str, Arm]:
    """Arms by what they were trained on: single targets first, in the order of the targets."""
    found: dict[str, Arm] = {}
    for arm in arms:
        name = source_name(arm.runs[0].params.get(TRAINED_ON[By(by)], "[all]"), targets)
        if name in found:
            raise DataError(
                f"two arms were trained on {name}, '{found[name].name}' and '{arm.name}': a matrix is made of runs "
                f"that differ in {TRAINED_ON[By(by)]} and seed alone."
            )
        found[name] = arm
    if len(found) < 2:
        raise DataError(f"all runs were trained on {next(iter(found))}: a matrix needs two sources or more.")
    order = {name: place for place, name in enumerate(targets)}
    return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))}


def source_name(trained_on: str, targets: Sequence[str]) -> str:
    """`andes`, `all`, `all but andes` or `alaska+andes`, from a list as params hold it.

    Args:
        trained_on: such as "['andes']"
        targets: every region or sensor of the test ground

    Raises:
        DataError: it is no list
    """
    try:
        names = sorted(str(name) for name in read_values(trained_on))
    except (DataError, TypeError) as error:
        raise DataError(f"a run says that it was trained on {trained_on[:60]}, which is no list ({error}).") from None
    if ALL in names or set(names) >= set(targets):
        return ALL
    left = [target for target in targets if target not in names]
    if len(left) == 1 and len(targets) > 2:
        return f"{ALL} but {left[0]}"
    return "+".join(names)


def _notes(
    arms: dict[str, Arm], targets: Sequence[str], caveat: str, pairs: dict[tuple[str, str], Pair]
) -> tuple[str, ...]:
    notes = [caveat] if caveat else []
    missing = [target for target in targets if target not in arms]
    if missing:
        notes.append(f"no run was trained on {', '.join(missing)} alone, so no gap can be told there")
    if any(len(arm.runs) == 1 for arm in arms.values()):
        notes.append("one training of some sources, so that the luck of a seed is in no interval of theirs")
    few = sorted({pair.target for pair in pairs.values() if pair.clusters == 1})
    if few:
        notes.append(f"one piece of test ground in {', '.join(few)}: the luck of the ground is in no interval there")
    looking = [name for name, arm in arms.items() if arm.runs[0].params.get("subset.val_from", "regions") != "source"]
    alone = [name for name in looking if name != ALL]
    if alone:
        notes.append(
            f"{', '.join(alone)}: val was not narrowed to what was trained on (subset.val_from=source), so other "
            "ground may have had a say in epoch and threshold"
        )
    seeing = [name for name, arm in arms.items() if _itself(arm)]
    if seeing:
        notes.append(
            f"{', '.join(seeing)}: learnt also from images without labels (self_training.regions, "
            "self_training.sensors, style.regions, style.sensors), so a target among them is not ground that was never "
            "seen"
        )
    runs = [run for arm in arms.values() for run in arm.runs]
    return (*notes, *told(list(arms.values())), *told_versions(runs), *told_leaks(runs))


def _uneven(arms: dict[str, Arm]) -> str:
    """Which sources lack seeds, and what then is not of the same ones."""
    own = {name: frozenset[str]().union(*arm.drawn) for name, arm in arms.items()}
    every = frozenset[str]().union(*own.values())
    lacking = [f"{name} {', '.join(sorted(every - seeds, key=seed_order))}" for name, seeds in own.items()]
    lacking = [said for said, seeds in zip(lacking, own.values(), strict=True) if seeds != every]
    if not lacking:
        return ""
    return (
        f"seeds that sources lack: {'; '.join(lacking)}. Means, regret and asymmetry are of all that each one has, "
        "gaps of those that both have, so that a difference of means may be that of a seed"
    )


def _itself(arm: Arm) -> bool:
    """Whether its runs learnt from tiles with a model's labels, or from others in their look."""
    keys = ("self_training.regions", "self_training.sensors", "style.regions", "style.sensors")
    return any(arm.runs[0].params.get(key, "[]") != "[]" for key in keys)


def as_table(found: Matrix) -> pd.DataFrame:
    """A row a pair, for CSV: scores as 0-1, gap with bounds, p after Holm, regret, asymmetry."""
    rows = []
    nothing = float("nan")
    for pair in found.pairs.values():
        gap = pair.gap
        rows.append(
            {
                "source": pair.source,
                "target": pair.target,
                "n_seeds": len(pair.values),
                "clusters": pair.clusters,
                "mean": pair.mean,
                "sd_seeds": deviation(pair.values),
                "gap": gap.value if gap else nothing,
                "low": gap.low if gap else nothing,
                "high": gap.high if gap else nothing,
                "level": found.level,
                "p_holm": pair.p_holm,
                "regret": pair.regret,
                "asymmetry": pair.asymmetry,
            }
        )
    return pd.DataFrame(rows)
