"""Where windows lie along a side of a scene, and with which weight each counts.

Windows are spread evenly. Of the pixels that two neighbours share, the outer ones of each are not used, since a network
knows least there; between lies a short ramp where one fades into the other by a Hann curve. The weights of all windows
add up to 1 everywhere, so nothing has to be normalised. Weights of a plane are products of those of its two sides.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RAMP_SHARE = 0.25
"""of the least overlap; the rest is left out in halves, so a network that sees up to 3/8 of the overlap around a pixel
gives inside a scene what it would give to the whole scene at once"""


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one side."""

    length: int
    window: int
    ramp: int
    """pixels over which neighbours fade into each other"""
    starts: tuple[int, ...]
    begins: tuple[int, ...]
    """first pixel of the scene where each window counts"""
    ends: tuple[int, ...]
    """and the first after it where it does not"""

    def __len__(self) -> int:
        return len(self.starts)

    def weights(self, number: int) -> npt.NDArray[np.float32]:
        """Weights of a window from its `begins` to its `ends`."""
        out = np.ones(self.ends[number] - self.begins[number], np.float32)
        rising = np.sin((np.arange(self.ramp) + 0.5) / self.ramp * np.pi / 2) ** 2 if self.ramp else np.zeros(0)
        if number > 0:
            out[: self.ramp] = rising
        if number < len(self) - 1 and self.ramp:
            out[-self.ramp :] = rising[::-1]
        return out


def axis(length: int, window: int, overlap: int) -> Axis:
    """Spreads windows over a side.

    Args:
        length: of the side, pixels
        window: side of a window; a shorter side gets one window of its own length
        overlap: least pixels shared by neighbours, at most half a window
    """
    window = min(window, length)
    count = 1 if length == window else math.ceil((length - window) / (window - overlap)) + 1
    starts = [round(i * (length - window) / max(count - 1, 1)) for i in range(count)]
    ramp = math.floor(overlap * RAMP_SHARE)
    begins, ends = [0], []
    for before, after in itertools.pairwise(starts):
        first = (after + before + window - ramp) // 2
        begins.append(first)
        ends.append(first + ramp)
    return Axis(length, window, ramp, tuple(starts), tuple(begins), (*ends, length))
