"""`glidexp serve`: a model behind HTTP, and a page that draws lakes over a scene."""

import asyncio
import fcntl
import logging
import os
import shutil
import socket
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.errors import ConfigError
from glidexp.mapping.verb_predict import map_options, settings_of
from glidexp.options import Parser
from glidexp.serving.settings import HOST, PORT, ServeSettings
from glidexp.signals import sigterm_as_ctrl_c

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from glidexp.models.load import FoundModel

log = logging.getLogger("glidexp")
GRACE_S = 3
"""seconds that answers under way may take once the server is to end"""
PREFIX = "glidexp-serve-"
"""of the folders of servers"""
YOUNG_S = 60.0
"""seconds for which a folder is left alone"""


def options() -> Parser:
    """What the verb takes."""
    usual = ServeSettings()
    parser = Parser(
        prog="glidexp serve",
        usage="glidexp serve MODEL [options]",
        description="Serves a model at 127.0.0.1: send a scene, get its lakes as GeoJSON, GeoTIFF or PNG; on the page, "
        "drop a scene and see its lakes. Ctrl-C ends it.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="run id, checkpoint (.pt), folder of a bundle, models:/NAME@ALIAS"
    )
    parser.add_argument("--host", default=HOST, help=f"address to listen at (default: {HOST}, this machine alone)")
    parser.add_argument("--port", type=int, default=PORT, help=f"0: any free one (default: {PORT})")
    parser.add_argument(
        "--name", action="append", default=[], metavar="NAME", help="a host name under which it may be called"
    )
    parser.add_argument("--max-mb", type=int, default=usual.max_mb, help=f"of an upload (default: {usual.max_mb})")
    parser.add_argument(
        "--max-mpx", type=float, default=usual.max_mpx, help=f"million pixels of a scene (default: {usual.max_mpx:g})"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=usual.timeout_s,
        metavar="S",
        help=f"for a scene (default: {usual.timeout_s:g} s)",
    )
    parser.add_argument(
        "--queue", type=int, default=usual.queue, metavar="N", help=f"scenes that may wait (default: {usual.queue})"
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=usual.keep_min,
        metavar="MIN",
        help=f"minutes of a map (default: {usual.keep_min:g})",
    )
    parser.add_argument(
        "--folder", metavar="DIR", help="where uploads and maps lie meanwhile (default: the system's own)"
    )
    map_options(parser)
    return parser


def run(argv: list[str]) -> int:
    """Serves until Ctrl-C or SIGTERM; gives the exit code."""
    given = options().parse_args(argv)
    if given.sensors_file:
        from glidexp.data import sensors

        sensors.register_file(given.sensors_file)
    settings = ServeSettings(
        maps=settings_of(given),
        sensor=given.sensor,
        glaciers=given.glaciers,
        glaciers_layer=given.glaciers_layer,
        dem=given.dem,
        host=given.host,
        port=given.port,
        names=tuple(given.name),
        max_mb=given.max_mb,
        max_mpx=given.max_mpx,
        timeout_s=given.timeout,
        queue=given.queue,
        keep_min=given.keep,
    )
    door = listening(settings.host, settings.port)
    try:
        with sigterm_as_ctrl_c(), own_folder(given.folder) as root:
            return _serve(given, settings, door, root)
    except KeyboardInterrupt:
        return 0
    finally:
        door.close()


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        GlidexpError: the port is taken, or there is no such address
    """
    try:
        (family, kind, _, _, place), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        door = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--host={host} is no address of this machine ({error.strerror}).") from None
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that a server has just left is free
        door.bind(place)
        door.listen(128)
    except OSError as error:
        door.close()
        raise ConfigError(
            f"port {port} at {host} cannot be used ({error.strerror}): end what uses it, or give another with"
            f" --port {port + 1 if port < 65535 else PORT}."
        ) from None
    return door


@contextmanager
def own_folder(above: str | None) -> Iterator[Path]:
    """A new folder for one server, which nobody else may look into and which ends with it; those of servers that were
    killed go too.

    Raises:
        ConfigError: it cannot be made
    """
    try:
        if above:
            Path(above).mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
        lock = os.open(root, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"--folder={above} cannot be written ({error.strerror}): give another.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in root.parent.glob(f"{PREFIX}*"):
            _drop_dead(left)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
        os.close(lock)


def _drop_dead(folder: Path) -> None:
    """Takes a folder away whose server is gone: its lock went with it. One that was just made may not be locked yet."""
    with suppress(OSError):  # of somebody else, or at work
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - folder.stat().st_mtime > YOUNG_S:
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)


def server_of(app: "FastAPI") -> "uvicorn.Server":
    """The server of an application; it is given its socket."""
    import uvicorn

    from glidexp.serving.heads import TimedHeads

    class Server(uvicorn.Server):
        """Tells those who wait that it ends, before it waits for them."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.desk.end()
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="on", loop="asyncio", http=TimedHeads, ws="none",
            timeout_graceful_shutdown=GRACE_S, server_header=False, proxy_headers=False,
        )
    )  # fmt: skip


def name_of(found: "FoundModel") -> str:
    """What the page calls a model: its version where it was registered, else its run, else its folder."""
    from glidexp.tracking.models import LOGGED_ID

    version = found.tracked is not None and not LOGGED_ID.fullmatch(found.uri.removeprefix("models:/"))
    run = f"run {found.run_id[:12]}" if found.run_id else Path(found.uri).name
    return found.uri if version else run


def _serve(given: Namespace, settings: ServeSettings, door: socket.socket, root: Path) -> int:
    from glidexp.data import sensors
    from glidexp.data.scenes.dem import files_of
    from glidexp.mapping.domain import check_dem
    from glidexp.models.load import find_named
    from glidexp.serving.app import make_app
    from glidexp.serving.worker import Setup, Worker, mapping

    found = find_named(given.model, mlruns=given.mlruns, uri=given.uri, folder=root / "model")
    check_dem(found.card, given=bool(given.dem and found.card.get("terrain")))
    files_of(given.dem, "--dem")  # refuses what is not there
    name = name_of(found)
    worker = Worker(mapping, Setup(found.bundle.absolute(), name, settings, sensors.own()))
    try:
        print(f"Loading {given.model} ...", flush=True)
        asyncio.run(worker.wait_ready())
        app = make_app(root, found.card, name, worker, settings)
        where, port = door.getsockname()[:2]
        shown = f"[{where}]" if ":" in where else where
        print(
            f"http://{shown}:{port}   drop a scene there; programs: http://{shown}:{port}/docs   (Ctrl-C ends)",
            flush=True,
        )
        if where not in ("127.0.0.1", "::1"):
            log.warning(
                "warning: it listens at %s: whoever reaches this machine may use it, there is no password.", where
            )
        server_of(app).run(sockets=[door])
    finally:
        worker.stop()
    return 0
