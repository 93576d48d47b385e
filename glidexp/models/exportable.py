"""A network with layers that exporters can write down in place of those that they cannot; it answers the same."""

import copy
from collections.abc import Callable
from typing import cast

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import nn
from torch.nn import functional

from glidexp.models.told import become, kind_of

SAME: dict[type[nn.Module], type[nn.Module]] = {
    Conv2dSame: nn.Conv2d,
    AvgPool2dSame: nn.AvgPool2d,
    MaxPool2dSame: nn.MaxPool2d,
}
"""layers that pad each image as TensorFlow does, and what they are without"""
STANDARDISED = (StdConv2dSame, ScaledStdConv2dSame)
"""convolutions that may do so too, by their attribute `same_pad`"""


class Pooled(nn.Module):
    """Adaptive average pooling as two products of matrices, which a graph keeps for every size of the image.

    Exporters write the places of torch's own cells down for the one size that they saw, or refuse it.

    Args:
        cells: rows and columns that come out
    """

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, *cells), as `torch.nn.AdaptiveAvgPool2d` gives them."""
        rows, columns = (_shares(image, axis, count) for axis, count in zip((2, 3), self.cells, strict=True))
        return rows @ image @ columns.T


class Padded(nn.Module):
    """A layer with TensorFlow's padding as fixed numbers: what it comes to where strides divide height and width.

    They do in a graph, whose images have multiples of the network's stride for sides. For others timm rounds up, and
    rounding is nothing that torch.export can write.

    Args:
        layer: of `SAME` or `STANDARDISED`; changed in place to pad nothing
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if isinstance(layer, STANDARDISED):
            layer.same_pad = False
        else:
            become(layer, SAME[kind_of(layer)])
        self.layer = layer
        sizes = (layer.kernel_size, layer.stride, getattr(layer, "dilation", 1))
        pairs = [cast("tuple[int, int]", size if isinstance(size, tuple) else (size, size)) for size in sizes]
        (top, bottom), (left, right) = (_sides(*axis) for axis in zip(*pairs, strict=True))
        self.pads = (left, right, top, bottom)
        self.filled = -torch.inf if isinstance(layer, nn.MaxPool2d) else 0.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> as the layer gives it, where its stride divides H and W."""
        bands = getattr(self.layer, "in_channels", image.shape[1])
        padded = functional.pad(image[:, :bands], self.pads, value=self.filled)
        if image.shape[1] > bands:  # what the layer is told, the same everywhere, in a border too
            told = image[:, bands:, :1, :1].expand(-1, -1, *padded.shape[-2:])
            padded = torch.cat([padded, told], dim=1)
        out: torch.Tensor = self.layer(padded)
        return out


def exportable(net: nn.Module) -> nn.Module:
    """The network, or where exporters cannot write it a copy of it that they can, for sides its stride divides."""
    if not any(_other(module) for module in net.modules()):
        return net
    net = copy.deepcopy(net)
    made = {module: make(module) for module in [*net.modules()] if (make := _other(module))}
    for name, module in [*net.named_modules(remove_duplicate=False)]:
        if module in made:
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, made[module])
    return net


def _other(module: nn.Module) -> Callable[[nn.Module], nn.Module] | None:
    """What makes the layer that stands for a layer; None where none has to."""
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
        return _pooled
    if kind_of(module) in SAME or (isinstance(module, STANDARDISED) and module.same_pad):
        return Padded
    return None


def _pooled(module: nn.Module) -> Pooled:
    size = cast("int | tuple[int, int]", cast("nn.AdaptiveAvgPool2d", module).output_size)
    return Pooled((size, size) if isinstance(size, int) else size)


def _shares(image: torch.Tensor, axis: int, count: int) -> torch.Tensor:
    """(count, length): what each place along an axis adds to each cell. Cell i reaches from floor(i L/n) on."""
    length = image.shape[axis]
    places = torch.arange(length, device=image.device)
    cells = torch.arange(count, device=image.device)[:, None]
    inside = (places >= cells * length // count) & (places * count < (cells + 1) * length)
    return inside.to(image.dtype) / inside.sum(dim=1, keepdim=True)


def _sides(kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Pixels that are added before and after, along one axis."""
    added = max((kernel - 1) * dilation + 1 - stride, 0)
    return added // 2, added - added // 2
