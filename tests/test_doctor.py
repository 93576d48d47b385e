"""`glidexp doctor`: each kind of damage is found and named with a way out, and only failures set the exit code."""

import shutil
import sqlite3
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import small_config

from glidexp import cli
from glidexp.data.prepare import prepare
from glidexp.tracking.resume import checkpoint_folder
from glidexp.tracking.run import Run
from glidexp.tracking.spool import Spool
from glidexp.tracking.store import open_store
from glidexp.training.doctor import checks, selftest
from glidexp.training.doctor.checks import examine
from glidexp.training.doctor.folders import Finding, Level, spools, tracking

Usage = namedtuple("Usage", "total used free")


def levels(findings: list[Finding]) -> list[str]:
    return [str(finding.level) for finding in findings]


def test_an_empty_place_is_well_and_left_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glidexp.models.init._probe", lambda _: None)
    said: list[str] = []
    code = examine(tmp_path / "data", tmp_path / "mlruns", device="cpu", self_test=False, say=said.append)
    assert code == 0
    assert not list(tmp_path.iterdir())
    text = "\n".join(said)
    for part in ("torch ", "device: cpu", "precision: auto is", "compile: auto is off", "GB free", "ImageNet weights"):
        assert part in text
    assert "fail" not in text.replace("no failure", "")


def test_tile_stores(small_data: Path, tmp_path: Path) -> None:
    asked = small_config(small_data, tmp_path)
    store = prepare(asked.dataset, asked.tile_size.px, small_data, progress=False).path
    told = list(checks.tile_stores(small_data))  # those of other tests may lie beside it
    assert {*levels(told)} == {"ok"} and sum(store.name in finding.what for finding in told) == 1
    copies = {name: tmp_path / "stores" / name for name in ("pixel", "manifest", "short")}
    for copy in copies.values():
        shutil.copytree(store, copy)
    pixels = bytearray((copies["pixel"] / "images.u8").read_bytes())
    pixels[7] ^= 1
    (copies["pixel"] / "images.u8").write_bytes(pixels)
    (copies["manifest"] / "manifest.json").write_text("{}")
    (copies["short"] / "masks.u8").write_bytes(b"")
    gone = tmp_path / "stores" / ".abc.99999999.partial"
    gone.mkdir()
    found = list(checks.tile_stores(tmp_path))
    assert sorted(levels(found)) == ["fail", "fail", "fail", "warn"]
    assert all(finding.do for finding in found)
    for name in (*copies, gone.name):
        assert any(name in finding.what for finding in found)


def test_a_full_disk_and_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for free, level in ((100e9, "ok"), (5e9, "warn"), (0.5e9, "fail")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(200e9, 0, free))
        assert levels(list(checks.disks(tmp_path, file))) == [level, "fail"]


def test_versions_outside_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2.11", "timm>=99", "no-such-package-at-all>=1", "lightning>=99; extra == 'bench'"]
    monkeypatch.setattr(checks, "requires", lambda _: lines)
    well, *wrong = checks.versions()
    assert well.level is Level.ok and "torch " in well.what
    assert levels(wrong) == ["fail", "fail"]
    assert "timm" in wrong[0].what and ">=99" in wrong[0].what and "no-such-package-at-all" in wrong[1].what


def test_a_driver_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = list(checks.devices("cpu"))
    assert found[0].level is Level.warn and "no CUDA device" in found[0].what


def test_a_store_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sqlite3.connect(tmp_path / "mlflow.db").execute("CREATE TABLE x (y)").connection.close()
    said: list[str] = []
    monkeypatch.setattr(checks, "published_weights", list)
    code = examine(tmp_path / "data", tmp_path, device="cuda:7", self_test=False, say=said.append)
    assert code == 1
    failed = [line for line in said if line.startswith("fail")]
    assert len(failed) == 2
    assert "train.device='cuda:7' is not there" in failed[0]
    assert "is not a database of MLflow" in failed[1]


