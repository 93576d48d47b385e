"""Arms of studies about transfer: each source of a matrix, each rung of a ladder with each budget.

In a matrix every source is trained once a seed, and its one scoring on the common test ground gives all targets. In a
ladder the source is trained once a seed too: rungs that do not learn score it anew, the others start from it. Self-
training learns from the sources and from the target's images, without a label of the target, `style` from the sources
in the look of these images; `longer` is what both are to be held against, since going on alone changes a network too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from glidexp.config import Config
from glidexp.config.study import Design, StudyConfig
from glidexp.config.transfer import GOING_ON, TRAINED, TRAINED_ON, By, Rung, TransferConfig, Unit
from glidexp.data.prepare import declared_regions, declared_sensors
from glidexp.errors import ConfigError, unknown_name
from glidexp.study.comparison.ladder import said_budget
from glidexp.study.comparison.measures import measure_of
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.budget import with_training
from glidexp.study.plan.check import BY_ARM, Checked
from glidexp.study.plan.data import Data
from glidexp.study.plan.words import Words, word

ZERO = "zero-shot"
"""arm of a ladder that is the source's network as it is"""
MATRIX, LADDER = Design.matrix, Design.ladder
DESIGNS = (MATRIX, LADDER)
FITTED = {
    Rung.threshold: "eval.threshold=val",
    Rung.normalise: "eval.adapt=normalise",
    Rung.histogram: "eval.adapt=histogram",
    Rung.batch_norm: "eval.adapt=batch_norm",
}
"""word of each rung that does not learn"""


@dataclass(frozen=True, slots=True)
class Present:
    """What the data has."""

    names: tuple[str, ...]
    """regions or sensors"""
    scenes: int | None = None
    """training scenes of the target, where they could be counted"""


def present(cfg: TransferConfig, base: Config, data: Data | None) -> Present:
    """Looks at the settings of the data, and where they do not tell, or scenes are to be counted, at its tiles."""
    declared = declared_regions if cfg.by is By.region else declared_sensors
    names = declared(base.dataset)
    if data is None:
        if names is None:
            raise ConfigError(
                f"which {cfg.by}s there are is not known before the data is made: plan=true makes it, plan=dry cannot."
            )
        return Present(tuple(names))
    index = data.store(base).index
    if names is None:
        names = sorted(set(index[cfg.by.value].astype(str)))
    own = index[(index["split"] == "train") & (index[cfg.by.value].astype(str) == cfg.target)]
    return Present(tuple(names), int(own["scene"].astype(str).nunique()) if cfg.target else None)


def transfer_arms(study: StudyConfig, typed: Words, there: Present) -> list[Arm]:
    """The arms, baseline first: all sources together, or of a ladder zero-shot.

    Raises:
        ConfigError: several values of a setting, a source or target that the data does not have
    """
    if typed.swept:
        raise ConfigError(f"{next(iter(typed.swept))}: several values do not go with study.design={study.design}.")
    cfg = study.transfer
    for name in cfg.sources:
        if name not in there.names:
            raise unknown_name("study.transfer.sources", name, there.names)
    return _matrix(cfg, there) if study.design == MATRIX else _ladder(cfg, there)


def _matrix(cfg: TransferConfig, there: Present) -> list[Arm]:
    sources = list(cfg.sources or there.names)
    if len(sources) < 2:
        raise ConfigError(
            f"a transfer matrix needs two {cfg.by}s or more, there is {', '.join(sources)}: choose data with more."
        )
    found = [_source(cfg.by, name, [name]) for name in sources]
    if cfg.together:
        left_out = [(f"all but {name}", [other for other in sources if other != name]) for name in sources]
        more = [_source(cfg.by, name, names) for name, names in left_out if len(names) > 1]
        found = [_source(cfg.by, "all", sources), *found, *more]
    return found


def _source(by: By, name: str, names: Sequence[str]) -> Arm:
    return Arm(name, (word(TRAINED_ON[by], names), "subset.val_from=source"))


