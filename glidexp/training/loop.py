"""The loop: from a batch of tiles to a better network. One function; what varies comes in as an argument."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from glidexp.config import TrainConfig
from glidexp.data.loader import Loader
from glidexp.errors import RunFailed
from glidexp.signals import Signals
from glidexp.training.augment import Augment
from glidexp.training.device import Runtime
from glidexp.training.losses import Loss
from glidexp.training.progress import Meter


@dataclass(slots=True)
class Position:
    """Where in the training a run is: what a checkpoint needs beside the tensors to go on exactly."""

    epoch: int = 0
    """epoch under way, from 0"""
    batch: int = 0
    """batches of it that are done"""
    step: int = 0
    """optimizer steps done in all"""
    loss_sum: float = 0.0
    """sum of the losses of this epoch's batches"""
    best: float = -math.inf
    best_epoch: int = -1


def fit(
    model: torch.nn.Module,
    loader: Loader,
    augment: Augment,
    loss_fn: Loss,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    lr_at: Callable[[int], float],
    runtime: Runtime,
    position: Position,
    cfg: TrainConfig,
    *,
    evaluate: Callable[[int], Iterable[tuple[str, float]]],
    on_epoch: Callable[[int, dict[str, float], bool], None],
    save: Callable[[], None],
    stop: Signals,
    meter: Meter,
) -> None:
    """Trains `model` in place from `position` to the last epoch, or until val no longer gets better.

    Args:
        model: gives logits (B, 1, H, W)
        loader: batches of tiles; their order depends on (seed, epoch) alone
        augment: uint8 batch to normalised image, mask, valid; depends on (seed, epoch, tile) alone
        loss_fn: (logits, mask, valid) to a scalar
        optimizer: over the model's parameters
        scaler: keeps fp16 gradients alive; disabled in other precisions
        lr_at: learning rate by optimizer step
        runtime: device and precision
        position: where to go on; kept up to date
        cfg: train.*
        evaluate: scores after an epoch, (name, value); cfg.select among them chooses the best
        on_epoch: told epoch, all its metrics, and whether it is the best so far
        save: writes a checkpoint of everything
        stop: asked after every step; a pending signal saves and returns
        meter: progress shown to a person

    Raises:
        RunFailed: the loss is no longer finite
    """
    forward = torch.compile(model) if runtime.compile else model
    device_loss = torch.zeros((), device=runtime.device)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for epoch in range(position.epoch, cfg.epochs):
        model.train()
        device_loss.fill_(position.loss_sum)
        started, seen = time.perf_counter(), 0
        meter.start_epoch(epoch, done=position.batch, total=len(loader))
        for batch in loader.epoch(epoch, skip=position.batch):
            ready = augment(batch.image, batch.label, batch.rows, epoch)
            with runtime.autocast():
                logits = forward(ready.image)
            loss = loss_fn(logits, ready.mask, ready.valid)
            scaler.scale(loss / cfg.accumulate).backward()
            device_loss += loss.detach()
            position.batch += 1
            seen += len(batch.rows)
            if position.batch % cfg.accumulate == 0 or position.batch == len(loader):
                lr = lr_at(position.step)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                if cfg.clip_norm > 0:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(parameters, cfg.clip_norm)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                position.step += 1
                if stop.pending is not None:
                    position.loss_sum = device_loss.item()
                    save()
                    return
            meter.step(len(batch.rows), device_loss / position.batch)
        seconds = time.perf_counter() - started
        mean_loss = device_loss.item() / max(position.batch, 1)
        if not math.isfinite(mean_loss):
            raise RunFailed(
                f"the loss is {mean_loss} in epoch {epoch + 1} at learning rate {lr_at(position.step - 1):.2g}: "
                "lower optimizer.lr, or set train.precision=fp32. The best weights so far are kept."
            )
        metrics = {"train/loss": mean_loss, "train/lr": lr_at(position.step - 1), "train/images_per_s": seen / seconds}
        metrics.update(evaluate(epoch))
        value = metrics.get(cfg.select, -math.inf)  # undefined, as precision is where nothing is predicted: the lowest
        better = value > position.best or position.best_epoch < 0
        if better:
            position.best, position.best_epoch = value, epoch
        on_epoch(epoch, metrics, better)
        position.epoch, position.batch, position.loss_sum = epoch + 1, 0, 0.0
        if cfg.patience is not None and epoch - position.best_epoch >= cfg.patience:
            position.epoch = cfg.epochs
        if position.epoch == cfg.epochs or position.epoch % cfg.checkpoint_every == 0 or stop.pending is not None:
            save()
        if position.epoch == cfg.epochs or stop.pending is not None:
            return
