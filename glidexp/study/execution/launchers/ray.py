"""Tasks of a Ray cluster, or of one that is started on this machine. A task starts the run as a process of its own."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from glidexp.config.launcher import LauncherConfig
from glidexp.data.ray_cluster import Head, ask, words_in_a_line
from glidexp.errors import GlidexpError, RunFailed
from glidexp.study.execution.launchers.choice import Job, Launcher
from glidexp.study.execution.slots import CORES_ELSEWHERE
from glidexp.study.execution.work import Order

log = logging.getLogger("glidexp")

MEMORY_GB = 16.0
KILLED = (
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
)
"""how Ray calls the end of a task whose process or node is gone"""
Ended = tuple[int, bool, str]
"""exit code of a run, whether it was told to end as it came to its limit, and why it could not be started"""


class RayJob(Job):
    """A task of the cluster."""

    def __init__(self, result: "ray.ObjectRef[Ended]", limit_min: float | None = None) -> None:
        self._result, self._limit_min = result, limit_min

    def poll(self) -> int | None:
        """As `Job.poll`."""
        ready, _ = ray.wait([self._result], timeout=0)
        if not ready:
            return None
        try:
            code, late, why = ray.get(self._result)
        except ray.exceptions.TaskCancelledError:
            return -signal.SIGTERM
        except KILLED:
            return -signal.SIGKILL
        except ray.exceptions.RayError as error:
            self.why = f"Ray: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return 1
        self.why = why
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
    """As many tasks as the nodes of the cluster have room for; nodes may come and go.

    Args:
        cfg: settings
        folder: of the study, on a file system that all nodes see

    Raises:
        GlidexpError: there is no cluster at the address, or the one on this machine has no room for a run
    """

    def __init__(self, cfg: LauncherConfig, folder: Path) -> None:
        self._cfg, self.folder = cfg, folder / "ray"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._began = not ray.is_initialized()
        if self._began:
            _begin(cfg.ray_address)
        self._head, self._narrow = Head(ray), False
        nodes = _nodes()
        most = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in ("CPU", "GPU", "memory")}
        self.threads = cfg.cores or min(CORES_ELSEWHERE, int(most["CPU"])) or CORES_ELSEWHERE
        self._needs: dict[str, float] = {"CPU": self.threads}
        if most["GPU"] and cfg.gpus != 0:
            self._needs["GPU"] = 1 / cfg.runs_per_gpu
        if cfg.ray_address is not None and most["memory"]:
            self._needs["memory"] = cfg.memory_gb * 1e9 if cfg.memory_gb else min(MEMORY_GB * 1e9, most["memory"])
        self._make_room(nodes)
        self._limit_min = cfg.time_limit_min
        limit_s = None if cfg.time_limit_min is None else cfg.time_limit_min * 60
        share: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": self._needs.get("GPU", 0)}
        if "memory" in self._needs:
            share["memory"] = int(self._needs["memory"])
        self._task = ray.remote(max_retries=0, **share)(_task(limit_s))

    def look(self) -> None:
        """As `Launcher.look`."""
        if self._cfg.ray_address is None or not self._head.due():
            return
        if self._head.answers():
            self._make_room(_nodes())
        elif self._head.gone():
            raise RunFailed(
                f"launcher.ray_address={self._cfg.ray_address}: the head of the cluster no longer answers. Runs save "
                "and end with it; when it is up again, the same command goes on."
            )

    def _make_room(self, nodes: Sequence[Mapping[str, float]]) -> None:
        """Counts the runs that fit, and says it once when not one does."""
        fit = fitting(nodes, self._needs)
        self.slots = self._cfg.slots if isinstance(self._cfg.slots, int) else max(fit, 1)
        if not fit and not self._narrow:
            has = "; ".join(dict.fromkeys(map(_told, nodes))) or "it has none"
            text = f"no node of the Ray cluster has room for a run of {_told(self._needs)} ({has})"
            if self._cfg.ray_address is None:
                raise GlidexpError(f"{text}: give less as launcher.cores or launcher.runs_per_gpu.")
            log.warning(
                "%s: runs wait until one has; launcher.cores, launcher.memory_gb and launcher.gpus ask for less", text
            )
        self._narrow = not fit

    def start(self, orders: list[Order]) -> list[Job]:
        """As `Launcher.start`."""
        return [RayJob(self._task.remote(*self._command(order)), self._limit_min) for order in orders]

    def _command(self, order: Order) -> tuple[list[str], str, str]:
        """What the task starts, in which folder, with which path for imports: those of this process."""
        path = self.folder.absolute() / f"order-{order.key}.json"
        path.write_text(order.to_json(), encoding="utf-8")
        words = [sys.executable, "-m", "glidexp.study.execution.work", str(path), "--follow"]
        return words, str(Path.cwd()), os.pathsep.join(place or "." for place in sys.path)

    def close(self) -> None:
        """As `Launcher.close`."""
        if self._began:
            ray.shutdown()


def fitting(nodes: Sequence[Mapping[str, float]], needs: Mapping[str, float]) -> int:
    """Runs that fit at once: each lies on one node.

    Args:
        nodes: CPU, GPU and memory (bytes) of each
        needs: of a run, of those that it asks for
    """
    return sum(min(int(node.get(name, 0.0) / need + 1e-6) for name, need in needs.items()) for node in nodes)


def _told(parts: Mapping[str, float]) -> str:
    """`4 cores, 1 GPU, 16 GB` of what a run needs or a node has."""
    found = [f"{parts.get('CPU', 0.0):g} cores"]
    if parts.get("GPU"):
        found.append(f"{parts['GPU']:.2g} GPU")
    if parts.get("memory"):
        found.append(f"{parts['memory'] / 1e9:.3g} GB")
    return ", ".join(found)


def _nodes() -> list[dict[str, float]]:
    """What each node that is alive has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _begin(address: str | None) -> None:
    """Joins a cluster, or starts one on this machine.

    Raises:
        GlidexpError: there is none at the address, or it is none that this Ray can use
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options |= {"include_dashboard": False}
    try:
        if address is not None:
            ask(address)
        ray.init(address=address or "local", **options)
    except (OSError, ValueError, RuntimeError, ImportError, ray.exceptions.RayError) as error:
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise GlidexpError(f"launcher.ray_address={address}: {line}") from None
    words_in_a_line(ray)


def _task(limit_s: float | None) -> Callable[[list[str], str, str], Ended]:
    """The function that Ray carries to its workers: it must not need glidexp there before the process has a path.

    It gives the run's exit code, whether the run was told to end as it came to its limit, and why it did not begin.
    """

    def carry_out(words: list[str], folder: str, path: str) -> Ended:
        import os
        import signal
        import subprocess
        import time

        # Ray interrupts what it cancels; a node that was started in the background of a script ignores that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for place in (words[0], folder, *(word for word in words if word.endswith(".json"))):
            if not os.path.exists(place):
                why = f"node {os.uname().nodename} does not see {place}: data, paths.mlruns, the folder that the sweep "
                return 1, False, why + "is started in and its Python must lie under the same paths on all nodes"
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
        return int(process.returncode), late, ""

    return carry_out
