"""A tracking store or a scheduler that is away in the middle of a study: nothing ends for it, nothing is taken for
failed, and who gives up says so in a line."""

import logging
import os
import shutil
import urllib.error
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from study_stub import carried_out, opened, plan, stubbed

from glidexp.cli import guarded
from glidexp.config.launcher import LauncherConfig, LauncherKind, SlurmConfig
from glidexp.errors import DataError, GlidexpError, RunFailed, TrackingError
from glidexp.signals import Signals
from glidexp.study.execution import patience, sweep
from glidexp.study.execution.launchers import local as launchers_local
from glidexp.study.execution.launchers.choice import Job, NotTaken, build_launcher
from glidexp.study.execution.ledger import CANCEL, Ledger, Status
from glidexp.study.execution.work import Order
from glidexp.tracking.store import Store
from glidexp.tracking.writer import store_is_away

AWAY = "API request to http://host/api/2.0/mlflow/experiments/get-by-name failed with exception Connection refused"
REFUSAL = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates policy"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    opened(folder)
    return folder / "mlflow.db"


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(launchers_local, "PRELOADED", "study_stub")
    monkeypatch.setattr(patience, "PAUSE_S", 0.05)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return opened(tmp_path)


class Line:
    """A client of the store whose line is cut once a sweep is at work: for so many calls, or for good."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch, cuts: float) -> None:
        self.cut = False
        self.calls = 0
        ask = client.get_experiment_by_name

        def asked(name: str) -> Any:
            self.calls += self.cut
            if self.cut and self.calls <= cuts:
                raise MlflowException(AWAY)
            return ask(name)

        monkeypatch.setattr(client, "get_experiment_by_name", asked)
        step = sweep.Sweep._step

        def stepped(this: sweep.Sweep, launcher: Any) -> bool:
            self.cut = self.cut or bool(this.attempts)
            return step(this, launcher)

        monkeypatch.setattr(sweep.Sweep, "_step", stepped)


def test_a_store_that_is_away_for_a_while_ends_no_sweep(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended with a traceback, and every run at work with it."""
    line = Line(store.client, monkeypatch, cuts=4)
    with caplog.at_level(logging.INFO, "glidexp"):
        ledger = carried_out(plan(store.mlruns, {"a": "well", "b": "well"}), store, LauncherConfig(slots=1))
    assert line.calls > 4 and ledger.complete, ledger.entries()
    told = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert len(told) == 1 and "Connection refused" in told[0]
    lines = (store.mlruns / "diary").read_text().split()
    assert lines.count("begun") == lines.count("finished") == 4


def test_a_store_that_stays_away_ends_it_in_a_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "AWAY_S", 0.2)
    study = plan(store.mlruns, {"a": "well"}, seeds=2)
    with monkeypatch.context() as patches:
        Line(store.client, patches, cuts=float("inf"))
        with pytest.raises(RunFailed, match=r"store does not answer, for .* minutes now .*the same command goes on"):
            carried_out(study, store, LauncherConfig(slots=1))
    assert carried_out(study, store).complete


def test_a_run_whose_end_waits_in_its_spool_is_begun_once_more_and_no_failure(store: Store) -> None:
    """A server away at the end of a run, and back when the sweep looked: it was called failed with exit code 0."""
    study = plan(store.mlruns, {"a": "unsent"}, seeds=1)
    ledger = carried_out(study, store)
    assert ledger.complete and not ledger.failed
    assert (store.mlruns / "diary").read_text().split().count("begun") == 2


