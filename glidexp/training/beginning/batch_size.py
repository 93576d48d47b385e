"""`train.batch_size=auto`: the largest batch that the device's memory takes, found before the run has a name.

On a GPU whole training steps are tried, twice as many tiles each time until the memory is full, then the gap is halved.
On a CPU nothing would say that it is full, the machine would only get slow: what a tile takes is measured in two small
steps instead. The number then stands in the settings as though it had been given. So the config id names it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import psutil
import torch

from glidexp.config import Config, TrainConfig
from glidexp.data.host_memory import free_host_bytes
from glidexp.data.order import order
from glidexp.data.resident import GB, free_bytes, has_room, tile_bytes
from glidexp.data.sensor_mix import judging_rows, training_rows
from glidexp.data.store import TileStore
from glidexp.errors import ConfigError
from glidexp.models.catalog import least_batch
from glidexp.models.hardware import given_back, is_short_of_memory
from glidexp.training.augmentation.augment import Augment
from glidexp.training.augmentation.telling import telling_of, told_for
from glidexp.training.device import Runtime, device_name
from glidexp.training.losses import build_loss
from glidexp.training.parts import Parts
from glidexp.training.processes.ranks import Ranks
from glidexp.training.watch import gradient_norm

log = logging.getLogger("glidexp")

MOST_ON_A_GPU = 1024
"""tiles a process; far beyond where images/s still rise"""
MOST_ON_A_CPU = 32
"""tiles a process; images/s do not rise with the batch (U-Net resnet18 at 128 px: 0.55 with 2, 0.47 with 16)"""
STEPS = 8
"""optimizer steps that an epoch keeps, where there are tiles enough"""
FEW = 8
"""tiles that a batch holds even at the price of steps: the default"""
KEPT_BACK = 0.05
"""of a GPU's memory, for what a step takes only now and then"""
CPU_SHARE = 0.5
"""of the main memory that is free; the loader's pages and the scoring need the rest"""
HALVINGS = 3
"""of the gap between what fits and what does not: the number is right to an eighth"""
LOOKS_S = 0.001
"""between two looks at the process's memory"""

Step = Callable[[int], None]
"""a whole training step on so many tiles; torch's error where the memory is full"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of tiles and why it is that one."""

    tiles: int
    why: str


