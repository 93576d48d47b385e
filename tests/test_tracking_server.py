"""A real MLflow server: runs go there, its death stops nothing, and `glidexp ui` starts and ends one."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

from glidexp.tracking import ui
from glidexp.tracking.found import fetch_file, tracked_run
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store

pytestmark = pytest.mark.slow

SERVE = "import sys; from glidexp.tracking.ui import serve; sys.exit(serve(mlruns=sys.argv[1], port=int(sys.argv[2])))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def pages(tmp_path: Path) -> "Iterator[tuple[subprocess.Popen[str], int, list[str]]]":
    """`glidexp ui` at work on a store with one experiment, its port, and what it said."""
    mlruns = tmp_path / "mlruns"
    open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns).experiment_id("first")
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    job = subprocess.Popen(
        [warm.python(), "-u", "-c", SERVE, str(mlruns), str(port)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert job.stdout is not None
    said = []
    while not said or "Ctrl-C" not in said[-1]:
        said.append(job.stdout.readline().strip())
        assert said[-1], "it ended before the pages were there"
    yield job, port, said
    if job.poll() is None:
        job.kill()
    job.wait()
    job.stdout.close()


def test_pages_and_server(
    pages: "tuple[subprocess.Popen[str], int, list[str]]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, port, said = pages
    base = f"http://127.0.0.1:{port}"
    assert f"first: {base}/#/experiments/1/runs?workflowType=machine_learning" in said
    with urllib.request.urlopen(base) as page:
        assert re.search(r"<title>MLflow", page.read().decode())

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = open_store(base, tmp_path / "client")
    with Run.start(store, experiment="first", run_name="r", config_flat={"seed": 0}, config_id="abc") as run:
        run.metrics({"val/f1_pooled": 0.5}, 0)
        run.text("hello", "note.txt")
        assert run.flush()
    found = store.find_run("abc", "first")
    assert found is not None
    assert (found.status, found.metrics) == ("FINISHED", {"val/f1_pooled": 0.5})
    assert [file.path for file in store.client.list_artifacts(run.run_id)] == ["note.txt"]
    assert fetch_file(store, tracked_run(store, run.run_id), "note.txt", tmp_path / "copy").read_text() == "hello"
    assert not list((tmp_path / "client").glob("artifacts")), "the server keeps the files"

    with Run.start(store, experiment="first", run_name="orphan", config_flat={}) as orphan:
        assert orphan.flush()
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 0
        with pytest.raises(OSError):
            urllib.request.urlopen(base, timeout=5)
        orphan.metrics({"val/f1_pooled": 0.5}, 0)  # nothing raises, neither here nor at the end
    ui.refuse_busy(port)


def test_server_that_cannot_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlruns = tmp_path / "mlruns"
    open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(ui, "command", lambda *arguments: [sys.executable, "-c", "raise SystemExit('no')"])
    said: list[str] = []
    assert ui.serve(mlruns=mlruns, port=free_port(), say=said.append) == 1
    assert "ui.log" in said[-1]
    assert (mlruns / "ui.log").read_text().strip() == "no"
