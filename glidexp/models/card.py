"""What a bundle says of itself, read and checked without torch.

A bundle is a folder: `weights.safetensors`, `card.json`, and where it is known what it was trained on `ground.parquet`
(which ground) and `validity.safetensors` (what that looks like).
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from glidexp.config import Embed, StretchConfig, StretchMethod
from glidexp.config.data import TERRAIN, StretchScope
from glidexp.errors import ConfigError, DataError

WEIGHTS = "weights.safetensors"
CARD = "card.json"
GROUND = "ground.parquet"
VALIDITY = "validity.safetensors"
FORMAT = "glidexp-bundle"
FORMAT_VERSION = 1


def read_card(folder: Path | str) -> dict[str, Any]:
    """The card of a bundle, checked, without its weights.

    Raises:
        DataError: no card, or not one of ours
    """
    path = Path(folder) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): a bundle holds {CARD} and {WEIGHTS}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): copy the bundle again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DataError(f"{path} is not the card of a glidexp bundle: its format must be '{FORMAT}'.")
    if card.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has format_version {card.get('format_version')}, this version of glidexp reads {FORMAT_VERSION}: "
            "use the version that wrote it."
        )
    check_card(card, str(path))
    weights = card.get("weights")
    if not isinstance(weights, dict) or not isinstance(weights.get("sha256"), str):
        raise DataError(f"{path} does not name the sha256 of its weights: copy the bundle again.")
    for key, (meaning, fits) in PARTS.items():
        if key in card and not fits(card[key], card):
            raise DataError(
                f"{path}: {key}={json.dumps(card[key])[:60]} is not possible: it must be {meaning}. Copy the bundle "
                "again."
            )
    return card


def _texts(value: Any, card: Mapping[str, Any]) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _text(value: Any, card: Mapping[str, Any]) -> bool:
    return value is None or isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _file(value: Any, card: Mapping[str, Any]) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(value.get(key), str) for key in FILE))


def _bands(value: Any, card: Mapping[str, Any]) -> bool:
    if not _texts(value, card):
        return False
    names = [one.lower() for one in value]
    return len({*names}) == len(names) == card["architecture"]["in_channels"]


def _spans(value: Any, card: Mapping[str, Any]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(span, list) and len(span) == 2 and all(map(_number, span)) and 0 < span[0] <= span[1]
        for span in value.values()
    )


def _members(value: Any, card: Mapping[str, Any]) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and isinstance(one.get("uri"), str) for one in value)


def _told(value: Any, card: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict):
        return value is None
    size, known = value.get("gsd_m"), value.get("sensors")
    sound = _texts(known, card) and len({*(known or ())}) == len(known or ())
    return sound and _one_of(value.get("kind"), Embed) and (size is None or (_number(size) and size > 0))


def _one_of(value: Any, kind: type[StrEnum]) -> bool:
    return isinstance(value, str) and value in {*kind}


def _terrain(value: Any, card: Mapping[str, Any]) -> bool:
    """Scenes give their own bands, then those of a DEM, whatever the order on the card."""
    if not _texts(value, card):
        return False
    of_dem = [str(one).lower() in TERRAIN for one in card.get("bands") or []]
    return not value or of_dem == sorted(of_dem)


def _stretch(value: Any, card: Mapping[str, Any]) -> bool:
    if not value:
        return value is None or value == {}
    if not isinstance(value, dict):
        return False
    limits, of, bands = value.get("limits"), value.get("sensors", {}), card["architecture"]["in_channels"]
    told = {key: value[key] for key in ("low", "high") if key in value}
    if not isinstance(limits, dict) or not isinstance(of, dict) or not all(map(_number, told.values())):
        return False
    try:
        method = StretchMethod(value.get("method", StretchMethod.percentile))
        StretchScope(value.get("scope", StretchScope.scene))
        StretchConfig(method=method, **told)
    except (ValueError, ConfigError):
        return False
    return {*of} <= {*limits} and _texts([*of.values()], card) and all(_ends(one, bands) for one in limits.values())


def _ends(value: Any, bands: int) -> bool:
    """Whether these are values of each band that become 0 and 255."""
    sides = [value.get(key) for key in ("low", "high")] if isinstance(value, dict) else []
    sound = bool(sides) and all(
        isinstance(side, list) and len(side) == bands and all(map(_number, side)) for side in sides
    )
    return sound and all(low <= high for low, high in zip(*sides, strict=True))


FILE = ("file", "sha256")
PARTS: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], bool]]] = {
    "bands": ("a name a band, each once", _bands),
    "tile_px": ("whole pixels above 0", lambda value, card: type(value) is int and value > 0),
    "temperature": ("a number above 0, or null", lambda value, card: value is None or (_number(value) and value > 0)),
    "tta": ("a text", lambda value, card: isinstance(value, str)),
    "terrain": ("names of bands of a DEM, and these the last of bands", _terrain),
    "stretch": (
        "how scenes are stretched: method, scope, low below high, and by scene limits, low and high of every band",
        _stretch,
    ),
    "told": ("what the network is told: kind, sensors and gsd_m", _told),
    **dict.fromkeys(("sensors", "regions"), ("a list of names", _texts)),
    "gsd_m": ("least and most metres by sensor", _spans),
    **dict.fromkeys(("ground", "validity"), (" and ".join(FILE), _file)),
    "ancestors": ("a list of models", lambda v, card: isinstance(v, list) and all(isinstance(one, dict) for one in v)),
    "members": ("a list of models, each with its uri", _members),
    **dict.fromkeys(("run_id", "config_id", "split_hash", "data_hash"), ("a text", _text)),
}
"""What a card may say besides, in words, and whether a value is that."""


def check_card(card: Mapping[str, Any], where: str) -> None:
    """Refuses a card without what is needed to build the network and to feed it.

    Raises:
        DataError: `where`, what is missing or wrong
    """
    shape = card.get("architecture")
    kinds = {"backbone": str, "decoder": str, "in_channels": int}
    if not isinstance(shape, Mapping) or any(type(shape.get(key)) is not kind for key, kind in kinds.items()):
        raise DataError(f"{where}: architecture must give backbone and decoder (names) and in_channels (a number).")
    classes = shape.get("classes", 1)
    if type(classes) is not int or classes < 1 or shape["in_channels"] < 1:
        raise DataError(
            f"{where}: architecture has in_channels={shape['in_channels']} and classes={classes!r}: both must be whole "
            "numbers above 0."
        )
    for key in ("mean", "std"):
        values = card.get(key)
        numbers = isinstance(values, list | tuple) and all(_number(value) and abs(value) <= 255 for value in values)
        if not numbers or len(values or ()) != shape["in_channels"]:
            raise DataError(
                f"{where}: {key} must be a list of {shape['in_channels']} numbers, a value a band on 0-255."
            )
    if min(card["std"]) <= 0:
        raise DataError(f"{where}: std={card['std']} must be above 0 in every band.")
    threshold = card.get("threshold", 0.5)
    if not _number(threshold) or not 0 <= threshold <= 1:
        raise DataError(f"{where}: threshold={threshold} must be a probability between 0 and 1.")


def classes_of(card: Mapping[str, Any]) -> int:
    """Logits a pixel that a network gives: 1 of lake, or as many as it knows classes of land cover."""
    return int(card["architecture"].get("classes", 1))


def members_of(card: Mapping[str, Any]) -> list[str]:
    """How the networks of which a bundle is the mean are called in a message; none for a single network."""
    runs = [(str(one.get("run_id") or "")[:12], str(one["uri"])) for one in card.get("members", ())]
    return [f"run {run}" if run else uri for run, uri in runs]


def require_lakes(card: Mapping[str, Any], where: str) -> None:
    """Refuses a network that was trained on land cover where a probability of lake is wanted.

    Raises:
        DataError: it gives several classes
    """
    if classes_of(card) > 1:
        raise DataError(
            f"{where} holds a network of {classes_of(card)} classes of land cover, which knows no lakes: train one "
            "that starts from it, init=run init.run=RUN init.scope=encoder."
        )


def find_bundle(path: Path | str) -> Path:
    """The bundle folder meant by `path`: the folder, a file in it, or a folder with exactly one bundle below it.

    Raises:
        DataError: none or several
    """
    path = Path(path).expanduser()
    if path.is_file() and path.name in (CARD, WEIGHTS):
        path = path.parent
    if (path / CARD).is_file():
        return path
    if not path.is_dir():
        kind = "is no bundle" if path.exists() else "does not exist"
        raise DataError(f"{path} {kind}: give a folder with {CARD} and {WEIGHTS}.")
    found = sorted(card.parent for card in path.rglob(CARD) if (card.parent / WEIGHTS).is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{path} holds no bundle: give a folder with {CARD} and {WEIGHTS}.")
    raise DataError(f"{path} holds {len(found)} bundles: choose one, for example {found[0]}.")


def read_part(folder: Path, name: str, sha256: str) -> bytes:
    """A file of a bundle, compared with the sha256 that its card names.

    Raises:
        DataError: it is missing or damaged
    """
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"{folder / name} cannot be read ({error.strerror}): copy the whole bundle again.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{folder / name} is damaged: its sha256 is not the one in {CARD}. Copy the bundle again.")
    return content
