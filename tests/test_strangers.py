"""Files that come from others: what they try reaches neither files nor environment nor network of this machine."""

import base64
import csv
import io
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import rasterio
import rasterio.shutil
import torch
from tiny_scenes import write_scene
from torch import nn

from glidexp.config import Config, TrackingConfig, flat
from glidexp.config.stored import public, read_values, without_secrets
from glidexp.data.ready.outlines import read_outlines as outlines
from glidexp.data.ready.pictures import read_image
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.scenes.features import layers_of, read_features
from glidexp.data.scenes.reading import read_header
from glidexp.errors import DataError, TrackingError
from glidexp.models.graph import Graph, Sizes, load_program, save_onnx, save_program
from glidexp.models.predictor import Predictor
from glidexp.release.bundle import SUMS, broken, seal
from glidexp.release.card_page import html_of
from glidexp.release.no_pickle import pickles_in
from glidexp.release.report import Report
from glidexp.serving.judge import judge
from glidexp.serving.refusal import Refusal
from glidexp.serving.settings import ServeSettings, Wish
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.report.blocks import Table, as_csv
from glidexp.tracking.carry import read_runs
from glidexp.tracking.spool import Spool
from glidexp.tracking.store import Store

NO_STORE = cast(Store, None)
"""what is refused is refused before the store is asked"""


class Touches:
    """A pickle that writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one layer, of any batch and size, as `save_program` writes it."""
    side = torch.export.Dim("side", min=2, max=64)
    shape = {"input": {2: 4 * side, 3: 4 * torch.export.Dim("other", min=2, max=64)}}
    made = torch.export.export(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)).eval(),
        (torch.zeros(1, 3, 8, 12),), dynamic_shapes=shape, strict=False,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    save_program(made, path)
    return path


