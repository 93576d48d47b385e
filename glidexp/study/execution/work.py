"""One cell in a process of its own: `python train.py WORDS`, then `glidexp evaluate RUN WORDS` where the study asks it.

The process takes the cell's lock first, so that two sweeps never train the same run, and writes its end into
`cells.json` itself: a sweep that was killed meanwhile loses nothing. When the sweep dies, a run on the same machine is
told to save and stop.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from glidexp.errors import GlidexpError
from glidexp.signals import signal_name
from glidexp.study.execution.ledger import SCORED_ON_TAG, Status, held, scored_on, update_cell
from glidexp.tracking.environment import RUN_TAGS_VARIABLE
from glidexp.tracking.multirun import PARENT_VARIABLE
from glidexp.tracking.writer import store_is_away

log = logging.getLogger("glidexp")

BUSY = 75
"""exit code: another process has the cell (EX_TEMPFAIL of sysexits.h)"""
AWAY = 69
"""exit code: the tracking store did not answer (EX_UNAVAILABLE)"""
LATE = (
    "glidexp.door",
    "glidexp.training.run",
    "glidexp.training.rescoring.evaluation",
    "glidexp.training.rescoring.rescore",
    "glidexp.tracking.model",
    "segmentation_models_pytorch",
    "timm",
    "kornia.augmentation",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "scipy.ndimage",
    "pyarrow.parquet",
    "torch._dynamo",
    "safetensors.torch",
    "hydra._internal.hydra",
    "rich.table",
)
"""what a run imports when it comes to it, and one that was forked has at hand: 16 of 24 CPU seconds of a tiny run"""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Done:
    """What a run leaves in the hands of its caller."""

    run_id: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Order:
    """All that a process needs to carry out one cell."""

    name: str
    words: tuple[str, ...]
    key: str
    scored_on: tuple[str, ...] | None
    cells: str
    """path of `cells.json`"""
    log: str
    mlruns: str
    primary: str
    environment: dict[str, str] = field(default_factory=dict)
    train: str = "glidexp.study.execution.work:train"
    """function of the words that trains"""
    score: str = "glidexp.study.execution.work:score"
    """function of run id and words that scores"""

    def to_json(self) -> str:
        """As text, from which `from_json` makes it again."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Order":
        """Reads what `to_json` wrote."""
        found: dict[str, Any] = json.loads(text)
        ground = found.pop("scored_on")
        words = tuple(found.pop("words"))
        return cls(**found, words=words, scored_on=None if ground is None else tuple(ground))


def environment(parent: str, study: str, arm: str, threads: int | None) -> dict[str, str]:
    """What a run finds in its environment: its parent, its tags, its share of the cores."""
    tags = {"glidexp.study": study, "glidexp.arm": arm}
    found = {PARENT_VARIABLE: parent, RUN_TAGS_VARIABLE: json.dumps(tags)}
    if threads:
        found |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    return found


def carry_out(order: Order) -> int:
    """Does the work of a cell and notes its end.

    Returns:
        exit code: 0 done, 1 failed, 2 a mistake of the user, BUSY, AWAY, 128 + n for signal n
    """
    from glidexp.signals import Interrupted

    with held(Path(order.mlruns), order.key) as mine:
        if not mine:
            return BUSY
        os.environ.update(order.environment)
        path, began = Path(order.cells), time.monotonic()
        spent = update_cell(path, order.name, status=Status.running, error="").seconds

        def note(**changes: Any) -> None:
            update_cell(path, order.name, seconds=spent + time.monotonic() - began, **changes)

        try:
            trained = _named(order.train)(order.words)
            note(train=trained.run_id)
            score, scored, ground = trained.metrics, None, ""
            if order.scored_on is not None:
                tags, ground = json.loads(os.environ.get(RUN_TAGS_VARIABLE, "{}")), scored_on(order.scored_on)
                os.environ[RUN_TAGS_VARIABLE] = json.dumps(tags | {SCORED_ON_TAG: ground})
                done = _named(order.score)(trained.run_id, order.scored_on)
                score, scored = done.metrics, done.run_id
            note(status=Status.finished, scored=scored, ground=ground, score=score.get(order.primary))
        except Interrupted as stop:
            note(status=Status.killed)
            print(f"stopped by {stop.name}; the same command goes on from the last checkpoint", file=sys.stderr)
            return 128 + stop.number
        except KeyboardInterrupt:
            note(status=Status.killed)
            return 128 + signal.SIGINT
        except Exception as error:  # noqa: BLE001 - whatever it is, the other cells go on
            return _ended_by(error, note)
        return 0


