"""A checkpoint is whole or it is not used."""

import os
from pathlib import Path

import pytest
import torch

from glidexp.training import checkpoint


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "run" / "last.pt"
    state = {"weights": {"w": torch.arange(6.0).reshape(2, 3)}, "epoch": 3, "best": 0.5, "rng": torch.get_rng_state()}
    checkpoint.save(file, state)
    loaded = checkpoint.load(file)
    assert loaded is not None
    assert torch.equal(loaded["weights"]["w"], state["weights"]["w"])
    assert torch.equal(loaded["rng"], state["rng"])
    assert (loaded["epoch"], loaded["best"]) == (3, 0.5)


def test_a_flipped_byte_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(file, {"epoch": 1})
    checkpoint.save(file, {"epoch": 2})
    newest = tmp_path / "last.000002.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    with caplog.at_level("WARNING", logger="glidexp"):
        assert checkpoint.load(file) == {"epoch": 1}
    assert "last.000002.pt is damaged" in caplog.text


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_save_cut_off_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(file, {"epoch": 1})

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, broken, cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(file, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(file) == {"epoch": 1}
    checkpoint.save(file, {"epoch": 3})
    assert checkpoint.load(file) == {"epoch": 3}


def test_two_are_kept(tmp_path: Path) -> None:
    for epoch in range(12):
        checkpoint.save(tmp_path / "last.pt", {"epoch": epoch})
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["last.000011.pt", "last.000012.pt"]
    assert len(list(tmp_path.iterdir())) == 4


def test_nothing_there(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "last.pt") is None


def test_clear_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    checkpoint.save(file, {"epoch": 1})
    checkpoint.save(file, {"epoch": 2})
    checkpoint.clear(file)
    assert list(tmp_path.iterdir()) == []
