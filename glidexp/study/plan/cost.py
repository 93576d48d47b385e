"""Hours and bytes of a study before it is run: from finished runs of the same network on the same tiles, else from a
few steps and scored batches of each distinct network that are tried here.

A run's time is taken as `begin and end + epochs x (training tiles / speed + val tiles / speed of scoring)`. Of finished
runs all three are known from when they logged their epochs. A trial tells both speeds; begin and end are then those of
finished runs on other tiles, and where there are none, an assumption that the plan says it makes.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glidexp.config import Config, flat
from glidexp.study.plan.budget import Spent
from glidexp.study.plan.data import Sizes
from glidexp.tracking.history import Course, PastRun

if TYPE_CHECKING:
    from glidexp.data.store import TileStore

SCORED = 1 / 3
"""what scoring a tile costs as a share of training on it, assumed of finished runs of a single epoch"""
ENDS_S = 12.0
"""seconds of a run besides epochs and final scoring, for opening, pictures and the model: assumed where no finished run
tells"""
TRIAL_S = 3.0
"""seconds of trial steps for a network, after the first one"""
SCORED_BATCHES = 4
"""that a trial scores, after the first one"""
RUN_BYTES = 4_000_000
"""tables, plots and pictures that a run leaves"""
MASK_BYTES = 0.03
"""of a mask as PNG, a pixel"""
STATES = 4
"""copies of the weights in a checkpoint: weights, best weights, two moments of the optimizer; two are kept"""
MOST_RUNS = 4
"""finished runs of a network that are looked at closely"""
DECIDES = (
    "backbone.",
    "decoder.",
    "augmentation.",
    "loss.",
    "input.",
    "tile_size.",
    "subset.",
    "self_training.",
    "style.",
    "sensor_mix.",
    "train.batch_size",
    "train.accumulate",
    "train.precision",
    "train.compile",
    "train.device",
    "train.gradient_checkpointing",
    "train.ema_decay",
    "train.freeze_encoder_epochs",
    "train.lora_rank",
    "train.unfreeze_every",
)
"""settings on which the speed, or the number of tiles, depends"""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one network on one kind of tiles on this machine."""

    images_per_s: float
    """training tiles"""
    scored_per_s: float
    """tiles that are only scored"""
    ends_s: float
    """of a run besides its epochs"""
    parameters: int
    tried: bool = False
    """from trial steps, not from finished runs"""
    ends_assumed: bool = False
    """no finished run tells of begin and end"""


def seconds(speed: Speed, spent: Spent, sizes: Sizes, batch: int) -> float:
    """What one run is expected to take."""
    return speed.ends_s + spent.epochs * (
        sizes.train // batch * batch / speed.images_per_s + sizes.val / speed.scored_per_s
    )


def kind(config: Config) -> tuple[tuple[str, str], ...]:
    """What decides the speed: setting and value."""
    return tuple((key, str(value)) for key, value in flat(config).items() if key.startswith(DECIDES))


@functools.cache
def _usual() -> dict[str, str]:
    """What decides the speed, at its defaults."""
    return dict(kind(Config()))


def of_history(
    config: Config,
    sizes: Sizes,
    past: Sequence[PastRun],
    course: Callable[[PastRun], Course | None],
    threads: int | None = None,
) -> Speed | None:
    """The speed of the latest finished runs of the same network, batch and tiles; None where there are none.

    Args:
        config: of the run to come
        sizes: of its tiles
        past: finished runs on the same tiles
        course: where the time of one of them went
        threads: of the run to come on CPU cores; finished ones on another number tell nothing. None: does not matter
    """
    usual = _usual()
    wanted = dict(kind(config))
    batch = config.train.batch_tiles
    tiles = sizes.train // batch * batch
    found: list[tuple[float, float, float]] = []
    parameters = 0
    for one in past:
        params, speed = one.run.params, one.run.metrics.get("train/images_per_s", 0.0)
        device = one.run.tags.get("glidexp.device", "")
        if threads is not None and device.startswith("cpu,") and device != f"cpu, {threads} threads":
            continue
        # a setting that came after a run was made had its default then
        if speed <= 0 or any(params.get(key, usual.get(key)) != value for key, value in wanted.items()):
            continue
        scored, ends = speed / SCORED, None
        if (known := course(one)) is not None:
            scoring = known.epoch_s - tiles / speed
            scored = sizes.val / scoring if scoring > 0 else scored
            ends = known.ends_s
        if ends is None:
            epochs = int(params["train.epochs"])
            ends = max(one.seconds - epochs * (tiles / speed + sizes.val / scored), 1.0)
        found.append((speed, scored, ends))
        parameters = parameters or int(one.run.tags.get("glidexp.parameters", "0") or 0)
        if len(found) == MOST_RUNS:
            break
    if not found:
        return None
    images_per_s, scored_per_s, ends_s = map(statistics.median, zip(*found, strict=True))
    return Speed(images_per_s, scored_per_s, ends_s, parameters)


