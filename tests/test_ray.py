"""Clusters of Ray that lose nodes, lack room or are not there, in stand-ins of what a real one of two nodes did."""

import _thread
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from glidexp.config.launcher import LauncherConfig, LauncherKind
from glidexp.data import ray_cluster
from glidexp.data.workers import mapped
from glidexp.errors import GlidexpError, RunFailed
from glidexp.study.execution.launchers import ray as launchers_ray
from glidexp.study.execution.launchers.choice import build_launcher
from glidexp.tracking.store import open_store

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import os, signal, sys, time
from glidexp.signals import Interrupted, Signals
from glidexp.study.execution import work
place = sys.argv[1] + "."
def carried_out(order):
    try:
        with Signals().installed():
            open(place + "begun", "w").write(str(os.getpid()))
            while not os.path.exists(place + "go"):
                time.sleep(0.02)
    except Interrupted as stop:
        open(place + "saved", "w").write(str(stop.number))
        return 128 + stop.number
    return 7
work.carry_out, work.begin_process = carried_out, lambda log: None
work.main()
"""
ORDER = '{"name": "a|0", "words": [], "key": "k", "scored_on": null, "cells": "c", "log": "l", "mlruns": "m", '


def there(path: Path) -> str:
    """What stands in a file that comes within half a minute."""
    for _ in range(1500):
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} did not come")


def begun(tmp_path: Path) -> tuple["subprocess.Popen[bytes]", Path]:
    """A run as a worker of Ray starts it; its notes lie beside its order."""
    order = tmp_path / "order.json"
    order.write_text(ORDER + '"primary": "p"}')
    words, path = [sys.executable, "-c", RUN, str(order), "--follow"], os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdin=subprocess.PIPE, env=path), order


def test_a_run_saves_although_ray_kills_the_children_of_a_worker_that_ends(tmp_path: Path) -> None:
    """Ray 2.60 sends them SIGKILL when the worker or its node ends: nothing was saved, and another node waited for
    three minutes."""
    process, order = begun(tmp_path)
    with process:
        number = there(order.with_name("order.json.begun"))
        assert int(number) != process.pid
        process.kill()
        assert not order.with_name("order.json.saved").exists()
    assert there(order.with_name("order.json.saved")) == str(int(signal.SIGTERM))


def test_a_run_is_told_to_end_and_ends_as_its_child_does(tmp_path: Path) -> None:
    process, order = begun(tmp_path)
    with process:
        there(order.with_name("order.json.begun"))
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    assert there(order.with_name("order.json.saved")) == str(int(signal.SIGTERM))
    (tmp_path / "well").mkdir()
    process, order = begun(tmp_path / "well")
    with process:
        order.with_name("order.json.go").touch()
        assert process.wait() == 7
    (tmp_path / "killed").mkdir()
    process, order = begun(tmp_path / "killed")
    with process:
        os.kill(int(there(order.with_name("order.json.begun"))), signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


class Cluster:
    """What stands for Ray: nodes that are as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
        self.here, self.asked = list(nodes), dict[str, Any]()
        listener = socket.create_server(("127.0.0.1", 0))
        self.head = listener
        context = SimpleNamespace(gcs_address=f"127.0.0.1:{listener.getsockname()[1]}")
        for name, value in {
            "is_initialized": lambda: True,
            "nodes": lambda: [{"Alive": True, "Resources": node} for node in self.here],
            "get_runtime_context": lambda: context,
            "remote": lambda **share: self.asked.update(share) or (lambda work: work),
        }.items():
            monkeypatch.setattr(launchers_ray.ray, name, value)
        monkeypatch.setattr(ray_cluster, "LOOK_S", 0.0)

    def lose_head(self) -> None:
        self.head.close()


@pytest.fixture
def cluster_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    made: list[Cluster] = []

    def of(*nodes: dict[str, float]) -> Cluster:
        made.append(Cluster(monkeypatch, *nodes))
        return made[-1]

    yield of
    for cluster in made:
        cluster.head.close()


def launcher(tmp_path: Path, **settings: Any) -> launchers_ray.RayLauncher:
    cfg = LauncherConfig(kind=LauncherKind.ray, ray_address="auto", **settings)
    return launchers_ray.RayLauncher(cfg, tmp_path)


SMALL, LARGE = {"CPU": 2.0, "memory": 6e9}, {"CPU": 16.0, "memory": 64e9, "GPU": 2.0}


