"""A network meets tiles: histograms of its logits, and the bin of each pixel where somebody wants to see them."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from glidexp.data.loader import Batch, Loader
from glidexp.data.store import TileStore
from glidexp.errors import RunFailed
from glidexp.scoring.counts import BINS, histograms_of_bins, logit_bins, nan_pixels
from glidexp.training.augmentation.augment import Augment
from glidexp.training.device import Runtime
from glidexp.training.processes.ranks import Ranks

Sink = Callable[[npt.NDArray[np.int64], torch.Tensor], None]
"""told store rows (B,) and the bin of every pixel (B, H, W) uint8 on the device, `counts.logit_bins`"""

ALONE = Ranks()


def _nobody(_: int) -> None:
    pass


class Evaluator:
    """Runs a network over fixed tiles of a store, in order, without augmentation.

    Args:
        store: the tiles
        rows: which of them, store rows (n,)
        normalise: `Augment` with nothing switched on
        runtime: device and precision
        batch_size: tiles a forward pass; the scores do not depend on it
        ranks: processes that share the tiles; each of them calls `histograms`, and rank 0 gets it all
        resident: keep the tiles in the device's memory
    """

    def __init__(
        self,
        store: TileStore,
        rows: npt.NDArray[np.int64],
        normalise: Augment,
        runtime: Runtime,
        batch_size: int,
        *,
        ranks: Ranks = ALONE,
        resident: bool = False,
    ) -> None:
        self.tiles = store
        self.rows = rows
        self.ranks = ranks
        self.normalise = normalise
        self.runtime = runtime
        own = ranks.part(rows)
        device = runtime.device
        self.loader = (
            Loader(store, own, batch_size, device=device, shuffle=False, resident=resident) if len(own) else None
        )
        self.own = len(own)
        """tiles that this process scores"""
        self.told: Callable[[int], object] = _nobody
        """called with the number of tiles after each batch"""

    @torch.no_grad()
    def answers(self, model: torch.nn.Module) -> Iterator[tuple[Batch, torch.Tensor]]:
        """This process's tiles, in order, with the network's logits (B, K, H, W); it is as it was after the last.

        Whoever wants to be is told how far they are.
        """
        training = model.training
        model.eval()
        for batch in self.loader.epoch(0) if self.loader is not None else ():
            ready = self.normalise(batch.image, batch.label, batch.rows, 0)
            with self.runtime.autocast():
                logits = model(ready.image)
            yield batch, logits
            self.told(len(batch.rows))
        model.train(training)

    @torch.no_grad()
    def histograms(self, model: torch.nn.Module, sink: Sink | None = None) -> npt.NDArray[np.int32]:
        """Histograms (n, 2, 256) of the logits by tile, non-lake first; read from the device once at the end.

        Where ranks share the tiles, all of them call this, all with a sink or all without. Rank 0 gets the histograms
        of every tile and its sink is told every bin; what the others get is of no use.

        Raises:
            RunFailed: the network gives values that are not numbers
        """
        self.ranks.same_buffers(model)
        kept: list[torch.Tensor] = []  # of a rank that will send them
        if sink is not None and not self.ranks.first:
            sink = lambda _, bins: kept.append(bins.cpu())  # noqa: E731
        parts = [torch.zeros((0, 2, BINS), dtype=torch.int32, device=self.runtime.device)]
        wrong = torch.zeros((), dtype=torch.int64, device=self.runtime.device)
        for batch, answer in self.answers(model):
            logits = answer.float()
            bins = logit_bins(logits)
            parts.append(histograms_of_bins(bins, batch.label))
            wrong += nan_pixels(logits).sum()
            if sink is not None:
                sink(batch.rows.numpy(), bins)
        if count := self.ranks.largest(int(wrong.item())):
            raise RunFailed(
                f"the network gives NaN at {count} pixels of {len(self.rows)} tiles: lower optimizer.lr, or set "
                "train.precision=fp32."
            )
        return self._gathered(torch.cat(parts).cpu(), kept, sink).numpy()

    def _gathered(self, own: torch.Tensor, kept: list[torch.Tensor], sink: Sink | None) -> torch.Tensor:
        """On rank 0 the histograms of all ranks, in the order of the rows, after the sink was told their bins."""
        if not self.ranks.first:
            self.ranks.send(own)
            self.ranks.send(torch.tensor([len(bins) for bins in kept]))
            for bins in kept:
                self.ranks.send(bins)
            return own
        parts, done = [own], len(own)
        for rank in range(1, self.ranks.size):
            parts.append(self.ranks.receive(rank, own))
            for count in self.ranks.receive(rank, torch.zeros(1, dtype=torch.int64)).tolist():
                bins = self.ranks.receive(rank, torch.zeros((0, 0, 0), dtype=torch.uint8))
                if sink is not None:
                    sink(self.rows[done : done + count], bins)
                done += count
        return torch.cat(parts)
