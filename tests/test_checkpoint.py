"""A checkpoint is whole and of this run, or it is not used; and no disk ends a training."""

import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glidexp.signals import Interrupted
from glidexp.training.checkpoint import FORMAT, Series


def series(folder: Path, config_id: str = "a1") -> Series:
    return Series(folder / "last.pt", config_id=config_id)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    ours = series(tmp_path / "new" / "run")
    state = {"weights": {"w": torch.arange(6.0).reshape(2, 3)}, "epoch": 3, "best": 0.5, "rng": torch.get_rng_state()}
    assert ours.save(state)
    loaded = series(tmp_path / "new" / "run").load()
    assert loaded is not None
    assert torch.equal(loaded["weights"]["w"], state["weights"]["w"])
    assert torch.equal(loaded["rng"], state["rng"])
    assert (loaded["epoch"], loaded["best"]) == (3, 0.5)


def test_the_file_is_plain_torch_and_its_hash_is_what_sha256sum_writes(tmp_path: Path) -> None:
    series(tmp_path).save({"epoch": 1})
    assert torch.load(tmp_path / "last.000001.pt", weights_only=True) == {
        "format": FORMAT,
        "config_id": "a1",
        "state": {"epoch": 1},
    }
    assert os.system(f"cd {tmp_path} && sha256sum --status -c last.000001.pt.sha256") == 0


def test_a_flipped_byte_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = series(tmp_path)
    ours.save({"epoch": 1})
    ours.save({"epoch": 2})
    newest = tmp_path / "last.000002.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    again = series(tmp_path)
    with caplog.at_level("WARNING", logger="glidexp"):
        assert again.load() == {"epoch": 1}
    assert "last.000002.pt is damaged" in caplog.text
    again.save({"epoch": 3})  # the whole one before stays until there are two whole ones
    assert [file.name for file in again.files()] == ["last.000001.pt", "last.000003.pt"]
    assert again.load() == {"epoch": 3}


def test_a_foreign_one_is_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series(tmp_path, "a1").save({"epoch": 1})
    series(tmp_path, "b2").save({"epoch": 9})
    with caplog.at_level("WARNING", logger="glidexp"):
        assert series(tmp_path, "a1").load() == {"epoch": 1}
    assert "last.000002.pt belongs to another run (config id b2, this one has a1)" in caplog.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": {}}, "has format unknown"),
        ({"format": 1, "config_id": "a1", "state": {}}, "has format 1, this version reads 2"),
        ([1, 2], "has format unknown"),
        (Path("/"), "cannot be read"),  # not among what weights_only takes
    ],
)
def test_another_format_is_named_and_skipped(
    tmp_path: Path, content: Any, says: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = series(tmp_path)
    ours.save({"epoch": 1})
    monkeypatch.setattr("torch.save", lambda _, file, real=torch.save: real(content, file))
    ours.save({"epoch": 2})
    with caplog.at_level("WARNING", logger="glidexp"):
        assert series(tmp_path).load() == {"epoch": 1}
    assert says in caplog.text


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_save_cut_off_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    ours = series(tmp_path)
    ours.save({"epoch": 1})

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, broken, cut_off)
    with pytest.raises(KeyboardInterrupt):
        ours.save({"epoch": 2})
    monkeypatch.undo()
    assert series(tmp_path).load() == {"epoch": 1}
    ours.save({"epoch": 3})
    assert ours.load() == {"epoch": 3}


def test_file_hash_and_folder_are_flushed_before_the_old_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = series(tmp_path)
    ours.save({"epoch": 1})
    ours.save({"epoch": 2})
    done: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    monkeypatch.setattr(os, "replace", lambda *files, real=os.replace: (done.append("rename"), real(*files)))
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: done.append(f"remove {self.name}"))
    ours.save({"epoch": 3})
    aside = f".last.000003.pt.{os.getpid()}"
    order = [aside, "last.000003.pt.sha256", "rename", f"remove {aside}", tmp_path.name, "remove last.000001.pt"]
    assert done[:6] == order


