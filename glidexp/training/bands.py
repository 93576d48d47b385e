"""A trained network meets tiles that have its bands, maybe in another order and among more."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from glidexp.data.store import TileStore
from glidexp.errors import DataError
from glidexp.models.export import load_bundle


def places_of_bands(card: Mapping[str, Any], tiles: TileStore) -> list[int]:
    """Where each band of the network lies in the tiles, by name.

    Raises:
        DataError: the tiles lack a band, or have one of that name that is no DEM's where the model's is, or the reverse
    """
    there = tiles.bands
    wanted = [str(band).lower() for band in card.get("bands", [])]
    if not wanted:  # a card that does not name them
        if tiles.channels != card["architecture"]["in_channels"]:
            raise DataError(
                f"the model takes {card['architecture']['in_channels']} bands without names, the data has "
                f"{', '.join(there)}: choose data with the bands it was trained on."
            )
        return [*range(tiles.channels)]
    missing = [band for band in wanted if band not in there]
    if missing:
        raise DataError(
            f"the model takes the bands {', '.join(wanted)}, the data has {', '.join(there)}: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Choose data with these bands "
            f"(dataset.bands=[{','.join(wanted)}]), or another model."
        )
    told, here = {*card.get("terrain", [])}, {band for band in tiles.terrain if band in wanted}
    if told != here:
        of_dem, own = ("model's", "data's") if told - here else ("data's", "model's")
        raise DataError(
            f"{' and '.join(sorted(told ^ here))}: the {of_dem} comes of a DEM (dataset.dem), the {own} is the scenes' "
            "own, so their levels are of another meaning. Choose data that were made as the model's."
        )
    return [there.index(band) for band in wanted]


class Bands(torch.nn.Module):
    """A network that is fed some of the bands of a batch, in its own order."""

    def __init__(self, net: torch.nn.Module, order: list[int]) -> None:
        super().__init__()
        self.net = net
        self.order = order

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> logits (B, 1, H, W)."""
        logits: torch.Tensor = self.net(image[:, self.order].contiguous(memory_format=torch.channels_last))
        return logits


def network_of(bundle: Path, bands: list[int], channels: int, told: int) -> torch.nn.Module:
    """The network of a bundle, fed by tiles of so many channels.

    Args:
        bundle: its folder
        bands: where each band of the model lies in the tiles
        channels: of the tiles
        told: numbers that it is told of a tile, which lie behind them
    """
    net = load_bundle(bundle).net
    return net if bands == [*range(channels)] else Bands(net, [*bands, *range(channels, channels + told)])


def normalisation_of(card: Mapping[str, Any], order: list[int], channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that a model was trained with, a value a band of the tiles, 0-255.

    Bands that the model does not take are left as they are.

    Args:
        card: of the model
        order: where each of its bands lies in the tiles
        channels: of the tiles
    """
    return for_bands(card["mean"], order, channels, rest=0), for_bands(card["std"], order, channels, rest=1)


def for_bands(values: list[float], order: list[int], channels: int, rest: float) -> list[float]:
    """A value a band of the tiles, from a value a band of the network."""
    found = [float(rest)] * channels
    for place, value in zip(order, values, strict=True):
        found[place] = value
    return found
