"""What a run leaves in tracking: scores by epoch, pictures, plots, masks, tables, environment and the model."""

import json
import logging
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from omegaconf import OmegaConf
from rich.console import Console

from glidexp.config import AugmentationConfig, Config
from glidexp.data.masks import write_mask
from glidexp.data.store import TileStore
from glidexp.models.build import parameters
from glidexp.models.export import save_bundle
from glidexp.scoring import figures, plots
from glidexp.scoring.naive import naive_scores
from glidexp.scoring.scores import best_threshold, score_split, scores_table, write_scores
from glidexp.scoring.tables import summary_table
from glidexp.tracking.multirun import run_link, ui_hint
from glidexp.tracking.run import Run
from glidexp.tracking.store import Store
from glidexp.training.augment import Augment, build_augment
from glidexp.training.augment_picture import augmented_grid
from glidexp.training.device import Runtime
from glidexp.training.evaluate import Evaluator

log = logging.getLogger("glidexp")

SHEET_TILES = 4
MODEL_PACKAGES = ("glidexp", "torch", "torchvision", "timm", "segmentation-models-pytorch", "safetensors", "numpy")
"""what is needed to load the model again"""


class Recorder:
    """Scores a run and writes down what it does. The loop itself knows neither scores nor tracking."""

    def __init__(self, tracked: Run, config: Config, tiles: TileStore, runtime: Runtime, identity: str) -> None:
        self.tracked = tracked
        self.config = config
        self.tiles = tiles
        self.runtime = runtime
        self.identity = identity
        mean, std = tiles.manifest["channel_mean"], tiles.manifest["channel_std"]
        self.normalise = build_augment(AugmentationConfig(), mean=mean, std=std, seed=0, dtype=runtime.dtype)
        self.rgb = _rgb(list(tiles.manifest["bands"]))
        self.val = self._evaluator(tiles.rows("val"))
        self.probe = _probe_rows(tiles, "val", config.tracking.probe_tiles)

    def _evaluator(self, rows: npt.NDArray[np.int64]) -> Evaluator:
        return Evaluator(self.tiles, rows, self.normalise, self.runtime, self.config.train.batch_size)

    def begin(self, model: torch.nn.Module) -> None:
        """Logs what is known before the first step."""
        plain = OmegaConf.to_yaml(OmegaConf.structured(self.config))
        self.tracked.text(plain, "config.yaml")
        self.tracked.text(json.dumps(self.tiles.manifest, indent=1), "data/manifest.json")
        tags = {"glidexp.torch": torch.__version__, "glidexp.device": device_name(self.runtime)}
        tags |= {f"glidexp.{key}": value for key, value in self.runtime.resolved().items()}
        self.tracked.environment(tags | {"glidexp.parameters": str(parameters(model))})
        for split in ("train", "val", "test"):
            sensors = self.tiles.index.loc[self.tiles.rows(split), "sensor"].value_counts().to_dict()
            self.tracked.dataset_input(
                self.config.dataset.name,
                digest=self.tiles.data_hash,
                context=split,
                source=str(self.tiles.path),
                facts={"tiles": len(self.tiles.rows(split)), "tile_px": self.tiles.tile_px, "sensors": sensors}
                | {"split_hash": self.tiles.split_hash, "recipe_id": self.tiles.manifest.get("recipe_id", "")},
            )

    def augmented(self, augment: Augment, rows: npt.NDArray[np.int64]) -> None:
        """Draws 16 training tiles as the network will see them."""
        if not self.config.tracking.probe_tiles:
            return
        picked = rows[np.linspace(0, len(rows) - 1, 16).astype(int)]
        image = torch.from_numpy(np.stack([self.tiles.images[row] for row in picked])).permute(0, 3, 1, 2)
        label = torch.from_numpy(np.stack([self.tiles.labels[row] for row in picked]))
        device = self.runtime.device
        grid = augmented_grid(augment, image.to(device), label.to(device), torch.from_numpy(picked), 0)
        self._picture(grid, "plots/augmented.png")

    def val_scores(self, model: torch.nn.Module) -> dict[str, float]:
        """Scores on val at the threshold that is best there."""
        hist = self.val.histograms(model)
        return score_split(self.tiles.index.iloc[self.val.rows], hist, best_threshold(hist), "val")

    def epoch(self, epoch: int, metrics: dict[str, float], model: torch.nn.Module, *, last: bool) -> None:
        """Logs an epoch's scores (step 1 is the first epoch), and now and then the probe tiles."""
        self.tracked.metrics(metrics, step=epoch + 1)
        if last or epoch % self.config.tracking.images_every == 0:
            self._probe(model, metrics["val/threshold"], step=epoch + 1)

    def finish(self, model: torch.nn.Module, *, best_epoch: int) -> dict[str, float]:
        """Scores the chosen weights on val and test and logs everything that lasts.

        Returns:
            every final metric by name
        """
        index = self.tiles.index
        val_hist = self.val.histograms(model)
        threshold = best_threshold(val_hist)
        metrics = score_split(index.iloc[self.val.rows], val_hist, threshold, "val")
        test = self._evaluator(self.tiles.rows("test"))
        with tempfile.TemporaryDirectory() as aside:
            masks = Path(aside) / "masks"
            masks.mkdir()
            test_hist = test.histograms(model, sink=self._mask_sink(masks, threshold))
            if self.config.tracking.log_masks:
                self.tracked.artifact(masks)
            metrics |= score_split(index.iloc[test.rows], test_hist, threshold, "test")
            metrics |= naive_scores(self.tiles, "val") | naive_scores(self.tiles, "test")
            metrics |= {"best_epoch": float(best_epoch + 1), "tiles/train": float(len(self.tiles.rows("train")))}
            metrics |= {"tiles/val": float(len(self.val.rows)), "tiles/test": float(len(test.rows))}
            self._scores(Path(aside), (self.val.rows, val_hist), (test.rows, test_hist), threshold, metrics)
            if self.config.tracking.log_model:
                save_bundle(Path(aside) / "bundle", model, card=self._card(threshold, metrics))
                self.tracked.model(
                    Path(aside) / "bundle", in_channels=self.tiles.channels, pip_requirements=_requirements()
                )
        self._probe(model, threshold, step=self.config.train.epochs + 1)
        self._predictions(model, threshold)
        self.tracked.metrics(metrics, step=self.config.train.epochs + 1)
        return metrics

    def _scores(
        self,
        aside: Path,
        val: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
        test: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
        threshold: float,
        metrics: dict[str, float],
    ) -> None:
        parts = [scores_table(self.tiles.index.iloc[rows], hist, threshold) for rows, hist in (val, test)]
        write_scores(pd.concat(parts, ignore_index=True), aside / "scores.parquet")
        self.tracked.artifact(aside / "scores.parquet")
        for split, (_, hist) in (("val", val), ("test", test)):
            row = f"{split}/naive/index_threshold"
            point = metrics.get(f"{row}/recall_pooled", np.nan), metrics.get(f"{row}/precision_pooled", np.nan)
            self.tracked.figure(
                plots.pr_figure(hist, threshold, naive={"index threshold": point}, title=split), f"plots/pr_{split}.png"
            )
            self.tracked.figure(plots.reliability_figure(hist, title=split), f"plots/reliability_{split}.png")
        counts = parts[1][["tp", "fp", "fn", "tn"]].sum().astype(int).to_dict()
        self.tracked.text(json.dumps({"split": "test", "threshold": threshold} | counts, indent=1), "confusion.json")

    def _mask_sink(self, folder: Path, threshold: float) -> Any:
        index = self.tiles.index

        def sink(rows: npt.NDArray[np.int64], probability_BHW: torch.Tensor) -> None:
            if not self.config.tracking.log_masks:
                return
            for row, mask in zip(rows, (probability_BHW >= threshold).cpu().numpy(), strict=True):
                tile = index.iloc[row]
                write_mask(folder, tile["tile"], mask, transform=tile["transform"], crs=tile["crs"])

        return sink

    def _probe(self, model: torch.nn.Module, threshold: float, *, step: int) -> None:
        found = self._probabilities(model, self.probe)
        for number, row in enumerate(self.probe.tolist()):
            name = f"probe_{number:02d}_{self.tiles.index.iloc[row]['sensor']}"
            self.tracked.image(name, self._grid([row], found, threshold), step=step)

    def _predictions(self, model: torch.nn.Module, threshold: float) -> None:
        """One sheet of test tiles with image, truth, prediction and error: the picture for a paper."""
        rows = _probe_rows(self.tiles, "test", SHEET_TILES)
        if self.config.tracking.probe_tiles and len(rows):
            grid = self._grid(rows.tolist(), self._probabilities(model, rows), threshold)
            self._picture(grid, "plots/predictions.png")

    def _probabilities(self, model: torch.nn.Module, rows: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.float32]]:
        found: dict[int, npt.NDArray[np.float32]] = {}

        def sink(batch_rows: npt.NDArray[np.int64], probability_BHW: torch.Tensor) -> None:
            found.update(zip(batch_rows.tolist(), probability_BHW.float().cpu().numpy(), strict=True))

        if len(rows):
            self._evaluator(rows).histograms(model, sink)
        return found

    def _grid(
        self, rows: list[int], found: dict[int, npt.NDArray[np.float32]], threshold: float
    ) -> npt.NDArray[np.uint8]:
        index = self.tiles.index
        return figures.probe_grid(
            [self.tiles.images[row][..., self.rgb] for row in rows],
            [self.tiles.labels[row] for row in rows],
            [found[row] for row in rows],
            threshold,
            [" · ".join(str(part) for part in index.loc[row, ["sensor", "region"]] if part) for row in rows],
        )

    def _picture(self, image_HWC: npt.NDArray[np.uint8], name: str) -> None:
        from PIL import Image

        with tempfile.TemporaryDirectory() as aside:
            path = Path(aside) / Path(name).name
            Image.fromarray(image_HWC).save(path)
            self.tracked.artifact(path, str(Path(name).parent))

    def _card(self, threshold: float, metrics: dict[str, float]) -> dict[str, Any]:
        manifest = self.tiles.manifest
        return {
            "architecture": {
                "backbone": self.config.backbone.name,
                "decoder": self.config.decoder.name,
                "in_channels": self.tiles.channels,
            },
            "mean": list(manifest["channel_mean"]),
            "std": list(manifest["channel_std"]),
            "threshold": threshold,
            "bands": list(manifest["bands"]),
            "sensors": sorted(set(self.tiles.index.loc[self.tiles.rows("train"), "sensor"])),
            "tile_px": self.tiles.tile_px,
            "dataset": self.config.dataset.name,
            "split_hash": self.tiles.split_hash,
            "data_hash": self.tiles.data_hash,
            "config_id": self.identity,
            "scores": {name: value for name, value in metrics.items() if name.startswith("test/") and "/" in name},
        }


