"""What a run leaves in tracking: scores by epoch, pictures, plots, masks, tables, environment and the model."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import OmegaConf
from rich.console import Console

from glidexp.config import Config, flat
from glidexp.config.stored import Settings, public
from glidexp.data.band_statistics import histograms_of
from glidexp.data.leakage import Leak, find_leak, join, known_ground
from glidexp.data.store import LAKE, TileStore
from glidexp.identity import RESULTS_VERSION
from glidexp.mapping.domain import domain_of
from glidexp.models import catalog
from glidexp.models.build import parameters
from glidexp.models.export import bare, save_bundle
from glidexp.models.lineage import Lineage, marks
from glidexp.models.predictor import Predictor
from glidexp.models.survey import SCENES, Tiles, learn, scene_table
from glidexp.models.validity import Validity
from glidexp.scoring.land_cover import class_table
from glidexp.scoring.scores import best_threshold, score_split
from glidexp.scoring.tables import lake_table, summary_table
from glidexp.tracking.multirun import parent_run_id, run_link, ui_hint
from glidexp.tracking.run import Run
from glidexp.tracking.store import FoundRun, Store
from glidexp.training.augmentation.augment import Augment
from glidexp.training.augmentation.picture import SHOWN, augmented_grid
from glidexp.training.device import Runtime, device_name
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import log_results, picture, predict, probe_rows, probes
from glidexp.training.judge import Judge, Taught
from glidexp.training.parts import Parts
from glidexp.training.progress import scoring

log = logging.getLogger("glidexp")

MODEL_PACKAGES = ("glidexp", "torch", "torchvision", "timm", "segmentation-models-pytorch", "safetensors", "numpy")
"""what is needed to load the model again"""


class Recorder(Judge):
    """Scores a run and writes down what it does. The loop itself knows neither scores nor tracking."""

    def __init__(
        self,
        tracked: Run,
        config: Config,
        tiles: TileStore,
        runtime: Runtime,
        identity: str,
        line: Lineage | None = None,
        leak: Leak | None = None,
        taught: Taught | None = None,
    ) -> None:
        super().__init__(config, tiles, runtime, taught)
        self.tracked = tracked
        self.identity = identity
        self.line = line or Lineage()
        self.leak = leak or find_leak(self.line.ground, tiles, tiles.rows("test"))
        self.probe = probe_rows(tiles, self.val.rows, config.tracking.probe_tiles)
        self.scratch = Path(config.paths.mlruns)

    def begin(self, parts: Parts) -> None:
        """Logs what is known before the first step."""
        log_settings(self.tracked, self.config, self.tiles)
        tags = {"glidexp.torch": torch.__version__, "glidexp.device": device_name(self.runtime)}
        tags |= {"glidexp.processes": str(self.runtime.ranks.size)}
        tags |= {f"glidexp.{key}": value for key, value in self.runtime.resolved().items()}
        tags |= marks(self.line, self.leak)[0]
        tags["glidexp.parameters"] = str(parts.parameters)
        if parts.adapted:
            learning = parameters(parts.model)
            tags["glidexp.parameters_trained"] = str(learning)
            log.info(
                "low-rank adapters of rank %d beside %d layers of the encoder: %d parameters learn, the network has %d",
                *(self.config.train.lora_rank, parts.adapted, learning, parts.parameters),
            )
        self.tracked.environment(tags)
        used = {"train": self.train, "val": self.val.rows, "test": self.tiles.rows("test")}
        for split, rows in used.items():
            log_dataset(self.tracked, self.config.dataset.name, self.tiles, rows, split)

    def augmented(self, augment: Augment, rows: npt.NDArray[np.int64]) -> None:
        """Draws 16 training tiles as the network will see them, and those of which a model labelled most lake."""
        if not self.config.tracking.probe_tiles:
            return
        self._drawn(augment, rows[np.linspace(0, len(rows) - 1, SHOWN).astype(int)], "plots/augmented.png")
        if len(own := self.taught.rows):
            lake = [(self.taught.labels[row] == LAKE).sum() for row in own]
            most = own[np.argsort(lake, kind="stable")[::-1][:SHOWN]]
            self._drawn(self.normalise, most, "plots/pseudo_labels.png")

    def _drawn(self, augment: Augment, rows: npt.NDArray[np.int64], name: str) -> None:
        image = torch.from_numpy(np.stack([self.taught.images[row] for row in rows])).permute(0, 3, 1, 2)
        label = torch.from_numpy(np.stack([self.taught.labels[row] for row in rows]))
        device = self.runtime.device
        grid = augmented_grid(augment, image.to(device), label.to(device), torch.from_numpy(rows), 0)
        picture(self.tracked, grid, name)

    def val_scores(self, model: torch.nn.Module) -> dict[str, float]:
        """Scores on val at the threshold that is best there."""
        hist = self.val.histograms(model)
        scores = score_split(self.tiles.index.iloc[self.val.rows], hist, best_threshold(hist), "val")
        return cast(dict[str, float], self.runtime.ranks.share(scores))

    def again(self, history: list[dict[str, float]]) -> None:
        """Hands the scores of finished epochs to tracking once more, which leaves out what it holds."""
        for epoch, metrics in enumerate(history):
            self.tracked.metrics(metrics, step=epoch + 1)

    def epoch(self, epoch: int, metrics: dict[str, float], model: torch.nn.Module, *, last: bool) -> None:
        """Logs an epoch's scores (step 1 is the first epoch), and now and then the probe tiles."""
        self.tracked.metrics(metrics, step=epoch + 1)
        if len(self.probe) and (last or epoch % self.config.tracking.images_every == 0):
            size = self.config.train.batch_tiles
            few = Evaluator(self.tiles, self.probe, self.normalise, self.runtime, size)  # rank 0 alone looks at them
            seen = predict(few, model, "val", threshold=metrics["val/threshold"])
            probes(self.tracked, seen, self.probe, step=epoch + 1)

    def finish(self, model: torch.nn.Module, *, best_epoch: int, about: dict[str, float]) -> dict[str, float]:
        """Scores the chosen weights on val and test and logs everything that lasts.

        Args:
            model: with the chosen weights
            best_epoch: from 0
            about: how they were chosen, by name of a metric; logged too

        Returns:
            every final metric by name
        """
        metrics, fixed = self.scored(model)
        metrics |= marks(self.line, self.leak)[1]
        metrics |= {
            "best_epoch": float(best_epoch + 1),
            "tiles/train": float(len(self.train)),
            **self.taught.facts,
        }
        validity = self.validity(model)
        if self.config.tracking.log_model:
            with tempfile.TemporaryDirectory() as aside:
                card, ground = self.card(fixed, metrics)
                if not self.tiles.classes:
                    card["validity"] = None  # where it stays so, there were too few tiles
                kept = validity.to_bytes() if validity else None
                bundle = save_bundle(Path(aside) / "bundle", model, card=card, ground=ground, validity=kept)
                self.tracked.model(bundle, in_channels=self.tiles.channels, pip_requirements=requirements())
        metrics |= about
        self.tracked.metrics(metrics, step=self.config.train.epochs + 1)
        return metrics

    def scored(self, model: torch.nn.Module) -> tuple[dict[str, float], dict[str, float | None]]:
        """Scores val and test, logs tables and pictures of both; gives the metrics, and what val has fixed."""
        with scoring(self.val, "val"):
            val = predict(self.val, model, "val", scratch=self.scratch)
        test_rows = self.shared(self.tiles.rows("test"))
        fixed: dict[str, float | None] = {"threshold": val.threshold, "temperature": val.temperature}
        with scoring(test_rows, "test"):
            test = predict(test_rows, model, "test", **fixed, scratch=self.scratch)
        return log_results(self.tracked, [val, test], self.config.tracking, step=self.config.train.epochs + 1), fixed

    def validity(self, model: torch.nn.Module) -> Validity | None:
        """What the training tiles look like, which goes with the model; logs how far from them each test scene is."""
        shape = self.config.backbone.name, self.config.decoder.name
        stride, smallest = catalog.stride(shape[1]), catalog.smallest_px(*shape)
        predictor = Predictor(bare(model), mean=self.mean, std=self.std, stride=stride, smallest_px=smallest)
        predictor = predictor.to(self.runtime.device).eval()
        tiles = Tiles(self.tiles, range(self.tiles.channels), tuple(self.tiles.bands))
        found = learn(tiles, self.train, self.val.rows, predictor)
        if found is not None:
            rows = scene_table(found, tiles, self.tiles.rows("test"), predictor)
            self.tracked.table(rows, SCENES)
        return found

    def card(self, fixed: Mapping[str, float | None], metrics: Mapping[str, float]) -> tuple[dict[str, Any], bytes]:
        """The card and the table of all ground that these weights have met.

        Args:
            fixed: threshold and temperature from val, as far as known
            metrics: of which those of test are kept
        """
        manifest, unlabelled = self.tiles.manifest, len(self.taught.rows)
        own = [known_ground(self.tiles, rows, side) for side, rows in (("train", self.train), ("val", self.val.rows))]
        ancestors, ground = self.line.below(join(own))
        card = {
            "architecture": {
                "backbone": self.config.backbone.name,
                "decoder": self.config.decoder.name,
                "in_channels": self.tiles.channels,
            },
            "mean": self.mean,
            "std": self.std,
            **({"told": self.told.to_json()} if self.told.size else {}),
            "histogram": histograms_of(self.tiles, self.train).tolist(),
            **fixed,
            "bands": list(manifest["bands"]),
            **({"terrain": self.tiles.terrain} if self.tiles.terrain else {}),
            "sensors": sorted(set(self.tiles.index.loc[self.train, "sensor"])),
            "regions": sorted(set(self.tiles.index.loc[self.train, "region"])),
            "tile_px": self.tiles.tile_px,
            **domain_of(self.tiles, self.train),
            "dataset": self.config.dataset.name,
            "split_hash": self.tiles.split_hash,
            "data_hash": self.tiles.data_hash,
            "config_id": self.identity,
            "results_version": RESULTS_VERSION,
            "run_id": self.tracked.run_id,
            "ground": {"train": len(own[0]), "val": len(own[1])},
            **({"self_training": asdict(self.config.self_training) | {"tiles": unlabelled}} if unlabelled else {}),
            **({"style": asdict(self.config.style)} if self.config.style.on else {}),
            "ancestors": ancestors,
            "leak": marks(self.line, self.leak)[0].get("glidexp.leak", "false"),
            "scores": scores_of(metrics),
        }
        return card, ground


