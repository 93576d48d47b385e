"""`glidexp ui`: MLflow's pages on a store, at 127.0.0.1, opened in the model-training view."""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from glidexp.config import PathsConfig, TrackingConfig
from glidexp.config.stored import without_secrets
from glidexp.errors import TrackingError
from glidexp.signals import sigterm_as_ctrl_c
from glidexp.tracking.database import database_path, is_server
from glidexp.tracking.multirun import experiment_link
from glidexp.tracking.store import Store, open_store, tracking_uri

HOST = "127.0.0.1"
START_S = 90
"""seconds the pages may take to appear"""
SERVER_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runners take 2 GB and serve language-model applications
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}


def serve(
    uri: str | None = None, mlruns: str | Path = "mlruns", port: int = 5000, *, say: Callable[[str], None] = print
) -> int:
    """Serves the pages until Ctrl-C or SIGTERM.

    Args:
        uri: tracking address; the sqlite database in `mlruns` when not given
        mlruns: folder of the store; it must hold one, unless `uri` is given
        port: at 127.0.0.1
        say: told the link, once the pages are there

    Returns:
        exit code: 0 after Ctrl-C, 1 when the server ended by itself

    What the server prints goes to ui.log in the store's folder, or beside it where nothing may be written there.

    Raises:
        TrackingError: the port is taken, there is no store, or it is a server that has pages of its own
    """
    folder = Path(mlruns)
    address = tracking_uri(TrackingConfig(uri=uri), PathsConfig(mlruns=str(folder)))
    if is_server(address):
        raise TrackingError(f"{without_secrets(address)} is a server with pages of its own: open it in a browser.")
    database = database_path(address)
    if not uri and database is not None and not database.exists():
        raise TrackingError(
            f"{folder}/mlflow.db does not exist: train first, or give the store's folder with --mlruns."
        )
    refuse_busy(port)
    store = open_store(address, folder, read=True)
    log = store.mlruns / "ui.log"
    if not os.access(store.mlruns, os.W_OK):
        log = Path(tempfile.mkdtemp(prefix="glidexp-")) / log.name
    with log.open("wb") as output:
        # the address may hold a password: whoever is on this machine reads command lines, nobody else's environment
        environment = os.environ | SERVER_ENVIRONMENT | {"MLFLOW_BACKEND_STORE_URI": address}
        server = subprocess.Popen(command(store.mlruns, port), env=environment, stdout=output, stderr=output)
    try:
        with sigterm_as_ctrl_c():  # else the server would outlive this process
            return _watched(server, store, port, say, log)
    except KeyboardInterrupt:
        return 0
    finally:
        stop(server)


def _watched(server: "subprocess.Popen[bytes]", store: Store, port: int, say: Callable[[str], None], log: Path) -> int:
    """Tells the links once the pages are there, and waits for their end."""
    say(f"Starting MLflow's pages at http://{HOST}:{port} ...")
    if not _wait_until_up(server, port):
        say(f"MLflow's pages did not start: {log} tells why.")
        return 1
    base = f"http://{HOST}:{port}"
    for experiment in store.client.search_experiments(order_by=["last_update_time DESC"]):
        if experiment.name != "Default":
            say(f"{experiment.name}: {experiment_link(base, experiment.experiment_id)}")
    say(f"All experiments: {base}/#/experiments?workflowType=machine_learning   (Ctrl-C ends)")
    return 1 if server.wait() else 0


def command(mlruns: Path, port: int) -> list[str]:
    """The server's command line: one worker, this machine only, artifacts served from where the runs put them."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--default-artifact-root", str(mlruns / "artifacts")),
        *("--workers", "1", "--host", HOST, "--port", str(port)),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def refuse_busy(port: int) -> None:
    """MLflow ends with exit code 0 on a taken port, so it is tried before.

    Raises:
        TrackingError: the port is taken, or is none
    """
    if not 0 < port < 65536:
        raise TrackingError(f"--port={port} is no port: give one between 1 and 65535.")
    with socket.socket() as probe:
        # As servers do: a port that a closed server has just left counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(
                f"port {port} at {HOST} is taken ({error.strerror}): end what uses it, or give another with"
                f" --port {port + 1 if port < 65535 else 5001}."
            ) from error


def stop(server: "subprocess.Popen[bytes]", patience_s: float = 10) -> None:
    """Ends the server and its worker: SIGTERM, and SIGKILL when it does not listen."""
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(patience_s)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _wait_until_up(server: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False