def test_a_run_that_begins_while_the_store_is_away_is_begun_once_more(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The sweep had an answer, the run a second later none: it was noted as failed, and stayed so."""
    study = plan(store.mlruns, {"a": "away at first", "b": "away"}, seeds=1)
    with caplog.at_level(logging.INFO, "glidexp"):
        ledger = carried_out(study, store, LauncherConfig(slots=1, attempts=2))
    assert ledger.entries()["a|0"].status is Status.finished and not ledger.entries()["a|0"].error
    assert "a|0 goes on when the tracking store answers (http://host does not answer: start it.)" in caplog.text
    told = "begun 2 times, and the tracking store did not answer it (launcher.attempts=2): http://host does not answer"
    assert ledger.failed["b|0"].startswith(told)


def test_what_tells_of_a_store_that_is_away() -> None:
    def caused(error: Exception, cause: BaseException) -> Exception:
        error.__cause__ = cause
        return error

    refused, told = ConnectionRefusedError(111, "refused"), TrackingError("does not answer")
    gateway, rights = (urllib.error.HTTPError("http://host", code, "", Message(), None) for code in (502, 404))
    with gateway, rights:
        assert store_is_away(caused(told, urllib.error.URLError(refused))) is False, "without a cause of its own"
        assert store_is_away(caused(told, caused(urllib.error.URLError(refused), refused)))
        assert store_is_away(caused(told, gateway)) and not store_is_away(caused(told, rights))
        assert store_is_away(MlflowException(AWAY)) and store_is_away(caused(told, MlflowException(AWAY)))
        assert not store_is_away(MlflowException("no such run", RESOURCE_DOES_NOT_EXIST))
        assert not store_is_away(caused(DataError("weights cannot be fetched"), refused)), "another host"
        assert not store_is_away(TrackingError("no such run"))


def test_a_store_that_is_away_is_not_one_without_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search took a finished trial for one without scores, for good."""
    assert store.found("0" * 32) is None

    def away(run_id: str) -> None:
        raise MlflowException(AWAY)

    monkeypatch.setattr(store.client, "get_run", away)
    with pytest.raises(MlflowException):
        store.found("0" * 32)


def test_what_the_store_says_at_the_door_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(argv: list[str]) -> int:
        raise MlflowException(AWAY)

    assert guarded(verb, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the tracking store failed: API request" in line


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster whose sbatch takes nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun"):
        (programs / name).write_text(f"#!/bin/sh\nprintf '{REFUSAL}' >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("seeds", [1, 3], ids=["a job", "an array"])
def test_jobs_that_sbatch_refuses_are_told_in_a_line_and_stay_to_be_run(store: Store, seeds: int) -> None:
    """It was a traceback of submitit."""
    study = plan(store.mlruns, {"a": "well"}, seeds=seeds)
    cfg = LauncherConfig(kind=LauncherKind.slurm, slurm=SlurmConfig(gpus=0))
    told = rf"sbatch refused {seeds} jobs? \(QOSMaxSubmitJobPerUserLimit Batch .*policy\): .*launcher.slots"
    with pytest.raises(GlidexpError, match=told):
        carried_out(study, store, cfg)
    entries = Ledger(study, store, "glidexp").entries().values()
    assert {(entry.status, entry.job) for entry in entries} == {(Status.planned, "")}


def test_a_scheduler_that_takes_no_more_for_a_while_is_asked_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit of jobs handed in, or a controller that is begun anew at night."""
    calls = list[int]()

    def built(*given: Any, **more: Any) -> Any:
        launcher = build_launcher(*given, **more)
        start: Callable[[list[Order]], list[Job]] = launcher.start

        def sometimes(orders: list[Order]) -> list[Job]:
            calls.append(len(orders))
            if len(calls) in (2, 3):
                raise NotTaken("sbatch refused 1 job (limit)")
            return start(orders)

        monkeypatch.setattr(launcher, "start", sometimes)
        return launcher

    monkeypatch.setattr(sweep, "build_launcher", built)
    ledger = carried_out(plan(store.mlruns, {"a": "well"}, seeds=2), store, LauncherConfig(slots=1))
    assert ledger.complete and calls == [1, 1, 1, 1]
    assert "the scheduler takes no jobs (sbatch refused 1 job (limit))" in caplog.text


def test_a_request_to_end_does_not_depend_on_clocks(store: Store) -> None:
    """One by a clock that was ahead ended each sweep of the next hour; one by a clock that was behind none."""
    study = plan(store.mlruns, {"a": "well"}, seeds=1)
    ledger = Ledger(study, store, "glidexp")
    ledger.begin()
    (ledger.folder / CANCEL).write_text("99999999999.000\n")
    assert carried_out(study, store).complete
    at_work = sweep.Sweep(ledger, LauncherConfig(), Signals(), stubbed)
    assert not at_work._cancel_asked()
    (ledger.folder / CANCEL).write_text("1.000\n")
    assert at_work._cancel_asked()
