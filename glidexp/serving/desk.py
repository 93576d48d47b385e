"""Who is mapped when: one scene at a time, few that wait, a limit on time, and folders that are gone afterwards."""

import asyncio
import itertools
import logging
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from glidexp.errors import GlidexpError
from glidexp.serving.refusal import Refusal
from glidexp.serving.results import Result
from glidexp.serving.settings import ServeSettings
from glidexp.serving.worker import Task, Worker
from glidexp.wording import does, many

log = logging.getLogger("glidexp")
KEPT = 20
"""finished maps at most, whatever their age"""
RETRY_S = 15
TIDY_S = 30.0


class State(StrEnum):
    """How far a scene is."""

    coming = "coming"
    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"


@dataclass(slots=True, eq=False)
class Job:
    """A scene from its first byte to the end of its folder."""

    id: str
    folder: Path
    state: State = State.coming
    task: Task | None = None
    steps: tuple[int, int] = (0, 0)
    """rows of windows that are done, and all"""
    result: Result | None = None
    refusal: Refusal | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    turn: int = 0
    """in line: which of all that ever were in it"""
    drawing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """held while a picture of it is made"""
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def open(self) -> bool:
        """Takes a place."""
        return self.state in (State.coming, State.waiting, State.running)


class Desk:
    """Takes scenes, has them mapped one after the other, and keeps what came of them for a while.

    Args:
        root: folder of all of its folders
        worker: maps one scene at a time
        settings: give the limits
    """

    def __init__(self, root: Path, worker: Worker, settings: ServeSettings) -> None:
        self._root, self._worker, self._settings = root, worker, settings
        self._jobs: dict[str, Job] = {}
        self._queue: asyncio.Queue[Job] = asyncio.Queue()
        self._turns = itertools.count()
        self._running: tuple[Job, asyncio.Task[Result]] | None = None
        self._chores: list[asyncio.Task[None]] = []
        self.closed = False

    def start(self) -> None:
        """Begins to work; needs a running loop."""
        self._chores = [asyncio.create_task(self._work()), asyncio.create_task(self._tidy())]

    async def close(self) -> None:
        """Ends what is at work, tells those who wait, and takes all folders away."""
        self.end()
        for chore in self._chores:
            chore.cancel()
            with suppress(asyncio.CancelledError):
                await chore
        self._worker.stop()
        for job in list(self._jobs.values()):
            self.drop(job)

    def end(self) -> None:
        """Tells all who wait that the server ends; what is at work is given up."""
        self.closed = True
        for job in list(self._jobs.values()):
            if job.open:
                self._fail(job, Refusal(503, "the server is ending: try again when it is back.", RETRY_S))
        if self._running is not None:
            self._running[1].cancel()

    @property
    def ready(self) -> bool:
        """Whether the network is loaded."""
        return self._worker.ready

    @property
    def places(self) -> tuple[int, int]:
        """Scenes that are mapped, wait or come; and how many there may be."""
        return sum(job.open for job in self._jobs.values()), 1 + self._settings.queue

    def open(self) -> Job:
        """A place and a folder for a scene that is about to come.

        Raises:
            Refusal: 503, all places are taken
        """
        taken, most = self.places
        if self.closed or taken >= most:
            why = (
                "the server is ending"
                if self.closed
                else f"{many(taken, 'scene')} {does(taken, 'are')} being mapped or {does(taken, 'wait')} already"
            )
            raise Refusal(503, f"{why}: try again in {RETRY_S} s.", RETRY_S)
        done = sorted((job for job in self._jobs.values() if not job.open), key=lambda job: job.ended)
        for job in done[: max(len(done) - KEPT + 1, 0)]:
            self.drop(job)
        name = secrets.token_urlsafe(12)
        job = Job(name, self._root / secrets.token_hex(8))
        job.folder.mkdir(mode=0o700)
        self._jobs[name] = job
        return job

    def enter(self, job: Job, task: Task) -> None:
        """Puts a scene that has come in line."""
        if job.refusal is not None:
            raise job.refusal
        job.task, job.state, job.turn = task, State.waiting, next(self._turns)
        self._queue.put_nowait(job)

    def find(self, name: str) -> Job:
        """A scene by its id.

        Raises:
            Refusal: 404, there is none, or no longer
        """
        job = self._jobs.get(name)
        if job is None:
            kept = f"maps are kept for {self._settings.keep_min:g} minutes, the last {KEPT} of them"
            raise Refusal(404, f"there is no such map: {kept}.")
        return job

    def ahead(self, job: Job) -> int:
        """How many are mapped before this one that waits."""
        waiting = [other for other in self._jobs.values() if other.state in (State.waiting, State.running)]
        return sum(other.turn < job.turn for other in waiting)

    def drop(self, job: Job) -> None:
        """Ends a scene, wherever it is, and takes its folder away."""
        self._jobs.pop(job.id, None)
        if job.open:
            self._fail(job, Refusal(404, "this map was cancelled."))
        if self._running is not None and self._running[0] is job:
            self._running[1].cancel()  # the folder goes when the process has ended
        else:
            shutil.rmtree(job.folder, ignore_errors=True)

    async def _work(self) -> None:
        while True:
            with suppress(GlidexpError, OSError):  # told to the next scene, if it lasts
                await self._worker.wait_ready()
            job = await self._queue.get()
            if job.state is not State.waiting or job.task is None:
                continue
            job.state, job.began = State.running, time.monotonic()
            mapping = asyncio.create_task(self._worker.answer(job.task, _noting(job)))
            self._running = (job, mapping)
            try:
                await self._ended(job, mapping)
            finally:
                self._running = None
                shutil.rmtree(job.task.out.parent / "input", ignore_errors=True)
                if job.id not in self._jobs:
                    shutil.rmtree(job.folder, ignore_errors=True)

    async def _ended(self, job: Job, mapping: "asyncio.Task[Result]") -> None:
        """Waits until a scene is mapped, is cancelled, or has taken too long; the latter two end the process."""
        limit = self._settings.timeout_s
        try:
            done, _ = await asyncio.wait([mapping], timeout=limit)
        except asyncio.CancelledError:  # the server ends
            await _given_up(mapping)
            raise
        seconds = time.monotonic() - job.began
        if not done or mapping.cancelled():
            await _given_up(mapping)
            self._worker.stop()
            late = f"the scene took longer than the {limit:g} s allowed: send a smaller one, or raise --timeout."
            self._fail(job, Refusal(504, late))
            log.info("scene given up after %.1f s", seconds)
            return
        error = mapping.exception()
        if error is None:
            job.result, job.state, job.ended = mapping.result(), State.done, time.monotonic()
            job.over.set()
            log.info("scene mapped in %.1f s: %s", seconds, many(job.result.summary.get("lakes", 0), "lake"))
        else:
            self._fail(job, error if isinstance(error, Refusal) else Refusal(500, f"failed: {error}"))
            log.info("scene refused after %.1f s: %s", seconds, error)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_S)
            self.tidy()

    def tidy(self) -> None:
        """Drops maps that have been kept long enough."""
        oldest = time.monotonic() - self._settings.keep_min * 60
        for job in [job for job in self._jobs.values() if not job.open and job.ended < oldest]:
            self.drop(job)

    def _fail(self, job: Job, refusal: Refusal) -> None:
        if job.open:
            job.state, job.refusal, job.ended = State.failed, refusal, time.monotonic()
            job.over.set()


async def _given_up(mapping: "asyncio.Task[Result]") -> None:
    mapping.cancel()
    with suppress(asyncio.CancelledError, GlidexpError):
        await mapping


def _noting(job: Job) -> Callable[[int, int], None]:
    def note(done: int, total: int) -> None:
        job.steps = (done, total)

    return note
