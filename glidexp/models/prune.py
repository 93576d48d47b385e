"""Layers of an encoder that its decoder never looks at are taken out: no memory, no time, no idle weights."""

import copy

import torch
from torch import nn


def prune_unused(model: nn.Module, *, in_channels: int, side_px: int) -> list[str]:
    """Replaces every module whose weights do not reach the output by an identity.

    A copy without memory (torch's `meta` device) is run forward and backward once; what got no gradient is unused.

    Args:
        model: network from (B, in_channels, H, W) to logits; changed in place
        in_channels: bands of the input
        side_px: side of an input that the network takes, pixels

    Returns:
        names of the modules taken out
    """
    ghost = copy.deepcopy(model).to("meta").eval()
    with torch.enable_grad():
        ghost(torch.zeros(1, in_channels, side_px, side_px, device="meta")).sum().backward()
    dead = {name for name, weight in ghost.named_parameters() if weight.grad is None}
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
