"""Gradient checkpointing: blocks of the encoder keep their input alone and compute again in the backward pass.

Memory falls from all that a block computes to one map a block; a step pays one more forward pass of the encoder.

Source: Chen et al. 2016, Training deep nets with sublinear memory cost (arXiv 1604.06174).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from glidexp.errors import ConfigError


def recompute_blocks(model: nn.Module) -> list[str]:
    """Makes every block of the encoder compute again in the backward pass. Weights, names and results stay the same.

    timm's own `set_grad_checkpointing` is not used: it moves the statistics of batch normalisation twice a step.

    Args:
        model: network with an `encoder`; changed in place

    Returns:
        names of the blocks

    Raises:
        ConfigError: the encoder is not made of blocks
    """
    names = [f"encoder.{name}" for name in block_names(model.get_submodule("encoder"))]
    if not names:
        raise ConfigError(
            "train.gradient_checkpointing=true: this encoder has no blocks that could be computed again. Set it to "
            "false, or choose another backbone."
        )
    for name in names:
        block = model.get_submodule(name)
        # a partial, not a closure: copying the network takes along the copy of the block, not the block
        block.forward = partial(_forward, block)
    return names


def block_names(encoder: nn.Module) -> list[str]:
    """Names of the outermost modules that stand in a list or sequence and have parts and weights of their own.

    Where there is none: modules that stand beside others of their kind. Where these are stages that hold blocks of one
    kind by name and nothing else, as in RegNet, the blocks.
    """
    listed = _outermost(encoder, "", lambda parent, child: type(parent) in (nn.Sequential, nn.ModuleList))
    if listed:
        return listed
    stages = _outermost(encoder, "", _has_sibling)
    held = {f"{stage}.{name}": part for stage in stages for name, part in encoder.get_submodule(stage).named_children()}
    alike = len({type(part) for part in held.values()}) == 1 and all(
        any(True for _ in part.children()) for part in held.values()
    )
    return list(held) if alike else stages


def _outermost(module: nn.Module, prefix: str, chosen: Any) -> list[str]:
    found = []
    for name, child in module.named_children():
        whole = type(child) not in (nn.Sequential, nn.ModuleList) and any(True for _ in child.children())
        if whole and any(True for _ in child.parameters()) and chosen(module, child):
            found.append(prefix + name)
        else:
            found += _outermost(child, f"{prefix}{name}.", chosen)
    return found


def _has_sibling(parent: nn.Module, child: nn.Module) -> bool:
    return sum(type(other) is type(child) for other in parent.children()) > 1


def _forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    if torch.compiler.is_compiling():  # the compiler moves statistics once by itself, and takes no context
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=partial(_contexts, block), **kwargs)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Running statistics do not move, as the first pass has moved them: the second one is given copies."""
    norms = [module for module in block.modules() if module.training and getattr(module, "track_running_stats", False)]
    kept = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: value.clone() for name, value in norm._buffers.items() if value is not None})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            norm._buffers.update(buffers)
