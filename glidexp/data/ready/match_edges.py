"""Tiles that lay side by side in their scene, found by their edges: one's last column goes on in another's first.

A tile whose place is known gives its neighbours a place, which their own lakes must bear out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLES = 128
"""values an edge and channel"""
ALIKE = 0.9
"""correlation of two edges that lay side by side, at least"""
AHEAD = 0.05
"""by how much the next best edge must be less alike"""
ROWS = 2048
"""edges compared at a time: bounds the memory"""
Edge = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Beside:
    """Tile `b` goes on from tile `a`."""

    a: int
    b: int
    right: int
    """1: b lies to the right of a; 0: below it"""
    correlation: float


def edges_of(image: npt.NDArray[np.uint8]) -> Edge:
    """(4, 3 * SAMPLES) left, right, top, bottom of an (N, N, 3) image: mean 0 and length 1 each, 0 where it is flat."""
    found = np.stack([image[:, 0], image[:, -1], image[0], image[-1]]).astype(np.float32)
    n = found.shape[1]
    width = max(1, n // SAMPLES)
    cut = found[:, : n // width * width].reshape(4, n // width, width, 3).mean(axis=2)
    flat = cut.reshape(4, -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    # an edge of snow or of no data has nothing to be recognised by
    keep = length > 4 * np.sqrt(flat.shape[1])
    return np.asarray(np.where(keep, flat / np.maximum(length, 1e-6), 0), dtype=np.float32)


def neighbours(edges: Edge) -> Iterator[Beside]:
    """Pairs of tiles of which each is the other's best neighbour, by a clear margin.

    Args:
        edges: (n, 4, k), of `edges_of`
    """
    left, right, top, bottom = (np.ascontiguousarray(edges[:, side]) for side in range(4))
    for ends, begins, is_right in ((right, left, 1), (bottom, top, 0)):
        to, first, second = _best(ends, begins)
        back, _, second_back = _best(begins, ends)
        for a, b in enumerate(to.tolist()):
            sure = first[a] >= ALIKE and first[a] - max(second[a], second_back[b]) >= AHEAD
            if sure and back[b] == a and a != b:
                yield Beside(a, b, is_right, float(first[a]))


def _best(ends: Edge, begins: Edge) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """For each of `ends` the most alike of `begins`, its correlation, and that of the next."""
    n = len(ends)
    to, first, second = np.zeros(n, np.int64), np.zeros(n, np.float32), np.zeros(n, np.float32)
    for start in range(0, n, ROWS):
        alike = ends[start : start + ROWS] @ begins.T
        rows = np.arange(len(alike))
        best = alike.argmax(axis=1)
        to[start : start + ROWS], first[start : start + ROWS] = best, alike[rows, best]
        alike[rows, best] = -1
        second[start : start + ROWS] = alike.max(axis=1)
    return to, first, second