def test_a_run_fits_a_node_and_not_the_sum_of_them(tmp_path: Path, cluster_of: Callable[..., Cluster]) -> None:
    """Of two nodes of two cores a run asked for four, and waited for ever without a word."""
    cluster = cluster_of(SMALL, SMALL)
    assert (launcher(tmp_path).slots, launcher(tmp_path).threads) == (2, 2)
    assert cluster.asked == {"num_cpus": 2, "num_gpus": 0, "max_retries": 0, "memory": 6_000_000_000}
    cluster.here.append(LARGE)
    assert launcher(tmp_path).threads == 4
    assert cluster.asked == {"num_cpus": 4, "num_gpus": 1, "max_retries": 0, "memory": 16_000_000_000}
    assert launcher(tmp_path).slots == 2, "GPUs"
    assert launcher(tmp_path, gpus=0).slots == 4, "memory, and no run on the small ones"
    assert launcher(tmp_path, runs_per_gpu=3, memory_gb=1.0).slots == 4, "cores"
    assert launcher(tmp_path, slots=9).slots == 9


def test_nodes_that_come_and_go_are_seen(
    tmp_path: Path, cluster_of: Callable[..., Cluster], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "glidexp")
    cluster = cluster_of(LARGE)
    one = launcher(tmp_path)
    assert one.slots == 2 and not caplog.messages
    cluster.here.append(LARGE)
    one.look()
    assert one.slots == 4 and not caplog.messages
    cluster.here = [SMALL, SMALL]
    for _ in range(3):
        one.look()
    assert one.slots == 1
    assert caplog.messages == [
        "no node of the Ray cluster has room for a run of 4 cores, 1 GPU, 16 GB (2 cores, 6 GB): runs wait until one "
        "has; launcher.cores, launcher.memory_gb and launcher.gpus ask for less"
    ]
    cluster.here = []  # all of them are to come
    assert launcher(tmp_path).threads == 4
    assert caplog.messages[-1].startswith("no node of the Ray cluster has room for a run of 4 cores (it has none): ")


def test_a_run_that_never_fits_this_machine_is_refused(tmp_path: Path, cluster_of: Callable[..., Cluster]) -> None:
    cluster_of(SMALL)
    with pytest.raises(
        GlidexpError, match=r"^no node of .* a run of 64 cores \(2 cores, 6 GB\): give less as launcher\.c"
    ):
        launchers_ray.RayLauncher(LauncherConfig(kind=LauncherKind.ray, cores=64), tmp_path)


def test_a_head_that_is_gone_ends_the_sweep_by_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster_of: Callable[..., Cluster]
) -> None:
    """Ray ended the process itself after a minute, which left the study's parent run RUNNING."""
    cluster = cluster_of(LARGE)
    one = launcher(tmp_path)
    cluster.lose_head()
    one.look()  # it may come back
    monkeypatch.setattr(ray_cluster, "GONE_S", 0.0)
    with pytest.raises(
        RunFailed, match=r"^launcher\.ray_address=auto: the head of the cluster no longer answers\. Runs"
    ):
        one.look()


def test_an_address_at_which_nobody_is_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tried for minutes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"{place}\n")
        for address in (place, f"ray://{place}", "auto"):
            began = time.monotonic()
            with pytest.raises(GlidexpError, match=rf"^launcher\.ray_address={address}: .*refused"):
                build_launcher(LauncherConfig(kind=LauncherKind.ray, ray_address=address), tmp_path, cells=1)
            assert time.monotonic() - began < 5


def test_a_node_that_sees_other_folders_says_which(tmp_path: Path) -> None:
    """The run's log did not exist, to which its error led."""
    order = str(tmp_path / "order.json")
    for words, folder, missing in (
        ([sys.executable, "-c", "0", order], str(tmp_path), order),
        (["/no/python", "-c", "0"], str(tmp_path), "/no/python"),
        ([sys.executable, "-c", "0"], "/no/folder", "/no/folder"),
    ):
        code, late, why = launchers_ray._task(None)(words, folder, "")
        assert (code, late) == (1, False)
        assert f" does not see {missing}: data, paths.mlruns, " in why and os.uname().nodename in why


