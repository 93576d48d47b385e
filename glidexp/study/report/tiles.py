"""Fixed probe tiles side by side: image, truth, the baseline, every other arm, and where they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glidexp.data.masks import mask_file, read_mask
from glidexp.data.sensors import rgb_of
from glidexp.data.store import TileStore
from glidexp.errors import DataError, TrackingError
from glidexp.scoring.figures import difference_overlay, error_overlay, iou_text, png_bytes, truth_picture
from glidexp.study.comparison.studies import Study
from glidexp.study.report.blocks import Tiles
from glidexp.tracking.found import TrackedRun, read_file
from glidexp.tracking.gathered import files_in, tile_source
from glidexp.tracking.store import Store

WANTED = 4
MOST_ANSWERS = 32
"""that are shown over all tiles: of many arms each is shown on fewer tiles, as the page is one file"""
Mask = NDArray[np.uint8]


def probe_tiles(store: Store, study: Study, split: str) -> tuple[list[Tiles], str]:
    """Tiles chosen by the data alone: in turn from every sensor, those with most lake first.

    They are those of the baseline's scored run. An arm that was scored on tiles of another size is shown on the same
    pixels, put together from its own tiles.

    Args:
        store: holds the runs
        study: whose arms are shown, each by its first seed, over folds on the first of them
        split: that was scored

    Returns:
        a block a tile; and why there are none, else how to read them
    """
    runs = {arm.name: arm.runs[0].parts[0] for arm in study.arms}
    if len(runs) < 2:
        return [], "Fewer than two arms have a finished run."
    try:
        tiles = _tiles(store, next(iter(runs.values())), split)
        answers = {name: _answers(store, run, split, tiles.tile_px) for name, run in runs.items()}
    except (DataError, TrackingError) as error:
        return [], f"No tiles are shown: {error}"
    lacking = [name for name, found in answers.items() if not found.files]
    if lacking:
        return [], f"No tiles are shown: {', '.join(lacking)} left no masks (tracking.log_masks)."
    first = next(iter(runs))
    base = "the baseline" if first == study.plan.arms[0] else first  # where that one has no finished run
    blocks: list[Tiles] = []
    wanted = min(WANTED, max(1, MOST_ANSWERS // len(runs)))
    for row in _candidates(tiles, split):
        if not all(found.may_have(row) for found in answers.values()):
            continue
        image, truth = tiles.images[row["place"]], tiles.labels[row["place"]]
        masks = {arm: found.mask(row, truth <= 1) for arm, found in answers.items()}
        if len(known := {arm: mask for arm, mask in masks.items() if mask is not None}) == len(masks):
            title = f"{row['tile']}, {row['sensor']}" + (f", {row['region']}" if row["region"] else "")
            blocks.append(Tiles(f"tile{len(blocks)}", title, _panels(image, truth, known, rgb_of(tiles.bands), base)))
        if len(blocks) == wanted:
            break
    if not blocks:
        return [], "No tiles are shown: the arms' tiles are others, and do not cover the same pixels."
    seed = next(iter(runs.values())).params.get("seed", "0")
    fold = " on fold 0" * bool(study.plan.folds)
    cut = [f"{name} ({found.px} px)" for name, found in answers.items() if found.px != tiles.tile_px]
    more = f" Put together from tiles of their own size: {', '.join(cut)}." if cut else ""
    return blocks, (
        "Chosen by the data alone, not by the result: in turn from every sensor, those with most lake. "
        f"Seed {seed}{fold} of each arm. Predictions: hits blue, false alarms vermilion, misses yellow. Differences: "
        f"blue where the arm is right and {base} wrong, vermilion where it is the other way round.{more}"
    )


def _candidates(tiles: TileStore, split: str) -> list[dict[str, Any]]:
    """Tiles of a split, those first that are wanted most, with their place in the store."""
    index = tiles.index.iloc[tiles.rows(split)]
    lake = index["lake_fraction"] * index["valid_fraction"]  # the first is of the valid pixels alone
    index = index.assign(place=index.index, lake=lake).sort_values(["lake", "tile"], ascending=[False, True])
    index["turn"] = index.groupby("sensor").cumcount()
    ordered = index.sort_values(["turn", "sensor"], kind="stable")
    return [{str(key): value for key, value in row.items()} for row in ordered.to_dict("records")]


@dataclass(frozen=True, slots=True)
class _Answers:
    """The masks that a run left, by tile, and where its tiles lie."""

    store: Store
    run: TrackedRun
    files: frozenset[str]
    px: int
    """side of its tiles"""
    places: dict[str, list[tuple[int, int, str]]] | None
    """row, column and name of its tiles, by scene; None where they are the tiles that are shown"""

    def may_have(self, tile: Mapping[str, Any]) -> bool:
        """Whether there is anything on a tile, which costs no look at a mask."""
        if self.places is None:
            return mask_file(str(tile["tile"]), self.files) is not None
        return tile["row"] >= 0 and str(tile["scene"]) in self.places

    def mask(self, tile: Mapping[str, Any], valid: NDArray[np.bool_]) -> Mask | None:
        """(H, W) on the pixels of a tile; None where the run's tiles do not cover them."""
        if self.places is None:
            file = mask_file(str(tile["tile"]), self.files)
            return None if file is None else _mask(self.store, self.run, file)
        side, top, left = len(valid), int(tile["row"]), int(tile["col"])
        found, met = np.zeros((side, side), np.uint8), np.zeros((side, side), bool)
        for row, col, name in self.places[str(tile["scene"])]:
            down, own_down = _overlap(top, side, row, self.px)
            right, own_right = _overlap(left, side, col, self.px)
            file = mask_file(name, self.files)
            if file is not None and down.start < down.stop and right.start < right.stop:
                found[down, right] = _mask(self.store, self.run, file)[own_down, own_right]
                met[down, right] = True
        return found if met[valid].all() else None


