"""Files written aside: what dead processes and failed writers leave goes, what others are writing stays."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from glidexp import beside as module
from glidexp.beside import beside, sweep, write_text


def killed_while_writing(path: Path) -> int:
    """Number of a process that died when it had written half."""
    number = os.fork()
    if number == 0:
        with beside(path) as place:
            place.write_text("half")
            place.with_name(f"{place.name}-journal").write_text("of a library")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGKILL
    return number


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_killed_processes_left_goes_with_the_next_file_of_the_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "earlier")
    number = killed_while_writing(tmp_path / "a.txt")
    (left, journal) = (path.name for path in sorted(tmp_path.glob(f".{number}-*")))
    assert journal == f"{left}-journal" and (tmp_path / "a.txt").read_text() == "earlier"
    other = subprocess.Popen(["sleep", "60"])
    kept = [
        left.replace(f".{number}-", f".{other.pid}-"),  # is being written
        f".{number}-00000000.a.txt",  # of another machine, where the number may be at work
        f".{number}.a.txt",
        f".{number}-notes.txt",  # a user's
    ]
    for name in kept:
        (tmp_path / name).touch()
    module._sweep_dead.cache_clear()
    write_text(tmp_path / "b.txt", "new")
    other.kill()
    other.wait()
    assert names(tmp_path) == sorted([*kept, "a.txt", "b.txt"])
    sweep(tmp_path / "a.txt")  # for who knows that nobody else writes
    assert names(tmp_path) == [f".{number}-notes.txt", "a.txt", "b.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a[1].gpkg", "earlier")

    def stopped() -> None:
        with beside(tmp_path / "a[1].gpkg") as place:
            place.write_text("half")
            place.with_name(f"{place.name}-journal").write_text("of a library")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert names(tmp_path) == ["a[1].gpkg"] and (tmp_path / "a[1].gpkg").read_text() == "earlier"


def test_numbers_that_no_process_has(tmp_path: Path) -> None:
    for name in (f".{10**30}-{module._machine()}.a.txt", f".0-{module._machine()}.a.txt"):
        (tmp_path / name).touch()
    module._sweep_dead.cache_clear()
    write_text(tmp_path / "a.txt", "new")
    assert len(names(tmp_path)) == 3
