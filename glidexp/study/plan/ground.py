"""One evaluation ground for all arms: what `glidexp evaluate` is told where an arm's own test set is another one.

The ground is the baseline's test side with the baseline's labels. Settings that change only what the network sees (the
stretch, the bands, overlap in training) leave it as it is. Settings that change labels (buffer, smallest lake) get the
baseline's values, beside the score on their own labels, which the training run has anyway. Tiles of another size are
scored at that size, but on all pixels of the test scenes: else tiles without lake would be left out, and small tiles
leave out more background than large ones. Then the baseline is scored so as well.
"""

from collections.abc import Sequence
from typing import Any

from glidexp.config import Config, DatasetKind, SplitBy, flat
from glidexp.config.evaluation import EvaluateConfig
from glidexp.errors import ConfigError
from glidexp.study.plan.check import Checked
from glidexp.study.plan.words import word
from glidexp.wording import does, many

SEEN_ONLY = ("stretch.", "bands", "overlap_px", "name", "previous", "sensors_file")
"""settings of the data set that change neither test pixels nor labels"""
ALL_BACKGROUND = 1_000_000
"""`dataset.empty_share` with which every tile with a valid pixel is kept"""
TAKEN_OVER = ("paths.", "tracking.", "train.")
"""settings of where and how, which the scoring shares with the training"""


def grounds(arms: Sequence[Checked]) -> list[tuple[str, ...] | None]:
    """Words for `glidexp evaluate` that score an arm's runs on the common ground; None: its own test set is that.

    Args:
        arms: baseline first

    Raises:
        ConfigError: arms with different splits, of which none could be scored on the other's test ground
    """
    base = arms[0].config
    sizes = len({one.config.tile_size.px for one in arms}) > 1
    whole = sizes and base.dataset.kind is not DatasetKind.store and base.dataset.split.by is not SplitBy.block
    return [_ground(one, base, whole=whole) for one in arms]


def _ground(one: Checked, base: Config, *, whole: bool) -> tuple[str, ...] | None:
    own, reference = flat(one.config.dataset), flat(base.dataset)
    differing = {
        key: value for key, value in reference.items() if own.get(key) != value and not key.startswith(SEEN_ONLY)
    }
    split = [key for key in differing if key.startswith("split.")]
    if split:
        raise ConfigError(
            f"{one.name} has another dataset.{split[0]} ({own[split[0]]}) than the baseline ({reference[split[0]]}): "
            "it would train on ground that the others are scored on. Make one study for each split"
            f"{', or give study.folds=N, which puts the folds together' * split[0].startswith('split.fold')}."
        )
    if "dem" in differing:
        raise ConfigError(
            f"{one.name} has another dataset.dem ({own['dem']}) than the baseline ({reference['dem']}): where a DEM "
            "has no height a pixel is not scored. Give all arms the same; dataset.bands says which of them use it."
        )
    if key := next((key for key in ("within", "within_layer") if key in differing), ""):
        raise ConfigError(
            f"{one.name} has another dataset.{key} ({own[key]}) than the baseline ({reference[key]}): ground is shared "
            "out among training, val and test where it is labelled, so it would train on ground that the others are "
            "scored on. Make one study for each."
        )
    words = [word(f"dataset.{key}", value) for key, value in differing.items() if not (whole and key == "empty_share")]
    if whole:
        words.append(word("dataset.empty_share", ALL_BACKGROUND))
    elif one.config.tile_size.px != base.tile_size.px:
        words.append(word("tile_size.px", base.tile_size.px))
    if not words and not one.scoring:
        return None
    side = () if any(word.startswith("eval.split=") for word in one.scoring) else ("eval.split=test",)
    return (*words, *one.scoring, *side, *_shared(one.config))


def _shared(config: Config) -> list[str]:
    """Where the store and the data are, and on what to compute, as far as it is not the default."""
    usual, own = flat(EvaluateConfig()), flat(config)
    found: dict[str, Any] = {
        key: own[key]
        for key, value in usual.items()
        if key.startswith(TAKEN_OVER) and key != "tracking.run_name" and own.get(key, value) != value
    }
    return [word(key, value) for key, value in found.items()]


def told(arms: Sequence[Checked], grounds: Sequence[tuple[str, ...] | None]) -> str:
    """What all arms are scored on, in a sentence.

    Args:
        arms: baseline first
        grounds: from `grounds`, in the same order
    """
    again = [words for words in grounds if words is not None]
    changed = [words for words in again if any(word.startswith(("dataset.", "tile_size.")) for word in words)]
    if not changed:
        count = f"{many(len(again), 'arm')} {does(len(again), 'learn')}"
        more = f" {count} nothing new: another scoring of the same training." if again else ""
        return f"Ground: the test set is the same in every arm.{more}"
    if any(f"dataset.empty_share={ALL_BACKGROUND}" in words for words in changed):
        return (
            "Ground: every arm is scored again on all pixels of the baseline's test scenes, each at its own tile size."
        )
    text = (
        f"Ground: the baseline's test set. {len(changed)} of {len(grounds)} arms have another of their own; they are "
        "scored on both."
    )
    px = arms[0].config.tile_size.px
    if any(f"tile_size.px={px}" in words for words in changed):
        why = "a ready store" if arms[0].config.dataset.kind is DatasetKind.store else "a split by block"
        text += (
            f" Arms with other tiles are scored on the baseline's {px} px tiles, not at the size they were trained on: "
            f"{why} holds no other tiles of the same ground. So the comparison favours the baseline's size; a split by "
            "scene or region scores every arm at its own."
        )
    return text
