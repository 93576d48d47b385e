"""Files written aside: what dead processes and failed writers leave goes, what others are writing stays."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glidexp import beside as module
from glidexp.beside import beside, flushed, sweep, together, write_text


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


def test_a_full_disk_is_told_of_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device: '") as caught, beside(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "a.txt")


def test_files_that_belong_together_are_all_old_or_all_new_or_lack_the_first(tmp_path: Path) -> None:
    """Killed before each step of the file system, from the first name to the last rename."""
    files = [tmp_path / name for name in ("main.csv", "a.png", "b.png")]
    old, new, seen = ["old"] * 3, ["new"] * 3, []
    module._sweep_dead(tmp_path)  # else what the last one left is more to be removed
    for event in range(30):
        for path in files:
            path.write_text("old")
        (tmp_path / "earlier.csv").write_text("old")
        number = os.fork()
        if number == 0:
            steps = iter(range(event))

            def killing(name: str, _: object) -> None:
                if name in ("open", "os.rename", "os.remove") and next(steps, None) is None:  # noqa: B023
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(killing)
            with together(files, without=[tmp_path / "earlier.csv"]) as places:
                for place in places:
                    flushed(place, b"new")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        found = [path.read_text() if path.exists() else "" for path in files]
        assert found in (old, new) or not found[0]
        assert found != old or (tmp_path / "earlier.csv").exists()
        assert found != new or not (tmp_path / "earlier.csv").exists()
        seen.append((code, found))
        if code == 0:
            break
    assert seen[0] == (-signal.SIGKILL, old) and seen[-1] == (0, new)
    assert (-signal.SIGKILL, ["", "new", "new"]) in seen and len(seen) == 9


def test_files_that_belong_together_stay_old_where_one_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "main.csv", tmp_path / "a.png"]
    for path in files:
        path.write_text("old")
    with pytest.raises(OSError, match="No such file"), together(files, without=[tmp_path / "c.png"]) as places:
        places[1].joinpath("below a file that is not there").write_text("new")
    assert names(tmp_path) == ["a.png", "main.csv"] and {path.read_text() for path in files} == {"old"}
