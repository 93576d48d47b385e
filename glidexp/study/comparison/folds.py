"""Cross-validation: runs of one setting and seed, each scored on its own fold of the ground, as one run on all of it.

Pixels and lakes of the folds are pooled, each at the threshold that its own val chose. A seed counts once, as one
training: what folds have of its luck is averaged before it is compared.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from glidexp.errors import DataError
from glidexp.study.comparison.arms import Arm, setting_of
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.store import EVALUATION, KIND_TAG

FOLDS, FOLD = "dataset.split.folds", "dataset.split.fold"
PLACE = "fold"
"""column of a table that is put together: whose part a row is"""


def joined(runs: Sequence[TrackedRun]) -> TrackedRun:
    """Runs on all folds as one, which has the id of that on the first, and no metrics of its own."""
    ordered = sorted(runs, key=fold_of)
    params = {key: value for key, value in ordered[0].params.items() if key != FOLD}
    return replace(ordered[0], params=params, metrics={}, hours=None, folds=tuple(ordered))


def fold_of(run: TrackedRun) -> int:
    """The fold on which it was scored."""
    return int(run.params.get(FOLD, "0"))


def over_folds(arms: Iterable[Arm]) -> int:
    """The number of folds that the arms were trained on; 0 where they are single trainings."""
    return max((len(run.folds) for arm in arms for run in arm.runs), default=0)


def of_parts(run: TrackedRun, table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each of its parts, in their order."""
    return [table[table[PLACE] == place] for place in range(len(run.folds))] if run.folds else [table]


def together(runs: Sequence[TrackedRun]) -> tuple[list[TrackedRun], list[str]]:
    """Trainings that were found one by one; of several folds of the ground, those of one setting and seed as one.

    Where all are of one fold they are compared on it, as they are. So are evaluations: their ground is what they were
    given, whatever fold their network was trained on.

    Args:
        runs: finished

    Returns:
        the runs in their order, and a sentence for each seed that lacks a fold and is left out

    Raises:
        DataError: a fold twice for one setting and seed, or a setting of which no seed has all folds
    """
    split = [run for run in runs if _is_of_fold(run)]
    if len({(run.params[FOLDS], run.params[FOLD]) for run in split}) < 2:
        return list(runs), []
    by_seed: dict[object, dict[str, list[TrackedRun]]] = {}
    for run in split:
        setting = tuple(pair for pair in setting_of(run) if pair[0] != FOLD)
        by_seed.setdefault(setting, {}).setdefault(run.params.get("seed", "0"), []).append(run)
    wholes: dict[str, TrackedRun | None] = {}
    left: list[str] = []
    for seeds in by_seed.values():
        lacking = []
        for seed, members in seeds.items():
            _refuse_twice(seed, members)
            whole = len(members) == int(members[0].params[FOLDS])
            wholes |= dict.fromkeys((run.run_id for run in members), joined(members) if whole else None)
            lacking += [] if whole else [_lacking(seed, members)]
        if len(lacking) == len(seeds):
            raise DataError(
                f"{lacking[0]}, and no seed of this setting has all: give its runs on the other folds, or runs of one "
                "fold alone."
            )
        left += [f"{said}, and is left out" for said in lacking]
    found = {one.run_id: one for run in runs if (one := wholes.get(run.run_id, run)) is not None}
    return list(found.values()), left


def _is_of_fold(run: TrackedRun) -> bool:
    return run.tags.get(KIND_TAG) != EVALUATION and run.params.get(FOLDS, "0") != "0"


def _refuse_twice(seed: str, members: Sequence[TrackedRun]) -> None:
    by_fold: dict[int, str] = {}
    for run in members:
        if (fold := fold_of(run)) in by_fold:
            raise DataError(
                f"fold {fold} comes twice with seed {seed} (runs {by_fold[fold][:12]}, {run.run_id[:12]}): give one of "
                "them, they would count as the same ground twice."
            )
        by_fold[fold] = run.run_id


def _lacking(seed: str, members: Sequence[TrackedRun]) -> str:
    """`seed 1 has folds 0, 2 of 0 to 4 (runs 0123, 4567)`."""
    folds = ", ".join(str(fold) for fold in sorted(map(fold_of, members)))
    ids = ", ".join(run.run_id[:12] for run in members)
    one, last = len(members) == 1, int(members[0].params[FOLDS]) - 1
    return f"seed {seed} has fold{'' if one else 's'} {folds} of 0 to {last} (run{'' if one else 's'} {ids})"


def told(arms: Sequence[Arm]) -> list[str]:
    """What it means that arms were compared over folds; nothing where they were not."""
    count = over_folds(arms)
    if not count:
        return []
    return [
        f"cross-validation over {count} folds: a seed is {count} trainings, scored together. They share training "
        "ground, so they are not quite independent, which no interval knows; in simulated studies intervals held"
    ]
