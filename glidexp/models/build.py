"""From two names to a network: an encoder of smp or timm under a decoder of smp or our own FCN. Layout (B, C, H, W)."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig, InitKind
from glidexp.models import catalog
from glidexp.models.bands import by_name, rgb_by_name, terrain_at_zero
from glidexp.models.fcn import Fcn
from glidexp.models.init import imagenet_arguments, load_checkpoint
from glidexp.models.pixel import PixelNetwork
from glidexp.models.prune import prune_unused
from glidexp.models.told import NOTHING, Told, listening

_log = logging.getLogger("glidexp")

_SMP_CLASSES = {
    "unet": "Unet",
    "unet_light": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "deeplabv3plus": "DeepLabV3Plus",
    "fpn": "FPN",
    "upernet": "UPerNet",
    "segformer": "Segformer",
    "linknet": "Linknet",
    "manet": "MAnet",
    "pspnet": "PSPNet",
    "dpt": "DPT",
}
_LIGHT = (64, 32, 32, 16, 8)
"""channels of `unet_light` from 1/16 to 1/1, where U-Net has 256, 128, 64, 32 and 16"""


def build_model(
    backbone: BackboneConfig,
    decoder: DecoderConfig,
    init: InitConfig,
    *,
    in_channels: int,
    bands: Sequence[str] | None = None,
    classes: int = 1,
    told: Told = NOTHING,
    terrain: Sequence[str] = (),
) -> nn.Module:
    """Builds the network and gives it its first weights. The caller seeds torch; the same seed gives the same weights.

    Args:
        backbone: encoder, listed in `catalog.BACKBONES` or any timm model with feature maps
        decoder: one of `catalog.DECODERS`
        init: where the first weights come from; a run (`init.run`) was turned into its folder before
        in_channels: bands of the input
        bands: their names, where a checkpoint is to be matched by them
        classes: logits a pixel: 1, lake against the rest, or a logit for each class of land cover
        told: what it can be told of an image, in channels behind the bands (`told.with_told`)
        terrain: the last bands, where they come of a DEM: weights of others know nothing of them

    Returns:
        module from normalised images (B, in_channels, H, W), H and W multiples of `catalog.stride`, to logits
        (B, classes, H, W)

    Raises:
        ConfigError: unknown name, impossible pair, weights that are absent or do not fit
    """
    catalog.check_pair(backbone.name, decoder.name)
    pretrained = None
    if init.kind is InitKind.imagenet:
        pretrained = imagenet_arguments(backbone.name, catalog.find(backbone.name))
    model = assemble(backbone.name, decoder.name, in_channels=in_channels, pretrained=pretrained, classes=classes)
    taken = None
    if pretrained and bands and by_name(bands):
        with torch.random.fork_rng(devices=[]):  # the same weights are drawn after it
            theirs = assemble(backbone.name, decoder.name, in_channels=3, pretrained=pretrained)
        taken = rgb_by_name(model, theirs, bands, terrain)
    if pretrained and terrain and taken is None:
        terrain_at_zero(model, in_channels, len(terrain))
    listening(model, told, in_channels=in_channels)
    if init.checkpoint is not None:
        load_checkpoint(model, init, bands or [f"band {place}" for place in range(in_channels)], told, terrain)
    elif in_channels != 3 or taken is not None:
        how = taken or _adaptation(init.kind, in_channels, terrain)
        _log.info("3 -> %d input channels: %s", in_channels, how)
    return model


def _adaptation(kind: InitKind, in_channels: int, terrain: Sequence[str]) -> str:
    if kind is InitKind.scratch:
        return f"the first convolution is drawn anew for {in_channels} bands"
    if terrain:
        known = in_channels - len(terrain)
        scaled = f" and scaled by 3/{known}" * (known > 3)
        return f"the first convolution's RGB weights{scaled}; those of {' and '.join(terrain)} begin at 0"
    if in_channels == 1:
        return "the first convolution's RGB weights are summed"
    return f"the first convolution's RGB weights are repeated in turn and scaled by 3/{in_channels}"


def assemble(
    backbone: str, decoder: str, *, in_channels: int, pretrained: dict[str, Any] | None = None, classes: int = 1
) -> nn.Module:
    """The network with random weights, or with the encoder's pre-trained ones; layers without use are taken out.

    Args:
        backbone: name of the encoder
        decoder: name of the decoder; the pair was checked
        in_channels: bands of the input
        pretrained: arguments that make smp load the encoder's weights; None for random ones
        classes: logits a pixel
    """
    entry = catalog.find(backbone)
    if entry.family is catalog.Family.pixel:
        return PixelNetwork(in_channels, classes)
    options = {"in_channels": in_channels, **dict(entry.options), **(pretrained or {"encoder_weights": None})}
    plain = entry.family is catalog.Family.plain_vit
    if decoder == "dpt" and not _has_prefix_tokens(entry.encoder):
        options["decoder_readout"] = "ignore"
    if plain and decoder != "dpt":
        from glidexp.models.pyramid import on_plain_vit

        model = on_plain_vit(entry.encoder, partial(_stacked, decoder, classes=classes), **options)
    else:
        model = _stacked(decoder, entry.encoder, classes=classes, **options)
    if plain or catalog.DECODERS[decoder].partial:
        side_px = catalog.smallest_px(backbone, decoder)
        prune_unused(model, in_channels=in_channels, side_px=side_px)
    return model


def _stacked(decoder: str, encoder: str, *, classes: int, **options: Any) -> nn.Module:
    """A decoder on an encoder that gives the maps it wants, by smp's name of it."""
    import segmentation_models_pytorch as smp

    if decoder == "fcn":
        weights = options.pop("encoder_weights")
        return Fcn(smp.encoders.get_encoder(encoder, weights=weights, **options), classes)
    if decoder == "unet_light":
        options["decoder_channels"] = _LIGHT
    model: nn.Module = getattr(smp, _SMP_CLASSES[decoder])(encoder, classes=classes, **options)
    return model


def _has_prefix_tokens(encoder: str) -> bool:
    """Whether a timm ViT carries a class token beside its patches."""
    import timm

    with torch.device("meta"):
        return bool(timm.create_model(encoder.removeprefix("tu-")).num_prefix_tokens)


def synchronised(model: nn.Module) -> nn.Module:
    """The network with batch statistics over all processes that train it (SyncBatchNorm); weights keep their names."""
    from timm.layers import convert_sync_batchnorm  # torch's own loses the activation inside timm's BatchNormAct2d

    converted: nn.Module = convert_sync_batchnorm(model)
    return converted


def parameters(model: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
