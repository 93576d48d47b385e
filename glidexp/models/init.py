"""First weights: drawn, pre-trained on ImageNet, or taken from a file of ours."""

import logging
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glidexp.beside import file_sha256
from glidexp.config import BackboneConfig, InitConfig, InitKind, InitScope
from glidexp.errors import ConfigError, DataError
from glidexp.models.bands import first_layer, matched, say_taken_in_order
from glidexp.models.card import CARD, members_of, read_card
from glidexp.models.catalog import DECODERS, Backbone, Family, find
from glidexp.models.told import NOTHING, WEIGHT, Told, told_of
from glidexp.wording import many

_log = logging.getLogger("glidexp")

_PROBE_S = 5.0
"""seconds after which the hub counts as out of reach; its own client would try for 23 s before it says so"""


def imagenet_arguments(backbone: str, entry: Backbone) -> dict[str, Any]:
    """Arguments that make smp build this encoder with its ImageNet weights, after these were made sure to be on disk.

    Raises:
        ConfigError: there are no such weights, or they are neither cached nor to be had
    """
    source = _source(entry)
    if source is None:
        raise ConfigError(
            f"init=imagenet: there are no pre-trained weights for backbone.name={backbone}; use init=scratch."
        )
    repo, files, revision = source
    paths = [_fetch(backbone, repo, file, revision) for file in files]
    if not entry.encoder.startswith("tu-"):
        return {"encoder_weights": "imagenet"}
    # handed over as a file: timm would otherwise ask the hub again, and fall back to formats that need pickle
    return {"encoder_weights": True, "pretrained_cfg_overlay": {"file": str(paths[-1]), "custom_load": False}}


def imagenet_cached(backbone: str) -> bool:
    """Whether the ImageNet weights of a backbone lie on this machine. Asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    source = _source(find(backbone))
    if source is None:
        return False
    repo, files, revision = source
    return all(isinstance(try_to_load_from_cache(repo, file, revision=revision), str) for file in files)


def hub_silence() -> str:
    """Why nothing can be fetched from the hub of weights; empty where it answers. Fetches nothing."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        _probe(constants.ENDPOINT)
    except OSError as error:
        return _reason(error)
    return ""


def _source(entry: Backbone) -> tuple[str, tuple[str, ...], str | None] | None:
    """Repository, files and revision of an encoder's ImageNet weights on the hub; None where there are none."""
    if entry.family is Family.pixel:
        return None
    if not entry.encoder.startswith("tu-"):
        import segmentation_models_pytorch as smp

        settings = smp.encoders.encoders[entry.encoder]["pretrained_settings"]["imagenet"]
        return settings["repo_id"], ("config.json", "model.safetensors"), settings["revision"]
    import timm

    source = timm.models.get_pretrained_cfg(entry.encoder.removeprefix("tu-"))
    return (source.hf_hub_id, ("model.safetensors",), None) if source is not None and source.hf_hub_id else None


def require_weights(backbone: BackboneConfig, init: InitConfig) -> None:
    """Makes sure that the first weights can be had, before hours go into data. Reads no weights.

    Raises:
        ConfigError: a checkpoint that does not exist, or ImageNet weights that are neither cached nor to be had
    """
    if init.kind is InitKind.imagenet:
        imagenet_arguments(backbone.name, find(backbone.name))
    elif init.checkpoint is not None:
        weights_file(init.checkpoint)


