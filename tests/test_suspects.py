"""`glidexp data suspects`: lakes that are not there, lakes that nobody drew; the edited file is the next inventory."""

from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import torch
from rasterio.features import shapes
from rasterio.transform import Affine
from scipy import ndimage
from shapely.geometry import shape
from test_export import card, network
from test_near import texture
from tiny_scenes import lake, write_polygons, write_scene

from glidexp import cli
from glidexp.config import DatasetConfig, DatasetKind, Embed, SplitConfig
from glidexp.data.check import suspects as module
from glidexp.data.check.suspects import suspects, write_suspects
from glidexp.data.prepare import prepare
from glidexp.data.scenes import polygons
from glidexp.data.store import TileStore
from glidexp.errors import GlidexpError
from glidexp.models.export import load_bundle, save_bundle
from glidexp.models.told import WEIGHT, Told, listening
from glidexp.training.rescoring.answers import answer_of

PX = 256
SHOWN = [(x, y) for x in (180, 500, 820, 1500, 1820, 2140) for y in (180, 820, 1500, 2140)]
INVENTED, FORGOTTEN = (1160, 500), (1160, 1820)
PICTURE = np.random.default_rng(2).uniform(0, 0.4, (96, 96)).astype(np.float32)
"""it sees no lake anywhere"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TileStore:
    """A scene of rock with round lakes; one outline has no lake in it, one lake no outline."""
    root = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(0)
    image = texture(rng, PX, 1.2, 90, 220, 3.0)
    y, x = np.mgrid[:PX, :PX] * 10.0 + 5
    for at in [*SHOWN, FORGOTTEN]:
        inside = np.hypot(x - at[0], y - at[1]) < 70
        image[inside] = np.clip([30, 70, 100] + rng.normal(size=(int(inside.sum()), 3)) * 2, 0, 255)
    write_scene(root / "s.tif", pixels=np.moveaxis(image, -1, 0))
    drawn = [lake(*at, 70.0) for at in [*SHOWN, INVENTED]]
    write_polygons(root / "lakes.gpkg", drawn)
    frame = geopandas.read_file(root / "lakes.gpkg").assign(
        gl_id=[f"L{i}" for i in range(len(drawn))], kind="proglacial"
    )
    frame.to_file(root / "lakes.gpkg", engine="pyogrio")
    dataset = DatasetConfig(
        kind=DatasetKind.scenes,
        root=str(root / "s.tif"),
        lakes=str(root / "lakes.gpkg"),
        buffer_m=0.0,
        empty_share=0.9,
        sensor="sentinel2",
        split=SplitConfig(val=0, test=0),
    )
    return prepare(dataset, 64, root / "data", progress=False)


def near(frame: geopandas.GeoDataFrame, at: tuple[int, int]) -> geopandas.GeoDataFrame:
    return frame[frame.intersects(lake(*at, 70.0))]


def test_what_picture_and_mask_disagree_about(store: TileStore) -> None:
    lakes, tiles = suspects(store)
    assert set(lakes["why"]) == {"labelled, not seen by picture", "not labelled, seen by picture"}
    invented, forgotten = near(lakes, INVENTED), near(lakes, FORGOTTEN)
    assert set(invented["why"]) == {"labelled, not seen by picture"} and set(invented["lake_id"]) == {f"L{len(SHOWN)}"}
    assert set(forgotten["why"]) == {"not labelled, seen by picture"} and set(forgotten["lake_id"]) == {""}
    # nothing else is suspected, and the outline is that of the lake
    assert len(lakes) == len(invented) + len(forgotten) and lakes["probability"].isna().all()
    assert forgotten.area.sum() == pytest.approx(np.pi * 70**2, rel=0.2)
    assert set(tiles["tile"]) == set(lakes["tile"]) and (tiles["score"] > 0.5).all()
    assert lakes.crs.to_epsg() == 32645 and tiles.area.iloc[0] == pytest.approx(640**2)


def test_a_network_is_a_third_opinion(store: TileStore) -> None:
    """One that says what the labels say disagrees with nobody but the picture."""
    lakes, _ = suspects(store, lambda row: (np.asarray(store.labels[row]) == 1).astype(np.float32))
    assert set(lakes["why"]) == {"labelled, not seen by picture", "not labelled, seen by picture"}
    assert (lakes["score"] < 0.6).all() and set(lakes["probability"]) == {0.0, 1.0}
    blind, _ = suspects(store, lambda row: np.zeros((64, 64), np.float32))
    assert "labelled, not seen by picture and model" in set(near(blind, INVENTED)["why"])
    assert set(near(blind, SHOWN[0])["why"]) == {"labelled, not seen by model"}


def one_at_a_time(chosen: np.ndarray, affine: Affine) -> list[tuple[int, float, bytes]]:
    """Pixels, mean of `PICTURE` and outline of each lake, by a look at the whole tile for each."""
    owner, count = ndimage.label(chosen)
    found = []
    for number in range(1, count + 1):
        own = owner == number
        parts = [shape(part) for part, _ in shapes(own.astype(np.uint8), mask=own, transform=affine)]
        found.append((int(own.sum()), float(ndimage.mean(PICTURE, owner, number)), shapely.union_all(parts).wkb))
    return found


@pytest.mark.parametrize("turn", [0.0, 0.31])
def test_many_lakes_of_a_tile_are_measured_in_one_look(turn: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of each is what a look at it alone says, to the last bit."""
    mask = (ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(96, 96)), 1.5) > 0.2).astype(np.uint8)
    transform = [9.73, turn, 431234.56, turn, -9.73, 5123456.78]
    record = {"transform": transform, "scene": "s", "tile": "t", "gsd_m": 10.0}
    calls: list[int] = []
    monkeypatch.setattr(module, "shapes_of", lambda *args, **words: calls.append(1) or shapes(*args, **words))
    y, x = np.argwhere(mask == 1)[::7].T
    ids = [(f"L{i}", int(row), int(col)) for i, (row, col) in enumerate(zip(y, x, strict=True))]
    found = list(module._of_tile(mask, PICTURE, None, 0.5, record, ids))
    wanted = one_at_a_time(mask == 1, Affine(*transform))
    assert len(wanted) > 40 and len(calls) == 1
    assert [(one["area_px"], one["picture"], one["geometry"].wkb) for one in found] == wanted
    owner, _ = ndimage.label(mask == 1)
    for number, one in enumerate(found, start=1):
        assert one["lake_id"] == ",".join(name for name, row, col in ids if owner[row, col] == number)


