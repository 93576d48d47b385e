"""From a model to a map: windows and blend, whole scenes, kills, damaged scenes, what is said and refused."""

import dataclasses
import errno
import fcntl
import itertools
import json
import os
import pickle
import resource
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
import torch
from affine import Affine
from announced import Announced
from PIL import Image
from scipy import ndimage
from tiny_scenes import NORTH, WEST, lake, write_polygons, write_scene
from torch import nn

from glidexp import cli
from glidexp.config import Precision
from glidexp.data import sensors
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.geopackage import write_layers
from glidexp.data.scenes.reading import read_header
from glidexp.data.scenes.strips import Strips
from glidexp.data.steps import Step
from glidexp.errors import ConfigError, DataError, GlidexpError, RunFailed
from glidexp.mapping import (
    areas,
    cog,
    layers,
    many,
    network,
    polygons,
    predict,
    quicklook,
    raster,
    verb_predict,
    workfiles,
)
from glidexp.mapping.arrays import probabilities_of
from glidexp.mapping.blend import Blend
from glidexp.mapping.predict import SceneMap, SceneTask
from glidexp.mapping.runs import Runs, runs_of
from glidexp.mapping.settings import MapSettings
from glidexp.mapping.stac import on_globe
from glidexp.mapping.windows import axis, usual_overlap
from glidexp.models.card import FORMAT, FORMAT_VERSION, read_card
from glidexp.models.predictor import Predictor


class Bright(nn.Module):
    """Lake where red is bright: a network whose answer is known."""

    def __init__(self, radius: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 2 * radius + 1, padding=radius)
        nn.init.zeros_(self.conv.weight)
        self.conv.weight.data[0, 0, radius, radius] = 8.0
        nn.init.zeros_(self.conv.bias)
        self.seen = 0
        self.stop_after = 10**9

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen += len(image)
        if self.seen > self.stop_after:
            raise KeyboardInterrupt
        return self.conv(image)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Bright:
    net = Bright()
    made = Predictor(net, mean=[128.0] * 3, std=[64.0] * 3, stride=1, smallest_px=1, card={"threshold": 0.5}).eval()
    monkeypatch.setattr(predict, "network", lambda *_: made)
    return net


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    card = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "weights": {"sha256": "0" * 64}, "mean": [128.0] * 3,
        "std": [64.0] * 3, "architecture": {"backbone": "b", "decoder": "d", "in_channels": 3}, "tile_px": 64,
        "threshold": 0.5, "temperature": 1.5, "bands": ["red", "green", "blue"], "sensors": ["sentinel2"],
        "gsd_m": {"sentinel2": [10.0, 10.0]},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


def edited(model: Path, **changes: Any) -> None:
    """The card as somebody changed it by hand."""
    card = json.loads((model / "card.json").read_text()) | changes
    (model / "card.json").write_text(json.dumps(card))


def properties(out: Path) -> dict[str, Any]:
    """What the item of the map of s.tif tells."""
    return json.loads((out / "s.json").read_text())["properties"]


def pixels(height: int = 150, width: int = 200) -> np.ndarray:
    """Dark ground; a lake of 30 x 40 px with a hole of 2 and one of 9, a lake of two squares that touch at a corner, a
    speck of 4, one cut by the edge. Red alone tells."""
    red = np.full((height, width), 200, np.uint16)
    red[20:50, 30:70] = 3000
    red[30, 40:42] = 200
    red[40:43, 50:53] = 200
    red[80:84, 100:104] = red[84:88, 104:108] = 3000
    red[120:122, 20:22] = 3000
    red[140:150, 150:160] = 3000
    return np.stack([red, np.full_like(red, 500), np.full_like(red, 500)])


def mapped(model: Path, out: Path, *scenes: Path, more: tuple[str, ...] = ("--sensor", "sentinel2")) -> int:
    words = [str(model), *map(str, scenes), "--out", str(out), "--precision", "fp32", "--workers", "1", *more]
    return verb_predict.run(words)


def test_a_model_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif")
    with pytest.raises(GlidexpError):
        mapped(tmp_path / "none", tmp_path / "maps", scene, more=("--mlruns", str(tmp_path / "mlruns")))
    assert [path.name for path in tmp_path.iterdir()] == ["s.tif"]


