"""Where windows lie along a side of a scene, and with which weight each counts.

Windows are spread evenly, as far as they begin at multiples of the network's stride: one that pools by 32 gives other
answers when the same ground is moved by a pixel, and neighbours would disagree where they meet, however much they
overlap. The last window reaches over the edge, where that is no multiple. Of the pixels that two neighbours share, the
outer ones of each are not used, since a network knows least there; between lies a short ramp where one fades into the
other by a Hann curve. The weights of all windows add up to 1 everywhere, so nothing has to be normalised. Weights of a
plane are products of those of its two sides.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RAMP_SHARE = 0.25
"""of the least overlap; the rest is left out in halves, so a network that sees up to 3/8 of the overlap around a pixel
gives inside a scene what it would give to the whole scene at once"""
LEAST_OVERLAP_PX = 96
"""less leaves seams of more than 0.02 between the windows of the network that the demo trains"""


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


def usual_overlap(window: int) -> int:
    """Pixels that neighbours share where nothing else is asked for."""
    return max(window // 4, min(LEAST_OVERLAP_PX, window // 2))


def axis(length: int, window: int, overlap: int, stride: int = 1) -> Axis:
    """Spreads windows over a side.

    Args:
        length: of the side, pixels
        window: side of a window; a shorter side gets one window of its own length
        overlap: least pixels shared by neighbours, at most half a window
        stride: windows begin at multiples of it, unless they are too small for that
    """
    window = min(window, length)
    stride = stride if window - overlap >= stride else 1
    last, apart = math.ceil((length - window) / stride), (window - overlap) // stride
    gaps = math.ceil(last / apart) if last else 0
    starts = [(2 * i * last + gaps) // (2 * gaps) * stride for i in range(gaps + 1)] if gaps else [0]
    ramp = math.floor(overlap * RAMP_SHARE) if gaps else 0  # a lone window fades into none
    begins, ends = [0], []
    for before, after in itertools.pairwise(starts):
        first = (after + before + window - ramp) // 2
        begins.append(first)
        ends.append(first + ramp)
    return Axis(length, window, ramp, tuple(starts), tuple(begins), (*ends, length))
