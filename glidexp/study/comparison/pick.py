"""Which of several trainings is best, for a release or to start from: that of the best arm by a score, or of a simpler
one that cannot be told from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from glidexp.errors import ConfigError, DataError, GlidexpError
from glidexp.study.comparison.arms import Arm, arms_of
from glidexp.study.comparison.compare import Comparison, Measure, Row, compare_arms, measure_of, same_rule
from glidexp.study.comparison.folds import over_folds
from glidexp.study.comparison.material import Material, gather
from glidexp.study.comparison.references import runs_of
from glidexp.study.comparison.studies import Study, load_study
from glidexp.study.execution.ledger import DONE, Status
from glidexp.tracking.found import TrackedRun, tracked_run
from glidexp.tracking.store import EVALUATION, ID_TAG, KIND_TAG, MODEL_RUN_TAG, Store
from glidexp.tracking.study_runs import BEST_ARM_TAG, BEST_TAG, BEST_WHY_TAG
from glidexp.wording import does, many, percent

USUAL_SCORE = "test/lake_iou_pooled"
USUAL_LEVEL = 0.95
MEMBERS_TAG = "glidexp.members"
"""of an evaluation that scored a mean of networks: which these are"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a network may cost."""

    most_parameters: float | None = None
    least_images_per_s: float | None = None
    """tiles a second in training, as the run measured on its machine"""


@dataclass(frozen=True, slots=True)
class Field:
    """What a release is chosen from."""

    arms: tuple[Arm, ...]
    """their runs hold the scores, all on one ground: trainings, or evaluations of them"""
    trained: Mapping[str, TrackedRun]
    """the training, by id of the run that holds its scores; mostly the same"""
    left: tuple[str, ...]
    """a sentence for each run that is not finished"""
    primary: str = USUAL_SCORE
    """the score that the study decides by"""
    level: float = USUAL_LEVEL
    """differences that do not hold at it are no reason to take the larger network"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The training that is taken, and why."""

    run: TrackedRun
    """whose weights they are"""
    scored: TrackedRun
    """holds the scores by which it was chosen: the training, or the evaluation on the study's ground"""
    arm: str
    sentence: str


def field_of(store: Store, references: Sequence[str]) -> Field:
    """The runs meant by ids, or by a study or another parent, as arms.

    Raises:
        ConfigError: none of them is finished, or one keeps a fitted model
        DataError: an evaluation whose training is not known
        TrackingError: no such run or study
    """
    study = load_study(store, references[0]) if len(references) == 1 else None
    if study is not None:
        if not study.arms:
            raise ConfigError(f"no run of study {study.plan.title} is finished: there is nothing to release.")
        return _of_study(study)
    runs, left, _ = runs_of(store, references)
    if not runs:
        raise ConfigError("none of these runs is finished: there is nothing to release.")
    arms = tuple(arms_of(runs))
    _refuse_folds(arms)
    return Field(arms, {run.run_id: _training_of(store, run) for run in runs}, tuple(left))


def _of_study(study: Study) -> Field:
    """Of arms that are other scorings of the same trainings, as the rungs of a ladder that learn nothing, the first.

    Raises:
        ConfigError: its trainings are of several folds
    """
    _refuse_folds(study.arms)
    by_training: dict[tuple[str, ...], Arm] = {}
    for arm in study.arms:
        by_training.setdefault(tuple(study.trained[run.run_id].run_id for run in arm.runs), arm)
    arms = tuple(by_training.values())
    return Field(arms, study.trained, tuple(study.missing), study.plan.primary, 1 - study.plan.alpha)


def _refuse_folds(arms: Sequence[Arm]) -> None:
    """Refuses trainings of which none stands for its seed: each was tested on another part of the ground.

    Raises:
        ConfigError: with what to do instead
    """
    if count := over_folds(arms):
        raise ConfigError(
            f"cross-validation over {count} folds says which setting is best, and leaves {count} networks of each "
            "seed, all tested on other ground: train that setting on one split (`python train.py` with its words), and "
            "take that run."
        )


