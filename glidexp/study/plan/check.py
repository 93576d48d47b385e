"""Every arm as the config that it is, checked before the first run, and the name of each of its runs. Torch comes last
and only where a setting is `auto`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from glidexp.config import Compile, Config, InitKind, Precision, TrainConfig
from glidexp.config.evaluation import EvalConfig
from glidexp.config.unread import idle
from glidexp.data.prepare import recipe_id
from glidexp.errors import ConfigError, GlidexpError, unknown_name
from glidexp.identity import config_id
from glidexp.study.names import short_names
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.words import key_of, merged, word
from glidexp.training.check import check
from glidexp.wording import many

BY_ARM = "arm:"
"""stands before the name of an arm in init.run: its run of the same seed"""
OF_ALL = ("seed", "resume", "paths.data", "paths.mlruns", "tracking.uri", "tracking.experiment")
"""keys that cannot differ between arms: of where runs are kept, and of what the arms are compared by"""
SCORING = "eval."
"""how words begin that are about scoring: they are `glidexp evaluate`'s"""
Compose = Callable[[list[str]], Config]
"""the config of words as train.py takes them"""


@dataclass(frozen=True, slots=True)
class Checked:
    """An arm with its words in full and the config they make."""

    arm: Arm
    words: tuple[str, ...]
    """all but the seed"""
    config: Config
    scoring: tuple[str, ...] = ()
    """words of its scoring: its runs are scored once more with them"""

    @property
    def name(self) -> str:
        return self.arm.name

    @property
    def start(self) -> str | None:
        """The arm from whose weights it starts."""
        reference = str(self.config.init.run or "")
        return reference.removeprefix(BY_ARM) if reference.startswith(BY_ARM) else None


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
    composed: dict[tuple[str, ...], Config] = {}
    for arm in arms:
        every = merged(base, arm.words)
        words = training_words(every)
        scoring = tuple(word for word in every if key_of(word).startswith(SCORING))
        try:
            _refuse_of_all(arm)
            _check_scoring(scoring)
            if words not in composed:  # of arms that differ in their scoring alone
                composed[words] = compose(list(words))
                check(composed[words])
            config = composed[words]
            if config.train.auto_batch:
                raise ConfigError(
                    "train.batch_size=auto does not go with a study: arms would train on other batches, found only as "
                    "they begin. Give a number."
                )
            found.append(Checked(arm, words, config, scoring))
        except GlidexpError as error:
            if not wrong:
                compose(list(training_words(base)))  # what is wrong with every arm is said without naming one
            wrong.append((arm.name, error))
    if wrong:
        name, first = wrong[0]
        if len(arms) == 1:
            raise first
        raise ConfigError(f"{len(wrong)} of {many(len(arms), 'arm')} cannot run, so none was started. {name}: {first}")
    return _by_full_names(found)


def training_words(words: Iterable[str]) -> tuple[str, ...]:
    """Those that are not about scoring."""
    return tuple(word for word in words if not key_of(word).startswith(SCORING))


def told_idle(arms: Sequence[Checked]) -> list[str]:
    """A warning, in a line, for each setting of some arms that changes nothing there: they may be the same runs."""
    found: dict[str, list[str]] = {}
    for one in arms:
        for sentence in idle(one.config):
            found.setdefault(sentence, []).append(one.name)
    return [
        f"Warning: {sentence} Arms: {'all' if len(names) == len(arms) else ', '.join(names)}."
        for sentence, names in found.items()
    ]


def _refuse_of_all(arm: Arm) -> None:
    """Refuses an arm that would be trained with other seeds than the rest, or kept elsewhere.

    Raises:
        ConfigError: names its word
    """
    for found in arm.words:
        if key_of(found) in OF_ALL:
            way = "study.seeds=[0,1]" if key_of(found) == "seed" else "it on the command line"
            raise ConfigError(f"{found} cannot be of one arm, as it is the same for all of them: give {way}.")


def _check_scoring(words: Sequence[str]) -> None:
    """Refuses words that `glidexp evaluate` would not take.

    Raises:
        ConfigError: an unknown key or a value that is not possible
    """
    if not words:
        return
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        given = OmegaConf.from_dotlist([word.removeprefix(SCORING) for word in words])
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(EvalConfig), given))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{' '.join(words)}: {' '.join(str(error).split())[:160]}") from None


