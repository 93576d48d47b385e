"""Which values of a scene become 0 and 255 before the network sees them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from glidexp.data.scenes.numbers import values_of
from glidexp.data.scenes.reading import STRIP_PX, Scene
from glidexp.data.scenes.stretch import Stretch, apply
from glidexp.data.scenes.strips import Strips, read_blocks
from glidexp.errors import DataError
from glidexp.mapping import domain, raster
from glidexp.mapping.settings import StretchFrom

BLOCKS = 8
"""blocks of a scene that are held against the limits of a card"""
ALL_BUT = 0.999
"""share of pixels beyond them in every band, on one side, from which on the scene is in another unit"""


def limits_asked(stretch: StretchFrom, card: Mapping[str, Any], scene: Scene) -> tuple[Stretch | None, str]:
    """The limits, None where they are to be fitted or none are wanted, and whose they are.

    Raises:
        DataError: none are wanted, and the scene is not of 8 bit; or the card's are not of this scene's unit
    """
    if stretch is StretchFrom.none:
        with rasterio.open(scene.paths[0]) as source:
            if source.dtypes[0] != "uint8":
                raise DataError(f"{scene.file.path} is not 8 bit: --stretch=none takes 8-bit scenes as they are.")
        return None, "none, taken as they are"
    if stretch is StretchFrom.refit:
        return None, "fitted to the scene, as was asked for"
    limits, words = domain.limits_of(card, scene)
    if limits is not None:
        _check_unit(limits, words, scene)
    return limits, words


def _check_unit(limits: Stretch, words: str, scene: Scene) -> None:
    """Refuses limits beyond which a scene's values lie, as those of counts do for reflectance: the map would be empty.

    Raises:
        DataError: of some blocks next to no pixel lies between the limits of any band
    """
    own = len(scene.bands)
    tables = limits.tables(scene.numbers, scene.terrain)[:own]
    beyond, pixels, ends = np.zeros(2, np.int64), 0, list[float]()
    for codes, valid in read_blocks(scene, BLOCKS):
        image = apply(codes[:own], tables)[valid]
        beyond += [np.count_nonzero((image == end).all(axis=1)) for end in (0, 255)]
        pixels += len(image)
        values = values_of(scene.numbers)[codes[:own, valid]]
        ends += [float(values.min()), float(values.max())]
    contrast = all(low < high for low, high in zip(limits.low[:own], limits.high[:own], strict=True))
    if pixels and contrast and beyond.max() > ALL_BUT * pixels:
        raise DataError(
            f"{scene.file.path} holds values of {min(ends):g} to {max(ends):g}, nearly all "
            f"{'below' if beyond[0] > beyond[1] else 'above'} the {words} ({min(limits.low[:own]):g} to "
            f"{max(limits.high[:own]):g}): they are in another unit. Give --stretch refit, or the unit of the training."
        )


def fitted(strips: Strips, card: Mapping[str, Any], scene: Scene) -> Stretch:
    """The limits of a scene's own pixels, found as for the model's data.

    Raises:
        DataError: none of them is valid
    """
    limits = raster.fitted(strips, domain.method_of(card))
    if limits is None:
        raise void(scene)
    return limits


def void(scene: Scene) -> DataError:
    """What is said of a scene without a valid pixel, of which a map would say that it has no lakes."""
    over = " over heights in metres" if scene.dem else ""
    return DataError(f"{scene.file.path} has no valid pixel{over}: there is nothing to map.")


def limits_of_map(stretch: StretchFrom, card: Mapping[str, Any], scene: Scene) -> tuple[Stretch | None, str]:
    """The limits that a map of the scene would have, None where its pixels are taken as they are, and whose they are.

    Raises:
        DataError: as of `limits_asked` and `fitted`
    """
    limits, words = limits_asked(stretch, card, scene)
    if limits is not None or stretch is StretchFrom.none:
        return limits, words
    unit = raster.unit_px(scene)
    with (
        tempfile.TemporaryDirectory(prefix="glidexp-look-") as aside,
        Strips(scene, unit, Path(aside), min(unit, STRIP_PX), 2, raster.KEPT_BYTES) as strips,
    ):
        return fitted(strips, card, scene), words
