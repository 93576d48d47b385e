"""Optimizer and learning rate: AdamW or SGD, warm-up, then a cosine; each stage of the encoder gets its share of it."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from glidexp.config import OptimizerConfig, OptimizerName

log = logging.getLogger("glidexp")


def build_optimizer(
    cfg: OptimizerConfig,
    model: torch.nn.Module,
    *,
    device: torch.device,
    stages: Sequence[Sequence[str]] = (),
) -> torch.optim.Optimizer:
    """Weight decay reaches matrices and kernels only, not biases or norms.

    Each group holds a `lr_ratio`, by which the loop multiplies the learning rate of the schedule.

    Args:
        cfg: name, learning rate, decay, momentum, ratios of the encoder
        model: its trainable parameters are taken, in order
        device: decides on the fused kernels: AdamW's are 0.7 of the loop's time on a CPU, SGD's are slower there
        stages: names of the encoder's weights by stage, stem first (`models.stages`); needed for learning rates of the
            encoder's own
    """
    groups = []
    for ratio, parameters in _by_ratio(cfg, model, stages):
        decayed = [p for p in parameters if p.ndim >= 2]
        plain = [p for p in parameters if p.ndim < 2]
        groups.append({"params": decayed, "weight_decay": cfg.weight_decay, "lr_ratio": ratio})
        groups.append({"params": plain, "weight_decay": 0.0, "lr_ratio": ratio})
    groups = [group for group in groups if group["params"]]
    if cfg.name is OptimizerName.adamw:
        return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)
    fused, nesterov = device.type == "cuda", cfg.momentum > 0
    return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, nesterov=nesterov, fused=fused)


def stage_ratios(cfg: OptimizerConfig, stages: int) -> list[float]:
    """Learning rate of each stage of the encoder as a share of the decoder's, stem first.

    The deepest stage gets encoder_lr_ratio * layer_decay, each one before it layer_decay times the next.

    Source: Howard and Ruder 2018, discriminative fine-tuning (arXiv 1801.06146), in the geometric form of Clark et al.
    2020, ELECTRA (arXiv 2003.10555); by stage here, not by layer.
    """
    return [cfg.encoder_lr_ratio * cfg.layer_decay ** (stages - stage) for stage in range(stages)]


def _by_ratio(
    cfg: OptimizerConfig, model: torch.nn.Module, stages: Sequence[Sequence[str]]
) -> list[tuple[float, list[torch.nn.Parameter]]]:
    """Trainable parameters by their share of the learning rate: the stages from the stem on, then all the rest."""
    left: dict[str, Any] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = []
    if cfg.by_depth:
        ratios = stage_ratios(cfg, len(stages))
        log.info(
            "learning rates of the encoder, stem first: %s of the decoder's", ", ".join(f"{r:.3g}" for r in ratios)
        )
        for ratio, names in zip(ratios, stages, strict=True):
            found.append((ratio, [left.pop(name) for name in names if name in left]))
    return [*found, (1.0, list(left.values()))]


def lr_schedule(cfg: OptimizerConfig, total_steps: int) -> Callable[[int], float]:
    """`lr_at(step)` for step 0 ... total_steps - 1: warm-up to cfg.lr, then a cosine to cfg.lr * final_lr_ratio."""
    warmup = min(math.ceil(cfg.warmup * total_steps), max(total_steps - 1, 0))
    floor = cfg.lr * cfg.final_lr_ratio

    def lr_at(step: int) -> float:
        if step < warmup:
            return cfg.lr * (step + 1) / (warmup + 1)
        progress = min((step - warmup) / max(total_steps - 1 - warmup, 1), 1.0)
        return floor + (cfg.lr - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return lr_at
