"""Training tiles in the look of others: their low frequencies get the amplitudes of a tile of another place.

Phases stay, which hold where things are, so labels stay right. Source: Yang and Soatto 2020, FDA: Fourier domain
adaptation for semantic segmentation, CVPR, arXiv 2004.05498. Only the few frequencies that are exchanged are computed,
as products with waves along rows and columns, which is the same as a Fourier transform of the tile and its inverse.
"""

import math

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config import StyleConfig
from glidexp.data.steps import shown_steps
from glidexp.data.store import TileStore
from glidexp.data.subset import lenders_of
from glidexp.training.augmentation.draws import nth, raw_draws, uniforms
from glidexp.training.augmentation.indexing import send

MOST = 1000
"""tiles that lend their look: of more, so many are drawn with a fixed seed"""
WHOLE = 0.99
"""valid share from which a tile is taken before others: what is void has a look, too"""
APART = 0x57E1
"""keeps the draws apart from those of the augmentation, which are of the same seed, epoch and tile"""
AT_ONCE = 16
"""tiles whose amplitudes are computed together"""
Rows = npt.NDArray[np.int64]
Waves = tuple[torch.Tensor, torch.Tensor]


class Style:
    """Puts the look of other tiles on some of a batch.

    Args:
        amplitudes: float32 (N, C, 2b + 1, b + 1) of the tiles that lend it, see `low_frequencies`
        p: probability per tile
        seed: of the run
    """

    def __init__(self, amplitudes: torch.Tensor, *, p: float, seed: int) -> None:
        self.amplitudes, self.p, self.seed = amplitudes, p, seed ^ APART
        self._waves: dict[tuple[torch.device, int, int], tuple[Waves, Waves]] = {}

    def places(self, rows: Rows, epoch: int, again: Rows | None = None) -> Rows:
        """(n,) which of the lending tiles each tile takes its look from, -1 for none: by seed, epoch and row alone."""
        u = uniforms(raw_draws(self.seed, epoch if again is None else nth(epoch, again), rows, 2))
        return np.where(u[:, 0] < self.p, (u[:, 1] * len(self.amplitudes)).astype(np.int64), -1)

    def put_on(self, tiles: torch.Tensor, places: Rows) -> None:
        """Changes tiles in place, their first bands.

        Args:
            tiles: float32 (n, C or more, H, W), 0-255
            places: (n,) of `places`
        """
        at = np.flatnonzero(places >= 0)
        if not len(at):
            return
        self.amplitudes = self.amplitudes.to(tiles.device)
        bands, b = self.amplitudes.shape[1], self.amplitudes.shape[3] - 1
        index = send(at, tiles.device)
        own = tiles[index, :bands]
        key = (tiles.device, *tiles.shape[-2:])
        if key not in self._waves:
            self._waves[key] = waves(tiles.shape[-2], b, tiles.device), waves(tiles.shape[-1], b, tiles.device)
        down, along = self._waves[key]
        real, imaginary = low_frequencies(own, down, along)
        amplitude = torch.hypot(real, imaginary)
        wanted = self.amplitudes[send(places[at], tiles.device)]
        # where there is nothing to scale, a wave of phase 0
        by = torch.where(amplitude > 0, wanted / amplitude.clamp_min(1e-12) - 1, torch.zeros_like(wanted))
        added = torch.where(amplitude > 0, real * by, wanted)
        own = own + waved(added, imaginary * by, down, along)
        tiles[index, :bands] = own.clamp_(0, 255)


def waves(side: int, b: int, device: torch.device) -> Waves:
    """Cosines and sines (2b + 1, side) of -b to b waves along a side."""
    angle = np.arange(-b, b + 1)[:, None] * np.arange(side) * (2 * math.pi / side)
    cosine, sine = (send(wave.astype(np.float32), device) for wave in (np.cos(angle), np.sin(angle)))
    return cosine, sine


def low_frequencies(tiles: torch.Tensor, down: Waves, along: Waves) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and imaginary part (n, C, 2b + 1, b + 1) of the Fourier transform of tiles (n, C, H, W), for -b to b waves
    down and 0 to b along; those along the other way are their conjugates."""
    b = (len(down[0]) - 1) // 2
    cosine, sine = (tiles @ wave[b:].T for wave in along)
    return down[0] @ cosine - down[1] @ sine, -(down[1] @ cosine + down[0] @ sine)


def waved(real: torch.Tensor, imaginary: torch.Tensor, down: Waves, along: Waves) -> torch.Tensor:
    """The tiles (n, C, H, W) that have these frequencies and their conjugates, and no others."""
    b = real.shape[-1] - 1
    cosine = down[0].T @ real - down[1].T @ imaginary
    sine = -(down[1].T @ real + down[0].T @ imaginary)
    cosine[..., 1:] *= 2
    sine[..., 1:] *= 2
    return (cosine @ along[0][b:] + sine @ along[1][b:]) / (down[0].shape[1] * along[0].shape[1])


def style_of(cfg: StyleConfig, tiles: TileStore, *, seed: int, silent: bool = False) -> Style | None:
    """The look of the tiles of a store that the settings name; None without any.

    Args:
        cfg: whose, how often, how much
        tiles: the store; bands of a DEM lend nothing
        seed: of the run
        silent: show no bar

    Raises:
        ConfigError: a region or sensor that the data does not have, or without a training tile
    """
    if not cfg.on:
        return None
    rows = lenders(tiles, lenders_of(tiles, cfg))
    bands, side = tiles.channels - len(tiles.terrain), tiles.tile_px
    b = math.floor(cfg.beta * side)
    wave = waves(side, b, torch.device("cpu"))
    found = []
    with shown_steps(len(rows), "tiles", not silent, what="look of tiles", late=True) as step:
        for at in range(0, len(rows), AT_ONCE):
            some = rows[at : at + AT_ONCE]
            images = np.stack([tiles.images[row] for row in some])[..., :bands]
            own = torch.from_numpy(images).permute(0, 3, 1, 2).float()
            found.append(torch.hypot(*low_frequencies(own, wave, wave)))
            step("", len(some))
    return Style(torch.cat(found), p=cfg.p, seed=seed)


def lenders(tiles: TileStore, rows: Rows) -> Rows:
    """Of rows those that lend their look, ascending: whole tiles where there are any, `MOST` at most."""
    whole = rows[tiles.index["valid_fraction"].to_numpy()[rows] >= WHOLE]
    rows = whole if len(whole) else rows
    return rows if len(rows) <= MOST else np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