def all_keys(arms: Sequence[Checked], seeds: Sequence[int], *, elsewhere: bool) -> dict[str, list[str]]:
    """Config ids of every arm's runs, by arm, in the order of the seeds.

    An arm that starts from another one is named by that one's config ids: all are known before any is trained.

    Args:
        arms: of the study
        seeds: of their runs
        elsewhere: as for `keys`

    Raises:
        ConfigError: an arm starts from one that is not there, or from itself
    """
    by_name = {one.name: one for one in arms}
    found: dict[str, list[str]] = {}

    def of(one: Checked, followed: tuple[str, ...]) -> list[str]:
        if one.name not in found:
            if one.start is None:
                found[one.name] = keys(one, seeds, elsewhere=elsewhere)
            elif one.start not in by_name:
                raise unknown_name(f"{one.name}: init.run", BY_ARM + one.start, [BY_ARM + name for name in by_name])
            elif one.start in followed:
                raise ConfigError(f"{one.name}: init.run={BY_ARM}{one.start} leads back to itself: start from another.")
            elif not by_name[one.start].config.tracking.log_model:
                raise ConfigError(
                    f"{one.name} starts from {one.start}, whose runs keep no model (tracking.log_model=false): set "
                    "tracking.log_model=true."
                )
            else:
                pairs = zip(seeds, of(by_name[one.start], (*followed, one.start)), strict=True)
                found[one.name] = [keys(started_from(one, key), [seed], elsewhere=elsewhere)[0] for seed, key in pairs]
        return found[one.name]

    for one in arms:
        of(one, (one.name,))
    return found


def pinned(arms: Sequence[Checked]) -> list[Checked]:
    """The arms, with a run's id in place of a study from whose best training they start: it may have another one later.

    Raises:
        TrackingError: a study that names no best training
    """
    found: list[Checked] = []
    starts: dict[str, str] = {}
    for one in arms:
        init = one.config.init
        if init.run and init.run not in starts and not init.run.startswith((BY_ARM, "config:")):
            from glidexp.training.beginning.start import settled

            starts[init.run] = str(settled(one.config).init.run)
        run = starts.get(str(init.run), init.run)
        found.append(one if run == init.run else _starting(one, str(run)))
    return found


def _by_full_names(arms: Sequence[Checked]) -> list[Checked]:
    """The arms, with the whole name of an arm that one starts from in place of its short one, as tables show it."""
    names = [one.name for one in arms]
    whole = {short: name for name, short in short_names(names)[1].items() if short not in names}
    return [_starting(one, f"{BY_ARM}{whole[one.start]}") if one.start in whole else one for one in arms]


def _starting(one: Checked, run: str) -> Checked:
    words = tuple(word for word in one.words if key_of(word) != "init.run")
    return replace(
        one,
        words=(*words, word("init.run", run)),
        config=replace(one.config, init=replace(one.config.init, run=run)),
    )


def started_from(one: Checked, key: str) -> Checked:
    """The arm with the run it starts from by its config id."""
    return _starting(one, f"config:{key}")


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
    from glidexp.training.beginning.light import light_of

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
        from glidexp.training.beginning.start import BY_CONFIG, start_of

        require_weights(config.backbone, config.init)
        if not str(config.init.run).startswith(BY_CONFIG):  # which is its own digest, before there is such a model
            with start_of(config) as (_, start):
                resolved |= start
    if train.lora_rank:
        from glidexp.models.adapters import require_adaptable

        require_adaptable(config.backbone.name, config.decoder.name, train.lora_rank)
    resolved |= light_of(config)
    recipe = recipe_id(config.dataset, config.tile_size.px)
    return [config_id(replace(config, seed=seed), recipe=recipe, resolved=resolved) for seed in seeds]


def resolved_elsewhere(cfg: TrainConfig) -> dict[str, str]:
    """What precision and compile are on machines that this one knows nothing of: a run is named by both beforehand.

    Raises:
        ConfigError: one of them is `auto` and would be found there
    """
    kind = cfg.device.partition(":")[0]
    found_there = {"train.precision": "bf16, fp16 or fp32"} if cfg.precision is Precision.auto else {}
    if cfg.compile is Compile.auto and kind not in ("cpu", "cuda"):
        found_there["train.compile"] = "on or off (or train.device=cuda or cpu)"
    if found_there:
        raise ConfigError(
            f"{' and '.join(f'{key}=auto' for key in found_there)}: found on the machine that trains, and a study "
            "names its runs before they begin there: give "
            f"{', and '.join(f'{key}={allowed}' for key, allowed in found_there.items())}."
        )
    compiled = cfg.compile
    if compiled is Compile.auto:
        compiled = Compile.on if kind == "cuda" else Compile.off
    return {"train.precision": str(cfg.precision), "train.compile": str(compiled)}
