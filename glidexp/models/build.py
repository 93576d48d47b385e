"""From two names to a network: an encoder of smp or timm under a decoder of smp or our own FCN. Layout (B, C, H, W)."""

import logging
from typing import Any

from torch import nn

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig, InitKind
from glidexp.models import catalog

_log = logging.getLogger("glidexp")

_SMP_CLASSES = {
    "unet": "Unet",
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


def build_model(backbone: BackboneConfig, decoder: DecoderConfig, init: InitConfig, *, in_channels: int) -> nn.Module:
    """Builds the network and gives it its first weights. The caller seeds torch; the same seed gives the same weights.

    Args:
        backbone: encoder, listed in `catalog.BACKBONES` or any timm model with feature maps
        decoder: one of `catalog.DECODERS`
        init: where the first weights come from
        in_channels: bands of the input

    Returns:
        module from normalised images (B, in_channels, H, W), H and W multiples of `catalog.stride`, to logits (B, 1, H, W)

    Raises:
        ConfigError: unknown name, impossible pair, weights that are absent or do not fit
    """
    stride = catalog.stride(backbone.name, decoder.name)
    catalog.check(backbone.name, decoder.name, stride)
    model = assemble(backbone.name, decoder.name, in_channels=in_channels)
    if init.kind is InitKind.scratch and in_channels != 3:
        _log.info(
            "3 -> %d input channels: the first convolution takes %d bands, weights drawn anew", in_channels, in_channels
        )
    return model


def assemble(backbone: str, decoder: str, *, in_channels: int, pretrained: dict[str, Any] | None = None) -> nn.Module:
    """The network with random weights, or with the encoder's pre-trained ones.

    Args:
        backbone: name of the encoder
        decoder: name of the decoder; the pair was checked
        in_channels: bands of the input
        pretrained: arguments that make smp load the encoder's weights; None for random ones
    """
    import segmentation_models_pytorch as smp

    entry = catalog.find(backbone)
    options: dict[str, Any] = {**dict(entry.options), **(pretrained or {"encoder_weights": None})}
    if decoder == "fcn":
        from glidexp.models.fcn import Fcn

        weights = options.pop("encoder_weights")
        return Fcn(
            smp.encoders.get_encoder(entry.encoder, in_channels=in_channels, depth=5, weights=weights, **options)
        )
    model: nn.Module = getattr(smp, _SMP_CLASSES[decoder])(entry.encoder, in_channels=in_channels, classes=1, **options)
    return model


def parameters(model: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
