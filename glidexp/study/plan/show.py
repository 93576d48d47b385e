"""The plan as it is printed: arms by seeds, what is equal in all of them, hours, and what the design can tell."""

import statistics
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from glidexp.config import Config
from glidexp.config.launcher import LauncherConfig
from glidexp.errors import ConfigError
from glidexp.study.comparison.measures import FALLBACK, measure_of
from glidexp.study.execution.cells import Cell, Plan, chosen, refuse_none, sized, told_equal
from glidexp.study.execution.pace import seconds_to_go
from glidexp.study.names import short_names
from glidexp.study.plan import cost as plan_cost
from glidexp.study.plan import ground as plan_ground
from glidexp.study.plan import power as plan_power
from glidexp.study.plan.budget import drawn
from glidexp.study.plan.check import told_idle
from glidexp.study.plan.data import Sizes
from glidexp.study.plan.hours import disk_told, places_of, time_told
from glidexp.study.plan.making import Outline, Planned
from glidexp.tracking.database import database_path
from glidexp.tracking.history import Course, PastRun, course, trainings
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.wording import many

if TYPE_CHECKING:
    from glidexp.tracking.store import Store

ENDS_OF = 8
"""finished runs on other tiles whose begin and end are looked at"""


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
        self._courses: dict[str, Course | None] = {}

    def past(self, config: Config) -> list[PastRun]:
        """Finished trainings on the tiles of a config."""
        if self.store is None:
            return []
        mark = self._planned.data.store(config).data_hash
        if mark not in self._past:
            self._past[mark] = trainings(self.store, self._experiment, mark)
        return self._past[mark]

    def course(self, past: PastRun) -> Course | None:
        """Where the time of a finished training went."""
        key = past.run.run_id
        if key not in self._courses:
            self._courses[key] = course(self.store, past) if self.store is not None else None
        return self._courses[key]

    def ends(self) -> float | None:
        """Seconds besides epochs of the latest finished trainings, on whatever tiles; None where there are none."""
        if self.store is None:
            return None
        latest = trainings(self.store, self._experiment, None)[:ENDS_OF]
        known = [found.ends_s for past in latest if (found := self.course(past)) is not None]
        return statistics.median(known) if known else None

    def finished(self) -> set[str]:
        """Names of the plan's cells that are finished."""
        configs = [one.config for arms in self._planned.every for one in arms]
        done = {past.run.tags.get("glidexp.config_id") for config in configs for past in self.past(config)}
        return {cell.name for cell in self._planned.plan.cells if cell.key in done}

    def spread(self) -> plan_power.Spread:
        """Of a paired difference."""
        planned = self._planned
        found = None
        if self.store is not None:
            found = plan_power.of_history(self.store, self.past(planned.baseline), planned.plan.primary)
        return found or plan_power.assumed(planned.study.assume)


def show(
    planned: Planned,
    launcher: LauncherConfig,
    *,
    calibrate: bool,
    only: str | None = None,
    console: Console | None = None,
) -> float | None:
    """Prints a plan.

    Args:
        planned: the plan
        launcher: tells how many runs go at once
        calibrate: try steps of networks that no finished run tells of
        only: as `cells.chosen` takes it: of other arms nothing is tried, and time and disk are without them
        console: where to

    Returns:
        predicted hours of what is not finished; None where they are not known

    Raises:
        ConfigError: `only` names no run
    """
    plan, console = planned.plan, console or Console()
    history = History(planned)
    cells, finished = chosen(plan, only), history.finished()
    to_run = [cell for cell in cells if cell.name not in finished]
    places, threads = places_of(launcher, len(to_run), planned.baseline)
    wanted = {cell.arm for cell in cells}
    speeds = speeds_of(planned, history, threads, wanted, calibrate=calibrate and not launcher.elsewhere)
    table, equal = _table(planned, finished, speeds)
    size = f"{plan.size} = {many(len(plan.cells), 'run')}"
    lines = [
        *told_equal(plan.cells),
        *told_idle(planned.arms),
        *equal,
        plan.budget,
        _seeds(planned),
        plan_ground.told(planned.arms, planned.grounds),
        _decided(plan.primary),
    ]
    hours = None
    known = [speed for speed in speeds if speed]
    if only is not None:
        lines.append(_chosen(plan, cells, finished, only))
    if len(known) == len(wanted):
        left = _seconds_left(planned, speeds, to_run)
        hours = seconds_to_go([], left, places) / 3600
        lines.append(time_told(hours, len(left), places, known, launcher))
        lines.append(disk_told(planned, speeds, cells, places))
    elif calibrate:
        lines.append(
            f"Time: not known before some runs are finished, as launcher={launcher.kind} carries them out on other "
            "machines than this one."
        )
    # a title of the table would be broken at its width
    head = [*([plan.question] if plan.question else []), f"{plan.title}: {size}"]
    _print(console, head, table, [*lines, *_can_be_found(planned, history)])
    return hours


