"""`train.batch_size=auto`: the largest that fits, found by trials; it names the run, which keeps it."""

import mmap
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from runs import small_config, words
from standin import CUDA, TOTAL, standin
from test_loop import config as train_config
from test_loop import network

from glidexp.config import Resident, TrainConfig
from glidexp.data import host_memory
from glidexp.data.prepare import prepare, recipe_id
from glidexp.data.resident import free_bytes
from glidexp.errors import ConfigError
from glidexp.identity import config_id
from glidexp.models.hardware import is_short_of_memory
from glidexp.signals import Interrupted
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training import run as training_run
from glidexp.training.beginning import batch_size
from glidexp.training.beginning.batch_size import Choice, Peak, estimated, largest, settle, training_step, tried
from glidexp.training.beginning.earlier import AutoBatch
from glidexp.training.device import Runtime, resolve
from glidexp.training.parts import Parts, build_parts
from glidexp.training.processes.ranks import Ranks
from glidexp.training.run import run

MB = 1 << 20
CPU = torch.device("cpu")
STORE: Any = SimpleNamespace(images=np.zeros((2, 64, 64, 3), np.uint8), labels=np.zeros((2, 64, 64), np.uint8))
"""whose tiles take 16 kB each"""
pytestmark = pytest.mark.usefixtures("plain_figures")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 13, 100, 170, 511, 5000])
def test_the_largest_that_fits_to_an_eighth(limit: int) -> None:
    asked: list[int] = []

    def fits(count: int) -> bool:
        asked.append(count)
        return count <= limit

    found = largest(fits, 1, 512)
    assert found <= limit
    assert found >= min(limit, 512) * 8 / 9
    assert len(asked) <= 13
    assert max(asked) <= 2 * limit


def test_where_not_even_the_smallest_fits() -> None:
    assert largest(lambda count: False, 2, 512) == 0
    assert largest(lambda count: True, 2, 2) == 2


def parts() -> Parts:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Parts(model, optimizer, scaler, CPU)


class Machine:
    """Steps on a machine whose memory takes so many tiles; half way through a failing step something is half made."""

    def __init__(self, parts: Parts, limit: int) -> None:
        self.parts, self.limit = parts, limit
        self.steps: list[int] = []

    def __call__(self, count: int) -> None:
        self.steps.append(count)
        self.parts.model(torch.zeros(1, 3, 8, 8)).sum().backward()
        if count > self.limit:
            first = next(self.parts.model.parameters())
            self.parts.optimizer.state[first] = {"step": torch.zeros(())}  # no exp_avg yet
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.parts.optimizer.step()
        self.parts.optimizer.zero_grad(set_to_none=True)


def test_tries_go_on_after_the_memory_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = parts()
    machine = Machine(whole, 50)
    choice = tried(machine, whole, 2, 1024, kept_back=3 * MB)
    assert choice.tiles == 48
    assert machine.steps == [2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 48, 48, 56, 52]
    assert "52 did not fit into" in choice.why
    assert all(weight.grad is None for weight in whole.model.parameters())
    assert tried(Machine(whole, 1), whole, 2, 1024, kept_back=0).tiles == 0
    with pytest.raises(RuntimeError, match="size mismatch"):  # what is no lack of memory is not hidden
        tried(bad, whole, 2, 8, kept_back=0)


def bad(count: int) -> None:
    raise RuntimeError("size mismatch")


