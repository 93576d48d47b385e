"""Folders that cannot be written and tables that are no text are told in one sentence, before work is lost."""

import errno
from pathlib import Path

import pytest

from glidexp import door
from glidexp.config import DatasetConfig, DatasetKind
from glidexp.data.prepare import declared_sensors, locked
from glidexp.data.scenes.catalogue import find
from glidexp.errors import ConfigError, DataError, GlidexpError, TrackingError
from glidexp.study import verb_store
from glidexp.tracking.store import LOCK, open_store, store_at


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("no folder")
    return path


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_store_in_a_place_that_is_no_folder(a_file: Path, tmp_path: Path, below: str) -> None:
    with pytest.raises(TrackingError, match=r"nothing can be written to paths\.mlruns="):
        open_store(f"sqlite:///{tmp_path}/other/mlflow.db", a_file / below)


def test_a_database_in_a_place_that_is_no_folder(a_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="cannot be made"):
        open_store(f"sqlite:///{a_file}/mlflow.db", tmp_path / "mlruns")


def test_an_address_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="foo://bar cannot be used as tracking store"):
        open_store("foo://bar", tmp_path / "mlruns")


def test_a_mistyped_store_is_not_made_by_a_verb_that_reads(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"there is no tracking store .*typo/mlflow\.db: correct --mlruns="):
        store_at(str(tmp_path / "typo"), None)
    assert not list(tmp_path.iterdir())


def test_a_store_that_may_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's, or a mounted archive: its lock cannot be made, and nothing is changed."""
    made = open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    run = made.client.create_run(made.experiment_id("x")).info.run_id
    (tmp_path / LOCK).unlink()
    plain = Path.touch

    def refused(path: Path, *args: object, **words: object) -> None:
        if path.name == LOCK:
            raise OSError(errno.EROFS, "Read-only file system")
        plain(path)

    monkeypatch.setattr(Path, "touch", refused)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = store_at(str(tmp_path), None, read=True).found(run)
    assert found is not None and found.run_id == run
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(TrackingError, match=r"nothing can be written to paths\.mlruns=\S+ \(Read-only file system\)"):
        store_at(str(tmp_path), None)


def test_data_in_a_place_that_is_no_folder(a_file: Path) -> None:
    with pytest.raises(DataError, match=r"paths\.data"), locked(a_file / "stores" / "0"):
        pytest.fail("locked")


def test_a_failure_inside_the_lock_keeps_its_words(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), locked(tmp_path / "stores" / "0"):
        raise OSError("disk full")


@pytest.mark.parametrize("content", [b"tile,sensor,path\n1,\xff\xfe,a.tif\n", b"tile,sensor,path\n"])
def test_tables_without_text_or_rows(tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(content)
    for settings in ({"kind": DatasetKind.folder, "manifest": str(table)}, {"kind": DatasetKind.scenes}):
        with pytest.raises(DataError, match=r"table\.csv (cannot be read as a table in UTF-8|has no rows)"):
            declared_sensors(DatasetConfig(root=str(table), **settings))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"table\.csv"):
        find(table, "unknown")


@pytest.mark.parametrize("typed", ["train.precision=fp32,foo", "resume=auto,foo"])
def test_one_wrong_value_of_a_sweep_is_named(typed: str, tmp_path: Path) -> None:
    key = typed.partition("=")[0]
    with pytest.raises(GlidexpError, match=rf"{key}=foo is not possible\. Allowed: auto") as told:
        door.run_hydra(lambda _: pytest.fail("started"), ["-m", typed, f"paths.mlruns={tmp_path}"])
    assert isinstance(told.value, ConfigError)


@pytest.mark.parametrize("below", ["", "deeper"])
def test_an_export_into_a_place_that_is_no_folder(a_file: Path, monkeypatch: pytest.MonkeyPatch, below: str) -> None:
    monkeypatch.setattr("glidexp.tracking.store.store_at", lambda *place, **how: None)
    with pytest.raises(ConfigError, match=r"--out=.*cannot be written to"):
        verb_store.run(["export", "0123", "--out", str(a_file / below)])
