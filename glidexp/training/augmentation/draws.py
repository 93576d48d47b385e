"""Random parameters of a tile as a pure function of (seed, epoch, row), and of how often the epoch gave it before,
whatever batch or device it is on.

Kornia's generators give the distributions (what a range means, which centre, which bounds), but they draw from the
global generator, in the order of the batch. Here their samplers are fed instead: every tile has a row of 24-bit
uniform numbers from a counter-based hash, one number per named `Slot`, so that switching one operation on leaves the
draws of the others alone. Parameters are drawn for `BLOCK` rows at a time and looked up by batch: no tensor operation
per step.
"""

import math
from collections.abc import Sequence
from enum import IntEnum, auto
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glidexp.config import AugmentationConfig
from glidexp.training.augmentation.color import compose, jitter

BLOCK = 1024
"""rows drawn together; only speed depends on it"""
GSD_LEVELS = 8
"""sampling distances that are told apart, so that tiles of one level are resampled together"""


class Slot(IntEnum):
    """Which uniform number of a tile is used for what. Moving one changes results, and so the results version."""

    FLIP_X = 0
    FLIP_Y = auto()
    TURNS = auto()
    AFFINE = auto()
    ANGLE = auto()
    SCALE = auto()
    SHIFT_X = auto()
    SHIFT_Y = auto()
    SHEAR = auto()
    COLOR = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()
    SATURATION = auto()
    HUE = auto()
    GAIN = auto()
    HAZE = auto()
    HAZE_SHARE = auto()
    GSD = auto()
    GSD_FACTOR = auto()
    BLUR = auto()
    BLUR_SIGMA = auto()
    NOISE = auto()
    NOISE_SEED = auto()
    BAND_GAIN = auto()
    """first of one slot a channel"""


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: every input bit reaches every output bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def raw_draws(seed: int, epoch: int | NDArray[np.int64], rows: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Random 64-bit numbers of tiles: SplitMix64 with a state hashed from (seed, epoch, row).

    Args:
        seed: of the run
        epoch: from 0, of all or (n,) of each
        rows: (n,) rows of the tile store
        count: numbers for each tile

    Returns:
        (n, count)

    Source:
        Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators. Number k of a state s is
        mix(s + (k + 1) * golden), so it needs no sequence: any number of any tile is one evaluation.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = np.full(len(rows), seed % 2**64, np.uint64)
    for word in (np.full(len(rows), epoch, np.uint64), rows.astype(np.uint64)):
        state = _mix(state + golden) ^ word
    steps = np.arange(1, count + 1, dtype=np.uint64) * golden
    return _mix(_mix(state + golden)[:, None] + steps)


def nth(epoch: Any, again: Any) -> Any:
    """What stands for an epoch in draws for a tile that it gave so many times before; itself for the first time."""
    return epoch + again * 2**32


def uniforms(raw: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Numbers in [0, 1) that float32 holds exactly: the upper 24 bits."""
    return (raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def feed(generator: Any, draws: dict[str, torch.Tensor]) -> Any:
    """Puts given uniform numbers in the place of the random ones of a Kornia parameter generator.

    Args:
        generator: one of kornia.augmentation.random_generator
        draws: (n,) numbers in [0, 1) by the name of the sampler they replace

    Returns:
        the generator, which from now on gives n values of its own distributions
    """
    for name, numbers in draws.items():
        sampler = getattr(generator, name)
        if sampler is not None:
            setattr(generator, name, _Given(sampler.low, sampler.high, numbers))
    return generator


class _Given:
    """Stands where Kornia expects a uniform distribution; the formula is that of torch's `Uniform.rsample`."""

    def __init__(self, low: torch.Tensor, high: torch.Tensor, numbers: torch.Tensor) -> None:
        self.low, self.high, self.numbers = low, high, numbers

    def rsample(self, _shape: torch.Size) -> torch.Tensor:
        return self.low + self.numbers * (self.high - self.low)


def gsd_factors(cfg: AugmentationConfig) -> NDArray[np.float64]:
    """Sampling distance of each level as a multiple of the tile's own: evenly spaced in the logarithm."""
    low, high = cfg.gsd_factor
    return low * (high / low) ** ((np.arange(GSD_LEVELS) + 0.5) / GSD_LEVELS)


def d4_codes(u: NDArray[np.float32], *, flip: bool, rot90: bool, square: bool) -> NDArray[np.int64]:
    """Element of the square's symmetry group for each tile, from three uniform numbers each (n, 3).

    Mirror left-right, mirror up-down and quarter turns in that order, written as one transpose and two mirrors. A
    tile that is not square takes half turns only.
    """
    mirror_x, mirror_y = ((u[:, i] < 0.5) & flip for i in (0, 1))
    turns = (u[:, 2] * 4).astype(np.int64) * rot90
    turns = turns if square else 2 * (turns % 2)
    transpose = turns % 2 == 1
    # A mirror followed by a transpose is the transpose followed by the other mirror.
    mirror_x, mirror_y = np.where(transpose, mirror_y, mirror_x), np.where(transpose, mirror_x, mirror_y)
    # A quarter turn is a transpose, then a mirror up-down (1) or left-right (3); a half turn is both mirrors.
    return 4 * transpose + 2 * (mirror_y ^ np.isin(turns, (1, 2))) + 1 * (mirror_x ^ np.isin(turns, (2, 3)))


def affine_theta(cfg: AugmentationConfig, u: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Kornia's random affine as the matrix that `grid_sample` needs.

    Args:
        cfg: ranges
        u: (n, len(Slot)) numbers in [0, 1)
        height: of the tile, pixels
        width: of the tile, pixels

    Returns:
        (n, 2, 3) from output to input, normalised, align_corners=False
    """
    from kornia.augmentation.random_generator import AffineGenerator
    from kornia.geometry.conversions import normalize_homography
    from kornia.geometry.transform import get_affine_matrix2d

    generator = AffineGenerator(
        cfg.rotate_deg, (cfg.translate, cfg.translate), (cfg.scale[0], cfg.scale[1]), cfg.shear_deg
    )
    slots = {
        "degree_sampler": Slot.ANGLE,
        "scale_2_sampler": Slot.SCALE,
        "translate_x_sampler": Slot.SHIFT_X,
        "translate_y_sampler": Slot.SHIFT_Y,
        "shear_x_sampler": Slot.SHEAR,
        "shear_y_sampler": Slot.SHEAR,
    }
    drawn = feed(generator, {name: u[:, slot] for name, slot in slots.items()})((len(u), 1, height, width))
    shear = (drawn[name] * (math.pi / 180) for name in ("shear_x", "shear_y"))
    matrix = get_affine_matrix2d(drawn["translations"], drawn["center"], drawn["scale"], drawn["angle"], *shear)
    normalised = normalize_homography(matrix, (height, width), (height, width), align_corners=False)
    return torch.linalg.inv(normalised)[:, :2]


def color_factors(cfg: AugmentationConfig, u: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """Kornia's colour jitter factors of tiles, neutral where the tile drew no colour.

    Args:
        cfg: ranges and `color_p`
        u: (n, slots) numbers in [0, 1)

    Returns:
        (n,) each by Kornia's names, brightness_factor to hue_factor
    """
    from kornia.augmentation.random_generator import ColorJitterGenerator

    generator = ColorJitterGenerator(cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue)
    slots = {
        "brightness_sampler": Slot.BRIGHTNESS,
        "contrast_sampler": Slot.CONTRAST,
        "saturation_sampler": Slot.SATURATION,
        "hue_sampler": Slot.HUE,
    }
    drawn = feed(generator, {name: u[:, slot] for name, slot in slots.items()})((len(u), 3, 1, 1))
    off = u[:, Slot.COLOR].numpy() >= cfg.color_p
    factors = {name: value.double().numpy() for name, value in drawn.items() if name != "order"}
    return {name: np.where(off, 0.0 if name == "hue_factor" else 1.0, value) for name, value in factors.items()}


def blur_sigma(cfg: AugmentationConfig, u: torch.Tensor) -> NDArray[np.float32]:
    """Kornia's draw of the Gaussian blur, (n,) pixels, for every tile whether it is blurred or not."""
    from kornia.augmentation.random_generator import RandomGaussianBlurGenerator

    low, high = cfg.blur_sigma_px
    generator = feed(RandomGaussianBlurGenerator((low, high)), {"sigma_sampler": u[:, Slot.BLUR_SIGMA]})
    sigma: NDArray[np.float32] = generator((len(u), 1, 1, 1))["sigma"].numpy()
    return sigma


def _between(limits: list[float], u: NDArray[np.float32]) -> NDArray[np.float64]:
    low, high = limits
    return low + u.astype(np.float64) * (high - low)


def record_type(channels: int) -> np.dtype[np.void]:
    """One record a tile: everything that was drawn for it.

    `d4` is an element of `d4_codes`; `theta` the affine map from output to input in [-1, 1], meant if `warp`; `matrix`,
    `from_mean` and `shift` take a pixel of 0-255 to the normalised one (see `color`); `gsd` is a level of
    `gsd_factors` or -1; `sigma` is of the blur, pixels, 0 for none; `noise` a 53-bit seed or -1.
    """
    c = channels
    drawn = [("d4", np.int8), ("warp", np.bool_), ("color", np.bool_), ("gsd", np.int8), ("noise", np.int64)]
    numbers = {"theta": (2, 3), "matrix": (c, c), "from_mean": (c, c), "shift": (c,), "sigma": ()}
    return np.dtype([*drawn, *((name, np.float32, shape) for name, shape in numbers.items())])


class Drawer:
    """Draws the parameters of tiles and keeps those of the current epoch and tile size."""

    def __init__(
        self, cfg: AugmentationConfig, seed: int, scale: Sequence[float], shift: Sequence[float], terrain: int = 0
    ) -> None:
        """Takes the normalisation (C,) with it, since it becomes part of the colour matrix. Light falls on all channels
        but the last `terrain`."""
        self.cfg, self.seed, self._lit = cfg, seed, len(scale) - terrain
        self.scale, self.shift = np.asarray(scale, np.float64), np.asarray(shift, np.float64)
        self._of: tuple[int, int, int] | None = None
        self._type = record_type(len(self.scale))
        self._table, self._known = np.empty(0, self._type), np.empty(0, np.bool_)
        self._again: dict[tuple[int, int], NDArray[np.void]] = {}
        """records of tiles that came before, by how often and by block of rows: few, where the table has all"""

    def __call__(
        self, rows: NDArray[np.int64], epoch: int, height: int, width: int, again: NDArray[np.int64] | None = None
    ) -> NDArray[np.void]:
        """The records of tiles, (n,), in the order of `rows`; anew each time that the epoch gives a tile."""
        if self._of != (epoch, height, width):
            self._of = (epoch, height, width)
            self._known = np.zeros_like(self._known)
            self._again.clear()
        blocks = rows // BLOCK
        more = int(blocks.max()) + 1 - len(self._known)
        if more > 0:
            self._known = np.concatenate([self._known, np.zeros(more, np.bool_)])
            self._table = np.concatenate([self._table, np.zeros(more * BLOCK, self._type)])
        for block in np.unique(blocks[~self._known[blocks]]).tolist():
            self._table[block * BLOCK : (block + 1) * BLOCK] = self._block(block, epoch, height, width)
            self._known[block] = True
        out = self._table[rows]
        if again is not None and again.any():
            places = np.stack([again, blocks], axis=1)
            for time, block in np.unique(places[again > 0], axis=0).tolist():
                if (time, block) not in self._again:
                    self._again[time, block] = self._block(block, nth(epoch, time), height, width)
                own = (places == (time, block)).all(axis=1)
                out[own] = self._again[time, block][rows[own] - block * BLOCK]
        return out

    def _block(self, block: int, epoch: int, height: int, width: int) -> NDArray[np.void]:
        """Draws a block's records. Kornia draws an order of operations even when fed: not ours to spend."""
        with torch.random.fork_rng(devices=[]):
            return self.draw(np.arange(block * BLOCK, (block + 1) * BLOCK), epoch, height, width)

    def draw(self, rows: NDArray[np.int64], epoch: int, height: int, width: int) -> NDArray[np.void]:
        """Draws the records of tiles anew, (n,)."""
        cfg, channels = self.cfg, len(self.scale)
        raw = raw_draws(self.seed, epoch, rows, Slot.BAND_GAIN + channels)
        u = uniforms(raw)
        numbers = torch.from_numpy(u)
        out = np.zeros(len(rows), self._type)
        out["d4"] = d4_codes(u[:, Slot.FLIP_X : Slot.AFFINE], flip=cfg.flip, rot90=cfg.rot90, square=height == width)
        out["warp"] = u[:, Slot.AFFINE] < cfg.affine_p
        if cfg.affine_p:
            out["theta"] = affine_theta(cfg, numbers, height, width).numpy()

        pixel, mean = jitter(color_factors(cfg, numbers), self._lit)
        with_gain, with_haze = u[:, Slot.GAIN] < cfg.gain_p, u[:, Slot.HAZE] < cfg.haze_p
        gain = _between([1 - cfg.gain, 1 + cfg.gain], u[:, Slot.BAND_GAIN :])
        gain = np.where(with_gain[:, None] & (np.arange(channels) < self._lit), gain, 1.0)
        haze = np.where(with_haze, _between(cfg.haze, u[:, Slot.HAZE_SHARE]), 0.0)
        composed = compose(
            pixel, mean, gain, haze[:, None] * (np.arange(channels) < self._lit), (self.scale, self.shift)
        )
        out["matrix"], out["from_mean"], out["shift"] = composed
        out["color"] = (u[:, Slot.COLOR] < cfg.color_p) | with_gain | with_haze

        level = (u[:, Slot.GSD_FACTOR] * GSD_LEVELS).astype(np.int64)
        out["gsd"] = np.where(u[:, Slot.GSD] < cfg.gsd_p, level, -1)
        out["sigma"] = np.where(u[:, Slot.BLUR] < cfg.blur_p, blur_sigma(cfg, numbers), 0.0)
        out["noise"] = np.where(
            u[:, Slot.NOISE] < cfg.noise_p, (raw[:, Slot.NOISE_SEED] >> np.uint64(11)).astype(np.int64), -1
        )
        return out
