"""Which GPUs are computed on, in what, and what is said where one cannot be."""

import shutil
import sys
import sysconfig
from types import SimpleNamespace

import pytest
import torch

from glidexp.config import Compile, Precision, TrainConfig
from glidexp.errors import ConfigError, RunFailed
from glidexp.models import hardware
from glidexp.models.hardware import best_precision, compiler_lack, compiles, device_of, failures_told, runs_on
from glidexp.training.device import Runtime, resolve
from glidexp.training.doctor import checks
from glidexp.training.processes.ranks import Ranks

CUDA = torch.device("cuda")
BUILT = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU of which all is known but that it is not there."""
    facts = SimpleNamespace(capability=(8, 6), index=None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Card")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: facts.capability)
    monkeypatch.setattr("torch.cuda.get_arch_list", lambda: BUILT)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (8 << 30, 8 << 30))
    monkeypatch.setattr("torch.cuda.set_device", lambda device: setattr(facts, "index", device.index))
    monkeypatch.setattr("torch.version.cuda", "13.2")
    monkeypatch.setattr(hardware, "compiler_lack", lambda _: "")
    return facts


@pytest.mark.parametrize(
    ("capability", "there"),
    [
        ((6, 1), False),
        ((7, 0), False),
        ((7, 5), True),
        ((8, 0), True),
        ((8, 7), True),
        ((8, 9), True),
        ((11, 0), False),
    ],
)
def test_kernels_serve_later_minor_versions_of_their_major_one(capability: tuple[int, int], there: bool) -> None:
    assert runs_on(capability, BUILT) is there
    assert runs_on(capability, [*BUILT, "compute_61"])
    assert runs_on((9, 0), ["sm_90a"])


@pytest.mark.parametrize(
    ("capability", "precision", "compiled"),
    [((6, 1), "fp32", False), ((7, 0), "fp16", True), ((7, 5), "fp16", True), ((8, 6), "bf16", True)],
)
def test_what_auto_is_by_capability(
    card: SimpleNamespace, capability: tuple[int, int], precision: str, compiled: bool
) -> None:
    card.capability = capability
    assert best_precision(CUDA) is Precision(precision)
    assert compiles(CUDA) is compiled and not compiles(torch.device("cpu"))


def test_a_gpu_that_torch_has_no_kernels_for(card: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    """By name it is refused before the first kernel would fail; auto says so and takes the CPU."""
    card.capability = (6, 1)
    with pytest.raises(
        ConfigError, match=r"^train\.device='cuda': Card has capability 6\.1, for which torch .* no kernels"
    ):
        device_of("cuda")
    assert device_of("auto").type == "cpu" and "the CPU is used" in caplog.text
    found = checks._gpu(1)
    assert found.level == "warn" and "6.1" in found.what
    card.capability = (8, 6)
    assert device_of("auto").type == "cuda" and checks._gpu(1).level == "ok"


def test_a_gpu_that_is_named_is_the_one_that_is_waited_for(card: SimpleNamespace) -> None:
    threads = torch.get_num_threads()
    assert resolve(TrainConfig(device="cuda:1", compile=Compile.off, threads=threads)).device.index == 1
    assert card.index == 1


def test_what_compiling_lacks_is_told_before_the_first_step(
    card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "compiler_lack", compiler_lack)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert compiler_lack(torch.device("cpu")) == ""
    for name in ("CPATH", "C_INCLUDE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sysconfig, "get_paths", lambda scheme: {"include": str(tmp_path)})
    assert "python3-dev" in compiler_lack(CUDA)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no C compiler" in compiler_lack(CUDA)
    with pytest.raises(ConfigError, match=r"^train\.compile=on: there is no C compiler: install gcc, or give"):
        resolve(TrainConfig(device="cuda", compile=Compile.on))
    assert not resolve(TrainConfig(device="cuda", threads=torch.get_num_threads())).compile
    assert "train.compile=auto: there is no C compiler: install gcc. Without" in caplog.text
    finding = checks._compiler(CUDA, True)
    assert finding.level == "warn" and finding.do == "install gcc: training gets faster"


def test_memory_and_compiler_speak_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed, match=r"^memory is full: less \(CUDA out of memory\. Tried"), failures_told("less"):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")
    with pytest.raises(ValueError), failures_told("less"):
        raise ValueError("out of memory")
    error = type("TorchDynamoException", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "torch._dynamo.exc", SimpleNamespace(TorchDynamoException=error))
    with pytest.raises(RunFailed, match=r"^the network could not be compiled: train\.compile=off"), failures_told(""):
        raise error("Failed to find C compiler")
    with pytest.raises(RuntimeError, match=r"^other$"), failures_told(""):
        raise RuntimeError("other")


@pytest.mark.parametrize(("device", "size", "together"), [("cuda", 2, True), ("cuda", 1, False), ("cpu", 2, False)])
def test_batch_statistics_are_shared_on_several_gpus(device: str, size: int, together: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    net.to = lambda *_, **__: net  # type: ignore[assignment, method-assign]  # there is no GPU to go to
    runtime = Runtime(torch.device(device), Precision.fp32, compile=False, threads=1, ranks=Ranks(0, size))
    assert isinstance(runtime.place(net)[1], torch.nn.SyncBatchNorm) is together  # type: ignore[index]
