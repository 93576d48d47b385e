"""What is done to a batch of tiles between the loader and the network, on the device: (B, C, H, W) throughout.

`build_augment` turns the `augmentation` settings into a callable. With every probability at 0 it is the plain
normalisation, which is what validation and test use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from glidexp.config import AugmentationConfig


@dataclass(slots=True)
class Prepared:
    """A batch as the network and the loss take it."""

    image: torch.Tensor
    """(B, C, H, W) normalised, channels_last"""
    mask: torch.Tensor
    """(B, 1, H, W) float32, 1 lake and 0 else; 0 where not valid"""
    valid: torch.Tensor
    """(B, 1, H, W) float32, 1 where the label counts"""


class Augment:
    """Normalises and augments a batch; made by `build_augment`."""

    def __init__(
        self, cfg: AugmentationConfig, mean: Sequence[float], std: Sequence[float], seed: int, dtype: torch.dtype
    ):
        self.cfg, self.seed, self.dtype = cfg, seed, dtype
        scale = 1.0 / np.asarray(std, np.float64)
        self._affine = np.stack([scale, -np.asarray(mean, np.float64) * scale]).astype(np.float32)
        self._rows: dict[tuple[torch.device, int], torch.Tensor] = {}

    def _row_constants(self, device: torch.device, width: int) -> torch.Tensor:
        """Scale and shift repeated along a row of the image: (2, W*C)."""
        key = (device, width)
        if key not in self._rows:
            self._rows[key] = torch.from_numpy(np.tile(self._affine, (1, width))).to(device)
        return self._rows[key]

    def __call__(self, image: torch.Tensor, label: torch.Tensor, rows: torch.Tensor, epoch: int) -> Prepared:
        batch, channels, height, width = image.shape
        hwc = image.permute(0, 2, 3, 1)
        scale, shift = self._row_constants(image.device, width)
        flat = torch.empty(batch, height, width * channels, device=image.device)
        turned = torch.empty_like(label)
        for i, row in enumerate(rows.tolist()):
            generator = np.random.Generator(np.random.Philox(key=[self.seed, 0], counter=[0, 0, epoch, row]))
            draws = generator.random(3)
            dims = [d for d, on in zip((0, 1), draws[:2] < 0.5, strict=True) if on and self.cfg.flip]
            turns = int(draws[2] * 4) if self.cfg.rot90 else 0
            turns = turns if height == width else 2 * (turns % 2)
            flat[i].copy_(torch.rot90(hwc[i].flip(dims), turns).reshape(height, width * channels))
            turned[i] = torch.rot90(label[i].flip(dims), turns)
        torch.addcmul(shift, flat, scale, out=flat)
        out = flat.view(batch, height, width, channels).permute(0, 3, 1, 2).to(self.dtype)
        lake = turned.unsqueeze(1)
        return Prepared(out, (lake == 1).float(), (lake != 255).float())


def build_augment(
    cfg: AugmentationConfig,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> Augment:
    """Makes the augmentation of a run.

    Args:
        cfg: what to do; all probabilities 0 gives the plain normalisation
        mean: of each channel, 0-255
        std: of each channel, 0-255
        seed: of the run
        dtype: of the image that comes out
    """
    return Augment(cfg, mean, std, seed, dtype)
