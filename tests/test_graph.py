"""Networks as graphs: what ONNX Runtime answers is what the network answers, at every size that the graph takes."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from glidexp.errors import DataError
from glidexp.models import catalog
from glidexp.models.build import assemble
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.graph import IMAGE, Pooled, export, load_program, save_onnx, save_program, sizes_of

SMALL = "test_resnet"
"""timm's smallest encoder with maps at every scale: exporting takes as long as a network has layers"""
ELSEWHERE = ("unet", "unet_light", "deeplabv3plus")
"""the first is the second but for its widths; dilated, this encoder pools in a way that torch.export cannot write"""
EVERY = [(SMALL, one) for one in catalog.allowed_decoders(catalog.find(SMALL)) if one not in ELSEWHERE]
EVERY += [("regnetx_002", "unet_light"), ("regnetx_002", "deeplabv3plus"), ("vit_small", "unet_light")]
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


@pytest.mark.slow
def test_a_network_that_torch_cannot_write_down_is_told(tmp_path: Path) -> None:
    shape = {"backbone": SMALL, "decoder": "deeplabv3plus", "in_channels": 1}
    card = {"architecture": shape, "mean": [60.0], "std": [50.0], "bands": ["red"], "threshold": 0.5}
    predictor = load_bundle(
        save_bundle(tmp_path / "bundle", assemble(SMALL, "deeplabv3plus", in_channels=1), card=card)
    )
    made = export(predictor, sizes_of(predictor, 128))
    with pytest.raises(
        DataError, match=r"^model\.pt2: torch\.export cannot write this network down \(.*ceil.*\)\. It can"
    ):
        save_program(made, tmp_path / "model.pt2")


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 9), (1, 2), (16, 7), (3, 64)])
@pytest.mark.parametrize("cells", [1, 2, 3, 6])
def test_pooling_by_products_is_torchs_own(height: int, width: int, cells: int) -> None:
    image = torch.randn(2, 3, height, width)
    assert torch.allclose(Pooled((cells, cells))(image), torch.nn.AdaptiveAvgPool2d(cells)(image), atol=1e-6)
