"""Which of several trainings is released: the best arm by a score, or a simpler one that cannot be told from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from glidexp.errors import ConfigError, DataError
from glidexp.study.arms import Arm, arms_of
from glidexp.study.compare import Measure, compare
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import Store

LEVEL = 0.95
"""of the intervals; differences inside them are no reason to take the larger network"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a network may cost."""

    most_parameters: int | None = None
    least_images_per_s: float | None = None
    """tiles a second in training, as the run measured on its machine"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The training that is taken, and why."""

    run: TrackedRun
    arm: str
    sentence: str


def pick(store: Store, runs: Sequence[TrackedRun], measure: Measure, limits: Limits) -> Choice:
    """Takes the best arm within the limits, of those that cannot be told from it the one with fewest parameters, and of
    its trainings the one that was best on val: test has no say in which seed is released.

    Args:
        store: holds the runs
        runs: finished, one or more
        measure: the score, from `study.compare.measure_of`
        limits: networks beyond them are left out

    Raises:
        ConfigError: nothing is left within the limits
        DataError: the runs were scored on different ground
    """
    arms, left = _within(arms_of(runs), limits)
    if len(arms) == 1:
        run, how = _training(arms[0], measure)
        of = "the only one given" if len(runs) == 1 else f"the only setting{' within the limits' * bool(left)}"
        return Choice(run, arms[0].name, _sentence(f"run {run.run_id[:12]} is {of}", how, left))
    means = {arm.name: _mean(arm, measure) for arm in arms}
    best = max(arms, key=lambda arm: means[arm.name])
    ordered = [run for arm in (best, *(arm for arm in arms if arm is not best)) for run in arm.runs]
    found = compare(store, ordered, measure, level=LEVEL)
    names = {arm.runs[0].run_id: arm for arm in arms}
    equal = [best, *(names[row.arm.runs[0].run_id] for row in found.rows[1:] if not row.sure(LEVEL))]
    simplest = min(equal, key=lambda arm: (_parameters(arm.runs[0]), -_speed(arm), -means[arm.name]))
    run, how = _training(simplest, measure)
    if simplest is best:
        why = f"{best.name} is best by {measure.name} ({100 * means[best.name]:.2f} of {len(arms)} settings"
        rest = [arm.name for arm in equal if arm is not best]
        why += f"; not distinguishable but no simpler: {', '.join(rest)})" if rest else ", told from all others)"
    else:
        why = (
            f"{simplest.name} has {_millions(simplest)} parameters and {100 * means[simplest.name]:.2f}; {best.name} "
            f"has {_millions(best)} and {100 * means[best.name]:.2f} by {measure.name}, which is not distinguishable "
            f"at {LEVEL:.0%}, so the simpler one is taken"
        )
    return Choice(run, simplest.name, _sentence(why, how, left))


def _within(arms: Sequence[Arm], limits: Limits) -> tuple[list[Arm], list[str]]:
    kept, left = [], []
    for arm in arms:
        parameters, speed = _parameters(arm.runs[0]), _speed(arm)
        if limits.most_parameters is not None and not parameters <= limits.most_parameters:
            left.append(f"{arm.name} ({_millions(arm)} parameters, at most {limits.most_parameters / 1e6:.2f} M)")
        elif limits.least_images_per_s is not None and not speed >= limits.least_images_per_s:
            left.append(f"{arm.name} ({speed:.1f} images/s, at least {limits.least_images_per_s:g})")
        else:
            kept.append(arm)
    if not kept:
        raise ConfigError(
            f"no setting is within the limits: {'; '.join(left)}. Raise --max-parameters or lower --min-speed."
        )
    return kept, left


def _training(arm: Arm, measure: Measure) -> tuple[TrackedRun, str]:
    """The arm's run that was best on val."""
    name = f"val/{measure.score}_{measure.aggregation}"
    if len(arm.runs) == 1:
        return arm.runs[0], ""
    run = max(arm.runs, key=lambda run: run.metrics.get(name, float("-inf")))
    value = run.metrics.get(name)
    shown = "not known" if value is None else f"{100 * value:.2f}"
    return run, f"of its {len(arm.runs)} trainings seed {run.params.get('seed', '0')} was best on val ({name} {shown})"


def _mean(arm: Arm, measure: Measure) -> float:
    missing = [run.run_id[:12] for run in arm.runs if measure.name not in run.metrics]
    if missing:
        raise DataError(f"run {missing[0]} has no {measure.name}: choose a score that every run has with --score.")
    return fmean(run.metrics[measure.name] for run in arm.runs)


def _parameters(run: TrackedRun) -> float:
    return float(run.tags.get("glidexp.parameters", "inf"))


def _speed(arm: Arm) -> float:
    return max(run.metrics.get("train/images_per_s", 0.0) for run in arm.runs)


def _millions(arm: Arm) -> str:
    count = _parameters(arm.runs[0])
    return f"{count / 1e6:.2f} M" if count < float("inf") else "an unknown number of"


def _sentence(why: str, how: str, left: Sequence[str]) -> str:
    parts = [why, how, f"left out by the limits: {'; '.join(left)}" if left else ""]
    return "; ".join(part for part in parts if part) + "."
