"""Settings of the network: backbone, decoder, first weights."""

from dataclasses import dataclass, field
from enum import StrEnum

from glidexp.config.ranges import within
from glidexp.errors import ConfigError


class InitKind(StrEnum):
    scratch = "scratch"
    imagenet = "imagenet"
    checkpoint = "checkpoint"
    run = "run"
    external = "external"


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


class Embed(StrEnum):
    none = "none"
    gsd = "gsd"
    sensor = "sensor"


@dataclass(kw_only=True, slots=True)
class InputConfig:
    """What the network is told of an image besides its pixels."""

    embed: Embed = Embed.none
    """ground sample distance, or sensor, by name"""
    unknown: float = 0.25
    """share of the training tiles of which it is told nothing, so that it learns to do without"""
    gsd_m: float | None = None
    """ground sample distance at which it sees every image, metres; each image's own when not given"""

    def __post_init__(self) -> None:
        within("input.unknown", self.unknown, 0, 1, "a share of the tiles")
        if self.gsd_m is not None:
            within("input.gsd_m", self.gsd_m, 0.1, 1000, "metres")


@dataclass(kw_only=True, slots=True)
class InitConfig:
    kind: InitKind = InitKind.scratch
    scope: InitScope = InitScope.all
    """what is taken from a checkpoint"""
    checkpoint: str | None = None
    """path of a .safetensors file or a bundle folder (kind=checkpoint), or of a foreign state dict (kind=external)"""
    run: str | None = None
    """trained model of the store: run id or its first characters, models:/NAME@ALIAS, config:CONFIG_ID (kind=run)"""
    bands: list[str] = field(default_factory=list)
    """bands of the file's first layer, in its order; a bundle says its own (kind=checkpoint, external)"""
    key_map: list[str] = field(default_factory=list)
    """beginnings of names in the file, and what our encoder has in their place, as THEIRS:OURS (kind=external)"""
    wavelengths_um: list[float] = field(default_factory=list)
    """middle of each of the data's bands, micrometres, where names do not tell it (kind=external, of DOFA)"""

    def __post_init__(self) -> None:
        by_path = self.kind in (InitKind.checkpoint, InitKind.external)
        if by_path and not self.checkpoint:
            what = "a .safetensors file or a bundle folder" if self.kind is InitKind.checkpoint else "a state dict"
            raise ConfigError(f"init={self.kind} needs init.checkpoint=PATH: {what}.")
        if not by_path and self.checkpoint:
            raise ConfigError(
                f"init.checkpoint={self.checkpoint} would not be used with init.kind={self.kind}: add init=checkpoint."
            )
        if self.kind is InitKind.run and not self.run:
            raise ConfigError(
                "init=run needs init.run: a run id, a study's name, models:/NAME@ALIAS or config:CONFIG_ID."
            )
        if self.kind is not InitKind.run and self.run:
            raise ConfigError(f"init.run={self.run} would not be used with init.kind={self.kind}: add init=run.")
        alone = (InitKind.external,)
        used = {"bands": (InitKind.checkpoint, InitKind.external), "key_map": alone, "wavelengths_um": alone}
        for name, kinds in used.items():
            if getattr(self, name) and self.kind not in kinds:
                raise ConfigError(f"init.{name} would not be used with init.kind={self.kind}: leave it out.")
        if len({*self.bands}) < len(self.bands) or any(band != band.strip().lower() for band in self.bands):
            raise ConfigError(f"init.bands=[{','.join(self.bands)}] must be lower-case names, each once.")
        for entry in self.key_map:
            if ":" not in entry:
                raise ConfigError(
                    f"init.key_map: '{entry}' is not possible: give THEIRS:OURS, such as encoder_q.: alone."
                )
        for wave in self.wavelengths_um:
            within("init.wavelengths_um", wave, 0.1, 100, "micrometres")
        if self.kind is InitKind.external and self.scope is not InitScope.encoder:
            raise ConfigError("init=external fills the encoder only: init.scope=encoder.")
