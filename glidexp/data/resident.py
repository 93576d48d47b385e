"""Tiles that stay in the device's memory: copied there once as uint8, gathered by index from then on."""

import logging
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import Resident
from glidexp.data.host_memory import free_host_bytes
from glidexp.errors import ConfigError

log = logging.getLogger("glidexp")

SHARE = 0.5
"""of the memory free on a GPU that tiles may take; network, activations and a second set need the rest"""
CHUNK_BYTES = 256 << 20
"""copied at a time"""
GB = 1e9


class Arrays(Protocol):
    """What the loader needs of a store: images (N, H, W, C) and labels (N, H, W) of 0, 1, 255, uint8."""

    @property
    def images(self) -> npt.NDArray[np.uint8]: ...
    @property
    def labels(self) -> npt.NDArray[np.uint8]: ...


def stays(mode: Resident, store: Arrays, tiles: int, device: torch.device, what: str) -> bool:
    """Whether tiles go to the device once and for all, and a line about it.

    Args:
        mode: train.resident; `auto`: on a CUDA GPU with room
        store: where they are from
        tiles: how many of them
        device: where the network is
        what: names the tiles in the line, as `training tiles`

    Raises:
        ConfigError: they are to stay there (`on`) and there is no room
    """
    if not has_room(mode, 0, 1, device):
        return False
    free, nbytes = free_bytes(device), tile_bytes(store) * tiles
    if mode is Resident.on and nbytes > free:
        raise ConfigError(
            f"train.resident=on: {nbytes / GB:.1f} GB of {what} do not fit into {free / GB:.1f} GB free on {device}: "
            "use train.resident=auto or off."
        )
    fits = has_room(mode, nbytes, free, device)
    how = "stay" if fits else f"would take more than {SHARE:.0%} of the memory: they do not stay"
    log.info("%s: %.2f GB, %.1f GB free on %s: they %s there", what, nbytes / GB, free / GB, device, how)
    return fits


def has_room(mode: Resident, nbytes: int, free: int, device: torch.device) -> bool:
    """Whether so many bytes of tiles stay on a device on which `free` bytes are nobody's."""
    if mode is Resident.auto:
        return device.type == "cuda" and nbytes <= SHARE * free
    return mode is Resident.on


def tile_bytes(store: Arrays) -> int:
    """Image and label of one tile."""
    return (store.images.nbytes + store.labels.nbytes) // max(len(store.images), 1)


def free_bytes(device: torch.device) -> int:
    """Memory of the device that this process may still take: what nobody has, and no more than its own share of a GPU,
    where it was given one (`per_process_memory_fraction` in PYTORCH_ALLOC_CONF), which the driver does not know of."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        allowed = int(torch.cuda.get_per_process_memory_fraction(device) * total)
        return max(min(int(free), allowed - torch.cuda.memory_reserved(device)), 0)
    return free_host_bytes()


class ResidentTiles:
    """Rows of a store in the device's memory.

    Args:
        images: (N, k) words of all tiles of the store, on the host
        labels: (N, m) likewise
        rows: (n,) which of them
        device: where to
    """

    def __init__(
        self, images: torch.Tensor, labels: torch.Tensor, rows: npt.NDArray[np.int64], device: torch.device
    ) -> None:
        self.device = device
        self.images, self.labels = (_copied(source, rows, device) for source in (images, labels))

    def index(self, positions: npt.NDArray[np.int64]) -> torch.Tensor:
        """Positions among the rows, put where the tiles are: once an epoch, so that no batch waits for the host."""
        return torch.from_numpy(positions).to(self.device)

    def gather(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and label words (B, k) and (B, m) of a slice of `index`, in memory of their own."""
        return self.images.index_select(0, index), self.labels.index_select(0, index)


def _copied(source: torch.Tensor, rows: npt.NDArray[np.int64], device: torch.device) -> torch.Tensor:
    target = torch.empty((len(rows), source.shape[1]), dtype=source.dtype, device=device)
    step = max(CHUNK_BYTES // max(source.shape[1] * source.element_size(), 1), 1)
    for at in range(0, len(rows), step):
        target[at : at + step] = source[torch.from_numpy(rows[at : at + step])]
    return target
