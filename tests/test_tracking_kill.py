"""kill -9 at any moment, and answers that got lost: everything that was put is in the store, once."""

import json
import os
import platform
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import warm
from mlflow.entities import LoggedModelOutput
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from test_tracking_spool import hold

from glidexp.errors import TrackingError
from glidexp.tracking import spool as spools
from glidexp.tracking.carry import write_run
from glidexp.tracking.left import close_ended
from glidexp.tracking.liveness import PROCESS_TAG, process_mark
from glidexp.tracking.models import fetch, find_model
from glidexp.tracking.resume import clear_cut_uploads, take_over
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store, open_store
from glidexp.tracking.sync import sync

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    mlruns = tmp_path_factory.mktemp("kill") / "mlruns"
    return open_store(f"sqlite:///{mlruns}/mlflow.db", mlruns)


def steps(store: Store, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in store.client.get_metric_history(run_id, key))


def files(store: Store, run_id: str, folder: str) -> list[str]:
    return sorted(Path(file.path).name for file in store.client.list_artifacts(run_id, folder))


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from glidexp.tracking.liveness import process_mark
from glidexp.tracking.resume import take_over
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store, warm_up

warm_up()  # once; the writing processes are forks
uri, mlruns, kills, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), 300

def work(begin, told):
    store = open_store(uri, mlruns)
    found = take_over(store, "id", "killed")
    run = Run.start(store, experiment="killed", run_name="r", config_flat={"seed": 0}, config_id="id",
                    resume_run_id=found.run_id if found else None)
    for step in range(begin, last):
        run.metrics({"loss": step / 7, f"val/{step % 3}": step}, step)
        if step % 5 == 0:
            run.text(str(step), f"notes/{step}.txt")
        if step % 10 == 0:
            run.image("probe/0", np.full((8, 8, 3), step % 256, np.uint8), step)
        os.write(told, b"%d\\n" % step)
        time.sleep(0.002)
    run.finish()
    os._exit(run.waiting + run.lost)

