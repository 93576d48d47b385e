"""The final scoring: what is kept of a network's answer."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from glidexp.errors import RunFailed
from glidexp.scoring.predictions import Predictions
from glidexp.training import final


def test_predictions_lie_in_a_file_without_a_name(tmp_path: Path) -> None:
    room = final._room((3, 4, 5), tmp_path / "new")
    assert isinstance(room, np.memmap) and room.shape == (3, 4, 5) and not list((tmp_path / "new").iterdir())
    room[2, 3, 4] = 7
    assert np.asarray(room).sum() == 7


def test_a_full_disk_is_told_before_the_network_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(RunFailed, match=r"no room for 2 MB of predictions in .*No space left"):
        final._room((2, 1000, 1000), tmp_path)


def test_a_place_is_a_row_of_the_store_and_the_mask_is_the_bins_from_the_threshold_up() -> None:
    tiles = SimpleNamespace(
        index=pd.DataFrame({"tile": ["a", "b", "c"], "split": ["train", "val", "val"]}),
        images=np.arange(3, dtype=np.uint8).repeat(4).reshape(3, 1, 4, 1),
        labels=np.array([[[0, 1, 255, 0]]] * 3, dtype=np.uint8),
    )
    bins = np.array([[[0, 127, 128, 255]], [[1, 2, 3, 4]]], dtype=np.uint8)
    found = Predictions("test", tiles, np.array([2, 0]), np.zeros((2, 2, 256), np.int32), bins, 0.5)  # type: ignore[arg-type]
    assert len(found) == 2 and found.index.to_dict("list") == {"tile": ["c", "a"], "split": ["test", "test"]}
    assert found.image(0).max() == 2 and found.label(1).tolist() == [[0, 1, 255, 0]]
    assert found.lake(0).tolist() == [[False, False, True, True]]
    assert (found.probability(0) >= 0.5).tolist() == found.lake(0).tolist()
