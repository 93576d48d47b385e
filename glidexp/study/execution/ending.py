"""Ending a study from outside: by another process than the sweep that is at work on it."""

import time

from glidexp.config.launcher import LauncherConfig
from glidexp.errors import ConfigError
from glidexp.study.execution.cells import Plan
from glidexp.study.execution.launchers.choice import build_launcher
from glidexp.study.execution.ledger import CANCEL, DONE, Ledger, Status
from glidexp.tracking.store import Store
from glidexp.wording import many


def cancel(plan: Plan, store: Store, settings: LauncherConfig, *, experiment: str) -> int:
    """Asks every sweep that is at work on the study to stop, and ends the jobs that a scheduler has of it.

    Returns:
        number of cells that were at work or queued

    Raises:
        ConfigError: a scheduler has jobs of it, and the settings name none
        GlidexpError: the launcher cannot be used
    """
    ledger = Ledger(plan, store, experiment)
    if not ledger.path.exists():
        return 0
    seen = {cell.name: ledger.look(cell) for cell in plan.cells}
    queued = {name: entry for name, entry in seen.items() if entry.job and entry.status not in DONE}
    for entry in queued.values():
        kind, _, number = entry.job.partition(":")
        if kind != settings.kind:
            raise ConfigError(
                f"study {plan.title} has {many(len(queued), 'run')} with {kind} (job {number}), which launcher="
                f"{settings.kind} cannot end: give cancel=true launcher={kind}."
            )
    (ledger.folder / CANCEL).write_text(f"{time.time():.3f}\n", encoding="utf-8")
    ended = {name for name, entry in seen.items() if entry.status is Status.running}
    if queued:
        launcher = build_launcher(settings, ledger.folder, cells=len(queued))
        for name, entry in queued.items():
            if (job := launcher.adopt(entry)) is not None:
                job.kill()
                ended.add(name)
        launcher.close()
    return len(ended)
