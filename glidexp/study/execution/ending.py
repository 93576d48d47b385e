"""Ending a study from outside: by another process than the sweep that is at work on it."""

import time

from glidexp.config.launcher import LauncherConfig
from glidexp.study.execution.cells import Plan
from glidexp.study.execution.launchers.choice import build_launcher
from glidexp.study.execution.ledger import CANCEL, Ledger, Status
from glidexp.tracking.store import Store


def cancel(plan: Plan, store: Store, settings: LauncherConfig, *, experiment: str = "glidexp") -> int:
    """Asks every sweep that is at work on the study to stop, and ends the jobs that a scheduler has of it.

    Returns:
        number of cells that were at work
    """
    ledger = Ledger(plan, store, experiment)
    if not ledger.path.exists():
        return 0
    running = [cell for cell in plan.cells if ledger.look(cell).status is Status.running]
    (ledger.folder / CANCEL).write_text(f"{time.time():.3f}\n", encoding="utf-8")
    queued = {name: entry for name, entry in ledger.entries().items() if entry.job}
    if queued:
        launcher = build_launcher(settings, ledger.folder, cells=len(queued))
        for entry in queued.values():
            if (job := launcher.adopt(entry)) is not None:
                job.kill()
        launcher.close()
    return len({cell.name for cell in running} | set(queued))
