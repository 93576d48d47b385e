"""`glidexp qgis`: a stand-in made of the plugin's rules finds in the file what `glidexp predict` finds."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
import torch
from tiny_scenes import write_scene
from torch import nn

from glidexp import cli
from glidexp.config import Embed, Precision
from glidexp.data.scenes.catalogue import find
from glidexp.mapping import predict
from glidexp.mapping.arrays import probabilities_of
from glidexp.mapping.settings import MapSettings, StretchFrom
from glidexp.models.build import assemble
from glidexp.models.card import FORMAT, FORMAT_VERSION, read_card
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.graph import Graph
from glidexp.models.predictor import Predictor
from glidexp.models.told import Told, listening
from glidexp.release import qgis

STEP = 1 / 254
"""of a probability that a map holds"""
REACH = 3
"""pixels around one on which the small network's answer depends"""


class Plugin:
    """What the plugin does with a file and a layer: checks, fields, tiles, pixels, and what it makes of them."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,), (answer,) = self.session.get_inputs(), self.session.get_outputs()
        self.name, (batch, self.channels, height, width) = given.name, given.shape
        assert batch == 1 and isinstance(height, int) and height == width
        assert list(answer.shape) == [1, 1, height, width] and given.type == answer.type == "tensor(float)"
        self.facts = {key: json.loads(text) for key, text in self.session.get_modelmeta().custom_metadata_map.items()}
        assert self.facts["tile_size"] == self.facts["tiles_size"] == width
        self.side, self.pixel = width, round(float(self.facts["resolution"]), 2) / 100
        if self.facts["model_type"] == "Segmentor":
            assert self.facts["class_names"] == {"0": "background", "1": "lake"}
            self.least = round(float(self.facts["seg_thresh"]), 2)
            assert 0 < self.least < 1 and self.facts["seg_small_segment"] == 0
        else:
            assert self.facts["model_type"] == "Regressor" and list(self.facts["class_names"]) == ["0"]
            self.scale = float(self.facts["reg_output_scaling"])
        self.apart = width - int(width * int(self.facts["tiles_overlap"]) / 100 * 2) // 2

    def tile(self, values: np.ndarray) -> np.ndarray:
        """Raw (S, S, C) to probability (S, S)."""
        batch = np.float32(values[None, ..., : self.channels] * 1.0 / 255.0)
        mean, std = (np.array(self.facts[f"standardization_{key}"], np.float32) for key in ("mean", "std"))
        batch = (batch - mean) / std
        (answer,) = self.session.run(None, {self.name: np.transpose(batch, (0, 3, 1, 2))})
        return answer[0, 0]

    def layer(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Probability (H, W) and lakes of a layer at its own resolution."""
        with rasterio.open(path) as source:
            assert abs(source.res[0] - self.pixel) < 1e-6
            values, fill = np.moveaxis(source.read(), 0, -1), source.nodata or 0
        height, width = values.shape[:2]
        rows, cols = (-(-max(length - self.side, 0) // self.apart) + 1 for length in (height, width))
        wide = np.full(
            (self.side + (rows - 1) * self.apart, self.side + (cols - 1) * self.apart, values.shape[2]), fill,
            values.dtype,
        )  # fmt: skip
        wide[:height, :width] = values
        found, half = np.zeros(wide.shape[:2], np.float32), (self.side - self.apart) // 2
        for i in range(rows):
            for j in range(cols):
                top, left = i * self.apart, j * self.apart
                answer = self.tile(wide[top : top + self.side, left : left + self.side])
                first, start = half * (i > 0), half * (j > 0)
                last, stop = self.side - half * (i < rows - 1), self.side - half * (j < cols - 1)
                found[top + first : top + last, left + start : left + stop] = answer[first:last, start:stop]
        found = found[:height, :width]
        return found, found >= self.least


def small() -> nn.Module:
    """A network that answers each band and side differently."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    nn.init.normal_(net[0].weight, std=0.3)
    nn.init.normal_(net[2].weight, std=0.3)
    nn.init.constant_(net[2].bias, -1.5)
    return net.eval()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose network is the small one."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    card = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "weights": {"sha256": "0" * 64}, "tile_px": 64,
        "mean": [100.0, 90.0, 80.0], "std": [60.0, 50.0, 70.0],
        "architecture": {"backbone": "b", "decoder": "d", "in_channels": 3},
        "threshold": 0.4732, "bands": ["red", "green", "blue"], "sensors": ["sentinel2"],
        "gsd_m": {"sentinel2": [9.997, 10.003]},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    net = small()

    def network(bundle: Path, card: dict[str, Any], *_: object) -> Predictor:
        known = {key: value for key, value in card.items() if key != "architecture"}
        return Predictor(net, mean=card["mean"], std=card["std"], stride=1, smallest_px=1, card=known).eval()

    monkeypatch.setattr(predict, "network", network)
    monkeypatch.setattr(qgis, "network", network)
    return folder


@pytest.fixture
def change(model: Path) -> Callable[..., None]:
    def changed(**values: Any) -> None:
        card = json.loads((model / "card.json").read_text())
        (model / "card.json").write_text(json.dumps(card | values))

    return changed


def called(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["qgis", *map(str, words)])
    return int(ended.value.code or 0)


def ground(bands: int = 4, height: int = 90, width: int = 150, high: int = 4000) -> np.ndarray:
    """Soft hills of values and a corner of zeros."""
    random = np.random.default_rng(5)
    coarse = random.integers(1, high, (bands, height // 10 + 1, width // 10 + 1)).astype(float)
    fine = coarse.repeat(10, 1).repeat(10, 2)[:, :height, :width] + random.normal(0, high / 40, (bands, height, width))
    fine = np.clip(fine, 1, 65535 if high > 255 else 255)
    fine[:, :20, :30] = 0
    return fine


def alike(plugin: Plugin, scene: Path, bundle: Path, **settings: Any) -> np.ndarray:
    """Holds the plugin's map against that of predict; gives the probability."""
    found, lakes = plugin.layer(scene)
    expected = probabilities_of(
        bundle, scene, MapSettings(window_px=64, device="cpu", precision=Precision.fp32, **settings)
    )
    assert isinstance(expected, np.ndarray)
    inside = np.ones_like(lakes)
    inside[-REACH:], inside[:, -REACH:] = False, False  # beyond the edge the plugin sees black, predict nothing
    there = inside & ~np.isnan(expected)
    assert there.sum() > 5000
    assert np.abs(found - expected)[there].max() <= STEP / 2 + 1e-5
    sure = there & (np.abs(expected - plugin.least) > STEP)
    assert np.array_equal(lakes[sure], expected[sure] >= plugin.least) and 0.1 < lakes[sure].mean() < 0.9
    return np.where(np.isnan(expected), found, np.nan)


def test_a_raw_scene_of_another_order_is_mapped_as_predict_maps_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["blue", "green", "red", "nir"]
    scene = write_scene(tmp_path / "s.tif", pixels=ground().astype(np.uint16), descriptions=names, nodata=0, gsd_m=10.0)
    out = tmp_path / "lakes.onnx"
    assert called(model, scene, "--out", out, "--sensor", "sentinel2") == 0
    plugin = Plugin(out)
    assert plugin.channels == 3 and plugin.side == 64  # red is the third; nir is not asked for
    without = alike(plugin, scene, model)
    assert np.nanmax(without) == 0 and np.isfinite(without).sum() == 20 * 30
    told = capsys.readouterr().out
    for part in (
        "red is band 3, green is band 2, blue is band 1",
        "fitted to the scene",
        "no data: 0 in all bands",
        "resolution 1000 cm, tiles of 64 px",
        "threshold 0.47\n",
        "old: 0.4732, of",
        "differ by",
    ):
        assert part in told, part
    facts = plugin.facts["glidexp"]
    assert facts["scene"] == "s" and len(facts["low"]) == 3 and facts["threshold"] == 0.4732
    written = onnx.load(out)
    assert written.ir_version <= 8 and [one.version for one in written.opset_import if not one.domain] == [18]
    content = out.read_bytes()
    assert b"/glidexp/" not in content and str(tmp_path).encode() not in content
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "lakes.onnx", "s.tif"}


def test_a_scene_with_a_sign_is_mapped_as_predict_maps_it(
    model: Path, change: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reflectance below 0, and -9999 in one band of a pixel, which has no data then."""
    names = ["red", "green", "blue"]
    values = ground(3).astype(np.int16) - 1000
    values[:, :20, :30], values[1, 40:50, 60:80] = -9999, -9999
    scene = write_scene(tmp_path / "s.tif", pixels=values, descriptions=names, nodata=-9999, gsd_m=10.0)
    out = tmp_path / "lakes.onnx"
    assert called(model, scene, "--out", out, "--sensor", "sentinel2") == 0
    assert "no data: -9999 in one band, never a lake" in capsys.readouterr().out
    without = alike(Plugin(out), scene, model)
    assert np.nanmax(without) == 0 and np.isfinite(without).sum() == 20 * 30 + 10 * 20
    limits = {"low": [-900.0] * 3, "high": [2500.0] * 3}
    change(stretch={"method": "fixed", "low": -900, "high": 2500, "limits": {"a": limits}, "sensors": {"a": "spot6"}})
    assert called(model, "--out", out, "--no-data", "-9999", "--gsd-m", "10") == 0
    without = alike(Plugin(out), scene, model)
    assert np.nanmax(without) == 0
    plain = write_scene(tmp_path / "t.tif", pixels=ground(3).astype(np.uint16), descriptions=names, gsd_m=10.0)
    alike(Plugin(out), plain, model)


def test_pictures_of_8_bit_are_taken_as_they_are(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lakes.onnx"
    assert called(model, "--out", out, "--no-data", "0", "--threshold", "0.5", "--overlap", "30") == 0
    assert "bands: red, green, blue, in this order" in capsys.readouterr().out
    plugin = Plugin(out)
    assert plugin.pixel == 10 and plugin.facts["tiles_overlap"] == 30  # of 9.997 to 10.003 m
    pixels = ground(3, high=255).astype(np.uint8)
    scene = write_scene(tmp_path / "s.tif", pixels=pixels, descriptions=["red", "green", "blue"], nodata=0)
    without = alike(plugin, scene, model, stretch=StretchFrom.none, threshold=0.5)
    assert np.nanmax(without) == 0 and np.isfinite(without).any()
    # a scene of 8 bit is stretched by its own limits, as its map is; dark pixels are data where nothing says otherwise
    scene = write_scene(tmp_path / "t.tif", pixels=pixels, descriptions=["red", "green", "blue"])
    assert called(model, scene, "--out", out) == 0
    assert "no data: no value stands for it" in capsys.readouterr().out
    assert not np.isfinite(alike(Plugin(out), scene, model)).any()
    assert np.abs(Plugin(out).layer(scene)[0] - plugin.layer(scene)[0]).max() > 0.05


def test_limits_for_all_scenes_need_none(model: Path, change: Callable[..., None], tmp_path: Path) -> None:
    limits = {"low": [200.0] * 3, "high": [3300.0] * 3}
    change(stretch={"method": "fixed", "low": 200, "high": 3300, "limits": {"a": limits}, "sensors": {"a": "spot6"}})
    assert called(model, "--out", tmp_path / "lakes.onnx") == 0
    scene = write_scene(tmp_path / "s.tif", pixels=ground(3).astype(np.uint16), descriptions=["red", "green", "blue"])
    plugin = Plugin(tmp_path / "lakes.onnx")
    assert "for the" not in plugin.facts["glidexp"]["stretch"] and plugin.facts["glidexp"]["low"] == [200.0] * 3
    alike(plugin, scene, model)


def test_bands_in_files_of_their_own_are_one_layer_in_the_models_order(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = ground(3).astype(np.uint16)
    for number, band in zip((4, 3, 2), pixels, strict=True):
        write_scene(tmp_path / f"s_B{number:02d}.tif", pixels=band[None])
    (tmp_path / "scenes.csv").write_text(
        "path,scene,sensor,bands\n.,s,sentinel2,red=s_B04.tif green=s_B03.tif blue=s_B02.tif\n"
    )
    assert called(model, tmp_path / "scenes.csv", "--out", tmp_path / "lakes.onnx") == 0
    assert "bands: s_B04.tif, s_B03.tif, s_B02.tif, in this order, as one layer" in capsys.readouterr().out
    together = write_scene(tmp_path / "s.tif", pixels=pixels, descriptions=["red", "green", "blue"], nodata=0)
    assert np.nanmax(alike(Plugin(tmp_path / "lakes.onnx"), together, model)) == 0


def test_a_raster_in_whole_per_cent_tells_the_same_lakes(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=ground(3).astype(np.uint16), descriptions=["red", "green", "blue"])
    for name, more in (("outlines", ()), ("raster", ("--raster",))):
        assert called(model, scene, "--out", tmp_path / f"{name}.onnx", *more) == 0
    outlines, raster = Plugin(tmp_path / "outlines.onnx"), Plugin(tmp_path / "raster.onnx")
    values = raster.tile(np.zeros((64, 64, 3)))
    assert values.shape == (64, 64) and raster.scale == 100
    raster.least = outlines.least
    found, lakes = outlines.layer(scene)
    percent = (raster.layer(scene)[0] * np.float32(raster.scale)).astype(np.uint8)
    sure = np.abs(found - outlines.least) > 1e-5
    assert np.array_equal(percent[sure] >= round(100 * outlines.least), lakes[sure]) and percent.max() > 90


@pytest.mark.parametrize(
    ("card", "words", "said"),
    [
        ({"terrain": ["height"]}, (), "the model takes height of a DEM, which no layer of a scene has"),
        ({"gsd_m": {"a": [2.0, 2.0], "b": [30.0, 30.0]}}, (), "pixels of 2 to 30 m: give those of the layer, --gsd-m"),
        ({"gsd_m": {}, "sensors": []}, (), "the model's card tells no pixel size"),
        ({"told": Told(Embed.none, gsd_m=20.0).to_json()}, ("--gsd-m", "10"), "the model sees every image at 20 m"),
        ({}, ("--stretch", "refit"), "--stretch=refit is fitted to a scene"),
        ({}, ("--tile-px", "8"), "--tile-px=8 is outside 32 to 4096"),
        ({}, ("--overlap", "90"), "--overlap=90 is outside 0 to 75"),
        ({}, ("--threshold", "1"), "--threshold=1.0 must be a probability"),
        ({}, ("--sensor", "sentinel9"), "--sensor='sentinel9' is not known"),
        ({}, ("--gsd-m", "-1"), "'-1' is no number above 0"),
        ({}, ("--gsd-m", "1e9"), "--gsd-m=1000000000.0 is outside 0.01 to 1000: give metres"),
        ({}, ("--no-data", "nan"), "--no-data=nan is no value of a layer: give a number"),
        ({}, ("--no-data", "inf"), "--no-data=inf is no value of a layer: give a number"),
        ({}, ("--out", "lakes.tif"), "--out=lakes.tif must be a file that ends with .onnx"),
        ({}, ("--out", "/proc/lakes.onnx"), "--out=/proc/lakes.onnx cannot be written to"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(
    card: dict[str, Any], words: tuple[str, ...], said: str, model: Path, change: Callable[..., None], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    change(**card)
    assert called(model, "--out", tmp_path / "lakes.onnx", *words) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("glidexp: ")]
    assert len(lines) == 1 and said in lines[0] and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_scenes_that_qgis_shows_otherwise_are_refused_or_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(logging.getLogger("glidexp"), "handlers", [caplog.handler])
    names = {"descriptions": ["red", "green", "blue"], "pixels": ground(3).astype(np.uint16)}
    scene = write_scene(tmp_path / "a" / "s.tif", **names)
    write_scene(tmp_path / "a" / "t.tif", **names)
    out = tmp_path / "lakes.onnx"
    assert called(model, scene.parent, "--out", out) == 2
    assert "holds 2 scenes, as s: name one" in capsys.readouterr().err
    with rasterio.open(scene, "r+") as sink:
        sink.scales = (0.0001,) * 3
    assert called(model, scene, "--out", out) == 2
    assert "declares a scale or an offset of its values, which QGIS applies" in capsys.readouterr().err
    real = write_scene(tmp_path / "f.tif", descriptions=names["descriptions"], pixels=ground(3).astype(np.float32))
    assert called(model, real, "--out", out) == 2
    assert "f.tif holds float32, of which the plugin takes no layer: map it by" in capsys.readouterr().err
    degrees = write_scene(tmp_path / "d.tif", crs="EPSG:4326", gsd_m=0.0001, west=87.0, north=28.0, **names)
    assert called(model, degrees, "--out", out) == 0
    assert "its coordinates are no metres, which the plugin counts in" in caplog.text
    assert 900 < Plugin(out).facts["resolution"] < 1100
    scene = write_scene(tmp_path / "m.tif", **names)
    with rasterio.open(scene, "r+") as sink:
        sink.write_mask(np.ones((90, 150), np.uint8) * 255)
    assert called(model, scene, "--out", out, "--gsd-m", "20") == 0
    assert "a mask says where it has no data, which a model is not told" in caplog.text
    assert "QGIS brings its pixels of 10 m to 20 m, in another way" in caplog.text
    assert Plugin(out).facts["resolution"] == 2000


def test_metres_of_the_ground_are_not_those_of_every_layer(
    model: Path, change: Callable[..., None], tmp_path: Path
) -> None:
    """In Web Mercator at 60 degrees two of them are one on the ground, where a network's distance is meant."""
    names: dict[str, Any] = {"descriptions": ["red", "green", "blue"], "crs": "EPSG:3857", "gsd_m": 20.0}
    scene = write_scene(tmp_path / "s.tif", pixels=ground(3).astype(np.uint16), west=0.0, north=8_399_738.0, **names)
    out = tmp_path / "lakes.onnx"

    def made(*words: str) -> dict[str, Any]:
        assert called(model, scene, "--out", out, *words) == 0
        return Plugin(out).facts

    assert made()["resolution"] == 2000
    change(told=Told(Embed.none, gsd_m=20.0).to_json())
    assert made()["resolution"] == pytest.approx(4000, rel=5e-3)  # of a sphere
    card = json.loads((model / "card.json").read_text()) | {"told": Told(Embed.gsd).to_json()}
    (file,) = find(scene, "sentinel2", "scene")
    for asked, pixel_m, told_m in ((None, 20.0, 10.0), (40.0, 40.0, 20.0)):
        source = qgis._source(card, file, qgis.Asked(sensor="sentinel2", gsd_m=asked, map=MapSettings()))
        assert source.pixel_m == pixel_m and qgis._own_gsd(card, source) == pytest.approx(told_m, rel=5e-3)


def test_a_file_that_answers_otherwise_is_not_left_there(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lakes.onnx"
    out.write_bytes(b"old")
    monkeypatch.setattr(qgis, "CLOSE", -1.0)
    assert called(model, "--out", out) == 1
    assert "ONNX Runtime answers otherwise than the network" in capsys.readouterr().err
    assert out.read_bytes() == b"old" and len([*tmp_path.iterdir()]) == 2


def test_tiles_begin_where_a_network_that_pools_gives_the_same_answer() -> None:
    found = {side: qgis._overlap(side, 32) for side in (64, 128, 224, 256, 320, 512, 1024)}
    assert found == {64: 50, 128: 50, 224: 43, 256: 50, 320: 30, 512: 25, 1024: 25}
    assert all((side - int(side * one / 100 * 2) // 2) % 32 == 0 for side, one in found.items())


def test_a_network_is_told_in_the_graph_and_scales_nothing_there() -> None:
    """What it is told stands in the graph; images that others have brought to one distance are taken as they are."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.encoder(image)

    torch.manual_seed(0)
    told, net = Told(Embed.gsd, gsd_m=20.0), Net().eval()
    listening(net, told, in_channels=3)
    nn.init.normal_(net.encoder[0].told)
    predictor = Predictor(net, mean=[100.0] * 3, std=[50.0] * 3, card={"told": told.to_json()}).eval()
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        for gsd_m in (20.0, None):
            predictor.tell(gsd_m=gsd_m)
            graph = Graph(predictor, Told(Embed.gsd).vector(gsd_m=gsd_m))
            assert torch.allclose(graph(image), predictor(image), atol=1e-6)
        assert not torch.allclose(Graph(predictor, [1.0, 1.0])(image), graph(image))
        torch.export.export(Graph(predictor, [1.0, 1.0]), (image,), strict=False)


@pytest.mark.slow
def test_a_real_network_that_is_told_and_flipped_in_a_tile(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, told = assemble("test_resnet", "fcn", in_channels=3), Told(Embed.sensor, ("landsat8", "sentinel2"), 10.0)
    listening(net, told, in_channels=3)
    (name,) = (name for name, _ in net.named_parameters() if name.endswith(".told"))
    nn.init.normal_(net.get_parameter(name))
    card = {"architecture": {"backbone": "test_resnet", "decoder": "fcn", "in_channels": 3}, "tile_px": 128}
    card |= {"mean": [60.0] * 3, "std": [50.0] * 3, "bands": ["red", "green", "blue"], "told": told.to_json()}
    bundle = save_bundle(tmp_path / "bundle", net, card=card)
    pixels = ground(3, 128, 128).astype(np.uint16)
    scene = write_scene(tmp_path / "s.tif", pixels=pixels, descriptions=["red", "green", "blue"], nodata=0)
    words = (scene, "--out", tmp_path / "lakes.onnx", "--sensor", "sentinel2", "--tta", "flips")
    assert called(bundle, *words) == 0
    plugin = Plugin(tmp_path / "lakes.onnx")
    assert plugin.side == 128 and plugin.facts["glidexp"]["tta"] == "flips"
    assert plugin.facts["glidexp"]["told"] == [0.0, 1.0] and plugin.facts["resolution"] == 1000
    found, _ = plugin.layer(scene)
    levels = plugin.facts["glidexp"]["low"], plugin.facts["glidexp"]["high"]
    low, high = (np.array(one)[:, None, None] for one in levels)
    stretched = np.clip(np.floor((pixels - low) / (high - low) * 255 + 0.5), 0, 255)
    valid = (pixels != 0).any(0)
    predictor = load_bundle(bundle)
    predictor.net = qgis.network(bundle, read_card(bundle), "flips", "cpu").net
    predictor.tell(sensor="sentinel2", gsd_m=10.0)
    with torch.inference_mode():
        expected = predictor(torch.from_numpy(np.where(valid, stretched, 0)[None].astype(np.float32)))[0, 0].numpy()
    assert np.abs(found - expected)[valid].max() < 1e-4 and not found[~valid].any() and np.ptp(expected) > 1e-3
