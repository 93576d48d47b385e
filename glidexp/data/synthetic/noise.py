"""Seeded fractal noise by inverse FFT: the one source of irregularity of the synthetic world."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Field = NDArray[np.float32]


def fractal(
    rng: np.random.Generator, side: int, beta: float, *, longest_px: float = 0.0, shortest_px: float = 0.0
) -> Field:
    """A periodic Gaussian random field with power spectrum k^-beta.

    Args:
        rng: consumed in a fixed amount that depends on `side` only
        side: side of the square field, pixels
        beta: spectral slope; 2 is rough like broken rock, 3 like terrain, 4 smooth like water bodies
        longest_px: wavelengths above this are left out (0 keeps all), pixels
        shortest_px: wavelengths below this are left out (0 keeps all), pixels

    Returns:
        (side, side) float32, zero mean, unit standard deviation.
    """
    fy = np.fft.fftfreq(side).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(side).astype(np.float32)[None, :]
    k2 = fy * fy + fx * fx
    k2[0, 0] = np.inf
    amplitude = k2 ** np.float32(-beta / 4)
    if longest_px > 0:
        amplitude *= k2 > np.float32(1 / longest_px**2)
    if shortest_px > 0:
        amplitude *= np.exp(-k2 * np.float32(0.5 * shortest_px**2))
    shape = (side, side // 2 + 1)
    spectrum = np.empty(shape, np.complex64)
    spectrum.real = rng.standard_normal(shape, np.float32)
    spectrum.imag = rng.standard_normal(shape, np.float32)
    spectrum *= amplitude
    field = fft.irfft2(spectrum, s=(side, side), overwrite_x=True)
    field -= field.mean(dtype=np.float64)
    # not std(), which makes two float64 copies of the field
    field /= max(float(np.sqrt(np.add.reduce(field * field, axis=None, dtype=np.float64) / field.size)), 1e-12)
    return field.astype(np.float32, copy=False)
