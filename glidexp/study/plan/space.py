"""What a search may choose, as words: the ends of it are checked before the first trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glidexp.config.tune import SpaceConfig, TuneConfig
from glidexp.errors import ConfigError
from glidexp.study.plan.words import Words, key_of, word, written
from glidexp.training.check import SELECTABLE

SPEED = "train/images_per_s"
FIXED = (
    "dataset", "tile_size", "sensor_mix", "subset", "seed", "paths", "tracking", "resume", "allow_leak", "experiment",
    "train.epochs", "train.select", "train.device", "train.threads",
)  # fmt: skip
"""settings that a search leaves alone: its trials must be scored on the same val ground, for as many epochs"""
DIGITS = 4
"""of a number that is drawn: more make no difference to a network, and words long"""


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting of the space."""

    key: str
    values: tuple[str, ...] = ()
    """as words have them; empty where it is a number of a range"""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def word(self, value: str | float) -> str:
        """`KEY=VALUE` of a value of it."""
        if isinstance(value, str):
            return f"{self.key}={value}"
        return word(self.key, int(value) if self.whole else float(f"{value:.{DIGITS}g}"))

    @property
    def ends(self) -> list[str]:
        """Words of all its values, or of both ends of its range."""
        return [self.word(value) for value in self.values or (self.low, self.high)]

    @property
    def told(self) -> str:
        """In words."""
        if self.values:
            return f"{self.key}: {', '.join(self.values)}"
        kind = " whole" * self.whole + " by its logarithm" * self.log
        return f"{self.key}: {self.low:g} to {self.high:g}{kind}"


def space_of(cfg: TuneConfig, typed: Words) -> dict[str, Choice]:
    """The space after what was typed: several values of a key replace what it says of it, or are one more setting; one
    value takes it out.

    Raises:
        ConfigError: nothing is left to choose, a setting that a search leaves alone, or an objective that cannot be one
    """
    if cfg.objectives[0] not in SELECTABLE:
        raise ConfigError(
            f"study.tune.objectives: {cfg.objectives[0]} cannot come first: a search is judged on val, since test only "
            f"reports. Allowed: {', '.join(SELECTABLE)}."
        )
    for name in cfg.objectives[1:]:
        if name not in (*SELECTABLE, SPEED):
            allowed = ", ".join((SPEED, *SELECTABLE))
            raise ConfigError(f"study.tune.objectives: {name} is not possible. Allowed: {allowed}.")
    given = {key_of(one) for one in typed.base}
    swept = typed.seedless.swept
    space = {}
    for name, one in cfg.space.items():
        key = one.key or name
        if key not in given and key not in swept:
            space[key] = _choice(key, one)
    space |= {key: Choice(key, tuple(values)) for key, values in swept.items()}
    for key in space:
        if key.startswith(FIXED):
            raise ConfigError(
                f"study.tune.space: {key} is not for a search: every trial is scored on the same val ground after as "
                f"many epochs. Left alone are {', '.join(FIXED)}."
            )
    if not space:
        raise ConfigError("study.tune.space is empty: give settings with values, or with low and high.")
    return space


def edges(space: Mapping[str, Choice]) -> Sequence[str]:
    """A word for each value and each end of a range."""
    return [end for choice in space.values() for end in choice.ends]


def _choice(key: str, cfg: SpaceConfig) -> Choice:
    if cfg.low is None or cfg.high is None:
        return Choice(key, tuple(written(value) for value in cfg.values))
    return Choice(key, (), cfg.low, cfg.high, cfg.log, cfg.whole)
