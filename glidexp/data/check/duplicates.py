"""Tiles that show the same ground, found by a small picture of each: exact copies, flips and turns, re-encodings.

A simple net for pre-cut tiles of unknown origin: it finds copies of whole tiles, not partial overlap.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image

SIDE = 16
"""side of the small picture, pixels"""
FLAT = 2.0
"""standard deviation of grey (0-255) under which a tile has nothing to be recognised by (snow, no data)"""
SAME = 3.0
"""mean difference of grey (0-255) up to which two small pictures are of the same ground"""

Value = TypeVar("Value", bound=np.generic)
Thumbnail = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Look:
    """What is remembered of a tile."""

    thumbnail: Thumbnail
    """(16, 16) mean grey"""
    code: bytes
    """64 bits, the same for the 8 flips and turns of one picture"""

    @property
    def flat(self) -> bool:
        return float(self.thumbnail.std()) < FLAT


def look(image: npt.NDArray[np.uint8]) -> Look:
    """Remembers an (H, W, 3) uint8 tile."""
    grey = Image.fromarray(image).convert("L")
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    # 2 x 2 sums are exact, so that a flipped tile gives the same 64 cells flipped
    cells = thumbnail.reshape(8, 2, 8, 2).sum(axis=(1, 3), dtype=np.int64)
    bits = cells > np.median(cells)
    return Look(thumbnail=thumbnail, code=min(np.packbits(turned).tobytes() for turned in turns(bits)))


def turns(array: npt.NDArray[Value]) -> list[npt.NDArray[Value]]:
    """The 8 flips and quarter turns of a square."""
    return [np.rot90(flipped, k) for flipped in (array, array.T) for k in range(4)]


def digest(looks: list[Look]) -> str:
    """16 hex digits of what a group of tiles shows: names ground that has no position."""
    whole = xxhash.xxh3_64()
    for one in looks:
        whole.update(one.thumbnail.tobytes())
    return whole.hexdigest()


def same_ground(looks: list[Look]) -> list[tuple[int, int]]:
    """Pairs (a, b), a < b, of tiles that show the same ground, enough of them to connect all copies of a tile.

    Candidates share a code; a pair counts where the small pictures agree in one of the 8 positions. Flat tiles take no
    part, since two fields of snow are not one.
    """
    buckets: dict[bytes, list[int]] = defaultdict(list)
    for i, one in enumerate(looks):
        if not one.flat:
            buckets[one.code].append(i)
    pairs = []
    for members in buckets.values():
        # each tile is compared with the first of every set of copies found so far
        leaders: list[int] = []
        for i in members:
            views = np.stack(turns(looks[i].thumbnail)).astype(np.int16)
            for leader in leaders:
                other = looks[leader].thumbnail.astype(np.int16)
                if float(np.abs(views - other).mean(axis=(1, 2)).min()) <= SAME:
                    pairs.append((leader, i))
                    break
            else:
                leaders.append(i)
    return pairs
