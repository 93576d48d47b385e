"""The loop: it learns, it adds up, it stops when asked and goes on as if it had not."""

import itertools
import math
import os
import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from glidexp.config import AugmentationConfig, LossConfig, OptimizerConfig, TrainConfig
from glidexp.data.loader import Loader
from glidexp.signals import Interrupted, Signals
from glidexp.training.augmentation.augment import Augment
from glidexp.training.averages import Ema
from glidexp.training.device import resolve
from glidexp.training.loop import fit
from glidexp.training.losses import build_loss
from glidexp.training.optim import build_optimizer, lr_schedule
from glidexp.training.parts import Parts, Position
from glidexp.training.progress import Meter
from glidexp.training.watch import Watch

CPU = torch.device("cpu")


class Blobs:
    """Bright squares are lakes."""

    def __init__(self, n: int, px: int = 16) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.zeros((n, px, px), dtype=np.uint8)
        for label in self.labels:
            y, x = rng.integers(0, px - 6, 2)
            label[y : y + 6, x : x + 6] = 1
        noise = rng.integers(0, 60, (n, px, px, 3))
        self.images = (noise + 120 * self.labels[..., None]).astype(np.uint8)


def network(norm: bool = True) -> torch.nn.Module:
    torch.manual_seed(0)
    middle: list[torch.nn.Module] = [torch.nn.BatchNorm2d(8)] if norm else []
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), *middle, torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1)]
    return torch.nn.Sequential(*layers)


class Training:
    """All the parts of a small training, with what happened."""

    def __init__(self, cfg: TrainConfig, *, n: int = 12, norm: bool = True, lr: float = 0.01) -> None:
        self.cfg = cfg
        self.runtime = resolve(cfg)
        device = self.runtime.device
        self.model = network(norm).to(device)
        self.tiles = Blobs(n)
        self.loader = Loader(
            self.tiles, np.arange(n), cfg.batch_size, seed=1, device=device, weights=None, shuffle=True, drop_last=True
        )
        flips = AugmentationConfig(flip=True, rot90=True)
        self.augment = Augment(flips, mean=[60.0] * 3, std=[50.0] * 3, seed=1)
        self.optimizer = build_optimizer(OptimizerConfig(lr=lr), self.model, device=device)
        self.position = Position()
        self.signals = Signals()
        self.epochs: list[dict[str, float]] = []
        self.saves: list[int] = []
        self.loss = LossConfig()
        self.score: Iterator[float] | None = None
        self.freeze_at: Callable[[int], None] = lambda epoch: None
        self.scaler = self.runtime.scaler()
        self.ema: Ema | None = None
        self.stride: int | None = None
        self.lr_at: Callable[[int], float] | None = None

    def evaluate(self, epoch: int) -> list[tuple[str, float]]:
        value = next(self.score) if self.score is not None else float(epoch)
        return [("val/lake_iou_pooled", value)]

    def run(self, stop_after: int | None = None) -> None:
        steps = self.cfg.epochs * -(-len(self.loader) // self.cfg.accumulate)
        loss_fn, count = build_loss(self.loss, self.runtime.ranks.total), itertools.count(1)

        def loss(*values: torch.Tensor) -> torch.Tensor:
            if next(count) == stop_after:
                self.signals.pending = signal.SIGTERM
            return loss_fn(*values)

        fit(
            Parts(self.model, self.optimizer, self.scaler, self.runtime.device, self.position, ema=self.ema),
            self.loader,
            self.augment,
            loss,
            self.runtime,
            self.cfg,
            lr_at=self.lr_at or lr_schedule(OptimizerConfig(lr=0.01), steps),
            freeze_at=self.freeze_at,
            evaluate=self.evaluate,
            on_epoch=lambda epoch, metrics, better: self.epochs.append(metrics | {"better": better}),
            save=lambda: self.saves.append(self.position.step),
            stop=self.runtime.ranks.stopping(self.signals, 1),
            meter=Meter(self.cfg.epochs, len(self.loader)),
            watch=Watch(self.model, self.runtime, lambda rows: [f"tile_{row}" for row in rows], stride=self.stride),
        )


def config(**values: object) -> TrainConfig:
    defaults = {"precision": "fp32", "compile": "off", "device": "cpu", "threads": 1, "batch_size": 4, "epochs": 3}
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), defaults | values)
    result = OmegaConf.to_object(merged)
    assert isinstance(result, TrainConfig)
    return result


