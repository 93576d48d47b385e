"""A study is carried out: nothing twice, nothing lost, whoever is killed; and what failed is named."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import study_stub
import warm
from study_stub import carried_out, key_of, opened, plan, status

from glidexp.beside import lock
from glidexp.config.launcher import LauncherConfig
from glidexp.data import workers
from glidexp.errors import ConfigError, RunFailed, TrackingError
from glidexp.signals import Interrupted
from glidexp.study.comparison.studies import load_study
from glidexp.study.execution.cells import Cell, Plan, chosen
from glidexp.study.execution.ending import cancel
from glidexp.study.execution.launchers import local as launchers_local
from glidexp.study.execution.ledger import Ledger, Status, held, read_cells, study_id
from glidexp.study.execution.sweep import Sweep
from glidexp.tracking.left import AT_WORK
from glidexp.tracking.store import Store
from glidexp.training.doctor.folders import Level, tracking

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def light_forkserver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in needs no torch."""
    monkeypatch.setattr(launchers_local, "PRELOADED", "study_stub")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    opened(folder)
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Store:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return opened(tmp_path)


@pytest.fixture
def sweep(store: Store) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a sweep in a process of its own, that may be killed."""
    begun: list[subprocess.Popen[str]] = []

    def start(study: Plan, *, slots: int = 2, attempts: int = 3) -> "subprocess.Popen[str]":
        (store.mlruns / "plan.json").write_text(study.to_json())
        command = [warm.python(), "-W", "error", str(ROOT / "tests" / "study_stub.py")]
        environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        begun.append(
            subprocess.Popen(
                [*command, str(store.mlruns), str(slots), str(attempts)],
                env=environment, cwd=store.mlruns, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def diary(mlruns: Path) -> Counter[str]:
    path = mlruns / "diary"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def wait_for(lines: int, mlruns: Path, what: str = "begun") -> None:
    """Until the diary has so many lines of a kind."""
    while sum(count for line, count in diary(mlruns).items() if line.startswith(what)) < lines:
        time.sleep(0.05)


def finished_runs(store: Store) -> Counter[str]:
    """How many finished runs the store has of each key."""
    found = store.client.search_runs([store.experiment_id("glidexp")], max_results=1000)
    return Counter(run.data.tags.get("glidexp.config_id", "parent") for run in found if run.info.status == "FINISHED")


def adapted(mlruns: Path, *, source: str) -> Plan:
    """A source that ends as it is told, another scoring of it, and what starts from it, which is wanted first."""
    words = (f"mlruns={mlruns}", f"end={source}", "seed=0")
    key = key_of(words)
    tuned = (f"mlruns={mlruns}", "end=well", f"start={key}", "seed=0")
    cells = (
        Cell("tuned", 0, tuned, key_of(tuned), needs=key),
        Cell("fitted", 0, words, key, (f"mlruns={mlruns}", "eval.adapt=histogram")),
        Cell("zero-shot", 0, words, key),
    )
    return Plan("stub", "?", study_stub.SCORE, ("tuned", "fitted", "zero-shot"), (0,), cells)


def test_a_source_is_trained_once_and_before_what_starts_from_it(tmp_path: Path, store: Store) -> None:
    study = adapted(tmp_path, source="well")
    ledger = carried_out(study, store, LauncherConfig(slots=3))
    assert ledger.complete, ledger.failed
    done = diary(tmp_path)
    assert {line.split()[0]: count for line, count in done.items()}.keys() == {"begun", "finished", "scored"}
    assert set(done.values()) == {1} and len(done) == 2 + 2 + 1
    entries = ledger.entries()
    assert entries["fitted|0"].train == entries["zero-shot|0"].train
    assert entries["fitted|0"].scored is not None and entries["zero-shot|0"].scored is None
    assert entries["fitted|0"].score != entries["zero-shot|0"].score
    assert carried_out(study, store).complete and diary(tmp_path) == done  # and nothing twice


def test_the_link_has_each_finished_run_once(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Two arms may be the same training, and a run that failed has nothing to lay beside others."""
    study = plan(tmp_path, {"good": "well", "wrong": "refused"})
    twins = tuple(replace(cell, arm="twin") for cell in study.cells if cell.arm == "good")
    carried_out(replace(study, arms=(*study.arms, "twin"), cells=(*study.cells, *twins)), store)
    assert "Compare the 2 runs: http" in capsys.readouterr().out