def show(metrics: dict[str, float], store: Store, experiment: str, run_id: str) -> None:
    """Prints the table of scores, and where to look."""
    console = Console()
    console.print(summary_table(metrics))
    hint = ui_hint(store.uri)
    console.print("Run: " + run_link(store.uri, store.experiment_id(experiment), run_id), soft_wrap=True)
    if hint:
        console.print(f"To open it: {hint}", highlight=False)


def _probe_rows(tiles: TileStore, split: str, wanted: int) -> npt.NDArray[np.int64]:
    """Fixed tiles, taken in turn from every sensor, those with most lake first."""
    rows = tiles.rows(split)
    table = tiles.index.iloc[rows].assign(row=rows)
    table = table.sort_values(["lake_fraction", "tile"], ascending=[False, True])
    table["turn"] = table.groupby("sensor").cumcount()
    picked = table.sort_values(["turn", "sensor"], kind="stable").head(wanted)
    return np.sort(picked["row"].to_numpy(dtype=np.int64))


def _rgb(bands: list[str]) -> list[int]:
    """Places of red, green and blue; the first three, or the first three times, where a band has no such name."""
    if {"red", "green", "blue"} <= set(bands):
        return [bands.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if len(bands) > 2 else [0, 0, 0]


def _requirements() -> list[str]:
    found = []
    for package in MODEL_PACKAGES:
        try:
            found.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            log.warning("%s is not installed as a package: the model's requirements leave it out", package)
    return found


def device_name(runtime: Runtime) -> str:
    """What computes, in words: the GPU's name, or the CPU and its threads."""
    if runtime.device.type == "cuda":
        return torch.cuda.get_device_name(runtime.device)
    return f"{runtime.device.type}, {runtime.threads} threads"
