"""A network that sees each pixel alone: what its bands say of it without what lies around. Layout (B, C, H, W).

The baseline that shows what context is worth. As a random forest on the bands of a pixel does, it knows no shape and no
neighbour; but it learns from the same labels, by the same loss, augmentation and threshold as every other network.
"""

import torch
from torch import nn

WIDTH = 32
"""channels of each hidden layer"""


class PixelEncoder(nn.Module):
    """Two layers of 1 x 1 convolutions: a perceptron on the bands of each pixel.

    Normalised by batch, as the stages of other encoders are: without it the learning rate that suits these is too low.

    Args:
        in_channels: bands of the input
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_channels = [in_channels, WIDTH]
        self.layers = nn.Sequential(*_layer(in_channels), *_layer(WIDTH))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, H, W) -> the image, and (B, WIDTH, H, W) of each pixel."""
        return [image, self.layers(image)]


class PixelNetwork(nn.Module):
    """`PixelEncoder` with a linear answer.

    Args:
        in_channels: bands of the input
        classes: logits a pixel
    """

    def __init__(self, in_channels: int, classes: int = 1) -> None:
        super().__init__()
        self.encoder = PixelEncoder(in_channels)
        self.decoder = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, classes, H, W)."""
        logits: torch.Tensor = self.decoder(self.encoder(image)[-1])
        return logits


def _layer(in_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)]
