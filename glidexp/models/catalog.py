"""Which backbones and decoders there are and which go together. No torch here: `check` answers before it loads.

A backbone is an encoder that gives feature maps; a decoder turns them into one logit a pixel. Names are those typed as
`backbone=...` and `decoder=...`. Every pair that `check` allows is built and trained a step by the tests; an encoder
that differs from a smaller one in width and depth alone, under one decoder or two.
"""

from dataclasses import dataclass
from enum import StrEnum

from glidexp.errors import ConfigError, unknown_name


class Family(StrEnum):
    """What kind of feature maps an encoder gives."""

    conv = "conv"
    """maps at 1/2, 1/4, 1/8, 1/16 and 1/32"""
    four_stage = "four_stage"
    """maps at 1/4, 1/8, 1/16 and 1/32, nothing at 1/2: ConvNeXt, Swin and their like"""
    mit = "mit"
    """the same four maps from smp's own Mix Transformer, which smp refuses where a decoder wants a map at 1/2"""
    plain_vit = "plain_vit"
    """maps of one size from every layer, which `pyramid` brings to the four scales"""
    pixel = "pixel"
    """one map of the input's size, of each pixel alone (`pixel`)"""


@dataclass(frozen=True, slots=True)
class Backbone:
    """One encoder."""

    encoder: str
    """name in segmentation_models_pytorch; `tu-` marks a timm model"""
    family: Family
    dilates: bool = False
    """its last stage can be dilated to stay at 1/16, which DeepLabV3+ needs"""
    options: tuple[tuple[str, bool], ...] = ()
    """arguments that free a timm model from its one image size"""
    smallest_px: int = 32
    """shortest side that it takes, pixels"""
    failing: tuple[str, ...] = ()
    """decoders for its family that it cannot be built or run with all the same"""


@dataclass(frozen=True, slots=True)
class Decoder:
    """One decoder, the encoders it can stand on, and the step in which an image may grow."""

    families: tuple[Family, ...]
    stride: int = 32
    """side of the input is a multiple of this, pixels: one cell of the deepest map that is used"""
    dilated: bool = False
    """needs an encoder that dilates"""
    partial: bool = False
    """leaves some of the encoder's layers unused"""
    pools: bool = False
    """normalises over the batch what it pooled to one value an image"""


_CONV, _FOUR, _MIT, _VIT, _PIXEL = Family.conv, Family.four_stage, Family.mit, Family.plain_vit, Family.pixel
_DEEPEST_PX = 32
"""side of one cell of an encoder's deepest map, pixels"""
_ANY_SIZE = (("strict_img_size", False),)
_ANY_SIZE_VIT = (("dynamic_img_size", True),)

BACKBONES: dict[str, Backbone] = {
    "resnet18": Backbone("resnet18", _CONV, dilates=True),
    "resnet34": Backbone("resnet34", _CONV, dilates=True),
    "resnet50": Backbone("resnet50", _CONV, dilates=True),
    "resnet101": Backbone("resnet101", _CONV, dilates=True),
    "resnext50": Backbone("resnext50_32x4d", _CONV, dilates=True),
    "efficientnet_b0": Backbone("tu-efficientnet_b0", _CONV, dilates=True),
    "efficientnet_b3": Backbone("tu-efficientnet_b3", _CONV, dilates=True),
    "mobilenetv3": Backbone("tu-mobilenetv3_large_100", _CONV, dilates=True),
    "regnetx_002": Backbone("tu-regnetx_002", _CONV, dilates=True),
    "convnext_tiny": Backbone("tu-convnext_tiny", _FOUR, dilates=True),
    "convnext_small": Backbone("tu-convnext_small", _FOUR, dilates=True),
    "swin_tiny": Backbone("tu-swin_tiny_patch4_window7_224", _FOUR, options=_ANY_SIZE),
    "mit_b0": Backbone("mit_b0", _MIT),
    "mit_b2": Backbone("mit_b2", _MIT),
    "mit_b5": Backbone("mit_b5", _MIT),
    "vit_small": Backbone("tu-vit_small_patch16_224", _VIT, options=_ANY_SIZE_VIT),
    "vit_base": Backbone("tu-vit_base_patch16_224", _VIT, options=_ANY_SIZE_VIT),
    "vit_large": Backbone("tu-vit_large_patch16_224", _VIT, options=_ANY_SIZE_VIT),
    "pixel_mlp": Backbone("pixel_mlp", _PIXEL, smallest_px=1),
}

