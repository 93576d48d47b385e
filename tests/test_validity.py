"""What a model keeps of its training tiles, how far scenes lie from them, and what score is expected there."""

import hashlib
import json
import re
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from announced import Announced
from sklearn.covariance import oas
from tiny_scenes import write_scene
from torch import nn

from glidexp import cli, door
from glidexp.config import StretchConfig
from glidexp.data import traits
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.reading import read_header
from glidexp.errors import ConfigError, DataError, TrackingError
from glidexp.mapping import predict, verb_predict
from glidexp.mapping.validity import Sample, looked_over
from glidexp.models import survey
from glidexp.models.card import FORMAT, FORMAT_VERSION, VALIDITY
from glidexp.models.load import FoundModel
from glidexp.models.predictor import Predictor
from glidexp.models.survey import Tiles, learn, scene_table, spread
from glidexp.models.validity import ALL, Distance, Validity, Verdict, from_bytes, of_bundle
from glidexp.scoring.cloud import Cloud, shrunk
from glidexp.scoring.counts import BINS, PROBABILITY, bin_of_threshold
from glidexp.scoring.expected import Expected, certainty, coverage, signs
from glidexp.study import verb_validity
from glidexp.study.report.blocks import Points, Table, Text
from glidexp.study.validity import lacking
from glidexp.study.validity import matrix as validity_matrix
from glidexp.study.validity import page as validity_page
from glidexp.study.validity import scenes as validity_scenes
from glidexp.study.validity.scenes import Judged
from glidexp.tracking.found import TrackedRun

RGB = ("red", "green", "blue")
PX = 32


