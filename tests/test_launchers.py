"""Cells as jobs of a scheduler: submitit's local executor, its mocked SLURM with a preemption, and a real Ray."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import warm
from study_stub import carried_out, opened, plan, stubbed
from submitit.core import submission, utils
from submitit.slurm import slurm
from submitit.slurm.test_slurm import get_signal_handler, mock_requeue, mocked_slurm

from glidexp.config.launcher import LauncherConfig, LauncherKind, SlurmConfig
from glidexp.errors import ConfigError, GlidexpError
from glidexp.signals import Signals
from glidexp.study.execution import slots, sweep
from glidexp.study.execution.cells import Plan
from glidexp.study.execution.ending import cancel
from glidexp.study.execution.launchers.choice import build_launcher, refuse_named_gpu
from glidexp.study.execution.launchers.slurm import CellTask, SlurmLauncher
from glidexp.study.execution.ledger import CANCEL, Entry, Ledger, Status, held
from glidexp.study.execution.work import Order, environment
from glidexp.tracking.store import Store

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return opened(tmp_path_factory.mktemp("mlruns"))


@pytest.fixture(autouse=True)
def path_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")


@pytest.fixture
def warm_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", warm.python())


def order_of(study: Plan, store: Store, place: int = 0) -> Order:
    ledger, cell = Ledger(study, store, "glidexp"), study.cells[place]
    ledger.begin()
    paths = {"cells": str(ledger.path), "log": str(ledger.log_path(cell)), "mlruns": str(store.mlruns)}
    own = {"primary": study.primary, "environment": environment("", study.name, cell.arm, 1)}
    return stubbed(Order(name=cell.name, words=cell.words, key=cell.key, scored_on=None, **paths, **own))


def test_an_order_is_its_text() -> None:
    order = Order("a|0", ("x=1",), "k", ("y=2", "z=3"), "c", "l", "m", "p", {"A": "1"})
    assert Order.from_json(order.to_json()) == order
    assert Order.from_json(stubbed(order).to_json()).train == "study_stub:train"


@pytest.mark.slow
def test_submitits_local_executor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies is handed in once more."""
    cfg = LauncherConfig(slurm=SlurmConfig(gpus=0), slots=1, cores=1)
    monkeypatch.setattr(sweep, "build_launcher", lambda cfg, folder, **_: SlurmLauncher(cfg, folder, cluster="local"))
    ledger = carried_out(plan(store.mlruns, {"local": "killed"}, seeds=1), store, cfg)
    assert ledger.complete, ledger.entries()
    assert list(ledger.folder.glob("slurm/*_submission.sh")) == [], "that was SLURM"


def test_slurm_is_told_what_the_settings_say(store: Store) -> None:
    options = SlurmConfig(partition="gpu", account="lakes", gpus=1, notice_s=120, options={"constraint": "a100"})
    cfg = LauncherConfig(kind=LauncherKind.slurm, slots=1, cores=7, memory_gb=24, time_limit_min=90, slurm=options)
    study = plan(store.mlruns, {"told": "well"})
    with mocked_slurm():
        launcher = SlurmLauncher(cfg, Ledger(study, store, "glidexp").folder)
        jobs = launcher.start([order_of(study, store, place) for place in (0, 1)])
        (script,) = launcher.folder.glob("*_submission.sh")
    text = script.read_text()
    for line in (
        "--array=0-1%1", "--partition=gpu", "--account=lakes", "--gpus-per-node=1", "--cpus-per-task=7", "--mem=24GB",
        "--time=90", "--signal=USR2@120", "--constraint=a100", "--requeue",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in text, line
    assert [job.name for job in jobs] == ["slurm:12_0", "slurm:12_1"]
    assert all(job.lasts for job in jobs)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"gpus": 2}, "launcher.slurm.gpus=2"),
        ({"options": {"nodes": "2", "ntasks_per_node": "4"}}, "nodes, ntasks-per-node"),
    ],
)
def test_a_run_of_a_study_is_one_process(more: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"{named} .*one process.*torchrun"):
        SlurmConfig(**more)


SAVES = (
    "import signal, sys, time, pathlib\n"
    "def save(*_): pathlib.Path(sys.argv[1], 'saved').touch(); sys.exit(138)\n"
    "signal.signal(signal.SIGUSR1, save)\n"
    "pathlib.Path(sys.argv[1], 'ready').touch()\n"
    "while True: time.sleep(0.05)\n"
)
"""a run that saves when it is told to"""


