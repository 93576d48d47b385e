"""`glidexp <verb>`: the doors. Each composes a config or reads a few options, and calls one function."""

import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from glidexp.errors import GlidexpError, RunFailed
from glidexp.training.processes import job

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from glidexp.training.record import Outcome

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""errors of a disk that are told in one line, wherever they come from"""
HELP = {"-h", "--help"}
SELDOM = (20_000, 10, 10)
"""how often Python looks for objects that nobody holds. Imports leave 800,000 that stay; with its own 700 they are
looked through ten times in a small run, which takes 13 % of the CPU time"""


def main(argv: list[str] | None = None) -> NoReturn:
    """Entry of the console script. Exit codes: 0 done, 1 failed, 2 a mistake of the user, 128 + n for signal n."""
    try:
        try:
            sys.exit(_called(sys.argv[1:] if argv is None else argv))
        finally:
            if sys.stdout:  # None where it was closed, as by a daemon
                sys.stdout.flush()
    except OSError as error:
        from glidexp.signals import silent, unread

        gone = isinstance(error, BrokenPipeError) and unread()
        if error.filename or not (gone or error.errno in REFUSED):
            raise
        silent()
        if gone:
            sys.exit(128 + signal.SIGPIPE)  # as other programs end behind `| head`
        _say(f"the output cannot be written ({error.strerror}): free some room, or send it elsewhere.")
        sys.exit(1)


def _called(arguments: list[str]) -> int:
    """Finds the verb and calls it; gives the exit code."""
    verbs: dict[str, tuple[Callable[[list[str]], int] | str, str]] = {
        "train": (train, "train one network and score it (-m: one run for every combination)"),
        "sweep": (sweep, "run a study over settings"),
        "data": (data, "make, import, export and look at tile stores"),
        "ui": (ui, "open the runs in MLflow's pages at 127.0.0.1"),
        "evaluate": (evaluate, "score a trained model on a data set"),
        "predict": (predict, "map the lakes of whole scenes with a trained model"),
        "serve": ("serving.verb_serve", "map scenes over HTTP, and on a page, at 127.0.0.1"),
        "inventory": (
            "mapping.verb_inventory",
            "compare maps of lakes (diff, series), and say how good one is (sample, assess)",
        ),
        "compare": ("study.verb_compare", "say which of several settings is better, by how much and how sure"),
        "release": ("release.verb_release", "check the best of some trainings, bundle it, and make it the champion"),
        "qgis": ("release.verb_qgis", "write a model as a file that QGIS runs without Python (plugin Deepness)"),
        "verify": ("release.verb_verify", "check that a released bundle is what was released"),
        "transfer": (
            "study.verb_transfer",
            "say what networks trained on one region or sensor are worth on the others",
        ),
        "validity": (validity, "say how far scenes lie from what a model was trained on, and what to expect there"),
        "sync": ("tracking.verb_sync", "send what runs could not log because the tracking store was away"),
        "store": ("study.verb_store", "move a tracking store, or studies and runs to another one"),
        "audit": (audit, "say which aggregations printed scores can and cannot be"),
        "doctor": ("training.doctor.verb_doctor", "look at machine, folders and programs, and say what to do"),
    }
    if not arguments or arguments[0] in HELP:
        width = max(len(verb) for verb in verbs)
        print("Usage: glidexp VERB [...]\n")
        print("\n".join(f"  {verb:<{width}}  {meaning}" for verb, (_, meaning) in verbs.items()))
        print("\nEach verb explains itself with --help.")
        return 0 if arguments else 2
    if arguments[0] not in verbs:
        near = get_close_matches(arguments[0], verbs, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return _say(f"glidexp {arguments[0]}: no such verb.{hint} Allowed: {', '.join(verbs)}.")
    verb, _ = verbs[arguments[0]]
    try:
        os.getcwd()
    except OSError as error:
        return _say(f"the current folder is not there any more ({error.strerror}): change to one that is, with cd.")
    return guarded(partial(own, verb) if isinstance(verb, str) else verb, arguments[1:])


def guarded(verb: Callable[[list[str]], int], argv: list[str]) -> int:
    """Calls a verb and turns a user's mistake into one line and exit code 2, and a signal into 128 + its number."""
    from glidexp.signals import Interrupted

    try:
        return verb(argv)
    except RunFailed as error:
        _say(str(error))
        return 1
    except GlidexpError as error:
        return _say(str(error))
    except Interrupted as stop:
        if not job.rank():  # of several processes one speaks
            print(
                f"glidexp: stopped by {stop.name}. The same command goes on from the last checkpoint, if there is one "
                "yet.",
                file=sys.stderr,
            )
        return 128 + stop.number
    except KeyboardInterrupt as stop:
        number = signal.Signals(next((one for one in stop.args if isinstance(one, int)), signal.SIGINT))
        print(f"glidexp: stopped by {number.name}.", file=sys.stderr)
        return 128 + number
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        return _say(f"{error.object[:200]!a} is not in UTF-8, as names of files must be: rename it.")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        place = error.filename2 or error.filename or "a file"  # of a copy the second is what was written
        _say(
            f"the disk refuses {place} ({error.strerror}): free some room or correct the rights, then give the same "
            "command again."
        )
        return 1
    except Exception as error:
        if type(error).__module__ != "mlflow.exceptions":  # which is imported late
            raise
        from glidexp.tracking.database import first_line

        _say(f"the tracking store failed: {first_line(error)}. Give the same command again when it answers.")
        return 1


