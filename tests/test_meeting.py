"""How the processes of a job find each other: threads stand for them, a store in memory for torchrun's."""

import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch.distributed as dist

from glidexp import cli
from glidexp.errors import ConfigError, DataError, GlidexpError, RunFailed
from glidexp.training.processes import job, meeting, ranks

SAME = {"settings": "1a2b", "device": "cpu in fp32, not compiled"}


class Processes:
    """Three of them on three machines."""

    def __init__(self, patches: pytest.MonkeyPatch) -> None:
        self.store = dist.HashStore()
        self._own = threading.local()
        patches.setenv("MASTER_ADDR", "127.0.0.1")
        patches.setattr(meeting, "_room", None)
        patches.setattr(job, "size", lambda: 3)
        patches.setattr(job, "size_here", lambda: 1)
        patches.setattr(job, "rank", lambda: self._own.rank)
        patches.setattr(meeting.platform, "node", lambda: f"node{getattr(self._own, 'rank', 0)}")
        patches.setattr(dist, "rendezvous", lambda *_, **__: iter([(self.store, self._own.rank, 3)]))

    def each(self, what: Callable[[int], Any], numbers: tuple[int, ...] = (0, 1, 2)) -> list[Any]:
        """What each of them gives, or the error that it ends with."""

        def one(number: int) -> Any:
            self._own.rank = number
            try:
                return what(number)
            except GlidexpError as error:
                return error

        with ThreadPoolExecutor(len(numbers)) as pool:
            return list(pool.map(one, numbers))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Processes:
    monkeypatch.delenv(meeting.INTERFACE, raising=False)
    return Processes(monkeypatch)


def word(room: dist.Store, number: int) -> str:
    """What rank 1 leaves in the room that a rank found."""
    if number == 1:
        room.set("word", "here")
    room.wait(["word"], timedelta(seconds=30))
    return room.get("word").decode()


def test_a_restart_meets_without_the_words_of_the_dead(processes: Processes) -> None:
    """torchrun keeps them: the second start finds what the first one asked, was answered and said."""
    first = processes.each(lambda _: meeting.meet(SAME))
    first[0].set("word", "dead")
    meeting._room = None
    assert processes.each(lambda number: word(meeting.meet(SAME), number)) == ["here"] * 3


def test_one_that_cannot_come_says_why_to_all(processes: Processes) -> None:
    def begin(number: int) -> Any:
        if number != 1:
            return meeting.meet(SAME)
        with job.others_told():
            raise DataError("dataset.root=/data is not there.")

    told = processes.each(begin)
    assert str(told[1]) == "dataset.root=/data is not there."
    for other in (told[0], told[2]):
        assert isinstance(other, meeting.RankLost)
        assert str(other).endswith("ended: rank 1 on node1: dataset.root=/data is not there.")


