"""What begins warm is a process like any other: words, files, folder, end, signals; our own package is read anew."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import warm

pytestmark = pytest.mark.skipif(not warm.POSSIBLE, reason="needs Linux")

TELLS = """
import os, sys
known = ["torch" in sys.modules, "glidexp" in sys.modules]
print([sys.argv[1:], os.getcwd(), os.environ["MINE"], sys.stdin.read(), *known])
os.write(int(sys.argv[1]), b"to a file that was handed on")
sys.exit(7)
"""


def test_words_files_folder_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text(TELLS)
    ours, theirs = os.pipe()
    for way in (["-c", TELLS], ["tells.py"], ["-m", "tells"]):
        done = subprocess.run(
            [warm.python(), *way, str(theirs)], cwd=tmp_path, env=os.environ | {"MINE": "x"}, pass_fds=[theirs],
            input="in", capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout.strip() == str([[str(theirs)], str(tmp_path), "x", "in", True, False]), done.stderr
        assert (done.returncode, done.stderr) == (7, "")
        assert os.read(ours, 100) == b"to a file that was handed on"
    os.close(ours)
    os.close(theirs)


def test_errors_and_warnings_are_told() -> None:
    wrong = subprocess.run([warm.python(), "-c", "1 / 0"], capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr.endswith("ZeroDivisionError: division by zero\n")
    warns = "import warnings; warnings.warn('careful', DeprecationWarning)"
    assert subprocess.run([warm.python(), "-c", warns], capture_output=True).returncode == 0
    strict = subprocess.run([warm.python(), "-W", "error", "-c", warns], capture_output=True, text=True)
    assert strict.returncode == 1 and "DeprecationWarning: careful" in strict.stderr


WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(3))
print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_signals_reach_it_and_its_end_is_told() -> None:
    for number, code in ((signal.SIGUSR1, 3), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        with subprocess.Popen([warm.python(), "-c", WAITS], stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            real = int(job.stdout.readline())
            job.send_signal(number)
            assert job.wait(60) == code
        until = time.monotonic() + 60
        while Path(f"/proc/{real}/cmdline").exists() and Path(f"/proc/{real}/cmdline").read_bytes():
            assert time.monotonic() < until, "it lives on"
            time.sleep(0.01)
    killed = subprocess.run([warm.python(), "-c", "import os; os.kill(os.getpid(), 9)"], check=False)
    assert killed.returncode == -signal.SIGKILL


def test_what_it_does_not_know_the_interpreter_does() -> None:
    done = subprocess.run([warm.python(), "-I", "-c", "import sys; print('torch' in sys.modules)"], capture_output=True)
    assert done.stdout == b"False\n"
    assert sys.executable != warm.python()
