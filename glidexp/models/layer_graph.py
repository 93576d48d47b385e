"""A network that is fed what a layer of a map holds: its raw values, divided by 255, of which it makes its own pixels.

Programs that run any ONNX file on any layer do to pixels what is usual for pictures of 8 bit, and know neither the
limits of a stretch nor values without data: both are part of the graph here. Layout (B, C, H, W).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from glidexp.models.graph import Graph

MOST_LEVEL = 255.0
"""what values are divided by, and the largest of a pixel that a network takes"""


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer's values are."""

    channels: int
    """that are fed in: its first bands"""
    places: tuple[int, ...]
    """of the bands that the network takes, in its order: places among the channels, from 0"""
    tables: npt.NDArray[np.uint8] | None = None
    """(bands, levels) pixel of each value, as of `Stretch.tables`; None: values are pixels of 0 to 255"""
    lowest: int = 0
    """value that the first column of the tables is for"""
    no_data: tuple[float, ...] = ()
    """value of each band that the network takes where there are no data; none: all are data"""
    in_one: bool = False
    """a pixel has no data where one band has that value, and not only where all have"""


class LayerGraph(nn.Module):
    """From raw values divided by 255 to the probability of lake; 0 without data.

    Values are rounded to whole numbers, since they were divided, and those beyond the levels count as the nearest one.

    Args:
        graph: the network
        layer: what it is fed
    """

    places: torch.Tensor
    tables: torch.Tensor | None
    first: torch.Tensor | None
    no_data: torch.Tensor | None

    def __init__(self, graph: Graph, layer: Layer) -> None:
        super().__init__()
        self.whole = graph  # not `graph`: what is exported has an attribute of that name
        self.least, self.most = 0.0, MOST_LEVEL
        self.in_one = layer.in_one
        self.picked = layer.places != tuple(range(layer.channels))
        self.register_buffer("places", torch.tensor(layer.places))
        tables, first = None, None
        if layer.tables is not None:
            bands, levels = layer.tables.shape
            self.least, self.most = float(layer.lowest), float(layer.lowest + levels - 1)
            tables, first = torch.from_numpy(layer.tables.reshape(-1)), _by_band(torch.arange(bands) * levels)
        self.register_buffer("tables", tables)
        self.register_buffer("first", first)
        self.register_buffer("no_data", _by_band(torch.tensor(layer.no_data)) if layer.no_data else None)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float32, raw values / 255 -> lake probability (B, 1, H, W) in 0-1."""
        raw = torch.round(image * MOST_LEVEL)
        if self.picked:
            raw = raw[:, self.places]
        pixels = raw.clamp(self.least, self.most) - self.least
        if self.tables is not None and self.first is not None:
            pixels = self.tables[pixels.long() + self.first].float()
        if self.no_data is None:
            found: torch.Tensor = self.whole(pixels)
            return found
        data = raw != self.no_data
        valid = data.all(dim=1, keepdim=True) if self.in_one else data.any(dim=1, keepdim=True)
        return torch.where(valid, self.whole(torch.where(valid, pixels, 0.0)), 0.0)


def _by_band(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1)
