"""The STAC item of a release, with the machine learning model extension: what goes in, what comes out, which files.

Source: STAC 1.1.0; MLM extension 1.5.0.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import shapely

from glidexp.data.geodesy import to_lonlat
from glidexp.data.leakage import EARTH, from_bytes
from glidexp.data.scenes.dem import meaning
from glidexp.models.card import CARD, GROUND, VALIDITY, WEIGHTS, read_card

ITEM = "item.json"
MLM = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"
_MODELS = {
    WEIGHTS: ("safetensors.torch.save_file", "application/octet-stream", "Weights", "PyTorch"),
    "model.onnx": ("onnx", "application/octet-stream; application=onnx", "ONNX graph, normalisation inside", "ONNX"),
    "model.pt2": ("torch.export.save", "application/octet-stream", "Program of torch.export", "PyTorch"),
}
_DIMENSIONS = ["batch", "bands", "height", "width"]


def item_of(folder: Path, name: str, created: str) -> dict[str, Any]:
    """The item that describes the bundle in a folder.

    Its geometry is the hull of the training ground, and null for ground that is nowhere on Earth.

    Args:
        folder: the bundle, as far as it is written
        name: of the release
        created: RFC 3339, in UTC
    """
    card = read_card(folder)
    shape = card["architecture"]
    geometry, bbox = _where(folder)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM],
        "id": f"{name}-{card['weights']['sha256'][:12]}",
        "geometry": geometry,
        "properties": {
            "datetime": created,
            "created": created,
            "description": f"Finds lakes in images of {', '.join(card.get('sensors', [])) or 'unnamed sensors'}.",
            "license": card.get("license") or "other",
            "bands": [{"name": band} for band in _bands(card)],
            "mlm:name": name,
            "mlm:architecture": f"{shape['backbone']} encoder, {shape['decoder']} decoder",
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:framework": "PyTorch",
            "mlm:framework_version": version("torch").split("+")[0],
            "mlm:total_parameters": int(card["parameters"]),
            "mlm:memory_size": int(card["weights"]["bytes"]),
            "mlm:accelerator": None,
            "mlm:accelerator_constrained": False,
            "mlm:input": [_input(card)],
            "mlm:output": [_output(card)],
            "mlm:hyperparameters": {"threshold": card.get("threshold", 0.5), "tile_px": card.get("tile_px", 0)},
        },
        "links": [{"rel": "self", "href": f"./{ITEM}", "type": "application/geo+json"}],
        "assets": _assets(folder),
    }
    if bbox is not None:
        item["bbox"] = bbox
    return item


def _bands(card: Mapping[str, Any]) -> list[str]:
    return list(card.get("bands") or [f"band{place + 1}" for place in range(card["architecture"]["in_channels"])])


def _input(card: Mapping[str, Any]) -> dict[str, Any]:
    side = (card.get("graph") or {}).get("fixed_px") or -1
    return {
        "name": "image",
        "description": "Pixel values in 0-255. The graphs take sides that are multiples of "
        f"{card['graph']['stride']} px from {card['graph']['smallest_px']} px on, the weights with glidexp any."
        + (f" {meaning(card['terrain'])}" if card.get("terrain") else ""),
        "bands": _bands(card),
        "input": {
            "shape": [-1, card["architecture"]["in_channels"], side, side],
            "dim_order": _DIMENSIONS,
            "data_type": "float32",
        },
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": std}
            for mean, std in zip(card["mean"], card["std"], strict=True)
        ],
        "resize_type": "pad",
    }


def _output(card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "probability",
        "description": f"Probability of lake, 0-1; lake from {card.get('threshold', 0.5):.4f} on.",
        "tasks": ["semantic-segmentation"],
        "result": {
            "shape": [-1, 1, -1, -1],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
        "classification:classes": [
            {"value": 0, "name": "background", "description": "No lake"},
            {"value": 1, "name": "lake", "description": "Lake"},
        ],
    }


def _assets(folder: Path) -> dict[str, Any]:
    assets: dict[str, Any] = {}
    for name, (kind, media, title, framework) in _MODELS.items():
        roles = ["mlm:model", "mlm:weights"] if name == WEIGHTS else ["mlm:model"]
        assets[Path(name).stem if name == WEIGHTS else Path(name).suffix[1:]] = {
            "href": f"./{name}",
            "type": media,
            "title": title,
            "roles": roles,
            "mlm:artifact_type": kind,
            "mlm:framework": framework,
        }
    others = {
        CARD: ("application/json", "What the weights need", ["metadata"]),
        "MODEL_CARD.md": ("text/markdown", "Model card", ["metadata", "overview"]),
        "model_card.html": ("text/html", "Model card", ["metadata", "overview"]),
        "gate.json": ("application/json", "What was checked before the release", ["metadata"]),
        "example_onnx.py": ("text/x-python", "Runs it with ONNX Runtime alone", ["code", "mlm:inference-runtime"]),
        GROUND: ("application/vnd.apache.parquet", "Ground it was trained on", ["metadata", "mlm:training"]),
        VALIDITY: ("application/octet-stream", "What the training tiles look like", ["metadata", "mlm:training"]),
    }
    for name, (media, title, roles) in others.items():
        if name not in (GROUND, VALIDITY) or (folder / name).is_file():
            assets[name] = {"href": f"./{name}", "type": media, "title": title, "roles": roles}
    return assets


def _where(folder: Path) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Convex hull of the training tiles in degrees, and its box."""
    path = folder / GROUND
    if not path.is_file():
        return None, None
    ground = from_bytes(path.read_bytes(), path)
    placed = ground[(ground["world"] == EARTH) & (ground["model"] == 0)]
    if not len(placed):
        return None, None
    points = [point for crs, tiles in placed.groupby("crs") for point in _corners(str(crs), tiles)]
    hull = shapely.MultiPoint(points).convex_hull.buffer(0.0)
    if hull.is_empty:
        hull = shapely.MultiPoint(points).envelope
    return shapely.geometry.mapping(hull), [float(value) for value in hull.bounds]


def _corners(crs: str, tiles: pd.DataFrame) -> list[tuple[float, float]]:
    corners = []
    for transform, (left, top, right, bottom) in zip(tiles["transform"], tiles["box"], strict=True):
        a, b, c, d, e, f = transform
        for col, row in ((left, top), (right, top), (right, bottom), (left, bottom)):
            corners.append((a * col + b * row + c, d * col + e * row + f))
    x, y = zip(*corners, strict=True)
    lon, lat = to_lonlat(pyproj.CRS(crs), np.asarray(x), np.asarray(y))
    return list(zip(map(float, lon), map(float, lat), strict=True))
