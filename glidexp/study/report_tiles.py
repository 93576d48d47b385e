"""Fixed probe tiles side by side: image, truth, the baseline, every other arm, and where they differ."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glidexp.data.masks import mask_file, read_mask
from glidexp.data.store import TileStore
from glidexp.errors import DataError, TrackingError
from glidexp.scoring.figures import difference_overlay, error_overlay, png_bytes, truth_picture
from glidexp.study.report_blocks import Tiles
from glidexp.study.studies import Study
from glidexp.tracking.found import TrackedRun, fetch_file
from glidexp.tracking.gathered import files_in, tile_source
from glidexp.tracking.store import Store

WANTED = 4
MOST_ARMS = 8
Mask = NDArray[np.uint8]


def probe_tiles(store: Store, study: Study, split: str) -> tuple[list[Tiles], str]:
    """Tiles chosen by the data alone: in turn from every sensor, those with most lake first.

    Args:
        store: holds the runs
        study: whose arms are shown, each by its first seed
        split: that was scored

    Returns:
        a block a tile; and why there are none, else how to read them
    """
    runs = {arm.name: arm.runs[0] for arm in study.arms[:MOST_ARMS]}
    if len(runs) < 2:
        return [], "Fewer than two arms have a finished run."
    px = next(iter(runs.values())).params.get("tile_size.px")
    other = [name for name, run in runs.items() if run.params.get("tile_size.px") != px]
    runs = {name: run for name, run in runs.items() if name not in other}
    if len(runs) < 2:
        return [], f"No tiles are shown: the baseline's have {px} px, those of {', '.join(other)} another size."
    try:
        tiles = _tiles(store, next(iter(runs.values())), split)
    except (DataError, TrackingError) as error:
        return [], f"No tiles are shown: {error}"
    files = {name: set(files_in(store, run, "masks")) for name, run in runs.items()}
    index = tiles.index.iloc[tiles.rows(split)]
    shared = set.intersection(*files.values())
    index = index[[mask_file(str(name), shared) is not None for name in index["tile"]]]
    if index.empty:
        lacking = [name for name, found in files.items() if not found]
        why = f"{', '.join(lacking)} left no masks (tracking.log_masks)" if lacking else "the arms' tiles are others"
        return [], f"No tiles are shown: {why}."
    index = index.assign(place=index.index).sort_values(["lake_fraction", "tile"], ascending=[False, True])
    index["turn"] = index.groupby("sensor").cumcount()
    chosen = index.sort_values(["turn", "sensor"], kind="stable").head(WANTED)
    blocks = []
    for number, row in enumerate(chosen.to_dict("records")):
        masks = {arm: _mask(store, run, mask_file(row["tile"], shared) or "") for arm, run in runs.items()}
        image, truth = tiles.images[row["place"]], tiles.labels[row["place"]]
        title = f"{row['tile']}, {row['sensor']}" + (f", {row['region']}" if row["region"] else "")
        blocks.append(Tiles(f"tile{number}", title, _panels(image, truth, masks, _rgb(tiles))))
    seed = next(iter(runs.values())).params.get("seed", "0")
    more = f" The first {MOST_ARMS} of {len(study.arms)} arms." if len(study.arms) > MOST_ARMS else ""
    more += f" Without {', '.join(other)}, whose tiles have another size." if other else ""
    return blocks, (
        f"Chosen by the data alone, not by the result: in turn from every sensor, those with most lake. Seed {seed} of "
        "each arm. Predictions: hits blue, false alarms vermilion, misses yellow. Differences: blue where the arm is "
        f"right and the baseline wrong, vermilion where it is the other way round.{more}"
    )


def _tiles(store: Store, run: TrackedRun, split: str) -> TileStore:
    source = tile_source(store, run, split)
    if source is not None and not Path(source).is_dir():  # noted as it was seen from where the study began
        source = str(store.mlruns.absolute().parent / source)
    if source is None or not Path(source).is_dir():
        raise DataError(f"the tile store of run {run.run_id[:12]} is not on this machine ({source or 'not known'}).")
    tiles = TileStore.open(source)
    wanted = run.tags.get("glidexp.data_hash", tiles.data_hash)
    if tiles.data_hash != wanted:
        raise DataError(f"{source} holds other tiles now than run {run.run_id[:12]} was scored on.")
    return tiles


def _mask(store: Store, run: TrackedRun, name: str) -> Mask:
    with tempfile.TemporaryDirectory() as folder:
        return read_mask(fetch_file(store, run, f"masks/{name}", Path(folder)))


def _panels(image: Mask, truth: Mask, masks: Mapping[str, Mask], rgb: list[int]) -> list[tuple[str, bytes]]:
    valid = truth <= 1
    panels = [("image", image[..., rgb]), ("truth", truth_picture(truth))]
    first = next(iter(masks))
    for arm, mask in masks.items():
        score = _iou(truth == 1, mask > 0, valid)
        panels.append((f"{arm}{score}", error_overlay(image[..., rgb], truth, mask, valid)))
        if arm != first:
            shown = difference_overlay(image[..., rgb], truth, masks[first], mask)
            panels.append((f"{arm}: where it differs from the baseline", shown))
    return [(label, png_bytes(_squared(picture))) for label, picture in panels]


def _squared(picture: Mask) -> Mask:
    """Small tiles enlarged by whole pixels to 168 or more, so that browsers do not blur them."""
    times = max(1, -(-168 // picture.shape[0]))
    return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1)) if times > 1 else picture


def _iou(lake: NDArray[np.bool_], found: NDArray[np.bool_], valid: NDArray[np.bool_]) -> str:
    union = np.count_nonzero((lake | found) & valid)
    return f": IoU {np.count_nonzero(lake & found & valid) / union:.2f}" if union else ""


def _rgb(tiles: TileStore) -> list[int]:
    bands = list(tiles.manifest["bands"])
    if {"red", "green", "blue"} <= set(bands):
        return [bands.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if len(bands) > 2 else [0, 0, 0]
