"""What a network's own encoder makes of an image: its deepest features, averaged over the image.

Layout (B, C, H, W).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.models.export import bare
from glidexp.models.predictor import Predictor

Floats = npt.NDArray[np.float64]


@torch.no_grad()
def features(predictor: Predictor, images: npt.NDArray[np.uint8], batch: int = 16) -> Floats:
    """Mean of the encoder's deepest features over each image, (N, F). Nothing is told, no views are taken.

    Args:
        predictor: in evaluation mode
        images: (N, H, W, C), 0-255, in the network's bands
        batch: images a forward pass
    """
    encoder: Any = bare(predictor.net).encoder
    kind = next(encoder.parameters()).dtype
    found = []
    for at in range(0, len(images), batch):
        some = torch.from_numpy(np.ascontiguousarray(images[at : at + batch])).permute(0, 3, 1, 2)
        ready = predictor.fed(some.to(predictor.mean.device)).to(kind)
        found.append(_deepest(encoder(ready)).float().mean(dim=(2, 3)).cpu().numpy())
    return np.concatenate(found).astype(np.float64)


def _deepest(given: Any) -> torch.Tensor:
    """The last map (B, F, h, w) of what an encoder gives: a list of maps, or a pair of such a list and tokens."""
    if isinstance(given, torch.Tensor):
        return given
    maps = [one for one in given if isinstance(one, torch.Tensor) and one.ndim == 4]
    return maps[-1] if maps else _deepest(given[0])