def test_two_are_kept(tmp_path: Path) -> None:
    ours = series(tmp_path)
    for epoch in range(12):
        ours.save({"epoch": epoch})
    assert [path.name for path in ours.files()] == ["last.000011.pt", "last.000012.pt"]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def small_files() -> Iterator[None]:
    """The kernel refuses to write beyond 64 KiB into any file of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_the_kernel_does_not_take_warns_once_and_leaves_the_one_before(
    tmp_path: Path, small_files: None, caplog: pytest.LogCaptureFixture
) -> None:
    ours = series(tmp_path)
    large = {"weights": torch.zeros(100_000)}
    with caplog.at_level("WARNING", logger="glidexp"):
        assert ours.save({"epoch": 1})
        assert not ours.save(large)
        assert not ours.save(large)
        assert ours.failed
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"no checkpoint could be saved in {tmp_path}"
    ]
    assert "File too large" in caplog.text
    assert names(tmp_path) == ["last.000001.pt", "last.000001.pt.sha256"]
    assert series(tmp_path).load() == {"epoch": 1}
    caplog.clear()
    with caplog.at_level("WARNING", logger="glidexp"):
        assert ours.save({"epoch": 2})
    assert "saved again" in caplog.text


def test_a_full_disk_is_told_by_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """torch turns the error of a full disk into a RuntimeError about positions; /dev/full is a disk that is full."""
    ours = series(tmp_path)
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": real(Path("/dev/full") if mode == "wb" else self, mode, buffering=0)
    )
    with caplog.at_level("WARNING", logger="glidexp"):
        assert not ours.save({"weights": torch.zeros(100_000)})
    assert "(No space left on device): training goes on" in caplog.text
    assert "\n" not in caplog.records[0].message


def test_a_signal_that_ends_a_save_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch turns it into the same RuntimeError about positions, and the run would be one that failed."""
    ours = series(tmp_path)
    ours.save({"epoch": 1})
    real = Path.open

    class Struck(io.BytesIO):
        struck = False

        def write(self, data: Any) -> int:
            if len(data) > 1000 and not self.struck:
                self.struck = True
                raise Interrupted(15)
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda self, mode="r": Struck() if mode == "wb" else real(self, mode))
    with pytest.raises(Interrupted):
        ours.save({"weights": torch.zeros(100_000)})
    monkeypatch.undo()
    assert ours.load() == {"epoch": 1}, "the one before is there"


def test_a_place_that_cannot_be_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level("WARNING", logger="glidexp"):
        assert not series(tmp_path / "file" / "run").save({"epoch": 1})
    assert "Not a directory" in caplog.text


def test_an_error_that_is_not_the_disks_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr("torch.save", broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        series(tmp_path).save({"epoch": 1})


def test_nothing_there(tmp_path: Path) -> None:
    assert series(tmp_path).load() is None
    assert series(tmp_path / "absent").load() is None
    series(tmp_path / "absent").clear()


def test_what_interrupted_saves_left_is_swept(tmp_path: Path) -> None:
    ours = series(tmp_path)
    ours.save({"epoch": 1})
    (tmp_path / ".last.000002.pt.4711").write_text("half")
    (tmp_path / "last.000002.pt.sha256").write_text("of a file that never came")
    ours.sweep()
    assert names(tmp_path) == ["last.000001.pt", "last.000001.pt.sha256"]


def test_clear_leaves_nothing_but_what_is_somebody_elses(tmp_path: Path) -> None:
    ours = series(tmp_path / "run")
    ours.save({"epoch": 1})
    ours.save({"epoch": 2})
    (tmp_path / "run" / "notes.txt").write_text("mine")
    for left in (
        ".4711.checkpoint.json",
        ".4711-0a1b2c3d.checkpoint.parquet",
    ):  # of a process that was killed as it began
        (tmp_path / "run" / left).write_text("half")
    ours.clear()
    assert names(tmp_path / "run") == ["notes.txt"]
    (tmp_path / "run" / "notes.txt").unlink()
    ours.clear()
    assert names(tmp_path) == []