def _ended_by(error: Exception, note: Callable[..., None]) -> int:
    """Notes why a cell has no scores; gives the exit code."""
    line = _line(error) if isinstance(error, GlidexpError) else f"{type(error).__name__}: {_line(error)}"
    away = store_is_away(error)  # for now: what was asked for may well be possible
    note(status=Status.killed if away else Status.failed, error=line)
    if away or isinstance(error, GlidexpError):
        print(f"glidexp: {_line(error)}", file=sys.stderr)
        return AWAY if away else 2
    traceback.print_exception(error)
    return 1


def given_up(times: int, code: int, error: str) -> str:
    """Why a cell is not begun once more, after so many times that ended with this exit code at last."""
    if code == AWAY:
        return f"begun {times} times, and the tracking store did not answer it (launcher.attempts={times}): {error}"
    return f"killed {times} times, by {signal_name(code)} at last: too little memory? launcher.attempts={times}"


def train(words: tuple[str, ...]) -> Done:
    """What `python train.py WORDS` does."""
    from glidexp import cli, door

    told: list[Any] = []
    door.run_hydra(lambda composed: told.append(cli.train_one(composed)), list(words))
    return Done(told[0].run_id, dict(told[0].metrics))


def score(run_id: str, words: tuple[str, ...]) -> Done:
    """What `glidexp evaluate RUN WORDS` does."""
    from glidexp import cli, door

    told: list[Any] = []
    models, overrides = door.models_and_overrides([run_id, *words])
    door.run_hydra(lambda composed: told.append(cli.evaluate_one(composed, models)), overrides, config_name="evaluate")
    return Done(told[0].run_id, dict(told[0].metrics))


def begin_process(log_path: str) -> None:
    """Makes a process of a cell's own: apart from the terminal's Ctrl-C, which the sweep passes on; output to a log."""
    with suppress(OSError):
        os.setsid()
    Path(log_path).parent.mkdir(parents=True, exist_ok=True)
    stream = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((nothing, 0), (stream, 1), (stream, 2)):
        os.dup2(number, target)
    os.close(stream)
    os.close(nothing)
    from glidexp import cli

    cli.prepare_process()


def preload() -> None:
    """Imports everything that a run needs, in the process from which runs are forked. Starts no thread."""
    from importlib import import_module

    from glidexp.tracking.environment import own_code
    from glidexp.tracking.store import import_pyfunc, warm_up

    own_code()  # before another commit may be checked out: runs are told as made with what is loaded here
    warm_up()
    import_pyfunc()
    for name in LATE:
        import_module(name)


def _named(name: str) -> Callable[..., Done]:
    from importlib import import_module

    module, _, function = name.partition(":")
    found: Callable[..., Done] = getattr(import_module(module), function)
    return found


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def end_when_left(wait: Callable[[], object]) -> None:
    """When `wait` returns, because whoever started this process died, asks it to save and end."""

    def watch() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stand_between() -> None:
    """Goes on in a child; this process passes SIGTERM on to it and ends as it ends.

    Ray kills the children of a worker that ends, not theirs: the run is left over, and saves.
    """
    child, early = 0, list[int]()

    def pass_on(number: int, frame: object) -> None:
        if child:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        else:
            early.append(number)

    signal.signal(signal.SIGTERM, pass_on)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if early:
            os.kill(os.getpid(), early[0])
        return
    for number in early:
        os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> NoReturn:
    """`python -m glidexp.study.execution.work ORDER.json [--follow]`: the work of a cell where a scheduler starts it.

    With --follow it ends when its standard input does, and is no child of who started it.
    """
    # SLURM sends a job's notice to all its processes: one is for submitit's, which tells this one to save by SIGUSR1.
    # Ignored, here and in what this process starts: it would end them.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    order = Order.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "--follow" in sys.argv:
        stand_between()
        own = os.dup(0)
        end_when_left(lambda: os.read(own, 1))
    begin_process(order.log)
    sys.exit(carry_out(order))


if __name__ == "__main__":
    main()
