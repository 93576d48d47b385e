"""Scores a model anew from its stored weights, on the ground of the candidate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glidexp.config import DatasetConfig, PathsConfig, Resume, TrackingConfig
from glidexp.config.evaluation import EvalConfig, EvalSplit, EvaluateConfig, ScoringConfig
from glidexp.config.training import Precision
from glidexp.data.prepare import prepare
from glidexp.data.store import TileStore
from glidexp.tracking.found import TrackedRun, the_run
from glidexp.tracking.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """Where data and runs lie, and what the network is run on."""

    store: Store
    data: Path
    experiment: str
    """into which the evaluations go"""
    precision: Precision = Precision.auto
    """that of the candidate's training: another one gives other scores"""
    device: str = "auto"
    batch_size: int = 8


@dataclass(slots=True)
class Rescored:
    """An evaluation that was just made."""

    run: TrackedRun
    config: EvaluateConfig
    """as completed from the model: data set and tile size"""
    tiles: TileStore = field(repr=False)


def score_again(model: str, place: Place, *, ground: EvaluateConfig | None = None) -> Rescored:
    """Runs the stored network over test tiles, whatever was scored before.

    Leaks do not stop it, they are a check of their own: the evaluation is tagged.

    Args:
        model: run id or models:/NAME/3
        place: where
        ground: `Rescored.config` of another model, on whose test tiles it is scored; its own when not given

    Raises:
        GlidexpError: model or data cannot be used
    """
    from glidexp.training.evaluation import evaluate

    config = EvaluateConfig(
        model=model,
        resume=Resume.never,
        allow_leak=True,
        paths=PathsConfig(data=str(place.data), mlruns=str(place.store.mlruns)),
        eval=EvalConfig(split=EvalSplit.test),
        train=ScoringConfig(batch_size=place.batch_size, precision=place.precision, device=place.device),
        tracking=TrackingConfig(
            uri=place.store.uri, experiment=place.experiment, system_metrics=False, log_masks=False, probe_tiles=0
        ),
    )
    given: Sequence[str] = ()
    if ground is not None:
        config.dataset, config.tile_size = ground.dataset, ground.tile_size
        given = ("dataset", "tile_size.px")
    outcome = evaluate(config, given=given, choices={"dataset": config.dataset.name})
    return Rescored(the_run(place.store, outcome.run_id), config, _tiles(config.dataset, config, place.data))


def _tiles(dataset: DatasetConfig, config: EvaluateConfig, data: Path) -> TileStore:
    return prepare(dataset, config.tile_size.px, data, progress=False)
