"""Studies as their runs leave them, without training: networks that see lakes with a given skill, scored for real."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from scipy import ndimage

from glidexp.data.masks import write_mask
from glidexp.data.store import TileStore
from glidexp.data.writer import StoreWriter
from glidexp.scoring.counts import BINS, HALF_BIN, PER_LOGIT
from glidexp.scoring.lake_scores import lake_scores, named
from glidexp.scoring.lakes import score_lakes, write_lakes
from glidexp.scoring.scores import score_split, scores_table, write_scores
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import CELLS, FOLDER, PLAN, Entry, Status, study_id
from glidexp.tracking.store import Store

PX = 48
MANIFEST = {"recipe": {}, "recipe_id": "r", "split_hash": "5" * 64, "sensors": {}, "counts": {}, "dropped": {}}


def ground(
    folder: Path, *, scenes: int = 8, tiles: int = 2, seed: int = 0, px: int = PX, placed: bool = False, first: int = 0
) -> TileStore:
    """A store of test tiles with round lakes, two sensors and two regions; `placed`: side by side in their scene;
    scenes are numbered from `first`."""
    random = np.random.default_rng(seed)
    rows, cols = np.indices((px, px))
    with StoreWriter(folder, tile_px=px, bands=("red", "green", "blue")) as writer:
        for number in range(scenes * tiles):
            scene = first + number // tiles
            label = np.zeros((px, px), np.uint8)
            for _ in range(3):
                y, x, radius = random.uniform(4, px - 4), random.uniform(4, px - 4), random.uniform(2, px / 6)
                label[(rows - y) ** 2 + (cols - x) ** 2 < radius**2] = 1
            shade = ndimage.gaussian_filter(random.normal(size=(px, px)), 3)
            base = 120 + 180 * shade
            image = np.stack([base, base * 0.95, base * 0.85], -1)
            image[label == 1] = (40, 80, 120)
            row, col = (0, number % tiles * px) if placed else (-1, -1)
            place = {"tile": f"s{scene}_{number % tiles}", "scene": f"s{scene}", "row": row, "col": col, "crs": ""}
            place |= {"sensor": ("landsat8", "sentinel2")[scene % 2], "region": ("andes", "alaska")[scene // 2 % 2]}
            place |= {"gsd_m": (30.0, 10.0)[scene % 2], "block": "b", "split": "test", "transform": None}
            writer.add(image.clip(0, 255).astype(np.uint8), label, place)
        writer.close(MANIFEST)
    return TileStore.open(folder)


def cut(folder: Path, tiles: TileStore, px: int) -> TileStore:
    """The same ground in tiles of another size; what hangs over the edge of a scene is invalid."""
    with StoreWriter(folder, tile_px=px, bands=("red", "green", "blue")) as writer:
        for _, of_scene in tiles.index.groupby("scene", sort=False):
            wide = -(-int(of_scene["col"].max() + tiles.tile_px) // px) * px
            high = -(-tiles.tile_px // px) * px
            image, label = np.zeros((high, wide, 3), np.uint8), np.full((high, wide), 255, np.uint8)
            for place, one in of_scene.iterrows():
                at = slice(0, tiles.tile_px), slice(one["col"], one["col"] + tiles.tile_px)
                image[at], label[at] = tiles.images[place], tiles.labels[place]
            for row in range(0, high, px):
                for col in range(0, wide, px):
                    at = slice(row, row + px), slice(col, col + px)
                    about = one[["scene", "crs", "sensor", "region", "gsd_m", "block", "split"]].to_dict()
                    about |= {"tile": f"{one['scene']}_{row}_{col}", "row": row, "col": col, "transform": None}
                    writer.add(image[at], label[at], about)
        writer.close(MANIFEST)
    return TileStore.open(folder)


Skill = float | Mapping[str, float]
"""of a network: of 1 it is good; or by region"""


def answers(tiles: TileStore, skill: Skill, luck: int) -> np.ndarray:
    """(N, H, W) bins of a network: the truth blurred, plus smooth noise that is larger with less skill."""
    of_tile = [skill if isinstance(skill, float) else skill[region] for region in tiles.index["region"].astype(str)]
    random = np.random.default_rng(luck)
    noise = ndimage.gaussian_filter(random.normal(size=tiles.labels.shape), (0, 1.5, 1.5)) * 7.5
    hard = np.random.default_rng(77).uniform(0.6, 1.4, tiles.index["scene"].nunique())
    scene = pd.factorize(tiles.index["scene"])[0]
    bias = 0.1 * random.normal()
    truth = ndimage.gaussian_filter(tiles.labels.astype(float), (0, 0.8, 0.8)) * 8 - 3.5
    logit = truth + bias + noise * (hard[scene] / np.array(of_tile))[:, None, None]
    return np.clip(np.floor(logit * PER_LOGIT) + HALF_BIN, 0, BINS - 1).astype(np.uint8)


def histograms(labels: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(N, 2, 256), as training counts them."""
    hist = np.zeros((len(labels), 2, BINS), np.int32)
    for number, (label, at) in enumerate(zip(labels, bins, strict=True)):
        for side in (0, 1):
            hist[number, side] = np.bincount(at[label == side], minlength=BINS)
    return hist