def settle(config: Config, runtime: Runtime, tiles: TileStore, build: Callable[[Runtime], Parts]) -> Config:
    """The settings with a number in place of `train.batch_size=auto`, the same on every rank.

    Args:
        config: with auto
        runtime: device, precision, ranks; each rank tries its own device, and the smallest number counts for all
        tiles: what is to be trained on
        build: network and optimizer, to be tried out and thrown away

    Raises:
        ConfigError: not even the smallest batch fits
    """
    started, ranks = time.monotonic(), runtime.ranks
    count = len(training_rows(tiles, config.sensor_mix, config.subset, config.seed, config.self_training)[0])
    least = least_batch(config.decoder.name, config.tile_size.px)
    by_epoch = max(count // (STEPS * config.train.accumulate), min(FEW, count)) // ranks.size
    most, why_most = _most(runtime, max(by_epoch, least))
    alone = replace(runtime, ranks=Ranks(), compile=False)  # ranks try other numbers, so they must not wait for others
    if runtime.device.type == "cpu":
        free = free_host_bytes() // ranks.locals
        choice = estimated(lambda: training_step(config, alone, tiles, build(alone)), least, most, free)
    else:
        choice = _tried_here(config, runtime, tiles, build(alone), count, least, most)
        given_back()  # of the parts, which nothing holds any more
    if not choice.tiles:
        raise ConfigError(
            f"train.batch_size=auto: not even a batch of {least} fits ({choice.why}): smaller tiles, a smaller network "
            "or train.gradient_checkpointing=true need less."
        )
    own = -ranks.largest(-choice.tiles)
    why = choice.why if own < most else f"{why_most}; {choice.why}"
    shared = f", {own} for each of {ranks.size} processes" if ranks.size > 1 else ""
    log.info(
        "train.batch_size=auto: %d a batch, of tiles of %d px%s, on %s (%s; %.1f s)",
        own * ranks.size,
        config.tile_size.px,
        shared,
        device_name(runtime),
        why,
        time.monotonic() - started,
    )
    return with_batch(config, own * ranks.size)


def _tried_here(
    config: Config, runtime: Runtime, tiles: TileStore, parts: Parts, count: int, least: int, most: int
) -> Choice:
    judging = len(judging_rows(tiles, config.sensor_mix, config.subset, config.seed))
    kept = _kept_back(config.train, runtime, tiles, (judging, count), parts)
    return tried(training_step(config, replace(runtime, ranks=Ranks()), tiles, parts), parts, least, most, kept)


def with_batch(config: Config, size: int) -> Config:
    """The settings with this batch."""
    return replace(config, train=replace(config.train, batch_size=size))


def machine(runtime: Runtime) -> dict[str, str]:
    """What the number depends on beside the settings: it is looked for again on another kind of machine."""
    name, memory = runtime.device.type, psutil.virtual_memory().total
    if name == "cuda":
        name = device_name(runtime)
        memory = torch.cuda.get_device_properties(runtime.device).total_memory
    return {"device": f"{name} of {memory / GB:.0f} GB", "processes": str(runtime.ranks.size)}


def _most(runtime: Runtime, by_epoch: int) -> tuple[int, str]:
    """The most tiles a process that are of any use, and why."""
    by_device = MOST_ON_A_CPU if runtime.device.type == "cpu" else MOST_ON_A_GPU
    if by_device <= by_epoch:
        kind = runtime.device.type.upper()
        return by_device, f"the most that is tried on a {kind}: more tiles a step give no more images a second there"
    return by_epoch, f"more would leave an epoch fewer than {STEPS} steps"


def _kept_back(cfg: TrainConfig, runtime: Runtime, tiles: TileStore, counts: tuple[int, ...], parts: Parts) -> int:
    """Bytes of a GPU that a trial leaves alone: a margin, tiles that are to stay there, gradients on their way."""
    free, reserve = free_bytes(runtime.device), 0
    for rows in counts:  # val, then train: in the order in which they take their place
        nbytes = tile_bytes(tiles) * rows
        if has_room(cfg.resident, nbytes, free - reserve, runtime.device):
            reserve += nbytes
    if runtime.ranks.size > 1:  # DistributedDataParallel copies them into buckets
        reserve += sum(weight.nbytes for weight in parts.model.parameters())
    return reserve + int(KEPT_BACK * free)


def training_step(config: Config, runtime: Runtime, tiles: TileStore, parts: Parts, *, mixed: bool = False) -> Step:
    """Steps as `fit` does them: augmentation, forward, backward and optimizer, in the precision of the run.

    With `input.gsd_m` a tile takes memory and time by its pixels' size. Each is as large as the coarsest that is
    trained on, since a batch may hold such tiles alone; or they are `mixed` as in an epoch, which tells the time.
    """
    augment = Augment(
        config.augmentation,
        mean=tiles.manifest["channel_mean"],
        std=tiles.manifest["channel_std"],
        seed=config.seed,
        dtype=runtime.dtype,
        telling=telling_of(told_for(config, tiles), tiles),
        terrain=len(tiles.terrain),
    )
    shown = _shown(config, tiles, mixed)
    loss_of = build_loss(config.loss)
    weights = [p for group in parts.optimizer.param_groups for p in group["params"]]
    device, px, channels = runtime.device, tiles.tile_px, tiles.channels
    parts.model.train()

    def step(count: int) -> None:
        # the loader's buffers on the device: the batch, the one before, and those that are being filled
        images = torch.randint(0, 256, (4, count, px, px, channels), dtype=torch.uint8, device=device)
        labels = torch.randint(0, 2, (4, count, px, px), dtype=torch.uint8, device=device)
        rows, again = torch.from_numpy(np.resize(shown, count)), torch.arange(count)  # one that comes twice draws anew
        ready = augment(images[0].permute(0, 3, 1, 2), labels[0], rows, 0, again)
        with runtime.autocast():
            logits = parts.model(ready.image)
        loss = loss_of(logits, ready.mask, ready.valid)
        parts.scaler.scale(loss).backward()
        parts.scaler.unscale_(parts.optimizer)
        gradient_norm(weights, config.train.clip_norm)
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        parts.optimizer.zero_grad(set_to_none=True)
        if parts.ema is not None:
            parts.ema.update()

    return step


def _shown(config: Config, tiles: TileStore, mixed: bool) -> npt.NDArray[np.int64]:
    """Rows of training tiles that steps are told of, for `training_step`."""
    rows, weights = training_rows(tiles, config.sensor_mix, config.subset, config.seed, config.self_training)
    if mixed or config.input.gsd_m is None:
        return rows[order(len(rows), seed=config.seed, epoch=0, weights=weights)]
    return rows[[tiles.index["gsd_m"].iloc[rows].argmax()]]


def tried(step: Step, parts: Parts, least: int, most: int, kept_back: int) -> Choice:
    """The largest batch of which two steps fit beside `kept_back` bytes; 0 where not even `least` does."""
    device = parts.device
    free, missed = free_bytes(device), 0

    def fits(count: int) -> bool:
        nonlocal missed
        held: torch.Tensor | None = None
        done = False
        try:
            held = torch.empty(kept_back, dtype=torch.uint8, device=device)
            step(count)
            step(count)  # the first one finds the fastest kernels, the second has the optimizer's state from the start
            done = True
        except RuntimeError as error:
            if not is_short_of_memory(error):
                raise
        del held
        if not done:  # out here, where no trace keeps the batch any more
            missed = count
            parts.optimizer.zero_grad(set_to_none=True)
            parts.optimizer.state.clear()  # it may have been half made
        given_back()
        return done

    found = largest(fits, least, most)
    limit = f"{missed} did not fit" if missed else f"{found} fit"
    return Choice(found, f"{limit} into {free / GB:.1f} GB free, {kept_back / GB:.1f} GB of it kept back")


def largest(fits: Callable[[int], bool], least: int, most: int) -> int:
    """The largest number from `least` to `most` that fits, to an eighth; 0 where `least` does not.

    Doubles until one does not fit and then halves the gap: the costly trials are few.
    """
    if not fits(least):
        return 0
    low, high = least, 0
    while low < most and not high:
        following = min(2 * low, most)
        if fits(following):
            low = following
        else:
            high = following
    for _ in range(HALVINGS):
        middle = (low + high) // 2
        if middle <= low:
            break
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def estimated(build: Callable[[], Step], least: int, most: int, free: int) -> Choice:
    """The batch that fills a share of main memory, from what small steps take; `least` where there is too little.

    Args:
        build: gives the step; what network and optimizer take is measured with it
        least: tiles of the first step; a second one has up to four times as many
        most: tiles
        free: bytes that this process may take
    """
    small, large = least, min(4 * least, most)
    before = psutil.Process().memory_info().rss
    step = build()
    built = psutil.Process().memory_info().rss
    step(small)  # makes the optimizer's state
    with Peak() as first:
        step(small)
    with Peak() as second:
        step(large)
    slope = (second.rss - first.rss) / max(large - small, 1)
    each = max(slope, (second.rss - built) / (4 * large), 1.0)  # a slope lost in the noise must not promise too much
    room = max(int(large + (CPU_SHARE * free - (second.rss - before)) / each), 0)
    why = (
        f"memory takes about {room}: {each / GB:.3f} GB a tile by trial steps, {free / GB:.1f} GB free, half of it used"
    )
    return Choice(min(max(room, least), most), why)


class Peak:
    """The most resident memory of this process while inside, bytes: looked at by a thread, as a step frees it again."""

    def __init__(self) -> None:
        self.rss = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)

    def _look(self) -> None:
        process = psutil.Process()
        while True:
            self.rss = max(self.rss, process.memory_info().rss)
            if self._over.wait(LOOKS_S):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
