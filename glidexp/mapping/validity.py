"""Whether a scene is like what the model was trained on: some tiles of it, held against what the bundle keeps.

The tiles lie on an even grid, are as large as those of training and stretched as the map is. While a scene is mapped
they are copied from the rows that go by.
"""

import tempfile
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.config import StretchConfig
from glidexp.data import traits
from glidexp.data.scenes import stretch
from glidexp.data.scenes.reading import STRIP_PX, Scene
from glidexp.data.scenes.strips import Strips
from glidexp.mapping import raster
from glidexp.models.embedding import certainty_of, features
from glidexp.models.predictor import Predictor
from glidexp.models.validity import Validity, Verdict

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Strip = tuple[int, Bytes, Mask]
SIDE = 6
"""most tiles down and across a scene"""
SEEN = 12
"""most tiles that the encoder is shown"""


@dataclass(slots=True)
class Sample:
    """Tiles on an even grid over a scene, filled from rows that come from top to bottom."""

    height: int
    width: int
    tile_px: int
    tiles: dict[tuple[int, int], tuple[Bytes, Mask]] = field(default_factory=dict, init=False)
    """by top and left: (h, w, C) and (h, w)"""

    @property
    def size(self) -> tuple[int, int]:
        """Of a tile: smaller where the scene is."""
        return min(self.tile_px, self.height), min(self.tile_px, self.width)

    def passing(self, strips: Generator[Strip, None, None]) -> Generator[Strip, None, None]:
        """The same strips; what of them lies in a tile is copied on the way."""
        high, lefts = self.size[0], _starts(self.width, self.size[1])
        with closing(strips):
            for row, image, valid in strips:
                for top in _starts(self.height, high):
                    self._copied(row, image, valid, top, lefts)
                yield row, image, valid

    def _copied(self, row: int, image: Bytes, valid: Mask, top: int, lefts: list[int]) -> None:
        """What of rows from `row` on lies in the tiles from `top` on."""
        high, wide = self.size
        first, last = max(row, top), min(row + len(image), top + high)
        for left in lefts if first < last else ():
            if (top, left) not in self.tiles:
                empty = np.zeros((high, wide, image.shape[2]), np.uint8), np.zeros((high, wide), bool)
                self.tiles[top, left] = empty
            for held, now in zip(self.tiles[top, left], (image, valid), strict=True):
                held[first - top : last - top] = now[first - row : last - row, left : left + wide]

    def usable(self) -> list[tuple[Bytes, Mask]]:
        """Tiles with pixels enough, from top to bottom."""
        return [tile for _, tile in sorted(self.tiles.items()) if tile[1].mean() >= traits.LEAST_VALID]


def judge(
    validity: Validity, sample: Sample, sensor: str, predictor: Predictor, *, sure: bool = False
) -> Verdict | None:
    """The verdict on a scene; None where no tile has pixels enough.

    Args:
        validity: of the model
        sample: filled
        sensor: of the scene
        predictor: the model, told what it is to know of the scene
        sure: also how sure the model is of its map of these tiles
    """
    tiles = sample.usable()
    if not tiles:
        return None
    found = np.array([traits.traits(image, valid, validity.bands) for image, valid in tiles])
    places = np.linspace(0, len(tiles) - 1, min(SEEN, len(tiles))).astype(int)
    seen = None
    if validity.axes is not None:
        seen = features(predictor, np.stack([tiles[place][0] for place in places]))
    if not sure:
        return validity.judge(sensor, found, seen)
    images, valids = np.stack([image for image, _ in tiles]), np.stack([valid for _, valid in tiles])
    return validity.judge(sensor, found, seen, certainty_of(predictor, images, valids))


def told_of(verdict: Verdict | None, name: str) -> dict[str, Any]:
    """What a map's summary says: the verdict's numbers, and `said`, a warning where the scene is outside."""
    if verdict is None:
        return {}
    return {**verdict.to_json(), "said": [verdict.sentence(name)] if verdict.outside else []}


def looked_over(scene: Scene, tile_px: int, limits: stretch.Stretch | None, fit: StretchConfig | None = None) -> Sample:
    """The sample of a scene, decoded for it alone.

    Args:
        scene: its header
        tile_px: side of a tile
        limits: of the stretch; without them `fit` says how they are found, else pixels are taken as they are
        fit: how limits are fitted to the scene
    """
    found = Sample(scene.height, scene.width, tile_px)
    unit = raster.unit_px(scene)
    with (
        tempfile.TemporaryDirectory(prefix="glidexp-look-") as aside,
        Strips(scene, unit, Path(aside), min(unit, STRIP_PX), 2) as strips,
    ):
        if limits is None and fit is not None:
            limits = raster.fitted(strips, fit)
        tables = limits.tables(scene.numbers, scene.terrain) if limits else None
        eight_bit = ((top, raster.in_8_bit(pixels, valid, tables), valid) for top, pixels, valid in strips.once())
        for _ in found.passing(eight_bit):
            pass
    return found


def _starts(length: int, size: int) -> list[int]:
    """Where tiles begin along a side: at most `SIDE`, evenly spaced, none over another."""
    count = max(1, min(SIDE, length // size))
    return sorted({int(start) for start in np.linspace(0, length - size, count)})
