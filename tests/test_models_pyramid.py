"""Decoders of four scales on a plain transformer."""

import pytest
import torch
from torch import nn

from glidexp.models.build import assemble, parameters
from glidexp.models.pyramid import Pyramid
from glidexp.models.stages import encoder_stages


class Sizes(nn.Module):
    """Keeps what a decoder would be given."""

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        self.given = features
        return features[-1]


@pytest.mark.parametrize(
    ("patch_px", "channels"),
    [(4, [64, 64, 64, 64]), (8, [32, 64, 64, 64]), (16, [16, 32, 64, 64]), (32, [8, 16, 32, 64])],
)
def test_maps_come_to_four_scales_and_halve_their_channels_as_they_grow(patch_px: int, channels: list[int]) -> None:
    decoder = Sizes()
    maps = [torch.randn(2, 64, 96 // patch_px, 160 // patch_px) for _ in range(4)]
    Pyramid([64] * 4, patch_px, decoder)([torch.zeros(2, 3, 96, 160), *maps])
    sizes = [tuple(one.shape[1:]) for one in decoder.given]
    scaled = [(count, 96 // px, 160 // px) for count, px in zip(channels, (4, 8, 16, 32), strict=True)]
    assert sizes == [(3, 96, 160), (0, 48, 80), *scaled]


def test_patches_that_come_to_no_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="patches of 14 px do not come to scales of 4, 8, 16, 32 px"):
        Pyramid([64] * 4, 14, Sizes())


def test_the_scale_of_a_map_does_not_matter() -> None:
    """Files of others differ in it: what a decoder is given is normalised."""
    torch.manual_seed(0)
    decoder = Sizes()
    pyramid, maps = Pyramid([64] * 4, 16, decoder), [torch.randn(1, 64, 4, 4) for _ in range(4)]
    given = []
    for factor in (1.0, 50.0):
        pyramid([torch.zeros(1, 3, 64, 64), *(one * factor for one in maps)])
        given.append(decoder.given[2:])
    for one, other in zip(*given, strict=True):
        assert torch.allclose(one, other, atol=1e-3) and one.abs().max() > 0.1


def test_the_encoder_is_the_transformer_alone_whatever_the_decoder() -> None:
    """So its weights go from one to the other, and what is frozen or learns slower is the transformer."""
    torch.manual_seed(0)
    networks = {decoder: assemble("vit_small", decoder, in_channels=3) for decoder in ("dpt", "fpn", "fcn")}
    names = [set(network.get_submodule("encoder").state_dict()) for network in networks.values()]
    assert names[0] == names[1] == names[2] and all(name.startswith("model.") for name in names[0])
    stages = encoder_stages(networks["fpn"], in_channels=3, side_px=64)
    assert len(stages) == 4 and "encoder.model.blocks.0.attn.qkv.weight" in stages[0]
    assert {name for stage in stages for name in stage} == {
        f"encoder.{name}" for name, _ in networks["fpn"].get_submodule("encoder").named_parameters()
    }
    assert parameters(networks["fcn"]) < 22_500_000  # the scale that it does not look at is taken out


def test_a_square_of_the_image_moves_the_answer_there_most() -> None:
    """Maps keep their places on the way through the scales."""
    torch.manual_seed(0)
    network = assemble("vit_small", "unet_light", in_channels=3).eval()
    image = torch.zeros(1, 3, 128, 192)
    other = image.clone()
    other[..., 96:112, 32:48] = 3.0
    with torch.inference_mode():
        moved = (network(other) - network(image)).abs()[0, 0]
    assert moved[96:112, 32:48].mean() > 2 * moved.mean()