class Brightness(nn.Module):
    """A network whose encoder gives the mean of each band and their product: features that are known."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Pooled()
        self.windows_left = 10**9

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.windows_left -= len(image)
        if self.windows_left < 0:
            raise KeyboardInterrupt
        return image[:, :1]


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image, torch.cat([image, image.prod(1, keepdim=True)], dim=1) * self.weight]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Brightness(), mean=[100.0] * 3, std=[30.0] * 3, stride=1, smallest_px=1).eval()


def pictures(count: int, *, level: float = 100.0, seed: int = 0) -> np.ndarray:
    """(count, PX, PX, 3): noise about a level that differs from tile to tile."""
    random = np.random.default_rng(seed)
    levels = level + random.normal(0, 8, (count, 1, 1, 3))
    return np.clip(levels + random.normal(0, 12, (count, PX, PX, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    """Two sensors, 40 training and 20 val tiles of each, four test scenes; the last is dark, of a third sensor."""
    rows = [("sentinel2", 150.0, "train", 40), ("sentinel2", 150.0, "val", 20), ("landsat8", 80.0, "train", 40)]
    rows += [("landsat8", 80.0, "val", 20), ("sentinel2", 150.0, "test", 8), ("landsat8", 80.0, "test", 8)]
    rows += [("sentinel2", 80.0, "test", 8), ("worldview2", 20.0, "test", 8)]
    images, index = [], []
    for number, (sensor, level, split, count) in enumerate(rows):
        images.append(pictures(count, level=level, seed=number))
        scene = {"scene": f"{number}", "sensor": sensor, "region": "here" if sensor != "worldview2" else "there"}
        index += [scene | {"split": split, "valid_fraction": 1.0}] * count
    stacked = np.concatenate(images)
    labels = np.zeros(stacked.shape[:3], np.uint8)
    store = SimpleNamespace(images=stacked, labels=labels, index=pd.DataFrame(index), tile_px=PX)
    return Tiles(store, range(3), RGB)  # type: ignore[arg-type]


def rows_of(tiles: Tiles, split: str) -> np.ndarray:
    return np.flatnonzero(tiles.store.index["split"] == split)


@pytest.fixture(scope="module")
def learnt(tiles: Tiles, predictor: Predictor) -> Validity:
    found = learn(tiles, rows_of(tiles, "train"), rows_of(tiles, "val"), predictor)
    assert found is not None
    return found


def test_traits_are_those_of_the_valid_pixels() -> None:
    """Half of a tile is red 10 and 30 in columns, the other half is not valid and would change everything."""
    image = np.full((4, 8, 3), 250, np.uint8)
    image[:, :4] = [10, 20, 30]
    image[:, 1:4:2] = [30, 20, 30]
    valid = np.zeros((4, 8), bool)
    valid[:, :4] = True
    found = dict(zip(traits.names(RGB), traits.traits(image, valid, RGB), strict=True))
    assert [found[f"red {what}"] for what in traits.OF_BAND] == [20.0, 10.0, 10.0, 30.0]
    assert [found[f"blue {what}"] for what in traits.OF_BAND] == [30.0, 0.0, 30.0, 30.0]
    across, down = 12 * [20 / 3], 12 * [0.0]  # steps of brightness between valid neighbours
    assert found["texture"] == pytest.approx(np.log1p(np.mean(across + down)))
    assert found["greenness"] == pytest.approx(((20 - 10) / 31 + (20 - 30) / 51) / 2)
    shape = traits.histograms(image, valid, RGB)
    assert shape.sum(axis=1).tolist() == [16, 16] and shape[0, 1] == 16
    assert (
        traits.names(["red", "nir"])[-1] == "texture" and len(traits.traits(image[..., :2], valid, ["red", "nir"])) == 9
    )
    assert traits.said("red dark end", more=False) == "darker in red at its dark end"


def test_a_cloud_is_mahalanobis_by_the_shrunk_covariance() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(30, 6)) @ random.normal(size=(6, 6)) * [1, 10, 100, 1, 1, 1] + 5
    centred = vectors - vectors.mean(0)
    np.testing.assert_allclose(shrunk(centred), oas(centred, assume_centered=True)[0], rtol=1e-6)
    held = random.normal(size=(200, 6)) * 30
    cloud = Cloud.fit(vectors, held)
    scaled = centred / centred.std(0)
    inverse = np.linalg.inv(oas(scaled, assume_centered=True)[0])
    expected = np.sqrt(np.einsum("ni,ij,nj->n", scaled, inverse, scaled) / 6)
    np.testing.assert_allclose(cloud.distances(vectors), expected, rtol=1e-6)
    assert (cloud.distances(held) <= cloud.limit).mean() == 0.95
    assert cloud.percentile(cloud.limit) == 94.5 and cloud.percentile(0) == 0 and cloud.percentile(1e9) == 100
    flat = Cloud.fit(np.c_[vectors, np.full(30, 7.0)], np.c_[held, np.full(200, 7.0)])
    assert np.isfinite(flat.held).all(), "a trait that all tiles share"


def test_a_look_at_many_tiles_tells_of_all_that_it_announced(
    tiles: Tiles, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = Announced()
    monkeypatch.setattr(survey, "shown_steps", announced)
    found = learn(tiles, rows_of(tiles, "train"), rows_of(tiles, "val"), predictor)
    assert found is not None
    assert announced.works == {"traits for validity": [120, 120], "features for validity": [120, 120]}
    scene_table(found, tiles, rows_of(tiles, "test"), predictor)
    assert announced.works["distance"] == [4, 4]


def test_scenes_are_held_against_their_sensor(learnt: Validity, tiles: Tiles, predictor: Predictor) -> None:
    assert list(learnt.groups) == ["landsat8", "sentinel2", ALL]
    assert {name: group.tiles for name, group in learnt.groups.items()} == {"sentinel2": 40, "landsat8": 40, ALL: 80}
    table = scene_table(learnt, tiles, rows_of(tiles, "test"), predictor).set_index("scene")
    assert table["outside"].to_dict() == {"4": False, "5": False, "6": True, "7": True}
    assert table["against"].to_dict() == {"4": "sentinel2", "5": "landsat8", "6": "sentinel2", "7": ALL}
    assert (table.loc[["6", "7"], ["statistics", "embedding"]] > 1).all(axis=None)
    assert (table.loc[["4", "5"], ["statistics_percentile", "embedding_percentile"]] < 95).all(axis=None)
    dark = tiles.looked_at(np.flatnonzero(tiles.store.index["scene"] == "6")).traits
    verdict = learnt.judge("sentinel2", dark, None)
    assert verdict.embedding is None and verdict.outside
    why = " ".join(verdict.unusual)
    assert "darker in green than 100 % of the training tiles: green mean 8" in why and "brighter" not in why
    assert verdict.sentence("s").startswith("s: outside what the model was trained on: distance ")
    own = tiles.looked_at(np.flatnonzero(tiles.store.index["scene"] == "4")).traits
    assert not learnt.judge("sentinel2", own, None).unusual


def test_a_scene_of_another_tone_is_outside_though_tiles_as_dark_were_seen(learnt: Validity) -> None:
    """The tiles of one brightness, dark for the training tiles but not beyond them; held-out tiles reach farther."""
    held = learnt.groups["sentinel2"].traits
    usual, dark = (
        np.array([traits.traits(one, np.ones((PX, PX), bool), RGB) for one in pictures(8, level=level, seed=3)])
        for level in (150.0, 145.0)
    )
    assert np.median(held.distances(dark)) < held.held[-1], "the middle one is no farther than a held-out tile"
    assert learnt.judge("sentinel2", dark, None).outside and not learnt.judge("sentinel2", usual, None).outside


def test_what_is_kept_comes_back_and_an_old_model_has_none(learnt: Validity, tmp_path: Path) -> None:
    content = learnt.to_bytes()
    back = from_bytes(content, tmp_path)
    assert content == learnt.to_bytes() and len(content) < 100_000
    assert list(back.groups) == list(learnt.groups) and back.bands == RGB and back.tile_px == PX
    vectors = np.random.default_rng(1).normal(100, 20, (5, len(learnt.names)))
    features = np.random.default_rng(1).normal(0, 1, (5, 4))
    ours, theirs = (one.judge("landsat8", vectors, features) for one in (learnt, back))
    assert theirs.to_json()["statistics"] == pytest.approx(ours.to_json()["statistics"], rel=1e-3)
    assert theirs.embedding is not None and ours.embedding is not None
    assert theirs.embedding.value == pytest.approx(ours.embedding.value, rel=1e-3)
    assert of_bundle(tmp_path, {}) is None
    (tmp_path / VALIDITY).write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        of_bundle(tmp_path, {"validity": {"file": VALIDITY, "sha256": "0" * 64}})


def test_a_network_without_encoder_is_judged_by_statistics(tiles: Tiles) -> None:
    plain = Predictor(nn.Identity(), mean=[100.0] * 3, std=[30.0] * 3, stride=1, smallest_px=1)
    found = learn(tiles, rows_of(tiles, "train"), rows_of(tiles, "val"), plain)
    assert found is not None and from_bytes(found.to_bytes(), Path()).axes is None
    table = scene_table(found, tiles, rows_of(tiles, "test"), plain)
    assert table["outside"].tolist() == [False, False, True, True] and table["embedding"].isna().all()
    assert (table["distance"] == table["statistics"]).all()


def test_a_long_look_says_how_far_it_is(
    tiles: Tiles, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("glidexp.data.steps.FIRST_S", 0.0)
    with caplog.at_level("INFO", "glidexp"):
        learn(tiles, rows_of(tiles, "train"), rows_of(tiles, "val"), predictor)
    counts = [
        tuple(map(int, found)) for found in re.findall(r"features for validity: (\d+) of (\d+) tiles", caplog.text)
    ]
    total = min(128, len(rows_of(tiles, "train"))) + min(64, len(rows_of(tiles, "val")))
    assert counts and counts[0][0] == 8 and {whole for _, whole in counts} == {total}


def test_few_tiles_tell_nothing(tiles: Tiles, predictor: Predictor) -> None:
    val, train = rows_of(tiles, "val"), rows_of(tiles, "train")
    assert learn(tiles, train[:7], val, predictor) is None
    few = learn(tiles, np.r_[train[:40], train[40:47]], val, predictor)
    assert few is not None and list(few.groups) == ["sentinel2", ALL]
    names = np.array(["a"] * 90 + ["b"] * 10)
    chosen = spread(np.arange(100), names, 20)
    assert (names[chosen] == "b").sum() == 10 == (names[chosen] == "a").sum()
    assert chosen[0] == 0 and 89 in chosen and np.array_equal(spread(chosen, names[chosen], 20), chosen)


def test_certainty_is_the_iou_that_probabilities_promise() -> None:
    """10 pixels of 0.9 above the threshold and 20 of 0.1 below: 9 of 12 in truth or map."""
    counts = np.zeros(BINS, int)
    high, low = bin_of_threshold(0.9), bin_of_threshold(0.1)
    counts[high], counts[low] = 10, 20
    p, q = PROBABILITY[high], PROBABILITY[low]
    assert certainty(counts, 0.5) == pytest.approx(10 * p / (10 + 20 * q)) == pytest.approx(0.75, abs=0.02)
    assert certainty(counts, 0.5, 2.0) < certainty(counts, 0.5, 1.0) == pytest.approx(certainty(counts, 0.5))
    assert certainty(np.zeros(BINS, int), 0.5) == 0 == certainty(counts, 0.99)


def scored(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Signs of scenes, and scores: 0.1 at distance 1 and no certainty, 0.1 less at every e-fold."""
    sure, far = random.uniform(0.3, 0.9, count), np.exp(random.uniform(-1, 1, count))
    return signs(sure, far), np.clip(0.1 + 0.7 * sure - 0.1 * np.log(far) + random.normal(0, 0.06, count), 0, 1)


