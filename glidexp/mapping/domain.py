"""What a model is for: its sensors, pixel sizes and stretch, kept in its card and held against a new scene."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glidexp.config import StretchConfig, StretchMethod
from glidexp.data import sensors
from glidexp.data.scenes import products
from glidexp.data.scenes.stretch import Stretch
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError, DataError

if TYPE_CHECKING:  # a training asks for `domain_of` alone, and does without GDAL
    from glidexp.data.scenes.catalogue import SceneFile
    from glidexp.data.scenes.reading import Scene

GSD_RATIO = (0.7, 1.43)
"""pixels this much finer or coarser than those of training are said"""


def domain_of(tiles: TileStore, rows: npt.NDArray[np.int64]) -> dict[str, Any]:
    """What the card keeps of the ground that a model was trained on: pixel sizes by sensor, and the stretch.

    Args:
        tiles: the store
        rows: that were trained on
    """
    table = tiles.index.iloc[rows]
    known = table[table["gsd_m"].notna()]
    sizes = known.groupby("sensor")["gsd_m"].agg(["min", "max"])
    found: dict[str, Any] = {"gsd_m": {str(name): [float(low), float(high)] for name, low, high in sizes.itertuples()}}
    limits = tiles.manifest.get("stretch") or {}
    if limits:
        told = dict(tiles.manifest.get("recipe", {}).get("stretch") or {})
        sensor = dict(zip(tiles.index["scene"], tiles.index["sensor"], strict=True))
        found["stretch"] = {
            **{key: told[key] for key in ("method", "low", "high", "scope") if key in told},
            "limits": limits,
            "sensors": {scene: sensor[scene] for scene in limits if scene in sensor},
        }
    return found


def bands_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Bands that the network takes, by name, in its order.

    Raises:
        DataError: the card names none, and they are not three
    """
    bands = tuple(str(band).lower() for band in card.get("bands") or sensors.RGB)
    count = (card.get("architecture") or {}).get("in_channels", len(bands))
    if len(bands) != count:
        raise DataError(
            f"the model's card names no bands, and its network takes {count}: write their names into its card.json, "
            'such as "bands": ["red", "green", "blue", "nir"], in the order of its training.'
        )
    return bands


def header(card: Mapping[str, Any], file: "SceneFile", setting: str = "--dem") -> "Scene":
    """The header of a scene with the bands that the network takes.

    Args:
        card: of the model
        file: the scene
        setting: by which a DEM is given, in messages

    Raises:
        ConfigError: the model takes bands of a DEM and none is given, or the reverse
        DataError: the scene cannot be used, or the DEM
    """
    from glidexp.data.scenes.reading import read_header

    check_dem(card, given=bool(file.dem), setting=setting)
    return read_header(file, bands_of(card))


def check_dem(card: Mapping[str, Any], *, given: bool, setting: str = "--dem") -> None:
    """Refuses a DEM that the model has no use for, and none where it needs one.

    Raises:
        ConfigError: in a sentence
    """
    terrain = card.get("terrain", [])
    if terrain and not given:
        raise ConfigError(
            f"the model takes {' and '.join(terrain)} of a DEM: give {setting}, a raster of heights in metres or a "
            "folder of them."
        )
    if given and not terrain:
        raise ConfigError(f"{setting} would not be used: the model takes {', '.join(bands_of(card))}. Leave it out.")


def outside(card: Mapping[str, Any], scene: "Scene", setting: str = "--sensor") -> list[str]:
    """Sentences on what of a scene the model was not trained for; `setting` is what names a sensor."""
    known = [str(name) for name in card.get("sensors") or ()]
    own, told = scene.file.sensor, []
    if known and own not in known:
        hint = f" Name it with {setting}." if own == sensors.UNKNOWN else ""
        told.append(f"{scene.name}: sensor {own} is not one that the model was trained on ({', '.join(known)}).{hint}")
    ranges = pixel_sizes(card, own)
    if ranges and not any(GSD_RATIO[0] * low <= scene.gsd_m <= GSD_RATIO[1] * high for low, high in ranges):
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        size = f"{low:g} m" if low == high else f"{low:g} to {high:g} m"
        told.append(f"{scene.name}: a pixel is {scene.gsd_m:g} m, the model was trained on {size}.")
    return told


def pixel_sizes(card: Mapping[str, Any], sensor: str) -> list[tuple[float, float]]:
    """Least and largest ground sample distance of training, metres: of a sensor, of each where that is not known."""
    known = [str(name) for name in card.get("sensors") or ()]
    sizes: Mapping[str, Any] = card.get("gsd_m") or {
        name: [sensors.get(name).gsd_m] * 2 for name in known if name in sensors.names()
    }
    met = sizes.get(sensor)
    return [(float(low), float(high)) for low, high in ([met] if met else sizes.values()) if low == low]


def limits_of(card: Mapping[str, Any], scene: "Scene") -> tuple[Stretch | None, str]:
    """Limits that the card has for a scene: its own, its sensor's or those of all, as the model's data were stretched.

    Returns:
        the limits, None where they have to be fitted to the scene; and what is said of them
    """
    return limits_for(card, scene.file.sensor, scene.name)


def limits_for(card: Mapping[str, Any], sensor: str, name: str | None = None) -> tuple[Stretch | None, str]:
    """Limits as of `limits_of`, of a scene of this sensor and name; without a name, those of every scene of it."""
    told = card.get("stretch")
    if not told:
        return None, "fitted to the scene (the model's card records no stretch)"
    limits, scope = told["limits"], told.get("scope", "scene")
    if told.get("method") == StretchMethod.fixed and limits:
        return Stretch.from_json(next(iter(limits.values()))), "fixed limits of the model's card"
    if scope == "global" and limits:
        return Stretch.from_json(next(iter(limits.values()))), "limits of the model's card for all scenes"
    if scope == "sensor":
        for known, own in told.get("sensors", {}).items():
            if own == sensor:
                return Stretch.from_json(limits[known]), f"limits of the model's card for sensor {sensor}"
    elif name in limits and told.get("sensors", {}).get(name, sensor) == sensor:
        return Stretch.from_json(limits[name]), f"limits of the model's card for scene {name}"
    return None, "fitted to the scene"


def of_another_baseline(card: Mapping[str, Any], scene: "Scene") -> list[str]:
    """A sentence where a scene of Sentinel-2 gets limits of scenes whose values are 1000 lower, or higher, than its."""
    known = {products.raised(name) for name in (card.get("stretch") or {}).get("limits", {})} - {None}
    own = products.raised(f"{scene.file.path} {scene.file.scene}")
    if own is None or known != {not own} or limits_of(card, scene)[0] is None:
        return []
    of, off = ("04.00 or later", "lower") if own else ("before 04.00", "higher")
    return [
        f"{scene.name}: of Sentinel-2's processing baseline {of}, but stretched by the limits of scenes whose values "
        f"are 1000 {off}: give --stretch refit."
    ]


def method_of(card: Mapping[str, Any]) -> StretchConfig:
    """How limits are fitted: as for the model's data, percentiles 2 and 98 where that is not known."""
    told = card.get("stretch") or {}
    chosen = {key: told[key] for key in ("low", "high") if key in told}
    return StretchConfig(method=StretchMethod(told.get("method", StretchMethod.percentile)), **chosen)