def changed(program: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other members."""
    with zipfile.ZipFile(program) as held:
        members = {name: held.read(name) for name in held.namelist()}
    change(members)
    with zipfile.ZipFile(target, "w") as sink:
        for name, content in members.items():
            sink.writestr(name, content)
    return target


def of_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def on_members(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith("models/model.json"))
        graph = json.loads(members[name])
        change(graph)
        members[name] = json.dumps(graph).encode()

    return on_members


def attacks(mark: Path) -> dict[str, Callable[[dict[str, bytes]], None]]:
    """Ways by which `torch.export.load` can be brought to make the folder `mark`, and some kin."""
    run = f"__import__('os').mkdir({str(mark)!r})"
    content = io.BytesIO()
    torch.save(Touches(mark), content)
    pickled = content.getvalue()

    def inputs(members: dict[str, bytes]) -> None:
        members[next(name for name in members if "sample_inputs" in name)] = pickled

    def weights(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith("model_weights_config.json"))
        config = json.loads(members[name])
        first = next(iter(config["config"].values()))
        first["use_pickle"] = True
        members[name] = json.dumps(config).encode()
        members[next(name for name in members if name.endswith(f"weights/{first['path_name']}"))] = pickled

    def constants(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith("model_constants_config.json"))
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[name] = json.dumps({"config": {"x": entry}}).encode()
        members[name.replace("model_constants_config.json", "opaque_obj_0")] = pickled

    def library(members: dict[str, bytes]) -> None:
        members["model/data/aotinductor/model/model.wrapper.so"] = b"\x7fELF"

    def size(graph: dict[str, Any]) -> None:
        def first(value: Any) -> bool:
            if isinstance(value, dict) and "expr_str" in value:
                value["expr_str"] = run
                return True
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            return any(map(first, inner))

        assert first(graph["graph_module"]["graph"])

    def bounds(graph: dict[str, Any]) -> None:
        graph["range_constraints"][run] = {"min_val": 1, "max_val": 2}

    def call(graph: dict[str, Any]) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"

    def file(graph: dict[str, Any]) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    def module(graph: dict[str, Any]) -> None:
        signature = graph["graph_module"]["module_call_graph"][0]["signature"]
        context = json.dumps({"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": []})
        kind = {"type": "collections.defaultdict", "context": context, "children_spec": []}
        signature["out_spec"] = json.dumps([1, kind])

    graphs = {"size": size, "bounds": bounds, "call": call, "file": file, "module": module}
    archives = {"inputs": inputs, "weights": weights, "constants": constants, "library": library}
    return archives | {name: of_graph(change) for name, change in graphs.items()}


@pytest.mark.parametrize("way", sorted(attacks(Path("mark"))))
def test_a_program_of_a_network_runs_nothing_else(program: Path, tmp_path: Path, way: str) -> None:
    mark = tmp_path / "mark"
    attacked = changed(program, tmp_path / "model.pt2", attacks(mark)[way])
    with pytest.raises(DataError, match="is not loaded"):
        load_program(attacked)
    assert not mark.exists()


def test_guards_of_a_program_are_not_run(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    guard = f"__import__('os').mkdir({str(mark)!r})"
    attacked = changed(program, tmp_path / "model.pt2", of_graph(lambda graph: graph.update(guards_code=[guard])))
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(load_program(attacked)(image), load_program(program)(image))
    assert not mark.exists()


def test_a_program_keeps_no_folders_of_the_machine_that_made_it(tmp_path: Path) -> None:
    network = Predictor(nn.Conv2d(3, 1, 3, padding=1), mean=[0.0] * 3, std=[1.0] * 3).eval()
    made = torch.export.export(Graph(network), (torch.zeros(1, 3, 8, 8),), strict=False)
    assert any("stack_trace" in node.meta for node in made.graph.nodes)
    save_program(made, tmp_path / "model.pt2")
    save_onnx(made, Sizes(1, 1, 8), {}, tmp_path / "model.onnx")
    for name in ("model.pt2", "model.onnx"):
        assert b"graph.py" not in (tmp_path / name).read_bytes()


def test_a_stored_config_is_values_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2")
    for text in (
        "dataset: {root: '/data/${oc.env:SOME_SECRET}'}",
        "dataset: {'${oc.env:SOME_SECRET}': 1}",
        "a: &a [1, 2]\nb: [*a, *a]",
        "a: !!python/object/apply:os.getcwd []",
        "[" * 5000,
    ):
        with pytest.raises(DataError):
            read_values(text)
    assert read_values("dataset: {root: /data, split: {val: 0.1}}") == {
        "dataset": {"root": "/data", "split": {"val": 0.1}}
    }


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("https://me:pa@ss@host:5000/x", "https://host:5000/x"),
        ("postgresql://me:secret@host/db?ssl=on&password=secret", "postgresql://host/db?ssl=on&password="),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////a@b/mlflow.db", "sqlite:////a@b/mlflow.db"),
    ],
)  # fmt: skip
def test_an_address_is_told_without_its_password(uri: str, bare: str) -> None:
    assert without_secrets(uri) == bare


def test_what_a_run_leaves_has_no_password() -> None:
    config = Config(tracking=TrackingConfig(uri="https://me:secret@host:5000"))
    assert flat(public(config))["tracking.uri"] == "https://host:5000" and public(Config()) == Config()
    cell = Cell("baseline", 0, ("tracking.uri=https://me:secret@host:5000", "seed=0"), "key")
    plan = Plan(
        name="x", question="", primary="test/lake_iou_pooled", alpha=0.05, arms=("baseline",), seeds=(0,), cells=(cell,)
    )
    assert "secret" not in plan.public().to_json() and "tracking.uri=https://host:5000" in plan.public().to_json()


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server of this machine, and what it was asked for."""
    paths: list[str] = []

    class Notes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Notes)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()
    thread.join()


def vrt_of(source: str) -> str:
    band = (
        '<VRTRasterBand dataType="UInt16" band="{band}"><SimpleSource><SourceFilename>{source}</SourceFilename>'
        "<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
    )
    bands = "".join(band.format(band=number, source=source) for number in (1, 2, 3))
    place = "<SRS>EPSG:32645</SRS><GeoTransform>478000,10,0,3108000,0,-10</GeoTransform>"
    return f'<VRTDataset rasterXSize="96" rasterYSize="64">{place}{bands}</VRTDataset>'


WMS = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}/${{x}}</ServerUrl></Service><DataWindow><UpperLeftX>-9'
    "</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9</LowerRightX><LowerRightY>-9</LowerRightY><TileLevel>1"
    "</TileLevel></DataWindow><Projection>EPSG:3857</Projection><BandsCount>3</BandsCount></GDAL_WMS>"
)


