"""Averages of weights are what their formulas say, and are scored where they should be."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_loop import Blobs, Training, config, network

from glidexp.config import Config
from glidexp.data.loader import Loader
from glidexp.errors import ConfigError
from glidexp.training import averages
from glidexp.training.averages import Ema, renew_batch_statistics, shown_images, statistics_loader
from glidexp.training.device import Runtime, resolve
from glidexp.training.parts import Parts
from glidexp.training.processes.ranks import Ranks
from glidexp.training.run import score

CPU = torch.device("cpu")


def test_moving_average_by_hand() -> None:
    """Decays 2/11, 3/12, then the given 0.3; from 0 through 1, 2, 4."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    ema = Ema(model, 0.3)
    seen = []
    for value in (1.0, 2.0, 4.0):
        torch.nn.init.constant_(model.weight, value)
        ema.update()
        seen.append(ema.network().weight.item())
    first = 9 / 11
    second = 0.25 * first + 0.75 * 2
    assert seen == pytest.approx([first, second, 0.3 * second + 0.7 * 4], rel=1e-6)
    assert model.weight.item() == 4


def test_in_the_loop_it_follows_every_step_with_the_networks_own_batch_statistics() -> None:
    training = Training(config())
    training.ema = Ema(training.model, 0.9)
    expected = {name: value.detach().clone().double() for name, value in training.model.named_parameters()}
    real, steps = training.optimizer.step, iter(range(1, 100))

    def step(*args: Any, **kwargs: Any) -> Any:
        done = real(*args, **kwargs)
        number = next(steps)
        decay = min(0.9, (1 + number) / (10 + number))
        for name, value in training.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach().double()
        return done

    training.optimizer.step = step  # type: ignore[method-assign]
    training.run()
    averaged = training.ema.network()
    for name, value in averaged.named_parameters():
        assert torch.allclose(value.double(), expected[name], atol=1e-6)
        assert not torch.equal(value, training.model.get_parameter(name))
    for name, buffer in averaged.named_buffers():
        assert torch.equal(buffer, training.model.get_buffer(name))
    plain = Training(config())
    plain.run()
    for ours, theirs in zip(training.model.state_dict().values(), plain.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)  # to average changes nothing in what is trained


def test_a_weight_that_does_not_move_is_its_own_average_to_the_bit() -> None:
    model = network()
    before = [value.clone() for value in model.parameters()]
    ema = Ema(model, 0.999)
    for _ in range(50):
        ema.update()
    for ours, theirs in zip(ema.network().parameters(), before, strict=True):
        assert torch.equal(ours, theirs)


def test_how_far_it_is_is_told_with_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    @contextmanager
    def steps(total: int, *_: object, **__: object) -> Iterator[Callable[[str], None]]:
        yield lambda _: told.append(total)

    monkeypatch.setattr(averages, "shown_steps", steps)
    training = Training(config())
    images = list(shown_images(training.loader, training.augment, 1, training.runtime))
    assert told == [len(training.loader)] * len(images) and len(images) == len(training.loader) > 1
    for image, batch in zip(images, training.loader.epoch(1), strict=True):
        assert torch.equal(image, training.augment(batch.image, batch.label, batch.rows, 1).image)


class Two(torch.nn.Module):
    """Two batch normalisations with a dropout between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(self.drop(self.first(image)))


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_statistics_are_the_mean_over_batches_without_dropout_or_a_random_number(frozen: bool) -> None:
    average = torch.optim.swa_utils.AveragedModel(Two())
    batches = [torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 3 + 1 for seed in range(3)]
    runtime = Training(config()).runtime  # of which a network is made, from random numbers
    before, mode = torch.get_rng_state(), average.module.first.momentum
    fixed = {"first.weight", "first.bias"} if frozen else set()
    renew_batch_statistics(average, batches, runtime, frozen=fixed)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = average.module.first, average.module.second
    if frozen:
        assert first.running_mean.tolist() == [0, 0, 0]
        assert torch.allclose(second.running_mean, torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0), atol=1e-4)
    else:
        for ours, reduce in ((first.running_mean, torch.mean), (first.running_var, torch.var)):
            assert torch.allclose(ours, torch.stack([reduce(b, (0, 2, 3)) for b in batches]).mean(0), atol=1e-4)
        assert torch.allclose(second.running_mean, torch.zeros(3), atol=1e-5)  # of normalised batches
        assert torch.allclose(second.running_var, torch.full((3,), 100 / 99), atol=1e-3)  # unbiased, of 100 values
    assert first.momentum == second.momentum == mode
    assert not average.training and not any(module.training for module in average.module.modules())


def test_a_last_batch_of_fewer_tiles_counts_by_its_tiles() -> None:
    average = torch.optim.swa_utils.AveragedModel(torch.nn.Sequential(torch.nn.BatchNorm2d(1)))
    batches = [torch.zeros(8, 1, 2, 2), torch.full((2, 1, 2, 2), 10.0)]
    renew_batch_statistics(average, batches, Training(config()).runtime, frozen=set())
    assert average.module[0].running_mean.item() == pytest.approx(2.0)


class InParts(torch.nn.Module):
    """A network that takes the first image of a batch by itself, as of another scale."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.norm(image[:1]).sum() + self.norm(image[1:]).sum()


