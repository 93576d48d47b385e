"""Images grown to the right and downwards to a size that a network takes, by their reflection. Layout (B, C, H, W)."""

import torch
from torch.nn import functional


def grown_px(side: int, stride: int, least: int) -> int:
    """The next side, pixels, that is a multiple of the stride and no shorter than `least`."""
    return max(-(-side // stride) * stride, least)


def grown(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The image with rows and columns added up to this size; the image itself where it has it.

    A reflection cannot be longer than the image: a smaller one has its last row and column repeated instead.
    """
    down, right = height - image.shape[-2], width - image.shape[-1]
    if not down and not right:
        return image
    mode = "reflect" if down < image.shape[-2] and right < image.shape[-1] else "replicate"
    return functional.pad(image, (0, right, 0, down), mode=mode)
