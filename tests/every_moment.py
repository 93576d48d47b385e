"""Logs a small run in forks of one process, each of which dies at another event: what could be cut off. Not a test.

An event is what changes something that outlives the process: a file or folder of the store that is opened for writing
(it is there, and empty), or about to be renamed, made or removed; a line of the spool, of which half is there; a commit
of the database that is about to be made. What lies between two events is cut off by the second one. Each entry is in
the store before the next one is put, so the order is the same each time. Prints a line of JSON for each death, before
them for the run that nobody disturbs: number of the event, how many there are, and what is left once the same command
was given again.
"""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import sqlalchemy
from sqlalchemy.engine import Engine

from glidexp.tracking import model
from glidexp.tracking.resume import take_over
from glidexp.tracking.run import Run
from glidexp.tracking.spool import Lines
from glidexp.tracking.store import Store, open_store, warm_up
from glidexp.tracking.writer import Writer

EXPERIMENT = "moments"
OPENS = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


class Events:
    """Counts them, and dies at one.

    Args:
        folder: what lies elsewhere is not counted
        last: number of the event at which the process dies; 0 for none
    """

    def __init__(self, folder: Path, last: int) -> None:
        self.folder, self.last, self.count = str(folder), last, 0
        self._lock = threading.RLock()
        self._wrote: set[int] = set()

    def met(self, half: Callable[[], object] = lambda: None) -> None:
        """One more; `half` is what was done of it when the process dies."""
        with self._lock:
            self.count += 1
            if self.count == self.last:
                self.last = 0
                half()
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From now on, till the end of the process."""
        sys.addaudithook(self._audit)
        sqlalchemy.event.listen(Engine, "before_cursor_execute", self._executes)
        sqlalchemy.event.listen(Engine, "commit", self._commits)
        append = Lines.append

        def appended(lines: Lines, record: Any) -> None:
            self.met(lambda: lines._file.write(b'00000000 {"number": 1'))
            append(lines, record)

        Lines.append = appended  # type: ignore[method-assign]

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        path = str(given[0]) if given else ""
        ours = path.startswith(self.folder) and "mlflow.db" not in path and "__pycache__" not in path
        if event in CHANGES and (ours or not path.startswith("/")):
            self.met()
        if event == "open" and ours and given[2] & OPENS:
            self.met(lambda: os.close(os.open(path, given[2] & ~os.O_EXCL, 0o644)))

    def _executes(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            self._wrote.add(id(connection))

    def _commits(self, connection: Any) -> None:
        if id(connection) in self._wrote:
            self._wrote.discard(id(connection))
            self.met()


def logged(store: Store, bundle: Path) -> bool:
    """The command: begins the run, or goes on with it; False where it is finished already."""
    found = take_over(store, "id", EXPERIMENT)
    if found is not None and found.status == "FINISHED":
        return False
    given = {"experiment": EXPERIMENT, "run_name": "r", "config_flat": {"seed": 0}, "config_id": "id"}
    with Run.start(store, **given, resume_run_id=found.run_id if found else None) as run:
        run.dataset_input("tiles", digest="d", context="train", source="here")
        run.text("seed: 0", "config.yaml")
        run.metrics({"loss": 0.5}, 1)
        run.image("probe/0", np.zeros((8, 8, 3), np.uint8), 1)
        run.model(bundle, in_channels=3, pip_requirements=["torch"])
        run.metrics({"test/f1": 0.25}, 2)
    return True


def left(store: Store) -> dict[str, Any]:
    """All that a finished run left, without ids and times."""
    experiment = store.client.get_experiment_by_name(EXPERIMENT)
    client = store.client
    (run,) = client.search_runs([experiment.experiment_id])
    run_id = run.info.run_id
    models = client.search_logged_models([experiment.experiment_id])
    files = [path for path in Path(run.info.artifact_uri.removeprefix("file://")).rglob("*") if path.is_file()]
    return {
        "status": run.info.status,
        "params": run.data.params,
        "metrics": {
            key: [(point.step, point.value) for point in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "files": sorted("+".join(path.name.split("+")[:3]) + path.suffix for path in files),
        "inputs": [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs],
        "models": [(one.name, one.status.value) for one in models],
        "outputs": [one.model_id == models[0].model_id for one in run.outputs.model_outputs],
        "error": run.data.tags.get("glidexp.error", ""),
        "beside": sorted(path.name for path in store.mlruns.iterdir()),
    }


def forked(work: Callable[[], int]) -> int:
    """Exit code of a process that does that alone."""

    def alone() -> NoReturn:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)

    sys.stdout.flush()
    child = os.fork()
    if not child:
        alone()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    """Dies at each event."""
    warm_up()
    model.write_model = lambda folder, bundle, **_: shutil.copytree(bundle, folder)  # MLflow's files take the longest
    empty, mlruns = folder / "empty", folder / "mlruns"
    bundle = folder / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "weights.safetensors").write_bytes(b"weights")
    uri = f"sqlite:///{mlruns}/mlflow.db"
    assert forked(lambda: open_store(uri, mlruns) is None) == 0
    mlruns.rename(empty)

    def attempt(last: int, told: Path) -> int:
        """The command, and where it was not killed what is left then, and whether a third call does anything."""
        store = open_store(uri, mlruns)
        events = Events(mlruns, last)
        events.watch()
        put = Writer.put

        def put_and_wait(self: Writer, kind: str, **values: Any) -> None:
            put(self, kind, **values)
            assert kind == "end" or self.flush()

        Writer.put = put_and_wait  # type: ignore[method-assign]
        logged(store, bundle)
        count = events.count
        told.write_text(json.dumps([count, left(store) | {"again": logged(store, bundle)}]))
        return 0

    told, number, count = folder / "told", 0, 1
    while number <= count:
        shutil.rmtree(mlruns, ignore_errors=True)
        shutil.copytree(empty, mlruns)
        if number:
            assert forked(lambda: attempt(number, told)) == -signal.SIGKILL, number  # noqa: B023 - used at once
        assert forked(lambda: attempt(0, told)) == 0, number
        counted, found = json.loads(told.read_text())
        count = count if number else counted
        print(json.dumps([number, count, found]), flush=True)
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
