"""Signals: at once outside a step, after it within one, and a second one always at once."""

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from glidexp.errors import RunFailed
from glidexp.signals import Interrupted, Signals

ROOT = Path(__file__).resolve().parent.parent
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", NUMBERS)
def test_deferred_signal_is_raised_at_the_end_of_the_block(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    signals = Signals()
    done = []
    with pytest.raises(Interrupted) as stopped, signals.installed(), signals.deferred():  # noqa: PT012
        send(number)
        done.append(signals.pending)
    assert done == [number]
    assert (stopped.value.number, stopped.value.name) == (number, number.name)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", NUMBERS)
def test_signal_outside_a_deferred_block_is_raised_at_once(number: int) -> None:
    with pytest.raises(Interrupted), Signals().installed():  # noqa: PT012
        send(number)
        pytest.fail("went on")


def test_a_second_signal_ends_at_once() -> None:
    signals = Signals()
    with pytest.raises(Interrupted) as stopped, signals.installed(), signals.deferred():  # noqa: PT012
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        pytest.fail("went on")
    assert stopped.value.number == signal.SIGTERM


def test_an_error_of_the_block_is_not_hidden_by_the_signal() -> None:
    signals = Signals()
    with pytest.raises(RunFailed, match="the loss is nan"), signals.installed(), signals.deferred():  # noqa: PT012
        send(signal.SIGTERM)
        raise RunFailed("the loss is nan")


def test_where_nothing_would_be_lost_a_deferred_signal_ends_at_once_and_the_next_is_a_second_one() -> None:
    signals = Signals()
    saved = []
    with pytest.raises(Interrupted), signals.installed(), signals.deferred():  # noqa: PT012
        try:
            with signals.at_once():
                send(signal.SIGUSR1)
                pytest.fail("went on")
        except Interrupted:
            saved.append(signals.pending)
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)
    assert saved == [signal.SIGUSR1]


def test_what_was_pending_does_not_enter_a_stretch_that_ends_at_once() -> None:
    signals = Signals()
    signals.pending = signal.SIGTERM
    with pytest.raises(Interrupted), signals.at_once():
        pytest.fail("went on")


SCRIPTS = {"train.py": r"```\w*\n(#!/bin/bash\n.*?)```", "torchrun": r"```\w*\n(#SBATCH --nodes.*?)```"}
"""the two job scripts of the guide"""


@pytest.mark.parametrize(
    ("job", "code", "preempted", "requeued"),
    [
        ("train.py", 0, False, False),
        ("train.py", 1, False, False),
        ("train.py", 2, True, False),
        ("train.py", 138, False, True),
        ("train.py", 143, False, False),
        ("train.py", 143, True, True),
        ("torchrun", 0, False, False),
        ("torchrun", 1, False, False),
        ("torchrun", 1, True, True),
        ("torchrun", "notice", False, True),
    ],
)
def test_the_job_script_of_the_guide_requeues_after_a_notice_or_a_preemption_alone(
    job: str, code: int | str, preempted: bool, requeued: bool, tmp_path: Path
) -> None:
    """The script as it stands in the guide, with stand-ins for SLURM's commands.

    With a notice the batch shell of torchrun's job has SIGUSR1 while its step is at work; what `scancel` sends ends it.
    """
    page = (ROOT / "docs" / "gpus.md").read_text()
    (script,) = re.findall(SCRIPTS[job], page, re.DOTALL)
    ends = f"exit {code}"
    if code == "notice":
        ends = f"trap 'exit 1' TERM; echo $$ > {tmp_path}/step; kill -USR1 $PPID; while :; do sleep 0.05; done"
    says = f'[ "$1" = show ] || {{ echo "$@" > {tmp_path}/asked; exit; }}\n'
    says += f'[ "$2" = hostnames ] && echo node1 || echo "PreemptTime={"2026-11-29T09:41:36" if preempted else "None"}"'
    for name, body in {"srun": ends, "scontrol": says, "scancel": f"kill -TERM $(cat {tmp_path}/step)"}.items():
        stand_in = tmp_path / name
        stand_in.write_text(f"#!/bin/sh\n{body}\n")
        stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "4711", "SLURM_NNODES": "1"}
    done = subprocess.run(["bash", "-c", script], env=environment, check=False)
    assert done.returncode == (1 if code == "notice" else code)
    asked = tmp_path / "asked"
    assert (asked.read_text().split() if asked.exists() else []) == (["requeue", "4711"] if requeued else [])