def scores_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of test, which a card keeps."""
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def start_run(
    store: Store,
    config: Settings,
    identity: str,
    earlier: FoundRun | None,
    tiles: TileStore,
    *,
    name: str,
    choices: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Run:
    """Begins a training or an evaluation, or goes on with the earlier run of it. The settings may name it otherwise."""
    return Run.start(
        store,
        experiment=config.tracking.experiment,
        run_name=config.tracking.run_name or name,
        config_flat=flat(public(config)),
        choices=choices,
        tags={**tags, "glidexp.split_hash": tiles.split_hash, "glidexp.data_hash": tiles.data_hash},
        config_id=identity,
        parent_run_id=parent_run_id(),
        resume_run_id=earlier.run_id if earlier else None,
        system_metrics=config.tracking.system_metrics,
    )


def log_settings(tracked: Run, config: Settings, tiles: TileStore) -> None:
    """Logs the settings as others may read them, and what the tiles say of themselves."""
    tracked.text(OmegaConf.to_yaml(OmegaConf.structured(public(config))), "config.yaml")
    tracked.text(json.dumps(tiles.manifest, indent=1), "data/manifest.json")


def log_dataset(
    tracked: Run, name: str, tiles: TileStore, rows: npt.NDArray[np.int64], context: str, *, digest: str = ""
) -> None:
    """Names the tiles that a run used.

    Args:
        tracked: the run
        name: of the data set
        tiles: the store
        rows: which of them
        context: train, val or test
        digest: hash of the tiles; the whole store's when not given
    """
    sensors = tiles.index["sensor"].iloc[rows].value_counts().to_dict()
    tracked.dataset_input(
        name,
        digest=digest or tiles.data_hash,
        context=context,
        source=str(tiles.path),
        facts={"tiles": len(rows), "tile_px": tiles.tile_px, "sensors": sensors}
        | {"split_hash": tiles.split_hash, "recipe_id": tiles.manifest.get("recipe_id", "")},
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run leaves in the hands of its caller."""

    run_id: str
    metrics: dict[str, float]


def shown(
    metrics: dict[str, float], store: Store, experiment: str, run_id: str, *, title: str | None = None
) -> Outcome:
    """Prints the table of scores of a finished run, and where to look."""
    console = Console()
    console.print(class_table(metrics) if "test/miou_classes" in metrics else summary_table(metrics, title=title))
    if lakes := lake_table(metrics):
        console.print(lakes)
    hint = ui_hint(store.uri)
    console.print("Run: " + run_link(store.uri, store.experiment_id(experiment), run_id), soft_wrap=True)
    if hint:
        console.print(f"To open it: {hint}", highlight=False)
    return Outcome(run_id, metrics)


def requirements() -> list[str]:
    """What loading a model again needs, as `name==version`, of this environment."""
    found = []
    for package in MODEL_PACKAGES:
        try:
            found.append(f"{package}=={version(package).split('+')[0]}")
        except PackageNotFoundError:
            log.warning("%s is not installed as a package: the model's requirements leave it out", package)
    return found
