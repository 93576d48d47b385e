"""The stages of an encoder, from the stem to the deepest: which weights come before which."""

from typing import Any

import torch
from torch import nn


def encoder_stages(model: nn.Module, *, in_channels: int, side_px: int) -> list[list[str]]:
    """Sorts the encoder's weights by depth: a weight belongs to the first feature map that it reaches.

    Asked of the gradient, not of names, so that it holds for every encoder that gives feature maps. The encoder runs
    once on torch's `meta` device: shapes only, no memory, no random numbers; the network is left as it was.

    Args:
        model: network whose `encoder` gives feature maps from shallow to deep
        in_channels: bands of the input
        side_px: side of an input that the network takes, pixels

    Returns:
        names of weights in `model.named_parameters()`, a list a stage, stem first. Every weight of the encoder stands
        in exactly one stage; one that reaches no map stands in the deepest.
    """
    encoder: nn.Module = model.get_submodule("encoder")
    ghosts = {name: torch.empty_like(weight, device="meta") for name, weight in encoder.named_buffers()}
    weights = {name: torch.empty_like(weight, device="meta") for name, weight in encoder.named_parameters()}
    weights = {name: weight.requires_grad_() for name, weight in weights.items()}
    image = torch.zeros(1, in_channels, side_px, side_px, device="meta")
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()  # batch statistics of one deep cell are refused in training
    try:
        with torch.enable_grad():
            maps = _tensors(torch.func.functional_call(encoder, ghosts | weights, (image,)))
    finally:
        for module, mode in modes.items():
            module.training = mode
    stages: list[list[str]] = []
    for feature in maps:
        if feature.grad_fn is None or not weights:  # the image itself, or the empty map that smp puts at 1/2
            continue
        gradients = torch.autograd.grad(feature.sum(), list(weights.values()), allow_unused=True, retain_graph=True)
        reached = [name for name, gradient in zip(weights, gradients, strict=True) if gradient is not None]
        if reached:
            stages.append(reached)
        weights = {name: weight for name, weight in weights.items() if name not in set(reached)}
    if not stages:
        stages.append([])
    stages[-1].extend(weights)
    return [[f"encoder.{name}" for name in stage] for stage in stages]


def _tensors(output: Any) -> list[torch.Tensor]:
    """The tensors of nested lists and tuples, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, list | tuple):
        return [tensor for part in output for tensor in _tensors(part)]
    return []
