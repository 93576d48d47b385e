"""A study as it is to be carried out: which arms, which runs, on what budget, scored on what ground."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from glidexp.config import Config
from glidexp.config.study import StudyConfig
from glidexp.errors import ConfigError
from glidexp.study.execution.cells import Cell, Plan, told_equal
from glidexp.study.plan import budget as plan_budget
from glidexp.study.plan import ground as plan_ground
from glidexp.study.plan import leak as plan_leak
from glidexp.study.plan import sides as plan_sides
from glidexp.study.plan import transfer as plan_transfer
from glidexp.study.plan.arms import Arm, arms_of
from glidexp.study.plan.check import (
    Checked,
    Compose,
    all_keys,
    checked,
    pinned,
    started_from,
    training_words,
)
from glidexp.study.plan.data import Data, Sizes
from glidexp.study.plan.folds import folds_of, on_fold, refuse_typed
from glidexp.study.plan.words import Words, key_of, merged

log = logging.getLogger("glidexp")


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with what it was made from."""

    plan: Plan
    study: StudyConfig
    arms: tuple[Checked, ...]
    """baseline first, as in the plan"""
    sizes: tuple[Sizes, ...]
    """tiles of each arm, of its first seed"""
    spent: tuple[plan_budget.Spent, ...]
    """training of each arm"""
    data: Data
    grounds: tuple[tuple[str, ...] | None, ...]
    """words that score each arm on the common ground; None: its own test set is that"""
    others: tuple[tuple[Checked, ...], ...] = ()
    """the arms on each fold but the first, of which `arms`, `sizes` and `spent` are; none in a study without folds"""

    @property
    def baseline(self) -> Config:
        return self.arms[0].config

    @property
    def every(self) -> tuple[tuple[Checked, ...], ...]:
        """The arms on each fold."""
        return (self.arms, *self.others)


@dataclass(frozen=True, slots=True)
class _Part:
    """A study on one fold of the ground, or on all of it."""

    fold: int | None
    each: list[list[Checked]]
    """arms of each seed"""
    grounds: list[tuple[str, ...] | None]
    sizes: list[Sizes]
    """of each arm, of the first seed"""
    spent: list[list[plan_budget.Spent]]
    """by seed and arm"""
    leaks: tuple[str, ...]


def make_plan(study: StudyConfig, typed: Words, compose: Compose, *, elsewhere: bool = False) -> Planned:
    """Makes the plan: every arm is checked first, then the data of all arms is made where it is not there.

    Args:
        study: from conf/study/ and the command line
        typed: what the command line says of the runs
        compose: from the door
        elsewhere: runs begin on other machines than this one

    Raises:
        GlidexpError: an arm cannot run, or nothing varies
    """
    seeds = seeds_of(study, typed)
    data = Data()
    by_fold = _on_folds(study, typed, compose, seeds[0], data)
    arms = by_fold[0][1]
    grounds = [plan_ground.grounds(own) for _, own in by_fold]
    # weights or a device that are not there are told before data is made
    all_keys(arms, seeds, elsewhere=elsewhere)
    _told_missing(data, [one.config for _, own in by_fold for one in own])
    beside = set[str]()
    if study.design in plan_transfer.DESIGNS:
        base = arms[0].config
        index = data.store(base).index
        plan_sides.refuse_bare(study, base.dataset, index)
        beside = set(index.loc[index["split"] == "test", study.transfer.by.value].astype(str))
    parts = [_part(study, *of, words, seeds, data) for of, words in zip(by_fold, grounds, strict=True)]
    cells = [
        cell for part in parts for cell in _cells(part.each, part.grounds, seeds, fold=part.fold, elsewhere=elsewhere)
    ]
    settled, spent = parts[0].each[0], parts[0].spent[0]
    plan = Plan(
        name=study.name,
        question=study.question,
        primary=plan_transfer.primary(study, beside),
        arms=tuple(one.name for one in settled),
        seeds=tuple(seeds),
        cells=tuple(cells),
        alpha=study.alpha,
        budget=plan_budget.told(
            study.budget, [own for part in parts for own in part.spent], by="fold" if study.folds else "seed"
        ),
        equal=study.budget.kind.value,
        spent={one.name: asdict(cost) for one, cost in zip(settled, spent, strict=True)},
        laid_out=plan_transfer.laid_out(study, settled),
        leaks=tuple(dict.fromkeys(leak for part in parts for leak in part.leaks)),
        folds=study.folds,
    )
    others = tuple(tuple(part.each[0]) for part in parts[1:])
    sizes = tuple(parts[0].sizes)
    return Planned(plan, study, tuple(settled), sizes, tuple(spent), data, tuple(parts[0].grounds), others)


