"""Losses, gradients and weights that are no numbers: seen without making the device wait, told with step and tiles.

Each step leaves its loss and gradient norm in a small buffer on the device. The host reads it after every step on a
CPU, where that costs nothing, else every STRIDE steps, at the end of an epoch and before every save. So what is saved
is from before: the newest checkpoint holds the last good weights and batch statistics.

In fp16 the scaler skips a step whose gradient is too large for the format, and nothing stops. A loss that is no number
leaves batch statistics that are none either: they are put back. Only SKIPS such steps in a row end the run.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from glidexp.config import Precision
from glidexp.errors import RunFailed
from glidexp.training.device import Runtime

STRIDE = 50
"""optimizer steps between two looks, on a device that would have to wait for them"""
SKIPS = 32
"""steps in a row that fp16 may skip: the loss scale has then fallen to 2**-32 of what it was"""
NAMED = 8
"""tiles that a message names"""

Rows = npt.NDArray[np.int64]


class Watch:
    """Looks at every step of a training.

    Args:
        model: the network that is trained
        runtime: where it runs; in fp16 single steps may fail
        tile_names: names of rows of the store
        stride: optimizer steps between two looks; chosen by the device when not given
    """

    def __init__(
        self,
        model: torch.nn.Module,
        runtime: Runtime,
        tile_names: Callable[[Rows], Iterable[str]],
        *,
        stride: int | None = None,
    ) -> None:
        self._skips = SKIPS if runtime.precision is Precision.fp16 else 0
        self._stride = stride or (1 if runtime.device.type == "cpu" else STRIDE)
        self._tile_names = tile_names
        norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm)]
        buffers = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
        self._tensors = [parameter.detach() for parameter in model.parameters()] + buffers
        self._buffers = buffers if self._skips else []
        self._good = [buffer.clone() for buffer in self._buffers]
        self._loss = torch.zeros((), device=runtime.device)
        self._one = torch.ones((), device=runtime.device)
        self._seen = torch.zeros((self._stride, 2), device=runtime.device)
        self._steps: list[tuple[int, float, list[Tensor]]] = []
        self._rows: list[Tensor] = []
        self._skipped = 0
        self._latest = 0

    @torch.no_grad()
    def loss(self, loss: Tensor, rows: Tensor) -> Tensor:
        """Notes the loss of a batch, after its backward pass.

        Args:
            loss: scalar
            rows: of the store, (B,)

        Returns:
            (2,) to be summed up for a mean: the loss and 1; twice 0 where it is no number and fp16 goes on
        """
        counted = torch.stack((loss, self._one))
        self._loss += loss
        self._rows.append(rows)
        if not self._skips:
            return counted
        finite = torch.isfinite(loss)
        for now, good in zip(self._buffers, self._good, strict=True):
            torch.where(finite, now, good, out=now)
            good.copy_(now)
        return torch.where(finite, counted, 0.0)

    @torch.no_grad()
    def gradient(self, norm: Tensor, step: int, lr: float) -> None:
        """Notes the gradient norm of an optimizer step, before the step is done.

        Args:
            norm: scalar
            step: number of the step, from 0
            lr: its learning rate

        Raises:
            RunFailed: a loss or gradient seen since the last look is no number
        """
        place = self._seen[len(self._steps)]
        place[0].copy_(self._loss)
        place[1].copy_(norm)
        self._loss.zero_()
        self._steps.append((step, lr, self._rows))
        self._latest = step + 1
        self._rows = []
        if len(self._steps) == self._stride:
            self._look()

    def whole(self) -> None:
        """Looks at what was not looked at yet, and at weights and batch statistics. To be called before a save.

        Raises:
            RunFailed: something is no number
        """
        if self._steps:
            self._look()
        norms = torch.stack(torch._foreach_norm(self._tensors))
        if not math.isfinite(float(norms.sum())):
            raise RunFailed(
                f"weights or batch statistics are no longer finite after step {self._latest}: lower optimizer.lr, or "
                "set train.precision=fp32. The last checkpoint is from before."
            )

    def _look(self) -> None:
        steps, self._steps = self._steps, []
        for (loss, norm), (step, lr, rows) in zip(self._seen[: len(steps)].tolist(), steps, strict=True):
            finite = math.isfinite(loss) and math.isfinite(norm)
            self._skipped = 0 if finite else self._skipped + 1
            if self._skipped > self._skips:
                what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm}"
                after = f" (and in the {self._skips} steps before it)" if self._skips else ""
                raise RunFailed(
                    f"{what} at step {step + 1}{after}, learning rate {lr:.2g}, tiles {self._named(rows)}: lower "
                    "optimizer.lr, or set train.precision=fp32. The last checkpoint is from before."
                )

    def _named(self, rows: list[Tensor]) -> str:
        names = list(self._tile_names(torch.cat(rows).numpy()))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more


def gradient_norm(parameters: list[torch.nn.Parameter], clip_norm: float) -> Tensor:
    """Norm of the whole gradient, which is scaled down to `clip_norm` where that is above 0 and exceeded."""
    if clip_norm > 0:
        return torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    return torch.nn.utils.get_total_norm([weight.grad for weight in parameters if weight.grad is not None])
