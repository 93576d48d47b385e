"""Test-time augmentation: one network, asked about each flip and turn of an image, and the mean of its answers.

Layout (B, C, H, W).
"""

from collections.abc import Iterable

import torch
from torch import nn

from glidexp.config import Tta
from glidexp.errors import ConfigError

View = tuple[int, bool]
"""quarter turns, and whether the image is mirrored before"""

VIEWS: dict[str, tuple[View, ...]] = {
    Tta.flips: ((0, False), (0, True), (2, False), (2, True)),
    Tta.d4: tuple((turns, mirrored) for turns in range(4) for mirrored in (False, True)),
}
"""flips: left-right, up-down and both. d4: the eight flips and quarter turns of a square, for any height and width"""


class MeanOfViews(nn.Module):
    """Gives the logit of the mean probability over the views of an image.

    Probabilities are averaged, not logits: a view that is very sure cannot outvote the others. The answer goes back to
    a logit, so that whatever reads logits need not know of the views.

    Args:
        module: network from images to logits (B, 1, H, W); called as what it is by whoever unwraps a model
        kind: a key of `VIEWS`
    """

    def __init__(self, module: nn.Module, kind: str) -> None:
        super().__init__()
        self.module = module
        self.kind = str(kind)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, 1, H, W) float32, within ±90."""
        return mean_logit(turned_back(self.module(turned(image, view)).float(), view) for view in VIEWS[self.kind])


def mean_logit(answers: Iterable[torch.Tensor]) -> torch.Tensor:
    """The logit of the mean probability of some answers, logits float32 of one shape; within ±90."""
    lake: torch.Tensor | float = 0.0
    ground: torch.Tensor | float = 0.0
    for logits in answers:
        lake, ground = lake + torch.sigmoid(logits), ground + torch.sigmoid(-logits)
    least = torch.finfo(torch.float32).tiny  # beyond it float32 has no logarithm
    assert isinstance(lake, torch.Tensor) and isinstance(ground, torch.Tensor)
    return lake.clamp(min=least).log() - ground.clamp(min=least).log()


def with_views(model: nn.Module, kind: str) -> nn.Module:
    """The network that is asked about every view; the network itself for `none`.

    Args:
        model: network from images to logits (B, 1, H, W)
        kind: none, flips or d4

    Raises:
        ConfigError: another kind
    """
    if kind not in list(Tta):
        raise ConfigError(f"tta='{kind}' is not known. Allowed: {', '.join(Tta)}.")
    return model if kind == Tta.none else MeanOfViews(model, kind)


def views_of(model: nn.Module) -> str:
    """none, flips or d4, as `with_views` made the model, also when wrapped since."""
    return next((part.kind for part in model.modules() if isinstance(part, MeanOfViews)), str(Tta.none))


def turned(image: torch.Tensor, view: View) -> torch.Tensor:
    """The image as a view shows it; H and W change places at odd turns."""
    turns, mirrored = view
    return torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))


def turned_back(image: torch.Tensor, view: View) -> torch.Tensor:
    """Undoes `turned`."""
    turns, mirrored = view
    image = torch.rot90(image, -turns, (-2, -1))
    return image.flip(-1) if mirrored else image