def test_scenes_of_several_processes_are_told_of_as_they_are_done(
    bright: Bright, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = Announced()
    monkeypatch.setattr(many, "shown_steps", announced)
    monkeypatch.setattr(verb_predict, "mapped", lambda work, tasks, **_: map(work, tasks))
    scenes = [write_scene(tmp_path / f"{name}.tif", descriptions=["red", "green", "blue"]) for name in "abc"]
    assert mapped(model, tmp_path / "maps", *scenes, more=("--sensor", "sentinel2", "--workers", "2")) == 0
    assert announced.works == {"map": [3, 3]}


def test_rows_of_scenes_in_other_processes_are_told_of_while_they_are_mapped(
    bright: Bright, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of as many scenes as processes nothing was known until all of them were done."""
    told: list[tuple[str, Fraction, bool]] = []

    @contextmanager
    def shown(total: int, *_: object, **__: object) -> Iterator[Step]:
        yield lambda name, count=1, before=False: told.append((name, Fraction(count), before))

    monkeypatch.setattr(many, "shown_steps", shown)
    monkeypatch.setattr(many, "LOOK_S", 0.01)
    scene = write_scene(tmp_path / "a.tif", descriptions=["red", "green", "blue"])
    settings = MapSettings(window_px=32, overlap_px=8, device="cpu")
    task = SceneTask(SceneFile(scene, "a", "sentinel2"), model, tmp_path, settings, "m")
    task.aside.mkdir()
    (task.aside / many.TOLD).write_text("9 0 10")  # a killed run's, which says nothing of this one

    def rows(task: SceneTask, step: Callable[..., None]) -> SceneMap:
        for row in range(8):
            step(8, "a", before=row < 2)
        deadline = time.monotonic() + 30
        while len(told) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return SceneMap("a")

    monkeypatch.setattr(many, "map_scene", rows)
    with many.followed([task]) as finished:
        time.sleep(0.05)
        assert not told
        one = many.map_and_tell(task)
        assert sum(count for _, count, _ in told) < 1, "it is not said to be finished before it is"
        finished(one)
    assert sum(count for _, count, _ in told) == 1 and {name for name, _, _ in told} == {"a"}
    assert sum(count for _, count, before in told if before) == Fraction(2, 8)


def test_scenes_of_one_process_are_told_of_by_their_rows_all_in_all(
    bright: Bright, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scene had a bar of its own: nobody said when the last would be done."""
    monkeypatch.setattr(many, "shown_steps", announced := Announced())
    named = {"descriptions": ["red", "green", "blue"]}
    scenes = [write_scene(tmp_path / f"{name}.tif", **named) for name in "ab"]
    bad = tmp_path / "bad.tif"
    bad.write_bytes(scenes[0].read_bytes()[:3000])
    more = ("--sensor", "sentinel2", "--window", "32", "--overlap", "8")
    assert mapped(model, tmp_path / "maps", scenes[0], bad, more=more) == 1
    assert announced.works == {"map": [2, 2]}
    assert mapped(model, tmp_path / "maps", *scenes, more=more) == 0, "the first is finished"
    assert announced.works == {"map": [4, 4]}
    announced.works.clear()
    assert mapped(model, tmp_path / "alone", scenes[0], more=more) == 0
    total, told = announced.works["map"]
    assert total == told > 2, "of a single scene rows are counted"


def test_a_gpu_by_its_number_is_refused_on_ray(tmp_path: Path) -> None:
    """Each task sees the one GPU that Ray gives it, and no second one."""
    with pytest.raises(
        ConfigError, match=r"^--device cuda:1 does not go with --map=ray:auto: .* Give --device cuda\.$"
    ):
        mapped(tmp_path, tmp_path, tmp_path, more=("--map", "ray:auto", "--device", "cuda:1"))


@pytest.mark.parametrize("in_memory", [0, 2, 9])
def test_strips_come_back_from_memory_and_from_the_file(in_memory: int, tmp_path: Path) -> None:
    place = write_scene(tmp_path / "a.tif", height=200, nodata=0, pixels=None, descriptions=("red", "green", "blue"))
    scene = read_header(SceneFile(place, "a", "sentinel2"), ("red", "green", "blue"))
    with rasterio.open(place) as source:
        whole = source.read()
    with Strips(scene, 32, tmp_path / "w", 32, memory_bytes=in_memory * 3 * 32 * 96 * 2) as strips:
        tops = [top for top, _, _ in strips.kept()]
        assert len(strips._here) == min(in_memory, len(tops)) and tops == list(range(0, 200, 32))
        for top, pixels, valid in strips.once():
            np.testing.assert_array_equal(pixels, whole[:, top : top + 32])
            assert valid.shape == pixels.shape[1:] and valid.all()
        assert not strips._here


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(64, 64, 16), (10, 64, 16), (32, 64, 32), (65, 64, 16), (1000, 64, 32)]
)
@pytest.mark.parametrize("stride", [1, 8, 32])
def test_weights_add_up_to_one(length: int, window: int, overlap: int, stride: int) -> None:
    side = axis(length, window, overlap, stride)
    total = np.zeros(length)
    for number in range(len(side)):
        total[side.begins[number] : side.ends[number]] += side.weights(number)
        assert side.starts[number] <= side.begins[number] < side.ends[number] <= side.starts[number] + side.window
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert 0 <= side.starts[-1] + side.window - length < stride and not any(start % stride for start in side.starts)
    assert all(a + side.window - b >= overlap for a, b in itertools.pairwise(side.starts))


def tiled(answer: nn.Module, image: torch.Tensor, window: int, overlap: int) -> torch.Tensor:
    """An image (C, H, W) by windows and blend alone."""
    rows, cols = (axis(side, window, overlap) for side in image.shape[1:])
    blend, out = Blend(rows, cols, torch.device("cpu")), torch.full(image.shape[1:], torch.nan)
    for i, top in enumerate(rows.starts):
        blend.begin(i)
        for j, left in enumerate(cols.starts):
            blend.add(i, j, answer(image[None, :, top : top + rows.window, left : left + cols.window])[0, 0])
        first, done = blend.end(i)
        out[first : first + len(done)] = done
    return out


def test_tiled_is_whole_where_the_network_fits_the_overlap() -> None:
    """Radius 12 of an overlap of 32: everywhere to 1e-3, also along the scene's edge, where both see the same."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 9, padding=4), nn.ReLU(), nn.Conv2d(8, 8, 9, padding=4), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Conv2d(8, 1, 9, padding=4), nn.Sigmoid()).eval()
    image = torch.randn(3, 188, 188) * 3
    with torch.inference_mode():
        whole = net(image[None])[0, 0]
        assert float((tiled(net, image, 96, 32) - whole).abs().max()) < 1e-3
        rough = tiled(net, image, 96, 4)  # too little overlap: the test would see it
    assert float((rough - whole).abs().max()) > 1e-3


def test_a_network_that_pools_leaves_no_seams(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Windows begin where its grid does, also in the last row and column: the whole scene's answer to a step of it.

    The sides are no multiples of the stride of 32, and windows of 64 px overlap by half.
    """
    torch.manual_seed(0)
    far = nn.Sequential(
        nn.AvgPool2d(32), nn.Conv2d(3, 4, 1), nn.Tanh(), nn.Conv2d(4, 1, 1), nn.Upsample(scale_factor=32)
    )
    far[1].weight.data *= 5
    made = Predictor(far, mean=[128.0] * 3, std=[64.0] * 3, stride=32, smallest_px=32, card=read_card(model)).eval()
    monkeypatch.setattr(predict, "network", lambda *_: made)
    values = np.random.default_rng(0).integers(0, 4000, (3, 19, 21)).repeat(10, axis=1).repeat(10, axis=2)
    scene = write_scene(tmp_path / "s.tif", pixels=values.astype(np.uint16), descriptions=["red", "green", "blue"])
    tiled, whole = (
        probabilities_of(model, scene, MapSettings(window_px=px, precision=Precision.fp32, device="cpu"))
        for px in (64, 512)
    )
    assert np.ptp(whole) > 0.2 and np.abs(tiled - whole).max() <= 1.01 / 254
    monkeypatch.setattr(made, "stride", 1)
    made.forward = lambda image: torch.sigmoid(made.net(made.normalise(image)))
    assert np.abs(probabilities_of(model, scene, MapSettings(window_px=64, device="cpu")) - whole).max() > 0.02


