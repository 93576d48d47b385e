"""Data of a study is made once for each recipe, before its runs."""

from pathlib import Path
from typing import Any

import pytest
from runs import words

from glidexp import door
from glidexp.study.execution import provide
from glidexp.study.execution.cells import Cell


def test_data_is_made_once_for_each_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int, Path]] = []
    composed: list[str] = []

    def record(dataset: Any, tile_px: int, folder: Path, **_: Any) -> None:
        made.append((dataset.name, tile_px, folder))

    real = {name: getattr(door, name) for name in ("compose", "compose_evaluation")}
    for name in real:
        monkeypatch.setattr(door, name, lambda given, name=name: composed.append(name) or real[name](given))
    monkeypatch.setattr(provide, "prepare", record)
    base = words(tmp_path, tmp_path / "mlruns")
    arms = {"plain": [], "dice": ["loss=dice"], "large": ["tile_size.px=128"], "buffer": ["dataset.buffer_m=500"]}
    elsewhere = ("dataset=synthetic", "tile_size.px=64", "eval.split=test", f"paths.data={tmp_path}")
    grounds = {"buffer": ("dataset.buffer_m=0", "eval.split=test"), "large": elsewhere}
    cells = [
        Cell(arm, seed, (*base, *more, f"seed={seed}"), f"{arm}{seed}", grounds.get(arm))
        for arm, more in arms.items()
        for seed in (0, 1, 2)
    ]
    assert provide.prepare_data(cells) == len(made) == 4
    assert sorted(made, key=str) == [
        ("smoke", 128, tmp_path),
        ("smoke", 64, tmp_path),
        ("smoke", 64, tmp_path),
        ("synthetic", 64, tmp_path),
    ]
    assert sorted(composed) == ["compose"] * 3 + ["compose_evaluation"], "seeds and losses make no other data"
