"""One run: build the parts, fit, score, log.

A run can be ended at any moment, by `kill -9` too, and the same command brings it to the same end. At an epoch's end
the order is: score, hand the scores to tracking, save. What was handed over but not saved is trained again, and
tracking leaves out steps that it holds. What was saved but had not reached the store is in the checkpoint too
(`history`), and is handed over again. The final scoring changes nothing that is saved, so it is done anew. Checkpoints
are removed when the run is FINISHED in the store, not before.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from glidexp.config import Config, InitConfig, InitKind
from glidexp.config.unread import idle
from glidexp.data.loader import Loader
from glidexp.data.prepare import recipe_id
from glidexp.data.resident import stays
from glidexp.errors import RunFailed
from glidexp.identity import config_id
from glidexp.models import lineage
from glidexp.models.adapters import merge_adapters, require_adaptable
from glidexp.models.checkpoints import describe
from glidexp.models.hardware import failures_told
from glidexp.models.init import require_weights
from glidexp.models.tta import with_views
from glidexp.signals import Signals
from glidexp.tracking.store import store_at
from glidexp.training.augmentation.augment import Augment
from glidexp.training.augmentation.style import style_of
from glidexp.training.augmentation.telling import telling_of
from glidexp.training.averages import renew_batch_statistics, shown_images, statistics_loader
from glidexp.training.beginning.batch_size import settle, with_batch
from glidexp.training.beginning.earlier import AutoBatch, alone, checkpoints_of, earlier_run, restore, told_older
from glidexp.training.beginning.light import light_of
from glidexp.training.beginning.pseudo_labels import taught_by
from glidexp.training.beginning.start import settled, start_of
from glidexp.training.check import check_shares, check_tiles
from glidexp.training.checkpoint import Series
from glidexp.training.device import Runtime, device_name, resolve
from glidexp.training.freezing import build_freezing, dead_inputs, frozen_stages, never_learning
from glidexp.training.judge import Follower, Judge
from glidexp.training.land_cover import ClassRecorder
from glidexp.training.loop import fit
from glidexp.training.losses import build_loss
from glidexp.training.optim import lr_schedule
from glidexp.training.parts import Parts, build_parts
from glidexp.training.processes.ranks import joined, lost_rank_told
from glidexp.training.processes.tiles import prepared
from glidexp.training.progress import Meter, scoring
from glidexp.training.record import Outcome, Recorder, shown, start_run
from glidexp.training.watch import Watch

log = logging.getLogger("glidexp")

LESS = (
    "a smaller train.batch_size (train.accumulate makes up for it), train.batch_size=auto, train.resident=off and "
    "train.gradient_checkpointing=true take less"
)
"""memory"""


Begun = tuple[Recorder | Follower, Parts, Series | None]
"""who judges and records a run, what is trained, and the checkpoints, which are rank 0's alone"""


