"""Every arm as the config that it is, checked before the first run, and the name of each of its runs. Torch comes last
and only where a setting is `auto`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from glidexp.config import Compile, Config, InitKind, Precision
from glidexp.data.prepare import recipe_id
from glidexp.errors import ConfigError, GlidexpError
from glidexp.identity import config_id
from glidexp.study.plan_arms import Arm
from glidexp.study.plan_words import merged
from glidexp.training.check import check

Compose = Callable[[list[str]], Config]
"""the config of words as train.py takes them"""


@dataclass(frozen=True, slots=True)
class Checked:
    """An arm with its words in full and the config they make."""

    arm: Arm
    words: tuple[str, ...]
    """all but the seed"""
    config: Config

    @property
    def name(self) -> str:
        return self.arm.name


def checked(arms: Sequence[Arm], base: Sequence[str], compose: Compose) -> list[Checked]:
    """Composes and checks every arm.

    Args:
        arms: the baseline first
        base: words of every arm
        compose: from the door

    Raises:
        ConfigError: how many cannot run, and why the first of them cannot; nothing was started
    """
    found: list[Checked] = []
    wrong: list[tuple[str, GlidexpError]] = []
    compose(list(base))  # what is wrong with every arm is said without naming one
    for arm in arms:
        words = merged(base, arm.words)
        try:
            config = compose(list(words))
            check(config)
            if config.train.auto_batch:
                raise ConfigError(
                    "train.batch_size=auto does not go with a study: arms would train on other batches, found only as "
                    "they begin. Give a number."
                )
            found.append(Checked(arm, words, config))
        except GlidexpError as error:
            wrong.append((arm.name, error))
    if wrong:
        name, first = wrong[0]
        if len(arms) == 1:
            raise first
        raise ConfigError(f"{len(wrong)} of {len(arms)} arms cannot run, so none was started. {name}: {first}")
    return found


def keys(one: Checked, seeds: Sequence[int]) -> list[str]:
    """Config ids of an arm's runs on this machine, by seed.

    Raises:
        GlidexpError: weights that are not there, a device or precision that this machine does not have
    """
    config = one.config
    train = config.train
    resolved = {"train.precision": str(train.precision), "train.compile": str(train.compile)}
    if train.precision is Precision.auto or train.compile is Compile.auto:
        from glidexp.training.device import resolved_here

        resolved = resolved_here(train)
    if config.init.kind is not InitKind.scratch:
        from glidexp.models.init import require_weights
        from glidexp.training.start import BY_CONFIG, start_of

        require_weights(config.backbone, config.init)
        if not str(config.init.run).startswith(BY_CONFIG):  # which is its own digest, before there is such a model
            with start_of(config) as (_, start):
                resolved |= start
    recipe = recipe_id(config.dataset, config.tile_size.px)
    return [config_id(replace(config, seed=seed), recipe=recipe, resolved=resolved) for seed in seeds]
