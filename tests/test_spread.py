"""Where the networks of a mean disagree: by pixel, by lake, in one pass with the map of the mean."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from test_predict import Bright, mapped
from tiny_scenes import write_scene
from torch import nn

from glidexp.config import Precision, Tta
from glidexp.mapping import areas, predict, workfiles
from glidexp.mapping.arrays import probabilities_of
from glidexp.mapping.settings import MapSettings, StretchFrom
from glidexp.mapping.spread import Votes, spread_of, votes_of
from glidexp.mapping.workfiles import STEPS
from glidexp.models.card import FORMAT, FORMAT_VERSION
from glidexp.models.mean import MeanOfNetworks, with_each
from glidexp.models.predictor import Predictor
from glidexp.models.tta import with_views

AS_IT_IS = ("--sensor", "sentinel2", "--stretch", "none", "--min-px", "1")
BRIGHT, DIM, RING, DARK = 250, 180, 124, 40


def biased(bias: float) -> Bright:
    """Logit (red - 128) / 8 + bias."""
    net = Bright()
    nn.init.constant_(net.conv.bias, bias)
    return net


def pixels(height: int = 120) -> np.ndarray:
    """A bright lake of 20 x 20 within a ring of 2 px, and a dim one of 10 x 10."""
    red = np.full((height, 160), DARK, np.uint8)
    red[18:42, 18:42], red[20:40, 20:40] = RING, BRIGHT
    red[70:80, 100:110] = DIM
    return np.stack([red, red, red])


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch) -> list[Bright]:
    """Of three networks the third misses the dim lake, and the first sees the ring as lake."""
    three = [biased(1.0), biased(0.0), biased(-13.0)]
    given = {"mean": [128.0] * 3, "std": [64.0] * 3, "stride": 1, "smallest_px": 1, "card": {"threshold": 0.5}}
    made = Predictor(MeanOfNetworks(three), **given).eval()  # type: ignore[arg-type]
    alone = Predictor(three[1], **given).eval()  # type: ignore[arg-type]
    monkeypatch.setattr(predict, "network", lambda bundle, *_: alone if bundle.name == "alone" else made)
    return three


def bundle(folder: Path, networks: int) -> Path:
    folder.mkdir()
    card = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "weights": {"sha256": "0" * 64}, "mean": [128.0] * 3,
        "std": [64.0] * 3, "architecture": {"backbone": "b", "decoder": "d", "in_channels": 3}, "tile_px": 64,
        "threshold": 0.5, "bands": ["red", "green", "blue"], "sensors": ["sentinel2"],
    }  # fmt: skip
    if networks > 1:
        card["members"] = [{"uri": f"{n}", "run_id": None, "weights": "0"} for n in range(networks)]
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


def test_a_map_says_where_the_networks_disagree(nets: list[Bright], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    assert mapped(bundle(tmp_path / "three", 3), tmp_path / "maps", scene, more=AS_IT_IS) == 0
    lakes = geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet").sort_values("area_px", ignore_index=True)
    assert list(lakes.columns) == [*areas.columns_of(True), "geometry"]
    assert list(geopandas.read_file(tmp_path / "maps" / "s_lakes.gpkg", layer="lakes").columns) == list(lakes.columns)
    assert lakes["area_px"].tolist() == [100, 400]
    assert lakes["agreement"].tolist() == pytest.approx([2 / 3, 1.0])
    alone = np.array([[100, 100, 0], [24 * 24, 400, 400]])  # what each network sees, by hand
    km2 = lakes["area_km2"].to_numpy() / lakes["area_px"].to_numpy()
    np.testing.assert_allclose(lakes["area_sd_km2"], alone.std(axis=1, ddof=1) * km2, rtol=1e-9)

    with rasterio.open(tmp_path / "maps" / "s_spread.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and file.nodata == 255
        assert file.scales == (pytest.approx(1 / STEPS),)
        spread = file.read(1)
    logits = [(DIM - 128) / 8 + bias for bias in (1.0, 0.0, -13.0)]
    expected = np.std([1 / (1 + np.exp(-logit)) for logit in logits], ddof=1)
    assert set(spread[70:80, 100:110].ravel()) == {int(expected * STEPS + 0.5)} and spread[100, 20] == 0
    item = json.loads((tmp_path / "maps" / "s.json").read_text())
    assert item["assets"]["spread"]["href"] == "./s_spread.tif"

    calls = [net.seen for net in nets]
    assert len(set(calls)) == 1, "each network sees each window once, for mean and spread"
    settings = MapSettings(stretch=StretchFrom.none, precision=Precision.fp32)
    mean = probabilities_of(tmp_path / "three", scene, settings)  # the networks as one, as arrays give it
    assert isinstance(mean, np.ndarray) and [net.seen for net in nets] == [2 * n for n in calls]
    with rasterio.open(tmp_path / "maps" / "s_probability.tif") as file:
        np.testing.assert_array_equal(file.read(1), np.round(mean * STEPS))


def test_of_a_single_network_nothing_is_said(nets: list[Bright], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(), descriptions=["red", "green", "blue"])
    assert mapped(bundle(tmp_path / "alone", 1), tmp_path / "maps", scene, more=AS_IT_IS) == 0
    lakes = geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet")
    assert list(lakes.columns) == [*areas.COLUMNS, "geometry"]
    assert not (tmp_path / "maps" / "s_spread.tif").exists()


def test_a_scene_without_lakes_has_the_columns_too(nets: list[Bright], tmp_path: Path) -> None:
    dark = np.full((3, 80, 90), DARK, np.uint8)
    scene = write_scene(tmp_path / "s.tif", pixels=dark, descriptions=["red", "green", "blue"])
    assert mapped(bundle(tmp_path / "three", 3), tmp_path / "maps", scene, more=AS_IT_IS) == 0
    lakes = geopandas.read_parquet(tmp_path / "maps" / "s_lakes.parquet")
    assert not len(lakes) and list(lakes.columns) == [*areas.columns_of(True), "geometry"]


def test_a_killed_map_of_a_mean_goes_on_and_ends_the_same(
    nets: list[Bright], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workfiles, "KEEP_EVERY_S", 0.0)
    scene = write_scene(tmp_path / "s.tif", pixels=pixels(300), descriptions=["red", "green", "blue"])
    model = bundle(tmp_path / "three", 3)
    assert mapped(model, tmp_path / "whole", scene, more=AS_IT_IS) == 0
    seen, nets[2].seen = nets[2].seen, 0
    nets[2].stop_after = seen // 2
    with pytest.raises(KeyboardInterrupt):
        mapped(model, tmp_path / "again", scene, more=AS_IT_IS)
    before, nets[2].stop_after, nets[2].seen = nets[2].stop_after, 10**9, 0
    assert mapped(model, tmp_path / "again", scene, more=AS_IT_IS) == 0
    assert nets[2].seen <= seen - before + 4
    for name in ("probability", "mask", "spread"):
        one, other = (rasterio.open(tmp_path / place / f"s_{name}.tif").read() for place in ("whole", "again"))
        np.testing.assert_array_equal(one, other)
    one, other = (geopandas.read_parquet(tmp_path / place / "s_lakes.parquet") for place in ("whole", "again"))
    assert one.equals(other)


def test_votes_of_more_than_eight_networks() -> None:
    each = np.zeros((10, 1, 12), np.float32)
    each[:, 0, 2:6] = 0.5  # all see these four, of which the last two see eight
    each[8:, 0, 6:10] = 0.9
    files = tuple(votes_of(each, 0.5))
    assert [file[0, 2] for file in files] == [255, 3] and [file[0, 7] for file in files] == [0, 3]
    mask = np.zeros((1, 12), np.uint8)
    mask[0, 2:6] = 1
    agreement, sd_px = Votes(files, 10).of_lakes(np.array([shapely.box(2, 0, 6, 1)], dtype=object), mask)
    assert agreement.tolist() == [1.0] and sd_px[0] == pytest.approx(np.std([4] * 8 + [8] * 2, ddof=1))
    assert spread_of(each)[0, 7] == int(np.std([0.0] * 8 + [0.9] * 2, ddof=1) * STEPS + 0.5)


def test_what_lies_in_another_lake_is_not_this_ones() -> None:
    each = np.zeros((2, 1, 9), np.float32)
    each[:, 0, [0, 1, 2, 6, 7, 8]] = 1.0
    each[0] = 1.0  # one network joins the two lakes
    mask = np.array([[1, 1, 1, 0, 0, 0, 1, 1, 1]], np.uint8)
    both = np.array([shapely.box(0, 0, 3, 1), shapely.box(6, 0, 9, 1)], dtype=object)
    agreement, sd_px = Votes(tuple(votes_of(each, 0.5)), 2).of_lakes(both, mask)
    assert agreement.tolist() == [1.0, 1.0] and sd_px.tolist() == pytest.approx([np.std([6, 3], ddof=1)] * 2)


@pytest.mark.parametrize("views", [Tta.none, Tta.flips, Tta.d4])
def test_each_network_answers_in_the_pass_of_the_mean(views: Tta) -> None:
    torch.manual_seed(3)
    parts = [nn.Conv2d(3, 1, 3, padding=1) for _ in range(3)]
    image = torch.randn(2, 3, 20, 28)
    whole = with_views(MeanOfNetworks(parts), views)
    with torch.inference_mode():
        logits, each = with_each(whole, image)
        assert torch.equal(logits, whole(image)), "to the bit"
        alone = torch.cat([torch.sigmoid(with_views(part, views)(image)) for part in parts], dim=1)
        torch.testing.assert_close(each, alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(each.mean(dim=1, keepdim=True), torch.sigmoid(logits), rtol=0, atol=1e-6)
        made = Predictor(whole, mean=[100.0] * 3, std=[50.0] * 3, stride=8, smallest_px=32).eval()
        raw = torch.randint(0, 256, (2, 3, 21, 29), dtype=torch.uint8)
        both = made.with_each(raw)
        assert both.shape == (2, 4, 21, 29) and torch.equal(both[:, :1], made(raw))


def test_what_the_networks_say_stands_after_their_mean_probability() -> None:
    columns = areas.columns_of(True)
    place = columns.index("mean_probability")
    assert columns[place : place + 4] == ["mean_probability", "agreement", "area_sd_km2", "cut"]
    assert [name for name in columns if name not in areas.OF_MEANS] == areas.columns_of(False) == list(areas.COLUMNS)
