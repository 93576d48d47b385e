"""`glidexp serve`: what is let in, what is refused, who waits, what ends; and that answers are those of predict."""

import asyncio
import http.client
import io
import json
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import requests
import serve_stub
import shapely
import torch
import warm
from PIL import Image
from starlette.datastructures import Headers
from tiny_scenes import placed_by_points, two_pages, write_scene
from torch import nn

from glidexp import cli
from glidexp.data import sensors
from glidexp.data.scenes.catalogue import find
from glidexp.errors import GlidexpError
from glidexp.mapping import predict
from glidexp.mapping.predict import SceneTask, map_scene
from glidexp.models.card import FORMAT, FORMAT_VERSION
from glidexp.models.load import FoundModel
from glidexp.models.predictor import Predictor
from glidexp.serving import guard, heads, mapper, upload
from glidexp.serving.app import make_app
from glidexp.serving.desk import KEPT, Desk, State
from glidexp.serving.judge import safe_name
from glidexp.serving.refusal import ALONE, Refusal, plain
from glidexp.serving.results import Result
from glidexp.serving.settings import MapSettings, ServeSettings
from glidexp.serving.verb_serve import PREFIX, listening, name_of, own_folder, server_of
from glidexp.serving.worker import Setup, Worker
from glidexp.tracking.models import TrackedModel

ROOT = Path(__file__).resolve().parent.parent
RGB = ("red", "green", "blue")
SIDE = (150, 170)


class Inside:
    """A worker without a process: answers in a thread; waits for `go` before each. What goes in and out is copied as a
    pipe does."""

    def __init__(self, answer: Any) -> None:
        self._answer, self.go, self.stopped, self.ready = answer, threading.Event(), 0, True
        self.go.set()

    def start(self) -> None: ...

    def stop(self) -> None:
        self.stopped += 1

    async def wait_ready(self) -> None: ...

    async def answer(self, task: Any, step: Any) -> Any:
        while not self.go.is_set():
            await asyncio.sleep(0.005)
        copied = pickle.loads(pickle.dumps(task))
        return pickle.loads(pickle.dumps(await asyncio.to_thread(self._answer, copied, step)))


@contextmanager
def served(root: Path, card: dict[str, Any], worker: Any, settings: ServeSettings) -> Iterator[str]:
    """Address of a server in a thread."""
    root.mkdir(exist_ok=True)
    app = make_app(root, card, "a-model", worker, settings)
    door, server = listening("127.0.0.1", 0), server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        door.close()
    assert not list(root.iterdir()), "folders are left"


class Bright(nn.Module):
    """Lake where red is bright: a network whose answer is known."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 3 * image[:, :1]

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter([nn.Parameter(torch.zeros(1))])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and card of a model whose network is `Bright`."""
    folder = tmp_path_factory.mktemp("bundle")
    card: dict[str, Any] = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "weights": {"sha256": "0" * 64}, "mean": [128.0] * 3,
        "std": [64.0] * 3, "architecture": {"backbone": "b", "decoder": "d", "in_channels": 3}, "tile_px": 64,
        "threshold": 0.5, "bands": list(RGB), "sensors": ["sentinel2"], "gsd_m": {"sentinel2": [10.0, 10.0]},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    made = Predictor(Bright(), mean=[128.0] * 3, std=[64.0] * 3, stride=1, smallest_px=1, card=card).eval()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ALONE.items():
            patch.setenv(name, value)
        for module in (predict, mapper):
            patch.setattr(module, "network", lambda *_: made)
        yield folder, card


def levels(dtype: type = np.uint16) -> np.ndarray:
    """Three bands: red is bright in four lakes, one with an island, one cut by the edge; the rest is dark."""
    height, width = SIDE
    red = np.full((height, width), 20, np.uint16)
    red[20:50, 30:70] = red[80:90, 100:104] = red[60:64, 10:25] = red[140:150, 150:160] = 200
    red[30:35, 40:46] = 20
    scale = 1 if dtype is np.uint8 else 16
    return (np.stack([red, np.full_like(red, 50), np.full_like(red, 50)]) * scale).astype(dtype)


LAKES_PX = [40, 60, 100, 1170]


def a_scene(folder: Path) -> Path:
    return write_scene(folder / "s.tif", pixels=levels(), descriptions=RGB)


def mapped_by_predict(bundle: Path, scene: Path, out: Path) -> geopandas.GeoDataFrame:
    """What `glidexp predict` makes of the scene."""
    out.mkdir()
    (file,) = find(scene, "sentinel2")
    made = map_scene(SceneTask(file, bundle, out, MapSettings(device="cpu"), "a-model"))
    assert not made.failed
    return geopandas.read_parquet(out / f"{scene.stem}_lakes.parquet")