def test_a_scene_becomes_a_map(model: Path, bright: Bright, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    ice = write_polygons(tmp_path / "ice.gpkg", [lake(-5000, 350, 100)])
    out = tmp_path / "maps"
    assert mapped(model, out, scene, more=("--sensor", "sentinel2", "--glaciers", str(ice))) == 0
    for name in ("probability", "mask"):
        with rasterio.open(out / f"s_{name}.tif") as file:
            assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert file.crs.to_epsg() == 32645 and file.dtypes == ("uint8",) and file.nodata == 255
            values = file.read(1)
    expected = pixels()[0] > 1000
    expected[30, 40:42], expected[120:122, 20:22] = True, False
    np.testing.assert_array_equal(values == 1, expected)
    lakes = geopandas.read_file(out / "s_lakes.gpkg", layer="lakes").sort_values("area_px", ignore_index=True)
    assert lakes["area_px"].tolist() == [32, 100, 1191]
    assert lakes["cut"].tolist() == [False, True, False]
    large = lakes.iloc[2]
    outline = shapely.box(WEST + 300, NORTH - 500, WEST + 700, NORTH - 200)
    to_lonlat = pyproj.Transformer.from_crs(32645, 4326, always_xy=True)
    ball = shapely.transform(outline.segmentize(10), lambda xy: np.column_stack(to_lonlat.transform(*xy.T)))
    area, perimeter = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(ball))
    assert large["area_km2"] == pytest.approx(area / 1e6 * 1191 / 1200, rel=1e-5)
    assert large["perimeter_km"] == pytest.approx(perimeter / 1e3 * 152 / 140, rel=1e-5)
    bound = 0.5 * 10 * 1520 * np.pi / 4 / 1e6
    assert large["area_high_km2"] - large["area_km2"] == pytest.approx(bound, rel=2e-3)
    assert large["mean_probability"] > 0.99
    assert large["area_p05_km2"] <= large["area_km2"] <= large["area_p95_km2"] + 1e-12
    assert large["glacier_distance_m"] == pytest.approx(5000 + 300 - 100, abs=5)
    assert lakes["within_10km"].all() and len(set(lakes["lake_id"])) == 3
    assert geopandas.read_parquet(out / "s_lakes.parquet")["lake_id"].tolist() == sorted(lakes["lake_id"])
    item = json.loads((out / "s.json").read_text())
    assert item["stac_version"] and item["properties"]["datetime"] and item["properties"]["proj:code"] == "EPSG:32645"
    assert all((out / asset["href"]).is_file() for asset in item["assets"].values())
    assert item["properties"]["glidexp:stretch"]["from"].startswith("fitted to the scene")
    assert not (out / ".s.partial").exists()
    seen = bright.seen
    assert mapped(model, out, scene, more=("--sensor", "sentinel2", "--glaciers", str(ice))) == 0
    assert bright.seen == seen, "a finished scene is passed over"


def test_a_layer_of_the_glaciers_is_named(model: Path, bright: Bright, tmp_path: Path) -> None:
    """A GeoPackage may hold glaciers beside other outlines; another layer is another map."""
    scene, ice = write_scene(tmp_path / "s.tif", pixels=pixels()), tmp_path / "ice.gpkg"
    for layer, x in (("far", -9000), ("near", -500)):
        outlines = [lake(x, 500, 100)]
        geopandas.GeoDataFrame(geometry=outlines, crs="EPSG:32645").to_file(ice, layer=layer)
    out, found = tmp_path / "maps", []
    with pytest.raises(GlidexpError, match=r"several layers that may hold polygons \(far, near\)"):
        mapped(model, out, scene, more=("--sensor", "sentinel2", "--glaciers", str(ice)))
    for layer in ("far", "near"):
        more = ("--sensor", "sentinel2", "--glaciers", str(ice), "--glaciers-layer", layer)
        assert mapped(model, out, scene, more=more) == 0
        found.append(geopandas.read_file(out / "s_lakes.gpkg", layer="lakes")["glacier_distance_m"].min())
    assert found[0] > 7000 > 1000 > found[1]
    with pytest.raises(ConfigError, match=r"--glaciers-layer=near is a layer of --glaciers, which is not given"):
        mapped(model, out, scene, more=("--glaciers-layer", "near"))


