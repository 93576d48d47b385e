"""What a person sees while a run works: a bar with ETA, loss and images/s on a terminal, a line an epoch in a log."""

import logging
import math
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

log = logging.getLogger("glidexp")

REFRESH_S = 0.5
"""seconds between looks at the loss: each is a wait for the device"""


class Meter:
    """Progress of one training run.

    Args:
        epochs: of the whole run
        batches: of one epoch
        silent: draw no bar, as one of several processes does
    """

    def __init__(self, epochs: int, batches: int, *, silent: bool = False) -> None:
        self.epochs = epochs
        self.batches = batches
        self.console = Console(stderr=True)
        self._images = 0
        self._since = time.perf_counter()
        self._shown = 0.0
        self._pending = 0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self.console.is_terminal and not silent:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("epoch 1", total=epochs * batches, note="")

    def __enter__(self) -> "Meter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start_epoch(self, epoch: int, *, done: int, total: int) -> None:
        """Sets the counters to the start of an epoch, from 0."""
        self._images, self._since, self._pending = 0, time.perf_counter(), 0
        if self._bar is not None:
            self._bar.update(self._task, completed=epoch * total + done, description=f"epoch {epoch + 1}/{self.epochs}")

    def step(self, images: int, loss: Tensor) -> None:
        """Counts a batch. The loss is read from the device only when the bar is due."""
        self._images += images
        self._pending += 1
        now = time.perf_counter()
        if self._bar is None or now - self._shown < REFRESH_S:
            return
        note = f"loss {loss.item():.4f}  {self._images / (now - self._since):.1f} images/s"
        self._bar.update(self._task, advance=self._pending, note=note)
        self._shown, self._pending = now, 0

    def epoch_line(self, epoch: int, metrics: dict[str, float], select: str, better: bool) -> None:
        """One line for the log after an epoch."""
        score = metrics.get(select, math.nan)
        line = (
            f"epoch {epoch + 1}/{self.epochs}  loss {metrics['train/loss']:.4f}  {select} {score:.4f}"
            f"{' (best)' if better else ''}  {metrics.get('train/images_per_s', 0.0):.1f} images/s"
        )
        if self._bar is not None:
            self.console.print(line, highlight=False)
        else:
            log.info(line)
