"""What the machine is and how to compute on it: device, precision, memory format, compile, threads."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from glidexp.config import Compile, Precision, TrainConfig
from glidexp.errors import ConfigError

log = logging.getLogger("glidexp")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings of `train.*` with every `auto` resolved on this machine."""

    device: torch.device
    precision: Precision
    compile: bool
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """Type of activations inside autocast, and of images fed to the network."""
        return {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}.get(self.precision, torch.float32)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for a forward pass; nothing at all in fp32."""
        if self.precision is Precision.fp32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss in fp16 so that small gradients survive; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision is Precision.fp16)

    def resolved(self) -> dict[str, str]:
        """What `auto` became, by config key: part of the run's identity."""
        return {"train.precision": str(self.precision), "train.compile": "on" if self.compile else "off"}

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """Moves the model to the device in channels_last, in which every batch comes."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def resolve(cfg: TrainConfig) -> Runtime:
    """Decides what `auto` means here and sets the thread count.

    Raises:
        ConfigError: the device is not there, or cannot compute in the wanted precision
    """
    device = _device(cfg.device)
    threads = cfg.threads or _cores()
    torch.set_num_threads(threads)
    precision = best_precision(device) if cfg.precision is Precision.auto else cfg.precision
    if precision is Precision.fp16 and device.type == "cpu":
        raise ConfigError("train.precision=fp16 is not possible on a CPU. Allowed there: auto, fp32, bf16.")
    compiled = cfg.compile is Compile.on or (cfg.compile is Compile.auto and device.type == "cuda")
    return Runtime(device=device, precision=precision, compile=compiled, threads=threads)


def best_precision(device: torch.device) -> Precision:
    """bf16 where the hardware multiplies in it, fp16 on older GPUs, fp32 elsewhere: emulated bf16 is slower."""
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return Precision.bf16 if native else Precision.fp16
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return Precision.bf16
    return Precision.fp32


def _cores() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "")  # whoever shares a machine says so there
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        return len(os.sched_getaffinity(0))  # what a scheduler gave us, not what the machine has
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"train.device='{name}' is not a device. Allowed: auto, cpu, cuda, cuda:N, mps.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ConfigError(
            f"train.device='{name}' is not there: torch sees {count} CUDA device(s). Use train.device=auto or cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("train.device='mps' is not there on this machine. Use train.device=auto or cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"train.device='{name}' is not supported. Allowed: auto, cpu, cuda, cuda:N, mps.")
    return device
