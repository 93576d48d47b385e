"""The store: made once by many, refused in one line when it is not what it should be."""

import http.server
import json
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import warm

from glidexp.config import PathsConfig, TrackingConfig
from glidexp.errors import ConfigError, TrackingError
from glidexp.tracking import environment, models, multirun, ui
from glidexp.tracking import store as store_module
from glidexp.tracking.database import make_database
from glidexp.tracking.found import finished_runs
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store, open_store, tracking_uri
from glidexp.tracking.sync import sync


@pytest.fixture(autouse=True)
def _no_address_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of this MLflow: building one takes seconds, copying it nothing."""
    mlruns = tmp_path_factory.mktemp("template") / "mlruns"
    open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)
    return mlruns / "mlflow.db"


@pytest.fixture
def mlruns(database: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copyfile(database, folder / "mlflow.db")
    return folder


def uri_of(mlruns: Path) -> str:
    return tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns)))


def one_line(error: pytest.ExceptionInfo[TrackingError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_address_is_setting_then_environment_then_own_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    paths = PathsConfig(mlruns="runs")
    assert tracking_uri(TrackingConfig(), paths) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert tracking_uri(TrackingConfig(), paths) == "http://elsewhere:5000"
    assert tracking_uri(TrackingConfig(uri="sqlite:///my.db"), paths) == f"sqlite:///{tmp_path}/my.db"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "/abs/mlruns", "file:///abs/mlruns"])
def test_a_plain_folder_is_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match="plain folder") as error:
        tracking_uri(TrackingConfig(uri=uri), PathsConfig())
    assert uri in one_line(error)


def test_no_mlflow_before_a_store_is_opened() -> None:
    code = (
        "import sys; from glidexp.tracking import model, multirun, run, store, ui;"
        " print([m for m in ('mlflow', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FRESH = """
import os, sys, traceback
from pathlib import Path
from glidexp.config import PathsConfig, TrackingConfig
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store, warm_up, tracking_uri
mlruns = Path(sys.argv[1])

def write(number):
    store = open_store(tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(mlruns))), mlruns)
    with Run.start(store, experiment="race", run_name=number, config_flat={"seed": number}) as run:
        for step in range(5):
            run.metrics({"val/lake_iou_pooled": step / 10}, step)
    os.write(1, f"{run.experiment_id}\\n".encode())

warm_up()  # once; the writers are forks
children = []
for number in "012345":
    child = os.fork()
    if child:
        children.append(child)
        continue
    try:
        write(number)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(99)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.slow
