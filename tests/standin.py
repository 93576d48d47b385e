"""A GPU that is not there: tensors live in main memory, say that they are on `cuda:0`, and are held to its rules.

What a CPU machine can show of the code for GPUs without running a kernel. Every call into torch is looked at: tensors
of two devices in one operation are refused as CUDA refuses them, so are `.numpy()` of a tensor on the device and a copy
to the host that nobody waits for. Numbers are the CPU's, so results can be compared. `waits` lists what would make the
host wait for the device.

A storage carries the mark, so views, gradients and parameters made elsewhere have it too. Kernels, memory, speed and
the order in which a real device works are not shown.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
NAME = "Stand-in GPU"
TOTAL = 8 << 30

NO_NUMBER_OF_THE_HOST = {"stack", "cat", "concat", "index_select", "index_copy_", "gather", "scatter_add_", "matmul"}
"""operations that refuse even a CPU tensor without dimensions beside one of the device"""
READS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "is_nonzero"}
READS |= {"nonzero", "argwhere", "masked_select", "unique", "bincount", "equal", "allclose", "repr", "__repr__"}
CROSSING = {"copy_", "to", "type_as", "cpu", "cuda", "_has_compatible_shallow_copy_type", "is_set_to", "_is_alias_of"}
METADATA = {"shape", "dtype", "layout", "requires_grad", "is_leaf", "grad_fn", "names", "ndim", "nbytes", "itemsize"}


def tensors(tree: object) -> list[torch.Tensor]:
    """Those in lists, tuples and dicts within each other."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [found for part in tree for found in tensors(part)] if isinstance(tree, (list, tuple)) else []


def marked(value: object) -> bool:
    """Whether it is a tensor of the stand-in. Not to be asked while the mode is on."""
    return isinstance(value, torch.Tensor) and getattr(value.untyped_storage(), "on_standin", False)


def _mark(tree: object) -> None:
    for leaf in tensors(tree):
        if leaf.device.type == "cpu":
            leaf.untyped_storage().on_standin = True


