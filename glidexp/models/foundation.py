"""Vision transformers that others trained on Earth observation, as the plain transformer of timm that they are inside.

Their blocks are timm's. What meets the image is not: DOFA draws the kernels of its patches from the wavelengths of the
bands, Prithvi's kernels and positions reach over several dates, CLIP has other names. Once the bands are fixed each is
a plain transformer, which trains, is exported and released as any other.

Sources: DOFA, Xiong et al. 2024, arXiv:2403.15356; Prithvi-EO-2.0, Szwarcman et al. 2024, arXiv:2412.02732; RemoteCLIP,
Liu et al. 2024, arXiv:2306.11029.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glidexp.errors import ConfigError
from glidexp.wording import many

_log = logging.getLogger("glidexp")

Weights = dict[str, torch.Tensor]
WAVELENGTHS_UM = {
    "coastal": 0.443, "blue": 0.49, "green": 0.56, "yellow": 0.605, "red": 0.665, "rededge": 0.705, "rededge2": 0.74,
    "rededge3": 0.783, "nir": 0.842, "nir2": 0.865, "watervapour": 0.945, "cirrus": 1.375, "swir1": 1.61, "swir2": 2.19,
}  # fmt: skip
"""middle of a band by its name, micrometres; Sentinel-2's where it has the band"""
PRITHVI_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
"""bands of Harmonized Landsat and Sentinel-2 that Prithvi was trained on, in its order"""

_KERNEL, _BIAS, _POSITIONS = "patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed"
_DRAWS, _CLIP = "patch_embed.weight_generator.fc_weight.weight", "visual.class_embedding"
_HEADS, _FACTOR, _NM = 4, 0.01, 1000.0
"""of DOFA: heads of what draws the kernels, what its answers are multiplied by, its unit of wavelengths"""


@dataclass(frozen=True, slots=True)
class Plain:
    """A state dict, under the names of timm's transformer where it is one of those known here."""

    weights: Weights
    bands: tuple[str, ...] = ()
    """of its first layer, in its order, where its kind says them"""
    drawn: bool = False
    """whether its first layer was drawn for the data's own bands"""


def as_plain(
    weights: Mapping[str, torch.Tensor], encoder: nn.Module, bands: Sequence[str], wavelengths_um: Sequence[float]
) -> Plain:
    """Turns what DOFA, Prithvi or CLIP keeps into what a plain transformer keeps; any other is left as it is.

    DOFA's first convolution pads its image by a pixel, a plain one does not: it sees all of it moved by that pixel.

    Args:
        weights: from `foreign.read`
        encoder: of the network that is to be filled
        bands: of the images that the network will see
        wavelengths_um: middle of each of them, micrometres, where their names do not tell it

    Raises:
        ConfigError: wavelengths that are not known or would not be used, or patches of another size
    """
    vit, start = getattr(encoder, "model", None), _before(weights, _DRAWS)
    if start is not None:
        inner = _under(weights, start)
        waves = _waves(bands, wavelengths_um)
        kernel, bias = drawn(_under(inner, "patch_embed."), waves)
        places = [f"{band} at {wave:g}" for band, wave in zip(bands, waves, strict=True)]
        _log.info("first layer: drawn by DOFA for %s micrometres", ", ".join(places))
        kept = {name: value for name, value in inner.items() if not name.startswith("patch_embed.")}
        return Plain({**kept, _KERNEL: kernel, _BIAS: bias}, drawn=True)
    if wavelengths_um:
        raise ConfigError(
            "init.wavelengths_um would not be used: the file of init.checkpoint draws no kernels from wavelengths, as "
            "DOFA's does. Leave it out; init.bands names the bands of the file."
        )
    start = _before(weights, _KERNEL)
    if start is not None and weights[start + _KERNEL].ndim == 5:
        return _of_one_date(_under(weights, start), vit)
    start = _before(weights, _CLIP)
    if start is not None and hasattr(vit, "patch_embed"):
        return Plain(_of_clip(_under(weights, start), vit))
    return Plain(dict(weights))