@pytest.fixture(scope="module")
def running(
    bundle: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Inside]]:
    settings = ServeSettings(
        maps=MapSettings(device="cpu"), sensor="sentinel2", max_mb=1, max_mpx=0.05, queue=1, names=("lakes.example",)
    )
    root = tmp_path_factory.mktemp("root")
    inside = Inside(mapper.begin(Setup(bundle[0], "a-model", settings)))
    with served(root, bundle[1], inside, settings) as address:
        yield address, inside


@pytest.fixture
def server(running: tuple[str, Inside]) -> Iterator[tuple[str, Inside]]:
    """Address and worker of the server; whatever a test held up goes on after it."""
    yield running
    running[1].go.set()


def sent(address: str, content: bytes, path: str = "/predict", **words: Any) -> requests.Response:
    return requests.post(
        address + path, params=words, data=content, headers={"Content-Type": "application/octet-stream"}, timeout=120
    )


def refused(answer: requests.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    (detail,) = answer.json().values()
    assert "\n" not in detail and "/tmp" not in detail
    for word in words:
        assert word in detail, detail


def test_answers_are_those_of_predict(
    bundle: tuple[Path, dict[str, Any]], server: tuple[str, Inside], tmp_path: Path
) -> None:
    scene = a_scene(tmp_path)
    expected = mapped_by_predict(bundle[0], scene, tmp_path / "maps")
    assert sorted(expected["area_px"]) == LAKES_PX
    address, content = server[0], scene.read_bytes()
    lakes = sent(address, content, name="s.tif").json()
    assert lakes["coordinates"] == "WGS 84" and lakes["summary"]["lakes"] == len(expected)
    told = {one["properties"]["lake_id"]: one for one in lakes["features"]}
    assert set(told) == set(expected["lake_id"])
    for row in expected.itertuples():
        one = told[row.lake_id]
        assert one["properties"]["area_km2"] == row.area_km2 and one["properties"]["area_p05_km2"] is None
        shape = shapely.geometry.shape(one["geometry"])
        area = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.orient_polygons(shape))[0])
        assert area / 1e6 == pytest.approx(row.area_km2, rel=1e-3)
        outer = shapely.get_parts(shape)[0].exterior
        assert outer.is_ccw and 86 < outer.coords[0][0] < 88 and 27 < outer.coords[0][1] < 29
    for layer in ("mask", "probability"):
        with rasterio.open(tmp_path / "maps" / f"s_{layer}.tif") as file:
            wanted, place = file.read(1), file.transform
        with rasterio.open(io.BytesIO(sent(address, content, format="geotiff", layer=layer).content)) as file:
            np.testing.assert_array_equal(file.read(1), wanted)
            assert file.transform == place and file.crs.to_epsg() == 32645
        grey = np.array(Image.open(io.BytesIO(sent(address, content, format="png", layer=layer).content)))
        np.testing.assert_array_equal(grey[..., 0], np.rint(wanted / (1 if layer == "mask" else 254) * 255.0))
        assert (grey[..., 1] == 255).all()
    shown = sent(address, content, format="png", layer="overlay")
    assert shown.headers["content-type"] == "image/png" and int(shown.headers["x-lakes"]) == len(expected)
    other = sent(address, content, threshold=0.999).json()["summary"]
    assert other["lakes"] == 0 and other["threshold"] == 0.999


