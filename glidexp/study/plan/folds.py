"""Cross-validation: each fold of the ground is a split of its own, on which all arms are trained with all seeds."""

from collections.abc import Iterable

from glidexp.config.study import StudyConfig
from glidexp.errors import ConfigError
from glidexp.study.plan.words import Words, key_of, merged, word

FOLDS, FOLD = "dataset.split.folds", "dataset.split.fold"


def folds_of(study: StudyConfig) -> tuple[int | None, ...]:
    """The folds by number; None alone where the study has the split of its data set."""
    return tuple(range(study.folds)) or (None,)


def on_fold(base: tuple[str, ...], study: StudyConfig, fold: int | None) -> tuple[str, ...]:
    """Words of every arm with those of the fold that is test."""
    return base if fold is None else merged(base, (word(FOLDS, study.folds), word(FOLD, fold)))


def refuse_typed(study: StudyConfig, typed: Words) -> None:
    """Refuses settings of the split's folds beside those that the study has.

    Raises:
        ConfigError: names the setting
    """
    if not study.folds:
        return
    for key in _keys(study, typed):
        if key in (FOLDS, FOLD):
            raise ConfigError(
                f"{key} does not go with study.folds={study.folds}, which trains every arm on each fold: leave it out, "
                "or give study.folds=0 for one fold."
            )


def _keys(study: StudyConfig, typed: Words) -> Iterable[str]:
    """Settings that something says, of all arms or of some."""
    yield from map(key_of, (*study.base, *typed.base))
    yield from typed.swept
    for name, axis in study.axes.items():
        yield axis.key or name
        yield from (key_of(one) for words in axis.levels.values() for one in words)
    yield from (key_of(one) for words in study.arms.values() for one in words)
