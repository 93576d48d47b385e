"""Losses on valid pixels, in float32, with a live gradient on lake-free batches.

Shapes: logits, mask and valid are (B, 1, H, W); mask is 0/1 lake, valid 0/1. Every loss is a scalar. `cross_entropy`
alone is of several classes.

A batch may be shared by several processes, each with a part of it. A loss is then a function of sums over the whole
batch: it hands its own sums to `total`, which adds those of the other processes, and does the rest with what comes
back. So it has one value, that of the whole batch, on every process.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from glidexp.config import LossConfig
from glidexp.training.distance import distance_px

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Total = Callable[[Tensor], Tensor]
"""adds a vector (k,) of sums to those of the processes that share the batch, with gradient; leaves it alone on one"""


def own(sums: Tensor) -> Tensor:
    """`Total` of a process that has the whole batch."""
    return sums


SMOOTH = 1e-3
"""Smoothing of region losses as a share of the valid pixels: as though so many more pixels were lake and found. It
keeps the gradient of a lake-free batch alive."""

LOVASZ_BINS = 8192
"""errors closer than a bin's width count as equal in the order that Lovasz needs"""

STRAIGHT_BELOW = 1e-6
"""loss below which the root of focal Tversky is a straight line: its slope would be infinite at a perfect prediction"""


def bce(logits: Tensor, mask: Tensor, valid: Tensor, total: Total = own) -> Tensor:
    """Mean binary cross-entropy over valid pixels; 0 with a zero gradient where no pixel is valid."""
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return _mean(loss, valid, total)


def cross_entropy(logits: Tensor, mask: Tensor, valid: Tensor, total: Total = own) -> Tensor:
    """Mean cross-entropy of K classes over valid pixels; 0 with a zero gradient where no pixel is valid.

    Args:
        logits: (B, K, H, W)
        mask: (B, 1, H, W) float32, the class 0 to K - 1; any class where not valid
        valid: (B, 1, H, W)
        total: see `Total`
    """
    loss = F.cross_entropy(logits, mask[:, 0].long(), reduction="none")
    return _mean(loss[:, None], valid, total)


def dice(logits: Tensor, mask: Tensor, valid: Tensor, total: Total = own) -> Tensor:
    """Soft Dice loss of the lake class, pooled over the batch: 1 - (2 |PT| + s) / (|P| + |T| + s), s = 0.001 |valid|.

    Without a lake in the batch this is |P| / (|P| + s): it falls as false alarms fall, whereas smp's Dice loss is
    constantly 0 there.

    Source: Milletari et al. 2016, V-Net (arXiv 1606.04797), with smoothing in proportion to the ground.
    """
    overlap, predicted, lake, ground = _region(logits, mask, valid, total)
    smooth = SMOOTH * ground.clamp(min=1)
    return 1 - (2 * overlap + smooth) / (predicted + lake + smooth)


def focal(logits: Tensor, mask: Tensor, valid: Tensor, gamma: float = 2.0, total: Total = own) -> Tensor:
    """Mean focal loss over valid pixels, without class weights: (1 - p_true)^gamma * BCE.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection (arXiv 1708.02002).
    """
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    p_wrong = -torch.expm1(-loss)  # 1 - exp(-loss), exact for small losses
    return _mean(p_wrong.clamp(min=0) ** gamma * loss, valid, total)


def tversky(
    logits: Tensor, mask: Tensor, valid: Tensor, alpha: float = 0.3, beta: float = 0.7, total: Total = own
) -> Tensor:
    """Tversky loss of the lake class, pooled over the batch: 1 - (TP + s) / (TP + alpha FP + beta FN + s).

    TP, FP and FN are sums of probabilities, s = 0.0005 |valid|: with alpha = beta = 0.5 this is `dice`.

    Args:
        logits, mask, valid: (B, 1, H, W)
        alpha: weight of false alarms, above 0; at 0 a lake-free batch would have no gradient
        beta: weight of missed lake, above 0
        total: see `Total`

    Source: Salehi et al. 2017, Tversky loss function (arXiv 1706.05721).
    """
    overlap, predicted, lake, ground = _region(logits, mask, valid, total)
    off = alpha * (predicted - overlap) + beta * (lake - overlap)
    return off / (overlap + off + SMOOTH / 2 * ground.clamp(min=1))


def focal_tversky(
    logits: Tensor,
    mask: Tensor,
    valid: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    total: Total = own,
) -> Tensor:
    """Tversky loss to the power of 1 / gamma: with gamma above 1 the gradient grows as the prediction gets better.

    Source: Abraham and Khan 2019, A novel focal Tversky loss function (arXiv 1810.07842); gamma is theirs, 1 to 3.
    """
    loss = tversky(logits, mask, valid, alpha, beta, total)
    return loss * loss.clamp(min=STRAIGHT_BELOW) ** (1 / gamma - 1)


def lovasz(logits: Tensor, mask: Tensor, valid: Tensor, total: Total = own) -> Tensor:
    """Lovasz extension of the Jaccard loss of the lake class, pooled over the batch, on errors |p - mask|.

    For probabilities of 0 and 1 it is 1 - IoU, with s = 0.001 |valid| more pixels that are lake and found; without them
    a lake-free batch would move its worst pixel only.

    Source: Berman et al. 2018, The Lovasz-softmax loss (arXiv 1705.08790). Ours differs: errors are put in order by a
    histogram of 8192 bins instead of by sorting, 2 % of its time on a CPU. Equal errors share what their bin adds, so
    the value is below the sorted one by less than a bin's width. Histograms add up over processes, sorted lists do not.
    """
    error = _error(logits, mask)
    with torch.no_grad():
        place = (error * LOVASZ_BINS).clamp_(max=LOVASZ_BINS - 1).to(torch.int32)
        slot = (2 * (LOVASZ_BINS - 1 - place) + (mask > 0.5)).where(valid > 0, 2 * LOVASZ_BINS).flatten()
        counts = total(_counts(slot, 2 * LOVASZ_BINS + 1)[: 2 * LOVASZ_BINS].float()).round().long()
        weight = _lovasz_weights(counts.view(-1, 2)).flatten()
        weight = torch.cat([weight, weight.new_zeros(1)])[slot].view_as(error)
    return total((error * weight).sum()[None])[0]