@pytest.mark.parametrize("name", ["scene.tif", "scene.jp2", "scene.png", "scene.vrt"])
@pytest.mark.parametrize("kind", ["file", "address", "server", "hidden"])
def test_a_scene_reads_no_file_and_no_address_that_it_names(
    tmp_path: Path, asked: tuple[str, list[str]], name: str, kind: str
) -> None:
    address, paths = asked
    other = write_scene(tmp_path / "elsewhere" / "other.tif")
    inner = tmp_path / "inner.tif"
    inner.write_text(vrt_of(str(other)))
    texts = {
        "file": vrt_of(str(other)), "address": vrt_of(f"/vsicurl/{address}/other.tif"),
        "server": WMS.format(address=address), "hidden": vrt_of(str(inner)),
    }  # fmt: skip
    scene = tmp_path / name
    scene.write_text(texts[kind])
    if (name, kind) == ("scene.vrt", "file"):  # a VRT says that it is one
        assert read_header(SceneFile(scene, "scene", "sentinel2")).width == 96
        return
    with pytest.raises(DataError, match=r"names other files|no file here|no VRT"):
        read_header(SceneFile(scene, "scene", "sentinel2"))
    assert not paths


@pytest.mark.parametrize("ending", [".msk", ".ovr"])
def test_a_mask_beside_a_scene_is_no_text(tmp_path: Path, ending: str) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    other = write_scene(tmp_path / "elsewhere" / "other.tif")
    scene.with_name(f"scene.tif{ending}").write_text(vrt_of(str(other)))
    with pytest.raises(DataError, match=f"scene.tif{ending} is no raster"):
        read_header(SceneFile(scene, "scene", "sentinel2"))


@pytest.mark.parametrize("ending", ["tif", "big.tif", "jp2"])
def test_a_scene_has_its_overviews_itself(tmp_path: Path, ending: str) -> None:
    """GDAL opens what a header names as overviews, file or address, with the raster; in the server too."""
    scene = write_scene(tmp_path / f"scene.{ending}", dtype="uint8", BIGTIFF="YES" if "big" in ending else "NO")
    with rasterio.open(scene, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(tmp_path / "other.tif"))
    if ending == "jp2":
        source = scene.rename(tmp_path / "source.tif")
        rasterio.shutil.copy(str(source), str(scene), driver="JP2OpenJPEG", WRITE_METADATA="YES")
    with pytest.raises(DataError, match="names other files as its overviews"):
        read_header(SceneFile(scene, "scene", "sentinel2"))
    with pytest.raises(Refusal, match="names other files as its overviews"):
        judge(scene, "scene", Wish(sensor="sentinel2"), {}, ServeSettings())


