"""Networks of one build, asked about the same image, and the mean of their answers. Layout (B, C, H, W)."""

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from glidexp.models.tta import VIEWS, MeanOfViews, mean_logit, turned, turned_back


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
        return mean_logit(self.each(image))

    def each(self, image: torch.Tensor) -> Iterator[torch.Tensor]:
        """(B, C, H, W) -> logits (B, 1, H, W) float32 of one network after the other."""
        return (net(image).float() for net in self.nets)


def with_each(net: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a mean of networks answers, and what each of them does, in one pass.

    Args:
        net: `MeanOfNetworks`, also when it is asked about several views
        image: (B, C, H, W)

    Returns:
        logits (B, 1, H, W), the same as `net` gives, and probabilities (B, N, H, W) of the N networks, each the mean
        over its views
    """
    if not isinstance(net, MeanOfViews):
        assert isinstance(net, MeanOfNetworks)
        logits = list(net.each(image))
        return mean_logit(logits), torch.sigmoid(torch.cat(logits, dim=1))
    wholes, parts = [], []
    for view in VIEWS[net.kind]:
        whole, each = with_each(net.module, turned(image, view))
        wholes.append(turned_back(whole, view))
        parts.append(turned_back(each, view))
    return mean_logit(wholes), torch.stack(parts).mean(dim=0)
