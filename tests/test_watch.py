"""What is no number ends the run, in words that help, and is never saved; fp16 skips what it cannot hold."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from test_loop import Training, config
from torch.utils._python_dispatch import TorchDispatchMode

from glidexp.config import Precision
from glidexp.data.loader import Batch
from glidexp.errors import RunFailed
from glidexp.training import watch
from glidexp.training.augmentation.augment import Prepared
from glidexp.training.averages import Ema
from glidexp.training.device import Runtime
from glidexp.training.watch import Watch, gradient_norm

NAN, INF = math.nan, math.inf


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def poison(training: Training, at: int, value: float) -> list[list[int]]:
    """Puts `value` into the image of batch `at`, from 0. Returns the rows of every batch that was seen."""
    real, seen = training.augment, []

    def augment(image: torch.Tensor, label: torch.Tensor, rows: torch.Tensor, *when: Any) -> Prepared:
        ready = real(image, label, rows, *when)
        seen.append(rows.tolist())
        if len(seen) - 1 == at:
            ready.image[0, 0, 3, 3] = value
        return ready

    training.augment = augment  # type: ignore[assignment]
    return seen


def poison_gradient(training: Training, at: int) -> None:
    """The gradient of the first weight is infinite at step `at`, from 0, the loss is not."""
    steps = iter(range(10**6))
    training.model[0].weight.register_hook(lambda grad: grad * INF if next(steps) == at else grad)


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_on_a_cpu_the_step_that_fails_is_told_and_not_done(what: str, clip_norm: float) -> None:
    training, whole = Training(config(clip_norm=clip_norm)), Training(config(clip_norm=clip_norm, epochs=1))
    seen = poison(training, 4 if what == "loss" else -1, NAN)
    if what == "gradient":
        poison_gradient(training, 4)
    states: list[dict[str, torch.Tensor]] = []
    real = training.optimizer.step

    def step(*args: Any, **kwargs: Any) -> Any:
        done = real(*args, **kwargs)
        states.append(weights(training))
        return done

    training.optimizer.step = step  # type: ignore[method-assign]
    words = "the loss is nan" if what == "loss" else "the norm of the gradient is (inf|nan)"
    with pytest.raises(RunFailed, match=f"^{words} at step 5, learning rate 0") as told:
        training.run()
    assert len(states) == 4
    for name, value in training.model.named_parameters():
        assert torch.equal(value, states[-1][name])
    assert re.search(r"tiles (.*?):", str(told.value))[1] == ", ".join(f"tile_{row}" for row in seen[4])  # type: ignore[index]
    assert training.saves == [3]
    whole.run()
    assert training.epochs[0]["train/loss"] == whole.epochs[0]["train/loss"]


def test_where_looking_costs_it_is_done_now_and_then_and_tells_the_step_all_the_same() -> None:
    training = Training(config(), n=40)  # 10 steps an epoch
    training.stride = 4
    seen = poison(training, 5, INF)
    with pytest.raises(RunFailed, match=r"the loss is (nan|inf) at step 6, ") as told:
        training.run()
    assert len(seen) == 8
    assert f"tiles tile_{seen[5][0]}, " in str(told.value)
    assert training.saves == []


@pytest.mark.parametrize("stop_after", [2, 3])
def test_nothing_is_saved_after_a_step_that_failed(stop_after: int) -> None:
    """Neither when a signal asks for it, nor at the end of an epoch, however far apart the looks are."""
    training = Training(config())
    training.stride = 50
    poison(training, 1, NAN)
    with pytest.raises(RunFailed, match="at step 2,"):
        training.run(stop_after=stop_after)
    assert training.saves == []


def test_batch_statistics_that_overflow_are_not_saved_though_the_loss_is_fine() -> None:
    training = Training(config())
    poison(training, 2, 1e25)  # its square is beyond float32: the variance is infinite, the output 0
    with pytest.raises(RunFailed, match="weights or batch statistics are no longer finite after step 3"):
        training.run()
    assert training.saves == []
    assert not training.model[1].running_var.isfinite().all()


def test_many_tiles_are_counted_not_listed() -> None:
    training = Training(config(batch_size=12))
    poison(training, 0, NAN)
    with pytest.raises(RunFailed, match=r"tiles (tile_\d+, ){7}tile_\d+ and 4 more: lower"):
        training.run()


class Half(Runtime):
    """fp16's rules with fp32's arithmetic, which has no fp16 on a CPU."""

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext()


def half(**values: object) -> Training:
    """A training that may skip steps, at one learning rate, so that a skipped step leaves no trace in the schedule."""
    training = Training(config(**values))
    old = training.runtime
    training.runtime = Half(old.device, Precision.fp16, old.compile, old.threads)
    training.scaler = training.runtime.scaler()
    training.lr_at = lambda step: 0.01
    return training


def leave_out(training: Training, at: int) -> None:
    """Batch `at` of the first epoch does not come."""
    real = training.loader.epoch

    def epoch(number: int, skip: int = 0) -> Iterator[Batch]:
        for place, batch in enumerate(real(number, skip)):
            if number or place != at:
                yield batch

    training.loader.epoch = epoch  # type: ignore[method-assign]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_fp16_skips_a_step_and_is_left_as_if_it_had_not_been(what: str) -> None:
    """Batch statistics too, which a forward pass that overflows has changed by then."""
    skipped, without = half(), half()
    if what == "loss":
        poison(skipped, 1, INF)
        leave_out(without, 1)
        skipped.run()
        without.run()
        ours, theirs = skipped.model.state_dict(), without.model.state_dict()
        assert int(ours.pop("1.num_batches_tracked")) == int(theirs.pop("1.num_batches_tracked")) + 1
        for name, value in ours.items():
            assert torch.allclose(value, theirs[name], atol=1e-6), name
        assert skipped.epochs[0]["train/loss"] == pytest.approx(without.epochs[0]["train/loss"], rel=1e-6)
    else:
        poison_gradient(skipped, 1)
        skipped.run()
        assert all(value.isfinite().all() for value in skipped.model.state_dict().values())
    assert skipped.position.step == 9
    assert skipped.scaler.get_scale() == 65536 / 2
    assert skipped.saves == [3, 6, 9]


@pytest.mark.parametrize(("bad", "ends"), [(watch.SKIPS, False), (watch.SKIPS + 1, True)])
def test_fp16_that_does_nothing_but_skip_is_ended(bad: int, ends: bool) -> None:
    told = r"the loss is nan at step 33 \(and in the 32 steps before it\).*tile_7:"
    ours = Watch(torch.nn.Linear(1, 1), half().runtime, lambda rows: [f"tile_{row}" for row in rows])
    rows, one = torch.tensor([7]), torch.ones(())
    for step in range(bad):
        assert ours.loss(one * NAN, rows).tolist() == [0, 0]
        if step + 1 == bad and ends:
            with pytest.raises(RunFailed, match=told):
                ours.gradient(one * NAN, step, 0.1)
        else:
            ours.gradient(one * NAN, step, 0.1)
    if not ends:
        for step in range(200):  # one that works in between, and the count begins anew
            assert ours.loss(one * 2, rows).tolist() == [2, 1]
            ours.gradient(one if step % 32 == 0 else one * INF, step, 0.1)


def reads(training: Training) -> int:
    """How often the host asks a tensor for its value."""
    found = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten._local_scalar_dense.default:
                found.append(func)
            return func(*args, **(kwargs or {}))

    looks: list[int] = []
    real: Callable[[Watch], None] = Watch._look
    Watch._look = lambda self: looks.append(1) or real(self)  # type: ignore[method-assign, func-returns-value]
    try:
        with Count():
            training.run()
    finally:
        Watch._look = real  # type: ignore[method-assign]
    return len(found) + len(looks)


@pytest.mark.parametrize("kind", ["fp32", "fp16", "ema"])
def test_no_step_asks_the_device_for_a_value(kind: str) -> None:
    """Four times as many steps an epoch, and as many questions as before."""
    counts = []
    for n in (12, 48):
        training = half(epochs=1) if kind == "fp16" else Training(config(epochs=1), n=12)
        other = Training(config(epochs=1), n=n)
        training.tiles, training.loader, training.stride = other.tiles, other.loader, 50
        if kind == "ema":
            training.ema = Ema(training.model, 0.9)
        counts.append(reads(training))
    assert training.position.step == 12
    assert counts[0] == counts[1]


def test_gradient_norm_is_that_of_all_weights_together() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert gradient_norm(weights, 0.0) == 5.0
    assert weights[1].grad.tolist() == [0.0, 4.0]
    assert gradient_norm(weights, 1.0) == 5.0
    assert weights[1].grad.tolist() == pytest.approx([0.0, 0.8], rel=1e-5)
