"""Colour, gain and haze of a tile as one affine map of its pixels: y = matrix x + from_mean m + shift.

x is a pixel (C,) of 0-255 and m the mean pixel of the tile, which contrast needs. Brightness, contrast and
saturation are the formulas of `kornia.augmentation.ColorJitter` (brightness multiplies, contrast blends with the mean
luma, saturation with the pixel's luma). They are linear and here they commute, so the order that Kornia draws does not
matter, and their composition is exact but for one thing: Kornia clamps to the range after every step, here it is done
once at the end. Where no step leaves the range the results are the same.

Hue is the one step that is like Kornia's in kind, not in value: the chroma plane of Kornia's YUV is rotated by the
angle that Kornia adds to the hue of HSV. It is linear and keeps luma, Kornia's is not and keeps the largest channel;
both turn red towards yellow. On a Landsat scene of the Himalaya a turn of 0.02 moves a band by 0.5 of 255 on average,
and the two results differ by 0.6 on average. Kornia's costs four times as much as all the rest of the jitter.

Saturation and hue act on the first three channels, taken as R, G, B; brightness, contrast, gain and haze on every
channel, as a brighter day is brighter in the infrared too. A band that light left alone would tell a network what it
hides in the others. The grey that contrast blends a band beyond the third with is that band's own mean. With one or two
channels there is no saturation or hue, and luma is the mean of the channels.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

HAZE_WEIGHT = (0.53, 0.73, 1.0)
"""Share of the haze in R, G, B: (480 nm / wavelength)**2 at 660, 560 and 480 nm, the model of a clear atmosphere.
Source: Chavez 1988, An improved dark-object subtraction technique, Remote Sensing of Environment 24."""
HAZE_WEIGHT_BEYOND = 0.33
"""the same for every channel after the third: 840 nm, near infrared"""
AIRLIGHT = 0.85 * 255
"""what a tile wholly hidden by haze looks like, 0-255"""

Floats = NDArray[np.float64]


def yuv_matrices() -> tuple[Floats, Floats]:
    """Kornia's RGB to YUV and back, (3, 3) each, read off by sending the unit vectors through its operators."""
    from kornia.color import rgb_to_yuv, yuv_to_rgb

    unit = torch.eye(3, dtype=torch.float64).reshape(3, 3, 1, 1)  # a batch of three pixels
    forth, back = (op(unit)[:, :, 0, 0].T.numpy() for op in (rgb_to_yuv, yuv_to_rgb))
    return forth, back


def hue_matrix(turns: Floats) -> Floats:
    """Rotation of the chroma plane.

    Args:
        turns: (n,) share of the circle, positive from red to green

    Returns:
        (n, 3, 3) for RGB
    """
    forth, back = yuv_matrices()
    angle = 2 * math.pi * turns
    rotation = np.zeros((len(turns), 3, 3))
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = np.cos(angle)
    rotation[:, 2, 1] = np.sin(angle)
    rotation[:, 1, 2] = -rotation[:, 2, 1]
    return back @ rotation @ forth


def luma(channels: int) -> Floats:
    """(C,) weights of the grey value: Kornia's for RGB, the mean for fewer channels."""
    return yuv_matrices()[0][0] if channels == 3 else np.full(channels, 1 / channels)


def jitter(factors: dict[str, Floats], channels: int) -> tuple[Floats, Floats]:
    """Brightness, contrast, saturation and hue composed.

    Args:
        factors: (n,) each of brightness_factor, contrast_factor, saturation_factor (1 changes nothing) and hue_factor
            (turns, 0 changes nothing), named as Kornia's generator names them
        channels: on which light falls, 1 or more

    Returns:
        (n, channels, channels) on the pixel and on the mean pixel of the tile
    """
    if channels > 3:
        pixel, mean = _each_by_itself(factors, channels)
        pixel[:, :3, :3], mean[:, :3, :3] = jitter(factors, 3)
        return pixel, mean
    brightness, contrast, saturation = (
        factors[name][:, None, None] for name in ("brightness_factor", "contrast_factor", "saturation_factor")
    )
    eye = np.eye(channels)
    grey = np.ones((channels, 1)) * luma(channels)
    chroma = np.broadcast_to(eye, (len(brightness), channels, channels))
    if channels == 3:
        chroma = hue_matrix(factors["hue_factor"]) @ (saturation * eye + (1 - saturation) * grey)
    # Saturation and hue leave the grey that contrast adds as it is, so it is added in the end.
    return brightness * contrast * chroma, brightness * (1 - contrast) * grey


def _each_by_itself(factors: dict[str, Floats], channels: int) -> tuple[Floats, Floats]:
    """Brightness, and contrast around a channel's own mean, as `jitter` gives them."""
    brightness, contrast = (factors[name][:, None, None] for name in ("brightness_factor", "contrast_factor"))
    return brightness * contrast * np.eye(channels), brightness * (1 - contrast) * np.eye(channels)


def haze_weights(channels: int) -> Floats:
    """(C,) share of the haze in each channel."""
    return np.array([*HAZE_WEIGHT, *[HAZE_WEIGHT_BEYOND] * channels][:channels])


def compose(
    pixel: Floats, mean: Floats, gain: Floats, haze: Floats, normalise: tuple[Floats, Floats]
) -> tuple[Floats, Floats, Floats]:
    """Colour, then gain, then haze, then the normalisation, as one map.

    Args:
        pixel: (n, c, c) of `jitter`, of the first c channels of C
        mean: (n, c, c) of `jitter`
        gain: (n, C) factor of each channel
        haze: (n, C) share of the signal replaced by path radiance in the bluest channel; 0 where no light falls
        normalise: scale and shift (C,) each, from 0-255 to what the network takes

    Returns:
        matrix (n, C, C), from_mean (n, C, C), shift (n, C)
    """
    count, channels = gain.shape
    first = pixel.shape[1]
    scale, shift = normalise
    veil = haze * haze_weights(channels)
    rows = (scale * (1 - veil) * gain)[:, :, None]
    matrix = np.broadcast_to(np.eye(channels), (count, channels, channels)).copy()
    from_mean = np.zeros_like(matrix)
    matrix[:, :first, :first], from_mean[:, :first, :first] = pixel, mean
    return rows * matrix, rows * from_mean, scale * veil * AIRLIGHT + shift