def leave(
    store: Store,
    folder: Path,
    tiles: TileStore,
    skill: Skill,
    luck: int,
    params: Mapping[str, Any],
    tags: dict[str, str],
    bins: np.ndarray | None = None,
) -> tuple[str, dict[str, float]]:
    """A finished run of a network of that skill, or of one that gave `bins`; gives its id and test metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    bins = answers(tiles, skill, luck) if bins is None else bins
    hist = histograms(tiles.labels, bins)
    write_scores(scores_table(tiles.index, hist, 0.5), folder / "scores.parquet")
    lakes = score_lakes(tiles.index, np.asarray(tiles.labels), bins, HALF_BIN)
    write_lakes(lakes.lakes, folder / "lakes.parquet")
    (folder / "masks").mkdir(exist_ok=True)
    for tile, at in zip(tiles.index["tile"], bins, strict=True):
        write_mask(folder / "masks", tile, at >= HALF_BIN, transform=None, crs="")
    final = score_split(tiles.index, hist, 0.5, "test") | named(lake_scores(lakes), "test")
    final["test/naive/index_threshold/lake_iou_pooled"] = 0.31
    client = store.client
    run = client.create_run(store.experiment_id("glidexp"), tags=tags, run_name=f"skill{skill}").info.run_id
    now, epochs = int(time.time() * 1000), int(params.get("train.epochs", 8))
    at_end = final["test/lake_iou_pooled"]
    by_epoch = [
        Metric("val/lake_iou_pooled", at_end * (1 - np.exp(-0.5 * (epoch + 1))), now, epoch + 1)
        for epoch in range(epochs)
    ]
    metrics = [*by_epoch, *(Metric(name, float(value), now, epochs + 1) for name, value in final.items())]
    metrics.append(Metric("train/images_per_s", float(params.get("speed", 10.0)), now, epochs))
    known = {"train.epochs": epochs, **params}
    client.log_batch(run, metrics=metrics, params=[Param(key, str(value)) for key, value in known.items()])
    source = json.dumps({"uri": str(tiles.path)})
    used = Dataset(name="made", digest=tiles.data_hash[:8], source_type="local", source=source)
    client.log_inputs(run, datasets=[DatasetInput(used, [InputTag("mlflow.data.context", "test")])])
    client.log_artifacts(run, str(folder))
    client.set_terminated(run, "FINISHED")
    return run, final


def make_study(
    store: Store,
    folder: Path,
    tiles: TileStore,
    arms: Mapping[str, tuple[Sequence[str], Skill]],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    failed: Mapping[str, str] | None = None,
    facts: Mapping[str, tuple[float, int]] | None = None,
    name: str = "made",
    primary: str = "test/lake_iou_pooled",
    laid_out: Mapping[str, Any] | None = None,
    spent: Mapping[str, dict[str, int]] | None = None,
    equal: str = "steps",
    grounds: Mapping[str, TileStore] | None = None,
    perfect: bool = False,
    folds: Sequence[TileStore] = (),
) -> tuple[str, Plan]:
    """A study with its runs, plan and cells; gives the id of its parent run.

    Args:
        arms: words and skill by arm, baseline first
        failed: error by name of a cell that has no run
        facts: images/s and parameters by arm
        spent, equal: as the plan has them
        grounds: tiles on which an arm was scored, where they are others
        perfect: every network gives the truth, whatever its skill
        folds: the test tiles of each, where the study has some
    """

    def of_fold(fold: int | None) -> list[str]:
        return [] if fold is None else [f"dataset.split.folds={len(folds)}", f"dataset.split.fold={fold}"]

    cells = tuple(
        Cell(
            arm,
            seed,
            ("dataset=made", *words, *of_fold(fold), f"seed={seed}"),
            f"{number:06x}{seed:08x}{n:02x}",
            fold=fold,
        )
        for number, (arm, (words, _)) in enumerate(arms.items())
        for seed in seeds
        for n, fold in enumerate(range(len(folds)) if folds else (None,))
    )
    plan = Plan(name, "Which is best?", primary, tuple(arms), tuple(seeds), cells, budget="the same 400 steps")
    plan = replace(plan, laid_out=dict(laid_out or {}), spent=dict(spent or {}), equal=equal, folds=len(folds))
    identity = study_id(plan)
    tags = {"glidexp.study": name, "glidexp.study_id": identity, "glidexp.kind": "study"}
    parent = store.client.create_run(store.experiment_id("glidexp"), tags=tags, run_name=f"study {name}").info.run_id
    entries = {cell.name: Entry() for cell in cells}
    for number, cell in enumerate(cells):
        if cell.name in (failed or {}):
            entries[cell.name] = replace(Entry(), status=Status.failed, error=(failed or {})[cell.name])
            continue
        speed, size = (facts or {}).get(cell.arm, (10.0, 1_000_000))
        params = dict(word.split("=") for word in cell.words if not word.startswith("init")) | {
            "seed": cell.seed,
            "speed": speed,
        }
        about = {"glidexp.config_id": cell.key, "mlflow.parentRunId": parent, "glidexp.parameters": str(size)}
        about |= {"glidexp.data_hash": tiles.data_hash, "mlflow.source.git.commit": "c" * 40, "glidexp.device": "cpu"}
        own = (grounds or {}).get(cell.arm, tiles) if cell.fold is None else folds[cell.fold]
        about["glidexp.data_hash"] = own.data_hash
        truth = np.where(np.asarray(own.labels) == 1, BINS - 1, 0).astype(np.uint8) if perfect else None
        run, final = leave(
            store, folder / str(number), own, arms[cell.arm][1],
            1000 * (1 + list(arms).index(cell.arm)) + 100 * (cell.fold or 0) + cell.seed, params, about, truth,
        )  # fmt: skip
        entries[cell.name] = Entry(train=run, status=Status.finished, score=final[primary], seconds=60.0)
    at = store.mlruns / FOLDER / identity
    at.mkdir(parents=True, exist_ok=True)
    (at / PLAN).write_text(plan.to_json())
    (at / CELLS).write_text(json.dumps({key: asdict(entry) for key, entry in entries.items()}))
    store.client.log_artifacts(parent, str(at))
    return parent, plan
