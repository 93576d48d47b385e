"""What SLURM is about to do with the job that this process is in, after it has sent SIGTERM to all its processes.

Found out on SLURM 22.05. In the time of grace before a preemption the job is RUNNING, with the time of its preemption;
if it ends by itself then, it is over and not queued again. A job that has been queued again is COMPLETING until its
processes are gone, with one restart more than they know of. A cancelled one is COMPLETING with the same number.
"""

import logging
import os
import subprocess

log = logging.getLogger("glidexp")

ASK_S = 60.0
"""the scheduler may be busy; without its answer the job just ends"""


def queued_again() -> bool:
    """Whether this job begins again later; a preempted one is put into the queue for that.

    Returns:
        False outside a job, where the job is cancelled, and where the scheduler does not say
    """
    number = _number()
    if number is None:
        return False
    said = _fields(_scontrol("show", "job", "--oneliner", number))
    begun_before = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    if int(said.get("Restarts", 0)) > begun_before:
        return True
    if said.get("JobState") == "RUNNING" and said.get("PreemptTime", "None") not in ("None", "Unknown", "N/A"):
        return _scontrol("requeue", number) is not None
    return False


def _number() -> str | None:
    """Of this job. One of an array has its place behind it: the bare number of its last one is that of the array."""
    array, place = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{place}" if array and place else os.environ.get("SLURM_JOB_ID") or None


def _scontrol(*words: str) -> str | None:
    try:
        return subprocess.run(["scontrol", *words], check=True, capture_output=True, text=True, timeout=ASK_S).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("scontrol %s: %s", " ".join(words), error)
        return None


def _fields(line: str | None) -> dict[str, str]:
    """NAME=VALUE of each word; those of names and paths with spaces are not asked for."""
    return dict(word.split("=", 1) for word in (line or "").split() if "=" in word)
