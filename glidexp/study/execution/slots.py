"""How many runs fit on this machine at once, and which GPU each sees. No torch here."""

import os
from itertools import takewhile

import psutil

from glidexp.config.launcher import LauncherConfig

SCHEDULED = 32
"""runs that a scheduler is given at once when no number is"""
CORES_ELSEWHERE = 4
"""of a run that a scheduler or Ray carries out, when no number is given"""
RUN_GB = 4.0
"""memory reckoned for a run on CPU cores when no limit is given"""


def cores() -> int:
    """Cores that this process may use: what a scheduler gave, not what the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def gpus() -> list[str]:
    """Names of the visible GPUs, as CUDA_VISIBLE_DEVICES takes them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        return list(takewhile(lambda name: name and name != "-1", names))  # CUDA too stops reading there
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver
        return []


def slots(cfg: LauncherConfig, *, cells: int, device: str = "auto") -> list[str | None]:
    """One place for each run at once: the GPU it sees, or None on CPU cores.

    Args:
        cfg: settings
        cells: that are to be run: no more places than these
        device: `train.device` of the runs; on `cpu` no GPU is given out, and one that names a GPU keeps it, so that no
            more runs go at once than share that GPU
    """
    found = gpus() if device in ("auto", "cuda") and cfg.gpus != 0 else []
    if isinstance(cfg.gpus, int):
        found = found[: cfg.gpus]
    if found:  # round and round, so that fewer runs than places spread over all GPUs
        places: list[str | None] = [*found] * cfg.runs_per_gpu
    elif device.startswith("cuda:"):
        places = [None] * cfg.runs_per_gpu
    else:
        free_gb = psutil.virtual_memory().available / 1e9
        places = [None] * max(1, min(cores(), int(free_gb / (cfg.memory_gb or RUN_GB))))
    if isinstance(cfg.slots, int):
        places = [places[number % len(places)] for number in range(cfg.slots)]
    return places[: max(cells, 1)]


def own_memory_gb(process: psutil.Process) -> float:
    """Memory that a process and its children hold for themselves: not files that are mapped, not what is shared."""
    total = 0.0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for member in family:
        try:
            with open(f"/proc/{member.pid}/smaps_rollup", encoding="ascii") as lines:
                sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB\n")}
            total += sum(float(sizes.get(name, 0)) for name in ("Private_Dirty", "Swap")) * 1024
        except FileNotFoundError:
            try:  # another system, or it has just ended
                total += member.memory_full_info().uss
            except psutil.Error:
                continue
        except OSError:
            continue
    return total / 1e9
