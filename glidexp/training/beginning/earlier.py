"""What there is already of a run: one of the same settings in the store, its batch, its checkpoints."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glidexp.config import Config, Resume
from glidexp.config.evaluation import EvaluateConfig
from glidexp.identity import RESULTS_VERSION, config_id, earlier_ids
from glidexp.tracking.resume import checkpoint_folder, starting, take_over
from glidexp.tracking.store import FoundRun, Store
from glidexp.training.beginning.batch_size import machine
from glidexp.training.checkpoint import Series
from glidexp.training.device import Runtime
from glidexp.training.parts import Parts
from glidexp.training.record import Recorder

log = logging.getLogger("glidexp")

BATCH_TAG = "glidexp.auto_batch"
"""tiles that `train.batch_size=auto` became in this run"""
BATCH_KEY_TAG = "glidexp.auto_batch_for"
"""hash of the settings with auto and of the kind of machine: by it the next start finds the number"""


class AutoBatch:
    """The number that `train.batch_size=auto` became in an earlier run of these settings on such a machine.

    What is measured anew may differ by a few tiles, with what else the memory holds, and another number is another run.
    So the first one stands, in the store and beside the run it belongs to.

    Args:
        config: with auto
        runtime: the machine
        recipe: id of the data recipe
        resolved: what other `auto` values became, and hashes that stand for paths
    """

    def __init__(self, config: Config, runtime: Runtime, recipe: str, resolved: dict[str, str]) -> None:
        self.key = config_id(config, recipe=recipe, resolved=resolved | machine(runtime))

    def found(self, store: Store, config: Config) -> int | None:
        """That number, where there is such a run and it may be gone on with."""
        if config.resume is Resume.never:
            return None
        run = store.find_run(self.key, config.tracking.experiment, tag=BATCH_KEY_TAG)
        if run is None or not run.tags.get(BATCH_TAG, "").isdigit():
            return None
        log.info("train.batch_size=auto: %s a batch, as in run %s of these settings", run.tags[BATCH_TAG], run.run_id)
        return int(run.tags[BATCH_TAG])

    def tags(self, config: Config) -> dict[str, str]:
        """For the run that is begun with the number."""
        return {BATCH_KEY_TAG: self.key, BATCH_TAG: str(config.train.batch_tiles)}


@contextmanager
def alone(store: Store, config: Config, identity: str) -> Iterator[None]:
    """Of several processes that are about to begin the same run, one; each may begin one with resume=never."""
    if config.resume is Resume.never:
        yield
        return
    with starting(store, identity):
        yield


def earlier_run(store: Store, config: Config | EvaluateConfig, identity: str) -> FoundRun | None:
    """The training, or the evaluation, to show or to go on with."""
    if config.resume is Resume.never:
        return None
    return take_over(store, identity, config.tracking.experiment)


def told_older(store: Store, config: Config, recipe: str, resolved: dict[str, str]) -> list[str]:
    """A sentence for each run of the same settings that an earlier version of the results made, the latest first."""
    older = earlier_ids(config, recipe=recipe, resolved=resolved)
    found = {version: store.find_run(identity, config.tracking.experiment) for version, identity in older.items()}
    return [
        f"run {run.run_id} ({run.status}) of the same settings is of results version {version}: a fault that changes "
        f"results was mended since (CHANGELOG.md), so version {RESULTS_VERSION} makes it anew, as another run, and the "
        "older one stays as it is"
        for version, run in found.items()
        if run is not None
    ]


def checkpoints_of(config: Config, identity: str, run_id: str) -> Series:
    """The series of a run."""
    folder = checkpoint_folder(Path(config.paths.mlruns), identity, run_id)
    return Series(folder / "last.pt", config_id=identity)


def restore(parts: Parts, checkpoints: Series, recorder: Recorder) -> None:
    """Puts the newest usable checkpoint back, and hands what it tells of finished epochs to tracking once more."""
    checkpoints.sweep()
    state = checkpoints.load()
    if state is None:
        log.info("no checkpoint of it in %s: begins anew", checkpoints.path.parent)
        return
    parts.restore(state)
    recorder.again(parts.history)
    if parts.position.epoch >= recorder.config.train.epochs:
        log.info("its training is over: the final scoring is done anew")
        return
    log.info("goes on in epoch %d after batch %d", parts.position.epoch + 1, parts.position.batch)
