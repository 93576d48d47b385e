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
GRAIN_SIDE = 32
"""side of the picture of fine structure"""
SEEN = 0.25
"""grey from which a place of it has structure"""
LEAST = 64
"""places with structure that a tile needs to be recognised by it"""
AGREE = 0.4
"""correlation of structure from which two tiles are of the same ground: of generated pairs that small pictures alone
take for the same and are not, the largest was 0.24 (docs/LOG.md)"""

Value = TypeVar("Value", bound=np.generic)
Thumbnail = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Look:
    """What is remembered of a tile."""

    thumbnail: Thumbnail
    """(16, 16) mean grey"""
    code: bytes
    """64 bits, the same for the 8 flips and turns of one picture"""
    grain: npt.NDArray[np.float16] | None = None
    """(32, 32) grey without what its surroundings are, so that a straight edge leaves nothing; None: not kept, as of
    pictures of fewer pixels"""

    @property
    def flat(self) -> bool:
        """Whether there is nothing to recognise it by."""
        if float(self.thumbnail.std()) < FLAT:
            return True
        return self.grain is not None and int((np.abs(self.grain) >= SEEN).sum()) < LEAST


def look(image: npt.NDArray[np.uint8], *, grain: bool = False) -> Look:
    """Remembers an (H, W, 3) uint8 tile.

    Args:
        image: the tile
        grain: also its fine structure, without which nearly white, very dark and half-empty tiles pass for each other
    """
    grey = Image.fromarray(image).convert("L")
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX))
    # 2 x 2 sums are exact, so that a flipped tile gives the same 64 cells flipped
    cells = thumbnail.reshape(8, 2, 8, 2).sum(axis=(1, 3), dtype=np.int64)
    bits = cells > np.median(cells)
    code = min(np.packbits(turned).tobytes() for turned in turns(bits))
    return Look(thumbnail, code, _grain(grey) if grain and min(grey.size) >= GRAIN_SIDE else None)


def _grain(grey: Image.Image) -> npt.NDArray[np.float16]:
    from scipy.ndimage import median_filter  # which a training does not need

    mean = np.asarray(grey.convert("F").resize((GRAIN_SIDE, GRAIN_SIDE), Image.Resampling.BOX))
    return (mean - median_filter(mean, 3, mode="reflect")).astype(np.float16)


def turns(array: npt.NDArray[Value]) -> list[npt.NDArray[Value]]:
    """The 8 flips and quarter turns of a square."""
    return [np.rot90(flipped, k) for flipped in (array, array.T) for k in range(4)]


def _agree(one: npt.NDArray[np.float16] | None, other: npt.NDArray[np.float16] | None, position: int) -> bool:
    """Whether the structure of a tile in one of the 8 positions is that of another; True where one is not known."""
    if one is None or other is None:
        return True
    a, b = turns(one)[position].astype(np.float32), other.astype(np.float32)
    most = np.maximum(np.abs(a), np.abs(b))
    seen = most >= SEEN
    limit = float(np.median(most[seen])) if seen.any() else 0.0  # or a rock on a white field decides
    a, b = (np.clip(side[seen], -limit, limit) for side in (a, b))
    return float((a * b).sum()) >= AGREE * float(np.sqrt((a * a).sum() * (b * b).sum())) > 0


def digest(looks: list[Look]) -> str:
    """16 hex digits of what a group of tiles shows: names ground that has no position."""
    whole = xxhash.xxh3_64()
    for one in looks:
        whole.update(one.thumbnail.tobytes())
    return whole.hexdigest()


def same_ground(looks: list[Look]) -> list[tuple[int, int]]:
    """Pairs (a, b), a < b, of tiles that show the same ground, enough of them to connect all copies of a tile.

    Candidates share a code; a pair counts where the small pictures agree in one of the 8 positions. Flat tiles take no
    part, since two fields of snow are not one. Where both keep their grain, that has to agree, too: what is half empty
    or nearly white has a small picture like that of others.
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
                off = np.abs(views - other).mean(axis=(1, 2))
                if float(off.min()) <= SAME and _agree(looks[i].grain, looks[leader].grain, int(off.argmin())):
                    pairs.append((leader, i))
                    break
            else:
                leaders.append(i)
    return pairs