def drawn(generator: Mapping[str, torch.Tensor], wavelengths_um: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernels and bias of the patches that DOFA draws for some bands. Uses no random numbers.

    Args:
        generator: weights under DOFA's `patch_embed.`
        wavelengths_um: middle of each band, micrometres

    Returns:
        kernels (O, C, side, side) and bias (O,)
    """
    generator = {name: value.float() for name, value in generator.items()}
    width = generator["fclayer.w1.weight"].shape[0]
    waves = _sines(torch.tensor(wavelengths_um, dtype=torch.float32) * _NM, width)
    hidden = torch.relu(_linear(generator, "fclayer.w1", waves))
    waves = waves + torch.relu(_linear(generator, "fclayer.w2", hidden))
    tokens = generator["weight_generator.weight_tokens"]
    told = _transformer(generator)(torch.cat([tokens, waves, generator["weight_generator.bias_token"]]))
    kernels = _linear(generator, "weight_generator.fc_weight", told[len(tokens) : -1] + waves) * _FACTOR
    bias = _linear(generator, "weight_generator.fc_bias", told[-1]) * _FACTOR
    side = math.isqrt(kernels.shape[1] // len(bias))
    return kernels.view(len(waves), side, side, len(bias)).permute(3, 0, 1, 2).contiguous(), bias


def resized_positions(weights: Weights, own: Mapping[str, torch.Tensor]) -> Weights:
    """The weights with embeddings of positions on the network's own grid of patches, where the file has another.

    Args:
        weights: under the encoder's names
        own: state of the encoder

    Returns:
        the weights; bicubic on the grid, what is no place (a class token's) as it was
    """
    from timm.layers import resample_abs_pos_embed

    changed = {}
    for name, value in own.items():
        theirs = weights.get(name)
        if not name.endswith(_POSITIONS) or theirs is None or theirs.ndim != 3 or theirs.shape == value.shape:
            continue
        extra = [count - math.isqrt(count) ** 2 for count in (theirs.shape[1], value.shape[1])]
        if theirs.shape[2] == value.shape[2] and extra[0] == extra[1] <= 1:
            side = math.isqrt(value.shape[1])
            changed[name] = resample_abs_pos_embed(theirs, [side, side], num_prefix_tokens=extra[0])
    return weights | changed


def _waves(bands: Sequence[str], given: Sequence[float]) -> Sequence[float]:
    if given and len(given) != len(bands):
        raise ConfigError(
            f"init.wavelengths_um has {many(len(given), 'value')}, the data {many(len(bands), 'band')} "
            f"({', '.join(bands)}): give the "
            "middle of each, micrometres, in their order."
        )
    unknown = [band for band in bands if band not in WAVELENGTHS_UM]
    if unknown and not given:
        raise ConfigError(
            f"init.checkpoint is DOFA, which draws its kernels from wavelengths, and that of {', '.join(unknown)} is "
            f"not known: give init.wavelengths_um, micrometres, one for each of {', '.join(bands)}. Known: "
            f"{', '.join(WAVELENGTHS_UM)}."
        )
    return given or [WAVELENGTHS_UM[band] for band in bands]


def _transformer(generator: Mapping[str, torch.Tensor]) -> nn.Module:
    """What draws DOFA's kernels, filled."""
    inner = _under(generator, "weight_generator.transformer_encoder.")
    hidden, width = inner["layers.0.linear1.weight"].shape
    count = len({name.split(".")[1] for name in inner})
    with torch.device("meta"):  # draws nothing
        layer = nn.TransformerEncoderLayer(width, _HEADS, hidden, dropout=0.0, activation="gelu")
        made = nn.TransformerEncoder(layer, count, enable_nested_tensor=False)
    made.load_state_dict(inner, assign=True)
    return made.eval().requires_grad_(False)


def _sines(positions: torch.Tensor, width: int) -> torch.Tensor:
    rates = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float32) / (width / 2))
    angles = positions[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _linear(weights: Mapping[str, torch.Tensor], name: str, value: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(value, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _of_one_date(weights: Weights, vit: Any) -> Plain:
    """Prithvi as it sees a single date: kernels over dates added up; its positions, which are no weights, made anew.

    Others with kernels over dates are known by other numbers of bands; their positions are left, as they may be learnt.

    Raises:
        ConfigError: positions over several dates that are not Prithvi's
    """
    kernel = weights[_KERNEL].float().sum(dim=2)
    own, theirs = getattr(vit, "pos_embed", None), weights.get(_POSITIONS)
    if kernel.shape[1] == len(PRITHVI_BANDS):
        places = {} if own is None else {_POSITIONS: _of_grid(math.isqrt(own.shape[1] - 1), kernel.shape[0])}
        return Plain({**weights, _KERNEL: kernel, **places}, bands=PRITHVI_BANDS)
    if own is not None and theirs is not None and theirs.shape[1] != own.shape[1]:
        raise ConfigError(
            f"init.checkpoint has kernels over several dates and {theirs.shape[1]} positions where the backbone has "
            f"{own.shape[1]}: of such networks only Prithvi is known, by its {len(PRITHVI_BANDS)} bands. Choose a "
            "backbone that it fits, or a file of single images."
        )
    return Plain({**weights, _KERNEL: kernel})


def _of_grid(side: int, width: int) -> torch.Tensor:
    """Prithvi's embeddings of a class token and side x side places on the first date, (1, 1 + side * side, width)."""
    place, date = width // 16 * 6, width // 16 * 4
    along = _sines(torch.arange(side, dtype=torch.float32), place)
    columns, rows = along.repeat(side, 1), along.repeat_interleave(side, dim=0)
    dates = _sines(torch.zeros(side * side), date)
    return nn.functional.pad(torch.cat([columns, rows, dates], dim=1), (0, 0, 1, 0))[None]


def _of_clip(weights: Weights, vit: Any) -> Weights:
    from timm.models.vision_transformer import checkpoint_filter_fn

    side, own = weights["visual.conv1.weight"].shape[-1], vit.patch_embed.proj.weight.shape[-1]
    if side != own:
        raise ConfigError(
            f"init.checkpoint is CLIP with patches of {side} px, the backbone's have {own}: choose one of timm's with "
            "patches of that size, such as backbone=timm backbone.name=vit_base_patch32_clip_224 for 32."
        )
    renamed: Weights = checkpoint_filter_fn(weights, vit)
    return renamed


def _before(weights: Mapping[str, torch.Tensor], end: str) -> str | None:
    """What stands before `end` in the name that ends with it; None where none does."""
    return next((name.removesuffix(end) for name in weights if name == end or name.endswith("." + end)), None)


def _under(weights: Mapping[str, torch.Tensor], start: str) -> Weights:
    return {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