def _overlap(start: int, side: int, other: int, other_side: int) -> tuple[slice, slice]:
    """What two stretches of pixels share, as each of them counts."""
    first, last = max(start, other), min(start + side, other + other_side)
    return slice(first - start, last - start), slice(first - other, last - other)


def _answers(store: Store, run: TrackedRun, split: str, px: int) -> _Answers:
    """What a run left, beside tiles of `px`.

    Raises:
        DataError: its tiles have another size, and are not on this machine
    """
    files = frozenset(files_in(store, run, "masks"))
    own = len(_mask(store, run, min(files))) if files else px  # the settings of the training do not say it
    if own == px:
        return _Answers(store, run, files, px, None)
    tiles = _tiles(store, run, split)
    index = tiles.index.iloc[tiles.rows(split)]
    places: dict[str, list[tuple[int, int, str]]] = {}
    for tile, scene, row, col in zip(index["tile"], index["scene"], index["row"], index["col"], strict=True):
        if row >= 0:
            places.setdefault(str(scene), []).append((int(row), int(col), str(tile)))
    return _Answers(store, run, files, own, places)


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
    return read_file(store, run, f"masks/{name}", read_mask)


def _panels(image: Mask, truth: Mask, masks: Mapping[str, Mask], rgb: list[int], base: str) -> list[tuple[str, bytes]]:
    """What is shown of a tile: the first of the masks is that of `base`, as it is called."""
    valid = truth <= 1
    panels = [("image", image[..., rgb]), ("truth", truth_picture(truth))]
    first = next(iter(masks))
    for arm, mask in masks.items():
        iou = iou_text(truth == 1, mask > 0, valid)
        panels.append((f"{arm}: {iou}" if iou else arm, error_overlay(image[..., rgb], truth, mask, valid)))
        if arm != first:
            shown = difference_overlay(image[..., rgb], truth, masks[first], mask)
            panels.append((f"{arm}: where it differs from {base}", shown))
    return [(label, png_bytes(_squared(picture))) for label, picture in panels]


def _squared(picture: Mask) -> Mask:
    """Small tiles enlarged by whole pixels to 168 or more, so that browsers do not blur them."""
    times = max(1, -(-168 // picture.shape[0]))
    return np.ascontiguousarray(picture.repeat(times, 0).repeat(times, 1)) if times > 1 else picture
