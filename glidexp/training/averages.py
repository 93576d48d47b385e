"""Averages of weights: a moving one over steps, and a plain one over the last epochs.

torch.optim.swa_utils gives the rules. Its `AveragedModel` asks its counter at every update, for which a GPU would have
to be waited for: once an epoch that is nothing, in each step it is not. So the moving average has its own few lines.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from glidexp.data.loader import Loader
from glidexp.data.steps import shown_steps
from glidexp.training.augmentation.augment import Prepared
from glidexp.training.device import Runtime


class Ema:
    """Exponential moving average of a network's weights, for scoring.

    The average starts at the first weights. So that these are soon forgotten, its decay warms up: at update t, from 1,
    it is min(decay, (1 + t) / (10 + t)). Batch statistics are not averaged: they are the network's own.

    Source: Polyak and Juditsky 1992; warm-up as in TensorFlow's ExponentialMovingAverage.

    Args:
        model: the network that is trained, on its device
        decay: weight of the past, 0 to 1
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.updates = 0
        self._source = model
        self._averaged, self._current = list(self.model.parameters()), [p.detach() for p in model.parameters()]

    def update(self) -> None:
        """Takes the weights after an optimizer step in. The host waits for nothing."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(self._averaged, self._current, self.updates)

    def network(self) -> torch.nn.Module:
        """The averaged network, with the batch statistics of this moment."""
        for ours, theirs in zip(self.model.buffers(), self._source.buffers(), strict=True):
            ours.copy_(theirs)
        return self.model

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"model": self.network().state_dict(), "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Puts a checkpoint back."""
        self.model.load_state_dict(state["model"])
        self.updates = state["updates"]


def statistics_loader(loader: Loader, runtime: Runtime) -> Loader:
    """What gives the batches from which averaged weights take their batch statistics, the same on every rank.

    On GPUs each rank's part of them, as SyncBatchNorm adds the parts up. On CPUs, which have no such thing, every rank
    sees whole batches: statistics of a part would be others on each rank, and on none those of one process.
    """
    if runtime.ranks.size == 1 or runtime.device.type == "cuda":
        return loader
    return Loader(
        loader.store,
        loader.rows,
        loader.batch_size,
        seed=loader.seed,
        device=loader.device,
        weights=loader.weights,
        shuffle=loader.shuffle,
        drop_last=loader.drop_last,
    )


def shown_images(
    loader: Loader, augment: Callable[..., Prepared], epoch: int, runtime: Runtime
) -> Iterator[torch.Tensor]:
    """Images (B, C, H, W) of an epoch as the network gets them; shows how far it is, as renewing may take long."""
    with shown_steps(len(loader), "batches", runtime.ranks.first, what="batch statistics", late=True) as step:
        for batch in loader.epoch(epoch):
            yield augment(batch.image, batch.label, batch.rows, epoch, batch.again).image
            step("")


@torch.no_grad()
def renew_batch_statistics(
    average: AveragedModel,
    images: Iterable[torch.Tensor],
    runtime: Runtime,
    *,
    frozen: set[str],
) -> None:
    """Gives averaged weights the batch statistics that they would have had: their mean over some training batches.

    A batch counts by its tiles, as a last one of fewer says less; and so does each part of one that a network takes by
    itself, as of one scale, or of one view. Unlike `swa_utils.update_bn` it leaves out dropout,
    which would draw random numbers, and layers that were frozen.

    Args:
        average: changed in place
        images: normalised batches (B, C, H, W), such as `shown_images`
        runtime: device and precision
        frozen: names of weights that did not learn; batch normalisation with such ones keeps its statistics
    """
    average.eval()
    norms = {
        norm: norm.momentum
        for name, norm in average.module.named_modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and f"{name}.weight" not in frozen
    }
    if not norms:
        return
    seen = dict.fromkeys(norms, 0)

    def counted(norm: Any, given: tuple[torch.Tensor, ...]) -> None:
        if norm.training:
            seen[norm] += len(given[0])
            norm.momentum = len(given[0]) / seen[norm]  # a mean over all; None would ask the device how many there were

    hooks = [norm.register_forward_pre_hook(counted) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    for image in images:
        with runtime.autocast():
            average(image)
    for hook in hooks:
        hook.remove()
    for norm, momentum in norms.items():
        norm.momentum = momentum
    average.eval()
