"""Which weights a network's output is made of, read off the graph that autograd keeps: nothing is computed back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, which draws nothing and counts no statistics; then each part is in its own mode again."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def empty_image(module: nn.Module, in_channels: int, side_px: int) -> torch.Tensor:
    """(1, in_channels, side_px, side_px) of zeros, where the module's weights are."""
    return torch.zeros(1, in_channels, side_px, side_px, device=next(module.parameters()).device)


class Reached:
    """What tensors were made of, one after the other; what an earlier one led to is not looked through again."""

    def __init__(self) -> None:
        self._seen: set[object] = set()

    def by(self, output: torch.Tensor) -> set[int]:
        """The `id` of each weight that it is made of and no earlier one was."""
        waiting = [output.grad_fn]
        weights: set[int] = set()
        while waiting:
            node = waiting.pop()
            if node is None or node in self._seen:
                continue
            self._seen.add(node)
            weight = getattr(node, "variable", None)  # of the node that keeps a weight's gradient
            if weight is not None:
                weights.add(id(weight))
            waiting += [earlier for earlier, _ in node.next_functions]
        return weights