def best_tags(store: Store, study: Study, material: Material | None = None) -> dict[str, str]:
    """What a study's parent run says of its best training (`tracking.study_runs`), by its primary score, no limits.

    Args:
        store: holds the runs
        study: whose
        material: what its runs left behind, where it was read before
    """
    ends = [entry.status in DONE for entry in study.entries.values()]
    try:
        if not all(ends):
            raise DataError(
                f"{ends.count(False)} of its {many(len(ends), 'run')} {does(ends.count(False), 'have')} not come "
                "to an end."
            )
        choice = pick(store, _of_study(study), deciding(study.plan.primary), Limits(), material)
    except GlidexpError as error:
        return {BEST_TAG: "", BEST_ARM_TAG: "", BEST_WHY_TAG: str(error)}
    failed = [name for name, entry in study.entries.items() if entry.status is Status.failed]
    why = choice.sentence + (f" Failed, and without a say: {', '.join(failed)}." if failed else "")
    return {BEST_TAG: choice.run.tags.get(ID_TAG, ""), BEST_ARM_TAG: choice.arm, BEST_WHY_TAG: why}


def deciding(name: str) -> Measure:
    """The score that decides, from its name.

    Raises:
        ConfigError: not a score of test where higher is better
    """
    measure = measure_of(name)
    if measure.split != "test" or measure.unit != "points" or measure.better != 1:
        raise ConfigError(
            f"--score {name} cannot decide a release: give a score of test in points, of which more is better, such "
            f"as {USUAL_SCORE} or test/lake_recall."
        )
    return measure


def pick(store: Store, field: Field, measure: Measure, limits: Limits, material: Material | None = None) -> Choice:
    """Takes the best arm within the limits, of those that cannot be told from it the one with fewest parameters, and of
    its trainings the one that was best on val: test has no say in which seed is released.

    Args:
        store: holds the runs
        field: from `field_of`
        measure: from `deciding`
        limits: networks beyond them are left out
        material: what the runs left behind on the measure's split, where it was read before

    Raises:
        ConfigError: nothing is left within the limits
        DataError: the runs were scored on different ground
    """
    arms, left = _within(field, limits)
    if len(arms) == 1:
        scored, how = _best_on_val(field, arms[0], measure)
        run = field.trained[scored.run_id]
        alone = len(field.arms) == 1 and len(arms[0].runs) == 1
        why = "the only one given" if alone else f"of the only setting{' within the limits' * bool(left)}"
        return Choice(run, scored, arms[0].name, _sentence(f"run {run.run_id[:12]} is {why}", how, left))
    means = {arm.name: _mean(arm, measure) for arm in arms}
    best = max(arms, key=lambda arm: means[arm.name])
    runs = [run for arm in arms for run in arm.runs]
    same_rule(runs, measure)
    material = material or gather(store, runs, measure.split, lakes=measure.of_lakes)
    best, found = _ahead(best, arms, material, measure, field.level)
    rows = [(row.arm, row) for row in found.rows[1:]]
    equal = [best, *(arm for arm, row in rows if not row.sure(field.level))]
    smaller = [arm for arm in equal if _parameters(field, arm) < _parameters(field, best)]
    simplest = min(smaller or [best], key=lambda arm: (_parameters(field, arm), -_speed(field, arm), -means[arm.name]))
    if simplest is best:
        why = f"{best.name} is best by {measure.name} ({100 * means[best.name]:.2f} over {_trainings(best)}, "
        why += f"of {len(arms)} settings"
        rest = [arm.name for arm in equal if arm is not best]
        why += f"; not distinguishable but no simpler: {', '.join(rest)})" if rest else ", told from all others)"
    else:
        apart = next(_apart(row, found) for arm, row in rows if arm is simplest)
        why = (
            f"{simplest.name} has {_millions(field, simplest)} parameters and {100 * means[simplest.name]:.2f} over "
            f"{_trainings(simplest)}; {best.name} has {_millions(field, best)} and {100 * means[best.name]:.2f} over "
            f"{_trainings(best)} by {measure.name}{apart}, which is not distinguishable at {percent(field.level)}, so "
            "the simpler one is taken"
        )
    scored, how = _best_on_val(field, simplest, measure)
    return Choice(field.trained[scored.run_id], scored, simplest.name, _sentence(why, how, left))


def _ahead(
    best: Arm, arms: Sequence[Arm], material: Material, measure: Measure, level: float
) -> tuple[Arm, Comparison]:
    """The arm of the highest mean, or one that is told to be better than it on the seeds that both have: a seed that
    only one of them has may have lifted its mean. And the comparison with it."""
    for _ in arms:
        ordered = [best, *(arm for arm in arms if arm is not best)]
        found = compare_arms(ordered, material, measure, level=level, ranks=False)
        ahead = {row.effect.value: row.arm for row in found.rows if row.effect and row.sure(level)}
        if max(ahead, default=0.0) <= 0:
            break
        best = ahead[max(ahead)]
    return found.rows[0].arm, found