def _seconds_left(planned: Planned, speeds: Sequence[plan_cost.Speed | None], to_run: Sequence[Cell]) -> list[float]:
    """Of each training that is still to be made, as far as the speed of its arm is known."""
    each = {
        one.name: plan_cost.seconds(speed, spent, size, one.config.train.batch_tiles)
        for one, size, spent, speed in zip(planned.arms, planned.sizes, planned.spent, speeds, strict=True)
        if speed is not None
    }
    trained: dict[str, str] = {}
    for cell in to_run:  # a training that several arms score is one of the first that has it
        trained.setdefault(cell.key, cell.arm)
    return [each[arm] for arm in trained.values() if arm in each]


def _can_be_found(planned: Planned, history: History) -> list[str]:
    """Sentences on the differences that the design can tell."""
    plan = planned.plan
    baselines = [arms[0].config for arms in planned.every]
    cluster, clusters = planned.data.ground(baselines, _stratum(plan.primary))
    return plan_power.told(
        planned.study,
        history.spread(),
        arms=len(plan.arms),
        seeds=len(plan.seeds),
        clusters=clusters,
        cluster=cluster,
    )


def _print(console: Console, head: Sequence[str], table: Table, lines: Sequence[str]) -> None:
    for line in head:
        console.print(line, highlight=False, markup=False)
    console.print(table)
    for line in lines:
        console.print(line, highlight=False, markup=False)


def show_outline(found: Outline, console: Console | None = None, *, only: str | None = None) -> None:
    """Prints what is known of a study whose data is not made yet.

    Raises:
        ConfigError: `only` names no run
    """
    console, study = console or Console(), found.study
    refuse_none(only, [one.name for one in found.arms], found.seeds, study.folds)
    runs = len(found.arms) * len(found.seeds) * max(study.folds, 1)
    heading, short = short_names([one.name for one in found.arms])
    size = f"{sized(len(found.arms), len(found.seeds), study.folds)} = {many(runs, 'run')}"
    table = Table()
    for name in (heading, "epochs", "batch"):
        table.add_column(name, justify="left" if name == heading else "right", overflow="fold")
    for one in found.arms:
        table.add_row(Text(short[one.name]), f"{one.config.train.epochs}", f"{one.config.train.batch_size}")
    lines = (
        *found.equal,
        *told_idle(found.arms),
        f"Seeds: {', '.join(map(str, found.seeds))}, the same in every arm.{_folds(study.folds)} All arms are checked, "
        "and can run.",
        f"Budget: as many {study.budget.kind} in every arm, which sets its epochs once its tiles are counted."
        if study.budget.kind != "epochs"
        else "Budget: epochs as the arms say.",
        found.ground,
        _decided(study.primary),
        found.lacks,
    )
    _print(console, [*([study.question] if study.question else []), f"{study.name}: {size}"], table, lines)


def _stratum(primary: str) -> tuple[str, str] | None:
    """Sensor, region or the like of which the score is, as far as it is one of ours."""
    try:
        return measure_of(primary).stratum
    except ConfigError:
        return None


def _decided(primary: str) -> str:
    """By which score; with a warning where no interval can be made of it, before anything is trained for it."""
    try:
        measure_of(primary)
    except ConfigError:
        return (
            f"Decided by {primary}. Warning: that is not made of sums over scenes, or no score at all, so it has no "
            f"interval: the report compares {FALLBACK} instead. `glidexp compare --score ?` says what has one."
        )
    return f"Decided by {primary}."


