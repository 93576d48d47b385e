"""Several processes train one network (DDP): who is who, and the words they exchange. One process is the plain case.

`torchrun` starts the processes, called ranks, and tells each its number by environment variables. A batch of
`train.batch_size` tiles is shared out: every rank takes its part of the same order, losses are functions of sums over
all parts, gradients are averaged by torch's DistributedDataParallel. So their number changes who computes, not what.
Rank 0 alone prepares the run, tracks, saves and speaks; the others compute.
"""

import io
import logging
import os
import signal
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from glidexp.errors import ConfigError, RunFailed
from glidexp.signals import Signals
from glidexp.training.processes import job, meeting
from glidexp.training.processes.meeting import RankLost

TIMEOUT = timedelta(minutes=30)
"""after which a rank that is silent in a step counts as hung; one that dies is noticed at once"""
PATIENCE = timedelta(days=7)
"""the same while rank 0 makes data or scores"""
GRACE_S = 5.0
"""seconds a rank that lost another one waits before it ends: torchrun blames the first to go"""
GPU_STRIDE = 16
"""optimizer steps between two looks at the other ranks' signals on GPUs: asking makes the hosts wait for each other"""
SILENT_S, ASK_S, ASKED = 60, 30, 8
"""seconds without a word after which the system asks a machine whether it is there, between two questions, and how many
stay unanswered before it counts as gone: five minutes in all"""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """number on this machine, which chooses the GPU"""
    locals: int = 1
    """processes on this machine, which share its cores"""
    hosts: dist.ProcessGroup | None = None
    """for words between hosts, which make no GPU wait"""

    @property
    def first(self) -> bool:
        """Whether this is the one that tracks, saves and speaks."""
        return self.rank == 0

    def part(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This rank's part of rows that are in order, contiguous; parts differ by one row at most, and may be empty."""
        return np.array_split(rows, self.size)[self.rank]

    def total(self, sums: Tensor) -> Tensor:
        """Sum over the ranks, with gradient: a loss made of it is the whole batch's on each of them.

        The gradient that comes back is multiplied by their number, as DistributedDataParallel divides by it.
        """
        return sums if self.size == 1 else _Total.apply(sums, self.size)

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers, on each of them."""
        if self.size == 1:
            return number
        word = torch.tensor([number])
        dist.all_reduce(word, dist.ReduceOp.MAX, group=self.hosts)
        return int(word.item())

    def share(self, value: Any) -> Any:
        """What rank 0 gives, on every rank: numbers, strings, lists, dicts and tensors, as a checkpoint holds them."""
        if self.size == 1:
            return value
        stream = io.BytesIO()
        if self.first:
            torch.save(value, stream)
        size = torch.tensor([stream.tell()])
        dist.broadcast(size, 0, group=self.hosts)
        words = torch.frombuffer(bytearray(stream.getvalue()) or bytearray(int(size.item())), dtype=torch.uint8)
        dist.broadcast(words, 0, group=self.hosts)
        if self.first:
            return value
        return torch.load(io.BytesIO(words.numpy().tobytes()), map_location="cpu", weights_only=True)

    def send(self, array: Tensor) -> None:
        """Hands a tensor of the host to rank 0, which waits for it in `receive`."""
        dist.send(torch.tensor(array.shape, dtype=torch.int64), 0, group=self.hosts)
        dist.send(array.contiguous(), 0, group=self.hosts)

    def receive(self, rank: int, like: Tensor) -> Tensor:
        """The tensor that a rank sends: number of dimensions and type are those of `like`."""
        shape = torch.empty(like.dim(), dtype=torch.int64)
        dist.recv(shape, rank, group=self.hosts)
        array = torch.empty(shape.tolist(), dtype=like.dtype)
        dist.recv(array, rank, group=self.hosts)
        return array

    def wrap(self, model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        """The network with gradients averaged over the ranks; to be made anew when other weights learn."""
        if self.size == 1:
            return model
        ids = [device] if device.type == "cuda" else None
        with warnings.catch_warnings():
            # torch 2.15 renames the option; older ones do not know the new name
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.*", category=FutureWarning)
            # buffers are looked at when a rank scores, not in a step: `same_buffers` does it once an epoch
            return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def same_buffers(self, model: torch.nn.Module) -> None:
        """Gives every rank rank 0's running statistics. With SyncBatchNorm they are the same already."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def reseed(self, seed: int, step: int) -> None:
        """Gives ranks other than 0 random numbers of their own, as dropout takes them; a function of seed and step."""
        if not self.first:
            torch.manual_seed((seed * 1_000_003 + step * 8191 + self.rank) % 2**63)

    def stopping(self, own: Signals, stride: int) -> Signals:
        """What `fit` asks about signals: this process's own, or those of all ranks."""
        return own if self.size == 1 else SharedSignals(own, self, stride)


def join(name: str, about: dict[str, str] | None = None) -> Ranks:
    """Finds the other processes that torchrun started, if it did, and waits until they are all there.

    Args:
        name: train.device
        about: what all of them must have in common (`meeting.meet`)

    Raises:
        ConfigError: a device for one process is asked for by name, there are fewer GPUs than processes, or the
            processes differ
        RunFailed: some do not come, or cannot connect
    """
    size, here = job.size(), job.size_here()
    if size == 1:
        return Ranks()
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"train.device='{name}' is for one process, and torchrun started {size}: use auto, cpu or cuda, and "
            "choose GPUs with CUDA_VISIBLE_DEVICES."
        )
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name != "cpu" and gpus and gpus < here:
        raise ConfigError(
            f"torchrun started {here} processes on a machine with {gpus} GPUs: give --nproc_per_node={gpus}, or "
            "train.device=cpu."
        )
    rank = job.rank()
    if rank:
        logging.getLogger("glidexp").setLevel(logging.ERROR)
    with _connecting():
        if not dist.is_initialized():
            room = meeting.meet(about or {})
            backend = "nccl" if name == "cuda" or (name == "auto" and gpus > 0) else "gloo"
            dist.init_process_group(backend, store=room, rank=rank, world_size=size, timeout=TIMEOUT)
        hosts: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
    keep_alive()
    return Ranks(rank=rank, size=size, local=job.rank_here(), locals=here, hosts=hosts)


