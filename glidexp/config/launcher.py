"""Settings of what carries out the runs of a study: how many at once, where, and what each may use."""

from dataclasses import dataclass, field
from enum import StrEnum

from glidexp.config.ranges import at_least
from glidexp.config.training import AUTO
from glidexp.errors import ConfigError

ONE_PROCESS = (
    "a run of a study is one process. What needs more than one GPU is trained by torchrun, in a job of its own "
    "(docs/gpus.md), and a study takes it as finished"
)
SEVERAL = {"nodes", "ntasks", "ntasks-per-node"}
"""options of sbatch that would start a run several times"""


class LauncherKind(StrEnum):
    local = "local"
    slurm = "slurm"
    ray = "ray"


@dataclass(kw_only=True, slots=True)
class SlurmConfig:
    """What `sbatch` is told, through submitit."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int = 1
    """GPU of a run, 0 or 1: a run of a study is one process"""
    requeues: int = 10
    """times a run that came to its time limit is queued again to go on from its checkpoint; preempted ones always"""
    notice_s: int = 90
    """seconds between the scheduler's notice and the end, for the checkpoint"""
    options: dict[str, str] = field(default_factory=dict)
    """further options of sbatch, without their dashes: {constraint: a100}"""

    def __post_init__(self) -> None:
        if self.gpus not in (0, 1):
            raise ConfigError(f"launcher.slurm.gpus={self.gpus} is not possible: 0 or 1, as {ONE_PROCESS}.")
        if several := sorted(SEVERAL & {name.replace("_", "-") for name in self.options}):
            raise ConfigError(f"launcher.slurm.options: {', '.join(several)} cannot be chosen, as {ONE_PROCESS}.")
        at_least("launcher.slurm.requeues", self.requeues, 0)
        at_least("launcher.slurm.notice_s", self.notice_s, 10)


@dataclass(kw_only=True, slots=True)
class LauncherConfig:
    kind: LauncherKind = LauncherKind.local
    """local: processes on this machine. slurm: jobs of a scheduler. ray: tasks of a Ray cluster"""
    slots: int | str = AUTO
    """runs at once; auto: on this machine by GPUs, else by cores and memory; of a scheduler up to 32; of Ray as many
    as fit"""
    cores: int | None = None
    """CPU cores of a run; on this machine shared out among the slots when not given, elsewhere 4"""
    gpus: int | str = AUTO
    """GPUs of this machine to use; auto: all that are visible"""
    runs_per_gpu: int = 1
    """runs that share a GPU, here and in Ray"""
    memory_gb: float | None = None
    """memory of its own that a run may take before it is ended; no limit when not given, elsewhere 16, in Ray no more
    than a node has"""
    time_limit_min: float | None = None
    """minutes a run may take before it is asked to save and end; no limit when not given, of a scheduler a day"""
    attempts: int = 3
    """times a run is begun, or goes on, that somebody kills"""
    warm: bool = True
    """fork runs off a process that has imported everything; else each begins with a fresh Python"""
    ray_address: str | None = None
    """of the Ray cluster: auto, HOST:6379, or ray://HOST:10001; one on this machine when not given"""
    slurm: SlurmConfig = field(default_factory=SlurmConfig)

    @property
    def elsewhere(self) -> bool:
        """Whether runs begin on other machines than the one that plans them."""
        return self.kind is LauncherKind.slurm or (self.kind is LauncherKind.ray and self.ray_address is not None)

    def __post_init__(self) -> None:
        for name in ("slots", "gpus"):
            value = getattr(self, name)
            if isinstance(value, str) and value != AUTO:
                raise ConfigError(f"launcher.{name}={value} is not possible: give a whole number, or auto.")
        for name in ("slots", "cores"):
            if isinstance(getattr(self, name), int):
                at_least(f"launcher.{name}", getattr(self, name), 1)
        if isinstance(self.gpus, int):
            at_least("launcher.gpus", self.gpus, 0)
        at_least("launcher.runs_per_gpu", self.runs_per_gpu, 1)
        at_least("launcher.attempts", self.attempts, 1)
        for name in ("memory_gb", "time_limit_min"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"launcher.{name}={value:g} is not possible: give a number above 0.")