def test_a_sweep_takes_away_what_killed_ones_left_of_their_files(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"a": "well"}, seeds=1)
    ledger = carried_out(study, store)
    assert ledger.parent_run_id is not None
    artifacts = Path(store.client.get_run(ledger.parent_run_id).info.artifact_uri.removeprefix("file://"))
    left = [ledger.folder / ".1.study.json", ledger.folder / ".1.cells.json", artifacts / ".artifact.uploading.x"]
    for file in left:
        file.touch()
    with (ledger.folder / AT_WORK).open("a") as other:  # another sweep of it may be writing to the parent
        lock(other, ledger.folder / AT_WORK, shared=True)
        carried_out(study, store)
    assert [file.exists() for file in left] == [False, False, True]
    carried_out(study, store)
    assert not any(file.exists() for file in left)


def test_a_sweep_that_begins_keeps_what_another_one_has_found_since(tmp_path: Path, store: Store) -> None:
    """Of a search: its trials are looked up before the ledger is begun, and the other sweep goes on meanwhile."""
    both = plan(tmp_path, {"first": "well", "second": "well"}, seeds=1)
    both = replace(both, identity="a search")
    before = replace(both, cells=both.cells[:1])
    Ledger(both, store, "glidexp").begin()
    Ledger(both, store, "glidexp").update(both.cells[1], status=Status.stopped, job="slurm:7")
    Ledger(before, store, "glidexp").begin()
    assert Ledger(both, store, "glidexp").entries()["second|0"].status is Status.stopped


@pytest.mark.parametrize(
    "rest", ["", '{"good|0": {"tra', "[]", '{"good|0": {"status": "new"}}', '{"good|0": {"x": 1}}']
)
def test_a_damaged_list_is_made_anew_from_the_store(
    rest: str, tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """As a disk that was full, or a machine that lost its power, leaves it."""
    study = plan(tmp_path, {"good": "well"}, seeds=1)
    ledger = carried_out(study, store)
    wanted, done = ledger.entries()["good|0"], diary(tmp_path)
    ledger.path.write_text(rest)
    with pytest.raises(TrackingError, match=r"cells\.json is damaged .*with status=true, makes it anew from the store"):
        load_study(store, ledger.study_id)
    assert carried_out(study, store).complete and diary(tmp_path) == done, "what is finished was run again"
    assert "cells.json is damaged" in caplog.text
    assert read_cells(ledger.path)["good|0"] == replace(wanted, seconds=0.0)
    (ledger.folder / "study.json").write_text('{"name"')
    with pytest.raises(TrackingError, match=r"study\.json is damaged .* writes it anew"):
        load_study(store, ledger.study_id)


def test_what_starts_from_a_source_that_failed_fails_by_name(tmp_path: Path, store: Store) -> None:
    failed = carried_out(adapted(tmp_path, source="refused"), store, LauncherConfig(slots=3)).failed
    assert len(failed) == 3 and failed["tuned|0"] == "no finished run of this config id"


@pytest.mark.slow
def test_finished_ones_are_skipped_killed_ones_go_on_and_failed_ones_are_named(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"good": "well", "dies": "killed", "bad": "error", "wrong": "refused"})
    ledger = carried_out(study, store)
    found = {name: entry.status for name, entry in ledger.entries().items()}
    assert found == {
        "good|0": "finished", "good|1": "finished", "dies|0": "finished", "dies|1": "finished",
        "bad|0": "failed", "bad|1": "failed", "wrong|0": "failed", "wrong|1": "failed",
    }  # fmt: skip
    assert ledger.failed["bad|0"] == "ValueError: the network gives NaN"
    assert ledger.failed["wrong|1"].startswith("train.batch_size=5000 is more than")
    assert "ValueError: the network gives NaN" in ledger.log_path(study.cells[4]).read_text()
    assert not ledger.complete
    parent = store.client.get_run(ledger.parent_run_id)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["glidexp.error"] == "4 of 8 runs failed: bad|0, bad|1, wrong|0, wrong|1"
    assert parent.data.tags["glidexp.study_id"] == study_id(study)
    assert {file.path for file in store.client.list_artifacts(ledger.parent_run_id)} == {"study.json", "cells.json"}
    before = diary(tmp_path)
    dies = {cell.key for cell in study.cells if cell.arm == "dies"}
    assert {key: before[f"begun {key}"] for key in dies} == dict.fromkeys(dies, 2)
    runs = store.client.search_runs([store.experiment_id("glidexp")])
    assert len(runs) == 7, "a run that went on was begun a second time"
    child = store.find_run(study.cells[0].key, "glidexp")
    assert child is not None
    assert child.tags["mlflow.parentRunId"] == ledger.parent_run_id
    assert (child.tags["glidexp.study"], child.tags["glidexp.arm"]) == ("stub", "good")

    again = carried_out(study, store)
    assert diary(tmp_path) == before, "a finished or failed run was begun once more"
    assert again.parent_run_id == ledger.parent_run_id
    assert again.failed == ledger.failed

    (tmp_path / "mended").touch()
    only = carried_out(study, store, retry_failed=True, only="bad*")
    assert set(only.failed) == {"wrong|0", "wrong|1"}
    assert only.entries()["bad|1"].status is Status.finished
    assert only.entries()["bad|1"].score == random.Random(study.cells[5].key).random()