def _fetch(backbone: str, repo: str, file: str, revision: str | None) -> Path:
    """Path of a hub file in the local cache, downloaded if need be."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    silence = hub_silence()
    if not silence:
        try:
            return Path(hf_hub_download(repo, file, revision=revision, etag_timeout=_PROBE_S))
        except (OSError, RuntimeError) as error:  # the hub's own errors are children of OSError
            silence = _reason(error)
    raise ConfigError(
        f"init=imagenet: {file} of {repo} for backbone.name={backbone} could not be downloaded ({silence}) "
        f"and is not in the cache {constants.HF_HUB_CACHE}. Use init=scratch, or copy that folder from a machine "
        "that has the weights; HF_HOME moves it."
    )


def _reason(error: Exception) -> str:
    return (str(getattr(error, "reason", error)).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _probe(endpoint: str) -> None:
    """Raises OSError at once when the hub cannot be reached. Any HTTP answer is good enough."""
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PROBE_S).close()
    except urllib.error.HTTPError as answer:
        answer.close()


def load_checkpoint(
    model: nn.Module, init: InitConfig, bands: Sequence[str], told: Told = NOTHING, terrain: Sequence[str] = ()
) -> None:
    """Fills the network, or its encoder alone, from a .safetensors file, a bundle folder or a foreign state dict.

    Where the file was made for other bands, its first layer is taken over band by band, by name (`bands.matched`).

    Args:
        model: network with an `encoder`; changed in place
        init: settings. Scope all: every weight of file and network must agree. encoder: every weight of the encoder
            must be in the file; what else the file holds is left alone
        bands: of the images that the network will see
        told: what it can be told; of a file that was told something else this is left as it is
        terrain: those of the bands that come of a DEM

    Raises:
        ConfigError: no such file, not a file of weights, or weights that do not fit
    """
    file = weights_file(init.checkpoint)
    card = _card_of(file)
    if members := members_of(card):
        raise ConfigError(
            f"init: {file.parent} is the mean of {len(members)} networks: start from one of them, {', '.join(members)}."
        )
    foreign = init.kind is InitKind.external
    target: nn.Module = model if init.scope is InitScope.all else model.get_submodule("encoder")
    own = target.state_dict()
    seen = [band for band in bands if band not in terrain]  # a DEM's are of no wavelength, and in no foreign file
    if foreign:
        from glidexp.models.foreign import STATISTIC, filling

        found, weights, theirs = filling(file, target, init, seen)
        own = {name: value for name, value in own.items() if not name.endswith(STATISTIC) or name in weights}
    else:
        found = weights = read_safetensors(file)
        theirs = init.bands or [str(band).lower() for band in card.get("bands", [])]
        if init.scope is InitScope.encoder:
            inner = {name.removeprefix("encoder."): v for name, v in weights.items() if name.startswith("encoder.")}
            weights = inner or weights  # a file of an encoder alone has no such prefix
    if not theirs:
        say_taken_in_order(file, seen if foreign else bands)
        theirs = seen if foreign and terrain else []
    if told.learnt or any(name.endswith(WEIGHT) for name in weights):
        same = told.same_words(told_of(card))
        weights = {name: value for name, value in weights.items() if same or not name.endswith(WEIGHT)}
        own = {name: value for name, value in own.items() if name in weights or not name.endswith(WEIGHT)}
    if theirs and theirs != [*bands]:
        first = first_layer(model, len(bands)).removeprefix("" if target is model else "encoder.")
        weights = {**weights, first: _first_of(weights, first, theirs, bands, file, terrain)}
    _compare(own, weights, file, init.scope, found if foreign else {})
    _refuse_values(own, weights, file)
    with torch.no_grad():  # not load_state_dict: smp's encoders override it, each with another signature
        for name, value in own.items():
            value.copy_(weights[name])
    _log.info("first weights: %s (%s) from %s", many(len(own), "tensor"), init.scope, file)


def _first_of(
    weights: Mapping[str, torch.Tensor],
    name: str,
    theirs: Sequence[str],
    ours: Sequence[str],
    file: Path,
    terrain: Sequence[str],
) -> torch.Tensor:
    """The first layer of a file for our bands; says which of them it knows."""
    if name not in weights:
        raise ConfigError(f"init.checkpoint={file} has no {name}, the encoder's first layer: give init.key_map.")
    kernel, unmatched, left = matched(weights[name], theirs, ours, str(file), terrain)
    heights, new = ([band for band in unmatched if (band in terrain) is of_dem] for of_dem in (True, False))
    _log.info(
        "first layer: %d of %d bands matched by name; without match, so the mean of the file's: %s; left out: %s%s",
        *(len(ours) - len(unmatched), len(ours), ", ".join(new) or "none", ", ".join(left) or "none"),
        f"; of a DEM, so 0: {', '.join(heights)}" if heights else "",
    )
    return kernel


def _card_of(file: Path) -> dict[str, Any]:
    """The card beside a file of weights; empty without one."""
    try:
        return read_card(file.parent)
    except DataError:
        return {}


def checkpoint_digest(init: InitConfig) -> dict[str, str]:
    """What stands for the checkpoint's path in a config id: its content, so that a moved file is the same start.

    Returns:
        {"init.checkpoint": "sha256:..."}

    Raises:
        ConfigError: there is no such file, or it is not the one of the card beside it
    """
    file = weights_file(init.checkpoint)
    found, named = file_sha256(file), _card_of(file).get("weights", {})
    if file.name == named.get("file") and found != named.get("sha256"):
        raise ConfigError(
            f"init.checkpoint={file} is damaged: its sha256 is not the one in {CARD} beside it. Copy the bundle again."
        )
    return {"init.checkpoint": f"sha256:{found}"}


def weights_file(path: str | None) -> Path:
    """The file that `init.checkpoint` stands for.

    Raises:
        ConfigError: there is none
    """
    if path is None:
        raise ConfigError("init.kind=checkpoint needs init.checkpoint=PATH, a .safetensors file or a bundle folder.")
    file = Path(path).expanduser()
    file = file / "weights.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise ConfigError(f"init.checkpoint={file} does not exist: give a .safetensors file or a bundle folder.")
    return file


def read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    """Weights of a .safetensors file by name.

    Raises:
        ConfigError: not one
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, torch.Tensor] = load_file(os.fspath(file))
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"init.checkpoint={file} is not a readable safetensors file ({str(error).splitlines()[0]}): "
            "give a .safetensors file or a bundle folder."
        ) from error
    return weights