@contextmanager
def _connecting() -> Iterator[None]:
    """Says what to do where processes that have met by torchrun's connection cannot open their own."""
    try:
        yield
    except RuntimeError as error:
        if not _is_exchange(error):
            raise
        raise RunFailed(
            f"processes cannot connect to each other ({' '.join(str(error).split())[:200]}): let all ports between the "
            "nodes through, or name the network interface that leads to the others, GLOO_SOCKET_IFNAME=eth0."
        ) from error


def _is_exchange(error: RuntimeError) -> bool:
    """Whether the exchange between processes raised it: gloo's errors are plain ones, NCCL's are children."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def keep_alive() -> None:
    """Lets the system find out that the machine behind one of this process's connections is gone.

    A process that dies closes its connections. A machine without power, or behind a cut cable, closes nothing, and gloo
    waits for its words as long as it may.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        return
    try:
        lines = psutil.Process().net_connections("tcp")
    except (psutil.Error, OSError):  # some sandboxes show no connections; training does without
        return
    for line in lines:
        if line.raddr and line.fd >= 0:
            with socket.socket(fileno=os.dup(line.fd)) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_S)
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_S)
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ASKED)
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * (SILENT_S + ASK_S * ASKED))


@contextmanager
def joined(ranks: Ranks) -> Iterator[None]:
    """The life of a rank: it leaves in order, when all are done, or after the one whose error ends the job.

    Rank 0 has most to do in the end, and on another node torchrun would wait for it no longer than five minutes.
    """
    try:
        with lost_rank_told(ranks):
            yield
            if ranks.size > 1:
                dist.barrier(group=ranks.hosts)
    except RankLost:
        time.sleep(GRACE_S)
        raise
    if ranks.size > 1:
        dist.destroy_process_group()


@contextmanager
def lost_rank_told(ranks: Ranks) -> Iterator[None]:
    """Turns what the exchange raises when another rank has died into one sentence.

    torchrun ends the job at the first rank that ends, and asks the others by a signal, which has nothing to add here.

    Raises:
        RankLost: another rank has died
    """
    try:
        yield
    except RuntimeError as error:
        if ranks.size == 1 or not _is_exchange(error):
            raise
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        why = meeting.what_is_told() or "its own error says why."
        raise RankLost(f"another process of this job ended: {why}") from error


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sums: Tensor, size: int) -> Tensor:
        ctx.size = size
        added = sums.detach().clone()
        dist.all_reduce(added)
        return added

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.size, None


class SharedSignals(Signals):
    """A signal to any rank stops all of them after the same step. What `fit` asks in place of the process's own.

    Args:
        own: signals of this process, whose `pending` the others' are put into
        ranks: the processes
        stride: optimizer steps between two looks at the others
    """

    def __init__(self, own: Signals, ranks: Ranks, stride: int) -> None:
        super().__init__()
        own.patient = True
        self._own, self._ranks, self._stride = own, ranks, stride

    def asked(self, step: int = 0) -> bool:
        """Whether any rank got a signal, known to all of them at the same step."""
        if step % self._stride:
            return False
        number = self._ranks.largest(self._own.pending or 0)
        self._own.pending = number or None
        return number > 0

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Scoring is not cut short: the other ranks would wait in it."""
        yield
