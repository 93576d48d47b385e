"""What is to be compared, as it is typed: runs, parents, studies, and single arms of studies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from glidexp.errors import TrackingError, unknown_name
from glidexp.study.comparison.arms import Arm, arms_of
from glidexp.study.comparison.evaluated import laid_beside
from glidexp.study.comparison.folds import together
from glidexp.study.comparison.studies import Study, load_study
from glidexp.study.execution.ledger import PLAN
from glidexp.study.names import short_names
from glidexp.tracking.found import TrackedRun, all_parts, finished_runs
from glidexp.tracking.store import Store

MARK = ":"
"""between a study and one of its arms"""
Part = tuple[list[tuple[Study, Arm]], list[TrackedRun]]
"""what a reference stands for: arms of a study, or runs that are in none of them"""


def runs_of(
    store: Store, references: Sequence[str], *, whole: bool = True
) -> tuple[list[TrackedRun], list[str], list[Arm] | None]:
    """Runs that are to be compared: of studies, of single arms of theirs, of other parents, or one by one.

    Args:
        store: holds them
        references: as typed; `STUDY:ARM` is an arm, by its name, its short name, or the beginning of one of these
        whole: of trainings on several folds of the ground, those of a setting and seed are one; else each is by itself

    Returns:
        the finished ones, each once; a sentence for each that is left out; and the arms as the studies' plans name
        them, for a single study or where some arm was named. None otherwise: then they are what differs between runs

    Raises:
        TrackingError: no such run or study, or an arm without a finished run
        ConfigError: a study has no such arm
    """
    left: list[str] = []
    parts: list[Part] = []
    studies: dict[str, Study | None] = {}
    some_arm = False
    for reference in references:
        name, arm = _split(reference)
        if name not in studies:
            studies[name] = load_study(store, name)
        study = studies[name]
        if study is None:
            if arm is not None:
                raise TrackingError(f"'{reference}': run {name} is no study, so it has no arms.")
            runs, said = finished_runs(store, [reference])
            parts.append(([], laid_beside(store, runs)))
        elif arm is None:
            parts.append(([(study, one) for one in study.arms], []))
            said = study.missing
        else:
            some_arm = True
            one = _arm(study, arm)
            parts.append(([(study, one)], []))
            said = study.missing_of(one.name)
        left += [sentence for sentence in said if sentence not in left]
    parts, lacking = _put_together(parts, whole)
    found: dict[str, TrackedRun] = {}
    for of_studies, alone in parts:
        for run in (*(run for _, arm in of_studies for run in arm.runs), *alone):
            found.setdefault(run.run_id, run)
    arms = None
    if some_arm or (len(references) == 1 and any(studies.values())):
        arms = _arms(parts)
    return list(found.values()), [*left, *lacking], arms


def _put_together(parts: Sequence[Part], whole: bool) -> tuple[list[Part], list[str]]:
    """The same, without runs by themselves that an arm holds, and of the others those on all folds as one."""
    taken = {run.run_id for arms, _ in parts for _, arm in arms for run in all_parts(arm.runs)}
    loose = {run.run_id: run for _, alone in parts for run in alone if run.run_id not in taken}
    found, left = together(list(loose.values())) if whole else (list(loose.values()), [])
    wholes = {part.run_id: run for run in found for part in run.parts}
    put: list[Part] = []
    for arms, alone in parts:
        # each where the first of its parts was named
        own = {run.run_id: wholes.pop(run.run_id) for run in alone if run.run_id in wholes}
        for part in all_parts(own.values()):
            wholes.pop(part.run_id, None)
        put.append((arms, list({run.run_id: run for run in own.values()}.values())))
    return put, left


def _split(reference: str) -> tuple[str, str | None]:
    """A study and its arm, or the whole of it: a folder may have such a mark in its name."""
    study, mark, arm = reference.partition(MARK)
    if not mark or (Path(reference) / PLAN).is_file():
        return reference, None
    return study, arm.strip()


def _arm(study: Study, given: str) -> Arm:
    """The arm of a study that is meant.

    Raises:
        ConfigError: none, or several
        TrackingError: it has no finished run
    """
    name = _name(study.plan.arms, given, study.plan.title)
    for arm in study.arms:
        if arm.name == name:
            return arm
    said = "; ".join(study.missing_of(name))
    raise TrackingError(f"arm '{name}' of study {study.plan.title} has no finished run: {said}.")


def _name(arms: Sequence[str], given: str, study: str) -> str:
    short = short_names(arms)[1]
    if given in arms:
        return given
    same = [name for name in arms if short[name] == given]
    begun = [name for name in arms if given and (name.startswith(given) or short[name].startswith(given))]
    meant = same or begun
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise TrackingError(f"{len(meant)} arms of study {study} begin with '{given}': {', '.join(meant)}. Give more.")
    raise unknown_name(f"arm of study {study}", given, dict.fromkeys([*short.values(), *arms]))


def _arms(parts: Sequence[Part]) -> list[Arm]:
    """Every arm once, in the order given. Runs that came by themselves are in none of a study's, and grouped."""
    named: list[tuple[Study | None, Arm]] = []
    known: set[frozenset[str]] = set()
    for of_studies, alone in parts:
        loose = arms_of(alone)
        for study, arm in [*of_studies, *((None, arm) for arm in loose)]:
            runs = frozenset(run.run_id for run in arm.runs)
            if runs not in known:
                known.add(runs)
                named.append((study, arm))
    names = Counter(arm.name for _, arm in named)
    titles = {study.study_id: study.plan.title for study, _ in named if study is not None}
    alike = Counter(titles.values())
    found = []
    for study, arm in named:
        if names[arm.name] > 1 and study is not None:
            title = study.plan.title if alike[study.plan.title] == 1 else study.study_id
            arm = replace(arm, name=f"{title}{MARK}{arm.name}")
        found.append(arm)
    return found
