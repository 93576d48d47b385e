"""The final scoring: what a network says of whole splits, and everything of it that lasts in a run.

`predict` meets the network once. `log_results` makes all scores, tables, masks and pictures of what it gave.
"""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from glidexp.config import AugmentationConfig, TrackingConfig
from glidexp.data.masks import write_mask
from glidexp.data.sensors import rgb_of
from glidexp.data.steps import shown_steps
from glidexp.errors import RunFailed
from glidexp.scoring import figures, plots
from glidexp.scoring.calibration import fit_temperature
from glidexp.scoring.confusion import scene_rows
from glidexp.scoring.lake_scores import lake_scores, named, say_what_is_left_out
from glidexp.scoring.lakes import score_lakes, write_lakes
from glidexp.scoring.mistakes import mistake_scores, mistakes, summary, worst_tiles, write_mistakes
from glidexp.scoring.naive import INDICES, ROWS, naive_scores
from glidexp.scoring.predictions import Predictions, Tiles
from glidexp.scoring.scores import best_threshold, score_split, scores_table, write_scores
from glidexp.tracking.run import Run
from glidexp.training.augmentation.augment import Augment
from glidexp.training.augmentation.telling import Telling
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("glidexp")
SHEET_TILES = 4


def plain(mean: Sequence[float], std: Sequence[float], runtime: Runtime, telling: Telling | None = None) -> Augment:
    """Normalisation alone, as tiles are scored.

    Args:
        mean: a value a band, 0-255
        std: a value a band, 0-255
        runtime: gives the type of number that the network is fed
        telling: puts behind the bands what is known of each tile, where the network is told
    """
    return Augment(AugmentationConfig(), mean=mean, std=std, seed=0, dtype=runtime.dtype, telling=telling)


def predict(
    evaluator: Evaluator,
    model: torch.nn.Module,
    split: str,
    *,
    threshold: float | None = None,
    temperature: float | None = None,
    scratch: Path | None = None,
) -> Predictions:
    """Runs the network over the evaluator's tiles and keeps its answer to every pixel.

    Args:
        evaluator: which tiles, and how they are fed
        model: gives logits (B, 1, H, W)
        split: name of these tiles before their metrics
        threshold: probability; the best one of these tiles when not given, as on val
        temperature: goes with the threshold; fitted to these tiles when no threshold is given
        scratch: folder for a file of a byte a pixel, which has no name and is gone with the process; in memory when
            not given

    Raises:
        RunFailed: the network gives NaN, or there is no room in `scratch`
    """
    rows, (height, width) = evaluator.rows, evaluator.tiles.labels.shape[1:]
    bins = _room((len(rows), height, width), scratch)
    done = 0

    def keep(_: npt.NDArray[np.int64], batch_BHW: torch.Tensor) -> None:
        nonlocal done
        bins[done : done + len(batch_BHW)] = batch_BHW.cpu().numpy()
        done += len(batch_BHW)

    hist = evaluator.histograms(model, sink=keep)
    if threshold is None:
        threshold, temperature = best_threshold(hist), fit_temperature(hist)
    return Predictions(split, evaluator.tiles, rows, hist, bins, threshold, temperature)


def _room(shape: tuple[int, int, int], folder: Path | None) -> npt.NDArray[np.uint8]:
    if folder is None:
        return np.empty(shape, dtype=np.uint8)
    size = int(np.prod(shape))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # a file without a name: nothing stays, however we end
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is told here, and kills no one later
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise RunFailed(
            f"no room for {size / 1e6:.0f} MB of predictions in {folder} ({error.strerror}): make some, and give the "
            "same command again."
        ) from None