def test_another_study_takes_what_is_finished(tmp_path: Path, store: Store) -> None:
    first = carried_out(plan(tmp_path, {"a": "well"}), store)
    second = carried_out(plan(tmp_path, {"a": "well", "b": "well"}), store)
    assert second.complete and second.study_id != first.study_id
    assert second.parent_run_id != first.parent_run_id
    assert diary(tmp_path)[f"begun {first.plan.cells[0].key}"] == 1
    shared = store.find_run(first.plan.cells[0].key, "glidexp")
    assert shared is not None and shared.tags["mlflow.parentRunId"] == first.parent_run_id
    assert second.entries()["a|0"].train == shared.run_id


def test_who_is_killed_again_and_again_is_given_up(tmp_path: Path, store: Store) -> None:
    ledger = carried_out(plan(tmp_path, {"never": "always killed"}, seeds=1), store, LauncherConfig(attempts=2))
    assert ledger.failed == {
        "never|0": "killed 2 times, by SIGKILL at last: too little memory? launcher.attempts=2"
    }  # fmt: skip
    assert sum(diary(tmp_path).values()) == 2


def test_memory_and_time_are_limited(tmp_path: Path, store: Store) -> None:
    cfg = LauncherConfig(slots=2, memory_gb=0.3)
    ledger = carried_out(plan(tmp_path, {"greedy": "greedy", "modest": "well"}, seeds=1), store, cfg)
    assert list(ledger.failed) == ["greedy|0"]
    assert ledger.failed["greedy|0"].endswith("GB of memory, launcher.memory_gb=0.3 allows no more")
    cfg = LauncherConfig(time_limit_min=0.001)
    ledger = carried_out(plan(tmp_path, {"hangs": "hangs"}, seeds=1), store, cfg)
    assert ledger.failed == {"hangs|0": "was at work for launcher.time_limit_min=0.001 minutes"}


def test_the_fork_server_of_a_build_is_not_the_one_of_runs() -> None:
    """A process has one, which keeps the modules that it began with: runs would import all of theirs, each anew."""
    running: Any = forkserver._forkserver
    assert sorted(workers.mapped(len, ["a", "bb"], workers=2)) == [1, 2]
    assert running._forkserver_pid is not None
    launchers_local.LocalLauncher(LauncherConfig(slots=1), cells=1)
    assert running._forkserver_pid is None and running._preload_modules == ["study_stub"]


def test_only_takes_arms_and_cells(tmp_path: Path) -> None:
    study = plan(tmp_path, {"resnet18": "well", "resnet34": "well", "mit_b0": "well"})
    assert [cell.name for cell in chosen(study, "resnet*")] == ["resnet18|0", "resnet34|0", "resnet18|1", "resnet34|1"]
    assert [cell.name for cell in chosen(study, "mit_b0|1")] == ["mit_b0|1"]
    with pytest.raises(ConfigError, match=r"only=vgg names no run: .*resnet18, resnet34, mit_b0"):
        chosen(study, "vgg")


