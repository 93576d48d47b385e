"""Several processes are one: the loss curve, the scores, signals, resuming; and one that dies ends the job."""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import warm
from ranks_curve import CASES, answers, curves, statistics
from ranks_train import patch
from runs import small_config, words
from test_loader import memory

from glidexp.data.loader import Loader
from glidexp.errors import ConfigError, DataError
from glidexp.models.build import assemble, synchronised
from glidexp.signals import Interrupted
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training import loop
from glidexp.training.check import check_shares
from glidexp.training.processes.ranks import Ranks, join
from glidexp.training.processes.tiles import prepared
from glidexp.training.run import run

ROOT = Path(__file__).resolve().parent.parent
TORCHRUN = [warm.python(), "-m", "torch.distributed.run"]
ONE_NODE = ["--nproc_per_node=2", "--standalone"]


def nodes() -> list[list[str]]:
    """What torchrun is given on the first and on the second of two nodes, each with one process.

    Both are this machine. Their addresses say which is the first.
    """
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    meeting = ["--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}"]
    return [[*meeting, f"--local_addr=127.0.0.{number}"] for number in (1, 2)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}


def start(*command: str, options: list[str] = ONE_NODE) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*TORCHRUN, *options, *command], cwd=ROOT, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> str:
    """All that it printed; a job that hangs is a failure."""
    try:
        told, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("still at work after 400 s")
    return told


LIGHT = ["tracking=light", "loss.dice=0.5", "train.average_last=2"]


def signal_after(monkeypatch: pytest.MonkeyPatch, *, steps: int) -> None:
    real, count = loop.Meter.step, itertools.count(2)

    def step(self: Any, images: int, loss: torch.Tensor) -> None:
        real(self, images, loss)
        if next(count) == steps:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.Meter, "step", step)


def begin(data: Path, mlruns: Path) -> None:
    """A run of one process, stopped in its second step."""
    with pytest.MonkeyPatch.context() as patches:
        patch(patches)
        signal_after(patches, steps=2)
        with pytest.raises(Interrupted):
            run(small_config(data, mlruns, *LIGHT), choices={})


@dataclass(frozen=True)
class Job:
    """What two processes did that were started once."""

    told: str
    mlruns: Path