def test_outlines_ask_no_address(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, paths = asked
    text = f'<OGRVRTLayer name="x"><SrcDataSource>/vsicurl/{address}/x.geojson</SrcDataSource></OGRVRTLayer>'
    for name in ("lakes.geojson", "lakes.gpkg", "lakes.shp", "lakes.kml"):
        (tmp_path / name).write_text(f"<OGRVRTDataSource>{text}</OGRVRTDataSource>")
        with pytest.raises(DataError, match="names other files or addresses"):
            layers_of(tmp_path / name, "dataset.lakes")
        with pytest.raises(DataError, match="names other files or addresses"):
            read_features(tmp_path / name, "dataset.lakes", [])
    packed = tmp_path / "lakes.zip"
    with zipfile.ZipFile(packed, "w") as held:
        held.write(tmp_path / "lakes.geojson", "lakes.geojson")
    with pytest.raises(DataError, match="names other files or addresses"):
        outlines(packed)
    assert not paths


def test_a_picture_is_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript under the ending of a picture is not handed to an interpreter."""
    from PIL import EpsImagePlugin

    called: list[Any] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given: called.append(given))
    for name in ("image.png", "image.jpg"):
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
        with pytest.raises(DataError, match="cannot be read"):
            read_image(tmp_path / name)
    assert not called


def exported(folder: Path, **other: Any) -> Path:
    """What `glidexp store export` leaves of a run, with other values."""
    run, model = "a" * 32, {"model_id": "m-" + "b" * 32, "name": "model", "kind": "", "tags": {}, "step": 0}
    told = {"format": 1, "run_id": run, "experiment": "x", "name": "n", "status": "FINISHED", "start": 1, "end": 2}
    told |= {"params": {}, "tags": {}, "metrics": [], "inputs": [], "used_models": [], "models": [model]}
    place = folder / "runs" / run
    (place / "artifacts").mkdir(parents=True)
    (place / "models" / str(model["model_id"])).mkdir(parents=True)
    (place / "run.json").write_text(json.dumps(told | other))
    return place


@pytest.mark.parametrize("name", ["models", "released"])
@pytest.mark.parametrize("leads", ["../../../secret", "/etc", "m-" + "b" * 32 + "/../../../../secret"])
def test_an_import_takes_nothing_from_beside_the_export(tmp_path: Path, name: str, leads: str) -> None:
    one = {"model_id": leads, "name": "model", "kind": "", "tags": {}, "step": 0}
    exported(tmp_path, **{name: [one]})
    with pytest.raises(TrackingError, match="no id of what lies beside it"):
        read_runs(NO_STORE, tmp_path)


def test_an_import_follows_no_run_id_and_no_link(tmp_path: Path) -> None:
    exported(tmp_path / "id", run_id="../../secret")
    with pytest.raises(TrackingError, match="no id of what lies beside it"):
        read_runs(NO_STORE, tmp_path / "id")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    for number, place in enumerate(("artifacts/key", "models/m-" + "b" * 32 + "/key", "artifacts/folder")):
        folder = tmp_path / str(number)
        (exported(folder) / place).symlink_to(secret if place.endswith("folder") else secret / "key")
        with pytest.raises(TrackingError, match="is a link"):
            read_runs(NO_STORE, folder)


def test_a_spool_sends_and_removes_its_own_files_alone(tmp_path: Path) -> None:
    """The journal in a shared folder may be somebody else's: what it names is neither sent nor deleted."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "key").write_text("secret")
    spool = Spool.open(tmp_path / "spool", {"uri": "x"})
    link = spool.stage("link")
    link.symlink_to(private / "key")
    for place in ("../../private/key", str(private / "key"), "key", f"{link.parent.name}/link"):
        entry = spool.append("artifact", {"staged": place, "folder": ""})
        with pytest.raises(ValueError, match="no file of the spool"):
            spool.staged(entry)
        spool.done(entry, refused=True)
    assert (private / "key").read_text() == "secret"
    own = spool.stage("table.csv")
    own.write_text("a")
    entry = spool.append("artifact", {"staged": f"{own.parent.name}/table.csv", "folder": ""})
    assert spool.staged(entry) == own
    spool.done(entry)
    assert not own.exists()
    spool.close()


def test_a_card_brings_in_its_own_pictures_alone(tmp_path: Path) -> None:
    """Names of regions come with a data set, and a card is published."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "pr_test.png").write_bytes(b"picture")
    (tmp_path / "secret").write_bytes(b"hunter2")
    markdown = "![a](pictures/pr_test.png) ![b](pictures/../secret) ![c](pictures/%2e%2e/secret) ![d](http://x/y.png)"
    page = html_of(markdown + " <script>x</script>", tmp_path, "</title><script>")
    assert base64.b64encode(b"picture").decode() in page and base64.b64encode(b"hunter2").decode() not in page
    assert "<script>" not in page and "default-src 'none'; img-src data:" in page


def test_sums_speak_of_every_file_of_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("{}")
    seal(tmp_path, Report("r", "because", "", (), forced=False))
    assert broken(tmp_path) == []
    for name in ("__pycache__/example_onnx.cpython-311.pyc", f"probes/{SUMS}"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
        assert broken(tmp_path) == [f"{name} is not listed"]
        (tmp_path / name).unlink()
    content = (tmp_path / "card.json").read_bytes()
    (tmp_path / "elsewhere").write_bytes(content)
    (tmp_path / "card.json").unlink()
    (tmp_path / "card.json").symlink_to(tmp_path / "elsewhere")
    assert broken(tmp_path) == ["card.json is no file of its own"]


def test_a_bundle_unpacks_to_no_gigabytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "probe.npz", "w", zipfile.ZIP_DEFLATED) as held:
        block = bytes(1 << 20)
        with held.open("image.npy", "w") as member:
            for _ in range(300):
                member.write(block)
    with pytest.raises(DataError, match="is refused"):
        pickles_in(tmp_path)


def test_a_table_holds_no_formula() -> None:
    cells = ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-HYPERLINK(1)", "\tx", "+1.20 [-0.10, 2.50]", "-3", "arm=1"]
    lines = as_csv(Table("t", "c", ["arm"], [[cell] for cell in cells])).splitlines()[1:]
    held = [next(csv.reader([line]))[0] for line in lines]
    assert held == [*(f"'{cell}" for cell in cells[:5]), *cells[5:]]
