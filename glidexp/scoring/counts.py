"""Per-tile histograms of the logit: the one thing that is counted on the device; every score comes from it.

256 bins of 1/8 between logit -16 and 16. A width that is a power of two makes the binning exact in float32, bfloat16
and float16 (scaling by 8 rounds nothing), bin 128 starts at logit 0, that is probability 0.5, and +-16 is a probability
within 1.2e-7 of 0 or 1, so that a saturated network keeps its ranking. The two outer bins are open: they take all that
lies beyond.

A threshold is an edge: with threshold bin k a pixel is predicted lake where its bin is k or above. k = 0 predicts lake
everywhere, k = 256 nowhere.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glidexp.errors import ConfigError

if TYPE_CHECKING:
    import torch

BINS = 256
PER_LOGIT = 8
"""bins in one unit of the logit"""
HALF_BIN = BINS // 2
"""the bin whose lower edge is logit 0, probability 0.5"""
EDGES = (np.arange(BINS + 1) - HALF_BIN) / PER_LOGIT
"""257 edges in the logit, -16 to 16; the first and the last stand for minus and plus infinity"""

_FLOAT32_LOGIT = 13.0  # beyond, a step of float32 near 1 is a good part of a bin
_SLOTS = 3 * BINS  # non-lake, lake, not valid
_LANES = 32  # partial histograms a tile on an accelerator


def logit_bins(logits: "torch.Tensor") -> "torch.Tensor":
    """The bin of every pixel, on the device of the logits: with threshold bin k, lake is where it is k or above.

    A NaN logit goes to bin 0, as background that the network is sure of, so that counts always add up to the valid
    pixels; `nan_pixels` is the check that finds it.

    Args:
        logits: (B, 1, H, W), any float type, any finite or infinite value

    Returns:
        (B, H, W) uint8, 0-255
    """
    import torch

    # Floor before the offset is added: 128 - 1e-9 would round up to 128 and call probability < 0.5 a lake.
    scaled = logits.detach()[:, 0].to(torch.float32, copy=True).mul_(PER_LOGIT).floor_()
    bins = scaled.clamp_(-HALF_BIN, HALF_BIN - 1).nan_to_num_(nan=-HALF_BIN).add_(HALF_BIN)
    return bins.to(torch.uint8)


def histograms_of_bins(bins: "torch.Tensor", label: "torch.Tensor") -> "torch.Tensor":
    """Counts the pixels of every tile by label and by bin, on their device, with no host sync.

    Args:
        bins: (B, H, W) uint8, of `logit_bins`
        label: (B, H, W) uint8 on the same device, 0 non-lake, 1 lake; anything else (255) is not valid and not counted

    Returns:
        (B, 2, 256) int32; [b, 0] non-lake and [b, 1] lake pixels of tile b. Its sum is the number of valid pixels.
    """
    import torch

    tiles = bins.shape[0]
    slot = bins.flatten(1).to(torch.int16).add_(label.flatten(1).clamp(max=2).to(torch.int16), alpha=BINS)
    counted = _by_bincount(slot) if slot.device.type == "cpu" else _by_scatter(slot)
    return counted.view(tiles, 3, BINS)[:, :2].to(torch.int32)


def _by_bincount(slot: "torch.Tensor") -> "torch.Tensor":
    """(B, pixels) slots 0-767 -> (B, 768) counts. A tile at a time: its table of 6 kB stays in the cache."""
    import torch

    counted = torch.empty(slot.shape[0], _SLOTS, dtype=torch.int64)
    for row, of_tile in zip(counted, slot, strict=True):
        row.copy_(torch.bincount(of_tile, minlength=_SLOTS))
    return counted


def _by_scatter(slot: "torch.Tensor") -> "torch.Tensor":
    """As `_by_bincount`, which on an accelerator would wait for the host to learn the largest value.

    Most pixels of a trained network fall into one slot, where atomic additions queue up. Neighbouring pixels therefore
    go to different partial histograms, which are summed at the end.
    """
    import torch

    tiles, pixels = slot.shape
    lane = torch.arange(pixels, device=slot.device).remainder_(_LANES).mul_(_SLOTS)
    index = slot.to(torch.int64).add_(lane)
    counted = torch.zeros(tiles, _LANES * _SLOTS, dtype=torch.int32, device=slot.device)
    counted.scatter_add_(1, index, torch.ones((), dtype=torch.int32, device=slot.device).expand_as(index))
    return counted.view(tiles, _LANES, _SLOTS).sum(1, dtype=torch.int32)


def total(hist: NDArray[np.integer]) -> NDArray[np.int64]:
    """(..., 2, 256) -> (2, 256), the sum over tiles."""
    return np.asarray(hist).reshape(-1, 2, BINS).sum(axis=0, dtype=np.int64)


def nan_pixels(logits: "torch.Tensor") -> "torch.Tensor":
    """The number of NaN logits of each tile, on the device, no host sync.

    Args:
        logits: (B, 1, H, W)

    Returns:
        (B,) int64; anything above 0 means that the scores of this network mean nothing
    """
    return logits.detach().isnan().flatten(1).sum(1)


def threshold_of_bin(threshold_bin: int) -> float:
    """The probability at the lower edge of a bin, 0-256; 0 for bin 0 and 1 for bin 256, which are open.

    A float32 probability at or above it is lake exactly where the logit's bin is: many bfloat16 logits lie on an
    edge, and rounding of the sigmoid must not take them out. The value is therefore the float32 next below the edge's
    probability (0.5 itself is exact), but for logits above 13, where float32 no longer tells bins apart.

    Raises:
        ValueError: the bin is outside 0-256
    """
    if not 0 <= threshold_bin <= BINS:
        raise ValueError(f"threshold bin {threshold_bin} is outside 0-{BINS}.")
    if threshold_bin in (0, HALF_BIN, BINS):
        return threshold_bin / BINS
    logit = float(EDGES[threshold_bin])
    probability = 1.0 / (1.0 + math.exp(-logit))
    return float(np.nextafter(np.float32(probability), np.float32(0))) if logit <= _FLOAT32_LOGIT else probability


PROBABILITY = (1.0 / (1.0 + np.exp(-(np.arange(BINS) - HALF_BIN + 0.5) / PER_LOGIT))).astype(np.float32)
"""(256,) probability in the middle of each bin: at or above a threshold exactly where the bin is"""


def bin_of_threshold(threshold: float) -> int:
    """The bin whose lower edge is nearest to a probability, measured in the logit.

    Args:
        threshold: probability, 0-1; 0 predicts lake everywhere, 1 nowhere

    Returns:
        bin 0-256; 128 for 0.5. Anything strictly between 0 and 1 gives 1-255.

    Raises:
        ConfigError: the threshold is not a probability
    """
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(f"threshold={threshold} is not a probability: give a value between 0 and 1, such as 0.5.")
    if threshold in (0.0, 1.0):
        return BINS if threshold else 0
    logit = math.log(threshold) - math.log1p(-threshold)
    return min(max(round(logit * PER_LOGIT) + HALF_BIN, 1), BINS - 1)
