"""Where the networks of a mean disagree: by pixel and by lake.

The spread of an ensemble is the standard deviation of its members' answers. Networks that were trained alike but for
their seed agree where the training data decide, and differ where they leave it open (Lakshminarayanan, Pritzel and
Blundell 2017, Simple and scalable predictive uncertainty estimation using deep ensembles, arXiv 1612.01474; there it is
measured by the members' divergence from their mean, here in units that a map has: probability, share, area). It tells
nothing of mistakes that all of them make.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.mapping.areas import joined_px
from glidexp.mapping.polygons import Geometries
from glidexp.mapping.runs import runs_of
from glidexp.mapping.workfiles import STEPS

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
A_BYTE = 8
"""networks whose votes one byte a pixel holds"""
COUNT = np.array([value.bit_count() for value in range(256)], np.uint8)


def spread_of(each_NHW: npt.NDArray[np.float32]) -> Bytes:
    """Standard deviation of N networks' probabilities (N - 1 below the line), 0 to 0.71, in steps of 1/254; (H, W)."""
    spread = np.nan_to_num(each_NHW.std(axis=0, ddof=1))
    return (spread * STEPS + 0.5).astype(np.uint8)


def votes_of(each_NHW: npt.NDArray[np.float32], threshold: float) -> Iterator[Bytes]:
    """Which of N networks give a pixel the threshold or more: (H, W), a bit each, of eight networks at a time."""
    for start in range(0, len(each_NHW), A_BYTE):
        votes = np.zeros(each_NHW.shape[1:], np.uint8)
        for bit, one in enumerate(each_NHW[start : start + A_BYTE]):
            votes |= (one >= threshold).view(np.uint8) << np.uint8(bit)
        yield votes


@dataclass(frozen=True, slots=True)
class Votes:
    """Votes of all pixels of a scene."""

    files: tuple[Any, ...]
    """(H, W) each, as `votes_of` gives them"""
    networks: int

    def of_lakes(self, outlines: Geometries, mask_HW: Any) -> tuple[Floats, Floats]:
        """What the networks say of each lake of a map, (n,) each.

        Args:
            outlines: in pixels, from `polygons.outlines`
            mask_HW: 1 lake, 0 none, 255 no data

        Returns:
            agreement: share of networks that see lake at the threshold, averaged over the pixels of the lake, 0 to 1
            spread of the area, pixels: standard deviation (N - 1 below the line) over the networks of what each alone
            sees of the lake: its pixels at the threshold within the outline, and those up to `areas.REACH_PX` around
            that are joined to them
        """
        runs, n = runs_of(outlines), len(outlines)
        inside, total = np.zeros(n), np.zeros(n)
        for numbers, places in runs.pixels(mask_HW.shape[1]):
            total += np.bincount(numbers, minlength=n)
            for file in self.files:
                inside += np.bincount(numbers, weights=COUNT[file.reshape(-1)[places]], minlength=n)
        areas = np.zeros((n, self.networks))
        for i, one in enumerate(outlines):
            for network in range(self.networks):
                file, bit = self.files[network // A_BYTE], 1 << network % A_BYTE
                areas[i, network] = joined_px(i, one, runs, file, bit, mask_HW, whole=False)
        return inside / total / self.networks, areas.std(axis=1, ddof=1)
