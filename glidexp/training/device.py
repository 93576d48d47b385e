"""What the machine is and how to compute on it: device, precision, memory format, compile, threads."""

import gc
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from glidexp.config import Compile, Precision, TrainConfig
from glidexp.errors import ConfigError
from glidexp.models import hardware
from glidexp.models.build import synchronised
from glidexp.models.hardware import best_precision, compiles, device_of
from glidexp.training.processes.ranks import GPU_STRIDE, Ranks, join

log = logging.getLogger("glidexp")


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings of `train.*` with every `auto` resolved on this machine."""

    device: torch.device
    precision: Precision
    compile: bool
    threads: int
    ranks: Ranks = field(default_factory=Ranks)
    """this process among those that train together"""

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

    @property
    def stop_stride(self) -> int:
        """Optimizer steps between two looks at the signals of other processes."""
        return GPU_STRIDE if self.device.type == "cuda" else 1

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """Moves the model to the device in channels_last, in which every batch comes.

        On several GPUs batch statistics are those of the whole batch (SyncBatchNorm); on several CPU processes, which
        torch has no such thing for, each takes those of its part.
        """
        if self.ranks.size > 1 and self.device.type == "cuda":
            model = synchronised(model)
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def resolve(cfg: TrainConfig, settings: str = "") -> Runtime:
    """Decides what `auto` means here, joins the other processes, if there are any, and sets the thread count.

    Args:
        cfg: train.*
        settings: names all settings that the processes must have in common

    Raises:
        ConfigError: the device is not there, cannot compute in the wanted precision or lacks what compiling needs; or
            the processes differ
        RunFailed: other processes do not come
    """
    device = device_of(cfg.device)
    precision, compiled = _as_on(cfg, device)
    if lack := hardware.compiler_lack(device) if compiled or _would_compile(cfg, device) else "":
        if compiled:
            raise ConfigError(f"train.compile={cfg.compile}: {lack}, or give train.compile=auto or off.")
        log.warning("train.compile=auto: %s. Without, the network is not compiled, which is slower on this GPU", lack)
    words = f"{device.type} in {precision}, {'compiled' if compiled else 'not compiled'}"
    ranks = join(cfg.device, {"settings": settings, "device": words})
    if device.type == "cuda" and ranks.size > 1:
        device = torch.device("cuda", ranks.local)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # what names no device, as waiting for one, means this one
    threads = cfg.threads or _cores(ranks.locals)
    torch.set_num_threads(threads)
    return Runtime(device=device, precision=precision, compile=compiled, threads=threads, ranks=ranks)


def resolved_here(cfg: TrainConfig) -> dict[str, str]:
    """What `Runtime.resolved` would say of a run on this machine, without joining or setting anything.

    Raises:
        ConfigError: as `resolve`
    """
    precision, compiled = _as_on(cfg, device_of(cfg.device))
    return {"train.precision": str(precision), "train.compile": "on" if compiled else "off"}


def _as_on(cfg: TrainConfig, device: torch.device) -> tuple[Precision, bool]:
    """Precision on a device, and whether the network is compiled."""
    precision = best_precision(device) if cfg.precision is Precision.auto else cfg.precision
    if precision is Precision.fp16 and device.type == "cpu":
        raise ConfigError("train.precision=fp16 is not possible on a CPU. Allowed there: auto, fp32, bf16.")
    able = _would_compile(cfg, device) and not hardware.compiler_lack(device)
    return precision, cfg.compile is Compile.on or able


def _would_compile(cfg: TrainConfig, device: torch.device) -> bool:
    """Whether the network is compiled where nobody says, if all that it takes is there."""
    return cfg.compile is Compile.auto and compiles(device)


def device_name(runtime: Runtime) -> str:
    """What computes, in words: the GPU's name, or the CPU and its threads."""
    if runtime.device.type == "cuda":
        return torch.cuda.get_device_name(runtime.device)
    return f"{runtime.device.type}, {runtime.threads} threads"


def forward_of(model: torch.nn.Module, runtime: Runtime) -> Callable[[], torch.nn.Module]:
    """`forward()` gives the network as the loop calls it: compiled, and with gradients shared where there are ranks.

    It is asked once what learns is known, as DistributedDataParallel has to be told anew when that changes.
    """
    learning: list[str] = []
    network: Any = None

    def forward() -> torch.nn.Module:
        nonlocal learning, network
        names = [name for name, weight in model.named_parameters() if weight.requires_grad]
        if network is None or (names != learning and runtime.ranks.size > 1):
            if network is not None:
                network = None
                gc.collect()  # the hooks of the one before come off the weights with it
            shared = runtime.ranks.wrap(model, runtime.device)
            network = torch.compile(shared) if runtime.compile else shared
        learning = names
        found: torch.nn.Module = network
        return found

    return forward


def _cores(processes: int) -> int:
    """Cores for each of the processes on this machine."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")  # whoever shares a machine says so there
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        cores = len(os.sched_getaffinity(0))  # what a scheduler gave us, not what the machine has
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return max(cores // processes, 1)
