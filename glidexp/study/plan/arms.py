"""From the factors of a study to its arms: one factor at a time, every combination, a balanced share, or a list.

The first level of every factor is the baseline's. A factor with a condition is varied only where the condition holds;
elsewhere it has no word at all, and combinations that become the same are one arm.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from glidexp.config.study import AxisConfig, Design, StudyConfig
from glidexp.errors import ConfigError, unknown_name
from glidexp.study.plan.space import edges, space_of
from glidexp.study.plan.words import Words, key_of, merged, value_of, word, written

Levels = dict[str, str]
"""level by axis; an axis whose condition does not hold is not in it"""


@dataclass(frozen=True, slots=True)
class Axis:
    """A factor with its levels, in order."""

    name: str
    words: dict[str, tuple[str, ...]]
    """of each level, the baseline's first"""
    when: tuple[str, str] | None = None
    """axis and level without which this one is not varied"""

    @property
    def first(self) -> str:
        return next(iter(self.words))


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting that is trained with every seed."""

    name: str
    words: tuple[str, ...]
    levels: tuple[tuple[str, str], ...] = ()
    """level of each axis that is varied in it"""


def arms_of(study: StudyConfig, typed: Words) -> list[Arm]:
    """The arms, baseline first.

    Args:
        study: axes and design
        typed: what the command line says of the runs: several values of a key replace those of its axis or make it one,
            one value of an axis's key becomes its baseline

    Raises:
        ConfigError: nothing varies, or an axis or a level that is not there was named
    """
    if study.design is Design.list:
        if typed.swept:
            raise ConfigError(f"{next(iter(typed.swept))}: several values do not go with study.design=list.")
        if not study.arms:
            raise ConfigError("study.design=list needs study.arms: words by name, the baseline first.")
        return [Arm(name, tuple(words)) for name, words in study.arms.items()]
    if study.design is Design.tune:  # what a search may choose at most: each value and each end of a range by itself
        return [Arm("baseline", ()), *(Arm(end, (end,)) for end in edges(space_of(study.tune, typed)))]
    axes = axes_of(study, typed)
    if not axes:
        raise ConfigError("nothing varies: give study=NAME, or several values, such as backbone=resnet18,mobilenetv3.")
    allowed = _exclusions(study.exclude, axes)
    every = {"ofat": _one_at_a_time, "full": _full, "fraction": _full}[study.design](axes)
    found = [levels for levels in every if not any(rule.items() <= levels.items() for rule in allowed)]
    if not found or found[0] != every[0]:
        raise ConfigError("study.exclude leaves out the baseline, which is the first level of every axis.")
    if study.design is Design.fraction:
        found = balanced(found, math.ceil(study.fraction * len(found)))
    whole = study.design is not Design.ofat or len(axes) == 1
    return [_arm(levels, axes, levels if whole else _differing(levels, found[0])) for levels in found]


def axes_of(study: StudyConfig, typed: Words) -> dict[str, Axis]:
    """The factors, after what was typed.

    Raises:
        ConfigError: an axis with a level twice, or a condition on what is no axis or level
    """
    axes: dict[str, Axis] = {}
    left = dict(typed.swept)
    by_key: dict[str, str] = {}
    for name, cfg in study.axes.items():
        key = cfg.key or name
        if not cfg.levels and by_key.setdefault(key, name) != name:
            raise ConfigError(f"study.axes: {by_key[key]} and {name} both vary {key}: put their values into one axis.")
        axis = Axis(name, _words_by_level(cfg, key, left.pop(key, None)), _condition(cfg))
        if not cfg.levels:
            given = [value_of(one) for one in typed.base if key_of(one) == key]
            if given:  # it becomes the baseline
                value = given[-1].strip("'\"")
                axis = Axis(name, {value: (word(key, value),), **axis.words}, axis.when)
        axes[name] = axis
    for key, values in left.items():
        axes[key] = Axis(key, _by_value(key, values))
    for axis in axes.values():
        if axis.when is None:
            continue
        other, level = axis.when
        if other not in axes or other == axis.name:
            raise unknown_name(f"study.axes.{axis.name}.when", other, [name for name in axes if name != axis.name])
        if level not in axes[other].words:
            raise unknown_name(f"study.axes.{axis.name}.when: {other}", level, axes[other].words)
    return axes


def _words_by_level(cfg: AxisConfig, key: str, typed: tuple[str, ...] | None) -> dict[str, tuple[str, ...]]:
    """Words by level: those that were typed, else the study's own."""
    if cfg.levels and typed is None:
        return {str(level): tuple(words) for level, words in cfg.levels.items()}
    return _by_value(key, [written(value) for value in (typed or cfg.values)])


