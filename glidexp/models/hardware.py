"""What this machine computes on, in which kind of number it is fast, and what its failures mean."""

import gc
import importlib.util
import logging
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from glidexp.config import Precision
from glidexp.errors import ConfigError, RunFailed

log = logging.getLogger("glidexp")

BF16_FROM, TENSOR_CORES_FROM = (8, 0), (7, 0)
"""CUDA capability from which a GPU multiplies in bf16, and in fp16; of the latter the compiler's Triton asks too"""
SHORT = ("out of memory", "can't allocate memory", "_STATUS_ALLOC_FAILED", "INT_MAX", "canUse32BitIndexMath")
"""what torch, CUDA's libraries and kernels with 32-bit indices say when a batch is too large"""
TOLD = 200
"""characters of an error that are passed on"""


def best_precision(device: torch.device) -> Precision:
    """bf16 where the hardware multiplies in it, fp16 on GPUs that do in that, fp32 elsewhere: emulation is slower."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= BF16_FROM:
            return Precision.bf16
        return Precision.fp16 if capability >= TENSOR_CORES_FROM else Precision.fp32
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return Precision.bf16
    return Precision.fp32


def compiles(device: torch.device) -> bool:
    """Whether networks are compiled where nobody says: on GPUs that Triton takes."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= TENSOR_CORES_FROM


def compiler_lack(device: torch.device) -> str:
    """What `torch.compile` needs for a GPU and does not find, with what gives it; empty where nothing is missing.

    Triton builds a small C module for each kernel, with the compiler that it finds first and Python's headers.
    """
    if device.type != "cuda":
        return ""
    if importlib.util.find_spec("triton") is None:
        return "triton is missing: pip install triton"
    if "CC" not in os.environ and not any(shutil.which(name) for name in ("gcc", "clang")):
        return "there is no C compiler: install gcc"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton looks for them
    headers = Path(sysconfig.get_paths(scheme=scheme)["include"]) / "Python.h"
    if not headers.exists() and not {"CPATH", "C_INCLUDE_PATH"} & {*os.environ}:
        return f"{headers} is missing: install python3-dev"
    return ""


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Whether a torch built for these architectures (`sm_86`, `compute_90` ...) has kernels for a GPU.

    Machine code serves later minor versions of its major one; `compute_` is made into code for any later GPU.
    """
    for name in built_for:
        kind, _, number = name.partition("_")
        version = divmod(int(number.rstrip("af")), 10)
        if version <= capability and (kind == "compute" or version[0] == capability[0]):
            return True
    return False


def device_of(name: str, setting: str = "train.device") -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Args:
        name: auto, cpu, cuda, cuda:1 ...
        setting: where it was given, for the message

    Raises:
        ConfigError: no device, or not there, or one that this torch has no kernels for
    """
    if name == "auto":
        found = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if not (why := _unusable(found)):
            return found
        log.warning("%s: the CPU is used", why)
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"{setting}='{name}' is not a device. Allowed: auto, cpu, cuda, cuda:N, mps.") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ConfigError(
            f"{setting}='{name}' is not there: torch sees {count} CUDA device(s). Use {setting}=auto or cpu."
        )
    if why := _unusable(device):
        raise ConfigError(f"{setting}='{name}': {why}. Use {setting}=cpu, or a torch that was built for it.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{setting}='mps' is not there on this machine. Use {setting}=auto or cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"{setting}='{name}' is not supported. Allowed: auto, cpu, cuda, cuda:N, mps.")
    return device


def _unusable(device: torch.device) -> str:
    """Why a GPU that is there cannot be computed on; empty where it can. ROCm names architectures in another way."""
    if device.type != "cuda" or torch.version.cuda is None:
        return ""
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if runs_on(capability, built_for):
        return ""
    what = f"{torch.cuda.get_device_name(device)} has capability {capability[0]}.{capability[1]}"
    return f"{what}, for which torch {torch.__version__} has no kernels (it has {', '.join(built_for)})"


def given_back() -> None:
    """Hands memory of GPUs that nothing uses any more back to the system: torch would keep it for this process."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_short_of_memory(error: BaseException) -> bool:
    """Whether an error says that a batch is too large for the device."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in SHORT)


@contextmanager
def failures_told(less: str) -> Iterator[None]:
    """Turns what torch raises where memory is full, or where the compiler fails, into one sentence.

    Args:
        less: what needs less memory, for the message

    Raises:
        RunFailed: one of the two has happened
    """
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())[:TOLD]
        if is_short_of_memory(error):
            raise RunFailed(f"memory is full: {less} ({text})") from error
        compiler = sys.modules.get("torch._dynamo.exc")  # not loaded, it has raised nothing
        if compiler is not None and isinstance(error, compiler.TorchDynamoException):
            raise RunFailed(
                "the network could not be compiled: train.compile=off does without, and glidexp doctor looks for what "
                f"is missing ({text})"
            ) from error
        raise
