"""A network as a graph that runs without this package: torch.export and ONNX, pixel values in, lake probability out.

Normalisation is inside, padding is not: height and width must be multiples of the stride and no less than the smallest
side, both of which stand in the ONNX file's metadata. A network that sees every image at one ground sample distance
(`input.gsd_m`) takes images that have it. Layout (B, C, H, W), float32 in 0-255.
"""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from glidexp.errors import DataError
from glidexp.models import catalog
from glidexp.models.exportable import exportable
from glidexp.models.predictor import Predictor
from glidexp.models.program import as_data
from glidexp.models.resampled import unscaled
from glidexp.models.told import with_told

IMAGE, PROBABILITY = "image", "probability"
"""names of the input and of the output"""
MOST_PX = 16_384
"""largest side that the graph is made for: that of the largest tile"""


class Graph(nn.Module):
    """Normalisation, network, probability: what a predictor does to an image that needs no padding.

    Args:
        predictor: in evaluation mode
        told: what the network is told of every image (`told.Told.vector` of a `Told` without gsd_m); of all zeros and
            where it is not given, nothing
    """

    mean: torch.Tensor
    scale: torch.Tensor
    told: torch.Tensor | None

    def __init__(self, predictor: Predictor, told: Sequence[float] = ()) -> None:
        super().__init__()
        self.net = unscaled(exportable(predictor.net))
        self.register_buffer("mean", predictor.mean.detach().clone())
        self.register_buffer("scale", predictor.std.detach().clone())
        self.register_buffer("told", torch.tensor([*told]).view(1, -1) if any(told) else None)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) float32 in 0-255 -> lake probability (B, 1, H, W) in 0-1."""
        fed = (image - self.mean) / self.scale
        return torch.sigmoid(self.net(fed if self.told is None else with_told(fed, self.told)).float())


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which images a graph takes."""

    stride: int
    smallest_px: int
    fixed_px: int | None
    """the only side it takes; None: every multiple of the stride from the smallest on"""

    def fits(self, side: int) -> int:
        """The side to which an image's side is padded, or 0 where the graph takes none that long."""
        if self.fixed_px is not None:
            return self.fixed_px if side <= self.fixed_px else 0
        return max(-(-side // self.stride) * self.stride, self.smallest_px)


def sizes_of(predictor: Predictor, tile_px: int) -> Sizes:
    """Attention in windows is traced for one size only: its masks depend on where windows end.

    Args:
        predictor: its card names the backbone
        tile_px: the side that such a network is then exported for, rounded up to what it takes
    """
    shape = predictor.card.get("architecture")
    backbone = catalog.find(str(shape["backbone"])) if isinstance(shape, dict) else None
    windowed = backbone is not None and any(name == "strict_img_size" for name, _ in backbone.options)
    any_size = Sizes(predictor.stride, predictor.smallest_px, None)
    return Sizes(predictor.stride, predictor.smallest_px, any_size.fits(tile_px)) if windowed else any_size


def export(predictor: Predictor, sizes: Sizes) -> torch.export.ExportedProgram:
    """The network as torch.export keeps it: any batch, and any size that `sizes` allows."""
    cell, least = sizes.stride, -(-sizes.smallest_px // sizes.stride)
    low = sizes.fixed_px or max(2, least) * cell
    other = sizes.fixed_px or low + cell  # unequal sides, or they would be taken for one
    example = torch.linspace(0, 255, 2 * predictor.in_channels * low * other).view(2, -1, low, other)
    dim = torch.export.Dim
    shape: dict[int, object] = {0: dim("batch", min=1, max=4096)}
    if sizes.fixed_px is None:
        most = MOST_PX // cell
        shape |= {2: cell * dim("rows", min=least, max=most), 3: cell * dim("columns", min=least, max=most)}
    with _quiet(), torch.no_grad():
        return torch.export.export(Graph(predictor).eval(), (example,), dynamic_shapes={IMAGE: shape}, strict=False)


def export_fixed(module: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """A module as torch.export keeps it, for images of one shape.

    Args:
        module: in evaluation mode, from one tensor to another
        example: an image of that shape
    """
    with _quiet(), torch.no_grad():
        return torch.export.export(module, (example,), strict=False)


def save_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """Writes it as `.pt2`, without the example that it was traced with.

    Raises:
        DataError: torch has no way to write one of its operations down, such as rounding that depends on a size
    """
    from torch._export.serde.serialize import SerializeError

    program.example_inputs = None  # would be pickled into the file
    _forget_folders(program)
    try:
        with _quiet():
            torch.export.save(program, path)
    except SerializeError as error:
        first = str(error).splitlines()[0]
        raise DataError(
            f"{path.name}: torch.export cannot write this network down ({first:.120}). It can be trained, scored and "
            "mapped with; to release one, choose another decoder or another backbone."
        ) from error


def load_program(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The program of a `.pt2` file, ready to be called. Nothing of it is run but operations on tensors.

    Raises:
        DataError: it cannot be read, or holds more than a network
    """
    content = as_data(path)
    with _quiet():
        module: Callable[[torch.Tensor], torch.Tensor] = torch.export.load(content).module()
    return module


def save_onnx(program: torch.export.ExportedProgram, sizes: Sizes, facts: dict[str, object], path: Path) -> None:
    """Writes the graph as one ONNX file.

    Args:
        program: of `export`
        sizes: as it was exported
        facts: for the file's metadata; anything JSON can hold
        path: of the file
    """
    kept = {"stride": sizes.stride, "smallest_px": sizes.smallest_px, "fixed_px": sizes.fixed_px} | facts
    write_onnx(program, kept, path)


def write_onnx(
    program: torch.export.ExportedProgram, facts: Mapping[str, object], path: Path, old: tuple[int, int] | None = None
) -> None:
    """Writes a program as one ONNX file.

    Args:
        program: of `export` or `export_fixed`
        facts: all of the file's metadata; anything JSON can hold
        path: of the file
        old: set of operators and version of the format (IR) of older programs that are to read it; exporter's own
            where not given
    """
    _forget_folders(program)
    with _quiet():
        made = torch.onnx.export(
            program, dynamo=True, input_names=[IMAGE], output_names=[PROBABILITY], optimize=True, verbose=False,
            opset_version=old[0] if old else None,
        )  # fmt: skip
        assert made is not None
        made.model.ir_version = old[1] if old else made.model.ir_version
        made.model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
        made.save(str(path), external_data=False)


def _forget_folders(program: torch.export.ExportedProgram) -> None:
    """Traces of where a node was made name folders of this machine, in files that others get."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' progress and their warnings about themselves off the terminal."""
    told = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.__trace", "onnxscript", "onnx_ir")
    ]
    before = [log.level for log in told]
    for log in told:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(told, before, strict=True):
            log.setLevel(level)