def test_intervals_hold_what_they_say_and_are_narrower_where_signs_tell() -> None:
    random, held, blind, four = np.random.default_rng(0), [], [], np.repeat(["a", "b", "c", "d"], 60)
    for _ in range(8):
        given, scores = scored(240, random)
        held.append(coverage(given, scores, four))
        blind.append(coverage(0 * given, scores, four))
    assert held[0].scores == 240
    assert 0.87 < np.mean([one.share for one in held]) < 0.93
    assert np.mean([one.width for one in held]) == pytest.approx(2 * 1.645 * 0.06, rel=0.1)
    assert np.mean([one.width for one in blind]) > 2 * np.mean([one.width for one in held])
    expected = Expected.fit(given, scores, four)
    np.testing.assert_allclose(expected.plane.slopes, [0.7, 0.1], atol=0.03)
    mean, low, high = expected.at(signs(np.linspace(0, 1, 50), np.geomspace(50, 0.01, 50)))
    assert (np.diff(mean) >= 0).all() and (low <= mean).all() and (mean <= high).all()
    assert low.min() == 0 and high.max() == 1
    wrong = Expected.fit(-given, scores, four)
    assert not wrong.plane.slopes.any(), "surer is never worse, farther never better"


def test_too_few_scores_are_refused() -> None:
    given, scores = scored(30, np.random.default_rng(0))
    with pytest.raises(DataError, match="30 scores of scenes in 1 target are too few"):
        Expected.fit(given, scores, np.repeat("a", 30))
    with pytest.raises(DataError, match="19 scores of scenes in 2 targets are too few"):
        Expected.fit(given[:19], scores[:19], np.array(["a", "b"] * 10)[:19])


