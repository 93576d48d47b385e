"""Runs `train.py` or an evaluation in forks of a process that has imported everything, and kills them. Not a test.

Reads a JSON line for each run: `verb`, `argv`, `kept` (folder for the last checkpoints before they are removed), and
how it is to die: after `seconds` of its processor time, which a busy machine does not change, or `at` one of PLACES.
Answers with its exit code and the processor time that it took.
"""

import io
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import psutil
import torch
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from runs import undrawn

from glidexp import cli
from glidexp.tracking import sink
from glidexp.tracking.run import Run
from glidexp.tracking.spool import Spool
from glidexp.tracking.store import import_pyfunc, warm_up
from glidexp.training import checkpoint, final, run
from glidexp.training.checkpoint import Series
from glidexp.training.rescoring import rescore


def die(*_: Any, **__: Any) -> NoReturn:
    """As `kill -9` from outside: nothing is flushed, nothing is called."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def notice(*_: Any, **__: Any) -> None:
    """What a scheduler sends before the time is over."""
    os.kill(os.getpid(), signal.SIGUSR1)


def die_when_all_is_sent(run: Run, *_: Any, **__: Any) -> NoReturn:
    """Nothing waits for the store any more."""
    assert run.flush()
    die()


def half_written(content: Any, file: Any) -> None:
    """The first half of a checkpoint's bytes, then death."""
    whole = io.BytesIO()
    SAVE(content, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    die()


def hang(*_: Any, **__: Any) -> NoReturn:
    """A tracking store that does not answer."""
    while True:
        time.sleep(1)


SAVE = torch.save
NOTICE = 128 + signal.SIGUSR1
PLACES: dict[str, tuple[Any, str, Callable[..., Any], int]] = {
    "in the middle of a file's way into the store": (LocalArtifactRepository, "_publish_staged_artifact", die, 2),
    "a notice in the middle of an epoch": (run.Meter, "step", notice, 2),
    "a notice while val is scored": (run.Recorder, "val_scores", notice, 1),
    "in the middle of a checkpoint's bytes": (torch, "save", half_written, 2),
    "after a checkpoint's rename": (checkpoint, "_sync_folder", die, 1),
    "between an epoch's scores and its checkpoint": (Series, "save", die, 1),
    "after a checkpoint, its scores not in the store": (run.Meter, "start_epoch", die, 3),
    "in the middle of the last look at test": (final.Predictions, "__init__", die, 2),
    "a notice while lakes are told apart": (final, "score_lakes", notice, 1),
    "in the middle of the final scores": (final, "mistakes", die, 1),
    "after the model, before the final scores are put": (Run, "model", die, 1),
    "the model in the store, the run not ended": (Run, "finish", die_when_all_is_sent, 1),
    "before the end reaches the store": (sink.Sink, "_end", die, 1),
    "after the end, before the spool goes": (Spool, "close", die, 1),
    "after the end, before the checkpoints go": (Series, "clear", die, 1),
}
"""what is replaced by what, at which call of an attempt. In this order each attempt comes farther"""
OF_EVALUATIONS: dict[str, tuple[Any, str, Callable[..., Any], int]] = {
    "as it begins": (rescore, "_begin", die, 1),
    "in the middle of a file's way into the store": PLACES["in the middle of a file's way into the store"],
    "before the scores are put": (rescore, "log_results", die, 1),
    "before the model is put": (Run, "model", die, 1),
    "the model in the store, the run not ended": (Run, "finish", die_when_all_is_sent, 1),
    "before the end reaches the store": (sink.Sink, "_end", die, 1),
    "after the end, before the spool goes": (Spool, "close", die, 1),
}
"""likewise, of `glidexp evaluate`"""


def replaced(owner: Any, name: str, other: Callable[..., Any], nth: int) -> None:
    """Calls `other` in place of the nth call of `owner.name`, counted from 1."""
    real, calls = getattr(owner, name), iter(range(1, 10**9))
    setattr(owner, name, lambda *args, **kwargs: (other if next(calls) == nth else real)(*args, **kwargs))


def child(verb: str, argv: list[str], kept: str, at: str | None) -> NoReturn:
    """One run, in a process of its own."""
    real = Series.clear

    def clear(self: Series) -> None:
        if self.files():
            shutil.copytree(self.path.parent, kept, dirs_exist_ok=True)
        real(self)

    Series.clear = clear  # type: ignore[method-assign]
    if at is not None:
        replaced(*(PLACES if verb == "train" else OF_EVALUATIONS)[at])
        if "not in the store" in at:
            sink.Sink._metrics = hang  # type: ignore[method-assign]
    sys.argv = ["train.py", *argv]
    os._exit(cli.guarded(getattr(cli, verb), argv))


def main() -> None:
    warm_up()
    import_pyfunc()
    import kornia
    import segmentation_models_pytorch
    import timm

    torch.set_num_threads(1)
    print(json.dumps({"ready": [kornia.__version__, timm.__version__, segmentation_models_pytorch.__version__]}))
    with undrawn():  # drawings take longest and no part in this
        serve()


def serve() -> None:
    """Carries out what is ordered, one after the other."""
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.flush()
        number = os.fork()
        if number == 0:
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            child(order["verb"], order["argv"], order["kept"], order.get("at"))
        process, found = psutil.Process(number), 0
        while not found:
            if sum(process.cpu_times()[:2]) > order.get("seconds", 300):
                process.kill()
            time.sleep(0.01)
            found, status, usage = os.wait4(number, os.WNOHANG)
        seconds = usage.ru_utime + usage.ru_stime
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
