"""Scenes built by several processes, stopped and gone on with, with a scene that cannot be used."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import warm
from tiny_scenes import WEST, world, write_scene

from glidexp.cli import guarded
from glidexp.config import DatasetConfig, SplitConfig, StretchConfig, StretchMethod, StretchScope
from glidexp.data import host_memory
from glidexp.data.builder import from_scenes, scene_part
from glidexp.data.builder.parts import PartWriter
from glidexp.data.builder.report import Job
from glidexp.data.builder.tasks import PROCESS_BYTES, share_out
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.scenes import strips
from glidexp.data.scenes.catalogue import find
from glidexp.data.scenes.reading import read_header
from glidexp.data.store import TileStore
from glidexp.data.workers import Crew, mapped
from glidexp.errors import ConfigError, DataError, RunFailed

ROOT = Path(__file__).resolve().parent.parent


def bytes_of(store: TileStore) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(store.path.iterdir())}


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the parts that are cut by this process."""
    names: list[str] = []

    class Counted(PartWriter):
        def __init__(self, folder: Path) -> None:
            names.append(folder.name.split("-")[0])
            super().__init__(folder)

    monkeypatch.setattr(scene_part, "PartWriter", Counted)
    return names


def parts_of(data: Path) -> list[Path]:
    return [p for p in (data / "stores").glob(".*.parts/*") if p.is_dir() and not p.name.startswith(".")]


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    dataset.empty_share = 0.5
    alone = prepare(dataset, 32, tmp_path / "a", progress=False)
    many = prepare(dataset, 32, tmp_path / "b", progress=False, crew=Crew(workers=2))
    assert bytes_of(alone) == bytes_of(many)
    assert not list((tmp_path / "b" / "stores").glob(".*.parts"))


def test_the_memory_of_a_job_bounds_its_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler's job has a control group of its own, below that of the machine."""
    dataset = world(tmp_path)
    files = find(Path(str(dataset.root)), dataset.sensor)
    job = Job(tmp_path / "store", tmp_path / "split.json", 32, dataset, {}, "")
    scenes = [read_header(file) for file in files]
    own = tmp_path / "groups" / "slurm" / "job_7"
    own.mkdir(parents=True)
    (own / "memory.max").write_text(f"{3 * PROCESS_BYTES}\n")
    (own / "memory.current").write_text("0\n")
    (tmp_path / "own").write_text("0::/slurm/job_7\n")
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(host_memory, "OWN_CGROUPS", tmp_path / "own")
    assert share_out(scenes, job, Crew(workers=4))[0] == 2  # 0.7 of the room


