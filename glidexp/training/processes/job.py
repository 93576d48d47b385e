"""What torchrun tells a process of its place in a job, and what becomes of its errors there. No torch."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MEETING = "glidexp.training.processes.meeting"


def size() -> int:
    """Processes of the job; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Number of this process among those of the job; 0 without torchrun."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def size_here() -> int:
    """Processes of the job on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank_here() -> int:
    """Number of this process among those on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def several_nodes() -> bool:
    """Whether other processes of the job are started by another torchrun, which does not see this one end."""
    return size() > size_here()


@contextmanager
def others_told() -> Iterator[None]:
    """An error in here is told to the other processes, which would wait for this one, before it goes on its way."""
    try:
        yield
    except Exception as error:
        if MEETING in sys.modules or several_nodes():
            from glidexp.training.processes import meeting  # torch is imported here, with which the others are reached

            meeting.tell(error)
        raise