@pytest.mark.parametrize("size", ["1", "2"])
def test_on_one_node_torchrun_tells(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where there is one process, nobody is asked for: its error is as it was."""
    for name, value in {"RANK": "0", "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(meeting, "_room", None)
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: pytest.fail("asked for others"))
    with pytest.raises(DataError, match="is not there"), job.others_told():
        raise DataError("dataset.root=/data is not there.")


def test_one_that_ends_later_says_why_to_all(processes: Processes) -> None:
    processes.each(lambda _: meeting.meet(SAME))

    def die(_: int) -> None:
        with pytest.raises(MemoryError), job.others_told():
            raise MemoryError("no more")
        with pytest.raises(meeting.RankLost), job.others_told():  # not its own, so not the one to read
            raise meeting.RankLost("another")

    processes.each(die, (2,))
    assert meeting.what_is_told() == "rank 2 on node2: MemoryError: no more"


@pytest.mark.parametrize(
    ("what", "theirs", "way_out"),
    [("settings", "3c4d", "only paths may differ"), ("device", "cuda in bf16, compiled", "train.precision")],
)
def test_processes_that_differ(what: str, theirs: str, way_out: str, processes: Processes) -> None:
    told = processes.each(lambda number: meeting.meet(SAME | ({what: theirs} if number == 2 else {})))
    for one in told:
        assert isinstance(one, ConfigError)
        assert f"{what} of rank 2 on node2 is {theirs}, of rank 0 on node0 {SAME[what]}: " in str(one)
        assert way_out in str(one)


def test_another_program(processes: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One changed line of one module is another program."""
    real = meeting.code()
    assert real == meeting.code()
    (tmp_path / "__init__.py").write_text("__version__ = '1'\n")
    monkeypatch.setattr(meeting, "glidexp", SimpleNamespace(__file__=str(tmp_path / "__init__.py"), __version__="1"))
    before = meeting.code()
    (tmp_path / "__init__.py").write_text("__version__ = '1'  #\n")
    assert len({real, before, meeting.code()}) == 3
    monkeypatch.setattr(meeting, "code", lambda: f"glidexp {job.rank() == 2}")
    assert "install one environment on all nodes" in str(processes.each(lambda _: meeting.meet(SAME))[0])


@pytest.mark.parametrize(("there", "missing"), [((0, 2), "rank 1"), ((1,), "rank 0, or one that it waits for,")])
def test_one_that_does_not_come(
    there: tuple[int, ...], missing: str, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "WAIT", timedelta(seconds=0.3))
    told = processes.each(lambda _: meeting.meet(SAME), there)
    assert type(told[0]) is RunFailed
    assert f"{missing} of 3 processes has not come within" in str(told[0])


def test_the_interface_that_leads_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """gloo's own choice, the machine's name, means the machine itself on Debian."""
    monkeypatch.delenv(meeting.INTERFACE, raising=False)
    monkeypatch.setattr(meeting.platform, "node", lambda: "node1")
    monkeypatch.setattr(meeting, "own_address", {"10.0.0.2": "10.0.0.1", "10.0.0.1": "127.0.0.1"}.get)
    cards = {"lo": ["127.0.0.1"], "eth0": ["192.168.0.1"], "ib0": ["fe80::1%ib0", "10.0.0.1"]}
    addresses = {name: [SimpleNamespace(address=one) for one in found] for name, found in cards.items()}
    monkeypatch.setattr(meeting.psutil, "net_if_addrs", lambda: addresses)
    here, there = meeting.Presence(0, "node1", "10.0.0.1"), meeting.Presence(1, "node2", "10.0.0.2")
    meeting._choose_interface([here, here])
    assert meeting.INTERFACE not in os.environ
    meeting._choose_interface([here, there])
    assert os.environ[meeting.INTERFACE] == "ib0"
    monkeypatch.setenv(meeting.INTERFACE, "mine")
    meeting._choose_interface([here, there])
    assert os.environ[meeting.INTERFACE] == "mine"


@pytest.mark.parametrize("words", ["Gloo connectFullMesh failed with timed out connecting", "out of memory"])
def test_processes_that_cannot_connect(words: str, processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a firewall; another error stays what it is."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(dist, "init_process_group", fail)
    monkeypatch.setattr(meeting, "meet", lambda about: processes.store)
    if words.startswith("Gloo"):
        (told,) = processes.each(lambda _: ranks.join("cpu"), (0,))
        assert type(told) is RunFailed and words in str(told) and "GLOO_SOCKET_IFNAME" in str(told)
    else:
        with pytest.raises(RuntimeError, match=r"^out of memory$"):
            processes.each(lambda _: ranks.join("cpu"), (0,))


def test_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert meeting.own_address("127.0.0.1") == "127.0.0.1"

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("unknown name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert meeting.own_address("node7") == ""


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux's")
def test_a_machine_that_falls_silent_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("/proc/self/net/tcp")

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as line:
        assert not line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        ranks.keep_alive()
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [line.getsockopt(socket.IPPROTO_TCP, one) for one in options] == [60, 30, 8, 300_000]
        line.sendall(b"!")  # it is still open: what was closed is a second name of it
        there, _ = listener.accept()
        with there:
            assert there.recv(1) == b"!"
        monkeypatch.setattr(psutil.Process, "net_connections", hidden)
        ranks.keep_alive()


def test_the_place_in_a_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (job.size(), job.rank(), job.several_nodes()) == (1, 0, False)
    for name, value in {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert (job.size(), job.rank(), job.rank_here(), job.several_nodes()) == (4, 2, 0, True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert not job.several_nodes()
    with pytest.raises(SystemExit):
        cli.main(["nothing"])
    assert capsys.readouterr().err.startswith("glidexp (rank 2): ")