def stopped(dataset: DatasetConfig, data: Path, after: int) -> None:
    """A build that is killed after some scenes."""
    code = (
        "import os, sys, contextlib, warnings; from pathlib import Path\n"
        "warnings.simplefilter('ignore')\n"
        "from glidexp.config import *; from glidexp.data.builder import making\n"
        "from glidexp.data.prepare import prepare\n"
        "root, data, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])\n"
        "@contextlib.contextmanager\n"
        "def steps(*_):\n"
        "    done = []\n"
        "    yield lambda name: (done.append(name), len(done) == after and os.kill(os.getpid(), 9))\n"
        "making.shown_steps = steps\n"
        "root, lakes, ice = (str(root / name) for name in ('scenes.csv', 'lakes.gpkg', 'glaciers.gpkg'))\n"
        "prepare(DatasetConfig(kind=DatasetKind.scenes, root=root, lakes=lakes, glaciers=ice,\n"
        "  split=SplitConfig(val=0.25, test=0.25)), 32, data)\n"
    )
    root = Path(str(dataset.root)).parent
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [warm.python(), "-c", code, str(root), str(data), str(after)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == -signal.SIGKILL, run.stderr


def test_a_killed_build_goes_on_and_redoes_what_is_damaged(tmp_path: Path, cuts: list[str]) -> None:
    dataset = world(tmp_path)
    whole = bytes_of(prepare(dataset, 32, tmp_path / "whole", progress=False))
    assert sorted(cuts) == ["s0", "s1", "s2", "s3"]
    stopped(dataset, tmp_path / "killed", 2)
    for damage, anew in ((None, ["s2", "s3"]), ("images.u8", ["s1", "s2", "s3"]), ("tiles.json", ["s1", "s2", "s3"])):
        data = shutil.copytree(tmp_path / "killed", tmp_path / f"data_{damage}")
        assert not (data / "stores" / recipe_id(dataset, 32)).exists()
        assert sorted(p.name.split("-")[0] for p in parts_of(data)) == ["s0", "s1"]
        (data / "stores" / ".x.partial").mkdir()  # of another store
        for place in (
            (data / "stores" / f".{recipe_id(dataset, 32)}.7.partial"),
            parts_of(data)[0].parent / ".s9.7.partial",
        ):
            place.mkdir()
            (place / "images.u8").write_bytes(b"half")
        if damage:
            (file,) = (p / damage for p in parts_of(data) if p.name.startswith("s1"))
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        cuts.clear()
        store = prepare(dataset, 32, data, progress=False)
        assert cuts == anew
        assert bytes_of(store) == whole
        assert not parts_of(data)
        assert [p.name for p in (data / "stores").glob(".*.partial")] == [".x.partial"]


def test_scenes_of_a_whole_store_go_with_the_next_command_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build may be killed when the store is there and the scenes that it was made of are not yet gone."""
    dataset, data = world(tmp_path), tmp_path / "data"
    with monkeypatch.context() as patch:
        patch.setattr(from_scenes, "drop_parts", lambda _: None)
        store = prepare(dataset, 32, data, progress=False)
    (folder,) = (data / "stores").glob(".*.parts")
    shutil.rmtree(parts_of(data)[0])  # some are gone
    with folder.with_name(f"{folder.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        prepare(dataset, 32, data, progress=False)
        assert len(parts_of(data)) == 3, "another store is being made of them"
    prepare(dataset, 32, data, progress=False)
    assert not folder.exists()
    folder.mkdir()  # as it is at the very end
    prepare(dataset, 32, data, progress=False)
    assert not folder.exists()
    with (tmp_path / "scenes.csv").open("a") as table:  # another recipe with the same place for its parts
        table.write("gone.tif,gone,sentinel2,north\n")
    with pytest.raises(RunFailed, match="The other 4 are done and kept"):
        prepare(dataset, 32, data, progress=False)
    (tmp_path / "scenes.csv").write_text("\n".join((tmp_path / "scenes.csv").read_text().splitlines()[:-1]) + "\n")
    made_of = recipe_id(dataset, 32)
    shutil.copytree(store.path, data / "stores" / made_of, dirs_exist_ok=True)
    prepare(dataset, 32, data, progress=False)
    assert len(parts_of(data)) == 4, "they wait for the scene that failed"


def test_a_store_without_failed_scenes_that_was_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the store and the note, or while that was written."""
    dataset, data = world(tmp_path, scenes=5), tmp_path / "data"
    damaged(write_scene(tmp_path / "s2.tif", west=WEST + 40_000.0, seed=2, compress="deflate"))
    store = prepare(dataset, 32, data, progress=False, skip_failed=True)
    (note,) = (data / "stores").glob("*.without.json")
    told = note.read_text()

    def half(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"{")
        raise KeyboardInterrupt

    note.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, 32, data, progress=False, skip_failed=True)
    assert not note.exists()
    again = prepare(dataset, 32, data, progress=False, skip_failed=True)
    assert again.path == store.path and note.read_text() == told
    assert not list((data / "stores").glob(".*.parts"))


