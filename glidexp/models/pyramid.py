"""Maps at four scales from a plain vision transformer, so that decoders of convolutional encoders can stand on it.

A plain transformer gives maps of one size from every depth. Four of them, from a quarter of its depth to all of it, are
enlarged or pooled to 1/4, 1/8, 1/16 and 1/32. What does that learns with the decoder, so the encoder is the transformer
alone: its weights have the names they have under DPT, and a frozen encoder leaves nothing untrained in front of it.

Source: Bao et al. 2022 (BEiT, arXiv:2106.08254) for the four depths, Li et al. 2022 (ViTDet, arXiv:2203.16527) for half
the channels at each doubling. Ours differs: maps are normalised first, as files of others differ in their scale.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from timm.layers import LayerNorm2d
from torch import nn

SCALES_PX = (4, 8, 16, 32)
"""sides of a cell of the maps, pixels"""


class PlainVit(TimmViTEncoder):
    """smp's plain transformer, which gives the image and its maps alone, from shallow to deep."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name=name, depth=len(SCALES_PX), **options)
        self.output_stride = SCALES_PX[-1]  # of the pyramid: what smp holds an image's sides against

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, H, W) -> the image and four maps (B, D, H/p, W/p) for patches of p px."""
        maps, _ = super().forward(image)
        return [image, *maps]


class Pyramid(nn.Module):
    """The maps of `PlainVit` at the scales that a decoder wants, then the decoder.

    Args:
        widths: channels of each map
        patch_px: side of a patch: 4, 8, 16 or 32
        decoder: takes what encoders of smp with four stages give

    Raises:
        ValueError: patches of another size
    """

    def __init__(self, widths: Sequence[int], patch_px: int, decoder: nn.Module) -> None:
        super().__init__()
        self.scales = nn.ModuleList(_to_scale(width, patch_px, px) for width, px in zip(widths, SCALES_PX, strict=True))
        self.decoder = decoder

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """The image and four maps -> what the decoder makes of maps at 1/4, 1/8, 1/16 and 1/32, none at 1/2."""
        image, *maps = features
        none = image.new_empty(image.shape[0], 0, image.shape[2] // 2, image.shape[3] // 2)
        scaled = [scale(one) for scale, one in zip(self.scales, maps, strict=True)]
        decoded: torch.Tensor = self.decoder([image, none, *scaled])
        return decoded


def on_plain_vit(
    encoder: str, stacked: Callable[..., nn.Module], *, encoder_weights: bool | None, in_channels: int, **options: Any
) -> nn.Module:
    """A network of a plain transformer under a decoder that wants four scales.

    Args:
        encoder: smp's name of a timm model, `tu-` before it
        stacked: makes a network from the name of an encoder of smp, its bands and weights
        encoder_weights: True to load the transformer's own, None for random ones
        in_channels: bands of the input
        options: of the timm model

    Raises:
        ValueError: patches of another size than 4, 8, 16 or 32 px
    """
    vit = PlainVit(
        encoder.removeprefix("tu-"), in_channels=in_channels, pretrained=encoder_weights is not None, **options
    )
    patch_px = vit.output_strides[-1]
    # what `_to_scale` makes of them: each doubling halves the channels
    widths = [width // max(patch_px // px, 1) for width, px in zip(vit.out_channels, SCALES_PX, strict=True)]
    with _standing_in([in_channels, 0, *widths]) as name:
        network: Any = stacked(name, in_channels=in_channels, encoder_weights=None)
    network.encoder = vit
    network.decoder = Pyramid(vit.out_channels, patch_px, network.decoder)
    return network


def _to_scale(width: int, patch_px: int, to_px: int) -> nn.Sequential:
    """Normalises a map and brings it to another scale: half the channels at each doubling, the largest when pooled."""
    if patch_px not in SCALES_PX:
        raise ValueError(f"patches of {patch_px} px do not come to scales of {', '.join(map(str, SCALES_PX))} px")
    layers: list[nn.Module] = [LayerNorm2d(width)]
    while patch_px > to_px:
        layers += [nn.ConvTranspose2d(width, width // 2, 2, 2), LayerNorm2d(width // 2), nn.GELU()]
        width, patch_px = width // 2, patch_px // 2
    if patch_px < to_px:
        layers.append(nn.MaxPool2d(to_px // patch_px))
    return nn.Sequential(*layers)


class _Shapes(nn.Module):
    """What smp asks of an encoder when it builds a decoder for it."""

    def __init__(self, channels: Sequence[int], **_: Any) -> None:
        super().__init__()
        self.out_channels, self.output_stride = list(channels), SCALES_PX[-1]

    def set_in_channels(self, in_channels: int, pretrained: bool = False) -> None:
        """Its channels are said already."""


@contextmanager
def _standing_in(channels: Sequence[int]) -> Iterator[str]:
    """A name under which smp finds an encoder of these channels, in its own table, while it builds a decoder."""
    name = f"plain_vit_{id(channels)}"
    smp.encoders.encoders[name] = {"encoder": partial(_Shapes, channels), "params": {}, "pretrained_settings": {}}
    try:
        yield name
    finally:
        del smp.encoders.encoders[name]
