"""What stands beside images a second: memory at its peak, how busy the device is, and how near the arithmetic is to the
device's limit.

Peak memory. On a GPU what the allocator handed out at most while a contender had its turn, less what the others held
meanwhile. On a CPU contenders that take turns in one process cannot be told apart, so each does an epoch in a process
of its own, and what counts is how far its resident memory rose above that before the network was built: libraries
loaded by then are out, those that tracking loads later and touched pages of the tile store are in. None where Linux's
`/proc/self/clear_refs` cannot be written, since the peak would be one of the preparations.

FLOPs. Two for each multiply-add of convolutions and matrix products, counted by torch from shapes on the device `meta`,
which computes nothing; normalisation, activations and the optimizer count as none.
"""

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lane import Taken
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, supported_activities
from torch.utils.flop_counter import FlopCounterMode

MB = 1e6
MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}
MATMUL_SECONDS = 0.4
"""in which products are made anew, at least"""


@dataclass(frozen=True, slots=True)
class Work:
    """An epoch: what it consists of, and the FLOPs of an image."""

    images: int
    """trained on"""
    val: int
    """images that only go forward"""
    forward: float
    both: float
    """forward and backward"""

    @property
    def flops(self) -> float:
        return self.images * self.both + self.val * self.forward


def effort_line(
    name: str,
    work: Work,
    seconds: Sequence[float],
    matmul: Sequence[float | None],
    peak_mb: float | None,
    utilisation: float | None,
) -> dict[str, Any]:
    """What an epoch of one contender took, as a line of results.

    Args:
        name: of the line
        work: of an epoch
        seconds: that each repeat took
        matmul: FLOPs a second of matrix products, by the same clock in the same repeats
        peak_mb: memory at its peak
        utilisation: share of the time in which the device was at work
    """
    ratios = [work.flops / took / rate for took, rate in zip(seconds, matmul, strict=True) if rate]
    return {
        "name": name,
        "n": len(seconds),
        "images_per_s": round(work.images / statistics.median(seconds), 3),
        "peak_memory_mb": None if peak_mb is None else round(peak_mb, 1),
        "utilisation": None if utilisation is None else round(utilisation, 3),
        "flops_per_image": work.both,
        "flop_limit_ratio": round(statistics.median(ratios), 4) if ratios else None,
    }


def flops(model: nn.Module, shape: tuple[int, int, int, int]) -> tuple[float, float]:
    """FLOPs by image of a forward pass, and of a forward and a backward pass, of a batch (B, C, H, W)."""
    model = copy.deepcopy(model).to("meta").train()
    with FlopCounterMode(display=False) as counter:
        logits = model(torch.empty(shape, device="meta"))
        forward = counter.get_total_flops()
        logits.sum().backward()
    return forward / shape[0], counter.get_total_flops() / shape[0]


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> Taken | None:
    """FLOPs by wall and by CPU second of products of two large square matrices.

    None in float32 on a GPU: torch multiplies in full there, and convolves in TF32.
    """
    if device.type == "cuda" and dtype is torch.float32:
        return None
    side = side or MATMUL_SIDE.get(device.type, MATMUL_SIDE["cpu"])
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty(side, side, device=device, dtype=dtype)
    torch.mm(left, right, out=out)  # the first chooses a kernel
    wait(device)
    began, cpu, products = time.perf_counter(), time.process_time(), 0
    while products == 0 or time.perf_counter() - began < MATMUL_SECONDS:
        for _ in range(10 if device.type == "cuda" else 1):
            torch.mm(left, right, out=out)
            products += 1
        wait(device)
    done = 2.0 * side**3 * products
    return done / (time.perf_counter() - began), done / (time.process_time() - cpu)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class GpuMemory:
    """Peak of one of several contenders that take turns on a GPU and keep what is theirs in between."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._held = 0
        self.peak_mb = 0.0

    def turn(self, work: Callable[[], Taken]) -> Taken:
        """Does the work; `peak_mb` is of the last turn then, so that a compiler's trials in the first are out."""
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        taken = work()
        self.peak_mb = (torch.cuda.max_memory_allocated(self._device) - (before - self._held)) / MB
        self._held += torch.cuda.memory_allocated(self._device) - before
        return taken


def grown_mb(work: Callable[[], object]) -> float | None:
    """How far the resident memory of this process rises at most, in MB, while it works; None where nobody counts."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        return None
    before = _status_mb("VmRSS")
    work()
    return _status_mb("VmHWM") - before


def _status_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) * 1024 / MB for line in lines if line.startswith(f"{key}:"))


def kernel_seconds(work: Callable[[], object]) -> float | None:
    """Seconds of the work in which at least one kernel or copy ran on the GPU; None where none was seen."""
    if ProfilerActivity.CUDA not in supported_activities():  # no CUPTI, as on some virtual GPUs
        work()
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    events = [e for e in seen.events() or [] if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    return covered((e.time_range.start, e.time_range.end) for e in events) / 1e6 if events else None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals: kernels of several streams may run at once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total