@pytest.mark.slow
@pytest.mark.usefixtures("warm_jobs")
def test_a_preempted_job_saves_is_queued_again_and_goes_on(store: Store, tmp_path: Path) -> None:
    study = plan(store.mlruns, {"preempted": "well"}, seeds=1)
    cfg = LauncherConfig(kind=LauncherKind.slurm, time_limit_min=60, slurm=SlurmConfig(gpus=0))
    folder = Ledger(study, store, "glidexp").folder
    order = order_of(study, store)
    with mocked_slurm() as mock:
        launcher = SlurmLauncher(cfg, folder)
        (job,) = launcher.start([order])
        assert job.poll() is None
        inner: Any = job._job  # type: ignore[attr-defined]
        handler = get_signal_handler(inner)
        with subprocess.Popen([sys.executable, "-c", SAVES, str(tmp_path)]) as run:
            while not (tmp_path / "ready").exists():
                time.sleep(0.02)
            handler._delayed.function.number = run.pid  # as on the node, where the job has begun it
            with pytest.raises(SystemExit), mock_requeue(called_with=cfg.slurm.requeues):
                handler.checkpoint_and_try_requeue(slurm.SlurmJobEnvironment._usr_sig())
            assert (tmp_path / "saved").exists()
            assert run.wait() == 138
        again = utils.DelayedSubmission.load(inner.paths.submitted_pickle).function
        assert isinstance(again, CellTask)
        assert Order.from_json(Path(again.order).read_text()) == order
        known = Entry(job=job.name)
        assert launcher.adopt(known) is not None, "another sweep must find the job in the queue"
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)}
        with mock.job_context(inner.job_id):  # its second start
            submission.process_job(inner.paths.folder)
        for number, action in before.items():
            signal.signal(number, action)
        mock.set_job_state(inner.job_id, "COMPLETED")
        assert launcher.adopt(known) is None
        assert job.poll() == 0
    found = store.find_run(study.cells[0].key, "glidexp")
    assert found is not None and found.status == "FINISHED"
    assert Ledger(study, store, "glidexp").entries()["preempted|0"].train == found.run_id


def test_a_cancelled_job_goes_on_later_and_one_without_memory_does_not(store: Store) -> None:
    study = plan(store.mlruns, {"ended": "well"}, seeds=1)
    with mocked_slurm() as mock:
        cfg = LauncherConfig(kind=LauncherKind.slurm, slurm=SlurmConfig(gpus=0))
        launcher = SlurmLauncher(cfg, Ledger(study, store, "glidexp").folder)
        for state, code, why in (("CANCELLED by 0", -15, ""), ("OUT_OF_MEMORY", 1, "raise launcher.memory_gb")):
            (job,) = launcher.start([order_of(study, store)])
            inner: Any = job._job  # type: ignore[attr-defined]
            inner._results_timeout_s = 0
            for path in (inner.paths.stdout, inner.paths.stderr):
                path.touch()
            mock.set_job_state(inner.job_id, state)
            assert job.poll() == code
            assert why in job.why


