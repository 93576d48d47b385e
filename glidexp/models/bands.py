"""A first layer that was made for other bands, taken over band by band, by name. Layout (O, C, h, w)."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import nn

from glidexp.data.sensors import RGB
from glidexp.errors import ConfigError

_log = logging.getLogger("glidexp")


def first_layer(model: nn.Module, channels: int) -> str:
    """Name of the weight that meets the image: the first convolution, or the embedding of patches.

    Raises:
        ConfigError: no convolution of the encoder takes so many channels
    """
    for name, module in model.get_submodule("encoder").named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == channels:
            return f"encoder.{name}.weight"
    raise ConfigError(f"init: no first layer of {channels} bands was found in this encoder: use init=scratch.")


def matched(
    kernel: torch.Tensor, theirs: Sequence[str], ours: Sequence[str], source: str, terrain: Collection[str] = ()
) -> tuple[torch.Tensor, list[str], list[str]]:
    """The kernel for our bands.

    A band of the same name gets the same kernel. One that the file does not know gets the mean over its bands: a start
    that answers to brightness, as every band of an image does. One that comes of a DEM is no brightness: it begins at
    0, so that the network begins with the answers of the file's. Bands that we do not have are left out.

    Args:
        kernel: (O, len(theirs), h, w)
        theirs: bands of the file, in the order of its channels
        ours: bands of the tiles
        source: the file, for the message
        terrain: those of ours that come of a DEM

    Returns:
        kernel (O, len(ours), h, w), our bands without a match, their bands that are left out

    Raises:
        ConfigError: another number of bands, or not one in common
    """
    if kernel.shape[1] != len(theirs):
        raise ConfigError(
            f"init.bands=[{','.join(theirs)}] names {len(theirs)} bands, the first layer of {source} takes "
            f"{kernel.shape[1]}: name each, in its order."
        )
    if not {*theirs} & {*ours}:
        raise ConfigError(
            f"init.bands=[{','.join(theirs)}]: none of the data's bands {', '.join(ours)} is among them: bands are "
            "matched by name."
        )
    mean = kernel.mean(dim=1)
    new = {band: torch.zeros_like(mean) if band in terrain else mean for band in ours}
    parts = [kernel[:, theirs.index(band)] if band in theirs else new[band] for band in ours]
    unmatched = [band for band in ours if band not in theirs]
    return torch.stack(parts, dim=1), unmatched, [band for band in theirs if band not in ours]


def say_taken_in_order(file: Path, bands: Sequence[str]) -> None:
    """Warns that a file's first layer, of bands that nobody says, is taken for these; most are of red, green, blue."""
    if tuple(bands) != RGB:
        _log.warning(
            "init.checkpoint=%s: nobody says its bands, so its first layer is taken for %s in this order; init.bands "
            "names the file's own, by which they are matched",
            *(file, ", ".join(bands)),
        )


def by_name(bands: Sequence[str]) -> bool:
    """Whether an encoder of ImageNet, which knows red, green and blue, is to begin with kernels by the bands' names."""
    return tuple(bands) != RGB and bool({*bands} & {*RGB})


def rgb_by_name(model: nn.Module, theirs: nn.Module, bands: Sequence[str], terrain: Collection[str] = ()) -> str | None:
    """Gives the first layer the kernels of an encoder of ImageNet, band by band as `matched`.

    Args:
        model: for our bands; changed in place
        theirs: the same network for red, green and blue, with ImageNet's weights
        bands: ours
        terrain: those of them that come of a DEM

    Returns:
        what was done; None, and nothing is changed, where no first layer of so many bands is found
    """
    try:
        place = first_layer(model, len(bands))
        kernel = theirs.get_parameter(first_layer(theirs, len(RGB)))
    except ConfigError:
        return None
    given, new, left = matched(kernel.detach(), RGB, bands, "ImageNet", terrain)
    with torch.no_grad():
        model.get_parameter(place).copy_(given)
    kinds = {
        "RGB weights": [band for band in bands if band in RGB],
        "their mean": [band for band in new if band not in terrain],
        "0": [band for band in new if band in terrain],
    }
    parts = [f"{what} for {', '.join(names)}" for what, names in kinds.items() if names]
    parts += [f"left out: {', '.join(left)}"] * bool(left)
    return f"the first convolution by name: {'; '.join(parts)}"


def terrain_at_zero(model: nn.Module, channels: int, terrain: int) -> None:
    """Lets an encoder of ImageNet, adapted to bands of other names, begin with those of the scenes alone.

    The adaptation repeats the kernels of R, G and B in turn and scales them by 3 / channels. Those of the scenes are
    scaled back, and those of a DEM begin at 0.

    Args:
        model: changed in place
        channels: of all bands
        terrain: how many of the last come of a DEM
    """
    weight = model.get_parameter(first_layer(model, channels))
    with torch.no_grad():
        weight[:, : channels - terrain] *= channels / max(channels - terrain, 3)
        weight[:, channels - terrain :] = 0