def damaged(path: Path) -> bytes:
    """Cuts a scene short and gives what it was."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


@pytest.mark.parametrize(("scenes", "header"), [(50, False), (5, True)])
def test_one_scene_that_cannot_be_read_stops_no_other(
    tmp_path: Path, cuts: list[str], scenes: int, header: bool
) -> None:
    dataset = world(tmp_path, scenes=scenes)
    others = {f"s{number}" for number in range(scenes)} - {"s2"}
    path = write_scene(tmp_path / "s2.tif", west=WEST + 40_000.0, seed=2, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(b"no scene" if header else whole[: len(whole) // 2])
    with pytest.raises(RunFailed, match=r"s2\.tif cannot be read") as caught:
        prepare(dataset, 32, tmp_path / "data", progress=False)
    told = str(caught.value)
    assert f"1 of {scenes} scenes failed" in told and f"other {scenes - 1} are done" in told and "\n" not in told
    assert guarded(lambda _: prepare(dataset, 32, tmp_path / "data", progress=False) and 0, []) == 1
    assert not [p for p in (tmp_path / "data" / "stores").iterdir() if not p.name.startswith(".")]
    assert sorted(name for name in cuts if name != "s2") == sorted(others)  # by the first call, not by the second
    cuts.clear()
    path.write_bytes(whole)
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert cuts == ["s2"] and set(store.index["scene"]) == others | {"s2"}
    assert bytes_of(store) == bytes_of(prepare(dataset, 32, tmp_path / "fresh", progress=False))


def test_when_no_scene_can_be_used_nothing_is_kept(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    dataset.bands = ["red", "nir"]
    with pytest.raises(DataError, match=r"none of the 4 scenes can be used; the first: .*none is named red, nir"):
        prepare(dataset, 32, tmp_path / "data", progress=False)
    assert not parts_of(tmp_path / "data")


def test_any_bands_become_the_channels_of_the_store(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    names = ["blue", "green", "red", "nir"]
    for i in range(4):
        write_scene(tmp_path / f"s{i}.tif", west=WEST + i * 20_000, bands=4, descriptions=names, seed=i, dtype="uint8")
    dataset.stretch = StretchConfig(method=StretchMethod.fixed, low=0, high=255)
    ids = {}
    for bands in (["red", "green", "blue"], ["nir", "red"], ["nir", "red", "green", "blue"]):
        dataset.bands = bands
        store = prepare(dataset, 32, tmp_path / "data", progress=False)
        ids[store.path.name] = bands
        assert store.manifest["bands"] == bands and store.channels == len(bands)
        assert len(store.manifest["channel_mean"]) == len(bands)
        first = store.index.iloc[0]
        pixels = np.random.default_rng(int(first["scene"][1])).integers(1, 255, (4, 64, 96)).astype(np.uint8)
        window = pixels[:, first["row"] : first["row"] + 32, first["col"] : first["col"] + 32]
        assert np.array_equal(store.images[0], np.stack([window[names.index(b)] for b in bands], axis=-1))
        store.verify()
    assert len(ids) == 3
    with pytest.raises(ConfigError, match=r"dataset\.bands=\[red,red\] must be lower-case names, each once"):
        DatasetConfig(bands=["red", "red"])


def test_a_store_without_failed_scenes_is_another_store(tmp_path: Path, cuts: list[str]) -> None:
    dataset = world(tmp_path, scenes=5)
    damaged(write_scene(tmp_path / "s2.tif", west=WEST + 40_000.0, seed=2, compress="deflate"))
    with (tmp_path / "scenes.csv").open("a") as table:
        table.write("gone.tif,gone,sentinel2,north\n")
    store = prepare(dataset, 32, tmp_path / "data", progress=False, skip_failed=True)
    assert set(store.index["scene"]) == {"s0", "s1", "s3", "s4"}
    skipped = store.manifest["skipped"]
    assert sorted(skipped) == ["gone", "s2"] and "cannot be read" in skipped["s2"]
    assert skipped["gone"].startswith(f"{tmp_path / 'gone.tif'} of scene 'gone' is not there: correct its path in the")
    assert store.path.name == store.manifest["recipe_id"] != recipe_id(dataset, 32)
    assert sorted(cuts) == ["s0", "s1", "s3", "s4"]
    again = prepare(dataset, 32, tmp_path / "data", progress=False, skip_failed=True)
    assert again.path == store.path and len(cuts) == 4
    with pytest.raises(RunFailed, match="no store was made"):
        prepare(dataset, 32, tmp_path / "data", progress=False)


def test_limits_may_be_shared_by_a_sensor_or_by_all(tmp_path: Path) -> None:
    """Limits of a scope are those of all its pixels in one histogram, whatever the number of workers."""
    dataset = world(tmp_path)
    lines = (tmp_path / "scenes.csv").read_text().replace("s3.tif,s3,sentinel2", "s3.tif,s3,landsat8")
    (tmp_path / "scenes.csv").write_text(lines)
    dataset.split = SplitConfig(val=0.0, test=0.0)
    pixels = np.stack([np.random.default_rng(i).integers(1, 4000, (3, 64, 96)) for i in range(4)])
    ids = set()
    for scope, groups in (("scene", [[0], [1], [2], [3]]), ("sensor", [[0, 1, 2], [3]]), ("global", [[0, 1, 2, 3]])):
        dataset.stretch = StretchConfig(scope=StretchScope(scope), low=5.0, high=90.0)
        store = prepare(dataset, 32, tmp_path / "data", progress=False)
        ids.add(store.path.name)
        for group in groups:
            low, high = (
                np.percentile(pixels[group], p, axis=(0, 2, 3), method="inverted_cdf").tolist() for p in (5.0, 90.0)
            )
            for i in group:
                assert store.manifest["stretch"][f"s{i}"] == {"low": low, "high": high}
    assert len(ids) == 3
    many = prepare(dataset, 32, tmp_path / "b", progress=False, crew=Crew(workers=2))
    assert bytes_of(many) == bytes_of(store)


@pytest.mark.parametrize("header", [False, True])
def test_one_scene_that_cannot_be_read_is_told_before_limits_are_shared(
    tmp_path: Path, cuts: list[str], header: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others' surveys are kept, no tile is cut by limits that lack a scene; `skip_failed` shares without it."""
    dataset = world(tmp_path, scenes=5)
    dataset.stretch = StretchConfig(scope=StretchScope("global"), low=5.0, high=90.0)
    path = write_scene(tmp_path / "s2.tif", west=WEST + 40_000.0, seed=2, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(b"no scene" if header else whole[: len(whole) // 2])
    with pytest.raises(
        RunFailed, match=r"1 of 5 scenes failed.*s2\.tif cannot be read.*other 4 are surveyed \("
    ) as told:
        prepare(dataset, 32, tmp_path / "data", progress=False)
    assert "\n" not in str(told.value) and not cuts
    surveys = list((tmp_path / "data" / "stores").glob(".*.parts/*.npz"))
    assert sorted(file.name.split("-")[0] for file in surveys) == ["s0", "s1", "s3", "s4"]
    anew: list[str] = []
    survey = scene_part.new_survey
    monkeypatch.setattr(scene_part, "new_survey", lambda scene, px: (anew.append(scene.name), survey(scene, px))[1])
    without = prepare(dataset, 32, tmp_path / "data", progress=False, skip_failed=True)
    pixels = np.stack([np.random.default_rng(i).integers(1, 4000, (3, 64, 96)) for i in (0, 1, 3, 4)])
    low = np.percentile(pixels, 5.0, axis=(0, 2, 3), method="inverted_cdf").tolist()
    assert list(without.manifest["skipped"]) == ["s2"] and set(anew) <= {"s2"}
    assert {tuple(limits["low"]) for limits in without.manifest["stretch"].values()} == {tuple(low)}
    path.write_bytes(whole)
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    fresh = prepare(dataset, 32, tmp_path / "fresh", progress=False)
    assert bytes_of(store) == bytes_of(fresh) and set(store.index["scene"]) == {"s0", "s1", "s2", "s3", "s4"}


def test_a_single_scene_that_cannot_be_read_is_a_mistake_in_any_scope(tmp_path: Path) -> None:
    dataset = world(tmp_path, scenes=1)
    dataset.split = SplitConfig(val=0, test=0)
    path = write_scene(tmp_path / "s0.tif", compress="deflate")
    path.write_bytes(path.read_bytes()[:20_000])
    for scope in StretchScope:
        dataset.stretch = StretchConfig(scope=scope)
        with pytest.raises(DataError, match=r"s0\.tif cannot be read"):
            prepare(dataset, 32, tmp_path / "data", progress=False)


def test_memory_bounds_strips_and_workers(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    one = prepare(dataset, 32, tmp_path / "a", progress=False)
    tight = prepare(dataset, 32, tmp_path / "b", progress=False, crew=Crew(workers=2, memory_bytes=400 << 20))
    assert bytes_of(one) == bytes_of(tight)
    with pytest.raises(ConfigError, match=r"--memory=0\.05GB is too little: .* needs 0\.29GB"):
        prepare(dataset, 32, tmp_path / "c", progress=False, crew=Crew(memory_bytes=50_000_000))


def double(value: int) -> int:
    return 2 * value


def test_a_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"--map=ray:{address} gives no cluster \(.*refused.*\): correct"):
            list(mapped(double, [1, 2], workers=1, cluster=f"ray:{address}"))
    for package, cluster in (("distributed", "dask:tcp://h:1"), ("ray", "ray:h:2")):
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails, as where it is not installed
        with pytest.raises(ConfigError, match=f"needs the package {package}, which is not installed: pip install"):
            list(mapped(double, [1, 2], workers=1, cluster=cluster))
    with pytest.raises(ConfigError, match=r"--map=slurm is not known: give ray or dask"):
        Crew(cluster="slurm")


@pytest.mark.parametrize(("has", "gpu", "asked"), [(2.0, True, 1), (2.0, False, 0), (0.0, True, 0)])
def test_a_task_that_uses_a_gpu_asks_ray_for_one(
    monkeypatch: pytest.MonkeyPatch, has: float, gpu: bool, asked: int
) -> None:
    """Of tasks that ask for none, Ray sees to it that all or none of them see the GPUs, by its version."""
    ray, wanted = SimpleNamespace(), []

    def remote(**share: int) -> Callable[..., SimpleNamespace]:
        wanted.append(share)
        return lambda work: SimpleNamespace(remote=work)

    ray.is_initialized, ray.cluster_resources, ray.remote = (lambda: True), (lambda: {"CPU": 8.0, "GPU": has}), remote
    ray.wait, ray.get = (lambda waiting, **_: (waiting[:1], waiting[1:])), (lambda one: one)
    ray.exceptions = SimpleNamespace(RayTaskError=OSError, RayError=OSError)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert list(mapped(double, [1, 2], workers=1, cluster="ray", gpu=gpu)) == [2, 4]
    assert wanted == [{"num_cpus": 1, "num_gpus": asked}]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("cluster", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_a_real_cluster_makes_the_same_store(tmp_path: Path, cluster: str, package: str) -> None:
    """One of the machine's own, which the verb starts and ends; a word of a worker comes as it is, in one line."""
    pytest.importorskip(package)
    dataset = world(tmp_path, scenes=2)
    dataset.split = SplitConfig(val=0, test=0)
    here = prepare(dataset, 32, tmp_path / "here", progress=False)
    (tmp_path / "elsewhere.py").write_text(
        "import sys\n"
        "from glidexp.cli import main\n"
        "from glidexp.data.workers import mapped\n"
        "from glidexp.errors import RunFailed\n"
        "def fails(task):\n    raise RunFailed(f'no room for {task}.')\n"
        "if __name__ == '__main__':\n"
        "    import elsewhere\n"
        "    if sys.argv[-1] == 'ray':  # one start of it is dear enough: the build finds what the first call began\n"
        "        import ray\n"
        "        ray.shutdown = lambda: None\n"
        "    try:\n        list(mapped(elsewhere.fails, ['x'], workers=1, cluster=sys.argv[-1]))\n"
        "    except RunFailed as error:\n        print(f'told: {error}')\n"
        "    main()\n"
    )
    words = [f"dataset.{key}={getattr(dataset, key)}" for key in ("root", "lakes", "glaciers")]
    words += ["dataset.split.val=0", "dataset.split.test=0", "tile_size.px=32", f"paths.data={tmp_path / 'data'}"]
    run = subprocess.run(
        [warm.python(), "elsewhere.py", "data", "build", *words, "--map", cluster], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "told: no room for x.\n" in run.stdout
    (folder,) = (tmp_path / "data" / "stores").glob("[!.]*")
    made = TileStore.open(folder)
    for name in ("images.u8", "masks.u8", "index.parquet", "inventory.parquet"):
        assert (made.path / name).read_bytes() == (here.path / name).read_bytes()
    assert made.manifest["stretch"] == here.manifest["stretch"] and len(made.manifest["stretch"]) == 2


def dies(value: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return value


def test_a_killed_worker_is_told_in_one_line() -> None:
    with pytest.raises(RunFailed, match="a worker process was killed, most often for want of memory"):
        list(mapped(dies, [1, 2], workers=2))


def test_a_full_disk_is_told_in_one_line_and_the_build_goes_on_after(tmp_path: Path) -> None:
    dataset = world(tmp_path)
    code = (
        "import resource, sys; limit = int(sys.argv.pop(1))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "from glidexp.cli import main; main()\n"
    )
    words = [f"dataset.{key}={getattr(dataset, key)}" for key in ("root", "lakes", "glaciers")]
    words += ["dataset.split.val=0.25", "dataset.split.test=0.25", "tile_size.px=32", f"paths.data={tmp_path / 'data'}"]
    run = subprocess.run(
        [warm.python(), "-c", code, "30000", "data", "build", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    told = [line for line in run.stderr.splitlines() if "no room" in line]
    assert len(told) == 1 and "Traceback" not in run.stderr and "File too large" in told[0]
    assert not [p for p in (tmp_path / "data" / "stores").iterdir() if not p.name.startswith(".")]
    assert len(prepare(dataset, 32, tmp_path / "data", progress=False)) > 0


def test_a_full_disk_is_told_in_one_line_of_generated_scenes_too(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))\n"
        "from glidexp.cli import main; main()\n"
    )
    words = ["data", "build", "dataset=smoke", "dataset.synthetic.scene_px=128", f"paths.data={tmp_path / 'data'}"]
    run = subprocess.run(
        [warm.python(), "-c", code, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    told = [line for line in run.stderr.splitlines() if line.startswith("glidexp: ")]
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    assert len(told) == 1 and "free some room, or give another folder" in told[0]
    assert not list((tmp_path / "data" / "scenes").glob("[!.]*"))


def test_lakes_without_a_pixel_are_an_error(tmp_path: Path) -> None:
    import shapely
    from tiny_scenes import NORTH, write_polygons

    dataset = world(tmp_path)
    thread = shapely.box(WEST + 101, NORTH - 104, WEST + 104, NORTH - 101)
    dataset.lakes, dataset.split = str(write_polygons(tmp_path / "thin.gpkg", [thread])), SplitConfig(val=0, test=0)
    with pytest.raises(
        DataError, match=r"1 lake lies in the scenes, but none covers the centre of a pixel.*all_touched"
    ):
        prepare(dataset, 32, tmp_path / "data", progress=False)
    dataset.all_touched = True
    store = prepare(dataset, 32, tmp_path / "data", progress=False)
    assert int((np.asarray(store.labels) == 1).sum()) == 1


def test_limits_from_a_sample_and_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many blocks as there are give the exact limits and so the same tiles; fewer give nearly these, in one pass."""
    dataset = world(tmp_path)
    for i in range(4):
        grown = np.random.default_rng(i).normal(2000, 300, (3, 1024, 1024)).astype(np.uint16)
        grown[:, :, 1000:] = 0
        path, west = tmp_path / f"s{i}.tif", WEST + i * 20_000
        write_scene(path, pixels=grown, west=west, nodata=0, tiled=True, blockxsize=256, blockysize=256)
    exact = prepare(dataset, 64, tmp_path / "data", progress=False)
    dataset.stretch = StretchConfig(sample_blocks=99)
    passes: list[str] = []
    decode = strips.read_strips
    monkeypatch.setattr(
        strips, "read_strips", lambda scene, *rest: (passes.append(scene.name), decode(scene, *rest))[1]
    )
    every = prepare(dataset, 64, tmp_path / "data", progress=False)
    assert every.path != exact.path and sorted(passes) == ["s0", "s1", "s2", "s3"]
    assert every.data_hash == exact.data_hash and every.manifest["stretch"] == exact.manifest["stretch"]
    assert every.manifest["dropped"] == exact.manifest["dropped"]
    for name in ("index.parquet", "inventory.parquet"):
        assert (every.path / name).read_bytes() == (exact.path / name).read_bytes()
    dataset.stretch = StretchConfig(sample_blocks=2)
    few = prepare(dataset, 64, tmp_path / "data", progress=False)
    again = prepare(dataset, 64, tmp_path / "b", progress=False, crew=Crew(workers=2))
    assert bytes_of(few) == bytes_of(again)
    near = [np.array([s.manifest["stretch"][f"s{i}"]["low"] for i in range(4)]) for s in (exact, few)]
    assert 0 < np.abs(near[0] - near[1]).max() < 15
    dataset.stretch, dataset.empty_share = StretchConfig(sample_blocks=2, scope=StretchScope.sensor), 0.5
    shared = prepare(dataset, 64, tmp_path / "data", progress=False)
    assert len({str(limits) for limits in shared.manifest["stretch"].values()}) == 1
    assert (shared.index["lake_fraction"] == 0).any()