def _chosen(plan: Plan, cells: Sequence[Cell], finished: set[str], only: str) -> str:
    """What `only` chooses, what that leaves as it is, and what must be there before."""
    arms = {cell.arm for cell in cells}
    said = (
        f"only={only}: {len(cells)} of {many(len(plan.cells), 'run')}, of {len(arms)} of "
        f"{many(len(plan.arms), 'arm')}, are "
        "carried out. Budget, ground and what can be found are those of the whole study, all of whose arms are checked."
    )
    needed = {cell.needs for cell in cells} - {cell.key for cell in cells}
    lacking = dict.fromkeys(cell.arm for cell in plan.cells if cell.key in needed and cell.name not in finished)
    return said + f" They start from runs of {', '.join(lacking)}, to be carried out first." * bool(lacking)


def speeds_of(
    planned: Planned, history: History, threads: int | None, wanted: Container[str] | None = None, *, calibrate: bool
) -> list[plan_cost.Speed | None]:
    """The speed of each arm, of history or tried; None where neither tells it, and of arms that are not wanted."""

    def told(config: Config, sizes: Sizes) -> plan_cost.Speed | None:
        return plan_cost.of_history(config, sizes, history.past(config), history.course, threads)

    def try_out(config: Config) -> plan_cost.Speed:
        # as many threads as a run will have, not as many as there are
        train = replace(config.train, threads=config.train.threads or threads or None)
        return plan_cost.tried(replace(config, train=train), planned.data.store(config))

    places = [place for place, one in enumerate(planned.arms) if wanted is None or one.name in wanted]
    configs, sizes = [planned.arms[place].config for place in places], [planned.sizes[place] for place in places]
    known = plan_cost.speeds(configs, sizes, told, try_out if calibrate else None, history.ends)
    by_place = dict(zip(places, known, strict=True))
    return [by_place.get(place) for place in range(len(planned.arms))]


def _table(planned: Planned, finished: set[str], speeds: list[plan_cost.Speed | None]) -> tuple[Table, list[str]]:
    """A row an arm with what differs between arms; and a sentence of what does not."""
    plan = planned.plan
    columns: dict[str, Callable[[int], str]] = {
        "train tiles": lambda n: f"{planned.sizes[n].train}",
        "batch": lambda n: f"{planned.arms[n].config.train.batch_tiles}",
        "epochs": lambda n: f"{planned.spent[n].epochs}",
        "steps": lambda n: f"{planned.spent[n].steps}",
        "M pixels": lambda n: f"{planned.spent[n].pixels / 1e6:.1f}",
    }
    values = {name: [text(n) for n in range(len(plan.arms))] for name, text in columns.items()}
    equal = {name: texts[0] for name, texts in values.items() if len(set(texts)) == 1}
    heading, short = short_names(plan.arms)
    table = Table()
    table.add_column(heading, overflow="fold")
    time = ["min a run"] * any(speeds)
    for name in ("done", *(name for name in values if name not in equal), *time):
        table.add_column(name, justify="right")
    for number, (arm, speed) in enumerate(zip(plan.arms, speeds, strict=True)):
        own_cells = [cell.name in finished for cell in plan.cells if cell.arm == arm]
        batch = planned.arms[number].config.train.batch_tiles
        each = plan_cost.seconds(speed, planned.spent[number], planned.sizes[number], batch) if speed else None
        own = [texts[number] for name, texts in values.items() if name not in equal]
        own += [f"{each / 60:.1f}" if each else ""] * len(time)
        table.add_row(Text(short[arm]), f"{sum(own_cells)}/{len(own_cells)}", *own)
    said = ", ".join(f"{name} {text}" for name, text in equal.items())
    return table, [f"In every arm: {said}."] if equal else []


def _seeds(planned: Planned) -> str:
    seeds = ", ".join(map(str, planned.plan.seeds))
    early = " Training may stop early (train.patience), so the budget is a limit." * (
        planned.baseline.train.patience is not None
    )
    apart = len(planned.plan.seeds) > 1 and any(drawn(one.config) for one in planned.arms)
    first = planned.plan.seeds[0]
    own = f" Each draws scenes or lakes of its own: tiles, epochs and time above are those of seed {first}." * apart
    first_fold = " Tiles, epochs and time above are those of fold 0." * bool(planned.plan.folds)
    return f"Seeds: {seeds}, the same in every arm.{_folds(planned.plan.folds)}{first_fold}{own}{early}"


def _folds(folds: int) -> str:
    """What folds are for; empty without."""
    if not folds:
        return ""
    return f" Folds: each of {folds} parts of the ground is test once, in trainings that have not met it."
