"""Networks as graphs: what ONNX Runtime answers is what the network answers, at every size that the graph takes."""

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame

from glidexp.config import Embed
from glidexp.errors import DataError
from glidexp.models import catalog
from glidexp.models.build import assemble
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.exportable import Padded, Pooled, exportable
from glidexp.models.graph import IMAGE, export, load_program, save_onnx, save_program, sizes_of
from glidexp.models.told import Told, listening, with_told

SMALL = "test_resnet"
"""timm's smallest encoder with maps at every scale: exporting takes as long as a network has layers"""
ELSEWHERE = ("unet", "unet_light")
"""the first is the second but for its widths"""
EVERY = [(SMALL, one) for one in catalog.allowed_decoders(catalog.find(SMALL)) if one not in ELSEWHERE]
EVERY += [("regnetx_002", "unet_light"), ("vit_small", "unet_light")]
QUICK = {(SMALL, "upernet"), (SMALL, "pspnet"), ("vit_small", "unet_light")}


@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow, id="-".join(pair)) for pair in EVERY],
)
def test_a_graph_answers_as_the_network_at_other_sizes(backbone: str, decoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"backbone": backbone, "decoder": decoder, "in_channels": 3}
    card = {"architecture": shape, "mean": [60.0] * 3, "std": [50.0] * 3, "bands": ["red", "green", "blue"]}
    card |= {"threshold": 0.5, "temperature": 1.0}
    predictor = load_bundle(save_bundle(tmp_path / "bundle", assemble(backbone, decoder, in_channels=3), card=card))
    sizes = sizes_of(predictor, 128)
    made = export(predictor, sizes)
    save_onnx(made, sizes, {}, tmp_path / "model.onnx")
    save_program(made, tmp_path / "model.pt2")
    program = load_program(tmp_path / "model.pt2")  # refuses operations that it does not know
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for height, width in ((128, 128), (96, 224), (32, 64)):
        image = torch.rand(1, 3, height, width) * 255
        with torch.inference_mode():
            expected = predictor(image).numpy()
            again = program(image).numpy()
        (found,) = session.run(None, {IMAGE: image.numpy()})
        assert found.shape == (1, 1, height, width)
        assert np.abs(found - expected).max() < 1e-4 and np.ptp(expected) > 1e-3
        assert np.abs(again - expected).max() < 1e-5


def test_a_graph_takes_images_as_large_whatever_the_stride(tmp_path: Path) -> None:
    """Sides were bounded in strides, and one that sees each pixel alone has a stride of 1: 512 px were its most."""
    shape = {"backbone": "pixel_mlp", "decoder": "linear", "in_channels": 3}
    net = assemble("pixel_mlp", "linear", in_channels=3)
    card = {"architecture": shape, "mean": [60.0] * 3, "std": [50.0] * 3}
    predictor = load_bundle(save_bundle(tmp_path / "bundle", net, card=card))
    made = export(predictor, sizes_of(predictor, 512))
    save_program(made, tmp_path / "model.pt2")
    program = load_program(tmp_path / "model.pt2")
    image = torch.rand(1, 3, 1030, 7) * 255
    with torch.inference_mode():
        assert torch.allclose(program(image), predictor(image), atol=1e-5)


class Rounds(torch.nn.Module):
    """Pads by a share of the width, rounded up, which torch.export can trace and cannot write down."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(image, (0, math.ceil(image.shape[-1] / 3)))


def test_a_network_that_torch_cannot_write_down_is_told(tmp_path: Path) -> None:
    width = torch.export.Dim("width", min=4, max=64)
    made = torch.export.export(Rounds(), (torch.zeros(1, 1, 8, 9),), dynamic_shapes={"image": {3: width}}, strict=False)
    with pytest.raises(
        DataError, match=r"^model\.pt2: torch\.export cannot write this network down \(.*ceil.*\)\. It can"
    ):
        save_program(made, tmp_path / "model.pt2")


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_padding_by_fixed_numbers_is_timms_own(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layers = [one(3, 4, kernel, stride, dilation=dilation) for one in (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)]
    layers += [MaxPool2dSame(kernel, stride, dilation=dilation), AvgPool2dSame(kernel, stride)]
    layers += [AvgPool2dSame(kernel, stride, ceil_mode=True, count_include_pad=False)]
    image = torch.randn(2, 3, 16, 24)
    for layer in layers:
        net = torch.nn.Sequential(layer, torch.nn.Identity()).eval()
        changed = exportable(net)
        assert torch.equal(changed(image), net(image)), layer
        assert net[0] is layer and "Padded" not in repr(net), "the network itself stays as it is"


@pytest.mark.parametrize("kind", [Conv2dSame, StdConv2dSame, ScaledStdConv2dSame])
@pytest.mark.parametrize("kernel", [3, 7])
def test_a_layer_that_pads_so_and_is_told_something_is_changed_too(kernel: int, kind: type[torch.nn.Conv2d]) -> None:
    """Those of tf_efficientnet were left, which no exporter takes; and a border has nothing to tell."""
    torch.manual_seed(0)
    net = torch.nn.Module()
    net.encoder = torch.nn.Sequential(kind(3, 4, kernel, 2))
    listening(net, Told(Embed.gsd), in_channels=3)
    torch.nn.init.normal_(net.encoder[0].told)
    image = torch.randn(2, 3, 16, 24)
    wider = with_told(image, torch.tensor([Told(Embed.gsd).vector(gsd_m=40.0)] * 2))
    changed = exportable(net)
    assert isinstance(changed.encoder[0], Padded) and not isinstance(net.encoder[0], Padded)
    assert not isinstance(changed.encoder[0].layer, Conv2dSame)
    for given in (image, wider):
        assert torch.equal(changed.encoder(given), net.encoder(given))
    assert not torch.allclose(net.encoder(image), net.encoder(wider), atol=0.1)


def test_a_layer_that_is_used_twice_is_changed_twice() -> None:
    twice = torch.nn.Sequential(MaxPool2dSame(3, 1), Conv2dSame(2, 2, 3, 2))
    twice.extend([twice[0], twice[1]])
    image = torch.randn(1, 2, 16, 16)
    assert torch.equal(exportable(twice)(image), twice(image))
    plain = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.AdaptiveAvgPool2d(1))
    assert exportable(plain) is plain, "not copied for nothing"


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 9), (1, 2), (16, 7), (3, 64)])
@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_pooling_by_products_is_torchs_own(height: int, width: int, cells: int) -> None:
    image = torch.randn(2, 3, height, width)
    assert torch.allclose(Pooled((cells, cells))(image), torch.nn.AdaptiveAvgPool2d(cells)(image), atol=1e-6)
