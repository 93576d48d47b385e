"""What a layer of QGIS holds that a model is to map: pictures of 8 bit, or the raw values of a scene."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.declared import masked_of, no_data_of, scaled_of
from glidexp.data.scenes.numbers import AS_THEY_ARE, LEVELS
from glidexp.data.scenes.reading import Scene, opened_files
from glidexp.data.scenes.stretch import Stretch
from glidexp.errors import ConfigError, DataError
from glidexp.mapping import domain
from glidexp.mapping.levels import limits_of_map
from glidexp.mapping.settings import StretchFrom
from glidexp.models.layer_graph import Layer

SIGNED = "int16"
"""the one kind with a sign that the plugin takes; it has real numbers in its list, and fails on them"""
NEAR = 0.005
"""a projected layer's metres differ from the ground's by less, so that a round number is meant"""
SQUARE = 0.01
"""sides of a pixel that differ by a larger share are no square"""


@dataclass(frozen=True, slots=True)
class Source:
    """A layer, and what is said of it."""

    layer: Layer
    pixel_m: float
    """side of a pixel in the layer's own coordinates, metres"""
    gsd_m: float | None
    """of the ground; None where no scene says it"""
    sensor: str
    said: tuple[str, ...]
    """what the file takes, in sentences"""
    warnings: tuple[str, ...]
    facts: dict[str, Any]
    """for the file's metadata"""


def of_scene(card: Mapping[str, Any], file: SceneFile, stretch: StretchFrom, no_data: float | None) -> Source:
    """A layer that is a scene as it lies on disk, stretched as its map would be.

    Args:
        card: of the model
        file: the scene
        stretch: as `--stretch`
        no_data: value of all bands where there are no data; None: as the scene declares it

    Raises:
        DataError: the scene cannot be used, or not by QGIS
    """
    scene = domain.header(card, file)
    warnings = [*scene.warnings, *domain.outside(card, scene)]
    if stretch is StretchFrom.auto:
        warnings += domain.of_another_baseline(card, scene)
    with ExitStack() as stack:
        opened = opened_files(scene, stack)
        if scaled := scaled_of(scene, opened):
            raise DataError(
                f"{scaled[0]} declares a scale or an offset of its values, which QGIS applies before a model sees "
                f"them: take it out, as gdal_translate -a_scale 1 -a_offset 0 {scaled[0].name} OUT.tif."
            )
        masked = bool(masked_of(scene, opened))
        declared = [] if masked else no_data_of(scene, opened)
    if scene.numbers not in (*AS_THEY_ARE, SIGNED):
        raise DataError(
            f"{scene.file.path} holds {scene.numbers}, of which the plugin takes no layer: map it by glidexp predict, "
            "or write it as whole numbers of 16 bit, as decibels times 100 (gdal_calc.py --type=Int16)."
        )
    without = (no_data,) * scene.channels if no_data is not None else _whole(declared)
    if masked and no_data is None:
        warnings.append(f"{scene.name}: a mask says where it has no data, which a model is not told: give --no-data.")
    limits, whose = limits_of_map(stretch, card, scene)
    pixel_m, words = _pixel_m(scene)
    channels = len(scene.bands) if file.bands else max(scene.bands)
    places = tuple(range(channels)) if file.bands else tuple(number - 1 for number in scene.bands)
    layer = _layer(channels, places, limits, without, scene.numbers)
    facts = {"scene": scene.name, "stretch": whose} | (limits.to_json() if limits else {})
    return Source(
        layer=layer,
        pixel_m=pixel_m,
        gsd_m=scene.gsd_m,
        sensor=file.sensor,
        said=(_bands_of(card, scene), f"values: as {scene.name} holds them; stretch {whose}", _said_of(layer)),
        warnings=(*warnings, *words),
        facts=facts | {"no_data": list(without)},
    )


