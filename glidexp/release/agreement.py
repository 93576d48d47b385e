"""Whether the files of a bundle give one answer: safetensors, torch.export and ONNX on the probe tiles."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.errors import DataError
from glidexp.models.export import load_bundle
from glidexp.models.graph import IMAGE, Sizes, load_program
from glidexp.release.probes import Probe, padded, read_probes
from glidexp.release.report import Check, judged, skipped

ONNX, PROGRAM = "model.onnx", "model.pt2"
CLOSE = 1e-3
"""largest difference of two probabilities, 0-1"""

Floats = npt.NDArray[np.float32]
Answer = Callable[[Floats], Floats]


def weights_agree(folder: Path) -> Check:
    """The safetensors weights, loaded as `load_bundle` does, against what the probes expect."""
    return _compared("safetensors_agrees", "the weights", folder, _by_torch(load_bundle(folder)), Sizes(1, 1, None))


def onnx_agrees(folder: Path) -> Check:
    """The ONNX file in ONNX Runtime, without torch."""
    name = "onnx_agrees"
    if not (folder / ONNX).is_file():
        return judged(name, False, f"{ONNX} is missing.")
    try:
        import onnxruntime
    except ImportError:
        return skipped(name, "onnxruntime is not installed here: pip install onnxruntime.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(folder / ONNX, options, providers=["CPUExecutionProvider"])
        sizes = _sizes(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes it raise is the finding
        return judged(name, False, f"ONNX Runtime does not take {ONNX}: {' '.join(str(error).split())[:200]}.")
    return _compared(name, ONNX, folder, lambda image: session.run(None, {IMAGE: image})[0], sizes)


def program_agrees(folder: Path, sizes: Sizes) -> Check:
    """The program of torch.export.

    Args:
        folder: of the bundle
        sizes: as it was exported, `card_sizes`
    """
    name = "torch_export_agrees"
    if not (folder / PROGRAM).is_file():
        return judged(name, False, f"{PROGRAM} is missing.")
    try:
        module = load_program(folder / PROGRAM)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes it raise is the finding
        return judged(name, False, f"torch.export does not take {PROGRAM}: {' '.join(str(error).split())[:200]}.")
    return _compared(name, PROGRAM, folder, _by_torch(module), sizes)


def _by_torch(module: Callable[[torch.Tensor], torch.Tensor]) -> Answer:
    """The same from array to array."""

    def answer(image: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = module(torch.from_numpy(image)).numpy()
        return found

    return answer


def card_sizes(card: dict[str, Any]) -> Sizes:
    """Which images the graphs of a bundle take, from its card.

    Raises:
        DataError: it does not say
    """
    try:
        graph = card["graph"]
        return Sizes(int(graph["stride"]), int(graph["smallest_px"]), graph["fixed_px"] and int(graph["fixed_px"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the card does not say which sizes the graphs take (graph: {error}).") from None


def _sizes(metadata: dict[str, str]) -> Sizes:
    found = {key: json.loads(metadata[key]) for key in ("stride", "smallest_px", "fixed_px")}
    return Sizes(found["stride"], found["smallest_px"], found["fixed_px"])


def _compared(name: str, what: str, folder: Path, answer: Answer, sizes: Sizes) -> Check:
    worst, worst_at, met, beyond = 0.0, "", [], []
    for probe in read_probes(folder):
        shape = "x".join(map(str, probe.image.shape[-2:]))
        image = padded(probe.image, sizes)
        if image is None:
            beyond.append(shape)
            continue
        met.append(shape)
        off = _difference(probe, answer(image))
        if not off <= worst:  # NaN is worse than anything
            worst, worst_at = off, shape
    if not met:
        return judged(name, False, f"{what} takes none of the probes' sizes.")
    told = f"{what} and PyTorch differ by {worst:.1e} at most on probe tiles of {', '.join(met)} px"
    at = f" (at {worst_at})" if worst > CLOSE else ""
    left = f"; {', '.join(beyond)} is beyond its fixed size of {sizes.fixed_px} px" if beyond else ""
    return judged(name, worst <= CLOSE, f"{told}{at}; {CLOSE:g} is allowed{left}.")


def _difference(probe: Probe, found: Floats) -> float:
    height, width = probe.image.shape[-2:]
    return float(np.abs(found[..., :height, :width] - probe.probability).max())