def test_it_learns() -> None:
    training = Training(config(epochs=30))
    training.run()
    losses = [metrics["train/loss"] for metrics in training.epochs]
    assert losses[-1] < 0.25 * losses[0]
    assert training.position.step == 90


def test_same_seed_same_bits() -> None:
    first, second = Training(config()), Training(config())
    first.run()
    second.run()
    for ours, theirs in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_two_small_batches_accumulated_are_one_large() -> None:
    """Without batch statistics, and with a loss that is a mean over equal batches."""
    large = Training(config(batch_size=4, clip_norm=0.0), norm=False)
    small = Training(config(batch_size=2, accumulate=2, clip_norm=0.0), norm=False)
    for training in (large, small):
        training.optimizer = torch.optim.SGD(training.model.parameters(), lr=0.01)
        training.loss = LossConfig(bce=1.0, dice=0.0)  # Dice of a sum is not the sum of Dices
        training.augment = Augment(AugmentationConfig(), mean=[60.0] * 3, std=[50.0] * 3, seed=1)
        training.run()
    assert large.position.step == small.position.step == 9
    for ours, theirs in zip(large.model.parameters(), small.model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_step_by_hand_is_a_mean_over_the_batches_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches, two a step: a bias alone learns, whose gradient is sigmoid(bias) less the lake's share, 36/256."""
    told: list[float] = []
    monkeypatch.setattr(Meter, "step", lambda _, images, loss: told.append(loss.item()))
    training = Training(config(batch_size=4, accumulate=2, epochs=1, clip_norm=0.0))
    training.model = torch.nn.Conv2d(3, 1, 1)
    weight, bias = training.model.parameters()
    torch.nn.init.zeros_(weight.requires_grad_(False))
    torch.nn.init.zeros_(bias)
    training.optimizer = torch.optim.SGD([bias])
    training.loss, training.lr_at = LossConfig(bce=1.0, dice=0.0), lambda step: 1.0
    training.run()
    first = -(0.5 - 36 / 256)
    assert bias.item() == pytest.approx(first - (1 / (1 + math.exp(-first)) - 36 / 256), abs=1e-6)
    losses = [math.log(2), math.log(2), math.log(1 + math.exp(first)) - first * 36 / 256]
    assert told == pytest.approx([losses[0], losses[1], sum(losses) / 3]), "the mean of the epoch so far"
    assert training.epochs[0]["train/loss"] == pytest.approx(sum(losses) / 3)


@pytest.mark.parametrize(
    ("stop_after", "accumulate", "step"), [(1, 1, 1), (3, 1, 3), (5, 1, 5), (1, 2, 1), (3, 2, 2), (4, 2, 3)]
)
def test_stopped_and_gone_on_with_is_the_same_as_never_stopped(stop_after: int, accumulate: int, step: int) -> None:
    """Within a group of accumulated batches too, of which an epoch's second has but one: the group is ended first."""
    whole = Training(config(accumulate=accumulate))
    whole.run()
    cut = Training(config(accumulate=accumulate))
    cut.run(stop_after=stop_after)
    assert cut.saves[-1] == step
    rest = Training(config(accumulate=accumulate))
    rest.model.load_state_dict(cut.model.state_dict())
    rest.optimizer.load_state_dict(cut.optimizer.state_dict())
    rest.position = cut.position
    rest.run()
    for ours, theirs in zip(whole.model.state_dict().values(), rest.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    ours_last, theirs_last = whole.epochs[-1]["train/loss"], rest.epochs[-1]["train/loss"]
    assert ours_last == theirs_last
    assert rest.epochs[0]["train/loss"] == whole.epochs[len(whole.epochs) - len(rest.epochs)]["train/loss"]


def test_a_person_is_shown_in_which_epoch_and_after_which_batch_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[tuple[int, int]] = []
    monkeypatch.setattr(Meter, "start_epoch", lambda _, epoch, *, done: began.append((epoch, done)))
    training = Training(config(epochs=2))
    training.run(stop_after=2)
    training.signals = Signals()
    training.run()
    assert began == [(0, 0), (0, 2), (1, 0)]


def test_early_stopping_keeps_the_best_and_does_not_go_on() -> None:
    training = Training(config(epochs=10, patience=2))
    training.score = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    training.run()
    assert [metrics["better"] for metrics in training.epochs] == [True, True, False, False]
    assert (training.position.best, training.position.best_epoch) == (0.5, 1)
    assert training.position.epoch == 10


def test_an_undefined_score_is_the_lowest() -> None:
    training = Training(config(epochs=2, select="val/precision_pooled"))
    training.run()
    assert [metrics["better"] for metrics in training.epochs] == [True, False]
    assert training.position.best == -math.inf


def test_a_checkpoint_is_saved_every_so_many_epochs_and_at_the_end() -> None:
    """Three steps an epoch."""
    training = Training(config(epochs=5, checkpoint_every=2))
    training.run()
    assert training.saves == [6, 12, 15]
    early = Training(config(epochs=9, checkpoint_every=4, patience=1))
    early.score = iter([0.5, 0.4])
    early.run()
    assert early.saves == [6]


def test_a_signal_between_two_epochs_saves_the_first_and_does_not_begin_the_second() -> None:
    cut = Training(config(checkpoint_every=2))
    real = cut.evaluate

    def evaluate(epoch: int) -> list[tuple[str, float]]:
        cut.signals.pending = signal.SIGTERM  # as it came when the scoring was over
        return real(epoch)

    cut.evaluate = evaluate  # type: ignore[method-assign]
    cut.run()
    assert (cut.position.epoch, cut.position.batch, cut.saves, len(cut.epochs)) == (1, 0, [3], 1)


def test_an_epoch_tells_its_last_learning_rate_and_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of four tiles an epoch, which begins and ends two seconds apart."""
    clock = itertools.count(step=2.0)
    monkeypatch.setattr("glidexp.training.loop.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    training = Training(config(epochs=2))
    training.lr_at = lambda step: 0.01 / (step + 1)
    training.run()
    assert [metrics["train/lr"] for metrics in training.epochs] == [0.01 / 3, 0.01 / 6]
    assert [metrics["train/images_per_s"] for metrics in training.epochs] == [12 / 2, 12 / 2]


def test_batches_that_do_not_fill_an_optimizer_step_are_used() -> None:
    training = Training(config(batch_size=4, accumulate=2))
    training.run()
    assert training.position.step == 3 * 2


def test_a_signal_while_scoring_saves_what_was_before_it_and_nothing_is_trained_twice() -> None:
    whole = Training(config())
    whole.run()
    cut = Training(config())
    real = cut.evaluate

    def evaluate(epoch: int) -> list[tuple[str, float]]:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
            pytest.fail("the scoring went on")
        return real(epoch)

    cut.evaluate = evaluate  # type: ignore[method-assign]
    with pytest.raises(Interrupted) as stopped, cut.signals.installed(), cut.signals.deferred():
        cut.run()
    assert stopped.value.number == signal.SIGUSR1
    assert (cut.position.epoch, cut.position.batch, cut.saves) == (1, 3, [3, 6])
    cut.evaluate = real  # type: ignore[method-assign]
    cut.signals = Signals()
    cut.run()
    assert [metrics["train/loss"] for metrics in cut.epochs] == [metrics["train/loss"] for metrics in whole.epochs]
    assert "train/images_per_s" not in cut.epochs[1]
    for ours, theirs in zip(whole.model.state_dict().values(), cut.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
