"""Tasks of a Ray cluster, or of one that is started on this machine. A task starts the run as a process of its own."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from glidexp.config.launcher import LauncherConfig
from glidexp.errors import GlidexpError
from glidexp.study.execution.launchers.choice import Job, Launcher
from glidexp.study.execution.slots import CORES_ELSEWHERE
from glidexp.study.execution.work import Order

MEMORY_GB = 16.0


class RayJob(Job):
    """A task of the cluster."""

    def __init__(self, result: "ray.ObjectRef[tuple[int, bool]]", limit_min: float | None = None) -> None:
        self._result, self._limit_min = result, limit_min

    def poll(self) -> int | None:
        """As `Job.poll`."""
        ready, _ = ray.wait([self._result], timeout=0)
        if not ready:
            return None
        try:
            code, late = ray.get(self._result)
        except ray.exceptions.TaskCancelledError:
            return -signal.SIGTERM
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
            return -signal.SIGKILL
        except ray.exceptions.RayError as error:
            self.why = f"Ray: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return 1
        if late:
            self.why = f"was at work for launcher.time_limit_min={self._limit_min:g} minutes"
        return int(code)

    def stop(self, number: int) -> None:
        """As `Job.stop`: the task is interrupted, and tells the run to save and end."""
        ray.cancel(self._result)

    def kill(self) -> None:
        """As `Job.kill`."""
        ray.cancel(self._result, force=True)


class RayLauncher(Launcher):
    """As many tasks as the cluster has room for.

    Args:
        cfg: settings
        folder: of the study, on a file system that all nodes see

    Raises:
        GlidexpError: there is no cluster at the address
    """

    def __init__(self, cfg: LauncherConfig, folder: Path) -> None:
        self.folder = folder / "ray"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._began = not ray.is_initialized()
        if self._began:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
            if cfg.ray_address is None:
                options |= {"include_dashboard": False}
            try:
                ray.init(address=cfg.ray_address or "local", **options)
            except (ConnectionError, ValueError) as error:
                line = " ".join(str(error).split())
                raise GlidexpError(f"launcher.ray_address={cfg.ray_address}: {line}") from None
        has = ray.cluster_resources()
        cpus, gpus = has.get("CPU", 1.0), has.get("GPU", 0.0) if cfg.gpus != 0 else 0.0
        self.threads = cfg.cores or max(min(CORES_ELSEWHERE, int(cpus)), 1)
        share: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": 1 / cfg.runs_per_gpu if gpus else 0}
        fit = int(cpus // self.threads) if not gpus else min(int(cpus // self.threads), int(gpus * cfg.runs_per_gpu))
        self.slots = cfg.slots if isinstance(cfg.slots, int) else max(fit, 1)
        if has.get("memory") and cfg.ray_address is not None:
            share["memory"] = (cfg.memory_gb or MEMORY_GB) * 1e9
        self._limit_min = cfg.time_limit_min
        limit_s = None if cfg.time_limit_min is None else cfg.time_limit_min * 60
        self._task = ray.remote(max_retries=0, **share)(_task(limit_s))

    def start(self, orders: list[Order]) -> list[Job]:
        """As `Launcher.start`."""
        return [RayJob(self._task.remote(*self._command(order)), self._limit_min) for order in orders]

    def _command(self, order: Order) -> tuple[list[str], str, str]:
        """What the task starts, in which folder, with which path for imports: those of this process."""
        path = self.folder / f"order-{order.key}.json"
        path.write_text(order.to_json(), encoding="utf-8")
        words = [sys.executable, "-m", "glidexp.study.execution.work", str(path), "--follow"]
        return words, str(Path.cwd()), os.pathsep.join(place or "." for place in sys.path)

    def close(self) -> None:
        """As `Launcher.close`."""
        if self._began:
            ray.shutdown()


def _task(limit_s: float | None) -> Callable[[list[str], str, str], tuple[int, bool]]:
    """The function that Ray carries to its workers: it must not need glidexp there before the process has a path.

    It gives the run's exit code, and whether the run was told to end as it came to its limit.
    """

    def carry_out(words: list[str], folder: str, path: str) -> tuple[int, bool]:
        import os
        import signal
        import subprocess
        import time

        # The run follows its standard input: when this worker dies, it saves and ends.
        with subprocess.Popen(
            words, cwd=folder, stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        ) as process:
            began, late = time.monotonic(), False
            while process.poll() is None:
                try:
                    time.sleep(0.2)
                    if limit_s is not None and not late and time.monotonic() - began > limit_s:
                        late = True
                        process.send_signal(signal.SIGTERM)
                except KeyboardInterrupt:  # cancelled
                    process.send_signal(signal.SIGTERM)
        return int(process.returncode), late

    return carry_out
