"""What a person sees while a run works: a bar with ETA, loss and images/s on a terminal, lines in a log.

A log has a line an epoch, and more only where it would be silent for long (`data.steps.Pace`): an epoch of all of GLID
takes hours without a GPU, and its scoring many minutes.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from torch import Tensor

from glidexp.data.steps import Pace, shown_steps, span

if TYPE_CHECKING:
    from glidexp.training.evaluate import Evaluator

log = logging.getLogger("glidexp")

REFRESH_S = 0.5
"""seconds between looks at the loss: each is a wait for the device"""
SCORED = 1 / 3
"""what scoring a tile costs as a share of training on it, assumed until the first scoring"""


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
        self._silent = silent
        self._images = 0
        self._since = self._now = time.perf_counter()
        self._shown = 0.0
        self._epoch = self._batch = 0
        self._done, self._spent = 0, 0.0
        """batches of earlier epochs that were made here, and their seconds"""
        self._here = 0
        """batches of this epoch that were made here"""
        self._to_judge, self._judged = 0, 0
        """tiles that are scored after each epoch, and were after this one"""
        self._judging_s: float | None = None
        """of the last scoring that was whole"""
        self._pace = Pace()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self.console.is_terminal and not silent:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("epoch 1", total=epochs * batches, note="")

    def __enter__(self) -> "Meter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start_epoch(self, epoch: int, *, done: int) -> None:
        """Sets the counters to the start of an epoch, from 0, of which some batches are done already."""
        self._spent += self._now - self._since
        self._done += self._here
        self._epoch, self._batch, self._here, self._images, self._judged = epoch, done, 0, 0, 0
        self._since = self._now = time.perf_counter()
        if self._bar is not None:
            completed = epoch * self.batches + done
            self._bar.update(self._task, completed=completed, description=f"epoch {epoch + 1}/{self.epochs}")

    def step(self, images: int, loss: Tensor) -> None:
        """Counts a batch. The loss is read from the device only when somebody is told."""
        self._images += images
        self._batch += 1
        self._here += 1
        self._now = time.perf_counter()
        if self._silent:
            return
        if self._bar is None:
            if self._pace.due():
                log.info(
                    "epoch %d/%d: %d of %d batches, %s", *self._place(), self._batch, self.batches, self._note(loss)
                )
        elif self._now - self._shown >= REFRESH_S:
            done = self._epoch * self.batches + self._batch
            self._bar.update(self._task, completed=done, note=self._note(loss))
            self._shown = self._now

    def _place(self) -> tuple[int, int]:
        return self._epoch + 1, self.epochs

    def _note(self, loss: Tensor) -> str:
        speed = self._images / max(self._now - self._since, 1e-9)
        return f"loss {loss.item():.4f}  {speed:.1f} images/s  about {span(self.left_s())} left"

    def left_s(self) -> float:
        """Seconds to the end of the last epoch at the speed so far, scoring on val included; NaN before a batch.

        What an earlier process did of a run that goes on counts as done, and not as fast.
        """
        here = self._done + self._here
        if not here:
            return math.nan
        each = (self._spent + self._now - self._since) / here
        epochs = self.epochs - self._epoch
        judging_s = self._judging_s
        if judging_s is None:
            judging_s = SCORED * self._to_judge * (self._now - self._since) / max(self._images, 1)
        return each * (epochs * self.batches - self._batch) + epochs * judging_s

    @contextmanager
    def scoring(self, evaluator: "Evaluator") -> Iterator[None]:
        """Tells how far the scoring between epochs is, while it lasts."""
        self._to_judge, began = evaluator.own, 0.0

        def told(tiles: int) -> None:
            nonlocal began
            if not self._judged:
                began = self._now  # the last step: the first batch counts too
            self._judged += tiles
            now = time.perf_counter()
            if self._judged >= evaluator.own:
                self._judging_s = now - began
            if self._silent:
                return
            if self._bar is None:
                if self._pace.due():
                    log.info("epoch %d/%d: %d of %d val tiles scored", *self._place(), self._judged, evaluator.own)
            elif now - self._shown >= REFRESH_S:
                self._bar.update(self._task, note=f"val tiles scored: {self._judged}/{evaluator.own}")
                self._shown = now

        with telling(evaluator, told):
            yield

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


@contextmanager
def telling(evaluator: "Evaluator", told: Callable[[int], object]) -> Iterator[None]:
    """Has an evaluator call `told` after each of its batches, with the number of tiles."""
    before, evaluator.told = evaluator.told, told
    try:
        yield
    finally:
        evaluator.told = before


@contextmanager
def scoring(evaluator: "Evaluator", what: str) -> Iterator[None]:
    """Shows how far the final scoring of a side is: a bar on a terminal, and in a log what takes more than a moment."""
    with (
        shown_steps(evaluator.own, "tiles", evaluator.ranks.first, what=f"scoring {what}", late=True) as step,
        telling(evaluator, lambda tiles: step("", tiles)),
    ):
        yield
