"""A bundle gives back the network that was saved, takes any size of image, and refuses what it is not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from glidexp.config import BackboneConfig, DecoderConfig, InitConfig
from glidexp.errors import DataError
from glidexp.models.build import build_model
from glidexp.models.card import find_bundle
from glidexp.models.export import CARD, WEIGHTS, load_bundle, read_card, save_bundle
from glidexp.models.load import load_model
from glidexp.models.predictor import Predictor

MEAN, STD = [120.1, 124.7, 123.1], [74.6, 74.4, 76.5]


def card(backbone: str = "mobilenetv3", decoder: str = "unet", in_channels: int = 3, **more: Any) -> dict[str, Any]:
    shape = {"backbone": backbone, "decoder": decoder, "in_channels": in_channels}
    spread = {"mean": (MEAN * 2)[:in_channels], "std": (STD * 2)[:in_channels]}
    return {"architecture": shape, "threshold": 0.4, "sensors": ["sentinel2"], **spread, **more}


def network(backbone: str = "mobilenetv3", decoder: str = "unet", in_channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(
        BackboneConfig(name=backbone), DecoderConfig(name=decoder), InitConfig(), in_channels=in_channels
    )
    model(torch.randn(4, in_channels, 64, 64))  # moves the running means, which a bundle must keep
    return model


def pixels(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("bundle") / "made", network(), card=card())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_round_trip_is_equal_bit_for_bit(layout: torch.memory_format, tmp_path: Path) -> None:
    net = network()
    predictor = load_bundle(save_bundle(tmp_path, net, card=card()))
    net = net.eval().to(memory_format=layout)
    predictor = predictor.to(memory_format=layout)
    image = pixels(2, 3, 64, 96).to(memory_format=layout)
    with torch.inference_mode():
        mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
        expected = torch.sigmoid(net((image.float() - mean) / std))
        probability = predictor(image)
        assert torch.equal(probability, expected)
        assert torch.equal(predictor(image.float()), expected)
    assert probability.dtype == torch.float32 and probability.shape == (2, 1, 64, 96)


@pytest.mark.parametrize(
    ("backbone", "decoder", "in_channels"),
    [
        ("vit_small", "dpt", 3),
        ("vit_small", "unet_light", 4),
        ("swin_tiny", "fcn", 4),
        ("mit_b0", "pspnet", 3),
        ("regnety_002", "fpn", 3),
        ("pixel_mlp", "linear", 6),
    ],
)
def test_other_networks_come_back_too(backbone: str, decoder: str, in_channels: int, tmp_path: Path) -> None:
    net = network(backbone, decoder, in_channels)
    predictor = load_bundle(save_bundle(tmp_path, net, card=card(backbone, decoder, in_channels)))
    image = pixels(1, in_channels, 64, 64)
    with torch.inference_mode():
        assert torch.equal(predictor(image), torch.sigmoid(net.eval()(predictor.normalise(image))))
        for height, width in ((1, 1), (8, 40), (33, 70)):
            assert predictor(image[..., :1, :1].expand(1, in_channels, height, width)).shape == (1, 1, height, width)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (31, 33), (50, 64), (17, 200)])
def test_any_size_is_padded_inside_and_cut_back(height: int, width: int, bundle: Path) -> None:
    predictor = load_bundle(bundle)
    image = pixels(3, 3, height, width)
    with torch.inference_mode():
        probability = predictor(image)
        single = predictor(image[1:2])
    assert probability.shape == (3, 1, height, width)
    assert probability.min() >= 0 and probability.max() <= 1
    assert torch.allclose(probability[1:2], single, atol=1e-5)


def test_padding_mirrors_the_image(bundle: Path) -> None:
    predictor = load_bundle(bundle)
    image = pixels(1, 3, 50, 60)
    mirrored = nn.functional.pad(image.float(), (0, 4, 0, 14), mode="reflect")
    with torch.inference_mode():
        assert torch.equal(predictor(image), predictor(mirrored)[..., :50, :60])


def test_a_predictor_in_half_precision_still_gives_float32(bundle: Path) -> None:
    predictor = load_bundle(bundle)
    image = pixels(1, 3, 64, 64)
    with torch.inference_mode():
        exact = predictor(image)
        predictor.net.to(torch.bfloat16)
        rough = predictor(image)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05


def test_a_predictor_says_what_it_takes(bundle: Path) -> None:
    predictor = load_bundle(bundle)
    assert predictor(pixels(0, 3, 20, 30)).shape == (0, 1, 20, 30)
    for wrong in (pixels(3, 64, 64), pixels(1, 4, 64, 64), pixels(1, 3, 64, 64).long()):
        with pytest.raises(ValueError, match="an image batch"):
            predictor(wrong)


def test_the_card_keeps_what_it_was_given(bundle: Path) -> None:
    predictor = load_bundle(bundle)
    assert predictor.threshold == 0.4
    assert not predictor.training
    assert predictor.card["sensors"] == ["sentinel2"]
    assert read_card(bundle)["weights"]["bytes"] == (bundle / WEIGHTS).stat().st_size
    assert sorted(path.name for path in bundle.iterdir()) == [CARD, WEIGHTS]


def test_loading_leaves_the_random_numbers_alone(bundle: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_bundle(bundle)
    assert torch.equal(torch.rand(3), expected)


def test_a_wrapped_network_is_saved_without_its_wrapper(tmp_path: Path) -> None:
    net = network()
    wrapped = nn.DataParallel(torch.compile(net))  # type: ignore[arg-type]
    a, b = (save_bundle(tmp_path / name, model, card=card()) for name, model in (("a", net), ("b", wrapped)))
    assert (a / WEIGHTS).read_bytes() == (b / WEIGHTS).read_bytes()


def test_one_changed_byte_of_the_weights_is_seen(bundle: Path, tmp_path: Path) -> None:
    blob = bytearray((bundle / WEIGHTS).read_bytes())
    blob[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(blob)
    (tmp_path / CARD).write_text((bundle / CARD).read_text())
    with pytest.raises(DataError, match="damaged: its sha256 is not the one"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "other"}, "not the card of a glidexp bundle"),
        ({"format_version": 2}, "format_version 2, this version of glidexp reads 1"),
        ({"architecture": {"backbone": "resnet18"}}, "architecture must give"),
        ({"architecture": {"backbone": "nosuchnet", "decoder": "unet", "in_channels": 3}}, "cannot build"),
        ({"architecture": {"backbone": "hf-hub:a/b", "decoder": "unet", "in_channels": 3}}, "cannot build"),
        ({"architecture": {"backbone": "vit_small", "decoder": "pspnet", "in_channels": 3}}, "cannot build"),
        ({"architecture": {"backbone": "resnet18", "decoder": "unet", "in_channels": 3}}, "cannot build"),
        ({"mean": [1.0]}, "mean must be a list of 3 numbers"),
        ({"std": [1.0, 0.0, 1.0]}, "must be above 0 in every band"),
        ({"threshold": 1.5}, "must be a probability"),
        ({"weights": {}}, "does not name the sha256"),
        ({"architecture": {"backbone": "resnet18", "decoder": "unet", "in_channels": True}}, "architecture must give"),
        (
            {"architecture": {"backbone": "resnet18", "decoder": "unet", "in_channels": 3, "classes": 0}},
            "classes=0: both must be whole numbers above 0",
        ),
        ({"mean": [True, 1.0, 1.0]}, "mean must be a list of 3 numbers"),
        ({"threshold": True}, "must be a probability"),
        ({"bands": None}, "bands=null is not possible: it must be a name a band, each once"),
        ({"bands": "red"}, 'bands="red" is not possible'),
        ({"bands": ["red", "red", "blue"]}, "it must be a name a band, each once"),
        ({"bands": ["red", "green"]}, "it must be a name a band, each once"),
        ({"tile_px": -64}, "tile_px=-64 is not possible: it must be whole pixels above 0"),
        ({"temperature": 0}, "temperature=0 is not possible: it must be a number above 0, or null"),
        ({"tta": 4}, "tta=4 is not possible: it must be a text"),
        ({"told": {"kind": "gsd"}}, "it must be what the network is told: kind, sensors and gsd_m"),
        ({"gsd_m": {"sentinel2": [10.0]}}, "it must be least and most metres by sensor"),
        ({"ground": {}}, r"ground=\{\} is not possible: it must be file and sha256"),
        ({"ancestors": None}, "ancestors=null is not possible: it must be a list of models"),
        ({"members": [{}]}, "it must be a list of models, each with its uri"),
        ({"sensors": [1]}, r"sensors=\[1\] is not possible: it must be a list of names"),
        ({"run_id": 5}, "run_id=5 is not possible: it must be a text"),
        ({"mean": [1200.0, 1100.0, 900.0]}, "mean must be a list of 3 numbers, a value a band on 0-255"),
        ({"bands": ["red", "Red", "blue"]}, "it must be a name a band, each once"),
        ({"told": {"kind": [], "sensors": [], "gsd_m": None}}, "it must be what the network is told"),
        ({"told": {"kind": "none", "sensors": [], "gsd_m": -5}}, "it must be what the network is told"),
        ({"bands": ["slope", "red", "green"], "terrain": ["slope"]}, "and these the last of bands"),
        ({"stretch": "fixed"}, 'stretch="fixed" is not possible: it must be how scenes are stretched'),
        ({"stretch": {"method": "fixed"}}, "it must be how scenes are stretched"),
        ({"stretch": {"method": "nosuch", "limits": {}}}, "it must be how scenes are stretched"),
        ({"stretch": {"low": 98, "high": 2, "limits": {}}}, "it must be how scenes are stretched"),
        ({"stretch": {"scope": "planet", "limits": {}}}, "it must be how scenes are stretched"),
        ({"stretch": {"limits": {"x": {"low": [1, 2], "high": [3, 4]}}}}, "it must be how scenes are stretched"),
        ({"stretch": {"limits": {"x": {"low": [9, 9, 9], "high": [3, 4, 5]}}}}, "it must be how scenes are stretched"),
        ({"stretch": {"limits": {}, "sensors": {"x": "landsat8"}}}, "it must be how scenes are stretched"),
    ],
)
def test_a_foreign_card_is_refused_in_one_sentence(
    change: dict[str, Any], sentence: str, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / WEIGHTS).write_bytes((bundle / WEIGHTS).read_bytes())
    (tmp_path / CARD).write_text(json.dumps({**read_card(bundle), **change}))
    with pytest.raises(DataError, match=sentence) as refused:
        load_bundle(tmp_path)
    assert "\n" not in str(refused.value)


def test_missing_and_broken_files_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_bundle(tmp_path)
    for broken in ("{", "[" * 100_000):
        (tmp_path / CARD).write_text(broken)
        with pytest.raises(DataError, match="is not JSON"):
            load_bundle(tmp_path)
    (tmp_path / CARD).write_text((bundle / CARD).read_text())
    with pytest.raises(DataError, match="copy the whole bundle again"):
        load_bundle(tmp_path)


def test_a_card_that_lacks_the_preprocessing_is_not_written(tmp_path: Path) -> None:
    poor = card()
    del poor["mean"]
    with pytest.raises(DataError, match="mean must be a list"):
        save_bundle(tmp_path / "b", network(), card=poor)
    assert not (tmp_path / "b").exists()


def test_a_failed_write_leaves_the_old_bundle(bundle: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path, network(), card=card())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError):
        save_bundle(tmp_path, network(), card=card(notes=object()))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_bundle_is_found_from_what_a_person_points_at(bundle: Path, tmp_path: Path) -> None:
    for path in (bundle, bundle / CARD, bundle / WEIGHTS, bundle.parent):
        assert find_bundle(path) == bundle
    assert isinstance(load_model(bundle.parent), Predictor)
    for path, sentence in (
        (tmp_path, "holds no bundle"),
        (tmp_path / "absent", "does not exist"),
        (Path(__file__), "is no bundle"),
    ):
        with pytest.raises(DataError, match=sentence):
            find_bundle(path)
    for name in ("a", "b"):
        save_bundle(tmp_path / name, network(), card=card())
    with pytest.raises(DataError, match="holds 2 bundles"):
        find_bundle(tmp_path)
