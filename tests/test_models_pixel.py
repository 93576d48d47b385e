"""The network that sees each pixel alone: nothing of a neighbour reaches an answer, and colours that need a rule of
their own are learnt."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig, InitKind
from glidexp.errors import ConfigError
from glidexp.models import catalog
from glidexp.models.build import build_model
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.init import imagenet_cached
from glidexp.models.stages import encoder_stages
from tests.test_export import card, pixels

ALONE = BackboneConfig(name="pixel_mlp"), DecoderConfig(name="linear")


def network(in_channels: int = 3, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(*ALONE, InitConfig(), in_channels=in_channels)


def test_an_answer_is_of_its_own_pixel() -> None:
    model = network(in_channels=5).eval()
    image = torch.randn(2, 5, 7, 9, requires_grad=True)
    model(image)[1, 0, 3, 4].backward()
    assert image.grad is not None
    reached = image.grad.abs().sum(1) > 0
    assert reached[1, 3, 4] and reached.sum() == 1
    order = torch.randperm(63)
    mixed = image.flatten(2)[..., order].unflatten(2, (7, 9))
    assert torch.allclose(model(mixed), model(image).flatten(2)[..., order].unflatten(2, (7, 9)), atol=1e-6)


def test_a_shell_of_colours_is_learnt_that_no_plane_cuts_out() -> None:
    model = network().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    torch.manual_seed(1)
    for _ in range(300):
        image = torch.randn(2, 3, 32, 32)
        lake = (image.norm(dim=1, keepdim=True) < 1.2).float()
        loss = functional.binary_cross_entropy_with_logits(model(image), lake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    image = torch.randn(1, 3, 64, 64)
    lake = image.norm(dim=1, keepdim=True) < 1.2
    found = model.eval()(image) > 0
    assert (found & lake).sum() / (found | lake).sum() > 0.9


def test_it_takes_any_side_and_its_encoder_is_one_stage(tmp_path: Path) -> None:
    assert (catalog.stride("linear"), catalog.smallest_px("pixel_mlp", "linear")) == (1, 1)
    catalog.check("pixel_mlp", "linear", 33)
    model = network()
    (stage,) = encoder_stages(model, in_channels=3, side_px=1)
    assert sorted(stage) == sorted(name for name, _ in model.named_parameters() if name.startswith("encoder."))
    predictor = load_bundle(save_bundle(tmp_path, model, card=card("pixel_mlp", "linear")))
    image = pixels(1, 3, 5, 3)
    with torch.inference_mode():
        assert torch.allclose(predictor(image)[..., 2:3, 1:2], predictor(image[..., 2:3, 1:2]), atol=1e-6)


def test_it_goes_with_its_own_decoder_and_has_no_published_weights() -> None:
    with pytest.raises(ConfigError, match=r"Decoders for pixel_mlp: linear\. Backbones for unet_light: resnet18"):
        catalog.check_pair("pixel_mlp", "unet_light")
    with pytest.raises(ConfigError, match=r"Decoders for resnet18: .* Backbones for linear: pixel_mlp\."):
        catalog.check_pair("resnet18", "linear")
    with pytest.raises(ConfigError, match=r"no pre-trained weights for backbone\.name=pixel_mlp; use init=scratch"):
        build_model(*ALONE, InitConfig(kind=InitKind.imagenet), in_channels=3)
    assert not imagenet_cached("pixel_mlp")