def _on_folds(
    study: StudyConfig, typed: Words, compose: Compose, seed: int, data: Data | None = None
) -> list[tuple[int | None, list[Checked]]]:
    """The arms as `all_checked` gives them, on each fold; of a study without folds once, with None."""
    refuse_typed(study, typed)
    return [(fold, pinned(all_checked(study, typed, compose, seed, data, fold=fold))) for fold in folds_of(study)]


def _part(
    study: StudyConfig,
    fold: int | None,
    arms: Sequence[Checked],
    grounds: list[tuple[str, ...] | None],
    seeds: Sequence[int],
    data: Data,
) -> _Part:
    """What is planned on one ground: its data is made, and the arms get the budget."""
    each = plan_budget.by_seed(
        arms,
        seeds,
        lambda own: plan_transfer.settled(plan_budget.equal(own, study.budget, data.train_tiles)),
    )
    settled = each[0]
    sizes = [data.sizes(one.config) for one in settled]
    data.refuse_mixed_ground(settled)
    spent = _spent(each, sizes, data)
    transfer = study.design in plan_transfer.DESIGNS or any(one.start for one in settled)
    leaks = plan_leak.refuse_leaks(settled, seeds, data, transfer=transfer)
    return _Part(fold, each, grounds, sizes, spent, leaks)


def _spent(each: Sequence[Sequence[Checked]], sizes: Sequence[Sizes], data: Data) -> list[list[plan_budget.Spent]]:
    """What the trainings of each seed are made of.

    Args:
        each: the arms of each seed
        sizes: of those of the first seed
        data: with their stores

    Raises:
        ConfigError: an arm has fewer tiles than a batch
    """
    found = []
    for arms in each:
        counts = [size.train for size in sizes] if arms is each[0] else [data.train_tiles(one.config) for one in arms]
        for one, count in zip(arms, counts, strict=True):
            plan_budget.refuse_too_few(one, count)
        found.append([plan_budget.spent(one.config, count) for one, count in zip(arms, counts, strict=True)])
    return found


@dataclass(frozen=True, slots=True)
class Outline:
    """What is known of a study without its data."""

    study: StudyConfig
    arms: tuple[Checked, ...]
    seeds: tuple[int, ...]
    ground: str
    missing: tuple[str, ...]
    """stores that a plan would build, in words"""
    equal: tuple[str, ...] = ()
    """a warning for each set of arms that are the same runs"""

    @property
    def lacks(self) -> str:
        """What is not known without data, and why, in sentences."""
        return (
            f"Data that is not there, and that plan=true or the study itself would make: {'; '.join(self.missing)}. "
            "Hours, disk and what the design can detect depend on its tiles."
        )


def outline(study: StudyConfig, typed: Words, compose: Compose, *, elsewhere: bool = False) -> Outline:
    """As `make_plan`, as far as that goes without making data: nothing is written."""
    seeds = seeds_of(study, typed)
    by_fold = _on_folds(study, typed, compose, seeds[0])
    arms = by_fold[0][1]
    grounds = plan_ground.grounds(arms)
    ground = plan_ground.told(arms, grounds)
    # rungs differ by what they hold fixed, for as long as the epochs of now say
    each = [plan_transfer.settled(arms)] * len(seeds)
    equal = told_equal(_cells(each, grounds, seeds, elsewhere=elsewhere))
    missing = Data().missing([one.config for _, own in by_fold for one in own])
    return Outline(study, tuple(arms), tuple(seeds), ground, tuple(missing), tuple(equal))


