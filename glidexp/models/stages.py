"""The stages of an encoder, from the stem to the deepest: which weights come before which."""

from typing import Any

import torch
from torch import nn

from glidexp.models.reach import Reached, empty_image, evaluating


def encoder_stages(model: nn.Module, *, in_channels: int, side_px: int) -> list[list[str]]:
    """Sorts the encoder's weights by depth: a weight belongs to the first feature map that it reaches.

    Asked of the graph of autograd, not of names, so that it holds for every encoder with feature maps. The encoder runs
    once, on an image of zeros: no random numbers; the network is left as it was.

    Args:
        model: network whose `encoder` gives feature maps from shallow to deep
        in_channels: bands of the input
        side_px: side of an input that the network takes, pixels

    Returns:
        names of weights in `model.named_parameters()`, a list a stage, stem first. Every weight of the encoder stands
        in exactly one stage; one that reaches no map stands in the deepest.
    """
    encoder: nn.Module = model.get_submodule("encoder")
    weights = {name: weight.detach().requires_grad_() for name, weight in encoder.named_parameters()}
    image = empty_image(encoder, in_channels, side_px)
    with evaluating(encoder), torch.enable_grad():  # batch statistics of one deep cell are refused in training
        maps = _tensors(torch.func.functional_call(encoder, weights, (image,)))
    names = {id(weight): name for name, weight in weights.items()}
    reached, stages = Reached(), []
    for feature in maps:  # the image itself, and the empty map that smp puts at 1/2, are made of no weight
        stage = reached.by(feature)
        if stage:
            stages.append([name for weight, name in names.items() if weight in stage])
            names = {weight: name for weight, name in names.items() if weight not in stage}
    if not stages:
        stages.append([])
    stages[-1].extend(names.values())
    return [[f"encoder.{name}" for name in stage] for stage in stages]


def _tensors(output: Any) -> list[torch.Tensor]:
    """The tensors of nested lists and tuples, in order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, list | tuple):
        return [tensor for part in output for tensor in _tensors(part)]
    return []
