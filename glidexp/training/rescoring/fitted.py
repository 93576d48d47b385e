"""A model as an evaluation meets other ground with it: fitted to that ground where asked for, and kept on request.

A kept one is a bundle of its own, with which scenes there are mapped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from glidexp.config.evaluation import Adapt, EvaluateConfig
from glidexp.data.band_statistics import band_histograms
from glidexp.data.leakage import ground_of, join
from glidexp.data.store import TileStore
from glidexp.mapping.domain import domain_of
from glidexp.models import catalog
from glidexp.models.card import VALIDITY, read_part
from glidexp.models.export import save_bundle
from glidexp.models.lineage import Lineage
from glidexp.models.load import FoundModel
from glidexp.models.told import told_of
from glidexp.scoring.calibration import fit_temperature
from glidexp.scoring.scores import best_threshold
from glidexp.training.augmentation.telling import telling_of
from glidexp.training.bands import Bands, network_of, normalisation_of
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import plain
from glidexp.training.rescoring import adapt

Rows = npt.NDArray[np.int64]

SOURCES_OWN = ("format", "format_version", "glidexp", "weights", "ground", "validity", "scores", "graph", "parameters")
"""of a card: what is true of that bundle alone"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What an evaluation scores with."""

    model: torch.nn.Module
    """takes the bands of the tiles in their order"""
    normalise: Any
    """stands in for `Augment`: from uint8 tiles to images"""
    mean: list[float]
    """a value a band of the tiles, 0-255"""
    std: list[float]
    threshold: float
    temperature: float | None
    """the model's own; of several models, which have none in common, found on val with the threshold"""
    adapt: Adapt
    """what was fitted beside the threshold"""
    bands: list[int]
    """where each band of the model lies in the tiles"""
    rows: Mapping[str, Rows]
    """tiles that were looked at: `val` for the threshold, `train` without labels; none where nothing was fitted"""


def fit_to(
    config: EvaluateConfig,
    found: FoundModel,
    tiles: TileStore,
    rows: Mapping[str, Rows],
    threshold: float | None,
    bands: list[int],
    runtime: Runtime,
) -> Fitted:
    """Loads the model and fits it as `eval.adapt` and `eval.threshold` say.

    Args:
        config: complete and checked
        found: the model
        tiles: the target's store
        rows: `val` and `train` rows of it to look at, `scored.fitted_rows`
        threshold: known already; None: the best one on val
        bands: where each band of the model lies in the tiles
        runtime: device and precision

    Raises:
        ConfigError, DataError: this model cannot be fitted in this way
    """
    kind, size = config.eval.adapt, config.train.batch_size
    mean, std = normalisation_of(found.card, bands, tiles.channels)
    if kind is Adapt.normalise:
        mean, std = adapt.target_moments(tiles, rows["train"])
    told = told_of(found.card)
    normalise: Any = plain(mean, std, runtime, telling_of(told, tiles))
    if kind is Adapt.histogram:
        normalise = adapt.matched(normalise, found.card, bands, tiles, rows["train"], runtime.device)
    model = runtime.place(network_of(found.bundle, bands, tiles.channels, told.size))
    if kind is Adapt.batch_norm:
        catalog.check_batch(found.card["architecture"]["decoder"], tiles.tile_px, min(size, len(rows["train"])))
        model = adapt.with_statistics_of(model, tiles, rows["train"], normalise, runtime, size)
    temperature = found.card.get("temperature")
    if threshold is None:
        hist = Evaluator(tiles, rows["val"], normalise, runtime, size).histograms(model)
        threshold = best_threshold(hist)
        temperature = fit_temperature(hist) if found.members else temperature
    return Fitted(
        model=model, normalise=normalise, mean=mean, std=std, threshold=threshold, temperature=temperature,
        adapt=kind, bands=bands, rows=rows,
    )  # fmt: skip


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
    seen, domain, theirs = tiles.index.iloc[looked_at], domain_of(tiles, looked_at), found.card
    sensors, regions = ({*map(str, seen[column])} for column in ("sensor", "region"))
    card = {
        **{key: value for key, value in theirs.items() if key not in SOURCES_OWN},
        **about,
        "mean": [fitted.mean[place] for place in fitted.bands],
        "std": [fitted.std[place] for place in fitted.bands],
        "threshold": fitted.threshold,
        "temperature": fitted.temperature,
        "ancestors": ancestors,
        "ground": count,
        "split_hash": tiles.split_hash,
        "data_hash": tiles.data_hash,
        "sensors": sorted(sensors.union(theirs.get("sensors", []))),
        "regions": sorted(regions.union(theirs.get("regions", []))),
        **domain,
        "gsd_m": _spans(theirs.get("gsd_m", {}), domain["gsd_m"]),
        "fitted": {
            "adapt": str(fitted.adapt),
            "threshold": "val" in fit,
            "of": found.uri,
            "weights": theirs["weights"]["sha256"],
            "tiles": count,
            "regions": sorted(regions),
            "sensors": sorted(sensors),
        },
    }
    if "train" in fit:
        card["histogram"] = band_histograms(tiles, fit["train"])[fitted.bands].tolist()
    validity = None
    if fitted.adapt is Adapt.none and "validity" in theirs:
        card["validity"] = kept = theirs["validity"]  # None where there were too few tiles
        validity = read_part(found.bundle, VALIDITY, kept["sha256"]) if kept else None
    net = fitted.model.net if isinstance(fitted.model, Bands) else fitted.model
    return save_bundle(folder, net, card=card, ground=ground, validity=validity)


def _spans(one: Mapping[str, list[float]], other: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Pixel sizes by sensor, least and most, of both."""
    found = {str(sensor): list(span) for sensor, span in one.items()}
    for sensor, (low, high) in other.items():
        least, most = found.get(sensor, [low, high])
        found[sensor] = [min(least, low), max(most, high)]
    return found
