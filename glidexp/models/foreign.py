"""State dicts that others made: unpacked, and their names turned into those of our encoders. Nothing is unpickled that
could run code.
"""

import os
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glidexp.config import InitConfig
from glidexp.errors import ConfigError
from glidexp.models.foundation import as_plain, resized_positions

WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "encoder", "backbone", "net")
"""keys under which training programs put the weights"""
BEGINNINGS = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "encoder_q.",
    "net.",
    "teacher.",
    "base_encoder.",
    "trunk.",
)
"""what such programs put before a weight's name"""
STATISTIC = ".num_batches_tracked"
"""a count that old files lack and that scoring does not use"""


def read(file: Path) -> dict[str, torch.Tensor]:
    """Weights of a .safetensors file, or of a file of torch.save, whatever they are wrapped in.

    Raises:
        ConfigError: unreadable, or more than tensors in it
    """
    if file.suffix == ".safetensors":
        from glidexp.models.init import read_safetensors

        return read_safetensors(file)
    try:
        content: Any = torch.load(os.fspath(file), map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(
            f"init.checkpoint={file} cannot be read as plain tensors ({reason}): save its state dict alone, with "
            "torch.save(model.state_dict(), PATH) or as .safetensors."
        ) from None
    for _ in range(3):
        inner = [
            content[key] for key in WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(key), Mapping)
        ]
        if not inner:
            break
        content = inner[0]
    found = (
        {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    )
    if not found:
        raise ConfigError(
            f"init.checkpoint={file} holds no state dict: {_some(content)}. Save that alone, with "
            "torch.save(model.state_dict(), PATH) or as .safetensors."
        )
    return found


def renamed(weights: Mapping[str, torch.Tensor], own: Iterable[str], key_map: Sequence[str]) -> dict[str, torch.Tensor]:
    """The weights under our encoder's names, as far as they have any.

    Without a map the beginning that all known programs use is tried, and `model.` before it, as timm's encoders have
    it here; the pair under which most names are ours is taken.

    Args:
        weights: from `read`
        own: names of the encoder's state
        key_map: `init.key_map`: THEIRS:OURS, of which the first that fits a name changes it
    """
    known = set(own)
    if key_map:
        pairs = [(theirs, ours) for theirs, _, ours in (entry.partition(":") for entry in key_map)]

        def by_map(name: str) -> str:
            for theirs, ours in pairs:
                if name.startswith(theirs):
                    return ours + name[len(theirs) :]
            return name

        return {by_map(name): value for name, value in weights.items()}
    tries: list[dict[str, torch.Tensor]] = []
    starts = ["", *BEGINNINGS, *(outer + inner for outer in BEGINNINGS for inner in BEGINNINGS)]
    for theirs in starts:
        cut = {name[len(theirs) :]: value for name, value in weights.items() if name.startswith(theirs)}
        tries += [cut, {f"model.{name}": value for name, value in cut.items()}]
    return max(tries, key=lambda names: len(known & names.keys()))


def filling(
    file: Path, encoder: nn.Module, init: InitConfig, bands: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], list[str]]:
    """A file of others, for an encoder of ours.

    Args:
        file: of a state dict
        encoder: of the network that is to be filled
        init: settings, of which bands, wavelengths and the map of names are used
        bands: of the images that the network will see, but for those of a DEM

    Returns:
        the weights as the file has them, those under the encoder's names, and the bands of their first layer, none
        where nobody says them

    Raises:
        ConfigError: unreadable, or what `foundation.as_plain` refuses
    """
    found, own = read(file), encoder.state_dict()
    named = renamed(found, own, init.key_map) if init.key_map else found
    try:
        plain = as_plain(named, encoder, bands, init.wavelengths_um)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(
            f"init.checkpoint={file} holds but a part of a network ({reason}): give the whole file of its authors."
        ) from None
    if plain.drawn and init.bands:
        raise ConfigError(
            "init.bands would not be used: the file of init.checkpoint is DOFA, whose first layer is drawn for the "
            "data's own bands. Leave it out; init.wavelengths_um says where they lie."
        )
    weights = resized_positions(renamed(plain.weights, own, []), own)
    return found, weights, list(bands) if plain.drawn else init.bands or list(plain.bands)


def _some(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it is a {type(content).__name__}"
    return f"its keys are {', '.join([str(key) for key in content][:5]) or 'none'}"
