"""A model as the one file that the QGIS plugin Deepness takes, with the parameters that the plugin reads of it.

What the plugin asks for, as of its source up to version 0.7: one input and one output of a fixed size, (1, C, S, S) and
(1, 1, S, S); raw values divided by 255; each parameter as JSON in the metadata. The ONNX Runtime that it installs
(1.12 to 1.17) reads no newer format than `OLD`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.beside import beside
from glidexp.data.scenes.catalogue import SceneFile
from glidexp.data.steps import shown_stage
from glidexp.errors import ConfigError, RunFailed
from glidexp.mapping.network import network
from glidexp.mapping.predict import usual_window
from glidexp.mapping.settings import MapSettings
from glidexp.mapping.windows import usual_overlap
from glidexp.models import graph
from glidexp.models.layer_graph import MOST_LEVEL, Layer, LayerGraph
from glidexp.models.load import FoundModel
from glidexp.models.predictor import Predictor
from glidexp.models.told import told_of
from glidexp.release.agreement import CLOSE
from glidexp.release.layer_source import NEAR, Source, of_pictures, of_scene

OLD = (18, 8)
"""set of operators and version of the format of the file"""
MOST_PERCENT = 50
"""largest overlap of tiles that is chosen where none is asked for"""
DECIMALS = 2
"""of the plugin's fields"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What was asked for; None and 0: the usual."""

    sensor: str
    gsd_m: float | None = None
    """side of a pixel, metres"""
    tile_px: int = 0
    overlap: int | None = None
    """of tiles, per cent"""
    no_data: float | None = None
    raster: bool = False
    """the plugin is to leave a raster of the probability, not outlines"""
    map: MapSettings
    """tta, threshold and stretch"""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the plugin's fields are filled with."""

    resolution_cm: float
    tile_px: int
    overlap: int
    """per cent"""
    threshold: float

    def facts(self, channels: int, raster: bool) -> dict[str, Any]:
        """The metadata that the plugin reads, for outlines or a raster."""
        outlines = {
            "model_type": "Segmentor",
            "class_names": {"0": "background", "1": "lake"},
            "seg_thresh": self.threshold,
            "seg_small_segment": 0,  # a median filter, which would take small lakes
        }
        # of some versions a raster holds whole numbers, so that 0 to 1 would be nothing
        values = {"model_type": "Regressor", "class_names": {"0": "lake_percent"}, "reg_output_scaling": 100.0}
        return (values if raster else outlines) | {
            "resolution": self.resolution_cm,
            "tile_size": self.tile_px,
            "tiles_size": self.tile_px,  # what its documentation calls it
            "tiles_overlap": self.overlap,
            # by channel: some versions assume three of them
            "standardization_mean": [0.0] * channels,
            "standardization_std": [1.0] * channels,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """What was written, in sentences."""

    said: list[str]
    warnings: list[str]


def write(found: FoundModel, file: SceneFile | None, asked: Asked, out: Path) -> Made:
    """Writes the file, after ONNX Runtime has given the network's own answer from it.

    Args:
        found: the model
        file: the scene that is to be mapped; None: pictures of 8 bit
        asked: settings
        out: of the file

    Raises:
        ConfigError: the model needs what the plugin does not give, or a setting is not possible
        DataError: the scene or the bundle cannot be used
        RunFailed: the file answers otherwise than the network
    """
    card = found.card
    check(card)
    source = _source(card, file, asked)
    predictor = network(found.bundle, card, asked.map.tta, "cpu")
    chosen, words = parameters(card, predictor, source, asked)
    told = replace(told_of(card), gsd_m=None).vector(source.sensor, _own_gsd(card, source))
    module = LayerGraph(graph.Graph(predictor, told), source.layer).eval()
    example = _example(source.layer, chosen.tile_px)
    with shown_stage("export of the network (torch.export)"):
        program = graph.export_fixed(module, example)
    facts = chosen.facts(source.layer.channels, asked.raster) | {"glidexp": _origin(found, source, told, asked)}
    with beside(out) as place:
        with shown_stage(f"writing {out.name}"):
            graph.write_onnx(program, facts, place, OLD)
        with shown_stage("answers of ONNX Runtime"):
            compared = _compared(module, example, place)
    leaves = f"a raster of per cent, a lake from {100 * chosen.threshold:g} on" if asked.raster else "outlines of lakes"
    fields = (
        f"fields: resolution {chosen.resolution_cm:.10g} cm, tiles of {chosen.tile_px} px, overlap {chosen.overlap} %, "
        f"threshold {chosen.threshold:g}"
    )
    return Made([*source.said, fields, *words, f"leaves: {leaves}", compared], list(source.warnings))


def check(card: Mapping[str, Any]) -> None:
    """Refuses a model that needs what a layer has not.

    Raises:
        ConfigError: it takes bands of a DEM
    """
    if terrain := card.get("terrain"):
        raise ConfigError(
            f"the model takes {' and '.join(terrain)} of a DEM, which no layer of a scene has: map with glidexp "
            "predict --dem, or train one without."
        )


def _source(card: Mapping[str, Any], file: SceneFile | None, asked: Asked) -> Source:
    own = told_of(card).gsd_m
    if own and asked.gsd_m and abs(asked.gsd_m / own - 1) > 1e-6:
        raise ConfigError(
            f"--gsd-m={asked.gsd_m:g} is not possible: the model sees every image at {own:g} m (input.gsd_m), to which "
            "QGIS brings the layer. Leave it out."
        )
    if file is None:
        return of_pictures(card, asked.sensor, asked.map.stretch, asked.no_data, own or asked.gsd_m)
    found = of_scene(card, file, asked.map.stretch, asked.no_data)
    stretched = found.pixel_m / (found.gsd_m or found.pixel_m)  # of metres by the CRS: 2 at 60 degrees in Web Mercator
    stretched = 1.0 if abs(stretched - 1) < NEAR else stretched
    size = own * stretched if own else asked.gsd_m
    if size is None or abs(size / found.pixel_m - 1) < 1e-6:
        return found
    word = (
        f"{file.scene}: QGIS brings its pixels of {found.pixel_m:g} m to {size:g} m, in another way than glidexp "
        "predict: the lakes are not quite the same."
    )
    gsd_m = found.gsd_m if own else size / stretched
    return replace(found, pixel_m=size, gsd_m=gsd_m, warnings=(*found.warnings, word))


def _own_gsd(card: Mapping[str, Any], source: Source) -> float | None:
    """Ground sample distance that a network may be told: the layer's own, which is not known where all are brought to
    one and no scene is named."""
    return source.gsd_m or (None if told_of(card).gsd_m else source.pixel_m)


def parameters(
    card: Mapping[str, Any], predictor: Predictor, source: Source, asked: Asked
) -> tuple[Parameters, list[str]]:
    """The plugin's parameters for a model and a layer, and sentences on what had to be changed.

    Raises:
        ConfigError: tiles of a size that the network does not take
    """
    side = asked.tile_px or usual_window(card)
    sizes = graph.sizes_of(predictor, side)
    fits = sizes.fixed_px or sizes.fits(side)
    if asked.tile_px and fits != side:
        raise ConfigError(
            f"--tile-px={side} is not possible: the network takes sides that are multiples of {sizes.stride}, from "
            f"{sizes.smallest_px} on. The next one is {fits}."
        )
    exact = predictor.threshold if asked.map.threshold is None else asked.map.threshold
    step = 10.0**-DECIMALS
    threshold = round(min(max(exact, step), 1 - step), DECIMALS)
    words = [f"threshold: {exact:g}, of which the plugin takes {DECIMALS} decimals"] * (abs(threshold - exact) > 1e-9)
    overlap = _overlap(fits, sizes.stride) if asked.overlap is None else asked.overlap
    return Parameters(round(100 * source.pixel_m, DECIMALS), fits, overlap, threshold), words


def _overlap(side: int, stride: int) -> int:
    """Per cent: as much as maps have or more, such that tiles begin at multiples of the stride where one does that.

    A network that pools gives other answers where the same ground is moved by less than its stride, which costs more
    than some overlap gains.
    """
    usual = min(-(-100 * usual_overlap(side) // side), MOST_PERCENT)
    even = (one for one in range(usual, MOST_PERCENT + 1) if int(side * one / 100 * 2) // 2 % stride == 0)
    return next(even, usual)


def _example(layer: Layer, side: int) -> torch.Tensor:
    """A tile of values from all over their range, with a corner without data."""
    most = MOST_LEVEL if layer.tables is None else layer.tables.shape[1] - 1
    values = np.random.default_rng(0).integers(0, int(most) + 1, (1, layer.channels, side, side)).astype(np.float32)
    for place, value in zip(layer.places, layer.no_data, strict=False):
        values[:, place, : side // 4, : side // 4] = value
    return torch.from_numpy(values / np.float32(MOST_LEVEL))


def _compared(module: LayerGraph, example: torch.Tensor, path: Path) -> str:
    """How far ONNX Runtime is from PyTorch on a tile.

    Raises:
        RunFailed: too far
    """
    try:
        import onnxruntime
    except ImportError:
        return "not tried: ONNX Runtime is not installed here"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected: npt.NDArray[np.float32] = module(example).numpy()
    (answer,) = session.run(None, {graph.IMAGE: example.numpy()})
    off = float(np.abs(answer - expected).max())
    if not off <= CLOSE:
        raise RunFailed(f"ONNX Runtime answers otherwise than the network, by {off:.1e} where {CLOSE:g} is allowed.")
    return f"tried: ONNX Runtime and PyTorch differ by {off:.1e} at most on a tile of noise"


def _origin(found: FoundModel, source: Source, told: list[float], asked: Asked) -> dict[str, Any]:
    """Where the file comes from, for whoever opens it later; no folder of this machine."""
    card = found.card
    return {
        "name": card.get("name"),
        "run_id": found.run_id,
        "weights": card["weights"]["sha256"],
        "bands": card.get("bands"),
        "sensor": source.sensor,
        "tta": str(asked.map.tta or card.get("tta", "none")),
        "threshold": card.get("threshold", 0.5) if asked.map.threshold is None else asked.map.threshold,
        "told": told if any(told) else None,
        **source.facts,
    }