def _told_missing(data: Data, configs: Sequence[Config]) -> None:
    """Says which data is about to be made."""
    if missing := data.missing(configs):
        log.info(
            "Data is made now, as budget, hours and what can be found depend on its tiles (plan=dry makes none): %s",
            "; ".join(missing),
        )


def _cells(
    each: Sequence[Sequence[Checked]],
    grounds: Sequence[tuple[str, ...] | None],
    seeds: Sequence[int],
    *,
    elsewhere: bool,
    fold: int | None = None,
) -> list[Cell]:
    """A cell for each arm and seed, of the arms that each seed has, on a fold."""
    alike: dict[tuple[tuple[str, ...], ...], list[int]] = {}
    for place, arms in enumerate(each):
        alike.setdefault(tuple(one.words for one in arms), []).append(place)
    ids: dict[tuple[str, int], str] = {}
    for places in alike.values():
        own = [seeds[place] for place in places]
        for name, keys in all_keys(each[places[0]], own, elsewhere=elsewhere).items():
            ids |= {(name, seed): key for seed, key in zip(own, keys, strict=True)}
    found = []
    for ground, *of_arm in zip(grounds, *each, strict=True):
        for seed, one in zip(seeds, of_arm, strict=True):
            start = None if one.start is None else ids[one.start, seed]
            words = one.words if start is None else started_from(one, start).words
            found.append(Cell(one.name, seed, (*words, f"seed={seed}"), ids[one.name, seed], ground, start, fold))
    return found


def all_checked(
    study: StudyConfig,
    typed: Words,
    compose: Compose,
    seed: int,
    data: Data | None = None,
    *,
    fold: int | None = None,
) -> list[Checked]:
    """Every arm, composed with the study's first seed and checked; the seed is not among the words.

    Args:
        study: from conf/study/ and the command line
        typed: what the command line says of the runs
        compose: from the door
        seed: the first
        data: asked by transfer studies alone, which take sources and budgets from it
        fold: of the ground, that is test; None: the split of the data set

    Raises:
        ConfigError: an arm cannot run, or nothing varies
    """
    base = on_fold(base_of(study, typed), study, fold)
    varied = typed.seedless
    alone = not study.axes and not study.arms and not varied.swept and "seed" in typed.swept  # one setting, many seeds
    if study.design in plan_transfer.DESIGNS:
        config = compose([*training_words(base), f"seed={seed}"])
        if data is not None:
            _told_missing(data, [config])
        there = plan_transfer.present(study.transfer, config, data)
        arms = plan_transfer.transfer_arms(study, varied, there)
    else:
        arms = [Arm("baseline", ())] if alone else arms_of(study, varied)
    return checked(arms, base, lambda words: compose([*words, f"seed={seed}"]))


def base_of(study: StudyConfig, typed: Words) -> tuple[str, ...]:
    """Words of every arm: the study's, and what was typed in their place; without the seed.

    Raises:
        ConfigError: a seed among the study's, which would not be used
    """
    if seeds := [word for word in study.base if key_of(word) == "seed"]:
        raise ConfigError(
            f"study.base: {seeds[0]} would not be used: give study.seeds=[0,1], or seed=0,1 as it is run."
        )
    return tuple(word for word in merged(study.base, typed.base) if key_of(word) != "seed")


def seeds_of(study: StudyConfig, typed: Words) -> Sequence[int]:
    """The seeds of every arm: as typed, else the study's.

    Raises:
        ConfigError: no whole number, or one twice
    """
    given = [word.partition("=")[2] for word in typed.base if key_of(word) == "seed"]
    listed = typed.swept.get("seed", tuple(given[-1:]))
    try:
        seeds = [int(seed) for seed in listed] if listed else list(study.seeds)
    except ValueError:
        raise ConfigError(f"seed={','.join(listed)} is not possible: seeds are whole numbers.") from None
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seed={','.join(listed)} names a seed twice: it would count as two trainings.")
    return seeds
