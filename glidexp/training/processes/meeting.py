"""How the processes of a job find each other, before anything is made: all there, of one code, with one command.

They speak through the keys and values that torchrun keeps for them. These outlive a process: after a restart
(`--max-restarts`) the words of the dead still lie there. So each process asks under a new name, rank 0 answers with the
room in which all of this start meet, and whoever does not come into it is not there.
"""

import hashlib
import json
import os
import platform
import socket
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

import psutil
import torch
import torch.distributed as dist

import glidexp
from glidexp.errors import ConfigError, GlidexpError, RunFailed
from glidexp.training.processes import job

WAIT = timedelta(minutes=10)
"""for the others: they were started together, and import from a slow disk for minutes at most"""
LOOK_S = 0.05
"""between two looks at who has come"""
INTERFACE = "GLOO_SOCKET_IFNAME"
WAY_OUT = {
    "code": "install one environment on all nodes, or share it",
    "settings": "give all nodes the same command; only paths may differ",
    "device": "give nodes of one kind, or name train.device, train.precision and train.compile",
}
"""by what processes must have in common"""


class RankLost(RunFailed):
    """Another process of the job ended: its error is the one to read."""


@dataclass(frozen=True, slots=True)
class Presence:
    """What a process says of itself."""

    rank: int
    host: str
    address: str = ""
    """by which this machine is seen from outside"""
    about: dict[str, str] = field(default_factory=dict)
    """what it must have in common with the others; names as in `WAY_OUT`"""
    error: str = ""
    """why it cannot take part"""

    @property
    def name(self) -> str:
        """For messages."""
        return f"rank {self.rank} on {self.host}"

    @classmethod
    def read(cls, text: str) -> Self:
        """What `write` gave."""
        return cls(**json.loads(text))

    def write(self) -> str:
        """As a text."""
        return json.dumps(asdict(self))


_room: dist.Store | None = None
"""where the processes of this start leave words for each other, once they have met"""


def meet(about: dict[str, str]) -> dist.Store:
    """Waits for all processes of the job and makes sure that they can train together.

    Args:
        about: this process's device, and settings, as `WAY_OUT` names them; its code is added

    Returns:
        keys and values of this start alone, for `init_process_group`

    Raises:
        RunFailed: some do not come within `WAIT`, or cannot be reached
        RankLost: one says that it cannot take part
        ConfigError: they differ in what they must have in common
    """
    global _room
    room, present = _gathered(about | {"code": code()}, "")
    _room = room
    _check(present)
    _choose_interface(present)
    return room


def tell(error: Exception) -> None:
    """Leaves the error of this process to the others, on several nodes also before they have met."""
    if isinstance(error, RankLost):
        return
    text = " ".join((str(error) if isinstance(error, GlidexpError) else f"{type(error).__name__}: {error}").split())
    try:
        if _room is not None:
            _room.set(f"error/{job.rank()}", Presence(job.rank(), platform.node(), error=text).write())
        elif job.several_nodes():
            _gathered({}, text)
    except (RunFailed, RuntimeError):
        pass  # there is nobody left


def what_is_told() -> str:
    """The errors that others left before they ended; empty where there are none."""
    try:
        keys = [f"error/{rank}" for rank in range(job.size())]
        left = [_room.get(key).decode() for key in keys if _room.check([key])] if _room is not None else []
    except RuntimeError:  # the machine that kept the words is gone
        return ""
    return "; ".join(f"{one.name}: {one.error}" for one in map(Presence.read, left))


def code() -> str:
    """Names the program: two machines that give the same text run the same."""
    found, folder = hashlib.sha256(), Path(glidexp.__file__).parent
    for file in sorted(folder.rglob("*.py")):
        found.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return f"glidexp {glidexp.__version__} ({found.hexdigest()[:12]}) with torch {torch.__version__}"


def _gathered(about: dict[str, str], error: str) -> tuple[dist.Store, list[Presence]]:
    """The room in which this start meets, and who is there."""
    rank, size, until = job.rank(), job.size(), time.monotonic() + WAIT.total_seconds()
    try:
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=WAIT)))
        address = own_address(os.environ["MASTER_ADDR"])
        own = Presence(rank, platform.node(), address, about, error).write()
        name = uuid.uuid4().hex
        if rank == 0:
            room = dist.PrefixStore(name, store)
            room.set("0", own)
            missing = set(range(1, size))
            while missing and time.monotonic() < until:
                for other in sorted(missing):
                    if store.check([f"asks/{other}"]):
                        store.set(f"room for {store.get(f'asks/{other}').decode()}", name)
                    if room.check([str(other)]):
                        missing.remove(other)
                time.sleep(LOOK_S)
            if missing:
                raise _absent(f"rank {', '.join(map(str, sorted(missing)))}")
            room.set("all", json.dumps([room.get(str(one)).decode() for one in range(size)]))
        else:
            store.set(f"asks/{rank}", name)
            store.wait([f"room for {name}"], WAIT)
            room = dist.PrefixStore(store.get(f"room for {name}").decode(), store)
            room.set(str(rank), own)
            room.wait(["all"], WAIT)
    except dist.DistStoreError:
        raise _absent("rank 0, or one that it waits for,") from None
    except dist.DistNetworkError as problem:
        raise RunFailed(
            f"the first node cannot be reached at {os.environ['MASTER_ADDR']} ({' '.join(str(problem).split())[:160]}):"
            " give its torchrun a name or an address that all nodes know, --local-addr=ADDRESS."
        ) from None
    return room, [Presence.read(text) for text in json.loads(room.get("all"))]


def _absent(who: str) -> RunFailed:
    return RunFailed(
        f"{who} of {job.size()} processes has not come within {WAIT.total_seconds() / 60:.0f} minutes: what its node "
        "printed says why."
    )


def _check(present: list[Presence]) -> None:
    """Refuses a job whose processes cannot train together."""
    for one in present:
        if one.error:
            raise RankLost(f"another process of this job ended: {one.name}: {one.error}")
    first = present[0]
    for what, way_out in WAY_OUT.items():
        for one in present:
            theirs, ours = one.about.get(what, ""), first.about.get(what, "")
            if theirs != ours:
                raise ConfigError(f"{what} of {one.name} is {theirs}, of {first.name} {ours}: {way_out}.")


def own_address(towards: str) -> str:
    """Address under which this machine is seen from another; empty where that is not known here."""
    try:
        family, _, _, _, place = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as line:
            line.connect(place)  # sends nothing: chooses the road
            return str(line.getsockname()[0])
    except OSError:
        return ""


def _choose_interface(present: list[Presence]) -> None:
    """Names the network interface that leads to the other nodes.

    gloo takes the one of the machine's own name, and where that is unknown or means the machine itself, as on Debian,
    nobody else finds it there.
    """
    here = platform.node()
    away = next((one.address for one in present if one.host != here and one.address), None)
    if away is None or os.environ.get(INTERFACE):
        return
    own = own_address(away)
    for name, addresses in psutil.net_if_addrs().items():
        if own in {address.address.partition("%")[0] for address in addresses}:
            os.environ[INTERFACE] = name
