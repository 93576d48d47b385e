"""STAC items as a catalogue of scenes: an Item, an ItemCollection (a FeatureCollection of items), or a list of items.

Assets must lie on this machine. An asset that names one band is a band file; one that names several is a file of
bands in that order. Names follow `eo:bands` (STAC 1.0) or `bands` (1.1): the common name, else the name, else the
asset's key.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from glidexp.data.sensors import RGB
from glidexp.errors import DataError

RASTERS = ("image/tiff", "image/jp2", "image/vrt")
SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
"""of files that are scenes"""

CLOUDS = ("scl", "qa_pixel", "fmask")
"""keys of assets that are a provider's layer of clouds"""


@dataclass(frozen=True, slots=True)
class Item:
    """A scene as a STAC item tells it."""

    scene: str
    platform: str
    region: str
    date: str
    path: Path
    order: tuple[str, ...]
    """names of the bands in `path`; empty where it is not said"""
    bands: tuple[tuple[str, Path], ...]
    """(name, file), where every band is a file; then `path` is the first of them"""
    clouds: Path | None
    """the asset `scl`, `qa_pixel` or `fmask`, where that is on this machine"""


def read_items(table: Path) -> list[Item]:
    """The items of a JSON file.

    Raises:
        DataError: no STAC item, an item without id or raster, an asset that is not on this machine
    """
    try:
        content = json.loads(table.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{table} cannot be read as JSON: {error}.") from None
    if isinstance(content, dict) and isinstance(content.get("features"), list):
        content = content["features"]
    items = content if isinstance(content, list) else [content]
    try:
        return [_item(table, item) for item in items]
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{table} holds an item that is not as STAC has it ({error}): write it anew.") from None


def _item(table: Path, item: Any) -> Item:
    if not isinstance(item, dict) or not isinstance(item.get("assets"), dict) or not item.get("id"):
        raise DataError(f"{table} is no STAC item: it must have 'id' and 'assets', or be a collection of such items.")
    scene, told = str(item["id"]), item.get("properties") or {}
    rasters = {key: asset for key, asset in item["assets"].items() if _is_raster(asset)}
    bands: dict[str, Path] = {}
    order: tuple[str, ...] = ()
    stacks: list[tuple[str, Mapping[str, Any], tuple[str, ...]]] = []
    for key, asset in rasters.items():
        names = _names(key, asset)
        if len(names) == 1 and ("data" in (asset.get("roles") or ["data"]) or names[0] in RGB):
            # three of Sentinel-2's bands share one common name
            bands.setdefault(key.lower() if names[0] in bands else names[0], _file(table, scene, asset))
        elif len(names) != 1:
            stacks.append((key, asset, names))
    if len(bands) > 1:
        path = next(iter(bands.values()))
    else:
        stacks = [stack for stack in stacks if "data" in (stack[1].get("roles") or [])] or stacks
        if not stacks and len(rasters) == 1:
            stacks = [(key, asset, ()) for key, asset in rasters.items()]
        if len(stacks) != 1:
            raise DataError(
                f"{table}, item '{scene}': {len(stacks)} assets could be the picture ({', '.join(s[0] for s in stacks)}"
                "); leave one with the role 'data', or name bands by eo:bands."
            )
        path, order, bands = _file(table, scene, stacks[0][1]), stacks[0][2], {}
    platform = told.get("platform") or told.get("constellation") or ""
    return Item(
        scene=scene,
        platform=str(platform[0] if isinstance(platform, list) and platform else platform),
        region=str(told.get("region") or "unknown"),
        date=str(told.get("datetime") or told.get("start_datetime") or "")[:10],
        path=path,
        order=order,
        bands=tuple(bands.items()),
        clouds=_clouds(table, scene, rasters),
    )


def _clouds(table: Path, scene: str, rasters: Mapping[str, Any]) -> Path | None:
    for key, asset in rasters.items():
        if key.lower() in CLOUDS:
            with suppress(DataError):  # elsewhere; a scene whose clouds stay does not need it
                return _file(table, scene, asset)
    return None


def _is_raster(asset: Any) -> bool:
    if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
        return False
    kind = str(asset.get("type") or "").lower()
    if {"thumbnail", "overview", "metadata"} & set(asset.get("roles") or []):
        return False
    return kind.startswith(RASTERS) or (not kind and asset["href"].lower().endswith(SUFFIXES))


def _names(key: str, asset: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of an asset's bands, lower case; of an asset that names none, its key where that is a colour or a code."""
    said: Sequence[Any] = asset.get("eo:bands") or asset.get("bands") or []
    known = [band for band in said if isinstance(band, dict)]
    names = [band.get("common_name") or band.get("eo:common_name") or band.get("name") or key for band in known]
    if not names and (key.lower() in RGB or re.fullmatch(r"B\d{1,2}A?|[VH][VH]", key, re.I)):
        names = [key]
    return tuple(str(name).lower() for name in names)


def _file(table: Path, scene: str, asset: Mapping[str, Any]) -> Path:
    href = asset["href"]
    parts = urlparse(href)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme and len(parts.scheme) > 1:
        raise DataError(f"{table}, item '{scene}': {href} is not on this machine: fetch it, and name the file as href.")
    plain = table.parent / href
    return plain if plain.exists() else table.parent / unquote(href)
