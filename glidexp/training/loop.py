"""The loop: from a batch of tiles to a better network. One function; what varies comes in as an argument."""

import math
import time
from collections.abc import Callable, Iterable

import torch

from glidexp.config import TrainConfig
from glidexp.data.loader import Loader
from glidexp.signals import Interrupted, Signals
from glidexp.training.augmentation.augment import Augment
from glidexp.training.device import Runtime, forward_of
from glidexp.training.losses import Loss
from glidexp.training.parts import Parts
from glidexp.training.progress import Meter
from glidexp.training.watch import Watch, gradient_norm


def fit(
    parts: Parts,
    loader: Loader,
    augment: Augment,
    loss_fn: Loss,
    runtime: Runtime,
    cfg: TrainConfig,
    *,
    lr_at: Callable[[int], float],
    freeze_at: Callable[[int], None],
    evaluate: Callable[[int], Iterable[tuple[str, float]]],
    on_epoch: Callable[[int, dict[str, float], bool], None],
    save: Callable[[], object],
    stop: Signals,
    meter: Meter,
    watch: Watch,
) -> None:
    """Trains `parts` in place, from where they stand to the last epoch, or until val no longer gets better.

    Args:
        parts: the network, which gives logits (B, 1, H, W), its optimizer, and where in the training they are
        loader: batches of tiles, or this process's part of each; their order depends on (seed, epoch) alone
        augment: uint8 batch to normalised image, mask, valid; depends on (seed, epoch, tile, time in the epoch) alone
        loss_fn: (logits, mask, valid) to a scalar
        runtime: device and precision
        cfg: train.*
        lr_at: learning rate by optimizer step; a group of parameters takes its `lr_ratio` of it
        freeze_at: told the epoch when the network was set to train; freezes what does not learn in it
        evaluate: scores after an epoch, (name, value); cfg.select among them chooses the best
        on_epoch: told epoch, all its metrics, and whether it is the best so far
        save: writes a checkpoint of everything, after the epoch was told
        stop: asked after every step; a pending signal saves and returns, one that comes while scoring ends that
        meter: progress shown to a person
        watch: sees losses, gradients and weights that are no numbers

    Raises:
        RunFailed: loss, gradient or weights are no longer finite; what was saved is from before
    """
    model, optimizer, scaler, position = parts.model, parts.optimizer, parts.scaler, parts.position
    forward_now = forward_of(model, runtime)
    sums = torch.zeros(2, device=runtime.device)  # losses of this epoch, and how many; read at its end
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for epoch in range(position.epoch, cfg.epochs):
        model.train()
        freeze_at(epoch)
        forward = forward_now()
        sums.copy_(torch.tensor([position.loss_sum, position.losses]))
        started, seen = time.perf_counter(), 0
        meter.start_epoch(epoch, done=position.batch)
        for batch in loader.epoch(epoch, skip=position.batch):
            together = min(cfg.accumulate, len(loader) - position.batch // cfg.accumulate * cfg.accumulate)
            ready = augment(batch.image, batch.label, batch.rows, epoch, batch.again)
            with runtime.autocast():
                logits = forward(ready.image)
            loss = loss_fn(logits, ready.mask, ready.valid)
            scaler.scale(loss / together).backward()  # fewer at an epoch's end
            sums += watch.loss(loss.detach(), batch.rows)
            position.batch += 1
            seen += len(batch.rows) * runtime.ranks.size
            if position.batch % cfg.accumulate == 0 or position.batch == len(loader):
                lr = lr_at(position.step)
                for group in optimizer.param_groups:
                    group["lr"] = lr * group.get("lr_ratio", 1.0)
                scaler.unscale_(optimizer)
                watch.gradient(gradient_norm(parameters, cfg.clip_norm), position.step, lr)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                position.step += 1
                if parts.ema is not None:
                    parts.ema.update()
                if stop.asked(position.step):
                    position.loss_sum, position.losses = sums.tolist()
                    watch.whole()
                    save()
                    return
            meter.step(len(batch.rows), sums[0] / sums[1])
        seconds = time.perf_counter() - started
        position.loss_sum, position.losses = sums.tolist()
        watch.whole()
        metrics = {"train/loss": position.loss_sum / max(position.losses, 1), "train/lr": lr_at(position.step - 1)}
        if seen:
            metrics["train/images_per_s"] = seen / seconds
        try:
            with stop.at_once():  # scoring changes nothing that would be saved, and may take minutes
                metrics.update(evaluate(epoch))
        except Interrupted:
            save()
            return
        value = metrics.get(cfg.select, -math.inf)  # undefined, as precision is where nothing is predicted: the lowest
        better = value > position.best or position.best_epoch < 0
        if better:
            position.best, position.best_epoch = value, epoch
            parts.keep_best()
        if parts.tail is not None and epoch >= cfg.epochs - cfg.average_last:
            parts.tail.update_parameters(model)
        parts.history.append(metrics)
        on_epoch(epoch, metrics, better)
        position.epoch, position.batch, position.loss_sum, position.losses = epoch + 1, 0, 0.0, 0.0
        if cfg.patience is not None and epoch - position.best_epoch >= cfg.patience:
            position.epoch = cfg.epochs
        stopped = stop.asked()
        if position.epoch == cfg.epochs or position.epoch % cfg.checkpoint_every == 0 or stopped:
            save()
        if position.epoch == cfg.epochs or stopped:
            return