def test_checkpoints_of_finished_runs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that was killed at its end, which `glidexp sync` sent: nobody gives its command again."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store = open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    for status in ("FINISHED", "KILLED"):
        run = Run.start(store, experiment="e", run_name="r", config_flat={}, config_id=f"id{status}")
        run.finish(status)
        checkpoint_folder(tmp_path, f"id{status}", run.run_id).mkdir(parents=True)
    (tmp_path / "checkpoints" / "of somebody").mkdir()
    first, second = tracking(tmp_path)
    assert first.level is Level.ok and "; 2 unfinished runs have checkpoints" in first.what
    assert second.level is Level.warn and "checkpoints/idFINISHED-" in second.what
    assert "of a run that is finished" in second.what and second.do.startswith("delete the folder")


def test_what_waits_in_spools(tmp_path: Path) -> None:
    """Of runs that are over; a run at work sends its own. Looking changes nothing."""
    assert [finding.level for finding in spools(tmp_path)] == [Level.ok]
    made = {name: Spool.open(tmp_path / "spool" / name, {"uri": "http://gone:5000"}) for name in ("a" * 32, "b" * 32)}
    for spool in made.values():
        sent = spool.append("tags", {"tags": {"n": "1"}})
        spool.append("metrics", {"values": {"x": 1.0}, "step": 1})
        spool.append("end", {"status": "FINISHED", "error": ""})
        spool.done(sent)
    made["a" * 32].close()
    (tmp_path / "spool" / ("a" * 32) / "journal.jsonl").write_bytes(
        (tmp_path / "spool" / ("a" * 32) / "journal.jsonl").read_bytes() + b"0000 torn"
    )
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (finding,) = spools(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert finding.level is Level.warn
    assert "2 entries of 1 run wait in" in finding.what and "(aaaaaaaa)" in finding.what
    assert finding.do.startswith(f"glidexp sync --mlruns {tmp_path} sends them")
    made["b" * 32].close()
    assert "4 entries of 2 runs wait in" in next(iter(spools(tmp_path))).what


@pytest.mark.slow
def test_the_self_test_passes_and_can_fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.level for finding in checks.trial("cpu")] == [Level.ok]
    monkeypatch.setattr(selftest, "lr_schedule", lambda *_: lambda step: 0.0)
    (finding,) = checks._guarded("self test", lambda: checks.trial("cpu"))
    assert finding.level is Level.fail and "the loss went from" in finding.what


@pytest.mark.parametrize(("step_s", "steps"), [(3.0, 7), (50.0, 1), (1.3, 15)])
def test_the_self_test_ends_by_its_budget(step_s: float, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only steps move. The step in which 20 s are over is the last, and nothing is scored after it."""
    now = [1000.0]

    class Slow(torch.nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            now[0] += step_s if self.training else 0.0
            return super().forward(image)

    looked: list[bool] = []
    monkeypatch.setattr(selftest, "build_model", lambda *_, **__: Slow(3, 1, 1))
    monkeypatch.setattr(selftest, "LEARNT", 1.5)
    real = selftest.Evaluator.histograms

    def histograms(*args: Any) -> Any:
        looked.append(True)
        return real(*args)

    monkeypatch.setattr(selftest.Evaluator, "histograms", histograms)
    found = selftest.self_test("cpu", lambda: now[0])
    assert now[0] == pytest.approx(1000.0 + steps * step_s)
    assert (found.whole, bool(looked)) == (steps == 15, steps == 15)
    assert found.told.startswith(f"{steps} of 15 steps in " if steps < 15 else "15 steps in ")
    assert "the checkpoint came back" in found.told and ("was not seen" in found.told) is (steps < 15)


def test_a_slow_machine_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "self_test", lambda _: selftest.Trial("2 of 15 steps", whole=False))
    (finding,) = checks.trial("cpu")
    assert finding.level is Level.warn and finding.what == "self test: 2 of 15 steps" and finding.do


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glidexp.models.init._probe", lambda _: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", "--data", str(tmp_path), "--mlruns", str(tmp_path), "--device", "cpu", "--no-self-test"])
    told = capsys.readouterr().out
    assert stop.value.code == 0
    assert "the hub does not answer (no route)" in told and "init=scratch needs none" in told