def log_results(
    tracked: Run,
    scored: Sequence[Predictions],
    tracking: TrackingConfig,
    *,
    step: int,
    fit_rows: npt.NDArray[np.int64] | None = None,
) -> dict[str, float]:
    """Makes every final score and logs what lasts but the metrics: tables, curves, masks, pictures.

    Args:
        tracked: the run
        scored: by split; the last one is reported, its masks and its sheet are kept
        tracking: how much of it is wanted
        step: of pictures, epochs done + 1
        fit_rows: tiles that give the naive indices their thresholds; those of val when not given

    Returns:
        every final metric by name, not logged yet
    """
    metrics: dict[str, float] = {}
    for one in scored:
        metrics |= score_split(one.index, one.hist, one.threshold, one.split, temperature=one.temperature)
        with _shown(one, "naive rows") as told:
            metrics |= naive_scores(one.tiles, one.split, rows=one.rows, fit_rows=fit_rows, told=told)
        metrics[f"tiles/{one.split}"] = float(len(one))
    metrics |= _lakes(tracked, scored)
    reported = scored[-1]
    metrics |= _mistakes(tracked, reported)
    table = pd.concat([scores_table(one.index, one.hist, one.threshold) for one in scored], ignore_index=True)
    tracked.file("scores.parquet", lambda path: write_scores(table, path))
    tracked.table(scene_rows(table), "scene_scores.csv")
    if tracking.log_masks:
        with tempfile.TemporaryDirectory() as aside:  # on a full disk GDAL's errors have no number, a copy's do
            tracked.artifact(_masks(Path(aside) / "masks", reported))
    if tracking.probe_tiles:
        rows = probe_rows(reported.tiles, reported.rows, SHEET_TILES)
        places = np.searchsorted(reported.rows, rows)
        picture(tracked, grid(reported, places.tolist()), "plots/predictions.png")
        _worst(tracked, reported)
    _curves(tracked, scored, metrics)
    counts = table.loc[table["split"] == reported.split, ["tp", "fp", "fn", "tn"]].sum().astype(int).to_dict()
    head: dict[str, Any] = {"split": reported.split, "threshold": reported.threshold}
    tracked.text(json.dumps(head | counts, indent=1), "confusion.json")
    probes(tracked, scored[0], probe_rows(scored[0].tiles, scored[0].rows, tracking.probe_tiles), step=step)
    return metrics


@contextmanager
def _shown(scored: Predictions, what: str) -> Iterator[Callable[[int], object]]:
    """Shows how far a work on predictions is, by tiles: a network that has learnt little has many false alarms."""
    with shown_steps(len(scored), "tiles", True, what=f"{what} of {scored.split}", late=True) as step:
        yield lambda tiles: step("", tiles)


def _lakes(tracked: Run, scored: Sequence[Predictions]) -> dict[str, float]:
    """Per-lake scores; logs a row a lake and a row a stratum."""
    metrics: dict[str, float] = {}
    lakes, strata = [], []
    for one in scored:
        with _shown(one, "lakes") as told:
            found = score_lakes(one.index, one.label, one.bins, one.threshold_bin, one.tiles.inventory, told)
        table = lake_scores(found)
        metrics |= named(table, one.split)
        lakes.append(found.lakes)
        strata.append(table.assign(split=one.split))
    every = pd.concat(lakes, ignore_index=True)
    say_what_is_left_out(every)
    if scored[0].tiles.inventory is None and scored[0].tiles.manifest.get("lakes", {}).get("labelled"):
        log.info(
            "no scores by lake type and distance to ice: the tile store was built before these were kept; delete its "
            "folder to have it built again"
        )
    tracked.file("lakes.parquet", lambda path: write_lakes(every, path))
    tracked.table(pd.concat(strata, ignore_index=True), "lake_scores.csv")
    return metrics


def _mistakes(tracked: Run, reported: Predictions) -> dict[str, float]:
    """What false alarms lie on and which lakes are missed; logs a row each, and both in a few rows."""
    tiles = reported.tiles
    bands = list(tiles.manifest["bands"])
    with _shown(reported, "mistakes") as told:
        table = mistakes(reported, rgb_of(bands) if len(bands) > 2 else None, tiles.inventory, tiles.ice, told)
    tracked.file("errors.parquet", lambda path: write_mistakes(table, path))
    tracked.table(summary(table), "errors.csv")
    return mistake_scores(table, reported.split)


