"""A real `mlflow server`, on sqlite and on PostgreSQL: written to by eight at once, killed, hung, deaf, and back."""

import hashlib
import re
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from runs import small_config, undrawn
from servers import MlflowServer, Wire, postgres
from urllib3.connectionpool import HTTPConnectionPool

from glidexp.config import Config
from glidexp.errors import TrackingError
from glidexp.tracking import verb_sync, writer
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store, open_store
from glidexp.tracking.sync import sync
from glidexp.training import run as training
from glidexp.training.progress import Meter

pytestmark = pytest.mark.slow

END_METRICS = 400
"""about as many as the final scoring of a small run gives"""


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp("sqlite")
    open_store(f"sqlite:///{folder}/mlflow.db", folder)  # sooner made than by the server
    server = MlflowServer(f"sqlite:///{folder}/mlflow.db", folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with postgres() as address:
        server = MlflowServer(address, tmp_path_factory.mktemp("postgres"))
        server.start()
        yield server
        server.kill()


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def server(request: pytest.FixtureRequest) -> MlflowServer:
    """Each of them in turn: how they take what is written twice, or half, differs."""
    found: MlflowServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def wire(on_sqlite: MlflowServer) -> Iterator[Wire]:
    wire = Wire(on_sqlite.port)
    yield wire
    wire.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # the servers share a few cores with other tests
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("glidexp.tracking.store.ANSWER_S", 2)
    monkeypatch.setattr(writer.Writer.__init__, "__kwdefaults__", {"beat": None, "pause_s": 0.1})


def begin(store: Store, **settings: Any) -> Run:
    return Run.start(store, **({"experiment": "e", "run_name": "r", "config_flat": {"seed": 0}} | settings))


def log_step(run: Run, step: int) -> None:
    run.metrics({f"val/{key}": step + key for key in range(20)}, step)
    run.text(str(step), f"notes/{step}.txt")
    run.image("probe/0", np.full((8, 8, 3), step, np.uint8), step)


def log_end(run: Run, folder: Path) -> None:
    """What a run leaves at its end, in the numbers of a real one."""
    run.metrics({f"test/{key}": key / 7 for key in range(END_METRICS)}, 4)
    (folder / "masks").mkdir(parents=True)
    for number in range(4):
        (folder / "masks" / f"{number}.tif").write_bytes(bytes([number]) * 5000)
    (folder / "weights.safetensors").write_bytes(bytes(2_000_000))
    run.artifact(folder / "masks")
    run.artifact(folder / "weights.safetensors", "model")


def check_end(server: MlflowServer, run_id: str, folder: Path) -> None:
    """Everything that `log_end` gave is there once."""
    client = open_store(server.uri, folder).client
    held = client.get_run(run_id)
    test = {key: value for key, value in held.data.metrics.items() if key.startswith("test/")}
    assert test == {f"test/{key}": key / 7 for key in range(END_METRICS)}
    assert len(client.get_metric_history(run_id, "test/7")) == 1
    masks = {Path(file.path).name: file.file_size for file in client.list_artifacts(run_id, "masks")}
    assert masks == {f"{number}.tif": 5000 for number in range(4)}
    assert [file.file_size for file in client.list_artifacts(run_id, "model")] == [2_000_000]


def check_whole(server: MlflowServer, run_id: str, folder: Path, steps: int) -> None:
    """Everything that `log_step` gave is there once, and the run is finished."""
    client = open_store(server.uri, folder).client
    assert client.get_run(run_id).info.status == "FINISHED"
    for key in (0, 19):
        history = client.get_metric_history(run_id, f"val/{key}")
        assert sorted((metric.step, metric.value) for metric in history) == [(n, n + key) for n in range(steps)]
    notes = [Path(file.path).name for file in client.list_artifacts(run_id, "notes")]
    assert sorted(notes) == sorted(f"{step}.txt" for step in range(steps))
    pictures = [Path(file.path).name for file in client.list_artifacts(run_id, "images")]
    seen = Counter((name.split("+")[2], Path(name).suffix) for name in pictures)
    assert seen == {(str(step), suffix): 1 for step in range(steps) for suffix in (".png", ".webp")}


EIGHT = """
import os, sys, traceback
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_tracking_outage import begin, log_end, log_step
from glidexp.tracking.store import import_mlflow, open_store

import_mlflow()  # once; the writers are forks
children = []
for number in range(8):
    child = os.fork()
    if child:
        children.append(child)
        continue
    try:
        with begin(open_store(sys.argv[1], Path(sys.argv[2])), experiment="eight", config_flat={"seed": number}) as run:
            for step in range(3):
                log_step(run, step)
            run.dataset_input("synthetic", digest="f", context="train", source="/a")
            log_end(run, Path(sys.argv[2], "made", str(number)))
        os._exit(run.waiting + run.lost)
    except BaseException:
        traceback.print_exc()
        os._exit(99)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.parametrize("backend", ["on_sqlite", "on_postgres"])
def test_eight_write_at_once(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: MlflowServer = request.getfixturevalue(backend)
    command = [warm.python(), "-c", EIGHT, server.uri, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([0] * 8), done.stderr
    client = open_store(server.uri, tmp_path).client
    runs = client.search_runs([client.get_experiment_by_name("eight").experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == list("01234567")
    assert all(len(run.inputs.dataset_inputs) == 1 for run in runs)
    for run in runs:
        check_whole(server, run.info.run_id, tmp_path, 3)
        check_end(server, run.info.run_id, tmp_path)
    assert not (tmp_path / "spool").exists()


def test_server_killed_and_back(on_postgres: MlflowServer, tmp_path: Path) -> None:
    """On sqlite a whole training meets it, below."""
    store = open_store(on_postgres.uri, tmp_path)
    run = begin(store)
    log_step(run, 0)
    assert run.flush()
    log_step(run, 1)
    on_postgres.kill()  # at whatever it was just doing
    for step in range(2, 6):
        log_step(run, step)
    assert not run.flush(30)
    on_postgres.start()
    for step in range(6, 8):
        log_step(run, step)
    run.finish()
    assert (run.waiting, run.lost) == (0, 0)
    check_whole(on_postgres, run.run_id, tmp_path, 8)
    assert not (tmp_path / "spool").exists()


def test_server_hung_and_back(server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try waits in it, is given up here, and is written as it goes on: all of them, and once is meant."""
    store = open_store(server.uri, tmp_path)
    run = begin(store)
    log_step(run, 0)
    assert run.flush()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with server.hung():
        for step in range(1, 4):
            log_step(run, step)
        assert not run.flush(3)
        with pytest.raises(TrackingError, match="does not answer"):
            open_store(server.uri, tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    run.finish()
    assert (run.waiting, run.lost) == (0, 0)
    check_whole(server, run.run_id, tmp_path, 4)
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("mode", ["hang", "cut"])
def test_server_away_at_the_end(
    mode: str,
    on_sqlite: MlflowServer,
    wire: Wire,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_store(wire.uri, tmp_path)
    run = begin(store, config_id=mode)
    log_step(run, 0)
    assert run.flush()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    wire.set(mode)
    for step in range(1, 4):
        log_step(run, step)
    began = time.monotonic()
    run.finish()
    assert time.monotonic() - began < 45, "two tries, each as long as the client's limits"
    assert run.waiting == 10 and run.lost == 0
    assert "`glidexp sync --mlruns" in caplog.text
    said: list[str] = []
    assert sync(mlruns=tmp_path, say=said.append) == 1
    assert said[-1].split()[:3] == [run.run_id, "0", "10"] and "does not answer" in said[-1]
    with pytest.raises(TrackingError, match="does not answer"):
        open_store(wire.uri, tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    if mode == "hang":
        wire.set("pass")
        assert sync(mlruns=tmp_path, say=said.append) == 0
    else:  # gone for good: the same server at another address, from a process that knows nothing of the first
        command = [warm.python(), "-m", "glidexp", "sync", "--mlruns", str(tmp_path), "--uri", on_sqlite.uri]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        said.extend(done.stdout.splitlines())
    assert said[-1].split() == [run.run_id, "10", "0"]
    check_whole(on_sqlite, run.run_id, tmp_path, 4)
    assert not (tmp_path / "spool").exists()


def test_answers_that_get_lost_double_nothing(server: MlflowServer, tmp_path: Path) -> None:
    with closing(Wire(server.port)) as wire:
        run = begin(open_store(wire.uri, tmp_path))
        assert run.flush()
        wire.set("deaf")
        for step in range(3):
            log_step(run, step)
            run.dataset_input("synthetic", digest="f", context="train", source="/a")
            time.sleep(0.5)  # tried again and again; each try is written, none is answered
        wire.set("pass")
        run.finish()
    assert (run.waiting, run.lost) == (0, 0)
    check_whole(server, run.run_id, tmp_path, 3)
    held = open_store(server.uri, tmp_path).client.get_run(run.run_id)
    assert len(held.inputs.dataset_inputs) == 1


MADE_BY_TIME = re.compile(r"\+timestamp\+\d+\+[0-9a-f-]+")
OF_THE_CLOCK = {"train/images_per_s"}
SAME_BYTES = {".tif", ".png", ".webp", ".parquet", ".csv", ".safetensors", ".yaml", ".txt"}
EPOCHS = 5
OWN_TAGS = {"glidexp.process", "glidexp.heartbeat"}
"""tags whose values each run has for itself"""


def left(server: MlflowServer, run_id: str) -> dict[str, Any]:
    """All that a run left on a server on sqlite: what an undisturbed run of the same settings leaves too.

    Of values that the clock or the run's own name is in, their names alone.
    """
    held: dict[str, Any] = {}
    with closing(sqlite3.connect(server.folder / "mlflow.db")) as base:

        def rows(text: str) -> list[Any]:
            return base.execute(text, [run_id]).fetchall()

        points = rows("SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step")
        held["points"] = [(key, step, None if key in OF_THE_CLOCK else value) for key, step, value in points]
        held["params"] = dict(rows("SELECT key, value FROM params WHERE run_uuid = ?"))
        held["tags"] = dict(rows("SELECT key, value FROM tags WHERE run_uuid = ?"))
        [(held["status"], place)] = rows("SELECT status, artifact_uri FROM runs WHERE run_uuid = ?")
        held["inputs"] = rows("SELECT source_type, destination_type FROM inputs WHERE destination_id = ? ORDER BY 1, 2")
        models = rows("SELECT model_id FROM logged_models WHERE source_run_id = ?")
    own = server.folder / "artifacts" / place.partition("mlflow-artifacts:/")[2]
    found = [(MADE_BY_TIME.sub("", str(file.relative_to(own))), file) for file in own.rglob("*") if file.is_file()]
    for (model,) in models:
        inside = own.parent.parent / "models" / model
        found += [(f"model/{file.relative_to(inside)}", file) for file in inside.rglob("*") if file.is_file()]
    held["files"] = {
        name: hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix in SAME_BYTES else ""
        for name, file in sorted(found)
    }
    assert len(held["files"]) == len(found), "a file was made twice"
    return held


class Course:
    """One training with a server that is killed in its second epoch and, if wanted, back in the last; what it met."""

    def __init__(self, server: MlflowServer, patches: pytest.MonkeyPatch, *, back: bool) -> None:
        self.steps = 0
        self.alone: list[int] = []
        """epochs that ended while the server was away"""
        self.waited: list[str] = []
        """what the steps waited for, and what went over the network in their thread"""
        self._away, self._training, self._batches = False, False, 0
        real_start, real_step, real_line, real_fit = Meter.start_epoch, Meter.step, Meter.epoch_line, training.fit

        def start(meter: Meter, epoch: int, *, done: int) -> None:
            self._batches = meter.batches
            real_start(meter, epoch, done=done)

        def step(meter: Meter, *args: Any) -> None:
            real_step(meter, *args)
            self.steps += 1
            if self.steps == self._batches * 3 // 2:
                server.kill()
                self._away = True
            if back and self.steps == self._batches * (EPOCHS - 1) + 1:
                self._away = False
                server.start()

        def line(meter: Meter, epoch: int, *args: Any) -> None:
            real_line(meter, epoch, *args)
            self.alone += [epoch] * self._away

        def fit(*args: Any, **kwargs: Any) -> None:
            self._training = True
            real_fit(*args, **kwargs)
            self._training = False

        patches.setattr(Meter, "start_epoch", start)
        patches.setattr(Meter, "step", step)
        patches.setattr(Meter, "epoch_line", line)
        patches.setattr(training, "fit", fit)
        for owner, name in ((HTTPConnectionPool, "urlopen"), (writer.Writer, "flush"), (writer.Writer, "close")):
            patches.setattr(owner, name, self._told(getattr(owner, name), name))
        patches.setattr(writer.Writer.__init__, "__kwdefaults__", {"beat": None, "pause_s": writer.PAUSE_S})

    def _told(self, real: Any, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._training and threading.current_thread() is threading.main_thread():
                self.waited.append(name)
            return real(*args, **kwargs)

        return call


@pytest.fixture(scope="module")
def undisturbed(
    on_sqlite: MlflowServer, small_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, dict[str, Any]]:
    """A training of a server that is there all the time, and what it leaves; the run is deleted then."""
    mlruns = tmp_path_factory.mktemp("whole")
    config = small_config(small_data, mlruns, f"train.epochs={EPOCHS}", f"tracking.uri={on_sqlite.uri}")
    with undrawn():
        run_id = training.run(config, choices={"backbone": "mobilenetv3"}).run_id
    held = left(on_sqlite, run_id)
    open_store(on_sqlite.uri, mlruns).client.delete_run(run_id)
    return config, held


@pytest.mark.parametrize("back", [True, False], ids=["back in training", "back after the end"])
def test_a_training_whose_server_is_killed_loses_nothing(
    back: bool, on_sqlite: MlflowServer, undisturbed: tuple[Config, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pause between two tries that users have. No step waits; all of it is there in the end, once."""
    config, whole = undisturbed
    course = Course(on_sqlite, monkeypatch, back=back)
    with undrawn():
        outcome = training.run(config, choices={"backbone": "mobilenetv3"})
    assert course.alone == ([1, 2, 3] if back else [1, 2, 3, 4])
    assert not course.waited
    if not back:
        on_sqlite.start()
        assert left(on_sqlite, outcome.run_id)["status"] == "RUNNING"
        assert verb_sync.run(["--mlruns", config.paths.mlruns]) == 0
    assert not Path(config.paths.mlruns, "spool").exists()
    held = left(on_sqlite, outcome.run_id)
    client = open_store(on_sqlite.uri, Path(config.paths.mlruns)).client
    client.delete_run(outcome.run_id)  # for the other case
    assert held["status"] == "FINISHED"
    assert len({(key, step) for key, step, _ in held["points"]}) == len(held["points"]) > END_METRICS
    assert held["tags"].keys() == whole["tags"].keys()
    for part in ("points", "params", "inputs", "files"):
        assert held[part] == whole[part], part
    other = {key for key, value in held["tags"].items() if value != whole["tags"][key]}
    assert other <= OWN_TAGS, other
    assert not list(client.search_runs([client.get_experiment_by_name("glidexp").experiment_id])), "another run"


def test_a_training_whose_server_hangs_ends_and_is_shown_once_it_is_back(
    wire: Wire, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = training.fit

    def hang_first(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        wire.set("hang")
        return real(*arguments, **more)

    config = small_config(small_data, tmp_path, "train.epochs=1", f"tracking.uri={wire.uri}")
    monkeypatch.setattr(training, "fit", hang_first)
    outcome = training.run(config, choices={})
    assert "test/f1_pooled" in outcome.metrics
    assert f"of run {outcome.run_id} wait in" in caplog.text
    wire.set("pass")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = training.run(config, choices={})
    assert again.run_id == outcome.run_id
    assert again.metrics["test/f1_pooled"] == outcome.metrics["test/f1_pooled"]
    assert not (tmp_path / "spool").exists()
