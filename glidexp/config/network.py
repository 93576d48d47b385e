"""Settings of the network: backbone, decoder, first weights."""

from dataclasses import dataclass
from enum import StrEnum

from glidexp.errors import ConfigError


class InitKind(StrEnum):
    scratch = "scratch"
    imagenet = "imagenet"
    checkpoint = "checkpoint"


class InitScope(StrEnum):
    all = "all"
    encoder = "encoder"


@dataclass(kw_only=True, slots=True)
class BackboneConfig:
    name: str = "resnet18"
    """a listed backbone, or any timm model that gives feature maps at 1/4 to 1/32"""

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("backbone.name is empty: backbone=timm needs a timm model, as backbone.name=regnety_004.")


@dataclass(kw_only=True, slots=True)
class DecoderConfig:
    name: str = "unet"
    """one of the listed decoders; which backbones it takes is checked at once"""


@dataclass(kw_only=True, slots=True)
class InitConfig:
    kind: InitKind = InitKind.scratch
    scope: InitScope = InitScope.all
    """what is taken from a checkpoint"""
    checkpoint: str | None = None
    """path of a .safetensors file or of a bundle folder (kind=checkpoint)"""

    def __post_init__(self) -> None:
        if self.kind is InitKind.checkpoint and not self.checkpoint:
            raise ConfigError("init=checkpoint needs init.checkpoint=PATH: a .safetensors file or a bundle folder.")
        if self.kind is not InitKind.checkpoint and self.checkpoint:
            raise ConfigError(
                f"init.checkpoint={self.checkpoint} would not be used with init.kind={self.kind}: add init=checkpoint."
            )