@pytest.mark.parametrize(
    ("told", "short"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("Expected canUse32BitIndexMath(input) to be true, but got false.", True),
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_what_is_a_lack_of_memory(told: str, short: bool) -> None:
    assert is_short_of_memory(RuntimeError(told)) is short


def fresh(size: int) -> mmap.mmap:
    """Resident pages that the process did not have before.

    What an allocator gives may be what an earlier test freed, and then no more memory is resident than before.
    """
    pages = mmap.mmap(-1, size)
    for start in range(0, size, mmap.PAGESIZE):
        pages[start] = 1
    return pages


def test_on_a_cpu_it_follows_from_what_tiles_take() -> None:
    """40 MB for a step and 48 MB a tile, which may fill half of what is free."""
    fixed: list[mmap.mmap] = []
    taken: list[int] = []

    def step(count: int) -> None:
        taken.append(count)
        if not fixed:
            fixed.append(fresh(40 * MB))
        held = fresh(48 * MB * count)
        time.sleep(0.3)  # a real step is no quicker, and on a busy machine the thread that looks waits for its turn
        held.close()

    choice = estimated(lambda: step, 1, 1000, free=2400 * MB)
    assert taken == [1, 1, 4]
    assert choice.tiles == pytest.approx((1200 - 40) / 48, rel=0.1)
    assert re.search(
        r"^memory takes about 2\d: 0\.05\d GB a tile by trial steps, 2\.5 GB free, half of it used$", choice.why
    )
    assert estimated(lambda: step, 2, 6, free=2400 * MB).tiles == 6
    assert estimated(lambda: step, 2, 6, free=0).tiles == 2
    fixed[0].close()


def test_a_peak_is_seen_after_it_is_over() -> None:
    with Peak() as before:
        pass
    with Peak() as during:
        held = fresh(200 * MB)
        time.sleep(0.3)
        held.close()
    assert during.rss - before.rss > 150 * MB


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_limits_what_is_free(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the job around this process; pages of files that can be given up count as free."""
    root = tmp_path / ("memory" if version == 1 else "")
    job, step = root / "job_7", root / "job_7" / "step_0"
    step.mkdir(parents=True)
    limit, used = host_memory.FILES[2 - version]
    (step / limit).write_text("max\n" if version == 2 else f"{2**63 - 4096}\n")
    (step / used).write_text("1000\n")
    (job / limit).write_text(f"{100 * MB}\n")
    (job / used).write_text(f"{70 * MB}\n")
    name = "inactive_file" if version == 2 else "total_inactive_file"
    (job / "memory.stat").write_text(f"anon 5\n{name} {10 * MB}\n")
    own = tmp_path / "own"
    own.write_text("3:cpuset:/elsewhere\n4:memory:/job_7/step_0\n" if version == 1 else "0::/job_7/step_0\n")
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(host_memory, "OWN_CGROUPS", own)
    assert host_memory.free_host_bytes() == 40 * MB
    monkeypatch.setattr(host_memory, "OWN_CGROUPS", tmp_path / "none")
    assert host_memory.free_host_bytes() > 100 * MB


@pytest.mark.parametrize("value", ["aut0", "8.5", "0", "-4", "Auto"])
def test_no_other_word(value: str, tmp_path: Path) -> None:
    from glidexp import cli, door

    with pytest.raises(ConfigError, match=r"^train\.batch_size=\S+ is not possible.*") as told:
        door.run_hydra(cli.train_one, words(tmp_path, tmp_path, f"train.batch_size={value}"))
    assert "\n" not in str(told.value)


def test_the_number_is_needed_before_anything_is_built() -> None:
    assert TrainConfig(batch_size="auto").auto_batch and not TrainConfig().auto_batch
    with pytest.raises(ValueError, match="auto"):
        _ = TrainConfig(batch_size="auto").batch_tiles
    assert train_config(batch_size=6).batch_tiles == 6


@pytest.mark.parametrize(
    ("count", "room", "said"),
    [
        (
            1000,
            200,
            "32 a batch, of tiles of 64 px, on cpu, 1 threads (the most that is tried on a CPU: more tiles a step",
        ),
        (100, 200, "12 a batch, of tiles of 64 px, on cpu, 1 threads (more would leave an epoch fewer than 8 steps"),
        (1000, 5, "5 a batch, of tiles of 64 px, on cpu, 1 threads (memory takes about 5; "),
    ],
)
def test_it_says_what_bounded_it(
    count: int, room: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caplog.set_level("INFO", logger="glidexp")
    why = f"memory takes about {room}"
    monkeypatch.setattr(batch_size, "training_rows", lambda *_: (range(count), None))
    monkeypatch.setattr(batch_size, "estimated", lambda build, least, most, free: Choice(min(room, most), why))
    auto, store = small_config(tmp_path, tmp_path, "train.batch_size=auto"), cast(Any, None)
    settle(auto, resolve(auto.train), store, lambda _: pytest.fail("built"))
    assert f"train.batch_size=auto: {said}" in caplog.text and why in caplog.text


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the machine takes, to be changed; each measurement pops one."""
    answers = [4, 3]
    monkeypatch.setattr(batch_size, "estimated", lambda build, *_: (build()(2), Choice(answers.pop(0), "so it is"))[1])
    return answers


@pytest.mark.slow
def test_the_number_names_the_run_and_the_run_keeps_the_number(
    small_data: Path, tmp_path: Path, stand_in: list[int], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Interrupted, gone on with although the memory would now give another number, and shown when finished."""
    caplog.set_level("INFO", logger="glidexp")
    auto = small_config(small_data, tmp_path, "train.batch_size=auto", "train.epochs=1", "tracking=light")

    def stopped(*_: Any, **__: Any) -> None:
        raise Interrupted(15)

    fit = training_run.fit
    monkeypatch.setattr(training_run, "fit", stopped)
    with pytest.raises(Interrupted):
        run(auto, choices={})
    monkeypatch.setattr(training_run, "fit", fit)
    assert "train.batch_size=auto: 4 a batch, of tiles of 64 px, on cpu, 1 threads (so it is; " in caplog.text
    outcome = run(auto, choices={})
    assert stand_in == [3], "measured again"
    client = open_store(tracking_uri(auto.tracking, auto.paths), tmp_path).client
    (found,) = client.search_runs([client.get_experiment_by_name("glidexp").experiment_id])
    assert (found.info.run_id, found.info.status) == (outcome.run_id, "FINISHED")
    assert found.data.params["train.batch_size"] == "4"
    given = replace(auto, train=replace(auto.train, batch_size=4))
    recipe = recipe_id(given.dataset, given.tile_size.px)
    named = config_id(given, recipe=recipe, resolved=resolve(given.train).resolved())
    assert found.data.tags["glidexp.config_id"] == named, "the id does not name the number"
    caplog.clear()
    assert run(auto, choices={}).run_id == outcome.run_id
    assert f"4 a batch, as in run {outcome.run_id}" in caplog.text


def test_tiles_grow_in_the_steps_that_are_tried_as_they_grow_in_training(small_data: Path, tmp_path: Path) -> None:
    """As the coarsest, of which a batch may be made; and for a plan's time as they are mixed."""
    config = small_config(small_data, tmp_path, "input.gsd_m=10", "train.batch_size=auto")
    tiles = prepare(config.dataset, config.tile_size.px, small_data, progress=False)
    assert set(tiles.index["gsd_m"]) == {30.0}
    table = tiles.index.assign(gsd_m=np.where(np.arange(len(tiles)) % 2, 30.0, 10.0))
    tiles = replace(tiles, index=table)
    runtime = resolve(config.train)
    made = build_parts(config, runtime, tiles)
    seen: list[tuple[int, int]] = []
    made.model.get_submodule("encoder").register_forward_pre_hook(
        lambda _, given: seen.append((len(given[0]), given[0].shape[-1]))
    )
    training_step(config, runtime, tiles, made)(6)
    assert seen == [(6, 192)]
    seen.clear()
    training_step(config, runtime, tiles, made, mixed=True)(6)
    assert {side for _, side in seen} == {64, 192} and sum(count for count, _ in seen) == 6


def test_another_machine_finds_its_own_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so do other settings, and more processes: it is another key under which the number is kept."""
    auto = small_config(tmp_path, tmp_path, "train.batch_size=auto")
    here = resolve(auto.train)
    keys = [AutoBatch(auto, runtime, "r", {}).key for runtime in (here, here, replace(here, ranks=Ranks(0, 2)))]
    keys.append(AutoBatch(replace(auto, seed=1), here, "r", {}).key)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=10**12))
    keys.append(AutoBatch(auto, here, "r", {}).key)
    assert keys[0] == keys[1] and len(set(keys)) == 4
    assert config_id(auto, recipe="r") != config_id(replace(auto, train=train_config(batch_size=4)), recipe="r")


def test_of_a_gpu_shared_by_processes_a_share_is_free_and_a_share_of_that_kept_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A twentieth of what the driver calls free was more than the process may have at all: no batch fitted."""
    with standin():
        monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda _: 0.03125)
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 6 * MB)
        left = TOTAL // 32 - 6 * MB
        assert free_bytes(CUDA) == left < 0.05 * TOTAL
        runtime: Any = SimpleNamespace(device=CUDA, ranks=Ranks())
        kept = batch_size._kept_back(TrainConfig(resident=Resident.off), runtime, STORE, (100,), parts())
        assert kept == int(0.05 * left)
        room = batch_size._kept_back(TrainConfig(), runtime, STORE, (10_000,), parts())
        assert room == kept, "tiles for which the process has no room are not to stay on the card"
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: TOTAL)
        assert free_bytes(CUDA) == 0


@pytest.mark.gpu
def test_on_a_gpu_the_memory_is_filled_and_given_back() -> None:
    device = torch.device("cuda")
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    whole = replace(parts(), device=device)
    whole.model.to(device)
    tile = free // 100

    def step(count: int) -> None:
        torch.empty(count * tile, dtype=torch.uint8, device=device)

    choice = tried(step, whole, 1, 1024, kept_back=free // 4)
    assert 60 <= choice.tiles <= 75
    assert torch.cuda.mem_get_info(device)[0] > 0.95 * free


@pytest.fixture
def small_gpu() -> Iterator[int]:
    """A GPU of which this process may take 1.5 GB; the bytes of it that are left."""
    device, cap = torch.device("cuda", torch.cuda.current_device()), 1536 * MB
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(cap / torch.cuda.get_device_properties(device).total_memory, device)
    yield cap - torch.cuda.memory_reserved(device)
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_on_a_gpu_the_batch_fits_and_twice_as_many_do_not(
    small_gpu: int, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Whole steps of the network that the run would train, on a card that 1.5 GB make full."""
    caplog.set_level("INFO", logger="glidexp")
    monkeypatch.setattr(batch_size, "_most", lambda *_: (batch_size.MOST_ON_A_GPU, "as many as are tried"))
    own = ["train.batch_size=auto", "train.resident=off", "train.compile=off"]
    config = small_config(small_data, tmp_path, *own)
    tiles = prepare(config.dataset, config.tile_size.px, small_data, progress=False)
    runtime = resolve(config.train)

    def build(single: Runtime) -> Parts:
        return build_parts(config, single, tiles)

    found = settle(config, runtime, tiles, build).train.batch_tiles
    told = re.search(r"auto: (\d+) a batch, .* \((\d+) did not fit into", caplog.text)
    assert told and int(told[1]) == found < int(told[2]) <= 2 * found, caplog.text
    assert torch.cuda.memory_reserved() < small_gpu / 4, "trials are not given back"
    step = training_step(config, runtime, tiles, build(runtime))
    for _ in range(3):
        step(found)
    with pytest.raises(RuntimeError) as full:
        step(2 * found)
    assert is_short_of_memory(full.value)


@pytest.mark.gpu
@pytest.mark.slow
def test_on_a_gpu_a_run_finds_its_batch(small_data: Path, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO", logger="glidexp")
    words_ = ["train.batch_size=auto", "train.epochs=1", "tracking=light", "train.precision=auto"]
    config = small_config(small_data, tmp_path, *words_)
    assert run(config, choices={}).metrics
    assert "train.batch_size=auto: 8 a batch" in caplog.text  # as many as keep the steps of so few tiles
