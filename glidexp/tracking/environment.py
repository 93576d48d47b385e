"""What a run was made with: commit and uncommitted changes, installed packages, machine."""

import functools
import getpass
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

log = logging.getLogger("glidexp.tracking")

COMMIT_TAG = "mlflow.source.git.commit"
RUN_TAGS_VARIABLE = "GLIDEXP_RUN_TAGS"
"""JSON of further tags that each run of this process gets, such as its study and arm"""
GIT_TIMEOUT_S = 10
DIFF_LIMIT_BYTES = 1_000_000
"""a longer diff is cut: it is there to see what was changed, not to carry data files"""


@dataclass(frozen=True, slots=True)
class GitState:
    """The repository around a folder at the moment of asking."""

    commit: str
    branch: str
    dirty: bool
    diff: str
    """uncommitted changes of tracked files, cut at DIFF_LIMIT_BYTES; empty when there are none"""


def git_state(folder: Path | None = None) -> GitState | None:
    """Commit and uncommitted changes of the repository that holds `folder` (glidexp's own code when not given).

    Returns:
        None without git, outside a repository, before its first commit, or when git does not answer in time
    """
    folder = folder or Path(__file__).resolve().parent
    commit = commit_of(folder)
    if commit is None:
        return None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no") or ""
    branch = _git(folder, "rev-parse", "--abbrev-ref", "HEAD") or ""
    diff = _git(folder, "diff", "--no-ext-diff", "--no-color", "HEAD") or "" if status.strip() else ""
    if len(diff.encode()) > DIFF_LIMIT_BYTES:
        kept = diff.encode()[:DIFF_LIMIT_BYTES].decode(errors="ignore")
        diff = f"{kept}\n... cut: the whole diff has {len(diff.encode())} bytes\n"
    return GitState(commit, branch.strip(), bool(status.strip()), diff)


@functools.cache
def own_code() -> GitState | None:
    """The repository of glidexp's own code as it was when this process first asked, which it does when it loads it.

    A process that makes several runs, and those that are forked from one that has everything loaded, go on with that
    code, whatever is edited and committed meanwhile.
    """
    return git_state()


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out in the repository that holds a folder; None as for `git_state`."""
    found = _git(folder, "rev-parse", "HEAD")
    return None if found is None else found.strip()


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            # Optional locks would let a `git status` in the background disturb the user's own git commands.
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


@functools.cache
def requirements() -> str:
    """Installed packages as `name==version` lines, sorted; what `pip freeze` tells, without starting it."""
    lines = set()
    for package in importlib.metadata.distributions():
        name = package.metadata["Name"]
        if name:
            lines.add(f"{name}=={package.version}")
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def machine() -> dict[str, str]:
    """Host, system, processor and memory, as tags. The accelerator is told by who knows torch."""
    return {
        "glidexp.host": platform.node(),
        "glidexp.system": platform.platform(),
        "glidexp.python": platform.python_version(),
        "glidexp.cpu": f"{_processor()}, {psutil.cpu_count(logical=True) or 0} threads",
        "glidexp.memory_gb": f"{psutil.virtual_memory().total / 1e9:.0f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def user() -> str:
    """Name of the account, or `unknown` where the system has none for this number (containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def process_tags() -> dict[str, str]:
    """Who runs which program, under the names that MLflow's pages know, and what GLIDEXP_RUN_TAGS adds."""
    return {
        "mlflow.user": user(),
        "mlflow.source.name": Path(sys.argv[0]).name or "python",
        "mlflow.source.type": "LOCAL",
    } | _given_tags()


def _given_tags() -> dict[str, str]:
    """Tags that whoever started this process wants on its runs; none where they cannot be read."""
    try:
        return {str(key): str(value) for key, value in json.loads(os.environ.get(RUN_TAGS_VARIABLE) or "{}").items()}
    except (ValueError, AttributeError):
        log.warning("Tracking: %s is no JSON object and left out.", RUN_TAGS_VARIABLE)
        return {}
