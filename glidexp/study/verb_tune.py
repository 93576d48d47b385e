"""`sweep.py study=tune`: searches, repeats the best with new seeds, and says what that shows."""

import sys
from dataclasses import replace
from pathlib import Path

from glidexp.beside import write_text
from glidexp.config.launcher import LauncherConfig
from glidexp.config.study import DRY, SweepConfig
from glidexp.errors import ConfigError, RunFailed
from glidexp.study.comparison.studies import load_study
from glidexp.study.execution.ending import cancel
from glidexp.study.execution.execute import execute
from glidexp.study.execution.launchers.choice import refuse_named_gpu
from glidexp.study.execution.ledger import FOLDER, study_id
from glidexp.study.execution.parent import put_files
from glidexp.study.plan.check import Compose
from glidexp.study.plan.making import outline
from glidexp.study.plan.show import show
from glidexp.study.plan.words import Words
from glidexp.study.report.making import report
from glidexp.study.tune import show as tune_show
from glidexp.study.tune.search import Search, repeated, tuning
from glidexp.study.tune.trials import Trials
from glidexp.study.verb_sweep import refuse_failed
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.wording import does, many


def run(sweep: SweepConfig, typed: Words, compose: Compose) -> int:
    """Plans or carries out a search; gives the exit code.

    Args:
        sweep: its settings, design `tune`
        typed: what the command line says of the runs
        compose: the config of a run's words, from the door

    Raises:
        GlidexpError: the search is not possible as it is; nothing was started
        RunFailed: no trial came to its end, or a repeated run failed
    """
    if sweep.only is not None:
        raise ConfigError("only does not go with study.design=tune: which trials there are is the search's to say.")
    cfg, launcher = sweep.study.tune, sweep.launcher
    if sweep.plan == DRY:
        known = outline(replace(sweep.study, seeds=[cfg.seed]), typed, compose, elsewhere=launcher.elsewhere)
        if known.missing:
            print(f"{len(known.arms) - 1} ends of the space are checked, and can run. {known.lacks}")
            return 0
    found = tuning(sweep.study, typed, compose, elsewhere=launcher.elsewhere)
    refuse_named_gpu(launcher, [found.edges.baseline.train.device])
    if sweep.plan:
        tune_show.show_plan(found, launcher)
        return 0
    config = found.edges.baseline
    store = open_store(tracking_uri(config.tracking, config.paths), Path(config.paths.mlruns))
    experiment = config.tracking.experiment
    folder = store.mlruns / FOLDER / study_id(found.plan)
    trials = Trials(folder, found.space, objectives=len(cfg.objectives), seed=cfg.seed, startup=cfg.startup)
    search = Search(found, trials, store, experiment)
    if sweep.cancel:
        count = cancel(search.plan, store, launcher, experiment=experiment)
        if best := search.best():
            count += cancel(repeated(found, best).plan, store, launcher, experiment=experiment)
        print(
            f"{many(count, 'run')} of the search {found.study.name} {does(count, 'were')} at work or queued, and "
            f"{does(count, 'are')} asked to save and end."
        )
        return 0
    if sweep.status:
        tune_show.show_trials(found, trials.all())
        return 0
    if sweep.retry:
        for trial in trials.all():
            if trial.state == "fail":
                trials.again(trial.number)
    ledger = execute(search.plan, store, launcher, experiment=experiment, feed=search)
    tune_show.show_trials(found, trials.all())
    if ledger.parent_run_id is not None:
        put_files(store, ledger.parent_run_id, [tune_show.write_trials(found, trials.all(), ledger.folder)])
    for trial in trials.all():
        if trial.state == "fail" and not trial.again:
            print(f"glidexp: failed: {trial.name}: {trial.error}", file=sys.stderr)
    return repeat(search, launcher, retry_failed=sweep.retry == "failed", search_run=ledger.parent_run_id)


def repeat(search: Search, launcher: LauncherConfig, *, retry_failed: bool, search_run: str | None) -> int:
    """Trains the best again with new seeds, and says what that shows; gives the exit code.

    Args:
        search: that is done
        launcher: settings
        retry_failed: run those again that failed
        search_run: id of the search's parent run, which gets the last word too

    Raises:
        RunFailed: no trial came to its end, or a repeated run failed
    """
    found, store = search.tuning, search.store
    if not search.trials.front():
        raise RunFailed(f"no trial of {found.study.name} came to its end, so there is nothing to repeat.")
    best = search.best()
    if not best:
        print(tune_show.nothing_claimed(found))
        return 0
    planned = repeated(found, best)
    show(planned, launcher, calibrate=False)
    ledger = execute(planned.plan, store, launcher, experiment=search.experiment, retry_failed=retry_failed)
    assert ledger.parent_run_id is not None
    print(f"Report: {report(store, ledger.parent_run_id)}")
    study = load_study(store, ledger.parent_run_id)
    assert study is not None
    text = tune_show.last_word(found, best, search.trials.all(), study, store)
    write_text(ledger.folder / tune_show.LAST_WORD, text)
    for run_id in (ledger.parent_run_id, search_run):
        if run_id is not None:
            put_files(store, run_id, [ledger.folder / tune_show.LAST_WORD])
    print(text)
    refuse_failed(ledger)
    return 0