@pytest.fixture(scope="module")
def job(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run is begun here and stopped in its second step; two processes make their curves, and go on with it."""
    mlruns = tmp_path_factory.mktemp("job")
    begin(small_data, mlruns)
    process = start("tests/ranks_curve.py", str(mlruns / "curves.json"), *words(small_data, mlruns, *LIGHT))
    told = finish(process)
    assert process.returncode == 0, told
    return Job(told, mlruns)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(job: Job) -> None:
    """Without batch statistics, in fp32; with parts of unequal valid ground, staged unfreezing, and accumulation.

    And what else two processes must agree on, since starting them takes longest.
    """
    found = json.loads((job.mlruns / "curves.json").read_text())
    shared, alone = found["curves"], curves(Ranks())
    assert len(shared) == len(alone) == len(CASES)
    for ours, theirs in zip(shared, alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert ours[0] > 1.1 * ours[-3]  # it learns, or all curves would be alike
    assert found["stopped"] == [[3, 3]], "a signal to one rank stops both after the same step"
    for ours, tiles in zip(found["answers"], (7, 1), strict=True):
        assert ours == list(answers(Ranks(), tiles)), "scores depend on the number of processes"
    first, second = found["statistics"]
    assert first == second, "averaged weights have other batch statistics on each rank"
    assert first == pytest.approx(statistics(Ranks()), rel=1e-6)
    assert found["batch"] == [10, 10], "the smallest of the ranks' batches, 5, for each of both"


@pytest.fixture(scope="module")
def alone(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Metrics of the small run of one process, which the others must reach."""
    mlruns = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patches:
        patch(patches)
        run(small_config(small_data, mlruns, *LIGHT), choices={})
    return metrics_of(small_data, mlruns)


def stored(data: Path, mlruns: Path) -> Any:
    """The one run that the store holds."""
    config = small_config(data, mlruns)
    client = open_store(tracking_uri(config.tracking, config.paths), mlruns).client
    (found,) = client.search_runs([client.get_experiment_by_name("glidexp").experiment_id])
    return found


def metrics_of(data: Path, mlruns: Path) -> dict[str, float]:
    """All but speed."""
    found = stored(data, mlruns).data.metrics
    return {name: value for name, value in found.items() if "images_per_s" not in name}


@pytest.mark.slow
def test_a_run_begun_by_one_process_is_ended_by_two(small_data: Path, job: Job, alone: dict[str, float]) -> None:
    """Stopped within an epoch, gone on with by two processes that share tiles and scoring: every score is the same."""
    assert job.told.count("goes on in epoch 1 after batch 2") == job.told.count("epoch 2/2") == 1, "one process speaks"
    whole = stored(small_data, job.mlruns)
    assert (whole.info.status, whole.data.tags["glidexp.processes"]) == ("FINISHED", "2")
    assert metrics_of(small_data, job.mlruns) == pytest.approx(alone, rel=1e-4)
    assert not list((job.mlruns / "checkpoints").rglob("*.pt"))


def weights_of(told: str) -> list[str]:
    """The digest of its weights that each process printed."""
    return re.findall("^best weights ([0-9a-f]{64})$", told, re.MULTILINE)


@pytest.mark.slow
def test_two_nodes_are_two_processes_of_one(small_data: Path, job: Job, tmp_path: Path) -> None:
    """Bit for bit, from one checkpoint. The second sees nothing of the first: it makes own tiles, and keeps no runs."""
    begin(small_data, tmp_path / "first")
    there = tmp_path / "second"
    places = [(small_data, tmp_path / "first"), (there / "data", there / "mlruns")]
    started = [
        start("tests/ranks_train.py", *words(*place, *LIGHT), options=options)
        for place, options in zip(places, nodes(), strict=True)
    ]
    told = [finish(process) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert "goes on in epoch 1 after batch 2" in told[0] and "epoch" not in told[1], "one process speaks"
    whole = stored(small_data, tmp_path / "first")
    assert (whole.info.status, whole.data.tags["glidexp.processes"]) == ("FINISHED", "2")
    assert metrics_of(small_data, tmp_path / "first") == metrics_of(small_data, job.mlruns)
    digests = [*weights_of(told[0]), *weights_of(told[1]), *weights_of(job.told)]
    assert len(digests) == 4 and len(set(digests)) == 1
    assert [path.name for path in there.iterdir()] == ["data"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "error"])
def test_a_process_that_dies_ends_the_job(how: str, small_data: Path, tmp_path: Path) -> None:
    """Without a word on one node, or on the other one of two with an error that nobody expects, and all get to read."""
    typed = ["tests/ranks_train.py", how, *words(small_data, tmp_path, *LIGHT, "train.epochs=500")]
    started = [start(*typed, options=options) for options in (nodes() if how == "error" else [ONE_NODE])]
    watchdog = threading.Timer(60, lambda: [os.killpg(process.pid, signal.SIGKILL) for process in started])
    told = ""
    last = started[-1]
    assert last.stdout is not None
    for line in last.stdout:
        told += line
        if "rank 1 ends here" in line:
            watchdog.start()
    finish(last)
    told_first = finish(started[0]) if len(started) > 1 else told
    watchdog.cancel()
    assert [process.returncode for process in started] == [1] * len(started), told + told_first
    assert "goes on" not in told_first
    local = 0 if how == "error" else 1
    assert f"rank      : 1 (local_rank: {local})" in told.split("Root Cause")[1], told
    failed = stored(small_data, tmp_path)
    assert failed.info.status == "FAILED"
    why = failed.data.tags["glidexp.error"]
    assert "another process of this job ended" in why and why.removeprefix("RankLost: ") in told_first
    if how == "error":
        assert told.count("MemoryError: no more of it in rank 1") == 1, told
        assert why.endswith("MemoryError: no more of it in rank 1")


def test_a_batch_that_processes_cannot_share(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size=7 is shared by 4 processes: .* such as 8"):
        check_shares(small_config(tmp_path, tmp_path, "train.batch_size=7"), 4, common_statistics=True)
    ones = small_config(tmp_path, tmp_path, "train.batch_size=4", "decoder=upernet")
    check_shares(ones, 4, common_statistics=True)
    with pytest.raises(ConfigError, match=r"each of 4 processes one tile, .*: give 8 or more"):
        check_shares(ones, 4, common_statistics=False)


@pytest.mark.parametrize(("device", "gpus"), [("cuda:1", 2), ("auto", 1)])
def test_a_device_that_processes_cannot_share(device: str, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=r"2 processes|torchrun started 2"):
        join(device)


@pytest.mark.parametrize("what", ["tiles", "split"])
def test_a_machine_with_other_tiles(what: str, small_data: Path, tmp_path: Path) -> None:
    """Copies of another day: the same names, and another hash of the pixels, or of the sides they are on."""
    config, words_of_0 = small_config(small_data, tmp_path), []
    first: Any = SimpleNamespace(first=True, local=0, share=words_of_0.append)
    prepared(config, first)
    told = words_of_0[0] | {what: "0" * 64}
    other: Any = SimpleNamespace(first=False, local=0, share=lambda _: told)
    with pytest.raises(
        DataError, match=rf"{what} of this machine \(\w+\) differ from those of rank 0 \(000000000000\)"
    ):
        prepared(config, other)


def test_parts_of_a_batch_are_the_batch() -> None:
    store = memory(23)
    whole = [batch.rows.tolist() for batch in Loader(store, np.arange(23), 6, seed=1, drop_last=True).epoch(3, 1)]
    loaders = [Loader(store, np.arange(23), 6, seed=1, drop_last=True, part=(part, 3)) for part in range(3)]
    shared = zip(*[[batch.rows.tolist() for batch in loader.epoch(3, 1)] for loader in loaders], strict=True)
    assert [list(itertools.chain(*parts)) for parts in shared] == whole


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_gpus_have_the_batch_statistics_of_one(small_data: Path, tmp_path: Path) -> None:
    """A step of a network with BatchNorm, then a whole training of one: processes by torchrun, words by NCCL."""
    if torch.cuda.device_count() < 2:
        pytest.skip(f"needs two GPUs, this machine has {torch.cuda.device_count()}: NCCL takes no two ranks on one")
    own = ["train.device=cuda", "train.compile=off", "train.epochs=1", "tracking=light"]
    process = start("tests/ranks_sync.py", *words(small_data, tmp_path, *own))
    told = finish(process)
    assert process.returncode == 0, told
    assert all(f"rank {rank} of 2 is a part of the whole" in told for rank in (0, 1)), told
    whole = stored(small_data, tmp_path)
    assert (whole.info.status, whole.data.tags["glidexp.processes"]) == ("FINISHED", "2")
    assert whole.data.metrics["best_epoch"] == 1


@pytest.mark.parametrize("backbone", ["mobilenetv3", "resnet18"])
def test_synchronised_statistics_keep_the_network(backbone: str) -> None:
    """Names, weights and answers; timm's norm layers with an activation inside too."""
    torch.manual_seed(0)
    model = assemble(backbone, "fcn", in_channels=3).eval()
    image = torch.randn(2, 3, 64, 64)
    before, names = model(image), list(model.state_dict())
    synced = synchronised(model)
    kinds = {type(module).__name__ for module in synced.modules()}
    assert not {"BatchNorm2d", "BatchNormAct2d"} & kinds and any("Sync" in kind for kind in kinds)
    assert list(synced.state_dict()) == names
    assert torch.equal(synced.eval()(image), before)
