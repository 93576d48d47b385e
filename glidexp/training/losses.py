"""Losses on valid pixels, in float32, with a live gradient on lake-free batches.

Shapes: logits, mask and valid are (B, 1, H, W); mask is 0/1 lake, valid 0/1. Every loss is a scalar.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from glidexp.config import LossConfig

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

DICE_SMOOTH = 1e-3
"""Smoothing of Dice as a share of the valid pixels. It keeps the gradient of a lake-free batch alive."""


def bce(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Mean binary cross-entropy over valid pixels; 0 with a zero gradient where no pixel is valid."""
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp(min=1)


def dice(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
    """Soft Dice loss of the lake class, pooled over the batch: 1 - (2 |PT| + s) / (|P| + |T| + s), s = 0.001 |valid|.

    Without a lake in the batch this is |P| / (|P| + s): it falls as false alarms fall, whereas smp's Dice loss is
    constantly 0 there.

    Source: Milletari et al. 2016, V-Net (arXiv 1606.04797), with smoothing in proportion to the ground.
    """
    probability = torch.sigmoid(logits) * valid
    smooth = DICE_SMOOTH * valid.sum().clamp(min=1)
    overlap = (probability * mask).sum()
    return 1 - (2 * overlap + smooth) / (probability.sum() + (mask * valid).sum() + smooth)


def focal(logits: Tensor, mask: Tensor, valid: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean focal loss over valid pixels, without class weights: (1 - p_true)^gamma * BCE.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection (arXiv 1708.02002).
    """
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    p_wrong = -torch.expm1(-loss)  # 1 - exp(-loss), exact for small losses
    return (p_wrong.clamp(min=0) ** gamma * loss * valid).sum() / valid.sum().clamp(min=1)


def build_loss(cfg: LossConfig) -> Loss:
    """The weighted sum of the terms whose weight is above 0."""
    terms: list[tuple[float, Loss]] = [
        (cfg.bce, bce),
        (cfg.dice, dice),
        (cfg.focal, lambda logits, mask, valid: focal(logits, mask, valid, cfg.focal_gamma)),
    ]
    used = [(weight, term) for weight, term in terms if weight > 0]

    def loss(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        logits = logits.float()
        return torch.stack([weight * term(logits, mask, valid) for weight, term in used]).sum()

    return loss
