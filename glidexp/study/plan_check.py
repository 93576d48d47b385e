"""Every arm as the config that it is, checked before the first run, and the name of each of its runs. Torch comes last
and only where a setting is `auto`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from glidexp.config import Compile, Config, InitKind, Precision, TrainConfig
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
            if not wrong:
                compose(list(base))  # what is wrong with every arm is said without naming one
            wrong.append((arm.name, error))
    if wrong:
        name, first = wrong[0]
        if len(arms) == 1:
            raise first
        raise ConfigError(f"{len(wrong)} of {len(arms)} arms cannot run, so none was started. {name}: {first}")
    return found


def keys(one: Checked, seeds: Sequence[int], *, elsewhere: bool = False) -> list[str]:
    """Config ids of an arm's runs, by seed.

    Args:
        one: the arm
        seeds: of its runs
        elsewhere: runs begin on other machines, of which this one does not know what `auto` will be there

    Raises:
        GlidexpError: weights that are not there, a device or precision that this machine does not have, or `auto`
            where another machine decides
    """
    config = one.config
    train = config.train
    resolved = {"train.precision": str(train.precision), "train.compile": str(train.compile)}
    if elsewhere:
        resolved = resolved_elsewhere(train)
    elif train.precision is Precision.auto or train.compile is Compile.auto:
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


def resolved_elsewhere(cfg: TrainConfig) -> dict[str, str]:
    """What precision and compile are on machines that this one knows nothing of: a run is named by both beforehand.

    Raises:
        ConfigError: one of them is `auto` and would be found there
    """
    if cfg.precision is Precision.auto:
        raise ConfigError(
            "train.precision=auto is found on the machine that trains, and a study names its runs before they begin "
            "there: give train.precision=bf16, fp16 or fp32."
        )
    compiled = cfg.compile
    if compiled is Compile.auto:
        kind = cfg.device.partition(":")[0]
        if kind not in ("cpu", "cuda"):
            raise ConfigError(
                "train.compile=auto is found on the machine that trains, and a study names its runs before they begin "
                "there: give train.compile=on or off, or train.device=cuda or cpu."
            )
        compiled = Compile.on if kind == "cuda" else Compile.off
    return {"train.precision": str(cfg.precision), "train.compile": str(compiled)}
