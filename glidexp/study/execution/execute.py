"""Carries out a plan: what is finished is skipped, what was killed goes on, what failed is named.

May be ended at any moment, by `kill -9` too, and begun again, twice at once as well: a cell is taken by one process,
and the store says what is finished. Nothing here needs torch.
"""

import logging
from collections.abc import Callable, Sequence

from glidexp.config.launcher import LauncherConfig
from glidexp.errors import RunFailed
from glidexp.signals import Signals
from glidexp.study.execution.cells import Cell, Plan, chosen
from glidexp.study.execution.feed import Feed
from glidexp.study.execution.ledger import Ledger
from glidexp.study.execution.parent import close_others, parent_run, put_link
from glidexp.study.execution.provide import prepare_data
from glidexp.study.execution.sweep import Sweep
from glidexp.study.execution.work import Order
from glidexp.tracking.store import Store

log = logging.getLogger("glidexp")


def execute(
    plan: Plan,
    store: Store,
    settings: LauncherConfig,
    *,
    experiment: str,
    only: str | None = None,
    retry_failed: bool = False,
    prepare: Callable[[Sequence[Cell]], object] = prepare_data,
    order: Callable[[Order], Order] = lambda order: order,
    feed: Feed | None = None,
) -> Ledger:
    """Brings a study as far as it goes.

    Args:
        plan: what is to be run
        store: where the runs go
        settings: of the launcher
        experiment: of the runs and of their parent
        only: cells to run, a pattern of arms (`resnet*`), of `arm|seed`, or over folds of `arm|seed|fold`
        retry_failed: run those again that failed; else they are only named
        prepare: makes the data of cells that are to be run
        order: may change what a process is told to do
        feed: finds further cells, and says which to end early

    Returns:
        the ledger: `complete`, `failed`, `parent_run_id`

    Raises:
        ConfigError: no cell is called so
        GlidexpError: data or launcher cannot be used; no run was begun
        Interrupted: a signal came; the runs have saved and ended
        RunFailed: another process asked for the end
    """
    ledger = Ledger(plan, store, experiment)
    cells = chosen(plan, only) if plan.cells or feed is None else []
    for other in ledger.of_the_same_words():
        log.warning(
            "study %s was begun by the same commands, but its runs are others: input files, or how glidexp makes tiles "
            "or results, changed since. This one, %s, makes its own; the other stays as it is, and is found by that id",
            *(other, ledger.study_id),
        )
    ledger.begin()
    signals = Signals()
    with signals.installed(), parent_run(ledger):
        close_others(store)
        sweep = Sweep(ledger, settings, signals, order, feed)
        sweep.sort(cells, retry_failed=retry_failed)
        if sweep.waiting:
            prepare(sweep.waiting)
        with signals.deferred():
            sweep.run()
        put_link(ledger)
        if sweep.cancelled:
            raise RunFailed(f"study {plan.title} was cancelled: the same command goes on with it.")
    return ledger
