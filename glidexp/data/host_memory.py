"""How much of the machine's main memory this process may still take: what is free, within the limits of its cgroups.

A scheduler's job or a container has a limit of its own, above which the kernel ends the process without a word.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
FILES = [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")]
"""limit and use of a cgroup, of version 2 and of version 1"""


def free_host_bytes() -> int:
    """Bytes that are available on the machine and below every limit that holds for this process."""
    return max(0, min([int(psutil.virtual_memory().available), *_left_in_cgroups()]))


def _left_in_cgroups() -> Iterator[int]:
    """Room below the limit of this process's cgroup and of those around it, where they have one."""
    for folder in _folders():
        for limit_name, used_name in FILES:
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and used is not None:
                yield limit - used + _reclaimable(folder)


def _folders() -> list[Path]:
    """The cgroup of this process and those around it, in both versions; inside a container often the root alone."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:  # number:controllers:/path
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / "memory" if controllers else CGROUPS
        own = root / path.lstrip("/")
        found += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return [folder for folder in found if folder.is_dir()]


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, as `max` is."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(folder: Path) -> int:
    """Bytes of files that lie in memory and that the kernel gives up when somebody needs the room."""
    try:
        words = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        return int(words.get("total_inactive_file", words.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0