def test_without_a_scheduler_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GlidexpError, match=r"^launcher=slurm: .*Start the sweep where `sbatch` is"):
        build_launcher(LauncherConfig(kind=LauncherKind.slurm), tmp_path, cells=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ray(store: Store) -> None:
    """A cluster on this machine: a run that dies goes on, one that fails is named."""
    cfg = LauncherConfig(kind=LauncherKind.ray, cores=1)
    ledger = carried_out(plan(store.mlruns, {"ray": "killed", "wrong": "refused"}, seeds=1), store, cfg)
    assert {name: entry.status for name, entry in ledger.entries().items()} == {
        "ray|0": "finished",
        "wrong|0": "failed",
    }
    assert ledger.failed["wrong|0"].startswith("train.batch_size=5000")


def test_a_run_of_ray_that_comes_to_its_limit_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was begun again as one that somebody had killed, twice, and then said to have too little memory."""
    from glidexp.study.execution.launchers import ray as launchers_ray

    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    ended = launchers_ray._task(0.1)(sleeps, str(ROOT), "")
    assert ended == (-signal.SIGTERM, True, "")
    assert launchers_ray._task(60)([sys.executable, "-c", "raise SystemExit(3)"], str(ROOT), "") == (3, False, "")
    monkeypatch.setattr(launchers_ray.ray, "wait", lambda results, timeout: (results, []))
    monkeypatch.setattr(launchers_ray.ray, "get", lambda result: result)
    job = launchers_ray.RayJob(ended, 1.5)  # type: ignore[arg-type]
    assert job.poll() == -signal.SIGTERM and job.why == "was at work for launcher.time_limit_min=1.5 minutes"


def test_places_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "cores", lambda: 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slots.slots(LauncherConfig(memory_gb=0.001), cells=10) == [None] * 6
    assert slots.slots(LauncherConfig(memory_gb=0.001), cells=2) == [None] * 2
    assert slots.slots(LauncherConfig(memory_gb=1e6), cells=10) == [None]
    assert slots.slots(LauncherConfig(slots=3), cells=10) == [None] * 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5e")
    assert slots.slots(LauncherConfig(), cells=10) == ["2", "GPU-5e"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5e,-1,3")  # CUDA reads no further than -1
    assert slots.slots(LauncherConfig(), cells=10) == ["2", "GPU-5e"]
    assert slots.slots(LauncherConfig(runs_per_gpu=2), cells=10) == ["2", "GPU-5e", "2", "GPU-5e"]
    assert slots.slots(LauncherConfig(gpus=1, slots=2), cells=10) == ["2", "2"]
    assert slots.slots(LauncherConfig(memory_gb=0.001), cells=10, device="cpu") == [None] * 6
    assert slots.slots(LauncherConfig(gpus=0, memory_gb=0.001), cells=10) == [None] * 6
    assert slots.slots(LauncherConfig(memory_gb=0.001), cells=10, device="cuda:1") == [None], "one GPU, one run"
    assert slots.slots(LauncherConfig(runs_per_gpu=2), cells=10, device="cuda:0") == [None] * 2


@pytest.mark.parametrize("kind", [LauncherKind.slurm, LauncherKind.ray])
def test_a_gpu_is_not_chosen_by_number_where_each_run_sees_one(kind: LauncherKind) -> None:
    with pytest.raises(ConfigError, match=rf"^train\.device=cuda:1 does not go with launcher={kind}.*give .*=cuda\.$"):
        refuse_named_gpu(LauncherConfig(kind=kind), ["cuda", "cuda:1"])
    refuse_named_gpu(LauncherConfig(kind=kind), ["cpu", "cuda", "auto", "cuda:0"])
    refuse_named_gpu(LauncherConfig(), ["cuda:1"])


def test_jobs_at_work_are_taken_over_by_the_next_sweep_and_fill_its_places(store: Store) -> None:
    """They were only waited for: as many again were handed in, and trials of a search among them never ended early."""
    study = plan(store.mlruns, {"at work": "well", "next": "well"}, seeds=1)
    ledger = Ledger(study, store, "glidexp")
    ledger.begin()
    with mocked_slurm() as mock:
        cfg = LauncherConfig(kind=LauncherKind.slurm, slots=1, slurm=SlurmConfig(gpus=0))
        launcher = SlurmLauncher(cfg, ledger.folder)
        (job,) = launcher.start([order_of(study, store)])
        ledger.update(study.cells[0], job=job.name)
        mock.set_job_state("12", "RUNNING")
        after = sweep.Sweep(ledger, cfg, Signals(), lambda order: order)
        with held(store.mlruns, study.cells[0].key):
            after.sort(list(study.cells), retry_failed=False)
            assert [cell.arm for cell in after.elsewhere] == ["at work"]
            after._adopt(launcher)
            assert not after.elsewhere and [one.job.name for one in after.running] == ["slurm:12"]
            assert after._fill(launcher) == 0 and [cell.arm for cell in after.waiting] == ["next"]


def test_cancel_ends_and_counts_what_the_scheduler_has_and_no_more(store: Store) -> None:
    """Runs whose sweep was killed end by themselves, and leave the numbers of their jobs in `cells.json`."""
    study = plan(store.mlruns, {"queued": "well", "done": "well"}, seeds=1)
    ledger = Ledger(study, store, "glidexp")
    ledger.begin()
    ledger.update(study.cells[1], status=Status.failed, job="slurm:99")
    with mocked_slurm() as mock:
        cfg = LauncherConfig(kind=LauncherKind.slurm, slurm=SlurmConfig(gpus=0))
        (job,) = SlurmLauncher(cfg, ledger.folder).start([order_of(study, store)])
        ledger.update(study.cells[0], job=job.name)
        for other in (LauncherConfig(), LauncherConfig(kind=LauncherKind.ray)):
            with pytest.raises(
                ConfigError, match=r"has 1 run with slurm \(job 12\).*give cancel=true launcher=slurm\.$"
            ):
                cancel(study, store, other, experiment="glidexp")
        assert not (ledger.folder / CANCEL).exists(), "nothing was asked to end"
        mock.set_job_state("12", "PENDING")
        assert cancel(study, store, cfg, experiment="glidexp") == 1
        mock.set_job_state("12", "COMPLETED")
        assert cancel(study, store, cfg, experiment="glidexp") == 0, "it has ended since"


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ConfigError, match=r"launcher\.slots=many is not possible"):
        LauncherConfig(slots="many")
    with pytest.raises(ConfigError, match=r"launcher\.memory_gb=0 is not possible"):
        LauncherConfig(memory_gb=0)
