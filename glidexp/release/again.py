"""Scores a model anew from its stored weights, on the ground of the candidate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from glidexp.config import PathsConfig, Resume, TrackingConfig, typed
from glidexp.config.evaluation import EvalConfig, EvalSplit, EvaluateConfig, ScoringConfig
from glidexp.config.stored import read_values
from glidexp.config.training import Precision
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore
from glidexp.errors import DataError, GlidexpError
from glidexp.models.hardware import device_of
from glidexp.tracking.found import TrackedRun, tracked_run
from glidexp.tracking.models import read_text
from glidexp.tracking.store import EVALUATION, KIND_TAG, Store
from glidexp.training.rescoring.evaluation import evaluate
from glidexp.training.rescoring.scored import rows_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where data and runs lie, and what the network is run on."""

    store: Store
    data: Path
    experiment: str
    """into which the evaluations go"""
    precision: Precision = Precision.auto
    """that of the candidate's scores: another one gives other scores"""
    device: str = "auto"


@dataclass(slots=True)
class Rescored:
    """An evaluation that was just made."""

    run: TrackedRun
    config: EvaluateConfig
    """as completed from the model: data set and tile size"""
    tiles: TileStore = field(repr=False)
    rows: npt.NDArray[np.int64] = field(repr=False)
    """of the store that were scored"""


def ground_of(store: Store, scored: TrackedRun, folder: Path) -> EvaluateConfig | None:
    """Settings of the evaluation that scored a candidate elsewhere than on its own test set; None for a training.

    Args:
        store: holds it
        scored: `Choice.scored`
        folder: for a copy of its settings

    Raises:
        DataError: its settings cannot be read
    """
    if scored.tags.get(KIND_TAG) != EVALUATION:
        return None
    text = read_text(store, scored.run_id, "config.yaml", folder)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(EvaluateConfig), read_values(text or ""))
        return typed(merged, EvaluateConfig)  # type: ignore[arg-type]
    except (OmegaConfBaseException, ValueError, TypeError, GlidexpError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"the settings of evaluation {scored.run_id[:12]} cannot be read ({reason}).") from error


def score_again(model: str, place: Place, *, ground: EvaluateConfig | None = None) -> Rescored:
    """Runs the stored network over tiles, whatever was scored before.

    Leaks do not stop it, they are a check of their own: the evaluation is tagged.

    Args:
        model: run id or models:/NAME/3
        place: where
        ground: settings of another evaluation, on whose tiles it is scored; its own test tiles when not given

    Raises:
        GlidexpError: model or data cannot be used
    """
    on_cpu = device_of(place.device, "--device").type == "cpu"
    halves = place.precision is Precision.fp16 and on_cpu
    precision = Precision.fp32 if halves else place.precision
    config = EvaluateConfig(
        model=model,
        resume=Resume.never,
        allow_leak=True,
        paths=PathsConfig(data=str(place.data), mlruns=str(place.store.mlruns)),
        eval=EvalConfig(split=EvalSplit.test),
        train=ScoringConfig(precision=precision, device=place.device),
        tracking=TrackingConfig(
            uri=place.store.uri, experiment=place.experiment, system_metrics=False, log_masks=False, probe_tiles=0
        ),
    )
    given: Sequence[str] = ()
    if ground is not None:
        config.dataset, config.tile_size, config.sensor_mix = ground.dataset, ground.tile_size, ground.sensor_mix
        config.eval = ground.eval
        given = ("dataset", "tile_size.px")
    outcome = evaluate(config, given=given, choices={"dataset": config.dataset.name})
    run = tracked_run(place.store, outcome.run_id)
    tiles = prepare(config.dataset, config.tile_size.px, place.data, progress=False)
    split = run.tags["glidexp.scored_split"]
    config.eval.split = EvalSplit(split)  # what `auto` was, for the next network on this ground
    return Rescored(run, config, tiles, rows_of(config, tiles, split))