def test_six_processes_at_once_on_a_fresh_store(tmp_path: Path) -> None:
    mlruns = tmp_path / "with space # and ü" / "mlruns"
    command = [warm.python(), "-c", FRESH, str(mlruns)]
    job = subprocess.run(command, capture_output=True, cwd=tmp_path, text=True, timeout=300, check=False)
    *experiments, codes = job.stdout.splitlines()
    assert codes == str([0] * 6), job.stderr
    assert len(experiments) == 6 and len(set(experiments)) == 1, "one experiment, not one a process"
    assert job.stderr == "", "nothing on the terminal"
    store = open_store(uri_of(mlruns), mlruns)
    found = store.client.search_runs([experiments[0]])
    assert sorted(run.data.params["seed"] for run in found) == list("012345")
    assert {run.info.status for run in found} == {"FINISHED"}
    assert all(len(store.client.get_metric_history(run.info.run_id, "val/lake_iou_pooled")) == 5 for run in found)
    assert sorted(path.name for path in mlruns.iterdir()) == [".store.lock", "mlflow.db"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["with space # and ü"], "no ./mlruns in passing"


def test_old_file_store_is_refused(mlruns: Path) -> None:
    (mlruns / "0").mkdir()
    (mlruns / "0" / "meta.yaml").write_text("name: Default\n")
    with pytest.raises(TrackingError, match="old file format") as error:
        open_store(uri_of(mlruns), mlruns)
    assert str(mlruns / "0") in one_line(error)


def test_database_of_a_newer_mlflow_is_refused(mlruns: Path) -> None:
    set_revision(mlruns / "mlflow.db", "ffffffffffff")
    with pytest.raises(TrackingError, match="use the newer MLflow that wrote it") as error:
        open_store(uri_of(mlruns), mlruns)
    assert "ffffffffffff" in one_line(error)


def test_database_of_an_older_mlflow_is_refused_and_left_alone(mlruns: Path) -> None:
    set_revision(mlruns / "mlflow.db", "90e64c465722")
    before = (mlruns / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match="mlflow db upgrade") as error:
        open_store(uri_of(mlruns), mlruns)
    one_line(error)
    assert (mlruns / "mlflow.db").read_bytes() == before


HOT = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size=1")  # so that half of the write is in the file
connection.execute("BEGIN")
for number in range(2000):
    connection.execute("INSERT INTO experiment_tags VALUES (?, ?, 0)", [str(number), "x" * 1000])
os.kill(os.getpid(), 9)
"""


def test_a_database_whose_writer_was_killed_opens(mlruns: Path) -> None:
    subprocess.run([sys.executable, "-c", HOT, str(mlruns / "mlflow.db")], check=False)
    assert (mlruns / "mlflow.db-journal").stat().st_size > 0
    assert open_store(uri_of(mlruns), mlruns).client.search_experiments()


def set_revision(database: Path, revision: str) -> None:
    connection = sqlite3.connect(database)
    connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    connection.commit()
    connection.close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to have a header" * 10, b""])
def test_another_file_in_its_place_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(TrackingError, match="is not a database of MLflow") as error:
        open_store(uri_of(tmp_path), tmp_path)
    one_line(error)


def test_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(TrackingError, match="does not answer") as error:
        open_store(f"http://name:secret@127.0.0.1:{port}", tmp_path)
    assert "secret" not in one_line(error)


@pytest.fixture
def other_server() -> Iterator[int]:
    """A web server that knows nothing of MLflow."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_server_that_is_not_mlflow(other_server: int, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="not as MLflow"):
        open_store(f"http://127.0.0.1:{other_server}", tmp_path)


def test_experiment_is_marked_and_its_artifacts_lie_under_mlruns(mlruns: Path) -> None:
    store = open_store(uri_of(mlruns), mlruns)
    found = store.client.get_experiment(store.experiment_id("a/b"))
    assert found.tags["mlflow.experimentKind"] == "custom_model_development"
    assert found.artifact_location == (mlruns / "artifacts" / "a_b").as_uri()
    assert store.experiment_id("a/b") == found.experiment_id


@pytest.mark.parametrize(("name", "folder"), [("..", "_"), ("../up", "_up"), ("n" * 300, "n" * 100)])
def test_artifacts_of_an_odd_experiment_lie_under_mlruns_too(name: str, folder: str, mlruns: Path) -> None:
    store = open_store(uri_of(mlruns), mlruns)
    found = store.client.get_experiment(store.experiment_id(name))
    assert found.artifact_location == (mlruns / "artifacts" / folder).as_uri()


def test_a_file_that_a_run_has_not_leaves_no_database_where_it_is_asked_for(
    mlruns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow's client makes one for a nested name, of a run with a model."""
    from mlflow.entities import LoggedModelOutput

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = open_store(uri_of(mlruns), mlruns)
    experiment = store.experiment_id("glidexp")
    run_id = store.client.create_run(experiment).info.run_id
    model = store.client.create_logged_model(experiment, name="model", source_run_id=run_id)
    store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    assert models.read_text(store, run_id, "model/card.json", tmp_path) is None
    assert list(Path().iterdir()) == []


def test_deleted_experiment_is_said(mlruns: Path) -> None:
    store = open_store(uri_of(mlruns), mlruns)
    store.client.delete_experiment(store.experiment_id("gone"))
    store = open_store(uri_of(mlruns), mlruns)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        store.experiment_id("gone")


@pytest.fixture
def store(mlruns: Path) -> Store:
    return open_store(uri_of(mlruns), mlruns)


def begin(store: Store, config_id: str, status: str) -> str:
    run = Run.start(store, experiment="e", run_name="r", config_flat={}, config_id=config_id)
    run.metrics({"test/lake_iou_pooled": 0.5}, 0)
    run.flush()
    if status != "RUNNING":
        run.finish(status)
    else:
        run._writer.close()
    return run.run_id


def test_find_run(store: Store) -> None:
    assert store.find_run("x", "e") is None
    assert store.client.get_experiment_by_name("e") is None, "looking makes nothing"
    killed = begin(store, "x", "KILLED")
    found = store.find_run("x", "e")
    assert found is not None
    assert (found.run_id, found.status, found.alive) == (killed, "KILLED", False)
    finished = begin(store, "x", "FINISHED")
    begin(store, "x", "FAILED")
    begin(store, "y", "FINISHED")
    found = store.find_run("x", "e")
    assert found is not None
    assert (found.run_id, found.status) == (finished, "FINISHED"), "a finished one comes before a later failed one"
    assert found.metrics == {"test/lake_iou_pooled": 0.5}
    assert store.find_run("z", "e") is None


def test_parent_holds_its_children(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIDEXP_PARENT_RUN", raising=False)
    parent = multirun.open_parent(store, experiment="e", name="m", overrides=["seed=0,1"])
    assert multirun.parent_run_id() == parent
    for name in ("seed=0", "seed=1"):
        with Run.start(store, experiment="e", run_name=name, config_flat={}, parent_run_id=multirun.parent_run_id()):
            pass
    assert list((multirun.children(store, "e", parent) or {}).values()) == ["FINISHED", "FINISHED"]
    multirun.close_parent(store, parent, "FAILED", "1 of 2 jobs failed")
    assert multirun.parent_run_id() is None
    ended = store.client.get_run(parent)
    assert ended.info.status == "FAILED"
    assert ended.data.tags["glidexp.error"] == "1 of 2 jobs failed"


def test_parent_of_a_store_that_went_away_ends_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = multirun.open_parent(store, experiment="e", name="m", overrides=["seed=0,1"])

    def away(*arguments: object, **settings: object) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as gone:
        for call in ("search_runs", "set_tag", "set_terminated"):
            gone.setattr(store.client, call, away)
        assert multirun.children(store, "e", parent) is None
        multirun.close_parent(store, parent, "FAILED", "a job failed")
    assert sync(mlruns=store.mlruns, say=lambda line: None) == 0
    ended = store.client.get_run(parent)
    assert (ended.info.status, ended.data.tags["glidexp.error"]) == ("FAILED", "a job failed")


def test_swept_keys_are_those_of_more_than_one_value() -> None:
    typed = ["backbone=resnet18,mobilenetv3", "seed=0,1", "train.epochs=3", "sensor_mix.sensors=[a,b]"]
    assert multirun.swept_keys(typed) == ["backbone", "seed"]


def test_comparison_link() -> None:
    link = multirun.comparison_link("sqlite:////a/mlflow.db", "7", ["aa", "bb"])
    assert link.startswith("http://127.0.0.1:5000/#/compare-runs?")
    query = urllib.parse.parse_qs(link.partition("?")[2])
    assert json.loads(query["runs"][0]) == ["aa", "bb"]
    assert json.loads(query["experiments"][0]) == ["7"]
    assert query["workflowType"] == ["machine_learning"]
    assert " " not in link and '"' not in link
    assert multirun.comparison_link("https://u:p@host/ml/", "7", ["aa"]).startswith("https://host/ml/#/compare-runs?")
    assert "glidexp ui --mlruns /a`" in multirun.ui_hint("sqlite:////a/mlflow.db")
    assert multirun.ui_hint(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db") == "start `glidexp ui` first"
    assert multirun.ui_hint("sqlite:////a/mlflow.db") and not multirun.ui_hint("http://host")


def test_busy_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match=f"port {port} .* --port") as error:
            ui.refuse_busy(port)
        one_line(error)
    ui.refuse_busy(port)
    with pytest.raises(TrackingError, match="no port"):
        ui.refuse_busy(70000)


def test_ui_without_a_store_is_said_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not exist"):
        ui.serve(mlruns=tmp_path / "mlruns")
    assert not (tmp_path / "mlruns").exists()
    with pytest.raises(TrackingError, match="pages of its own"):
        ui.serve(uri="http://127.0.0.1:1")


def test_git_state_of_a_repository(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *arguments], cwd=tmp_path, check=True)

    assert environment.git_state(tmp_path) is None
    git("init", "-q")
    assert environment.git_state(tmp_path) is None, "no commit yet"
    (tmp_path / "a").write_text("one\n")
    git("add", "a")
    git("commit", "-q", "-m", "a")
    clean = environment.git_state(tmp_path)
    assert clean is not None and len(clean.commit) == 40
    assert (clean.dirty, clean.diff) == (False, "")
    (tmp_path / "a").write_text("two\n" * 500_000)
    dirty = environment.git_state(tmp_path)
    assert dirty is not None and dirty.dirty
    assert "-one\n+two\n" in dirty.diff and dirty.diff.endswith("bytes\n")
    assert len(dirty.diff) < environment.DIFF_LIMIT_BYTES + 100


def test_runs_are_told_as_made_with_the_code_that_was_loaded_not_with_what_was_committed_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from glidexp.study.execution import work
    from glidexp.tracking import store

    monkeypatch.setattr(work, "LATE", ())
    monkeypatch.setattr(store, "warm_up", lambda: None)
    monkeypatch.setattr(store, "import_pyfunc", lambda: None)
    environment.own_code.cache_clear()
    try:
        monkeypatch.setattr(environment, "git_state", lambda: environment.GitState("a" * 40, "main", False, ""))
        work.preload()  # in the process that the runs of a study are forked from, for as long as it lasts
        monkeypatch.setattr(environment, "git_state", lambda: environment.GitState("b" * 40, "main", False, ""))
        code = environment.own_code()
        assert code is not None and code.commit == "a" * 40
    finally:
        environment.own_code.cache_clear()


def test_requirements_name_what_is_installed() -> None:
    lines = environment.requirements().splitlines()
    assert any(line.startswith("torch==") for line in lines)
    assert lines == sorted(set(lines), key=str.lower)


@pytest.mark.parametrize("wrong", [{"images_every": 0}, {"probe_tiles": -1}, {"experiment": " "}])
def test_settings_out_of_range_are_said(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"tracking.{next(iter(wrong))}"):
        TrackingConfig(**wrong)


def test_a_parent_has_all_its_children_however_many(mlruns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(uri_of(mlruns), mlruns)
    monkeypatch.setattr(models, "A_PAGE", 2)
    parent = multirun.open_parent(store, experiment="many", name="sweep", overrides=[])
    experiment, tags = store.experiment_id("many"), {"mlflow.parentRunId": parent}
    made = [store.client.create_run(experiment, start, tags, "r").info.run_id for start in range(1, 6)]
    store.client.create_run(experiment, 1, tags={"mlflow.parentRunId": "another"})
    found = multirun.children(store, "many", parent)
    assert found is not None and list(found) == made
    assert finished_runs(store, [parent]) == ([], [f"{one[:12]} (r) is RUNNING and left out" for one in made])
    multirun.close_parent(store, parent, "FINISHED")


def test_a_database_that_the_disk_has_no_room_for_is_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(store_module, "make_database", make_database)  # not the copy that tests are given
    uri = tracking_uri(TrackingConfig(), PathsConfig(mlruns=str(tmp_path / "mlruns")))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        with pytest.raises(
            TrackingError, match=r"mlflow\.db cannot be made \(.*(disk|full).*\): make room, or give an"
        ):
            open_store(uri, tmp_path / "mlruns")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capfd.readouterr().err == ""
    assert [path.name for path in (tmp_path / "mlruns").iterdir()] == [".store.lock"]
    for ending in ("new", "new-journal"):
        (tmp_path / "mlruns" / f"mlflow.db.1.{ending}").touch()  # of a process that was killed as it made one
    open_store(uri, tmp_path / "mlruns")
    assert {path.name for path in (tmp_path / "mlruns").iterdir()} == {".store.lock", "mlflow.db"}