def _ladder(cfg: TransferConfig, there: Present) -> list[Arm]:
    if cfg.target is None:
        raise ConfigError(
            f"study.transfer.target is not given: name the {cfg.by} that is adapted to, of {', '.join(there.names)}."
        )
    if cfg.target not in there.names:
        raise unknown_name("study.transfer.target", cfg.target, there.names)
    sources = list(cfg.sources) or [name for name in there.names if name != cfg.target]
    if not sources:
        raise ConfigError(f"no {cfg.by} but {cfg.target} is there to be a source: choose data with more.")
    zero = Arm(ZERO, _source(cfg.by, ZERO, sources).words, (("rung", ZERO),))
    found = [zero]
    for rung in cfg.rungs:
        if rung in FITTED:
            words = (*zero.words, FITTED[rung], word(f"eval.fit_{cfg.by}s", [cfg.target]))
            found.append(Arm(rung.value, words, (("rung", rung.value),)))
        elif rung in GOING_ON:
            of_images = () if rung is Rung.longer else (word(f"{rung}.{cfg.by}s", [cfg.target]),)
            words = (*zero.words, "init=run", f"init.run={BY_ARM}{ZERO}", *of_images, *cfg.tune)
            found.append(Arm(rung.value, words, (("rung", rung.value),)))
    for budget in _budgets(cfg, there):
        part = word("subset.scenes", int(budget)) if cfg.unit is Unit.scenes else word("subset.lakes", budget)
        for rung in [rung for rung in cfg.rungs if rung in TRAINED]:
            words = (*_source(cfg.by, "", [cfg.target]).words, part)
            if rung is not Rung.scratch:
                more = cfg.lora if rung is Rung.lora else ()
                words = (*words, "init=run", f"init.run={BY_ARM}{ZERO}", *cfg.tune, *more)
            levels = (("rung", rung.value), ("budget", f"{budget:g}"))
            found.append(Arm(f"{rung.value} {said_budget(cfg.unit, budget)}", words, levels))
    return found


def _budgets(cfg: TransferConfig, there: Present) -> list[float]:
    """Ascending; beyond what there is, all that there is, once."""
    most = there.scenes if cfg.unit is Unit.scenes and there.scenes else float("inf")
    return sorted({min(budget, most) for budget in cfg.budgets})


def settled(arms: Sequence[Checked]) -> list[Checked]:
    """Rungs that hold the encoder fixed, with the epochs for which they do it: they follow from the budget's.

    head: in all of them. staged: in the first quarter, then a stage more in each seventh of the rest.
    """
    found = []
    for one in arms:
        rung, epochs = dict(one.arm.levels).get("rung"), one.config.train.epochs
        if rung == Rung.head:
            one = with_training(one, "train.freeze_encoder_epochs", epochs)
        elif rung == Rung.staged:
            first = max(epochs // 4, 1)
            one = with_training(one, "train.freeze_encoder_epochs", first)
            one = with_training(one, "train.unfreeze_every", max((epochs - first) // 7, 1))
        found.append(one)
    return found


def laid_out(study: StudyConfig, arms: Sequence[Checked]) -> dict[str, Any]:
    """What the report must know of the arms to lay them out; nothing for other designs."""
    cfg = study.transfer
    if study.design == MATRIX:
        return {"kind": MATRIX.value, "by": cfg.by.value}
    if study.design != LADDER:
        return {}
    levels = {one.name: dict(one.arm.levels) for one in arms}
    zero = arms[0].config
    return {
        "kind": LADDER.value,
        "by": cfg.by.value,
        "target": cfg.target,
        "sources": list(zero.subset.regions if cfg.by is By.region else zero.sensor_mix.sensors),
        "unit": cfg.unit.value,
        "rungs": {name: [level["rung"], float(level.get("budget", 0))] for name, level in levels.items()},
    }


def primary(study: StudyConfig, among: Iterable[str] = ()) -> str:
    """The score that decides: of a ladder on the target.

    Args:
        study: from conf/study/ and the command line
        among: regions or sensors that are scored beside the target, whose name could be taken for theirs

    Raises:
        ConfigError: a ladder's score of one stratum, one of which more is not better, or one that cannot be compared
    """
    if study.design != LADDER or study.transfer.target is None:
        return study.primary
    measure = measure_of(study.primary)
    if measure.stratum is not None:
        raise ConfigError(
            f"study.primary={study.primary} is of one {measure.stratum[0]}, and a ladder is scored on its target: give "
            "test/lake_iou_pooled or the like."
        )
    if measure.better != 1:
        raise ConfigError(
            f"study.primary={study.primary}: more of it is not better, and a ladder's gains are of scores of which it "
            "is: give test/lake_iou_pooled, test/lake_recall or the like; the report has the others beside it."
        )
    return measure.within(study.transfer.by.value, study.transfer.target, among).name