@pytest.mark.parametrize("strip", [1, 7, 50, 200])
def test_tiles_are_copied_from_the_rows_that_go_by(strip: int) -> None:
    random = np.random.default_rng(0)
    image, valid = random.integers(0, 255, (150, 90, 3)).astype(np.uint8), random.random((150, 90)) > 0.3
    sample = Sample(150, 90, 32)
    strips = ((top, image[top : top + strip], valid[top : top + strip]) for top in range(0, 150, strip))
    assert sum(len(one) for _, one, _ in sample.passing(strips)) == 150
    assert len(sample.tiles) == 4 * 2
    for (top, left), (some, mask) in sample.tiles.items():
        np.testing.assert_array_equal(some, image[top : top + 32, left : left + 32])
        np.testing.assert_array_equal(mask, valid[top : top + 32, left : left + 32])
    small = Sample(20, 40, 32)
    list(small.passing(strip for strip in [(0, image[:20, :40], valid[:20, :40] & False)]))
    assert small.size == (20, 32) and not small.usable()


@pytest.fixture
def model(learnt: Validity, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose weights nobody reads."""
    folder, content = tmp_path / "bundle", learnt.to_bytes()
    folder.mkdir()
    limits = {"low": [0.0] * 3, "high": [255.0] * 3}
    card = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "weights": {"sha256": "0" * 64}, "mean": [100.0] * 3,
        "std": [30.0] * 3, "architecture": {"backbone": "b", "decoder": "d", "in_channels": 3}, "tile_px": PX,
        "bands": list(RGB), "sensors": ["landsat8", "sentinel2"],
        "stretch": {"method": "fixed", "limits": {"s": limits}},
        "gsd_m": {"sentinel2": [10.0, 10.0], "landsat8": [30.0, 30.0]},
        "validity": {"file": VALIDITY, "sha256": hashlib.sha256(content).hexdigest()},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    (folder / VALIDITY).write_bytes(content)
    for place in (predict, validity_scenes):
        name = "network" if place is predict else "load_bundle"
        monkeypatch.setattr(place, name, lambda *_: predictor)
    return folder


def scene_of(path: Path, level: float) -> Path:
    """4 x 3 tiles, as `pictures` draws them, in a file."""
    drawn = pictures(12, level=level, seed=9).reshape(4, 3, PX, PX, 3).transpose(4, 0, 2, 1, 3)
    return write_scene(path, pixels=drawn.reshape(3, 4 * PX, 3 * PX), descriptions=RGB)


def told(model: Path, out: Path, scene: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict]:
    """Maps a scene; what is said on stderr, and what its summary says."""
    words = [str(model), str(scene), "--out", str(out), "--sensor", "sentinel2", "--workers", "1"]
    words += ["--precision", "fp32", "--window", "64", "--overlap", "32", "--batch", "1"]
    cli.prepare_process()
    assert verb_predict.run(words) == 0
    return capsys.readouterr().err, json.loads((out / f"{scene.stem}.json").read_text())["properties"]


def test_a_map_of_a_scene_outside_says_so(
    model: Path, predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps"
    said, summary = told(model, out, scene_of(tmp_path / "usual.tif", 150), capsys)
    assert "outside" not in said and summary["glidexp:validity"]["outside"] is False
    assert summary["glidexp:validity"]["against"] == "sentinel2" and summary["glidexp:validity"]["tiles"] == 12
    dark = scene_of(tmp_path / "dark.tif", 60)
    said, summary = told(model, out, dark, capsys)
    (line,) = [line for line in said.splitlines() if "outside" in line]
    assert line.startswith("warning: dark: outside what the model was trained on: distance ")
    assert "darker in" in line and "of the training tiles" in line
    verdict = summary["glidexp:validity"]
    assert verdict["outside"] and verdict["statistics"] == {
        "distance": verdict["statistics"]["distance"],
        "percentile": 100,
    }
    assert f"distance {verdict['statistics']['distance']:.1f} by statistics" in line
    assert line.removeprefix("warning: ") in summary["glidexp:warnings"]
    assert line in told(model, out, dark, capsys)[0], "also where the map was finished before"
    predictor.net.windows_left = 4  # killed in its second row of windows
    with pytest.raises(KeyboardInterrupt):
        told(model, tmp_path / "again", dark, capsys)
    predictor.net.windows_left = 10**9
    assert told(model, tmp_path / "again", dark, capsys)[1]["glidexp:validity"] == verdict


def test_a_scene_is_looked_over_as_it_is_mapped(model: Path, tmp_path: Path) -> None:
    """Without a map the same tiles are taken; limits are fitted where none are given."""
    place = scene_of(tmp_path / "s.tif", 120)
    scene = read_header(SceneFile(place, "s", "sentinel2"))
    drawn = pictures(12, level=120, seed=9)
    plain = looked_over(scene, PX, None)
    np.testing.assert_array_equal(np.stack([image for image, _ in plain.usable()]), drawn)
    fitted = looked_over(scene, PX, None, StretchConfig())
    assert np.ptp(np.stack([image for image, _ in fitted.usable()])) == 255 > np.ptp(drawn)


def matrix_scenes() -> pd.DataFrame:
    """Three networks on 30 scenes of three regions."""
    given, scores = scored(90, np.random.default_rng(0))
    rows = {"run": np.repeat(["a", "b", "c"], 30), "scene": np.tile([f"s{n}" for n in range(30)], 3)}
    rows |= {"region": np.tile(np.repeat(["andes", "alaska", "himalaya"], 10), 3), "sensor": "sentinel2"}
    rows |= {"statistics": np.exp(-given[:, 1]), "embedding": np.exp(-given[:, 1])}
    return pd.DataFrame(rows | {"certainty": given[:, 0], "distance": rows["statistics"], "score": scores})


def test_the_page_tells_scenes_and_what_to_expect(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validity_matrix, "runs_of", lambda *_, whole: ([], ["one is left out"], None))
    monkeypatch.setattr(validity_matrix, "scenes_of", lambda *_: (matrix_scenes(), []))
    places = [str(scene_of(tmp_path / f"{name}.tif", level)) for name, level in (("usual", 150), ("dark", 60))]
    out = tmp_path / "page"
    monkeypatch.setattr(validity_scenes, "shown_steps", announced := Announced())
    words = [str(model), *places, "--out", str(out), "--sensor", "sentinel2", "--matrix", "STUDY"]
    assert verb_validity.run([*words, "--mlruns", str(tmp_path / "mlruns")], door.compose_evaluation) == 0
    assert announced.works == {"distance": [2, 2]}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("usual: inside, distance ") and printed[1].startswith("dark: outside, distance ")
    rows = pd.read_csv(out / "scenes.csv").set_index("scene")
    assert rows["outside"].to_dict() == {"usual": False, "dark": True}
    assert (rows["low"] <= rows["expected"]).all() and (rows["expected"] <= rows["high"]).all()
    assert "a guess so far away" in printed[1] and "guess" not in printed[0]
    assert rows.loc["usual", "expected"] > rows.loc["dark", "expected"] + 0.1
    text, html = (out / "validity.md").read_text(), (out / "validity.html").read_text()
    for said in (
        "1 of 2 scenes lies outside.",
        "One is left out.",
        "90 scores of 30 scenes by 3 networks",
        "Darker in ",
    ):
        assert said in text and said in html
    assert "://" not in html and html.count("<img") == 4
    for name in ("distance", "traits", "expected", "pixels"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000


def test_a_scene_that_is_told_twice_has_its_place_twice(learnt: Validity) -> None:
    """As one that is given as a file and is in the data set as well."""
    far, near = (Distance(value, 50.0) for value in (1.5, 0.5))
    scenes = [
        Judged(name, "sentinel2", "", Verdict(ALL, 3, one, None, (), np.zeros(len(learnt.names))))
        for name, one in (("a", near), ("b", far), ("a", near), ("b", far))
    ]
    page = validity_page.Page("m", {"sensors": ["sentinel2"]}, learnt, scenes, None, None)
    (points,) = (block for block in validity_page._opening(page) if isinstance(block, Points))
    assert [item[:1] for item in points.items] == ["b", "b", "a", "a"]
    assert points.kinds == ["worse", "worse", "better", "better"]


def test_one_scene_is_no_scenes(learnt: Validity) -> None:
    group = replace(learnt.groups[ALL], held={"tiles": 16, "scenes": 1})
    alone = replace(learnt, groups={ALL: group})
    one = Judged("a", "sentinel2", "", Verdict(ALL, 3, Distance(0.5, 50.0), None, (), np.zeros(len(learnt.names))))
    page = validity_page.Page("m", {"sensors": ["sentinel2"]}, alone, [one], None, None)
    texts = [block.text for block in validity_page._opening(page) if isinstance(block, Text)]
    assert "0 of 1 scene lies outside." in texts
    table = next(block for block in validity_page._trained_on(page) if isinstance(block, Table))
    assert [row[-1] for row in table.rows] == ["16 in 1 scene"]


def test_a_reason_that_begins_with_a_path_keeps_it(learnt: Validity) -> None:
    """It was told as Data/s.tif, which is another file."""
    verdict = Verdict(ALL, 3, Distance(0.5, 50.0), None, ("darker in red",), np.zeros(len(learnt.names)))
    said = ("data/s.tif: a pixel is 2 m.", "s_1: no date", "without a CRS")
    told = validity_page.sentence(Judged("s_1", "", "", verdict, said), None)
    assert told.endswith(". Darker in red. data/s.tif: a pixel is 2 m. s_1: no date. Without a CRS.")


def test_a_page_without_scenes_or_matrix(model: Path, tmp_path: Path) -> None:
    assert verb_validity.run([str(model), "--out", str(tmp_path / "page")], door.compose_evaluation) == 0
    text = (tmp_path / "page" / "validity.md").read_text()
    assert "Trained on 80 tiles of landsat8, sentinel2 in here." in text and "no matrix was given" in text
    assert not (tmp_path / "page" / "scenes.csv").exists()


def test_runs_without_distances_are_told_with_the_reason_that_their_card_has(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of too few training tiles were all said to be from before distances were kept."""
    cards: dict[str, Any] = {
        "f" * 32: {"validity": None}, "e" * 32: {}, "d" * 32: {"validity": None}, "c" * 32: {"validity": {"file": "v"}},
    }  # fmt: skip
    runs = [TrackedRun(run_id, f"run {run_id[0]}", {}, {}, {}) for run_id in cards]

    def none(*_: Any) -> Any:
        raise TrackingError("it has none of that name")

    monkeypatch.setattr(validity_matrix, "read_file", none)
    monkeypatch.setattr(lacking, "find", lambda run_id, *_: FoundModel(model, cards[run_id], "models:/m", None))
    store: Any = None
    scenes, left = validity_matrix.scenes_of(store, runs)
    assert scenes.empty and len(left) == 3
    few, old, unscored = left
    assert few.startswith(
        "without distances, and so left out: ffffffffffff (run f), dddddddddddd (run d): it was trained"
    )
    assert "trained on too few" in few and "from before" in old and "scored no test scene" in unscored
    monkeypatch.setattr(validity_matrix, "runs_of", lambda *_, whole: (runs[:1], [], None))
    with pytest.raises(TrackingError, match=r"^no run of STUDY tells how far its scenes lie: .* trained on too few"):
        validity_matrix.from_matrix(store, ["STUDY"], level=0.9)
    monkeypatch.setattr(lacking, "find", none)
    assert "why is not known" in lacking.why_no_distances(store, runs[0])
    scored = TrackedRun("b" * 32, "scored", {}, {}, {"glidexp.kind": "evaluation"})
    assert "glidexp evaluate, which measures none" in lacking.why_no_distances(store, scored)


def test_what_cannot_be_told_is_said_in_a_line(model: Path, tmp_path: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    few = "trained on too few to describe them. Train it on 8 tiles or more"
    moved = {"fitted": {"adapt": "batch_norm", "of": "models:/m-1"}}
    for told, why in (
        ({"validity": None}, few),
        ({}, "from before that was kept. Train it anew."),
        (moved, r"fitted to other ground \(eval.adapt=batch_norm\), .* Give the model that it comes from, models:/m-1"),
        ({"fitted": {"adapt": "none"}}, "from before"),
    ):
        (model / "card.json").write_text(json.dumps({**{k: v for k, v in card.items() if k != "validity"}, **told}))
        with pytest.raises(DataError, match=rf"keeps nothing of what its training tiles look like: it (was|is) {why}"):
            verb_validity.run([str(model), "--out", str(tmp_path / "page")], door.compose_evaluation)
    checkpoint = FoundModel(model, {}, "runs/3.pt", None)
    assert lacking.why_nothing(checkpoint).startswith("it is a checkpoint")
    with pytest.raises(ConfigError, match="--level 2 is not possible"):
        verb_validity.run([str(model), "--level", "2"], door.compose_evaluation)


def test_a_matrix_that_is_none_is_told_of_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise TrackingError("'foo' is no run: give run ids")

    monkeypatch.setattr(validity_matrix, "from_matrix", none)
    given = Namespace(matrix=["foo"], by="region", level=0.9)
    with pytest.raises(TrackingError, match=r"^--matrix: 'foo' is no run: give run ids$"):
        verb_validity._matrix(SimpleNamespace(), given)  # type: ignore[arg-type]
