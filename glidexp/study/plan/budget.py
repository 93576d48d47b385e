"""The same budget in every arm: epochs, and if asked for batches, that follow from the number of tiles.

The baseline's settings say how much is spent. Rules: `steps` gives every arm as many optimizer steps, `pixels` lets it
see as many pixels; both by whole epochs, so that arms differ by half an epoch at most, which is told. Where each seed
draws scenes or lakes of its own, the epochs are each seed's own too. With `batch=pixels` a batch holds as many pixels
as the baseline's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glidexp.config import Config
from glidexp.config.study import BudgetBatch, BudgetConfig, BudgetKind
from glidexp.errors import ConfigError
from glidexp.models import catalog
from glidexp.study.plan.check import Checked
from glidexp.study.plan.words import merged, word
from glidexp.training.check import check
from glidexp.wording import many

Tiles = Callable[[Config], int]
"""number of training tiles of a config; makes the data where it is not there"""


@dataclass(frozen=True, slots=True)
class Spent:
    """What an arm's training is made of."""

    epochs: int
    steps: int
    """of the optimizer, all epochs together"""
    pixels: int
    """that are seen, all epochs together"""


def equal(arms: Sequence[Checked], cfg: BudgetConfig, tiles: Tiles) -> list[Checked]:
    """The arms with the epochs and batches that the rule gives them.

    Args:
        arms: baseline first
        cfg: the rule
        tiles: asked only where arms differ in what decides the number of steps

    Raises:
        ConfigError: epochs vary by themselves, or an arm has fewer tiles than a batch
    """
    base = arms[0].config
    if cfg.kind is not BudgetKind.epochs:
        others = sorted({one.config.train.epochs for one in arms} - {base.train.epochs})
        if others:
            raise ConfigError(
                f"train.epochs varies ({base.train.epochs} and {others[0]}), which study.budget.kind={cfg.kind} sets "
                "itself: give study.budget.kind=epochs."
            )
    sized = [_with_batch(one, base) for one in arms] if cfg.batch is BudgetBatch.pixels else list(arms)
    if cfg.kind is BudgetKind.epochs or len({_decides(one.config) for one in sized}) == 1:
        return sized
    counts = [tiles(one.config) for one in sized]
    for one, count in zip(sized, counts, strict=True):
        refuse_too_few(one, count)
    first = spent(sized[0].config, counts[0])
    found = [sized[0]]
    for one, count in zip(sized[1:], counts[1:], strict=True):
        single = spent(_changed(one.config, epochs=1), count)
        by = (first.steps / single.steps) if cfg.kind is BudgetKind.steps else (first.pixels / single.pixels)
        found.append(with_training(one, "train.epochs", max(round(by), 1)))
    return found


def drawn(config: Config) -> bool:
    """Whether each seed draws scenes or lakes of its own, of which some have more tiles than others."""
    subset = config.subset
    return subset.seed is None and (subset.scenes is not None or subset.lakes < 1)


def by_seed(
    arms: Sequence[Checked], seeds: Sequence[int], settle: Callable[[Sequence[Checked]], list[Checked]]
) -> list[list[Checked]]:
    """The arms of each seed, settled: where a seed draws its own tiles, arms of it are equal to its own baseline.

    Args:
        arms: baseline first, with the first seed
        seeds: of the study
        settle: gives arms the budget
    """
    first = settle(arms)
    if not any(drawn(one.config) for one in arms):
        return [first] * len(seeds)
    others = [[replace(one, config=replace(one.config, seed=seed)) for one in arms] for seed in seeds[1:]]
    return [first, *map(settle, others)]


def spent(config: Config, tiles: int) -> Spent:
    """What a training costs that has so many tiles. A last batch that is not full is left out, as in training."""
    train = config.train
    batches = tiles // train.batch_tiles
    steps = -(-batches // train.accumulate)
    pixels = batches * train.batch_tiles * config.tile_size.px**2
    return Spent(train.epochs, train.epochs * steps, train.epochs * pixels)


def told(cfg: BudgetConfig, all_spent: Sequence[Sequence[Spent]], *, by: str = "seed") -> str:
    """What is equal in every arm, in a sentence, and by how much it is not.

    Args:
        cfg: the rule
        all_spent: of each seed, on each fold, its arms with the baseline first
        by: what its baselines may differ by, in words
    """
    if cfg.kind is BudgetKind.epochs:
        return f"Budget: epochs as the arms say ({all_spent[0][0].epochs} in the baseline), so steps may differ."
    of = [[getattr(one, cfg.kind.value) for one in arms] for arms in all_spent]
    most = max(abs(value - arms[0]) / arms[0] if arms[0] else 0.0 for arms in of for value in arms)
    low, high = (choose(arms[0] for arms in of) for choose in (min, max))
    if cfg.kind is BudgetKind.steps:
        what = many(low, "optimizer step") if low == high else f"{low} to {high} optimizer steps, by {by},"
    else:
        what = f"{low / 1e6:.1f} M pixels" if low == high else f"{low / 1e6:.1f} to {high / 1e6:.1f} M pixels, by {by},"
    off = f", by whole epochs: at most {100 * most:.1f} % off" if most else " exactly"
    batch = " Batches hold as many pixels as the baseline's." if cfg.batch is BudgetBatch.pixels else ""
    return f"Budget: {what} in every arm{off}.{batch}"


def _decides(config: Config) -> tuple[object, ...]:
    """What the number of steps and pixels depends on."""
    train = config.train
    return (
        repr(config.dataset),
        config.tile_size.px,
        repr(config.sensor_mix),
        repr(config.subset),
        repr(config.self_training),
        train.batch_tiles,
        train.accumulate,
    )


def _with_batch(one: Checked, base: Config) -> Checked:
    config = one.config
    wanted = base.train.batch_tiles * base.tile_size.px**2 / config.tile_size.px**2
    least = catalog.least_batch(config.decoder.name, config.tile_size.px)
    size = round(wanted)
    if size < least or abs(size - wanted) > 0.25 * wanted:
        raise ConfigError(
            f"{one.name}: tiles of {config.tile_size.px} px for as many pixels as {base.train.batch_tiles} of "
            f"{base.tile_size.px} px would be a batch of {wanted:g}, which must be {least} or more and whole: give a "
            "larger train.batch_size, or study.budget.batch=keep."
        )
    return with_training(one, "train.batch_size", size)


def with_training(one: Checked, key: str, value: int) -> Checked:
    """An arm with one setting of `train` more, where that is another value."""
    name = key.removeprefix("train.")
    if getattr(one.config.train, name) == value:
        return one
    config = _changed(one.config, **{name: value})
    check(config)
    return replace(one, words=merged(one.words, [word(key, value)]), config=config)


def _changed(config: Config, **train: Any) -> Config:
    return replace(config, train=replace(config.train, **train))


def refuse_too_few(one: Checked, count: int) -> None:
    """Raises ConfigError where an arm has fewer training tiles than a batch."""
    if count < one.config.train.batch_tiles:
        own, split = f" with seed {one.config.seed}" * drawn(one.config), one.config.dataset.split
        fold = f" on fold {split.fold}" * bool(split.folds)
        raise ConfigError(
            f"{one.name}: train.batch_size={one.config.train.batch_tiles} is more than its "
            f"{many(count, 'training tile')}{own}{fold}: lower it."
        )
