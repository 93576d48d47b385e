"""Losses: hand-worked values, the lake-free batch, pixels that do not count."""

import math

import pytest
import torch
from torch import Tensor

from glidexp.config import LossConfig
from glidexp.errors import ConfigError
from glidexp.training.losses import DICE_SMOOTH, bce, build_loss, dice, focal


def batch(logits: list[float], mask: list[float], valid: list[float] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    shape = (1, 1, 1, len(logits))
    ones = [1.0] * len(logits)
    make = [torch.tensor(values, dtype=torch.float32).reshape(shape) for values in (logits, mask, valid or ones)]
    make[0].requires_grad_()
    return make[0], make[1], make[2]


def test_bce_of_hand() -> None:
    logits, mask, valid = batch([0.0, math.log(3)], [1, 0])
    assert bce(logits, mask, valid).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_dice_of_hand() -> None:
    logits, mask, valid = batch([0.0, 0.0, 40.0, -40.0], [1, 0, 1, 0])
    smooth = DICE_SMOOTH * 4
    assert dice(logits, mask, valid).item() == pytest.approx(1 - (2 * 1.5 + smooth) / (2.0 + 2.0 + smooth))


def test_focal_is_bce_at_gamma_zero_and_of_hand_at_two() -> None:
    logits, mask, valid = batch([0.7, -1.2], [1, 1])
    assert focal(logits, mask, valid, 0.0).item() == pytest.approx(bce(logits, mask, valid).item())
    logits, mask, valid = batch([0.0], [1])
    assert focal(logits, mask, valid, 2.0).item() == pytest.approx(0.25 * math.log(2))


@pytest.mark.parametrize("loss", [bce, dice, focal])
def test_lake_free_batch_pushes_every_pixel_down(loss) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    zeros, ones = torch.zeros_like(logits), torch.ones_like(logits)
    loss(logits, zeros, ones).backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()
    assert logits.grad.sum() > 1e-4


@pytest.mark.parametrize("loss", [bce, dice, focal])
def test_pixels_that_are_not_valid_do_not_count(loss) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.6).float()
    valid = torch.ones_like(mask)
    valid[..., 4:] = 0
    other_logits, other_mask = logits.clone(), mask.clone()
    other_logits[..., 4:] = 7.0
    other_mask[..., 4:] = 1 - other_mask[..., 4:]
    assert loss(logits, mask, valid).item() == loss(other_logits, other_mask, valid).item()
    assert loss(logits, mask, valid).item() == pytest.approx(
        loss(logits[..., :4], mask[..., :4], valid[..., :4]).item(), rel=1e-5
    )


@pytest.mark.parametrize("loss", [bce, dice, focal])
def test_a_batch_without_a_valid_pixel_is_finite(loss) -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    value = loss(logits, torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", [bce, dice, focal])
def test_saturated_logits_stay_finite(loss) -> None:
    logits, mask, valid = batch([80.0, -80.0, 80.0, -80.0], [0, 1, 1, 0])
    value = loss(logits, mask, valid)
    value.backward()
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_weighted_sum() -> None:
    torch.manual_seed(0)
    logits, mask, valid = torch.randn(1, 1, 8, 8), torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    both = build_loss(LossConfig(bce=0.25, dice=2.0, focal=0.0))(logits, mask, valid)
    assert both.item() == pytest.approx(0.25 * bce(logits, mask, valid).item() + 2 * dice(logits, mask, valid).item())


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        LossConfig(bce=0, dice=0, focal=0)