@pytest.mark.slow
def test_a_signal_goes_to_the_runs_and_the_same_command_goes_on(
    tmp_path: Path, store: Store, sweep: Callable[..., "subprocess.Popen[str]"]
) -> None:
    study = plan(tmp_path, {"hangs": "hangs"})
    process = sweep(study)
    wait_for(2, tmp_path)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert "SIGTERM: the runs save and end" in out
    entries = status(study, store)
    assert {entry.status for entry in entries.values()} == {Status.killed}
    parent = store.find_run(study_id(study), "glidexp", tag="glidexp.study_id")
    assert parent is not None and parent.status == "KILLED"
    (tmp_path / "go").touch()
    assert carried_out(study, store).complete
    assert finished_runs(store) == {**{cell.key: 1 for cell in study.cells}, "parent": 1}


def test_a_run_that_a_signal_meets_as_its_process_begins_has_not_failed(
    tmp_path: Path, store: Store, sweep: Callable[..., "subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends such a process with exit code 1, as an error would; the same command begins the run."""
    study = plan(tmp_path, {"early": "well"})
    monkeypatch.setenv(study_stub.SLOW, str(tmp_path))
    process = sweep(study)
    wait_for(2, tmp_path, "beginning")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert "SIGINT: the runs save and end" in out and "failed" not in out
    assert {entry.status for entry in status(study, store).values()} == {Status.killed}
    monkeypatch.delenv(study_stub.SLOW)
    assert carried_out(study, store).complete


@pytest.mark.slow
def test_another_study_marks_what_a_killed_sweep_left(
    tmp_path: Path, store: Store, sweep: Callable[..., "subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while its sweep, one of its runs or a scheduler's job is at work."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study, other = plan(tmp_path, {"hangs": "hangs"}), plan(tmp_path, {"a": "well"}, seeds=1)

    def parent() -> str:
        found = store.find_run(study_id(study), "glidexp", tag="glidexp.study_id")
        assert found is not None
        return found.status

    def told() -> list[str]:
        return [finding.what for finding in tracking(tmp_path) if finding.level is Level.warn]

    process = sweep(study)
    wait_for(2, tmp_path)
    assert carried_out(other, store).complete and parent() == "RUNNING" and not told(), "its sweep is at work"
    process.kill()
    process.wait()
    ledger = Ledger(study, store, "glidexp")
    while any(ledger.at_work(cell) for cell in study.cells):  # its runs end when they see that it is gone
        time.sleep(0.05)
    with held(tmp_path, study.cells[1].key) as mine:
        assert mine and carried_out(other, store).complete and parent() == "RUNNING", "a run is at work"
    ledger.update(study.cells[0], status=Status.running, job="slurm:7_0")
    assert carried_out(other, store).complete and parent() == "RUNNING" and not told(), "a scheduler has a job of it"
    ledger.update(study.cells[0], job="")
    (warned,) = told()
    assert f"study stub ({study_id(study)}) is RUNNING in the store" in warned and parent() == "RUNNING"
    assert carried_out(other, store).complete and parent() == "KILLED" and not told()
    found = store.find_run(study_id(study), "glidexp", tag="glidexp.study_id")
    assert found is not None and found.tags["glidexp.error"].startswith("its sweep was killed")
    (tmp_path / "go").touch()
    assert carried_out(study, store).complete and parent() == "FINISHED"


@pytest.mark.slow
def test_cancel_ends_a_sweep_elsewhere(
    tmp_path: Path, store: Store, sweep: Callable[..., "subprocess.Popen[str]"]
) -> None:
    study = plan(tmp_path, {"hangs": "hangs"})
    assert cancel(study, store, LauncherConfig(), experiment="glidexp") == 0
    process = sweep(study)
    wait_for(2, tmp_path)
    assert cancel(study, store, LauncherConfig(), experiment="glidexp") == 2
    out, _ = process.communicate()
    assert process.returncode == 1
    assert "RunFailed: study stub was cancelled" in out
    assert {entry.status for entry in status(study, store).values()} == {Status.killed}


@pytest.mark.slow
def test_two_sweeps_share_the_work(tmp_path: Path, store: Store, sweep: Callable[..., "subprocess.Popen[str]"]) -> None:
    study = plan(tmp_path, {f"arm{number}": "hangs" for number in range(5)})
    both = [sweep(study, slots=1), sweep(study, slots=1)]
    wait_for(2, tmp_path)  # each has one place: both are at work
    (tmp_path / "go").touch()
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert diary(tmp_path) == Counter(f"{what} {cell.key}" for what in ("begun", "finished") for cell in study.cells)
    assert finished_runs(store) == {**{cell.key: 1 for cell in study.cells}, "parent": 1}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_200_runs_through_kills_and_failures(
    tmp_path: Path, store: Store, sweep: Callable[..., "subprocess.Popen[str]"]
) -> None:
    """10 % of the runs are killed, 5 % fail, and the sweep is killed twice: in the end all is there, once."""
    ends = ["killed at first", "killed", "killed at last", "killed"] * 5 + ["error", "refused"] * 5 + ["well"] * 170
    random.Random(4).shuffle(ends)
    study = plan(tmp_path, {f"arm{n:02}": ",".join(ends[5 * n : 5 * n + 5]) for n in range(40)}, seeds=5)
    assert len({cell.key for cell in study.cells}) == 200
    for lines in (60, 130):
        process = sweep(study)
        wait_for(lines, tmp_path)
        process.kill()
        process.wait()
    process = sweep(study)
    out, _ = process.communicate()
    assert process.returncode == 1, out
    cells = json.loads((tmp_path / "studies" / study_id(study) / "cells.json").read_text())
    bad = {cell.name: cell.words[2] for cell in study.cells if cell.words[2] in ("end=error", "end=refused")}
    assert {name for name, line in cells.items() if line["status"] == "failed"} == set(bad)
    for name, how in bad.items():
        assert cells[name]["error"].startswith("ValueError" if how == "end=error" else "train.batch_size=5000"), name
    well = [cell for cell in study.cells if cell.name not in bad]
    assert {line["status"] for name, line in cells.items() if name not in bad} == {"finished"}
    assert finished_runs(store) == {cell.key: 1 for cell in well}, "a run was finished twice, or is lost"
    for cell in well:
        assert cells[cell.name]["score"] == random.Random(key_of(cell.words)).random()
    assert not [line for line in diary(tmp_path) if line.startswith("twice")], "two processes had one run"
    parent = store.find_run(study_id(study), "glidexp", tag="glidexp.study_id")
    assert parent is not None and parent.status == "FAILED"
    assert parent.tags["glidexp.error"].startswith("10 of 200 runs failed: arm")


def test_a_killed_run_that_had_no_time_to_note_its_end_is_found_finished(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"last": "killed at last"}, seeds=1)
    assert carried_out(study, store).complete
    assert diary(tmp_path) == {f"begun {study.cells[0].key}": 1}


def test_the_store_knows_better_than_the_list(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"a": "well"}, seeds=1)
    ledger = carried_out(study, store)
    store.client.delete_run(ledger.entries()["a|0"].train)
    assert status(study, store)["a|0"].status is Status.killed
    assert carried_out(study, store).complete
    assert diary(tmp_path)[f"finished {study.cells[0].key}"] == 2


def test_a_second_signal_does_not_wait(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = plan(tmp_path, {"a": "well"}, seeds=1)

    def twice(self: Sweep) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return False

    monkeypatch.setattr(Sweep, "_stop_asked", twice)
    with pytest.raises(Interrupted):
        carried_out(study, store)
    parent = store.find_run(study_id(study), "glidexp", tag="glidexp.study_id")
    assert parent is not None and parent.status == "KILLED"


def test_a_cancelled_study_says_so(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sweep, "_cancel_asked", lambda self: True)
    with pytest.raises(RunFailed, match="study stub was cancelled: the same command goes on"):
        carried_out(plan(tmp_path, {"a": "well"}, seeds=1), store)


def test_cells_json_holds_what_others_read(tmp_path: Path, store: Store) -> None:
    study = plan(tmp_path, {"a": "well"}, seeds=1)
    ledger = carried_out(study, store)
    line = json.loads((tmp_path / "studies" / ledger.study_id / "cells.json").read_text())["a|0"]
    found = store.find_run(study.cells[0].key, "glidexp")
    assert found is not None
    assert (line["train"], line["scored"], line["status"]) == (found.run_id, None, "finished")
    assert Plan.from_json((ledger.folder / "study.json").read_text()) == study
    assert Ledger(study, store, "glidexp").entries() == ledger.entries()
    assert study.primary == study_stub.SCORE
