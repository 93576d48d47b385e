"""Stands in for the interpreter: hands its command to the server of `tests/warm.py`, and is its shadow. Not a test.

Copied to where the server listens, with lines in front that name the interpreter and the server. Signals go on to the
real process; it ends as that ends, and where it is killed that is killed too. Options that are not known here go to the
interpreter.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time

PASSED_ON = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT")
HARMLESS = ("-B", "-s")
"""options that Python hands on to processes of multiprocessing"""
TOO_LIGHT = "from multiprocessing.resource_tracker"
"""what such a process imports, the interpreter has sooner"""


def understood(words: list[str]) -> dict[str, object] | None:
    """A command line in parts; None where the interpreter itself is needed."""
    warnings, unbuffered = [], False
    while words and words[0].startswith("-"):
        option, *words = words
        if option in ("-c", "-m"):
            if not words or words[0].startswith(TOO_LIGHT):
                return None
            return {"kind": option, "argv": words, "warnings": warnings, "unbuffered": unbuffered}
        if option.startswith("-W"):
            warnings.append(option[2:] or words.pop(0))
        elif option == "-u":
            unbuffered = True
        elif option not in HARMLESS:
            return None
    return {"kind": "", "argv": words, "warnings": warnings, "unbuffered": unbuffered} if words else None


def open_files() -> list[int]:
    """Numbers of the files that a child would inherit."""
    numbers = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) < 3 or os.get_inheritable(int(name)):
                numbers.append(int(name))
        except OSError:  # the listing itself
            continue
    return sorted(numbers)


def passed_on(pid: int, number: int) -> None:
    """A signal, unless it comes too late."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def connect(line: socket.socket, folder: str) -> None:
    """To the server, which the first one starts; it listens at once and answers when it has imported everything."""
    place = os.path.join(folder, "socket")
    with open(os.path.join(folder, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(place):
            import subprocess

            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
            with open(os.path.join(folder, "log"), "ab") as log:
                server = subprocess.Popen(
                    [sys.executable, SERVER, folder, OWNER], env=environment, start_new_session=True,  # noqa: F821
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            while not os.path.exists(place) and server.poll() is None:
                time.sleep(0.01)
    line.connect(place)


def main() -> None:
    """Asks, waits, and ends in the same way."""
    order = understood(sys.argv[1:])
    line = socket.socket(socket.AF_UNIX)
    try:
        if order is None:
            raise OSError
        connect(line, os.path.dirname(os.path.abspath(__file__)))
    except OSError:
        os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
    numbers = open_files()
    order |= {"executable": sys.argv[0], "cwd": os.getcwd(), "environment": dict(os.environ), "files": numbers}
    order["leads"] = os.getsid(0) == os.getpid()
    text = json.dumps(order).encode()
    # the real process may be heard of before its number is known here: what is sent to it then waits
    passed = [getattr(signal, name) for name in PASSED_ON]
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    socket.send_fds(line, [len(text).to_bytes(8, "big")], numbers)
    line.sendall(text)
    for number in numbers:  # a pipe must end when the real process closes it
        os.close(number)
    answers = line.makefile()
    pid = int(answers.readline() or 0)
    for number in passed:
        signal.signal(number, lambda number, _: passed_on(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    code = int(answers.readline() or 70)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
