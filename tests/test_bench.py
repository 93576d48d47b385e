"""The bench of a whole training: it runs with the loop as it is, and counts FLOPs, time and memory right."""

import importlib
import io
import json
import mmap
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from glidexp.models.hardware import best_precision

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture
def effort(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("effort")


def test_flops_of_two_convolutions(effort: Any) -> None:
    """By hand: two for each multiply-add; backward once more for the weights and once for what is not the image."""
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 1, 1))
    first, second = 2 * (16 * 16 * 8) * (3 * 4 * 4), 2 * (16 * 16) * 8
    assert effort.flops(model, (4, 3, 64, 64)) == (first + second, 2 * first + 3 * second)
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}
    assert all(weight.grad is None for weight in model.parameters())


def test_share_of_the_limit_counts_val_and_pairs_repeats(effort: Any) -> None:
    work = effort.Work(images=10, val=5, forward=2.0, both=6.0)  # 70 FLOPs an epoch
    line = effort.effort_line("one", work, [1.0, 2.0, 5.0], [140.0, 70.0, 28.0], 12.34, 0.98765)
    assert line == {
        "name": "one",
        "n": 3,
        "images_per_s": 5.0,
        "peak_memory_mb": 12.3,
        "utilisation": 0.988,
        "flops_per_image": 6.0,
        "flop_limit_ratio": 0.5,
    }
    unknown = effort.effort_line("two", work, [1.0], [None], None, None)
    assert [unknown[key] for key in ("peak_memory_mb", "utilisation", "flop_limit_ratio")] == [None] * 3


def test_imports_are_shared_out_to_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCH)
    timer = """import time: self [us] | cumulative | imported package
import time:    100000 |     100000 |     torch._C
import time:     20000 |      20000 | json
a line of the run
import time:    900000 |    1000000 |   torch
"""
    assert importlib.import_module("startup_phases").by_package(timer) == {"torch": 1.0, "json": 0.02}


def test_kernels_that_overlap_count_once(effort: Any) -> None:
    assert effort.covered([(5.0, 6.0), (0.0, 2.0), (1.0, 1.5), (1.0, 3.0), (3.0, 4.0)]) == 5.0


def test_memory_that_was_given_back_still_counts(effort: Any) -> None:
    def work() -> None:
        with mmap.mmap(-1, 64_000_000) as pages:  # an allocator may give what was resident before
            for start in range(0, len(pages), mmap.PAGESIZE):
                pages[start] = 1

    grown = effort.grown_mb(work)
    if grown is None:
        pytest.skip("/proc/self/clear_refs cannot be written here")
    assert 60 < grown < 80


@pytest.mark.gpu
def test_gpu_memory_of_one_side_leaves_out_what_others_hold(effort: Any) -> None:
    device, kept = torch.device("cuda"), []
    one, other = effort.GpuMemory(device), effort.GpuMemory(device)

    def work(held_mb: int) -> tuple[float, float]:
        kept.append(torch.ones(held_mb * 1_000_000, dtype=torch.uint8, device=device))
        return 0.0, 0.0

    one.turn(lambda: work(50))
    other.turn(lambda: work(20))
    one.turn(lambda: work(10))
    assert one.peak_mb == pytest.approx(60, abs=3)
    assert other.peak_mb == pytest.approx(20, abs=3)
    busy = effort.kernel_seconds(lambda: [kept[0].float().sort() for _ in range(3)])
    assert busy is not None and busy > 0


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.timeout(600)])])
def test_it_runs_and_prints_what_is_promised(device: str, effort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it is compiled, in short numbers, and only the clock on the wall means something."""
    step = importlib.import_module("train_step")
    out, alone = io.StringIO(), 12.5
    monkeypatch.setattr(step, "OUT", out)
    monkeypatch.setattr(step, "alone_in_process", lambda *_: alone)  # loads all libraries anew: ten seconds a side
    monkeypatch.setattr(effort, "MATMUL_SECONDS", 0.0)
    monkeypatch.setattr(effort, "MATMUL_SIDE", {"cpu": 256})
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which it diverts
    precision = "fp32" if device == "cpu" else best_precision(torch.device(device))
    words = f"train_step.py --device {device} --sizes 64 --networks tiny --repeats 1 --batch 4 --images 8"
    monkeypatch.setattr(sys, "argv", [*words.split(), "--precision", str(precision)])
    step.main()
    lines = {line["name"]: line for line in map(json.loads, out.getvalue().splitlines())}
    which = f"train/tiny_64px_batch4_{precision}_{device}_threads1"
    for clock in ("wall", "cpu"):
        both = lines[f"{which}_{clock}"]
        ratios = {"ratio_peer", "ratio_limit", "ratio_limit_sum"}
        assert {"unit", "n", "ours", "peer", "limit", "spread"} | ratios < set(both)
        for side in ("ours", "limit"):
            assert (f"{which}_{clock}/{side}" in lines) is (device == "cpu" or clock == "wall")
    for name, line in lines.items():
        if "flops_per_image" not in line:
            continue
        assert line["images_per_s"] == lines[name.rpartition("/")[0]][name.rpartition("/")[2]] > 0
        assert line["flops_per_image"] == 405_504  # two convolutions, as above
        if device == "cpu":
            assert line["peak_memory_mb"] == alone
            assert line["flop_limit_ratio"] > 0 and line["utilisation"] > 0
        else:  # so small a network keeps no GPU busy, and some show no profiler their kernels
            assert 0 < line["peak_memory_mb"] < 2000
            assert (line["flop_limit_ratio"] is None) is (precision == "fp32")
            assert line["utilisation"] is None or 0 <= line["utilisation"] <= 1


def test_scoring_is_measured(effort: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    scoring = importlib.import_module("scoring")
    words = "scoring.py --sizes 64 --tiles 4 --batch 2 --repeats 1"
    monkeypatch.setattr(sys, "argv", words.split())
    scoring.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"].rsplit("_", 1)[1] for line in lines] == ["wall", "cpu"]
    assert all(line["ours"] > 0 and line["limit"] > 0 for line in lines)
