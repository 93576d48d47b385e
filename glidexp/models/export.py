"""A bundle: a network on disk with all that is needed to use it. Weights, card and ground, nothing pickled.

The card (`models/card.py`) holds what `save_bundle` was given and: `format`, `format_version`, `glidexp` (version),
`weights` (file, sha256, bytes). A bundle is read back only when its weights have the sha256 that its card names.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glidexp.beside import write_bytes
from glidexp.config import Tta
from glidexp.errors import ConfigError, DataError
from glidexp.models import catalog
from glidexp.models.build import assemble
from glidexp.models.card import (
    CARD,
    FORMAT,
    FORMAT_VERSION,
    GROUND,
    VALIDITY,
    WEIGHTS,
    check_card,
    read_card,
    read_part,
    require_lakes,
)
from glidexp.models.mean import MeanOfNetworks
from glidexp.models.predictor import Predictor
from glidexp.models.told import listening, told_of
from glidexp.models.tta import views_of, with_views


def save_bundle(
    folder: Path | str,
    model: nn.Module,
    *,
    card: Mapping[str, Any],
    ground: bytes | None = None,
    validity: bytes | None = None,
) -> Path:
    """Writes the network and its card. Weights are written first, so that a card always finds them.

    Args:
        folder: made if absent; a bundle in it is replaced
        model: as `build_model` gave it, also when compiled or wrapped for several devices or views since; the card
            says `tta` where it is asked about several views of an image
        card: anything JSON can hold. Needed: `architecture` (backbone, decoder, in_channels), `mean` and `std` (a value
            a band, 0-255). Expected by users: `threshold` (0-1), `temperature`, `sensors`, `bands`, `split_hash`,
            `tile_px`, `config_id`, `license`
        ground: what it was trained on, `data.leakage.to_bytes`; the card then names its sha256
        validity: what that looks like, `Validity.to_bytes`; likewise

    Returns:
        the folder

    Raises:
        DataError: the card lacks what is needed
    """
    from safetensors.torch import save

    folder = Path(folder)
    check_card(card, "the card")
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in bare(model).state_dict().items()}
    blob = save(weights, metadata={"format": "pt"})
    views = views_of(model)
    full = {
        **card,
        **({} if views == Tta.none else {"tta": views}),
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "glidexp": _version(),
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)},
    }
    if ground is not None:
        full["ground"] = {**card.get("ground", {}), "file": GROUND, "sha256": hashlib.sha256(ground).hexdigest()}
    if validity is not None:
        full["validity"] = {"file": VALIDITY, "sha256": hashlib.sha256(validity).hexdigest()}
    text = json.dumps(full, indent=2, sort_keys=True, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / WEIGHTS, blob)
    if ground is not None:
        write_bytes(folder / GROUND, ground)
    if validity is not None:
        write_bytes(folder / VALIDITY, validity)
    write_bytes(folder / CARD, text.encode())
    return folder


def load_bundle(folder: Path | str, *, device: torch.device | str = "cpu") -> Predictor:
    """Reads a bundle back, ready to predict (evaluation mode, float32).

    Raises:
        DataError: no bundle, a foreign or newer one, one that knows no lakes, or weights that are not those that the
            card speaks of
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(folder)
    card = read_card(folder)
    require_lakes(card, str(folder))
    blob = read_part(folder, WEIGHTS, card["weights"]["sha256"])
    shape = card["architecture"]
    try:
        nets = [assembled(card) for _ in card.get("members", [card])]
        net = MeanOfNetworks(nets) if "members" in card else nets[0]
        net.load_state_dict(load(blob))
        net = with_views(net, card.get("tta", Tta.none))
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


def assembled(card: Mapping[str, Any]) -> nn.Module:
    """The network that a card describes, with weights that are to be overwritten; a mean's is built once a member.

    Raises:
        ConfigError: names that this version does not know, or that do not go together
    """
    shape = card["architecture"]
    catalog.check_pair(shape["backbone"], shape["decoder"])
    with torch.random.fork_rng(devices=[]):  # drawing weights that are overwritten must not move the caller's seed
        net = assemble(shape["backbone"], shape["decoder"], in_channels=shape["in_channels"])
    listening(net, told_of(card), in_channels=shape["in_channels"])
    return net


def bare(model: nn.Module) -> nn.Module:
    """The network inside the wrappers of torch.compile, of several devices and of several views."""
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