def test_a_form_is_taken_as_the_file_itself(server: tuple[str, Inside], tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    with scene.open("rb") as stream:
        answer = requests.post(f"{server[0]}/predict", files={"scene": ("../../x/s.tif", stream)}, timeout=120)
    assert answer.json()["summary"]["scene"] == "s"
    assert answer.json()["features"] == sent(server[0], scene.read_bytes(), name="s.tif").json()["features"]
    long = sent(server[0], scene.read_bytes(), name=f"{'n' * 250}.tif").json()  # as long as file systems have them
    assert long["summary"]["scene"] == "n" * 80
    two = {"scene": ("a.tif", b"II*\0"), "more": ("b.tif", b"II*\0")}
    refused(requests.post(f"{server[0]}/predict", files=two, timeout=60), 400, "one file", "holds 2")
    refused(requests.post(f"{server[0]}/predict", data={"scene": "x"}, timeout=60), 415, "x-www-form-urlencoded")
    half = b'--b\r\nContent-Disposition: form-data; name="scene"; filename="s.tif"\r\n\r\nII*'
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(requests.post(f"{server[0]}/predict", data=half, headers=head, timeout=60), 400, "ends too early")
    refused(requests.post(f"{server[0]}/predict", data=b"hello", headers=head, timeout=60), 400, "broken")


def test_a_size_of_pixels_that_the_position_contradicts_is_told(server: tuple[str, Inside], tmp_path: Path) -> None:
    lakes = sent(server[0], a_scene(tmp_path).read_bytes(), gsd_m=3).json()
    assert lakes["summary"]["gsd_m"] == 10.0
    assert lakes["summary"]["warnings"] == ["gsd_m=3 is not used: by its position a pixel of the scene is 10 m."]


@pytest.mark.parametrize(
    ("told", "needed"),
    [
        (None, False),
        ({"kind": "sensor", "sensors": ["sentinel2"], "gsd_m": None}, False),
        ({"kind": "gsd", "sensors": [], "gsd_m": None}, True),
        ({"kind": "none", "sensors": [], "gsd_m": 20.0}, True),
    ],
)
def test_a_network_that_is_told_an_assumed_size_of_pixels_says_so(told: dict[str, Any] | None, needed: bool) -> None:
    assert mapper.needs_gsd({"told": told}) is needed
    words = mapper.without(False, 10.0, needed=needed)
    assert ("the network is told that a pixel is 10 m, so give gsd_m where it is not" in words) is needed
    assert mapper.without(True, 10.0, needed=True) == mapper.without(True, 10.0, needed=False)


def test_sensors_of_ones_own_go_to_the_process_that_maps(
    bundle: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = sensors._registry().copy()
    monkeypatch.setattr(sensors, "_registry", lambda own=fresh: own)
    skysat = sensors.Sensor(name="skysat", gsd_m=0.5, bands=("blue", "green", "red", "nir"))
    mapper.begin(pickle.loads(pickle.dumps(Setup(bundle[0], "a-model", ServeSettings(), (skysat,)))))
    assert sensors.get("skysat") == skysat and [one.name for one in sensors.own()] == ["skysat"]


def test_a_picture_without_position_is_told_in_pixels(server: tuple[str, Inside], tmp_path: Path) -> None:
    Image.fromarray(levels(np.uint8).transpose(1, 2, 0)).save(tmp_path / "t.png")
    content = (tmp_path / "t.png").read_bytes()
    plainly, sized = (sent(server[0], content, name="t.png", **more).json() for more in ({}, {"gsd_m": 4.0}))
    assert plainly["coordinates"].startswith("pixels") and plainly["summary"]["area_km2"] is None
    (said,) = plainly["summary"]["warnings"]
    assert said.startswith("the scene has no position: lakes are told in pixels, and areas are in pixels")
    assert sized["summary"]["warnings"][1:] == [
        "t: a pixel is 4 m where sentinel2 has 10 m.", "t: a pixel is 4 m, the model was trained on 10 m."
    ]  # fmt: skip
    assert sorted(one["properties"]["area_px"] for one in plainly["features"]) == LAKES_PX
    for bare, one in zip(plainly["features"], sized["features"], strict=True):
        shape = shapely.geometry.shape(one["geometry"])
        assert shape.equals(shapely.geometry.shape(bare["geometry"]))
        assert (shapely.get_coordinates(shape) % 1 == 0).all()
        assert shapely.within(shape, shapely.box(0, 0, SIDE[1], SIDE[0]))
        assert shape.area == one["properties"]["area_px"]
        assert one["properties"]["area_km2"] == pytest.approx(shape.area * 16e-6, rel=1e-4)
        assert not {"lon", "lat"} & set(one["properties"])
        assert not [name for name in bare["properties"] if "km" in name]
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(io.BytesIO(sent(server[0], content, format="geotiff").content)) as file,
    ):
        assert file.crs is None and int((file.read(1) == 1).sum()) == plainly["summary"]["area_px"]


@pytest.mark.parametrize(("driver", "cut"), [("JPEG", (422, "cannot be read")), ("JP2OpenJPEG", (415, "JP2OpenJPEG"))])
def test_pictures_of_other_formats_are_taken_by_their_bytes(
    server: tuple[str, Inside], tmp_path: Path, driver: str, cut: tuple[int, str]
) -> None:
    """A JPEG tells its lakes in pixels, as a PNG does; a JPEG2000 of a scene tells what the scene itself tells."""
    height, width = SIDE
    told = {"width": width, "height": height, "count": 3}
    if driver == "JPEG":
        file, more = tmp_path / "s.png", {"name": "x.tif"}  # the bytes tell, not the name
        Image.fromarray(levels(np.uint8).transpose(1, 2, 0)).save(file)
        held = io.BytesIO()
        Image.open(file).save(held, "JPEG", quality=100, subsampling=0)
        content = held.getvalue()
    else:
        file, more = a_scene(tmp_path), {"name": "s"}
        with rasterio.open(file) as source:
            place = {"crs": source.crs, "transform": source.transform, "dtype": "uint16"}
            how = {"driver": driver, "QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
            with rasterio.open(tmp_path / "s.jp2", "w", **how, **told, **place) as sink:
                sink.write(source.read())
        content = (tmp_path / "s.jp2").read_bytes()
    expected = sent(server[0], file.read_bytes(), **more).json()
    found = sent(server[0], content, **more).json()
    assert found["summary"]["lakes"] == len(LAKES_PX), found
    assert found["features"] == expected["features"] and found["coordinates"] == expected["coordinates"]
    refused(sent(server[0], content[: len(content) // 3]), *cut)  # by the header, or as its pixels are read


def bad_scenes(folder: Path) -> dict[str, tuple[bytes, int, str]]:
    """Content, status and a word of the answer."""
    outside = write_scene(folder / "outside.tif")
    with rasterio.open(outside) as source:
        rasterio.shutil.copy(source, folder / "x.vrt", driver="VRT")
    empty = write_scene(folder / "0.tif", pixels=np.zeros((3, 64, 64), np.uint16), nodata=0)
    palette, grey = io.BytesIO(), io.BytesIO()
    picture = Image.fromarray(levels(np.uint8).transpose(1, 2, 0))
    picture.quantize(16).save(palette, "PNG")
    picture.convert("L").save(grey, "PNG")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.write(outside, "s.tif")
    large = write_scene(
        folder / "large.tif", width=300, height=200, compress="deflate", pixels=np.ones((3, 200, 300), np.uint16)
    )
    return {
        "a VRT": ((folder / "x.vrt").read_bytes(), 415, "no VRT"),
        "a ZIP": (held.getvalue(), 415, "no ZIP"),
        "nothing": (b"", 415, "empty"),
        "half a file": (a_scene(folder).read_bytes()[:60], 415, "cannot be read as GTiff"),
        "a PNG in name alone": (b"\x89PNG\r\n\x1a\n<VRTDataset rasterXSize='1' rasterYSize='1'/>", 415, "PNG"),
        "too many pixels": (large.read_bytes(), 413, "300 x 200 px"),
        "too many bytes": (bytes(1_100_000), 413, "1 MB"),
        "radar": (write_scene(folder / "f.tif", bands=3, dtype="complex64").read_bytes(), 422, "complex64"),
        "control points": (placed_by_points(folder / "p.tif").read_bytes(), 422, "gdalwarp -t_srs EPSG:32645"),
        "two pages": (two_pages(folder / "pages.tif").read_bytes(), 422, "scene.tif holds 2 pictures"),
        "a palette": (palette.getvalue(), 422, "palette"),
        "a grey picture": (grey.getvalue(), 422, "scene.png has one band"),
        "two bands": (write_scene(folder / "2.tif", bands=2).read_bytes(), 422, "has 2 bands"),
        "no data": (empty.read_bytes(), 422, "valid"),
    }  # fmt: skip


def test_what_cannot_be_mapped_is_refused_in_one_line(server: tuple[str, Inside], tmp_path: Path) -> None:
    for name, (content, status, word) in bad_scenes(tmp_path).items():
        answer = sent(server[0], content)
        assert word in answer.text, f"{name}: {answer.text}"
        refused(answer, status, word)
    fine = a_scene(tmp_path).read_bytes()
    for words, told in (
        ({"threshold": 2}, "threshold=2"), ({"treshold": 0.3}, "threshold"), ({"format": "pdf"}, "geojson"),
        ({"sensor": "sentinel9"}, "sentinel2"), ({"format": "geotiff", "layer": "overlay"}, "png"),
    ):  # fmt: skip
        refused(sent(server[0], fine, **words), 422, told)
    refused(requests.post(f"{server[0]}/predict", data=fine, headers={"Content-Type": "text/html"}, timeout=60), 415)
    chunks = (bytes(100_000) for _ in range(20))  # of no told length
    head = {"Content-Type": "image/tiff"}
    refused(requests.post(f"{server[0]}/predict", data=chunks, headers=head, timeout=60), 413, "1 MB")
    refused(requests.get(f"{server[0]}/maps/none", timeout=60), 404)
    refused(requests.get(f"{server[0]}/nothing", timeout=60), 404)
    refused(requests.get(f"{server[0]}/predict", timeout=60), 405)
    assert requests.get(f"{server[0]}/health", timeout=60).json() == {"status": "ok", "scenes": 0, "places": 2}


def test_only_its_own_page_may_use_it(server: tuple[str, Inside]) -> None:
    port = int(server[0].rpartition(":")[2])

    def status(host: str, **headers: str) -> int:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        line.putrequest("GET", "/model", skip_host=True)
        line.putheader("Host", host)
        for name, value in headers.items():
            line.putheader(name.replace("_", "-"), value)
        line.endheaders()
        answer = line.getresponse()
        answer.read()
        line.close()
        assert answer.getheader("Access-Control-Allow-Origin") is None
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        return answer.status

    own = f"127.0.0.1:{port}"
    assert [status(host) for host in (own, f"localhost:{port}", "[::1]:1", "lakes.example", "Lakes.Example.")] == [
        200
    ] * 5
    assert [status(host) for host in ("evil.example", f"127.0.0.1.evil.example:{port}", "", "a b")] == [400] * 4
    assert status(own, Origin=f"http://{own}") == 200
    for foreign in (
        "http://evil.example",
        "null",
        f"http://evil.example:{port}",
        "http://127.0.0.1:1",
        "http://[",
        "x",
    ):
        assert status(own, Origin=foreign) == 403
    assert status(own, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403


def test_the_api_page_needs_no_other_server(server: tuple[str, Inside]) -> None:
    page = requests.get(f"{server[0]}/docs", timeout=60).text
    scripts = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert scripts and all(script.startswith("/") for script in scripts)
    assert len(requests.get(server[0] + scripts[0], timeout=60).content) > 100_000
    paths = requests.get(f"{server[0]}/openapi.json", timeout=60).json()["paths"]
    assert {"/predict", "/maps", "/maps/{map_id}", "/maps/{map_id}/{name}", "/health", "/model"} == set(paths)
    assert {"413", "415", "503", "504"} < set(paths["/predict"]["post"]["responses"])
    card = requests.get(f"{server[0]}/model", timeout=60).json()
    assert card["bands"] == list(RGB) and card["sensors"] == ["sentinel2"] and card["limits"]["bytes"] == 10**6


def state_of(address: str, job: dict[str, Any]) -> dict[str, Any]:
    return requests.get(f"{address}/maps/{job['id']}", timeout=60).json()


def reached(address: str, job: dict[str, Any], state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while (now := state_of(address, job))["state"] != state:
        assert time.monotonic() < deadline, now
        time.sleep(0.01)
    return now


def test_one_is_mapped_some_wait_and_the_next_is_sent_away(server: tuple[str, Inside], tmp_path: Path) -> None:
    address, inside = server
    content = a_scene(tmp_path).read_bytes()
    inside.go.clear()
    first = sent(address, content, "/maps", name="s.tif")
    assert first.status_code == 202 and first.headers["location"] == f"/maps/{first.json()['id']}"
    reached(address, first.json(), "running")
    second = sent(address, content, "/maps").json()
    assert state_of(address, second) == {"id": second["id"], "state": "waiting", "done": 0, "total": 0, "ahead": 1}
    busy = sent(address, content)
    refused(busy, 503, "2 scenes")
    assert int(busy.headers["retry-after"]) > 0
    refused(requests.get(f"{address}/maps/{first.json()['id']}/lakes.geojson", timeout=60), 404, "not finished")
    assert requests.delete(f"{address}/maps/{second['id']}", timeout=60).status_code == 204
    refused(requests.get(f"{address}/maps/{second['id']}", timeout=60), 404)
    inside.go.set()
    done = reached(address, first.json(), "done")
    assert done["done"] == done["total"] > 1 and done["summary"]["lakes"] == 4
    for name, place in done["files"].items():
        file = requests.get(address + place, timeout=60)
        assert file.status_code == 200 and file.content, name
        assert f'filename="s_{name}"' in file.headers["content-disposition"]
    refused(requests.get(f"{address}/maps/{done['id']}/..%2f..%2fetc%2fpasswd", timeout=60), 404)
    refused(requests.get(f"{address}/maps/{done['id']}/s_lakes.gpkg", timeout=60), 404, "Allowed")
    assert requests.delete(f"{address}/maps/{done['id']}", timeout=60).status_code == 204


def test_a_picture_that_many_ask_for_at_once_is_whole(server: tuple[str, Inside], tmp_path: Path) -> None:
    """Who asked while it was made was sent what there was of it, nothing as a rule."""
    address = server[0]
    for _ in range(3):
        job = reached(address, sent(address, a_scene(tmp_path).read_bytes(), "/maps").json(), "done")
        place = address + job["files"]["probability.png"]
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda _: requests.get(place, timeout=60).content, range(32)))  # noqa: B023
        assert len(set(found)) == 1 and Image.open(io.BytesIO(found[0])).size == SIDE[::-1]
        requests.delete(f"{address}/maps/{job['id']}", timeout=60)


def test_turns_are_those_of_the_line_and_not_of_the_first_byte(tmp_path: Path) -> None:
    """Whoever sends slowly came first and is mapped later."""
    desk, tasks = Desk(tmp_path, Inside(None), ServeSettings()), [SimpleNamespace(), SimpleNamespace()]  # type: ignore[arg-type]
    slow, fast = desk.open(), desk.open()
    for job, task in zip((fast, slow), tasks, strict=True):
        desk.enter(job, task)  # type: ignore[arg-type]
    assert (desk.ahead(fast), desk.ahead(slow)) == (0, 1)


def test_a_process_that_cannot_be_started_does_not_end_the_line(tmp_path: Path) -> None:
    class Starved(Inside):
        left = 2

        async def wait_ready(self) -> None:
            self.left -= 1
            if self.left >= 0:
                raise OSError(12, "Cannot allocate memory")

    async def go() -> None:
        desk = Desk(tmp_path, Starved(lambda task, step: Result({}, {"lakes": 3})), ServeSettings())  # type: ignore[arg-type]
        desk.start()
        for _ in range(2):
            job = desk.open()
            desk.enter(job, SimpleNamespace(out=job.folder / "map"))  # type: ignore[arg-type]
            await asyncio.wait_for(job.over.wait(), 20)
            assert job.result is not None and job.result.summary == {"lakes": 3}
        await desk.close()

    asyncio.run(go())


def test_who_goes_away_leaves_his_place(server: tuple[str, Inside], tmp_path: Path) -> None:
    address, inside = server
    content, before = a_scene(tmp_path).read_bytes(), inside.stopped
    inside.go.clear()
    line = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/tiff\r\nContent-Length: {len(content)}"
    line.sendall(head.encode() + b"\r\n\r\n" + content)

    def until(scenes: int) -> None:
        deadline = time.monotonic() + 120
        while requests.get(f"{address}/health", timeout=60).json()["scenes"] != scenes:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    until(1)
    line.close()
    until(0)
    inside.go.set()
    assert sent(address, content).status_code == 200
    assert inside.stopped == before + 1  # what was at work for nobody was ended


def on_desk(
    root: Path, scenes: list[str], begin: Any = serve_stub.begin, timeout_s: float = 600
) -> list[tuple[Any, str]]:
    """What comes of scenes that a process of the stub maps one after the other, and its ids."""
    settings = ServeSettings()
    worker = Worker(begin, Setup(root, "m", settings))
    out = []

    async def go() -> None:
        desk = Desk(root / "jobs", worker, settings)
        desk.start()
        for scene in scenes:
            desk._settings = replace(settings, timeout_s=timeout_s if scene == "forever" else 600)
            job = desk.open()
            task: Any = SimpleNamespace(scene=SimpleNamespace(name=scene), wish=None, out=job.folder / "map")
            desk.enter(job, task)
            await job.over.wait()
            out.append((job.refusal or job.result, (root / "pid").read_text() if (root / "pid").exists() else ""))
            assert (job.state is State.done) == (job.refusal is None)
        await desk.close()

    (root / "jobs").mkdir()
    asyncio.run(go())
    assert not list((root / "jobs").iterdir())
    return out


def alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_scene_that_takes_too_long_is_ended_and_the_next_is_mapped(tmp_path: Path) -> None:
    """The stub ignores SIGTERM and never answers; its process is gone afterwards all the same."""
    scenes = ["fine", "wrong", "bug", "forever", "fine", "dies", "fine"]
    said = on_desk(tmp_path, scenes, timeout_s=0.2)
    fine, wrong, bug, forever, again, dies, last = (one for one, _ in said)
    assert fine.summary["lakes"] == again.summary["lakes"] == last.summary["lakes"] == 7
    assert [one.status for one in (wrong, bug, forever, dies)] == [422, 500, 504, 500]
    assert "0.2 s" in forever.words and "memory" in dies.words and "ZeroDivisionError" in bug.words
    assert said[0][1] == said[2][1], "a refusal ends no process"
    ids = list(dict.fromkeys(str(one.summary["pid"]) for one in (fine, again, last)))
    until = time.monotonic() + 30  # a loaded machine takes a while to bury what was killed
    while any(map(alive, ids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(ids) == 3 and not any(map(alive, ids))


def test_a_bundle_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    ((refusal, _),) = on_desk(tmp_path, ["fine"], serve_stub.begin_badly)
    assert refusal.status == 500 and "damaged" in refusal.words
    worker = Worker(serve_stub.begin_badly, Setup(tmp_path, "m", ServeSettings()))
    with pytest.raises(GlidexpError, match="damaged"):
        asyncio.run(worker.wait_ready())


def test_a_map_that_had_to_make_room_is_told_so(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(tmp_path, Inside(lambda task, step: Result({}, {"lakes": 1})), ServeSettings())  # type: ignore[arg-type]
        desk.start()
        ids = []
        for _ in range(KEPT + 1):
            job = desk.open()
            desk.enter(job, SimpleNamespace(out=job.folder / "map"))  # type: ignore[arg-type]
            await job.over.wait()
            ids.append(job.id)
        assert desk.find(ids[1]).result is not None
        with pytest.raises(Refusal, match=f"kept for 30 minutes, the last {KEPT} of them"):
            desk.find(ids[0])
        await desk.close()

    asyncio.run(go())


def test_maps_are_kept_for_their_time(tmp_path: Path) -> None:
    async def go() -> None:
        desk = Desk(tmp_path, Inside(None), ServeSettings(queue=0, keep_min=1))
        job = desk.open()
        desk.tidy()
        assert desk.find(job.id) is job and job.folder.is_dir()
        job.state, job.ended = State.done, time.monotonic()
        desk.tidy()
        assert desk.find(job.id) is job
        job.ended -= 61
        desk.tidy()
        assert not job.folder.exists()
        with pytest.raises(Refusal, match="no such map"):
            desk.find(job.id)

    asyncio.run(go())


def test_names_and_words_hold_no_folders() -> None:
    assert safe_name("../../etc/S2 B.tif") == safe_name("C:\\x\\S2 B.tif") == "S2_B"
    assert safe_name("湖-Lac Léman.tif") == safe_name("湖-Lac Le\u0301man.tif") == "湖-Lac_Léman", "as predict names it"
    assert safe_name(f"{'湖' * 99}.tif") == "湖" * 26, "a file system counts bytes"
    assert safe_name("") == safe_name("...") == safe_name("/") == "scene"
    assert safe_name(".hidden.tif") == "hidden" and safe_name("/a/b") == "b"
    assert plain("/tmp/a/x.tif: no\nband in '/tmp/g/h/s.tif'; see 1/2") == "x.tif: no band in 's.tif'; see 1/2"


@pytest.mark.slow
def test_damaged_weights_are_told_before_it_serves(
    bundle: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process that maps is the real one."""
    (bundle[0] / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", str(bundle[0]), "--port", "0", "--folder", str(tmp_path / "f"), "--device", "cpu"])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.err.count("\n") == 1 and "weights.safetensors is damaged" in said.err
    assert said.out.startswith("Loading") and "http" not in said.out
    assert not list((tmp_path / "f").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_nothing_is_left(number: int, bundle: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """In a process of its own, whose process for scenes is the stub, at work for ever."""
    code = "import sys, serve_stub; from glidexp import cli; from glidexp.serving import worker; "
    code += "worker.mapping = serve_stub.begin_forever; cli.main(sys.argv[1:])"
    words = ["serve", str(bundle[0]), "--port", "0", "--folder", str(tmp_path / "f"), "--sensor", "sentinel2"]
    job = subprocess.Popen(
        [warm.python(), "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}, start_new_session=True,
    )  # fmt: skip
    try:
        assert job.stdout is not None
        assert job.stdout.readline().startswith("Loading")
        line = job.stdout.readline()
        address = line.split()[0]
        begun = sent(address, a_scene(tmp_path).read_bytes(), "/maps").json()
        reached(address, begun, "running")
        pid = (bundle[0] / "pid").read_text()
        assert alive(pid)
        job.send_signal(number)
        _, said = job.communicate(timeout=120)
        assert job.returncode == 0, said
        assert "Traceback" not in said and not list((tmp_path / "f").iterdir())
        deadline = time.monotonic() + 60
        while alive(pid):  # its end is seen by nobody but init
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()


def test_what_a_killed_server_left_goes_with_the_next(tmp_path: Path) -> None:
    with own_folder(str(tmp_path)) as alive:
        for name in ("dead", "new"):
            (tmp_path / f"{PREFIX}{name}").mkdir()
            (tmp_path / f"{PREFIX}{name}" / "upload").touch()
        for old in (alive, tmp_path / f"{PREFIX}dead"):
            os.utime(old, (0, 0))
        with own_folder(str(tmp_path)) as root:
            assert {path.name for path in tmp_path.iterdir()} == {alive.name, root.name, f"{PREFIX}new"}
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}new"]


def test_a_taken_port_and_wrong_limits_are_told_in_one_line(
    bundle: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        for words, told in (
            (["--port", port], f"port {port} at 127.0.0.1 cannot be used"), (["--port", "70000"], "--port=70000"),
            (["--timeout", "0"], "--timeout=0"), (["--queue", "-1"], "--queue=-1"), (["--sensor", "s9"], "sentinel2"),
            (["--host", "203.0.113.7"], "203.0.113.7 cannot be used"), (["--threshold", "3"], "--threshold=3"),
        ):  # fmt: skip
            with pytest.raises(SystemExit) as ended:
                cli.main(["serve", str(bundle[0]), *words])
            said = capsys.readouterr().err
            assert ended.value.code == 2 and told in said and said.count("\n") == 1
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", str(tmp_path / "no" / "bundle.json"), "--port", "0", "--folder", str(tmp_path / "f")])
    assert ended.value.code == 2 and "bundle.json" in capsys.readouterr().err
    assert not list((tmp_path / "f").iterdir())


def test_who_sends_nothing_is_answered_and_who_trickles_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "DRAIN_S", 3600.0)
    monkeypatch.setattr(guard, "IDLE_S", 0.01)
    body = guard._Body(asyncio.Event().wait)  # type: ignore[arg-type]
    asyncio.run(body.drain(Headers({"content-length": "99999999999"})))

    async def trickling() -> AsyncIterator[bytes]:
        while True:
            clock.append(clock[-1] + 10)
            yield b"II"

    async def taken() -> int:
        request = SimpleNamespace(stream=trickling)
        return sum([len(chunk) async for chunk in upload._counted(request, 10**6)])  # type: ignore[arg-type]

    clock = [0.0]
    monkeypatch.setattr(upload.time, "monotonic", lambda: clock[-1])
    monkeypatch.setattr(upload.asyncio, "wait_for", lambda coming, _: coming)  # its own clock is this one
    with pytest.raises(Refusal, match="less than 1000 bytes a second") as told:
        asyncio.run(taken())
    assert told.value.status == 408 and clock[-1] == 70


def test_json_of_a_scene_without_lakes(server: tuple[str, Inside], tmp_path: Path) -> None:
    empty = sent(server[0], a_scene(tmp_path).read_bytes(), "/maps", threshold=0.999).json()
    done = reached(server[0], empty, "done")
    assert done["summary"]["lakes"] == 0 and done["summary"]["area_km2"] == 0
    drawing = requests.get(server[0] + done["files"]["drawing.json"], timeout=60)
    assert json.loads(drawing.content) == {"width": SIDE[1], "height": SIDE[0], "lakes": []}


def test_the_page_names_a_model_as_people_know_it() -> None:
    run, logged = "d16a7ffd6a814665aca6d012e9e84f47", "models:/m-66e203fa6c4a480e9b7a035065e4992d"
    card = {"run_id": run}
    of_run = FoundModel(Path("b"), card, logged, TrackedModel(logged, "", logged.removeprefix("models:/"), run))
    version = FoundModel(Path("b"), card, "models:/lakes/3", TrackedModel("models:/lakes/3", "", None, run))
    bundle, bare = (FoundModel(Path("b"), one, "/releases/lakes-1", None) for one in (card, {}))
    told = [name_of(found) for found in (of_run, version, bundle, bare)]
    assert told == ["run d16a7ffd6a81", "models:/lakes/3", "run d16a7ffd6a81", "lakes-1"]


def test_a_connection_that_sends_no_whole_head_is_closed_and_a_slow_answer_is_not(
    server: tuple[str, Inside], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no limit: each held a socket for as long as it liked."""
    monkeypatch.setattr(heads, "HEAD_S", 1.0)
    address, inside = server
    place = urlsplit(address)

    def closed_after(first: bytes, then: bytes = b"") -> tuple[float, bytes]:
        """Seconds until the server closes, while a byte is sent now and then, and what it said."""
        began, said = time.monotonic(), b""
        with socket.create_connection((place.hostname, place.port), timeout=0.2) as mine:
            mine.sendall(first)
            while time.monotonic() - began < 20:
                with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                    got = mine.recv(4096)
                    if not got:
                        break
                    said += got
                with suppress(BrokenPipeError, ConnectionResetError):
                    mine.sendall(then)
        return time.monotonic() - began, said

    for first in (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
        seconds, said = closed_after(first, b"a" * bool(first))
        assert 0.9 < seconds < 4 and said.startswith(b"HTTP/1.1 408 ")
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    seconds, said = closed_after(whole + b"GET / HTT", b"P")
    assert 0.9 < seconds < 4 and said.count(b"HTTP/1.1 ") == 2 and b"HTTP/1.1 408 " in said, "the second request"
    begun = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
    seconds, said = closed_after(begun, b"a")
    assert 0.9 < seconds < 4 and said.count(b"HTTP/1.1 ") == 1 and b" 408 " not in said, "the rest of one answered"
    inside.go.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sent, address, a_scene(tmp_path).read_bytes())
        time.sleep(2.0)
        inside.go.set()
        assert waiting.result().status_code == 200