def test_parts_of_a_batch_that_go_through_a_network_by_themselves_count_by_their_tiles() -> None:
    average = torch.optim.swa_utils.AveragedModel(InParts())
    batches = [torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2) for values in ([0.0, 8, 8, 8], [8.0, 0.0])]
    renew_batch_statistics(average, batches, Training(config()).runtime, frozen=set())
    assert average.module.norm.running_mean.item() == pytest.approx(32 / 6)
    assert not average.module.norm._forward_pre_hooks


class Judge:
    """A recorder that gives the average a score of its own."""

    def __init__(self, config: Config, runtime: Runtime, of_average: float) -> None:
        self.config, self.runtime, self.of_average = config, runtime, of_average
        self.finished: torch.nn.Module | None = None
        self.val = SimpleNamespace(own=1, ranks=runtime.ranks, told=None)

    def val_scores(self, model: torch.nn.Module) -> dict[str, float]:
        return {"val/lake_iou_pooled": self.of_average}

    def finish(self, model: torch.nn.Module, *, best_epoch: int, about: dict[str, float]) -> dict[str, float]:
        self.finished = model
        return {"best_epoch": best_epoch + 1.0} | about


def test_of_several_processes_on_cpus_each_sees_the_batches_of_one_alone() -> None:
    """Ten of twelve tiles, one of them ten times as often: the order depends on seed, weights and what is left out."""
    rows, weights = np.arange(1, 11), np.array([10.0, *[1.0] * 9])
    whole, half = (
        Loader(Blobs(12), rows, 4, seed=3, weights=weights, drop_last=True, part=part) for part in ((0, 1), (1, 2))
    )
    runtime = resolve(config())
    assert statistics_loader(whole, runtime) is whole
    given = statistics_loader(half, replace(runtime, ranks=Ranks(rank=1, size=2)))
    for epoch in range(3):
        wanted = [batch.rows.tolist() for batch in whole.epoch(epoch)]
        assert [len(part) for part in wanted] == [4, 4]
        assert [batch.rows.tolist() for batch in given.epoch(epoch)] == wanted


@pytest.mark.parametrize(("of_average", "used"), [(0.6, True), (0.5, False), (0.4, False), (math.nan, False)])
def test_the_average_is_scored_where_it_is_better_on_val_than_the_best_epoch(of_average: float, used: bool) -> None:
    whole = Config()
    whole.train.epochs, whole.train.average_last = 3, 2
    training = Training(config())
    parts = Parts(training.model, training.optimizer, training.scaler, CPU, training.position)
    parts.tail = torch.optim.swa_utils.AveragedModel(training.model)
    values = []
    for epoch in range(3):
        torch.nn.init.constant_(training.model[0].weight, epoch)
        if epoch == 1:
            parts.keep_best()
        if epoch >= 1:
            parts.tail.update_parameters(training.model)
            values.append(float(epoch))
    parts.position.best, parts.position.best_epoch = 0.5, 1
    judge = Judge(whole, training.runtime, of_average)
    metrics = score(judge, training.loader, training.augment, parts)  # type: ignore[arg-type]
    assert judge.finished is not None
    assert judge.finished[0].weight.unique().tolist() == ([sum(values) / 2] if used else [1.0])
    assert metrics["average_last/used"] == float(used)
    assert metrics["val/average_last/lake_iou_pooled"] == pytest.approx(of_average, nan_ok=True)


def test_a_last_epoch_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.average_last=2 needs to know the last epoch"):
        config(average_last=2, patience=2)
    with pytest.raises(ConfigError, match=r"train\.average_last=4 is outside 0 to 3"):
        config(average_last=4)
    with pytest.raises(ConfigError, match=r"train\.ema_decay=1\.0 is outside"):
        config(ema_decay=1.0)