def test_a_run_is_cancelled_on_a_node_that_was_started_in_the_background(tmp_path: Path) -> None:
    """A shell has what it starts with `&` ignore SIGINT, by which Ray cancels: runs went on to their ends."""
    sleeps = [sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w').write('1'); import time; time.sleep(60)"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def cancel() -> None:
        there(tmp_path / "begun")
        _thread.interrupt_main()  # as Ray does

    helper = threading.Thread(target=cancel, daemon=True)
    try:
        helper.start()
        assert launchers_ray._task(None)(sleeps, str(tmp_path), "") == (-signal.SIGTERM, False, "")
    finally:
        helper.join()
        signal.signal(signal.SIGINT, before)


def test_what_ray_says_of_a_lost_node_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    worker = SimpleNamespace(print_to_stdstream=print)
    ray_cluster.words_in_a_line(SimpleNamespace(_private=SimpleNamespace(worker=worker)))
    for _ in range(2):
        lines = ["The node\nwith address: 10.0.0.2 is dead. \n    [state-dump] \tRaySyncer - 2 total\n" * 20]
        worker.print_to_stdstream({"lines": lines, "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert caplog.messages == ["Ray: The node with address: 10.0.0.2 is dead"]
    ray_cluster.words_in_a_line(SimpleNamespace())  # a Ray of another inside
    assert callable(ray._private.worker.print_to_stdstream), "what is replaced is there"


def double(value: int) -> int:
    return 2 * value


def test_a_build_whose_cluster_is_gone_ends_by_a_sentence(
    monkeypatch: pytest.MonkeyPatch, cluster_of: Callable[..., Cluster]
) -> None:
    cluster = cluster_of(LARGE)
    monkeypatch.setattr(ray, "cluster_resources", lambda: LARGE)
    monkeypatch.setattr(ray, "remote", lambda **share: lambda work: SimpleNamespace(remote=work))
    monkeypatch.setattr(ray, "wait", lambda waiting, **options: ([], waiting))
    monkeypatch.setattr(ray_cluster, "GONE_S", 0.0)
    cluster.lose_head()
    with pytest.raises(RunFailed, match=r"^--map=ray:auto: the head of the cluster no longer answers: .* are kept\.$"):
        list(mapped(double, [1, 2], workers=1, cluster="ray:auto"))

    def died(waiting: list[int], **options: object) -> None:
        raise ray.exceptions.NodeDiedError("node 1")

    monkeypatch.setattr(ray, "wait", died)
    with pytest.raises(RunFailed, match=r"^Ray: NodeDiedError: a worker process was killed"):
        list(mapped(double, [1, 2], workers=1, cluster="ray:auto"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("GLIDEXP_RAY") != "1", reason="GLIDEXP_RAY=1 starts two nodes and kills one (3 min)")
def test_a_node_joins_and_is_killed(tmp_path: Path) -> None:
    """It is used at once; its run is begun again where it saved, and ends as one that nothing happened to."""
    from ray.cluster_utils import Cluster

    room = {"num_cpus": 2, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args=room | {"include_dashboard": False})
    own = ["experiment=smoke", "train.epochs=60", "train.precision=fp32", "train.compile=off", "train.threads=1"]
    own += ["tracking.system_metrics=false", f"paths.data={tmp_path / 'data'}", f"paths.mlruns={tmp_path / 'mlruns'}"]
    words = [*own, "seed=0,1", "launcher=ray", f"launcher.ray_address={cluster.address}"]
    words += ["launcher.cores=2", "launcher.memory_gb=1"]
    command = [sys.executable, str(ROOT / "sweep.py"), *words]

    def logged(count: int) -> list[str]:
        """What the runs have said, once so many of them are past an epoch."""
        while sweep.poll() is None:
            said = [log.read_text() for log in (tmp_path / "mlruns" / "studies").glob("*/logs/*.log")]
            if sum("epoch 2/" in one for one in said) >= count:
                return said
            time.sleep(0.5)
        return []

    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as sweep:
            assert len(logged(1)) == 1, "one node has room for one run"
            joined = cluster.add_node(**room)
            assert len(logged(2)) == 2
            cluster.remove_node(joined, allow_graceful=False)
            said = sweep.communicate()[0]
    finally:
        cluster.shutdown()
    assert sweep.returncode == 0 and "[2/2]" in said, said
    logs = [log.read_text() for log in (tmp_path / "mlruns" / "studies").glob("*/logs/*.log")]
    (killed,) = [one for one in logs if "goes on in epoch" in one]
    assert "stopped by SIGTERM; the same command goes on" in killed
    alone = [sys.executable, str(ROOT / "train.py"), *own, f"paths.mlruns={tmp_path / 'alone'}"]
    for seed in "01":
        subprocess.run([*alone, f"seed={seed}"], check=True, capture_output=True, cwd=ROOT)
    found, wanted = scores(tmp_path / "mlruns"), scores(tmp_path / "alone")
    assert found.keys() == {"0", "1"} and found == wanted


def scores(mlruns: Path) -> dict[str, dict[str, float]]:
    """Scores of finished trainings by seed."""
    client = open_store(f"sqlite:///{mlruns / 'mlflow.db'}", mlruns).client
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()], "status = 'FINISHED'")
    return {
        run.data.params["seed"]: {name: v for name, v in run.data.metrics.items() if name.startswith(("val/", "test/"))}
        for run in runs
        if "train/loss" in run.data.metrics
    }