def run(config: Config, *, choices: dict[str, str], name: str | None = None) -> Outcome:
    """Trains one network, scores it on val and test, and leaves everything in the tracking store.

    A finished run of the same config id is shown instead, an interrupted one goes on, unless `resume=never`.

    Args:
        config: checked by `training.check`
        choices: chosen option by config group, for the record
        name: of the run, when tracking.run_name gives none

    Raises:
        GlidexpError: settings, data, weights or tracking cannot be used
        RunFailed: among others where the device's memory is full, or the network cannot be compiled
        Interrupted: a signal came; a checkpoint was saved
    """
    signals = Signals()
    with signals.installed():
        runtime = resolve(config.train, settings=config_id(replace(config, init=InitConfig()), recipe=""))
        ranks = runtime.ranks
        with joined(ranks), failures_told(LESS):
            beginning = _lead(config, runtime, choices, name) if ranks.first else _follow(config, runtime)
            with beginning as begun:
                if isinstance(begun, Outcome):  # finished earlier
                    return begun
                recorder, parts, checkpoints = begun
                config = recorder.config  # train.batch_size=auto is a number by now
                cfg = config.train
                loader, augment = training_tiles(recorder)
                recorder.augmented(augment, loader.rows)
                meter = Meter(cfg.epochs, len(loader), silent=not ranks.first)

                def on_epoch(epoch: int, metrics: dict[str, float], better: bool) -> None:
                    meter.epoch_line(epoch, metrics, cfg.select, better)
                    recorder.epoch(epoch, metrics, parts.judged, last=epoch + 1 == cfg.epochs)

                parts.restore_random()
                ranks.reseed(config.seed, parts.position.step)
                with meter, signals.deferred(), meter.scoring(recorder.val):
                    fit(
                        parts,
                        loader,
                        augment,
                        build_loss(config.loss, ranks.total),
                        runtime,
                        cfg,
                        lr_at=lr_schedule(config.optimizer, cfg.epochs * -(-len(loader) // cfg.accumulate)),
                        freeze_at=build_freezing(cfg, parts.model, parts.stages),
                        evaluate=lambda epoch: recorder.val_scores(parts.judged).items(),
                        on_epoch=on_epoch,
                        save=lambda: checkpoints is not None and checkpoints.save(parts.state()),
                        stop=ranks.stopping(signals, runtime.stop_stride),
                        meter=meter,
                        watch=Watch(parts.model, runtime, recorder.tile_names),
                    )
                metrics = score(recorder, loader, augment, parts)
            if isinstance(recorder, Follower):
                return Outcome("", {})
            return shown(metrics, recorder.tracked.store, config.tracking.experiment, recorder.tracked.run_id)


@contextmanager
def _lead(config: Config, runtime: Runtime, choices: dict[str, str], name: str | None) -> Iterator[Begun | Outcome]:
    """What rank 0, the only one but for torchrun, does before and after the training.

    It finds out whether the run is to be made, and gives what a finished one left. Else it begins the run or goes on
    with it, and ends it.
    """
    ranks = runtime.ranks
    check_shares(config, ranks.size, common_statistics=runtime.device.type == "cuda")
    require_weights(config.backbone, config.init)  # told before data is made
    require_adaptable(config.backbone.name, config.decoder.name, config.train.lora_rank)
    recipe = recipe_id(config.dataset, config.tile_size.px)
    store = store_at(config.paths.mlruns, config.tracking.uri, make=True)
    config = settled(config, store)
    # the stack is left when the run is in the store, where others see that it is at work
    with start_of(config, store) as (first, start), ExitStack() as beginning:
        tags, resolved = dict[str, str](), runtime.resolved() | start | light_of(config)
        if config.train.auto_batch:
            auto = AutoBatch(config, runtime, recipe, resolved)
            beginning.enter_context(alone(store, config, auto.key))
            config = _batch_found(config, runtime, auto.found(store, config))
            tags = auto.tags(config)
        identity = config_id(config, recipe=recipe, resolved=resolved)
        beginning.enter_context(alone(store, config, identity))
        earlier = earlier_run(store, config, identity)
        if earlier is not None and earlier.status == "FINISHED":
            log.info("this run is finished already (config id %s): resume=never trains it anew", identity)
            checkpoints_of(config, identity, earlier.run_id).clear()  # left where it was killed after its end
            ranks.share(True)
            yield shown(earlier.metrics, store, config.tracking.experiment, earlier.run_id)
            return
        log.info(
            "%s on %s, %s, config id %s%s",
            *(_name(config), device_name(runtime), runtime.precision, identity, ", goes on" if earlier else ""),
        )
        _warn([*idle(config), *(() if earlier else told_older(store, config, recipe, resolved))])
        ranks.share(False)
        tiles = prepared(config, ranks)
        check_tiles(config, tiles)
        line = lineage.of_init(first)
        leak = lineage.refuse_leak(line, tiles, tiles.rows("test"), allow=config.allow_leak, trains=True)
        taught = taught_by(first, config, tiles, runtime)
        parts = build_parts(replace(config, init=first), runtime, tiles)
        _warn(dead_inputs(config.train, parts.model, parts.stages, tiles.bands))
        tracked = start_run(
            store, config, identity, earlier, tiles, name=name or _name(config), choices=choices, tags=tags
        )
        with tracked, lost_rank_told(ranks):
            beginning.close()
            checkpoints = checkpoints_of(config, identity, tracked.run_id)
            kind = ClassRecorder if tiles.classes else Recorder
            recorder = kind(tracked, config, tiles, runtime, identity, line, leak, taught)
            recorder.begin(parts)
            describe(checkpoints.path.parent, *recorder.card({}, {}), tta=config.train.tta)
            if earlier is not None:
                restore(parts, checkpoints, recorder)
            more_than_a_seed = parts.position.step or config.init.kind is not InitKind.scratch
            ranks.share(parts.state() if more_than_a_seed else {})
            yield recorder, parts, checkpoints
    if tracked.lost:
        raise RunFailed(
            f"{tracked.lost} scores, files or models of run {tracked.run_id} did not reach the tracking store "
            f"(said above): the run is marked FAILED, its weights stay in {checkpoints.path.parent}. The same command "
            "logs them."
        )
    checkpoints.clear()


@contextmanager
def _follow(config: Config, runtime: Runtime) -> Iterator[Begun | Outcome]:
    """What another rank does before the training."""
    ranks = runtime.ranks
    if config.train.auto_batch:
        config = _batch_found(config, runtime, None)
    if ranks.share(None):
        yield Outcome("", {})
        return
    tiles = prepared(config, ranks)
    parts = build_parts(replace(config, init=InitConfig()), runtime, tiles)
    follower = Follower(config, tiles, runtime)
    if state := ranks.share(None):  # a checkpoint's, or first weights that only rank 0 has to find
        parts.restore(state)
    yield follower, parts, None


def _batch_found(config: Config, runtime: Runtime, known: int | None) -> Config:
    """The settings with a number in place of `train.batch_size=auto`: rank 0's known one, or what all of them find."""
    if number := int(runtime.ranks.share(known or 0)):
        return with_batch(config, number)
    tiles = prepared(config, runtime.ranks)
    first_weights = replace(config, init=InitConfig())  # no others need more memory
    return settle(config, runtime, tiles, lambda single: build_parts(first_weights, single, tiles))


def training_tiles(judge: Judge) -> tuple[Loader, Augment]:
    """Batches of the training tiles, or this rank's part of each, and what is done to them."""
    config, runtime, tiles = judge.config, judge.runtime, judge.tiles
    loader = Loader(
        judge.taught,
        judge.train,
        config.train.batch_tiles,
        seed=config.seed,
        device=runtime.device,
        weights=judge.weights,
        shuffle=True,
        drop_last=True,
        part=(runtime.ranks.rank, runtime.ranks.size),
        resident=stays(config.train.resident, tiles, len(judge.train), runtime.device, "training tiles"),
    )
    augment = Augment(
        config.augmentation,
        mean=judge.mean,
        std=judge.std,
        seed=config.seed,
        dtype=runtime.dtype,
        classes=bool(tiles.classes),
        telling=telling_of(judge.told, tiles, unknown=config.input.unknown, seed=config.seed),
        terrain=len(tiles.terrain),
        style=style_of(config.style, tiles, seed=config.seed, silent=not runtime.ranks.first),
    )
    return loader, augment


def score(recorder: Recorder | Follower, loader: Loader, augment: Augment, parts: Parts) -> dict[str, float]:
    """Scores the chosen weights: threshold from val, then test, then everything a run leaves behind.

    They are those of the best epoch, or the average of the last epochs where that is better on val. Adapters are
    merged: what lasts is the plain network.
    """
    config, runtime = recorder.config, recorder.runtime
    own, about = never_learning(config.train, parts.model), {}
    model = merge_adapters(parts.model)
    model.load_state_dict(parts.best)
    if parts.tail is not None:
        epochs, select = config.train.epochs, config.train.select
        fixed = own.union(*parts.stages[: frozen_stages(config.train, epochs - 1, len(parts.stages))])
        images = shown_images(statistics_loader(loader, runtime), augment, epochs, runtime)
        renew_batch_statistics(parts.tail, images, runtime, frozen=fixed)
        merge_adapters(parts.tail.module)
        with scoring(recorder.val, "val"):
            value = recorder.val_scores(parts.tail.module).get(select, -math.inf)
        used = value > parts.position.best
        about = {select.replace("val/", "val/average_last/", 1): value, "average_last/used": float(used)}
        log.info("average of the last %d epochs: %s %.4f%s", config.train.average_last, select, value, " (best)" * used)
        model = parts.tail.module if used else model
    views = with_views(model, config.train.tta)
    return recorder.finish(views, best_epoch=parts.position.best_epoch, about=about)


def _warn(sentences: list[str]) -> None:
    for sentence in sentences:
        log.warning("%s", sentence)


def _name(config: Config) -> str:
    network = f"{config.decoder.name}-{config.backbone.name}"
    fold = f"-fold{config.dataset.split.fold}" * bool(config.dataset.split.folds)
    return f"{config.dataset.name}-{network}-{config.tile_size.px}px-seed{config.seed}{fold}"