def test_a_killed_map_goes_on_and_ends_the_same(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window rows before the kill are not done again, where they are kept at once, and nothing differs."""
    monkeypatch.setattr(workfiles, "KEEP_EVERY_S", 0.0)
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(300, 90), descriptions=["red", "green", "blue"])
    assert mapped(model, tmp_path / "whole", scene) == 0
    seen, bright.seen = bright.seen, 0
    bright.stop_after = seen // 2
    with pytest.raises(KeyboardInterrupt):
        mapped(model, tmp_path / "again", scene)
    before, bright.stop_after, bright.seen = bright.stop_after, 10**9, 0
    assert mapped(model, tmp_path / "again", scene) == 0
    assert bright.seen <= seen - before + 2
    for name in ("probability", "mask"):
        one, other = (rasterio.open(tmp_path / place / f"s_{name}.tif").read() for place in ("whole", "again"))
        np.testing.assert_array_equal(one, other)
    looks = [(tmp_path / place / "s_quicklook.png").read_bytes() for place in ("whole", "again")]
    assert looks[0] == looks[1]
    told = [json.loads((tmp_path / place / "s.json").read_text())["properties"] for place in ("whole", "again")]
    assert told[0]["glidexp:windows_seen"] == told[1]["glidexp:windows_seen"] == seen


@pytest.mark.parametrize(("shift", "shared"), [(0, True), (100, True), (200, False), (3000, False)])
def test_sums_over_scenes_of_the_same_ground_say_so(
    shift: int, shared: bool, model: Path, bright: Bright, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bands = ["red", "green", "blue"]
    scenes = [
        write_scene(tmp_path / f"{name}.tif", pixels=pixels(), west=WEST + 10.0 * px, descriptions=bands)
        for name, px in (("first", 0), ("second", shift), ("third", 6000))
    ]
    assert mapped(model, tmp_path / "out", *scenes) == 0
    said = capsys.readouterr().out
    assert ("2 scenes share ground (first, second): a lake there counts once for each" in said) is shared
    assert ("share ground" in said) is shared


def test_a_damaged_scene_is_told_and_the_others_finish(
    model: Path, bright: Bright, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_scene(tmp_path / "good.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    bad = tmp_path / "bad.tif"
    bad.write_bytes(good.read_bytes()[:3000])
    code = cli.guarded(
        cli.predict, [str(model), str(bad), str(good), "--out", str(tmp_path / "maps"), "--workers", "1"]
    )
    assert code == 1
    told = capsys.readouterr()
    assert "bad.tif" in told.err and "1 of 2 scenes" in told.err and "good: 3 lakes" in told.out
    assert (tmp_path / "maps" / "good.json").is_file()
    table = tmp_path / "scenes.csv"
    table.write_text("path,scene\ngone.tif,gone\ngood.tif,good\nlost.tif,lost\n")
    assert mapped(model, tmp_path / "maps", table) == 1
    told = capsys.readouterr()
    assert "2 of 3 scenes could not be mapped" in told.err and "good: 3 lakes" in told.out
    for name in ("gone", "lost"):
        assert f"failed: {tmp_path / name}.tif of scene '{name}' is not there: correct its path" in told.err
    busy = write_scene(tmp_path / "busy.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    with workfiles.WorkFiles(tmp_path / "maps" / ".busy.partial", "of another", 150, 200, (1, 1, 3)):
        assert mapped(model, tmp_path / "maps", busy, good) == 1
        told = capsys.readouterr()
    assert "failed: another process is at work in" in told.err and "good: 3 lakes" in told.out


def test_what_the_model_does_not_know_is_said(model: Path, bright: Bright, tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), gsd_m=30.0)
    assert mapped(model, tmp_path / "maps", scene, more=("--sensor", "landsat8")) == 0
    said = caplog.text
    assert "sensor landsat8 is not one" in said and "a pixel is 30 m" in said and "taken as R, G, B" in said
    four = write_scene(tmp_path / "four.tif", bands=4)
    with pytest.raises(GlidexpError, match="bands"):
        mapped(model, tmp_path / "maps", four, more=())


def test_limits_of_the_card_are_replayed(model: Path, bright: Bright, tmp_path: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    card["stretch"] = {
        "method": "percentile", "low": 2.0, "high": 98.0, "scope": "sensor", "sensors": {"x": "sentinel2"},
        "limits": {"x": {"low": [0.0] * 3, "high": [20000.0] * 3}},
    }  # fmt: skip
    (model / "card.json").write_text(json.dumps(card))
    scene = write_scene(tmp_path / "s.tif", pixels=pixels())
    assert mapped(model, tmp_path / "maps", scene) == 0
    told = json.loads((tmp_path / "maps" / "s.json").read_text())["properties"]
    assert "card for sensor sentinel2" in told["glidexp:stretch"]["from"]
    assert told["glidexp:sizes"][-1]["lakes"] == 0  # 3000 of 20000 is dark
    assert mapped(model, tmp_path / "maps", scene, more=("--sensor", "sentinel2", "--stretch", "refit")) == 0
    told = json.loads((tmp_path / "maps" / "s.json").read_text())["properties"]
    assert told["glidexp:sizes"][-1]["lakes"] == 3


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # of mlflow's own import
@pytest.mark.parametrize(("sensor", "lakes"), [(None, 3), ("sentinel2", 0)])
def test_a_model_of_mlflow_gives_the_pixels_that_predict_writes_with_and_without_a_sensor(
    sensor: str | None, lakes: int, model: Path, bright: Bright, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model of one sensor does not take an unnamed scene for one of it: what is dark or bright depends on it."""
    from glidexp.tracking.pyfunc_release import ReleasedLakeModel

    edited(
        model,
        stretch={
            "method": "percentile", "low": 2.0, "high": 98.0, "scope": "sensor", "sensors": {"x": "sentinel2"},
            "limits": {"x": {"low": [0.0] * 3, "high": [20000.0] * 3}},
        },
        sensors=["sentinel2"],
    )  # fmt: skip
    scene = write_scene(tmp_path / "s.tif", pixels=pixels())
    assert mapped(model, tmp_path / "maps", scene, more=("--sensor", sensor) if sensor else ()) == 0
    assert properties(tmp_path / "maps")["glidexp:sizes"][-1]["lakes"] == lakes
    with rasterio.open(tmp_path / "maps" / "s_probability.tif") as written:
        expected = written.read(1)
    caplog.clear()
    released = ReleasedLakeModel()
    released.bundle = model
    found = released.predict(None, {"scene": scene, "sensor": sensor})
    assert np.array_equal(np.rint(found * 254), expected)
    assert ('Name it with {"scene": PATH, "sensor": NAME}.' in caplog.text) == (sensor is None)
    with pytest.raises(ConfigError, match="sensor of scene s"):
        released.predict(None, {"scene": scene, "sensor": "landsat99"})


def test_a_scene_without_data_is_refused_under_limits_of_the_card_too(
    model: Path, bright: Bright, tmp_path: Path
) -> None:
    """A map of it would say that there are no lakes."""
    edited(model, stretch={"method": "fixed", "limits": {"x": {"low": [0.0] * 3, "high": [3000.0] * 3}}})
    void = write_scene(tmp_path / "s.tif", pixels=pixels() * 0, nodata=0)
    with pytest.raises(DataError, match="has no valid pixel: there is nothing to map"):
        mapped(model, tmp_path / "maps", void)
    assert not (tmp_path / "maps" / "s.json").exists()


def test_another_tile_on_the_card_is_another_map(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows are as large as it says: rows of windows of a killed map are counted in those of before."""
    monkeypatch.setattr(workfiles, "KEEP_EVERY_S", 0.0)
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(300, 90))
    assert mapped(model, tmp_path / "whole", scene) == 0
    bright.stop_after = bright.seen + 4
    with pytest.raises(KeyboardInterrupt):
        mapped(model, tmp_path / "maps", scene)
    bright.stop_after = 10**9
    edited(model, tile_px=100)
    for out in ("maps", "whole", "new"):
        assert mapped(model, tmp_path / out, scene) == 0
        assert properties(tmp_path / out)["glidexp:window_px"] == 100
    assert len({(tmp_path / out / "s_probability.tif").read_bytes() for out in ("maps", "whole", "new")}) == 1
    before = bright.seen
    assert mapped(model, tmp_path / "maps", scene) == 0 and bright.seen == before


def test_a_card_without_names_of_bands_is_told_unless_they_are_three(
    model: Path, bright: Bright, tmp_path: Path
) -> None:
    card = json.loads((model / "card.json").read_text())
    del card["bands"]
    (model / "card.json").write_text(json.dumps(card))
    scene = write_scene(tmp_path / "s.tif", pixels=pixels())
    assert mapped(model, tmp_path / "maps", scene) == 0
    edited(model, mean=[128.0] * 4, std=[64.0] * 4, architecture={**card["architecture"], "in_channels": 4})
    with pytest.raises(DataError, match="names no bands, and its network takes 4"):
        mapped(model, tmp_path / "maps", scene)


def test_a_very_large_temperature_is_a_number(model: Path, bright: Bright, tmp_path: Path) -> None:
    edited(model, temperature=1e9)
    assert mapped(model, tmp_path / "maps", write_scene(tmp_path / "s.tif", pixels=pixels())) == 0


def test_sensors_of_ones_own_are_known_to_other_processes(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go with the task; a process that has just begun knows those of the registry alone."""
    fresh = sensors._registry().copy()
    monkeypatch.setattr(sensors, "_registry", lambda own=fresh: own)
    (tmp_path / "own.yaml").write_text("skysat: {gsd_m: 10, bands: [blue, green, red, nir]}\n")
    scene = write_scene(tmp_path / "s.tif", bands=4)
    sent = []
    monkeypatch.setattr(verb_predict, "_all", lambda tasks, *_: sent.extend(tasks) or [])
    mapped(model, tmp_path / "maps", scene, more=("--sensor", "skysat", "--sensors-file", str(tmp_path / "own.yaml")))
    (task,) = pickle.loads(pickle.dumps(sent))
    assert [sensor.name for sensor in task.own_sensors] == ["skysat"]
    del fresh["skysat"]
    (tmp_path / "maps").mkdir(exist_ok=True)
    assert not predict.map_scene(task).failed


def test_names_that_no_file_of_the_map_can_have_are_told(
    model: Path, bright: Bright, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    good = write_scene(folder / "s.tif", pixels=pixels())
    write_scene(folder / f"{'x' * 230}.tif", pixels=pixels())
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/sc\xe4ne.tif"))
    odd.write_bytes(good.read_bytes())
    caplog.set_level("INFO")
    assert mapped(model, tmp_path / "maps", folder) == 1
    said = caplog.text
    assert "2 of 3 scenes done (sc\\udce4ne)" in said and said.encode(), "what is logged can be written to a file"
    assert (
        "has 230 bytes, and with more than 215" in said and "sc\\udce4ne.tif' has a name that is not in UTF-8" in said
    )
    assert (tmp_path / "maps" / "s.json").exists()


def test_limits_of_another_baseline_of_sentinel_2_are_told(
    model: Path, bright: Bright, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Since 2022 all values are 1000 higher: under limits of before, a scene is as bright as snow."""
    card = json.loads((model / "card.json").read_text())
    early, late = ("S2A_MSIL1C_20200101T045721_N0214_R119_T45RVL", "S2A_MSIL1C_20230101T045721_N0509_R119_T45RVL")
    card["stretch"] = {
        "method": "percentile",
        "low": 2.0,
        "high": 98.0,
        "scope": "global",
        "sensors": {early: "sentinel2"},
    }
    card["stretch"]["limits"] = {early: {"low": [0.0] * 3, "high": [20000.0] * 3}}
    (model / "card.json").write_text(json.dumps(card))
    for name in (early, late, "s"):
        scene = write_scene(tmp_path / f"{name}.tif", pixels=pixels())
        for stretch in ("auto", "refit"):
            caplog.clear()
            assert mapped(model, tmp_path / stretch, scene, more=("--sensor", "sentinel2", "--stretch", stretch)) == 0
            told = (
                "of Sentinel-2's processing baseline 04.00 or later, but stretched by the limits of scenes whose values"
            )
            assert (told in caplog.text) == (name == late and stretch == "auto")


def test_a_killed_map_of_another_sensor_is_not_gone_on_with(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card's limits are its sensor's: rows that were stretched as another sensor's are no part of the map."""
    monkeypatch.setattr(workfiles, "KEEP_EVERY_S", 0.0)
    card = json.loads((model / "card.json").read_text())
    card["stretch"] = {
        "method": "percentile", "low": 2.0, "high": 98.0, "scope": "sensor",
        "sensors": {"x": "sentinel2", "y": "landsat8"},
        "limits": {"x": {"low": [0.0] * 3, "high": [20000.0] * 3}, "y": {"low": [0.0] * 3, "high": [3000.0] * 3}},
    }  # fmt: skip
    (model / "card.json").write_text(json.dumps(card))
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(300, 90), descriptions=["red", "green", "blue"])
    bright.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        mapped(model, tmp_path / "maps", scene)
    bright.stop_after = 10**9
    assert mapped(model, tmp_path / "maps", scene, more=("--sensor", "landsat8")) == 0
    told = json.loads((tmp_path / "maps" / "s.json").read_text())["properties"]
    assert told["glidexp:stretch"]["high"] == [3000.0] * 3 and told["glidexp:sizes"][-1]["lakes"] == 1


@pytest.mark.parametrize("first", [0, 3])
def test_an_answer_that_is_no_number_is_no_ground_without_lake(
    model: Path, bright: Bright, tmp_path: Path, first: int
) -> None:
    """As of fp16 that ran over. Where there are no data it does not matter. The thread that decodes ends as well."""
    answer = bright.forward
    bright.forward = lambda image: answer(image) * (float("nan") if bright.seen > first else 1.0)  # type: ignore[method-assign]
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    before = set(threading.enumerate())
    with pytest.raises(RunFailed, match=r"^s: the network's answer is no number at \d+ pixels from row \d+ on: give"):
        mapped(model, tmp_path / "maps", scene)
    assert set(threading.enumerate()) <= before
    assert not (tmp_path / "maps" / "s.json").exists()
    black = -1.9  # of all bands: where there are no data
    bright.forward = lambda image: answer(image).where(image.amax(1, keepdim=True) > black, float("nan"))  # type: ignore[method-assign]
    half = pixels()
    half[1] = 3200 - half[0]  # ground is dark in one band alone
    half[:, :, 100:] = 0
    scene = write_scene(tmp_path / "half.tif", pixels=half, nodata=0, descriptions=["red", "green", "blue"])
    assert mapped(model, tmp_path / "maps", scene) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_a_lake_on_the_island_of_another_is_in_the_picture(tmp_path: Path, order: int) -> None:
    inner = shapely.box(40, 40, 60, 60)
    outer = shapely.Polygon(shapely.box(10, 10, 90, 90).exterior, [shapely.box(30, 30, 70, 70).exterior])
    look = np.zeros((300, 300, 3), np.uint8)
    lakes = np.array([inner, outer][::order], dtype=object)
    quicklook.draw(tmp_path / "look.png", look, lakes, step=1, gsd_m=None, title="two lakes")
    with Image.open(tmp_path / "look.png") as picture:
        seen = np.asarray(picture)[-picture.height + quicklook.TITLE_PX :]
    scale = seen.shape[1] // 300
    filled, water, island = (tuple(seen[at * scale, at * scale]) for at in (50, 20, 35))
    assert filled == water != (0, 0, 0) and island == (0, 0, 0)


def test_a_picture_says_sensor_date_and_north_and_shows_outlines_on_snow(tmp_path: Path) -> None:
    snow = np.full((400, 400, 3), 255, np.uint8)
    lake = np.array([shapely.box(100, 100, 200, 200)], dtype=object)
    place = quicklook.draw(
        tmp_path / "look.png",
        snow,
        lake,
        step=1,
        gsd_m=10.0,
        title="t",
        foot="sentinel2, 2021-08-15",
        north=(0.0, -1.0),
    )
    with Image.open(place) as picture:
        grey = np.asarray(picture.convert("L")).astype(int)
    assert grey.shape == (400 * 2 + quicklook.TITLE_PX + quicklook.FOOT_PX, 800)
    across = grey[quicklook.TITLE_PX + 300, 190:210]
    assert across.min() < 130 < 200 < across.max(), "in grey too an outline on snow has dark sides"
    foot = grey[-quicklook.FOOT_PX :]
    assert foot[:, :200].min() < 100 and foot[:, -40:].min() < 100, "words on the left, an arrow on the right"
    dark = [np.argwhere(part < 100) for part in np.array_split(foot[:, -24:], 2)]
    assert np.ptp(dark[0][:, 1]) > np.ptp(dark[1][:, 1]), "the head of the arrow is above: north is up"
    scene = write_scene(tmp_path / "s.tif", descriptions=["red", "green", "blue"])
    header = read_header(SceneFile(scene, "s", "sentinel2"))
    right, down = layers._north(header)
    assert right == pytest.approx(0) and down < 0
    for degrees in (90, 30):
        turned = dataclasses.replace(header, transform=header.transform * Affine.rotation(degrees))
        x, y = turned.xy(*np.array(layers._north(turned)) * 100) - np.array(turned.xy(0.0, 0.0))
        assert x == pytest.approx(0, abs=1e-6) and y > 0, "the arrow leads north in a turned scene as well"


def test_ground_without_data_is_not_looked_at(model: Path, bright: Bright, tmp_path: Path) -> None:
    values = pixels(300, 300)
    values[:, :, 120:] = 0
    scene = write_scene(tmp_path / "s.tif", pixels=values, nodata=0, descriptions=["red", "green", "blue"])
    assert mapped(model, tmp_path / "maps", scene) == 0
    told = json.loads((tmp_path / "maps" / "s.json").read_text())["properties"]
    assert bright.seen == told["glidexp:windows_seen"] < np.prod(told["glidexp:windows"])
    with rasterio.open(tmp_path / "maps" / "s_mask.tif") as file:
        assert (file.read(1)[:, 120:] == 255).all()
    ground = geopandas.read_file(tmp_path / "maps" / "s_lakes.gpkg", layer="ground")
    assert 0.9 * 120 * 300 * 100 < ground.area[0] <= 120 * 300 * 100
    nowhere = np.full((32, 32), workfiles.INVALID, np.uint8)
    assert layers.looked_at(read_header(SceneFile(scene, "s", "sentinel2")), nowhere).geom_type == "Polygon"


def test_another_mask_beside_a_scene_is_another_map(model: Path, bright: Bright, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(64, 64), descriptions=["red", "green", "blue"])
    stand = scene.stat()
    for left in (1, 20):
        valid = np.full((64, 64), 255, np.uint8)
        valid[:, :left] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(scene, "r+") as file:
            file.write_mask(valid)
        os.utime(scene, ns=(stand.st_atime_ns, stand.st_mtime_ns))  # which GDAL opened for writing
        assert mapped(model, tmp_path / "maps", scene) == 0
        with rasterio.open(tmp_path / "maps" / "s_mask.tif") as file:
            assert (file.read(1) == 255).sum() == left * 64


def test_memory_does_not_grow_with_the_height() -> None:
    """Rows held at once are a window's and a strip's."""
    strips = ((top, np.zeros((32, 8, 3), np.uint8), np.ones((32, 8), bool)) for top in range(0, 3200, 32))
    band, held = raster.Band(strips, 0), 0
    for top in range(0, 3100, 48):
        image, valid = band.rows(top, top + 64)
        assert image.shape == (64, 8, 3) and valid.shape == (64, 8)
        assert band.image is not None
        held = max(held, len(band.image))
    assert held <= 64 + 32


def test_the_real_scene_is_mapped(model: Path, bright: Bright, real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "everest_landsat7"
    more = ("--sensor", "landsat7", "--glaciers", str(folder / "15_rgi60_glacier_outlines.gpkg"), "--window", "256")
    assert mapped(model, tmp_path, folder / "LE71400412000304SGS00_RGB.tif", more=more) == 0
    lakes = geopandas.read_parquet(tmp_path / "LE71400412000304SGS00_RGB_lakes.parquet")
    assert len(lakes) and lakes["glacier_distance_m"].notna().any()


def test_a_real_bundle_is_loaded_and_turned(tmp_path: Path) -> None:
    from glidexp.models.build import assemble
    from glidexp.models.export import save_bundle

    torch.manual_seed(0)
    card = {
        "architecture": {"backbone": "mobilenetv3", "decoder": "fcn", "in_channels": 3}, "mean": [128.0] * 3,
        "std": [64.0] * 3, "tile_px": 64,
    }  # fmt: skip
    save_bundle(tmp_path / "bundle", assemble("mobilenetv3", "fcn", in_channels=3), card=card)
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(70, 90))
    assert mapped(tmp_path / "bundle", tmp_path / "maps", scene, more=("--tta", "d4")) == 0
    with rasterio.open(tmp_path / "maps" / "s_probability.tif") as file:
        assert len(np.unique(file.read(1))) > 3
    assert geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet")["area_p05_km2"].isna().all()


def test_a_changed_card_is_read_again_in_the_same_process(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(folder: Path, device: torch.device) -> Predictor:
        card = read_card(folder)
        return Predictor(Bright(), mean=card["mean"], std=card["std"], card=card).to(device)

    monkeypatch.setattr(network, "load_bundle", load)
    first = network.network(model, read_card(model), None, "cpu")
    assert network.network(model, read_card(model), None, "cpu") is first
    card = json.loads((model / "card.json").read_text()) | {"threshold": 0.7}
    (model / "card.json").write_text(json.dumps(card))
    assert network.network(model, read_card(model), None, "cpu").threshold == 0.7


@pytest.mark.parametrize(
    ("backbone", "tile", "window"),
    [("resnet18", 64, 128), ("resnet18", 256, 512), ("mit_b0", 512, 512), ("resnet18", 1024, 1024),
     ("swin_tiny", 256, 256), ("vit_small", 224, 224), ("another", 256, 256)],
)  # fmt: skip
def test_windows_are_larger_than_tiles_where_the_network_takes_them(backbone: str, tile: int, window: int) -> None:
    assert predict.usual_window({"tile_px": tile, "architecture": {"backbone": backbone}}) == window


def test_outlines_and_pixels_agree_on_any_mask(tmp_path: Path) -> None:
    """Against SciPy's components and a drawing of every outline, on lakes with holes, lakes in holes, corners that
    touch, and ground without data."""
    rng = np.random.default_rng(0)
    for (height, width), level in itertools.product([(40, 50), (75, 60)], (0.48, 0.51)):
        start = (ndimage.gaussian_filter(rng.random((height, width)), 1) > level).astype(np.uint8)
        start[:5, 10:14] = 255
        (tmp_path / "mask.u8").write_bytes(start.tobytes())
        vrt = tmp_path / "mask.vrt"
        vrt.write_text(
            f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><VRTRasterBand dataType="Byte" band="1" '
            f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="1">mask.u8</SourceFilename><LineOffset>{width}'
            "</LineOffset><PixelOffset>1</PixelOffset><ImageOffset>0</ImageOffset></VRTRasterBand></VRTDataset>"
        )
        for fill_px, min_px in ((0, 0), (6, 6), (3, 20)):
            mask = start.copy()
            found = polygons.outlines(vrt, mask, fill_px=fill_px, min_px=min_px)
            labels, count = ndimage.label(mask == 1, np.ones((3, 3)))
            assert len(found) == count and (mask[:5, 10:14] == 255).all()
            runs, total = runs_of(found), np.zeros(mask.size, int)
            for numbers, places in runs.pixels(width):
                np.add.at(total, places, 1)
                assert len(np.unique(np.column_stack([numbers, labels.flat[places]]), axis=0)) == count
            np.testing.assert_array_equal(total.reshape(mask.shape), mask == 1)
            drawn = [rasterio.features.rasterize([(one, 1)], out_shape=mask.shape) for one in found]
            for number, one in enumerate(drawn):
                np.testing.assert_array_equal(runs.drawn(number, (2, height - 3, 4, width - 1)), one[2:-3, 4:-1])
            wide = [set(runs_at(runs.grown(height, width), n, width)) for n in range(count)]
            assert wide == [set(np.flatnonzero(ndimage.binary_dilation(one, np.ones((3, 3))))) for one in drawn]


def test_overviews_are_means_of_what_has_data(tmp_path: Path) -> None:
    """Of the pixels with data under each, down to what fits a block; the most of two classes, the second where even."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 255, (1101, 600), dtype=np.uint8)
    values[:301, :77] = 255
    write_scene(tmp_path / "s.tif", pixels=np.zeros((3, 1101, 600), np.uint16))
    scene = read_header(SceneFile(tmp_path / "s.tif", "s", "sentinel2"))
    (tmp_path / "raw.u8").write_bytes(values.tobytes())
    cog.write_cog(cog.describe(tmp_path / "raw.u8", scene, name="x"), tmp_path / "raw.u8", tmp_path / "made.tif", scene)
    with rasterio.open(tmp_path / "made.tif") as made:
        assert made.overviews(1) == [2, 4] and made.nodata == 255 and made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(made.read(1), values)
    above = values
    for level in range(2):
        known = np.where(above == 255, np.nan, above.astype(float))
        known = np.pad(known, ((0, len(known) % 2), (0, known.shape[1] % 2)), constant_values=np.nan)
        fours = known.reshape(len(known) // 2, 2, -1, 2).transpose(0, 2, 1, 3).reshape(len(known) // 2, -1, 4)
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # of four without data
            expected = np.nan_to_num(np.floor(np.nanmean(fours, axis=2) + 0.5), nan=255)
        with rasterio.open(tmp_path / "made.tif", overview_level=level) as half:
            above = half.read(1)
        np.testing.assert_array_equal(above, expected)
    np.testing.assert_array_equal(cog.halved(np.array([[1, 0, 0, 0], [1, 0, 255, 1]], np.uint8)), [[1, 0]])


def runs_at(runs: Runs, number: int, width: int) -> list[int]:
    return [places for numbers, at in runs.pixels(width) for places in at[numbers == number].tolist()]


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The system refuses to write more to a file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_the_map_goes_on_once_there_is_room(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for the mask is asked for before it is written through memory, where a full disk ends the process."""
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    out, taken = tmp_path / "maps", os.posix_fallocate

    def full(number: int, offset: int, size: int) -> None:
        if os.readlink(f"/proc/self/fd/{number}").endswith(layers.MASK):
            raise OSError(errno.ENOSPC, "No space left on device")
        taken(number, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunFailed, match=r"no room for .* \(No space left on device\): free some"):
        mapped(model, out, scene)
    monkeypatch.setattr(os, "posix_fallocate", taken)
    seen = bright.seen
    assert mapped(model, out, scene) == 0 and bright.seen == seen


def test_what_gdal_says_of_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = read_header(SceneFile(write_scene(tmp_path / "s.tif", width=700, height=700), "s", "sentinel2"))
    raw = tmp_path / "noise.u8"
    np.random.default_rng(0).integers(0, 255, (700, 700), np.uint8).tofile(raw)
    vrt = cog.describe(raw, scene, name="noise")
    monkeypatch.setattr(cog, "with_overviews", lambda vrt, *_: vrt)  # its files would be refused before GDAL's
    shapes = geopandas.GeoDataFrame(geometry=[lake(i, 0, 9).buffer(1, 500) for i in range(300)], crs=32645)
    out = tmp_path / "out"
    for size in (20_000, 150_000):
        with no_file_beyond(size), pytest.raises(RunFailed, match=r"a\.tif cannot be written: .*give another folder"):
            cog.write_cog(vrt, raw, out / "a.tif", scene)
        with no_file_beyond(size), pytest.raises(RunFailed, match=r"a\.gpkg cannot be written: .*give another folder"):
            write_layers(out / "a.gpkg", {"lakes": shapes}, "Polygon")
    assert not list(out.iterdir())


def test_layers_of_another_map_that_was_killed_are_not_taken_for_finished(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    out, other = tmp_path / "maps", ("--sensor", "sentinel2", "--min-px", "50")
    assert mapped(model, out, scene) == 0

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(layers, "write_lakes", killed)
        with pytest.raises(KeyboardInterrupt):
            mapped(model, out, scene, more=other)
    (out / ".4711.s_mask.tif").write_bytes(b"of a process that was killed")
    (out / ".4711.s_2_mask.tif").write_bytes(b"of another scene")
    for more, lake_px in ((("--sensor", "sentinel2"), 1191 + 100 + 32), (other, 1191 + 100)):
        assert mapped(model, out, scene, more=more) == 0
        with rasterio.open(out / "s_mask.tif") as file:
            assert (file.read(1) == 1).sum() == lake_px
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [".4711.s_2_mask.tif"]


def test_an_earlier_map_stays_whole_until_each_layer_of_the_next_is_written(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    out, other = tmp_path / "maps", ("--sensor", "sentinel2", "--min-px", "50")
    assert mapped(model, out, scene) == 0
    (out / "s_spread.tif").write_bytes(b"of a mean of networks")

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    before = files()

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write_lakes", "draw"):
        with monkeypatch.context() as patch:
            patch.setattr(layers, name, refused)
            with pytest.raises(RunFailed, match=r"no room for .*free some"):
                mapped(model, out, scene, more=other)
        assert files() == before
    with monkeypatch.context() as patch:
        patch.setattr(predict, "write_item", refused)
        with pytest.raises(OSError, match="No space"):
            mapped(model, out, scene, more=other)
    assert files() == before
    rename, renamed = os.replace, list[str]()

    def killing(source: Path, target: Path) -> None:
        if Path(target).parent == out and (renamed.append(Path(target).name) or len(renamed)) == 3:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "replace", killing)
    with pytest.raises(KeyboardInterrupt):
        mapped(model, out, scene, more=other)
    assert not (out / "s.json").exists(), "which vouches for the layers"
    assert before.keys() - files().keys() == {"s.json", "s_spread.tif", "summary.csv"}
    monkeypatch.setattr(os, "replace", rename)
    assert mapped(model, out, scene, more=other) == 0
    after = files()
    assert before.keys() - after.keys() == {"s_spread.tif"} and not after.keys() - before.keys()
    assert not (out / ".s.partial").exists()


def test_a_map_that_was_killed_while_it_cleared_up(
    model: Path, bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pixels may be gone and its progress there: no other map of these pixels is made of what is not there."""
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    out, other = tmp_path / "maps", ("--sensor", "sentinel2", "--min-px", "50")
    with monkeypatch.context() as patch:
        patch.setattr(workfiles.WorkFiles, "drop", lambda _: None)
        assert mapped(model, out, scene) == 0
    left = out / ".s.partial"
    assert (left / "progress.npz").is_file()
    for name in ("probability.u8", "marks.u8"):
        (left / name).unlink()
    assert mapped(model, out, scene, more=other) == 0
    with rasterio.open(out / "s_mask.tif") as file:
        assert (file.read(1) == 1).sum() == 1191 + 100
    assert not left.exists()
    left.mkdir()
    (left / "marks.u8").touch()
    with (left / "lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # as another process of other settings at work
        assert mapped(model, out, scene, more=other) == 0
        assert left.exists()
    assert mapped(model, out, scene, more=other) == 0
    assert not left.exists(), "what was left of a finished scene"


def test_odd_names_and_shapes(model: Path, bright: Bright, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bands = {"descriptions": ["red", "green", "blue"]}
    broken = write_scene(tmp_path / "a\nb.tif", pixels=pixels()[:, :, :1], **bands)
    long = write_scene(tmp_path / f"{'n' * 180}.tif", pixels=pixels(), **bands)
    out = tmp_path / "maps"
    assert mapped(model, out, broken, long) == 0
    with Image.open(out / "a_b_quicklook.png") as narrow, Image.open(out / f"{'n' * 180}_quicklook.png") as wide:
        assert narrow.width == 480, "there is room for a title"
        assert np.asarray(narrow.convert("L"))[:34, :200].min() < 128
        assert np.asarray(wide.convert("L"))[:34, wide.width * 3 // 4 - 16 : wide.width * 3 // 4 - 8].min() > 200
    same = write_scene(tmp_path / "a b.tif", **bands)
    with pytest.raises(GlidexpError, match=r"'a\\nb' and 'a b' comes twice .*same names"):
        mapped(model, out, broken, same)
    with pytest.raises(GlidexpError, match="--out: nothing is given"):
        mapped(model, Path("x"), same, more=("--out", ""))
    with pytest.raises(ConfigError, match=r"--out=.*s\.tif cannot be written to"):
        mapped(model, write_scene(tmp_path / "s.tif"), same)
    with pytest.raises(ConfigError, match=r"--out=/proc cannot be written to"):  # it is there, and takes no file
        mapped(model, Path("/proc"), same)
    with pytest.raises(GlidexpError, match=r"^SCENE=.*none does not exist"):
        mapped(model, out, tmp_path / "none")


@pytest.mark.parametrize("wrong", [{"min_km2": float("nan")}, {"min_km2": float("inf")}, {"smooth": 30}])
def test_settings_that_no_scene_could_be_mapped_with(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        MapSettings(**wrong)  # type: ignore[arg-type]


def test_a_window_larger_than_the_scene_costs_no_memory_for_neighbours() -> None:
    assert axis(300, 10**10, 10**9).ramp == 0 and axis(300, 128, 32).ramp == 8


@pytest.mark.parametrize(
    ("given", "parts", "box"),
    [
        ((10, 0, 11, 1), [(10, 0, 11, 1)], [10, 0, 11, 1]),
        ((179, 60, 182, 61), [(179, 60, 180, 61), (-180, 60, -178, 61)], [179, 60, -178, 61]),
        ((-182, 60, -179, 61), [(-180, 60, -179, 61), (178, 60, 180, 61)], [178, 60, -179, 61]),
        ((181, 60, 182, 61), [(-179, 60, -178, 61)], [-179, 60, -178, 61]),
    ],
)
def test_an_item_across_the_antimeridian_is_cut_there(given: tuple, parts: list[tuple], box: list[float]) -> None:  # type: ignore[type-arg]
    geometry, bbox = on_globe(shapely.box(*given))
    assert [shapely.bounds(part).tolist() for part in shapely.get_parts(geometry)] == [list(part) for part in parts]
    assert bbox == box
    east = areas.geodesic(pyproj.CRS(4326), np.array([shapely.box(*given)], dtype=object))[2]
    assert -180 <= east[0] <= 180


@pytest.mark.parametrize("code", [3413, 32601])
def test_an_island_is_no_part_of_the_lake_around_it_across_180_degrees(code: int) -> None:
    crs = pyproj.CRS(code)
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(180.0, 71.0)
    square = shapely.box(x - 450, y - 450, x + 450, y + 450)
    for east, north in ((0, 0), (-300, 0), (300, 0), (0, 300), (0, -300)):
        island = shapely.box(x + east - 100, y + north - 100, x + east + 100, y + north + 100)
        area, perimeter, *_ = areas.geodesic(crs, np.array([square.difference(island), square, island], dtype=object))
        assert area[0] == pytest.approx(area[1] - area[2], rel=1e-9)
        assert perimeter[0] == pytest.approx(perimeter[1] + perimeter[2])


@pytest.mark.parametrize(("window", "overlap"), [(1024, 256), (512, 128), (256, 96), (128, 64), (32, 16)])
def test_the_usual_overlap_is_a_quarter_but_96_px_where_half_a_window_allows(window: int, overlap: int) -> None:
    assert usual_overlap(window) == overlap


def test_a_map_that_goes_on_is_stretched_as_it_began(tmp_path: Path) -> None:
    """Fitted anew, limits would be those of the rows that are left."""
    carry, limits = np.zeros((2, 8), np.float32), np.array([[1.0, 2.0, 3.0], [101.0, 102.0, 103.0]])
    for name, given in (("fitted", limits), ("plain", None)):
        with workfiles.WorkFiles(tmp_path / name, "key", 6, 8, (1, 1, 3)) as files:
            assert files.limits is None
            files.limits = given
            files.keep(1, carry, last=True)
        with workfiles.WorkFiles(tmp_path / name, "key", 6, 8, (1, 1, 3)) as again:
            assert again.rows == 1
            assert again.limits is None if given is None else np.array_equal(again.limits, given)


def test_a_lake_beside_a_first_row_without_data_is_cut() -> None:
    outlines = np.array([shapely.box(1, 1, 3, 3), shapely.box(5, 1, 7, 3)], dtype=object)
    levels, marks, mask = (np.zeros((6, 8), np.uint8) for _ in range(3))
    mask[1:3, 1:3] = mask[1:3, 5:7] = 1
    marks[0, 1:3] = workfiles.INVALID
    found = areas.pixels_in(outlines, levels, marks, mask, calibrated=False)
    assert found.cut.tolist() == [True, False] and found.area.tolist() == [4, 4]


def test_a_round_of_corner_cutting_by_hand() -> None:
    """Of a square of 8 px with a hole of 4: a quarter of each side goes at both of its ends."""
    square = shapely.box(0, 0, 8, 8).difference(shapely.box(2, 2, 6, 6))
    (found,) = polygons.smoothed(np.array([square], dtype=object), 1)
    shore, island = (shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(shapely.get_parts(found)))
    expected = {(2, 0), (6, 0), (8, 2), (8, 6), (6, 8), (2, 8), (0, 6), (0, 2)}
    assert set(map(tuple, shore.tolist())) == expected
    assert set(map(tuple, island.tolist())) == {(x / 2 + 2, y / 2 + 2) for x, y in expected}
    assert found.area == (64 - 4 * 2) - (16 - 4 * 0.5)
