"""What becomes of a job that SLURM wants back: the words of SLURM 22.05, and a real scheduler where one is given."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glidexp.study.execution.launchers import scheduler
from glidexp.study.execution.launchers.slurm import BEGINS_AGAIN, CellTask

ROOT = Path(__file__).resolve().parent.parent
JOB = (
    "JobId={id} ArrayJobId=12 ArrayTaskId=1 JobName=glidexp UserId=root(0) JobState={state} Reason=None Requeue=1 "
    "Restarts={restarts} BatchFlag=1 ExitCode=0:0 RunTime=00:00:03 EndTime={end} "
    "PreemptEligibleTime=2026-11-29T09:46:11 PreemptTime={preempt} Comment=two words a=b=c\n"
)
"""of `scontrol show job --oneliner`, shortened"""
PREEMPTED = JOB.format(id=14, state="RUNNING", restarts=0, end="Unknown", preempt="2026-11-29T09:41:36")
AT_WORK = JOB.format(id=14, state="RUNNING", restarts=0, end="Unknown", preempt="None")
CANCELLED = JOB.format(id=14, state="COMPLETING", restarts=0, end="2026-11-29T09:46:14", preempt="None")
QUEUED_AGAIN = JOB.format(id=14, state="COMPLETING", restarts=1, end="Unknown", preempt="None")


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node of a cluster: its `scontrol` says what stands in the file `said` and notes what it is asked."""
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    there = shlex.quote(str(tmp_path))
    program.write_text(f'#!/bin/sh\necho "$*" >> {there}/asked\n[ "$1" = requeue ] || exec cat {there}/said\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "begun_before", "again", "asked"),
    [
        (PREEMPTED, None, True, ["show job --oneliner 14", "requeue 14"]),
        (QUEUED_AGAIN, None, True, ["show job --oneliner 14"]),
        (QUEUED_AGAIN, "0", True, ["show job --oneliner 14"]),
        (QUEUED_AGAIN, "1", False, ["show job --oneliner 14"]),
        (CANCELLED, None, False, ["show job --oneliner 14"]),
        (AT_WORK, None, False, ["show job --oneliner 14"]),
        ("", None, False, ["show job --oneliner 14"]),
    ],
    ids=["in grace", "queued again", "first, numbered", "ended in its second life", "cancelled", "killed", "no answer"],
)
def test_what_the_scheduler_is_about_to_do(
    node: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    begun_before: str | None,
    again: bool,
    asked: list[str],
) -> None:
    (node / "said").write_text(said)
    if begun_before is not None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", begun_before)
    assert scheduler.queued_again() is again
    assert (node / "asked").read_text().splitlines() == asked


def test_a_job_of_an_array_is_not_asked_for_by_a_number_that_may_be_that_of_all(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of an array has the array's number: all of them were queued again for it."""
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    (node / "said").write_text(PREEMPTED)
    assert scheduler.queued_again()
    assert (node / "asked").read_text().splitlines() == ["show job --oneliner 12_1", "requeue 12_1"]


def test_outside_a_job_and_without_its_programs_nothing_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not scheduler.queued_again()
    monkeypatch.setenv("SLURM_JOB_ID", "14")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not scheduler.queued_again()
    assert "scontrol show job --oneliner 14: " in caplog.text


@pytest.fixture
def ends_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes each run end by a line of shell."""
    program = tmp_path / "bin" / "run"
    monkeypatch.setattr(sys, "executable", str(program))

    def by(line: str) -> None:
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)

    return by


@pytest.mark.parametrize(("line", "code"), [("exit 143", 143), ("kill -TERM $$", -15)])
def test_a_job_that_begins_again_gives_no_answer(
    node: Path, ends_by: Callable[[str], None], line: str, code: int
) -> None:
    """submitit took it for done: the sweep counted an attempt, and without a sweep nobody began it again."""
    ends_by(line)
    (node / "said").write_text(PREEMPTED)
    with pytest.raises(SystemExit) as left:
        CellTask("order", 60)()
    assert left.value.code == BEGINS_AGAIN
    (node / "said").write_text(CANCELLED)
    assert CellTask("order", 60)() == code


def test_a_run_that_failed_is_over_whatever_the_scheduler_wants(node: Path, ends_by: Callable[[str], None]) -> None:
    ends_by("exit 2")
    (node / "said").write_text(PREEMPTED)
    assert CellTask("order", 60)() == 2
    assert not (node / "asked").exists()


def test_the_notice_of_submitit_does_not_end_a_run_nor_what_it_starts(tmp_path: Path) -> None:
    """SLURM sends it to every process of the job: it killed the run, which then had saved nothing."""
    code = (
        "import os, signal, subprocess, sys\n"
        "from glidexp.study.execution import work\n"
        "def carried_out(order):\n"
        "    os.kill(os.getpid(), signal.SIGUSR2)\n"
        "    child = 'import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print(7)'\n"
        "    return int(subprocess.run([sys.executable, '-c', child], capture_output=True).stdout)\n"
        "work.carry_out, work.begin_process = carried_out, lambda log: None\n"
        "work.main()\n"
    )
    order = tmp_path / "order.json"
    order.write_text(
        '{"name": "a|0", "words": [], "key": "k", "scored_on": null, "cells": "c", "log": "l", "mlruns": "m", '
        '"primary": "p"}'
    )
    done = subprocess.run([sys.executable, "-c", code, str(order)], check=False, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    os.environ.get("GLIDEXP_SLURM") != "1" or shutil.which("sbatch") is None,
    reason="GLIDEXP_SLURM=1 hands jobs in to the SLURM of this machine",
)
def test_a_real_scheduler(tmp_path: Path) -> None:
    """Jobs that are queued again while they are at work save, go on and end; the sweep counts no attempt."""
    words = ["experiment=smoke", "backbone=resnet18", "train.epochs=40", "seed=0,1", "launcher=slurm"]
    words += ["launcher.slurm.gpus=0", "launcher.cores=1", "launcher.memory_gb=3", "launcher.attempts=1"]
    words += ["train.precision=fp32", "train.device=cpu"]
    folders = [f"paths.data={tmp_path / 'data'}", f"paths.mlruns={tmp_path / 'mlruns'}"]
    command = [sys.executable, str(ROOT / "sweep.py"), *words, *folders]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as sweep:
        studies, asked = tmp_path / "mlruns" / "studies", set[str]()
        while len(asked) < 2 and sweep.poll() is None:
            time.sleep(2)
            for log in studies.glob("*/logs/*.log"):
                if log.read_text().count("epoch ") >= 2 and log.stem not in asked:
                    seed = log.stem.split("-seed")[1].split("-")[0]
                    cells = json.loads((log.parent.parent / "cells.json").read_text())
                    number = cells[f"baseline|{seed}"]["job"].removeprefix("slurm:")
                    subprocess.run(["scontrol", "requeue", number], check=True)
                    asked.add(log.stem)
        said = sweep.communicate()[0]
    assert sweep.returncode == 0, said
    assert "[2/2]" in said and "was killed" not in said
    for log in studies.glob("*/logs/*.log"):
        assert "stopped by SIGTERM; the same command goes on" in log.read_text()
        assert "goes on in epoch" in log.read_text()
