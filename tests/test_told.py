"""What a network is told besides pixels: nothing is as before, something is learnt, and it does without."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from runs import small_config, undrawn
from torch import nn

from glidexp import cli
from glidexp.config import BackboneConfig, DecoderConfig, Embed, InitConfig, InitKind
from glidexp.errors import ConfigError
from glidexp.mapping.arrays import probabilities_of
from glidexp.models import resampled
from glidexp.models.build import build_model
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.load import find
from glidexp.models.told import NOTHING, Told, told_of, with_told
from glidexp.tracking.store import open_store
from glidexp.training.augmentation.telling import Telling, told_for
from glidexp.training.run import run

GSD, PAIR = Told(Embed.gsd), Told(Embed.sensor, ("landsat8", "sentinel2"))


def network(
    told: Told, backbone: str = "mobilenetv3", init: InitConfig | None = None, decoder: str = "fcn"
) -> nn.Module:
    torch.manual_seed(0)
    names = BackboneConfig(name=backbone), DecoderConfig(name=decoder)
    return build_model(*names, init or InitConfig(), in_channels=3, bands=["red", "green", "blue"], told=told).eval()


def test_vectors_of_hand() -> None:
    assert GSD.vector(gsd_m=10.0) == [1.0, 0.0] and GSD.vector(gsd_m=40.0) == [1.0, 1.0]
    assert GSD.vector() == GSD.vector(gsd_m=float("nan")) == [0.0, 0.0]
    assert PAIR.vector("sentinel2", 10.0) == [0.0, 1.0] and PAIR.vector("spot6") == [0.0, 0.0]
    assert NOTHING.size == 0 and told_of({}) == NOTHING
    assert told_of({"told": PAIR.to_json()}) == PAIR


@pytest.mark.parametrize("backbone", ["mobilenetv3", "regnetx_002", "resnet18"])
def test_a_network_starts_as_though_it_were_told_nothing(backbone: str) -> None:
    plain, told = network(NOTHING, backbone), network(GSD, backbone)
    names = set(told.state_dict()) - set(plain.state_dict())
    assert len(names) == 1 and not set(plain.state_dict()) - set(told.state_dict())
    image = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    wider = with_told(image, torch.tensor([GSD.vector(gsd_m=2.0), GSD.vector()]))
    assert wider.shape == (2, 5, 64, 64) and wider.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(told(image), plain(image)) and torch.equal(told(wider), plain(image))
        told.get_parameter(names.pop()).normal_()
        answer = told(wider)
    assert not torch.allclose(answer[0], plain(image)[0]) and torch.allclose(answer[1], plain(image)[1], atol=1e-5)


def test_weights_pass_between_networks_that_are_told_other_things(tmp_path: Path) -> None:
    card = {"architecture": {"backbone": "mobilenetv3", "decoder": "fcn", "in_channels": 3}}
    card |= {"mean": [100.0] * 3, "std": [50.0] * 3, "bands": ["red", "green", "blue"]}
    first = network(PAIR)
    (name,) = (name for name, _ in first.named_parameters() if name.endswith(".told"))
    nn.init.normal_(first.get_parameter(name))
    save_bundle(tmp_path / "pair", first, card=card | {"told": PAIR.to_json()})
    start = InitConfig(kind=InitKind.checkpoint, checkpoint=str(tmp_path / "pair"))
    assert torch.equal(network(PAIR, init=start).get_parameter(name), first.get_parameter(name))
    others = Told(Embed.sensor, ("landsat8", "worldview2"))
    assert not network(others, init=start).get_parameter(name).any()
    plain = network(NOTHING, init=start)
    save_bundle(tmp_path / "plain", plain, card=card)
    back = network(PAIR, init=InitConfig(kind=InitKind.checkpoint, checkpoint=str(tmp_path / "plain")))
    assert not back.get_parameter(name).any()
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in plain.state_dict().items())
    predictor = load_bundle(tmp_path / "pair")
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    with torch.inference_mode():
        unknown = predictor(image)
        assert unknown.shape == (1, 1, 40, 50)
        predictor.tell(sensor="landsat8")
        known = predictor(image)
        assert not torch.allclose(known, unknown)
        assert torch.equal(known, predictor(image, torch.tensor([[1.0, 0.0]])))
        predictor.tell(sensor="spot6")
        assert torch.equal(predictor(image), unknown)


class Tiles:
    index = pd.DataFrame({"sensor": ["landsat8", "sentinel2"] * 200, "gsd_m": [30.0, np.nan] * 200})

    def __len__(self) -> int:
        return len(self.index)


def test_a_share_is_told_nothing_and_the_same_ones_each_time() -> None:
    rows, image = torch.arange(400), torch.zeros(400, 3, 2, 2)
    every = Telling(PAIR, Tiles())(image, rows, 0)[:, 3:, 0, 0]
    assert torch.equal(every, torch.eye(2).repeat(200, 1))
    assert torch.equal(Telling(GSD, Tiles())(image, rows, 0)[1, 3:, 0, 0], torch.zeros(2))
    some = Telling(PAIR, Tiles(), unknown=0.25, seed=3)
    told = some(image, rows, 5)[:, 3:, 1, 1].any(1)
    assert 0.15 < 1 - told.float().mean().item() < 0.35
    assert torch.equal(some(image[:9], rows.flip(0)[:9], 5)[:, 3:, 0, 0].any(1), told.flip(0)[:9])
    assert not torch.equal(some(image, rows, 6)[:, 3:, 0, 0].any(1), told)
    assert torch.equal(some(image, rows, 5, torch.zeros_like(rows))[:, 3:, 0, 0].any(1), told)
    assert not torch.equal(some(image, rows, 5, torch.ones_like(rows))[:, 3:, 0, 0].any(1), told), "given again"


def test_images_are_seen_at_one_distance_and_answered_on_their_own_pixels() -> None:
    told, plain = network(Told(Embed.none, gsd_m=20.0)), network(NOTHING)
    assert set(told.state_dict()) == set(plain.state_dict())
    image = torch.randn(3, 3, 128, 128)
    vectors = torch.tensor([told_of({"told": {"kind": "none", "sensors": [], "gsd_m": 20.0}}).vector(gsd_m=g)
                            for g in (10.0, 20.0, 40.0)])  # fmt: skip
    assert vectors.sum(1).tolist() == [0.5, 1.0, 2.0]
    with torch.no_grad():
        answer = told(with_told(image, vectors))
        assert answer.shape == (3, 1, 128, 128)
        assert torch.equal(told(image), plain(image))  # of unknown distance: as it is
        assert torch.allclose(answer[1:2], plain(image[1:2]), atol=1e-5)
        half = nn.functional.interpolate(image[:1], size=(64, 64), mode="bilinear", antialias=True)
        back = nn.functional.interpolate(plain(half), size=(128, 128), mode="bilinear")
        assert torch.allclose(answer[:1], back, atol=1e-5)
        twice = nn.functional.interpolate(image[2:], size=(256, 256), mode="bilinear")
        back = nn.functional.interpolate(plain(twice), size=(128, 128), mode="bilinear")
        assert torch.allclose(answer[2:], back, atol=1e-5)
        wide = told(with_told(image[:1, :, :40], vectors[:1]))  # 20 px are grown to 64, and cut off again
    assert wide.shape == (1, 1, 40, 128)


@pytest.mark.parametrize("decoder", ["deeplabv3plus", "upernet"])
@pytest.mark.parametrize("side", [32, 96])
def test_one_image_of_a_scale_learns_under_decoders_that_normalise_what_they_pool_to_one_value(
    decoder: str, side: int
) -> None:
    net = network(Told(Embed.none, gsd_m=20.0), "test_resnet", decoder=decoder).train()
    vectors = torch.tensor([Told(Embed.none, gsd_m=20.0).vector(gsd_m=g) for g in (10.0, 20.0, 20.0)])
    image = torch.randn(3, 3, side, side)
    pooled = [part for part in net.modules() if resampled._to_one_cell(part) for part in part.modules()]
    norms = [part for part in pooled if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 1
    for groups in (vectors, vectors[[1, 0, 0]]):  # the one is scaled, or is as it is
        before = norms[0].num_batches_tracked.item()
        net(with_told(image, groups)).sum().backward()
        assert norms[0].num_batches_tracked.item() == before + 1, "of the two alone"
    assert all(part.training for part in net.modules())
    assert norms[0].weight.grad is not None and torch.isfinite(norms[0].weight.grad).all()


def test_a_scale_survives_half_precision() -> None:
    for gsd_m in (0.5, 2.0, 3.125, 30.0):
        coarse, rest = Told(Embed.none, gsd_m=7.0).vector(gsd_m=gsd_m)
        halved = torch.tensor([coarse, rest]).to(torch.bfloat16).float().sum().item()
        assert halved == pytest.approx(gsd_m / 7.0, rel=1e-4)


def test_distances_that_cannot_be_brought_together_are_refused() -> None:
    class Store(Tiles):
        index = pd.DataFrame({"sensor": ["landsat8"] * 4, "region": ["andes"] * 4, "gsd_m": [30.0, 2.0, 10.0, 30.0]})

        def rows(self, split: str) -> np.ndarray:
            return np.arange(4)

    def told(*words: str) -> Told:
        return told_for(small_config(Path("d"), Path("m"), *words), Store())

    assert told("input.gsd_m=7.5") == Told(Embed.none, gsd_m=7.5) and told() == NOTHING
    with pytest.raises(ConfigError, match=r"tiles of 30 m would grow to 15 times their side: give 7\.5 m or more"):
        told("input.gsd_m=2")
    Store.index.loc[0, "gsd_m"] = np.nan
    with pytest.raises(ConfigError, match="1 of 4 training tiles have no ground sample distance"):
        told("input.gsd_m=20")


@pytest.mark.slow
def test_a_run_learns_what_it_is_told(tmp_path: Path) -> None:
    words = [
        "input.embed=gsd",
        "input.gsd_m=60",
        "train.epochs=1",
        "tracking.probe_tiles=0",
        "tracking.log_masks=false",
    ]
    config = small_config(tmp_path / "data", tmp_path / "mlruns", *words)
    with undrawn():
        outcome = run(config, choices={})
    store = open_store(f"sqlite:///{tmp_path / 'mlruns' / 'mlflow.db'}", tmp_path / "mlruns")
    found = find(outcome.run_id, store, tmp_path / "found")
    assert (
        found.card["told"] == {"kind": "gsd", "sensors": [], "gsd_m": 60.0}
        and found.card["architecture"]["in_channels"] == 3
    )
    predictor = load_bundle(found.bundle)
    (weight,) = (value for name, value in predictor.net.named_parameters() if name.endswith(".told"))
    assert weight.any()  # 30 m lies above the middle, so both of its numbers have a gradient
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        unknown = predictor(image)
        predictor.tell(gsd_m=30.0)
        assert not torch.equal(predictor(image), unknown)
    # scored again it is told the same, so that it gives the same scores
    settings = ["train.precision=fp32", "train.threads=1", "tracking.probe_tiles=0", "tracking.system_metrics=false"]
    data = [f"paths.data={tmp_path / 'data'}", "--mlruns", str(tmp_path / "mlruns")]
    with undrawn(), pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", outcome.run_id, *settings, *data])
    assert not ended.value.code
    (again,) = store.client.search_runs(
        [store.client.get_run(outcome.run_id).info.experiment_id],
        "tags.`glidexp.kind` = 'evaluation'",
    )
    own = {name: value for name, value in outcome.metrics.items() if name.startswith("test/") and "iou" in name}
    assert len(own) > 3 and {name: again.data.metrics[name] for name in own} == own
    # and a map depends on the size of the scene's pixels, whatever lies in them
    scene = min((tmp_path / "data" / "scenes").glob("*/scenes/*.tif"))
    with rasterio.open(scene) as source:
        profile, pixels = source.profile, source.read(window=((0, 128), (0, 128)))
    maps = []
    for times in (1.0, 2.0):
        profile |= {"width": 128, "height": 128, "transform": profile["transform"] @ rasterio.Affine.scale(times)}
        with rasterio.open(tmp_path / f"times{times}.tif", "w", **profile) as sink:
            sink.write(pixels)
        maps.append(probabilities_of(found.bundle, tmp_path / f"times{times}.tif"))
    assert not np.array_equal(*maps, equal_nan=True)
