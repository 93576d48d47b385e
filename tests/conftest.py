"""One thread, no telemetry, and the place of the real imagery."""

import ctypes
import fcntl
import functools
import gc
import logging
import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("MLFLOW_TRACKING_URI", None)  # tests keep their runs to themselves
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles all that it imports: see Makefile

import pytest
import torch
import warm
from runs import drawn, undrawn

from glidexp.cli import SELDOM

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    gc.disable()  # until all is imported, of which nothing goes
    warm.begin()  # workers inherit it
    multiprocessing.set_executable(warm.python())


@pytest.fixture(scope="module")
def plain_figures() -> Iterator[None]:
    """For a whole file of tests that looks at no drawing: see `runs.undrawn`."""
    with undrawn():
        yield


@pytest.fixture
def real_figures() -> Iterator[None]:
    """For one test of such a file that looks at drawings, or draws what may be hard to draw."""
    with drawn():
        yield


def shared(factory: pytest.TempPathFactory) -> Path:
    """Folder of all processes that test."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def copied_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A new store's database is a copy of one that is made once: MLflow's 67 migrations take seconds of each test.

    This process only; those that tests start make theirs.
    """
    from glidexp.tracking import store

    real, template = store.make_database, shared(tmp_path_factory) / "empty" / "mlflow.db"

    def copied(database: Path, mlruns: Path) -> None:
        with (template.parent.parent / "empty.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                real(template, template.parent)
        if not database.parent.is_dir():
            real(database, mlruns)
            return
        aside = database.with_name(f"{database.name}.{os.getpid()}.new")
        shutil.copyfile(template, aside)
        with closing(sqlite3.connect(aside)) as connection, connection:
            place = f"{(mlruns / 'artifacts').as_uri()}/0"
            connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", [place])
        os.replace(aside, database)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(store, "make_database", copied)
        yield


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Hydra takes 0.2 s to compose the same words again; what `load` makes of them is new each time."""
    from glidexp import door

    real = door._composed
    kept = functools.cache(lambda overrides, name: real(list(overrides), name))
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(door, "_composed", lambda overrides, name: kept(tuple(overrides), name))
        yield


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """A door gives the log a handler on the stderr of its test, which is closed after it; so does one that a fixture of
    the module has gone through before, whose stderr is not that of the test."""
    _forget_handlers()
    yield
    _forget_handlers()


def _forget_handlers() -> None:
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


def pytest_collection_finish() -> None:
    """What all tests import is looked through no more for what nobody holds: each time took up to a second.

    What they make is looked through as seldom as in a process of glidexp's own.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(*SELDOM)


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

    folder = shared(tmp_path_factory) / "default-data"
    prepare(DatasetConfig(), TileSizeConfig().px, folder, progress=False)  # behind a lock: one makes it, others wait
    return folder


@pytest.fixture
def cheap_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """First weights that repeat every 65,536 numbers: drawing 150 million of them takes longer than a step."""
    block = 1 << 16

    def cheap(real: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def draw(self: torch.Tensor, *bounds: float, **more: Any) -> torch.Tensor:
            if self.numel() <= block or not self.is_contiguous():
                return real(self, *bounds, **more)
            flat = self.view(-1)
            drawn = real(flat[:block].clone(), *bounds, **more)
            whole = self.numel() // block * block
            flat[:whole].view(-1, block).copy_(drawn)
            flat[whole:].copy_(drawn[: len(flat) - whole])
            return self

        return draw

    for name in ("uniform_", "normal_", "erfinv_"):  # erfinv_ of what uniform_ drew is a truncated normal
        monkeypatch.setattr(torch.Tensor, name, cheap(getattr(torch.Tensor, name)))


@pytest.fixture(scope="module")
def kept_memory() -> Iterator[None]:
    """What is freed is used again, and not given back and zeroed anew by the system: half the time of a large step."""
    mmaps, trim = -4, -1  # of malloc.h; where there is no glibc nothing happens
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    mallopt(mmaps, 0)
    mallopt(trim, 2**31 - 1)
    yield
    mallopt(mmaps, 65536)
    mallopt(trim, 128 * 1024)
    getattr(ctypes.CDLL(None), "malloc_trim", lambda *_: 0)(0)
