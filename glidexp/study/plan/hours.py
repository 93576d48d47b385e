"""How many runs of a plan go at once, and what they take, in sentences: time and disk."""

from collections import Counter
from collections.abc import Sequence

from glidexp.config import Config
from glidexp.config.launcher import LauncherConfig, LauncherKind
from glidexp.study.execution.cells import Cell
from glidexp.study.execution.slots import CORES_ELSEWHERE, SCHEDULED, cores, slots
from glidexp.study.plan import cost as plan_cost
from glidexp.study.plan.making import Planned
from glidexp.wording import many


def places_of(launcher: LauncherConfig, cells: int, config: Config) -> tuple[int, int | None]:
    """How many runs go at once, and on how many CPU threads each: 0 on a GPU, None where that is not known here.

    Of a cluster of Ray that runs elsewhere it is not known how many fit: one after the other then.
    """
    if launcher.kind is LauncherKind.local:
        found = slots(launcher, cells=cells, device=config.train.device)
        own = config.train.threads or launcher.cores or max(cores() // len(found), 1)
        return len(found), own if found[0] is None else 0
    most = launcher.slots
    if not isinstance(most, int):
        own = launcher.cores or min(CORES_ELSEWHERE, cores())
        most = SCHEDULED if launcher.kind is LauncherKind.slurm else 1 if launcher.elsewhere else max(cores() // own, 1)
    return max(min(most, cells), 1), None


def about(hours: float) -> str:
    """`about 2.5 hours`, `about 90 minutes`, `less than a minute`."""
    if hours >= 2:
        return f"about {hours:.1f} hours"
    minutes = round(60 * hours)
    return f"about {many(minutes, 'minute')}" if minutes else "less than a minute"


def time_told(hours: float, runs: int, places: int, speeds: list[plan_cost.Speed], launcher: LauncherConfig) -> str:
    """How long runs take, from what that is known, and what is not in it."""
    if not runs:
        return "Time: none, every run is finished."
    tried = sum(speed.tried for speed in speeds)
    told = "trial steps on this machine"
    if tried < len(speeds):
        told = "finished runs" + f" ({len(speeds) - tried} arms) and {told} ({tried})" * bool(tried)
    where = " as in those runs, whatever machine theirs was" if launcher.elsewhere else ""
    at_once = f"{places} at once"
    if launcher.ray_address is not None and not isinstance(launcher.slots, int):
        at_once = "one after the other (only the cluster knows how many fit at once)"
    text = f"Time: {about(hours)} for {many(runs, 'run')}, {at_once}{where}; from {told}."
    if any(speed.ends_assumed for speed in speeds):
        text += (
            f" Begin and end of a run are assumed ({plan_cost.ENDS_S:g} s besides the final scoring): no finished run "
            "tells them yet."
        )
    if launcher.runs_per_gpu > 1 and not launcher.elsewhere:
        text += " Runs that share a GPU slow each other down, which is not in it."
    return text


def disk_told(planned: Planned, speeds: Sequence[plan_cost.Speed | None], cells: Sequence[Cell], places: int) -> str:
    """What runs leave on disk, and what they need there while they go."""
    runs = Counter(cell.arm for cell in cells)
    arms = zip(speeds, planned.arms, planned.sizes, strict=True)
    known = [(speed, one.name, one.config, sizes) for speed, one, sizes in arms if speed]
    kept = sum(runs[name] * plan_cost.run_bytes(speed, config, sizes) for speed, name, config, sizes in known)
    passing = places * max(plan_cost.passing_bytes(speed, config, sizes) for speed, _, config, sizes in known)
    return (
        f"Disk: about {kept / 1e9:.1f} GB for good, and up to {passing / 1e9:.1f} GB of checkpoints and predictions "
        "while runs go."
    )
