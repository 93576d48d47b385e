"""Low-rank adapters: the encoder's own weights stay as they are, and beside its layers corrections of small rank learn.

A layer's weights W become W + alpha / rank * B A, with A drawn and B zero, so that the network starts as it was. The
layers are peft's, which imports transformers: it is imported where adapters are asked for, and nowhere else.

Source: Hu et al. 2021, LoRA (arXiv 2106.09685).
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from glidexp.errors import ConfigError
from glidexp.models import catalog
from glidexp.models.build import assemble
from glidexp.models.reach import empty_image, evaluating

NAME = "default"
"""of the adapters in peft's dictionaries of them"""
_OWN = re.compile(rf"\.(?:base_layer|lora_[AB]\.{NAME})(?=\.)")
"""what peft puts into the names of a layer's weights"""


def require_adaptable(backbone: str, decoder: str, rank: int) -> None:
    """Makes sure that there is a layer to be adapted, before hours go into data. Builds the network on paper.

    Rank 0 asks for no adapters.

    Raises:
        ConfigError: none is large enough
    """
    if rank and not _found_on_paper(backbone, decoder, rank):
        raise ConfigError(
            f"train.lora_rank={rank}: adapters of this rank would be no smaller than any layer of backbone.name="
            f"{backbone} that takes them (linear, and convolutions in one group). Give a lower rank, or 0 for none."
        )


@lru_cache(maxsize=32)
def _found_on_paper(backbone: str, decoder: str, rank: int) -> tuple[str, ...]:
    # smp's Mix Transformer reads numbers while it is built, which `meta` does not have
    place = "cpu" if catalog.find(backbone).family is catalog.Family.mit else "meta"
    with torch.device(place), torch.random.fork_rng(devices=[]):
        model = assemble(backbone, decoder, in_channels=3)
    return tuple(adaptable(model, rank, in_channels=3, side_px=catalog.smallest_px(backbone, decoder)))


def adaptable(model: nn.Module, rank: int, *, in_channels: int, side_px: int) -> list[str]:
    """Layers of the encoder to which adapters can be added, by name within it.

    They are linear layers and convolutions in one group, called when the encoder runs, with more weights than their
    adapter would have. Layers of other classes compute their weights themselves, so that what stands beside them could
    not be added to them in the end.

    Args:
        model: network with an `encoder`; left as it is
        rank: of the adapters
        in_channels: bands of the input
        side_px: side of an input that the network takes, pixels
    """
    encoder = model.get_submodule("encoder")
    called: list[str] = []
    hooks = [
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, layer in encoder.named_modules()
        if _plain(layer) and _size(layer, rank) < layer.get_parameter("weight").numel()
    ]
    try:
        with evaluating(encoder), torch.no_grad():
            encoder(empty_image(encoder, in_channels, side_px))
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(called))


def _plain(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or (
        type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == "zeros"
    )


def _size(layer: nn.Module, rank: int) -> int:
    """Weights of its adapter: A is of the layer's kernel, B of 1 x 1."""
    outputs, *inputs = layer.get_parameter("weight").shape
    return rank * (outputs + int(torch.Size(inputs).numel()))


def add_adapters(model: nn.Module, rank: int, alpha: int, *, in_channels: int, side_px: int) -> int:
    """Adds adapters to the encoder, in place: of its weights only they learn from now on. Draws from torch's generator.

    Args:
        model: network with an `encoder`, and its first weights
        rank: of the adapters
        alpha: what they add is multiplied by alpha / rank
        in_channels: bands of the input
        side_px: side of an input that the network takes, pixels

    Returns:
        how many layers have one
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = adaptable(model, rank, in_channels=in_channels, side_px=side_px)
    exactly = "|".join(re.escape(name) for name in names)  # a list would be taken for ends of names
    encoder: Any = model.get_submodule("encoder")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=exactly), encoder, adapter_name=NAME)
    del encoder.peft_config
    for _, layer in _adapted(model):
        if isinstance(layer.base_layer, nn.Conv2d):  # peft leaves it out
            layer.lora_A[NAME].dilation = layer.base_layer.dilation
    return len(names)


def staged(stages: Sequence[Sequence[str]], model: nn.Module) -> list[list[str]]:
    """Stages of an encoder (`models.stages`) with the names that its weights have beside adapters, and with these."""
    place = {name: number for number, stage in enumerate(stages) for name in stage}
    found: list[list[str]] = [[] for _ in stages]
    for name, _ in model.named_parameters():
        if _OWN.sub("", name) in place:
            found[place[_OWN.sub("", name)]].append(name)
    return found


def merged_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of the network without adapters that computes the same; of one without adapters its own."""
    layers = dict(_adapted(model))
    found: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if ".lora_" not in name:
            found[_OWN.sub("", name)] = value
    for name, layer in layers.items():
        with torch.no_grad():
            found[f"{name}.weight"] = found[f"{name}.weight"] + layer.get_delta_weight(NAME)
    return found


def merge_adapters(model: nn.Module) -> nn.Module:
    """Turns the network, in place, into one without adapters that computes the same; leaves one without as it is."""
    layers = list(_adapted(model))
    if layers:
        state = merged_state(model)
        for name, layer in layers:
            model.set_submodule(name, layer.base_layer)
        model.load_state_dict(state)
    return model


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """peft's layers, by name."""
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            yield name, layer