def tried(config: Config, store: "TileStore") -> Speed:
    """The speeds of a few training steps of a network here, on noise of the right shape, and of some scored batches.

    `ends_s` is the final scoring's alone.

    Raises:
        RunFailed: memory is full
    """
    from glidexp.models.hardware import failures_told, given_back

    try:
        with failures_told("a smaller train.batch_size takes less"):
            return _tried_here(config, store)
    finally:
        given_back()  # the runs are other processes, and need it


def _tried_here(config: Config, store: "TileStore") -> Speed:
    import numpy as np

    from glidexp.training.augmentation.telling import telling_of, told_for
    from glidexp.training.beginning.batch_size import training_step
    from glidexp.training.device import resolve
    from glidexp.training.evaluate import Evaluator
    from glidexp.training.final import plain
    from glidexp.training.parts import build_parts

    runtime = resolve(config.train)
    parts = build_parts(config, runtime, store)
    batch = config.train.batch_tiles
    telling = telling_of(told_for(config, store), store)
    normalise = plain(store.manifest["channel_mean"], store.manifest["channel_std"], runtime, telling)
    judged = np.concatenate([store.rows("val"), store.rows("test")])

    def score(batches: int) -> float:
        rows = np.resize(judged, batches * batch)
        began = time.perf_counter()
        Evaluator(store, rows, normalise, runtime, batch).histograms(parts.model)
        return len(rows) / (time.perf_counter() - began)

    score(1)  # finds the kernels
    scored_per_s = score(SCORED_BATCHES)
    step = training_step(config, runtime, store, parts, mixed=True)
    step(batch)  # makes the optimizer's state and finds the kernels
    _wait(runtime.device.type)
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < TRIAL_S:
        step(batch)
        _wait(runtime.device.type)
        done += 1
    each = (time.perf_counter() - began) / done
    return Speed(batch / each, scored_per_s, len(judged) / scored_per_s, parts.parameters, tried=True)


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def speeds(
    configs: Sequence[Config],
    sizes: Sequence[Sizes],
    told: Callable[[Config, Sizes], Speed | None],
    try_out: Callable[[Config], Speed] | None,
    ends: Callable[[], float | None],
) -> list[Speed | None]:
    """The speed of each arm; one trial for each distinct network.

    Args:
        configs: of the arms
        sizes: of their tiles
        told: what finished runs say of a config
        try_out: makes a trial; without it arms without history have no speed
        ends: seconds of begin and end of finished runs on other tiles; None where there are none
    """
    places = [(*kind(config), size) for config, size in zip(configs, sizes, strict=True)]
    networks: dict[tuple[object, ...], tuple[Config, Sizes]] = {}
    for place, config, size in zip(places, configs, sizes, strict=True):
        networks.setdefault(place, (config, size))
    found = {place: told(*of) for place, of in networks.items()}
    if try_out is None:
        return [found[place] for place in places]
    known = [speed.ends_s for speed in found.values() if speed is not None]
    ends_s = statistics.median(known) if known else ends()
    for place, (config, _) in networks.items():
        if found[place] is None:
            one = try_out(config)
            assumed = replace(one, ends_s=ENDS_S + one.ends_s, ends_assumed=True)
            found[place] = assumed if ends_s is None else replace(one, ends_s=ends_s)
    return [found[place] for place in places]


def run_bytes(speed: Speed, config: Config, sizes: Sizes) -> int:
    """What a run leaves on disk."""
    masks = int(MASK_BYTES * sizes.test * config.tile_size.px**2) if config.tracking.log_masks else 0
    return RUN_BYTES + masks + (4 * speed.parameters if config.tracking.log_model else 0)


def passing_bytes(speed: Speed, config: Config, sizes: Sizes) -> int:
    """What a run at work needs besides, until its end: three checkpoints while the third is written, and in the final
    scoring a byte for every pixel of val and test."""
    return 3 * STATES * 4 * speed.parameters + (sizes.val + sizes.test) * config.tile_size.px**2
