"""Networks of one build, asked about the same image, and the mean of their answers. Layout (B, C, H, W)."""

from collections.abc import Iterable

import torch
from torch import nn

from glidexp.models.tta import mean_logit


class MeanOfNetworks(nn.Module):
    """Gives the logit of the mean probability of several networks.

    Args:
        nets: networks from images to logits (B, 1, H, W)
    """

    def __init__(self, nets: Iterable[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, 1, H, W) float32, within ±90."""
        return mean_logit(net(image).float() for net in self.nets)
