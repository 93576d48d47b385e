"""`sweep.py`: plans a study, and hands it on to be carried out and reported."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glidexp.config.study import DRY, Design, SweepConfig
from glidexp.errors import RunFailed
from glidexp.study.plan.words import split
from glidexp.wording import does, many

if TYPE_CHECKING:
    from glidexp.study.execution.ledger import Ledger
    from glidexp.study.plan.check import Compose
    from glidexp.study.plan.making import Planned
    from glidexp.tracking.store import Store


def help_text(groups: Mapping[str, str], options: Callable[[str], Mapping[str, str]]) -> str:
    """The page behind `sweep.py --help`.

    Args:
        groups: of the sweep, with what each is for
        options: of a group, with a sentence each
    """
    out = [
        "Usage: sweep.py study=NAME [KEY=VALUE ...] [any setting of train.py]",
        "       sweep.py GROUP=OPTION,OPTION [KEY=VALUE,VALUE ...]     every combination of these",
        "",
        "Plans a study, carries out its runs and reports them. The same command goes on where it was stopped, and runs",
        "that are finished, in this study or another, are not made again.",
        "  sweep.py study=backbones plan=true                      print arms, runs, hours and what can be told; stop",
        "  sweep.py study=backbones tile_size=128 train.epochs=5   with other settings in every arm",
        "  sweep.py study=backbones backbone=resnet18,mit_b0       with other values of a factor, the baseline's first",
        "  sweep.py backbone=resnet18,mobilenetv3 seed=0,1         a grid of your own",
        "",
    ]
    for group, meaning in groups.items():
        out.append(f"{group}: {meaning}")
        width = max((len(name) for name in options(group)), default=0)
        out += [f"  {name:<{width}}  {sentence}".rstrip() for name, sentence in options(group).items()]
        out.append("")
    out += [
        "Keys: plan=true, plan=dry (makes no data), status=true, retry=failed, only='ARM*', cancel=true,",
        "  study.seeds=[0,1,2], study.folds=5 (cross-validation), study.primary=SCORE,",
        "  study.design (ofat | full | fraction | list), study.axes.NAME.values=[A,B],",
        "  study.budget.kind (steps | pixels | epochs). Your own YAML: --config-dir FOLDER, with study/NAME.yaml in it",
        "Settings of the runs: python train.py --help",
    ]
    return "\n".join(out)


def run(argv: Sequence[str], compose: "Compose", compose_sweep: Callable[[list[str]], SweepConfig]) -> int:
    """Plans, carries out and reports a study; gives the exit code.

    Args:
        argv: overrides of Hydra's grammar
        compose: the config of a run's words, from the door
        compose_sweep: the config of the sweep's own words, from the door

    Raises:
        GlidexpError: the study is not possible as it is; nothing was started
        RunFailed: some runs failed; the others are finished
    """
    typed = split(argv)
    sweep = compose_sweep(list(typed.own))
    if sweep.study.design is Design.tune:
        from glidexp.study import verb_tune  # which knows Optuna

        return verb_tune.run(sweep, typed, compose)
    from glidexp.study.execution.launchers.choice import refuse_named_gpu
    from glidexp.study.plan.making import make_plan, outline  # which know statistics, and so scipy
    from glidexp.study.plan.show import show, show_outline

    elsewhere = sweep.launcher.elsewhere
    if sweep.plan == DRY:
        found = outline(sweep.study, typed, compose, elsewhere=elsewhere)
        if found.missing:
            show_outline(found, only=sweep.only)
            return 0
    planned = make_plan(sweep.study, typed, compose, elsewhere=elsewhere)
    refuse_named_gpu(sweep.launcher, (one.config.train.device for one in planned.arms))
    if sweep.plan:
        show(planned, sweep.launcher, calibrate=True, only=sweep.only)
        return 0
    from glidexp.tracking.store import open_store, tracking_uri

    config, plan = planned.baseline, planned.plan
    store = open_store(tracking_uri(config.tracking, config.paths), Path(config.paths.mlruns))
    experiment = config.tracking.experiment
    if sweep.cancel:
        from glidexp.study.execution.ending import cancel

        count = cancel(plan, store, sweep.launcher, experiment=experiment)
        print(
            f"{many(count, 'run')} of study {plan.title} {does(count, 'were')} at work or queued, and "
            f"{does(count, 'are')} asked to save and end."
        )
        return 0
    if sweep.status:
        return _status(planned, store, experiment)
    from glidexp.study.execution.execute import execute

    show(planned, sweep.launcher, calibrate=False, only=sweep.only)
    ledger = execute(
        plan, store, sweep.launcher, experiment=experiment, only=sweep.only, retry_failed=sweep.retry == "failed"
    )
    from glidexp.study.report.making import report  # draws pictures

    assert ledger.parent_run_id is not None
    print(f"Report: {report(store, ledger.parent_run_id)}")
    refuse_failed(ledger)
    return 0


def refuse_failed(ledger: "Ledger") -> None:
    """Names the runs of a study that failed.

    Raises:
        RunFailed: there are some
    """
    for name, error in ledger.failed.items():
        print(f"glidexp: failed: {name}: {error}", file=sys.stderr)
    if ledger.failed:
        count = f"{len(ledger.failed)} of {many(len(ledger.plan.cells), 'run')}"
        raise RunFailed(f"{count} failed: add retry=failed to try them again.")


def _status(planned: "Planned", store: "Store", experiment: str) -> int:
    """Prints how far a study is."""
    from rich.console import Console

    from glidexp.study.execution.ledger import Ledger
    from glidexp.study.execution.live import table

    ledger = Ledger(planned.plan, store, experiment)
    if not ledger.path.exists():
        print(f"study {planned.plan.title} has not begun with these settings.")
        return 0
    for cell in planned.plan.cells:
        ledger.look(cell)
    Console().print(table(ledger))
    for name, error in ledger.failed.items():
        print(f"failed: {name}: {error}")
    return 0
