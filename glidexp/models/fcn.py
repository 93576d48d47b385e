"""A fully convolutional network of the FCN-8s kind: one score map a scale, summed from coarse to fine, then enlarged.

Layout (B, C, H, W).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class FcnDecoder(nn.Module):
    """Scores the maps at 1/8, 1/16 and 1/32 and adds them on the grid of 1/8.

    Source: Long, Shelhamer and Darrell 2015, FCN-8s. Ours differs: the head on the deepest map is that of torchvision's
    FCN (3 x 3 convolution to a quarter of the channels, batch norm, dropout), and enlarging is bilinear, not learnt.

    Args:
        channels: channels of the maps at 1/8, 1/16 and 1/32
        dropout: share of the head's channels dropped in training
        classes: score maps that come out
    """

    def __init__(self, channels: Sequence[int], *, dropout: float = 0.1, classes: int = 1) -> None:
        super().__init__()
        deepest = channels[-1]
        hidden = max(deepest // 4, 32)
        self.head = nn.Sequential(
            nn.Conv2d(deepest, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(hidden, classes, 1),
        )
        self.skips = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in reversed(channels[:-1]))

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """A list that ends with (B, C, h, w) at 1/8, 1/16 and 1/32 -> score (B, classes, H/8, W/8)."""
        score: torch.Tensor = self.head(features[-1])
        for skip, feature in zip(self.skips, reversed(features[-3:-1]), strict=True):
            score = _enlarge(score, feature.shape[-2:]) + skip(feature)
        return score


class Fcn(nn.Module):
    """An encoder with `FcnDecoder`.

    Args:
        encoder: gives a list of maps, its last three at 1/8, 1/16 and 1/32; has `out_channels`
        classes: logits a pixel
    """

    def __init__(self, encoder: Any, classes: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = FcnDecoder(encoder.out_channels[-3:], classes=classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, classes, H, W)."""
        score = self.decoder(self.encoder(image))
        return _enlarge(score, image.shape[-2:])


def _enlarge(score: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return functional.interpolate(score, size=size, mode="bilinear", align_corners=False)