def own(module: str, argv: list[str]) -> int:
    """A verb that reads its own options, by `run` of a module of glidexp, which is imported here and not before."""
    prepare_process()
    code: int = import_module(f"glidexp.{module}").run(argv)
    return code


def train(argv: list[str]) -> int:
    """Composes one run and carries it out; with -m, one for every combination."""
    from glidexp import door

    if HELP & {*argv}:
        print(door.help_text("python train.py" if sys.argv[0].endswith("train.py") else "glidexp train"))
        return 0
    prepare_process()
    if {"-m", "--multirun"} & {*argv}:
        if job.size() > 1:
            raise GlidexpError("-m does not go with torchrun: its processes train one run together, so give one.")
        from glidexp.training.multirun import run_multirun

        return run_multirun(argv)
    with job.others_told():
        door.run_hydra(train_one, argv)
    return 0


def train_one(composed: "DictConfig", name: str | None = None) -> "Outcome":
    """Checks and carries out a composed run, called `name` where tracking.run_name gives none."""
    from hydra.core.hydra_config import HydraConfig

    from glidexp.config import load
    from glidexp.training.check import check

    config = load(composed)
    check(config)
    from glidexp.training.run import run  # torch is imported here and not before: wrong settings are told at once

    return run(config, choices=dict(HydraConfig.get().runtime.choices), name=name)


def evaluate(argv: list[str]) -> int:
    """Scores a run, a bundle or a registered model on a data set, into a run of its own."""
    from glidexp import door

    if not argv or HELP & {*argv}:
        print(door.evaluate_help())
        return 0 if argv else 2
    models, words = door.models_and_overrides(argv)
    prepare_process()
    door.run_hydra(lambda composed: evaluate_one(composed, models), words, config_name="evaluate")
    return 0


def evaluate_one(composed: "DictConfig", models: list[str]) -> "Outcome":
    """Checks and carries out a composed evaluation."""
    from hydra.core.hydra_config import HydraConfig

    from glidexp.config.evaluation import load
    from glidexp.training.rescoring.evaluation import evaluate as score  # torch is imported later

    config = load(composed)
    if models:
        if config.model or config.others:
            named = f"model={config.model}" if config.model else f"others=[{','.join(config.others)}]"
            raise GlidexpError(f"{named} does not go with the models {' '.join(models)}: give all as words.")
        config.model, *config.others = models
    hydra = HydraConfig.get()
    given = [word.split("=", 1)[0].lstrip("+~") for word in hydra.overrides.task]
    return score(config, given=given, choices=dict(hydra.runtime.choices))


def sweep(argv: list[str]) -> int:
    """Plans a study, carries it out and reports it; without study=NAME, a grid of the settings with several values."""
    from glidexp import door
    from glidexp.composing import as_text
    from glidexp.study import verb_sweep
    from glidexp.study.plan.words import searched

    if not argv or HELP & {*argv}:
        print(verb_sweep.help_text(door.SWEEP_GROUPS, door.options))
        return 0 if argv else 2
    prepare_process()
    folder = door.config_dir(argv)
    words, own = searched([*map(as_text, argv)], door.search_word(folder) if folder else None)
    return verb_sweep.run(words, door.compose, lambda given: door.compose_sweep([*given, *own]))


def data(argv: list[str]) -> int:
    """Makes, imports, exports and looks at tile stores: the verbs of glidexp/data/verbs/."""
    prepare_process()
    from glidexp import door
    from glidexp.data import verbs
    from glidexp.signals import sigterm_as_ctrl_c
    from glidexp.training.rescoring.answers import answer_of

    with sigterm_as_ctrl_c():  # its processes end with it
        return verbs.main(argv, door.compose, answer_of)


def audit(argv: list[str]) -> int:
    """Says which aggregations printed scores can and cannot be."""
    from glidexp.scoring import verb_audit

    return verb_audit.run(argv)


def predict(argv: list[str]) -> int:
    """Maps the lakes of scenes."""
    prepare_process()
    from glidexp.mapping import verb_predict
    from glidexp.signals import sigterm_as_ctrl_c

    with sigterm_as_ctrl_c():  # its processes end with it
        return verb_predict.run(argv)


def validity(argv: list[str]) -> int:
    """Holds scenes against what a model was trained on."""
    prepare_process()
    from glidexp import door
    from glidexp.study import verb_validity

    return verb_validity.run(argv, door.compose_evaluation)


def ui(argv: list[str]) -> int:
    """Serves MLflow's pages on the store."""
    from glidexp.tracking import verb_ui

    return verb_ui.run(argv)


def prepare_process() -> None:
    """Environment and logging of a process that trains. Called before torch is imported."""
    # huge pages for tensors: 6-8 % less CPU time; read as torch starts
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    gc.set_threshold(*SELDOM)
    log = logging.getLogger("glidexp")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def _say(message: str) -> int:
    who = f"glidexp (rank {job.rank()})" if job.rank() else "glidexp"
    print(f"{who}: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":  # python -m glidexp.cli, and torchrun -m glidexp.cli
    main()
