"""What a network makes of images: its encoder's deepest features, averaged over an image, and how sure it is.

Layout (B, C, H, W).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.models.export import bare
from glidexp.models.predictor import Predictor
from glidexp.scoring.counts import BINS, logit_bins
from glidexp.scoring.expected import certainty

Floats = npt.NDArray[np.float64]
BATCH = 4
"""images a forward pass"""


def has_encoder(predictor: Predictor) -> bool:
    """Whether the network has an encoder that `features` can ask; all of the catalogue's have."""
    return hasattr(bare(predictor.net), "encoder")


@torch.no_grad()
def features(predictor: Predictor, images: npt.NDArray[np.uint8]) -> Floats:
    """Mean of the encoder's deepest features over each image, (N, F). Nothing is told, no views are taken.

    Args:
        predictor: in evaluation mode
        images: (N, H, W, C), 0-255, in the network's bands
    """
    encoder: Any = bare(predictor.net).encoder
    kind = next(encoder.parameters()).dtype
    found = []
    for _, some in _batches(images):
        ready = predictor.fed(some.to(predictor.mean.device)).to(kind)
        found.append(_deepest(encoder(ready)).float().mean(dim=(2, 3)).cpu().numpy())
    return np.concatenate(found).astype(np.float64)


@torch.no_grad()
def certainty_of(predictor: Predictor, images: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> float:
    """`scoring.expected.certainty` of the answers to some images together.

    Args:
        predictor: in evaluation mode, told what it is to know of them
        images: (N, H, W, C), 0-255, in the network's bands
        valid: (N, H, W)
    """
    counts = np.zeros(BINS, np.int64)
    for place, some in _batches(images):
        bins = logit_bins(torch.logit(predictor(some))).cpu().numpy()
        counts += np.bincount(bins[valid[place]], minlength=BINS)
    temperature = predictor.card.get("temperature")
    return certainty(counts, predictor.threshold, float(str(temperature)) if temperature else None)


def _batches(images: npt.NDArray[np.uint8]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Images (N, H, W, C) as a network takes them, (B, C, H, W), with the places of each batch."""
    for at in range(0, len(images), BATCH):
        place = slice(at, at + BATCH)
        yield place, torch.from_numpy(np.ascontiguousarray(images[place])).permute(0, 3, 1, 2)


def _deepest(given: Any) -> torch.Tensor:
    """The last map (B, F, h, w) of what an encoder gives: a list of maps, or a pair of such a list and tokens."""
    if isinstance(given, torch.Tensor):
        return given
    maps = [one for one in given if isinstance(one, torch.Tensor) and one.ndim == 4]
    return maps[-1] if maps else _deepest(given[0])