def of_pictures(
    card: Mapping[str, Any], sensor: str, stretch: StretchFrom, no_data: float | None, pixel_m: float | None
) -> Source:
    """Any layer whose bands are those of the model: of 8 bit, or raw where the card has limits for all scenes.

    Args:
        card: of the model
        sensor: as `--sensor`
        stretch: as `--stretch`
        no_data: value of all bands where there are no data; None: all are data
        pixel_m: side of a pixel, metres; None: as the model was trained on

    Raises:
        ConfigError: a stretch that needs a scene, or pixels of several sizes
    """
    if stretch is StretchFrom.refit:
        raise ConfigError("--stretch=refit is fitted to a scene: name SCENE, or leave it out.")
    limits: Stretch | None = None
    whose = "none, taken as they are"
    if stretch is StretchFrom.auto:
        found, words = domain.limits_for(card, sensor)
        limits, whose = (found, words) if found else (limits, whose)
    bands = domain.bands_of(card)
    without = (no_data,) * len(bands) if no_data is not None else ()
    held = "raw, as those of training" if limits else "pictures of 8 bit (another scene is stretched as SCENE alone)"
    order = f"bands: {', '.join(bands)}, in this order; of a layer in another one they are chosen in the plugin"
    layer = _layer(len(bands), tuple(range(len(bands))), limits, without)
    return Source(
        layer=layer,
        pixel_m=_trained_on(card, sensor) if pixel_m is None else pixel_m,
        gsd_m=None,
        sensor=sensor,
        said=(order, f"values: {held}; stretch {whose}", _said_of(layer)),
        warnings=(),
        facts={"stretch": whose, **(limits.to_json() if limits else {}), "no_data": list(without)},
    )


def _layer(
    channels: int, places: tuple[int, ...], limits: Stretch | None, without: tuple[float, ...], kind: str = ""
) -> Layer:
    """A layer of values of a kind, or of 16 bit with or without sign where it is not known."""
    low = -LEVELS // 2
    signed = kind == SIGNED or (not kind and any(value < 0 for value in without))
    in_one = signed and 0 not in without  # as `numbers.has_data`
    if limits is None or kind in AS_THEY_ARE:
        return Layer(channels, places, limits.tables() if limits else None, no_data=without, in_one=in_one)
    tables = limits.tables(SIGNED)
    if not kind:
        tables = np.concatenate([tables[:, :-low], limits.tables()], axis=1)
    return Layer(channels, places, tables, low, without, in_one)


def _whole(values: list[float | None]) -> tuple[float, ...]:
    """Values without data, where each band has one."""
    known = [float(value) for value in values if value is not None]
    return tuple(known) if len(known) == len(values) else ()


def _said_of(layer: Layer) -> str:
    if not layer.no_data:
        return "no data: no value stands for it"
    values = ", ".join(f"{value:g}" for value in dict.fromkeys(layer.no_data))
    return f"no data: {values} in {'one band' if layer.in_one else 'all bands'}, never a lake"


def _bands_of(card: Mapping[str, Any], scene: Scene) -> str:
    names = domain.bands_of(card)
    if scene.file.bands:
        files = ", ".join(path.name for path in scene.paths)
        return f"bands: {files}, in this order, as one layer (Raster, Miscellaneous, Build Virtual Raster)"
    told = ", ".join(f"{name} is band {number}" for name, number in zip(names, scene.bands, strict=True))
    return f"bands: as {scene.file.path.name} has them ({told}); the plugin's own mapping stays as it is"


def _pixel_m(scene: Scene) -> tuple[float, list[str]]:
    """Side of a pixel in the scene's CRS, as far as that counts in metres, and warnings."""
    across, down = abs(scene.transform.a), abs(scene.transform.e)
    if {axis.unit_name for axis in scene.crs.axis_info[:2]} - {"metre", "meter"} or not across or not down:
        return scene.gsd_m, [
            f"{scene.name}: its coordinates are no metres, which the plugin counts in: bring the layer to a CRS in "
            "metres first (Raster, Projections, Warp), and name that as SCENE."
        ]
    if abs(down / across - 1) > SQUARE:
        return across, [f"{scene.name}: a pixel is {across:g} x {down:g} m, of which QGIS makes squares of {across:g}."]
    return across, []


def _trained_on(card: Mapping[str, Any], sensor: str) -> float:
    """Side of the pixels that the model was trained on, metres.

    Raises:
        ConfigError: they are not known, or of several sizes
    """
    sizes = domain.pixel_sizes(card, sensor)
    if not sizes:
        raise ConfigError("the model's card tells no pixel size: give that of the layer, --gsd-m, or SCENE.")
    low, high = min(pair[0] for pair in sizes), max(pair[1] for pair in sizes)
    if high > low * domain.GSD_RATIO[1]:
        raise ConfigError(
            f"the model was trained on pixels of {low:g} to {high:g} m: give those of the layer, --gsd-m, its --sensor "
            "or SCENE."
        )
    middle = math.sqrt(low * high)
    short = float(f"{middle:.2g}")
    return short if abs(short / middle - 1) < NEAR else middle
