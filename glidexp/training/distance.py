"""Distance to the nearest pixel of a kind, exact up to a few pixels, on the device of the mask. Layout (B, 1, H, W)."""

import torch
from torch import Tensor


def distance_px(seed: Tensor, reach: int) -> Tensor:
    """Euclidean distance to the nearest seed of the same tile, where it is below `reach`; `reach` elsewhere.

    A seed has distance 0, its four neighbours 1. First along rows, in steps of 1, 2, 4 ..., then the least sum of
    squares along columns: no step depends on the data, so a GPU never waits for the host.

    Args:
        seed: (B, 1, H, W) bool
        reach: pixels, 1 to 100: squares of distances are kept in int16

    Returns:
        (B, 1, H, W) float32, 0 to reach

    Source of the two passes: Felzenszwalb and Huttenlocher 2012, Distance transforms of sampled functions; theirs
    takes lower envelopes, which reach any distance but go pixel by pixel.
    """
    along = torch.where(seed, 0, reach).to(torch.int16)
    height, width = seed.shape[-2:]
    step = 1
    while step < min(2 * reach, width):
        before = along.clone()
        _lower(along[..., step:], before[..., :-step], step)
        _lower(along[..., :-step], before[..., step:], step)
        step *= 2
    square = along * along
    least = square.clone()
    for rows in range(1, min(reach, height)):
        _lower(least[..., rows:, :], square[..., :-rows, :], rows * rows)
        _lower(least[..., :-rows, :], square[..., rows:, :], rows * rows)
    return least.float().sqrt_().clamp_(max=reach)


def _lower(here: Tensor, there: Tensor, more: int) -> None:
    """Replaces `here` by `there` + more wherever that is less."""
    torch.minimum(here, there + more, out=here)
