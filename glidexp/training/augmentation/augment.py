"""What is done to a batch of tiles between the loader and the network, on their device: (B, C, H, W) throughout.

`Augment` turns the `augmentation` settings into a callable. With every probability at 0 it is the plain
normalisation, which is what validation and test use. The operators and their distributions are Kornia's; they are
composed, because Kornia computes each on the whole batch and then blends:

1. flips and quarter turns by indexing, on uint8;
2. normalisation of the whole batch, one multiply-add;
3. for the tiles that drew more, and only these: the look of another tile, one warp (the affine map of `RandomAffine`,
   one grid for image and label), one matrix for colour, gain, haze and normalisation, then sampling distance, blur and
   noise.

What a warp brings in from outside the tile is the tile's reflection, so that the network sees no invented edge, and is
not valid. Labels are warped to the nearest pixel; sampling distance and blur leave them as they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from glidexp.config import AugmentationConfig
from glidexp.data.store import INVALID, LAKE
from glidexp.training.augmentation.draws import Drawer, gsd_factors
from glidexp.training.augmentation.indexing import put, send, take, turn
from glidexp.training.augmentation.style import Style
from glidexp.training.augmentation.telling import Telling

MIN_SIGMA_PX = 1e-3
"""Kornia's blur takes no width of 0"""
CPU_CHUNK = 8
"""tiles worked on together on the CPU, a bound on memory; fewer fit its caches better but cost more calls"""


@dataclass(slots=True)
class Prepared:
    """A batch as the network and the loss take it."""

    image: torch.Tensor
    """(B, C, H, W) normalised, channels_last; behind the bands what is told of each tile"""
    mask: torch.Tensor
    """(B, 1, H, W) float32, 1 lake and 0 else, or the class; 0 where not valid"""
    valid: torch.Tensor
    """(B, 1, H, W) float32, 1 where the label counts"""


