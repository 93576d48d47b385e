"""Some samples of a batch, by their positions, which are known on the CPU: taking, writing back, mirroring, turning."""

import numpy as np
import torch
from numpy.typing import NDArray


def take(batch: torch.Tensor, index: NDArray[np.intp]) -> torch.Tensor:
    """Some samples of a batch: a view where they lie side by side, else a copy."""
    if bool((np.diff(index) == 1).all()):
        return batch.narrow(0, int(index[0]), len(index))
    return batch.index_select(0, send(index, batch.device))


def put(batch: torch.Tensor, index: NDArray[np.intp], values: torch.Tensor) -> None:
    """Writes samples back, the reverse of `take`. One by one on the CPU, where `index_copy_` is four times slower."""
    if batch.device.type == "cpu" or len(index) == 1:
        for i, value in zip(index.tolist(), values.unbind(), strict=True):
            batch[i].copy_(value)
    else:
        batch.index_copy_(0, send(index, batch.device), values.to(batch.dtype))


def send(array: NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """The array on the device, without waiting for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def turn(batch: torch.Tensor, codes: NDArray[np.int8]) -> torch.Tensor:
    """Mirrors and turns each sample, tiles of one kind together.

    Args:
        batch: (B, H, W, ...)
        codes: (B,) 4 * transpose + 2 * mirror up-down + mirror left-right, in that order

    Returns:
        a new tensor, or the batch itself when there is nothing to do
    """
    if not codes.any():
        return batch
    out = torch.empty_like(batch)
    for code in np.unique(codes).tolist():
        index = np.flatnonzero(codes == code)
        tiles = take(batch, index)
        tiles = tiles.transpose(1, 2) if code & 4 else tiles
        axes = [axis for axis, bit in ((1, 2), (2, 1)) if code & bit]
        put(out, index, tiles.flip(axes) if axes else tiles)
    return out