def _worst(tracked: Run, reported: Predictions) -> None:
    """A picture of the tiles with most wrong pixels."""
    worst = worst_tiles(reported)
    if not worst:
        return
    notes = [f"false {false:,} px · missed {missed:,} px" for _, false, missed in worst]
    drawn = grid(reported, [place for place, _, _ in worst], notes, panel_px=160, columns=2)
    picture(tracked, drawn, "plots/worst_tiles.png")


def _masks(folder: Path, predictions: Predictions) -> Path:
    folder.mkdir()
    with _shown(predictions, "masks") as told:
        for place, tile in enumerate(predictions.index.to_dict("records")):
            write_mask(folder, tile["tile"], predictions.lake(place), transform=tile["transform"], crs=tile["crs"])
            told(1)
    return folder


def _curves(tracked: Run, scored: Sequence[Predictions], metrics: dict[str, float]) -> None:
    for one in scored:
        naive = {}
        for name in INDICES:
            row = f"{one.split}/naive/{name}"
            point = metrics.get(f"{row}/recall_pooled", np.nan), metrics.get(f"{row}/precision_pooled", np.nan)
            naive[ROWS[name]] = point
        curve = plots.pr_figure(one.hist, one.threshold, naive=naive, title=one.split)
        reliability = plots.reliability_figure(one.hist, temperature=one.temperature, title=one.split)
        for name, drawn in ((f"pr_{one.split}", curve), (f"reliability_{one.split}", reliability)):
            _plot(tracked, name, drawn)


def _plot(tracked: Run, name: str, drawn: "Figure") -> None:
    """Logs a drawing among the run's plots, as PNG and as PDF for a paper."""
    tracked.file(f"plots/{name}.png", lambda path: path.write_bytes(figures.png_bytes(drawn)))
    tracked.file(f"plots/{name}.pdf", lambda path: path.write_bytes(figures.pdf_bytes(drawn)))


def probes(tracked: Run, predictions: Predictions, rows: npt.NDArray[np.int64], *, step: int) -> None:
    """Logs a picture of each of these rows of the store, which the predictions must hold, in ascending order."""
    for number, place in enumerate(np.searchsorted(predictions.rows, rows).tolist()):
        name = f"probe_{number:02d}_{predictions.index.iloc[place]['sensor']}"
        tracked.image(name, grid(predictions, [place]), step=step)


def grid(
    predictions: Predictions, places: list[int], notes: Sequence[str] = (), *, panel_px: int = 224, columns: int = 1
) -> npt.NDArray[np.uint8]:
    """Image, truth, prediction and error of some tiles: (height, width, 3) uint8.

    Args:
        predictions: hold the tiles
        places: which of them
        notes: stands above each tile, after its name; sensor and region instead when not given
        panel_px: side of a panel
        columns: tiles beside each other
    """
    rgb = rgb_of(predictions.tiles.manifest["bands"])
    index = predictions.index
    titles = [" · ".join(str(part) for part in index.loc[place, ["sensor", "region"]] if part) for place in places]
    if notes:
        titles = [f"{name} · {note}" for name, note in zip(index["tile"].iloc[places], notes, strict=True)]
    return figures.probe_grid(
        [predictions.image(place)[..., rgb] for place in places],
        [predictions.label(place) for place in places],
        [predictions.probability(place) for place in places],
        predictions.threshold,
        titles,
        panel_px=panel_px,
        columns=columns,
    )


def picture(tracked: Run, image_HWC: npt.NDArray[np.uint8], name: str) -> None:
    """Logs a picture as the file `name`, e.g. `plots/predictions.png`."""
    tracked.file(name, lambda path: figures.save_png(image_HWC, path))


def probe_rows(tiles: Tiles, rows: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[np.int64]:
    """At most `wanted` of these rows, ascending: taken in turn from every sensor, those with most lake first."""
    table = tiles.index.iloc[rows].assign(row=rows)
    table = table.sort_values(["lake_fraction", "tile"], ascending=[False, True])
    table["turn"] = table.groupby("sensor").cumcount()
    picked = table.sort_values(["turn", "sensor"], kind="stable").head(wanted)
    return np.sort(picked["row"].to_numpy(dtype=np.int64))
