"""Processes on this machine, forked off one that has imported everything: 0.3 s instead of the imports of each run."""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

from glidexp.config.launcher import LauncherConfig
from glidexp.study.execution import slots
from glidexp.study.execution.launchers.choice import Job, Launcher
from glidexp.study.execution.work import THREAD_VARIABLES, Order, begin_process, carry_out, end_when_left

log = logging.getLogger("glidexp")

PRELOADED = "glidexp.study.execution.preloaded"
"""module whose import imports what a run needs"""
GRACE_S = 120.0
"""seconds that a run which broke its time limit has to save"""


class LocalJob(Job):
    """A process. Its limits are looked at as it is polled."""

    def __init__(self, process: BaseProcess, cfg: LauncherConfig, release: Callable[[], None]) -> None:
        self._process, self._cfg, self._release = process, cfg, release
        self._began = time.monotonic()
        self._told: float | None = None
        self._ended = False

    def poll(self) -> int | None:
        """As `Job.poll`."""
        self._process.join(0)
        code = self._process.exitcode
        if code is None:
            self._limits()
            return None
        if not self._ended:
            self._ended = True
            self._release()
        return code

    def _limits(self) -> None:
        minutes, memory_gb = self._cfg.time_limit_min, self._cfg.memory_gb
        now = time.monotonic()
        if minutes is not None and self._told is None and now - self._began > minutes * 60:
            self._told, self.why = now, f"was at work for launcher.time_limit_min={minutes:g} minutes"
            self.stop(signal.SIGTERM)
        if self._told is not None and now - self._told > GRACE_S:
            self.kill()
        if memory_gb is not None and not self.why:
            with suppress(psutil.Error):
                taken = slots.own_memory_gb(psutil.Process(self._process.pid))
                if taken > memory_gb:
                    self.why = f"took {taken:.1f} GB of memory, launcher.memory_gb={memory_gb:g} allows no more"
                    self.kill()

    def stop(self, number: int) -> None:
        """As `Job.stop`."""
        if self._process.pid is not None and self._process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """As `Job.kill`; what the run has started goes too."""
        if self._process.pid is not None and self._process.is_alive():
            with suppress(psutil.Error):
                for child in psutil.Process(self._process.pid).children(recursive=True):
                    with suppress(psutil.Error):
                        child.kill()
            self._process.kill()


class LocalLauncher(Launcher):
    """As many processes as there are slots.

    Args:
        cfg: settings
        cells: that are to be run
        device: `train.device` of the runs
    """

    def __init__(self, cfg: LauncherConfig, *, cells: int, device: str = "auto") -> None:
        self._cfg = cfg
        self._free = slots.slots(cfg, cells=cells, device=device)
        self.slots = len(self._free)
        self.threads = cfg.cores or max(slots.cores() // self.slots, 1)
        self._context: ForkServerContext | SpawnContext = multiprocessing.get_context("spawn")
        if cfg.warm:
            self._context = multiprocessing.get_context("forkserver")
            _end_other_fork_server()
            self._context.set_forkserver_preload([PRELOADED])

    def start(self, orders: list[Order]) -> list[Job]:
        """As `Launcher.start`."""
        return [self._start(order) for order in orders]

    def _start(self, order: Order) -> Job:
        place = self._free.pop(0)
        extra = {"PYTHONPATH": os.environ.get("PYTHONPATH"), "CUDA_VISIBLE_DEVICES": place}
        process = self._context.Process(target=_child, args=(order, extra), name=order.name)
        # Libraries read their threads as they are imported, and the process to be forked looks for modules in its own
        # path only: Python gives it none of ours (before 3.14).
        for_imports = dict.fromkeys(THREAD_VARIABLES, str(self.threads)) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with _environment(for_imports):
            process.start()
        return LocalJob(process, self._cfg, lambda: self._free.insert(0, place))

    def close(self) -> None:
        """As `Launcher.close`: the process that runs are forked off ends with this one."""


def _end_other_fork_server() -> None:
    """A process has one fork server: after data were built it is one that has imported no network, and stays so."""
    running: Any = forkserver._forkserver  # Python has no public name for it
    if running._forkserver_pid is not None and running._preload_modules != [PRELOADED]:
        running._stop()


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for what is started inside the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _child(order: Order, extra: Mapping[str, str | None]) -> None:
    try:
        code = _carried_out(order, extra)
    except KeyboardInterrupt:  # before the run handles it
        code = 128 + signal.SIGINT
    raise SystemExit(code)


def _carried_out(order: Order, extra: Mapping[str, str | None]) -> int:
    begin_process(order.log)
    _set({name: value for name, value in extra.items() if value is not None or name == "PYTHONPATH"})
    # CUDA_VISIBLE_DEVICES is read when CUDA is asked for the first time, which no import does
    parent = multiprocessing.parent_process()
    if parent is not None:  # who kills a sweep wants the machine back
        end_when_left(lambda: wait([parent.sentinel]))
    code = carry_out(order)
    logging.shutdown()
    return code