class StandIn(TorchFunctionMode):
    """The mode under which tensors are looked after."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        if name in ("__get__", "__set__"):
            return self._attribute(func, name, args)
        leaves = tensors(args[:1] if name == "__deepcopy__" else (args, kwargs))  # its memo holds whole networks
        here = [marked(leaf) for leaf in leaves]
        if name == "to" or name == "type_as":
            return self._moved(func, args, kwargs)
        if name in ("get_device", "is_pinned") and leaves:
            return {"get_device": 0 if here[0] else -1, "is_pinned": _pinned(leaves[0])}[name]
        if name == "pin_memory":
            if here[0]:
                raise RuntimeError("cannot pin a tensor of the device: only dense CPU tensors can be pinned")
            kept = leaves[0].clone()
            kept.untyped_storage().pinned = True
            return kept
        if name == "numpy" and here[0]:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        self._agree(name, args, leaves, here)
        self._noted(name, args, kwargs, leaves, here)
        wanted = kwargs.get("device")
        pinned = kwargs.pop("pin_memory", False)
        if wanted is not None and torch.device(wanted).type == "cuda":
            kwargs["device"] = CPU
        found = func(*args, **kwargs)
        onto = torch.device(wanted).type == "cuda" if wanted is not None else any(here)
        if name == "cpu":
            return found.clone() if here[0] else found
        if name in ("tolist", "item", "__deepcopy__") and not isinstance(found, torch.Tensor):
            return found
        if onto and name != "copy_":  # what is written to stays where it is
            _mark(found)
        if pinned:
            found.untyped_storage().pinned = True
        return found

    def _attribute(self, func: Any, name: str, args: Any) -> Any:
        one, which = args[0], getattr(func.__self__, "__name__", "")
        on = marked(one)
        if name == "__set__":
            if which == "grad" and args[1] is not None and marked(args[1]) is not on:
                raise RuntimeError("assigned grad has data located on a different device")
            return func(*args)
        if which == "device":
            return CUDA if on else func(*args)
        if which in ("is_cuda", "is_cpu") and on:
            return which == "is_cuda"
        found = func(*args)
        if on and which not in METADATA:
            _mark(found)
        return found

    def _moved(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """`.to(...)`: a copy where the device changes, on the host otherwise what torch does."""
        one, rest = args[0], list(args[1:])
        on, target = marked(one), None
        for place, value in enumerate(rest):
            if isinstance(value, torch.Tensor):
                target, rest[place] = CUDA if marked(value) else value.device, value
            elif isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda")):
                target = torch.device(value)
                rest[place] = CPU if target.type == "cuda" else target
        if kwargs.get("device") is not None:
            target = torch.device(kwargs["device"])
            kwargs["device"] = CPU if target.type == "cuda" else target
        if isinstance(kwargs.get("other"), torch.Tensor):
            target = CUDA if marked(kwargs["other"]) else kwargs["other"].device
        onto = on if target is None else target.type == "cuda"
        later = kwargs.get("non_blocking") or any(value is True for value in rest[1:2] + rest[2:3])
        if on and target is not None and target.type == "cpu":
            if later:
                raise AssertionError("a copy to the host that nobody waits for: what is read may not be there yet")
            self._wait("to(cpu)")
        if onto and not on and one.numel() > 1 and not (later and _pinned(one)):
            self._wait("to(cuda) of memory that is not pinned, or with waiting")
        found = func(one, *rest, **kwargs)
        if onto is not on and found.device.type == "cpu" and _same(found, one):
            found = found.clone(memory_format=torch.preserve_format)
        if onto:
            _mark(found)
        return found

    def _agree(self, name: str, args: Any, leaves: list[torch.Tensor], here: list[bool]) -> None:
        """What CUDA says where tensors of two devices meet."""
        if all(here) or not any(here) or name in CROSSING:
            return
        strange = [leaf for leaf, on in zip(leaves, here, strict=True) if not on and leaf.device.type != "meta"]
        if name == "__getitem__" and here[0]:
            self._wait("indexing with a tensor of the host")
            return
        if name == "__setitem__" and here[0] and not tensors(args[1]):
            if not (isinstance(args[2], torch.Tensor) and args[2].dim() == 0):
                self._wait("writing a tensor of the host")
            return
        if all(leaf.dim() == 0 for leaf in strange) and name not in NO_NUMBER_OF_THE_HOST:
            return
        if strange:
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")

    def _noted(
        self, name: str, args: Any, kwargs: dict[str, Any], leaves: list[torch.Tensor], here: list[bool]
    ) -> None:
        if any(here) and (name in READS or (name == "where" and len(args) == 1)):
            self._wait(name)
        if any(here) and name in ("__getitem__", "__setitem__") and _boolean(args[1]):
            self._wait(f"{name} with a mask")
        if any(here) and name == "repeat_interleave" and "output_size" not in kwargs and len(leaves) > 1:
            self._wait(name)
        made_there = name in ("tensor", "as_tensor") and torch.device(kwargs.get("device") or "cpu").type == "cuda"
        if made_there and not any(here):
            self._wait(f"torch.{name} onto the device")
        if name == "copy_" and len(here) > 1 and here[0] is not here[1]:
            later = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            if not (later and here[0] and _pinned(leaves[1])):
                self._wait("copy_ between host and device")

    def _wait(self, what: str) -> None:
        frame = sys._getframe()
        while frame is not None and "/glidexp/" not in frame.f_code.co_filename:
            frame = frame.f_back  # type: ignore[assignment]
        at = f" at {frame.f_code.co_filename.rsplit('/glidexp/', 1)[1]}:{frame.f_lineno}" if frame else ""
        self.waits.append(what + at)


def _boolean(index: object) -> bool:
    return any(leaf.dtype in (torch.bool, torch.uint8) for leaf in tensors(index))


def _pinned(tensor: torch.Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "pinned", False)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage() is other.untyped_storage()


class Stream:
    """Work is done at once, in the order in which it is given."""

    def __init__(self, device: object = None, **_: object) -> None:
        self.device = CUDA

    def wait_event(self, event: object) -> None: ...
    def wait_stream(self, stream: object) -> None: ...
    def synchronize(self) -> None: ...
    def is_capturing(self) -> bool:
        return False


class Event:
    def __init__(self, **_: object) -> None: ...
    def record(self, stream: object = None) -> None: ...
    def synchronize(self) -> None: ...
    def wait(self, stream: object = None) -> None: ...
    def query(self) -> bool:
        return True


@contextlib.contextmanager
def standin() -> Iterator[StandIn]:
    """torch with one GPU that is not there."""
    mode = StandIn()
    with pytest.MonkeyPatch.context() as patches, mode:
        _pretend(patches, mode)
        yield mode


def _pretend(patches: pytest.MonkeyPatch, mode: StandIn) -> None:
    """What `torch.cuda` and its neighbours say, and threads that are under the mode too."""
    facts: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (8, 6),
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_86"],
        "mem_get_info": lambda device=None: (TOTAL, TOTAL),
        "get_per_process_memory_fraction": lambda device=None: 1.0,
        "memory_reserved": lambda device=None: 0,
        "get_device_properties": lambda device=None: type("Properties", (), {"total_memory": TOTAL, "name": NAME})(),
        "empty_cache": lambda: None,
        "synchronize": lambda device=None: None,
        "is_current_stream_capturing": lambda: False,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda device=None: Stream(),
        "Stream": Stream,
        "Event": Event,
    }
    for name, value in facts.items():
        patches.setattr(torch.cuda, name, value)
    patches.setattr(torch.accelerator, "current_stream", facts["current_stream"])
    patches.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    autocast, generator = torch.autocast, torch.Generator

    class Autocast(autocast):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    class Generator(generator):  # type: ignore[misc, valid-type]
        def __new__(cls, device: object = "cpu") -> Any:
            return super().__new__(cls)

    patches.setattr(torch, "autocast", Autocast)
    patches.setattr(torch.amp, "autocast", Autocast)
    patches.setattr(torch, "Generator", Generator)
    grouped = torch._C._group_tensors_by_device_and_dtype

    def by_device(lists: Any, with_indices: bool = False) -> Any:
        first = next(iter(tensors(lists)), None)
        with torch._C.DisableTorchFunction():
            found, on = grouped(lists, with_indices), marked(first)
        return {(CUDA if on else device, dtype): value for (device, dtype), value in found.items()}

    patches.setattr(torch._C, "_group_tensors_by_device_and_dtype", by_device)
    run = threading.Thread.run

    def run_under(thread: threading.Thread) -> None:
        with mode:
            run(thread)

    patches.setattr(threading.Thread, "run", run_under)
