"""Jobs of SLURM through submitit: the runs of a study as an array, queued again when they are preempted.

A job starts the run as a process of its own. On the notice before its time is over (SIGUSR2, which submitit asks for)
the run is told to save (SIGUSR1), and the job is queued again; submitit counts the time limits. When it is preempted or
cancelled, SLURM sends SIGTERM to every process of the job, so the run saves by itself, and the job asks the scheduler
what becomes of it (`scheduler`). Jobs stay there when the sweep ends: the same command finds them again by the number
that is noted in `cells.json`.
"""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import Checkpointable, DelayedSubmission

from glidexp.beside import write_text
from glidexp.config.launcher import LauncherConfig
from glidexp.errors import GlidexpError
from glidexp.study.execution.launchers import scheduler
from glidexp.study.execution.launchers.choice import Job, Launcher, NotTaken
from glidexp.study.execution.ledger import Entry
from glidexp.study.execution.slots import CORES_ELSEWHERE, SCHEDULED
from glidexp.study.execution.work import Order
from glidexp.wording import many

MEMORY_GB = 16.0
DAY_MIN = 24 * 60
POLL_S = 0.2
PREFIX = "slurm:"
BEGINS_AGAIN = 75
"""exit code of a process that leaves a job to its next beginning (EX_TEMPFAIL of sysexits.h)"""
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)
"""exit codes of a run that was asked to end: it saved, or was only beginning"""


class CellTask(Checkpointable):
    """What submitit runs on a node: the work of one cell, and what is done when the scheduler wants the node back.

    Args:
        order: path of the order, on a file system that all nodes see
        notice_s: seconds that the run has to save
    """

    def __init__(self, order: str, notice_s: int) -> None:
        self.order, self.notice_s = order, notice_s
        self.number: int | None = None

    def __call__(self) -> int:
        """Exit code of the run.

        Raises:
            SystemExit: the job is queued again, and an answer would say that it is over
        """
        process = subprocess.Popen([sys.executable, "-m", "glidexp.study.execution.work", self.order])
        self.number = process.pid
        while process.poll() is None:  # not wait: its lock would still be held when a signal calls `checkpoint`
            time.sleep(POLL_S)
        if process.returncode in STOPPED and scheduler.queued_again():
            sys.exit(BEGINS_AGAIN)
        return int(process.returncode)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit on its notice: the run saves, and its job is queued again."""
        if self.number is not None:
            with suppress(psutil.Error):
                run = psutil.Process(self.number)
                run.send_signal(signal.SIGUSR1)
                until = time.monotonic() + 0.9 * self.notice_s
                while run.is_running() and run.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
                    time.sleep(POLL_S)
        return DelayedSubmission(CellTask(self.order, self.notice_s))


class SlurmJob(Job):
    """A job that submitit keeps an eye on."""

    def __init__(self, job: "submitit.Job[int]", *, lasts: bool) -> None:
        self._job = job
        self.name = f"{PREFIX}{job.job_id}" if lasts else ""
        self.lasts = lasts

    def poll(self) -> int | None:
        """As `Job.poll`."""
        if not self._job.done():
            return None
        try:
            return int(self._job.result())
        except Exception as error:  # noqa: BLE001 - submitit raises what the job raised, of any kind
            state = str(self._job.state).upper()
            if "CANCEL" in state or "PREEMPT" in state or "NODE_FAIL" in state:
                return -signal.SIGTERM
            if "OUT_OF_ME" in state:
                self.why = f"the scheduler ended job {self._job.job_id}: out of memory; raise launcher.memory_gb"
            else:
                lines = str(error).strip().splitlines()
                self.why = f"job {self._job.job_id} is {state}: {lines[-1] if lines else type(error).__name__}"
            return 1

    def stop(self, number: int) -> None:
        """As `Job.stop`."""
        self._job.cancel()  # SIGTERM to the run, which saves

    def kill(self) -> None:
        """As `Job.kill`."""
        self._job.cancel()


class SlurmLauncher(Launcher):
    """Hands cells to the scheduler, as an array where there are several.

    Args:
        cfg: settings
        folder: of the study; orders and what submitit writes lie in its folder `slurm`
        cluster: submitit's name of a scheduler; `local` starts processes here instead

    Raises:
        GlidexpError: this machine knows no SLURM
    """

    def __init__(self, cfg: LauncherConfig, folder: Path, cluster: str = "slurm") -> None:
        self._cfg = cfg
        self.folder = folder / "slurm"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.slots = cfg.slots if isinstance(cfg.slots, int) else SCHEDULED
        self.threads = cfg.cores or CORES_ELSEWHERE
        self._lasts = cluster == "slurm"
        try:
            self._executor = submitit.AutoExecutor(
                folder=self.folder,
                cluster=cluster,
                **({"slurm_max_num_timeout": cfg.slurm.requeues} if self._lasts else {}),
            )
        except (RuntimeError, ValueError) as error:
            raise GlidexpError(
                f"launcher=slurm: {str(error).rstrip('?. ')}. Start the sweep where `sbatch` is, or launcher=local."
            ) from None
        self._executor.update_parameters(**self._parameters())

    def _parameters(self) -> dict[str, Any]:
        cfg = self._cfg
        found: dict[str, Any] = {
            "name": "glidexp",
            "timeout_min": max(int(cfg.time_limit_min or DAY_MIN), 1),
            "cpus_per_task": self.threads,
            "mem_gb": cfg.memory_gb or MEMORY_GB,
            "gpus_per_node": cfg.slurm.gpus,
        }
        if not self._lasts:
            return found
        slurm = cfg.slurm
        named = {"partition": slurm.partition, "account": slurm.account, "qos": slurm.qos}
        found |= {f"slurm_{name}": value for name, value in named.items() if value is not None}
        found |= {"slurm_array_parallelism": self.slots, "slurm_signal_delay_s": slurm.notice_s}
        # some clusters queue no job again that has not asked for it
        found["slurm_additional_parameters"] = {"requeue": True} | dict(slurm.options)
        return found

    def start(self, orders: list[Order]) -> list[Job]:
        """As `Launcher.start`."""
        tasks = [CellTask(str(self._written(order)), self._cfg.slurm.notice_s) for order in orders]
        try:
            if len(tasks) == 1:
                return [SlurmJob(self._executor.submit(tasks[0]), lasts=self._lasts)]
            with self._executor.batch():
                jobs = [self._executor.submit(task) for task in tasks]
        except FailedJobError as error:
            reason = " ".join(str(error).replace("sbatch: error:", "").split())[:300]
            raise NotTaken(
                f"launcher=slurm: sbatch refused {many(len(tasks), 'job')} ({reason.rstrip('.')}): correct "
                "launcher.slurm.* or launcher.memory_gb, or hand in fewer at once, launcher.slots."
            ) from None
        return [SlurmJob(job, lasts=self._lasts) for job in jobs]

    def _written(self, order: Order) -> Path:
        path = self.folder / f"order-{order.key}.json"
        write_text(path, order.to_json())
        return path

    def adopt(self, entry: Entry) -> Job | None:
        """As `Launcher.adopt`."""
        if not entry.job.startswith(PREFIX):
            return None
        job: submitit.SlurmJob[int] = submitit.SlurmJob(self.folder, entry.job.removeprefix(PREFIX))
        state = job.watcher.get_state(job.job_id, mode="force").upper()
        return None if state == "UNKNOWN" or job.done() else SlurmJob(job, lasts=True)

    def close(self) -> None:
        """As `Launcher.close`: the jobs stay with the scheduler."""
