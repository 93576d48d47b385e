"""Which values of a scene become 0 and 255 before the network sees them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rasterio

from glidexp.data.scenes.reading import STRIP_PX, Scene
from glidexp.data.scenes.stretch import Stretch
from glidexp.data.scenes.strips import Strips
from glidexp.errors import DataError
from glidexp.mapping import domain, raster
from glidexp.mapping.settings import StretchFrom


def limits_asked(stretch: StretchFrom, card: Mapping[str, Any], scene: Scene) -> tuple[Stretch | None, str]:
    """The limits, None where they are to be fitted or none are wanted, and whose they are.

    Raises:
        DataError: none are wanted, and the scene is not of 8 bit
    """
    if stretch is StretchFrom.none:
        with rasterio.open(scene.paths[0]) as source:
            if source.dtypes[0] != "uint8":
                raise DataError(f"{scene.file.path} is not 8 bit: --stretch=none takes 8-bit scenes as they are.")
        return None, "none, taken as they are"
    if stretch is StretchFrom.refit:
        return None, "fitted to the scene, as was asked for"
    return domain.limits_of(card, scene)


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
