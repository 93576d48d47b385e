"""`glidexp doctor`: looks at the machine, the folders and the programs a run needs, and says what to do.

Every check gives findings. What a check raises is a finding too: a machine on which torch does not load is just what
this is for, so torch and mlflow are loaded inside the checks.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from glidexp.config import Compile, Precision, TrainConfig
from glidexp.errors import GlidexpError
from glidexp.training.doctor.folders import GB, Finding, Level, disks, spools, tile_stores, tracking

if TYPE_CHECKING:
    import torch

LITTLE_MEMORY_GB = 4.0
SHOWN = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "kornia", "mlflow", "hydra-core")


def examine(data: Path, mlruns: Path, *, device: str, self_test: bool, say: Callable[[str], None] = print) -> int:
    """Goes through every check and says each finding as it comes.

    Args:
        data: folder of tile stores (`paths.data`)
        mlruns: folder of the tracking store (`paths.mlruns`)
        device: as `train.device`
        self_test: train a small network for some steps, at most 20 s
        say: told each line

    Returns:
        exit code: 0, or 1 when something fails
    """
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("versions", versions),
        ("device", lambda: devices(device)),
        ("memory", memory),
        ("disk", lambda: disks(data, mlruns)),
        ("tile stores", lambda: tile_stores(data)),
        ("tracking", lambda: tracking(mlruns)),
        ("spool", lambda: spools(mlruns)),
        ("weights", published_weights),
    ]
    if self_test:
        checks.append(("self test", lambda: trial(device)))
    found: list[Finding] = []
    for name, check in checks:
        for finding in _guarded(name, check):
            found.append(finding)
            say(f"{finding.level:<4}  {finding.what}")
            if finding.do:
                say(f"      do: {finding.do}")
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
    say("")
    if counts[Level.fail]:
        say(f"{counts[Level.fail]} of {len(found)} checks failed: a run would not work before that is put right.")
    else:
        warned = counts[Level.warn]
        told = f"{warned} warning{'s' if warned > 1 else ''}, no failure" if warned else "everything is well"
        say(f"{len(found)} checks: {told}.")
    return 1 if counts[Level.fail] else 0


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Findings of a check; an error is one of them."""
    try:
        return list(check())
    except GlidexpError as error:
        return [Finding(Level.fail, f"{name}: {' '.join(str(error).split())}")]
    except Exception as error:  # noqa: BLE001 - whatever a broken machine raises is what is looked for
        text = " ".join(str(error).split()) or "no message"
        return [Finding(Level.fail, f"{name}: {type(error).__name__}: {text[:300]}", "make setup builds it anew")]


def versions() -> Iterable[Finding]:
    """Python and every package that is asked for, against the bounds in pyproject.toml."""
    from packaging.requirements import Requirement

    python = ".".join(str(part) for part in sys.version_info[:3])
    try:
        wanted = [Requirement(line) for line in requires("glidexp") or []]
    except PackageNotFoundError:
        yield Finding(
            Level.warn, f"Python {python}; glidexp is not installed as a package", "make setup, or pip install -e ."
        )
        return
    shown, wrong = [], []
    for one in wanted:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(one.name)
        except PackageNotFoundError:
            wrong.append(f"{one.name} is missing ({one.specifier or 'any version'} is needed)")
            continue
        if one.name in SHOWN:
            shown.append(f"{one.name} {found}")
        if not one.specifier.contains(found, prereleases=True):
            wrong.append(f"{one.name} {found} is not {one.specifier}")
    yield Finding(Level.ok, f"Python {python}, glidexp {version('glidexp')}, {', '.join(shown)}")
    for text in wrong:
        yield Finding(Level.fail, text, "make setup, or pip install -e . in this environment")