class Augment:
    """Normalises and augments batches: a callable (image, label, rows, epoch) -> `Prepared`.

    Args:
        cfg: what to do; all probabilities 0 gives the plain normalisation
        mean: of each channel, 0-255
        std: of each channel, 0-255, above 0
        seed: of the run
        dtype: of the image that comes out
        classes: labels are of several classes, and the mask is to hold them
        telling: puts behind the bands what is known of each tile, where the network is told
        terrain: how many of the last channels come of a DEM: colour, gain and haze leave them alone
        style: puts the look of other tiles on some
    """

    def __init__(
        self,
        cfg: AugmentationConfig,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        dtype: torch.dtype = torch.float32,
        classes: bool = False,
        telling: Telling | None = None,
        terrain: int = 0,
        style: Style | None = None,
    ) -> None:
        self.cfg, self.dtype, self.telling, self.style = cfg, dtype, telling, style
        self._targets = _class_targets if classes else _targets
        self.mean, self.std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        scale, shift = 1 / self.std, -self.mean / self.std
        self._normalise = np.stack([scale, shift]).astype(np.float32)
        self._limits = np.stack([shift, 255 * scale + shift], 1).astype(np.float32).tolist()
        self._draw = Drawer(cfg, seed, scale.tolist(), shift.tolist(), terrain)
        self._constants: dict[tuple[str, torch.device, int], torch.Tensor] = {}
        self._active = cfg.flip or cfg.rot90 or any((cfg.affine_p, cfg.color_p, cfg.gain_p, cfg.haze_p))
        self._active |= any((cfg.gsd_p, cfg.blur_p, cfg.noise_p)) or style is not None

    def __call__(
        self,
        image: torch.Tensor,
        label: torch.Tensor,
        rows: torch.Tensor,
        epoch: int,
        again: torch.Tensor | None = None,
    ) -> Prepared:
        """`of_pixels`, and what else the network is told of each tile."""
        ready = self.of_pixels(image, label, rows, epoch, again)
        if self.telling is not None:
            ready.image = self.telling(ready.image, rows, epoch, again)
        return ready

    def of_pixels(
        self,
        image: torch.Tensor,
        label: torch.Tensor,
        rows: torch.Tensor,
        epoch: int,
        again: torch.Tensor | None = None,
    ) -> Prepared:
        """Prepares a batch. The inputs are left as they are.

        Args:
            image: uint8 (B, C, H, W), channels_last
            label: uint8 (B, H, W), 0 background, 1 lake (or classes), 255 not valid
            rows: int64 (B,) rows of the tile store, on the CPU; with seed and epoch they fix what is drawn
            epoch: from 0
            again: int64 (B,) how often the epoch gave each of them before, which is drawn anew each time; never when
                not given
        """
        given = label
        _, channels, height, width = image.shape
        if channels != len(self.mean):
            raise ValueError(f"the image has {channels} channels, mean and std have {len(self.mean)}")
        pixels = image.permute(0, 2, 3, 1)
        if not self._active:
            return Prepared(self._plain(pixels), *self._targets(label))
        number, times = rows.numpy(), None if again is None else again.numpy()
        drawn = self._draw(number, epoch, height, width, times)
        styled = self.style.places(number, epoch, times) if self.style else np.full(len(number), -1)
        pixels, label = turn(pixels, drawn["d4"]), turn(label, drawn["d4"])
        warp = drawn["warp"]
        more = (
            warp | drawn["color"] | (drawn["gsd"] >= 0) | (drawn["sigma"] > 0) | (drawn["noise"] >= 0) | (styled >= 0)
        )
        if not more.any():
            return Prepared(self._plain(pixels), *self._targets(label))
        out = torch.empty(pixels.shape, dtype=self.dtype, device=pixels.device)
        plain = np.flatnonzero(~more)
        if len(plain):
            put(out, plain, self._plain(take(pixels, plain)).permute(0, 2, 3, 1))
        if warp.any() and label is given:
            label = label.clone()
        # The warped ones first: they are then a slice of what is worked on.
        order = np.concatenate([np.flatnonzero(warp), np.flatnonzero(more & ~warp)])
        step = CPU_CHUNK if image.device.type == "cpu" else len(order)
        for at in range(0, len(order), step):
            index = order[at : at + step]
            put(out, index, self._work(pixels, label, index, drawn[index], styled[index]).permute(0, 2, 3, 1))
        return Prepared(out.permute(0, 3, 1, 2), *self._targets(label))

    def _constant(self, name: str, device: torch.device, size: int) -> torch.Tensor:
        """Small tensors that stay on the device: `row` (2, W*C) scale and shift along an image row of W = size pixels,
        `x` (W,) their centres in [-1, 1], `scale` (C, 1, 1)."""
        key = (name, device, size)
        if key not in self._constants:
            if name == "row":
                value = np.tile(self._normalise, (1, size))
            elif name == "scale":
                value = self._normalise[0][:, None, None]
            else:
                value = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
            self._constants[key] = send(value, device)
        return self._constants[key]

    def _plain(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalises (B, H, W, C) uint8 to (B, C, H, W). Rows of W*C are what one multiply-add is fastest on."""
        batch, height, width, channels = pixels.shape
        scale, shift = self._constant("row", pixels.device, width)
        flat = pixels.reshape(batch, height, width * channels).float()
        torch.addcmul(shift, flat, scale, out=flat)
        return flat.to(self.dtype).view(batch, height, width, channels).permute(0, 3, 1, 2)

    def _work(
        self,
        pixels: torch.Tensor,
        label: torch.Tensor,
        index: NDArray[np.intp],
        drawn: NDArray[np.void],
        styled: NDArray[np.int64],
    ) -> torch.Tensor:
        """What a tile may draw beyond flips and turns, for the tiles `index`; the label is changed in place.

        Args:
            pixels: uint8 (B, H, W, C)
            label: uint8 (B, H, W)
            index: (n,) positions in the batch, warped ones first
            drawn: (n,) their records
            styled: (n,) whose look they take on, -1 for none

        Returns:
            (n, C, H, W) normalised
        """
        tiles = take(pixels, index).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        if self.style is not None:
            self.style.put_on(tiles, styled)
        warped = int(drawn["warp"].sum())
        if warped:
            grid = self._grid(drawn["theta"][:warped], tiles)
            moved = F.grid_sample(tiles[:warped], grid, "bilinear", "reflection", align_corners=False)
            tiles = moved if warped == len(index) else torch.cat([moved, tiles[warped:]])
            _warp_label(label, index[:warped], grid)
        tiles = self._recolor(tiles, drawn)
        self._resample(tiles, drawn["gsd"])
        at = np.flatnonzero(drawn["sigma"] > 0)
        if len(at):
            put(tiles, at, _blur(take(tiles, at), drawn["sigma"][at], self.cfg.blur_sigma_px[1]))
        for i in np.flatnonzero(drawn["noise"] >= 0).tolist():
            # A generator a tile: its noise does not depend on who else is in the batch. CUDA's bits are not the CPU's.
            generator = torch.Generator(tiles.device).manual_seed(int(drawn["noise"][i]))
            noise = torch.randn(tiles.shape[1:], generator=generator, device=tiles.device)
            tiles[i].addcmul_(noise, self._constant("scale", tiles.device, 0), value=self.cfg.noise_std)
        return tiles

    def _grid(self, theta: NDArray[np.float32], tiles: torch.Tensor) -> torch.Tensor:
        """Where each output pixel looks, (n, H, W, 2): what `F.affine_grid` gives at a tenth of the time, as the outer
        sum of a row and a column of complex numbers, whose two parts are x and y."""
        height, width = tiles.shape[-2:]
        matrix = send(theta, tiles.device)
        x, y = (self._constant("x", tiles.device, size) for size in (width, height))
        along = torch.view_as_complex(x[None, :, None] * matrix[:, None, :, 0])
        down = torch.view_as_complex(torch.addcmul(matrix[:, None, :, 2], y[None, :, None], matrix[:, None, :, 1]))
        return torch.view_as_real(along[:, None, :] + down[:, :, None])

    def _recolor(self, tiles: torch.Tensor, drawn: NDArray[np.void]) -> torch.Tensor:
        """Colour, gain, haze and normalisation of (n, C, H, W) from 0-255, then the clamp to what 0-255 becomes."""
        matrix, from_mean, shift = (send(drawn[name], tiles.device) for name in ("matrix", "from_mean", "shift"))
        flat = tiles.flatten(2)
        bias = torch.baddbmm(shift[:, :, None], from_mean, flat.mean(2, keepdim=True))
        out = torch.baddbmm(bias, matrix, flat).view_as(tiles)
        for channel, (low, high) in enumerate(self._limits):
            out[:, channel].clamp_(low, high)
        return out

    def _resample(self, tiles: torch.Tensor, levels: NDArray[np.int8]) -> None:
        """Shows tiles as a sensor of coarser sampling distance would, in place.

        The point spread, detector included, is taken as a Gaussian of half a sample: it passes exp(-pi**2 / 8) = 0.29
        at the Nyquist frequency, the upper end of what imagers in orbit do. The tile has its own already, so what
        is added for a factor f is 0.5 * sqrt(f**2 - 1) of the tile's pixels.
        """
        size = tiles.shape[-2:]
        for level in np.unique(levels[levels >= 0]).tolist():
            at = np.flatnonzero(levels == level)
            factor = float(gsd_factors(self.cfg)[level])
            sigma = max(0.5 * math.sqrt(factor**2 - 1), MIN_SIGMA_PX)
            soft = _blur(take(tiles, at), np.full(len(at), sigma, np.float32), sigma)
            coarse = [max(1, round(side / factor)) for side in size]
            sampled = F.interpolate(soft, size=coarse, mode="bilinear", align_corners=False)
            put(tiles, at, F.interpolate(sampled, size=size, mode="bilinear", align_corners=False))


def _targets(label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask and valid (B, 1, H, W) of a label (B, H, W). Comparing into float32 saves a pass over a bool tensor."""
    mask, valid = (torch.empty(label.shape, device=label.device) for _ in range(2))
    torch.eq(label, LAKE, out=mask)
    torch.ne(label, INVALID, out=valid)
    return mask[:, None], valid[:, None]


def _class_targets(label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and valid (B, 1, H, W) of a label of several classes (B, H, W)."""
    valid = label != INVALID
    return (label * valid).float()[:, None], valid.float()[:, None]


def _warp_label(label: torch.Tensor, index: NDArray[np.intp], grid: torch.Tensor) -> None:
    """Warps uint8 labels of some tiles in place, to the nearest pixel.

    One more than the label, in uint8, makes not valid (255) the 0 that comes in from outside; one less is the way back.
    """
    code = (take(label, index)[:, None] + 1).float()
    moved = F.grid_sample(code, grid, "nearest", "zeros", align_corners=False)
    put(label, index, moved[:, 0].to(torch.uint8) - 1)


def _blur(tiles: torch.Tensor, sigma: NDArray[np.float32], largest: float) -> torch.Tensor:
    """Gaussian blur of (n, C, H, W), each tile with its own width in pixels, reaching three of the largest widths.

    Equal to `kornia.filters.gaussian_blur2d` with reflected borders. On the CPU it sums shifted tiles, as Kornia does
    for large images only: that is several times faster than convolution. Both axes share one kernel.
    """
    from kornia.filters import filter2d_separable, get_gaussian_kernel1d

    radius = min(math.ceil(3 * largest), min(tiles.shape[-2:]) - 1)
    # The kernel is made where the widths are, so that no check of theirs waits for the device.
    kernel = send(get_gaussian_kernel1d(2 * radius + 1, torch.from_numpy(sigma[:, None])).numpy(), tiles.device)
    if tiles.device.type != "cpu":
        return filter2d_separable(tiles, kernel, kernel)
    for axis, padding in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        padded = F.pad(tiles, padding, mode="reflect")
        size = tiles.shape[axis]
        tiles = padded.narrow(axis, 0, size) * kernel[:, :1, None, None]
        for tap in range(1, 2 * radius + 1):
            tiles.addcmul_(padded.narrow(axis, tap, size), kernel[:, tap, None, None, None])
    return tiles