def test_the_verb_with_and_without_a_model(store: TileStore, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "suspects.gpkg"
    assert cli.data(["suspects", str(store.path), "--out", str(out)]) == 0
    assert "not labelled, seen by picture" in capsys.readouterr().out
    assert set(geopandas.list_layers(out)["name"]) == {"lakes", "tiles"}
    bundle = save_bundle(tmp_path / "bundle", network(), card=card())
    assert cli.data(["suspects", str(store.path), "--model", str(bundle), "--out", str(out)]) == 0
    assert geopandas.read_file(out, layer="lakes")["probability"].between(0, 1).all()
    for words, message in ((["--out", "list.csv"], "no GeoPackage"), (["--model", str(tmp_path / "no.pt")], "no.pt")):
        with pytest.raises(GlidexpError, match=message):
            cli.data(["suspects", str(store.path), *words])


@pytest.mark.parametrize("told", [Told(Embed.none, gsd_m=20.0), Told(Embed.sensor, ("landsat8", "sentinel2"))])
def test_a_model_is_told_of_a_tile_what_its_scores_tell_it(told: Told, store: TileStore, tmp_path: Path) -> None:
    net = network()
    listening(net, told, in_channels=3)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith(WEIGHT):
                weight.copy_(torch.linspace(-3, 3, weight.numel()).view_as(weight))
    bundle = save_bundle(tmp_path / "bundle", net, card=card(told=told.to_json()))
    answer, _ = answer_of(str(bundle), store, str(tmp_path), None)
    predictor = load_bundle(bundle)
    image = torch.from_numpy(np.asarray(store.images[0]).transpose(2, 0, 1)[None].copy())
    with torch.inference_mode():
        untold = predictor(image)
        predictor.tell(sensor="sentinel2", gsd_m=10.0)
        told_so = predictor(image)
    assert not torch.allclose(untold, told_so, atol=1e-3)
    assert np.array_equal(answer(0), told_so[0, 0].numpy())


def test_what_an_editor_saves_is_an_inventory(store: TileStore, tmp_path: Path) -> None:
    """The corrected outlines with all columns of the list beside them are read with id and type."""
    lakes, tiles = suspects(store)
    old = geopandas.read_file(store.path.parents[2] / "lakes.gpkg")
    added = near(lakes, FORGOTTEN).rename(columns={"lake_id": "gl_id"}).assign(kind="ice-marginal", gl_id="new")
    edited = pd.concat([old[old["gl_id"] != f"L{len(SHOWN)}"], added], ignore_index=True)
    edited.to_file(tmp_path / "edited.gpkg", engine="pyogrio")
    found = polygons.read(tmp_path / "edited.gpkg", "dataset.lakes")
    assert set(found.ids) == {*(f"L{i}" for i in range(len(SHOWN))), "new"} and set(found.types) == {
        "proglacial",
        "ice-marginal",
    }
    write_suspects(lakes, tiles, tmp_path / "suspects.gpkg")
    assert len(polygons.read(tmp_path / "suspects.gpkg", "dataset.lakes").geometries) == len(lakes)
    write_suspects(lakes[:0], tiles[:0], tmp_path / "none.gpkg")
    assert geopandas.read_file(tmp_path / "none.gpkg", layer="tiles").empty
