"""A first layer that was made for other bands, taken over band by band, by name. Layout (O, C, h, w)."""

from collections.abc import Sequence

import torch
from torch import nn

from glidexp.errors import ConfigError


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
    kernel: torch.Tensor, theirs: Sequence[str], ours: Sequence[str], source: str
) -> tuple[torch.Tensor, list[str], list[str]]:
    """The kernel for our bands.

    A band of the same name gets the same kernel. One that the file does not know gets the mean over its bands: a start
    that answers to brightness, as every band of an image does. Bands that we do not have are left out.

    Args:
        kernel: (O, len(theirs), h, w)
        theirs: bands of the file, in the order of its channels
        ours: bands of the tiles
        source: the file, for the message

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
    parts = [kernel[:, theirs.index(band)] if band in theirs else mean for band in ours]
    unmatched = [band for band in ours if band not in theirs]
    return torch.stack(parts, dim=1), unmatched, [band for band in theirs if band not in ours]
