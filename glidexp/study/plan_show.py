"""The plan as it is printed: arms by seeds, what is equal in all of them, hours, and what the design can tell."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from glidexp.config import Config
from glidexp.config.launcher import LauncherConfig, LauncherKind
from glidexp.study import plan_cost, plan_ground, plan_power
from glidexp.study.plan import Planned
from glidexp.tracking.database import database_path
from glidexp.tracking.history import PastRun, trainings
from glidexp.tracking.store import open_store, tracking_uri

if TYPE_CHECKING:
    from glidexp.tracking.store import Store


class History:
    """What the tracking store knows of the plan's runs and of others on the same tiles. A missing store knows nothing,
    and is not made.
    """

    def __init__(self, planned: Planned) -> None:
        config = planned.baseline
        uri = tracking_uri(config.tracking, config.paths)
        file = database_path(uri)
        self.store: Store | None = None
        if file is None or file.exists():
            self.store = open_store(uri, Path(config.paths.mlruns))
        self._planned, self._experiment = planned, config.tracking.experiment
        self._past: dict[str, list[PastRun]] = {}

    def past(self, config: Config) -> list[PastRun]:
        """Finished trainings on the tiles of a config."""
        if self.store is None:
            return []
        mark = self._planned.data.store(config).data_hash
        if mark not in self._past:
            self._past[mark] = trainings(self.store, self._experiment, mark)
        return self._past[mark]

    def finished(self) -> set[str]:
        """Names of the plan's cells that are finished."""
        configs = {one.name: one.config for one in self._planned.arms}
        done = {past.run.tags.get("glidexp.config_id") for config in configs.values() for past in self.past(config)}
        return {cell.name for cell in self._planned.plan.cells if cell.key in done}

    def spread(self) -> plan_power.Spread:
        """Of a paired difference."""
        planned = self._planned
        found = None
        if self.store is not None:
            found = plan_power.of_history(self.store, self.past(planned.baseline), planned.plan.primary)
        return found or plan_power.assumed(planned.study.assume)


def show(
    planned: Planned, launcher: LauncherConfig, *, calibrate: bool, console: Console | None = None
) -> float | None:
    """Prints a plan.

    Args:
        planned: the plan
        launcher: tells how many runs go at once
        calibrate: try steps of networks that no finished run tells of
        console: where to

    Returns:
        predicted hours of what is not finished; None where they are not known
    """
    plan, console = planned.plan, console or Console()
    history = History(planned)
    finished = history.finished()
    configs = [one.config for one in planned.arms]
    try_out = (lambda config, ends: plan_cost.tried(config, planned.data.store(config), ends)) if calibrate else None
    speeds = plan_cost.speeds(configs, planned.sizes, history.past, try_out)
    if plan.question:
        console.print(plan.question, highlight=False)
    table = Table(title=f"{plan.name}: {len(plan.arms)} arms x {len(plan.seeds)} seeds = {len(plan.cells)} runs")
    table.title_justify = "left"
    table.add_column("arm", overflow="fold")
    for heading in ("done", "train tiles", "batch", "epochs", "steps", "M pixels", "min a run"):
        table.add_column(heading, justify="right")
    left: list[float] = []
    for one, size, spent, speed in zip(planned.arms, planned.sizes, planned.spent, speeds, strict=True):
        names = [f"{one.name}|{seed}" for seed in plan.seeds]
        each = plan_cost.seconds(speed, spent, size, one.config.train.batch_tiles) if speed else None
        left += [each] * sum(name not in finished for name in names) if each else []
        table.add_row(
            one.name,
            f"{sum(name in finished for name in names)}/{len(names)}",
            *(f"{value}" for value in (size.train, one.config.train.batch_tiles, spent.epochs, spent.steps)),
            f"{spent.pixels / 1e6:.1f}",
            f"{each / 60:.1f}" if each else "",
        )
    console.print(table)
    lines = [
        plan.budget,
        _seeds(planned),
        plan_ground.told([cell.scored_on for cell in plan.cells[:: len(plan.seeds)]]),
    ]
    lines.append(f"Decided by {plan.primary}.")
    hours = None
    if all(speeds):
        known = [speed for speed in speeds if speed]
        places = _places(launcher, len(left), planned.baseline.train.device)
        hours = sum(left) / places / 3600
        lines.append(_cost(hours, len(left), places, known))
        lines.append(_disk(planned, known, places))
    size = planned.sizes[0]
    lines += plan_power.told(
        planned.study,
        history.spread(),
        arms=len(plan.arms),
        seeds=len(plan.seeds),
        clusters=size.clusters,
        cluster=size.cluster,
    )
    for line in lines:
        console.print(line, highlight=False)
    return hours


def _seeds(planned: Planned) -> str:
    seeds = ", ".join(map(str, planned.plan.seeds))
    early = " Training may stop early (train.patience), so the budget is a limit." * (
        planned.baseline.train.patience is not None
    )
    return f"Seeds: {seeds}, the same in every arm.{early}"


def _places(launcher: LauncherConfig, cells: int, device: str) -> int:
    from glidexp.study.slots import slots

    if launcher.kind is LauncherKind.local:
        return len(slots(launcher, cells=cells, device=device))
    return launcher.slots if isinstance(launcher.slots, int) else 1


def _cost(hours: float, runs: int, places: int, speeds: list[plan_cost.Speed]) -> str:
    if not runs:
        return "Time: none, every run is finished."
    text = f"{hours:.1f} hours" if hours >= 2 else f"{60 * hours:.0f} minutes"
    tried = sum(speed.tried for speed in speeds)
    told = (
        f"{len(speeds) - tried} arms from finished runs, {tried} from trial steps"
        if tried < len(speeds)
        else "trial steps"
    )
    return f"Time: about {text} for {runs} runs, {places} at once, on this machine; from {told}."


def _disk(planned: Planned, speeds: list[plan_cost.Speed], places: int) -> str:
    seeds = len(planned.plan.seeds)
    kept = sum(seeds * plan_cost.run_bytes(s, one.config) for s, one in zip(speeds, planned.arms, strict=True))
    passing = places * max(map(plan_cost.checkpoint_bytes, speeds))
    return f"Disk: about {kept / 1e9:.1f} GB for good, and up to {passing / 1e9:.1f} GB of checkpoints while runs go."