def devices(name: str) -> Iterable[Finding]:
    """Device, precision and compiler as `auto` resolves them."""
    import torch

    from glidexp.training.device import resolve, resolved_here

    hidden = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
    if not torch.cuda.is_available() and hidden:
        yield Finding(
            Level.warn,
            f"there is an NVIDIA driver, but torch {torch.__version__} sees no CUDA device",
            "a torch built for the CPU, a driver older than torch wants, or CUDA_VISIBLE_DEVICES: compare nvidia-smi "
            "with python -c 'import torch; print(torch.version.cuda)'",
        )
    threads = torch.get_num_threads()
    runtime = resolve(TrainConfig(device=name, compile=Compile.off))
    torch.set_num_threads(threads)
    if runtime.device.type == "cuda":
        for number in range(torch.cuda.device_count()):
            yield _gpu(number)
    else:
        yield Finding(Level.ok, f"device: {runtime.device.type}, {runtime.threads} threads")
        load = os.getloadavg()[0]
        if load > runtime.threads + 0.5:
            yield Finding(
                Level.warn,
                f"the machine is at a load of {load:.1f}, and a run would take {runtime.threads} threads",
                "train.threads=N shares the cores out; threads that wait for each other cost more than they give",
            )
    native = runtime.precision is not Precision.fp32
    yield Finding(
        Level.ok,
        f"precision: auto is {runtime.precision}" + ("" if native else ", as nothing shorter is native here"),
    )
    yield _compiler(runtime.device, resolved_here(TrainConfig(device=name))["train.compile"] == "on")


def _gpu(number: int) -> Finding:
    import torch

    from glidexp.models.hardware import runs_on

    major, minor = torch.cuda.get_device_capability(number)
    built_for = torch.cuda.get_arch_list()
    if torch.version.cuda and not runs_on((major, minor), built_for):
        return Finding(
            Level.warn,
            f"device: cuda:{number}, {torch.cuda.get_device_name(number)}, capability {major}.{minor}: torch "
            f"{torch.__version__} has kernels for {', '.join(built_for)} alone",
            "train.device names another GPU or cpu; a torch built for older CUDA knows older GPUs",
        )
    free, total = torch.cuda.mem_get_info(number)
    what = (
        f"device: cuda:{number}, {torch.cuda.get_device_name(number)}, capability {major}.{minor}, "
        f"{free / GB:.1f} of {total / GB:.1f} GB free"
    )
    if free < total / 2:
        return Finding(
            Level.warn, what, "nvidia-smi shows who holds the rest; train.device=cuda:N takes another, a smaller "
            "train.batch_size less"
        )  # fmt: skip
    return Finding(Level.ok, what)


def _compiler(device: "torch.device", compiles: bool) -> Finding:
    from glidexp.models.hardware import compiler_lack

    if not compiles:
        why = "it gains nothing without a CUDA device" if device.type != "cuda" else "the compiler takes no GPU as old"
        return Finding(Level.ok, f"compile: {Compile.auto} is off ({why})")
    lack, _, remedy = compiler_lack(device).partition(": ")
    if lack:
        return Finding(Level.warn, f"compile: auto is off, as {lack}", f"{remedy}: training gets faster")
    return Finding(Level.ok, "compile: auto is on")


def memory() -> Iterable[Finding]:
    """Main memory that is left."""
    free, total = psutil.virtual_memory().available / GB, psutil.virtual_memory().total / GB
    what = f"memory: {free:.1f} of {total:.1f} GB free"
    if free < LITTLE_MEMORY_GB:
        yield Finding(Level.warn, what, "close other programs, or take smaller tiles and train.batch_size")
    else:
        yield Finding(Level.ok, what)


def published_weights() -> Iterable[Finding]:
    """Which ImageNet encoders are cached, and whether the others could be had. Nothing is downloaded."""
    from glidexp.models.catalog import BACKBONES
    from glidexp.models.init import hub_silence, imagenet_cached

    cached = [name for name in BACKBONES if imagenet_cached(name)]
    have = f"ImageNet weights: cached for {', '.join(cached) if cached else 'no backbone'}"
    silence = hub_silence()
    if not silence:
        yield Finding(Level.ok, f"{have}; the hub answers, so that init=imagenet can fetch the others")
    else:
        yield Finding(
            Level.warn,
            f"{have}; the hub does not answer ({silence})",
            "init=scratch needs none; else copy the hub's cache folder from a machine with network (HF_HOME moves it)",
        )


def trial(device: str) -> Iterable[Finding]:
    """A small network on generated tiles: it must learn, and its checkpoint must come back."""
    from glidexp.training.doctor.selftest import self_test

    found = self_test(device)
    if found.whole:
        yield Finding(Level.ok, f"self test: {found.told}")
    else:
        way = "see what else this machine does, and whether --device names the one that is meant"
        yield Finding(Level.warn, f"self test: {found.told}", f"{way}: a run would be as slow")
