"""Turns for trainings that cannot be called an epoch at a time, such as those of a framework with a loop of its own."""

import threading
import time
from collections.abc import Callable

import torch

Taken = tuple[float, float]
"""wall and CPU seconds"""


class Lane:
    """A training in a thread of its own that does an epoch whenever it is asked to, and is timed.

    `work` gets a function that it calls before every epoch and after the last: there it waits for its next turn.
    """

    def __init__(self, work: Callable[[Callable[[], None]], None], device: torch.device) -> None:
        self._work, self._device = work, device
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._began: Taken | None = None
        self._taken: Taken = (0.0, 0.0)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def epoch(self) -> Taken:
        """Lets the training do one epoch, and gives what it took."""
        if not self._thread.is_alive():
            self._thread.start()
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._taken

    def end(self) -> None:
        """Lets what comes after the last epoch happen."""
        self._go.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work(self._boundary)
        except BaseException as error:  # noqa: BLE001  handed to who waits
            self._error = error
            self._done.release()

    def _boundary(self) -> None:
        if self._began is not None:
            wall, cpu = self._now()
            self._taken = wall - self._began[0], cpu - self._began[1]
            self._done.release()
        self._go.acquire()
        self._began = self._now()

    def _now(self) -> Taken:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter(), time.process_time()
