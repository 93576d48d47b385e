"""A bundle: a network on disk with all that is needed to use it. `weights.safetensors` + `card.json`, nothing pickled.

The card holds what `save_bundle` was given and: `format`, `format_version`, `glidexp` (version), `weights` (file,
sha256, bytes). A bundle is read back only when its weights have the sha256 that its card names.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glidexp.errors import ConfigError, DataError
from glidexp.models import catalog
from glidexp.models.build import assemble
from glidexp.models.predictor import Predictor

WEIGHTS = "weights.safetensors"
CARD = "card.json"
_FORMAT = "glidexp-bundle"
_FORMAT_VERSION = 1


def save_bundle(folder: Path | str, model: nn.Module, *, card: Mapping[str, Any]) -> Path:
    """Writes the network and its card. Weights are written first, so that a card always finds them.

    Args:
        folder: made if absent; a bundle in it is replaced
        model: as `build_model` gave it, also when compiled or wrapped for several devices since
        card: anything JSON can hold. Needed: `architecture` (backbone, decoder, in_channels), `mean` and `std` (a value
            a band, 0-255). Expected by users: `threshold` (0-1), `sensors`, `bands`, `split_hash`, `tile_px`,
            `config_id`, `license`

    Returns:
        the folder

    Raises:
        DataError: the card lacks what is needed
    """
    from safetensors.torch import save

    folder = Path(folder)
    _check_card(card, "the card")
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in _bare(model).state_dict().items()}
    blob = save(weights, metadata={"format": "pt"})
    full = {
        **card,
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "glidexp": _version(),
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)},
    }
    text = json.dumps(full, indent=2, sort_keys=True, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / WEIGHTS, blob)
    _write(folder / CARD, text.encode())
    return folder


def load_bundle(folder: Path | str, *, device: torch.device | str = "cpu") -> Predictor:
    """Reads a bundle back, ready to predict (evaluation mode, float32).

    Raises:
        DataError: no bundle, a foreign or newer one, or weights that are not those the card speaks of
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    card = read_card(folder)
    try:
        blob = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise DataError(
            f"{folder / WEIGHTS} cannot be read ({error.strerror}): copy the whole bundle again."
        ) from error
    if hashlib.sha256(blob).hexdigest() != card["weights"]["sha256"]:
        raise DataError(f"{folder / WEIGHTS} is damaged: its sha256 is not the one in {CARD}. Copy the bundle again.")
    shape = card["architecture"]
    try:
        catalog.check_pair(shape["backbone"], shape["decoder"])
        with torch.random.fork_rng(devices=[]):  # drawing weights that are overwritten must not move the caller's seed
            net = assemble(shape["backbone"], shape["decoder"], in_channels=shape["in_channels"])
        net.load_state_dict(load(blob))
    except (ConfigError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"{folder} holds a network that this version cannot build: {reason}") from error
    predictor = Predictor(
        net,
        mean=card["mean"],
        std=card["std"],
        stride=catalog.stride(shape["decoder"]),
        smallest_px=catalog.smallest_px(shape["backbone"], shape["decoder"]),
        card=card,
    )
    return predictor.to(device).eval()


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
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): copy the bundle again.") from error
    if not isinstance(card, dict) or card.get("format") != _FORMAT:
        raise DataError(f"{path} is not the card of a glidexp bundle: its format must be '{_FORMAT}'.")
    if card.get("format_version") != _FORMAT_VERSION:
        raise DataError(
            f"{path} has format_version {card.get('format_version')}, this version of glidexp reads {_FORMAT_VERSION}: "
            "use the version that wrote it."
        )
    _check_card(card, str(path))
    weights = card.get("weights")
    if not isinstance(weights, dict) or not isinstance(weights.get("sha256"), str):
        raise DataError(f"{path} does not name the sha256 of its weights: copy the bundle again.")
    return card


def _check_card(card: Mapping[str, Any], where: str) -> None:
    shape = card.get("architecture")
    kinds = {"backbone": str, "decoder": str, "in_channels": int}
    if not isinstance(shape, Mapping) or any(not isinstance(shape.get(key), kind) for key, kind in kinds.items()):
        raise DataError(f"{where}: architecture must give backbone and decoder (names) and in_channels (a number).")
    for key in ("mean", "std"):
        values = card.get(key)
        numbers = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
        if not numbers or len(values or ()) != shape["in_channels"] or not all(map(math.isfinite, values or ())):
            raise DataError(
                f"{where}: {key} must be a list of {shape['in_channels']} numbers, a value a band on 0-255."
            )
    if min(card["std"]) <= 0:
        raise DataError(f"{where}: std={card['std']} must be above 0 in every band.")
    threshold = card.get("threshold", 0.5)
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise DataError(f"{where}: threshold={threshold} must be a probability between 0 and 1.")


def _bare(model: nn.Module) -> nn.Module:
    """The network inside the wrappers of torch.compile and of several devices."""
    while True:
        inner = getattr(model, "_orig_mod", None) or (model.module if hasattr(model, "module") else None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _version() -> str:
    try:
        return version("glidexp")
    except PackageNotFoundError:
        return "unknown"


def _write(path: Path, content: bytes) -> None:
    """Writes aside and renames, so that no reader ever sees half a file."""
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)  # mkstemp makes it private
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
