"""What a network may be told of an image besides its pixels: ground sample distance, or sensor, or nothing.

A vector a tile, all zero where nothing is known. It comes as constant channels behind the bands, and the first
convolution adds what it has learnt of it to its answer; images with the bands alone are images of which nothing is
known. What it adds is drawn as zero, so that a network starts as though it could be told nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import nn

from glidexp.config import Embed
from glidexp.models.bands import first_layer
from glidexp.models.resampled import CHANNELS, resampling, scale_vector

WEIGHT = ".told"
"""end of the name of the weight, (O, E): what each output of the first convolution adds for each number"""
MIDDLE_M = 10.0
"""ground sample distance told as 0: the middle, in powers of two, of 0.5 to 200 m"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a network can be told."""

    kind: Embed
    sensors: tuple[str, ...] = ()
    """that it knows (kind=sensor)"""
    gsd_m: float | None = None
    """ground sample distance at which it sees every image, metres (`resampled`); each image's own where not given"""

    @property
    def learnt(self) -> int:
        """Numbers that it learns from: whether the distance is known and its logarithm, or one a sensor."""
        return {Embed.none: 0, Embed.gsd: 2, Embed.sensor: len(self.sensors)}[self.kind]

    @property
    def size(self) -> int:
        """Numbers in a vector: what it learns from, then by what the image is to be scaled."""
        return self.learnt + (CHANNELS if self.gsd_m else 0)

    def vector(self, sensor: str | None = None, gsd_m: float | None = None) -> list[float]:
        """The vector of an image; zeros where what would be told is not known.

        Args:
            sensor: its name
            gsd_m: ground sample distance, metres; NaN or None where unknown
        """
        known = gsd_m is not None and math.isfinite(gsd_m) and gsd_m > 0
        found = [float(name == sensor) for name in self.sensors] if self.kind is Embed.sensor else []
        if self.kind is Embed.gsd:
            found = [1.0, math.log2(float(gsd_m or 1) / MIDDLE_M) / 2] if known else [0.0, 0.0]
        if self.gsd_m:
            found += scale_vector(float(gsd_m or 1), self.gsd_m) if known else [0.0] * CHANNELS
        return found

    def same_words(self, other: "Told") -> bool:
        """Whether what both learn from means the same."""
        return (self.kind, self.sensors) == (other.kind, other.sensors)

    def to_json(self) -> dict[str, Any]:
        """What a card keeps."""
        return {"kind": self.kind.value, "sensors": list(self.sensors), "gsd_m": self.gsd_m}


NOTHING = Told(Embed.none)


def told_of(card: Mapping[str, Any]) -> Told:
    """What the network of a card can be told; nothing where it does not say."""
    kept = card.get("told")
    return Told(Embed(kept["kind"]), tuple(map(str, kept["sensors"])), kept["gsd_m"]) if kept else NOTHING


def with_told(image: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """The image with a constant channel for each number behind its bands.

    Args:
        image: (B, C, H, W) normalised
        vectors: (B, E)

    Returns:
        (B, C + E, H, W), memory format kept
    """
    batch, _, height, width = image.shape
    constant = vectors.to(image)[:, :, None, None].expand(batch, vectors.shape[1], height, width)
    return _laid_as(image, torch.cat([image, constant], dim=1))


def _laid_as(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Another image in the memory format of this one."""
    last = image.is_contiguous(memory_format=torch.channels_last)
    return other.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def listening(model: nn.Module, told: Told, *, in_channels: int) -> None:
    """Makes the first layer of a network, in place, take the channels of `with_told`, or none of them.

    Args:
        model: network with an `encoder`
        told: what it can be told; for nothing it is left alone
        in_channels: bands of the image

    Raises:
        ConfigError: no convolution of the encoder meets the image
    """
    if told.gsd_m:
        resampling(model, scaled_from=in_channels + CHANNELS)
    if not told.learnt:
        return
    name = first_layer(model, in_channels)
    layer = model.get_submodule(name.removesuffix(".weight"))
    layer.register_parameter("told", nn.Parameter(torch.zeros(len(model.get_parameter(name)), told.learnt)))
    known: Any = type(layer)
    layer.__class__ = _listening(known)  # and not a wrapper, which would give all weights below other names


@cache
def _listening(kind: type[nn.Module]) -> type[nn.Module]:
    """The convolution's class, with another forward pass."""

    def forward(self: Any, image: torch.Tensor) -> torch.Tensor:
        bands = image
        if image.shape[1] > self.in_channels:
            vectors = image[:, self.in_channels :, 0, 0]
            bands = _laid_as(image, image[:, : self.in_channels])
        else:
            vectors = image.new_zeros(image.shape[0], self.told.shape[1])
        answer: torch.Tensor = kind.forward(self, bands)
        return answer + (vectors.to(self.told.dtype) @ self.told.T).to(answer.dtype)[:, :, None, None]

    return cast(type[nn.Module], type(f"Listening{kind.__name__}", (kind,), {"forward": forward, "unlistening": kind}))


def kind_of(layer: nn.Module) -> type[nn.Module]:
    """The class of a layer; of one that is told something the class that it had before."""
    kind: type[nn.Module] = getattr(layer, "unlistening", type(layer))
    return kind


def become(layer: nn.Module, kind: type[nn.Module]) -> None:
    """Gives a layer another class; one that is told something still is."""
    known: Any = kind
    layer.__class__ = _listening(known) if hasattr(layer, "unlistening") else known
