"""What this machine computes on, and in which kind of number it is fast."""

import torch

from glidexp.config import Precision
from glidexp.errors import ConfigError


def best_precision(device: torch.device) -> Precision:
    """bf16 where the hardware multiplies in it, fp16 on older GPUs, fp32 elsewhere: emulated bf16 is slower."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return Precision.bf16 if native else Precision.fp16
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return Precision.bf16
    return Precision.fp32


def device_of(name: str, setting: str = "train.device") -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Args:
        name: auto, cpu, cuda, cuda:1 ...
        setting: where it was given, for the message

    Raises:
        ConfigError: no device, or not there
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{setting}='{name}' is not a device. Allowed: auto, cpu, cuda, cuda:N, mps.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ConfigError(
            f"{setting}='{name}' is not there: torch sees {count} CUDA device(s). Use {setting}=auto or cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{setting}='mps' is not there on this machine. Use {setting}=auto or cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"{setting}='{name}' is not supported. Allowed: auto, cpu, cuda, cuda:N, mps.")
    return device
