"""Colour as one matrix, held against Kornia's operators one by one, and against their sequence in every order."""

from itertools import permutations

import numpy as np
import pytest
import torch
from kornia import color, enhance

from glidexp.training.augmentation import color as own

NAMES = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")


def apply(tile: torch.Tensor, factors: tuple[float, ...]) -> torch.Tensor:
    """Ours on one tile (C, H, W)."""
    values = {name: np.array([value]) for name, value in zip(NAMES, factors, strict=True)}
    pixel, mean = own.jitter(values, len(tile))
    matrix, from_mean = torch.from_numpy(pixel[0]), torch.from_numpy(mean[0])
    flat = tile.flatten(1)
    return (matrix @ flat + from_mean @ flat.mean(1, keepdim=True)).view_as(tile)


def hue_rotation(tile: torch.Tensor, turns: float) -> torch.Tensor:
    """The rotation of Kornia's chroma plane, written with Kornia's operators."""
    y, u, v = color.rgb_to_yuv(tile[None])[0]
    angle = torch.tensor(2 * np.pi * turns)
    c, s = angle.cos(), angle.sin()
    return color.yuv_to_rgb(torch.stack([y, c * u - s * v, s * u + c * v])[None])[0]


STEPS = (
    lambda tile, f: enhance.adjust_brightness_accumulative(tile[None], f)[0],
    lambda tile, f: enhance.adjust_contrast_with_mean_subtraction(tile[None], f)[0],
    lambda tile, f: enhance.adjust_saturation_with_gray_subtraction(tile[None], f)[0],
    hue_rotation,
)


@pytest.fixture
def tile() -> torch.Tensor:
    """Values far enough from 0 and 1 that no step clamps."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 24, 20, generator=generator, dtype=torch.float64) * 0.3 + 0.35


@pytest.mark.parametrize(("which", "factor"), [(0, 0.8), (0, 1.25), (1, 0.7), (1, 1.3), (2, 0.0), (2, 1.4), (3, 0.03)])
def test_each_step_is_kornias(tile: torch.Tensor, which: int, factor: float) -> None:
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[which] = factor
    torch.testing.assert_close(apply(tile, tuple(factors)), STEPS[which](tile, factor))


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_every_order_is_kornias_sequence(tile: torch.Tensor, order: tuple[int, ...]) -> None:
    factors = (1.1, 0.8, 1.2, 0.02)
    expected = tile
    for which in order:
        expected = STEPS[which](expected, factors[which])
    torch.testing.assert_close(apply(tile, factors), expected)


def test_hue_keeps_luma_and_grey_and_adds_up() -> None:
    turns = np.array([0.1, -0.25, 0.5])
    matrices = own.hue_matrix(turns)
    luma = own.luma(3)
    np.testing.assert_allclose(luma @ matrices, np.broadcast_to(luma, (3, 3)), atol=2e-3)
    np.testing.assert_allclose(matrices.sum(2), 1, atol=2e-3)
    np.testing.assert_allclose(matrices[0] @ matrices[0], own.hue_matrix(np.array([0.2]))[0], atol=1e-12)


def test_hue_turns_the_way_kornias_does_and_stays_near_it_for_small_angles(tile: torch.Tensor) -> None:
    red = torch.tensor([0.7, 0.3, 0.3], dtype=torch.float64).reshape(3, 1, 1)
    ours, kornia = apply(red, (1, 1, 1, 0.05)), enhance.adjust_hue(red[None], 0.05 * 2 * np.pi)[0]
    assert ours[1] > 0.3 and kornia[1] > 0.3  # towards yellow
    assert (apply(red, (1, 1, 1, -0.05))[2] > 0.3) and ours[1] > ours[2]
    # Land is dull: the chroma of such pixels is small, and so is the difference, 0-255.
    dull = tile.mean(0, keepdim=True) + (tile - tile.mean(0, keepdim=True)) * 0.3
    turned = apply(dull, (1, 1, 1, 0.02)), enhance.adjust_hue(dull[None], 0.02 * 2 * np.pi)[0]
    assert 255 * (turned[0] - turned[1]).abs().mean() < 1.0


def test_one_channel_has_brightness_and_contrast_only() -> None:
    tile = torch.rand(1, 8, 8, dtype=torch.float64) * 0.3 + 0.35
    expected = enhance.adjust_contrast_with_mean_subtraction((tile * 1.1)[None], 0.8)[0]
    torch.testing.assert_close(apply(tile, (1.1, 0.8, 0.3, 0.2)), expected)


def test_gain_haze_and_normalisation_by_hand() -> None:
    eye, none = np.eye(3)[None], np.zeros((1, 3, 3))
    scale, shift = np.array([0.5, 0.25, 1.0, 2.0]), np.array([-1.0, -2.0, -3.0, -4.0])
    gain = np.array([[1.2, 1.0, 0.5, 2.0]])
    matrix, from_mean, added = own.compose(eye, none, gain, np.array([[0.1]]), (scale, shift))
    pixel = np.array([100.0, 50.0, 20.0, 10.0])
    veil = 0.1 * np.array([0.53, 0.73, 1.0, 0.33])
    expected = ((1 - veil) * gain[0] * pixel + veil * 0.85 * 255) * scale + shift
    np.testing.assert_allclose(matrix[0] @ pixel + added[0], expected)
    assert not from_mean.any()


def test_haze_is_strongest_in_blue() -> None:
    red, green, blue, infrared, next_one = own.haze_weights(5)
    assert blue > green > red > infrared == next_one
    assert len(own.haze_weights(1)) == 1


def test_light_falls_on_bands_beyond_the_third() -> None:
    """Brightness and contrast of each, around its own mean, as Kornia has them of a picture of that band alone; red,
    green and blue are as without it, and saturation and hue stay theirs."""
    tile = torch.rand(5, 12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 0.4 + 0.2
    found = apply(tile, (1.1, 0.8, 1.4, 0.03))
    assert torch.allclose(found[:3], apply(tile[:3], (1.1, 0.8, 1.4, 0.03)))
    for band in (3, 4):
        grey = tile[band].mean()
        wanted = enhance.adjust_brightness_accumulative((0.8 * tile[band] + 0.2 * grey)[None], 1.1)[0]
        assert torch.allclose(found[band], wanted)
    copied = torch.cat([tile[:3], tile[1:2]])
    found = apply(copied, (1.3, 1.0, 1.0, 0.0))
    assert torch.allclose(found[3], found[1]), "a copy of a band tells nothing that the band does not"
    assert torch.allclose(apply(tile, (1.0, 1.0, 1.0, 0.0)), tile)