def _lovasz_weights(counts: Tensor) -> Tensor:
    """What a pixel adds to the Jaccard loss when the pixels with larger errors are wrong already.

    With fp and fn wrong so far, T lake pixels and D = T + s + fp, the loss is (fp + fn) / D. A bin with b background
    and k lake pixels adds k / D and then b (T + s - fn - k) / (D (D + b)) when its lake comes first, and likewise the
    other way round. Both orders are right for equal errors; the mean of them is taken, divided among the pixels.

    Args:
        counts: (bins, 2) int64, largest errors first, background then lake

    Returns:
        (bins, 2) float32
    """
    background, lake = counts.unbind(1)
    fp, fn = background.cumsum(0) - background, lake.cumsum(0) - lake
    smooth = SMOOTH * counts.sum().clamp(min=1).float()
    before = lake.sum() + fp + smooth
    after = before + background
    left = (lake.sum() - fn).float() + smooth
    of_lake = (1 / before + 1 / after) / 2
    of_background = (left - lake / 2) / (before * after)
    return torch.stack([of_background, of_lake], dim=1)


def _counts(slot: Tensor, slots: int) -> Tensor:
    """How often each slot occurs, (slots,) integers. `bincount` would make a GPU wait for the host."""
    if slot.device.type == "cpu":
        return torch.bincount(slot, minlength=slots)
    ones = torch.ones((), dtype=torch.int32, device=slot.device).expand_as(slot)
    return torch.zeros(slots, dtype=torch.int32, device=slot.device).scatter_add_(0, slot.long(), ones)


def boundary(logits: Tensor, mask: Tensor, valid: Tensor, reach_px: int = 16, total: Total = own) -> Tensor:
    """Mean over valid pixels of |p - mask| times the distance to the shoreline, in units of `reach_px` and at most 1.

    The shoreline runs between pixels, so that the nearest are 0.5 px off. Without a lake, or without anything else,
    every pixel is as far as can be.

    Args:
        logits, mask, valid: (B, 1, H, W); pixels that are not valid are on neither side of a shoreline
        reach_px: distance from which on all pixels count alike, 1 to 99
        total: see `Total`

    Source: Kervadec et al. 2019, Boundary loss (arXiv 1812.07032): mean of p times the signed distance. Ours has the
    same gradient but for half a pixel of distance; it is above theirs by what makes a perfect prediction 0, and its
    distances end at `reach_px`, where theirs give no gradient to a tile without lake.
    """
    with torch.no_grad():
        lake = mask > 0.5
        known = valid > 0
        to_lake = distance_px(lake & known, reach_px + 1)
        to_ground = distance_px(~lake & known, reach_px + 1)
        distance = (torch.where(lake, to_ground, to_lake) - 0.5).clamp_(max=reach_px) / reach_px
    return _mean(_error(logits, mask) * distance, valid, total)


def _error(logits: Tensor, mask: Tensor) -> Tensor:
    """|p - mask|, exact near 0 on both sides."""
    return torch.sigmoid(logits * (1 - 2 * mask))


def _region(logits: Tensor, mask: Tensor, valid: Tensor, total: Total) -> tuple[Tensor, ...]:
    """|PT|, |P|, |T| and the number of valid pixels, over the whole batch."""
    probability = torch.sigmoid(logits) * valid
    sums = [(probability * mask).sum(), probability.sum(), (mask * valid).sum(), valid.sum()]
    return total(torch.stack(sums)).unbind()


def _mean(loss: Tensor, valid: Tensor, total: Total) -> Tensor:
    """Mean over the valid pixels of the whole batch; 0 with a zero gradient where there is none."""
    wrong, ground = total(torch.stack([(loss * valid).sum(), valid.sum()])).unbind()
    return wrong / ground.clamp(min=1)


def build_loss(cfg: LossConfig, total: Total = own) -> Loss:
    """The weighted sum of the terms whose weight is above 0.

    Args:
        cfg: weights
        total: see `Total`; of the ranks that share a batch (`training.processes.ranks`)
    """
    alpha, beta, gamma = cfg.tversky_alpha, cfg.tversky_beta, cfg.focal_tversky_gamma
    terms: list[tuple[float, Callable[..., Tensor]]] = [
        (cfg.bce, bce),
        (cfg.dice, dice),
        (cfg.focal, partial(focal, gamma=cfg.focal_gamma)),
        (cfg.tversky, partial(tversky, alpha=alpha, beta=beta)),
        (cfg.focal_tversky, partial(focal_tversky, alpha=alpha, beta=beta, gamma=gamma)),
        (cfg.lovasz, lovasz),
        (cfg.boundary, partial(boundary, reach_px=cfg.boundary_px)),
        (cfg.cross_entropy, cross_entropy),
    ]
    used = [(weight, partial(term, total=total)) for weight, term in terms if weight > 0]

    def loss(logits: Tensor, mask: Tensor, valid: Tensor) -> Tensor:
        logits = logits.float()
        with torch.autocast(logits.device.type, enabled=False):  # sums over a batch need float32
            return torch.stack([weight * term(logits, mask, valid) for weight, term in used]).sum()

    return loss
