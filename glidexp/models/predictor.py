"""A network together with its preprocessing: pixel values in, lake probability out, for any size of image.

Layout (B, C, H, W). The probability is the network's own, the one that was scored and that the card's threshold belongs
to. The card's temperature is not applied: sigmoid(logit / temperature) is for those who need calibrated probabilities.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from glidexp.models.mean import with_each
from glidexp.models.padding import grown, grown_px
from glidexp.models.told import told_of, with_told


class Predictor(nn.Module):
    """Pads, normalises, runs the network and gives the probability of lake.

    Args:
        net: network from normalised images to logits (B, 1, H, W)
        mean: a value a band, 0-255
        std: a value a band, 0-255
        stride: sides of the network's input are multiples of this, pixels
        smallest_px: shortest side of the network's input, pixels
        card: what is known about the network; kept as it is
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        stride: int = 32,
        smallest_px: int = 32,
        card: dict[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.stride = stride
        self.smallest_px = smallest_px
        self.card: dict[str, object] = dict(card or {})
        self._told: torch.Tensor | None = None

    @property
    def in_channels(self) -> int:
        """Bands of an input."""
        return self.mean.shape[1]

    @property
    def threshold(self) -> float:
        """Probability from which a pixel counts as lake, 0-1; 0.5 when the card does not say."""
        return float(str(self.card.get("threshold", 0.5)))

    def tell(self, *, sensor: str | None = None, gsd_m: float | None = None) -> None:
        """Says of the images that follow what the network can be told of them (`input.embed`); without it, nothing.

        Args:
            sensor: its name; one that it was not trained on tells nothing
            gsd_m: ground sample distance, metres
        """
        vector = told_of(self.card).vector(sensor, gsd_m)
        self._told = torch.tensor([vector]) if any(vector) else None

    def normalise(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 or float (B, C, H, W) in 0-255 -> float32 of about zero mean and unit deviation, memory format kept."""
        if _traced() or not image.is_contiguous(memory_format=torch.channels_last):
            return (image.float() - self.mean) / self.std
        # the same numbers in an eighth of the time: rows of pixels instead of three bands that lie apart in memory, and
        # on a CPU an image at a time, which stays in the cache from one operation to the next
        batch, bands, height, width = image.shape
        rows = image.permute(0, 2, 3, 1).reshape(batch, height, width * bands)
        mean, std = torch.stack([self.mean.flatten(), self.std.flatten()]).repeat(1, width)
        out = torch.empty(rows.shape, device=rows.device)
        for k in range(batch) if rows.device.type == "cpu" else [slice(None)]:
            out[k].copy_(rows[k]).sub_(mean).div_(std)
        return out.view(batch, height, width, bands).permute(0, 3, 1, 2)

    def forward(self, image: torch.Tensor, told: torch.Tensor | None = None) -> torch.Tensor:
        """Lake probability.

        Args:
            image: uint8 or floating point, 0-255, H and W at least 1
            told: (B, E) of `told.Told.vector`; what `tell` said, else nothing, when not given

        Returns:
            float32 (B, 1, H, W) in 0-1

        Raises:
            ValueError: not four dimensions, another number of bands, or another type of number
        """
        self._check(image)
        height, width = image.shape[-2:]
        if image.shape[0] == 0:
            return torch.empty(0, 1, height, width, device=image.device)
        logits: torch.Tensor = self.net(self._with_told(image, told))
        return torch.sigmoid(logits.float())[..., :height, :width]

    def with_each(self, image: torch.Tensor) -> torch.Tensor:
        """Lake probability of a mean of N networks, and of each of them.

        Args:
            image: as of `forward`

        Returns:
            float32 (B, 1 + N, H, W) in 0-1; the first is what `forward` gives

        Raises:
            ValueError: as of `forward`
        """
        self._check(image)
        height, width = image.shape[-2:]
        logits, each = with_each(self.net, self._with_told(image, None))
        return torch.cat([torch.sigmoid(logits.float()), each], dim=1)[..., :height, :width]

    def _check(self, image: torch.Tensor) -> None:
        if image.ndim != 4 or image.shape[1] != self.in_channels or 0 in image.shape[1:]:
            raise ValueError(f"an image batch is (B, {self.in_channels}, H, W), not {tuple(image.shape)}")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise ValueError(f"an image batch holds uint8 or floats in 0-255, not {image.dtype}")

    def _with_told(self, image: torch.Tensor, told: torch.Tensor | None) -> torch.Tensor:
        """What the network is fed, in its kind of number."""
        padded = self.fed(image.to(self.mean.device))
        if (known := self._told if told is None else told) is not None:
            padded = with_told(padded, known.to(padded.device).expand(len(padded), -1))
        return padded.to(next(self.net.parameters()).dtype)

    def fed(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 or float (B, C, H, W) in 0-255 -> what the network is fed: normalised, of sides that it takes."""
        height, width = (grown_px(side, self.stride, self.smallest_px) for side in image.shape[-2:])
        return grown(self.normalise(image), height, width)


def check_levels(image: np.ndarray) -> None:
    """Refuses pixels that no network was trained on, such as those of a scene of 16 bit: any answer would be arbitrary.

    Args:
        image: any shape, of whoever calls a model without `glidexp`

    Raises:
        ValueError: values below 0, above 255, or no numbers
    """
    if image.dtype == np.uint8 or image.size == 0:
        return
    least, most = image.min(), image.max()
    if not (least >= 0 and most <= 255):  # true of NaN too
        raise ValueError(
            f"an image batch holds values of 0 to 255, not of {least:g} to {most:g}: stretch a scene of 16 bit to 8 "
            "first, and fill pixels without data with 0."
        )


def _traced() -> bool:
    """Whether the network is being written down as a graph, which is to hold for all sizes."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting()
