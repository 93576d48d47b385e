"""A picture of what augmentation does to tiles, for the eye."""

import numpy as np
import torch
from numpy.typing import NDArray

from glidexp.training.augmentation.augment import Augment

SHOWN = 16
SIDE = 4
GAP_PX = 4
LARGEST_PX = 256
"""larger tiles are thinned to this side"""
OUTLINE = (255, 64, 32)


def augmented_grid(
    augment: Augment, image: torch.Tensor, label: torch.Tensor, rows: torch.Tensor, epoch: int
) -> NDArray[np.uint8]:
    """Sixteen augmented tiles, four by four, as the network sees them; lakes outlined, what is not valid darkened.

    With fewer than sixteen tiles each is shown again as later epochs would draw it.

    Args:
        augment: of the run
        image: uint8 (B, C, H, W), channels_last; the first three channels are shown, or the first alone as grey
        label: uint8 (B, H, W)
        rows: int64 (B,)
        epoch: of the first sixteen

    Returns:
        uint8 (4 * h + gaps, 4 * w + gaps, 3)
    """
    pictures: list[NDArray[np.uint8]] = []
    while len(pictures) < SHOWN:
        count = min(len(image), SHOWN - len(pictures))
        prepared = augment.of_pixels(image[:count], label[:count], rows[:count], epoch)
        values = prepared.image.float().permute(0, 2, 3, 1).cpu().numpy() * augment.std + augment.mean
        masks, valids = (part[:, 0].bool().cpu().numpy() for part in (prepared.mask, prepared.valid))
        pictures += [_show(*parts) for parts in zip(values, masks, valids, strict=True)]
        epoch += 1
    height, width = pictures[0].shape[:2]
    grid = np.full((SIDE * (height + GAP_PX) - GAP_PX, SIDE * (width + GAP_PX) - GAP_PX, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (i // SIDE) * (height + GAP_PX), (i % SIDE) * (width + GAP_PX)
        grid[top : top + height, left : left + width] = picture
    return grid


def _show(values: NDArray[np.float64], mask: NDArray[np.bool_], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """One tile (H, W, C) of 0-255 as RGB."""
    step = -(-max(mask.shape) // LARGEST_PX)
    values, mask, valid = values[::step, ::step], mask[::step, ::step], valid[::step, ::step]
    rgb = values[..., :3] if values.shape[-1] >= 3 else np.repeat(values[..., :1], 3, -1)
    picture = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    picture[~valid] //= 2
    around = np.pad(mask, 1, mode="edge")
    inside = mask & around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    picture[mask & ~inside] = OUTLINE
    return picture
