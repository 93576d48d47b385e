"""Labels of tiles that are trained on without their own: those of which the model that a run starts from is surest.

One round of class-balanced self-training. Source: Zou, Yu, Vijaya Kumar and Wang 2018, Unsupervised domain adaptation
for semantic segmentation via class-balanced self-training, ECCV, arXiv 1810.07911. The same share of each class is
kept, since on unlike ground a network is less sure of lakes than of what is none, and a common bound would keep the
background alone. Pixels in between do not count.

The labels follow from model, tiles and settings, so a run that goes on makes the same ones again.
"""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glidexp.config import Config, InitConfig
from glidexp.data.host_memory import free_host_bytes
from glidexp.data.resident import GB
from glidexp.data.sensor_mix import training_rows
from glidexp.data.store import BACKGROUND, INVALID, LABELS, LAKE, TileStore
from glidexp.data.subset import unlabelled_of
from glidexp.errors import ConfigError, GlidexpError
from glidexp.models.told import told_of
from glidexp.scoring.counts import bin_of_threshold, threshold_of_bin
from glidexp.training.augmentation.telling import telling_of
from glidexp.training.bands import network_of, normalisation_of, places_of_bands
from glidexp.training.beginning.start import labeller
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import plain, predict
from glidexp.training.judge import Taught
from glidexp.training.progress import scoring

log = logging.getLogger("glidexp")


def taught_by(first: InitConfig, config: Config, tiles: TileStore, runtime: Runtime) -> Taught:
    """The tiles with their own labels, and those of self-training with the ones of the model that the run starts from.

    Args:
        first: `init`, of which a run was turned into its folder before
        config: whole
        tiles: the store, which stays as it is
        runtime: device and precision

    Raises:
        ConfigError: a model that cannot label (`labeller`), no tiles to label, or no memory for their labels
        DataError: the tiles lack a band of it, or its files are damaged
        GlidexpError: it sees no lake in any of them, or nothing else
    """
    wanted = config.self_training
    if not wanted.on:
        return Taught.plainly(tiles)
    labelled, _ = training_rows(tiles, config.sensor_mix, config.subset, config.seed)
    rows = unlabelled_of(tiles, labelled, wanted)
    refuse_no_room(len(rows), tiles.tile_px)
    folder, card = labeller(first, config.tile_size.px, f"init.checkpoint={first.checkpoint}")
    bands = places_of_bands(card, tiles)
    mean, std = normalisation_of(card, bands, tiles.channels)
    told = told_of(card)
    normalise = plain(mean, std, runtime, telling_of(told, tiles))
    evaluator = Evaluator(tiles, rows, normalise, runtime, config.train.batch_tiles)
    model = runtime.place(network_of(folder, bands, tiles.channels, told.size))
    threshold = float(card.get("threshold", 0.5))
    with scoring(evaluator, "tiles without labels"):
        seen = predict(evaluator, model, "train", threshold=threshold, scratch=Path(config.paths.mlruns))
    counts = seen.hist.sum(axis=(0, 1), dtype=np.int64)
    low, high = sure_bins(counts, bin_of_threshold(threshold), wanted.keep)
    # a private map: rows that are written get pages of their own, the file stays as it is
    labels = np.memmap(tiles.path / LABELS, dtype=np.uint8, mode="c", shape=tiles.labels.shape)
    for place, row in enumerate(rows.tolist()):
        labels[row] = labels_of(seen.bins[place], tiles.labels[row] != INVALID, low, high)
    sure, lake = counts[: low + 1].sum() + counts[high:].sum(), counts[high:].sum()
    log.info(
        "self-training: %d tiles without labels, %.0f %% of their pixels get one of the model's, %.2f %% lake "
        "(keep=%g: lake from probability %.3f, none below %.3f)",
        *(len(rows), 100 * sure / counts.sum(), 100 * lake / counts.sum(), wanted.keep),
        *(threshold_of_bin(high), threshold_of_bin(low + 1)),
    )
    facts = {"tiles": len(rows), "labelled_share": sure / counts.sum(), "lake_share": lake / counts.sum()}
    return Taught(tiles.images, labels, rows, {f"pseudo_labels/{name}": float(value) for name, value in facts.items()})


def refuse_no_room(tiles: int, px: int) -> None:
    """Refuses more labels than memory is free for, a byte a pixel, before the model has looked at their tiles.

    Raises:
        ConfigError: how much they take, and how much there is
    """
    needed, free = tiles * px**2, free_host_bytes()
    if needed > free:
        raise ConfigError(
            f"self_training: labels of {tiles} tiles take {needed / GB:.1f} GB of memory, {free / GB:.1f} GB are free: "
            "name fewer regions or sensors."
        )


def sure_bins(counts: npt.NDArray[np.int64], threshold: int, keep: float) -> tuple[int, int]:
    """Bins up to which a pixel is background and from which it is lake; in between it gets no label.

    Args:
        counts: (256,) pixels by the bin of their logit
        threshold: bin from which the model takes a pixel for lake
        keep: share of the pixels on either side that are kept, the surest, at least; above 0 to 1

    Returns:
        the last bin of background, below `threshold`, and the first of lake, `threshold` or above

    Raises:
        GlidexpError: the model takes no pixel for lake, or every one
    """
    lake, none = counts[threshold:], counts[:threshold]
    if not lake.sum() or not none.sum():
        what = "lake" if none.sum() else "ground without lake"
        raise GlidexpError(
            f"self_training: the model sees no {what} in any of the tiles without labels, so there is nothing to learn "
            "from them: choose other regions or sensors, or another model."
        )
    first = np.flatnonzero(np.cumsum(lake[::-1]) >= keep * lake.sum())[0]
    last = np.flatnonzero(np.cumsum(none) >= keep * none.sum())[0]
    return int(last), len(counts) - 1 - int(first)


def labels_of(bins: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], low: int, high: int) -> npt.NDArray[np.uint8]:
    """(H, W) labels of a tile by the bins of its logits; 255 where the model is not sure, or nothing was seen."""
    found = np.full(bins.shape, INVALID, dtype=np.uint8)
    found[valid & (bins <= low)] = BACKGROUND
    found[valid & (bins >= high)] = LAKE
    return found
