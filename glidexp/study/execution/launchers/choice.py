"""Who carries out the cells of a study: processes here, jobs of SLURM, tasks of Ray. All take the same order."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from glidexp.config.launcher import LauncherConfig, LauncherKind
from glidexp.errors import ConfigError, GlidexpError
from glidexp.study.execution.ledger import Entry
from glidexp.study.execution.work import Order


class NotTaken(GlidexpError):
    """The scheduler took none of the jobs."""


class Job(ABC):
    """One cell on its way."""

    name = ""
    """by which the same job is found again by another sweep; empty where it ends with this one"""
    why = ""
    """what the launcher knows of its end: a limit that it broke"""
    lasts = False
    """stays with a scheduler when the sweep ends"""

    @abstractmethod
    def poll(self) -> int | None:
        """Exit code, or minus the number of the signal that killed it; None while it is at work or waits."""

    @abstractmethod
    def stop(self, number: int) -> None:
        """Passes a signal on: the run saves and ends."""

    @abstractmethod
    def kill(self) -> None:
        """Ends it at once."""


class Launcher(ABC):
    """Starts jobs. `slots` says how many at once; `threads` how many CPU threads each should use, None: its own way."""

    slots: int = 1
    threads: int | None = None

    @abstractmethod
    def start(self, orders: list[Order]) -> list[Job]:
        """A job for each order. Never more than there are free slots.

        Raises:
            NotTaken: the scheduler refuses them, or does not answer
        """

    def adopt(self, entry: Entry) -> Job | None:
        """The job that an earlier sweep left with a scheduler; None where there is none that may still run."""
        return None

    def look(self) -> None:
        """Looks at what there is to run on; `slots` may change. Called often.

        Raises:
            RunFailed: it is gone for good
        """
        return

    @abstractmethod
    def close(self) -> None:
        """Ends what was started for the jobs, after them."""


def refuse_named_gpu(cfg: LauncherConfig, devices: Iterable[str]) -> None:
    """Refuses a GPU by its number where the launcher gives each run one that is the only one it sees.

    Args:
        cfg: settings
        devices: `train.device` of the runs

    Raises:
        ConfigError: one of them is cuda:1 or beyond
    """
    if cfg.kind is LauncherKind.local:
        return
    for device in devices:
        if device.startswith("cuda:") and device != "cuda:0":
            raise ConfigError(
                f"train.device={device} does not go with launcher={cfg.kind}, which gives each run a GPU that is the "
                "only one it sees: give train.device=cuda."
            )


def build_launcher(cfg: LauncherConfig, folder: Path, *, cells: int, device: str = "auto") -> Launcher:
    """The launcher that the settings ask for.

    Args:
        cfg: settings
        folder: of the study, for what a scheduler needs and leaves
        cells: that are to be run at most
        device: of the runs, as `train.device`

    Raises:
        GlidexpError: what it needs is not installed, or not there
    """
    try:
        if cfg.kind is LauncherKind.slurm:
            from glidexp.study.execution.launchers.slurm import SlurmLauncher

            return SlurmLauncher(cfg, folder)
        if cfg.kind is LauncherKind.ray:
            from glidexp.study.execution.launchers.ray import RayLauncher

            return RayLauncher(cfg, folder)
    except ImportError as error:
        extra = "submitit" if cfg.kind is LauncherKind.slurm else "ray"
        raise GlidexpError(
            f"launcher={cfg.kind} needs {extra} ({error}): pip install 'glidexp[{cfg.kind}]', or launcher=local."
        ) from None
    from glidexp.study.execution.launchers.local import LocalLauncher

    return LocalLauncher(cfg, cells=cells, device=device)