def _refuse_values(own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], file: Path) -> None:
    """Refuses weights that are no numbers, whole ones (a quantised network's, without its scales), or 0 throughout."""
    for name, value in own.items():
        given = weights[name]
        if not value.is_floating_point():
            continue
        if not given.is_floating_point():
            raise ConfigError(
                f"init.checkpoint={file}: {name} holds whole numbers ({str(given.dtype).removeprefix('torch.')}), as "
                "a quantised network does: give the weights that it was made of."
            )
        if not bool(given.isfinite().all()):
            raise ConfigError(
                f"init.checkpoint={file}: {name} holds values that are no numbers (NaN or infinite): give a checkpoint "
                "of before its training went astray."
            )
    kernels = [weights[name] for name, value in own.items() if value.is_floating_point() and value.ndim > 1]
    if kernels and not any(bool(kernel.any()) for kernel in kernels):  # one look, where it is a network
        raise ConfigError(
            f"init.checkpoint={file}: every kernel is 0, which learns nothing: give weights, or init=scratch."
        )


def _compare(
    own: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    file: Path,
    scope: InitScope,
    foreign: Mapping[str, torch.Tensor],
) -> None:
    """Refuses weights that do not fill `own`; `foreign` are the names as the file has them, where they were changed."""
    missing = sorted(own.keys() - weights.keys())
    extra = sorted(weights.keys() - own.keys()) if scope is InitScope.all else []
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    parts = [
        f"{len(names)} {what} (first: {', '.join(names[:3])})"
        for what, names in (("of another shape", shapes), ("missing", missing), ("not of this network", extra))
        if names
    ]
    if not parts:
        return
    if foreign:
        raise ConfigError(
            f"init.checkpoint={file} does not fill the encoder: {'; '.join(parts)}. The file has {len(foreign)} "
            f"tensors such as {', '.join(list(foreign)[:3])}: choose the backbone it is of, name its bands with "
            "init.bands, or turn its names into ours with init.key_map=[THEIRS:OURS]."
        )
    way = "Choose the backbone, decoder and bands it was trained with, or init.scope=encoder to take the encoder alone."
    if scope is InitScope.encoder:
        partial = " and ".join(name for name, decoder in DECODERS.items() if decoder.partial)
        way = "Choose the backbone and bands it was trained with" + (
            f", and its own decoder: under {partial} an encoder lacks the layers that they do not use." * bool(missing)
            or "."
        )
    raise ConfigError(f"init.checkpoint={file} does not fit the network: {'; '.join(parts)}. {way}")
