"""A bundle as prediction uses it: on its device, in its kind of number, with the views that were asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from glidexp.config import Precision, Tta
from glidexp.data.store import canonical
from glidexp.errors import ConfigError
from glidexp.models.export import load_bundle
from glidexp.models.hardware import best_precision, device_of
from glidexp.models.predictor import Predictor
from glidexp.models.tta import MeanOfViews, with_views


def network(bundle: Path, card: Mapping[str, Any], tta: Tta | None, device: str) -> Predictor:
    """The network of a bundle; the last one is kept, for the next scene of this process.

    Args:
        bundle: its folder
        card: as it is now; with another threshold, normalisation or other weights the bundle is read again
        tta: views; None: as the card says
        device: as `--device`
    """
    return _loaded(bundle, canonical(card), tta, device)


@lru_cache(maxsize=1)
def _loaded(bundle: Path, card: bytes, tta: Tta | None, device: str) -> Predictor:
    predictor = load_bundle(bundle, device=device_of(device, "--device"))
    if tta is not None:
        bare = predictor.net.module if isinstance(predictor.net, MeanOfViews) else predictor.net
        predictor.net = with_views(bare, tta).eval()
    predictor.net.to(memory_format=torch.channels_last)
    return predictor


def precision_on(wanted: Precision, device: torch.device) -> Precision:
    """What `auto` is here.

    Raises:
        ConfigError: fp16 on a CPU
    """
    if wanted is Precision.fp16 and device.type == "cpu":
        raise ConfigError("--precision=fp16 is not possible on a CPU. Allowed there: auto, fp32, bf16.")
    return best_precision(device) if wanted is Precision.auto else wanted


@contextmanager
def predicting(device: torch.device, precision: Precision) -> Iterator[None]:
    """No gradients, and mixed precision for all windows of a scene, so that weights are cast once."""
    kind = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}.get(precision)
    with torch.inference_mode(), torch.autocast(device.type, dtype=kind) if kind else nullcontext():
        yield
