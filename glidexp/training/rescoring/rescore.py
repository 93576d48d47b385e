"""A trained network meets tiles that it was not trained on: scores, pictures and masks in a run of their own."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glidexp.config import Compile, TrainConfig
from glidexp.config.evaluation import VAL, Adapt, EvaluateConfig
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore, data_hash
from glidexp.data.workers import Crew
from glidexp.errors import RunFailed
from glidexp.identity import MODEL_VERSION_TAG, RESULTS_VERSION, trained_by
from glidexp.models import lineage
from glidexp.models.card import members_of
from glidexp.models.load import FoundModel
from glidexp.signals import Signals
from glidexp.tracking.run import Run
from glidexp.tracking.store import EVALUATION, KIND_TAG, MODEL_RUN_TAG, Store
from glidexp.training.bands import places_of_bands
from glidexp.training.beginning.earlier import earlier_run
from glidexp.training.device import Runtime, device_name, resolve
from glidexp.training.evaluate import Evaluator
from glidexp.training.final import log_results, predict
from glidexp.training.progress import scoring
from glidexp.training.record import Outcome, log_dataset, log_settings, requirements, scores_of, shown, start_run
from glidexp.training.rescoring.fitted import fit_to, fitted_bundle
from glidexp.training.rescoring.scored import (
    digest_of,
    fitted_rows,
    fixed_threshold,
    known_of,
    naive_rows,
    rows_of,
    which_split,
)

log = logging.getLogger("glidexp")

FED = ("mean", "std", "bands", "told")
"""of a card: what of a tile the network is given"""
SPLIT = "test"
"""stands before the metrics, whatever the tiles are called in their own data set: to this model they are test ground"""


def rescore(config: EvaluateConfig, found: FoundModel, store: Store, *, choices: Mapping[str, Any]) -> Outcome:
    """Scores the model and logs everything that lasts.

    Args:
        config: complete and checked
        found: the model
        store: where the run goes
        choices: chosen option by config group, for the record

    Raises:
        GlidexpError: bands or sensors are missing, or the tiles were trained on
        RunFailed: the network gives NaN, or tracking lost something
    """
    with Signals().installed():
        runtime = resolve(_as_training(config))
        tiles = prepare(config.dataset, config.tile_size.px, Path(config.paths.data), crew=Crew())
        order = places_of_bands(found.card, tiles)
        split = which_split(config.eval.split, found.card, tiles)
        rows = rows_of(config, tiles, split)
        threshold = fixed_threshold(config, found.card)
        fit = fitted_rows(config, tiles, split)
        identity = evaluation_id(config, found, tiles, rows, threshold, fit, runtime)
        title = f"Scores of {name_of(found)} on {config.dataset.name}, {split} tiles"
        earlier = earlier_run(store, config, identity)
        if earlier is not None and earlier.status == "FINISHED":
            log.info("this evaluation is finished already (id %s): resume=never does it anew", identity)
            return shown(earlier.metrics, store, config.tracking.experiment, earlier.run_id, title=title)
        tiles.verify()
        line = lineage.of_bundle(found.bundle)
        leak = lineage.refuse_leak(line, tiles, rows, allow=config.allow_leak)
        tags, leaked = lineage.marks(line, leak)
        fitted = fit_to(config, found, tiles, fit, threshold, order, runtime)
        log.info("%s: %d tiles on %s, %s", title, len(rows), device_name(runtime), runtime.precision)
        # the model's own names beside the data set's, so that a table of runs can be filtered by them
        shape = found.card["architecture"]
        chosen = {**choices, "backbone": shape["backbone"], "decoder": shape["decoder"]}
        chosen["dataset"] = choices.get("dataset") or config.dataset.name
        name = f"evaluate-{config.dataset.name}-{name_of(found).replace(' ', '-')}"
        with start_run(
            store, config, identity, earlier, tiles, name=name, choices=chosen, tags=_tags(found)
        ) as tracked:
            _begin(tracked, config, found, tiles, rows, tags | {"glidexp.scored_split": split}, runtime)
            evaluator = Evaluator(tiles, rows, fitted.normalise, runtime, config.train.batch_size)
            fixed = {"threshold": fitted.threshold, "temperature": fitted.temperature}
            with scoring(evaluator, split):
                seen = predict(evaluator, fitted.model, SPLIT, **fixed, scratch=Path(config.paths.mlruns))
            naive = naive_rows(tiles, rows, split)
            metrics = log_results(tracked, [seen], config.tracking, step=0, fit_rows=naive)
            metrics |= leaked
            if config.eval.log_fitted:
                about = {
                    "run_id": tracked.run_id,
                    "config_id": identity,
                    "dataset": config.dataset.name,
                    "leak": tags.get("glidexp.leak", "false"),
                    "scores": scores_of(metrics),
                }
                with tempfile.TemporaryDirectory() as aside:
                    bundle = fitted_bundle(Path(aside) / "bundle", fitted, found, line, tiles, about)
                    tracked.model(bundle, in_channels=len(order), pip_requirements=requirements())
            of = {"dataset_name": f"{config.dataset.name}/{split}", "dataset_digest": digest_of(tiles, rows, split)}
            if found.tracked is not None and found.tracked.model_id is not None:
                of["model_id"] = found.tracked.model_id
            tracked.metrics(metrics, step=0, **of)
        if tracked.lost:
            raise RunFailed(
                f"{tracked.lost} scores or files of run {tracked.run_id} did not reach the tracking store (said "
                "above): the run is marked FAILED. The same command does it again."
            )
        return shown(metrics, store, config.tracking.experiment, tracked.run_id, title=title)


def evaluation_id(
    config: EvaluateConfig,
    found: FoundModel,
    tiles: TileStore,
    rows: npt.NDArray[np.int64],
    threshold: float | None,
    fit: Mapping[str, npt.NDArray[np.int64]],
    runtime: Runtime,
) -> str:
    """Names an evaluation by what changes its result, as `identity.config_id` names a training run; 16 hex digits."""
    values = {
        "evaluated": found.card["weights"]["sha256"],
        "tta": found.card.get("tta", ""),
        "fed": {key: found.card.get(key) for key in FED},  # a card may have been edited by hand
        "ground": found.card.get("ground", {}).get("sha256", ""),  # decides, with the split, what counts as met
        "tiles": data_hash(tiles.index["xxh3"].iloc[rows].tolist()),
        # a manifest may say more, or other things, of the same pixels
        "known": known_of(tiles, np.unique(np.concatenate([rows, *fit.values()]))),
        "split_hash": tiles.split_hash,
        "threshold": VAL if threshold is None else threshold,
        "allow_leak": config.allow_leak,
        "precision": str(runtime.precision),
        "results_version": RESULTS_VERSION,
    }
    if fit:
        values |= {"adapt": str(config.eval.adapt)}
        if config.eval.adapt is Adapt.batch_norm:  # they were of tiles in the order of the store once
            values |= {"statistics": f"mixed, {config.train.batch_size} tiles a batch"}
            if found.card.get("tta") or (found.card.get("told") or {}).get(
                "gsd_m"
            ):  # the last part counted as all once
                values |= {"counted": "by image"}
        if config.eval.log_fitted:
            values |= {"log_fitted": True}  # else a run that has no model would be shown
        values |= {f"fit_{side}": data_hash(tiles.index["xxh3"].iloc[of].tolist()) for side, of in fit.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def name_of(found: FoundModel) -> str:
    """How the model is called in titles."""
    if found.members:
        return f"the mean of {len(found.members)} models"
    uri = found.uri.removeprefix("models:/")
    if found.uri.startswith("models:/") and not uri.startswith("m-"):
        return uri
    return f"run {found.run_id[:8]}" if found.run_id else found.bundle.name


def _as_training(config: EvaluateConfig) -> TrainConfig:
    """The part of `train.*` that scoring has, as `resolve` takes it."""
    part = config.train
    return TrainConfig(
        batch_size=part.batch_size,
        precision=part.precision,
        device=part.device,
        threads=part.threads,
        compile=Compile.off,  # one pass never pays for compiling
    )


def _tags(found: FoundModel) -> dict[str, str]:
    """What an evaluation is marked with: whose it is."""
    tags = {
        KIND_TAG: EVALUATION,
        "glidexp.model": found.uri,
        MODEL_RUN_TAG: found.run_id or "",
        "glidexp.model_config_id": str(found.card.get("config_id", "")),
        MODEL_VERSION_TAG: trained_by(one.card for one in found.members or [found]),
    }
    members = members_of(found.card)
    return tags | ({"glidexp.members": ", ".join(members)} if members else {})


def _begin(
    tracked: Run,
    config: EvaluateConfig,
    found: FoundModel,
    tiles: TileStore,
    rows: npt.NDArray[np.int64],
    tags: dict[str, str],
    runtime: Runtime,
) -> None:
    """Logs what is known before the network meets a tile."""
    log_settings(tracked, config, tiles)
    tracked.text(json.dumps(found.card, indent=1, sort_keys=True), "model/card.json")
    tags = {"glidexp.torch": version("torch"), "glidexp.device": device_name(runtime)} | tags
    tracked.environment(tags | {"glidexp.train.precision": str(runtime.precision)})
    split = tags["glidexp.scored_split"]
    log_dataset(tracked, config.dataset.name, tiles, rows, split, digest=digest_of(tiles, rows, split))
    for one in found.members or [found]:
        if one.tracked is not None and one.tracked.model_id is not None:
            tracked.model_input(one.tracked.model_id)