DECODERS: dict[str, Decoder] = {
    "unet": Decoder((_CONV, _FOUR, _MIT, _VIT)),
    "unet_light": Decoder((_CONV, _FOUR, _MIT, _VIT)),
    "unetplusplus": Decoder((_CONV, _FOUR, _VIT)),
    "fcn": Decoder((_CONV, _FOUR, _MIT, _VIT)),
    "deeplabv3plus": Decoder((_CONV, _FOUR), stride=16, dilated=True, pools=True),
    "fpn": Decoder((_CONV, _FOUR, _MIT, _VIT)),
    "upernet": Decoder((_CONV, _FOUR, _MIT, _VIT), pools=True),
    "segformer": Decoder((_CONV, _FOUR, _MIT, _VIT)),
    "linknet": Decoder((_CONV, _FOUR, _VIT)),
    "manet": Decoder((_CONV, _FOUR, _MIT, _VIT)),
    "pspnet": Decoder((_CONV, _FOUR, _MIT), stride=8, partial=True),
    "dpt": Decoder((_VIT,), partial=True),
    "linear": Decoder((_PIXEL,), stride=1),
}


def find(backbone: str) -> Backbone:
    """The listed backbone of this name, or the timm model of this name (which loads timm, seconds).

    Raises:
        ConfigError: neither knows it, or the timm model gives no feature maps that a decoder can use
    """
    if backbone in BACKBONES:
        return BACKBONES[backbone]
    from glidexp.models.timm_lookup import resolve_timm

    return resolve_timm(backbone)


def allowed_decoders(backbone: Backbone) -> list[str]:
    """Names of the decoders that can stand on this encoder."""
    return [name for name, decoder in DECODERS.items() if _fits(backbone, decoder) and name not in backbone.failing]


def _fits(backbone: Backbone, decoder: Decoder) -> bool:
    return backbone.family in decoder.families and (backbone.dilates or not decoder.dilated)


def stride(decoder: str) -> int:
    """Pixels that the side of an input must be a multiple of.

    Raises:
        ConfigError: no such decoder
    """
    if decoder not in DECODERS:
        raise unknown_name("decoder.name", decoder, DECODERS)
    return DECODERS[decoder].stride


def smallest_px(backbone: str, decoder: str) -> int:
    """Shortest side of an input, pixels."""
    step = stride(decoder)
    return -(-find(backbone).smallest_px // step) * step


def check(backbone: str, decoder: str, tile_px: int) -> None:
    """Refuses a network that cannot be built, or a tile that it cannot take.

    Args:
        backbone: `backbone.name`; one outside the list is built on paper, which loads timm
        decoder: `decoder.name`
        tile_px: side of a square tile, pixels

    Raises:
        ConfigError: unknown name, impossible pair, or a tile that is too small or no multiple of the stride
    """
    step = stride(decoder)
    check_pair(backbone, decoder)
    smallest = smallest_px(backbone, decoder)
    if tile_px < smallest or tile_px % step:
        near = sorted({max(tile_px // step * step, smallest), max((tile_px // step + 1) * step, smallest)})
        raise ConfigError(
            f"tile_size.px={tile_px} does not suit backbone.name={backbone} with decoder.name={decoder}: it must be a "
            f"multiple of {step} and at least {smallest}. Choose {' or '.join(map(str, near))}."
        )
    if backbone not in BACKBONES:
        from glidexp.models.timm_lookup import try_pair

        try_pair(backbone, decoder, tile_px)


def check_batch(decoder: str, tile_px: int, batch_size: int) -> None:
    """Refuses training on one tile at a time where batch normalisation would be left with one value.

    Args:
        decoder: `decoder.name`
        tile_px: side of a square tile, pixels
        batch_size: tiles a forward pass, on one device

    Raises:
        ConfigError: batch_size is 1 and the deepest map is a single cell, or the decoder pools to one
    """
    if batch_size < least_batch(decoder, tile_px):
        free = [name for name, other in DECODERS.items() if not other.pools]
        raise ConfigError(
            f"train.batch_size=1 is too small for decoder.name={decoder} at tile_size.px={tile_px}: it normalises over "
            f"the batch and is left with one value. Use train.batch_size=2 or more, or tiles above {_DEEPEST_PX} px "
            f"and decoder={'|'.join(free)}."
        )


def least_batch(decoder: str, tile_px: int) -> int:
    """Tiles that a forward pass needs on one device: two where batch normalisation would be left with one value."""
    return 2 if DECODERS[decoder].pools or tile_px <= _DEEPEST_PX else 1


def check_pair(backbone: str, decoder: str) -> None:
    """Refuses a backbone and a decoder that do not go together.

    Raises:
        ConfigError: with the partners that each of them could have
    """
    stride(decoder)
    found = find(backbone)
    allowed = allowed_decoders(found)
    if decoder in allowed:
        return
    partners = [name for name, other in BACKBONES.items() if _fits(other, DECODERS[decoder])]
    raise ConfigError(
        f"decoder.name={decoder} cannot stand on backbone.name={backbone}. "
        f"Decoders for {backbone}: {', '.join(allowed)}. Backbones for {decoder}: {', '.join(partners)}."
    )
