"""Learning rate by hand, and which parameters decay."""

import pytest
import torch

from glidexp.config import OptimizerConfig, OptimizerName
from glidexp.errors import ConfigError
from glidexp.training.optim import build_optimizer, lr_schedule


def test_warm_up_peak_and_floor() -> None:
    lr_at = lr_schedule(OptimizerConfig(lr=1.0, warmup=0.2, final_lr_ratio=0.1), total_steps=11)
    assert [lr_at(step) for step in range(3)] == pytest.approx([0.25, 0.5, 0.75])
    assert lr_at(3) == pytest.approx(1.0)
    assert lr_at(10) == pytest.approx(0.1)
    assert all(lr_at(step) >= lr_at(step + 1) for step in range(3, 10))


def test_the_cosine_at_a_quarter_and_at_the_half() -> None:
    lr_at = lr_schedule(OptimizerConfig(lr=1.0, warmup=0.2, final_lr_ratio=0.1), total_steps=12)  # 3 steps, then 8 more
    assert lr_at(5) == pytest.approx(0.1 + 0.9 * (1 + 0.5**0.5) / 2)
    assert lr_at(7) == pytest.approx(0.55)


def test_one_step_in_all_and_two() -> None:
    assert lr_schedule(OptimizerConfig(lr=0.5), total_steps=1)(0) == pytest.approx(0.5)
    lr_at = lr_schedule(OptimizerConfig(lr=1.0, warmup=0.0, final_lr_ratio=0.1), total_steps=2)
    assert [lr_at(0), lr_at(1)] == pytest.approx([1.0, 0.1])


def test_a_warm_up_of_all_steps_ends_at_the_peak() -> None:
    lr_at = lr_schedule(OptimizerConfig(lr=1.0, warmup=1.0), total_steps=4)
    assert [lr_at(step) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("name", list(OptimizerName))
def test_norms_and_biases_do_not_decay(name: OptimizerName) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2, bias=False))
    optimizer = build_optimizer(OptimizerConfig(name=name, weight_decay=0.1), model, device=torch.device("cpu"))
    by_decay = {group["weight_decay"]: [p.ndim for p in group["params"]] for group in optimizer.param_groups}
    assert by_decay == {0.1: [4, 2], 0.0: [1, 1, 1]}


@pytest.mark.parametrize(("momentum", "second"), [(0.0, 0.7), (0.5, 0.5)])
def test_sgd_by_hand_with_and_without_momentum(momentum: float, second: float) -> None:
    """A weight of 1 whose gradient is 1: steps of 0.1 and of 0.2; Nesterov takes gradient + momentum * velocity."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    cfg = OptimizerConfig(name=OptimizerName.sgd, momentum=momentum, weight_decay=0.0)
    optimizer = build_optimizer(cfg, model, device=torch.device("cpu"))
    for lr in (0.1, 0.2):
        optimizer.param_groups[0]["lr"] = lr
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
    assert model.weight.item() == pytest.approx(second)


def test_ranges() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr=-1"):
        OptimizerConfig(lr=-1)
    with pytest.raises(ConfigError, match=r"optimizer\.warmup=1\.5"):
        OptimizerConfig(warmup=1.5)