def _by_value(key: str, values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ConfigError(f"{key}={twice[0]} is there twice: give each value once, as one setting is one arm.")
    return {value: (word(key, value),) for value in values}


def _condition(cfg: AxisConfig) -> tuple[str, str] | None:
    if cfg.when is None:
        return None
    name, equals, level = cfg.when.partition("=")
    if not equals:
        raise ConfigError(f"study.axes: when={cfg.when} is not possible: give AXIS=VALUE.")
    return name, level


def _exclusions(rules: Sequence[str], axes: Mapping[str, Axis]) -> list[Levels]:
    found = []
    for rule in rules:
        levels = {key_of(one): value_of(one) for one in rule.split()}
        for name, level in levels.items():
            if name not in axes:
                raise unknown_name("study.exclude", name, axes)
            if level not in axes[name].words:
                raise unknown_name(f"study.exclude: {name}", level, axes[name].words)
        found.append(levels)
    return found


def _full(axes: Mapping[str, Axis]) -> list[Levels]:
    """Every combination, the baseline first, each once."""
    found: dict[tuple[tuple[str, str], ...], Levels] = {}
    for levels in product(*(axis.words for axis in axes.values())):
        reached = _reached(dict(zip(axes, levels, strict=True)), axes)
        found.setdefault(tuple(reached.items()), reached)
    return list(found.values())


def _one_at_a_time(axes: Mapping[str, Axis]) -> list[Levels]:
    """The baseline, and every other level of every factor alone; one with a condition together with its condition."""
    baseline = {axis.name: axis.first for axis in axes.values()}
    found = [_reached(baseline, axes)]
    for axis in axes.values():
        around = dict(baseline)
        condition, met = axis.when, {axis.name}
        while condition is not None and condition[0] not in met:  # the condition may have one of its own
            around[condition[0]] = condition[1]
            met.add(condition[0])
            condition = axes[condition[0]].when
        for level in axis.words:
            levels = _reached(around | {axis.name: level}, axes)
            if levels not in found:
                found.append(levels)
    return found


def _reached(levels: Levels, axes: Mapping[str, Axis]) -> Levels:
    """The levels without those of axes whose condition does not hold."""
    left = dict(levels)
    while True:
        out = [name for name in left if (when := axes[name].when) is not None and left.get(when[0]) != when[1]]
        if not out:
            return left
        for name in out:
            del left[name]


def balanced(every: Sequence[Levels], count: int) -> list[Levels]:
    """A share of the combinations in which levels, and pairs of levels, come as equally often as can be.

    The baseline is in it. Then always the combination whose levels and pairs are rarest so far, ties by a hash: the
    same each time, and for two levels a factor close to an orthogonal array, which is no promise.

    Args:
        every: the baseline first
        count: how many are wanted, 1 or more
    """
    taken = [every[0]]
    seen: Counter[tuple[tuple[str, str], ...]] = Counter()

    def parts(levels: Levels) -> list[tuple[tuple[str, str], ...]]:
        items = list(levels.items())
        return [*((item,) for item in items), *combinations(items, 2)]

    def dear(levels: Levels) -> tuple[float, str]:
        return sum(2.0 ** seen[part] for part in parts(levels)), hashlib.sha256(repr(levels).encode()).hexdigest()

    seen.update(parts(every[0]))
    rest = list(every[1:])
    while rest and len(taken) < count:
        best = min(rest, key=dear)
        rest.remove(best)
        taken.append(best)
        seen.update(parts(best))
    order = {id(levels): place for place, levels in enumerate(every)}
    return sorted(taken, key=lambda levels: order[id(levels)])


def _differing(levels: Levels, baseline: Levels) -> Levels:
    return {name: level for name, level in levels.items() if baseline.get(name) != level}


def _arm(levels: Levels, axes: Mapping[str, Axis], shown: Levels) -> Arm:
    """An arm, named by the levels that are shown."""
    name = " ".join(f"{axis}={level}" for axis, level in shown.items()) or "baseline"
    return Arm(name, merged(*(axes[axis].words[level] for axis, level in levels.items())), tuple(levels.items()))
