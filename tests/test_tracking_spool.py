"""The spool and the thread on it: what was put is on disk, goes out once, and waits where the store is away."""

import errno
import fcntl
import json
import os
import platform
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glidexp.tracking import liveness
from glidexp.tracking.run import Run
from glidexp.tracking.sink import Sink
from glidexp.tracking.spool import Busy, Entry, Lines, Spool, is_held
from glidexp.tracking.writer import Writer, is_refusal, is_unreachable


def spool_of(tmp_path: Path) -> Spool:
    return Spool.open(tmp_path / "spool" / "run", {"uri": "http://store"})


def writer_of(tmp_path: Path, write: Callable[[Entry], None], **settings: Any) -> Writer:
    return Writer(write, spool_of(tmp_path), **settings)


def wait_for(condition: Callable[[], object], patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_put_is_found_again_without_what_was_sent(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    entries = [spool.append("metrics", {"values": {"a/é": 0.1 + 0.2}, "step": step}) for step in range(4)]
    spool.done(entries[1])
    spool.done(entries[3], refused=True)
    spool.close()
    again = Spool.open(spool.folder)
    assert again.head == {"uri": "http://store"}
    assert again.waiting == [entries[0], entries[2]], "to the last bit, with the time at which they were put"
    assert again.refused == 1
    assert again.append("tags", {}).number == 5
    for entry in [*again.waiting]:
        again.done(entry)
    again.close()
    left = Spool.open(spool.folder)
    assert [entry.kind for entry in left.waiting] == ["tags"]
    left.done(left.waiting[0])
    left.close()
    assert not spool.folder.exists() and not spool.folder.parent.exists(), "an empty spool leaves nothing"


@pytest.mark.parametrize("kept", [1, 8, 9, 20, -1])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, kept: int) -> None:
    spool = spool_of(tmp_path)
    spool.append("tags", {"tags": {"n": "1"}})
    journal = spool.folder / "journal.jsonl"
    whole = journal.read_bytes()
    spool.append("tags", {"tags": {"n": "2"}})
    torn = journal.read_bytes()[len(whole) :][:kept]
    spool.close()
    journal.write_bytes(whole + torn)
    again = Spool.open(spool.folder)
    assert [entry.values["tags"]["n"] for entry in again.waiting] == ["1"]
    again.append("tags", {"tags": {"n": "3"}})
    again.close()
    last = Spool.open(spool.folder)
    assert [entry.values["tags"]["n"] for entry in last.waiting] == ["1", "3"], "what came after it is whole"
    last.close()


def test_a_damaged_line_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = spool_of(tmp_path)
    for n in range(3):
        spool.append("tags", {"n": n})
    spool.close()
    journal = spool.folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"n": 1', b'"n": 7')
    journal.write_bytes(b"".join(lines))
    again = Spool.open(spool.folder)
    assert [entry.values["n"] for entry in again.waiting] == [0, 2]
    assert "1 damaged" in caplog.text
    again.close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines(tmp_path / "file")
    lines.append({"n": 0})

    class Full:
        def write(self, line: bytes) -> int:
            return file.write(line[:5])

        def truncate(self, size: int) -> int:
            return int(file.truncate(size))

    file = lines._file
    monkeypatch.setattr(lines, "_file", Full())
    with pytest.raises(OSError, match="space"):
        lines.append({"n": 1})
    monkeypatch.undo()
    lines.append({"n": 2})
    lines.close()
    again = Lines(tmp_path / "file")
    again.close()
    assert again.records == [{"n": 0}, {"n": 2}]


def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Entry] = []
    writer = writer_of(tmp_path, seen.append)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer._spool._journal.append = full  # type: ignore[method-assign]
    writer.put("tags", n=1)
    writer.put_file("artifact", "scores.parquet", full, folder="")
    assert writer.close() == 0
    assert [entry.values for entry in seen] == [{"n": 1}]
    assert writer.refused == 1, "a run without its scores is not finished"
    assert "in memory alone" in caplog.text and "scores.parquet is left out" in caplog.text


