"""An interpreter that has torch and MLflow imported already, for tests that start many processes. Not a test.

`python()` is a program that takes the place of `sys.executable`. What it is to run is forked off a server, one for all
processes that test, which imported what a run needs; our own package is not among that. What is then the subject of a
test is unchanged: a process of its own with its own session, files, environment and folder, which may be killed. Where
the imports are the subject, `sys.executable` stays.
"""

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
import types
import warnings
from contextlib import suppress
from multiprocessing import process, set_executable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = "GLIDEXP_TESTS_WARM"
"""names the folder of the server"""
POSSIBLE = hasattr(os, "pidfd_open") and hasattr(socket, "send_fds")  # Linux
ALSO = ("torch.distributed.run", "uvicorn", "fastapi", "flask", "geopandas", "rasterio", "pytest")
"""what is imported beside what a run takes: what torchrun and MLflow's server are made of, and what tests use"""


def begin() -> None:
    """Makes the place of the server; it is the first `python()` that starts it. Later processes inherit the place."""
    if POSSIBLE and VARIABLE not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="warm-"))  # not pytest's own: a socket's path may have 107 characters
        client = (ROOT / "tests" / "warm_client.py").read_text(encoding="utf-8")
        head = [f"#!{sys.executable} -IS", f"SERVER, OWNER = {__file__!r}, '{os.getpid()}'"]
        (folder / "python").write_text("\n".join([*head, client]), encoding="utf-8")
        (folder / "python").chmod(0o700)
        os.environ[VARIABLE] = str(folder)
        atexit.register(_leave_nothing, folder, os.getpid())


def python() -> str:
    """The program to start in place of `sys.executable`; that itself where there is no server, as on a Mac."""
    folder = os.environ.get(VARIABLE)
    return str(Path(folder) / "python") if folder else sys.executable


def _leave_nothing(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def serve(folder: Path, owner: int) -> None:
    """Forks what it is asked for until the process that tests has ended."""
    end = os.pidfd_open(owner)
    own = [end]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "aside"))
    listener.listen(64)
    os.rename(folder / "aside", folder / "socket")
    defaults = list(warnings.filters)
    gc.disable()
    _load()
    gc.collect()
    gc.freeze()
    gc.enable()
    own.append(listener.fileno())
    while True:
        ready, _, _ = select.select([listener, end], [], [], 5)
        if end in ready:
            shutil.rmtree(folder, ignore_errors=True)  # where that was killed
            return
        if listener in ready:
            line, _ = listener.accept()
            if os.fork() == 0:
                for number in own:
                    os.close(number)
                _carry_out(line, defaults)
            line.close()
        while _ended_child():
            pass


def _ended_child() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _load() -> None:
    sys.path[0] = str(ROOT)
    from glidexp.study.execution.work import preload

    preload()
    for name in ALSO:
        __import__(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "glidexp"]:
        del sys.modules[name]
    del sys.path[0]


def _carry_out(line: socket.socket, defaults: list[Any]) -> NoReturn:
    """Starts one process and tells its number and then its end; kills it where the asker is killed."""
    size, files, _, _ = socket.recv_fds(line, 8, 250)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += line.recv(1 << 20)
    order = json.loads(text)
    child = os.fork()
    if child == 0:
        line.close()
        os._exit(_be(order, files, defaults))
    for number in files:
        os.close(number)
    line.sendall(b"%d\n" % child)
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([line, ended], [], [])
    if ended not in ready:
        os.kill(-child if order["leads"] else child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):
        line.sendall(b"%d\n" % code)
    os._exit(0)


def _be(order: dict[str, Any], files: list[int], defaults: list[Any]) -> int:
    """Is the interpreter that was asked for; gives its exit code."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    aside = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 500) for number in files]
    for number in files:
        os.close(number)
    for number, wanted in zip(aside, order["files"], strict=True):
        os.dup2(number, wanted)
        os.close(number)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    _warn(order["warnings"], defaults)
    if order["unbuffered"]:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    sys.executable = order["executable"]  # what it starts is warm too
    set_executable(sys.executable)
    process.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]
    sys.path[:0] = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    code: Any = 1
    try:
        _run(order["kind"], order["argv"])
        code = 0
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = -signal.SIGINT
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    return _leave(code)


def _warn(options: list[str], defaults: list[Any]) -> None:
    """`-W` behind what libraries asked for as they were imported, and before what Python begins with."""
    libraries = [each for each in warnings.filters if each not in defaults]
    warnings.resetwarnings()
    warnings.filters.extend(defaults)  # type: ignore[attr-defined]
    for option in options:
        warnings.simplefilter(option)  # type: ignore[arg-type]
    warnings.filters[:0] = libraries  # type: ignore[index]
    sys.warnoptions[:] = options


def _run(kind: str, argv: list[str]) -> None:
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    if kind == "-m":
        sys.argv = list(argv)
        sys.path.insert(0, os.getcwd())
        runpy._run_module_as_main(argv[0])  # type: ignore[attr-defined]
        return
    name = "<string>" if kind else argv[0]
    text = argv[0] if kind else Path(argv[0]).read_text(encoding="utf-8")
    sys.argv = ["-c", *argv[1:]] if kind else list(argv)
    sys.path.insert(0, "" if kind else str(Path(argv[0]).resolve().parent))
    if not kind:
        main.__file__ = str(Path(argv[0]).absolute())
    exec(compile(text, name, "exec"), main.__dict__)


def _leave(code: Any) -> int:
    """What the interpreter does at its end."""
    import threading

    if not isinstance(code, (int, type(None))):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    code = code or 0
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code & 255


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
