"""One thread, no telemetry, and the place of the real imagery."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # tests keep their runs to themselves

import pytest
import torch

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """A door gives the log a handler on the stderr of its test, which is closed after it."""
    yield
    log = logging.getLogger("glidexp")
    log.handlers.clear()
    log.propagate = True  # else pytest gives the log handlers of its own, and a door finds it has some already


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real scenes (GLIDEXP_REAL_DATA, default ../shared/data); skips where it is absent."""
    folder = Path(os.environ.get("GLIDEXP_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real imagery at {folder}: set GLIDEXP_REAL_DATA")
    return folder


def longest_s(item: pytest.Item) -> float:
    """What a test may take at most, where its own mark says so, seconds; else 0."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark else 0.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest first, so that no core waits for one at the end; gpu tests are left out, and said, without a GPU."""
    items.sort(key=lambda item: -longest_s(item))
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a prepared store of 64 px tiles, as `tests/runs.py` asks for it."""
    from runs import small_config

    from glidexp.data.prepare import prepare

    folder = tmp_path_factory.mktemp("data")
    config = small_config(folder, folder / "unused")
    prepare(config.dataset, config.tile_size.px, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def default_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`paths.data` with the default scenes and their store, made once for all processes that test."""
    from glidexp.config import DatasetConfig, TileSizeConfig
    from glidexp.data.prepare import prepare

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "default-data"
    prepare(DatasetConfig(), TileSizeConfig().px, folder, progress=False)  # behind a lock: one makes it, others wait
    return folder
