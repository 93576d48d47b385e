"""`glidexp <verb>`: the doors. Each composes a config or reads a few options, and calls one function."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from glidexp.errors import GlidexpError, RunFailed


def main(argv: list[str] | None = None) -> NoReturn:
    """Entry of the console script. Exit codes: 0 done, 1 failed, 2 a mistake of the user, 128 + n for signal n."""
    arguments = sys.argv[1:] if argv is None else argv
    verbs: dict[str, tuple[Callable[[list[str]], int], str]] = {
        "train": (train, "train one network and score it (-m: one run for every combination)"),
        "sweep": (sweep, "run a study over settings"),
        "ui": (ui, "open the runs in MLflow's pages at 127.0.0.1"),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(len(verb) for verb in verbs)
        print("Usage: glidexp VERB [...]\n")
        print("\n".join(f"  {verb:<{width}}  {meaning}" for verb, (_, meaning) in verbs.items()))
        print("\nEach verb explains itself with --help.")
        sys.exit(0 if arguments else 2)
    if arguments[0] not in verbs:
        sys.exit(_say(f"glidexp {arguments[0]}: no such verb. Allowed: {', '.join(verbs)}."))
    sys.exit(guarded(verbs[arguments[0]][0], arguments[1:]))


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
        print(
            f"glidexp: stopped by {stop.name}. The same command goes on from the last checkpoint, if there is one yet.",
            file=sys.stderr,
        )
        return 128 + stop.number
    except KeyboardInterrupt:
        print("glidexp: stopped by SIGINT.", file=sys.stderr)
        return 130


def train(argv: list[str]) -> int:
    """Composes one run and carries it out; with -m, one for every combination."""
    from glidexp import door

    if any(word in ("-h", "--help") for word in argv):
        print(door.help_text("python train.py" if sys.argv[0].endswith("train.py") else "glidexp train"))
        return 0
    prepare_process()
    if any(word in ("-m", "--multirun") for word in argv):
        from glidexp.training.multirun import run_multirun

        return run_multirun(argv)
    door.run_hydra(_train_one, argv)
    return 0


def _train_one(composed: object) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from glidexp.config import load
    from glidexp.training.check import check

    assert isinstance(composed, DictConfig)
    config = load(composed)
    check(config)
    from glidexp.training.run import run  # torch is imported here and not before: wrong settings are told at once

    run(config, choices=dict(HydraConfig.get().runtime.choices))


def sweep(argv: list[str]) -> int:
    """Runs every combination of the given settings. For now the same as `train -m`."""
    if any(word in ("-h", "--help") for word in argv):
        print(
            "Usage: sweep.py GROUP=OPTION,OPTION [KEY=VALUE,VALUE ...]\n\nOne run for every combination, e.g.\n"
            "  python sweep.py backbone=resnet18,mobilenetv3 seed=0,1\n\nGroups and keys: python train.py --help"
        )
        return 0
    if not argv:
        raise GlidexpError("sweep needs something to vary: for example backbone=resnet18,mobilenetv3 seed=0,1.")
    return train([*argv, *([] if "-m" in argv or "--multirun" in argv else ["-m"])])


def ui(argv: list[str]) -> int:
    """Serves MLflow's pages on the store."""
    parser = argparse.ArgumentParser(prog="glidexp ui", description="Opens the runs in MLflow's pages at 127.0.0.1.")
    parser.add_argument("--mlruns", default="mlruns", help="folder of the store (default: mlruns)")
    parser.add_argument("--uri", default=None, help="tracking address, when it is not the folder's own")
    parser.add_argument("--port", type=int, default=5000, help="port at 127.0.0.1 (default: 5000)")
    options = parser.parse_args(argv)
    from glidexp.tracking.ui import serve

    return serve(uri=options.uri, mlruns=options.mlruns, port=options.port)


def prepare_process() -> None:
    """Environment and logging of a process that trains. Called before torch is imported."""
    os.environ.setdefault(
        "THP_MEM_ALLOC_ENABLE", "1"
    )  # huge pages for tensors: 6-8 % less CPU time; read as torch starts
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    log = logging.getLogger("glidexp")
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def _say(message: str) -> int:
    print(f"glidexp: {' '.join(message.split())}", file=sys.stderr)
    return 2