chance, begin = random.Random(int(sys.argv[4])), 0
for kill in range(kills + 1):
    ours, told = os.pipe()
    child = os.fork()
    if not child:
        work(max(0, begin - 4), told)  # the checkpoint lies a few steps back
    os.close(told)
    with os.fdopen(ours) as lines:
        wait = chance.randrange(1, 2 * last // kills)
        for number, line in enumerate(lines):
            begin = int(line)
            if kill < kills and number == wait:
                time.sleep(chance.random() * 0.02)
                os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(begin, code, flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments(store: Store) -> None:
    done = subprocess.run(
        [warm.python(), "-c", KILLED, store.uri, str(store.mlruns), "6", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert codes.count(-signal.SIGKILL) >= 3 and codes[-1] == 0, done.stderr
    experiment = store.client.get_experiment_by_name("killed")
    [run] = store.client.search_runs([experiment.experiment_id])
    run_id = run.info.run_id
    assert run.info.status == "FINISHED"
    assert steps(store, run_id, "loss") == [(step, step / 7) for step in range(300)]
    for rest in range(3):
        assert steps(store, run_id, f"val/{rest}") == [(step, step) for step in range(rest, 300, 3)]
    assert files(store, run_id, "notes") == sorted(f"{step}.txt" for step in range(0, 300, 5))
    pictures = Counter((name.split("+")[2], Path(name).suffix) for name in files(store, run_id, "images"))
    assert pictures == {(str(step), suffix): 1 for step in range(0, 300, 10) for suffix in (".png", ".webp")}
    assert not (store.mlruns / "spool").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_moment_the_same_command_comes_to_the_same_end(tmp_path: Path) -> None:
    program = [warm.python(), str(ROOT / "tests" / "every_moment.py"), str(tmp_path / "moments")]
    done = subprocess.run(program, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    (_, count, whole), *deaths = [json.loads(line) for line in done.stdout.splitlines()]
    assert [number for number, _, _ in deaths] == [*range(1, count + 1)] and count > 40
    assert whole["status"] == "FINISHED" and whole["models"] == [["model", "READY"]] and whole["outputs"] == [True]
    assert whole["metrics"] == {"loss": [[1, 0.5]], "test/f1": [[2, 0.25]]} and not whole["again"]
    assert whole["beside"] == [".store.lock", "artifacts", "mlflow.db"]
    # killed as the very last thing goes, the folder of all spools, it stays, empty
    *others, (_, _, last) = deaths
    assert [found for _, _, found in others if found != whole] == []
    assert last | {"beside": whole["beside"]} == whole and {*last["beside"]} - {"spool"} == {*whole["beside"]}


@pytest.mark.slow
def test_what_is_sent_a_second_time_changes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst kill: after the store has everything, before anything was noted as sent."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "weights.safetensors").write_bytes(b"weights")
    with monkeypatch.context() as killed:
        killed.setattr(spools.Spool, "done", lambda *_, **__: None)
        with Run.start(store, experiment="twice", run_name="r", config_flat={"seed": 0}) as run:
            for step in range(3):
                run.metrics({f"val/{key}": step / 10 for key in range(1500)}, step)
            run.image("probe/0", np.zeros((8, 8, 3), np.uint8), 0)
            run.text("hello", "note.txt")
            run.dataset_input("synthetic", digest="f", context="train", source="/a")
            run.model(bundle, in_channels=3, pip_requirements=["torch==2.15.0"])
    waiting = spools.Spool.open(store.spool_folder(run.run_id))
    assert len(waiting.waiting) == 9, "all of it is sent again"
    waiting.close()
    said: list[str] = []
    assert sync(mlruns=store.mlruns, say=said.append) == 0
    assert f"{run.run_id}       9       0" in said[-1]
    held = store.client.get_run(run.run_id)
    assert held.info.status == "FINISHED" and held.data.params["seed"] == "0"
    for key in ("val/0", "val/1499"):
        assert steps(store, run.run_id, key) == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert [Path(name).suffix for name in files(store, run.run_id, "images")] == [".webp", ".png"]
    assert len(held.inputs.dataset_inputs) == 1
    [model] = store.client.search_logged_models([run.experiment_id])
    assert [output.model_id for output in held.outputs.model_outputs] == [model.model_id]
    assert model.status.value == "READY"


@pytest.mark.slow
def test_a_run_that_goes_on_after_its_model_leaves_one(store: Store, tmp_path: Path) -> None:
    """MLflow takes no output of a run back, and does not answer for a model that was deleted."""

    def attempt(weights: bytes, status: str, **goes_on: str) -> str:
        bundle = tmp_path / weights.decode() / "bundle"
        bundle.mkdir(parents=True)
        (bundle / "weights.safetensors").write_bytes(weights)
        with Run.start(store, experiment="again", run_name="r", config_flat={}, **goes_on) as run:
            run.model(bundle, in_channels=3, pip_requirements=["torch==2.15.0"])
            run.finish(status)
        return run.run_id

    def weights_of(reference: str) -> bytes:
        folder = fetch(store, find_model(store, reference), tmp_path)
        return (folder / "artifacts" / "bundle" / "weights.safetensors").read_bytes()

    run_id = attempt(b"first", "KILLED")
    [first] = store.client.search_logged_models([store.experiment_id("again")])
    with pytest.raises(TrackingError, match="is KILLED and has no model: the same command goes on with it"):
        find_model(store, run_id)
    store.client.log_outputs(run_id, [LoggedModelOutput(first.model_id, step=0)])  # as it was done before the end once
    assert attempt(b"second", "FINISHED", resume_run_id=run_id) == run_id
    [second] = store.client.search_logged_models([store.experiment_id("again")])
    named = store.client.get_run(run_id).outputs.model_outputs
    assert {output.model_id for output in named} == {first.model_id, second.model_id}
    assert weights_of(run_id) == b"second"
    write_run(store, run_id, tmp_path / "exported")
    [exported] = (tmp_path / "exported").rglob("weights.safetensors")
    assert exported.read_bytes() == b"second"
    store.client.delete_logged_model(second.model_id)
    with pytest.raises(TrackingError, match=r"is FINISHED and has no model: that was deleted\. .*") as told:
        find_model(store, run_id)
    assert run_id[:12] not in str(told.value).split("deleted.")[1], "named as a run that has one"


def test_a_torn_end_of_the_journal_loses_only_what_was_not_put(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.start(store, experiment="torn", run_name="r", config_flat={}, config_id="torn")
    assert run.flush()
    monkeypatch.setattr(run._writer, "_write", lambda entry: (_ for _ in ()).throw(ConnectionError("gone")))
    run.metrics({"loss": 1.0}, 0)
    run.metrics({"loss": 2.0}, 1)
    run._writer.close()
    with (run._spool.folder / "journal.jsonl").open("ab") as journal:
        journal.write(b'0a0b0c0d {"kind": "metrics", "val')
    assert sync(mlruns=store.mlruns, say=lambda line: None) == 0
    assert steps(store, run.run_id, "loss") == [(0, 1.0), (1, 2.0)]


def test_what_a_kill_cut_short_of_a_file_is_cleared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow writes a file under a hidden name in the run's folder first."""
    run = Run.start(store, experiment="cut", run_name="r", config_flat={})
    assert run.flush()
    folder = Path(store.client.get_run(run.run_id).info.artifact_uri.removeprefix("file://"))
    with monkeypatch.context() as killed:  # nothing is renamed, nothing is tidied up
        killed.setattr(LocalArtifactRepository, "_publish_staged_artifact", lambda *_: 1 / 0)
        killed.setattr(LocalArtifactRepository, "_cleanup_staged_artifact", lambda *_: None)
        run.text("hello", "notes/note.txt")
        run._writer.close()
    assert [path.name[:20] for path in (folder / "notes").iterdir()] == [".artifact.uploading."] * 2, "tried twice"
    clear_cut_uploads("mlflow-artifacts:/1/artifacts")  # a server's own
    assert sync(mlruns=store.mlruns, say=lambda line: None) == 0
    assert [path.name for path in (folder / "notes").iterdir()] == ["note.txt"]


def test_one_process_takes_a_dead_run(store: Store) -> None:
    run = Run.start(store, experiment="race", run_name="r", config_flat={}, config_id="x")
    assert run.flush()
    run._writer.close()
    store.client.set_tag(run.run_id, "glidexp.process", f"{platform.node()}:{2**22 - 3}:1")
    other = hold(store.spool_folder(run.run_id))
    with pytest.raises(TrackingError, match="at work"):
        take_over(store, "x", "race")
    with pytest.raises(TrackingError, match="at work"):
        Run.start(store, experiment="race", run_name="r", config_flat={}, resume_run_id=run.run_id)
    os.close(other)
    found = take_over(store, "x", "race")
    assert found is not None and (found.run_id, found.alive) == (run.run_id, False)
    claimed = subprocess.run(
        ["flock", "--nonblock", str(store.spool_folder(run.run_id) / "lock"), "true"], check=False
    ).returncode
    assert claimed == 1, "taken between finding and starting"
    with Run.start(store, experiment="race", run_name="r", config_flat={}, resume_run_id=run.run_id):
        mark = store.client.get_run(run.run_id).data.tags["glidexp.process"]
        assert mark == process_mark(), "others see at once who has it"
    assert not store.spool_folder(run.run_id).exists()


def test_a_run_that_finished_while_one_looked_is_shown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.start(store, experiment="late", run_name="r", config_flat={}, config_id="x")
    run.finish("KILLED")
    real = Store.find_run
    looked: list[str] = []

    def find_run(self: Store, config_id: str, experiment: str) -> object:
        found = real(self, config_id, experiment)
        if not looked:
            store.client.set_terminated(run.run_id, "FINISHED")  # by another process, just now
        looked.append("once")
        return found

    monkeypatch.setattr(Store, "find_run", find_run)
    found = take_over(store, "x", "late")
    assert found is not None and found.status == "FINISHED"
    assert not store.spool_folder(run.run_id).exists()


def test_a_finished_run_whose_end_waits_is_sent_and_not_trained_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.start(store, experiment="end", run_name="r", config_flat={}, config_id="x")
    assert run.flush()

    def away(entry: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(run._writer, "_write", away)
    run.metrics({"test/f1": 0.5}, 1)
    run.finish()
    assert (run.waiting, run.lost) == (2, 0)
    with monkeypatch.context() as still_away:
        still_away.setattr("glidexp.tracking.sink.Sink.__call__", lambda self, entry: away(entry))
        with pytest.raises(TrackingError, match="2 entries of it wait"):
            take_over(store, "x", "end")
    found = take_over(store, "x", "end")
    assert found is not None and (found.status, found.metrics) == ("FINISHED", {"test/f1": 0.5})
    assert not store.spool_folder(run.run_id).exists()


@pytest.mark.parametrize("left", [("journal.jsonl", "sent.jsonl", "lock"), ("sent.jsonl", "lock"), ("lock",), ()])
def test_a_run_that_was_killed_after_its_end_leaves_no_spool(
    store: Store, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...]
) -> None:
    """Between the end in the store and the note of it, and between the files that go then."""

    def cut_off(self: spools.Spool) -> None:
        self._journal.close()
        self._sent.close()
        os.close(self._lock)

    run = Run.start(store, experiment=f"left{len(left)}", run_name="r", config_flat={}, config_id="x")
    run.metrics({"test/f1": 0.5}, 1)
    assert run.flush()
    with monkeypatch.context() as killed:
        killed.setattr(spools.Spool, "done", lambda *_, **__: None)
        killed.setattr(spools.Spool, "close", cut_off)
        run.finish()
    folder = store.spool_folder(run.run_id)
    for file in folder.iterdir():
        if file.name not in left:
            file.rmdir() if file.is_dir() else file.unlink()
    found = take_over(store, "x", f"left{len(left)}")
    assert found is not None and (found.status, found.metrics) == ("FINISHED", {"test/f1": 0.5})
    assert steps(store, run.run_id, "test/f1") == [(1, 0.5)]
    assert not folder.exists()


def test_runs_that_no_command_takes_up_again_are_killed_where_their_process_is_dead(store: Store) -> None:
    def begun(mark: str) -> str:
        tags = {"kind": "closed", PROCESS_TAG: mark}
        run_id = str(store.client.create_run(store.experiment_id("ended"), tags=tags).info.run_id)
        spool = spools.Spool.open(store.spool_folder(run_id), {"uri": store.uri})
        spool.append("metrics", {"values": {"loss": 1.0}, "step": 0})
        spool.close()
        return run_id

    here = platform.node()
    dead, alive, elsewhere = begun(f"{here}:1:0"), begun(process_mark()), begun("elsewhere:1:0")
    finished, taken = begun(f"{here}:1:0"), begun(f"{here}:1:0")
    spool = spools.Spool.open(store.spool_folder(finished))
    spool.append("end", {"status": "FINISHED"})
    spool.close()
    over = begun(f"{here}:1:0")
    store.client.set_terminated(over, "FINISHED")  # and killed before its spool went
    lock = hold(store.spool_folder(taken))
    close_ended(store, "tags.kind = 'closed'")
    os.close(lock)
    status = {run_id: store.client.get_run(run_id).info.status for run_id in (dead, alive, elsewhere, finished, taken)}
    assert [*status.values()] == ["KILLED", "RUNNING", "RUNNING", "FINISHED", "RUNNING"]
    for run_id in (dead, over):
        assert steps(store, run_id, "loss") == [(0, 1.0)] and not store.spool_folder(run_id).exists()
    assert store.client.get_run(dead).data.tags["glidexp.error"] == "its process was killed"
    for left in (alive, elsewhere, taken):
        shutil.rmtree(store.spool_folder(left))


def test_what_waits_counts_as_logged_when_a_run_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Run.start(store, experiment="waits", run_name="r", config_flat={"a": "1"}, config_id="x")
    assert first.flush()
    monkeypatch.setattr(first._writer, "_write", lambda entry: (_ for _ in ()).throw(ConnectionError("gone")))
    for step in range(3):
        first.metrics({"loss": step}, step)
        first.image("probe/0", np.zeros((8, 8, 3), np.uint8), step)
    first.finish("KILLED", "Interrupted: 15")
    assert store.client.get_run(first.run_id).info.status == "RUNNING"
    with Run.start(
        store, experiment="waits", run_name="r", config_flat={"a": "1", "b": "2"}, resume_run_id=first.run_id
    ) as second:
        for step in range(1, 5):
            second.metrics({"loss": step}, step)
            second.image("probe/0", np.zeros((8, 8, 3), np.uint8), step)
    assert steps(store, first.run_id, "loss") == [(step, step) for step in range(5)]
    assert len(files(store, first.run_id, "images")) == 10
    held = store.client.get_run(first.run_id)
    assert held.info.status == "FINISHED", "the KILLED that waited is overtaken by what came after"
    assert held.data.params == {"a": "1", "b": "2"}
    assert "glidexp.error" not in held.data.tags


def test_sync_leaves_what_is_at_work_and_what_has_no_run(store: Store, tmp_path: Path) -> None:
    said: list[str] = []
    assert sync(mlruns=store.mlruns, say=said.append) == 0
    assert said == [f"Nothing waits in {store.mlruns / 'spool'}."]
    with Run.start(store, experiment="sync", run_name="r", config_flat={}) as run:
        assert sync(mlruns=store.mlruns, say=said.append) == 0
        assert run.run_id in said[-1] and "at work" in said[-1]
    gone = "0" * 32
    spool = spools.Spool.open(store.spool_folder(gone), {"uri": store.uri})
    spool.append("metrics", {"values": {"loss": 1.0}, "step": 0})
    spool.close()
    assert sync(mlruns=store.mlruns, say=said.append) == 1
    assert f"{gone}       0       1  no such run in {store.uri}" in said[-1], "and nothing is thrown away"
    again = spools.Spool.open(store.spool_folder(gone))
    assert json.dumps(again.waiting[0].values)
    again.done(again.waiting[0])
    again.close()
    with pytest.raises(TrackingError, match="nothing does not exist"):
        sync(mlruns=tmp_path / "nothing")


TWIN = """
import sys, time
from pathlib import Path
from glidexp.errors import TrackingError
from glidexp.tracking.resume import starting, take_over
from glidexp.tracking.run import Run
from glidexp.tracking.store import open_store

store = open_store(sys.argv[1], Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
try:
    with starting(store, "twin"):
        assert take_over(store, "twin", "twins") is None
        time.sleep(1)  # data are made, a network is built
        run = Run.start(store, experiment="twins", run_name="r", config_flat={}, config_id="twin")
except TrackingError as error:
    print(error)
    sys.exit(2)
print("began", flush=True)
sys.stdin.readline()
run.finish()
"""


def test_of_two_that_begin_at_once_one_is_refused(store: Store) -> None:
    """Both look before either has made a run; the second waits, and then sees the first at work."""
    command = [warm.python(), "-c", TWIN, store.uri, str(store.mlruns)]
    place = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
    twins = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **place) for _ in range(2)]
    for twin in twins:
        assert twin.stdout is not None and twin.stdout.readline() == "ready\n"
    for twin in twins:
        assert twin.stdin is not None
        twin.stdin.write("\n")
        twin.stdin.flush()
    lines = [twin.stdout.readline() for twin in twins if twin.stdout is not None]
    for twin in twins:
        twin.communicate("\n", timeout=60)
    assert sorted(twin.returncode for twin in twins) == [0, 2], lines
    began, refused = sorted(lines, key=len)
    assert began == "began\n"
    assert "has the same settings (config id twin) and is at work: wait for it, or start another" in refused
    assert len(store.client.search_runs([store.experiment_id("twins")])) == 1
    assert not (store.mlruns / "starting").exists()
