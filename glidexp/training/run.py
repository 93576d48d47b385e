"""One run: build the parts, fit, score, log. The only place that sees the whole config."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glidexp.config import Config, InitKind, Resume, flat
from glidexp.data.loader import Loader
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.sensor_mix import rows_and_weights
from glidexp.data.store import TileStore
from glidexp.errors import GlidexpError, RunFailed
from glidexp.identity import config_id
from glidexp.models.build import build_model
from glidexp.models.init import checkpoint_digest, require_weights
from glidexp.signals import Signals
from glidexp.tracking.multirun import parent_run_id
from glidexp.tracking.run import Run
from glidexp.tracking.store import FoundRun, Store, open_store, tracking_uri
from glidexp.training import checkpoint
from glidexp.training.augment import build_augment
from glidexp.training.device import Runtime, resolve
from glidexp.training.loop import Position, fit
from glidexp.training.losses import build_loss
from glidexp.training.optim import build_optimizer, lr_schedule
from glidexp.training.progress import Meter
from glidexp.training.record import Recorder, device_name, show

log = logging.getLogger("glidexp")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run leaves in the hands of its caller."""

    run_id: str
    metrics: dict[str, float]


@dataclass(slots=True)
class Parts:
    """What is trained and with what, as one seed makes it."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    position: Position
    device: torch.device
    rng: list[torch.Tensor]
    """torch's random states with which the next step starts; what is drawn elsewhere meanwhile does not matter"""

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs to go on exactly."""
        position = {name: getattr(self.position, name) for name in Position.__dataclass_fields__}
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": position,
            "rng": random_states(self.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts a checkpoint back."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.rng = state["rng"]
        for name, value in state["position"].items():
            setattr(self.position, name, value)


def run(config: Config, *, choices: dict[str, str], name: str | None = None) -> Outcome:
    """Trains one network, scores it on val and test, and leaves everything in the tracking store.

    A finished run of the same config id is shown instead, an interrupted one goes on, unless `resume=never`.

    Args:
        config: checked by `training.check`
        choices: chosen option by config group, for the record
        name: of the run, when tracking.run_name gives none

    Raises:
        GlidexpError: settings, data, weights or tracking cannot be used
        Interrupted: a signal came; a checkpoint was saved
    """
    signals = Signals()
    with signals.installed():
        runtime = resolve(config.train)
        extra = checkpoint_digest(config.init) if config.init.kind is InitKind.checkpoint else {}
        require_weights(config.backbone, config.init)  # told before data is made
        recipe = recipe_id(config.dataset, config.tile_size.px)
        identity = config_id(config, recipe=recipe, resolved=runtime.resolved() | extra)
        uri = tracking_uri(config.tracking, config.paths)
        store = open_store(uri, Path(config.paths.mlruns))
        earlier = _earlier(store, config, identity)
        if earlier is not None and earlier.status == "FINISHED":
            log.info("this run is finished already (config id %s): resume=never trains it anew", identity)
            show(earlier.metrics, store, config.tracking.experiment, earlier.run_id)
            return Outcome(earlier.run_id, earlier.metrics)
        log.info(
            "%s on %s, %s, config id %s%s",
            _name(config),
            device_name(runtime),
            runtime.precision,
            identity,
            ", goes on" if earlier else "",
        )
        tiles = prepare(config.dataset, config.tile_size.px, Path(config.paths.data))
        tiles.verify()
        check_tiles(config, tiles)
        parts = build_parts(config, runtime, tiles)
        with Run.start(
            store,
            experiment=config.tracking.experiment,
            run_name=config.tracking.run_name or name or _name(config),
            config_flat=flat(config),
            choices=choices,
            tags={"glidexp.split_hash": tiles.split_hash, "glidexp.data_hash": tiles.data_hash},
            config_id=identity,
            parent_run_id=parent_run_id(),
            resume_run_id=earlier.run_id if earlier else None,
            system_metrics=config.tracking.system_metrics,
        ) as tracked:
            # by run, not by settings alone: resume=never may train the same ones at the same time
            folder = Path(config.paths.mlruns) / "checkpoints" / f"{identity}-{tracked.run_id[:8]}"
            _restore(parts, folder, goes_on=earlier is not None)
            recorder = Recorder(tracked, config, tiles, runtime, identity)
            recorder.begin(parts.model)
            train(config, runtime, tiles, parts, recorder, folder, signals)
            metrics = score(parts, recorder, folder)
        if tracked.lost:
            raise RunFailed(
                f"{tracked.lost} scores, files or models of run {tracked.run_id} did not reach the tracking store "
                f"(said above): the run is marked FAILED, its weights stay in {folder}. The same command logs them."
            )
        _clear(folder)
        with suppress(OSError):  # somebody else's file in it
            folder.rmdir()
        show(metrics, store, config.tracking.experiment, tracked.run_id)
        return Outcome(tracked.run_id, metrics)


def check_tiles(config: Config, tiles: TileStore) -> None:
    """Refuses data that cannot be trained on or scored, before a run is begun.

    Raises:
        GlidexpError: a side without tiles, or fewer training tiles than a batch holds
    """
    for split in ("val", "test"):
        if not len(tiles.rows(split)):
            raise GlidexpError(f"the data set has no {split} tiles: change dataset.split so that every side gets some.")
    rows, _ = rows_and_weights(tiles, "train", config.sensor_mix)
    if len(rows) < config.train.batch_size:
        raise GlidexpError(
            f"train.batch_size={config.train.batch_size} is more than the {len(rows)} training tiles: lower it."
        )


def build_parts(config: Config, runtime: Runtime, tiles: TileStore) -> Parts:
    """Network, optimizer and scaler of a seed, on the device."""
    torch.manual_seed(config.seed)
    model = build_model(config.backbone, config.decoder, config.init, in_channels=tiles.channels)
    model = runtime.place(model)
    optimizer = build_optimizer(config.optimizer, model, device=runtime.device)
    return Parts(model, optimizer, runtime.scaler(), Position(), runtime.device, random_states(runtime.device))


def random_states(device: torch.device) -> list[torch.Tensor]:
    """States of torch's generators: the CPU's, and the GPU's where one is used."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def train(
    config: Config,
    runtime: Runtime,
    tiles: TileStore,
    parts: Parts,
    recorder: Recorder,
    folder: Path,
    signals: Signals,
) -> None:
    """Fits the network, keeping its best weights in `folder`."""
    rows, weights = rows_and_weights(tiles, "train", config.sensor_mix)
    loader = Loader(
        tiles,
        rows,
        config.train.batch_size,
        seed=config.seed,
        device=runtime.device,
        weights=weights,
        shuffle=True,
        drop_last=True,
    )
    mean, std = tiles.manifest["channel_mean"], tiles.manifest["channel_std"]
    augment = build_augment(config.augmentation, mean=mean, std=std, seed=config.seed, dtype=runtime.dtype)
    recorder.augmented(augment, rows)
    steps = config.train.epochs * -(-len(loader) // config.train.accumulate)
    meter = Meter(config.train.epochs, len(loader))

    def on_epoch(epoch: int, metrics: dict[str, float], better: bool) -> None:
        if better:
            checkpoint.save(folder / "best.pt", {"model": parts.model.state_dict()})
        meter.epoch_line(epoch, metrics, config.train.select, better)
        recorder.epoch(epoch, metrics, parts.model, last=epoch + 1 == config.train.epochs)

    torch.set_rng_state(parts.rng[0])
    if runtime.device.type == "cuda" and len(parts.rng) > 1:  # a run begun on a CPU has none for the GPU
        torch.cuda.set_rng_state(parts.rng[1], runtime.device)
    with meter, signals.deferred():
        fit(
            parts.model,
            loader,
            augment,
            build_loss(config.loss),
            parts.optimizer,
            parts.scaler,
            lr_schedule(config.optimizer, steps),
            runtime,
            parts.position,
            config.train,
            evaluate=lambda epoch: recorder.val_scores(parts.model).items(),
            on_epoch=on_epoch,
            save=lambda: checkpoint.save(folder / "last.pt", parts.state()),
            stop=signals,
            meter=meter,
        )


def score(parts: Parts, recorder: Recorder, folder: Path) -> dict[str, float]:
    """Scores the best weights: threshold from val, then test, then everything a run leaves behind."""
    best = checkpoint.load(folder / "best.pt")
    if best is None:
        raise RunFailed(f"no whole checkpoint of the best weights in {folder}: run again with resume=never.")
    parts.model.load_state_dict(best["model"])
    return recorder.finish(parts.model, best_epoch=parts.position.best_epoch)


def _earlier(store: Store, config: Config, identity: str) -> FoundRun | None:
    if config.resume is Resume.never:
        return None
    found = store.find_run(identity, config.tracking.experiment)
    if found is not None and found.alive:
        raise GlidexpError(
            f"run {found.run_id} has the same settings (config id {identity}) and is at work: wait for it, or start "
            "another with resume=never."
        )
    return found


def _restore(parts: Parts, folder: Path, *, goes_on: bool) -> None:
    state = checkpoint.load(folder / "last.pt") if goes_on else None
    if state is None:
        _clear(folder)
        return
    parts.restore(state)
    log.info("goes on in epoch %d after batch %d", parts.position.epoch + 1, parts.position.batch)


def _clear(folder: Path) -> None:
    for series in ("last.pt", "best.pt"):
        checkpoint.clear(folder / series)


def _name(config: Config) -> str:
    network = f"{config.decoder.name}-{config.backbone.name}"
    return f"{config.dataset.name}-{network}-{config.tile_size.px}px-seed{config.seed}"
