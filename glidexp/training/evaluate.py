"""A network meets tiles: histograms of its logits, and probabilities where somebody wants to see them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from glidexp.data.loader import Loader
from glidexp.data.store import TileStore
from glidexp.errors import RunFailed
from glidexp.scoring.counts import nan_pixels, tile_histograms
from glidexp.training.augment import Augment
from glidexp.training.device import Runtime

Sink = Callable[[npt.NDArray[np.int64], torch.Tensor], None]
"""told store rows (B,) and their lake probability (B, H, W) float32 on the device"""


class Evaluator:
    """Runs a network over fixed tiles of a store, in order, without augmentation.

    Args:
        store: the tiles
        rows: which of them, store rows (n,)
        normalise: `build_augment` with nothing switched on
        runtime: device and precision
        batch_size: tiles a forward pass; the scores do not depend on it
    """

    def __init__(
        self, store: TileStore, rows: npt.NDArray[np.int64], normalise: Augment, runtime: Runtime, batch_size: int
    ) -> None:
        self.rows = rows
        self.normalise = normalise
        self.runtime = runtime
        self.loader = Loader(
            store, rows, batch_size, seed=0, device=runtime.device, weights=None, shuffle=False, drop_last=False
        )

    @torch.no_grad()
    def histograms(self, model: torch.nn.Module, sink: Sink | None = None) -> npt.NDArray[np.int32]:
        """Histograms (n, 2, 256) of the logits by tile, non-lake first; read from the device once at the end.

        Raises:
            RunFailed: the network gives values that are not numbers
        """
        training = model.training
        model.eval()
        parts = []
        wrong = torch.zeros((), dtype=torch.int64, device=self.runtime.device)
        for batch in self.loader.epoch(0):
            ready = self.normalise(batch.image, batch.label, batch.rows, 0)
            with self.runtime.autocast():
                logits = model(ready.image)
            logits = logits.float()
            parts.append(tile_histograms(logits, batch.label))
            wrong += nan_pixels(logits).sum()
            if sink is not None:
                sink(batch.rows.numpy(), torch.sigmoid(logits)[:, 0])
        model.train(training)
        if count := int(wrong.item()):
            raise RunFailed(
                f"the network gives NaN at {count} pixels of {len(self.rows)} tiles: lower optimizer.lr, or set "
                "train.precision=fp32."
            )
        return torch.cat(parts).cpu().numpy()
