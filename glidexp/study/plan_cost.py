"""Hours and bytes of a study before it is run: from finished runs of the same network on the same tiles, else from a
few steps of each distinct network that are tried here.

A run's time is taken as `begin and end + epochs x (training tiles + val tiles / 3) / speed`: a tile that is only scored
costs about a third of one that is trained on, forward and backward.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glidexp.config import Config
from glidexp.study.plan_budget import Spent
from glidexp.study.plan_data import Sizes
from glidexp.tracking.history import PastRun

SCORED = 1 / 3
"""what scoring a tile costs as a share of training on it"""
ENDS_S = 12.0
"""seconds of a run besides epochs where nothing is known: opening, final scoring, pictures, the model that is logged"""
TRIAL_S = 3.0
"""seconds of trial steps for a network, after the first one"""
RUN_BYTES = 4_000_000
"""tables, plots and pictures that a run leaves"""
STATES = 4
"""copies of the weights in a checkpoint: weights, best weights, two moments of the optimizer; two are kept"""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one network on one kind of tiles on this machine."""

    images_per_s: float
    """training tiles"""
    ends_s: float
    """of a run besides its epochs"""
    parameters: int
    tried: bool
    """from trial steps, not from finished runs"""


def seconds(speed: Speed, spent: Spent, sizes: Sizes, batch: int) -> float:
    """What one run is expected to take."""
    tiles = sizes.train // batch * batch + SCORED * sizes.val
    return speed.ends_s + spent.epochs * tiles / speed.images_per_s


def kind(config: Config) -> tuple[object, ...]:
    """What decides the speed."""
    train = config.train
    return (
        config.backbone.name,
        config.decoder.name,
        config.tile_size.px,
        train.batch_tiles,
        train.precision,
        train.compile,
        train.device,
        train.gradient_checkpointing,
        repr(config.augmentation),
        repr(config.loss),
    )


def of_history(config: Config, sizes: Sizes, past: Sequence[PastRun]) -> Speed | None:
    """The speed of the latest finished runs of the same network, batch and tiles; None where there are none.

    Args:
        config: of the run to come
        sizes: of its tiles
        past: finished runs on the same tiles
    """
    wanted = {
        "backbone.name": config.backbone.name,
        "decoder.name": config.decoder.name,
        "train.batch_size": str(config.train.batch_size),
        "train.precision": str(config.train.precision),
        "train.device": config.train.device,
    }
    same = [
        one
        for one in past
        if all(one.run.params.get(key) == value for key, value in wanted.items())
        and one.run.metrics.get("train/images_per_s", 0) > 0
    ][:8]
    if not same:
        return None
    speed = statistics.median(one.run.metrics["train/images_per_s"] for one in same)
    tiles = sizes.train // config.train.batch_tiles * config.train.batch_tiles + SCORED * sizes.val
    ends = statistics.median(
        max(one.seconds - int(one.run.params["train.epochs"]) * tiles / speed, 1.0) for one in same
    )
    parameters = int(same[0].run.tags.get("glidexp.parameters", "0") or 0)
    return Speed(speed, ends, parameters, tried=False)


def tried(config: Config, store: object, ends_s: float) -> Speed:
    """The speed of a few training steps of a network here, on noise of the right shape."""
    from glidexp.models.build import parameters
    from glidexp.training.batch_size import training_step
    from glidexp.training.device import resolve
    from glidexp.training.parts import build_parts

    runtime = resolve(config.train)
    parts = build_parts(config, runtime, store)  # type: ignore[arg-type]
    step = training_step(config, runtime, store, parts)  # type: ignore[arg-type]
    batch = config.train.batch_tiles
    step(batch)  # makes the optimizer's state and finds the kernels
    began, done = time.perf_counter(), 0
    while not done or time.perf_counter() - began < TRIAL_S:
        step(batch)
        _wait(runtime.device.type)
        done += 1
    each = (time.perf_counter() - began) / done
    return Speed(batch / each, ends_s, parameters(parts.model), tried=True)


def _wait(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def speeds(
    configs: Sequence[Config],
    sizes: Sequence[Sizes],
    past: Callable[[Config], Sequence[PastRun]],
    try_out: Callable[[Config, float], Speed] | None,
) -> list[Speed | None]:
    """The speed of each arm; one trial for each distinct network.

    Args:
        configs: of the arms
        sizes: of their tiles
        past: finished runs on a config's tiles
        try_out: makes a trial; without it arms without history have no speed
    """
    found: dict[tuple[object, ...], Speed | None] = {}
    for config, size in zip(configs, sizes, strict=True):
        key = (*kind(config), size)
        if key not in found:
            found[key] = of_history(config, size, past(config))
    known = [speed.ends_s for speed in found.values() if speed is not None]
    ends = statistics.median(known) if known else ENDS_S
    for config, size in zip(configs, sizes, strict=True):
        key = (*kind(config), size)
        if found[key] is None and try_out is not None:
            found[key] = try_out(config, ends)
    return [found[(*kind(config), size)] for config, size in zip(configs, sizes, strict=True)]


def run_bytes(speed: Speed, config: Config) -> int:
    """What a run leaves on disk."""
    return RUN_BYTES + (4 * speed.parameters if config.tracking.log_model else 0)


def checkpoint_bytes(speed: Speed) -> int:
    """What a run at work needs besides, until its end: three checkpoints while the third is written."""
    return 3 * STATES * 4 * speed.parameters
