"""Which part of the encoder learns in which epoch. A function of the epoch alone, so that resuming is exact.

Beside low-rank adapters the encoder's own weights never do.
"""

import logging
from collections.abc import Callable, Sequence

from torch import nn

from glidexp.config import TrainConfig
from glidexp.errors import ConfigError
from glidexp.models.bands import first_layer
from glidexp.models.told import WEIGHT
from glidexp.wording import does

log = logging.getLogger("glidexp")


def frozen_stages(cfg: TrainConfig, epoch: int, stages: int) -> int:
    """How many stages of the encoder, counted from the stem, are held fixed in an epoch.

    All of them in the first `freeze_encoder_epochs`. Then none, or with `unfreeze_every` = n one less every n epochs:
    the deepest learns first, the stem last.

    Args:
        cfg: train.*
        epoch: from 0
        stages: of the encoder

    Source of the order: Howard and Ruder 2018, gradual unfreezing (arXiv 1801.06146).
    """
    if epoch < cfg.freeze_encoder_epochs:
        return stages
    if not cfg.unfreeze_every:
        return 0
    return max(stages - 1 - (epoch - cfg.freeze_encoder_epochs) // cfg.unfreeze_every, 0)


def never_learning(cfg: TrainConfig, model: nn.Module) -> set[str]:
    """Names of the encoder's own weights beside adapters; none without adapters."""
    if not cfg.lora_rank:
        return set()
    return {
        name for name, weight in model.named_parameters() if name.startswith("encoder.") and not weight.requires_grad
    }


def dead_inputs(cfg: TrainConfig, model: nn.Module, stages: Sequence[Sequence[str]], bands: Sequence[str]) -> list[str]:
    """Inputs whose weights begin at 0 and never learn, so that the network is as one without them: a sentence each.

    Bands of a DEM begin so under weights that were made without them, and so does what `input.embed` tells.

    Args:
        cfg: train.*
        model: with the weights that it starts from
        stages: as of `build_freezing`
        bands: of the images
    """
    if not (cfg.freezes or cfg.lora_rank):
        return []
    fixed = never_learning(cfg, model).union(*stages[: frozen_stages(cfg, cfg.epochs - 1, len(stages))])
    weights = dict(model.named_parameters())
    dead = [
        ("what the network is told (input.embed)", 1)
        for name, weight in weights.items()
        if name.endswith(WEIGHT) and name in fixed and not weight.any()
    ]
    try:
        first = first_layer(model, len(bands))
    except ConfigError:  # of an encoder that is built otherwise
        return []
    layer = first.removesuffix(".weight").removesuffix(".base_layer")
    if fixed.issuperset(name for name in weights if name.startswith((first, f"{layer}.lora_"))):
        empty = [band for place, band in enumerate(bands) if not weights[first][:, place].any()]
        dead += [(f"{'band' if len(empty) == 1 else 'bands'} {', '.join(empty)}", len(empty))] if empty else []
    why = f"train.lora_rank={cfg.lora_rank}" if cfg.lora_rank else ""
    why += " with " * bool(why and cfg.freezes)
    if cfg.freezes:
        why += f"train.freeze_encoder_epochs={cfg.freeze_encoder_epochs}, train.unfreeze_every={cfg.unfreeze_every}"
    return [
        f"{what} {does(count, 'change')} nothing: the weights by which the first layer takes this in begin at 0, and "
        f"are kept there to the end by {why}. Let the first layer learn, or start from a run that has learnt it."
        for what, count in dead
    ]


def build_freezing(cfg: TrainConfig, model: nn.Module, stages: Sequence[Sequence[str]]) -> Callable[[int], None]:
    """`freeze_at(epoch)`, to be called after `model.train()` at the start of each epoch.

    What is frozen computes as it does at scoring, with the batch statistics that it has and without dropout, and gets
    no gradient. An optimizer leaves weights without gradient alone: no decay, no momentum, no step counted.

    Args:
        cfg: train.*
        model: the network that is trained
        stages: names of the encoder's weights by stage, stem first (`models.stages`); not needed when nothing freezes
    """
    if not (cfg.freezes or cfg.lora_rank):
        return lambda epoch: None
    weights, own = dict(model.named_parameters()), never_learning(cfg, model)
    learns = {name for name, weight in weights.items() if weight.requires_grad}  # idle layers never do
    before = -1

    def freeze_at(epoch: int) -> None:
        nonlocal before
        count = frozen_stages(cfg, epoch, len(stages))
        fixed = own.union(*stages[:count])
        for name, weight in weights.items():
            weight.requires_grad_(name in learns and name not in fixed)
        for name, module in model.named_modules():
            inside = [f"{name}.{inner}" for inner, _ in module.named_parameters()]
            if inside and fixed.issuperset(inside):
                module.eval()
        if cfg.freezes and count != before:
            log.info("from epoch %d on, %d of %d stages of the encoder are frozen", epoch + 1, count, len(stages))
        before = count

    return freeze_at
