"""Layers of an encoder that its decoder never looks at are taken out: no memory, no time, no idle weights."""

import torch
from torch import nn

from glidexp.models.reach import Reached, empty_image, evaluating


def prune_unused(model: nn.Module, *, in_channels: int, side_px: int) -> list[str]:
    """Replaces every module whose weights do not reach the output by an identity.

    It is run once, on an image of zeros; what its output is not made of is unused.

    Args:
        model: network from (B, in_channels, H, W) to logits; changed in place
        in_channels: bands of the input
        side_px: side of an input that the network takes, pixels

    Returns:
        names of the modules taken out
    """
    with evaluating(model), torch.enable_grad():
        reached = Reached().by(model(empty_image(model, in_channels, side_px)))
    dead = {name for name, weight in model.named_parameters() if id(weight) not in reached}
    gone: list[str] = []
    for name, module in list(model.named_modules()):
        weights = [f"{name}.{inner}" for inner, _ in module.named_parameters()]
        if not weights or not dead.issuperset(weights) or name.startswith(tuple(f"{above}." for above in gone)):
            continue
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
        gone.append(name)
    for name, weight in model.named_parameters():
        if name in dead:  # a weight of its own in a module that is otherwise used
            weight.requires_grad_(False)
    return gone
