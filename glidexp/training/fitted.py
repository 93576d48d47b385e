"""A model as an evaluation fitted it to other ground, kept as a bundle of its own: with it scenes there are mapped."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config.evaluation import Adapt
from glidexp.data.band_statistics import band_histograms
from glidexp.data.leakage import ground_of, join
from glidexp.data.store import TileStore
from glidexp.mapping.domain import domain_of
from glidexp.models.card import VALIDITY, read_part
from glidexp.models.export import save_bundle
from glidexp.models.lineage import Lineage
from glidexp.models.load import FoundModel

Rows = npt.NDArray[np.int64]

SOURCES_OWN = ("format", "format_version", "glidexp", "weights", "ground", "validity", "scores", "graph", "parameters")
"""of a card: what is true of that bundle alone"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What an evaluation scored with."""

    net: torch.nn.Module
    """takes the bands of the source in their order"""
    mean: list[float]
    """a value a band of it, 0-255"""
    std: list[float]
    threshold: float
    adapt: Adapt
    """what was fitted beside the threshold"""
    bands: list[int]
    """where each band lies in the tiles"""
    rows: Mapping[str, Rows]
    """tiles that were looked at: `val` for the threshold, `train` without labels"""


def fitted_bundle(
    folder: Path, fitted: Fitted, found: FoundModel, line: Lineage, tiles: TileStore, about: Mapping[str, Any]
) -> Path:
    """Writes the fitted model.

    Its ground is the source's and the tiles that it was fitted to, so these are refused as test ground from now on.
    What `glidexp validity` says goes along where only the threshold was fitted: with another normalisation or other
    batch statistics the features that it speaks of are others.

    Args:
        folder: of the bundle
        fitted: what was scored with
        found: the source
        line: of the source
        tiles: the target's store
        about: for the card, of this evaluation: run_id, config_id, dataset, leak, scores

    Returns:
        the folder
    """
    fit, count = fitted.rows, {side: len(rows) for side, rows in fitted.rows.items()}
    looked_at = np.unique(np.concatenate([*fit.values()]))
    own = [ground_of(tiles, rows, side) for side, rows in fit.items()]
    ancestors, ground = line.below(join(own))
    seen = tiles.index.iloc[looked_at]
    card = {key: value for key, value in found.card.items() if key not in SOURCES_OWN}
    card |= {**about, "mean": fitted.mean, "std": fitted.std, "threshold": fitted.threshold}
    card |= {"ancestors": ancestors, "ground": count}
    card |= {"split_hash": tiles.split_hash, "data_hash": tiles.data_hash}
    for key, column in (("sensors", "sensor"), ("regions", "region")):
        card[key] = sorted({*found.card.get(key, []), *map(str, seen[column])})
    domain = domain_of(tiles, looked_at)
    card |= domain | {"gsd_m": _spans(found.card.get("gsd_m", {}), domain["gsd_m"])}
    if "train" in fit:
        card["histogram"] = band_histograms(tiles, fit["train"])[fitted.bands].tolist()
    card["fitted"] = {
        "adapt": str(fitted.adapt),
        "threshold": "val" in fit,
        "of": found.uri,
        "weights": found.card["weights"]["sha256"],
        "tiles": count,
        "regions": sorted(set(map(str, seen["region"]))),
        "sensors": sorted(set(map(str, seen["sensor"]))),
    }
    kept = found.card.get("validity") if fitted.adapt is Adapt.none else None
    validity = read_part(found.bundle, VALIDITY, kept["sha256"]) if kept else None
    return save_bundle(folder, fitted.net, card=card, ground=ground, validity=validity)


def _spans(one: Mapping[str, list[float]], other: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Pixel sizes by sensor, least and most, of both."""
    found = {str(sensor): list(span) for sensor, span in one.items()}
    for sensor, (low, high) in other.items():
        least, most = found.get(sensor, [low, high])
        found[sensor] = [min(least, low), max(most, high)]
    return found
