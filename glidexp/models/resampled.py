"""A network that sees every image at one ground sample distance, and answers on the image's own pixels.

Images are brought to that distance before the network and its logits back after it, so that a lake of a given size is
as large for the network whatever the sensor, while labels, scores and maps stay on native pixels. By what an image is
to be scaled comes in two constant channels behind it; images without them are taken as they are.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from glidexp.models.padding import grown, grown_px

CHANNELS = 2
"""the scale, and what half precision loses of it"""
SMALLEST_PX = 64
"""side to which scaled images are grown by reflection, so that batch statistics of one image have values enough"""
STRIDE = 32
SCALED = "scaled_from"
"""attribute of a network that scales"""


def scale_vector(gsd_m: float, target_m: float) -> list[float]:
    """The two numbers of an image: its side at the target's distance as a multiple of its own side, in two parts.

    Args:
        gsd_m: of the image, metres
        target_m: that the network sees, metres
    """
    scale = gsd_m / target_m
    coarse = float(torch.tensor(scale).to(torch.bfloat16))
    return [coarse, scale - coarse]


def resampling(model: nn.Module, scaled_from: int) -> None:
    """Makes a network, in place, scale each image as its last two channels say; its weights keep their names.

    Args:
        model: the network
        scaled_from: channels that an image has at least where its last two say a scale
    """
    net: Any = model
    net.scaled_from = scaled_from
    known: Any = type(net)
    net.__class__ = _resampling(known)


def unscaled(model: nn.Module) -> nn.Module:
    """The network, or where it scales images a copy of it that takes each as it is.

    It may lie within others, of views or of a mean. Exporters cannot follow a scale that an image brings along.
    """
    if not any(hasattr(part, SCALED) for part in model.modules()):
        return model
    model = copy.deepcopy(model)
    for part in model.modules():
        if hasattr(part, SCALED):
            delattr(part, SCALED)
            part.__class__ = type(part).__bases__[0]
    return model


@cache
def _resampling(kind: type[nn.Module]) -> type[nn.Module]:
    """The network's class, with another forward pass."""

    # the compiler would make a graph for each mixture of scales in a batch, up to its limit: it takes the network alone
    uncompiled: Any = torch.compiler.disable(recursive=False)
    scaled = uncompiled(_scaled)

    @uncompiled
    def forward(self: Any, image: torch.Tensor) -> torch.Tensor:
        if image.shape[1] < self.scaled_from:
            answer: torch.Tensor = kind.forward(self, image)
            return answer
        scales = image[:, -CHANNELS:, 0, 0].float().sum(1).tolist()  # a GPU is waited for here
        bands = image[:, :-CHANNELS]
        groups: dict[float, list[int]] = {}
        for place, scale in enumerate(scales):
            groups.setdefault(round(scale, 4) or 1.0, []).append(place)
        parts = [(places, scaled(kind, self, bands[places], scale)) for scale, places in groups.items()]
        order = torch.tensor([place for places, _ in parts for place in places], device=image.device)
        return torch.cat([part for _, part in parts])[order.argsort()]

    return cast(type[nn.Module], type(f"Resampling{kind.__name__}", (kind,), {"forward": forward}))


@contextmanager
def _pooled_norms_still(net: nn.Module) -> Iterator[None]:
    """What an image is pooled to, one value a band, is normalised by the running statistics: one image has no others.

    A batch of several scales can hold one image of a scale, which goes through the network by itself.
    """
    pools = filter(_to_one_cell, net.modules())
    norms = [part for pool in pools for part in pool.modules() if isinstance(part, _BatchNorm) and part.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _to_one_cell(part: nn.Module) -> bool:
    """Whether a row of layers begins by pooling an image to one cell."""
    first = next(iter(part), None) if isinstance(part, nn.Sequential) else None
    return isinstance(first, nn.AdaptiveAvgPool2d) and first.output_size in (1, (1, 1))


def _scaled(kind: type[nn.Module], net: nn.Module, image: torch.Tensor, scale: float) -> torch.Tensor:
    """Logits (B, K, H, W) of images (B, C, H, W) that the network sees at `scale` times their size."""
    size = image.shape[-2:]
    small = [max(1, round(side * scale)) for side in size]
    seen = image.contiguous(memory_format=torch.channels_last)
    if small != [*size]:
        seen = functional.interpolate(image.float(), size=small, mode="bilinear", antialias=scale < 1).to(image.dtype)
        seen = seen.contiguous(memory_format=torch.channels_last)
    alone = len(seen) == 1 and any(part.training for part in net.modules())
    if scale != 1 or alone:
        height, width = (grown_px(side, STRIDE, SMALLEST_PX) for side in small)
        seen = grown(seen, height, width)
    with _pooled_norms_still(net) if alone else nullcontext():
        logits: torch.Tensor = kind.forward(net, seen)
    logits = logits[..., : small[0], : small[1]]
    if small == [*size]:
        return logits.float()
    return functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