def _trainings(arm: Arm) -> str:
    return many(len(arm.runs), "training")


def _apart(row: Row, found: Comparison) -> str:
    """`, a difference of -1.20 [-3.10, 0.70] on 8 scenes` from the best arm; empty where there is no spread."""
    effect = row.effect
    if effect is None or not effect.known:
        return ""
    value, low, high = (100 * number for number in (effect.value, effect.low, effect.high))
    return f", a difference of {value:+.2f} [{low:.2f}, {high:.2f}] on {many(found.clusters, found.ground.kind)}"


def _training_of(store: Store, run: TrackedRun) -> TrackedRun:
    if run.tags.get(KIND_TAG) != EVALUATION:
        return run
    if members := run.tags.get(MEMBERS_TAG):
        raise ConfigError(
            f"run {run.run_id[:12]} ({run.name}) scored a mean of networks, and only what a training leaves is "
            f"released: give one of them ({members}), or map scenes with `glidexp predict {run.run_id[:12]}`."
        )
    if not run.tags.get(MODEL_RUN_TAG):
        raise DataError(f"run {run.run_id[:12]} ({run.name}) scored a model whose training is not in this store.")
    found = tracked_run(store, run.tags[MODEL_RUN_TAG])
    fitted = next((one for one in (run, found) if one.params.get("eval.log_fitted") == "True"), None)
    if fitted is not None:  # to release its source in its place would be another model than the one that was named
        raise ConfigError(
            f"run {fitted.run_id[:12]} ({fitted.name}) keeps a model as it was fitted to other ground, and only what a "
            f"training leaves is released: give the run that it was fitted from ({fitted.tags[MODEL_RUN_TAG][:12]}), "
            f"or map scenes with `glidexp predict {fitted.run_id[:12]}`."
        )
    return found


def _within(field: Field, limits: Limits) -> tuple[list[Arm], list[str]]:
    kept, left = [], []
    for arm in field.arms:
        parameters, speed = _parameters(field, arm), _speed(field, arm)
        if limits.most_parameters is not None and not parameters <= limits.most_parameters:
            left.append(f"{arm.name} ({_millions(field, arm)} parameters, at most {limits.most_parameters / 1e6:g} M)")
        elif limits.least_images_per_s is not None and not speed >= limits.least_images_per_s:
            left.append(f"{arm.name} ({speed:.1f} images/s, at least {limits.least_images_per_s:g})")
        else:
            kept.append(arm)
    if not kept:
        raise ConfigError(
            f"no setting is within the limits: {'; '.join(left)}. Raise --max-parameters or lower --min-speed."
        )
    return kept, left


def _best_on_val(field: Field, arm: Arm, measure: Measure) -> tuple[TrackedRun, str]:
    """The arm's run whose training was best on val."""
    name = measure.name.replace("test/", "val/", 1)
    if len(arm.runs) == 1:
        return arm.runs[0], ""
    values = {run.run_id: field.trained[run.run_id].metrics.get(name, float("-inf")) for run in arm.runs}
    run = max(arm.runs, key=lambda run: values[run.run_id])
    seed, many = run.params.get("seed", "0"), len(arm.runs)
    if values[run.run_id] == float("-inf"):
        return run, f"of its {many} trainings seed {seed} is taken, as none has {name}"
    value = f"{100 * values[run.run_id]:.2f}"
    return run, f"of its {many} trainings seed {seed} was best on val ({name} {value})"


def _mean(arm: Arm, measure: Measure) -> float:
    missing = [run.run_id[:12] for run in arm.runs if measure.name not in run.metrics]
    if missing:
        raise DataError(f"run {missing[0]} has no {measure.name}: choose a score that every run has with --score.")
    return fmean(run.metrics[measure.name] for run in arm.runs)


def _parameters(field: Field, arm: Arm) -> float:
    return float(field.trained[arm.runs[0].run_id].tags.get("glidexp.parameters", "inf"))


def _speed(field: Field, arm: Arm) -> float:
    return max(field.trained[run.run_id].metrics.get("train/images_per_s", 0.0) for run in arm.runs)


def _millions(field: Field, arm: Arm) -> str:
    count = _parameters(field, arm)
    return f"{count / 1e6:.2f} M" if count < float("inf") else "an unknown number of"


def _sentence(why: str, how: str, left: Sequence[str]) -> str:
    parts = [why, how, f"left out by the limits: {'; '.join(left)}" if left else ""]
    return "; ".join(part for part in parts if part) + "."
