"""One function over many tasks: in this process, in processes of this machine, or over a Ray or Dask cluster.

Nothing heavy is imported here. Results come as they are ready, in any order.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

from glidexp.data.ray_cluster import LOOK_S, Head, ask, words_in_a_line
from glidexp.errors import ConfigError, RunFailed

T = TypeVar("T")
R = TypeVar("R")
CLUSTERS = {"ray": "ray", "dask": "distributed"}
"""word of --map, and the package it needs"""

KILLED = (
    "a worker process was killed, most often for want of memory: give fewer --workers or less --memory; finished "
    "scenes are kept and the same command goes on."
)
GONE = "no longer answers: when it is up again, the same command goes on; finished scenes are kept."


@dataclass(frozen=True, slots=True)
class Crew:
    """Who builds a store, which changes nothing in it."""

    workers: int = 0
    """processes of this machine; 0: by cores, memory and how much there is to do"""
    memory_bytes: int = 0
    """for all processes together; 0: most of what is free"""
    cluster: str = ""
    """ray or dask, after a colon the address; empty: this machine"""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"--workers={self.workers} must be 1 or more, or 0 to choose by cores and memory.")
        kind = self.cluster.partition(":")[0]
        if self.cluster and kind not in CLUSTERS:
            raise ConfigError(
                f"--map={self.cluster} is not known: give {' or '.join(CLUSTERS)}, with :ADDRESS for a cluster that "
                "runs already."
            )


def mapped(
    work: Callable[[T], R],
    tasks: Sequence[T],
    *,
    workers: int,
    cluster: str = "",
    gpu: bool = False,
    killed: str = KILLED,
) -> Iterator[R]:
    """Calls `work` with every task. One task or one worker needs no other process.

    Args:
        work: a function of a module, which other processes can import
        tasks: what can be sent to other processes
        workers: processes of this machine
        cluster: as `Crew.cluster`; its machines must see the same paths
        gpu: a task uses a GPU where there is one: of a cluster of Ray each then gets one, else all may take the first
        killed: what is said where the system killed a process of this machine, and the way out

    Raises:
        ConfigError: the cluster's package is not installed, or no cluster is at the address
        RunFailed: a worker was killed
    """
    if cluster:
        yield from _on_cluster(work, tasks, cluster, gpu)
    elif workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield work(task)
    else:
        yield from _in_processes(work, tasks, min(workers, len(tasks)), killed)


def _in_processes(work: Callable[[T], R], tasks: Sequence[T], workers: int, killed: str) -> Iterator[R]:
    # threads of this process (a tracker's, torch's) must not be forked; a fork server starts without them
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":  # it imports once what every worker would import again
        context.set_forkserver_preload([work.__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        for future in as_completed([pool.submit(work, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool:
        raise RunFailed(killed) from None
    except BaseException:
        for process in list((pool._processes or {}).values()):  # until Python 3.14 there is no other way
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Readies a worker: one thread, and an end when its parent ends, also by kill -9."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent speaks for all
    os.environ.update(OMP_NUM_THREADS="1", GDAL_NUM_THREADS="1")
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _on_cluster(work: Callable[[T], R], tasks: Sequence[T], cluster: str, gpu: bool) -> Iterator[R]:
    kind, _, address = cluster.partition(":")
    package = CLUSTERS[kind]
    try:
        library: Any = import_module(package)
    except ImportError:
        raise ConfigError(
            f"--map={cluster} needs the package {package}, which is not installed: pip install "
            f"'{'ray' if kind == 'ray' else 'dask[distributed]'}', or leave --map out to use processes of this machine."
        ) from None
    if kind == "ray":
        yield from _on_ray(library, work, tasks, address, gpu)
    else:  # which knows nothing of GPUs
        yield from _on_dask(library, work, tasks, address)


def _on_ray(ray: Any, work: Callable[[T], R], tasks: Sequence[T], address: str, gpu: bool) -> Iterator[R]:
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of one's own tells nobody
        with _reaching("ray", address, (OSError, ValueError, RuntimeError)):
            ask(address)
            ray.init(
                # not "the last one started here", which is what Ray takes without a word and may be gone
                address=address or os.environ.get("RAY_ADDRESS") or "local",
                **({} if address or os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}),
                log_to_driver=False,
                logging_level="ERROR",
            )
        words_in_a_line(ray)
    head = Head(ray)
    try:
        gpus = int(gpu and ray.cluster_resources().get("GPU", 0) >= 1)
        remote = ray.remote(num_cpus=1, num_gpus=gpus)(work)
        waiting = [remote.remote(task) for task in tasks]
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=LOOK_S)
            if not ready and not head.answers() and head.gone():
                raise RunFailed(f"--map=ray{':' * bool(address)}{address}: the head of the cluster {GONE}")
            for one in ready:
                yield ray.get(one)
    except ray.exceptions.RayTaskError as error:  # its text is a traceback of the worker
        raise error.cause from None
    except ray.exceptions.RayError as error:  # a worker or its node was gone more often than Ray tries
        raise RunFailed(f"Ray: {type(error).__name__}: {KILLED}") from None
    finally:
        if ours:
            ray.shutdown()


def _on_dask(distributed: Any, work: Callable[[T], R], tasks: Sequence[T], address: str) -> Iterator[R]:
    # a cluster of its own: no page, whose port may be taken, and a process a core, as a scene's memory is
    own = {} if address else {"threads_per_worker": 1, "dashboard_address": None}
    with _reaching("dask", address, (OSError, ValueError)):
        client = distributed.Client(address or None, **own)
    with client:
        try:
            # pure=False: the same task is done again when files were repaired in between
            for future in distributed.as_completed(client.map(work, list(tasks), pure=False)):
                yield future.result()
        except distributed.scheduler.KilledWorker:
            raise RunFailed(KILLED) from None


@contextmanager
def _reaching(kind: str, address: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turns what a library says of a cluster that is not there into one sentence."""
    try:
        yield
    except errors as error:
        says = " ".join(str(error).split())[:200] or type(error).__name__
        where = f"--map={kind}{':' if address else ''}{address}"
        raise ConfigError(
            f"{where} gives no cluster ({says}): correct the address, or leave --map out to use processes of this "
            "machine."
        ) from None


def in_threads(work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Each task and what comes of it, in the order of the tasks; for work that runs without Python's lock, as decoding.

    A bounded number is done ahead, since a decoded picture is large.

    Args:
        work: called by threads
        tasks: any number
    """
    waiting, threads = iter(tasks), os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque((task, pool.submit(work, task)) for task in islice(waiting, 2 * threads))
        while ahead:
            task, future = ahead.popleft()
            result = future.result()
            ahead.extend((new, pool.submit(work, new)) for new in islice(waiting, 1))
            yield task, result


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