def test_files_go_with_their_entry_and_orphans_are_swept(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    place = spool.stage("a.txt")
    place.write_text("a")
    orphan = spool.stage("b.txt")
    orphan.write_text("a kill came before its entry")
    entry = spool.append("artifact", {"staged": f"{place.parent.name}/a.txt", "folder": ""})
    spool.close()
    again = Spool.open(spool.folder)
    assert place.exists() and not orphan.parent.exists()
    again.done(entry)
    assert not place.parent.exists()
    again.close()


def test_a_file_that_was_sent_before_the_note_of_it_was_lost_is_no_loss(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    spool.append("artifact", {"staged": "gone/a.txt", "folder": ""})
    spool.close()
    writer = Writer(lambda entry: pytest.fail("nothing to send"), Spool.open(spool.folder))
    assert writer.close() == 0 and writer.refused == 0


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    assert is_held(spool.folder) is True
    with pytest.raises(Busy):
        Spool.open(spool.folder)
    spool.close()
    assert is_held(spool.folder) is None, "nothing waited: the folder is gone"
    claimed = Spool.claim(spool.folder)
    assert is_held(spool.folder) is False, "by this process, for a run to come"
    assert Spool.open(spool.folder) is claimed
    assert is_held(spool.folder) is True
    claimed.close()


def hold(folder: Path) -> int:
    """The lock, as another process would hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


THIS = liveness.process_mark()
DEAD = f"{platform.node()}:{2**22 - 3}:1"
OTHER = f"{platform.node()}:{os.getpid()}:1"


@pytest.mark.parametrize(
    ("process", "beat_age_s", "lock", "expected"),
    [
        (THIS, 0, None, True),
        (DEAD, 0, None, False),
        (OTHER, 0, None, False),
        (THIS, 0, "free", False),
        (DEAD, 9999, "held", True),
        ("elsewhere:1:1", 10, None, True),
        ("elsewhere:1:1", 10, "free", True),
        ("elsewhere:1:1", 9999, "held", True),
        ("elsewhere:1:1", 181, None, False),
        ("elsewhere:1:1", None, None, False),
        ("", None, None, False),
    ],
    ids=[
        "this very process",
        "a dead one of this host, however fresh its sign of life",
        "its number was given to another",
        "this process lives, but has ended that run",
        "another container of the same name",
        "elsewhere, a moment ago",
        "elsewhere, on a file system without locks between hosts",
        "elsewhere, with its lock seen here",
        "elsewhere, silent for three minutes",
        "elsewhere, before there were signs of life",
        "nobody",
    ],
)
def test_at_work_or_not(
    tmp_path: Path, process: str, beat_age_s: float | None, lock: str | None, expected: bool
) -> None:
    tags = {"glidexp.process": process}
    if beat_age_s is not None:
        tags["glidexp.heartbeat"] = str(time.time() - beat_age_s)
    held = hold(tmp_path / "run") if lock else None
    if lock == "free" and held is not None:
        os.close(held)
    assert liveness.at_work(tags, tmp_path / "run") is expected
    if lock == "held" and held is not None:
        os.close(held)


def test_signs_of_life_go_on_while_nothing_is_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glidexp.tracking.writer.BEAT_S", 0.05)
    beats: list[float] = []

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 2:
            raise ConnectionError("gone")  # which ends nothing

    writer = writer_of(tmp_path, lambda entry: None, beat=beat)
    wait_for(lambda: len(beats) > 4)
    assert writer.close() == 0


class Flaky:
    """A store that can be switched off."""

    def __init__(self) -> None:
        self.down = False
        self.written: list[str] = []
        self.tries = 0

    def __call__(self, entry: Entry) -> None:
        self.tries += 1
        if self.down:
            raise ConnectionError("gone")
        if entry.kind == "bad":
            raise ValueError("no such thing")
        if entry.kind == "poison":
            raise RuntimeError("never works")
        self.written.append(str(entry.values.get("n", entry.values.get("status"))))


def test_a_store_that_is_gone_stops_nothing_and_catches_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky()
    writer = writer_of(tmp_path, flaky, pause_s=0.05)
    writer.put("x", n=0)
    assert writer.flush()
    flaky.down = True
    for n in range(1, 4):
        writer.put("x", n=n)
    assert not writer.flush()
    flaky.down = False
    wait_for(lambda: len(flaky.written) == 4)
    assert writer.close() == 0
    assert flaky.written == ["0", "1", "2", "3"], "in the order in which they were put"
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "cannot be written now" in line]) == 1, "said once, not once an entry"
    assert len([line for line in said if "takes entries again" in line]) == 1


def test_close_on_a_dead_store_gives_up_soon_and_loses_nothing(tmp_path: Path) -> None:
    flaky = Flaky()
    flaky.down = True
    writer = writer_of(tmp_path, flaky, pause_s=1000)
    for n in range(50):
        writer.put("x", n=n)
    assert writer.close() == 50
    assert flaky.tries <= 4, "each try may take many seconds"
    again = Spool.open(tmp_path / "spool" / "run")
    assert [entry.values["n"] for entry in again.waiting] == list(range(50))
    again.close()


def test_what_can_never_be_written_holds_up_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flaky = Flaky()
    writer = writer_of(tmp_path, flaky, pause_s=0.01)
    writer.put("poison")
    writer.put("bad")
    writer.put("x", n=1)
    wait_for(lambda: flaky.written == ["1"])
    assert writer.close() == 1
    assert "bad was refused" in caplog.text


def test_the_end_stays_the_last_and_waits_for_all(tmp_path: Path) -> None:
    flaky = Flaky()
    writer = writer_of(tmp_path, flaky, pause_s=0.01)
    writer.put("poison")
    writer.put("poison")
    for n in range(5):
        writer.put("x", n=n)
    writer.put("end", status="FINISHED", error="")
    assert writer.close() == 3
    assert flaky.written == ["0", "1", "2", "3", "4", "FAILED"], "not FINISHED, and not left as RUNNING either"
    again = spool_of(tmp_path)
    assert [entry.kind for entry in again.waiting] == ["poison", "poison", "end"]
    assert again.waiting[-1].values["status"] == "FINISHED", "as it will be once everything is there"
    again.close()


@pytest.mark.parametrize(("kind", "status"), [("metrics", "FAILED"), ("tags", "FINISHED")])
def test_a_run_that_lost_scores_is_not_finished(tmp_path: Path, kind: str, status: str) -> None:
    seen: list[Entry] = []

    def write(entry: Entry) -> None:
        if entry.kind == kind:
            raise ValueError("refused")
        seen.append(entry)

    writer = writer_of(tmp_path, write)
    writer.put(kind, values={}, step=0)
    writer.put("end", status="FINISHED", error="")
    assert writer.close() == 0
    assert [entry.values["status"] for entry in seen] == [status]
    assert writer.refused == (kind == "metrics")


@pytest.mark.parametrize("limit", [{"patience_s": 0.2}, {"at_most_s": 0.2}])
def test_a_store_that_hangs_holds_up_the_end_no_longer_than_said(tmp_path: Path, limit: dict[str, float]) -> None:
    answer = threading.Event()
    writer = writer_of(tmp_path, lambda entry: answer.wait(60) and None)
    writer.put("x", n=1)
    writer.put("x", n=2)
    began = time.monotonic()
    assert writer.close(**limit) == 2
    assert time.monotonic() - began < 5
    assert is_held(tmp_path / "spool" / "run") is True, "till the call it is in has ended"
    answer.set()
    wait_for(lambda: is_held(tmp_path / "spool" / "run") is False)
    again = spool_of(tmp_path)
    assert [entry.values["n"] for entry in again.waiting] == [2]
    again.close()


def test_which_errors_mean_what() -> None:
    class Answered(Exception):
        error_code = "RESOURCE_DOES_NOT_EXIST"

    assert is_refusal(Answered("Run '1' not found"))
    assert not is_refusal(Answered("API request to endpoint /x failed with error code 404 != 200")), "a proxy's page"
    assert is_refusal(ValueError("param too long")) and not is_refusal(OSError("disk"))
    refused = RuntimeError("API request failed with exception")
    refused.__context__ = OSError("Max retries exceeded")
    refused.__context__.__context__ = ConnectionRefusedError()
    assert is_unreachable(refused) and not is_refusal(refused)
    assert not is_unreachable(RuntimeError("too many 500 error responses"))


def test_lines_are_plain_json_after_a_checksum(tmp_path: Path) -> None:
    import numpy as np

    spool = spool_of(tmp_path)
    entry = spool.append("dataset", {"facts": {"tiles": np.int64(3), "folder": Path("/a")}})
    line = (spool.folder / "journal.jsonl").read_bytes().splitlines()[1]
    assert json.loads(line[9:])["values"] == {"facts": {"tiles": 3, "folder": "/a"}}
    spool.done(entry)
    spool.close()


@pytest.mark.parametrize("told", ["UNIQUE constraint failed: datasets.name", 'violates unique constraint "dataset_pk"'])
def test_two_runs_that_make_a_data_set_known_at_once(tmp_path: Path, told: str) -> None:
    """The store refuses the second one's row for good, but a second try finds the row of the first."""
    calls: list[Any] = []

    class Client:
        def log_inputs(self, run_id: str, inputs: list[Any]) -> None:
            calls.append((run_id, inputs[0].dataset.name))
            if len(calls) == 1:
                raise RuntimeError(told)

    spool = spool_of(tmp_path)
    spool.close()
    sink = Sink(SimpleNamespace(client=Client()), "run", "0", spool)  # type: ignore[arg-type]
    given = {"name": "lakes", "digest": "f", "context": "train", "source": "/a", "facts": {}}
    sink(Entry("dataset", given, 0))
    assert calls == [("run", "lakes/train")] * 2
    told = "no such run"
    calls.clear()
    with pytest.raises(RuntimeError, match="no such run"):
        sink(Entry("dataset", given, 0))
    assert len(calls) == 1


def test_a_picture_and_a_folder_that_the_disk_cuts_short_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """NumPy and shutil tell of it in errors without a number; the kernel refuses more than 64 KiB to a file here."""
    folder = tmp_path / "masks"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "b.tif").write_bytes(bytes(100_000))
    run = Run.__new__(Run)
    run._writer, run._drawn = writer_of(tmp_path, lambda entry: None), set()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    try:
        run.image("probe/0", np.zeros((256, 256, 3), np.uint8), step=0)
        run.artifact(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "image image.npy is left out ([Errno 27] File too large" in caplog.text
    assert "artifact masks is left out ([Errno 27] File too large" in caplog.text
    run.artifact(folder)
    run._writer.close()
    assert run._writer.refused == 1, "the folder is lasting, the picture is not"


def test_a_folder_that_cannot_be_listed_is_not_logged_as_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "masks" / "in").mkdir(parents=True)
    (tmp_path / "masks" / "in" / "b.tif").write_bytes(b"b")
    run, listed = Run.__new__(Run), os.scandir
    run._writer = writer_of(tmp_path, lambda entry: None)

    def closed(place: Any) -> Any:
        if Path(place) == tmp_path / "masks" / "in":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed)
        with pytest.raises(PermissionError):
            run.artifact(tmp_path / "masks")
    run._writer.close()
