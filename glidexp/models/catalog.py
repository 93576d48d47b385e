"""Which backbones and decoders there are and which go together. No torch here: `check` answers before anything heavy loads.

A backbone is an encoder that gives feature maps; a decoder turns them into one logit a pixel. Names are those typed as
`backbone=...` and `decoder=...`. Every pair that `check` allows is built and trained a step by the tests.
"""

from dataclasses import dataclass
from enum import StrEnum

from glidexp.errors import ConfigError, unknown_name


class Family(StrEnum):
    """What kind of feature maps an encoder gives."""

    conv = "conv"
    """maps at 1/2, 1/4, 1/8, 1/16, 1/32 from convolutions whose strides can be turned into dilations"""
    four_stage = "four_stage"
    """maps at 1/4, 1/8, 1/16, 1/32: ConvNeXt and hierarchical transformers; nothing at 1/2"""
    plain_vit = "plain_vit"
    """maps of one size from every layer, at 1 / patch"""


@dataclass(frozen=True, slots=True)
class Backbone:
    """One encoder."""

    encoder: str
    """name in segmentation_models_pytorch; `tu-` marks a timm model"""
    family: Family
    stride: int
    """input pixels, a side, to one cell of the deepest feature map"""
    options: tuple[tuple[str, bool], ...] = ()
    """arguments for timm"""
    dilates: bool = False
    """its last stage can be dilated to 1/16, which DeepLabV3+ needs"""


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder and the encoders it can stand on."""

    families: tuple[Family, ...]
    stride: int | None = None
    """input pixels, a side, to one cell of the deepest map that it uses; the backbone's own when None"""
    needs_half: bool = False
    """needs a map at 1/2, which `four_stage` encoders lack"""


_CONV, _FOUR, _VIT = Family.conv, Family.four_stage, Family.plain_vit

BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone("resnet18", _CONV, 32, dilates=True),
    "resnet34": Backbone("resnet34", _CONV, 32, dilates=True),
    "resnet50": Backbone("resnet50", _CONV, 32, dilates=True),
    "resnet101": Backbone("resnet101", _CONV, 32, dilates=True),
    "resnext50": Backbone("resnext50_32x4d", _CONV, 32, dilates=True),
    "efficientnet_b0": Backbone("tu-efficientnet_b0", _CONV, 32, dilates=True),
    "efficientnet_b3": Backbone("tu-efficientnet_b3", _CONV, 32, dilates=True),
    "mobilenetv3": Backbone("tu-mobilenetv3_large_100", _CONV, 32, dilates=True),
    "convnext_tiny": Backbone("tu-convnext_tiny", _FOUR, 32),
    "convnext_small": Backbone("tu-convnext_small", _FOUR, 32),
    "swin_tiny": Backbone("tu-swin_tiny_patch4_window7_224", _FOUR, 32, options=(("strict_img_size", False),)),
    "mit_b0": Backbone("mit_b0", _FOUR, 32),
    "mit_b2": Backbone("mit_b2", _FOUR, 32),
    "mit_b5": Backbone("mit_b5", _FOUR, 32),
    "vit_small": Backbone("tu-vit_small_patch16_224", _VIT, 16, options=(("dynamic_img_size", True),)),
}

DECODERS: dict[str, Decoder] = {
    "unet": Decoder((_CONV, _FOUR)),
    "unetplusplus": Decoder((_CONV, _FOUR)),
    "fcn": Decoder((_CONV, _FOUR)),
    "deeplabv3plus": Decoder((_CONV, _FOUR), stride=16),
    "fpn": Decoder((_CONV, _FOUR)),
    "upernet": Decoder((_CONV, _FOUR)),
    "segformer": Decoder((_CONV, _FOUR)),
    "linknet": Decoder((_CONV,), needs_half=True),
    "manet": Decoder((_CONV, _FOUR)),
    "pspnet": Decoder((_CONV, _FOUR), stride=8),
    "dpt": Decoder((_VIT,)),
}


def find(backbone: str) -> Backbone:
    """The listed backbone of this name, or the timm model of this name (which loads timm, 4 s).

    Raises:
        ConfigError: neither knows it
    """
    if backbone in BACKBONES:
        return BACKBONES[backbone]
    from glidexp.models.timm_lookup import resolve_timm

    return resolve_timm(backbone)


def allowed_decoders(backbone: Backbone) -> list[str]:
    """Names of the decoders that can stand on this encoder."""
    return [name for name, decoder in DECODERS.items() if _fits(backbone, name, decoder)]


def _fits(backbone: Backbone, name: str, decoder: Decoder) -> bool:
    return backbone.family in decoder.families and (name != "deeplabv3plus" or backbone.dilates)


def stride(backbone: str, decoder: str) -> int:
    """Pixels that the side of an input must be a multiple of."""
    return DECODERS[decoder].stride or find(backbone).stride


def check(backbone: str, decoder: str, tile_px: int) -> None:
    """Refuses a network that cannot be built, or a tile that it cannot take.

    Args:
        backbone: `backbone.name`
        decoder: `decoder.name`
        tile_px: side of a square tile, pixels

    Raises:
        ConfigError: unknown name, impossible pair, or a tile that is no multiple of the stride
    """
    if decoder not in DECODERS:
        raise unknown_name("decoder.name", decoder, DECODERS)
    found = find(backbone)
    allowed = allowed_decoders(found)
    if decoder not in allowed:
        partners = [name for name, other in BACKBONES.items() if _fits(other, decoder, DECODERS[decoder])]
        raise ConfigError(
            f"decoder.name={decoder} cannot stand on backbone.name={backbone}. "
            f"Decoders for {backbone}: {', '.join(allowed)}. Backbones for {decoder}: {', '.join(partners)}."
        )
    step = DECODERS[decoder].stride or found.stride
    if tile_px < step or tile_px % step:
        lower, upper = tile_px // step * step, (tile_px // step + 1) * step
        near = f"{lower} or {upper}" if lower else str(upper)
        raise ConfigError(
            f"tile_size.px={tile_px} is not a multiple of {step}, the stride of backbone.name={backbone} "
            f"with decoder.name={decoder}: choose {near}."
        )
