"""A process that maps scenes, and the hold that the server has on it: it can be ended whatever it is at.

torch and the network live there alone. The two speak by a pipe: tasks go in, steps and ends come out.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.errors import GlidexpError
from glidexp.serving.refusal import ALONE, Refusal

if TYPE_CHECKING:
    from glidexp.data.sensors import Sensor
    from glidexp.serving.judge import Judged
    from glidexp.serving.results import Result
    from glidexp.serving.settings import ServeSettings, Wish

log = logging.getLogger("glidexp")
Step = Callable[[int, int], None]
"""called with how many rows of windows are done, of how many"""
READY, STEP, DONE, REFUSED = "ready", "step", "done", "refused"
END_S = 5.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What the process is given once."""

    bundle: Path
    model: str
    """what names it in tables"""
    settings: "ServeSettings"
    own_sensors: "tuple[Sensor, ...]" = ()
    """that the registry lacks in the process"""


@dataclass(frozen=True, slots=True)
class Task:
    """A scene to map."""

    scene: "Judged"
    wish: "Wish"
    out: Path
    """folder of the map"""


Answer = Callable[[Task, Step], "Result"]
Begin = Callable[[Setup], Answer]
"""called in the process; loads the network and gives what answers tasks"""


def mapping(setup: Setup) -> Answer:
    """Maps scenes as `glidexp predict` does. What it takes is imported here, so that the server goes without torch."""
    from glidexp.serving.mapper import begin

    return begin(setup)


def work(line: Connection, begin: Begin, setup: Setup) -> None:
    """Answers tasks until the line is closed; runs in the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the server, which ends this
    os.environ.update(ALONE)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            answer = begin(setup)
        except GlidexpError as error:
            return line.send((REFUSED, error))
        line.send((READY, None))
        while True:
            task: Task = line.recv()
            line.send(_answered(answer, task, lambda done, total: line.send((STEP, (done, total)))))


def _answered(answer: Answer, task: Task, step: Step) -> tuple[str, Any]:
    try:
        return DONE, answer(task, step)
    except Refusal as refusal:
        return REFUSED, refusal
    except (BrokenPipeError, ConnectionResetError):
        raise
    except MemoryError:
        return REFUSED, Refusal(413, "the scene does not fit this machine's memory: send a smaller one.")
    except Exception as error:
        logging.getLogger("glidexp").exception("scene %s", task.scene.name)
        return REFUSED, Refusal(500, f"the scene could not be mapped: {type(error).__name__}: {error}")


class Worker:
    """The process, as the server sees it. One task at a time.

    Args:
        begin: a function of a module, as the process imports it
        setup: for it
    """

    def __init__(self, begin: Begin, setup: Setup) -> None:
        self._begin, self._setup = begin, setup
        self._line: Connection | None = None
        self._process: Any = None
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether the network is loaded."""
        return self._ready and self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Starts the process, unless it runs; does not wait until it is ready."""
        if self._process is not None and self._process.is_alive():
            return
        self.stop()
        context = multiprocessing.get_context("spawn")  # no thread or socket of the server goes with it
        self._line, other = context.Pipe()
        self._process = context.Process(
            target=work, args=(other, self._begin, self._setup), daemon=True, name="mapping"
        )
        self._process.start()
        other.close()

    async def wait_ready(self) -> None:
        """Waits until the network is loaded.

        Raises:
            GlidexpError: it cannot be loaded
        """
        self.start()
        while not self._ready:
            kind, content = await self._message()
            if kind == REFUSED:
                self.stop()
                raise content
            self._ready = kind == READY

    async def answer(self, task: Task, step: Step) -> "Result":
        """Maps a scene. Cancel the call, then `stop`, to end it.

        Raises:
            Refusal: why it could not be mapped
        """
        await self.wait_ready()
        assert self._line is not None
        self._line.send(task)
        while True:
            kind, content = await self._message()
            if kind == STEP:
                step(*content)
            elif kind == DONE:
                result: Result = content
                return result
            else:
                raise content

    def stop(self) -> None:
        """Ends the process at once, whatever it is at."""
        self._ready = False
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.join(END_S)
        self._line = self._process = None

    async def _message(self) -> tuple[str, Any]:
        line, process = self._line, self._process
        assert line is not None
        loop = asyncio.get_running_loop()
        coming: asyncio.Future[None] = loop.create_future()
        handle = line.fileno()

        def come() -> None:
            if not coming.done():
                coming.set_result(None)

        loop.add_reader(handle, come)
        try:
            await coming
        finally:
            loop.remove_reader(handle)
        try:
            message: tuple[str, Any] = line.recv()
        except (EOFError, OSError):
            process.join(END_S)
            code = process.exitcode
            self.stop()
            log.error("the process that maps scenes ended by itself (exit code %s); it is started again", code)
            why = "out of memory?" if code == -signal.SIGKILL else f"exit code {code}"
            raise Refusal(500, f"the mapping of the scene ended by itself ({why}): try a smaller scene.") from None
        return message
